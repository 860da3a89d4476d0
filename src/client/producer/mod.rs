//! The producer: batches, compresses, spreads over partitions, retries, and says how it ended.
//!
//! Promises: every record resolves exactly once, in a [`Delivery`] that names its tag: acknowledged
//! (with the receipt), failed (surely not in the log), or unknown. Idempotent unless acks=0: retries
//! never duplicate or reorder. What a topic finds too large goes again in halves, and a record that is too
//! large by itself fails alone. Added partitions are used within [`ProducerOptions::metadata_age_max`].
//! Memory stays below [`ProducerOptions::buffer_bytes_max`]: a record counts from `send` until its delivery
//! was received, so receive them while you send.
//! Leaves out: transactions, and where it stops being pure: `core` decides, `driver` does.

mod accumulator;
mod batch;
mod connection;
mod core;
mod driver;

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

use self::accumulator::Accumulator;
pub use self::accumulator::TopicHandle;
use super::{
    error::ClientError,
    net::{Cluster, cluster_client, unary},
    partitioner::Partitioner,
};
use crate::{
    proto::v1,
    record::{Codec, Record},
    types::{BrokerId, LeaderEpoch, LogIndex, Offset, PartitionId, TopicPartition},
};

/// When a batch counts as sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acks {
    /// A batch is never answered, and nothing is promised. What a broker refuses is only reported as
    /// [`Outcome::Dropped`].
    None,
    /// A batch is answered at commit, as with `All`.
    Leader,
    /// A batch counts as sent once it is fsynced on a majority.
    #[default]
    All,
}

/// How records are batched, compressed and sent.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// When a batch counts as sent.
    pub acks: Acks,
    /// How long a record may wait for others of its partition. A batch goes when it is full, too.
    pub linger: Duration,
    /// A batch is closed at this size, before compression, or at what its topic takes (`max.message.bytes`), if that is
    /// less; one larger record goes alone.
    pub batch_bytes: usize,
    /// How batches are compressed.
    pub compression: Codec,
    /// Which partition a record goes to that names none.
    pub partitioner: Partitioner,
    /// How long it may take from `send` to the outcome, retries included.
    pub delivery_timeout: Duration,
    /// How many bytes all records without a received delivery may have together.
    pub buffer_bytes_max: usize,
    /// How old metadata may become though nothing is wrong: partitions that were added are used once it is asked for
    /// again, and keys are spread over them.
    pub metadata_age_max: Duration,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        ProducerOptions {
            acks: Acks::All,
            linger: Duration::from_millis(5),
            batch_bytes: 64 * 1024,
            compression: Codec::None,
            partitioner: Partitioner::Key,
            delivery_timeout: Duration::from_secs(30),
            buffer_bytes_max: 32 * 1024 * 1024,
            // Soon enough for people, at one request a producer.
            metadata_age_max: Duration::from_secs(30),
        }
    }
}

/// Who holds an acknowledged batch on disk, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The partition that the batch is in.
    pub at: TopicPartition,
    /// The offset of the batch's first record.
    pub base_offset: Offset,
    /// How many records it holds.
    pub count: i32,
    /// The epoch of the leader that appended it: the Raft term of its entry.
    pub epoch: LeaderEpoch,
    /// The index of the entry that holds it in the partition's Raft log.
    pub index: LogIndex,
    /// The brokers that are known to have it on disk: a majority of the partition's voters at least.
    pub durable_on: Vec<BrokerId>,
    /// Whether it was in the log before, by an earlier try; its offsets are that one's.
    pub is_duplicate: bool,
}

impl Receipt {
    fn of(receipt: v1::Receipt) -> Receipt {
        Receipt {
            at: TopicPartition { topic: receipt.topic, partition: PartitionId(receipt.partition) },
            base_offset: Offset(receipt.base_offset),
            count: receipt.count,
            epoch: LeaderEpoch(receipt.epoch),
            index: LogIndex(receipt.index),
            durable_on: receipt.durable_on.into_iter().map(BrokerId).collect(),
            is_duplicate: receipt.duplicate,
        }
    }
}

/// How a batch of records ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Record `i` of the delivery has offset `base_offset + i`.
    Acked(Receipt),
    /// The batch was handed, with acks=0, to a connection, which sends it unless it breaks.
    Sent,
    /// A broker refused something that was sent with acks=0, or a connection broke: of what was sent before, nobody can
    /// tell what is in the log. This tells of no record in particular: such a delivery has no tags, no topic and no
    /// partition.
    Dropped(ClientError),
    /// The batch is surely not in the log.
    Failed(ClientError),
    /// The batch is in the log once, or not at all.
    Unknown(ClientError),
}

/// The end of one batch: of all records that went in it, in order.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Delivery {
    /// The topic of the records; it is empty with [`Outcome::Dropped`].
    pub topic: Arc<str>,
    /// The partition of the records; it is `None` with [`Outcome::Dropped`].
    pub partition: Option<PartitionId>,
    /// The tags of the records, as they were given to [`Producer::send`].
    pub tags: Vec<u64>,
    /// How it ended.
    pub outcome: Outcome,
    /// An earlier batch of this partition failed, or its outcome is unknown. If this one is acknowledged, it stands
    /// in the log without it.
    pub after_failure: bool,
    bytes: usize,
}

