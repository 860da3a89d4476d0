//! One store per data directory: opens logs of Raft groups and owns what they share.

use std::sync::Arc;

use super::{GroupLog, Kv, OpenLogError, StoreError, StoreFailed, WriterProbe};
use crate::types::{BrokerId, RaftGroupId, ReplicaId};

/// Called once, when a write failed or damaged data was read. In production it does not return.
pub type OnFailure = Arc<dyn Fn(&StoreFailed) + Send + Sync>;

#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Of recent entries held in memory, all groups together.
    pub tail_bytes_max: usize,
    /// Of writes waiting for the disk; `GroupLog::reserve` waits above it.
    pub queue_bytes_max: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions { tail_bytes_max: 256 << 20, queue_bytes_max: 64 << 20 }
    }
}

/// Who this directory belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub broker: BrokerId,
    /// None until the broker has joined a cluster.
    pub cluster_id: Option<u128>,
    /// Drawn when the directory was new.
    pub storage_id: u128,
}

/// All groups' logs on one disk.
#[derive(Clone)]
pub struct Store {}

impl Store {
    /// Must be called within a tokio runtime: the log writer is one task of it.
    pub async fn open(
        _kv: Arc<dyn Kv>,
        _options: StoreOptions,
        _probe: WriterProbe,
        _on_failure: OnFailure,
    ) -> Result<Store, StoreError> {
        unimplemented!()
    }
    pub async fn open_log(&self, _group: RaftGroupId, _replica: ReplicaId) -> Result<GroupLog, OpenLogError> {
        unimplemented!()
    }
    /// Groups with any state here.
    pub async fn groups(&self) -> Result<Vec<(RaftGroupId, ReplicaId)>, StoreError> {
        unimplemented!()
    }
    pub async fn delete_group(&self, _group: RaftGroupId) -> Result<(), StoreError> {
        unimplemented!()
    }
    pub async fn tombstoned(&self, _group: RaftGroupId) -> Result<bool, StoreError> {
        unimplemented!()
    }
    pub async fn clear_tombstone(&self, _group: RaftGroupId) -> Result<(), StoreError> {
        unimplemented!()
    }
    /// A barrier: everything queued before is durable when it returns.
    pub async fn flush(&self) -> Result<(), StoreFailed> {
        unimplemented!()
    }
    /// Flushes, then ends the writer: every later write is refused.
    pub async fn close(&self) -> Result<(), StoreFailed> {
        unimplemented!()
    }
    pub async fn identity(&self) -> Result<Option<Identity>, StoreError> {
        unimplemented!()
    }
    pub async fn save_identity(&self, _identity: Identity) -> Result<(), StoreError> {
        unimplemented!()
    }
}
