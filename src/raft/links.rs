//! The links of a node to all others: made when an address is named, kept until the node stops.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, Mutex, RwLock},
};

use tokio::{task::JoinHandle, time::Instant};

use super::{
    Room,
    greeter::told_address,
    link::{Link, LinkDeps, SILENT_MAX},
    wire::{Announced, Hello, Kind, encode_control},
};
use crate::types::BrokerId;

/// Peers that a link is kept to: as many as a cluster has brokers. Whoever says hello is one, so it is bounded.
const PEERS_MAX: usize = 1_000;

pub(super) struct Links {
    deps: LinkDeps,
    links: RwLock<BTreeMap<BrokerId, Arc<Link>>>,
    tasks: Mutex<BTreeMap<BrokerId, JoinHandle<()>>>,
    /// When a peer's own link last brought a ping here.
    inbound: Mutex<BTreeMap<BrokerId, Instant>>,
}

impl Links {
    pub fn new(deps: LinkDeps) -> Links {
        Links { deps, links: RwLock::default(), tasks: Mutex::default(), inbound: Mutex::default() }
    }

    pub fn link(&self, broker: BrokerId) -> Option<Arc<Link>> {
        self.links.read().expect("no panic under this lock").get(&broker).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Link>> {
        self.links.read().expect("no panic under this lock").values().cloned().collect()
    }

    /// All nodes that a link is kept to.
    pub fn peers(&self) -> Vec<BrokerId> {
        self.links.read().expect("no panic under this lock").keys().copied().collect()
    }

    /// Takes the address that a peer says of itself.
    pub fn learn(&self, hello: &Hello) {
        if let Some(address) = told_address(hello) {
            self.set_peer(hello.from, address);
        }
    }

    /// One more address where a peer may be; a link to it is kept from then on.
    pub fn set_peer(&self, broker: BrokerId, address: &str) {
        let ground = &self.deps.ground;
        if broker == ground.settings.broker || ground.stopping.is_cancelled() {
            return;
        }
        let link = {
            let mut links = self.links.write().expect("no panic under this lock");
            if links.len() >= PEERS_MAX && !links.contains_key(&broker) {
                return;
            }
            links.entry(broker).or_insert_with(|| Link::new(broker)).clone()
        };
        link.offer(ground.dialled(broker, address));
        if let Entry::Vacant(task) = self.tasks.lock().expect("no panic under this lock").entry(broker) {
            task.insert(tokio::spawn(link.run(self.deps.clone())));
        }
    }

    /// What a broker's disk has left, as it said lately; this one's own too. None: it does not answer.
    pub fn room_of(&self, broker: BrokerId) -> Option<Room> {
        if broker == self.deps.ground.settings.broker {
            return Some(self.deps.ground.room());
        }
        self.link(broker)?.room()
    }

    /// The peer's own link is up: it pings here.
    pub fn heard_from(&self, peer: BrokerId) {
        self.inbound.lock().expect("no panic under this lock").insert(peer, Instant::now());
    }

    /// The peer's own link to this node is up, whether or not ours to it is.
    pub fn hears(&self, peer: BrokerId) -> bool {
        let inbound = self.inbound.lock().expect("no panic under this lock");
        inbound.get(&peer).is_some_and(|at| at.elapsed() < SILENT_MAX)
    }

    /// A round trip to the broker was made lately, or it is this one.
    pub fn alive(&self, broker: BrokerId) -> bool {
        broker == self.deps.ground.settings.broker || self.link(broker).is_some_and(|link| link.alive())
    }

    /// Tells everybody who leads a group (SAFETY M10).
    pub fn announce(&self, said: Announced) {
        self.deps.leaders.hear_or_warn(self.deps.ground.settings.broker, said);
        let body = encode_control(&[said].as_slice());
        for link in self.all() {
            link.tell(Kind::Announce, body.clone());
        }
    }

    /// Ends the tasks of all links.
    pub fn abort(&self) {
        for task in std::mem::take(&mut *self.tasks.lock().expect("no panic under this lock")).into_values() {
            task.abort();
        }
    }
}
