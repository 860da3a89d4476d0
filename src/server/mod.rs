//! One node as a whole: store, broker and listeners, started and stopped in their order.
//!
//! Promises: a server that cannot start has changed nothing that the next attempt would trip over; whoever is told
//! an address is answered there; what was acknowledged is flushed when [`Server::stop`] returns, and nothing of a
//! stopped server that was dropped runs on. A disk that fails or hangs ends the process (SAFETY M14), since the
//! outcome of what was under way is unknown. Leaves out: where the configuration comes from, signals, the log, and
//! what is printed (`cli`).

mod bounds;
mod descriptors;
mod disk;
mod error;
mod faces;
#[cfg(test)]
mod isolation_tests;
mod listeners;
mod process;
#[cfg(test)]
mod tests;
mod watchdog;

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;

use crate::{
    broker::{Broker, BrokerDeps, BrokerSettings, GroupSettings, Readiness},
    config::{ServerConfig, Switch},
    formats::FEATURE_LEVEL,
    grpc::GrpcOptions,
    http::HttpOptions,
    kafka::KafkaOptions,
    metrics::Metrics,
    seam::{Clock, FileClock, Rng, SystemClock, TcpNet},
    storage::{Store, WriterProbe, has_database},
};
use bounds::bounded;
use disk::Room;
use faces::Faces;

pub use descriptors::Descriptors;
pub use error::{FaceError, ServerFailed};
pub use listeners::Addresses;
pub use watchdog::LifeSigns;

/// How often readiness is looked at until it is there.
const READY_INTERVAL: Duration = Duration::from_millis(20);

/// The broker bounds its own shutdown (5 s of transfers, then answers and a flush). This bounds a
/// broker that does not keep to it, below the 30 s and more that supervisors wait before SIGKILL.
const BROKER_STOP_MAX: Duration = Duration::from_secs(15);

/// How long the last flush may take: a disk that takes longer hangs.
const STORE_CLOSE_MAX: Duration = Duration::from_secs(4);

/// A broker with its disk and its listeners. Dropped without [`Server::stop`] it ends as by a crash.
pub struct Server {
    broker: Broker,
    store: Store,
    addresses: Addresses,
    faces: Faces,
    /// Shows the watchdog that tasks run, for as long as the server is there.
    _beat: JoinSet<()>,
}

impl Server {
    /// Opens the disk, binds the listeners and starts the broker on them. Returns before the cluster has formed or
    /// was joined: [`Server::ready`] waits for that.
    pub async fn start(
        config: &ServerConfig,
        descriptors: Descriptors,
        signs: &LifeSigns,
    ) -> Result<Server, ServerFailed> {
        let metrics = Metrics::new();
        metrics.export_process(process::read);
        let net = TcpNet;
        if !has_database(&config.data_dir) {
            // Before anything is created: what cannot be leaves no directory behind.
            if config.founds_nothing() {
                return Err(ServerFailed::Alone { peers: config.peers.clone() });
            }
            listeners::probe(&net, config).await?;
        }
        let room = Room::of(config);
        let mut beat = JoinSet::new();
        let watch = |probe: &WriterProbe| watch(signs, probe, &mut beat);
        let store = disk::open(config, room, descriptors, &metrics, watch).await?;
        let (listeners, addresses) = listeners::bind_all(&net, config).await?;
        let deps = BrokerDeps {
            settings: broker_settings(config, &addresses, room),
            store: store.clone(),
            net: Arc::new(net),
            peer_listener: listeners::for_peers(descriptors, listeners.peer, &metrics),
            clock: clock(config),
            rng: Arc::new(Rng::from_system()),
            metrics: metrics.clone(),
            free_bytes: BrokerDeps::free_bytes_of(config.data_dir.clone()),
        };
        let broker = Broker::start(deps).await?;
        let grpc = grpc_options(config, descriptors, &metrics);
        let kafka = listeners.kafka.map(|listener| (listener, kafka_options(config, descriptors, &metrics)));
        let http = http_options(config, descriptors, metrics, &addresses);
        let faces = Faces::serve(&broker, (listeners.client, grpc), kafka, (listeners.http, http));
        Ok(Server { broker, store, addresses, faces, _beat: beat })
    }

