//! The state of a partition: a fold over its log, and nothing else.

use bytes::Bytes;

use crate::replicated::{Applied, Replicated, SnapshotAt, StateDecodeError};
use crate::types::{EntryPosition, LeaderEpoch, Offset, WallMs};

/// See the module's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {}

/// The numbers that place checkpoints and bound the state. Part of the state, so that every replica
/// and every version uses those the partition was created with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionLimits {
    pub checkpoint_bytes: u64,
    pub segment_ms: i64,
    pub index_bytes: u64,
    pub producers_max: u64,
    pub producer_expiry_ms: i64,
}

/// One checkpoint: everything before `next_offset` lies at or before `position`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub position: EntryPosition,
    pub next_offset: Offset,
    /// Bytes of live batches before it, since the partition began.
    pub bytes_before: u64,
    /// The largest client timestamp between the previous checkpoint and this one.
    pub segment_max_timestamp: WallMs,
}

/// Where a leader epoch ends (OffsetForLeaderEpoch).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    pub epoch: LeaderEpoch,
    pub end_offset: Offset,
}

impl Partition {
    pub fn new(limits: PartitionLimits) -> Partition {
        todo!("{limits:?}")
    }
    pub fn next_offset(&self) -> Offset {
        todo!()
    }
    pub fn log_start(&self) -> Offset {
        todo!()
    }
    /// The append time an entry built now should carry: never before the last one's.
    pub fn append_time(&self, now: WallMs) -> WallMs {
        todo!("{now}")
    }
    /// The largest client timestamp ever appended, -1 before any.
    pub fn max_timestamp(&self) -> WallMs {
        todo!()
    }
    /// About how many bytes of batches lie between log start and end.
    pub fn retained_bytes(&self) -> u64 {
        todo!()
    }
    /// Where retention would move the log start to, at checkpoint precision.
    pub fn retention_offset(
        &self,
        now: WallMs,
        retention_ms: Option<i64>,
        retention_bytes: Option<u64>,
    ) -> Option<Offset> {
        todo!("{now} {retention_ms:?} {retention_bytes:?}")
    }
    pub fn checkpoints(&self) -> &[Checkpoint] {
        todo!()
    }
    /// Producers forgotten to keep within the bound, since the partition began.
    pub fn producers_evicted(&self) -> u64 {
        todo!()
    }
    pub fn producer_count(&self) -> usize {
        todo!()
    }
    /// The epoch of the last live entry.
    pub fn last_epoch(&self) -> Option<LeaderEpoch> {
        todo!()
    }
    /// The largest epoch with data that is at most `epoch`, and where it ends. None: no data, or `epoch` is below all that is known.
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch, high_watermark: Offset) -> Option<EpochEnd> {
        todo!("{epoch} {high_watermark}")
    }
}

impl Replicated for Partition {
    const SNAPSHOT_AT: SnapshotAt = SnapshotAt::PurgePoint;

    fn apply(&mut self, at: EntryPosition, command: &Bytes) -> Applied {
        todo!("{at} {command:?}")
    }
    fn checkpoint_due(&self, command: &Bytes) -> bool {
        todo!("{command:?}")
    }
    fn checkpoint_taken(&mut self, at: EntryPosition) {
        todo!("{at}")
    }
    fn purge_point(&self) -> Option<EntryPosition> {
        todo!()
    }
    fn encode(&self) -> Bytes {
        todo!()
    }
    fn decode(bytes: &[u8]) -> Result<Self, StateDecodeError> {
        todo!("{bytes:?}")
    }
}
