//! The rules of values, each checked with the others in view.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use bytesize::ByteSize;
use tracing::Level;
use tracing_subscriber::{EnvFilter, filter::Targets};

use super::address::host_port;
use super::args::{self, Raw, Size};
use super::{ConfigError, GroupConfig, KafkaConfig, ListenerConfig, Loaded, LogFormat, Peer, ServerConfig, Switch};
use crate::types::{ALLOCATED_REPLICA_MIN, BrokerId};

/// Peers are a seed list, not the cluster; metadata allows as many brokers.
const PEERS_MAX: usize = 1_000;
/// The largest batch, with room for a second one: less could never admit it.
const BUDGET_MIN: ByteSize = ByteSize::mib(16);
/// More would make a crashed leader's partitions wait for minutes.
const ELECTION_MS_LIMIT: u64 = 60_000;
/// Names of racks travel in metadata, which bounds them.
const RACK_BYTES_MAX: usize = 255;

/// A group that is restarted by hand is without members for a while.
const OFFSETS_RETENTION_MS_MIN: u64 = 1_000;
const INITIAL_REBALANCE_DELAY_MS_MAX: u64 = 60_000;

/// More than any machine has descriptors for.
const CONNECTIONS_LIMIT: u32 = 1_000_000;

/// As many as a topic can have, by the rules of `metadata`.
const AUTO_CREATE_PARTITIONS_MAX: u32 = 10_000;

/// More than any machine has cores is a slip of the pen.
const WORKER_THREADS_MAX: u32 = 1_024;

impl Raw {
    /// Fills in defaults and checks every rule.
    pub(super) fn validate(self) -> Result<Loaded, ConfigError> {
        let id = broker_id(self.id)?;
        let data_dir = required("data_dir", self.data_dir, "say where this broker keeps its data")?;
        if data_dir.as_os_str().is_empty() {
            return Err(rule("data_dir", "", "must not be empty"));
        }
        let what = "list the brokers that form the cluster as id@host:port, this one included";
        let peers = peers(required("peers", self.peers, what)?)?;
        if let Some(rack) = &self.rack
            && (rack.is_empty() || rack.len() > RACK_BYTES_MAX)
        {
            return Err(rule("rack", rack, "must be 1 to 255 bytes long"));
        }
        let client = ["client_bind", "client_advertised"];
        let client = listener(client, self.client_bind, args::CLIENT_BIND, self.client_advertised)?;
        let own = peers.iter().find(|p| p.id == id).map(|p| p.address.clone());
        let is_peer_from_list = self.peer_advertised.is_none() && own.is_some();
        let peer_advertised = self.peer_advertised.or(own);
        let peer = listener(["peer_bind", "peer_advertised"], self.peer_bind, args::PEER_BIND, peer_advertised)?;
        let http = listener(["http_bind", "http_advertised"], self.http_bind, args::HTTP_BIND, self.http_advertised)?;
        let (heartbeat_ms, election_ms_min, election_ms_max) =
            timers(self.heartbeat_ms, self.election_ms_min, self.election_ms_max)?;
        let log_filter = self.log_filter.unwrap_or_else(|| args::LOG_FILTER.to_string());
        check_filter(&log_filter)?;
        let connections_max = self.connections_max.unwrap_or(args::CONNECTIONS_MAX);
        check_connections("connections_max", connections_max)?;
        check_threads(self.worker_threads)?;
        let is_advertised_in_vain = self.kafka_bind.as_deref() == Some("") && self.kafka_advertised.is_some();
        let kafka_connections_max = self.kafka_connections_max.unwrap_or(args::CONNECTIONS_MAX);
        check_connections("kafka_connections_max", kafka_connections_max)?;
        let auto_create_partitions = auto_create(self.auto_create_topics, self.auto_create_partitions)?;
        let kafka_listener = kafka_listener(self.kafka_bind, self.kafka_advertised)?;
        let kafka =
            KafkaConfig { listener: kafka_listener, connections_max: kafka_connections_max, auto_create_partitions };
        check_reserve(self.disk_reserve_bytes)?;
        let wal_bytes_max =
            self.wal_bytes_max.map(|size| budget("wal_bytes_max", Some(size), BUDGET_MIN)).transpose()?;
        let config = ServerConfig {
            id,
            data_dir,
            peer_override: overrides(self.peer_override.unwrap_or_default())?,
            peers,
            single: self.single.unwrap_or(Switch::Off),
            rack: self.rack,
            client,
            peer,
            http,
            kafka,
            console: self.console.unwrap_or(Switch::On),
            heartbeat_ms,
            election_ms_min,
            election_ms_max,
            tail_bytes_max: budget("tail_bytes_max", self.tail_bytes_max, args::TAIL_BYTES_MAX)?,
            produce_bytes_max: budget("produce_bytes_max", self.produce_bytes_max, args::PRODUCE_BYTES_MAX)?,
            fetch_bytes_max: budget("fetch_bytes_max", self.fetch_bytes_max, args::FETCH_BYTES_MAX)?,
            connections_max,
            worker_threads: self.worker_threads,
            wal_bytes_max,
            disk_reserve_bytes: self.disk_reserve_bytes.map(|size| size.0.as_u64()),
            groups: groups(self.offsets_retention_ms, self.group_initial_rebalance_delay_ms)?,
            log_format: self.log_format.unwrap_or(LogFormat::Text),
            log_filter,
            clock_file: self.clock_file,
        };
        let mut warnings = warnings(&config);
        warnings.extend(is_advertised_in_vain.then(|| {
            "kafka_advertised has no effect: kafka_bind is empty, so there is no listener for Kafka clients".to_string()
        }));
        warnings.extend(is_peer_from_list.then(|| port_differs(&config.peer)).flatten());
        Ok(Loaded { config, warnings })
    }
}

