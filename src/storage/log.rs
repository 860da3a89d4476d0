//! The log of one Raft group, free of Raft's rules: entries, purge point, vote, saved commit. What
//! the state machine keeps beside it is in `saved.rs`.
//!
//! Promises, each kept for every write-ahead-log prefix that a crash may leave (SAFETY B1):
//! `purged <= newest checkpoint <= applied <= last entry`, and `saved commit <= last entry`: writes
//! are queued in the order of calls, under the lock that also changes memory, and each call asserts
//! its part of the chain.

use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use super::{
    Family, LogEntry, ScanLimit, StoreFailed, WriteBatch, formats, keys,
    saved::Pending,
    store::Shared,
    tail::{AppendNo, Tail},
    writer::{Done, Refused, Write, wait_done, waiter},
};
use crate::{
    seam::plant::{self, Plant},
    types::{EntryPosition, LogIndex, RaftGroupId, ReplicaId, Term},
};

/// Entries of one read from disk; more come with the next.
const READ_ENTRIES_MAX: usize = 10_000;

/// A read starts again when the log was truncated under it. Truncations are rare: this many in a
/// row do not happen, and if they do the reader is told of no entry.
const READ_RETRIES_MAX: usize = 16;

/// The bytes that one step of `read_all` reads.
const READ_STEP_BYTES: usize = 4 << 20;

