//! `flotilla server`: assembles one broker out of the modules, and ends it in the right order.
//!
//! Starting: configuration, log, data directory, listeners, broker; one line on stdout once clients
//! can be served. Stopping (SAFETY M13) on SIGTERM or SIGINT: readiness off and leaderships handed
//! over while the listeners still answer, then the listeners, then the store; a second signal ends
//! the process at once. Whatever must not go on ends it with a message that says what to do.

mod descriptors;
mod listeners;
mod logs;
mod notify;
mod process;
mod refusals;
mod watchdog;

use std::{
    io::Write,
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    exit::Failure,
    server::{descriptors::Descriptors, watchdog::Signs},
    signals::Signals,
};
use crate::{
    broker::{Broker, BrokerDeps, BrokerSettings, GroupSettings, Readiness},
    config::{Loaded, Machine, ServerArgs, ServerConfig, Switch, alone, memory_bytes, unknown_variables},
    grpc::{self, GrpcOptions},
    http::{self, HttpOptions},
    metrics::{HistogramSnapshot, Metrics, SpaceSnapshot, WriterSnapshot},
    seam::{Clock, ConnectionLimits, FileClock, GuardedListener, Listener, Rng, Silence, SystemClock, TcpNet},
    storage::{
        Histogram, RocksKv, RocksOptions, SpaceProbe, Store, StoreOptions, WriterProbe, disk_bytes, fail_stop,
        has_database,
    },
};

/// What `flotilla server` takes: every key of the configuration as a flag, and the file.
pub type ServerCommand = ServerArgs;

/// For the end of its help. Supervisors may leave a broker that ended with 2 alone.
pub const EXIT_CODES: &str = "\
Exit codes: 0 stopped by a signal; 1 it cannot go on, and says why (a directory that is damaged, a listener that failed);
2 a setting must change: one that is wrong, an address that cannot be bound, a directory of another broker or cluster, or in
use; 74 its disk failed or hangs; 70 and 134 a fault of flotilla.";

/// How often readiness is looked at until it is announced.
const READY_INTERVAL: Duration = Duration::from_millis(20);

/// The broker bounds its own shutdown (5 s of transfers, then answers and a flush). This bounds a
/// broker that does not keep to it, below the 30 s and more that supervisors wait before SIGKILL.
const SHUTDOWN_MAX: Duration = Duration::from_secs(15);

/// A connection to the peers' listener that says nothing for this long is none of a peer's.
const PEER_OPENING_WITHIN: Duration = Duration::from_secs(10);

const SECONDS_PER_MICRO: f64 = 1e-6;

/// For the last flush: a disk that takes longer hangs.
const STORE_CLOSE_MAX: Duration = Duration::from_secs(4);

/// For tasks to be dropped and the database to be closed.
const RUNTIME_MAX: Duration = Duration::from_secs(3);

/// The same when somebody waits to read why the broker ended, or has told it twice to end.
const RUNTIME_FAILED_MAX: Duration = Duration::from_millis(500);

/// For clients to take their last answers.
const LISTENERS_MAX: Duration = Duration::from_secs(2);

/// Half the cores unless told otherwise: on two cores shared by three brokers and a client, one worker
/// each answered one record at a time in 0.72 ms where two took 0.85 (each task switch between workers
/// is a wake-up in the kernel), and lost no throughput.
fn worker_threads(asked: Option<u32>) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    asked.map_or((cores / 2).max(1), |asked| asked as usize)
}

/// Runs a broker until it is told to stop or must not go on.
pub fn run(args: ServerCommand) -> Result<(), Failure> {
    let format = args.log_format();
    run_broker(args).map_err(|failure| logs::last_words(format, failure))
}

