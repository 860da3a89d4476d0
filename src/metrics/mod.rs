//! Every metric's name, label and meaning (the log writer's are in `writer`, the disk's in `space`, groups'
//! in `groups`), and the probes through which components report.
//!
//! One registry per broker, so that two brokers in one process do not share counters. A probe's
//! methods are named after events; whoever calls them knows nothing of Prometheus. Series are
//! bounded: no label holds a partition or client, and every label value is `&'static str`, save for consumer
//! lag, whose series are counted by who computes it, and the traffic of topics (`traffic`).
//! Leaves out: serving them (module `http`).

#[cfg(test)]
mod dashboards;
mod groups;
mod histogram;
mod history;
mod intake;
mod kafka;
mod labels;
mod process;
mod space;
mod traffic;
mod writer;

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, prometheus_text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};

use histogram::Latency;
use labels::{ReasonLabel, UNPOISONED};
use traffic::{Traffic, TrafficCollector};
use writer::{ReadWriter, WriterCollector};

pub use groups::{GroupProbe, LagSample};
pub use histogram::HistogramSnapshot;
pub use history::{History, SAMPLE_EVERY, SAMPLES_MAX, Sample, Totals};
pub use intake::{IntakeProbe, Limit};
pub use kafka::{KafkaClients, KafkaConnection, KafkaProbe};
pub use labels::{Api, ConnectionRefusal, FrameRefusal, HeldUp, RequestResult, TransferResult};
pub use process::ProcessSnapshot;
pub use space::SpaceSnapshot;
pub use traffic::TopicTraffic;
pub use writer::WriterSnapshot;

/// The content type of what [`Metrics::encode`] returns.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Every name of ours begins with this.
const PREFIX: &str = "flotilla";
/// What every Prometheus client library tells of its process, dashboards expect under these names.
const PROCESS_PREFIX: &str = "process";

/// A broker's metrics. Clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Mutex<Registry>,
    /// What is exported under Prometheus' own names.
    process: Mutex<Registry>,
    fills: Mutex<Vec<Fill>>,
    gauges: Gauges,
    raft: RaftProbe,
    requests: RequestProbe,
    intake: IntakeProbe,
    kafka: KafkaProbe,
    groups: GroupProbe,
    /// Set once the log writer's figures are exported.
    writer: OnceLock<ReadWriter>,
}

type Fill = Box<dyn Fn(&Gauges) + Send + Sync>;

/// Levels, set at each scrape by what [`Metrics::on_scrape`] was given, except where a field says otherwise.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    pub produce_bytes_in_flight: Gauge,
    pub fetch_bytes_in_flight: Gauge,
    /// The bytes of messages that have begun to arrive.
    pub receive_bytes_in_flight: Gauge,
    /// The bytes of batches that were decompressed for their readers and are not sent yet.
    pub decoded_bytes_in_flight: Gauge,
    pub disk_free_bytes: Gauge,
    /// Produces are refused while the disk has less than this free.
    pub disk_reserve_bytes: Gauge,
    /// 1 while produces are refused because the disk is nearly full.
    pub disk_full: Gauge,
    /// How many seconds this broker's clock is ahead of the median of the cluster's; 0 until known.
    pub clock_ahead_seconds: Gauge<f64, AtomicU64>,
    pub raft_groups: Gauge,
    pub raft_groups_led: Gauge,
    /// Groups with a replica here that take no writes as far as this broker sees: no leader is known, it does
    /// not answer, or it is this broker and no majority answers it.
    pub raft_groups_leaderless: Gauge,
    /// How many of those groups are led from here without a majority (SAFETY M7).
    pub raft_groups_without_majority: Gauge,
    /// The furthest a live follower of a group led here is behind, in entries.
    pub raft_lag_entries_max: Gauge,
    /// The furthest that a group's state machine here is behind its log, in entries.
    pub raft_apply_lag_entries_max: Gauge,
    /// Producers that the partitions with a replica here have forgotten because they had too many (SAFETY M4), summed
    /// over each partition's life: every replica of it says the same, and one that leaves takes its part away.
    pub producers_evicted: Gauge,
    pub brokers_alive: Gauge,
    /// Brokers of the cluster, as registered.
    pub brokers: Gauge,
    /// Partitions led here that miss a replica, or whose replica is far behind.
    pub partitions_under_replicated: Gauge,
    /// Client connections; kept by [`RequestProbe`].
    pub connections: Gauge,
    /// Links to peers that are up; kept by [`RaftProbe`].
    pub peer_links: Gauge,
}

/// What module `raft` reports.
#[derive(Clone, Debug, Default)]
pub struct RaftProbe {
    elections: Counter,
    leaderships_won: Counter,
    leaderships_lost: Counter,
    transfers: Family<ResultLabel, Counter>,
    frames_refused: Family<ReasonLabel, Counter>,
    links: Gauge,
    read_bytes: Gauge,
    reads_waited: Counter,
}