/// Handle to the log of one Raft group. Clones are the same log; it can be opened again once all are
/// gone, even while completions of its last writes are still to come.
#[derive(Clone)]
pub struct ReplicaLog(pub(super) Arc<OpenLog>, #[expect(dead_code, reason = "it is counted")] pub(super) Arc<Handle>);

/// Alive as long as somebody can write to a log.
pub(super) struct Handle;

pub(super) struct OpenLog {
    pub id: RaftGroupId,
    pub replica: ReplicaId,
    pub store: Arc<Shared>,
    /// False only for a log without a state machine, see `Store::open_log_alone`.
    pub is_strict: bool,
    state: Mutex<State>,
}

/// What is queued for the disk, as if it were there already.
///
/// Invariants, true whenever the lock is free:
/// - Entries `first..=last` are all in `tail` or on disk, those that are not yet written in `tail`.
/// - `purged <= checkpoint <= applied <= last`, and `committed <= last` as far as it is queued.
#[derive(Default)]
pub(super) struct State {
    pub tail: Tail,
    pub purged: Option<EntryPosition>,
    /// The index of the first entry, had or to come: the one after `purged`, unless the log stands
    /// alone and was begun elsewhere.
    pub first: LogIndex,
    /// The last entry; the purge point if there is none.
    pub last: Option<EntryPosition>,
    /// The last vote that is durable.
    pub vote: Option<Bytes>,
    pub committed: Option<EntryPosition>,
    pub applied: Option<EntryPosition>,
    /// The newest checkpoint.
    pub checkpoint: Option<EntryPosition>,
    pub append_no: AppendNo,
    /// How often entries were removed from the end: a read that saw this change saw two logs.
    pub truncations: u64,
    /// While an install is not durable: what was flushed before it.
    pub installing: Option<Option<LogIndex>>,
    pub pending: Pending,
    /// Deleted: nothing may be written any more.
    pub is_deleted: bool,
}

impl State {
    /// The index the next entry gets.
    pub fn next(&self) -> LogIndex {
        after(self.last)
    }

    pub fn flushed(&self) -> Option<LogIndex> {
        if let Some(before) = self.installing {
            return before;
        }
        match self.tail.first_unwritten() {
            Some(unwritten) => unwritten.0.checked_sub(1).map(LogIndex),
            None => self.last.map(|last| last.index),
        }
    }

    /// Why these entries cannot follow the last one, if they cannot.
    fn check_append(&self, entries: &[LogEntry], is_strict: bool) -> Result<(), String> {
        let Some(first) = entries.first() else { return Ok(()) };
        let is_free = !is_strict && self.last.is_none();
        let next = if is_free { first.position.index } else { self.next() };
        let mut term = self.last.map(|last| last.term).unwrap_or_default();
        for (entry, index) in entries.iter().zip(next.0..) {
            if entry.position.index.0 != index {
                return Err(format!("append of {} leaves a gap or overwrites after {:?}", entry.position, self.last));
            }
            if entry.position.term < term {
                return Err(format!("term went back: {term} -> {}", entry.position));
            }
            term = entry.position.term;
        }
        Ok(())
    }

    /// Why the log cannot be cut after `last`, if it cannot.
    fn check_truncation(&self, last: Option<EntryPosition>) -> Result<(), String> {
        let kept = self.purged.max(self.applied).max(self.committed);
        if index(last) < index(kept) {
            return Err(format!(
                "its leader contradicts entries after {last:?}, and up to {kept:?} they are committed here: a replica of \
                 this group has lost or changed acknowledged entries, as one does whose directory was set back to an older copy"
            ));
        }
        let held = last.and_then(|last| self.tail.get(last.index)).map(|entry| entry.position);
        match held.is_none() || held == last {
            true => Ok(()),
            false => Err(format!("truncating after {last:?}, which is {held:?} here")),
        }
    }
}

/// A planted bug: tells of a write that has only begun.
fn done_before(done: Done) -> Done {
    done(Ok(()));
    Box::new(drop)
}

/// The index after a position; the first if there is none.
pub(super) fn after(position: Option<EntryPosition>) -> LogIndex {
    LogIndex(position.map_or(0, |position| position.index.0 + 1))
}

pub(super) fn index(position: Option<EntryPosition>) -> Option<LogIndex> {
    position.map(|position| position.index)
}

impl OpenLog {
    pub fn new(id: RaftGroupId, replica: ReplicaId, store: Arc<Shared>, is_strict: bool, state: State) -> OpenLog {
        OpenLog { id, replica, store, is_strict, state: Mutex::new(state) }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        // An assert that fails under the lock poisons it: nothing goes on with a log that lies.
        self.state.lock().expect("an invariant of this log was broken before")
    }

    /// Queues a write of this group in the order of changes to its state. What is refused is to be
    /// completed once the lock is free.
    pub fn queue(&self, state: &State, write: Write) -> Option<Refused> {
        if state.is_deleted {
            return Some(Refused::new(write, StoreFailed::io(format!("raft group {} was deleted", self.id))));
        }
        self.store.writer.queue(write).err()
    }

    /// Removes written entries from memory; false if some are pinned.
    pub fn evict(&self, append_no: AppendNo) -> bool {
        let mut state = self.lock();
        let freed = state.tail.evict(append_no);
        self.store.budget.freed(freed);
        state.tail.first_append().is_none_or(|first| first > append_no)
    }

    /// Entries `from..to` that are on disk. Fails the store if they cannot be read.
    async fn scan(&self, from: LogIndex, to: LogIndex, bytes_max: usize) -> Result<Vec<LogEntry>, StoreFailed> {
        let read = self.look(from, to, bytes_max).await;
        read.inspect_err(|failed| self.store.writer.fail(failed.clone()))
    }

    /// As `scan`, and leaves what an error means to the caller.
    pub async fn look(&self, from: LogIndex, to: LogIndex, bytes_max: usize) -> Result<Vec<LogEntry>, StoreFailed> {
        let limit = ScanLimit { pairs: READ_ENTRIES_MAX, bytes: bytes_max };
        let pairs = self.store.look(Family::Log, keys::entries(self.id, from, Some(to)), limit).await?;
        let mut entries: Vec<LogEntry> = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            let (_, index) = keys::read_entry(&key).ok_or_else(|| self.damage("an entry's key is malformed"))?;
            let entry = formats::read_entry(index, value)
                .map_err(|error| self.damage(&format!("entry {index} cannot be read: {error}")))?;
            if let Some(last) = entries.last()
                && last.position.index.0 + 1 != index.0
            {
                return Err(self.damage(&format!("no entry between {} and {index}", last.position.index)));
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    /// Fails the store: what it is asked to do would break a log. Whoever asked was led there by a peer or
    /// by an error of ours, and the directory itself may be whole. The caller holds no lock.
    pub fn refuse(&self, what: String) -> StoreFailed {
        let failed = StoreFailed::io(format!("raft group {}, replica {}: {what}", self.id, self.replica));
        self.store.writer.fail(failed.clone());
        failed
    }

    /// Fails the store: its data is not what was written.
    pub fn damaged(&self, what: &str) -> StoreFailed {
        let failed = self.damage(what);
        self.store.writer.fail(failed.clone());
        failed
    }

    /// Says that its data is not what was written, and leaves the store as it is.
    pub fn damage(&self, what: &str) -> StoreFailed {
        StoreFailed::damaged(format!("raft group {}: {what}", self.id))
    }
}

impl Drop for OpenLog {
    fn drop(&mut self) {
        // Even of a poisoned log the memory is free now.
        let state = self.state.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        self.store.budget.freed(state.tail.bytes());
    }
}

/// Where a read finds what it asked for.
enum Found {
    InMemory(Vec<LogEntry>),
    /// `from..disk_end` is on disk, the rest up to `end` in memory.
    OnDisk {
        from: LogIndex,
        disk_end: LogIndex,
        end: LogIndex,
        truncations: u64,
    },
}

impl ReplicaLog {
    pub fn group(&self) -> RaftGroupId {
        self.0.id
    }

    pub fn purged(&self) -> Option<EntryPosition> {
        self.0.lock().purged
    }

    /// Whether the group was deleted: it reads as empty then, and takes writes as nothing.
    pub fn is_deleted(&self) -> bool {
        self.0.lock().is_deleted
    }

    /// The last entry; the purge point if there is none.
    pub fn last(&self) -> Option<EntryPosition> {
        self.0.lock().last
    }

    /// The last entry that is known to be committed or applied: nothing up to here may ever change.
    pub fn kept(&self) -> Option<EntryPosition> {
        let state = self.0.lock();
        state.purged.max(state.applied).max(state.committed)
    }

    /// The term of an entry. None: it is not in the log, or cannot be read now.
    pub async fn term_at(&self, index: LogIndex) -> Option<Term> {
        if let Some(purged) = self.purged()
            && purged.index >= index
        {
            return (purged.index == index).then_some(purged.term);
        }
        let found = self.read(index, LogIndex(index.0.saturating_add(1)), 0).await.ok()?;
        found.first().filter(|entry| entry.position.index == index).map(|entry| entry.position.term)
    }

    /// Where the newest checkpoint stands.
    pub fn checkpoint(&self) -> Option<EntryPosition> {
        self.0.lock().checkpoint
    }

    /// The highest index that is durable on this node with all before it; never above `last`.
    pub fn flushed(&self) -> Option<LogIndex> {
        self.0.lock().flushed()
    }

    /// Appends entries. They can be read at return; `done` is called once they are durable, and with
    /// them everything this group wrote before (SAFETY M6). Entries that do not follow the last one, or
    /// whose term goes back, fail the store.
    pub fn append(&self, entries: Vec<LogEntry>, done: Done) {
        let group = &self.0;
        let done = if plant::on(Plant::CompletionBeforeFsync) { done_before(done) } else { done };
        group.store.writer.probe.entries_appended(entries.len());
        let (append_no, added, refused) = {
            let mut state = group.lock();
            if state.is_deleted {
                drop(state);
                return done(Err(StoreFailed::io(format!("raft group {} was deleted", group.id))));
            }
            if let Err(what) = state.check_append(&entries, group.is_strict) {
                drop(state);
                return done(Err(group.refuse(what)));
            }
            if let (Some(first), None) = (entries.first(), state.last) {
                state.first = first.position.index;
            }
            state.append_no += 1;
            let append_no = state.append_no;
            let mut batch = WriteBatch::default();
            for entry in &entries {
                batch.put_parts(Family::Log, keys::entry(group.id, entry.position.index), formats::entry(entry));
            }
            state.last = entries.last().map(|entry| entry.position).or(state.last);
            let added = state.tail.append(entries, append_no);
            let refused = group.queue(&state, Write::synced(batch, self.appended(append_no, done)));
            (append_no, added, refused)
        };
        group.store.budget.added(group, append_no, added);
        if let Some(refused) = refused {
            refused.complete();
        }
    }

    /// What happens when an append is durable, or has failed.
    fn appended(&self, append_no: AppendNo, done: Done) -> Done {
        let group = self.0.clone();
        Box::new(move |result| {
            if result.is_ok() {
                group.lock().tail.written(append_no);
                group.store.budget.evict();
            }
            done(result);
        })
    }

    /// Waits while too much is queued for the disk; to be awaited before `append`.
    pub async fn reserve(&self) {
        self.0.store.writer.reserve().await;
    }

    /// Removes the entries after `last`, from memory before it first waits, and returns once that is
    /// durable. Does nothing if the log ends there or before. Fails the store if that would remove a
    /// committed or applied entry.
    pub async fn truncate_after(&self, last: Option<EntryPosition>) -> Result<(), StoreFailed> {
        let group = &self.0;
        let wait = {
            let mut state = group.lock();
            if index(state.last) <= index(last) {
                return Ok(());
            }
            if let Err(what) = state.check_truncation(last) {
                drop(state);
                return Err(group.refuse(what));
            }
            group.store.budget.freed(state.tail.truncate_after(index(last)));
            state.last = last;
            state.truncations += 1;
            let mut batch = WriteBatch::default();
            if !plant::on(Plant::TruncationKeepsTail) {
                batch.delete_range(Family::Log, keys::entries(group.id, after(last), None));
            }
            let (done, wait) = waiter();
            let refused = group.queue(&state, Write::synced(batch, done));
            drop(state);
            if let Some(refused) = refused {
                refused.complete();
            }
            wait
        };
        wait_done(wait).await
    }

    /// Removes the entries up to `upto`, from memory before it returns; the disk follows unsynced.
    ///
    /// # Panics
    /// If no checkpoint covers them: what they did would be lost (SAFETY B1).
    pub async fn purge(&self, upto: EntryPosition) -> Result<(), StoreFailed> {
        let group = &self.0;
        let mut state = group.lock();
        if state.is_deleted || index(state.purged) >= Some(upto.index) {
            return Ok(());
        }
        if group.is_strict {
            let covered = state.checkpoint;
            assert!(index(covered) >= Some(upto.index), "purging to {upto} beyond the checkpoint {covered:?}");
        }
        let mut batch = WriteBatch::default();
        // Not from 0: overlapping range tombstones would pile up.
        let range = keys::entries(group.id, state.first.min(upto.index), Some(LogIndex(upto.index.0 + 1)));
        batch.delete_range(Family::Log, range);
        batch.put(Family::State, keys::purged(group.id), formats::position(upto));
        group.store.budget.freed(state.tail.purge(upto.index));
        state.purged = Some(upto);
        state.first = after(state.purged).max(state.first);
        if index(state.last) < Some(upto.index) {
            state.last = Some(upto);
        }
        let refused = group.queue(&state, Write::unsynced(batch));
        drop(state);
        match refused {
            None => Ok(()),
            Some(refused) => Err(refused.because()),
        }
    }

    /// Returns once the vote is durable.
    pub async fn save_vote(&self, vote: Bytes) -> Result<(), StoreFailed> {
        let group = self.0.clone();
        let mut batch = WriteBatch::default();
        batch.put_parts(Family::State, keys::vote(group.id), formats::opaque(vote.clone()));
        let (done, wait) = waiter();
        let (saver, given) = (group.clone(), vote.clone());
        let done: Done = Box::new(move |result| {
            if result.is_ok() {
                saver.lock().vote = Some(vote);
            }
            done(result);
        });
        let is_synced = !plant::on(Plant::VoteNotSynced);
        let refused = group.queue(&group.lock(), Write { is_synced, ..Write::synced(batch, done) });
        if let Some(refused) = refused {
            refused.complete();
        }
        if plant::on(Plant::VoteNotSynced) || plant::on(Plant::VoteBeforeSave) {
            group.lock().vote = Some(given);
            return Ok(());
        }
        wait_done(wait).await
    }

    /// The last vote that was saved.
    pub fn vote(&self) -> Option<Bytes> {
        self.0.lock().vote.clone()
    }

    /// Remembers how far the log is committed; queued unsynced. What goes to disk is never beyond
    /// the last entry (SAFETY B1).
    pub fn save_committed(&self, committed: Option<EntryPosition>) {
        let group = &self.0;
        let mut state = group.lock();
        if state.committed == committed {
            return;
        }
        state.committed = committed;
        let mut batch = WriteBatch::default();
        match at_most(committed, state.last) {
            Some(committed) => {
                batch.put(Family::State, keys::saved_commit(group.id), formats::position(committed));
            }
            None => batch.delete(Family::State, keys::saved_commit(group.id)),
        }
        // Nobody waits for it; a store that fails says so where someone does.
        drop(group.queue(&state, Write::unsynced(batch)));
    }

    /// The commit that was saved last; after opening it is not beyond the last entry.
    pub fn committed(&self) -> Option<EntryPosition> {
        self.0.lock().committed
    }

    /// Entries `from..to` as far as they exist and fit, contiguous; at least one if any exists. A
    /// read that races a truncation or a purge returns what exists, possibly nothing (SAFETY M6).
    pub async fn read(&self, from: LogIndex, to: LogIndex, bytes_max: usize) -> Result<Vec<LogEntry>, StoreFailed> {
        for _ in 0..READ_RETRIES_MAX {
            let (first, disk_end, end, truncations) = match self.find(from, to, bytes_max) {
                Found::InMemory(entries) => return Ok(entries),
                Found::OnDisk { from, disk_end, end, truncations } => (from, disk_end, end, truncations),
            };
            let mut entries = self.0.scan(first, disk_end, bytes_max).await?;
            let state = self.0.lock();
            if state.is_deleted {
                return Ok(vec![]);
            }
            // Truncated meanwhile: what was read may mix two logs.
            if state.truncations != truncations {
                continue;
            }
            let expected = first.max(state.first);
            match entries.first().map(|entry| entry.position.index) {
                // Purged while we read, or before the scan began.
                Some(found) if found > expected => {}
                Some(_) => {
                    if entries.last().map(|last| last.position.index.0 + 1) == Some(disk_end.0) {
                        state.tail.read(disk_end, end, bytes_max, &mut entries);
                    }
                    return Ok(entries);
                }
                // All of it was purged: what is left begins elsewhere.
                None if expected >= disk_end => continue,
                None => {}
            }
            drop(state);
            return Err(self
                .0
                .damaged(&format!("entry {expected} is missing: found {:?}", entries.first().map(|e| e.position))));
        }
        Ok(vec![])
    }

    fn find(&self, from: LogIndex, to: LogIndex, bytes_max: usize) -> Found {
        let state = self.0.lock();
        let from = from.max(state.first);
        let end = to.min(state.next());
        let mut entries = vec![];
        if from >= end || state.is_deleted {
            return Found::InMemory(entries);
        }
        match state.tail.first() {
            Some(first) if first <= from => {
                state.tail.read(from, end, bytes_max, &mut entries);
                Found::InMemory(entries)
            }
            first => {
                let disk_end = first.map_or(end, |first| first.min(end));
                Found::OnDisk { from, disk_end, end, truncations: state.truncations }
            }
        }
    }

    /// What [`ReplicaLog::read`] would return, if all of it is in memory.
    pub fn read_recent(&self, from: LogIndex, to: LogIndex, bytes_max: usize) -> Option<Vec<LogEntry>> {
        match self.find(from, to, bytes_max) {
            Found::InMemory(entries) => Some(entries),
            Found::OnDisk { .. } => None,
        }
    }

    /// All entries `from..to` that exist; the caller bounds the range.
    pub async fn read_all(&self, from: LogIndex, to: LogIndex) -> Result<Vec<LogEntry>, StoreFailed> {
        let mut entries = self.read(from, to, READ_STEP_BYTES).await?;
        while let Some(last) = entries.last() {
            let more = self.read(LogIndex(last.position.index.0 + 1), to, READ_STEP_BYTES).await?;
            if more.is_empty() {
                break;
            }
            entries.extend(more);
        }
        Ok(entries)
    }
}

/// The smaller by index: positions of one log.
pub(super) fn at_most(position: Option<EntryPosition>, last: Option<EntryPosition>) -> Option<EntryPosition> {
    if index(position) > index(last) { last } else { position }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{super::EntryKind, *};
    use crate::types::Term;

    pub fn entry(term: u64, index: u64, payload_len: usize) -> LogEntry {
        LogEntry {
            position: EntryPosition { term: Term(term), index: LogIndex(index) },
            kind: EntryKind::Normal,
            payload: Bytes::from(vec![index as u8; payload_len]),
        }
    }
}
