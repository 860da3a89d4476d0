//! The load: creates the topic, appends from several idempotent producers that retry, and at the end
//! reads everything back. It runs on a host of its own.

use std::{cell::RefCell, collections::BTreeMap, future::Future, rc::Rc, time::Duration};

use bytes::Bytes;
use flotilla::{
    broker::{
        Acks, Broker, Caller, CreateTopicRequest, FetchRequest, ProduceError, ProduceRequest, Readiness, Receipt,
    },
    record::{BatchBuilder, Codec, Producer, Record, decode_records},
    seam::{Clock, Rng},
    types::{Offset, PartitionId, ProducerEpoch, ProducerId, RaftGroupId, Sequence, WallMs},
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    checker::{Acked, History},
    node::Node,
};

pub const PARTITIONS: i32 = 2;
pub const APPENDS: usize = 200;
const WORKERS_PER_PARTITION: u64 = 4;
pub const TOPIC: &str = "orders";

/// Longer than any failover: what is not true by then is not coming.
const PATIENCE: Duration = Duration::from_secs(30);
const PRODUCE_TIMEOUT: Duration = Duration::from_secs(2);
/// Followers hear of the last commit with the next heartbeat, and their writers write it alone.
const SETTLE: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    #[default]
    Forming,
    Appending,
    Settling,
}

/// What the load knows, for those who decide about faults and for the checker.
#[derive(Default)]
pub struct Known {
    pub phase: Phase,
    pub history: History,
    pub groups: BTreeMap<i32, RaftGroupId>,
    /// Who acknowledged last, by partition.
    pub leaders: BTreeMap<i32, u64>,
    /// Appends handed to each node and not answered yet.
    pub outstanding: BTreeMap<u64, usize>,
    /// Answers that said "already there": a retry met its own first try.
    pub duplicates: usize,
    pub epochs: BTreeMap<i32, Vec<i32>>,
}

pub struct Load {
    pub nodes: Vec<Rc<Node>>,
    pub known: Rc<RefCell<Known>>,
    pub rng: Rc<Rng>,
    pub partitions: i32,
}

impl Load {
    pub fn node(&self, id: u64) -> &Node {
        &self.nodes[id as usize - 1]
    }

    pub fn note(&self, what: std::fmt::Arguments) {
        self.nodes[0].trace.note("load", what);
    }

    pub fn enter(&self, phase: Phase) {
        self.note(format_args!("{phase:?}"));
        self.known.borrow_mut().phase = phase;
    }

    pub async fn run(self: Rc<Self>) -> turmoil::Result {
        self.all_ready().await;
        self.create_topic().await;
        self.enter(Phase::Appending);
        let workers: Vec<_> = (0..self.partitions)
            .flat_map(|partition| (0..WORKERS_PER_PARTITION).map(move |worker| (partition, worker)))
            .map(|(partition, worker)| tokio::task::spawn_local(self.clone().append_all(partition, worker)))
            .collect();
        for worker in workers {
            worker.await?;
        }
        self.settle().await;
        Ok(())
    }

    /// Reads everything back, and waits until all replicas know what is committed.
    pub async fn settle(&self) {
        self.enter(Phase::Settling);
        self.all_ready().await;
        for partition in 0..self.partitions {
            let records = self.read_all(partition).await;
            self.note(format_args!("{partition} holds {records:?}"));
            self.known.borrow_mut().history.read.insert(partition, records);
        }
        sleep(SETTLE).await;
    }

    /// Every node up, and part of the cluster.
    pub async fn all_ready(&self) {
        for node in &self.nodes {
            let ready =
                || async { node.face.ask(|broker| async move { broker.readiness() }).await == Some(Readiness::Ready) };
            until("a node is ready", ready).await;
        }
        let healthy = || async {
            let report = self.nodes[0].face.ask(|broker| async move { broker.health(&Caller::ANONYMOUS).await }).await;
            report.is_some_and(|report| report.healthy)
        };
        until("the cluster is healthy", healthy).await;
    }

    pub async fn create_topic(&self) {
        let request = CreateTopicRequest {
            name: TOPIC.into(),
            partitions: Some(self.partitions as u32),
            replication_factor: Some(3),
            wait: true,
            ..CreateTopicRequest::default()
        };
        let create = |broker: Broker| async move { broker.create_topic(&Caller::ANONYMOUS, request).await };
        let created = self.node(1).face.ask(create).await.expect("nobody crashes yet").expect("a new topic");
        let groups = created.partitions.iter().map(|partition| (partition.partition.0, partition.raft_group));
        self.known.borrow_mut().groups = groups.collect();
    }

    /// One idempotent producer: one append at a time, tried again until it is acknowledged.
    async fn append_all(self: Rc<Self>, partition: i32, worker: u64) {
        let each = APPENDS as u64 / (self.partitions as u64 * WORKERS_PER_PARTITION);
        let id = ProducerId(1_000 * (partition as i64 + 1) + worker as i64);
        let mut producer = Producer { id, epoch: ProducerEpoch(0), base_sequence: Sequence(0) };
        let mut at = 1 + self.rng.below(self.nodes.len() as u64);
        for number in 0..each {
            let value = worker * 1_000 + number;
            self.known.borrow_mut().history.sent.insert((partition, value));
            let batch = one_record(producer, value, self.node(1).time.wall());
            if self.append(partition, value, batch, &mut at).await {
                producer.base_sequence = producer.base_sequence.next();
            } else {
                // Its sequence is spent: whether it is there is not known.
                producer = Producer { id: ProducerId(producer.id.0 + 100), base_sequence: Sequence(0), ..producer };
            }
            sleep(Duration::from_millis(self.rng.below(20))).await; // A user's pace.
        }
    }

