//! One simulated host: a whole broker on the simulated world, and a face in front of it that takes
//! work from the load's client. A crash drops all of it, as SIGKILL would.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use flotilla::{
    broker::{Broker, BrokerDeps, BrokerFailed, BrokerSettings, GroupSettings, Inspector},
    config::Peer,
    formats::FEATURE_LEVEL,
    metrics::Metrics,
    seam::{Net, Rng},
    storage::{SimDisk, Store, StoreFailed, StoreOptions, WriterProbe},
    types::BrokerId,
};
use tokio::sync::{mpsc, oneshot};

use crate::world::{NodeClock, SimNet, SimTime, Trace, TracedKv};

pub const NODES: u64 = 3;

/// Jobs that wait for a node: more than the load ever has.
const JOBS_MAX: usize = 256;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;
type Job = Box<dyn FnOnce(Broker) -> Work>;

/// How the load reaches a node, across its crashes.
#[derive(Clone, Default)]
pub struct Face(Rc<RefCell<Option<mpsc::Sender<Job>>>>);

impl Face {
    /// Runs `job` on the node, in the node's own time. None: the node is down, or went down meanwhile.
    pub async fn ask<T, F, Fut>(&self, job: F) -> Option<T>
    where
        T: Send + 'static,
        F: FnOnce(Broker) -> Fut + 'static,
        Fut: Future<Output = T> + Send + 'static,
    {
        let jobs = self.0.borrow().clone()?;
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |broker| {
            let work = job(broker);
            Box::pin(async move { drop(answer.send(work.await)) })
        });
        jobs.send(job).await.ok()?;
        answered.await.ok()
    }
}

/// What of a node outlives its crashes.
pub struct Node {
    pub id: u64,
    /// Nodes of the cluster.
    pub of: u64,
    pub disk: SimDisk,
    pub face: Face,
    pub time: SimTime,
    pub clock: NodeClock,
    pub trace: Trace,
    pub seed: u64,
    metadata_snapshot_every: u64,
    /// Processes started so far: no two of them draw the same numbers.
    pub started: AtomicU64,
    /// Why the process must exit, as its store or its broker said.
    pub exits: Arc<Mutex<Option<Exit>>>,
    inspector: RefCell<Option<Inspector>>,
}

/// Why a process ends by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// A write failed: production exits at once, and is started again.
    Store(String),
    /// The broker never goes on, and says that data was lost.
    ForGood(String),
}

impl Node {
    pub fn new(id: u64, of: u64, rng: &Rng, time: &SimTime, trace: &Trace) -> Node {
        Node {
            id,
            of,
            disk: SimDisk::new(rng.u64()),
            face: Face::default(),
            time: time.clone(),
            clock: NodeClock::new(time),
            trace: trace.clone(),
            seed: rng.u64(),
            metadata_snapshot_every: BrokerSettings::METADATA_SNAPSHOT_EVERY,
            started: AtomicU64::default(),
            exits: Arc::default(),
            inspector: RefCell::default(),
        }
    }

    pub fn with_metadata_snapshots(self, every: u64) -> Node {
        Node { metadata_snapshot_every: every, ..self }
    }

    /// Looks into the broker that runs here. None: none does.
    pub fn inspector(&self) -> Option<Inspector> {
        self.inspector.borrow().clone()
    }

    /// Nothing reaches the process any more, and nobody looks into it.
    pub fn forget_process(&self) {
        self.face.0.replace(None);
        self.inspector.replace(None);
        self.exits.lock().expect("no holder panics").take();
    }

    pub fn exit(&self) -> Option<Exit> {
        self.exits.lock().expect("no holder panics").clone()
    }
}

/// For simulations in which no disk fails.
///
/// # Panics
/// If a store has failed.
pub fn no_store_fails(nodes: &[Rc<Node>]) {
    for node in nodes {
        if let Some(Exit::Store(why)) = node.exit() {
            panic!("store of broker {}: {why}", node.id);
        }
    }
}

pub fn name(id: u64) -> String {
    format!("n{id}")
}

fn peer_address(id: u64) -> String {
    format!("{}:7071", name(id))
}

fn settings(node: &Node) -> BrokerSettings {
    let (id, nodes) = (node.id, node.of);
    BrokerSettings {
        broker: BrokerId(id),
        peers: (1..=nodes).map(|id| Peer { id: BrokerId(id), address: peer_address(id) }).collect(),
        single: false,
        peer_override: BTreeMap::new(),
        client_address: format!("{}:7070", name(id)),
        peer_address: peer_address(id),
        http_address: format!("{}:7080", name(id)),
        kafka_address: format!("{}:9092", name(id)),
        rack: None,
        heartbeat: Duration::from_millis(200),
        election_min: Duration::from_millis(600),
        election_max: Duration::from_millis(1_000),
        produce_bytes_max: 64 << 20,
        fetch_bytes_max: 64 << 20,
        disk_reserve_bytes: 1,
        groups: GroupSettings {
            offsets_retention: Duration::from_secs(3_600),
            initial_rebalance_delay: Duration::from_millis(300),
        },
        warn_after: BrokerSettings::WARN_AFTER,
        feature_level: FEATURE_LEVEL,
        metadata_snapshot_every: node.metadata_snapshot_every,
    }
}

/// One life of a node: from its start until it is crashed.
pub async fn live(node: Rc<Node>) -> turmoil::Result {
    let ended = run(Rc::clone(&node)).await;
    match (ended, node.exit()) {
        // It exits by itself, which the simulation does for it at the end of this step.
        (Err(_), Some(Exit::Store(_))) => std::future::pending().await,
        (ended, _) => ended,
    }
}

async fn run(node: Rc<Node>) -> turmoil::Result {
    let id = node.id;
    let life = node.started.fetch_add(1, Ordering::Relaxed);
    node.trace.note(&name(id), format_args!("starts, life {life}"));
    let kv = Arc::new(TracedKv { kv: node.disk.open(), node: name(id), trace: node.trace.clone() });
    let exits = Arc::clone(&node.exits);
    let on_failure = Arc::new(move |error: &StoreFailed| {
        exits.lock().expect("no holder panics").get_or_insert(Exit::Store(error.to_string()));
    });
    let store = Store::open(kv, StoreOptions::default(), WriterProbe::default(), on_failure).await?;
    let deps = BrokerDeps {
        settings: settings(&node),
        store,
        net: Arc::new(SimNet),
        peer_listener: SimNet.bind(&peer_address(id)).await?,
        clock: Arc::new(node.clock.clone()),
        rng: Arc::new(Rng::seeded(node.seed.wrapping_add(life << 32))),
        metrics: Metrics::new(),
        free_bytes: Arc::new(|| Some(1 << 40)),
    };
    let broker = Broker::start(deps).await?;
    let (jobs, mut waiting) = mpsc::channel::<Job>(JOBS_MAX);
    node.face.0.replace(Some(jobs));
    node.inspector.replace(Some(broker.inspector()));
    loop {
        tokio::select! {
            biased;
            failed = broker.failed() => match failed {
                // Data was lost: with a planted fault rightly, and else the error that it logs fails the run.
                BrokerFailed::SetBack { .. } | BrokerFailed::Contradicted { .. } => {
                    node.trace.note(&name(id), format_args!("stops for good: {failed}"));
                    node.exits.lock().expect("no holder panics").get_or_insert(Exit::ForGood(failed.to_string()));
                    return Ok(());
                }
                failed => return Err(format!("broker {id}: {failed}").into()),
            },
            Some(job) = waiting.recv() => drop(tokio::spawn(job(broker.clone()))),
        }
    }
}
