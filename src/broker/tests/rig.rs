//! A cluster of brokers that a test can crash, restart and ask.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    runtime::Runtime,
    time::{Instant, timeout},
};

use super::{
    cut::{CutNet, Cuts},
    machine::Turn,
};
use crate::{
    broker::{
        Acks, Broker, BrokerDeps, BrokerSettings, Caller, CreateTopicRequest, Effect, FetchRequest, PartitionRead,
        ProduceError, ProduceRequest, Readiness, Receipt, node::GroupSettings,
    },
    config::Peer,
    formats::FEATURE_LEVEL,
    metrics::Metrics,
    record::{BatchBuilder, Codec, Producer, Record, decode_records},
    seam::{Clock, Listener, Net, Rng, SystemClock, TcpNet},
    storage::{SimDisk, Store, StoreOptions, WriterProbe},
    types::{BrokerId, Offset, PartitionId, ProducerEpoch, ProducerId, Sequence, TopicId, WallMs},
};

/// Longer than any election: what is not true by then is not coming.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What a broker keeps free in these tests.
pub const RESERVE_BYTES: u64 = 1_000;

/// What the world shows a broker, whichever process it runs in.
pub struct World {
    /// By how much its clock is ahead.
    pub ahead_ms: AtomicI64,
    /// Where its clock stands still; 0: it goes.
    pub stopped_at_ms: AtomicI64,
    pub free_bytes: AtomicU64,
}

impl Clock for World {
    fn wall(&self) -> WallMs {
        match self.stopped_at_ms.load(Relaxed) {
            0 => WallMs(SystemClock.wall().0 + self.ahead_ms.load(Relaxed)),
            stopped_at_ms => WallMs(stopped_at_ms),
        }
    }
}

pub struct Node {
    pub broker: Broker,
    pub metrics: Metrics,
    life: Life,
}

/// What runs a broker. Ends it when dropped, wherever that is.
struct Life(Option<Runtime>);

pub struct Cluster {
    pub nodes: BTreeMap<u64, Node>,
    pub disks: BTreeMap<u64, SimDisk>,
    pub cuts: Arc<Cuts>,
    pub groups: GroupSettings,
    pub worlds: BTreeMap<u64, Arc<World>>,
    /// The shortest and longest election timeout of brokers that are run from now on.
    pub elections: [Duration; 2],
    /// Where the brokers listen, and the list of those that have none of their own.
    pub peers: Vec<Peer>,
    /// Whether a list of one says that it is meant.
    pub singles: bool,
    /// What single brokers have for a list.
    pub lists: BTreeMap<u64, Vec<Peer>>,
    /// After so long brokers that are run from now on warn that they wait.
    pub warn_after: Duration,
    /// The feature levels that single brokers support when they are run from now on; others support the newest.
    pub levels: BTreeMap<u64, u32>,
    /// Where brokers that are run from now on log, if anywhere.
    pub log: Option<Log>,
    /// Processes started so far: no two draw the same numbers.
    started: u64,
    /// Last: the brokers end before it does.
    _turn: Turn,
}

impl Cluster {
    /// All of `size` brokers, formed and ready.
    pub async fn start(size: u64, seed: u64) -> Cluster {
        println!("seed {seed}");
        let mut cluster = Cluster::unstarted(size, seed).await;
        cluster.run_all().await;
        cluster
    }

    /// Until all are ready.
    pub async fn run_all(&mut self) {
        let ids: Vec<u64> = self.disks.keys().copied().collect();
        for id in &ids {
            self.run(*id).await;
        }
        for id in &ids {
            self.wait_ready(*id).await;
        }
    }

    pub async fn unstarted(size: u64, seed: u64) -> Cluster {
        Cluster::unstarted_in(Turn::shared(), size, seed).await
    }

    /// As [`Cluster::start`], with no other cluster beside it: for tests of how long something takes.
    pub async fn start_alone(size: u64, seed: u64) -> Cluster {
        println!("seed {seed}");
        let mut cluster = Cluster::unstarted_in(Turn::alone(), size, seed).await;
        cluster.elections = [400, 800].map(Duration::from_millis);
        cluster.run_all().await;
        cluster
    }

