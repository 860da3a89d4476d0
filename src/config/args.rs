//! Flags, environment variables and the file, merged key by key. clap puts the flag before the
//! environment; what neither gives is taken from the file, and then from the defaults below.

use std::{fs, path::PathBuf, str::FromStr};

use bytesize::ByteSize;
use serde::Deserialize;

use super::{ConfigError, Loaded, LogFormat, Switch};

pub(super) const CLIENT_BIND: &str = "127.0.0.1:7070";
pub(super) const PEER_BIND: &str = "127.0.0.1:7071";
pub(super) const HTTP_BIND: &str = "127.0.0.1:7080";
pub(super) const KAFKA_BIND: &str = "127.0.0.1:9092";
/// Three lost heartbeats make a follower campaign; a dead leader is replaced within 3 s at worst.
pub(super) const HEARTBEAT_MS: u64 = 200;
pub(super) const ELECTION_MS_MIN: u64 = 600;
pub(super) const ELECTION_MS_MAX: u64 = 1_000;
pub(super) const TAIL_BYTES_MAX: ByteSize = ByteSize::mib(256);
pub(super) const PRODUCE_BYTES_MAX: ByteSize = ByteSize::mib(256);
pub(super) const FETCH_BYTES_MAX: ByteSize = ByteSize::mib(128);
pub(super) const CONNECTIONS_MAX: u32 = 10_000;
/// Kafka's defaults, these three.
pub(super) const AUTO_CREATE_PARTITIONS: u32 = 1;
pub(super) const OFFSETS_RETENTION_MS: u64 = 7 * 24 * 3_600_000;
pub(super) const GROUP_INITIAL_REBALANCE_DELAY_MS: u64 = 3_000;
pub(super) const LOG_FILTER: &str = "info";

/// A size as users write it: 1GiB, 500MB, or bytes as a plain number.
#[derive(Clone, Copy, Debug)]
pub struct Size(pub(super) ByteSize);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        text.parse()
            .map(Size)
            .map_err(|_| format!("{text:?} is no size; write for example 256MiB, or bytes as a number"))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a size: write for example \"256MiB\", or bytes as a number")]
        enum Written {
            Bytes(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Bytes(bytes) => Ok(Size(ByteSize::b(bytes))),
            Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

impl<'de> Deserialize<'de> for Switch {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Switch, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "\"on\" or \"off\"")]
        enum Written {
            Flag(bool),
            Word(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Flag(true) => Ok(Switch::On),
            Written::Flag(false) => Ok(Switch::Off),
            Written::Word(word) if word == "on" => Ok(Switch::On),
            Written::Word(word) if word == "off" => Ok(Switch::Off),
            Written::Word(word) => Err(serde::de::Error::custom(format!("{word:?} is neither \"on\" nor \"off\""))),
        }
    }
}

