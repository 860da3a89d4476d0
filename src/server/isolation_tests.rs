//! A broker that is cut off from its peers while clients reach everybody. Whoever it is, whichever links are cut,
//! and wherever it stands in a client's list, no partition goes without an acknowledgement for more than three seconds.

#![expect(clippy::print_stdout, reason = "tests print what they measured")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    task::JoinHandle,
    time::{Instant, interval},
};

use super::faces::Faces;
use crate::{
    broker::tests::{
        cut::Shape,
        rig::{Cluster as Brokers, PATIENCE, until},
    },
    client::{Cluster, Outcome, PartitionId, Producer, ProducerOptions, World},
    grpc::GrpcOptions,
    http::HttpOptions,
    record::Record,
    seam::{Listener, Net, NetFuture, Stream, TcpNet},
};

const BROKERS: u64 = 3;
const PARTITIONS: usize = 6;
const GAP_MAX: Duration = Duration::from_secs(3);
/// To find the leaders of all partitions, from nothing known to the last acknowledgement.
const FIND_MAX: Duration = Duration::from_secs(2);

/// Where the listeners of advertised names are.
#[derive(Clone, Default)]
struct Names(BTreeMap<String, String>);

impl Net for Names {
    fn connect<'a>(&'a self, address: &'a str) -> NetFuture<'a, Box<dyn Stream>> {
        TcpNet.connect(self.0.get(address).map_or(address, String::as_str))
    }

    fn bind<'a>(&'a self, address: &'a str) -> NetFuture<'a, Box<dyn Listener>> {
        TcpNet.bind(address)
    }
}

/// The listeners of all brokers; they end with it.
struct Fronts {
    names: Names,
    _faces: Vec<Faces>,
}

impl Fronts {
    async fn of(brokers: &Brokers) -> Fronts {
        let (mut names, mut faces) = (Names::default(), Vec::new());
        for (id, node) in &brokers.nodes {
            let [client, http] = [TcpNet.bind("127.0.0.1:0").await.unwrap(), TcpNet.bind("127.0.0.1:0").await.unwrap()];
            names.0.insert(name(*id), client.local_addr().unwrap().to_string());
            let grpc_options =
                GrpcOptions { connections_max: 1_000, metrics: node.metrics.clone(), descriptors_max: usize::MAX };
            let http_options = HttpOptions {
                metrics: node.metrics.clone(),
                console: false,
                advertised: format!("http-{id}:7080"),
                descriptors_max: usize::MAX,
            };
            faces.push(Faces::serve(&node.broker, (client, grpc_options), None, (http, http_options)));
        }
        Fronts { names, _faces: faces }
    }

    /// A client that is told these brokers, in this order.
    fn client(&self, brokers: impl IntoIterator<Item = u64>) -> Cluster {
        let world = World { net: Arc::new(self.names.clone()), ..World::system() };
        Cluster::with_world(brokers.into_iter().map(name).collect(), world).unwrap()
    }
}

/// As a broker of the rig advertises it.
fn name(broker: u64) -> String {
    format!("client-{broker}:7070")
}

/// When a partition was acknowledged last, and the longest time without.
#[derive(Clone, Copy)]
struct Acks {
    last: Instant,
    longest: Duration,
}

/// A producer that always has one record under way to each partition.
struct Load {
    acks: Arc<Mutex<Vec<Acks>>>,
    task: JoinHandle<()>,
}

impl Load {
    fn start(cluster: Cluster) -> Load {
        let acks = Arc::new(Mutex::new(vec![Acks { last: Instant::now(), longest: Duration::ZERO }; PARTITIONS]));
        let task = tokio::spawn(produce(cluster, acks.clone()));
        Load { acks, task }
    }

    /// Forgets the gaps until now.
    fn begin(&self) {
        self.acks.lock().unwrap().iter_mut().for_each(|acks| acks.longest = Duration::ZERO);
    }

    /// When the last partition had its last acknowledgement.
    fn all_since(&self) -> Instant {
        self.acks.lock().unwrap().iter().map(|acks| acks.last).min().unwrap()
    }

