//! The log and state of one Raft group, free of Raft's rules.

use bytes::Bytes;

use super::StoreFailed;
use crate::types::{EntryPosition, LogIndex, Offset, RaftGroupId, ReplicaId, WallMs};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryKind {
    Blank = 0,
    Normal = 1,
    Membership = 2,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    pub position: EntryPosition,
    pub kind: EntryKind,
    pub payload: Bytes,
}

/// A state machine's state at a position, with the membership in force there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedState {
    pub position: Option<EntryPosition>,
    pub membership: Bytes,
    pub state: Bytes,
}

/// Called exactly once.
pub type Done = Box<dyn FnOnce(Result<(), StoreFailed>) + Send>;

#[derive(Clone)]
pub struct GroupLog {}

impl GroupLog {
    pub fn group(&self) -> RaftGroupId {
        unimplemented!()
    }
    pub fn replica(&self) -> ReplicaId {
        unimplemented!()
    }
    pub fn purged(&self) -> Option<EntryPosition> {
        unimplemented!()
    }
    /// The last entry; the purge point if there is none.
    pub fn last(&self) -> Option<EntryPosition> {
        unimplemented!()
    }
    pub fn flushed(&self) -> Option<LogIndex> {
        unimplemented!()
    }
    pub fn append(&self, _entries: Vec<LogEntry>, _done: Done) {
        unimplemented!()
    }
    pub async fn reserve(&self) {
        unimplemented!()
    }
    pub async fn truncate_after(&self, _last: Option<EntryPosition>) -> Result<(), StoreFailed> {
        unimplemented!()
    }
    pub async fn purge(&self, _upto: EntryPosition) -> Result<(), StoreFailed> {
        unimplemented!()
    }
    pub async fn save_vote(&self, _vote: Bytes) -> Result<(), StoreFailed> {
        unimplemented!()
    }
    pub fn vote(&self) -> Option<Bytes> {
        unimplemented!()
    }
    pub fn save_committed(&self, _committed: Option<EntryPosition>) {
        unimplemented!()
    }
    pub fn committed(&self) -> Option<EntryPosition> {
        unimplemented!()
    }
    pub async fn read(&self, _from: LogIndex, _to: LogIndex, _bytes_max: usize) -> Result<Vec<LogEntry>, StoreFailed> {
        unimplemented!()
    }
    pub async fn read_all(&self, _from: LogIndex, _to: LogIndex) -> Result<Vec<LogEntry>, StoreFailed> {
        unimplemented!()
    }
    pub fn save_applied(&self, _applied: SavedState) {
        unimplemented!()
    }
    pub async fn load_applied(&self) -> Result<Option<SavedState>, StoreFailed> {
        unimplemented!()
    }
    pub fn save_checkpoint(&self, _checkpoint: SavedState) {
        unimplemented!()
    }
    pub async fn load_checkpoint(&self, _index: LogIndex) -> Result<Option<SavedState>, StoreFailed> {
        unimplemented!()
    }
    pub fn delete_checkpoints_below(&self, _index: LogIndex) {
        unimplemented!()
    }
    pub async fn install(&self, _checkpoint: SavedState) -> Result<(), StoreFailed> {
        unimplemented!()
    }
    pub fn put_index_point(&self, _offset: Offset, _index: LogIndex, _max_ts_before: WallMs) {
        unimplemented!()
    }
    pub async fn find_point(&self, _offset: Offset) -> Result<Option<(Offset, LogIndex)>, StoreFailed> {
        unimplemented!()
    }
    pub async fn find_time(&self, _ts: WallMs) -> Result<Option<(Offset, LogIndex)>, StoreFailed> {
        unimplemented!()
    }
    pub fn delete_points_below(&self, _offset: Offset) {
        unimplemented!()
    }
}