impl RaftProbe {
    /// A replica here began to campaign.
    pub fn election_started(&self) {
        self.elections.inc();
    }

    /// A replica here became leader-ready.
    pub fn leadership_won(&self) {
        self.leaderships_won.inc();
    }

    pub fn leadership_lost(&self) {
        self.leaderships_lost.inc();
    }

    pub fn transfer_finished(&self, result: TransferResult) {
        self.transfers.get_or_create(&ResultLabel { result: result.name() }).inc();
    }

    /// A peer's frame was not acted on.
    pub fn frame_refused(&self, why: FrameRefusal) {
        self.frames_refused.get_or_create(&ReasonLabel { reason: why.name() }).inc();
    }

    pub fn link_up(&self) {
        self.links.inc();
    }

    pub fn link_down(&self) {
        self.links.dec();
    }

    /// Notes that so many bytes more of entries that were read for followers are held; less, if negative.
    pub fn read_bytes_held(&self, change: i64) {
        self.read_bytes.inc_by(change);
    }

    /// A read for a follower waited for room.
    pub fn read_waited(&self) {
        self.reads_waited.inc();
    }
}

/// What the faces and module `broker` report.
#[derive(Clone, Debug)]
pub struct RequestProbe {
    requests: Family<RequestLabels, Counter>,
    produce_seconds: Latency,
    fetch_seconds: Latency,
    produced_bytes: Counter,
    produced_records: Counter,
    fetched_bytes: Counter,
    fetched_records: Counter,
    batches_per_entry: Histogram,
    dead_entries: Counter,
    connections: Gauge,
    traffic: Traffic,
}

impl RequestProbe {
    /// A topic's counters, to be kept for as long as the topic has a replica here.
    pub fn topic(&self, name: &str) -> TopicTraffic {
        self.traffic.of(name)
    }

    /// Any request.
    pub fn request_finished(&self, api: Api, result: RequestResult) {
        self.requests.get_or_create(&RequestLabels { api: api.name(), result: result.name() }).inc();
    }

    /// Records were acknowledged, `elapsed` after they had been read off the wire.
    pub fn produce_acknowledged(&self, records: u64, bytes: u64, elapsed: Duration) {
        self.produced_records.inc_by(records);
        self.produced_bytes.inc_by(bytes);
        self.produce_seconds.observe(elapsed);
    }

    /// A fetch was answered with data. `elapsed` leaves out what it waited for records to arrive.
    pub fn fetch_answered(&self, records: u64, bytes: u64, elapsed: Duration) {
        self.fetched_records.inc_by(records);
        self.fetched_bytes.inc_by(bytes);
        self.fetch_seconds.observe(elapsed);
    }

    /// An appender proposed one entry.
    pub fn entry_proposed(&self, batches: u64) {
        self.batches_per_entry.observe(batches as f64);
    }

    /// A proposal of ours was applied dead: its batches are proposed again.
    pub fn entry_dead(&self) {
        self.dead_entries.inc();
    }

    pub fn connection_opened(&self) {
        self.connections.inc();
    }

