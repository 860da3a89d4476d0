//! K1, the sending half: an idempotent producer with acks=all. What counts as acknowledged is its delivery report.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use logcheck::{
    event::{Body, Outcome, Send, Sent},
    payload,
    rules::errors::NOT_SENT,
};
use rdkafka::{
    ClientContext, Message,
    error::KafkaError,
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext},
    types::RDKafkaErrorCode,
};

use super::{cannot_open, code, config, is_ending, on_thread};
use crate::{
    error::ChaosError,
    workload::{Context, Scribe, process, produce::RECORD_BYTES},
};

/// Records in a second.
const RATE: u64 = 1_000;
const TICK: Duration = Duration::from_millis(20);
/// What was not sent in time is not made up for beyond this.
const DEBT_MAX: Duration = Duration::from_millis(500);
/// A record whose fate is not known by then is given up, with an unknown outcome.
const DELIVERY_MS: &str = "30000";
const QUEUED_MAX: &str = "20000";
/// Longer than a delivery may take: all outcomes are known then.
const LAST_WORDS: Duration = Duration::from_secs(40);

/// A delivery report: which send, and its offset or what went wrong.
type Report = (usize, Result<i64, i16>);

/// Collects reports while the producer is polled.
#[derive(Default)]
struct Reports(Mutex<Vec<Report>>);

impl Reports {
    fn take(&self) -> Vec<Report> {
        std::mem::take(&mut *self.0.lock().expect("nobody panics with the reports"))
    }
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, delivered: &DeliveryResult<'_>, op: usize) {
        let report = match delivered {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(code(error)),
        };
        self.0.lock().expect("nobody panics with the reports").push((op, report));
    }
}

/// Sends until the run ends, and records how each record ended.
pub async fn run(context: Context) -> Result<(), ChaosError> {
    on_thread(move || {
        let mut config = config(&context, "kafka-producer");
        config.set("acks", "all").set("enable.idempotence", "true").set("delivery.timeout.ms", DELIVERY_MS);
        config.set("queue.buffering.max.messages", QUEUED_MAX);
        let producer = config.create_with_context(Reports::default()).map_err(cannot_open("a Kafka producer"))?;
        let scribe = context.worker("kafka-producer")?;
        let mut sender = Sender { context, scribe, producer, next_partition: 0 };
        sender.run()?;
        sender.scribe.finish()
    })
    .await
}

struct Sender {
    context: Context,
    scribe: Scribe,
    producer: BaseProducer<Reports>,
    next_partition: u32,
}

impl Sender {
    fn run(&mut self) -> Result<(), ChaosError> {
        let mut paid = Instant::now();
        while !is_ending(&self.context) {
            let now = Instant::now();
            paid = paid.max(now.checked_sub(DEBT_MAX).unwrap_or(now));
            let due = now.duration_since(paid).as_millis() as u64 * RATE / 1_000;
            paid += Duration::from_millis(due * 1_000 / RATE);
            for _ in 0..due {
                self.send()?;
            }
            self.producer.poll(TICK);
            self.settle()?;
        }
        let end = Instant::now() + LAST_WORDS;
        while self.producer.in_flight_count() > 0 && Instant::now() < end {
            self.producer.poll(TICK);
            self.settle()?;
        }
        self.settle()
    }

    fn send(&mut self) -> Result<(), ChaosError> {
        let key = self.next_partition;
        self.next_partition = (key + 1) % self.context.partitions;
        let value = self.context.recorder.value();
        let body = Send { key, value, acks: -1, producer: None, batch: None };
        let op = self.scribe.begin(process::KAFKA_PRODUCER, Body::Send(body))?;
        self.context.tally.sent(1);
        let bytes = payload::make(self.context.run, key, value, RECORD_BYTES);
        let record: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(&self.context.topic, op as usize).partition(key as i32).payload(&bytes);
        match self.producer.send(record) {
            Ok(()) => Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                self.context.tally.failed(1);
                self.complete(op as usize, Sent { outcome: Outcome::Fail, error: NOT_SENT, ..Sent::default() })
            }
            // A producer that can do nothing any more says so again and again.
            Err((error, _)) => {
                self.context.tally.unknown(1);
                self.complete(op as usize, sent(Err(code(&error))))
            }
        }
    }

    fn settle(&mut self) -> Result<(), ChaosError> {
        for (op, report) in self.producer.context().take() {
            let sent = sent(report);
            match sent.outcome {
                Outcome::Ok => self.context.tally.acked_by_others(self.context.recorder.now(), 1),
                _ => self.context.tally.unknown(1),
            }
            self.complete(op, sent)?;
        }
        Ok(())
    }

    fn complete(&mut self, op: usize, sent: Sent) -> Result<(), ChaosError> {
        self.scribe.complete(process::KAFKA_PRODUCER, op as u64, Body::Sent(sent))
    }
}

/// What a report says. One that the broker knew already may come without its offset.
fn sent(report: Result<i64, i16>) -> Sent {
    match report {
        Ok(offset) => Sent { outcome: Outcome::Ok, offset: (offset >= 0).then_some(offset), ..Sent::default() },
        Err(error) => Sent { outcome: Outcome::Info, error, ..Sent::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_leaves_the_outcome_open_and_an_unknown_offset_is_none() {
        assert_eq!(sent(Ok(7)), Sent { outcome: Outcome::Ok, offset: Some(7), ..Sent::default() });
        assert_eq!(sent(Ok(-1001)).offset, None);
        assert_eq!(sent(Err(6)), Sent { outcome: Outcome::Info, error: 6, ..Sent::default() });
    }
}
