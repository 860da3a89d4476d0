//! A cluster of our own: a process for each node, a proxy for each directed link, a disk for each data directory.

mod guard;
pub mod node;
mod ports;

use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use flotilla::client::{Admin, Cluster as Client};
use powerfs::{Mounted, Options, Power};
use tokio::{net::TcpListener, task::JoinSet, time::Instant};

use self::{
    guard::Guard,
    node::{Addresses, Node},
    ports::Ports,
};
use crate::{error::ChaosError, proxy::Links};

/// Of each disk, both views of it. Only what is written is taken.
const DISK_MEMORY_BYTES: u64 = 4 << 30;
/// Small logs, so that they are flushed and recycled within a run.
const WAL_BYTES_MAX: &str = "16MiB";
/// What a broker's log says when a replica took a snapshot.
const SNAPSHOT_TAKEN: &str = "begins again from a snapshot";
/// How long a call of the harness's own may take, where it is made again.
const CALL_MAX: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(200);
/// How long a cluster that runs may take to answer first.
const REACHED_MAX: Duration = Duration::from_secs(15);
/// What topics on a cluster that runs get, if it has as many brokers.
const REPLICAS_RUNNING: i32 = 3;

/// How a cluster is made.
#[derive(Clone, Debug)]
pub struct Settings {
    pub nodes: u8,
    pub binary: PathBuf,
    /// Everything of the nodes lies here.
    pub dir: PathBuf,
    /// Whether data directories lie on disks of our own.
    pub has_disks: bool,
}

/// Ends its processes and takes its mounts away when it is dropped.
pub struct Cluster {
    // Processes end first, then what they have open is unmounted.
    nodes: Vec<Arc<Node>>,
    disks: BTreeMap<u8, Mounted>,
    pub links: Links,
    client: Client,
    settings: Settings,
    /// That of somebody else, which was there before and stays.
    running: Option<Running>,
    _proxies: JoinSet<()>,
    _guard: Option<Guard>,
}

/// A cluster that is not ours.
#[derive(Clone, Debug)]
struct Running {
    brokers: Vec<String>,
    kafka_brokers: String,
    ids: Vec<u8>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Whoever waits for a sync could not be ended otherwise.
        self.disks.values().for_each(|disk| disk.power().set_faults(|faults| faults.is_hung = false));
    }
}

impl Cluster {
    /// Makes files, mounts, proxies and processes; does not wait for the cluster.
    pub async fn start(settings: Settings) -> Result<Cluster, ChaosError> {
        let dir = &settings.dir;
        fs::create_dir_all(dir).map_err(ChaosError::file("cannot make", dir))?;
        let settings = Settings { dir: dir.canonicalize().map_err(ChaosError::file("cannot find", dir))?, ..settings };
        let guard = Guard::over(&settings.dir)?;
        let (mut nodes, mut ports) = (vec![], Ports::of_this_machine());
        for id in 1..=settings.nodes {
            let addresses =
                Addresses { client: ports.free()?, peer: ports.free()?, http: ports.free()?, kafka: ports.free()? };
            nodes.push(Arc::new(Node::new(id, settings.dir.join(format!("n{id}")), addresses)));
        }
        let mut disks = BTreeMap::new();
        for node in &nodes {
            let data = node.data_dir();
            fs::create_dir_all(&data).map_err(ChaosError::file("cannot make", &data))?;
            if settings.has_disks {
                let options = Options { memory_bytes_max: DISK_MEMORY_BYTES, ..Options::default() };
                let disk = Mounted::new(&data, options).map_err(ChaosError::file("cannot mount a disk on", &data))?;
                disks.insert(node.id, disk);
            }
        }
        let (links, mut proxies) = (Links::between(settings.nodes), JoinSet::new());
        for node in &nodes {
            let mut overrides = vec![];
            for peer in nodes.iter().filter(|peer| peer.id != node.id) {
                let listener = listen().await?;
                let at = listener.local_addr().map_err(no_port)?;
                links.serve(listener, node.id, peer.id, peer.addresses.peer, &mut proxies);
                overrides.push(format!("{:?}", format!("{}={at}", peer.id)));
            }
            node.set_clock("0")?;
            let text = config(node, node.addresses, &nodes, &overrides);
            fs::write(node.config(), text).map_err(ChaosError::file("cannot write", node.config()))?;
            let text = alone_config(node, &nodes, &mut ports)?;
            fs::write(node.alone_config(), text).map_err(ChaosError::file("cannot write", node.alone_config()))?;
        }
        let addresses = nodes.iter().map(|node| node.addresses.client.to_string()).collect();
        let client = Client::new(addresses).map_err(ChaosError::client("the nodes' addresses"))?;
        let (running, guard) = (None, Some(guard));
        let cluster = Cluster { nodes, disks, links, client, settings, running, _proxies: proxies, _guard: guard };
        for node in &cluster.nodes {
            cluster.start_node(node)?;
        }
        Ok(cluster)
    }

