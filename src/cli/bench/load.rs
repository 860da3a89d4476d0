//! The producing side: a closed loop, or a fixed rate, through the ordinary producer.
//!
//! One task: as long as fewer records than --in-flight are outstanding it sends, then it takes
//! outcomes, a batch at a time. A record's latency runs from `send` to its outcome; with --rate from
//! when it should have been sent, so that a stall is not forgiven (coordinated omission).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clap::Args;
use hdrhistogram::Histogram;
use tokio::time::{Instant, sleep_until};

use super::report::histogram;
use crate::{
    cli::{
        exit::Failure,
        global::Global,
        produce::{AcksArg, CompressionArg},
        terminal::say,
        units,
    },
    client::{
        Acks, Cluster, Deliveries, Delivery, Outcome, Partitioner, Producer, ProducerOptions, SendError, TopicHandle,
    },
    record::Record,
    seam::{Clock, SystemClock},
};

/// How many records are sent before outcomes are looked at.
const BURST: usize = 256;
/// How many bytes at the beginning of a value say when the record was due.
const STAMP_BYTES: usize = 8;

#[derive(Args)]
pub(super) struct TimeArgs {
    /// How long to measure.
    #[arg(long, default_value = "60s", value_parser = units::wait)]
    pub duration: Duration,
    /// How long to produce before measuring.
    #[arg(long, default_value = "10s", value_parser = units::duration)]
    pub warmup: Duration,
}

#[derive(Args)]
pub(super) struct LoadArgs {
    /// Records outstanding in all.
    #[arg(long, default_value_t = 8192, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub in_flight: u64,
    /// Records per second; 0: as many as go.
    #[arg(long, default_value_t = 0)]
    pub rate: u64,
    #[arg(long, value_enum, default_value_t)]
    pub acks: AcksArg,
    #[arg(short = 'z', long, value_enum, default_value_t)]
    pub compression: CompressionArg,
    /// How long a record waits for others to share a batch with [default: 5ms; 0 if --in-flight is 1, and for e2e].
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub linger: Option<Duration>,
    /// Size of a full batch.
    #[arg(long, default_value = "128KiB", value_name = "SIZE", value_parser = units::room)]
    pub batch_bytes: usize,
}

/// What the loop knows.
pub(super) struct Load {
    producer: Producer,
    topic: TopicHandle,
    record: Record,
    /// Whether each value says when it was due.
    is_stamped: bool,
    began: Instant,
    in_flight: u64,
    outstanding: u64,
    rate: u64,
    sent: u64,
    acked: u64,
    errors: u64,
    /// How many records were acknowledged since the beginning, whatever was measured.
    acked_in_all: u64,
    first_error: Option<String>,
    latency: Histogram<u64>,
    is_measuring: bool,
}

/// How the outcomes of one measured span came out.
pub(super) struct Outcomes {
    pub acked: u64,
    pub errors: u64,
    pub latency: Histogram<u64>,
}

impl Load {
    /// A producer for the topic, with nothing sent.
    pub async fn open(
        args: &LoadArgs,
        size: usize,
        cluster: &Cluster,
        topic: &str,
        global: &Global,
        is_stamped: bool,
    ) -> Result<(Load, Deliveries), Failure> {
        let default_linger = if args.in_flight == 1 || is_stamped { Duration::ZERO } else { Duration::from_millis(5) };
        let options = ProducerOptions {
            acks: Acks::from(args.acks),
            linger: args.linger.unwrap_or(default_linger),
            batch_bytes: args.batch_bytes,
            compression: args.compression.into(),
            partitioner: Partitioner::RoundRobin,
            delivery_timeout: global.timeout,
            // --in-flight is the bound here.
            buffer_bytes_max: (args.in_flight as usize).saturating_mul(size + 256).max(32 << 20),
            ..Default::default()
        };
        let (producer, deliveries) = Producer::open(cluster, options).await?;
        let handle = producer.topic(topic, global.timeout).await?;
        let size = if is_stamped { size.max(STAMP_BYTES) } else { size };
        let load = Load {
            producer,
            topic: handle,
            record: Record { value: Some(payload(size)), ..Default::default() },
            is_stamped,
            began: Instant::now(),
            in_flight: args.in_flight,
            outstanding: 0,
            rate: args.rate,
            sent: 0,
            acked: 0,
            errors: 0,
            acked_in_all: 0,
            first_error: None,
            latency: histogram(),
            is_measuring: false,
        };
        Ok((load, deliveries))
    }

    /// What stamps count from.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// From here on latencies count; what came before is forgotten.
    pub fn begin_measuring(&mut self) {
        (self.is_measuring, self.acked, self.errors) = (true, 0, 0);
        self.latency.reset();
    }

    /// What was measured; ends measuring, and says the first error.
    pub fn end_measuring(&mut self) -> Outcomes {
        self.is_measuring = false;
        if let Some(error) = self.first_error.take() {
            say(&format!("flotilla: first error: {error}"));
        }
        let latency = std::mem::replace(&mut self.latency, histogram());
        Outcomes { acked: self.acked, errors: self.errors, latency }
    }

    /// Sends so many records, as fast as they go, and waits for all outcomes.
    pub async fn fill(mut self, deliveries: &mut Deliveries, records: u64) -> Result<(), Failure> {
        while self.sent < records {
            self.burst(records)?;
            let mut next = deliveries.try_recv();
            if next.is_none() && self.outstanding >= self.in_flight {
                next = deliveries.recv().await;
            } else if next.is_none() {
                // The driver shares this thread.
                tokio::task::yield_now().await;
            }
            while let Some(delivery) = next {
                self.count(delivery);
                next = deliveries.try_recv();
            }
        }
        let first_error = self.first_error.take();
        let (_, failed) = self.finish(deliveries).await;
        match first_error.or(failed) {
            None => Ok(()),
            Some(error) => Err(Failure::failed(format!("the topic could not be filled: {error}"))),
        }
    }