    /// The longest gap of any partition, those that last until now among them.
    fn longest(&self) -> (usize, Duration) {
        let gap = |acks: &Acks| acks.longest.max(acks.last.elapsed());
        self.acks.lock().unwrap().iter().map(gap).enumerate().max_by_key(|(_, gap)| *gap).unwrap()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn produce(cluster: Cluster, acks: Arc<Mutex<Vec<Acks>>>) {
    let options = ProducerOptions { linger: Duration::ZERO, ..Default::default() };
    let (producer, mut deliveries) = Producer::open(&cluster, options).await.unwrap();
    let topic = producer.topic("t", PATIENCE).await.unwrap();
    let record = Record { value: Some(Bytes::from_static(b"x")), ..Record::default() };
    let mut under_way = [false; PARTITIONS];
    let mut tick = interval(Duration::from_millis(20));
    loop {
        tokio::select! {
            _ = tick.tick() => {
                for (partition, under_way) in under_way.iter_mut().enumerate().filter(|(_, under_way)| !**under_way) {
                    producer.try_send(topic, Some(PartitionId(partition as i32)), &record, 0).unwrap();
                    *under_way = true;
                }
            }
            delivery = deliveries.recv() => {
                let delivery = delivery.expect("the producer lives");
                let partition = delivery.partition.expect("acks are wanted").0 as usize;
                under_way[partition] = false;
                match delivery.outcome {
                    Outcome::Acked(_) => {}
                    other => panic!("partition {partition}: {other:?}"),
                }
                let mut acks = acks.lock().unwrap();
                let acks = &mut acks[partition];
                acks.longest = acks.longest.max(acks.last.elapsed());
                acks.last = Instant::now();
            }
        }
    }
}

/// From a client that knows nothing to an acknowledgement of each partition.
async fn find(cluster: &Cluster) -> Duration {
    let began = Instant::now();
    let (producer, mut deliveries) = Producer::open(cluster, ProducerOptions::default()).await.unwrap();
    let topic = producer.topic("t", PATIENCE).await.unwrap();
    let record = Record { value: Some(Bytes::from_static(b"x")), ..Record::default() };
    for partition in 0..PARTITIONS {
        producer.send(topic, Some(PartitionId(partition as i32)), &record, 0).await.unwrap();
    }
    drop(producer);
    while let Some(delivery) = deliveries.recv().await {
        assert!(matches!(delivery.outcome, Outcome::Acked(_)), "{:?}", delivery.outcome);
    }
    began.elapsed()
}

/// Every broker in turn, clients with each of them at the head of their list.
async fn no_partition_is_silent_for_three_seconds(shape: Shape) {
    let brokers = Brokers::start_alone(BROKERS, 900 + shape as u64).await;
    brokers.create("t", PARTITIONS as u32).await;
    let fronts = Fronts::of(&brokers).await;
    let rotated = |first: u64| (0..BROKERS).map(move |i| (first - 1 + i) % BROKERS + 1);
    let loads: Vec<Load> = (1..=BROKERS).map(|first| Load::start(fronts.client(rotated(first)))).collect();
    let all_acknowledged = async |since: Instant, what: &str| {
        until(what, || async { loads.iter().all(|load| load.all_since() > since) }).await;
    };
    for cut_off in 1..=BROKERS {
        all_acknowledged(Instant::now(), "all partitions are led").await;
        loads.iter().for_each(Load::begin);
        let began = Instant::now();
        brokers.cuts.cut_off(shape, cut_off, 1..=BROKERS);
        // Long enough for an election, and for whatever an isolated broker may do to its peers afterwards.
        until("a while", || async { began.elapsed() > GAP_MAX + FIND_MAX }).await;
        all_acknowledged(began, "all partitions are led again").await;
        for (load, first) in loads.iter().zip(1..) {
            let (partition, gap) = load.longest();
            println!("{shape:?}, broker {cut_off} cut off, list begins with {first}: {gap:?} (partition {partition})");
            assert!(gap <= GAP_MAX, "{shape:?}, {cut_off} cut off, list begins with {first}: {gap:?}");
        }
        let took = find(&fronts.client(rotated(cut_off))).await;
        assert!(took <= FIND_MAX, "{shape:?}, {cut_off} cut off: a new client needs {took:?}");
        brokers.cuts.mend();
        for id in 1..=BROKERS {
            brokers.wait_ready(id).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r2_a_broker_cut_off_both_ways() {
    no_partition_is_silent_for_three_seconds(Shape::Both).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r2_a_broker_that_can_ask_nobody() {
    no_partition_is_silent_for_three_seconds(Shape::Outgoing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r2_a_broker_that_nobody_can_ask() {
    no_partition_is_silent_for_three_seconds(Shape::Incoming).await;
}
