//! Which groups with a replica here take no writes (SAFETY M7), and says so when that changes.

use std::{collections::BTreeSet, sync::Arc};

use tokio::time::sleep;

use crate::{
    broker::{limits, node::Node, replicas::Replicas, serving::Serving},
    raft::Replica,
    replicated::Replicated,
    types::RaftGroupId,
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

    /// What this broker sees now.
    pub fn look(node: &Node, replicas: &Replicas) -> Unserved {
        let mut unserved = Unserved::default();
        if let Some(metadata) = node.metadata() {
            unserved.count(node, &metadata);
        }
        for hosted in replicas.hosted() {
            unserved.count(node, &hosted.group);
        }
        unserved
    }
}

/// Says when groups led from here lose their majority, and when they have it again.
pub async fn run(node: Arc<Node>, replicas: Arc<Replicas>) {
    let mut last = 0;
    loop {
        sleep(limits::MAJORITY_CHECK_EVERY).await;
        if node.is_stopping() {
            return;
        }
        let now = Unserved::look(&node, &replicas).without_majority;
        match (last, now) {
            (0, 1..) => {
                let silent = node.dead_brokers();
                tracing::warn!(groups = now, ?silent, "no majority answers groups led from here: they take no writes");
            }
            (1.., 0) => tracing::info!(groups = last, "majorities answer again"),
            (0, 0) | (1.., 1..) => {}
        }
        last = now;
    }
}
