//! A rolling hash over the entries of a Raft group: what replicas compare to learn whether they hold the same log.
//!
//! Each entry is mixed into 128 bits that depend on its index, its term and what it carries ([`Mixer`]), and the hash
//! of a log is the *sum* of these. So the hash of a range is the difference of two sums, and two replicas compare any
//! range whose both ends they remember, wherever each of them began: one that started from a snapshot knows nothing of
//! what came before, and needs nothing of it. An order is no matter of a sum, but the index is part of what is summed.
//!
//! A replica remembers the sums at some places ([`Rolling`]): the last few one by one, then every sixteenth, every 256th
//! and so on, so that whatever differs is narrowed down to a range that is small beside its age, with a few kilobytes
//! for the longest log. Which places those are depends on the index alone, so that replicas remember the same ones.
//!
//! It finds faults, not forgers: who can choose entries can make two of equal hash.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::types::LogIndex;

/// Each rung of the ladder of sums is so much coarser than the one before.
const RUNG_STEP: u64 = 16;
/// Sums that each rung keeps. Twice the step, so that a range between two rungs is never open.
const RUNG_MARKS_MAX: usize = 32;
/// Of each rung so many are stored: what is stored goes to disk with every saved state, once a second.
const RUNG_MARKS_STORED: usize = 2;
/// More rungs than 64 bits have steps do not exist.
const MARKS_STORED_MAX: usize = 16 * RUNG_MARKS_STORED + 2;

const VERSION: u8 = 1;
const MARK_BYTES: usize = 8 + 16;

/// Mixes words into 128 bits. Each step can be undone for a given state, so two inputs that differ in one word only
/// never come out equal.
#[derive(Clone, Copy, Debug)]
pub struct Mixer(u64, u64);

impl Default for Mixer {
    fn default() -> Mixer {
        Mixer(0x9216_d5d9_8979_fb1b, 0xd131_0ba6_98df_b5ac)
    }
}

impl Mixer {
    pub fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x2ffd_72db_d01a_dfb7);
        self.1 = (self.1.rotate_left(41) ^ word).wrapping_mul(0xb8e1_afed_6a26_7e97);
    }

    /// Mixes in bytes, and how many they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.word(u64::from_le_bytes(word.try_into().expect("chunks of eight")));
        }
        let rest = words.remainder();
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.word(u64::from_le_bytes(last));
        }
    }

    pub fn finish(self) -> u128 {
        let spread = |lane: u64| {
            let lane = (lane ^ (lane >> 32)).wrapping_mul(0xba7c_9045_f12c_7f99);
            lane ^ (lane >> 29)
        };
        u128::from(spread(self.0)) << 64 | u128::from(spread(self.1))
    }
}

/// The sum over all entries below an index, from wherever the sum began. Only differences of two sums mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    pub next: LogIndex,
    pub sum: u128,
}

/// The sums that a replica remembers of its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rolling {
    /// Where it began.
    origin: Mark,
    /// Where it is.
    head: Mark,
    /// By rung: the last marks whose index is a multiple of the rung's step, ascending.
    rungs: Vec<VecDeque<Mark>>,
}

impl Rolling {
    /// Begins before the entry at `next`.
    pub fn new(next: LogIndex) -> Rolling {
        let origin = Mark { next, sum: 0 };
        Rolling { origin, head: origin, rungs: Vec::new() }
    }

    /// Goes on with what was stored, if that is as far as `next`; else begins there: something went on without it, a
    /// broker of an older version for one.
    pub fn resume(stored: Option<&Bytes>, next: LogIndex) -> Rolling {
        let stored = stored.and_then(|stored| Rolling::decode(stored.clone()));
        stored.filter(|stored| stored.head.next == next).unwrap_or_else(|| Rolling::new(next))
    }

    /// Where it is.
    pub fn head(&self) -> Mark {
        self.head
    }

    /// The entry at `index` is applied, and this is its hash. One that does not follow the last begins anew: the hash
    /// must never be what stops a replica.
    pub fn push(&mut self, index: LogIndex, hash: u128) {
        if index != self.head.next {
            *self = Rolling::new(index);
        }
        self.head = Mark { next: LogIndex(index.0 + 1), sum: self.head.sum.wrapping_add(hash) };
        self.remember(self.head);
    }

