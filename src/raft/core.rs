//! What the parts of a node's Raft side share.

use std::{
    collections::BTreeMap,
    sync::{Arc, RwLock},
};

use tokio_util::sync::CancellationToken;

use super::{
    CallHandler, RaftSettings, Room,
    leaders::{Heard, Leaders},
    link::Link,
    member::Member,
    seeded::Seeds,
    wire::{Announced, Hello, Kind, encode_control},
};
use crate::{
    metrics::RaftProbe,
    seam::{Clock, Net, Rng},
    storage::Store,
    types::{BrokerId, RaftGroupId, ReplicaId},
};

/// A replica that runs here.
#[derive(Clone)]
pub(super) struct Hosted {
    pub replica: ReplicaId,
    pub member: Arc<dyn Member>,
}

pub(super) struct Core {
    pub settings: RaftSettings,
    pub incarnation: u64,
    pub store: Store,
    pub net: Arc<dyn Net>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<Rng>,
    pub seeds: Arc<Seeds>,
    pub leaders: Leaders,
    pub on_call: CallHandler,
    pub probe: RaftProbe,
    pub hosted: RwLock<BTreeMap<RaftGroupId, Hosted>>,
    pub links: RwLock<BTreeMap<BrokerId, Arc<Link>>>,
    pub cluster: RwLock<Option<u128>>,
    /// On this node's disk.
    pub room: RwLock<Room>,
    /// Ends the incoming streams: their tasks outlive the listener.
    pub stopping: CancellationToken,
}

impl Core {
    pub fn cluster(&self) -> Option<u128> {
        *self.cluster.read().expect("no panic under this lock")
    }

    pub fn hosted(&self, group: RaftGroupId) -> Option<Hosted> {
        self.hosted.read().expect("no panic under this lock").get(&group).cloned()
    }

    pub fn link(&self, broker: BrokerId) -> Option<Arc<Link>> {
        self.links.read().expect("no panic under this lock").get(&broker).cloned()
    }

    pub fn links(&self) -> Vec<Arc<Link>> {
        self.links.read().expect("no panic under this lock").values().cloned().collect()
    }

    pub fn room(&self) -> Room {
        *self.room.read().expect("no panic under this lock")
    }

    /// What a broker's disk has left, as it said lately; this one's own too. None: it does not answer.
    pub fn room_of(&self, broker: BrokerId) -> Option<Room> {
        if broker == self.settings.broker {
            return Some(self.room());
        }
        self.link(broker)?.room()
    }

    /// Nodes of different clusters never talk, and an address that leads to another node than it
    /// should is refused.
    pub fn check_hello(&self, hello: &Hello, expected: Option<BrokerId>) -> Result<(), String> {
        if hello.to != self.settings.broker {
            return Err(format!("it looks for broker {}, this is {}", hello.to, self.settings.broker));
        }
        if expected.is_some_and(|peer| peer != hello.from) {
            return Err(format!("broker {} answers there", hello.from));
        }
        match (self.cluster(), hello.cluster) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                tracing::error!(peer = %hello.from, "peer belongs to another cluster: {theirs:032x}, ours is {ours:032x}");
                Err(format!("broker {} belongs to another cluster", hello.from))
            }
            _ => Ok(()),
        }
    }

    /// A round trip to the broker was made lately, or it is this one.
    pub fn alive(&self, broker: BrokerId) -> bool {
        broker == self.settings.broker || self.link(broker).is_some_and(|link| link.alive())
    }

    /// Tells everybody who leads a group (SAFETY M10).
    pub fn announce(&self, said: Announced) {
        self.hear(self.settings.broker, said);
        let body = encode_control(&[said].as_slice());
        for link in self.links() {
            link.tell(Kind::Announce, body.clone());
        }
    }

    pub fn hear(&self, from: BrokerId, said: Announced) {
        if let Heard::Contradiction(other) = self.leaders.hear(from, said) {
            tracing::error!(group = %said.group, term = %said.term, %from, other = %other.broker, "two leaders of one term");
        }
    }
}
