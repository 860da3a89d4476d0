//! Which groups take writes, as far as this broker sees: a leader that was announced may be dead by now, and a
//! leader without a majority leads nobody (SAFETY M7).
//!
//! Leaves out: finding the real leader elsewhere, which announcements do.

use std::fmt;

use super::{
    node::{Node, Stage},
    requests::{LeaderNow, Readiness},
};
use crate::{
    raft::{Leader, Replica},
    replicated::Replicated,
    types::{BrokerId, RaftGroupId},
};

/// What stands behind the leader that was announced last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// It answers, and if it is this broker, a majority answers it.
    Served(Leader),
    Unknown,
    Silent(BrokerId),
    /// This broker leads, and no majority answers it.
    NoMajority,
}

impl Serving {
    pub fn is_served(self) -> bool {
        self.leader().is_some()
    }

    /// Who takes writes now. Whom to ask nevertheless, the cluster view says.
    pub fn leader(self) -> Option<LeaderNow> {
        match self {
            Serving::Served(leader) => Some(LeaderNow { broker: leader.broker, epoch: leader.term.epoch() }),
            Serving::Unknown | Serving::Silent(_) | Serving::NoMajority => None,
        }
    }
}

/// What is wrong, after the words "the group".
impl fmt::Display for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Serving::Served(leader) => write!(f, "is led by broker {}", leader.broker),
            Serving::Unknown => write!(f, "has no known leader"),
            Serving::Silent(broker) => write!(f, "has no live leader: broker {broker} does not answer"),
            Serving::NoMajority => write!(f, "is led from here, and no majority of its replicas answers"),
        }
    }
}

impl Node {
    /// Whether a group with a replica here is served.
    pub fn serving<S: Replicated>(&self, group: &Replica<S>) -> Serving {
        match self.serving_elsewhere(group.id()) {
            Serving::Served(leader) if leader.broker == self.me() => {
                let leads = group.status().borrow().leads;
                match (leads, group.leads_with_majority()) {
                    (true, true) => Serving::Served(leader),
                    (true, false) => Serving::NoMajority,
                    (false, _) => Serving::Unknown,
                }
            }
            elsewhere => elsewhere,
        }
    }

    /// Whether a group without a replica here is served, by what was announced.
    pub fn serving_elsewhere(&self, group: RaftGroupId) -> Serving {
        match self.raft.leader_of(group) {
            None => Serving::Unknown,
            Some(leader) if self.is_alive(leader.broker) => Serving::Served(leader),
            Some(leader) => Serving::Silent(leader.broker),
        }
    }

    pub fn serving_metadata(&self) -> Serving {
        self.metadata().map_or(Serving::Unknown, |metadata| self.serving(&metadata))
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