    fn remember(&mut self, mark: Mark) {
        let (mut rung, mut step) = (0, 1u64);
        loop {
            if self.rungs.len() == rung {
                self.rungs.push(VecDeque::new());
            }
            let marks = &mut self.rungs[rung];
            if marks.len() == RUNG_MARKS_MAX {
                marks.pop_front();
            }
            marks.push_back(mark);
            let Some(coarser) = step.checked_mul(RUNG_STEP).filter(|step| mark.next.0.is_multiple_of(*step)) else {
                return;
            };
            (rung, step) = (rung + 1, coarser);
        }
    }

    /// Every mark that is remembered, ascending.
    pub fn marks(&self) -> Vec<Mark> {
        let mut marks: Vec<Mark> = self.rungs.iter().flatten().copied().chain([self.origin, self.head]).collect();
        marks.sort_unstable();
        marks.dedup();
        marks
    }

    /// What is stored beside the applied state. A version byte, then the marks; the first is where it began, the last
    /// where it is. Frozen.
    pub fn encode(&self) -> Bytes {
        let last = |rung: &VecDeque<Mark>| rung.iter().rev().take(RUNG_MARKS_STORED).copied().collect::<Vec<_>>();
        let mut marks: Vec<Mark> = self.rungs.iter().skip(1).flat_map(last).chain([self.origin, self.head]).collect();
        marks.sort_unstable();
        marks.dedup();
        let mut out = BytesMut::with_capacity(1 + marks.len() * MARK_BYTES);
        out.put_u8(VERSION);
        for mark in marks {
            out.put_u64(mark.next.0);
            out.put_u128(mark.sum);
        }
        out.freeze()
    }

