//! What a state machine keeps beside its log: applied state, checkpoints, the sparse index. All of
//! it can be re-derived from the log above the purge point, so all of it is queued unsynced and
//! follows the entries it rests on into the write-ahead log (SAFETY B1); only an install is synced.
//!
//! What is queued can be loaded and found at once: it is kept in memory until it is written.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    Family, ReplicaLog, SavedState, ScanLimit, StoreFailed, WriteBatch, formats, keys,
    log::{State, after, at_most, index},
    writer::{Done, Refused, Write, wait_done, waiter},
};
use crate::{
    seam::plant::{self, Plant},
    types::{EntryPosition, LogIndex, Offset, WallMs},
};

const ONE: ScanLimit = ScanLimit { pairs: 1, bytes: usize::MAX };

/// Halvings of a range of offsets, which are 63 bits.
const BISECTIONS_MAX: usize = 64;

/// Queued and not yet written, each with the number of its save, so that a completion removes what
/// it wrote and nothing newer.
#[derive(Default)]
pub(super) struct Pending {
    saves: u64,
    applied: Option<(u64, SavedState)>,
    checkpoints: BTreeMap<LogIndex, (u64, SavedState)>,
    points: BTreeMap<Offset, (u64, LogIndex, WallMs)>,
}

impl Pending {
    fn number(&mut self) -> u64 {
        self.saves += 1;
        self.saves
    }

    fn put_applied(&mut self, saved: SavedState) -> u64 {
        let number = self.number();
        self.applied = Some((number, saved));
        number
    }

    /// Forgets what was written by saves up to this one.
    fn written(&mut self, number: u64) {
        if self.applied.as_ref().is_some_and(|(saved, _)| *saved <= number) {
            self.applied = None;
        }
        self.checkpoints.retain(|_, (saved, _)| *saved > number);
        self.points.retain(|_, (saved, _, _)| *saved > number);
    }

    fn clear(&mut self) {
        *self = Pending { saves: self.saves, ..Pending::default() };
    }
}

struct Point {
    offset: Offset,
    index: LogIndex,
    max_ts_before: WallMs,
}

impl ReplicaLog {
    /// Saves the state after the last applied entry, and the rolling hash there; queued unsynced.
    ///
    /// # Panics
    /// If it is ahead of the log: after a crash openraft would close that hole by purging the log
    /// (SAFETY B1).
    pub fn save_applied(&self, applied: SavedState, rolling: Bytes) {
        let mut state = self.0.lock();
        self.check_applied(&state, applied.position);
        let mut batch = WriteBatch::default();
        batch.put_parts(Family::Applied, keys::applied(self.0.id), formats::saved_state(&applied));
        // Beside it and no part of it: older versions read it as it is, and never look for the other.
        batch.put(Family::Applied, keys::rolling(self.0.id), rolling);
        state.applied = applied.position;
        let number = state.pending.put_applied(applied);
        self.queue_saved(&state, batch, number);
    }

    fn check_applied(&self, state: &State, position: Option<EntryPosition>) {
        // A deleted group's state machine may still close, and saves what nobody will read.
        if self.0.is_strict && !state.is_deleted {
            assert!(index(position) <= index(state.last), "applied {position:?} is ahead of the log {:?}", state.last);
        }
    }

    /// Queues what was saved; its completion ends its being pending.
    fn queue_saved(&self, state: &State, batch: WriteBatch, number: u64) {
        let group = self.0.clone();
        let done: Done = Box::new(move |result| {
            if result.is_ok() {
                group.lock().pending.written(number);
            }
        });
        // Refused only by a failed, closed or deleted log: where somebody waits it is heard of. Its
        // completion must not run here, under the lock, and has nothing to do.
        drop(self.0.queue(state, Write::unsynced(batch).with_done(done)));
    }

    pub async fn load_applied(&self) -> Result<Option<SavedState>, StoreFailed> {
        if let Some((_, saved)) = &self.0.lock().pending.applied {
            return Ok(Some(saved.clone()));
        }
        self.load(keys::applied(self.0.id)).await
    }

    /// The rolling hash that was saved last. Whether it is of the applied state, it says itself: an older version saves
    /// only that.
    pub async fn load_rolling(&self) -> Result<Option<Bytes>, StoreFailed> {
        self.0.store.get(Family::Applied, &keys::rolling(self.0.id)).await
    }

    async fn load(&self, key: Vec<u8>) -> Result<Option<SavedState>, StoreFailed> {
        let Some(value) = self.0.store.get(Family::Applied, &key).await? else { return Ok(None) };
        let saved = formats::read_saved_state(value);
        saved.map(Some).map_err(|error| self.0.damaged(&format!("a saved state cannot be read: {error}")))
    }

