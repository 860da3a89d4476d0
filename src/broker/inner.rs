//! What the parts of a broker share, beside the ground that they stand on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, atomic::AtomicU64},
};

use tokio::sync::{Semaphore, watch};

use super::{
    Readiness,
    budget::Budget,
    cluster::past::Past,
    disk,
    groups::handles::GroupHandles,
    limits,
    node::{Node, Stage},
    pages::Pages,
    replica::{Ground, PartitionReplica},
    routes::Routes,
    serving::Serving,
    upkeep::clock::ClockView,
};
use crate::{
    seam::CpuTurns,
    types::{LogIndex, RaftGroupId, TopicPartition},
};

/// Shared by the faces' handle and the broker's tasks.
pub struct Inner {
    pub node: Arc<Node>,
    pub disk: Arc<disk::DiskGuard>,
    pub budget: Budget,
    pub routes: Routes,
    /// Turns of fetches that read.
    pub reads: Semaphore,
    /// Turns of look-ups by time.
    pub look_ups: Semaphore,
    /// Turns at computing for long.
    pub cpu: CpuTurns,
    /// Turns of other nodes' requests.
    pub call_turns: Semaphore,
    /// This broker's starts, and what it knows of those of others.
    pub past: Past,
    /// The directory held no Raft state and no cluster id when this process started, and still does.
    pub is_empty: watch::Sender<bool>,
    /// The last metadata entry that the data path here goes by: topics' rules, placements.
    pub layout_in_use: watch::Sender<Option<LogIndex>>,
    /// Passes over the whole layout since the start.
    pub reconciled: AtomicU64,
    /// Groups with data here that metadata does not know. Kept.
    pub orphans: Mutex<BTreeSet<RaftGroupId>>,
    /// Replicas that stopped by themselves and are not open again yet, and why.
    pub stopped: Mutex<BTreeMap<RaftGroupId, (TopicPartition, Arc<str>)>>,
    /// Producer ids of our current block, not given out yet.
    pub producer_ids: tokio::sync::Mutex<std::ops::Range<i64>>,
    /// Our wall clock beside our peers' (SAFETY M4).
    pub clock_view: watch::Sender<ClockView>,
    pub groups: GroupHandles,
    pub console: Pages,
}

/// What stands on the ground is asked as if it were part of it.
impl std::ops::Deref for Inner {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

impl Inner {
    /// For replicas that are opened.
    pub fn ground(&self) -> Ground {
        Ground { node: self.node.clone(), disk: self.disk.clone(), clock_view: self.clock_view.subscribe() }
    }

    /// A partition led here misses a replica, or has one that is far behind.
    pub fn is_under_replicated(&self, hosted: &PartitionReplica) -> bool {
        hosted.is_ready()
            && (hosted.group.voters().iter().any(|(_, broker)| !self.is_alive(*broker))
                || hosted.group.followers_behind().iter().any(|(_, entries)| *entries > limits::LAG_ENTRIES_MAX))
    }

    pub fn readiness(&self) -> Readiness {
        if let Some(failed) = &*self.failed.borrow() {
            return Readiness::NotReady(failed.to_string());
        }
        match &*self.stage.borrow() {
            Stage::Forming(why) | Stage::Joining(why) => return Readiness::NotReady(why.clone()),
            Stage::Stopping => return Readiness::NotReady("this broker is stopping".into()),
            Stage::Running => {}
        }
        match self.serving_metadata() {
            Serving::Served(_) => Readiness::Ready,
            why => Readiness::NotReady(format!("the metadata group {why}")),
        }
    }
}