fn broker_id(id: Option<u64>) -> Result<BrokerId, ConfigError> {
    let id = required("id", id, "give this broker a number from 1 to 65535, another on each")?;
    if !(1..ALLOCATED_REPLICA_MIN).contains(&id) {
        return Err(rule("id", id, "must be from 1 to 65535"));
    }
    Ok(BrokerId(id))
}

/// What an operator should know though nothing is wrong.
fn warnings(config: &ServerConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    let listeners = [&config.client, &config.peer, &config.http].into_iter().chain(&config.kafka.listener);
    let open: Vec<&str> = listeners.map(|l| l.bind.as_str()).filter(|bind| !is_loopback(bind)).collect();
    if !open.is_empty() {
        warnings.push(format!(
            "listening on {}: there is no authentication and no encryption yet, so whoever reaches these ports can \
             read, write and delete everything",
            open.join(", ")
        ));
    }
    if !config.peers.iter().any(|p| p.id == config.id) {
        let id = config.id;
        warnings.push(format!(
            "peers do not list this broker ({id}): it joins the cluster of those listed, and forms none"
        ));
    }
    if config.single == Switch::On && config.peers.iter().any(|peer| peer.id != config.id) {
        warnings.push("single is on, and has no effect: peers names other brokers".to_string());
    }
    if config.clock_file.is_some() {
        warnings.push("clock_file is set: this broker's wall clock is what the file says; for tests only".to_string());
    }
    if !config.peer_override.is_empty() {
        warnings
            .push("peer_override is set: links to peers do not go where the cluster says; for tests only".to_string());
    }
    warnings
}

fn check_connections(key: &'static str, connections_max: u32) -> Result<(), ConfigError> {
    match connections_max {
        1..=CONNECTIONS_LIMIT => Ok(()),
        _ => Err(rule(key, connections_max, format!("must be 1 to {CONNECTIONS_LIMIT}"))),
    }
}

fn check_threads(worker_threads: Option<u32>) -> Result<(), ConfigError> {
    match worker_threads {
        Some(threads) if !(1..=WORKER_THREADS_MAX).contains(&threads) => {
            Err(rule("worker_threads", threads, format!("must be 1 to {WORKER_THREADS_MAX}")))
        }
        Some(_) | None => Ok(()),
    }
}

fn check_reserve(reserve: Option<Size>) -> Result<(), ConfigError> {
    match reserve {
        Some(Size(reserve)) if reserve < BUDGET_MIN => {
            let why = format!("must be {BUDGET_MIN} or more: what is on its way when writes stop must fit");
            Err(rule("disk_reserve_bytes", reserve, why))
        }
        Some(_) | None => Ok(()),
    }
}

