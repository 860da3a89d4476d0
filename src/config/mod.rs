//! The server's configuration: one TOML file, every key also a flag and an environment variable.
//!
//! Promises: flag over environment over file over default; every value is validated before anything
//! starts, and an error names the key, the offending value and the rule. Leaves out: topic configs
//! (module `metadata`) and anything that could change while the server runs.

mod address;
mod args;
mod environment;
#[cfg(test)]
mod fuzz;
mod machine;
mod peers;
mod validate;

pub use args::ServerArgs;
pub use environment::unknown_variables;
pub use machine::{Machine, memory_bytes};
pub use peers::{FOUNDERS_MAX, Peer, alone, founders, peers_hash, peers_text};

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use crate::types::BrokerId;

/// Kept free on a disk of 4 GiB or more.
const RESERVE_BYTES_MAX: u64 = 1 << 30;
/// The part of a smaller disk that is kept free.
const RESERVE_DISK_PART: u64 = 4;

/// Everything a server needs to know to start. Validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    pub id: BrokerId,
    pub data_dir: PathBuf,
    /// The brokers to look for, in the order of their ids. Before founding it is the seed list (SAFETY B6); afterwards
    /// a hint where to look.
    pub peers: Vec<Peer>,
    /// Whether this broker may found a cluster of itself alone.
    pub single: Switch,
    pub rack: Option<String>,
    /// Where clients speak gRPC.
    pub client: ListenerConfig,
    /// Node to node.
    pub peer: ListenerConfig,
    pub http: ListenerConfig,
    pub kafka: KafkaConfig,
    /// Whether the HTTP listener serves the web console.
    pub console: Switch,
    pub heartbeat_ms: u64,
    pub election_ms_min: u64,
    pub election_ms_max: u64,
    /// The node's budget for recent entries kept in memory.
    pub tail_bytes_max: u64,
    /// The node's budget for produce requests in flight.
    pub produce_bytes_max: u64,
    /// The node's budget for fetch answers being built or sent.
    pub fetch_bytes_max: u64,
    /// Client connections (gRPC) at once.
    pub connections_max: u32,
    /// Threads of the async runtime; None: half the cores, at least one. The others are left to the
    /// log writer's fsyncs, RocksDB's flushes and the kernel.
    pub worker_threads: Option<u32>,
    /// Write-ahead logs in use at once. None: by the size of the disk.
    pub wal_bytes_max: Option<u64>,
    /// Writes stop while the disk has less than this free. None: by the size of the disk, see
    /// [`ServerConfig::reserve_bytes`].
    pub disk_reserve_bytes: Option<u64>,
    pub groups: GroupConfig,
    pub log_format: LogFormat,
    /// What is logged, in tracing's filter syntax.
    pub log_filter: String,
    /// Where to dial a peer instead of its address. Tests put proxies there.
    pub peer_override: BTreeMap<BrokerId, String>,
    /// A file that says how wrong this broker's wall clock is. For tests.
    pub clock_file: Option<PathBuf>,
}

/// What is configured of consumer groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// How long the committed offsets of a group without members are kept.
    pub offsets_retention_ms: u64,
    /// How long the first round of a classic group waits for more members.
    pub initial_rebalance_delay_ms: u64,
}

/// What is configured for Kafka clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaConfig {
    /// Where they connect. None: nowhere.
    pub listener: Option<ListenerConfig>,
    /// Their connections at once.
    pub connections_max: u32,
    /// How many partitions a topic gets that is made because a client asks for it. None: no topic is made so.
    pub auto_create_partitions: Option<u32>,
}

/// Where one listener binds, and where others find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    /// host:port to listen on; port 0 lets the system choose.
    pub bind: String,
    /// host:port that others are told. None: the address that was bound.
    pub advertised: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

/// Whether something is there or not. Words, so that it reads the same as a flag, a variable and a key; true and false
/// are taken as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Switch {
    #[value(alias = "true")]
    On,
    #[value(alias = "false")]
    Off,
}

/// A configuration and what the operator should hear about it, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    pub config: ServerConfig,
    pub warnings: Vec<String>,
}

/// Why the server cannot start with what it was given.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {path}: {error}")]
    Read { path: String, error: std::io::Error },
    #[error("the configuration file {path} is not valid: {error}")]
    Parse { path: String, error: String },
    #[error("{key} is missing: {rule}")]
    Missing { key: &'static str, rule: &'static str },
    #[error("{key} is {value:?}: {rule}")]
    Rule { key: &'static str, value: String, rule: String },
}

impl ListenerConfig {
    /// What others are told, once the listener is bound.
    pub fn advertise(&self, bound: SocketAddr) -> String {
        self.advertised.clone().unwrap_or_else(|| bound.to_string())
    }
}

impl ServerConfig {
    /// Whether a new data directory could come to nothing: the list names no other broker, and a cluster of one is
    /// not asked for.
    pub fn founds_nothing(&self) -> bool {
        self.single == Switch::Off && self.peers.iter().all(|peer| peer.id == self.id)
    }

    /// What must stay free on a disk of this size before writes are refused: as configured, or 1 GiB, or a
    /// quarter of a disk too small for that. It has to hold what is on its way when writes stop, the
    /// flushes of all write buffers, and the logs once more, which a restart flushes.
    pub fn reserve_bytes(&self, disk_bytes: Option<u64>) -> u64 {
        let by_disk = disk_bytes.map_or(RESERVE_BYTES_MAX, |bytes| (bytes / RESERVE_DISK_PART).min(RESERVE_BYTES_MAX));
        self.disk_reserve_bytes.unwrap_or(by_disk)
    }
}

#[cfg(test)]
mod tests;