    async fn unstarted_in(turn: Turn, size: u64, seed: u64) -> Cluster {
        // RUST_LOG shows what happened.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let groups = GroupSettings {
            offsets_retention: Duration::from_secs(3_600),
            initial_rebalance_delay: Duration::from_millis(300),
        };
        // Beside others a broker may get no turn for half a second, which must cost no leadership.
        let elections = [1_000, 2_000].map(Duration::from_millis);
        let mut cluster = Cluster {
            nodes: BTreeMap::new(),
            disks: BTreeMap::new(),
            cuts: Arc::default(),
            groups,
            worlds: BTreeMap::new(),
            elections,
            peers: Vec::new(),
            singles: true,
            lists: BTreeMap::new(),
            warn_after: BrokerSettings::WARN_AFTER,
            levels: BTreeMap::new(),
            log: None,
            // Two clusters of one test are two clusters.
            started: seed << 16,
            _turn: turn,
        };
        for _ in 0..size {
            cluster.add(seed).await;
        }
        cluster
    }

    /// One more broker with an empty disk, in everybody's list from now on. Its id.
    pub async fn add(&mut self, seed: u64) -> u64 {
        let id = self.peers.len() as u64 + 1;
        self.peers.push(Peer { id: BrokerId(id), address: String::new() });
        self.disks.insert(id, SimDisk::new(seed + id));
        let world = World {
            ahead_ms: AtomicI64::new(0),
            stopped_at_ms: AtomicI64::new(0),
            free_bytes: AtomicU64::new(1 << 40),
        };
        self.worlds.insert(id, Arc::new(world));
        self.relocate(id).await;
        id
    }

    /// A broker that does not run gets another address. Lists that running brokers have stay as they were.
    pub async fn relocate(&mut self, id: u64) {
        let address = free_address().await;
        self.cuts.listens(id, &address);
        self.peers[id as usize - 1].address = address;
    }

    pub async fn run(&mut self, id: u64) {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(1).enable_all();
        if let Some(log) = self.log.clone() {
            runtime.on_thread_start(move || log.take_this_thread());
        }
        let runtime = Life(Some(runtime.build().unwrap()));
        let address = self.peers[id as usize - 1].address.clone();
        self.started += 1;
        let seed = self.started;
        let peers = self.lists.get(&id).unwrap_or(&self.peers).clone();
        let (disk, groups, elections) = (self.disks[&id].clone(), self.groups, self.elections);
        let net = CutNet { me: id, cuts: Arc::clone(&self.cuts) };
        let (singles, warn_after) = (self.singles, self.warn_after);
        let feature_level = self.levels.get(&id).copied().unwrap_or(FEATURE_LEVEL);
        let (world, disk_world) = (self.worlds[&id].clone(), self.worlds[&id].clone());
        let started = runtime.0.as_ref().unwrap().spawn(async move {
            let metrics = Metrics::new();
            let on_failure = Arc::new(move |error: &_| panic!("store of {id}: {error:?}"));
            let kv = Arc::new(disk.open());
            let store = Store::open(kv, StoreOptions::default(), WriterProbe::default(), on_failure).await.unwrap();
            let deps = BrokerDeps {
                peer_listener: bind(&address).await,
                settings: BrokerSettings {
                    single: singles,
                    warn_after,
                    feature_level,
                    ..settings(id, &address, peers, groups, elections)
                },
                store,
                net: Arc::new(net),
                clock: world,
                rng: Arc::new(Rng::seeded(seed)),
                metrics: metrics.clone(),
                free_bytes: Arc::new(move || Some(disk_world.free_bytes.load(Relaxed))),
            };
            (Broker::start(deps).await.unwrap(), metrics)
        });
        let (broker, metrics) = started.await.unwrap();
        self.nodes.insert(id, Node { broker, metrics, life: runtime });
    }

    /// Stops a broker, lets go of it, and waits until nothing of it runs.
    pub async fn end(&mut self, id: u64) {
        let Node { broker, metrics, life } = self.nodes.remove(&id).unwrap();
        broker.shutdown().await;
        drop((broker, metrics));
        let runtime = life.0.as_ref().expect("it runs").metrics();
        until("all its tasks have ended", || async { runtime.num_alive_tasks() == 0 }).await;
    }

    pub async fn wait_ready(&self, id: u64) {
        let broker = self.broker(id);
        until(&format!("broker {id} is ready"), || async { broker.readiness() == Readiness::Ready }).await;
    }

    /// SIGKILL, and what was not synced may be lost.
    pub fn kill(&mut self, id: u64, seed: u64) {
        drop(self.nodes.remove(&id).unwrap().life);
        self.disks[&id].crash(seed);
    }

    /// As by SIGSTOP, until what is returned is dropped: its connections stay, and it says nothing.
    pub fn freeze(&self, id: u64) -> Frozen {
        let (frozen, (until, thawed)) = (std::sync::mpsc::channel::<()>(), std::sync::mpsc::channel::<()>());
        let life = self.nodes[&id].life.0.as_ref().expect("it runs");
        // Its one worker thread.
        life.spawn(async move {
            drop(frozen.0);
            let _ = thawed.recv();
        });
        let _ = frozen.1.recv();
        Frozen { _until: until }
    }

    pub fn broker(&self, id: u64) -> Broker {
        self.nodes[&id].broker.clone()
    }

    pub fn any(&self) -> Broker {
        self.nodes.values().next().unwrap().broker.clone()
    }

    pub async fn create(&self, name: &str, partitions: u32) {
        self.create_on(name, partitions, 3).await;
    }

    pub async fn create_on(&self, name: &str, partitions: u32, replication_factor: u32) {
        // Its records are from 1970: the first look of retention would take them all.
        let configs = [("retention.ms".to_string(), "-1".to_string())].into();
        let request = CreateTopicRequest {
            name: name.into(),
            partitions: Some(partitions),
            replication_factor: Some(replication_factor),
            wait: true,
            configs,
            ..CreateTopicRequest::default()
        };
        self.any().create_topic(&Caller::ANONYMOUS, request).await.unwrap();
    }

    /// Who leads a partition, as seen by a live broker.
    pub async fn leader(&self, topic: &str) -> Option<u64> {
        let description = self.any().describe_topic(&Caller::ANONYMOUS, topic).await.ok()?;
        let leader = description.partitions[0].leader?.broker.0;
        self.nodes.contains_key(&leader).then_some(leader)
    }

    /// Who leads a partition, once somebody does.
    pub async fn led_by(&self, topic: &str) -> u64 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(leader) = self.leader(topic).await {
                return leader;
            }
            assert!(Instant::now() < deadline, "nobody leads {topic:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Produces until acknowledged: retries like an idempotent client. Panics after PATIENCE.
    pub async fn produce(&self, topic: &str, sequence: i32) -> Receipt {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let error = match self.leader(topic).await {
                Some(leader) => match try_produce(&self.broker(leader), topic, sequence).await {
                    Ok(receipt) => return receipt,
                    Err(error) => Some(error),
                },
                None => None,
            };
            assert!(Instant::now() < deadline, "sequence {sequence} was not acknowledged: {error:?}");
            assert!(error.as_ref().is_none_or(ProduceError::is_retriable), "{error:?}");
            tokio::time::sleep(Duration::from_millis(20)).await; // A client's backoff.
        }
    }

    /// Every value from the log start, through the leader, in order; offsets are checked to be dense.
    pub async fn read_all(&self, topic: &str) -> Vec<(i64, i32)> {
        read_all(&self.broker(self.led_by(topic).await), topic, 0).await
    }
}