fn run_broker(args: ServerCommand) -> Result<(), Failure> {
    let mut loaded = args.load().map_err(|error| Failure::usage(error.to_string()))?;
    loaded.warnings.extend(unknown_variables(std::env::vars_os().map(|(name, _)| name)));
    let config = &loaded.config;
    let machine = Machine { memory_bytes: memory_bytes(), disk_bytes: disk_bytes(&config.data_dir).ok() };
    loaded.warnings.extend(config.check_machine(&machine).map_err(|error| Failure::usage(error.to_string()))?);
    logs::install(config.log_format, &config.log_filter).map_err(Failure::usage)?;
    logs::abort_on_panic();
    let span = logs::node_span(config.id);
    logs::enter_for_good(&span);
    let descriptors = descriptors::raise().map_err(Failure::failed)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(worker_threads(config.worker_threads))
        .thread_name("flotilla")
        .on_thread_start(move || logs::enter_for_good(&span))
        .build()
        .map_err(|error| Failure::failed(format!("cannot start threads: {error}")))?;
    let result = runtime.block_on(serve(loaded, descriptors));
    // Drops every task and with the last of them the database: RocksDB's threads must not run while
    // the process's own exit takes down what they use.
    runtime.shutdown_timeout(if result.is_ok() { RUNTIME_MAX } else { RUNTIME_FAILED_MAX });
    result
}

async fn serve(loaded: Loaded, descriptors: Descriptors) -> Result<(), Failure> {
    let Loaded { config, warnings } = loaded;
    let mut signals = Signals::listen()?;
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(version, data_dir = %config.data_dir.display(), pid = std::process::id(), "starting");
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    if let Some(warning) = descriptors.warning(config.connections_max.into()) {
        tracing::warn!("{warning}");
    }
    let signs = Signs::default();
    let started = tokio::select! {
        started = Server::start(&config, descriptors, &signs) => started,
        signal = signals.next() => {
            tracing::info!(signal, "stopped before it had started");
            return Ok(());
        }
    };
    let mut server = started?;
    let signal = server.run_until_signal(&mut signals).await?;
    tracing::info!(signal, "stopping");
    signs.stopping();
    notify::tell(notify::STOPPING);
    tokio::select! {
        () = server.shutdown() => {
            tracing::info!("stopped");
            Ok(())
        }
        signal = signals.next() => {
            Err(Failure::failed(format!("{signal} again while stopping: ended at once, nothing more is handed over")))
        }
    }
}

/// A broker and its listeners.
struct Server {
    broker: Broker,
    store: Store,
    addresses: Addresses,
    stop_clients: CancellationToken,
    stop_http: CancellationToken,
    clients: JoinHandle<Result<(), String>>,
    http: JoinHandle<Result<(), String>>,
}

/// As advertised.
struct Addresses {
    id: u64,
    client: String,
    peer: String,
    http: String,
}

impl Server {
    async fn start(config: &ServerConfig, descriptors: Descriptors, signs: &Signs) -> Result<Server, Failure> {
        let metrics = Metrics::new();
        metrics.export_process(process::read);
        let net = TcpNet;
        if !has_database(&config.data_dir) {
            // Before anything is created: what cannot be leaves no directory behind.
            if config.founds_nothing() {
                return Err(Failure::usage(alone(&config.peers)));
            }
            listeners::probe(&net, config).await?;
        }
        let store = open_store(config, descriptors, &metrics, signs).await?;
        let (client_listener, client) = listeners::bind(&net, "client_bind", &config.client).await?;
        let (peer_listener, peer) = listeners::bind(&net, "peer_bind", &config.peer).await?;
        let (http_listener, http) = listeners::bind(&net, "http_bind", &config.http).await?;
        let addresses = Addresses { id: config.id.0, client, peer, http };
        let deps = BrokerDeps {
            settings: broker_settings(config, &addresses),
            store: store.clone(),
            net: Arc::new(net),
            peer_listener: within(descriptors, peer_listener, &metrics),
            clock: clock(config),
            rng: Arc::new(Rng::from_system()),
            metrics: metrics.clone(),
            free_bytes: BrokerDeps::free_bytes_of(config.data_dir.clone()),
        };
        let broker = Broker::start(deps).await.map_err(|failed| refusals::of_broker(&failed))?;
        let (stop_clients, stop_http) = (CancellationToken::new(), CancellationToken::new());
        let options = GrpcOptions {
            connections_max: usize::try_from(config.connections_max).unwrap_or(usize::MAX),
            descriptors_max: usize::try_from(descriptors.clients).unwrap_or(usize::MAX),
            fetch_bytes_max: usize::try_from(config.fetch_bytes_max).unwrap_or(usize::MAX),
            metrics: metrics.clone(),
        };
        let clients = grpc::serve(broker.clone(), client_listener, options, stop_clients.clone());
        let clients = tokio::spawn(async move { clients.await.map_err(|error| error.to_string()) });
        let http_options = HttpOptions {
            metrics,
            console: config.console == Switch::On,
            advertised: addresses.http.clone(),
            descriptors_max: usize::try_from(descriptors.http).unwrap_or(usize::MAX),
        };
        let http = http::serve(broker.clone(), http_listener, http_options, stop_http.clone().cancelled_owned());
        let http = tokio::spawn(async move { http.await.map_err(|error| error.to_string()) });
        Ok(Server { broker, store, addresses, stop_clients, stop_http, clients, http })
    }

