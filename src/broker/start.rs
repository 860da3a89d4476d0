//! The assembler: puts a broker together, and starts what runs by itself.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, Weak, atomic::AtomicU64},
};

use tokio::sync::{Semaphore, watch};

use super::{
    Broker, BrokerFailed, answer,
    budget::Budget,
    cluster::{forming, neighbours, past::Past, reconcile, setback},
    console,
    disk::{self, DiskGuard, FreeBytes},
    groups::{self, handles::GroupHandles},
    inner::Inner,
    limits,
    node::{BrokerSettings, Node, Stage, storage_failed},
    pages::Pages,
    routes::Routes,
    tasks::Tasks,
    upkeep::{self, clock::ClockView},
};
use crate::{
    metrics::Metrics,
    raft::{NodeDeps, RaftNode, RaftSettings},
    seam::{Clock, CpuTurns, Listener, Net, Rng},
    storage::{Identity, Store},
    types::{BrokerId, METADATA_GROUP, ReplicaId},
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
        let past = Past::begin(&store, rng.u128(), identity.cluster_id.is_some()).await?;
        let slot: Arc<OnceLock<Weak<Inner>>> = Arc::default();
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
        let (me, reserve_bytes) = (node.settings.broker, node.settings.disk_reserve_bytes);
        let inner = Arc::new(Inner {
            disk: Arc::new(DiskGuard::new(me, free_bytes, reserve_bytes)),
            budget: Budget::new(node.settings.produce_bytes_max),
            node,
            routes: Routes::default(),
            reads: Semaphore::new(limits::FETCH_READS_MAX),
            look_ups: Semaphore::new(limits::FIND_TIMES_MAX),
            cpu: CpuTurns::default(),
            call_turns: Semaphore::new(limits::CALLS_MAX),
            is_empty: watch::Sender::new(groups.is_empty() && identity.cluster_id.is_none()),
            past,
            layout_in_use: watch::Sender::new(None),
            reconciled: AtomicU64::new(0),
            orphans: Mutex::default(),
            stopped: Mutex::default(),
            producer_ids: tokio::sync::Mutex::new(0..0),
            clock_view: watch::Sender::default(),
            groups: GroupHandles::new(metrics.groups()),
            console: Pages::default(),
        });
        // Until clients and brokers are sent to where it is now.
        inner.raft.set_campaign(false);
        let _ = slot.set(Arc::downgrade(&inner));
        export(&metrics, &inner);
        groups::start(&inner, &metrics);
        let replica = groups.iter().find(|(group, _)| *group == METADATA_GROUP).map(|(_, replica)| *replica);
        spawn_tasks(&inner, replica);
        inner.tasks.spawn(console::sample(Arc::clone(&inner), metrics));
        Ok(Broker { inner })
    }
}

fn raft_settings(settings: &BrokerSettings, cluster: Option<u128>) -> RaftSettings {
    RaftSettings {
        broker: settings.broker,
        cluster,
        advertised: settings.peer_address.clone(),
        peer_override: settings.peer_override.clone(),
        heartbeat: settings.heartbeat,
        election_min: settings.election_min,
        election_max: settings.election_max,
    }
}

fn spawn_tasks(inner: &Arc<Inner>, replica: Option<ReplicaId>) {
    inner.set_seed_peers();
    let forming = Arc::clone(inner);
    inner.tasks.spawn(async move {
        if let Err(failed) = forming::join_cluster(&forming, replica).await {
            forming.fail(failed);
        }
    });
    inner.tasks.spawn(setback::run(Arc::clone(inner)));
    inner.tasks.spawn(neighbours::run(Arc::clone(inner)));
    inner.tasks.spawn(reconcile::run(Arc::clone(inner)));
    inner.tasks.spawn(upkeep::retention::run(Arc::clone(inner)));
    let producers = Arc::clone(inner);
    inner.tasks.spawn(async move {
        loop {
            producers.keep_producer_ids().await;
            tokio::time::sleep(limits::RECONCILE_EVERY).await;
        }
    });
    inner.tasks.spawn(upkeep::disk::run(Arc::clone(inner)));
    inner.tasks.spawn(upkeep::disk::run_hand_over(Arc::clone(inner)));
    inner.tasks.spawn(upkeep::majorities::run(Arc::clone(inner)));
    inner.tasks.spawn(upkeep::stall::run(Arc::clone(inner)));
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