/// Why a record was not taken. It had no effect, and gets no delivery.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SendError {
    /// There is no memory for it: receive deliveries, then try again.
    #[error("the producer's memory is used up")]
    Full,
    #[error(transparent)]
    /// It cannot be sent, now or later.
    Refused(#[from] ClientError),
}

/// Appends records. Dropping it sends what was taken; [`Deliveries`] then end.
pub struct Producer {
    cluster: Cluster,
    shared: Arc<Shared>,
}

/// How the records of a [`Producer`] ended. There are no more once the producer was dropped and all is resolved.
pub struct Deliveries {
    from: mpsc::UnboundedReceiver<Delivery>,
    shared: Arc<Shared>,
}

/// What the handle and the driver share. The lock is held for pure steps only, never across an await.
pub(super) struct Shared {
    state: Mutex<Accumulator>,
    /// Wakes the driver: there is something to send.
    work: Notify,
    /// Wakes who waits for memory: some became free.
    space: Notify,
    opened: Instant,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Accumulator> {
        self.state.lock().expect("no holder panics")
    }

    fn now(&self) -> Duration {
        self.opened.elapsed()
    }
}

impl Producer {
    /// Asks for a producer id (unless acks=0) and starts the driver.
    pub async fn open(cluster: &Cluster, options: ProducerOptions) -> Result<(Producer, Deliveries), ClientError> {
        let id = match options.acks {
            Acks::None => None,
            Acks::Leader | Acks::All => {
                let call = |address: String, channel| async move {
                    unary(&address, cluster_client(channel).init_producer_id(v1::InitProducerIdRequest {})).await
                };
                let got = cluster.ask("producer id", options.delivery_timeout, call).await?;
                let epoch = i16::try_from(got.producer_epoch).map_err(|_| ClientError::BadAnswer {
                    detail: format!("producer epoch {} is not an i16", got.producer_epoch),
                })?;
                Some((got.producer_id, epoch))
            }
        };
        #[expect(clippy::disallowed_methods, reason = "one message a batch, whose bytes are bounded until it is sent")]
        let (to, from) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            state: Mutex::new(Accumulator::new(options, id)),
            work: Notify::new(),
            space: Notify::new(),
            opened: Instant::now(),
        });
        tokio::spawn(driver::Driver::new(cluster.clone(), shared.clone(), to).run());
        let deliveries = Deliveries { from, shared: shared.clone() };
        Ok((Producer { cluster: cluster.clone(), shared }, deliveries))
    }

    /// Looks a topic up, waiting up to `deadline` for it to be known.
    pub async fn topic(&self, name: &str, deadline: Duration) -> Result<TopicHandle, ClientError> {
        let count = super::admin::partition_count(&self.cluster, name, deadline).await?;
        let bytes_max = self.cluster.look(|m| m.batch_bytes_max(name));
        let mut state = self.shared.lock();
        let topic = state.add_topic(name, count);
        state.limit_batches(topic, bytes_max);
        Ok(topic)
    }

    /// Takes one record, waiting while memory is used up. `tag` comes back in its delivery.
    pub async fn send(
        &self,
        topic: TopicHandle,
        partition: Option<PartitionId>,
        record: &Record,
        tag: u64,
    ) -> Result<(), ClientError> {
        loop {
            let space = self.shared.space.notified();
            tokio::pin!(space);
            space.as_mut().enable();
            match self.try_send(topic, partition, record, tag) {
                Ok(()) => return Ok(()),
                Err(SendError::Full) => space.await,
                Err(SendError::Refused(error)) => return Err(error),
            }
        }
    }

    /// Takes one record if there is memory for it.
    pub fn try_send(
        &self,
        topic: TopicHandle,
        partition: Option<PartitionId>,
        record: &Record,
        tag: u64,
    ) -> Result<(), SendError> {
        let now = self.shared.now();
        let mut state = self.shared.lock();
        let wake = state.append(topic, partition, record, tag, now, &self.cluster.world().rng)?;
        drop(state);
        if wake {
            self.shared.work.notify_one();
        }
        Ok(())
    }

    /// Asks for compare-and-append: the next record of this partition must get this offset, and each later one the
    /// next; after the first that does not, all others fail. Set it before the first record.
    pub fn expect_offset(&self, topic: TopicHandle, partition: PartitionId, offset: Offset) -> Result<(), ClientError> {
        self.shared.lock().expect_offset(topic, partition, offset)
    }

    /// Sends what lingers, now.
    pub fn flush(&self) {
        self.shared.lock().flush();
        self.shared.work.notify_one();
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.shared.lock().close();
        self.shared.work.notify_one();
    }
}

impl Deliveries {
    /// Returns the next outcome, or `None` when there will be no more.
    pub async fn recv(&mut self) -> Option<Delivery> {
        let delivery = self.from.recv().await?;
        self.release(delivery.bytes);
        Some(delivery)
    }

    /// Returns the next outcome, if one is there.
    pub fn try_recv(&mut self) -> Option<Delivery> {
        let delivery = self.from.try_recv().ok()?;
        self.release(delivery.bytes);
        Some(delivery)
    }

    fn release(&self, bytes: usize) {
        self.shared.lock().release(bytes);
        self.shared.space.notify_waiters();
    }
}

#[cfg(test)]
mod core_tests;