    /// Waits for all outcomes. How many records were acknowledged since the beginning, and the first error since
    /// the last one was said.
    pub async fn finish(mut self, deliveries: &mut Deliveries) -> (u64, Option<String>) {
        self.producer.flush();
        while self.outstanding > 0 {
            match deliveries.recv().await {
                Some(delivery) => self.count(delivery),
                None => break,
            }
        }
        (self.acked_in_all, self.first_error)
    }

    /// Sends what was taken, and waits until the producer has ended. How many records were sent in all.
    pub async fn end(self, deliveries: &mut Deliveries) -> u64 {
        let Load { producer, sent, .. } = self;
        drop(producer);
        while deliveries.recv().await.is_some() {}
        sent
    }

    /// Sends and counts until `end`.
    pub async fn run(
        &mut self,
        deliveries: &mut Deliveries,
        end: Instant,
        bar: &indicatif::ProgressBar,
    ) -> Result<(), Failure> {
        let rate_began = Instant::now();
        let rate_sent = self.sent;
        while Instant::now() < end {
            let due = self.due(rate_began, rate_sent);
            self.burst(due)?;
            let next_due = match self.rate {
                0 => end,
                rate => {
                    let n = self.sent - rate_sent + 1;
                    end.min(rate_began + Duration::from_secs_f64(n as f64 / rate as f64))
                }
            };
            let is_full = self.outstanding >= self.in_flight || self.rate > 0;
            let mut next = deliveries.try_recv();
            if next.is_none() && is_full {
                let wake = if self.outstanding >= self.in_flight { end } else { next_due };
                next = tokio::select! {
                    delivery = deliveries.recv() => delivery,
                    () = sleep_until(wake) => None,
                };
            } else if next.is_none() {
                // The driver shares this thread.
                tokio::task::yield_now().await;
            }
            while let Some(delivery) = next {
                self.count(delivery);
                next = deliveries.try_recv();
            }
            bar.set_position(self.acked);
        }
        Ok(())
    }

    /// How many records may have been sent by now.
    fn due(&self, began: Instant, sent_before: u64) -> u64 {
        match self.rate {
            0 => u64::MAX,
            rate => sent_before + (began.elapsed().as_secs_f64() * rate as f64) as u64,
        }
    }

    fn burst(&mut self, due: u64) -> Result<(), Failure> {
        let now = Instant::now();
        self.record.timestamp = SystemClock.wall();
        for _ in 0..BURST {
            if self.outstanding >= self.in_flight || self.sent >= due {
                break;
            }
            let behind = match self.rate {
                0 => Duration::ZERO,
                rate => Duration::from_secs_f64((due - self.sent) as f64 / rate as f64),
            };
            let tag = (now - self.began).saturating_sub(behind).as_micros() as u64;
            if self.is_stamped
                && let Some(value) = &mut self.record.value
            {
                *value = stamped(value, tag);
            }
            match self.producer.try_send(self.topic, None, &self.record, tag) {
                Ok(()) => {}
                Err(SendError::Full) => break,
                Err(SendError::Refused(error)) => return Err(error.into()),
            }
            self.outstanding += 1;
            self.sent += 1;
        }
        Ok(())
    }

    fn count(&mut self, delivery: Delivery) {
        let now = self.began.elapsed().as_micros() as u64;
        let records = delivery.tags.len() as u64;
        self.outstanding -= records;
        match delivery.outcome {
            Outcome::Acked(_) | Outcome::Sent => {
                self.acked += records;
                self.acked_in_all += records;
                if self.is_measuring {
                    for sent in delivery.tags {
                        self.latency.saturating_record(now.saturating_sub(sent).max(1));
                    }
                }
            }
            // How many records it is about, the offsets of the topic tell at the end.
            Outcome::Failed(error) | Outcome::Unknown(error) | Outcome::Dropped(error) => {
                self.errors += records;
                self.first_error.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

/// Returns the value with its first bytes replaced by a time.
fn stamped(value: &Bytes, us: u64) -> Bytes {
    let mut bytes = BytesMut::from(&value[..]);
    bytes[..STAMP_BYTES].copy_from_slice(&us.to_le_bytes());
    bytes.freeze()
}

/// When the record was due, in microseconds since the load began.
pub(super) fn stamp_of(value: &[u8]) -> Option<u64> {
    value.first_chunk::<STAMP_BYTES>().map(|bytes| u64::from_le_bytes(*bytes))
}

/// Returns bytes that do not compress, the same in every run.
fn payload(size: usize) -> Bytes {
    let rng = crate::seam::Rng::seeded(1);
    (0..size.div_ceil(8)).flat_map(|_| rng.u64().to_le_bytes()).take(size).collect::<Vec<u8>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_its_size() {
        assert_eq!(payload(1000).len(), 1000);
        assert_eq!(payload(0).len(), 0);
    }

    #[test]
    fn a_stamp_is_read_back() {
        let value = stamped(&payload(100), 123_456_789);
        assert_eq!((value.len(), stamp_of(&value)), (100, Some(123_456_789)));
        assert_eq!(value[STAMP_BYTES..], payload(100)[STAMP_BYTES..]);
        assert_eq!(stamp_of(b"short"), None);
    }
}