/// What brokers log.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// For good: all that the calling thread logs comes here.
    fn take_this_thread(&self) {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone()).finish();
        std::mem::forget(tracing::subscriber::set_default(subscriber));
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A broker that stands still.
pub struct Frozen {
    _until: std::sync::mpsc::Sender<()>,
}

impl Drop for Life {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Of a port that the system gives nobody by itself, nor this function anybody else: it stays free while a broker is
/// down.
async fn free_address() -> String {
    const PORTS: std::ops::Range<u32> = 15_000..32_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        // Processes begin at different places.
        let at = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Relaxed));
        let address = format!("127.0.0.1:{}", PORTS.start + at % (PORTS.end - PORTS.start));
        if TcpNet.bind(&address).await.is_ok() {
            return address;
        }
    }
}

/// A killed node's socket is closed when its runtime is gone, which takes a moment.
async fn bind(address: &str) -> Box<dyn Listener> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpNet.bind(address).await {
            Ok(listener) => return listener,
            Err(error) => assert!(Instant::now() < deadline, "{address}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn settings(
    id: u64,
    address: &str,
    peers: Vec<Peer>,
    groups: GroupSettings,
    elections: [Duration; 2],
) -> BrokerSettings {
    BrokerSettings {
        broker: BrokerId(id),
        peers,
        single: false,
        peer_override: BTreeMap::new(),
        client_address: format!("client-{id}:7070"),
        peer_address: address.to_string(),
        http_address: format!("http-{id}:7080"),
        kafka_address: format!("kafka-{id}:9092"),
        rack: None,
        heartbeat: Duration::from_millis(100),
        election_min: elections[0],
        election_max: elections[1],
        produce_bytes_max: 64 << 20,
        fetch_bytes_max: 64 << 20,
        disk_reserve_bytes: RESERVE_BYTES,
        groups,
        warn_after: BrokerSettings::WARN_AFTER,
        feature_level: FEATURE_LEVEL,
        metadata_snapshot_every: BrokerSettings::METADATA_SNAPSHOT_EVERY,
    }
}

pub async fn try_produce(broker: &Broker, topic: &str, sequence: i32) -> Result<Receipt, ProduceError> {
    try_produce_to(broker, topic, PartitionId(0), sequence).await
}

pub async fn try_produce_to(
    broker: &Broker,
    topic: &str,
    partition: PartitionId,
    sequence: i32,
) -> Result<Receipt, ProduceError> {
    let request = ProduceRequest {
        topic: topic.into(),
        topic_id: None,
        partition,
        acks: Acks::All,
        timeout: Duration::from_secs(5),
        batch: batch(sequence),
        expected_offset: None,
    };
    let budget = broker.reserve_produce(request.batch.len()).await;
    match broker.produce(&Caller::ANONYMOUS, request, budget) {
        Ok(waiting) => timeout(PATIENCE, waiting).await.expect("a produce is answered by its deadline"),
        Err(error) => {
            assert_eq!(error.effect(), Effect::None);
            Err(error)
        }
    }
}

/// One record whose value is its sequence, from the one producer of these tests.
fn batch(sequence: i32) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.producer(Producer { id: ProducerId(5), epoch: ProducerEpoch(0), base_sequence: Sequence(sequence) });
    let value = Some(Bytes::copy_from_slice(&sequence.to_be_bytes()));
    builder.push(&Record { value, timestamp: WallMs(1_000 + i64::from(sequence)), ..Record::default() }).unwrap();
    builder.build().unwrap()
}

