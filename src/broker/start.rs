//! The assembler: puts a broker together, and starts what runs by itself.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, Weak},
};

use tokio::sync::watch;

use super::{
    Broker, answer,
    awake::Awake,
    budget::{Budget, answer_room},
    cluster::{
        forming::{self, Forming},
        health::Views,
        neighbours,
        past::{Memory, Past},
        reconcile, setback,
        transfer::Transfers,
    },
    console::{self, Consoles},
    disk::{self, DiskGuard, FreeBytes},
    errors::BrokerFailed,
    fetch::Fetches,
    groups::{
        coordinator,
        lag::{self, Lag},
        lag_table::LagTable,
        part::Groups,
    },
    metadata_group::MetadataGroup,
    node::{BrokerSettings, Node, Stage, storage_failed},
    notes::Notes,
    parts::Parts,
    produce::Produces,
    replica::{Ground, read::LookUps},
    replicas::Replicas,
    tasks::Tasks,
    topics::{Topics, producer_ids::ProducerIds},
    upkeep::{self, clock::ClockView, majorities::Unserved, retention::Retention},
    verify::Verifies,
};
use crate::{
    metrics::Metrics,
    raft::{NodeDeps, RaftNode, RaftSettings},
    seam::{Clock, CpuTurns, Listener, Net, Rng},
    storage::{Identity, StartId, Store},
    types::{BrokerId, ClusterId, METADATA_GROUP, ReplicaId, StorageId},
};

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
    pub free_bytes: FreeBytes,
}

impl BrokerDeps {
    /// The free space of a directory on a real disk.
    pub fn free_bytes_of(directory: PathBuf) -> FreeBytes {
        disk::free_bytes_of(directory)
    }
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
        let past = Past::begin(&store, StartId(rng.u128()), identity.cluster_id.is_some()).await?;
        let slot: Arc<OnceLock<Weak<Parts>>> = Arc::default();
        let raft = RaftNode::start(NodeDeps {
            store: store.clone(),
            net,
            clock: Arc::clone(&clock),
            rng: Arc::clone(&rng),
            settings: raft_settings(&settings, identity.cluster_id),
            listen: peer_listener,
            on_call: answer::handler(Arc::clone(&slot)),
            probe: metrics.raft(),
        })
        .await;
        let node = Arc::new(Node {
            awake: Awake::new(settings.election_min),
            settings,
            store,
            raft,
            clock,
            rng,
            probe: metrics.requests(),
            intake: metrics.intake(),
            metadata: watch::Sender::new(None),
            identity: Mutex::new(identity),
            stage: watch::Sender::new(Stage::Forming("starting".into())),
            failed: watch::Sender::new(None),
            tasks: Tasks::default(),
        });
        let parts = Arc::new(assemble(node, past, free_bytes, &metrics, groups.is_empty()));
        // Until clients and brokers are sent to where it is now.
        parts.node.raft.set_campaign(false);
        let _ = slot.set(Arc::downgrade(&parts));
        export(&metrics, &parts);
        let replica = groups.iter().find(|(group, _)| *group == METADATA_GROUP).map(|(_, replica)| *replica);
        spawn_tasks(&parts, replica, metrics);
        Ok(Broker { parts })
    }
}

/// Parts from the ground up: each is given those that it stands on.
fn assemble(node: Arc<Node>, past: Past, free_bytes: FreeBytes, metrics: &Metrics, holds_no_groups: bool) -> Parts {
    let is_empty = holds_no_groups && node.cluster_id().is_none();
    let disk = Arc::new(DiskGuard::new(node.me(), free_bytes, node.settings.disk_reserve_bytes));
    let replicas = Arc::new(Replicas::default());
    let metadata = Arc::new(MetadataGroup::new(Arc::clone(&node)));
    let memory = Arc::new(Memory { node: Arc::clone(&node), past });
    let look_ups = Arc::new(LookUps::new(CpuTurns::default()));
    let (table, clock_view) = (Arc::new(LagTable::default()), watch::Sender::default());
    let notes = Arc::new(Notes::new(Arc::clone(&node), Arc::clone(&replicas), Arc::clone(&table)));
    let lag = Lag::new(Arc::clone(&node), Arc::clone(&replicas), Arc::clone(&look_ups), table);
    let fetches = Arc::new(Fetches::new(Arc::clone(&metadata), Arc::clone(&replicas), look_ups));
    let views = Views {
        node: Arc::clone(&node),
        metadata: Arc::clone(&metadata),
        replicas: Arc::clone(&replicas),
        disk: Arc::clone(&disk),
        memory: Arc::clone(&memory),
        notes: Arc::clone(&notes),
        clock_view: clock_view.subscribe(),
    };
    Parts {
        forming: Arc::new(Forming::new(Arc::clone(&metadata), Arc::clone(&memory), is_empty)),
        transfers: Arc::new(Transfers::new(Arc::clone(&metadata), Arc::clone(&replicas))),
        retention: Arc::new(Retention::new(Arc::clone(&node), Arc::clone(&replicas), clock_view)),
        budget: Budget::new(node.settings.produce_bytes_max),
        answers: answer_room(node.settings.fetch_bytes_max, metrics.intake()),
        produces: Produces::new(Arc::clone(&node), Arc::clone(&replicas), Arc::clone(&disk)),
        consoles: Arc::new(Consoles::new(Arc::clone(&node), Arc::clone(&disk), Arc::clone(&fetches), metrics.kafka())),
        topics: Topics::new(Arc::clone(&metadata), Arc::clone(&replicas), Arc::clone(&disk), Arc::clone(&notes)),
        producer_ids: Arc::new(ProducerIds::new(Arc::clone(&metadata))),
        groups: Arc::new(Groups::new(Arc::clone(&metadata), Arc::new(lag), metrics.groups())),
        verifies: Verifies::new(Arc::clone(&node), Arc::clone(&replicas)),
        node,
        metadata,
        replicas,
        disk,
        memory,
        notes,
        fetches,
        views,
    }
}