/// It must be a filter, and let our own errors through: "chatty" is one, for a module of that name, and silences
/// all others.
fn check_filter(log_filter: &str) -> Result<(), ConfigError> {
    // The parser cuts text between bytes, and panics within a character.
    if !log_filter.is_ascii() {
        return Err(rule("log_filter", log_filter, "is no filter: only ASCII can be in one"));
    }
    EnvFilter::try_new(log_filter).map_err(|error| rule("log_filter", log_filter, format!("is no filter: {error}")))?;
    // A filter by spans and fields is none of these, and cannot be judged by names.
    let by_names = log_filter.parse::<Targets>();
    if by_names.is_ok_and(|targets| !targets.would_enable("flotilla", &Level::ERROR)) {
        let why = "would let not even errors of this broker through; write for example info, or \
                   info,flotilla::raft=debug";
        return Err(rule("log_filter", log_filter, why));
    }
    Ok(())
}

/// The own line in `peers` is where others look for this broker.
fn port_differs(peer: &ListenerConfig) -> Option<String> {
    let port = |address: &str| host_port(address).ok().map(|(_, port)| port);
    let told = peer.advertised.as_deref().filter(|told| port(told) != port(&peer.bind))?;
    let why = "set peer_advertised to the address at which others reach this broker";
    Some(format!("peers say that this broker is at {told}, and it listens on {}: {why}", peer.bind))
}

fn peers(lines: Vec<String>) -> Result<Vec<Peer>, ConfigError> {
    if lines.is_empty() || lines.len() > PEERS_MAX {
        return Err(rule("peers", format!("a list of {}", lines.len()), format!("must list 1 to {PEERS_MAX} brokers")));
    }
    let mut peers = Vec::with_capacity(lines.len());
    for line in lines {
        let peer: Peer = line.parse().map_err(|why: String| rule("peers", &line, why))?;
        if !(1..ALLOCATED_REPLICA_MIN).contains(&peer.id.0) {
            return Err(rule("peers", &line, "the id before the @ must be from 1 to 65535"));
        }
        peers.push(peer);
    }
    peers.sort_unstable();
    if let Some(pair) = peers.windows(2).find(|pair| pair[0].id == pair[1].id) {
        return Err(rule("peers", format!("{},{}", pair[0], pair[1]), "each id may be there only once"));
    }
    let mut seen = BTreeSet::new();
    match peers.iter().find(|peer| !seen.insert(peer.address.as_str())) {
        Some(peer) => Err(rule("peers", peer, "each address may be there only once")),
        None => Ok(peers),
    }
}

fn overrides(lines: Vec<String>) -> Result<BTreeMap<BrokerId, String>, ConfigError> {
    let mut overrides = BTreeMap::new();
    for line in lines {
        let refuse = |why: &str| rule("peer_override", &line, why);
        let (id, address) = line.split_once('=').ok_or_else(|| refuse("write ID=HOST:PORT"))?;
        let id = id.parse().map(BrokerId).map_err(|_| refuse("before the = there must be a broker's number"))?;
        host_port(address).map_err(|why| refuse(&why))?;
        if overrides.insert(id, address.to_string()).is_some() {
            return Err(refuse("each id may be there only once"));
        }
    }
    Ok(overrides)
}

