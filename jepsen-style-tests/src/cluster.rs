//! A cluster of real processes on loopback, driven through `flotilla local`, all below one
//! temporary directory. Its processes end with it, also when a test panics.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    command::{Finished, run, signal, wait_for},
    disk::Mount,
    workload::{Plan, Producer},
};

/// For what normally takes well under a second, on a loaded machine.
pub const QUICK: Duration = Duration::from_secs(30);

/// For what may move many records or restart a cluster.
pub const SLOW: Duration = Duration::from_secs(180);

/// The binary under test: `FLOTILLA_BIN`, else the newest built.
pub fn binary() -> PathBuf {
    if let Some(path) = env::var_os("FLOTILLA_BIN") {
        return path.into();
    }
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let built = ["release", "debug"].map(|profile| target.join(profile).join("flotilla"));
    let age = |path: &PathBuf| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let newest = built.into_iter().filter_map(|path| Some((age(&path)?, path))).max();
    newest.unwrap_or_else(|| panic!("no flotilla binary below {}: cargo build --release", target.display())).1
}

/// Of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the repository").to_path_buf()
}

/// A directory of its own for one test. Kept if the test failed, for a look at the logs.
pub struct TestDir(PathBuf);

impl TestDir {
    pub fn new(name: &str) -> TestDir {
        let base = env::var_os("FLOTILLA_TEST_DIR");
        TestDir::below(&base.map_or_else(|| env::temp_dir().join("flotilla-tests"), PathBuf::from), name)
    }

