//! The recent entries of one log, in memory: what Raft replicates and applies and what consumers at
//! the end of a partition read, without asking the disk. Pure; who evicts when is decided above.
//!
//! An entry that is not yet written is *pinned*: nothing but truncation and purging removes it,
//! since it could not be read from anywhere else.

use std::collections::VecDeque;

use super::LogEntry;
use crate::types::LogIndex;

/// What an entry in memory costs besides its payload.
const ENTRY_OVERHEAD: usize = 96;

/// Entries that a debug build walks over with each change; with more it would take quadratic time.
const WALKED_MAX: usize = 64;

/// Numbers the appends of a log, in order and across truncations, so that a late completion of a
/// truncated append does not unpin the entries that took its indexes.
pub(super) type AppendNo = u64;

/// Invariants, true whenever no method is running:
/// - The entries' indexes are contiguous and their append numbers never decrease.
/// - `bytes` is the sum of their sizes.
/// - Appends in `unwritten` are later than `written`, in order of number and of first index.
#[derive(Debug, Default)]
pub(super) struct Tail {
    held: VecDeque<Held>,
    bytes: usize,
    /// Entries up to this append are written.
    written: AppendNo,
    /// Appends that are not, with their first index, unless all of it was truncated. Purging does not
    /// make an entry durable, so it leaves this as it is.
    unwritten: VecDeque<(AppendNo, LogIndex)>,
}

#[derive(Debug)]
struct Held {
    entry: LogEntry,
    append_no: AppendNo,
}

impl Held {
    fn bytes(&self) -> usize {
        entry_bytes(&self.entry)
    }
}

pub(super) fn entry_bytes(entry: &LogEntry) -> usize {
    entry.payload.len() + ENTRY_OVERHEAD
}

impl Tail {
    /// Adds pinned entries and returns their size.
    pub fn append(&mut self, entries: Vec<LogEntry>, append_no: AppendNo) -> usize {
        assert!(append_no > self.written, "append {append_no} is numbered as written: {}", self.written);
        let before = self.bytes;
        if let Some(first) = entries.first() {
            self.unwritten.push_back((append_no, first.position.index));
        }
        for entry in entries {
            if let Some(last) = self.held.back() {
                let last_index = last.entry.position.index;
                assert_eq!(entry.position.index.0, last_index.0 + 1, "the tail would have a gap");
                assert!(append_no >= last.append_no, "append numbers go back");
            }
            let held = Held { entry, append_no };
            self.bytes += held.bytes();
            self.held.push_back(held);
        }
        self.check();
        self.bytes - before
    }

    /// Entries up to this append are on disk: they may be evicted.
    pub fn written(&mut self, append_no: AppendNo) {
        self.written = self.written.max(append_no);
        while self.unwritten.front().is_some_and(|(append_no, _)| *append_no <= self.written) {
            self.unwritten.pop_front();
        }
        self.check();
    }

    /// Removes all entries after `last`, all if it is None, and returns the bytes freed.
    pub fn truncate_after(&mut self, last: Option<LogIndex>) -> usize {
        let before = self.bytes;
        while let Some(held) = self.held.back()
            && Some(held.entry.position.index) > last
        {
            self.bytes -= held.bytes();
            self.held.pop_back();
        }
        while self.unwritten.back().is_some_and(|(_, first)| Some(*first) > last) {
            self.unwritten.pop_back();
        }
        self.check();
        before - self.bytes
    }

    /// Removes all entries up to `upto` and returns the bytes freed.
    pub fn purge(&mut self, upto: LogIndex) -> usize {
        self.pop_front_while(|held, _| held.entry.position.index <= upto)
    }

    /// Removes the oldest entries, as far as they are written and not newer than this append.
    pub fn evict(&mut self, upto: AppendNo) -> usize {
        self.pop_front_while(|held, written| held.append_no <= upto.min(written))
    }

    fn pop_front_while(&mut self, take: impl Fn(&Held, AppendNo) -> bool) -> usize {
        let before = self.bytes;
        while let Some(held) = self.held.front()
            && take(held, self.written)
        {
            self.bytes -= held.bytes();
            self.held.pop_front();
        }
        self.check();
        before - self.bytes
    }

