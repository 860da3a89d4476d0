//! A group's committed offsets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::types::{LeaderEpoch, Offset, PartitionId, TopicPartition, WallMs};

/// How far a group has read one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedOffset {
    /// The next offset to read.
    pub offset: Offset,
    /// Of the last record read, if the member said so.
    pub leader_epoch: Option<LeaderEpoch>,
    /// The application's, at most 4,096 bytes.
    pub metadata: String,
    /// By the entry's clock.
    pub committed_at: WallMs,
}

/// By topic and partition. No topic is without a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Offsets {
    by_topic: BTreeMap<String, BTreeMap<PartitionId, CommittedOffset>>,
}

impl Offsets {
    pub fn iter(&self) -> impl Iterator<Item = (TopicPartition, &CommittedOffset)> {
        self.by_topic.iter().flat_map(|(topic, partitions)| {
            let at = |partition| TopicPartition { topic: topic.clone(), partition };
            partitions.iter().map(move |(partition, committed)| (at(*partition), committed))
        })
    }

    pub fn get(&self, topic: &str, partition: PartitionId) -> Option<&CommittedOffset> {
        self.by_topic.get(topic)?.get(&partition)
    }

    pub fn len(&self) -> usize {
        self.by_topic.values().map(BTreeMap::len).sum()
    }
}
