//! What the load knows: what it asked for and what it was answered, for the checkers and for who decides about faults.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    future::Future,
    rc::Rc,
    time::Duration,
};

use flotilla::{
    broker::{Broker, Caller, Readiness},
    seam::Rng,
    types::{ProducerId, RaftGroupId, TopicId},
};
use tokio::time::{Instant, sleep, timeout};

use super::{
    classic::Generations,
    commits::Commits,
    schedule::Plan,
    watch::{Witness, committed},
};
use crate::{checker::History, node::Node};

/// The topic that stays.
pub const TOPIC: &str = "orders";

/// Longer than any failover: what is not true by then, with everything healed, is not coming.
pub const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    #[default]
    Forming,
    /// Load and faults.
    Running,
    /// Everything is healed: what was begun is finished, and nothing new is begun.
    Draining,
}

/// One partition of one life of a topic. Histories know it by its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub key: i32,
    pub topic: String,
    pub id: TopicId,
    pub partition: i32,
    pub group: RaftGroupId,
}

#[derive(Default)]
pub struct Known {
    pub phase: Phase,
    /// Since when the load runs.
    pub running_ms: u64,
    pub history: History,
    /// What readers were given during the run, by partition and offset.
    pub given: BTreeMap<(i32, i64), u64>,
    /// Partitions that are there as far as is known.
    pub places: BTreeMap<i32, Place>,
    pub commits: Commits,
    pub generations: Generations,
    /// Where trims were asked to begin, by partition: the farthest that was tried, and that was acknowledged.
    pub trims: BTreeMap<i32, (i64, i64)>,
    /// How many partitions were learned of: each has a number of its own.
    pub passed: i32,
    /// Topics that somebody asked to delete.
    pub unwanted: BTreeSet<TopicId>,
    /// Topics whose deletion was acknowledged.
    pub deleted: BTreeSet<TopicId>,
    pub producer_ids: BTreeSet<ProducerId>,
    /// What was seen and must not be.
    pub wrong: Vec<String>,
    /// What succeeded, for the report.
    pub counts: BTreeMap<&'static str, u64>,
    pub outstanding: usize,
}

/// The client host's side of one run. Tasks of it share this.
pub struct Load {
    pub plan: Plan,
    pub nodes: Vec<Rc<Node>>,
    pub rng: Rng,
    pub witness: Witness,
    pub known: RefCell<Known>,
    /// Counts what begins and ends, in the order in which it does.
    pub moments: Cell<u64>,
    /// The number of the group that commits on behalf of nobody.
    pub alone: Cell<u64>,
}

impl Load {
    pub fn node(&self, id: u64) -> &Node {
        &self.nodes[id as usize - 1]
    }

    pub fn any_node(&self) -> u64 {
        1 + self.rng.below(self.plan.nodes)
    }

    pub fn note(&self, what: std::fmt::Arguments) {
        self.nodes[0].trace.note("load", what);
    }

    pub fn count(&self, what: &'static str) {
        *self.known.borrow_mut().counts.entry(what).or_default() += 1;
    }

    pub fn wrong(&self, what: String) {
        self.note(format_args!("WRONG: {what}"));
        self.known.borrow_mut().wrong.push(what);
    }

    pub fn moment(&self) -> u64 {
        self.moments.set(self.moments.get() + 1);
        self.moments.get()
    }

    pub fn is_running(&self) -> bool {
        self.known.borrow().phase == Phase::Running
    }

    pub fn places(&self) -> Vec<Place> {
        self.known.borrow().places.values().cloned().collect()
    }

    /// Asks a node, which may be down (None). That a node that lives never answers is wrong.
    pub async fn ask<T, F, Fut>(&self, at: u64, what: &str, job: F) -> Option<T>
    where
        T: Send + 'static,
        F: FnOnce(Broker) -> Fut + 'static,
        Fut: Future<Output = T> + Send + 'static,
    {
        match timeout(PATIENCE, self.node(at).face.ask(job)).await {
            Ok(answer) => answer,
            Err(_) => {
                self.wrong(format!("n{at} lives and does not answer {what} within {PATIENCE:?}"));
                None
            }
        }
    }

    /// A pause of up to so long, as users make them.
    pub async fn pause(&self, max_ms: u64) {
        sleep(Duration::from_millis(1 + self.rng.below(max_ms))).await;
    }

    /// Every node up, and part of the cluster.
    pub async fn all_ready(&self) -> bool {
        let mut all = true;
        for node in &self.nodes {
            let ready = || async {
                let answer = node.face.ask(|broker| async move { broker.readiness() }).await;
                answer == Some(Readiness::Ready)
            };
            all &= self.until(&format!("n{} is ready", node.id), ready).await;
            let healthy = || async {
                let report = node.face.ask(|broker| async move { broker.health(&Caller::ANONYMOUS).await }).await;
                report.is_some_and(|report| report.healthy)
            };
            all &= self.until(&format!("n{} finds the cluster healthy", node.id), healthy).await;
        }
        all
    }

    /// All replicas have committed what was acknowledged of the group.
    pub async fn all_have(&self, group: RaftGroupId, index: u64) {
        let what = format!("every replica of group {group} has committed index {index}");
        let have = || async {
            let committed = committed(&self.nodes, group);
            committed.len() >= super::watch::REPLICAS && committed.values().all(|at| *at >= index)
        };
        self.until(&what, have).await;
    }

    /// Waits for a condition; if it does not come, that is wrong, and said.
    pub async fn until<F: Future<Output = bool>>(&self, what: &str, mut condition: impl FnMut() -> F) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while !condition().await {
            if Instant::now() >= deadline {
                self.wrong(format!("not within {PATIENCE:?}: {what}"));
                return false;
            }
            sleep(Duration::from_millis(100)).await;
        }
        true
    }
}