fn raft_settings(settings: &BrokerSettings, cluster: Option<ClusterId>) -> RaftSettings {
    RaftSettings {
        broker: settings.broker,
        cluster,
        advertised: settings.peer_address.clone(),
        peer_override: settings.peer_override.clone(),
        heartbeat: settings.heartbeat,
        election_min: settings.election_min,
        election_max: settings.election_max,
        metadata_snapshot_every: settings.metadata_snapshot_every,
    }
}

/// What runs by itself, until the broker stops.
fn spawn_tasks(parts: &Arc<Parts>, replica: Option<ReplicaId>, metrics: Metrics) {
    let Parts { node, metadata, replicas, disk, memory, transfers, retention, groups, .. } = &**parts;
    let tasks = &node.tasks;
    node.set_seed_peers();
    let (forming, of) = (Arc::clone(&parts.forming), Arc::clone(node));
    tasks.spawn(async move {
        if let Err(failed) = forming::join_cluster(&forming, replica).await {
            of.fail(failed);
        }
    });
    let of = Arc::clone(node);
    tasks.spawn(async move { of.awake.run().await });
    let clock_view = || parts.views.clock_view.clone();
    let ground = Ground { node: Arc::clone(node), disk: Arc::clone(disk), clock_view: clock_view() };
    tasks.spawn(setback::run(Arc::clone(memory)));
    tasks.spawn(neighbours::run(Arc::clone(metadata)));
    tasks.spawn(reconcile::run(ground, Arc::clone(replicas), Arc::clone(metadata)));
    tasks.spawn(upkeep::retention::run(Arc::clone(retention)));
    let producer_ids = Arc::clone(&parts.producer_ids);
    tasks.spawn(async move { producer_ids.run().await });
    tasks.spawn(upkeep::disk::run(Arc::clone(node), Arc::clone(disk)));
    tasks.spawn(upkeep::disk::run_hand_over(Arc::clone(transfers), Arc::clone(disk)));
    tasks.spawn(upkeep::majorities::run(Arc::clone(node), Arc::clone(replicas)));
    tasks.spawn(upkeep::stall::run(Arc::clone(transfers)));
    let (tenure, probe) = (groups.tenure.clone(), groups.probe.clone());
    tasks.spawn(coordinator::tenure::run(Arc::clone(node), tenure, probe, clock_view()));
    tasks.spawn(lag::run(Arc::clone(&groups.lag)));
    tasks.spawn(console::sample(Arc::clone(&parts.consoles), metrics));
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
    let identity = Identity { broker: settings.broker, cluster_id: None, storage_id: StorageId(rng.u128()) };
    store.save_identity(identity).await.map_err(storage_failed)?;
    Ok(identity)
}

fn export(metrics: &Metrics, parts: &Arc<Parts>) {
    let lag = Arc::downgrade(&parts.groups.lag);
    metrics.export_lag(move || lag.upgrade().map(|lag| lag.latest()).unwrap_or_default());
    let weak = Arc::downgrade(parts);
    metrics.on_scrape(move |gauges| {
        let Some(parts) = weak.upgrade() else { return };
        let Parts { node, replicas, disk, .. } = &*parts;
        let level = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        gauges.produce_bytes_in_flight.set(level(parts.budget.bytes_in_use() as u64));
        gauges.fetch_bytes_in_flight.set(level(parts.answers.bytes_in_use() as u64));
        gauges.disk_free_bytes.set(level(disk.free_bytes().unwrap_or(0)));
        gauges.disk_reserve_bytes.set(level(disk.reserve_bytes()));
        gauges.disk_full.set(i64::from(disk.shortage().is_some()));
        if let ClockView::Ahead(ms) = *parts.views.clock_view.borrow() {
            gauges.clock_ahead_seconds.set(ms as f64 / 1_000.0);
        }
        let Some(metadata) = node.metadata() else { return };
        let brokers: Vec<BrokerId> = metadata.read(|state| state.brokers().map(|broker| broker.id).collect());
        gauges.brokers.set(brokers.len() as i64);
        gauges.brokers_alive.set(brokers.iter().filter(|broker| node.is_alive(**broker)).count() as i64);
        let hosted = replicas.hosted();
        gauges.raft_groups.set(hosted.len() as i64 + 1);
        gauges.raft_groups_led.set(hosted.iter().filter(|hosted| hosted.status().leads).count() as i64);
        let unserved = Unserved::look(node, replicas);
        gauges.raft_groups_leaderless.set(unserved.groups.len() as i64);
        gauges.raft_groups_without_majority.set(unserved.without_majority as i64);
        let live = |(broker, entries)| if node.is_alive(broker) { entries } else { 0 };
        let behind = hosted.iter().flat_map(|hosted| hosted.group.followers_behind()).map(live);
        gauges.raft_lag_entries_max.set(level(behind.max().unwrap_or(0)));
        let apply_behind = hosted.iter().map(|hosted| hosted.group.apply_behind()).max();
        gauges.raft_apply_lag_entries_max.set(level(apply_behind.unwrap_or(0)));
        let evicted = hosted.iter().map(|hosted| hosted.group.read(|state| state.producers_evicted()));
        gauges.producers_evicted.set(level(evicted.sum()));
        gauges
            .partitions_under_replicated
            .set(hosted.iter().filter(|hosted| hosted.is_under_replicated(node)).count() as i64);
    });
}
