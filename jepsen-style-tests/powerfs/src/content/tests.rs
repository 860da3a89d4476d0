//! A file against a naive one: two arrays of bytes, and for each byte whether it was changed.

use proptest::prelude::*;

use super::*;
use crate::fate::{Cut, TAILS, Unit};

/// What any number of changes and syncs makes of a file, byte by byte.
#[derive(Clone, Debug, Default)]
struct Naive {
    now: Vec<u8>,
    synced: Vec<u8>,
    /// As long as the longer of the two has ever been.
    changed: Vec<bool>,
}

impl Naive {
    fn change(&mut self, range: Range<usize>) {
        self.changed.resize(self.changed.len().max(range.end), false);
        self.changed[range].fill(true);
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Write { at, bytes } => {
                let end = at + bytes.len();
                self.now.resize(self.now.len().max(end), 0);
                self.now[*at..end].copy_from_slice(bytes);
                self.change(*at..end);
            }
            Step::Resize(size) => {
                if *size < self.now.len() {
                    self.change(*size..self.now.len());
                }
                self.now.resize(*size, 0);
            }
            Step::Clear { at, len } => {
                let range = (*at).min(self.now.len())..(at + len).min(self.now.len());
                self.now[range.clone()].fill(0);
                self.change(range);
            }
            Step::Sync => {
                self.synced = self.now.clone();
                self.changed.fill(false);
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write { at: usize, bytes: Vec<u8> },
    Resize(usize),
    Clear { at: usize, len: usize },
    Sync,
}

/// Bytes that are never 0, so that a zero was not written.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    (1..=255u8, prop_oneof![1..200usize, 3000..9000usize])
        .prop_map(|(first, len)| (0..len).map(|n| (usize::from(first) + n * 7) as u8 | 1).collect())
}

fn step() -> impl Strategy<Value = Step> {
    let place = || prop_oneof![0..20_000usize, (0..5usize).prop_map(|page| page * PAGE)];
    prop_oneof![
        4 => (place(), bytes()).prop_map(|(at, bytes)| Step::Write { at, bytes }),
        1 => place().prop_map(Step::Resize),
        1 => (place(), 0..10_000usize).prop_map(|(at, len)| Step::Clear { at, len }),
        2 => Just(Step::Sync),
    ]
}

fn apply(content: &mut Content, step: &Step) {
    match step {
        Step::Write { at, bytes } => content.write(*at as u64, bytes),
        Step::Resize(size) => content.resize(*size as u64),
        Step::Clear { at, len } => content.clear(*at as u64..(at + len) as u64),
        Step::Sync => content.sync(),
    }
}

fn all(content: &Content) -> Vec<u8> {
    content.read(0, u64::MAX)
}

/// The blocks are those that are counted.
fn assert_counted(content: &Content) {
    let now = content.pages.values().filter(|page| page.now.is_some()).count() as u64;
    let kept = content.pages.values().filter(|page| matches!(page.synced, Synced::Block(_))).count() as u64;
    assert_eq!(content.footprint(), Footprint { now, kept });
    let useless = |page: &Page| page.now.is_none() && !matches!(page.synced, Synced::Block(_));
    assert!(!content.pages.values().any(useless), "a page without a block");
}

/// Whether `byte` may be at `at` after the cut.
fn may_be(naive: &Naive, tail: Tail, at: usize, byte: u8) -> bool {
    let old = naive.synced.get(at).copied();
    if !naive.changed.get(at).copied().unwrap_or(false) {
        // Synced, or what a file that grew without being written reads as.
        return byte == old.or(naive.now.get(at).copied()).unwrap_or(0);
    }
    let new = naive.now.get(at).copied();
    let hole = byte == 0 && old.is_none();
    let (is_old, is_new) = (Some(byte) == old, Some(byte) == new);
    match tail {
        Tail::Clean => is_old,
        Tail::Torn => is_old || is_new,
        Tail::Zeroed => is_old || is_new || hole || (byte == 0 && new.is_some()),
        Tail::Garbage => is_old || hole || new.is_some(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever was synced is there, byte for byte, and nothing that was neither written nor may be there by the
    /// kind of the cut; and what is left is synced.
    #[test]
    fn what_was_synced_survives(steps in prop::collection::vec(step(), 0..25), tail in 0..4usize, seed: u64, sector: bool) {
        let (mut content, mut naive) = (Content::default(), Naive::default());
        for step in &steps {
            apply(&mut content, step);
            naive.apply(step);
            assert_counted(&content);
        }
        prop_assert_eq!(all(&content), naive.now.clone());
        prop_assert_eq!(content.read(5_000, 100), naive.now.iter().copied().skip(5_000).take(100).collect::<Vec<_>>());
        let (tail, unit) = (TAILS[tail], if sector { Unit::Sector } else { Unit::Page });
        let cut = Cut { tail, seed, unit: Some(unit) };
        let mut again = content.clone();
        content.lose(&mut Dice::of(cut));
        assert_counted(&content);
        let left = all(&content);
        let (synced, now) = (naive.synced.len(), naive.now.len());
        prop_assert!((synced.min(now)..=synced.max(now)).contains(&left.len()), "{} of {synced} and {now}", left.len());
        prop_assert!(now > synced || [now, synced].contains(&left.len()));
        for (at, byte) in left.iter().enumerate() {
            prop_assert!(may_be(&naive, tail, at, *byte), "{tail}: {byte} at {at} of {steps:?}");
        }
        // A second cut takes nothing more, and the same dice give the same file.
        prop_assert!(content.is_synced());
        prop_assert_eq!(content.lose(&mut Dice::of(cut)), 0);
        again.lose(&mut Dice::of(cut));
        prop_assert_eq!(all(&again), left);
    }
}

/// Over many seeds, each outcome that a kind of cut allows is seen.
#[test]
fn every_outcome_happens() {
    for tail in TAILS {
        let (mut old, mut new, mut zeros, mut other, mut sizes) = (0, 0, 0, 0, std::collections::BTreeSet::new());
        for seed in 0..200 {
            let mut content = Content::default();
            content.write(0, &[1; PAGE]);
            content.sync();
            content.write(0, &[2; PAGE + 100]);
            content.lose(&mut Dice::of(Cut::new(tail, seed)));
            sizes.insert(content.size());
            for byte in content.read(0, PAGE_BYTES) {
                match byte {
                    1 => old += 1,
                    2 => new += 1,
                    0 => zeros += 1,
                    _ => other += 1,
                }
            }
        }
        let seen = (old > 0, new > 0, zeros > 0, other > 0, sizes.len() > 1);
        let expected = match tail {
            Tail::Clean => (true, false, false, false, false),
            Tail::Torn => (true, true, false, false, true),
            Tail::Zeroed => (true, true, true, false, true),
            Tail::Garbage => (true, true, true, true, true),
        };
        assert_eq!(seen, expected, "{tail}");
    }
}

/// An append that was synced in part: the page that it began in keeps its synced beginning whatever is drawn.
#[test]
fn garbage_stays_away_from_synced_bytes_of_the_same_sector() {
    for seed in 0..100 {
        let mut content = Content::default();
        content.write(0, &[7; 100]);
        content.sync();
        content.write(100, &[8; 400]);
        content.lose(&mut Dice::of(Cut::new(Tail::Garbage, seed)));
        assert_eq!(content.read(0, 100), [7; 100], "seed {seed}");
    }
}

/// The cost of a sync is that of what was written since the last one.
#[test]
fn an_append_keeps_one_block_aside() {
    let mut content = Content::default();
    content.write(0, &vec![1; 10 * PAGE + 10]);
    assert_eq!(content.footprint(), Footprint { now: 11, kept: 0 });
    content.sync();
    content.write(10 * PAGE_BYTES + 10, &vec![2; PAGE]);
    assert_eq!(content.footprint(), Footprint { now: 12, kept: 1 });
    assert_eq!(content.unsynced_bytes(), PAGE_BYTES);
    content.sync();
    assert_eq!(content.footprint(), Footprint { now: 12, kept: 0 });
}

#[test]
fn a_file_of_holes_takes_no_room() {
    let mut content = Content::default();
    content.resize(1 << 50);
    content.write(1 << 40, b"x");
    assert_eq!(content.footprint(), Footprint { now: 1, kept: 0 });
    assert_eq!(content.growth(0, 2 * PAGE_BYTES), Footprint { now: 2, kept: 0 });
    content.sync();
    assert_eq!(content.growth((1 << 40) + 5, 1), Footprint { now: 0, kept: 1 });
    content.resize(0);
    for tail in TAILS {
        let mut content = content.clone();
        content.lose(&mut Dice::of(Cut::new(tail, 3)));
        assert!([0, 1 << 50].contains(&content.size()), "{tail}: {}", content.size());
    }
}

#[test]
fn damage_is_in_both_views() {
    let mut content = Content::default();
    content.write(0, &[0xff; 10]);
    content.sync();
    content.write(1, &[0xff]);
    assert!(content.flip(1, 0x10) && !content.flip(10, 1));
    assert_eq!(content.read(1, 1), [0xef]);
    content.lose(&mut Dice::of(Cut::new(Tail::Clean, 0)));
    assert_eq!(content.read(0, 3), [0xff, 0xef, 0xff]);
    assert!(content.chop(4) && !content.chop(4));
    content.lose(&mut Dice::of(Cut::new(Tail::Clean, 0)));
    assert_eq!(content.size(), 4);
}
