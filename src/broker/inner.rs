//! What all parts of a broker share, and how it starts.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, Weak, atomic::AtomicU64},
    time::Duration,
};

use tokio::sync::{Semaphore, watch};

use super::{
    Broker, BrokerFailed, LeaderHint, Readiness,
    budget::Budget,
    cluster::{
        forming, neighbours, reconcile,
        setback::{self, Past},
    },
    console, disk,
    groups::{self, GroupHandles, GroupSettings},
    limits,
    peers::calls,
    replica::Hosted,
    routes::Routes,
    serving::{self, Serving},
    upkeep::{clock::ClockView, retention, stall},
};
use crate::{
    config::{Peer, founders, peers_hash, peers_text},
    metadata::{Metadata, RegisterBroker},
    metrics::{IntakeProbe, Metrics, RequestProbe},
    partition::Partition,
    raft::{Group, NodeDeps, RaftNode, RaftSettings},
    seam::{Clock, CpuTurns, Listener, Net, Rng},
    storage::{Identity, Store, StoreError},
    types::{BrokerId, LogIndex, METADATA_GROUP, RaftGroupId, ReplicaId, TopicPartition},
};

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
    /// Advertised addresses, host:port.
    pub client_address: String,
    pub peer_address: String,
    pub http_address: String,
    pub rack: Option<String>,
    pub heartbeat: Duration,
    pub election_min: Duration,
    pub election_max: Duration,
    pub produce_bytes_max: usize,
    pub disk_reserve_bytes: u64,
    pub groups: GroupSettings,
    /// A wait for other brokers that lasts so long becomes a warning.
    pub warn_after: Duration,
}

impl BrokerSettings {
    /// After this long somebody should look.
    pub const WARN_AFTER: Duration = Duration::from_secs(30);
}

/// Everything a broker is made of.
pub struct BrokerDeps {
    pub settings: BrokerSettings,
    pub store: Store,
    pub net: Arc<dyn Net>,
    /// The bound listener for other nodes.
    pub peer_listener: Box<dyn Listener>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<Rng>,
    pub metrics: Metrics,
    pub free_bytes: disk::FreeBytes,
}

impl BrokerDeps {
    /// The free space of a directory on a real disk.
    pub fn free_bytes_of(directory: PathBuf) -> disk::FreeBytes {
        disk::free_bytes_of(directory)
    }
}

/// Shared by the faces' handle and the broker's tasks.
pub struct Inner {
    pub settings: BrokerSettings,
    pub store: Store,
    pub raft: RaftNode,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<Rng>,
    pub probe: RequestProbe,
    pub intake: IntakeProbe,
    pub disk: disk::DiskGuard,
    pub budget: Budget,
    pub routes: Routes,
    /// Turns of fetches that read.
    pub reads: Semaphore,
    /// Turns of look-ups by time.
    pub look_ups: Semaphore,
    /// Turns at computing for long.
    pub cpu: CpuTurns,
    /// Turns of other nodes' requests.
    pub call_turns: Semaphore,
    /// Set once the metadata group runs here.
    pub metadata: watch::Sender<Option<Group<Metadata>>>,
    pub identity: Mutex<Identity>,
    /// This broker's starts, and what it knows of those of others.
    pub past: Past,
    /// The directory held no Raft state and no cluster id when this process started, and still does.
    pub is_empty: watch::Sender<bool>,
    pub stage: watch::Sender<Stage>,
    pub failed: watch::Sender<Option<BrokerFailed>>,
    /// The last metadata entry that the data path here goes by: topics' rules, placements.
    pub layout_in_use: watch::Sender<Option<LogIndex>>,
    /// Passes over the whole layout since the start.
    pub reconciled: AtomicU64,
    /// Groups with data here that metadata does not know. Kept.
    pub orphans: Mutex<BTreeSet<RaftGroupId>>,
    /// Replicas that stopped by themselves and are not open again yet, and why.
    pub stopped: Mutex<BTreeMap<RaftGroupId, (TopicPartition, Arc<str>)>>,
    /// Producer ids of our current block, not given out yet.
    pub producer_ids: tokio::sync::Mutex<std::ops::Range<i64>>,
    /// Our wall clock beside our peers' (SAFETY M4).
    pub clock_view: watch::Sender<ClockView>,
    pub groups: GroupHandles,
    pub console: console::Shared,
}

/// How far the broker has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Not part of a cluster yet; why.
    Forming(String),
    /// The metadata group runs here or is asked for; registration is not confirmed; why.
    Joining(String),
    Running,
    Stopping,
}

