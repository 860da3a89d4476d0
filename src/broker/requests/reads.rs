//! What may be read of partitions: records, offsets and where leader epochs ended.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::types::{LeaderEpoch, Offset, PartitionId, TopicId, WallMs};

/// Records of one partition.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    pub topic: String,
    /// The topic that is meant; None: whichever has the name.
    pub topic_id: Option<TopicId>,
    pub partition: PartitionId,
    pub offset: Offset,
    /// Of batches; one batch is always returned whole.
    pub bytes_max: usize,
    /// How long to wait for a first record at the high watermark; zero: answer at once.
    pub wait: Duration,
}

/// Records of many partitions, with one wait and one room for all of them (Kafka's Fetch; KIP-74 for the room).
#[derive(Clone, Debug)]
pub struct FetchManyRequest {
    /// In the order in which they may use up the room.
    pub partitions: Vec<PartitionFetch>,
    /// The answer waits until so many bytes of batches can be read, or an error is to be told; 0: it does not wait.
    pub bytes_min: usize,
    /// Of batches in the whole answer; 0: the default. The first batch of the answer is returned whole in any case.
    pub bytes_max: usize,
    /// The longest wait for `bytes_min`.
    pub wait: Duration,
}

/// What of one partition is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionFetch {
    pub at: PartitionRead,
    pub offset: Offset,
    /// Of batches of this partition; 0: the default.
    pub bytes_max: usize,
}

/// A partition to read, as the reader knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRead {
    pub topic: String,
    /// The topic that is meant; None: whichever has the name.
    pub topic_id: Option<TopicId>,
    pub partition: PartitionId,
    /// The epoch that the reader takes for the present one (KIP-320); None: it does not say.
    pub leader_epoch: Option<LeaderEpoch>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// Whole stored batches in offset order, dense; the first may begin below the offset asked for.
    pub batches: Vec<Bytes>,
    pub high_watermark: Offset,
    pub log_start: Offset,
    /// Where the next fetch begins: the asked offset if `batches` is empty.
    pub next_offset: Offset,
}

/// A place in a partition to look up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetAt {
    Earliest,
    Latest,
    /// The first record with this timestamp or a later one; else the high watermark.
    Time(WallMs),
    /// The first of the records that have the largest timestamp of all that are kept; else the high watermark.
    MaxTimestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    /// Of a time that no record has: where the search ended, at the high watermark of a moment during it.
    pub offset: Offset,
    /// The one in which the record was appended that was found by its time; else the present one.
    pub epoch: LeaderEpoch,
    /// Of the record that was found by its time. None: there is no such record, or no time was asked for.
    pub timestamp: Option<WallMs>,
}
