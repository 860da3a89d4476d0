//! Offsets that a group commits, and lists of partitions as the wire has them.

use super::error::ClientError;
use crate::{
    proto::v1,
    types::{LeaderEpoch, Offset, PartitionId, TopicPartition},
};

/// How far a partition was read, to be committed for a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetToCommit {
    /// The partition that this is about.
    pub at: TopicPartition,
    /// The next offset to be read.
    pub offset: Offset,
    /// The leader epoch of the last record that was read, if it is known.
    pub leader_epoch: Option<LeaderEpoch>,
    /// Text that the application reads again: 4,096 bytes at most.
    pub metadata: String,
}

impl OffsetToCommit {
    /// The next offset of a partition to be read, and nothing besides.
    pub fn new(at: TopicPartition, offset: Offset) -> OffsetToCommit {
        OffsetToCommit { at, offset, leader_epoch: None, metadata: String::new() }
    }

    /// Encodes it for the wire. `topic_id` says which topic was read; if it is empty, whichever has the name is meant.
    pub(super) fn wire(&self, topic_id: String) -> v1::OffsetToCommit {
        v1::OffsetToCommit {
            topic: self.at.topic.clone(),
            partition: self.at.partition.0,
            offset: self.offset.0,
            leader_epoch: self.leader_epoch.map(|epoch| epoch.0),
            metadata: self.metadata.clone(),
            topic_id,
        }
    }
}

/// A partition for which a group's coordinator did not do what it was asked.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RefusedOffset {
    /// The partition that this is about.
    pub at: TopicPartition,
    /// Why it was refused.
    pub error: ClientError,
}

impl RefusedOffset {
    pub(super) fn of(refused: v1::RefusedCommit) -> RefusedOffset {
        RefusedOffset {
            at: TopicPartition { topic: refused.topic, partition: PartitionId(refused.partition) },
            error: ClientError::from_wire(refused.error.unwrap_or_default()),
        }
    }
}

/// Groups partitions by topic, as the wire has them; those of a topic have to stand together in `of`.
pub(super) fn partition_sets<'a>(of: impl Iterator<Item = &'a TopicPartition>) -> Vec<v1::PartitionSet> {
    let mut sets: Vec<v1::PartitionSet> = Vec::new();
    for at in of {
        match sets.last_mut() {
            Some(set) if set.topic == at.topic => set.partitions.push(at.partition.0),
            Some(_) | None => {
                sets.push(v1::PartitionSet { topic: at.topic.clone(), partitions: vec![at.partition.0] });
            }
        }
    }
    sets
}

/// Takes sets of the wire apart into partitions. A negative number is no partition.
pub(super) fn partitions_of(sets: Vec<v1::PartitionSet>) -> Vec<TopicPartition> {
    let named = |set: v1::PartitionSet| {
        let topic = set.topic;
        let good = set.partitions.into_iter().filter(|partition| *partition >= 0);
        good.map(move |partition| TopicPartition { topic: topic.clone(), partition: PartitionId(partition) })
    };
    sets.into_iter().flat_map(named).collect()
}