    /// The inverse of `encode`. None: it is of another version, or no such thing; nothing but the comparison with what
    /// came before is lost then.
    fn decode(mut bytes: Bytes) -> Option<Rolling> {
        let marks = bytes.len().checked_sub(1).filter(|rest| rest % MARK_BYTES == 0)? / MARK_BYTES;
        if bytes.get_u8() != VERSION || !(1..=MARKS_STORED_MAX).contains(&marks) {
            return None;
        }
        let marks: Vec<Mark> =
            (0..marks).map(|_| Mark { next: LogIndex(bytes.get_u64()), sum: bytes.get_u128() }).collect();
        if !marks.windows(2).all(|pair| pair[0].next < pair[1].next) {
            return None;
        }
        let (origin, head) = (*marks.first()?, *marks.last()?);
        let mut rolling = Rolling { origin, head, rungs: Vec::new() };
        for mark in marks {
            rolling.remember(mark);
        }
        Some(rolling)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::formats::frozen;

    fn hash(index: u64, word: u64) -> u128 {
        let mut mixer = Mixer::default();
        mixer.word(index);
        mixer.word(word);
        mixer.finish()
    }

    fn of(range: std::ops::Range<u64>, word: impl Fn(u64) -> u64) -> Rolling {
        let mut rolling = Rolling::new(LogIndex(range.start));
        for index in range {
            rolling.push(LogIndex(index), hash(index, word(index)));
        }
        rolling
    }

    /// The hashes of ranges between marks that both have.
    fn common(a: &Rolling, b: &Rolling) -> Vec<(u64, u128, u128)> {
        let of_b: BTreeMap<u64, u128> = b.marks().iter().map(|mark| (mark.next.0, mark.sum)).collect();
        let both: Vec<_> = a.marks().iter().filter_map(|m| Some((m.next.0, m.sum, *of_b.get(&m.next.0)?))).collect();
        let ranges = both.windows(2).map(|w| (w[1].0, w[1].1.wrapping_sub(w[0].1), w[1].2.wrapping_sub(w[0].2)));
        ranges.collect()
    }

    #[test]
    fn stored_bytes_are_frozen() {
        let rolling = of(3..40, |_| 7);
        let bytes = rolling.encode();
        frozen::check(include_str!("stored.frozen"), [("rolling", &bytes)], |_, bytes| {
            Rolling::decode(Bytes::copy_from_slice(bytes)).map(drop).ok_or_else(|| "it is malformed".to_string())
        });
        assert_eq!(Rolling::decode(bytes.clone()).map(|read| read.head()), Some(rolling.head()));
        for wrong in [&[][..], &[1], &[2; 25], &[1; 26], &[1; 49], &vec![1; 1 + MARK_BYTES * (MARKS_STORED_MAX + 1)]] {
            assert_eq!(Rolling::decode(Bytes::copy_from_slice(wrong)), None, "{wrong:02x?}");
        }
    }

    /// One that goes on from what it stored, and one that began at a snapshot, compare with one that saw it all.
    #[test]
    fn replicas_that_began_elsewhere_compare_what_both_saw() {
        let whole = of(0..100_000, |_| 7);
        let mut restarted = Rolling::resume(Some(&of(0..60_000, |_| 7).encode()), LogIndex(60_000));
        for index in 60_000..100_000 {
            restarted.push(LogIndex(index), hash(index, 7));
        }
        let installed = of(50_001..100_000, |_| 7);
        for (other, from) in [(&restarted, 0), (&installed, 53_248)] {
            let ranges = common(&whole, other);
            assert_eq!(ranges.last().map(|last| last.0), Some(100_000));
            let first = whole.marks().iter().map(|m| m.next.0).find(|n| other.marks().iter().any(|m| m.next.0 == *n));
            assert_eq!(first, Some(from));
            assert!(ranges.iter().all(|(_, a, b)| a == b), "{ranges:?}");
        }
        let stale = Rolling::resume(Some(&of(0..60_000, |_| 7).encode()), LogIndex(60_001));
        assert_eq!(stale, Rolling::new(LogIndex(60_001)), "an older version went on without it");
    }

    /// The older it is, the wider the range; never more than half of its age, or some entries.
    #[test]
    fn what_differs_is_narrowed_down() {
        let whole = of(0..200_000, |_| 7);
        for at in [199_999, 199_990, 199_900, 199_000, 150_000, 3] {
            let other = of(0..200_000, |index| if index == at { 8 } else { 7 });
            let (mut from, mut found) = (0, vec![]);
            for (to, a, b) in common(&whole, &other) {
                if a != b {
                    found.push(from..to);
                }
                from = to;
            }
            let [range] = &found[..] else { panic!("{at}: {found:?}") };
            assert!(range.contains(&at), "{at}: {range:?}");
            let age = 200_000 - at;
            assert!(range.end - range.start <= (age / 2).max(16), "{at}: {range:?}");
        }
    }

    #[test]
    fn a_long_log_takes_a_few_kilobytes() {
        let marks = of(0..1_000_000, |_| 7);
        assert!(marks.marks().len() <= 6 * RUNG_MARKS_MAX + 2, "{}", marks.marks().len());
        assert!(marks.encode().len() < 512, "{}", marks.encode().len());
    }

    proptest! {
        /// Swapped, changed, left out or moved: the sum is another one.
        #[test]
        fn any_other_log_has_another_hash(words in prop::collection::vec(0..4u64, 2..40), a in 0..40usize, b in 0..40usize) {
            let sum = |words: &[u64]| of(0..words.len() as u64, |i| words[i as usize]).head().sum;
            let (a, b) = (a % words.len(), b % words.len());
            let mut swapped = words.clone();
            swapped.swap(a, b);
            prop_assert_eq!(sum(&words) == sum(&swapped), words == swapped);
            let mut changed = words.clone();
            changed[a] ^= 1 << 63;
            prop_assert_ne!(sum(&words), sum(&changed));
            prop_assert_ne!(sum(&words), sum(&words[1..]));
        }

        #[test]
        fn bytes_that_differ_come_out_differently(bytes: Vec<u8>, at: usize, bit in 0..8u8) {
            let mixed = |bytes: &[u8]| {
                let mut mixer = Mixer::default();
                mixer.bytes(bytes);
                mixer.finish()
            };
            let mut longer = bytes.clone();
            longer.push(0);
            prop_assert_ne!(mixed(&bytes), mixed(&longer));
            if !bytes.is_empty() {
                let mut other = bytes.clone();
                let at = at % bytes.len();
                other[at] ^= 1 << bit;
                prop_assert_ne!(mixed(&bytes), mixed(&other));
            }
        }

        /// A range has one hash, whoever sums it up and from where.
        #[test]
        fn ranges_subtract(start in 0..50u64, len in 1..400u64) {
            let (whole, part) = (of(0..start + len, |i| i % 5), of(start..start + len, |i| i % 5));
            prop_assert!(common(&whole, &part).iter().all(|(_, a, b)| a == b));
        }

        #[test]
        fn hostile_bytes_are_no_hash(bytes: Vec<u8>) {
            let _ = Rolling::resume(Some(&bytes.into()), LogIndex(0));
        }
    }
}
