//! The canary of `verify --watch`: a record a second through a topic of its own, read back and compared, and an older
//! one with it.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::{
    cli::exit::Failure,
    client::{
        Admin, ClientError, ConsumeOptions, Consumer, Deliveries, ErrorCode, Gaps, Offset, Outcome, PartitionId,
        Producer, ProducerOptions, Record, Start, TopicHandle, TopicPartition, World,
    },
};

pub const TOPIC: &str = "__flotilla_canary";
/// Each is led by another broker, in a small cluster.
const PARTITIONS: i32 = 3;
/// Or as many as there are brokers, if those are fewer.
const REPLICATION_FACTOR: i32 = 3;
/// Records that are remembered to be read again: those of an hour.
const REMEMBERED_MAX: usize = 3_600;
/// Longer than they are remembered, so that what is gone is lost and not deleted.
const RETENTION: (&str, &str) = ("retention.ms", "86400000");
/// What the record's way there and back may take: longer than a failover.
const WITHIN: Duration = Duration::from_secs(10);

/// The canary topic, and what was acknowledged there.
pub struct Canary {
    admin: Admin,
    producer: Producer,
    deliveries: Deliveries,
    topic: TopicHandle,
    /// Tells this run's records from those of others, which may use the topic at the same time.
    run: u64,
    sent: u64,
    remembered: VecDeque<(TopicPartition, Offset, String)>,
    rng: World,
}

/// What became of one record.
#[derive(Debug)]
pub enum Beat {
    /// There and back, in this time.
    Same(Duration),
    /// It was not acknowledged: why.
    NotSent(String),
    /// It was acknowledged, and could not be read: why. It may be there.
    NotRead(String),
    /// It was acknowledged, and something else is in its place.
    Lost(String),
}

impl Canary {
    /// Makes the topic if it is not there.
    pub async fn open(admin: &Admin) -> Result<Canary, Failure> {
        if admin.describe_topic(TOPIC).await.is_err() {
            let brokers = admin.describe_cluster().send().await.map_err(Failure::of_read)?.brokers;
            let replicas = REPLICATION_FACTOR.min(brokers.len().max(1) as i32);
            let create = admin.create_topic(TOPIC).partitions(PARTITIONS).replicas(replicas);
            create.config(RETENTION.0, RETENTION.1).wait(true).send().await?;
        }
        let options = ProducerOptions { delivery_timeout: WITHIN, ..ProducerOptions::default() };
        let (producer, deliveries) = Producer::open(admin.cluster(), options).await?;
        let topic = producer.topic(TOPIC, WITHIN).await?;
        let rng = World::system();
        let (admin, run) = (admin.clone(), rng.rng.u64());
        Ok(Canary { admin, producer, deliveries, topic, run, sent: 0, remembered: VecDeque::new(), rng })
    }

    /// Sends a record and reads it back; then one of those before.
    pub async fn beat(&mut self) -> Vec<Beat> {
        let began = Instant::now();
        self.sent += 1;
        let value = format!("canary {:016x} {}", self.run, self.sent);
        let (at, offset) = match self.send(&value).await {
            Ok(place) => place,
            Err(why) => return vec![Beat::NotSent(why)],
        };
        let mut beats = vec![self.read(&at, offset, &value, began).await];
        if !self.remembered.is_empty() {
            let (at, offset, value) = &self.remembered[self.rng.rng.below(self.remembered.len() as u64) as usize];
            // A record that is still there is no news.
            beats.extend(Some(self.read(at, *offset, value, began).await).filter(|b| !matches!(b, Beat::Same(_))));
        }
        if self.remembered.len() == REMEMBERED_MAX {
            self.remembered.pop_front();
        }
        self.remembered.push_back((at, offset, value));
        beats
    }

    async fn send(&mut self, value: &str) -> Result<(TopicPartition, Offset), String> {
        let partition = PartitionId((self.sent % PARTITIONS as u64) as i32);
        let timestamp = self.admin.cluster().now();
        let record = Record { value: Some(value.to_string().into()), timestamp, ..Record::default() };
        let sent = self.producer.send(self.topic, Some(partition), &record, self.sent).await;
        sent.map_err(|error| error.to_string())?;
        match self.deliveries.recv().await.map(|delivery| delivery.outcome) {
            Some(Outcome::Acked(receipt)) => Ok((receipt.at, receipt.base_offset)),
            Some(Outcome::Failed(error)) => Err(error.to_string()),
            Some(Outcome::Unknown(error)) => Err(format!("perhaps stored: {error}")),
            Some(Outcome::Sent | Outcome::Dropped(_)) | None => Err("the producer has ended".to_string()),
        }
    }

    async fn read(&self, at: &TopicPartition, offset: Offset, value: &str, began: Instant) -> Beat {
        let options = ConsumeOptions {
            start: Start::Offset(offset),
            gaps: Gaps::Fail,
            end_offset: Some(Offset(offset.0 + 1)),
            stop_at_end: true,
            patience: WITHIN,
        };
        let read = async {
            let mut consumer = Consumer::open(self.admin.cluster(), at.clone(), options).await?;
            while let Some(chunk) = consumer.next().await? {
                if let Some(found) = chunk.records.into_iter().next() {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        };
        match read.await {
            Err(error) => judge_error(at, offset, &error),
            Ok(None) => Beat::Lost(format!("{at}: nothing is at offset {offset}, which was acknowledged")),
            Ok(Some(found)) if found.offset == offset && found.record.value.as_deref() == Some(value.as_bytes()) => {
                Beat::Same(began.elapsed())
            }
            Ok(Some(found)) => Beat::Lost(format!(
                "{at}: offset {offset} was acknowledged as {value:?}, and offset {} holds {:?}",
                found.offset,
                found.record.value.as_deref().map(String::from_utf8_lossy)
            )),
        }
    }
}

/// A leader that says that there is no such offset has lost it: it asks a majority before it says so.
fn judge_error(at: &TopicPartition, offset: Offset, error: &ClientError) -> Beat {
    match error.code() {
        Some(ErrorCode::OffsetOutOfRange) => Beat::Lost(format!("{at}: offset {offset}: {error}")),
        Some(_) | None => Beat::NotRead(format!("{at}: offset {offset}: {error}")),
    }
}