impl Broker {
    /// Starts everything and returns at once; the cluster forms, or is joined, in the background.
    /// `readiness` says when, `failed` when it must not.
    pub async fn start(deps: BrokerDeps) -> Result<Broker, BrokerFailed> {
        let BrokerDeps { settings, store, net, peer_listener, clock, rng, metrics, free_bytes } = deps;
        check(&settings)?;
        let identity = identify(&store, &settings, &rng).await?;
        let groups = store.groups().await.map_err(storage_failed)?;
        // Before anybody hears of this process.
        let past = Past::begin(&store, rng.u128(), identity.cluster_id.is_some()).await?;
        let slot: Arc<OnceLock<Weak<Inner>>> = Arc::default();
        let raft = RaftNode::start(NodeDeps {
            store: store.clone(),
            net,
            clock: Arc::clone(&clock),
            rng: Arc::clone(&rng),
            settings: RaftSettings {
                broker: settings.broker,
                cluster: identity.cluster_id,
                advertised: settings.peer_address.clone(),
                peer_override: settings.peer_override.clone(),
                heartbeat: settings.heartbeat,
                election_min: settings.election_min,
                election_max: settings.election_max,
            },
            listen: peer_listener,
            on_call: calls::handler(Arc::clone(&slot)),
            probe: metrics.raft(),
        })
        .await;
        let inner = Arc::new(Inner {
            disk: disk::DiskGuard::new(settings.broker, free_bytes, settings.disk_reserve_bytes),
            budget: Budget::new(settings.produce_bytes_max),
            settings,
            store,
            raft,
            clock,
            rng,
            probe: metrics.requests(),
            intake: metrics.intake(),
            routes: Routes::default(),
            reads: Semaphore::new(limits::FETCH_READS_MAX),
            look_ups: Semaphore::new(limits::FIND_TIMES_MAX),
            cpu: CpuTurns::default(),
            call_turns: Semaphore::new(limits::CALLS_MAX),
            metadata: watch::Sender::new(None),
            is_empty: watch::Sender::new(groups.is_empty() && identity.cluster_id.is_none()),
            identity: Mutex::new(identity),
            past,
            stage: watch::Sender::new(Stage::Forming("starting".into())),
            failed: watch::Sender::new(None),
            layout_in_use: watch::Sender::new(None),
            reconciled: AtomicU64::new(0),
            orphans: Mutex::default(),
            stopped: Mutex::default(),
            producer_ids: tokio::sync::Mutex::new(0..0),
            clock_view: watch::Sender::default(),
            groups: GroupHandles::new(metrics.groups()),
            console: console::Shared::default(),
        });
        // Until clients and brokers are sent to where it is now.
        inner.raft.set_campaign(false);
        let _ = slot.set(Arc::downgrade(&inner));
        export(&metrics, &inner);
        groups::start(&inner, &metrics);
        let replica = groups.iter().find(|(group, _)| *group == METADATA_GROUP).map(|(_, replica)| *replica);
        spawn_tasks(&inner, replica);
        tokio::spawn(console::sample(Arc::clone(&inner), metrics));
        Ok(Broker { inner })
    }
}

fn spawn_tasks(inner: &Arc<Inner>, replica: Option<ReplicaId>) {
    inner.set_seed_peers();
    let forming = Arc::clone(inner);
    tokio::spawn(async move {
        if let Err(failed) = forming::join_cluster(&forming, replica).await {
            forming.fail(failed);
        }
    });
    tokio::spawn(setback::run(Arc::clone(inner)));
    tokio::spawn(neighbours::run(Arc::clone(inner)));
    tokio::spawn(reconcile::run(Arc::clone(inner)));
    tokio::spawn(retention::run(Arc::clone(inner)));
    let producers = Arc::clone(inner);
    tokio::spawn(async move {
        loop {
            producers.keep_producer_ids().await;
            tokio::time::sleep(limits::RECONCILE_EVERY).await;
        }
    });
    tokio::spawn(disk::run(Arc::clone(inner)));
    tokio::spawn(disk::run_hand_over(Arc::clone(inner)));
    tokio::spawn(serving::run(Arc::clone(inner)));
    tokio::spawn(stall::run(Arc::clone(inner)));
}

