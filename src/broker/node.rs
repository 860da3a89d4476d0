//! What every part of a broker stands on: who it is, its disk, consensus, time and chance, and how far it has come.
//! Names no part.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::watch;

use super::{awake::Awake, errors::BrokerFailed, requests::LeaderNow, tasks::Tasks};
use crate::{
    config::{Peer, founders, peers_hash, peers_text},
    metadata::{Metadata, RegisterBroker},
    metrics::{IntakeProbe, RequestProbe},
    partition::Partition,
    raft::{RaftNode, RaftSettings, Replica},
    seam::{Clock, Rng},
    storage::{Identity, Store, StoreError},
    types::{BrokerId, ClusterId, RaftGroupId, StorageId},
};

/// What an operator may set about groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// How long the offsets of a group without members are kept.
    pub offsets_retention: Duration,
    /// How long the first round of a classic group waits for more members after each that came.
    pub initial_rebalance_delay: Duration,
}

/// Who this broker is and how it behaves.
#[derive(Clone, Debug)]
pub struct BrokerSettings {
    pub broker: BrokerId,
    /// The seed list, this broker included.
    pub peers: Vec<Peer>,
    /// It may found a cluster of one if its list names no other.
    pub single: bool,
    /// Where to dial a peer instead of its address.
    pub peer_override: BTreeMap<BrokerId, String>,
    /// The address that clients are told, host:port.
    pub client_address: String,
    pub peer_address: String,
    pub http_address: String,
    /// The address that Kafka clients are told, host:port. Empty: there is no listener for them.
    pub kafka_address: String,
    pub rack: Option<String>,
    pub heartbeat: Duration,
    pub election_min: Duration,
    pub election_max: Duration,
    /// Bytes of batches that wait for their answer, and of those on their way to readers: of all faces together.
    pub produce_bytes_max: usize,
    pub fetch_bytes_max: usize,
    pub disk_reserve_bytes: u64,
    pub groups: GroupSettings,
    /// A wait for other brokers that lasts so long becomes a warning.
    pub warn_after: Duration,
    /// The highest feature level that it supports: [`FEATURE_LEVEL`](crate::formats::FEATURE_LEVEL), and less only in
    /// tests of clusters whose brokers are of different versions.
    pub feature_level: u32,
    /// Applied metadata entries between two snapshots of it: fewer than [`BrokerSettings::METADATA_SNAPSHOT_EVERY`] only
    /// in tests, which would not come to one.
    pub metadata_snapshot_every: u64,
}

impl BrokerSettings {
    /// A wait that takes this long is a warning: somebody should look.
    pub const WARN_AFTER: Duration = Duration::from_secs(30);
    pub const METADATA_SNAPSHOT_EVERY: u64 = RaftSettings::METADATA_SNAPSHOT_EVERY;
}

/// Held by every part; holds none.
pub struct Node {
    pub settings: BrokerSettings,
    pub store: Store,
    pub raft: RaftNode,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<Rng>,
    pub awake: Awake,
    pub probe: RequestProbe,
    pub intake: IntakeProbe,
    /// Set once the metadata group runs here.
    pub metadata: watch::Sender<Option<Replica<Metadata>>>,
    pub identity: Mutex<Identity>,
    pub stage: watch::Sender<Stage>,
    pub failed: watch::Sender<Option<BrokerFailed>>,
    pub tasks: Tasks,
}

/// How far the broker has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The broker is not part of a cluster yet, for the reason given.
    Forming(String),
    /// The metadata group runs here or is asked for; registration is not confirmed; why.
    Joining(String),
    Running,
    Stopping,
}

impl Node {
    pub fn me(&self) -> BrokerId {
        self.settings.broker
    }

    pub fn fail(&self, failed: BrokerFailed) {
        tracing::error!(%failed, "the broker stops");
        self.failed.send_if_modified(|now| {
            let first = now.is_none();
            now.get_or_insert(failed);
            first
        });
    }

    /// The metadata group, if it runs here.
    pub fn metadata(&self) -> Option<Replica<Metadata>> {
        self.metadata.borrow().clone()
    }

    pub fn founders(&self) -> Vec<BrokerId> {
        founders(&self.settings.peers)
    }

    pub fn peers_hash(&self) -> u64 {
        peers_hash(&self.settings.peers)
    }

    /// Other brokers of the seed list.
    pub fn other_peers(&self) -> impl Iterator<Item = &Peer> {
        self.settings.peers.iter().filter(|peer| peer.id != self.me())
    }

    /// The list of peers as the configuration has it, in the order of ids.
    pub fn peers_text(&self) -> String {
        peers_text(&self.settings.peers)
    }

    pub fn set_seed_peers(&self) {
        for peer in self.other_peers() {
            self.raft.set_peer(peer.id, peer.address.clone());
        }
    }

    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.identity.lock().expect("no holder panics").cluster_id
    }

    pub fn storage_id(&self) -> StorageId {
        self.identity.lock().expect("no holder panics").storage_id
    }

    /// What this broker says of itself to be registered.
    pub fn card(&self) -> RegisterBroker {
        let settings = &self.settings;
        RegisterBroker {
            id: self.me(),
            storage_id: self.storage_id(),
            client_address: settings.client_address.clone(),
            peer_address: settings.peer_address.clone(),
            http_address: settings.http_address.clone(),
            rack: settings.rack.clone(),
            version: env!("CARGO_PKG_VERSION").to_string(),
        }
    }

    /// As [`Node::leader_now`], unless it would name this broker, which knows better.
    pub fn hint_elsewhere(&self, group: &Replica<Partition>) -> Option<LeaderNow> {
        let leads = group.status().borrow().leads;
        self.leader_now(group.id()).filter(|hint| leads || hint.broker != self.me())
    }

    pub fn is_alive(&self, broker: BrokerId) -> bool {
        broker == self.me() || self.raft.peer_alive(broker)
    }

    /// Registered, and not alive as this broker sees it.
    pub fn dead_brokers(&self) -> Vec<BrokerId> {
        let Some(metadata) = self.metadata() else { return Vec::new() };
        let brokers: Vec<BrokerId> = metadata.read(|state| state.brokers().map(|broker| broker.id).collect());
        brokers.into_iter().filter(|broker| !self.is_alive(*broker)).collect()
    }

    /// Who was announced last, for clients to ask: it may be dead by now, and they find out.
    pub fn leader_now(&self, group: RaftGroupId) -> Option<LeaderNow> {
        let leader = self.raft.leader_of(group)?;
        Some(LeaderNow { broker: leader.broker, epoch: leader.term.epoch() })
    }

    /// Who is to be asked about partitions: those whose leader is known.
    pub fn by_leader(&self, groups: &[RaftGroupId]) -> BTreeMap<BrokerId, Vec<RaftGroupId>> {
        let mut by_leader: BTreeMap<BrokerId, Vec<RaftGroupId>> = BTreeMap::new();
        for group in groups {
            if let Some(leader) = self.raft.leader_of(*group) {
                by_leader.entry(leader.broker).or_default().push(*group);
            }
        }
        by_leader
    }

    pub fn is_stopping(&self) -> bool {
        *self.stage.borrow() == Stage::Stopping
    }
}

pub fn storage_failed(error: StoreError) -> BrokerFailed {
    BrokerFailed::Storage { detail: error.to_string() }
}
