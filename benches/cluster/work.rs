//! How each scenario is measured: with `flotilla bench` where it can say, else with what /proc and a clock say.

use std::{
    io::{BufWriter, Write},
    process::{ChildStdin, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use jepsen_style_tests::{
    cluster::Cluster,
    command::{run, wait},
};
use serde_json::Value;

use crate::{
    cold::drop_caches,
    figures::{Figure, Figures},
    kafka,
    options::Form,
    processes::Usage,
    scenarios::OFFERED_RATE,
    site::NODES,
};

/// For anything but the measuring itself.
pub const SLACK: Duration = Duration::from_secs(600);
/// A thousand partitions take a minute to make where there is little CPU.
const TIMEOUT: &str = "290s";
/// Of a topic that is read or that fills a broker.
const PARTITIONS: u32 = 16;
/// What each record has that a topic is filled with.
const FILLED_BYTES: usize = 1_024;
/// The broker that is ended and started again.
const RESTARTED: u64 = 2;
/// Commits per second of all groups.
const COMMITS_PER_S: &str = "500";

pub struct Produce {
    pub partitions: u32,
    pub size: &'static str,
    pub in_flight: u64,
    /// Records per second; 0: as many as go.
    pub rate: u64,
}

/// The same through Kafka's listener, with [`kafka`]'s own client.
pub struct KafkaProduce {
    pub partitions: u32,
    pub size: usize,
    pub in_flight: u64,
}

pub enum Work {
    Produce(Produce),
    KafkaProduce(KafkaProduce),
    KafkaConsumeCold,
    ConsumeWarm,
    ConsumeCold,
    EndToEnd,
    Commit,
    Idle { partitions: u32 },
    Restart(Ending),
}

#[derive(Clone, Copy)]
pub enum Ending {
    Killed,
    Stopped,
}

impl Work {
    pub fn measure(&self, cluster: &Cluster, form: &Form) -> Figures {
        match self {
            Work::Produce(load) => produce(load, cluster, form),
            Work::KafkaProduce(KafkaProduce { partitions, size, in_flight }) => {
                kafka::produce((*partitions).min(form.partitions_max), *size, *in_flight, cluster, form)
            }
            Work::ConsumeWarm => consume_warm(cluster, form),
            Work::ConsumeCold => consume_cold(cluster, form, |topic| {
                let before = Usage::of(cluster);
                let mut figures = bench(cluster, &["consume", "-t", topic]);
                figures.set(Figure::ReadPerByte, read_per_byte(cluster, &before, form.filled_records));
                figures
            }),
            Work::KafkaConsumeCold => consume_cold(cluster, form, |topic| kafka::consume(topic, FILLED_BYTES, cluster)),
            Work::EndToEnd => end_to_end(cluster, form),
            Work::Commit => commit(cluster, form),
            Work::Idle { partitions } => idle(*partitions, cluster, form),
            Work::Restart(ending) => restart(*ending, cluster, form),
        }
    }
}

fn produce(load: &Produce, cluster: &Cluster, form: &Form) -> Figures {
    let partitions = load.partitions.min(form.partitions_max).to_string();
    let in_flight = load.in_flight.to_string();
    let rate = load.rate.to_string();
    let args = ["produce", "-p", &partitions, "--size", load.size, "--in-flight", &in_flight, "--rate", &rate];
    timed_bench(cluster, form, &args)
}

fn end_to_end(cluster: &Cluster, form: &Form) -> Figures {
    let (partitions, rate) = (PARTITIONS.to_string(), OFFERED_RATE.to_string());
    timed_bench(cluster, form, &["e2e", "-p", &partitions, "--size", "1KiB", "--rate", &rate])
}

fn commit(cluster: &Cluster, form: &Form) -> Figures {
    let groups = form.groups.to_string();
    let mut figures = timed_bench(cluster, form, &["commit", "--groups", &groups, "--rate", COMMITS_PER_S]);
    // A commit has no value whose bytes would count.
    figures.unset(Figure::MbPerS);
    figures
}

fn consume_warm(cluster: &Cluster, form: &Form) -> Figures {
    let (partitions, records) = (PARTITIONS.to_string(), form.read_records.to_string());
    let before = Usage::of(cluster);
    let mut figures = bench(cluster, &["consume", "-p", &partitions, "--size", "1KiB", "--records", &records]);
    figures.set(Figure::ReadPerByte, read_per_byte(cluster, &before, form.read_records));
    figures
}

/// A start empties the brokers' own caches, and the kernel's is dropped before and after it: a start reads, too.
fn consume_cold(cluster: &Cluster, form: &Form, consume: impl FnOnce(&str) -> Figures) -> Figures {
    const TOPIC: &str = "cold";
    fill(cluster, TOPIC, form.filled_records);
    cluster.local(&["stop"]);
    drop_all_caches(cluster);
    cluster.local(&["start"]);
    cluster.cli.wait_healthy();
    drop_all_caches(cluster);
    let figures = consume(TOPIC);
    delete(cluster, TOPIC);
    figures
}

fn idle(partitions: u32, cluster: &Cluster, form: &Form) -> Figures {
    const TOPIC: &str = "idle";
    create(cluster, TOPIC, partitions.min(form.partitions_max));
    thread::sleep(form.settle);
    let (before, began) = (cluster.cpu_seconds(), Instant::now());
    thread::sleep(form.idle);
    let used = cluster.cpu_seconds() - before;
    let mut figures = Figures::default();
    figures.set(Figure::Cores, used / began.elapsed().as_secs_f64());
    figures.set(Figure::RssMb, Usage::of(cluster).rss_now_mb);
    delete(cluster, TOPIC);
    figures
}

/// From the moment at which it is to come back (or to be stopped) until every replica of it has caught up.
fn restart(ending: Ending, cluster: &Cluster, form: &Form) -> Figures {
    const TOPIC: &str = "full";
    fill(cluster, TOPIC, form.filled_records);
    cluster.cli.wait_healthy();
    match ending {
        Ending::Killed => cluster.kill(RESTARTED),
        Ending::Stopped => {}
    }
    let began = Instant::now();
    let node = RESTARTED.to_string();
    cluster.local(&["restart", &node, "--timeout", "170s"]);
    cluster.cli.wait_healthy();
    let mut figures = Figures::default();
    figures.set(Figure::Seconds, began.elapsed().as_secs_f64());
    figures.set(Figure::RssMb, Usage::of(cluster).rss_peak_mb);
    delete(cluster, TOPIC);
    figures
}

/// `flotilla bench ARGS` for as long as the form says.
fn timed_bench(cluster: &Cluster, form: &Form, args: &[&str]) -> Figures {
    let ms = |time: Duration| format!("{}ms", time.as_millis());
    let (duration, warmup) = (ms(form.measured), ms(form.warmup));
    let args: Vec<&str> = args.iter().copied().chain(["--duration", &duration, "--warmup", &warmup]).collect();
    bench(cluster, &args)
}

fn bench(cluster: &Cluster, args: &[&str]) -> Figures {
    let mut command = cluster.cli.command(&["bench"]);
    command.args(args).args(["--brokers", &cluster.cli.brokers, "--timeout", TIMEOUT, "--format", "json"]);
    let text = run(&mut command, b"", SLACK).ok();
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"));
    let number = |name: &str| report[name].as_f64();
    let mut figures = Figures::default();
    figures.set(Figure::RecordsPerS, number("records_per_s"));
    figures.set(Figure::MbPerS, number("mb_per_s"));
    figures.set(Figure::P50Ms, report["latency_ms"]["p50"].as_f64());
    figures.set(Figure::P99Ms, report["latency_ms"]["p99"].as_f64());
    figures.set(Figure::Errors, number("errors"));
    figures.set(Figure::CpuSPerMillion, number("broker_cpu_s_per_million"));
    figures.set(Figure::WrittenPerByte, number("device_bytes_per_byte"));
    figures.set(Figure::RssMb, Usage::of(cluster).rss_peak_mb);
    figures
}

fn read_per_byte(cluster: &Cluster, before: &Usage, records: u64) -> f64 {
    let read = Usage::of(cluster).read.saturating_sub(before.read);
    read as f64 / (records * FILLED_BYTES as u64) as f64
}

pub fn create(cluster: &Cluster, topic: &str, partitions: u32) {
    let (partitions, replicas) = (partitions.to_string(), NODES.to_string());
    let args = ["topic", "create", topic, "-p", &partitions, "-r", &replicas, "--wait", "--timeout", TIMEOUT];
    run(&mut cluster.cli.brokered(&args), b"", SLACK).ok();
}

pub fn delete(cluster: &Cluster, topic: &str) {
    run(&mut cluster.cli.brokered(&["topic", "delete", topic]), b"", SLACK).ok();
}

/// Exactly so many records of 1 KiB: what a restart takes depends on how many there are.
fn fill(cluster: &Cluster, topic: &str, records: u64) {
    create(cluster, topic, PARTITIONS);
    let mut command: Command = cluster.cli.brokered(&["produce", topic, "--partitioner", "round-robin"]);
    command.args(["--timeout", TIMEOUT]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start a producer: {error}"));
    let input = child.stdin.take().expect("it is piped");
    let writer = thread::spawn(move || write_records(input, records));
    let status = wait(&mut child, SLACK);
    assert!(status.is_some_and(|status| status.success()), "{topic} could not be filled: {status:?}");
    writer.join().expect("it does not panic").unwrap_or_else(|error| panic!("{topic} could not be filled: {error}"));
}

fn write_records(input: ChildStdin, records: u64) -> std::io::Result<()> {
    let mut record = [b'x'; FILLED_BYTES + 1];
    record[FILLED_BYTES] = b'\n';
    let mut input = BufWriter::with_capacity(1 << 20, input);
    for _ in 0..records {
        input.write_all(&record)?;
    }
    input.flush()
}

fn drop_all_caches(cluster: &Cluster) {
    if let Err(error) = drop_caches(cluster.dir()) {
        eprintln!("cluster: the kernel's cache could not be dropped: {error}");
    }
}
