//! From a topic's name to what this broker knows of its partitions: rebuilt whenever metadata changes,
//! read by every request. A request resolves its topic here once, to one Raft group, so that a late
//! request cannot reach a namesake (SAFETY M11).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, RwLock, atomic::AtomicU64},
    time::Duration,
};

use tokio::{sync::watch, time::timeout};

use super::replica::PartitionReplica;
use crate::types::{LogIndex, PartitionId, RaftGroupId, TopicId, TopicPartition};

/// One topic, by partition number.
pub struct TopicRoute {
    pub id: TopicId,
    pub partitions: Vec<PartitionRoute>,
}

pub struct PartitionRoute {
    pub group: RaftGroupId,
    /// The replica that runs here. None: there is none, or it is not opened yet.
    pub hosted: Option<Arc<PartitionReplica>>,
}

pub enum Found {
    UnknownTopic,
    /// The name is this topic's, and another one was meant.
    OtherTopic(TopicId),
    UnknownPartition,
    /// The partition has no replica here; its group still tells who leads it.
    Elsewhere(RaftGroupId),
    Here(Arc<PartitionReplica>),
}

/// Every topic by its name, and every name by its topic's id.
#[derive(Default)]
struct Routes {
    topics: BTreeMap<String, TopicRoute>,
    names: BTreeMap<TopicId, String>,
}

/// Replicas of partitions on this broker. Written by who makes them what the metadata says (`cluster::reconcile`).
#[derive(Default)]
pub struct Replicas {
    routes: RwLock<Routes>,
    /// The last metadata entry that the data path here goes by: topics' rules, placements.
    layout_in_use: watch::Sender<Option<LogIndex>>,
    /// Passes over the whole layout since the start.
    pub reconciled: AtomicU64,
    /// Groups with data here that metadata does not know. Kept.
    orphans: Mutex<BTreeSet<RaftGroupId>>,
    /// Replicas that stopped by themselves and are not open again yet, and why.
    stopped: Mutex<BTreeMap<RaftGroupId, (TopicPartition, Arc<str>)>>,
}

impl Replicas {
    /// `meant`: None, whichever topic has the name.
    pub fn find(&self, topic: &str, meant: Option<TopicId>, partition: PartitionId) -> Found {
        let routes = self.routes.read().expect("no holder panics");
        let Some(route) = routes.topics.get(topic) else { return Found::UnknownTopic };
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

    pub fn id_of(&self, topic: &str) -> Option<TopicId> {
        self.routes.read().expect("no holder panics").topics.get(topic).map(|route| route.id)
    }

    pub fn name_of(&self, id: TopicId) -> Option<String> {
        self.routes.read().expect("no holder panics").names.get(&id).cloned()
    }

    /// Every replica that runs here, in order of topic and partition.
    pub fn hosted(&self) -> Vec<Arc<PartitionReplica>> {
        let routes = self.routes.read().expect("no holder panics");
        routes.topics.values().flat_map(|topic| &topic.partitions).filter_map(|route| route.hosted.clone()).collect()
    }

    pub fn replace(&self, topics: BTreeMap<String, TopicRoute>) {
        let names = topics.iter().map(|(name, route)| (route.id, name.clone())).collect();
        *self.routes.write().expect("no holder panics") = Routes { topics, names };
    }

    pub fn hosted_group(&self, group: RaftGroupId) -> Option<Arc<PartitionReplica>> {
        self.hosted().into_iter().find(|hosted| hosted.group.id() == group)
    }

    pub fn hosted_groups(&self) -> BTreeMap<RaftGroupId, Arc<PartitionReplica>> {
        self.hosted().into_iter().map(|hosted| (hosted.group.id(), hosted)).collect()
    }

    /// Those that this broker leads, and may answer for.
    pub fn led(&self) -> Vec<Arc<PartitionReplica>> {
        self.hosted().into_iter().filter(|hosted| hosted.is_ready()).collect()
    }

    /// What is here goes by the metadata up to `index`.
    pub fn goes_by(&self, index: Option<LogIndex>) {
        self.layout_in_use.send_replace(index);
    }

    /// Waits until what this broker does goes by the metadata up to `index`. False: it does not in time.
    pub async fn uses_layout(&self, index: LogIndex, within: Duration) -> bool {
        let mut in_use = self.layout_in_use.subscribe();
        let reached = in_use.wait_for(|used| used.is_some_and(|used| used >= index));
        matches!(timeout(within, reached).await, Ok(Ok(_)))
    }

    pub fn set_orphans(&self, orphans: BTreeSet<RaftGroupId>) {
        *self.orphans.lock().expect("no holder panics") = orphans;
    }

    pub fn orphan_count(&self) -> usize {
        self.orphans.lock().expect("no holder panics").len()
    }

    pub fn stopped(&self) -> MutexGuard<'_, BTreeMap<RaftGroupId, (TopicPartition, Arc<str>)>> {
        self.stopped.lock().expect("no holder panics")
    }
}