impl Inner {
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
    pub fn metadata(&self) -> Option<Group<Metadata>> {
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

    /// As in the configuration, in the order of ids.
    pub fn peers_text(&self) -> String {
        peers_text(&self.settings.peers)
    }

    fn set_seed_peers(&self) {
        for peer in self.other_peers() {
            self.raft.set_peer(peer.id, peer.address.clone());
        }
    }

    pub fn cluster_id(&self) -> Option<u128> {
        self.identity.lock().expect("no holder panics").cluster_id
    }

    pub fn storage_id(&self) -> u128 {
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

    pub fn leader_hint(&self, group: RaftGroupId) -> Option<LeaderHint> {
        let leader = self.raft.leader_of(group)?;
        let address = self.metadata().and_then(|metadata| {
            metadata.read(|state| state.broker(leader.broker).map(|broker| broker.client_address.clone()))
        });
        Some(LeaderHint { broker: leader.broker, address: address.unwrap_or_default(), epoch: leader.term.epoch() })
    }

    /// As [`Inner::leader_hint`], unless it would name this broker, which knows better.
    pub fn hint_elsewhere(&self, group: &Group<Partition>) -> Option<LeaderHint> {
        let leads = group.status().borrow().leads;
        self.leader_hint(group.id()).filter(|hint| leads || hint.broker != self.me())
    }

    pub fn is_alive(&self, broker: BrokerId) -> bool {
        broker == self.me() || self.raft.peer_alive(broker)
    }

    /// A partition led here misses a replica, or has one that is far behind.
    pub fn is_under_replicated(&self, hosted: &Hosted) -> bool {
        hosted.is_ready()
            && (hosted.group.voters().iter().any(|(_, broker)| !self.is_alive(*broker))
                || hosted.group.followers_behind().iter().any(|(_, entries)| *entries > limits::LAG_ENTRIES_MAX))
    }

    pub fn is_stopping(&self) -> bool {
        *self.stage.borrow() == Stage::Stopping
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

fn check(settings: &BrokerSettings) -> Result<(), BrokerFailed> {
    if settings.broker.0 == 0 {
        return Err(BrokerFailed::InvalidSetting { detail: "a broker id is at least 1".to_string() });
    }
    Ok(())
}

/// The directory's identity; a new directory gets one before anything else is written to it.
async fn identify(store: &Store, settings: &BrokerSettings, rng: &Rng) -> Result<Identity, BrokerFailed> {
    if let Some(identity) = store.identity().await.map_err(storage_failed)? {
        if identity.broker != settings.broker {
            let (found, asked) = (identity.broker, settings.broker);
            let detail = format!("the data directory belongs to broker {found}, not {asked}");
            return Err(BrokerFailed::InvalidSetting { detail });
        }
        return Ok(identity);
    }
    let identity = Identity { broker: settings.broker, cluster_id: None, storage_id: rng.u128() };
    store.save_identity(identity).await.map_err(storage_failed)?;
    Ok(identity)
}

pub fn storage_failed(error: StoreError) -> BrokerFailed {
    BrokerFailed::Storage { detail: error.to_string() }
}

fn export(metrics: &Metrics, inner: &Arc<Inner>) {
    let weak = Arc::downgrade(inner);
    metrics.on_scrape(move |gauges| {
        let Some(inner) = weak.upgrade() else { return };
        let level = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        gauges.produce_bytes_in_flight.set(level(inner.budget.bytes_in_use() as u64));
        gauges.disk_free_bytes.set(level(inner.disk.free_bytes().unwrap_or(0)));
        gauges.disk_reserve_bytes.set(level(inner.disk.reserve_bytes()));
        gauges.disk_full.set(i64::from(inner.disk.shortage().is_some()));
        if let ClockView::Ahead(ms) = *inner.clock_view.borrow() {
            gauges.clock_ahead_seconds.set(ms as f64 / 1_000.0);
        }
        let Some(metadata) = inner.metadata() else { return };
        let brokers: Vec<BrokerId> = metadata.read(|state| state.brokers().map(|broker| broker.id).collect());
        gauges.brokers.set(brokers.len() as i64);
        gauges.brokers_alive.set(brokers.iter().filter(|broker| inner.is_alive(**broker)).count() as i64);
        let hosted = inner.routes.hosted();
        gauges.raft_groups.set(hosted.len() as i64 + 1);
        gauges.raft_groups_led.set(hosted.iter().filter(|hosted| hosted.status().leads).count() as i64);
        let unserved = inner.unserved();
        gauges.raft_groups_leaderless.set(unserved.groups.len() as i64);
        gauges.raft_groups_without_majority.set(unserved.without_majority as i64);
        let live = |(broker, entries)| if inner.is_alive(broker) { entries } else { 0 };
        let behind = hosted.iter().flat_map(|hosted| hosted.group.followers_behind()).map(live);
        gauges.raft_lag_entries_max.set(level(behind.max().unwrap_or(0)));
        let apply_behind = hosted.iter().map(|hosted| hosted.group.apply_behind()).max();
        gauges.raft_apply_lag_entries_max.set(level(apply_behind.unwrap_or(0)));
        gauges
            .partitions_under_replicated
            .set(hosted.iter().filter(|hosted| inner.is_under_replicated(hosted)).count() as i64);
    });
}