    pub fn below(base: &Path, name: &str) -> TestDir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("{name}-{}-{unique}", std::process::id()));
        fs::create_dir_all(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        TestDir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Processes whose command line names this directory. The trailing `/` keeps `x-1` from matching `x-10`.
    fn processes(&self) -> Vec<u32> {
        let own = format!("{}/", self.0.display());
        let Ok(entries) = fs::read_dir("/proc") else { return vec![] };
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let names =
            |pid: &u32| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains(&own));
        pids.filter(|pid| *pid != std::process::id()).filter(names).collect()
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        // Also what `local stop` cannot reach: paused processes, and those of a start that failed.
        for pid in self.processes() {
            signal("KILL", &[pid]);
        }
        if std::thread::panicking() {
            eprintln!("kept for a look: {}", self.0.display());
        } else {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// The command line, with everything it keeps below one directory.
#[derive(Clone)]
pub struct Cli {
    binary: PathBuf,
    home: PathBuf,
    /// For `-b`, once known.
    pub brokers: String,
}

impl Cli {
    pub fn new(home: &Path) -> Cli {
        Cli::of(&binary(), home)
    }

    /// The command line of another binary than that under test.
    pub fn of(binary: &Path, home: &Path) -> Cli {
        Cli { binary: binary.to_path_buf(), home: home.to_path_buf(), brokers: String::new() }
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.envs(self.environment()).env_remove("FLOTILLA_BROKERS").args(args);
        command
    }

    /// What keeps a command below this directory.
    pub fn environment(&self) -> impl Iterator<Item = (&'static str, PathBuf)> {
        let home = self.home.join("home");
        let names = ["XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "HOME"];
        names.into_iter().map(move |name| (name, home.clone()))
    }

    /// A command that talks to the cluster. The noun (and verb) come first, then `-b`.
    pub fn brokered(&self, args: &[&str]) -> Command {
        let mut command = self.command(args);
        command.args(["--brokers", &self.brokers]);
        command
    }

    pub fn try_run(&self, args: &[&str]) -> Finished {
        run(&mut self.brokered(args), b"", QUICK)
    }

    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let finished = run(self.brokered(args).args(["--format", "json"]), b"", QUICK);
        parse(&finished.ok(), args)
    }

    #[track_caller]
    pub fn create_topic(&self, topic: &str, partitions: u32) {
        self.create_topic_with(topic, partitions, &[]);
    }

    /// With configs as `key=value`.
    #[track_caller]
    pub fn create_topic_with(&self, topic: &str, partitions: u32, configs: &[&str]) {
        let partitions = partitions.to_string();
        let mut args = vec!["topic", "create", topic, "-p", &partitions, "-r", "3", "--wait"];
        configs.iter().for_each(|config| args.extend(["--config", config]));
        run(&mut self.brokered(&args), b"", QUICK).ok();
    }

    pub fn describe(&self, topic: &str) -> Result<Vec<Partition>, String> {
        let finished = run(self.brokered(&["topic", "describe", topic]).args(["--format", "json"]), b"", QUICK);
        if finished.code != 0 {
            return Err(format!("exit code {}: {}", finished.code, finished.stderr));
        }
        let json = parse(&finished.stdout, &["topic", "describe"]);
        let partitions = json["partitions"].as_array().ok_or_else(|| format!("no partitions: {json}"))?;
        Ok(partitions.iter().map(Partition::parse).collect())
    }

    /// The partition's leader, once there is one.
    #[track_caller]
    pub fn leader(&self, topic: &str, partition: u32) -> u64 {
        wait_for(&format!("a leader of {topic}/{partition}"), QUICK, || {
            let found = self.describe(topic)?.into_iter().find(|p| p.partition == partition);
            let found = found.ok_or("no such partition")?;
            found.leader.ok_or_else(|| format!("{found:?}"))
        })
    }

    /// Moves a leadership, as often as it takes: a transfer may come before the target has caught up.
    #[track_caller]
    pub fn transfer_leader(&self, topic: &str, partition: u32, to: u64) {
        let (number, node) = (partition.to_string(), to.to_string());
        wait_for(&format!("node {to} to lead {topic}/{partition}"), SLOW, || {
            let args = ["cluster", "transfer-leader", topic, "--partition", &number, "--to", &node];
            let finished = self.try_run(&args);
            let leader = self.leader(topic, partition);
            if leader == to { Ok(()) } else { Err(format!("node {leader} leads; {}", finished.stderr)) }
        });
    }

    pub fn metadata_leader(&self) -> Result<u64, String> {
        let finished = run(self.brokered(&["cluster", "nodes"]).args(["--format", "json"]), b"", QUICK);
        if finished.code != 0 {
            return Err(finished.stderr);
        }
        let json = parse(&finished.stdout, &["cluster", "nodes"]);
        json["metadata_leader"].as_u64().filter(|id| *id != 0).ok_or_else(|| format!("no metadata leader: {json}"))
    }

    /// The cluster's id and how many brokers are registered.
    pub fn cluster(&self) -> Result<(String, usize), String> {
        let finished = run(self.brokered(&["cluster", "nodes"]).args(["--format", "json"]), b"", QUICK);
        if finished.code != 0 {
            return Err(finished.stderr);
        }
        let json = parse(&finished.stdout, &["cluster", "nodes"]);
        let id = json["cluster_id"].as_str().map(str::to_string);
        let brokers = json["brokers"].as_array().map(Vec::len);
        id.zip(brokers).ok_or_else(|| format!("no cluster_id or no brokers: {json}"))
    }

    /// Waits until `cluster health` is content (exit 0, not 10).
    #[track_caller]
    pub fn wait_healthy(&self) {
        wait_for("a healthy cluster", SLOW, || {
            let finished = self.try_run(&["cluster", "health"]);
            if finished.code == 0 { Ok(()) } else { Err(format!("{}{}", finished.stdout, finished.stderr)) }
        });
    }

    pub fn produce(&self, plan: &Plan, records: impl Iterator<Item = (String, String)> + Send + 'static) -> Producer {
        let mut command = self.command(&["produce"]);
        command.args(["--brokers", &self.brokers]);
        Producer::start(command, plan, records)
    }
}

#[track_caller]
fn parse(text: &str, args: &[&str]) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{args:?} printed no JSON ({error}): {text}"))
}

/// A line of `topic describe`.
#[derive(Clone, Debug)]
pub struct Partition {
    pub partition: u32,
    pub leader: Option<u64>,
    pub epoch: u64,
    pub replicas: Vec<u64>,
    pub log_start: i64,
    pub high_watermark: i64,
    pub bytes: i64,
}

impl Partition {
    fn parse(json: &Value) -> Partition {
        let number = |name: &str| json[name].as_i64().unwrap_or(-1);
        let replicas = json["replicas"].as_array().unwrap_or_else(|| panic!("a partition without replicas: {json}"));
        Partition {
            partition: number("partition") as u32,
            leader: json["leader"].as_u64().filter(|id| *id != 0),
            epoch: number("epoch").max(0) as u64,
            replicas: replicas.iter().filter_map(Value::as_u64).collect(),
            log_start: number("log_start"),
            high_watermark: number("high_watermark"),
            bytes: number("bytes"),
        }
    }
}

/// A line of `local status`.
#[derive(Clone, Debug, Default)]
pub struct Node {
    pub id: u64,
    pub pid: u32,
    pub state: String,
    pub client: String,
    pub peer: String,
    pub http: String,
    pub kafka: String,
    pub data_dir: String,
}

impl Node {
    fn parse(json: &Value) -> Node {
        let text = |name: &str| json[name].as_str().unwrap_or_default().to_string();
        Node {
            id: json["id"].as_u64().unwrap_or_else(|| panic!("a node without id: {json}")),
            pid: json["pid"].as_u64().unwrap_or(0) as u32,
            state: text("state"),
            client: text("client"),
            peer: text("peer"),
            http: text("http"),
            kafka: text("kafka"),
            data_dir: text("data_dir"),
        }
    }
}

/// `flotilla local`, and faults that it does not offer.
pub struct Cluster {
    pub cli: Cli,
    local_dir: String,
    size: u64,
    began: Instant,
    // Its processes end after `local stop`, ...
    dir: TestDir,
    // ... and then nothing holds what was mounted below it.
    _mounts: Vec<Mount>,
}

impl Cluster {
    #[track_caller]
    pub fn start(name: &str, nodes: u64) -> Cluster {
        Cluster::start_on(name, nodes, &[], |_| vec![])
    }

    /// With `settings` (`key=value`) for every node, on data directories that `prepare` may mount something
    /// on: it gets each node's.
    #[track_caller]
    pub fn start_on(
        name: &str,
        nodes: u64,
        settings: &[String],
        prepare: impl FnOnce(&[PathBuf]) -> Vec<Mount>,
    ) -> Cluster {
        let dir = TestDir::new(name);
        Cluster::start_in(dir, &binary(), nodes, settings, prepare)
    }

    /// The same, of any binary and in any directory.
    #[track_caller]
    pub fn start_in(
        dir: TestDir,
        binary: &Path,
        nodes: u64,
        settings: &[String],
        prepare: impl FnOnce(&[PathBuf]) -> Vec<Mount>,
    ) -> Cluster {
        let cli = Cli::of(binary, dir.path());
        let local = dir.path().join("local");
        let data: Vec<PathBuf> = (1..=nodes).map(|id| local.join(format!("n{id}")).join("data")).collect();
        let (mounts, local_dir) = (prepare(&data), local.to_string_lossy().into_owned());
        let mut cluster = Cluster { cli, local_dir, size: nodes, began: Instant::now(), dir, _mounts: mounts };
        let count = nodes.to_string();
        let mut start = vec!["start", "--nodes", &count];
        settings.iter().for_each(|setting| start.extend(["--set", setting]));
        cluster.local(&start);
        for (node, data) in cluster.status().iter().zip(&data) {
            assert_eq!(Path::new(&node.data_dir), data, "what was prepared is not what is used");
        }
        let clients: Vec<String> = cluster.status().into_iter().map(|node| node.client).collect();
        cluster.cli.brokers = clients.join(",");
        cluster.cli.wait_healthy();
        cluster
    }

    /// `flotilla local ARGS --dir DIR`.
    #[track_caller]
    pub fn local(&self, args: &[&str]) -> String {
        self.try_local(args).ok()
    }

    /// The same, whatever comes of it.
    pub fn try_local(&self, args: &[&str]) -> Finished {
        let mut command = self.cli.command(&["local"]);
        run(command.args(args).args(["--dir", &self.local_dir]), b"", SLOW)
    }

    #[track_caller]
    pub fn status(&self) -> Vec<Node> {
        let text = self.local(&["status", "--format", "json"]);
        let json = parse(&text, &["local", "status"]);
        let nodes = json["nodes"].as_array().unwrap_or_else(|| panic!("no nodes: {json}"));
        assert_eq!(nodes.len() as u64, self.size, "{json}");
        nodes.iter().map(Node::parse).collect()
    }

    #[track_caller]
    pub fn node(&self, id: u64) -> Node {
        self.status().into_iter().find(|node| node.id == id).unwrap_or_else(|| panic!("no node {id}"))
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// SIGKILL, by the tool's own command.
    #[track_caller]
    pub fn kill(&self, id: u64) {
        self.local(&["kill", &id.to_string()]);
    }

    #[track_caller]
    pub fn restart(&self, id: u64) {
        self.local(&["restart", &id.to_string()]);
    }

    /// A signal to several nodes within microseconds, which one command a node is too slow for.
    #[track_caller]
    pub fn signal(&self, name: &str, ids: &[u64]) {
        let pids: Vec<u32> = self.status().iter().filter(|node| ids.contains(&node.id)).map(|node| node.pid).collect();
        assert_eq!(pids.len(), ids.len(), "nodes {ids:?} in {:?}", self.status());
        // To pid 0 it would go to this test's own process group.
        assert!(!pids.contains(&0), "nodes {ids:?} do not all run: {:?}", self.status());
        assert!(signal(name, &pids), "kill -{name} {pids:?} failed");
    }

    /// CPU time that the running nodes have used, user and system.
    #[track_caller]
    pub fn cpu_seconds(&self) -> f64 {
        self.status().iter().filter(|node| node.pid != 0).map(|node| cpu_seconds(node.pid)).sum()
    }

    /// Waits until a process is gone.
    #[track_caller]
    pub fn wait_gone(&self, pid: u32) {
        wait_for(&format!("process {pid} to end"), QUICK, || {
            // A zombie has ended; whoever started it may reap it later.
            match fs::read_to_string(format!("/proc/{pid}/stat")) {
                Err(_) => Ok(()),
                Ok(stat) if stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')) => Ok(()),
                Ok(stat) => Err(stat),
            }
        });
    }

    /// Stops the cluster and looks through its logs: a panic there fails the test whatever else it saw.
    #[track_caller]
    pub fn finish(self) {
        self.local(&["stop"]);
        assert_no_panics(self.dir.path());
        println!("  cluster lived {:.1} s", self.began.elapsed().as_secs_f64());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut command = self.cli.command(&["local", "stop", "--dir", &self.local_dir]);
        run(&mut command, b"", QUICK);
    }
}

/// The CPU time that a process has used, from /proc: what Linux counts in hundredths of a second.
#[track_caller]
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_else(|error| panic!("process {pid}: {error}"));
    // Behind the name, which is in parentheses and may hold anything: utime and stime are its 12th and 13th.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks = fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("ticks are a number"));
    ticks.sum::<u64>() as f64 / 100.0
}

#[test]
fn our_own_cpu_time_grows() {
    let before = cpu_seconds(std::process::id());
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(100) {
        std::hint::spin_loop();
    }
    assert!(cpu_seconds(std::process::id()) > before);
}

/// Fails if a node's log below `dir` tells of a panic.
#[track_caller]
pub fn assert_no_panics(dir: &Path) {
    let mut open = vec![dir.to_path_buf()];
    let mut logs = 0;
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if is_log(&path) {
                // RocksDB's own .log files are binary and do not say this.
                let text = fs::read(&path).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                let line = text.lines().find(|line| line.contains("panicked at"));
                assert!(line.is_none(), "{}: {}", path.display(), line.unwrap_or_default());
                logs += 1;
            }
        }
    }
    assert!(logs > 0, "no logs below {}: nothing was looked at", dir.display());
}

/// `n1/log` of `flotilla local`, or `server-1.log` of one that was started by hand.
fn is_log(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "log") || path.extension().is_some_and(|extension| extension == "log")
}

#[test]
fn a_panic_in_the_log_of_a_local_node_is_found() {
    let dir = TestDir::below(&env::temp_dir(), "flotilla-logs");
    let node = dir.path().join("n1");
    fs::create_dir(&node).expect("a directory");
    let look = || std::panic::catch_unwind(|| assert_no_panics(dir.path()));
    fs::write(node.join("log"), "all is well\n").expect("a file");
    assert!(look().is_ok());
    fs::write(node.join("log"), "all is well\nthread 'main' panicked at src/main.rs\n").expect("a file");
    assert!(look().is_err());
}
