//! What `local` knows of its cluster: one JSON file in the cluster's directory, and each node's
//! configuration beside its data.

use std::{
    env, fs, io,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    cli::{contexts, exit::Failure, files::write_whole},
    seam::Rng,
};

/// The context that `local` writes.
pub const CONTEXT: &str = "local";
const STATE_FILE: &str = "cluster.json";

/// A local cluster, which lives below one directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub nodes: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub id: u64,
    /// The pid of the last process started; it may be gone, and its number someone else's.
    pub pid: Option<i32>,
    /// The address for clients, as host:port; those of the other listeners follow.
    pub client: String,
    pub peer: String,
    pub http: String,
    /// The address for Kafka clients. Empty: the node has no listener for them.
    #[serde(default)]
    pub kafka: String,
    pub data_dir: PathBuf,
    pub config: PathBuf,
    pub log: PathBuf,
}

/// Reads the file's content.
pub(super) fn read(bytes: &[u8]) -> serde_json::Result<State> {
    serde_json::from_slice(bytes)
}

impl State {
    /// The cluster in `dir`, if there is one.
    pub fn load(dir: &Path) -> Result<Option<State>, Failure> {
        let path = dir.join(STATE_FILE);
        match fs::read(&path) {
            Ok(bytes) => read(&bytes)
                .map(Some)
                .map_err(|error| Failure::failed(format!("{} is damaged: {error}", path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::failed(format!("cannot read {}: {error}", path.display()))),
        }
    }

    pub fn save(&self, dir: &Path) -> Result<(), Failure> {
        let text = serde_json::to_vec_pretty(self).map_err(|e| Failure::failed(format!("cannot write state: {e}")))?;
        write_whole(&dir.join(STATE_FILE), &text)
    }

    /// A new cluster's nodes, with ports that were free a moment ago, and their configuration files. `kafka_from`: where
    /// the ports for Kafka clients begin, as far as these are free; None: anywhere.
    pub fn create(
        dir: &Path,
        nodes: u64,
        settings: &[(String, String)],
        kafka_from: Option<u16>,
    ) -> Result<State, Failure> {
        let count = nodes as usize;
        let near = kafka_from.map(|first| free_ports_from(first, count)).unwrap_or_default();
        let mut ports = free_ports(count * 4 - near.len())?.into_iter();
        let mut near = near.into_iter();
        let mut address = || format!("127.0.0.1:{}", ports.next().expect("four ports a node"));
        let configured = settings.iter().rev().find(|(key, _)| key == "kafka_bind").map(|(_, value)| value.clone());
        let nodes: Vec<Node> = (1..=nodes)
            .map(|id| {
                let home = dir.join(format!("n{id}"));
                Node {
                    id,
                    pid: None,
                    client: address(),
                    peer: address(),
                    http: address(),
                    kafka: match (&configured, near.next()) {
                        (Some(bind), _) => bind.clone(),
                        (None, Some(port)) => format!("127.0.0.1:{port}"),
                        (None, None) => address(),
                    },
                    data_dir: home.join("data"),
                    config: home.join("node.toml"),
                    log: home.join("log"),
                }
            })
            .collect();
        let state = State { nodes };
        for node in &state.nodes {
            write_whole(&node.config, state.config_of(node, settings)?.as_bytes())?;
        }
        state.save(dir)?;
        Ok(state)
    }

    /// Gives nodes that an earlier version made, which knew nothing of Kafka clients, an address for them each: without
    /// one in its file a node takes the usual port, and only one node of a machine can. True: something was changed, and
    /// is to be saved.
    pub fn complete(&mut self) -> Result<bool, Failure> {
        let mut changed = false;
        for node in self.nodes.iter_mut().filter(|node| node.kafka.is_empty()) {
            let path = node.config.display();
            let text = fs::read_to_string(&node.config)
                .map_err(|error| Failure::failed(format!("cannot read {path}: {error}")))?;
            let table: toml::Table =
                text.parse().map_err(|error| Failure::failed(format!("{path} cannot be read: {error}")))?;
            if table.contains_key("kafka_bind") {
                continue;
            }
            let port = free_ports(1)?.pop().expect("one was asked for");
            node.kafka = format!("127.0.0.1:{port}");
            // Before all else: a table further down would take it for its own.
            write_whole(&node.config, format!("kafka_bind = \"{}\"\n{text}", node.kafka).as_bytes())?;
            changed = true;
        }
        Ok(changed)
    }

    fn config_of(&self, node: &Node, settings: &[(String, String)]) -> Result<String, Failure> {
        let mut table = toml::Table::new();
        let data_dir = node.data_dir.to_str().ok_or_else(|| {
            Failure::usage(format!(
                "--dir: {} is not UTF-8, which a configuration file must be",
                node.data_dir.display()
            ))
        })?;
        let peers = self.nodes.iter().map(|n| toml::Value::String(format!("{}@{}", n.id, n.peer))).collect();
        table.insert("id".into(), toml::Value::Integer(node.id as i64));
        table.insert("data_dir".into(), data_dir.into());
        table.insert("peers".into(), toml::Value::Array(peers));
        if self.nodes.len() == 1 {
            table.insert("single".into(), "on".into());
        }
        table.insert("client_bind".into(), node.client.clone().into());
        table.insert("peer_bind".into(), node.peer.clone().into());
        table.insert("http_bind".into(), node.http.clone().into());
        table.insert("kafka_bind".into(), node.kafka.clone().into());
        for (key, value) in settings {
            // A number where it is one: the file knows types, a flag does not.
            let value = value.parse().map_or_else(|_| toml::Value::String(value.clone()), toml::Value::Integer);
            table.insert(key.clone(), value);
        }
        Ok(format!("# Written by `flotilla local start`; changes here are kept.\n{table}"))
    }

    pub fn node(&self, id: u64) -> Result<&Node, Failure> {
        self.nodes.iter().find(|n| n.id == id).ok_or_else(|| {
            let known: Vec<String> = self.nodes.iter().map(|n| n.id.to_string()).collect();
            Failure::not_found(format!("no node {id} here; there are {}", known.join(", ")))
        })
    }

    pub fn brokers(&self) -> Vec<String> {
        self.nodes.iter().map(|n| n.client.clone()).collect()
    }
}

/// The ports to choose from: they lie below the range from which systems take ports for outgoing connections, so that a
/// node that was down for a while finds its own free when it comes back.
const PORTS: std::ops::Range<u16> = 15_000..32_000;
/// Kafka's usual port. The cluster in the usual place takes it and those that follow, which every Kafka client tries
/// first; other clusters, of which there may be many at once, take any.
pub const KAFKA_PORT: u16 = 9_092;
/// How many ports are tried from a wanted one on.
const NEAR_MAX: u16 = 100;
/// How often a port is tried for: of so many tries one finds a free one, or something else is wrong.
const TRIES_PER_PORT: usize = 100;

/// Finds the first ports of loopback from `first` on that nobody uses now: as many as are wanted, or fewer.
fn free_ports_from(first: u16, count: usize) -> Vec<u16> {
    let near = first..first.saturating_add(NEAR_MAX);
    near.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).take(count).collect()
}

/// Finds ports of loopback that nobody uses now. All are held until the last is chosen, so they differ.
fn free_ports(count: usize) -> Result<Vec<u16>, Failure> {
    let rng = Rng::from_system();
    let mut held: Vec<(u16, TcpListener)> = Vec::new();
    let mut last = None;
    for _ in 0..count * TRIES_PER_PORT {
        if held.len() == count {
            break;
        }
        let port = PORTS.start + rng.below(PORTS.len() as u64) as u16;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => held.push((port, listener)),
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) if held.len() < count => {
            Err(Failure::failed(format!("cannot find a free port on 127.0.0.1 in {PORTS:?}: {error}")))
        }
        _ => Ok(held.into_iter().map(|(port, _)| port).collect()),
    }
}

