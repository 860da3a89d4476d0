//! Words that groups share with the broker above.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::types::PartitionId;

/// Partitions by topic, sorted, each once.
pub type PartitionSet = BTreeMap<String, Vec<PartitionId>>;

/// How many partitions a topic has; None: there is no such topic.
pub type PartitionCounts<'a> = &'a dyn Fn(&str) -> Option<i32>;

/// How the coordinator deals out partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Assignor {
    /// Changes as little as possible, then evens out.
    #[default]
    Sticky,
    /// Each topic is dealt by itself, in ranges of its partitions.
    Range,
    /// One by one over all topics.
    RoundRobin,
}

/// What a member with assignment on the server wants to read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    pub topics: Vec<String>,
    /// A regular expression for whole topic names.
    pub pattern: Option<String>,
    pub assignor: Assignor,
}

impl Subscription {
    /// Topics sorted, each once: how groups keep it and compare it.
    pub fn normal(&self) -> Subscription {
        let mut normal = self.clone();
        normal.topics.sort_unstable();
        normal.topics.dedup();
        normal
    }
}

/// How far a group is with dealing out its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupPhase {
    /// The group has no members.
    Empty,
    Stable,
    /// Members with assignment on the server have yet to let go of something.
    Rebalancing,
    /// Kafka's PreparingRebalance: classic members join.
    Joining,
    /// Kafka's CompletingRebalance: the group leader of classic members assigns.
    Syncing,
}
