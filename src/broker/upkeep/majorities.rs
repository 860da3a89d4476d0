//! Which groups with a replica here take no writes (SAFETY M7), and says so when that changes.

use std::{collections::BTreeSet, sync::Arc};

use tokio::time::sleep;

use crate::{
    broker::{inner::Inner, limits, node::Node, serving::Serving},
    raft::Replica,
    replicated::Replicated,
    types::{BrokerId, RaftGroupId},
};

/// Groups with a replica here that take no writes, the metadata group among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unserved {
    pub groups: BTreeSet<RaftGroupId>,
    /// How many of them this broker leads.
    pub without_majority: usize,
}

impl Unserved {
    fn count<S: Replicated>(&mut self, node: &Node, group: &Replica<S>) {
        let serving = node.serving(group);
        if !serving.is_served() {
            self.groups.insert(group.id());
        }
        self.without_majority += usize::from(serving == Serving::NoMajority);
    }
}

impl Inner {
    pub fn unserved(&self) -> Unserved {
        let mut unserved = Unserved::default();
        if let Some(metadata) = self.metadata() {
            unserved.count(self, &metadata);
        }
        for hosted in self.routes.hosted() {
            unserved.count(self, &hosted.group);
        }
        unserved
    }

    fn silent_brokers(&self) -> Vec<BrokerId> {
        let brokers: Vec<BrokerId> =
            self.metadata().map_or(Vec::new(), |m| m.read(|state| state.brokers().map(|broker| broker.id).collect()));
        brokers.into_iter().filter(|broker| !self.is_alive(*broker)).collect()
    }
}

/// Says when groups led from here lose their majority, and when they have it again.
pub async fn run(inner: Arc<Inner>) {
    let mut last = 0;
    loop {
        sleep(limits::MAJORITY_CHECK_EVERY).await;
        if inner.is_stopping() {
            return;
        }
        let now = inner.unserved().without_majority;
        match (last, now) {
            (0, 1..) => {
                let silent = inner.silent_brokers();
                tracing::warn!(groups = now, ?silent, "no majority answers groups led from here: they take no writes");
            }
            (1.., 0) => tracing::info!(groups = last, "majorities answer again"),
            (0, 0) | (1.., 1..) => {}
        }
        last = now;
    }
}