    pub async fn append(&self, partition: i32, value: u64, batch: Bytes, at: &mut u64) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let outcome = self.try_append(partition, batch.clone(), *at).await;
            self.note(format_args!("{partition} value {value} at n{at}: {outcome:?}"));
            match outcome {
                Some(Ok(receipt)) => {
                    self.acknowledged(partition, value, &receipt, *at);
                    return true;
                }
                Some(Err(error)) if !error.is_retriable() => return false,
                Some(Err(error)) => {
                    let hint = error.leader().map(|leader| leader.broker.0);
                    *at = hint.unwrap_or(*at % self.nodes.len() as u64 + 1);
                }
                None => *at = *at % self.nodes.len() as u64 + 1,
            }
            sleep(Duration::from_millis(10 + self.rng.below(40))).await; // A client's backoff.
        }
        false
    }

    async fn try_append(&self, partition: i32, batch: Bytes, at: u64) -> Option<Result<Receipt, ProduceError>> {
        let request = ProduceRequest {
            topic: TOPIC.into(),
            topic_id: None,
            partition: PartitionId(partition),
            acks: Acks::All,
            timeout: PRODUCE_TIMEOUT,
            batch,
            expected_offset: None,
        };
        let produce = |broker: Broker| async move {
            let budget = broker.reserve_produce(request.batch.len()).await;
            match broker.produce(&Caller::ANONYMOUS, request, budget) {
                Ok(waiting) => waiting.await,
                Err(error) => Err(error),
            }
        };
        *self.known.borrow_mut().outstanding.entry(at).or_default() += 1;
        let answer = timeout(PATIENCE, self.node(at).face.ask(produce)).await;
        *self.known.borrow_mut().outstanding.entry(at).or_default() -= 1;
        answer.expect("a produce is answered by its deadline")
    }

    fn acknowledged(&self, partition: i32, value: u64, receipt: &Receipt, at: u64) {
        assert!(receipt.durable_on.len() >= 2, "a receipt names a majority: {receipt:?}");
        let mut known = self.known.borrow_mut();
        known.duplicates += usize::from(receipt.duplicate);
        known.leaders.insert(partition, at);
        let epochs = known.epochs.entry(partition).or_default();
        if !epochs.contains(&receipt.epoch.0) {
            epochs.push(receipt.epoch.0);
        }
        let (offset, index) = (receipt.base_offset.0, receipt.index.0);
        known.history.acked.push(Acked { partition, value, offset, index });
    }

    /// Everything from offset 0, through whoever leads.
    pub async fn read_all(&self, partition: i32) -> Vec<(i64, u64)> {
        let mut records: Vec<(i64, u64)> = vec![];
        let deadline = Instant::now() + PATIENCE;
        let mut at = self.known.borrow().leaders.get(&partition).copied().unwrap_or(1);
        loop {
            assert!(Instant::now() < deadline, "partition {partition} cannot be read to its end");
            let offset = Offset(records.last().map_or(0, |(offset, _)| offset + 1));
            let request = FetchRequest {
                topic: TOPIC.into(),
                topic_id: None,
                partition: PartitionId(partition),
                offset,
                bytes_max: 4_096,
                wait: Duration::ZERO,
            };
            let fetched =
                self.node(at).face.ask(|broker| async move { broker.fetch(&Caller::ANONYMOUS, request).await }).await;
            match fetched {
                Some(Ok(fetched)) if fetched.batches.is_empty() && fetched.high_watermark == offset => return records,
                Some(Ok(fetched)) => {
                    for batch in &fetched.batches {
                        records.extend(values(batch));
                    }
                }
                Some(Err(error)) => {
                    let hint = error.leader().map(|leader| leader.broker.0);
                    at = hint.unwrap_or(at % self.nodes.len() as u64 + 1);
                    sleep(Duration::from_millis(20)).await; // A client's backoff.
                }
                None => panic!("nobody crashes any more"),
            }
        }
    }
}

pub fn one_record(producer: Producer, value: u64, timestamp: WallMs) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.producer(producer);
    let value = Some(Bytes::copy_from_slice(&value.to_be_bytes()));
    builder.push(&Record { value, timestamp, ..Record::default() }).expect("a small record");
    builder.build().expect("a small batch")
}

/// Offsets and values of a batch as it was read.
pub fn values(batch: &Bytes) -> Vec<(i64, u64)> {
    let records = decode_records(batch, 1 << 20).expect("what was stored can be decoded");
    let value = |record: &Record| {
        let bytes = record.value.as_ref().expect("every record has a value");
        u64::from_be_bytes(bytes[..].try_into().expect("of eight bytes"))
    };
    records.iter().map(|(offset, record)| (offset.0, value(record))).collect()
}

/// Waits for a condition, which is named if it does not come.
pub async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}