    /// A cluster that runs: nothing is done to its brokers, and nothing of theirs lies in `dir`.
    pub async fn running(brokers: &[String], kafka_brokers: &str, dir: PathBuf) -> Result<Cluster, ChaosError> {
        let client = Client::new(brokers.to_vec()).map_err(ChaosError::client("the addresses of --brokers"))?;
        let described = Admin::new(client.clone(), REACHED_MAX).describe_cluster().send().await;
        let found = described.map_err(ChaosError::client("reaching the cluster of --brokers"))?.brokers;
        // Leaders with greater numbers are not aimed at.
        let ids = found.iter().filter_map(|broker| u8::try_from(broker.id.0).ok()).collect();
        let running = Running { brokers: brokers.to_vec(), kafka_brokers: kafka_brokers.into(), ids };
        Ok(Cluster {
            nodes: vec![],
            disks: BTreeMap::new(),
            links: Links::between(0),
            client,
            settings: Settings { nodes: 0, binary: PathBuf::new(), dir, has_disks: false },
            running: Some(running),
            _proxies: JoinSet::new(),
            _guard: None,
        })
    }

    /// Whether its brokers are ours, to stop them and to look into their files.
    pub fn is_own(&self) -> bool {
        self.running.is_none()
    }

    /// The numbers of its brokers.
    pub fn ids(&self) -> Vec<u8> {
        self.running.as_ref().map_or_else(|| (1..=self.settings.nodes).collect(), |running| running.ids.clone())
    }

    /// How many replicas topics get.
    pub fn replicas(&self) -> i32 {
        let brokers = self.ids().len() as i32;
        if self.is_own() { brokers } else { brokers.min(REPLICAS_RUNNING) }
    }

    /// How many snapshots replicas took in the place of entries, by what nodes say in their logs.
    pub fn snapshots(&self) -> u64 {
        let taken = |node: &Arc<Node>| {
            let bytes = fs::read(node.log()).unwrap_or_default();
            String::from_utf8_lossy(&bytes).matches(SNAPSHOT_TAKEN).count() as u64
        };
        self.nodes.iter().map(taken).sum()
    }

    pub fn size(&self) -> u8 {
        self.settings.nodes
    }

    pub fn binary(&self) -> &Path {
        &self.settings.binary
    }

    /// Where the nodes' files are.
    pub fn dir(&self) -> &Path {
        &self.settings.dir
    }

    pub fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    pub fn node(&self, id: u8) -> &Arc<Node> {
        &self.nodes[usize::from(id) - 1]
    }

    /// Whether a node is out for the rest of the run.
    pub fn has_given_up(&self) -> bool {
        self.nodes.iter().any(|node| node.is_given_up())
    }

    /// The switch of a node's disk, if it has one of ours.
    pub fn power(&self, id: u8) -> Option<&Power> {
        self.disks.get(&id).map(Mounted::power)
    }

    /// Connections and knowledge of their own, for one client.
    pub fn client(&self) -> Result<Client, ChaosError> {
        let own = || self.nodes.iter().map(|node| node.addresses.client.to_string()).collect();
        let addresses = self.running.as_ref().map_or_else(own, |running| running.brokers.clone());
        Client::new(addresses).map_err(ChaosError::client("the nodes' addresses"))
    }

    /// What Kafka clients begin with.
    pub fn kafka_brokers(&self) -> String {
        if let Some(running) = &self.running {
            return running.kafka_brokers.clone();
        }
        let all: Vec<String> = self.nodes.iter().map(|node| node.addresses.kafka.to_string()).collect();
        all.join(",")
    }