    /// What clients ask, asked from within the process.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Where others find it.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Resolves once clients can be served.
    pub fn ready(&self) -> impl Future<Output = ()> + Send + 'static {
        let broker = self.broker.clone();
        async move {
            let mut look = tokio::time::interval(READY_INTERVAL);
            while broker.readiness() != Readiness::Ready {
                look.tick().await;
            }
        }
    }

    /// Resolves when the server must not go on. What is left to do then is to drop it.
    pub async fn failed(&mut self) -> ServerFailed {
        tokio::select! {
            failed = self.broker.failed() => failed.into(),
            failed = self.faces.failed() => failed,
        }
    }

    /// SAFETY M13: readiness off and leaderships handed over, then the listeners, then the store. The listeners
    /// outlive the broker's part, so that clients are told who leads now. Each step is bounded.
    pub async fn stop(&mut self) {
        bounded("the broker's shutdown", BROKER_STOP_MAX, self.broker.shutdown()).await;
        self.faces.close().await;
        if let Some(Err(error)) = bounded("closing the store", STORE_CLOSE_MAX, self.store.close()).await {
            // What was not flushed was not acknowledged either.
            tracing::warn!(%error, "the store did not close cleanly");
        }
    }
}

/// Watches that the disk and the runtime get on: from here on one that hangs ends the process (SAFETY M14).
fn watch(signs: &LifeSigns, probe: &WriterProbe, beat: &mut JoinSet<()>) -> Result<(), ServerFailed> {
    beat.spawn(signs.clone().beat());
    watchdog::start(signs.clone(), probe.clone()).map_err(ServerFailed::Threads)
}

fn clock(config: &ServerConfig) -> Arc<dyn Clock> {
    match &config.clock_file {
        Some(path) => Arc::new(FileClock::new(path.clone())),
        None => Arc::new(SystemClock),
    }
}

fn broker_settings(config: &ServerConfig, addresses: &Addresses, room: Room) -> BrokerSettings {
    BrokerSettings {
        broker: config.id,
        peers: config.peers.clone(),
        single: config.single == Switch::On,
        peer_override: config.peer_override.clone(),
        client_address: addresses.client.clone(),
        peer_address: addresses.peer.clone(),
        http_address: addresses.http.clone(),
        kafka_address: addresses.kafka.clone().unwrap_or_default(),
        rack: config.rack.clone(),
        heartbeat: Duration::from_millis(config.heartbeat_ms),
        election_min: Duration::from_millis(config.election_ms_min),
        election_max: Duration::from_millis(config.election_ms_max),
        produce_bytes_max: usize::try_from(config.produce_bytes_max).unwrap_or(usize::MAX),
        fetch_bytes_max: usize::try_from(config.fetch_bytes_max).unwrap_or(usize::MAX),
        disk_reserve_bytes: room.reserve_bytes,
        groups: GroupSettings {
            offsets_retention: Duration::from_millis(config.groups.offsets_retention_ms),
            initial_rebalance_delay: Duration::from_millis(config.groups.initial_rebalance_delay_ms),
        },
        warn_after: BrokerSettings::WARN_AFTER,
        feature_level: FEATURE_LEVEL,
        metadata_snapshot_every: BrokerSettings::METADATA_SNAPSHOT_EVERY,
    }
}

fn grpc_options(config: &ServerConfig, descriptors: Descriptors, metrics: &Metrics) -> GrpcOptions {
    GrpcOptions {
        connections_max: usize::try_from(config.connections_max).unwrap_or(usize::MAX),
        descriptors_max: usize::try_from(descriptors.clients).unwrap_or(usize::MAX),
        metrics: metrics.clone(),
    }
}

fn kafka_options(config: &ServerConfig, descriptors: Descriptors, metrics: &Metrics) -> KafkaOptions {
    KafkaOptions {
        connections_max: usize::try_from(config.kafka.connections_max).unwrap_or(usize::MAX),
        descriptors_max: usize::try_from(descriptors.kafka).unwrap_or(usize::MAX),
        auto_create: config.kafka.auto_create_partitions,
        log_dir: config.data_dir.display().to_string(),
        metrics: metrics.clone(),
    }
}

fn http_options(
    config: &ServerConfig,
    descriptors: Descriptors,
    metrics: Metrics,
    addresses: &Addresses,
) -> HttpOptions {
    HttpOptions {
        metrics,
        console: config.console == Switch::On,
        advertised: addresses.http.clone(),
        descriptors_max: usize::try_from(descriptors.http).unwrap_or(usize::MAX),
    }
}