    /// Announces readiness once. Ends with the signal's name, or with why the broker must not go on.
    async fn run_until_signal(&mut self, signals: &mut Signals) -> Result<&'static str, Failure> {
        let broker = self.broker.clone();
        let mut failed = pin!(broker.failed());
        let mut look = tokio::time::interval(READY_INTERVAL);
        let mut is_announced = false;
        loop {
            tokio::select! {
                signal = signals.next() => return Ok(signal),
                failed = &mut failed => return Err(refusals::of_broker(&failed)),
                ended = &mut self.clients => return Err(listener_ended("client", ended)),
                ended = &mut self.http => return Err(listener_ended("HTTP", ended)),
                _ = look.tick(), if !is_announced => {
                    is_announced = self.broker.readiness() == Readiness::Ready;
                    if is_announced {
                        self.announce();
                    }
                }
            }
        }
    }

    fn announce(&self) {
        let Addresses { id, client, peer, http } = &self.addresses;
        tracing::info!(client, peer, http, "ready");
        // Whoever started us may not read this.
        let _ = writeln!(std::io::stdout(), "broker {id} is ready: client {client}, peer {peer}, http {http}");
        notify::tell(notify::READY);
    }

    /// SAFETY M13. The listeners outlive the broker's part, so that clients are told who leads now.
    async fn shutdown(&mut self) {
        bounded("the broker's shutdown", SHUTDOWN_MAX, self.broker.shutdown()).await;
        self.stop_clients.cancel();
        bounded("closing client connections", LISTENERS_MAX, &mut self.clients).await;
        self.stop_http.cancel();
        bounded("closing HTTP connections", LISTENERS_MAX, &mut self.http).await;
        if let Some(Err(error)) = bounded("closing the store", STORE_CLOSE_MAX, self.store.close()).await {
            // What was not flushed was not acknowledged either.
            tracing::warn!(%error, "the store did not close cleanly");
        }
    }
}

async fn bounded<T>(what: &'static str, within: Duration, future: impl Future<Output = T>) -> Option<T> {
    let result = tokio::time::timeout(within, future).await.ok();
    if result.is_none() {
        tracing::warn!(?within, "{what} took too long and was given up");
    }
    result
}

fn listener_ended(what: &str, ended: Result<Result<(), String>, tokio::task::JoinError>) -> Failure {
    let why = match ended {
        Ok(Ok(())) => "it ended by itself".to_string(),
        Ok(Err(error)) => error,
        Err(error) => error.to_string(),
    };
    Failure::failed(format!("the {what} listener failed: {why}"))
}

/// The peers' listener, within its share of the descriptors. It watches its connections itself once they speak.
fn within(descriptors: Descriptors, listener: Box<dyn Listener>, metrics: &Metrics) -> Box<dyn Listener> {
    let connections_max = usize::try_from(descriptors.peers).unwrap_or(usize::MAX);
    let silence = Silence::Opening { bytes: 1, within: PEER_OPENING_WITHIN };
    let listener = GuardedListener::new(listener, "peer", ConnectionLimits { connections_max, silence });
    Box::new(listener.reporting(metrics.intake(), "descriptors"))
}