    /// Calls of the harness's own, each of which takes a few seconds at most.
    pub fn admin(&self) -> Admin {
        Admin::new(self.client.clone(), CALL_MAX)
    }

    pub fn start_node(&self, node: &Node) -> Result<(), ChaosError> {
        node.start(&self.settings.binary)
    }

    /// How many others have is theirs to say.
    fn is_whole(&self, brokers: i32) -> bool {
        !self.is_own() || brokers == i32::from(self.size())
    }

    /// Waits until `cluster health` would be content.
    pub async fn wait_healthy(&self, within: Duration) -> Result<(), ChaosError> {
        let (began, admin) = (Instant::now(), self.admin());
        let mut last = "no answer".to_string();
        while began.elapsed() < within {
            match admin.health().send().await {
                Ok(health) if health.is_healthy && self.is_whole(health.brokers) => return Ok(()),
                Ok(health) if health.problems.is_empty() => last = format!("{} brokers are registered", health.brokers),
                Ok(health) => last = health.problems.join("; "),
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(LOOK).await;
        }
        let what = "waiting for a healthy cluster".to_string();
        Err(ChaosError::Late { what, waited: within, last, logs: self.dir().to_path_buf() })
    }
}

fn no_port(error: std::io::Error) -> ChaosError {
    ChaosError::Program { program: "a listener on 127.0.0.1".into(), error }
}

async fn listen() -> Result<TcpListener, ChaosError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(no_port)
}

/// Nobody reaches a node that is started with it, and it reaches nobody: at the addresses of its peers nobody listens.
fn alone_config(node: &Node, all: &[Arc<Node>], ports: &mut Ports) -> Result<String, ChaosError> {
    let own = Addresses { client: ports.free()?, peer: ports.free()?, http: ports.free()?, kafka: ports.free()? };
    let mut overrides = vec![];
    for peer in all.iter().filter(|peer| peer.id != node.id) {
        overrides.push(format!("{:?}", format!("{}={}", peer.id, ports.free()?)));
    }
    Ok(config(node, own, all, &overrides))
}

fn config(node: &Node, own: Addresses, all: &[Arc<Node>], overrides: &[String]) -> String {
    let peers: Vec<String> =
        all.iter().map(|peer| format!("{:?}", format!("{}@{}", peer.id, peer.addresses.peer))).collect();
    let Addresses { client, peer, http, kafka } = own;
    format!(
        "id = {}\ndata_dir = {:?}\npeers = [{}]\npeer_override = [{}]\nclient_bind = \"{client}\"\n\
         peer_bind = \"{peer}\"\nhttp_bind = \"{http}\"\nkafka_bind = \"{kafka}\"\nwal_bytes_max = \"{WAL_BYTES_MAX}\"\n\
         clock_file = {:?}\n",
        node.id,
        node.data_dir().display().to_string(),
        peers.join(", "),
        overrides.join(", "),
        node.clock().display().to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What it wrote down, and nobody heard of, is thrown away with its directory.
    #[test]
    fn a_node_that_is_alone_shares_no_address_with_the_cluster() {
        let mut ports = Ports::of_this_machine();
        let mut free = || ports.free().expect("a port");
        let mut addresses = || Addresses { client: free(), peer: free(), http: free(), kafka: free() };
        let nodes: Vec<_> = (1..=3).map(|id| Arc::new(Node::new(id, format!("n{id}").into(), addresses()))).collect();
        let alone = alone_config(&nodes[1], &nodes, &mut ports).expect("ports");
        let lines = |name: &str| alone.lines().filter(|line| line.starts_with(name)).collect::<String>();
        let bound = lines("client_bind") + &lines("peer_bind") + &lines("http_bind") + &lines("kafka_bind");
        let overridden = lines("peer_override");
        assert!(
            overridden.contains("\"1=") && overridden.contains("\"3="),
            "each peer is looked for elsewhere: {alone}"
        );
        for Addresses { client, peer, http, kafka } in nodes.iter().map(|node| node.addresses) {
            let known = [client, peer, http, kafka].map(|address| format!(":{}\"", address.port()));
            assert!(
                known.iter().all(|known| !bound.contains(known) && !overridden.contains(known)),
                "{known:?}: {alone}"
            );
        }
    }
}
