//! `flotilla bench ...`: measures with the ordinary client, and says what the brokers spent on it.
//!
//! Promises: one JSON shape for all; a latency runs from when something was due, so that a stall is not
//! forgiven (coordinated omission); topics and groups it made are deleted.

mod commit;
mod consume;
mod e2e;
mod load;
mod produce;

use bytes::Bytes;
use clap::{Args, Subcommand};
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::Instant;

use super::{
    exit::Failure,
    global::Global,
    local,
    output::{OutputFormat, print_json, print_table},
    terminal::say,
    units,
};
use crate::client::{Admin, World, v1};

pub const EXAMPLES: &str = "\
Examples:
  flotilla bench produce -p 16 --size 1KiB --duration 60s --warmup 10s --in-flight 8192
  flotilla bench produce -p 1 --in-flight 1            one record at a time: latency
  flotilla bench produce -t orders --rate 10000 --format json
  flotilla bench consume -p 16 --records 1000000       how fast a topic is read
  flotilla bench consume -t orders --group probe       an existing one, as a member of a group
  flotilla bench e2e -p 6 --rate 1000 --duration 30s   from a record's due time to its consumer
  flotilla bench commit --groups 200 --rate 500        what committing costs

In JSON, device_bytes_per_byte is what all brokers of the local cluster wrote per byte of value
and replica; it and broker_cpu_s_per_million are null when the brokers are not local.";

/// Replicas of the topics that a bench makes.
const REPLICATION_FACTOR: i32 = 3;
/// Latencies from 1 us to 10 min, three digits.
const LATENCY_MAX_US: u64 = 600_000_000;

#[derive(Subcommand)]
pub enum BenchCommand {
    /// Records per second and latency of producing.
    #[command(after_help = produce::EXAMPLES)]
    Produce(produce::ProduceBench),
    /// Records per second of reading what is there; the latency is that of waiting for an answer.
    #[command(after_help = consume::EXAMPLES)]
    Consume(consume::ConsumeBench),
    /// Producing and consuming at once: the latency runs from when a record was due to its consumer.
    #[command(after_help = e2e::EXAMPLES)]
    E2e(e2e::E2eBench),
    /// Commits per second of many groups, one member each; in the report a record is a commit.
    #[command(after_help = commit::EXAMPLES)]
    Commit(commit::CommitBench),
}

/// The topic of a bench.
#[derive(Args)]
struct TopicArgs {
    /// Partitions of the topic that is made for it.
    #[arg(short, long, default_value = "1", value_parser = units::count::<i32>, allow_negative_numbers = true)]
    partitions: i32,
    /// Bytes of a record's value.
    #[arg(long, default_value = "1KiB", value_parser = units::room)]
    size: usize,
    /// An existing topic; it is kept.
    #[arg(short, long)]
    topic: Option<String>,
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
    match command {
        BenchCommand::Produce(args) => produce::run(args, global).await,
        BenchCommand::Consume(args) => consume::run(args, global).await,
        BenchCommand::E2e(args) => e2e::run(args, global).await,
        BenchCommand::Commit(args) => commit::run(args, global).await,
    }
}

/// A topic to measure on.
struct Topic {
    name: String,
    /// Made for this, to be deleted.
    is_ours: bool,
}

impl Topic {
    async fn open(admin: &Admin, args: &TopicArgs, global: &Global) -> Result<Topic, Failure> {
        match &args.topic {
            Some(name) => Ok(Topic { name: name.clone(), is_ours: false }),
            None => Topic::make(admin, args.partitions, global).await,
        }
    }

    async fn make(admin: &Admin, partitions: i32, global: &Global) -> Result<Topic, Failure> {
        let name = format!("bench-{:08x}", World::system().rng.u64() as u32);
        let metadata = admin.get_metadata(v1::GetMetadataRequest::default()).await.map_err(Failure::of_read)?;
        let request = v1::CreateTopicRequest {
            name: name.clone(),
            partitions: Some(partitions),
            replication_factor: Some(REPLICATION_FACTOR.min(metadata.brokers.len().max(1) as i32)),
            configs: Default::default(),
            dry_run: false,
            wait: true,
            timeout_ms: Some(global.timeout_ms()),
        };
        admin.create_topic(request).await?;
        Ok(Topic { name, is_ours: true })
    }

