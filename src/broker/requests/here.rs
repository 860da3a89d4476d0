//! What a broker says of the replicas that it holds.

use crate::types::{ProducerEpoch, ProducerId, Sequence, TopicPartition, WallMs};

/// A broker's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryView {
    /// What is free on its disk; None: that cannot be told.
    pub free_bytes: Option<u64>,
    /// Every replica that runs here, in order.
    pub replicas: Vec<ReplicaSize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaSize {
    pub at: TopicPartition,
    /// Bytes of the records that it keeps.
    pub bytes: u64,
}

/// What a partition remembers of an idempotent producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
    /// Of its last batch.
    pub last_sequence: Sequence,
    /// When its last batch was appended.
    pub last_append: WallMs,
}
