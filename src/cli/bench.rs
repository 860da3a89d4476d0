//! `flotilla bench produce`: a closed loop (or a fixed rate) through the ordinary producer.
//!
//! One task: as long as fewer records than --in-flight are outstanding it sends, then it takes
//! outcomes, a batch at a time. A record's latency runs from `send` to its outcome; with --rate from
//! when it should have been sent, so that a stall is not forgiven (coordinated omission).

use std::time::Duration;

use bytes::Bytes;
use clap::{Args, Subcommand};
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use super::{
    Failure, Global, local,
    output::{self, OutputFormat, print_json, print_table},
    produce::{AcksArg, CompressionArg},
    units,
};
use crate::{
    client::{
        Acks, Admin, Deliveries, Delivery, Outcome, Partitioner, Producer, ProducerOptions, SendError, TopicHandle,
        World, v1,
    },
    record::Record,
};

pub const EXAMPLES: &str = "\
Examples:
  flotilla bench produce -p 16 --size 1KiB --duration 60s --warmup 10s --in-flight 8192
  flotilla bench produce -p 1 --in-flight 1            one record at a time: latency
  flotilla bench produce -t orders --rate 10000 --format json

In JSON, device_bytes_per_byte is what all brokers of the local cluster wrote per acknowledged byte
and replica; it and broker_cpu_s_per_million are null when the brokers are not local.";

/// Replicas of the topic that the bench makes.
const REPLICATION_FACTOR: i32 = 3;
/// Latencies from 1 us to 10 min, three digits.
const LATENCY_MAX_US: u64 = 600_000_000;
/// Records sent before outcomes are looked at.
const BURST: usize = 256;

#[derive(Subcommand)]
pub enum BenchCommand {
    /// Records per second and latency of producing.
    Produce(BenchArgs),
}