    /// Both ends, since it runs with every append; all of a short tail where a test may wait for it.
    fn check(&self) {
        let (count, bytes) = (self.held.len(), self.bytes);
        assert!(bytes >= count * ENTRY_OVERHEAD, "{count} entries take {bytes} bytes");
        match (self.held.front(), self.held.back()) {
            (Some(first), Some(last)) => {
                let indexes = (first.entry.position.index, last.entry.position.index);
                assert!(
                    indexes.0.0 + count as u64 == indexes.1.0 + 1,
                    "{count} entries from {} to {}",
                    indexes.0,
                    indexes.1
                );
                let appends = (first.append_no, last.append_no);
                assert!(appends.0 <= appends.1, "append numbers go back: {appends:?}");
            }
            (None, None) | (Some(_), None) | (None, Some(_)) => assert!(bytes == 0, "no entry takes {bytes} bytes"),
        }
        let (first, last) = (self.unwritten.front(), self.unwritten.back());
        assert!(first.is_none_or(|(no, _)| *no > self.written), "{first:?} is unwritten, {} is written", self.written);
        assert!(first <= last, "unwritten appends go back: {first:?} to {last:?}");
        if cfg!(debug_assertions) && count <= WALKED_MAX {
            self.check_all();
        }
    }

    fn check_all(&self) {
        let bytes: usize = self.held.iter().map(Held::bytes).sum();
        assert_eq!(self.bytes, bytes, "bytes of {} entries", self.held.len());
        let of = |held: &Held| (held.entry.position.index.0, held.append_no);
        let ascend = self.held.iter().zip(self.held.iter().skip(1)).all(|(a, b)| {
            let (a, b) = (of(a), of(b));
            a.0 + 1 == b.0 && a.1 <= b.1
        });
        assert!(ascend, "the tail has a gap, or its append numbers go back: {self:?}");
        assert!(self.unwritten.iter().is_sorted(), "unwritten appends go back: {:?}", self.unwritten);
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn first(&self) -> Option<LogIndex> {
        self.held.front().map(|held| held.entry.position.index)
    }

    /// The first entry that is not yet written, even if it was purged.
    pub fn first_unwritten(&self) -> Option<LogIndex> {
        self.unwritten.front().map(|(_, first)| *first)
    }

    /// The append of the oldest entry.
    pub fn first_append(&self) -> Option<AppendNo> {
        self.held.front().map(|held| held.append_no)
    }

    pub fn get(&self, index: LogIndex) -> Option<&LogEntry> {
        let i = index.0.checked_sub(self.first()?.0)?;
        self.held.get(usize::try_from(i).ok()?).map(|held| &held.entry)
    }

    /// Entries `from..to` as far as they are here and fit `bytes_max` with what is `taken` already,
    /// pushed to it; the first that is pushed to an empty `taken` fits always.
    pub fn read(&self, from: LogIndex, to: LogIndex, bytes_max: usize, taken: &mut Vec<LogEntry>) {
        let mut bytes: usize = taken.iter().map(|entry| entry.payload.len()).sum();
        for index in from.0..to.0 {
            let Some(entry) = self.get(LogIndex(index)) else { break };
            bytes = bytes.saturating_add(entry.payload.len());
            if bytes > bytes_max && !taken.is_empty() {
                break;
            }
            taken.push(entry.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::storage::{EntryKind, log::tests::entry};

    #[derive(Clone, Debug)]
    enum Op {
        Append(u8),
        TruncateBack(u8),
        PurgeFront(u8),
        /// Completes appends up to this many before the newest.
        Written(u8),
        Evict(u8),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (1..5u8).prop_map(Op::Append),
            (0..6u8).prop_map(Op::TruncateBack),
            (0..4u8).prop_map(Op::PurgeFront),
            (0..4u8).prop_map(Op::Written),
            (0..4u8).prop_map(Op::Evict),
        ]
    }

    /// The tail said naively: a whole log, each entry with its append and whether it is in memory.
    #[derive(Default)]
    struct Model {
        held: Vec<(LogEntry, AppendNo)>,
        /// All that was not truncated.
        kept: Vec<(LogIndex, AppendNo)>,
        written: AppendNo,
    }

    impl Model {
        fn check(&self, tail: &Tail) {
            let entries: Vec<_> = self.held.iter().map(|(entry, _)| entry.clone()).collect();
            let mut read = vec![];
            tail.read(LogIndex(0), LogIndex(u64::MAX), usize::MAX, &mut read);
            assert_eq!(
                read,
                if entries.first().is_some_and(|e| e.position.index.0 == 0) { entries.clone() } else { vec![] }
            );
            let mut read = vec![];
            let from = entries.first().map_or(LogIndex(0), |entry| entry.position.index);
            tail.read(from, LogIndex(u64::MAX), usize::MAX, &mut read);
            assert_eq!(read, entries);
            assert_eq!(tail.bytes(), entries.iter().map(entry_bytes).sum::<usize>());
            assert_eq!(tail.first(), entries.first().map(|entry| entry.position.index));
            let unwritten = self.kept.iter().find(|(_, no)| *no > self.written);
            assert_eq!(tail.first_unwritten(), unwritten.map(|(index, _)| *index));
        }
    }

    proptest! {
        #[test]
        fn the_tail_is_its_model_and_never_evicts_what_is_not_written(ops in prop::collection::vec(op(), 1..60)) {
            let (mut tail, mut model) = (Tail::default(), Model::default());
            let (mut next, mut no) = (0, 0);
            for op in ops {
                match op {
                    Op::Append(count) => {
                        no += 1;
                        let new: Vec<_> = (next..next + u64::from(count)).map(|i| entry(no, i, i as usize % 7)).collect();
                        next += u64::from(count);
                        let added = tail.append(new.clone(), no);
                        prop_assert_eq!(added, new.iter().map(entry_bytes).sum::<usize>());
                        model.kept.extend(new.iter().map(|entry| (entry.position.index, no)));
                        model.held.extend(new.into_iter().map(|entry| (entry, no)));
                    }
                    Op::TruncateBack(count) => {
                        next -= u64::from(count).min(next);
                        tail.truncate_after(next.checked_sub(1).map(LogIndex));
                        model.held.retain(|(entry, _)| entry.position.index.0 < next);
                        model.kept.retain(|(index, _)| index.0 < next);
                    }
                    Op::PurgeFront(count) => {
                        let Some(first) = tail.first() else { continue };
                        let upto = LogIndex((first.0 + u64::from(count)).min(next.saturating_sub(1)));
                        tail.purge(upto);
                        model.held.retain(|(entry, _)| entry.position.index > upto);
                    }
                    Op::Written(back) => {
                        model.written = model.written.max(no.saturating_sub(back.into()));
                        tail.written(no.saturating_sub(back.into()));
                    }
                    Op::Evict(back) => {
                        let upto = no.saturating_sub(back.into());
                        tail.evict(upto);
                        let written = model.written;
                        model.held.retain(|(_, no)| *no > upto || *no > written);
                    }
                }
                model.check(&tail);
            }
        }
    }

    #[test]
    fn a_late_completion_of_a_truncated_append_unpins_nothing() {
        let mut tail = Tail::default();
        tail.append(vec![entry(1, 0, 1), entry(1, 1, 1)], 1);
        tail.truncate_after(Some(LogIndex(0)));
        tail.append(vec![entry(2, 1, 1)], 2);
        tail.written(1);
        assert_eq!(tail.first_unwritten(), Some(LogIndex(1)));
        tail.evict(2);
        assert_eq!(tail.first(), Some(LogIndex(1)));
    }

    #[test]
    fn a_read_stops_at_its_bytes_but_returns_one_entry_always() {
        let mut tail = Tail::default();
        tail.append(vec![entry(1, 0, 10), entry(1, 1, 10), entry(1, 2, 10)], 1);
        let read = |from, bytes_max| {
            let mut taken = vec![];
            tail.read(LogIndex(from), LogIndex(9), bytes_max, &mut taken);
            taken.len()
        };
        assert_eq!((read(0, 0), read(0, 10), read(0, 20), read(0, 29), read(1, 99), read(3, 99)), (1, 1, 2, 2, 2, 0));
        assert_eq!(tail.get(LogIndex(1)).map(|entry| entry.kind), Some(EntryKind::Normal));
    }
}
