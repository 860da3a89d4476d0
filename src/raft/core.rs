//! What the parts of a node's Raft side share.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, Mutex, RwLock, atomic::AtomicBool},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    CallHandler, Contradiction, RaftSettings, Room,
    leaders::{Heard, Leaders},
    link::{Link, SILENT_MAX},
    member::{Member, check_term},
    reads::ReadRoom,
    seeded::Seeds,
    wire::{Announced, Hello, Kind, encode_control},
};
use crate::{
    metrics::{FrameRefusal, RaftProbe},
    seam::{Clock, Net, Rng},
    storage::Store,
    types::{BrokerId, ClusterId, RaftGroupId, ReplicaId},
};

/// A write that takes this long: the disk may come back, but others had better lead (SAFETY M14).
const DISK_STALLED_AFTER: Duration = Duration::from_secs(2);
/// Peers that a link is kept to: as many as a cluster has brokers. Whoever says hello is one, so it is bounded.
const PEERS_MAX: usize = 1_000;
/// The longest host name and a port.
const ADDRESS_BYTES_MAX: usize = 260;

/// A replica that runs here.
#[derive(Clone)]
pub(super) struct Hosted {
    pub replica: ReplicaId,
    pub member: Arc<dyn Member>,
    /// Turns of append exchanges: they wait at a core that waits for its disk.
    pub exchanges: Arc<Semaphore>,
}

/// Append exchanges with one replica at once: one from its leader and those that it gave up lately.
const REPLICA_EXCHANGES_MAX: usize = 64;

impl Hosted {
    pub fn new(replica: ReplicaId, member: Arc<dyn Member>) -> Hosted {
        Hosted { replica, member, exchanges: Arc::new(Semaphore::new(REPLICA_EXCHANGES_MAX)) }
    }
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
    pub link_tasks: Mutex<BTreeMap<BrokerId, JoinHandle<()>>>,
    /// When a peer's own link last brought a ping here.
    pub inbound: Mutex<BTreeMap<BrokerId, Instant>>,
    /// Peers that said that they belong to another cluster, and to which.
    pub foreign: Mutex<BTreeMap<BrokerId, ClusterId>>,
    /// Whether replicas here may campaign, those of the metadata group apart.
    pub may_campaign: AtomicBool,
    /// The first contradiction of a committed entry.
    pub contradicted: watch::Sender<Option<Contradiction>>,
    pub cluster: watch::Sender<Option<ClusterId>>,
    /// On this node's disk.
    pub room: RwLock<Room>,
    /// Bytes of appends and snapshots that peers sent and no replica has answered yet.
    pub incoming: Arc<Semaphore>,
    /// Memory for entries that are read for followers.
    pub reads: Arc<ReadRoom>,
    /// Ends the incoming streams: their tasks outlive the listener.
    pub stopping: CancellationToken,
}

impl Core {
    pub fn cluster(&self) -> Option<ClusterId> {
        *self.cluster.borrow()
    }

    pub fn hosted(&self, group: RaftGroupId) -> Option<Hosted> {
        self.hosted.read().expect("no panic under this lock").get(&group).cloned()
    }

    pub fn members(&self) -> Vec<Arc<dyn Member>> {
        self.hosted.read().expect("no panic under this lock").values().map(|hosted| hosted.member.clone()).collect()
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
        let mut foreign = self.foreign.lock().expect("no panic under this lock");
        match (self.cluster(), hello.cluster) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                // Once: it comes back twice a second.
                if foreign.insert(hello.from, theirs) != Some(theirs) {
                    tracing::error!(peer = %hello.from, "peer belongs to another cluster: {theirs}, ours is {ours}");
                }
                Err(format!("broker {} belongs to cluster {theirs}, broker {} to {ours}", hello.from, hello.to))
            }
            _ => {
                foreign.remove(&hello.from);
                Ok(())
            }
        }
    }

    pub fn hello_to(&self, peer: BrokerId) -> Hello {
        Hello {
            cluster: self.cluster(),
            from: self.settings.broker,
            to: peer,
            incarnation: self.incarnation,
            address: self.settings.advertised.clone(),
        }
    }

    /// Takes the address that a peer says of itself: after a move it is the one that works.
    pub fn learn(self: &Arc<Self>, hello: &Hello) {
        if !hello.address.is_empty() && hello.address.len() <= ADDRESS_BYTES_MAX {
            self.set_peer(hello.from, &hello.address);
        }
    }

    /// One more address where a peer may be; a link to it is kept from then on.
    pub fn set_peer(self: &Arc<Self>, broker: BrokerId, address: &str) {
        if broker == self.settings.broker || self.stopping.is_cancelled() {
            return;
        }
        let address = self.settings.peer_override.get(&broker).map_or(address, String::as_str);
        let link = {
            let mut links = self.links.write().expect("no panic under this lock");
            if links.len() >= PEERS_MAX && !links.contains_key(&broker) {
                return;
            }
            links.entry(broker).or_insert_with(|| Link::new(broker)).clone()
        };
        link.offer(address);
        if let Entry::Vacant(task) = self.link_tasks.lock().expect("no panic under this lock").entry(broker) {
            task.insert(tokio::spawn(link.run(self.clone())));
        }
    }

    /// The peer's own link is up: it pings here.
    pub fn heard_from(&self, peer: BrokerId) {
        self.inbound.lock().expect("no panic under this lock").insert(peer, Instant::now());
    }

    pub fn hears(&self, peer: BrokerId) -> bool {
        let inbound = self.inbound.lock().expect("no panic under this lock");
        inbound.get(&peer).is_some_and(|at| at.elapsed() < SILENT_MAX)
    }

    pub fn contradict(&self, found: Contradiction) {
        self.contradicted.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert(found);
            is_first
        });
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

    /// What a peer says of itself. Believed only as far as it can be (SAFETY M10, M12): a leader of a
    /// group that runs here is one of its members, and no term leaps.
    pub fn hear_peer(&self, from: BrokerId, said: Announced) {
        let member = self.hosted(said.group).map(|hosted| hosted.member);
        let known = self.leaders.of(said.group).map(|leader| leader.term.0);
        let term = member.as_ref().map(|member| member.term()).max(known);
        let is_member = member.is_none_or(|member| member.has_member(said.replica, from) != Some(false));
        if !is_member || check_term(said.term.0, term.unwrap_or_default()).is_err() {
            self.probe.frame_refused(FrameRefusal::Announcement);
            tracing::warn!(group = %said.group, term = %said.term, replica = %said.replica, %from, "announcement refused");
            return;
        }
        self.hear(from, said);
    }

    fn hear(&self, from: BrokerId, said: Announced) {
        if let Heard::Contradiction(other) = self.leaders.hear(from, said) {
            tracing::error!(group = %said.group, term = %said.term, %from, other = %other.broker, "two leaders of one term");
        }
    }

    /// A peer stops: it is dead from now on, and whom it leads need another leader (SAFETY M13).
    pub fn hear_goodbye(&self, from: BrokerId) {
        tracing::info!(peer = %from, "peer says goodbye");
        if let Some(link) = self.link(from) {
            link.has_left();
        }
        for member in self.members() {
            member.leader_left(from);
        }
    }

    /// The disk has been busy with one write for so long that this node must not lead (SAFETY M14).
    pub fn is_stalled(&self) -> bool {
        self.store.commit_running().is_some_and(|running| running >= DISK_STALLED_AFTER)
    }
}