async fn open_store(
    config: &ServerConfig,
    descriptors: Descriptors,
    metrics: &Metrics,
    signs: &Signs,
) -> Result<Store, Failure> {
    let directory = &config.data_dir;
    let refused = |error| refusals::of_directory(directory, &error);
    let disk_bytes = disk_bytes(directory).ok();
    let reserve_bytes = config.reserve_bytes(disk_bytes);
    let open_files_max = u32::try_from(descriptors.store_files).ok();
    let options = RocksOptions { reserve_bytes, open_files_max, ..RocksOptions::new(disk_bytes, config.wal_bytes_max) };
    // Left out where it is not known.
    tracing::info!(disk_bytes, reserve_bytes, options.wal_bytes_max, options.write_buffer_bytes, "opening the disk");
    let kv = RocksKv::open(directory.clone(), options).await.map_err(refused)?;
    export_space(metrics, kv.space());
    let tail_bytes_max = usize::try_from(config.tail_bytes_max).unwrap_or(usize::MAX);
    let options = StoreOptions { tail_bytes_max, ..StoreOptions::default() };
    let probe = WriterProbe::default();
    export_writer(metrics, &probe);
    watch(signs, &probe)?;
    let on_failure = fail_stop(directory.clone());
    Store::open(Arc::new(kv), options, probe, on_failure).await.map_err(refused)
}

/// From here on a disk or a runtime that hangs ends the process (SAFETY M14).
fn watch(signs: &Signs, probe: &WriterProbe) -> Result<(), Failure> {
    tokio::spawn(signs.clone().beat());
    watchdog::start(signs.clone(), probe.clone())
        .map_err(|error| Failure::failed(format!("cannot start threads: {error}")))
}

fn clock(config: &ServerConfig) -> Arc<dyn Clock> {
    match &config.clock_file {
        Some(path) => Arc::new(FileClock::new(path.clone())),
        None => Arc::new(SystemClock),
    }
}

fn broker_settings(config: &ServerConfig, addresses: &Addresses) -> BrokerSettings {
    BrokerSettings {
        broker: config.id,
        peers: config.peers.clone(),
        single: config.single == Switch::On,
        peer_override: config.peer_override.clone(),
        client_address: addresses.client.clone(),
        peer_address: addresses.peer.clone(),
        http_address: addresses.http.clone(),
        rack: config.rack.clone(),
        heartbeat: Duration::from_millis(config.heartbeat_ms),
        election_min: Duration::from_millis(config.election_ms_min),
        election_max: Duration::from_millis(config.election_ms_max),
        produce_bytes_max: usize::try_from(config.produce_bytes_max).unwrap_or(usize::MAX),
        disk_reserve_bytes: config.reserve_bytes(disk_bytes(&config.data_dir).ok()),
        groups: GroupSettings {
            offsets_retention: Duration::from_millis(config.groups.offsets_retention_ms),
            initial_rebalance_delay: Duration::from_millis(config.groups.initial_rebalance_delay_ms),
        },
        warn_after: BrokerSettings::WARN_AFTER,
    }
}

fn export_space(metrics: &Metrics, probe: SpaceProbe) {
    metrics.export_space(move || {
        let counters = probe.counters();
        SpaceSnapshot {
            blob_bytes: counters.blob_bytes.load(Relaxed),
            garbage_bytes: counters.garbage_bytes.load(Relaxed),
            held_bytes: counters.held_bytes.load(Relaxed),
            is_collecting: counters.is_collecting.load(Relaxed),
            settles: counters.settles.load(Relaxed),
            passes: counters.passes.load(Relaxed),
            moved_bytes: counters.moved_bytes.load(Relaxed),
            freed_bytes: counters.freed_bytes.load(Relaxed),
            busy_seconds: counters.busy_us.load(Relaxed) as f64 * SECONDS_PER_MICRO,
        }
    });
}

/// Module `metrics` knows nothing of `storage`: the figures are handed over at each scrape.
fn export_writer(metrics: &Metrics, probe: &WriterProbe) {
    let probe = probe.clone();
    metrics.export_writer(move || {
        let counters = probe.counters();
        WriterSnapshot {
            commits: counters.commits.load(Relaxed),
            synced_commits: counters.synced_commits.load(Relaxed),
            bytes: counters.bytes.load(Relaxed),
            entries: counters.entries.load(Relaxed),
            queue_bytes: counters.queue_bytes.load(Relaxed),
            tail_bytes: counters.tail_bytes.load(Relaxed),
            commit_seconds: snapshot(&counters.commit_latency_us, SECONDS_PER_MICRO),
            writes_per_commit: snapshot(&counters.writes_per_commit, 1.0),
            commit_running_seconds: probe.commit_running().unwrap_or_default().as_secs_f64(),
        }
    });
}