/// Declares the keys once: as flags with their environment variables, and as keys of the file.
/// The same name in all three, so that a message about a key helps wherever the value came from.
macro_rules! keys {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty, $env:literal, $value:literal $(, $arg:meta)*;)+) => {
        /// Flags of `flotilla server`. Every key is also an environment variable and, with underscores,
        /// a key of the file.
        #[derive(Clone, Debug, Default, clap::Args)]
        pub struct ServerArgs {
            /// The configuration file, in TOML; scripts/n1.toml is an example. Flags and environment
            /// variables go before what it says.
            #[arg(long, env = "FLOTILLA_CONFIG", value_name = "FILE")]
            pub config: Option<PathBuf>,
            $($(#[doc = $doc])+ #[arg(long, env = $env, value_name = $value $(, $arg)*)] pub $name: Option<$type>,)+
        }

        /// The file's keys.
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct File {
            $($name: Option<$type>,)+
        }

        impl ServerArgs {
            pub(super) fn over(self, file: File) -> Raw {
                Raw { $($name: self.$name.or(file.$name),)+ }
            }
        }

        /// What was given, wherever it was given.
        #[derive(Debug, Default)]
        pub(super) struct Raw {
            $(pub $name: Option<$type>,)+
        }

        /// All keys with their environment variables.
        pub(super) const KEYS: &[(&str, &str)] = &[$((stringify!($name), $env)),+];
    };
}

keys! {
    /// This broker's number in the cluster, from 1 to 65535; it never changes.
    id: u64, "FLOTILLA_ID", "N";
    /// Where this broker keeps everything. It belongs to one broker for good: never empty it, and never put an
    /// older copy or a snapshot back; others notice, and it is refused.
    data_dir: PathBuf, "FLOTILLA_DATA_DIR", "DIR";
    /// The brokers that form the cluster, as id@host:port of their peer listeners; the same list on each.
    /// Once the cluster is formed it only says where to look for others: any that can be reached is enough.
    peers: Vec<String>, "FLOTILLA_PEERS", "ID@HOST:PORT", value_delimiter = ',', num_args = 1;
    /// Found a cluster of this broker alone, if peers names no other; it can be joined later [default: off]
    single: Switch, "FLOTILLA_SINGLE", "SWITCH", num_args = 0..=1, default_missing_value = "on";
    /// The failure domain this broker stands in: replicas of a partition are spread over racks.
    rack: String, "FLOTILLA_RACK", "NAME";
    /// Where clients connect (gRPC) [default: 127.0.0.1:7070]
    client_bind: String, "FLOTILLA_CLIENT_BIND", "HOST:PORT";
    /// The address that clients are told [default: what client-bind binds]
    client_advertised: String, "FLOTILLA_CLIENT_ADVERTISED", "HOST:PORT";
    /// Where other brokers connect [default: 127.0.0.1:7071]
    peer_bind: String, "FLOTILLA_PEER_BIND", "HOST:PORT";
    /// The address that other brokers are told [default: this broker's own line in peers]
    peer_advertised: String, "FLOTILLA_PEER_ADVERTISED", "HOST:PORT";
    /// Where the web console, /metrics, /livez and /readyz are served [default: 127.0.0.1:7080]
    http_bind: String, "FLOTILLA_HTTP_BIND", "HOST:PORT";
    /// The HTTP address that others are told [default: what http-bind binds]
    http_advertised: String, "FLOTILLA_HTTP_ADVERTISED", "HOST:PORT";
    /// Where Kafka clients connect; empty: nowhere [default: 127.0.0.1:9092]
    kafka_bind: String, "FLOTILLA_KAFKA_BIND", "HOST:PORT";
    /// The address that Kafka clients are told [default: what kafka-bind binds]
    kafka_advertised: String, "FLOTILLA_KAFKA_ADVERTISED", "HOST:PORT";
    /// Whether the web console and its API are served: it shows records to whoever reaches it [default: on]
    console: Switch, "FLOTILLA_CONSOLE", "SWITCH";
    /// How often a leader shows that it lives [default: 200]
    heartbeat_ms: u64, "FLOTILLA_HEARTBEAT_MS", "MS";
    /// The shortest silence after which a follower campaigns, at least twice heartbeat-ms [default: 600]
    election_ms_min: u64, "FLOTILLA_ELECTION_MS_MIN", "MS";
    /// The longest such silence; the spread keeps followers from campaigning at once [default: 1000]
    election_ms_max: u64, "FLOTILLA_ELECTION_MS_MAX", "MS";
    /// Memory for recent entries, from which followers and consumers are served [default: 256MiB]
    tail_bytes_max: Size, "FLOTILLA_TAIL_BYTES_MAX", "SIZE";
    /// Memory for produce requests in flight; beyond it clients have to wait [default: 256MiB]
    produce_bytes_max: Size, "FLOTILLA_PRODUCE_BYTES_MAX", "SIZE";
    /// Memory for answers to fetch requests [default: 128MiB]
    fetch_bytes_max: Size, "FLOTILLA_FETCH_BYTES_MAX", "SIZE";
    /// Client connections (gRPC) at once [default: 10000]
    connections_max: u32, "FLOTILLA_CONNECTIONS_MAX", "N";
    /// Connections of Kafka clients at once [default: 10000]
    kafka_connections_max: u32, "FLOTILLA_KAFKA_CONNECTIONS_MAX", "N";
    /// Threads that run the broker's tasks; RocksDB and fsyncs have their own [default: half the cores, at least 1]
    worker_threads: u32, "FLOTILLA_WORKER_THREADS", "N";
    /// Write-ahead logs in use at once; about as much again is kept for reuse [default: 256MiB, or a sixteenth of a
    /// disk of less than 4GiB]
    wal_bytes_max: Size, "FLOTILLA_WAL_BYTES_MAX", "SIZE";
    /// Produces are refused while the disk has less than this free; reads go on [default: 1GiB, or a quarter of a disk
    /// of less than 4GiB]
    disk_reserve_bytes: Size, "FLOTILLA_DISK_RESERVE_BYTES", "SIZE";
    /// How long the committed offsets of a group without members are kept [default: 604800000, a week]
    offsets_retention_ms: u64, "FLOTILLA_OFFSETS_RETENTION_MS", "MS";
    /// How long the first round of a group of Kafka's classic protocol waits for more members [default: 3000]
    group_initial_rebalance_delay_ms: u64, "FLOTILLA_GROUP_INITIAL_REBALANCE_DELAY_MS", "MS";
    /// Whether a topic that a Kafka client asks for is made if there is none (auto.create.topics.enable) [default: on]
    auto_create_topics: Switch, "FLOTILLA_AUTO_CREATE_TOPICS", "SWITCH";
    /// How many partitions such a topic gets (num.partitions) [default: 1]
    auto_create_partitions: u32, "FLOTILLA_AUTO_CREATE_PARTITIONS", "N";
    /// How log lines look on stderr [default: text]
    log_format: LogFormat, "FLOTILLA_LOG_FORMAT", "FORMAT";
    /// What is logged, in tracing's syntax, for example info,flotilla::raft=debug [default: info]
    log_filter: String, "FLOTILLA_LOG_FILTER", "FILTER";
    /// For tests: dial this address for a peer, whatever peers or the cluster say. May be repeated.
    peer_override: Vec<String>, "FLOTILLA_PEER_OVERRIDE", "ID=HOST:PORT", value_delimiter = ',', num_args = 1;
    /// For tests: a file with milliseconds to add to the wall clock, or the word "stopped"; looked at all the time.
    clock_file: PathBuf, "FLOTILLA_CLOCK_FILE", "FILE";
}

impl ServerArgs {
    /// Reads the file, if one is named, fills in defaults and validates.
    pub fn load(self) -> Result<Loaded, ConfigError> {
        let file = match &self.config {
            None => File::default(),
            Some(path) => {
                let name = path.display().to_string();
                let text = fs::read_to_string(path).map_err(|error| ConfigError::Read { path: name.clone(), error })?;
                parse_file(&text).map_err(|error| ConfigError::Parse { path: name, error })?
            }
        };
        self.over(file).validate()
    }
}

impl ServerArgs {
    /// How log lines are to look, also where nothing else of what was given makes sense.
    pub fn log_format(&self) -> LogFormat {
        let in_file = || {
            let text = fs::read_to_string(self.config.as_ref()?).ok()?;
            let table: toml::Table = text.parse().ok()?;
            (table.get("log_format")?.as_str()? == "json").then_some(LogFormat::Json)
        };
        self.log_format.or_else(in_file).unwrap_or(LogFormat::Text)
    }
}

pub(super) fn parse_file(text: &str) -> Result<File, String> {
    toml::from_str(text).map_err(|error| error.to_string())
}
