//! The same loads through Kafka's listener, by a client of this bench's own: connections as Kafka's clients keep them,
//! in one thread. What it is answered is checked (error codes, dense offsets, checksums); records come from the
//! library's own batches, so that both faces are given the same bytes.

mod fetcher;
mod producer;
mod wire;

use std::{
    future::Future,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use jepsen_style_tests::cluster::Cluster;
use tokio::time::{sleep, timeout};

use crate::{
    figures::{Figure, Figures},
    options::Form,
    processes::Brokers,
    site::NODES,
    work::{SLACK, create, delete},
};
use fetcher::Read;
use producer::{Acked, Load};
use wire::{Connection, Led, WireError};

/// The longest latency that is told apart: ten minutes, in microseconds.
const LATENCY_MAX_US: u64 = 600_000_000;
/// How often a load begins anew because a leader moved under it.
const TRIES_MAX: u32 = 5;
/// Until a client asks again who leads: Kafka's `retry.backoff.ms`.
const BACKOFF: Duration = Duration::from_millis(100);

/// How long after it was made a topic may be without a leader that all know.
const LEADERS_WAIT: Duration = Duration::from_secs(60);

/// What a broker answers that has not heard of a topic, or does not lead a partition, now or any more: Kafka's numbers.
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const LEADER_NOT_AVAILABLE: i16 = 5;
const NOT_LEADER_OR_FOLLOWER: i16 = 6;

#[derive(Debug, thiserror::Error)]
pub enum Failed {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("partition {partition} was refused with error code {code}")]
    Refused { code: i16, partition: i32 },
}

impl Failed {
    /// Whether it is enough to ask who leads now.
    fn has_moved(&self) -> bool {
        matches!(self, Failed::Refused { code: LEADER_NOT_AVAILABLE | NOT_LEADER_OR_FOLLOWER, .. })
    }
}

/// As fast as it goes, into a topic of its own. If a leader moves meanwhile, all of it begins anew: half of a load says
/// nothing.
pub fn produce(partitions: u32, size: usize, in_flight: u64, cluster: &Cluster, form: &Form) -> Figures {
    let brokers = Brokers::of(cluster);
    for attempt in 1..=TRIES_MAX {
        let topic = format!("kafka-{partitions}-{attempt}");
        create(cluster, &topic, partitions);
        let (warmup, measured) = (form.warmup, form.measured);
        let load = Load { topic: &topic, partitions, size, in_flight, warmup, measured };
        let ended = block_on(async {
            let leaders = leaders(cluster, &topic).await?;
            let led: usize = leaders.iter().map(|led| led.partitions.len()).sum();
            assert_eq!(led, partitions as usize, "{topic}: all partitions are led");
            producer::run(&load, &leaders, &brokers).await
        });
        delete(cluster, &topic);
        match ended {
            Ok(acked) => return figures_of(&acked, size, form),
            Err(failed) if failed.has_moved() => eprintln!("cluster: {failed}; once more"),
            Err(failed) => panic!("a load through Kafka's listener: {failed}"),
        }
    }
    panic!("leaders moved during each of {TRIES_MAX} loads");
}

fn figures_of(acked: &Acked, size: usize, form: &Form) -> Figures {
    let Acked { records, latency, before, after } = acked;
    let seconds = form.measured.as_secs_f64();
    let bytes = (records * size as u64) as f64;
    let mut figures = rates(*records, bytes, seconds, latency);
    let written = after.written.saturating_sub(before.written) as f64;
    figures.set(Figure::CpuSPerMillion, (*records > 0).then(|| (after.cpu_s - before.cpu_s) / *records as f64 * 1e6));
    figures.set(Figure::WrittenPerByte, (bytes > 0.0).then(|| written / bytes / NODES as f64));
    figures.set(Figure::RssMb, after.rss_peak_mb);
    figures
}

/// All of a topic, once. A leader that moves is looked for while the clock runs, as any consumer does.
pub fn consume(topic: &str, size: usize, cluster: &Cluster) -> Figures {
    let brokers = Brokers::of(cluster);
    let before = brokers.usage();
    let (read, took) = block_on(read_all(topic, cluster)).unwrap_or_else(|failed| panic!("reading {topic}: {failed}"));
    let after = brokers.usage();
    let bytes = (read.records * size as u64) as f64;
    let mut figures = rates(read.records, bytes, took.as_secs_f64(), &read.latency);
    figures.set(Figure::CpuSPerMillion, (after.cpu_s - before.cpu_s) / read.records as f64 * 1e6);
    figures.set(Figure::ReadPerByte, after.read.saturating_sub(before.read) as f64 / bytes);
    figures.set(Figure::RssMb, after.rss_peak_mb);
    figures
}

async fn read_all(topic: &str, cluster: &Cluster) -> Result<(Read, Duration), Failed> {
    let mut led = leaders(cluster, topic).await?;
    let (mut places, mut read) = (fetcher::whole(topic, &led).await?, Read::nothing());
    let began = Instant::now();
    while !fetcher::is_done(&places) {
        match fetcher::run(topic, &led, &mut places, &mut read).await {
            Ok(()) => {}
            Err(failed) if failed.has_moved() => led = leaders(cluster, topic).await?,
            Err(failed) => return Err(failed),
        }
    }
    assert!(read.records > 0, "{topic} has records");
    Ok((read, began.elapsed()))
}

/// Who leads what, once every partition is led.
async fn leaders(cluster: &Cluster, topic: &str) -> Result<Vec<Led>, Failed> {
    let node = cluster.node(1);
    assert!(!node.kafka.is_empty(), "node 1 has no listener for Kafka clients: measure with --face grpc");
    let mut connection = Connection::open(&node.kafka).await?;
    let deadline = Instant::now() + LEADERS_WAIT;
    loop {
        match connection.leaders(topic).await? {
            Ok(leaders) => return Ok(leaders),
            Err(UNKNOWN_TOPIC_OR_PARTITION | LEADER_NOT_AVAILABLE) if Instant::now() < deadline => sleep(BACKOFF).await,
            Err(code) => return Err(Failed::Refused { code, partition: -1 }),
        }
    }
}

fn rates(records: u64, bytes: f64, seconds: f64, latency: &Histogram<u64>) -> Figures {
    let ms = |quantile| latency.value_at_quantile(quantile) as f64 / 1_000.0;
    let mut figures = Figures::default();
    figures.set(Figure::RecordsPerS, records as f64 / seconds);
    figures.set(Figure::MbPerS, bytes / 1e6 / seconds);
    figures.set(Figure::P50Ms, ms(0.5));
    figures.set(Figure::P99Ms, ms(0.99));
    figures.set(Figure::Errors, 0.0);
    figures
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_MAX_US, 3).expect("three digits up to ten minutes are allowed")
}

/// One thread for all connections: a client that takes more would be measured as the brokers' share.
fn block_on<T>(work: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    runtime.block_on(async { timeout(SLACK, work).await.unwrap_or_else(|_| panic!("no end within {SLACK:?}")) })
}
