//! W1, the sending half: idempotent producers with acks=all, by key and by hand.

use std::time::Duration;

use flotilla::client::{
    ClientError, Deliveries, Delivery, Outcome as Delivered, PartitionId, Producer, ProducerOptions, Receipt, Record,
    SendError, TopicHandle, partition_of_key,
};
use logcheck::{
    event::{Body, Outcome, Send, Sent},
    payload,
    rules::errors::NOT_SENT,
};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::{Context, Scribe, Stage, errors, process};
use crate::{error::ChaosError, tally::Ack};

/// Of them the first leaves the choice of partitions to the client, by key; the others choose by hand.
pub const PRODUCERS: u32 = 3;
pub const RECORD_BYTES: usize = 100;
const KEYS: u64 = 1_000;
const TICK: Duration = Duration::from_millis(20);
/// What was not sent in time, because memory was used up, is not made up for beyond this.
const DEBT_MAX: Duration = Duration::from_millis(500);
const TOPIC_WAIT: Duration = Duration::from_secs(30);
/// Longer than a send may take: all outcomes are known then.
const LAST_WORDS: Duration = Duration::from_secs(45);

struct Sender {
    context: Context,
    scribe: Scribe,
    process: u32,
    /// Its records carry keys, and the client finds the partitions.
    is_keyed: bool,
    topic: TopicHandle,
    random: fastrand::Rng,
    next_partition: u32,
}

/// Sends until the run ends, and records how each record ended.
pub async fn run(context: Context, number: u32) -> Result<(), ChaosError> {
    let client = context.client()?;
    let scribe = context.worker(&format!("producer-{number}"))?;
    let opened = Producer::open(&client, ProducerOptions::default()).await;
    let (producer, mut deliveries) = opened.map_err(ChaosError::client("opening a producer"))?;
    let topic = producer.topic(&context.topic, TOPIC_WAIT).await.map_err(ChaosError::client("looking the topic up"))?;
    let random = fastrand::Rng::with_seed(u64::from(number));
    let (process, is_keyed) = (process::PRODUCERS + number, number == 0);
    let rate = f64::from(context.rate) / f64::from(PRODUCERS);
    let mut stage = context.stage.clone();
    let mut sender = Sender { context, scribe, process, is_keyed, topic, random, next_partition: number };

    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut paid = Instant::now();
    loop {
        tokio::select! {
            now = tick.tick() => {
                paid = paid.max(now.checked_sub(DEBT_MAX).unwrap_or(now));
                let due = (now.saturating_duration_since(paid).as_secs_f64() * rate) as u32;
                paid += Duration::from_secs_f64(f64::from(due) / rate);
                sender.send(&client, &producer, due)?;
            }
            delivery = deliveries.recv() => match delivery {
                Some(delivery) => sender.settle(delivery)?,
                None => return Err(ChaosError::Broken("a producer's deliveries".into())),
            },
            _ = stage.wait_for(|stage| *stage == Stage::Ending) => break,
        }
    }
    drop(producer);
    sender.drain(&mut deliveries).await?;
    sender.scribe.finish()
}

impl Sender {
    fn send(&mut self, client: &flotilla::client::Cluster, producer: &Producer, count: u32) -> Result<(), ChaosError> {
        let Context { run, partitions, .. } = self.context;
        self.context.tally.sent(u64::from(count));
        for _ in 0..count {
            let (name, partition) = self.place(partitions);
            let value = self.context.recorder.value();
            let body = Send { key: partition, value, acks: -1, producer: None, batch: None };
            let op = self.scribe.begin(self.process, Body::Send(body))?;
            let record = Record {
                key: name.map(Into::into),
                value: Some(payload::make(run, partition, value, RECORD_BYTES).into()),
                timestamp: client.now(),
                ..Record::default()
            };
            let by_hand = (!self.is_keyed).then_some(PartitionId(partition as i32));
            match producer.try_send(self.topic, by_hand, &record, op) {
                Ok(()) => {}
                Err(SendError::Full) => self.failed(op, NOT_SENT)?,
                Err(SendError::Refused(error)) => self.failed(op, errors::sure_failure(&error))?,
            }
        }
        Ok(())
    }

    /// A key, if it has keys, and the partition that the record belongs to.
    fn place(&mut self, partitions: u32) -> (Option<String>, u32) {
        if self.is_keyed {
            let key = format!("key-{}", self.random.u64(..KEYS));
            let partition = partition_of_key(key.as_bytes(), partitions as i32);
            return (Some(key), partition.0 as u32);
        }
        self.next_partition = (self.next_partition + 1) % partitions;
        (None, self.next_partition)
    }

    fn failed(&mut self, op: u64, error: i16) -> Result<(), ChaosError> {
        self.context.tally.failed(1);
        let sent = Sent { outcome: Outcome::Fail, error, ..Sent::default() };
        self.scribe.complete(self.process, op, Body::Sent(sent))
    }

    fn settle(&mut self, delivery: Delivery) -> Result<(), ChaosError> {
        let count = delivery.tags.len() as u64;
        match &delivery.outcome {
            Delivered::Acked(receipt) => self.acked(&delivery.tags, receipt),
            Delivered::Failed(error) => {
                self.context.tally.failed(count);
                self.without_offset(&delivery.tags, Outcome::Fail, errors::sure_failure(error))
            }
            Delivered::Unknown(error) => self.unknown(&delivery.tags, error),
            // Only without acknowledgements.
            Delivered::Sent | Delivered::Dropped(_) => Err(ChaosError::Broken("a producer with acks=all".into())),
        }
    }

    fn acked(&mut self, ops: &[u64], receipt: &Receipt) -> Result<(), ChaosError> {
        for (offset, op) in (receipt.base_offset.0..).zip(ops) {
            let leader_epoch = Some(receipt.epoch.0);
            let sent = Sent { outcome: Outcome::Ok, offset: Some(offset), leader_epoch, ..Sent::default() };
            self.scribe.complete(self.process, *op, Body::Sent(sent))?;
        }
        let ack = Ack { at: self.context.recorder.now(), epoch: receipt.epoch.0 as u64 };
        self.context.tally.acked(receipt.at.partition.0 as u32, ack, ops.len() as u64);
        Ok(())
    }

    fn unknown(&mut self, ops: &[u64], error: &ClientError) -> Result<(), ChaosError> {
        self.context.tally.unknown(ops.len() as u64);
        self.without_offset(ops, Outcome::Info, errors::code(error))
    }

    fn without_offset(&mut self, ops: &[u64], outcome: Outcome, error: i16) -> Result<(), ChaosError> {
        for op in ops {
            let sent = Sent { outcome, error, ..Sent::default() };
            self.scribe.complete(self.process, *op, Body::Sent(sent))?;
        }
        Ok(())
    }

    /// What was sent comes to its end; what does not in time stays open in the history.
    async fn drain(&mut self, deliveries: &mut Deliveries) -> Result<(), ChaosError> {
        let end = Instant::now() + LAST_WORDS;
        while let Ok(Some(delivery)) = timeout_at(end, deliveries.recv()).await {
            self.settle(delivery)?;
        }
        Ok(())
    }
}