/// The only partition of topic `t`, for a reader who says nothing of its epoch.
pub fn read(topic_id: Option<TopicId>) -> PartitionRead {
    PartitionRead { topic: "t".into(), topic_id, partition: PartitionId(0), leader_epoch: None }
}

pub async fn read_all(broker: &Broker, topic: &str, from: i64) -> Vec<(i64, i32)> {
    let mut values = Vec::new();
    let mut offset = Offset(from);
    loop {
        let request = FetchRequest {
            topic: topic.into(),
            topic_id: None,
            partition: PartitionId(0),
            offset,
            bytes_max: 1_000,
            wait: Duration::ZERO,
        };
        let fetched = broker.fetch(&Caller::ANONYMOUS, request).await.unwrap();
        if fetched.batches.is_empty() {
            assert_eq!(fetched.high_watermark, offset, "all of it was read");
            return values;
        }
        for batch in &fetched.batches {
            for (at, record) in decode_records(batch, 1 << 20).unwrap() {
                assert_eq!(at, offset, "offsets are dense");
                offset.0 += 1;
                let value = record.value.unwrap();
                values.push((at.0, i32::from_be_bytes(value[..].try_into().unwrap())));
            }
        }
        assert_eq!(fetched.next_offset, offset);
    }
}

/// Waits for a condition, which is named if it does not come.
pub async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