    /// Keeps a state to begin from once the log below is purged; queued unsynced. Becomes the applied
    /// state too, if that is older: a checkpoint is never ahead of it on disk (SAFETY B1).
    ///
    /// # Panics
    /// If it is ahead of the log, or of no entry.
    pub fn save_checkpoint(&self, checkpoint: SavedState) {
        let mut state = self.0.lock();
        let at = checkpoint.position.expect("a checkpoint stands for entries");
        self.check_applied(&state, Some(at));
        let mut batch = WriteBatch::default();
        let value = formats::saved_state(&checkpoint);
        let number = state.pending.number();
        if index(state.applied) < Some(at.index) && !plant::on(Plant::CheckpointBeforeState) {
            batch.put_parts(Family::Applied, keys::applied(self.0.id), value.clone());
            state.applied = Some(at);
            state.pending.applied = Some((number, checkpoint.clone()));
        }
        batch.put_parts(Family::Applied, keys::checkpoint(self.0.id, at.index), value);
        if index(state.checkpoint) < Some(at.index) {
            state.checkpoint = Some(at);
        }
        state.pending.checkpoints.insert(at.index, (number, checkpoint));
        self.queue_saved(&state, batch, number);
    }

    /// The checkpoint at exactly this index.
    pub async fn load_checkpoint(&self, index: LogIndex) -> Result<Option<SavedState>, StoreFailed> {
        if let Some((_, saved)) = self.0.lock().pending.checkpoints.get(&index) {
            return Ok(Some(saved.clone()));
        }
        self.load(keys::checkpoint(self.0.id, index)).await
    }

    /// Queued unsynced. The newest checkpoint is kept always.
    pub fn delete_checkpoints_below(&self, index: LogIndex) {
        let mut state = self.0.lock();
        let Some(newest) = state.checkpoint else { return };
        let below = index.min(newest.index);
        state.pending.checkpoints = state.pending.checkpoints.split_off(&below);
        let mut batch = WriteBatch::default();
        batch.delete_range(Family::Applied, keys::checkpoints(self.0.id, LogIndex(0), Some(below)));
        drop(self.0.queue(&state, Write::unsynced(batch)));
    }

    /// Begins anew from a snapshot: the checkpoint becomes the applied state and the purge point,
    /// everything older of the group goes, in one synced batch (SAFETY B1). Entries after it are
    /// kept if the log agrees with it. A snapshot of no entry, or of one before the last that was applied,
    /// fails the store.
    pub async fn install(&self, checkpoint: SavedState) -> Result<(), StoreFailed> {
        let Some(at) = checkpoint.position else { return Err(self.0.refuse("a snapshot of no entry".into())) };
        // A log that disagrees at this entry disagrees with all that follows it.
        let here = self.read(at.index, LogIndex(at.index.0 + 1), 0).await?;
        let agrees = here.first().is_none_or(|entry| entry.position == at);
        let (done, wait) = waiter();
        match self.queue_install(checkpoint, at, agrees, done) {
            Ok(None) => {}
            Ok(Some(refused)) => refused.complete(),
            Err(what) => return Err(self.0.refuse(what)),
        }
        wait_done(wait).await
    }

    /// An error: it must not be installed.
    fn queue_install(
        &self,
        checkpoint: SavedState,
        at: EntryPosition,
        agrees: bool,
        done: Done,
    ) -> Result<Option<Refused>, String> {
        let group = &self.0;
        let mut state = group.lock();
        if index(state.applied) > Some(at.index) {
            return Err(format!("installing a snapshot at {at} under the applied {:?}", state.applied));
        }
        let batch = self.install_batch(&checkpoint, at, agrees);
        state.pending.clear();
        let number = state.pending.put_applied(checkpoint.clone());
        state.pending.checkpoints.insert(at.index, (number, checkpoint));
        let flushed = state.flushed();
        state.installing = Some(state.installing.unwrap_or(flushed));
        if !agrees {
            group.store.budget.freed(state.tail.truncate_after(Some(at.index)));
            state.truncations += 1;
            state.last = at_most(state.last, Some(at));
        }
        group.store.budget.freed(state.tail.purge(at.index));
        if index(state.last) <= Some(at.index) {
            state.last = Some(at);
        }
        (state.applied, state.checkpoint, state.purged) = (Some(at), Some(at), Some(at));
        state.first = after(state.purged);
        let installed = group.clone();
        let done: Done = Box::new(move |result| {
            if result.is_ok() {
                let mut state = installed.lock();
                state.installing = None;
                state.pending.written(number);
            }
            done(result);
        });
        Ok(group.queue(&state, Write::synced(batch, done)))
    }