fn snapshot(histogram: &Histogram, unit: f64) -> HistogramSnapshot {
    HistogramSnapshot::new(histogram.bounds(), &histogram.counts(), histogram.sum(), unit)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{cli::exit::USAGE, types::BrokerId};

    #[test]
    fn writer_figures_reach_the_metrics_in_their_units() {
        let (metrics, probe) = (Metrics::new(), WriterProbe::default());
        export_writer(&metrics, &probe);
        probe.counters().commits.store(3, Relaxed);
        probe.counters().tail_bytes.store(17, Relaxed);
        let text = metrics.encode();
        for line in ["flotilla_writer_commits_total 3", "flotilla_tail_bytes 17"] {
            assert!(text.lines().any(|l| l == line), "no line {line:?} in:\n{text}");
        }
    }

    async fn refused(config: &ServerConfig) -> Failure {
        let descriptors = Descriptors::share(1_024).unwrap();
        Server::start(config, descriptors, &Signs::default()).await.err().expect("it must not start")
    }

    /// Operator's review S4: a data directory was created and preallocated before the address was tried, and the
    /// exit code was not that of a setting.
    #[tokio::test]
    async fn s4_what_the_settings_make_impossible_is_usage_and_leaves_no_data_directory_behind() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let valid = config(&dir.path().join("data"));
        let with_http = |bind: String| {
            let mut config = valid.clone();
            config.http.bind = bind;
            config
        };
        let alone = ServerConfig { single: Switch::Off, ..valid.clone() };
        for (config, part) in [
            (with_http(taken.local_addr().unwrap().to_string()), "http_bind"),
            // TEST-NET-1 is nobody's.
            (with_http("192.0.2.1:0".into()), "an address of this machine"),
            (with_http("127.0.0.1:99999".into()), "http_bind"),
            (alone, "--single"),
        ] {
            let failure = refused(&config).await;
            assert!(failure.code == USAGE && failure.message.contains(part), "{failure:?}");
            assert!(!config.data_dir.exists(), "{failure:?}");
        }
    }

    fn config(data_dir: &Path) -> ServerConfig {
        let any = || crate::config::ListenerConfig { bind: "127.0.0.1:0".into(), advertised: None };
        let peers = "1@127.0.0.1:1".parse().expect("a peer");
        let args = ServerArgs {
            id: Some(1),
            data_dir: Some(data_dir.into()),
            peers: Some(vec!["1@127.0.0.1:1".into()]),
            single: Some(Switch::On),
            ..ServerArgs::default()
        };
        let config = args.load().expect("valid").config;
        ServerConfig { client: any(), peer: any(), http: any(), peers: vec![peers], ..config }
    }

    async fn starts_and_stops(config: &ServerConfig) {
        let descriptors = Descriptors::share(1_024).unwrap();
        let signs = Signs::default();
        let mut server = Server::start(config, descriptors, &signs).await.map_err(|failure| failure.message).unwrap();
        let mut look = tokio::time::interval(READY_INTERVAL);
        let ready = async {
            while server.broker.readiness() != Readiness::Ready {
                look.tick().await;
            }
        };
        tokio::time::timeout(SHUTDOWN_MAX, ready).await.expect("ready in time");
        let refused = refused(config).await;
        assert!(refused.code == USAGE && refused.message.contains("in use by another process"), "{refused:?}");
        server.shutdown().await;
        assert!(matches!(server.broker.readiness(), Readiness::NotReady(_)));
    }

    /// As [`run`] does it, twice on one directory: the first leaves it free and whole.
    #[test]
    fn one_broker_forms_its_cluster_stops_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        for _ in 0..2 {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            runtime.block_on(starts_and_stops(&config));
            runtime.shutdown_timeout(RUNTIME_MAX);
        }
        // Operator's review S4: the directory is broker 1's.
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let other = ServerConfig { id: BrokerId(2), ..config };
        let refused = runtime.block_on(refused(&other));
        runtime.shutdown_timeout(RUNTIME_MAX);
        assert!(refused.code == USAGE && refused.message.contains("belongs to broker 1"), "{refused:?}");
    }
}
