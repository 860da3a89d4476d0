//! What a broker says of the replicas that it holds.

use crate::{
    raft::{LogHash, Reread},
    storage::StoreFailed,
    types::{
        BrokerId, LogIndex, PartitionId, ProducerEpoch, ProducerId, RaftGroupId, Sequence, TopicPartition, WallMs,
    },
};

/// What is asked of a replica here, to be compared with others of its group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HashReplicaRequest {
    /// None: the metadata group.
    pub partition: Option<(String, PartitionId)>,
    /// Also a hash of the whole state.
    pub with_state: bool,
    /// Entries from one index up to and without another that are to be read again from disk, as many as fit.
    pub reread: Option<(LogIndex, LogIndex)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaHash {
    pub broker: BrokerId,
    pub group: RaftGroupId,
    pub log: LogHash,
    pub reread: Option<RereadHash>,
}

/// What reading again came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RereadHash {
    Read(Reread),
    /// The disk has something else than was written: the broker stops.
    Damaged(StoreFailed),
}

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