    /// Deletes it if it was made for this.
    async fn close(self, admin: &Admin) {
        let request = v1::DeleteTopicRequest { name: self.name.clone(), dry_run: false };
        if self.is_ours
            && let Err(error) = admin.delete_topic(request).await
        {
            say(&format!("flotilla: topic {} is still there: {error}", self.name));
        }
    }
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

/// What was measured between two moments.
struct Measured {
    records: u64,
    /// Of their values.
    bytes: f64,
    latency: Histogram<u64>,
    errors: u64,
    before: Usage,
    after: Usage,
    /// How often the brokers wrote each byte on purpose; 0: they wrote nothing for it.
    replicas: i32,
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_MAX_US, 3).expect("three digits up to ten minutes are allowed")
}

/// Bytes that do not compress, the same in every run.
fn payload(size: usize) -> Bytes {
    let rng = crate::seam::Rng::seeded(1);
    (0..size.div_ceil(8)).flat_map(|_| rng.u64().to_le_bytes()).take(size).collect::<Vec<u8>>().into()
}

fn report(measured: &Measured) -> Report {
    let Measured { records, bytes, latency, errors, before, after, replicas } = measured;
    let seconds = (after.at - before.at).as_secs_f64();
    let records = *records as f64;
    let ms = |us: u64| round(us as f64 / 1000.0, 3);
    let per_million = |from: Option<f64>, to: Option<f64>| {
        let used = to? - from?;
        (records > 0.0).then(|| round(used / records * 1e6, 3))
    };
    let written = before.written.zip(after.written).filter(|_| *bytes > 0.0 && *replicas > 0);
    Report {
        records_per_s: round(records / seconds, 1),
        mb_per_s: round(bytes / 1e6 / seconds, 3),
        latency_ms: Latency {
            p50: ms(latency.value_at_quantile(0.5)),
            p99: ms(latency.value_at_quantile(0.99)),
            p999: ms(latency.value_at_quantile(0.999)),
            max: ms(latency.max()),
        },
        errors: *errors,
        broker_cpu_s_per_million: per_million(before.broker_cpu, after.broker_cpu),
        client_cpu_s_per_million: per_million(before.client_cpu, after.client_cpu),
        device_bytes_per_byte: written
            .map(|(from, to)| round(to.saturating_sub(from) as f64 / bytes / f64::from(*replicas), 3)),
    }
}

fn round(x: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (x * scale).round() / scale
}

fn print(report: &Report, format: OutputFormat) -> Result<(), Failure> {
    if format == OutputFormat::Json {
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
    use std::time::Duration;

    use serde_json::json;

    use super::*;

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

    #[tokio::test(start_paused = true)]
    async fn a_report_divides_by_the_time_measured() {
        let usage = |broker_cpu, written| Usage { at: Instant::now(), broker_cpu, client_cpu: Some(1.0), written };
        let before = usage(Some(2.0), Some(1_000));
        tokio::time::advance(Duration::from_secs(2)).await;
        let after = usage(Some(5.0), Some(7_000));
        let mut latency = histogram();
        latency.record(1_500).expect("in range");
        let measured = Measured { records: 1_000, bytes: 1e6, latency, errors: 3, before, after, replicas: 3 };
        let got = report(&measured);
        assert_eq!((got.records_per_s, got.mb_per_s, got.errors), (500.0, 0.5, 3));
        assert_eq!((got.broker_cpu_s_per_million, got.client_cpu_s_per_million), (Some(3_000.0), Some(0.0)));
        assert_eq!(got.device_bytes_per_byte, Some(0.002));
        assert!((1.4..1.6).contains(&got.latency_ms.p50), "{got:?}");
        assert_eq!(report(&Measured { replicas: 0, ..measured }).device_bytes_per_byte, None);
    }
}
