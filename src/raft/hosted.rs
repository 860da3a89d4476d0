//! The replicas that run on this node, by group, as the transport finds them.

use std::{
    collections::BTreeMap,
    sync::{Arc, RwLock, RwLockWriteGuard, atomic::Ordering},
};

use tokio::sync::Semaphore;

use super::{ground::Ground, member::Member};
use crate::types::{METADATA_GROUP, RaftGroupId, ReplicaId};

/// Append exchanges with one replica at once: one from its leader and those that it gave up lately.
const REPLICA_EXCHANGES_MAX: usize = 64;

/// A replica that runs here.
#[derive(Clone)]
pub(super) struct Hosted {
    pub replica: ReplicaId,
    pub member: Arc<dyn Member>,
    /// Turns of append exchanges: they wait at a core that waits for its disk.
    pub exchanges: Arc<Semaphore>,
}

impl Hosted {
    pub fn new(replica: ReplicaId, member: Arc<dyn Member>) -> Hosted {
        Hosted { replica, member, exchanges: Arc::new(Semaphore::new(REPLICA_EXCHANGES_MAX)) }
    }
}

pub(super) struct HostedReplicas {
    ground: Arc<Ground>,
    hosted: RwLock<BTreeMap<RaftGroupId, Hosted>>,
}

impl HostedReplicas {
    pub fn new(ground: Arc<Ground>) -> HostedReplicas {
        HostedReplicas { ground, hosted: RwLock::default() }
    }

    pub fn get(&self, group: RaftGroupId) -> Option<Hosted> {
        self.hosted.read().expect("no panic under this lock").get(&group).cloned()
    }

    pub fn groups(&self) -> Vec<RaftGroupId> {
        self.hosted.read().expect("no panic under this lock").keys().copied().collect()
    }

    pub fn members(&self) -> Vec<Arc<dyn Member>> {
        self.hosted.read().expect("no panic under this lock").values().map(|hosted| hosted.member.clone()).collect()
    }

    /// From now on the replica gets frames. It campaigns if replicas here may.
    pub fn insert(&self, group: RaftGroupId, hosted: Hosted) {
        let mut all = self.write();
        if group != METADATA_GROUP {
            hosted.member.set_campaign(self.ground.may_campaign.load(Ordering::SeqCst));
        }
        all.insert(group, hosted);
    }

    pub fn remove(&self, group: RaftGroupId) -> Option<Hosted> {
        self.write().remove(&group)
    }

    /// Whether replicas here campaign when they hear of no leader. Those of the metadata group always do.
    pub fn set_campaign(&self, may: bool) {
        // Under the lock, so that a replica that begins meanwhile misses it neither here nor there.
        let all = self.write();
        self.ground.may_campaign.store(may, Ordering::SeqCst);
        for (_, hosted) in all.iter().filter(|(group, _)| **group != METADATA_GROUP) {
            hosted.member.set_campaign(may);
        }
    }

    pub fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<RaftGroupId, Hosted>> {
        self.hosted.write().expect("no panic under this lock")
    }
}