    pub fn connection_closed(&self) {
        self.connections.dec();
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    api: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

impl Metrics {
    pub fn new() -> Metrics {
        let gauges = Gauges::default();
        let raft = RaftProbe { links: gauges.peer_links.clone(), ..RaftProbe::default() };
        let requests = RequestProbe::new(gauges.connections.clone());
        let mut registry = Registry::with_prefix(PREFIX);
        let process = Registry::with_prefix(PROCESS_PREFIX);
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The broker's version", version);
        gauges.register(&mut registry);
        raft.register(&mut registry);
        requests.register(&mut registry);
        let intake = IntakeProbe::default();
        intake.register(&mut registry);
        let kafka = KafkaProbe::default();
        kafka.register(&mut registry);
        let groups = GroupProbe::new();
        groups.register(&mut registry);
        Metrics(Arc::new(Inner {
            registry: Mutex::new(registry),
            process: Mutex::new(process),
            fills: Mutex::default(),
            gauges,
            raft,
            requests,
            intake,
            kafka,
            groups,
            writer: OnceLock::new(),
        }))
    }

    pub fn raft(&self) -> RaftProbe {
        self.0.raft.clone()
    }

    pub fn requests(&self) -> RequestProbe {
        self.0.requests.clone()
    }

    pub fn intake(&self) -> IntakeProbe {
        self.0.intake.clone()
    }

    pub fn kafka(&self) -> KafkaProbe {
        self.0.kafka.clone()
    }

    pub fn groups(&self) -> GroupProbe {
        self.0.groups.clone()
    }

    /// `fill` sets gauges before each scrape. It must be quick and must not block.
    pub fn on_scrape(&self, fill: impl Fn(&Gauges) + Send + Sync + 'static) {
        self.0.fills.lock().expect(UNPOISONED).push(Box::new(fill));
    }

    /// The log writer's figures, read at each scrape. Once per broker.
    pub fn export_writer(&self, read: impl Fn() -> WriterSnapshot + Send + Sync + 'static) {
        let read: ReadWriter = Arc::new(read);
        // A second writer of one broker would be a second store: its figures would be counted twice.
        assert!(self.0.writer.set(Arc::clone(&read)).is_ok(), "the writer is exported once");
        self.0.registry.lock().expect(UNPOISONED).register_collector(Box::new(WriterCollector { read }));
    }

    /// What the console draws over time, as counted so far.
    pub fn totals(&self) -> Totals {
        let requests = &self.0.requests;
        Totals {
            produced_bytes: requests.produced_bytes.get(),
            produced_records: requests.produced_records.get(),
            consumed_bytes: requests.fetched_bytes.get(),
            consumed_records: requests.fetched_records.get(),
            produce_seconds: requests.produce_seconds.read(),
            write_seconds: self.0.writer.get().map(|read| read().commit_seconds).unwrap_or_default(),
        }
    }

    /// How far groups are behind, read at each scrape. Once per broker.
    pub fn export_lag(&self, read: impl Fn() -> Arc<Vec<LagSample>> + Send + Sync + 'static) {
        let collector = groups::LagCollector::new(read);
        self.0.registry.lock().expect(UNPOISONED).register_collector(Box::new(collector));
    }

    /// The blob files' figures, read at each scrape. Once per broker.
    pub fn export_space(&self, read: impl Fn() -> SpaceSnapshot + Send + Sync + 'static) {
        let collector = space::SpaceCollector::new(read);
        self.0.registry.lock().expect(UNPOISONED).register_collector(Box::new(collector));
    }

    /// The process, read at each scrape. Once per process.
    pub fn export_process(&self, read: impl Fn() -> Option<ProcessSnapshot> + Send + Sync + 'static) {
        let collector = process::ProcessCollector::new(read);
        self.0.process.lock().expect(UNPOISONED).register_collector(Box::new(collector));
    }

    /// All metrics in Prometheus' text format ([`CONTENT_TYPE`]).
    pub fn encode(&self) -> String {
        for fill in self.0.fills.lock().expect(UNPOISONED).iter() {
            fill(&self.0.gauges);
        }
        let mut text = String::new();
        for registry in [&self.0.registry, &self.0.process] {
            let registry = registry.lock().expect(UNPOISONED);
            prometheus_text::encode(&mut text, &registry).expect("writing to a String cannot fail");
        }
        text
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Gauges {
    fn register(&self, registry: &mut Registry) {
        let mut bytes = |name: &str, help: &str, gauge: &Gauge| {
            registry.register_with_unit(name, help, Unit::Bytes, gauge.clone());
        };
        bytes("produce_in_flight", "Produce requests in flight", &self.produce_bytes_in_flight);
        bytes("fetch_in_flight", "Fetch answers being built or sent", &self.fetch_bytes_in_flight);
        bytes("receive_in_flight", "Messages that have begun to arrive", &self.receive_bytes_in_flight);
        let help = "Batches decompressed for their readers and not sent yet";
        bytes("decoded_in_flight", help, &self.decoded_bytes_in_flight);
        bytes("disk_free", "Free space of the data directory's disk", &self.disk_free_bytes);
        bytes("disk_reserve", "Produces are refused while less than this is free", &self.disk_reserve_bytes);
        let help = "How far this broker's clock is ahead of the median of the cluster's";
        registry.register_with_unit("clock_ahead", help, Unit::Seconds, self.clock_ahead_seconds.clone());
        let mut level = |name: &str, help: &str, gauge: &Gauge| registry.register(name, help, gauge.clone());
        level("disk_full", "1 while produces are refused because the disk is nearly full", &self.disk_full);
        level("raft_groups", "Raft groups with a replica here", &self.raft_groups);
        level("raft_groups_led", "Raft groups led from here", &self.raft_groups_led);
        let help = "Raft groups here whose leader is unknown, does not answer, or has no majority";
        level("raft_groups_leaderless", help, &self.raft_groups_leaderless);
        let help = "Raft groups led from here that no majority answers: they take no writes";
        level("raft_groups_without_majority", help, &self.raft_groups_without_majority);
        level("raft_lag_entries_max", "Entries the slowest live follower is behind", &self.raft_lag_entries_max);
        let help = "Entries the slowest state machine here is behind its log";
        level("raft_apply_lag_entries_max", help, &self.raft_apply_lag_entries_max);
        let help = "Producers forgotten because a partition had too many, of all partitions with a replica here";
        level("producers_evicted", help, &self.producers_evicted);
        level("brokers_alive", "Brokers with a live link to this one, itself included", &self.brokers_alive);
        level("brokers", "Brokers of the cluster, as registered", &self.brokers);
        let help = "Partitions led here that miss a replica, or have one that is far behind";
        level("partitions_under_replicated", help, &self.partitions_under_replicated);
        level("connections", "Client connections", &self.connections);
        level("peer_links", "Links to other brokers that are up", &self.peer_links);
    }
}

impl RaftProbe {
    fn register(&self, registry: &mut Registry) {
        registry.register("raft_elections", "Campaigns begun by replicas here", self.elections.clone());
        let help = "Times a replica here became leader-ready";
        registry.register("raft_leaderships_won", help, self.leaderships_won.clone());
        registry.register(
            "raft_leaderships_lost",
            "Times a replica here stopped leading",
            self.leaderships_lost.clone(),
        );
        registry.register("raft_transfers", "Leader transfers from here, by result", self.transfers.clone());
        registry.register("raft_frames_refused", "Peer frames not acted on, by reason", self.frames_refused.clone());
        let help = "Bytes of memory held for entries read for followers, until they are sent";
        registry.register("raft_read_bytes_in_flight", help, self.read_bytes.clone());
        let help = "Reads for followers that waited for others to be sent";
        registry.register("raft_reads_waited", help, self.reads_waited.clone());
    }
}

impl RequestProbe {
    fn new(connections: Gauge) -> RequestProbe {
        RequestProbe {
            requests: Family::default(),
            produce_seconds: Latency::default(),
            fetch_seconds: Latency::default(),
            produced_bytes: Counter::<u64, AtomicU64>::default(),
            produced_records: Counter::default(),
            fetched_bytes: Counter::default(),
            fetched_records: Counter::default(),
            batches_per_entry: Histogram::new(exponential_buckets(1.0, 2.0, 12)),
            dead_entries: Counter::default(),
            connections,
            traffic: Traffic::default(),
        }
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("requests", "Requests finished, by API and result", self.requests.clone());
        let help = "From a produce request's arrival to its acknowledgement";
        registry.register_with_unit("produce_latency", help, Unit::Seconds, self.produce_seconds.clone());
        let help = "From a fetch request's arrival to its answer, waiting for records left out";
        registry.register_with_unit("fetch_latency", help, Unit::Seconds, self.fetch_seconds.clone());
        registry.register_with_unit("produced", "Bytes acknowledged", Unit::Bytes, self.produced_bytes.clone());
        registry.register("produced_records", "Records acknowledged", self.produced_records.clone());
        registry.register_with_unit("fetched", "Bytes of records sent", Unit::Bytes, self.fetched_bytes.clone());
        registry.register("fetched_records", "Records sent", self.fetched_records.clone());
        let help = "Record batches that one Raft entry carries";
        registry.register("entry_batches", help, self.batches_per_entry.clone());
        registry.register("entries_dead", "Proposals applied dead and proposed again", self.dead_entries.clone());
        registry.register_collector(Box::new(TrafficCollector(self.traffic.clone())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1;

    #[test]
    fn events_show_in_the_text() {
        let metrics = Metrics::new();
        metrics.raft().election_started();
        metrics.raft().link_up();
        metrics.raft().frame_refused(FrameRefusal::Term);
        metrics.requests().request_finished(Api::Produce, RequestResult::Failed(v1::ErrorCode::NotLeader));
        metrics.requests().produce_acknowledged(3, 300, Duration::from_millis(2));
        metrics.on_scrape(|gauges| {
            gauges.disk_free_bytes.set(17);
        });
        let text = metrics.encode();
        for line in [
            "flotilla_raft_elections_total 1",
            "flotilla_peer_links 1",
            "flotilla_raft_frames_refused_total{reason=\"term\"} 1",
            "flotilla_requests_total{api=\"produce\",result=\"NOT_LEADER\"} 1",
            "flotilla_produced_records_total 3",
            "flotilla_produced_bytes_total 300",
            "flotilla_produce_latency_seconds_bucket{le=\"0.002\"} 1",
            "flotilla_produce_latency_seconds_count 1",
            "flotilla_disk_free_bytes 17",
        ] {
            assert!(text.lines().any(|l| l == line), "no line {line:?} in:\n{text}");
        }
    }

    #[test]
    fn two_brokers_in_one_process_share_nothing() {
        let (one, two) = (Metrics::new(), Metrics::new());
        one.raft().election_started();
        assert!(two.encode().contains("flotilla_raft_elections_total 0"));
    }
}
