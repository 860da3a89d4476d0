//! A group's committed offsets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::usage::{OFFSET_BYTES, Usage, text};
use crate::types::{LeaderEpoch, Offset, PartitionId, TopicPartition, WallMs};

/// How far a group has read one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredOffset {
    /// The next offset to read.
    pub offset: Offset,
    /// The leader epoch of the last record that was read, if the member said so.
    pub leader_epoch: Option<LeaderEpoch>,
    /// The application's, at most 4,096 bytes.
    pub metadata: String,
    /// When it was committed, by the clock of the entry.
    pub committed_at: WallMs,
}

/// The committed offsets of a group, by topic and partition. No topic is without a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Offsets {
    by_topic: BTreeMap<String, BTreeMap<PartitionId, StoredOffset>>,
    /// Derived: how many there are, and their bytes as [`Usage`] counts them.
    #[serde(skip)]
    usage: Usage,
}

impl Offsets {
    pub fn iter(&self) -> impl Iterator<Item = (TopicPartition, &StoredOffset)> {
        self.by_topic.iter().flat_map(|(topic, partitions)| {
            let at = |partition| TopicPartition { topic: topic.clone(), partition };
            partitions.iter().map(move |(partition, committed)| (at(*partition), committed))
        })
    }

    pub fn by_topic(&self) -> &BTreeMap<String, BTreeMap<PartitionId, StoredOffset>> {
        &self.by_topic
    }

    pub fn get(&self, topic: &str, partition: PartitionId) -> Option<&StoredOffset> {
        self.by_topic.get(topic)?.get(&partition)
    }

    pub fn len(&self) -> usize {
        self.usage.offsets
    }

    pub fn is_empty(&self) -> bool {
        self.by_topic.is_empty()
    }

    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// What they would count for with this one among them.
    pub fn usage_with(&self, topic: &str, partition: PartitionId, metadata: &str) -> Usage {
        let new_topic = if self.by_topic.contains_key(topic) { 0 } else { text(topic) };
        let new = Usage::of_offsets(1, OFFSET_BYTES + metadata.len() + new_topic);
        let old = self.get(topic, partition).map(usage_of).unwrap_or_default();
        self.usage.plus(new).minus(old)
    }

    pub fn put(&mut self, topic: String, partition: PartitionId, committed: StoredOffset) {
        self.usage = self.usage_with(&topic, partition, &committed.metadata);
        self.by_topic.entry(topic).or_default().insert(partition, committed);
    }

    /// Keeps those of which `keep` says so. How many went.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, PartitionId, &StoredOffset) -> bool) -> usize {
        let before = self.len();
        for (topic, partitions) in &mut self.by_topic {
            partitions.retain(|partition, committed| keep(topic, *partition, committed));
        }
        self.by_topic.retain(|_, partitions| !partitions.is_empty());
        self.count();
        before - self.len()
    }

    /// Drops the offsets of a topic. True if there were any.
    pub fn drop_topic(&mut self, topic: &str) -> bool {
        let Some(partitions) = self.by_topic.remove(topic) else { return false };
        let gone = partitions.values().map(usage_of).fold(Usage::of_offsets(0, text(topic)), Usage::plus);
        self.usage = self.usage.minus(gone);
        true
    }

    /// Counts anew what is derived from the offsets.
    pub fn count(&mut self) {
        let topics = self.by_topic.keys().map(|topic| Usage::of_offsets(0, text(topic)));
        let each = self.by_topic.values().flat_map(BTreeMap::values).map(usage_of);
        self.usage = topics.chain(each).fold(Usage::default(), Usage::plus);
    }
}

fn usage_of(committed: &StoredOffset) -> Usage {
    Usage::of_offsets(1, OFFSET_BYTES + committed.metadata.len())
}
