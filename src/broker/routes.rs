//! From a topic's name to what this broker knows of its partitions: rebuilt whenever metadata changes,
//! read by every request. A request resolves its topic here once, to one Raft group, so that a late
//! request cannot reach a namesake (SAFETY M11).

use std::{
    collections::BTreeMap,
    sync::{Arc, RwLock},
};

use super::replica::PartitionReplica;
use crate::types::{PartitionId, RaftGroupId, TopicId};

/// One topic, by partition number.
pub struct TopicRoute {
    pub id: TopicId,
    pub partitions: Vec<PartitionRoute>,
}

pub struct PartitionRoute {
    pub group: RaftGroupId,
    /// None: no replica here, or not opened yet.
    pub hosted: Option<Arc<PartitionReplica>>,
}

pub enum Found {
    UnknownTopic,
    /// The name is this topic's, and another one was meant.
    OtherTopic(TopicId),
    UnknownPartition,
    /// Not here; the group still tells who leads.
    Elsewhere(RaftGroupId),
    Here(Arc<PartitionReplica>),
}

#[derive(Default)]
pub struct Routes(RwLock<BTreeMap<String, TopicRoute>>);

impl Routes {
    /// `meant`: None, whichever topic has the name.
    pub fn find(&self, topic: &str, meant: Option<TopicId>, partition: PartitionId) -> Found {
        let topics = self.0.read().expect("no holder panics");
        let Some(route) = topics.get(topic) else { return Found::UnknownTopic };
        if meant.is_some_and(|meant| meant != route.id) {
            return Found::OtherTopic(route.id);
        }
        let Some(found) = usize::try_from(partition.0).ok().and_then(|i| route.partitions.get(i)) else {
            return Found::UnknownPartition;
        };
        match &found.hosted {
            Some(hosted) => Found::Here(Arc::clone(hosted)),
            None => Found::Elsewhere(found.group),
        }
    }

    /// Every replica that runs here, in order of topic and partition.
    pub fn hosted(&self) -> Vec<Arc<PartitionReplica>> {
        let topics = self.0.read().expect("no holder panics");
        topics.values().flat_map(|topic| &topic.partitions).filter_map(|route| route.hosted.clone()).collect()
    }

    pub fn replace(&self, topics: BTreeMap<String, TopicRoute>) {
        *self.0.write().expect("no holder panics") = topics;
    }
}