fn listener(
    [bind_key, advertised_key]: [&'static str; 2],
    bind: Option<String>,
    default: &str,
    advertised: Option<String>,
) -> Result<ListenerConfig, ConfigError> {
    let bind = bind.unwrap_or_else(|| default.to_string());
    let (host, _) = host_port(&bind).map_err(|why| rule(bind_key, &bind, why))?;
    let is_wildcard = parse_ip(host).is_some_and(|ip| ip.is_unspecified());
    match &advertised {
        None if is_wildcard => {
            let why = format!("nobody can dial this address: set {advertised_key} to the one that others shall use");
            Err(rule(bind_key, &bind, why))
        }
        None => Ok(ListenerConfig { bind, advertised }),
        Some(address) => match host_port(address) {
            Err(why) => Err(rule(advertised_key, address, why)),
            Ok((_, 0)) => Err(rule(advertised_key, address, "nobody can dial port 0")),
            Ok((host, _)) if parse_ip(host).is_some_and(|ip| ip.is_unspecified()) => {
                Err(rule(advertised_key, address, "nobody can dial this address"))
            }
            Ok(_) => Ok(ListenerConfig { bind, advertised }),
        },
    }
}

/// Kafka clients have a listener unless its address is empty.
fn kafka_listener(bind: Option<String>, advertised: Option<String>) -> Result<Option<ListenerConfig>, ConfigError> {
    if bind.as_deref() == Some("") {
        return Ok(None);
    }
    listener(["kafka_bind", "kafka_advertised"], bind, args::KAFKA_BIND, advertised).map(Some)
}

/// How many partitions a topic gets that is made because a Kafka client asks for it, if it is made.
fn auto_create(topics: Option<Switch>, partitions: Option<u32>) -> Result<Option<u32>, ConfigError> {
    let partitions = partitions.unwrap_or(args::AUTO_CREATE_PARTITIONS);
    if !(1..=AUTO_CREATE_PARTITIONS_MAX).contains(&partitions) {
        let why = format!("must be 1 to {AUTO_CREATE_PARTITIONS_MAX}, as many as a topic can have");
        return Err(rule("auto_create_partitions", partitions, why));
    }
    Ok((topics.unwrap_or(Switch::On) == Switch::On).then_some(partitions))
}

fn timers(heartbeat: Option<u64>, min: Option<u64>, max: Option<u64>) -> Result<(u64, u64, u64), ConfigError> {
    let heartbeat = heartbeat.unwrap_or(args::HEARTBEAT_MS);
    let min = min.unwrap_or(args::ELECTION_MS_MIN);
    let max = max.unwrap_or(args::ELECTION_MS_MAX);
    if heartbeat < 10 {
        return Err(rule("heartbeat_ms", heartbeat, "must be 10 or more"));
    }
    if min / 2 < heartbeat {
        let why =
            format!("must be at least twice heartbeat_ms ({heartbeat}), or one late heartbeat starts an election");
        return Err(rule("election_ms_min", min, why));
    }
    if max <= min {
        let why = format!("must be above election_ms_min ({min}), or all followers campaign at once");
        return Err(rule("election_ms_max", max, why));
    }
    if max > ELECTION_MS_LIMIT {
        return Err(rule("election_ms_max", max, format!("must be {ELECTION_MS_LIMIT} or less")));
    }
    Ok((heartbeat, min, max))
}

fn groups(retention: Option<u64>, delay: Option<u64>) -> Result<GroupConfig, ConfigError> {
    let offsets_retention_ms = retention.unwrap_or(args::OFFSETS_RETENTION_MS);
    if offsets_retention_ms < OFFSETS_RETENTION_MS_MIN {
        let why = format!("must be {OFFSETS_RETENTION_MS_MIN} or more: a group that restarts must find its offsets");
        return Err(rule("offsets_retention_ms", offsets_retention_ms, why));
    }
    let initial_rebalance_delay_ms = delay.unwrap_or(args::GROUP_INITIAL_REBALANCE_DELAY_MS);
    if initial_rebalance_delay_ms > INITIAL_REBALANCE_DELAY_MS_MAX {
        let why = format!("must be {INITIAL_REBALANCE_DELAY_MS_MAX} or less: no member reads anything meanwhile");
        return Err(rule("group_initial_rebalance_delay_ms", initial_rebalance_delay_ms, why));
    }
    Ok(GroupConfig { offsets_retention_ms, initial_rebalance_delay_ms })
}

fn budget(key: &'static str, given: Option<Size>, default: ByteSize) -> Result<u64, ConfigError> {
    let size = given.map_or(default, |size| size.0);
    if size < BUDGET_MIN {
        return Err(rule(key, size, format!("must be {BUDGET_MIN} or more, to hold the largest batches")));
    }
    Ok(size.as_u64())
}

fn required<T>(key: &'static str, value: Option<T>, rule: &'static str) -> Result<T, ConfigError> {
    value.ok_or(ConfigError::Missing { key, rule })
}

pub(super) fn rule(key: &'static str, value: impl ToString, rule: impl Into<String>) -> ConfigError {
    ConfigError::Rule { key, value: value.to_string(), rule: rule.into() }
}

fn is_loopback(bind: &str) -> bool {
    let Ok((host, _)) = host_port(bind) else { return false };
    host == "localhost" || parse_ip(host).is_some_and(|ip| ip.is_loopback())
}

fn parse_ip(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}