#[derive(Args)]
pub struct BenchArgs {
    /// Partitions of the topic that is made for it.
    #[arg(short, long, default_value_t = 1)]
    partitions: i32,
    /// Bytes of a record's value.
    #[arg(long, default_value = "1KiB", value_parser = units::size)]
    size: usize,
    /// How long to measure.
    #[arg(long, default_value = "60s", value_parser = units::duration)]
    duration: Duration,
    /// How long to produce before measuring.
    #[arg(long, default_value = "10s", value_parser = units::duration)]
    warmup: Duration,
    /// Records outstanding in all.
    #[arg(long, default_value_t = 8192, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    in_flight: u64,
    /// Records per second; 0: as many as go.
    #[arg(long, default_value_t = 0)]
    rate: u64,
    #[arg(long, value_enum, default_value_t)]
    acks: AcksArg,
    #[arg(short = 'z', long, value_enum, default_value_t)]
    compression: CompressionArg,
    /// How long a record waits for others to share a batch with [default: 5ms; 0 if --in-flight is 1].
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    linger: Option<Duration>,
    /// Size of a full batch.
    #[arg(long, default_value = "128KiB", value_name = "SIZE", value_parser = units::size)]
    batch_bytes: usize,
    /// An existing topic; it is kept.
    #[arg(short, long)]
    topic: Option<String>,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

/// The result's JSON, an interface.
#[derive(Debug, PartialEq, Serialize)]
struct Report {
    records_per_s: f64,
    mb_per_s: f64,
    latency_ms: Latency,
    errors: u64,
    broker_cpu_s_per_million: Option<f64>,
    client_cpu_s_per_million: Option<f64>,
    device_bytes_per_byte: Option<f64>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Latency {
    p50: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

pub async fn run(command: BenchCommand, global: &Global) -> Result<(), Failure> {
    let BenchCommand::Produce(args) = command;
    let admin = global.admin()?;
    let (topic, is_ours) = match &args.topic {
        Some(topic) => (topic.clone(), false),
        None => (make_topic(&admin, &args, global).await?, true),
    };
    let report = measure(&args, &admin, &topic, global).await;
    if is_ours {
        let request = v1::DeleteTopicRequest { name: topic.clone(), dry_run: false };
        if let Err(error) = admin.delete_topic(request).await {
            eprintln!("flotilla: topic {topic} is still there: {error}");
        }
    }
    print(&args, &report?)
}

async fn make_topic(admin: &Admin, args: &BenchArgs, global: &Global) -> Result<String, Failure> {
    let name = format!("bench-{:08x}", World::system().rng.u64() as u32);
    let brokers = admin.get_metadata(v1::GetMetadataRequest::default()).await.map_err(Failure::of_read)?.brokers.len();
    let request = v1::CreateTopicRequest {
        name: name.clone(),
        partitions: args.partitions,
        replication_factor: REPLICATION_FACTOR.min(brokers.max(1) as i32),
        configs: Default::default(),
        dry_run: false,
        wait: true,
        timeout_ms: global.timeout_ms(),
    };
    admin.create_topic(request).await?;
    Ok(name)
}

/// CPU and device use at one moment.
struct Usage {
    at: Instant,
    broker_cpu: Option<f64>,
    client_cpu: Option<f64>,
    written: Option<u64>,
}

impl Usage {
    fn now(pids: &[i32]) -> Usage {
        let some = !pids.is_empty();
        let cpu: Option<Vec<f64>> = pids.iter().map(|pid| local::cpu_seconds(*pid)).collect();
        let written: Option<Vec<u64>> = pids.iter().map(|pid| local::written_bytes(*pid)).collect();
        Usage {
            at: Instant::now(),
            broker_cpu: cpu.filter(|_| some).map(|c| c.iter().sum()),
            client_cpu: local::cpu_seconds(std::process::id() as i32),
            written: written.filter(|_| some).map(|w| w.iter().sum()),
        }
    }
}

/// The loop's state.
struct Load {
    producer: Producer,
    topic: TopicHandle,
    record: Record,
    began: Instant,
    in_flight: u64,
    outstanding: u64,
    rate: u64,
    sent: u64,
    acked: u64,
    errors: u64,
    first_error: Option<String>,
    latency: Histogram<u64>,
    is_measuring: bool,
}

async fn measure(args: &BenchArgs, admin: &Admin, topic: &str, global: &Global) -> Result<Report, Failure> {
    let default_linger = if args.in_flight == 1 { Duration::ZERO } else { Duration::from_millis(5) };
    let options = ProducerOptions {
        acks: Acks::from(args.acks),
        linger: args.linger.unwrap_or(default_linger),
        batch_bytes: args.batch_bytes,
        compression: args.compression.into(),
        partitioner: Partitioner::RoundRobin,
        delivery_timeout: global.timeout,
        // --in-flight is the bound here.
        buffer_bytes_max: (args.in_flight as usize).saturating_mul(args.size + 256).max(32 << 20),
    };
    let (producer, mut deliveries) = Producer::open(admin.cluster(), options).await?;
    let handle = producer.topic(topic, global.timeout).await?;
    let mut load = Load {
        producer,
        topic: handle,
        record: Record { value: Some(payload(args.size)), ..Default::default() },
        began: Instant::now(),
        in_flight: args.in_flight,
        outstanding: 0,
        rate: args.rate,
        sent: 0,
        acked: 0,
        errors: 0,
        first_error: None,
        latency: Histogram::new_with_max(LATENCY_MAX_US, 3).expect("three digits up to ten minutes are allowed"),
        is_measuring: false,
    };
    let pids = local::running_pids();
    let bar = output::progress("warming up");
    load.run(&mut deliveries, load.began + args.warmup, &bar).await?;
    bar.set_message("measuring");
    (load.is_measuring, load.acked, load.errors) = (true, 0, 0);
    let before = Usage::now(&pids);
    load.run(&mut deliveries, before.at + args.duration, &bar).await?;
    let after = Usage::now(&pids);
    load.is_measuring = false;
    bar.finish_and_clear();
    if let Some(error) = &load.first_error {
        eprintln!("flotilla: first error: {error}");
    }
    let report = report(args, &load, &before, &after);
    let Load { producer, .. } = load;
    drop(producer);
    while deliveries.recv().await.is_some() {}
    Ok(report)
}

/// Bytes that do not compress, the same in every run.
fn payload(size: usize) -> Bytes {
    let rng = crate::seam::Rng::seeded(1);
    (0..size.div_ceil(8)).flat_map(|_| rng.u64().to_le_bytes()).take(size).collect::<Vec<u8>>().into()
}

impl Load {
    async fn run(
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
        self.record.timestamp = crate::types::WallMs(wall_ms());
        for _ in 0..BURST {
            if self.outstanding >= self.in_flight || self.sent >= due {
                break;
            }
            let behind = match self.rate {
                0 => Duration::ZERO,
                rate => Duration::from_secs_f64((due - self.sent) as f64 / rate as f64),
            };
            let tag = (now - self.began).saturating_sub(behind).as_micros() as u64;
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
                if self.is_measuring {
                    for sent in delivery.tags {
                        self.latency.saturating_record(now.saturating_sub(sent).max(1));
                    }
                }
            }
            Outcome::Failed(error) | Outcome::Unknown(error) => {
                self.errors += records;
                self.first_error.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

fn wall_ms() -> i64 {
    use crate::seam::Clock;
    crate::seam::SystemClock.wall().0
}

fn report(args: &BenchArgs, load: &Load, before: &Usage, after: &Usage) -> Report {
    let seconds = (after.at - before.at).as_secs_f64();
    let acked = load.acked as f64;
    let bytes = acked * args.size as f64;
    let ms = |us: u64| round(us as f64 / 1000.0, 3);
    let per_million = |from: Option<f64>, to: Option<f64>| {
        let used = to? - from?;
        (acked > 0.0).then(|| round(used / acked * 1e6, 3))
    };
    let written = match (before.written, after.written) {
        (Some(from), Some(to)) if bytes > 0.0 => {
            Some(round(to.saturating_sub(from) as f64 / bytes / f64::from(REPLICATION_FACTOR), 3))
        }
        (Some(_) | None, Some(_) | None) => None,
    };
    Report {
        records_per_s: round(acked / seconds, 1),
        mb_per_s: round(bytes / 1e6 / seconds, 3),
        latency_ms: Latency {
            p50: ms(load.latency.value_at_quantile(0.5)),
            p99: ms(load.latency.value_at_quantile(0.99)),
            p999: ms(load.latency.value_at_quantile(0.999)),
            max: ms(load.latency.max()),
        },
        errors: load.errors,
        broker_cpu_s_per_million: per_million(before.broker_cpu, after.broker_cpu),
        client_cpu_s_per_million: per_million(before.client_cpu, after.client_cpu),
        device_bytes_per_byte: written,
    }
}

fn round(x: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (x * scale).round() / scale
}

fn print(args: &BenchArgs, report: &Report) -> Result<(), Failure> {
    if args.format == OutputFormat::Json {
        return print_json(report);
    }
    let Report { latency_ms: l, .. } = report;
    let or_unknown = |x: Option<f64>| x.map_or("unknown".to_string(), |x| x.to_string());
    let rows = [
        ("records/s", format!("{:.0}", report.records_per_s)),
        ("MB/s", format!("{:.2}", report.mb_per_s)),
        ("latency p50 ms", l.p50.to_string()),
        ("latency p99 ms", l.p99.to_string()),
        ("latency p99.9 ms", l.p999.to_string()),
        ("latency max ms", l.max.to_string()),
        ("errors", report.errors.to_string()),
        ("broker CPU s per million", or_unknown(report.broker_cpu_s_per_million)),
        ("client CPU s per million", or_unknown(report.client_cpu_s_per_million)),
        ("device bytes per byte and replica", or_unknown(report.device_bytes_per_byte)),
    ];
    print_table(&["FIGURE", "VALUE"], rows.into_iter().map(|(name, value)| vec![name.into(), value]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_reports_json_is_frozen() {
        let report = Report {
            records_per_s: 1.0,
            mb_per_s: 2.0,
            latency_ms: Latency { p50: 0.1, p99: 0.2, p999: 0.3, max: 0.4 },
            errors: 0,
            broker_cpu_s_per_million: None,
            client_cpu_s_per_million: Some(1.5),
            device_bytes_per_byte: None,
        };
        let want = json!({"records_per_s":1.0,"mb_per_s":2.0,"latency_ms":{"p50":0.1,"p99":0.2,"p999":0.3,"max":0.4},
            "errors":0,"broker_cpu_s_per_million":null,"client_cpu_s_per_million":1.5,"device_bytes_per_byte":null});
        assert_eq!(serde_json::to_value(&report).expect("JSON"), want);
    }

    #[test]
    fn a_payload_has_its_size() {
        assert_eq!(payload(1000).len(), 1000);
        assert_eq!(payload(0).len(), 0);
    }
}