/// The cluster's directory: --dir, that of the context that `local start` wrote, or the default.
pub fn directory(given: Option<PathBuf>) -> Result<PathBuf, Failure> {
    if let Some(dir) = given {
        return std::path::absolute(&dir).map_err(|e| Failure::usage(format!("--dir {}: {e}", dir.display())));
    }
    if let Some(dir) = contexts::get(CONTEXT)?.and_then(|c| c.local_dir) {
        return Ok(dir);
    }
    default_directory()
}

/// Returns the default directory, below XDG_STATE_HOME.
pub fn default_directory() -> Result<PathBuf, Failure> {
    let base = env::var_os("XDG_STATE_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let base = base.or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".local").join("state")));
    let base = base.ok_or_else(|| Failure::usage("neither XDG_STATE_HOME nor HOME is set: give --dir"))?;
    Ok(base.join("flotilla").join("local"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_found_again_as_it_was_written() {
        let dir = tempfile::tempdir().expect("temporary directory");
        assert_eq!(State::load(dir.path()), Ok(None));
        let settings = [("heartbeat_ms".to_string(), "100".to_string()), ("rack".into(), "r".into())];
        let state = State::create(dir.path(), 3, &settings, None).expect("creates");
        assert_eq!(State::load(dir.path()), Ok(Some(state.clone())));
        let mut all: Vec<&String> = state.nodes.iter().flat_map(|n| [&n.client, &n.peer, &n.http, &n.kafka]).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 12, "every port once");
        let config: toml::Table =
            fs::read_to_string(&state.nodes[1].config).expect("config").parse().expect("it is TOML");
        assert_eq!(config["id"].as_integer(), Some(2));
        assert_eq!(config["heartbeat_ms"].as_integer(), Some(100));
        assert_eq!(config["rack"].as_str(), Some("r"));
        assert_eq!(config["peers"].as_array().map(Vec::len), Some(3));
        assert_eq!(config["client_bind"].as_str(), Some(state.nodes[1].client.as_str()));
        assert_eq!(config["kafka_bind"].as_str(), Some(state.nodes[1].kafka.as_str()));
    }

    /// A taken one is left out, and what was set by hand goes before all.
    #[test]
    fn ports_for_kafka_clients_begin_where_they_are_wanted() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let first = taken.local_addr().expect("bound").port();
        let kafka = |settings: &[(String, String)]| {
            let dir = tempfile::tempdir().expect("temporary directory");
            let state = State::create(dir.path(), 2, settings, Some(first)).expect("creates");
            state.nodes.into_iter().map(|node| node.kafka).collect::<Vec<_>>()
        };
        let near = kafka(&[]);
        let ports: Vec<u16> = near
            .iter()
            .filter_map(|address| address.rsplit_once(':'))
            .filter_map(|(_, port)| port.parse().ok())
            .collect();
        assert!(ports[0] > first && ports[1] > ports[0] && ports[1] - first < NEAR_MAX, "{near:?} from {first} on");
        assert_eq!(kafka(&[("kafka_bind".to_string(), String::new())]), ["", ""]);
    }

    /// Of a version that knew nothing of Kafka.
    #[test]
    fn a_state_without_addresses_for_kafka_clients_is_read_and_given_some() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let state = State::create(dir.path(), 1, &[], None).expect("creates");
        let path = dir.path().join(STATE_FILE);
        let text = fs::read_to_string(&path).expect("it was written");
        let old = text.replace(&format!("\"kafka\": \"{}\",", state.nodes[0].kafka), "");
        assert_ne!(old, text);
        fs::write(&path, old).expect("the test's own");
        let read = State::load(dir.path()).expect("it is read").expect("it is there");
        assert_eq!((&read.nodes[0].http, read.nodes[0].kafka.as_str()), (&state.nodes[0].http, ""));
        let mut read = read;
        let config = &state.nodes[0].config;
        assert_eq!(read.clone().complete(), Ok(false), "its file has one");
        let text = fs::read_to_string(config).expect("it was written");
        let without: Vec<&str> = text.lines().filter(|line| !line.starts_with("kafka_bind")).collect();
        fs::write(config, without.join("\n")).expect("the test's own");
        assert_eq!(read.complete(), Ok(true));
        let table: toml::Table = fs::read_to_string(config).expect("it is there").parse().expect("it is TOML");
        assert_eq!(table["kafka_bind"].as_str(), Some(read.nodes[0].kafka.as_str()));
        assert!(read.nodes[0].kafka.starts_with("127.0.0.1:"));
        assert_eq!(read.complete(), Ok(false), "once");
    }

    #[test]
    fn an_unknown_node_is_named_beside_the_known() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let state = State::create(dir.path(), 2, &[], None).expect("creates");
        let failure = state.node(9).expect_err("there is no 9");
        assert_eq!((failure.code, failure.message.as_str()), (4, "no node 9 here; there are 1, 2"));
    }
}
