//! What every part of a node's Raft side stands on: who it is, its disk, time and chance, and what holds for all its
//! replicas and links. Names no part.

use std::{
    collections::BTreeMap,
    sync::{Arc, RwLock, atomic::AtomicBool},
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Contradiction, Room, seeded::Seeds};
use crate::{
    metrics::RaftProbe,
    seam::{Clock, Net, Rng},
    storage::Store,
    types::{BrokerId, ClusterId},
};

/// A write that takes this long: the disk may come back, but others had better lead (SAFETY M14).
const DISK_STALLED_AFTER: Duration = Duration::from_secs(2);

/// Who this node is among the others, and how its replicas elect.
#[derive(Clone, Debug)]
pub struct RaftSettings {
    pub broker: BrokerId,
    /// Checked in every hello: nodes of different clusters never talk. None until known.
    pub cluster: Option<ClusterId>,
    /// Where others can dial this node, host:port: told in every hello. Empty: not told.
    pub advertised: String,
    /// Where to dial a peer whatever anyone says, the peer itself included.
    pub peer_override: BTreeMap<BrokerId, String>,
    pub heartbeat: Duration,
    pub election_min: Duration,
    pub election_max: Duration,
    /// Applied metadata entries between two snapshots of it; a tenth of them stay in the log below one.
    pub metadata_snapshot_every: u64,
}

impl RaftSettings {
    pub const METADATA_SNAPSHOT_EVERY: u64 = 10_000;
}

pub(super) struct Ground {
    pub settings: RaftSettings,
    /// Tells this life of the node from those before it.
    pub incarnation: u64,
    pub store: Store,
    pub net: Arc<dyn Net>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<Rng>,
    pub seeds: Seeds,
    pub probe: RaftProbe,
    /// Whether replicas here may campaign, those of the metadata group apart.
    pub may_campaign: AtomicBool,
    /// The first contradiction of a committed entry.
    pub contradicted: watch::Sender<Option<Contradiction>>,
    pub cluster: watch::Sender<Option<ClusterId>>,
    /// What this node's own disk has left.
    pub room: RwLock<Room>,
    /// Ends what runs by itself: incoming streams, whose tasks outlive the listener, and transfers.
    pub stopping: CancellationToken,
}

impl Ground {
    pub fn cluster(&self) -> Option<ClusterId> {
        *self.cluster.borrow()
    }

    pub fn room(&self) -> Room {
        *self.room.read().expect("no panic under this lock")
    }

    /// Where to dial a peer of whom this address was told.
    pub fn dialled<'a>(&'a self, peer: BrokerId, told: &'a str) -> &'a str {
        self.settings.peer_override.get(&peer).map_or(told, String::as_str)
    }

    pub fn contradict(&self, found: Contradiction) {
        self.contradicted.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert(found);
            is_first
        });
    }

    /// The disk has been busy with one write for so long that this node must not lead (SAFETY M14).
    pub fn is_stalled(&self) -> bool {
        self.store.commit_running().is_some_and(|running| running >= DISK_STALLED_AFTER)
    }
}