    fn install_batch(&self, checkpoint: &SavedState, at: EntryPosition, agrees: bool) -> WriteBatch {
        let id = self.0.id;
        let value = formats::saved_state(checkpoint);
        let mut batch = WriteBatch::default();
        batch.delete_range(Family::Applied, keys::checkpoints(id, LogIndex(0), None));
        batch.delete_range(Family::Applied, keys::points(id, None));
        batch.put_parts(Family::Applied, keys::checkpoint(id, at.index), value.clone());
        batch.put_parts(Family::Applied, keys::applied(id), value);
        let upto = agrees.then_some(LogIndex(at.index.0 + 1));
        batch.delete_range(Family::Log, keys::entries(id, LogIndex(0), upto));
        batch.put(Family::State, keys::purged(id), formats::position(at));
        batch
    }

    /// Adds a point to the sparse index: `index` holds the live entry that begins at `offset`
    /// (SAFETY M3). Queued unsynced.
    pub fn put_index_point(&self, offset: Offset, index: LogIndex, max_ts_before: WallMs) {
        let mut state = self.0.lock();
        let mut batch = WriteBatch::default();
        batch.put(Family::Applied, keys::point(self.0.id, offset), formats::point(index, max_ts_before));
        let number = state.pending.number();
        state.pending.points.insert(offset, (number, index, max_ts_before));
        self.queue_saved(&state, batch, number);
    }

    /// The last point not above `offset`.
    pub async fn find_point(&self, offset: Offset) -> Result<Option<(Offset, LogIndex)>, StoreFailed> {
        let pending = {
            let state = self.0.lock();
            state.pending.points.range(..=offset).next_back().map(|(offset, (_, index, _))| (*offset, *index))
        };
        // On disk a later one may be, while a restart applies entries again.
        let written = self.point_at_most(offset).await?.map(|point| (point.offset, point.index));
        Ok(pending.max(written))
    }

    /// The last point before which no record has a timestamp of `ts` or later: the first record that
    /// has is found from here on.
    pub async fn find_time(&self, ts: WallMs) -> Result<Option<(Offset, LogIndex)>, StoreFailed> {
        let pending = {
            let state = self.0.lock();
            let mut points = state.pending.points.iter().rev();
            points.find(|(_, (_, _, max_ts))| *max_ts < ts).map(|(offset, (_, index, _))| (*offset, *index))
        };
        match pending {
            Some(found) => Ok(Some(found)),
            None => self.find_written_time(ts).await,
        }
    }

    /// Finds a written point by bisection: the largest timestamp so far never decreases along the log.
    async fn find_written_time(&self, ts: WallMs) -> Result<Option<(Offset, LogIndex)>, StoreFailed> {
        let Some(last) = self.point_at_most(Offset(i64::MAX)).await? else { return Ok(None) };
        if last.max_ts_before < ts {
            return Ok(Some((last.offset, last.index)));
        }
        // Points at or below `low` have an earlier time, points at or above `high` do not.
        let (mut low, mut high) = (-1, last.offset.0);
        let mut found = None;
        for _ in 0..BISECTIONS_MAX {
            if high - low <= 1 {
                break;
            }
            let middle = low + (high - low) / 2;
            match self.point_at_most(Offset(middle)).await? {
                Some(point) if point.max_ts_before >= ts => high = point.offset.0,
                Some(point) => {
                    low = middle;
                    found = Some((point.offset, point.index));
                }
                None => low = middle,
            }
        }
        Ok(found)
    }

    async fn point_at_most(&self, offset: Offset) -> Result<Option<Point>, StoreFailed> {
        let range = keys::points(self.0.id, Some(Offset(offset.0.saturating_add(1))));
        let found = self.0.store.scan(Family::Applied, range, ONE, true).await?;
        let Some((key, value)) = found.into_iter().next() else { return Ok(None) };
        let (_, offset) = keys::read_point(&key).ok_or_else(|| self.0.damaged("a point has a malformed key"))?;
        let (index, max_ts_before) = formats::read_point(value)
            .map_err(|error| self.0.damaged(&format!("the point at offset {offset} cannot be read: {error}")))?;
        Ok(Some(Point { offset, index, max_ts_before }))
    }

    /// Drops the points below `offset`, except the last one not above it; queued unsynced.
    pub fn delete_points_below(&self, offset: Offset) {
        let mut state = self.0.lock();
        let keep = state.pending.points.range(..=offset).next_back().map(|(offset, _)| *offset);
        if let Some(keep) = keep {
            state.pending.points = state.pending.points.split_off(&keep);
        }
        let write = Write { drop_points: Some((self.0.id, offset)), ..Write::unsynced(WriteBatch::default()) };
        drop(self.0.queue(&state, write));
    }
}
