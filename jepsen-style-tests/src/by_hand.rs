//! Servers started by hand: `flotilla server --config F`, from the example files in `scripts/` with
//! nothing changed but ports and the data directory.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{
    cluster::{Cli, Node, QUICK, TestDir, assert_no_panics, root},
    command::{signal, wait, wait_for},
    disk::{Frozen, Mount},
    random::Random,
    skew::Skew,
};

/// Longer than SIGTERM may take to hand over leaderships.
const STOP: Duration = Duration::from_secs(30);

pub struct ByHand {
    pub cli: Cli,
    servers: BTreeMap<u64, Child>,
    configs: BTreeMap<u64, PathBuf>,
    data_dirs: BTreeMap<u64, PathBuf>,
    /// Unmounted when the servers have ended, and before the directory goes.
    disks: BTreeMap<u64, Mount>,
    dir: TestDir,
}

impl ByHand {
    pub fn new(name: &str) -> ByHand {
        let dir = TestDir::new(name);
        let texts: Vec<String> = (1..=3).map(|n| example(&format!("n{n}.toml"))).collect();
        let ports = ports_in(&texts);
        assert!(ports.len() >= 12, "four listeners a node, {} ports in scripts/n?.toml: {ports:?}", ports.len());
        let moved: BTreeMap<u16, u16> = ports.iter().copied().zip(free_ports(ports.len())).collect();
        let (mut configs, mut data_dirs) = (BTreeMap::new(), BTreeMap::new());
        for (id, text) in (1..).zip(&texts) {
            let data_dir = dir.path().join(format!("data-{id}"));
            let config = dir.path().join(format!("n{id}.toml"));
            let text = with_data_dir(&with_ports(text, &moved), &data_dir);
            fs::write(&config, text).unwrap_or_else(|error| panic!("{}: {error}", config.display()));
            configs.insert(id, config);
            data_dirs.insert(id, data_dir);
        }
        let mut cli = Cli::new(dir.path());
        let clients =
            texts.iter().map(|text| own_port(text, "client_bind")).map(|port| format!("127.0.0.1:{}", moved[&port]));
        cli.brokers = clients.collect::<Vec<_>>().join(",");
        ByHand { cli, servers: BTreeMap::new(), configs, data_dirs, disks: BTreeMap::new(), dir }
    }

    /// Each on a disk of its own that can be frozen. Err: why there are none here.
    pub fn on_disks(name: &str, mib: u64) -> Result<ByHand, String> {
        let mut servers = ByHand::new(name);
        for (id, data_dir) in &servers.data_dirs {
            servers.disks.insert(*id, Mount::ext4(data_dir, mib)?);
        }
        Ok(servers)
    }

    /// Until the answer is dropped, nothing is written to this server's disk.
    #[track_caller]
    pub fn freeze(&self, id: u64) -> Frozen {
        self.disks[&id].freeze()
    }

    /// Starts a server; does not wait for it.
    pub fn start(&mut self, id: u64) {
        let config = self.configs[&id].to_string_lossy().into_owned();
        let command = self.cli.command(&["server", "--config", &config]);
        self.spawn(id, command);
    }

    /// As [`ByHand::start`], and the server may open so many files.
    pub fn start_with_descriptors(&mut self, id: u64, descriptors: u32) {
        let config = self.configs[&id].to_string_lossy().into_owned();
        let plain = self.cli.command(&["server", "--config", &config]);
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &descriptors.to_string()]);
        command.arg(plain.get_program()).args(plain.get_args());
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        self.spawn(id, command);
    }

    /// As [`ByHand::start`], and the server has this clock.
    pub fn start_with_clock(&mut self, id: u64, skew: &Skew) {
        let config = self.configs[&id].to_string_lossy().into_owned();
        let mut command = self.cli.command(&["server", "--config", &config]);
        skew.give(&mut command);
        self.spawn(id, command);
    }

    /// The file of one more broker, which is in nobody's list and has only `member` in its own. Its id.
    pub fn add(&mut self, member: u64) -> u64 {
        let id = self.configs.len() as u64 + 1;
        let text = |id: u64| fs::read_to_string(&self.configs[&id]).expect("written by this test");
        let peer = self.peer_of(member);
        let (data_dir, config) =
            (self.dir.path().join(format!("data-{id}")), self.dir.path().join(format!("n{id}.toml")));
        let own = with_data_dir(&text(member), &data_dir);
        let old =
            ports_in(&own.lines().filter(|line| !line.starts_with("peers")).map(str::to_string).collect::<Vec<_>>());
        let moved = old.iter().copied().zip(free_ports(old.len())).collect();
        let lines = with_ports(&own, &moved);
        let lines = lines.lines().map(|line| match line.split('=').next().map(str::trim) {
            Some("id") => format!("id = {id}\n"),
            Some("peers") => format!("peers = [{peer:?}]\n"),
            _ => format!("{line}\n"),
        });
        fs::write(&config, lines.collect::<String>()).expect("the test's own directory is writable");
        self.configs.insert(id, config);
        self.data_dirs.insert(id, data_dir);
        id
    }

    /// As lists name it.
    fn peer_of(&self, id: u64) -> String {
        let text = fs::read_to_string(&self.configs[&id]).expect("written by this test");
        let named = text.split('"').find(|part| part.starts_with(&format!("{id}@")));
        named.unwrap_or_else(|| panic!("broker {id} is not in its own list:\n{text}")).to_string()
    }

    fn spawn(&mut self, id: u64, mut command: Command) {
        let log = self.dir.path().join(format!("server-{id}.log"));
        let log = File::options().create(true).append(true).open(&log).expect("the test's own directory is writable");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file can be cloned")).stderr(log);
        let server = command.spawn().expect("the binary can be run");
        assert!(self.servers.insert(id, server).is_none(), "server {id} runs already");
    }

    /// SIGTERM, and waits for the end. The exit code.
    #[track_caller]
    pub fn stop(&mut self, id: u64) -> Option<i32> {
        let mut server = self.servers.remove(&id).unwrap_or_else(|| panic!("server {id} does not run"));
        assert!(signal("TERM", &[server.id()]), "server {id} was gone");
        let status = wait(&mut server, STOP).unwrap_or_else(|| panic!("server {id} did not stop in {STOP:?}"));
        status.code()
    }

    /// Ends a server that may have ended by itself.
    pub fn end(&mut self, id: u64) {
        let mut server = self.servers.remove(&id).unwrap_or_else(|| panic!("server {id} was never started"));
        let _ = server.kill(); // It is gone already.
        let _ = server.wait();
    }

    /// SIGTERM to all that run, at once.
    #[track_caller]
    pub fn stop_all(&mut self) {
        let pids: Vec<u32> = self.servers.values().map(Child::id).collect();
        assert!(signal("TERM", &pids), "a server was gone");
        for (id, mut server) in std::mem::take(&mut self.servers) {
            assert!(wait(&mut server, STOP).is_some(), "server {id} did not stop in {STOP:?}");
        }
    }

    /// How the server ended by itself, once it has.
    #[track_caller]
    pub fn wait_ended(&mut self, id: u64) -> Option<i32> {
        let mut server = self.servers.remove(&id).unwrap_or_else(|| panic!("server {id} does not run"));
        wait(&mut server, QUICK).unwrap_or_else(|| panic!("server {id} still runs")).code()
    }

    #[track_caller]
    pub fn pid(&self, id: u64) -> u32 {
        self.servers.get(&id).unwrap_or_else(|| panic!("server {id} does not run")).id()
    }

    pub fn is_running(&mut self, id: u64) -> bool {
        self.servers.get_mut(&id).is_some_and(|server| server.try_wait().is_ok_and(|status| status.is_none()))
    }

    pub fn log(&self, id: u64) -> String {
        fs::read_to_string(self.dir.path().join(format!("server-{id}.log"))).unwrap_or_default()
    }

    /// Where a server's HTTP listener is.
    pub fn http(&self, id: u64) -> Node {
        let text = fs::read_to_string(&self.configs[&id]).expect("written by this test");
        Node { id, http: format!("127.0.0.1:{}", own_port(&text, "http_bind")), ..Node::default() }
    }

    /// Where the files of this test are.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn data_dir(&self, id: u64) -> &Path {
        &self.data_dirs[&id]
    }

    /// Stopped servers listen on other ports from now on: by their own files, and `everywhere` also by the lists in
    /// those of the others.
    pub fn move_ports(&mut self, ids: &[u64], everywhere: bool) {
        let text = |config: &PathBuf| fs::read_to_string(config).expect("written by this test");
        let binds = |id: &u64| {
            let own = text(&self.configs[id]);
            let bind = |line: &&str| line.split('=').next().is_some_and(|name| name.trim().ends_with("_bind"));
            ports_in(
                &own.lines().map(without_comment).filter(|line| bind(line)).map(str::to_string).collect::<Vec<_>>(),
            )
        };
        let old: Vec<u16> = ids.iter().flat_map(binds).collect();
        let moved: BTreeMap<u16, u16> = old.iter().copied().zip(free_ports(old.len())).collect();
        for (id, config) in &self.configs {
            if everywhere || ids.contains(id) {
                fs::write(config, with_ports(&text(config), &moved)).expect("the test's own directory is writable");
            }
        }
        self.cli.brokers = with_ports(&self.cli.brokers, &moved).trim_end().to_string();
    }

    /// Empties a stopped node's data directory.
    pub fn wipe(&mut self, id: u64) {
        assert!(!self.servers.contains_key(&id), "server {id} runs");
        let dir = self.data_dir(id);
        fs::remove_dir_all(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        fs::create_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    }

    /// The cluster's id, as soon as it is formed, answers and has all three registered: it has its id before
    /// that, and places no topic on a broker that has yet to register.
    #[track_caller]
    pub fn wait_cluster_id(&self) -> String {
        wait_for("a cluster of three that answers", QUICK, || match self.cli.cluster()? {
            (id, 3) if !id.is_empty() => Ok(id),
            (id, brokers) => Err(format!("id {id:?}, {brokers} brokers registered")),
        })
    }

    #[track_caller]
    pub fn finish(mut self) {
        self.stop_all();
        assert_no_panics(self.dir.path());
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        for server in self.servers.values_mut() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

fn example(name: &str) -> String {
    let path = root().join("scripts").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Ports of addresses, outside comments, in the order seen.
fn ports_in(texts: &[String]) -> Vec<u16> {
    let mut ports = vec![];
    for text in texts {
        for line in text.lines().map(without_comment) {
            for after in line.split(':').skip(1) {
                let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
                let port = digits.parse().ok().filter(|port| !ports.contains(port));
                ports.extend(port);
            }
        }
    }
    ports
}

fn without_comment(line: &str) -> &str {
    line.split('#').next().unwrap_or_default()
}

fn with_ports(text: &str, moved: &BTreeMap<u16, u16>) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut parts = without_comment(line).split(':');
        out.push_str(parts.next().unwrap_or_default());
        for part in parts {
            let digits = part.chars().take_while(char::is_ascii_digit).count();
            let port = part[..digits].parse::<u16>().ok().and_then(|port| moved.get(&port));
            out.push(':');
            match port {
                Some(port) => out.push_str(&format!("{port}{}", &part[digits..])),
                None => out.push_str(part),
            }
        }
        out.push('\n');
    }
    out
}

fn with_data_dir(text: &str, dir: &Path) -> String {
    let mut found = false;
    let lines = text.lines().map(|line| {
        let names = line.split('=').next().is_some_and(|name| name.trim() == "data_dir");
        found |= names;
        if names { format!("data_dir = {:?}\n", dir.display().to_string()) } else { format!("{line}\n") }
    });
    let out = lines.collect();
    assert!(found, "no data_dir in an example file:\n{text}");
    out
}

/// Of `client_bind`, say.
fn own_port(text: &str, key: &str) -> u16 {
    let binds = |line: &&str| line.split('=').next().is_some_and(|name| name.trim() == key);
    let line = text.lines().map(without_comment).find(|line| binds(line));
    let line = line.unwrap_or_else(|| panic!("no {key} in a configuration:\n{text}"));
    ports_in(&[line.to_string()])[0]
}

/// Below the range that the kernel takes for outgoing connections, so that nothing else takes them
/// between here and the server's bind.
fn free_ports(count: usize) -> Vec<u16> {
    const FIRST: u64 = 15_000;
    const LAST: u64 = 32_000;
    // Others each time: a server that moves must not come back to where it was.
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let mut random = Random::seeded(u64::from(std::process::id()) | CALLS.fetch_add(1, Ordering::Relaxed) << 32);
    let mut ports: Vec<u16> = vec![];
    while ports.len() < count {
        let port = (FIRST + random.below(LAST - FIRST)) as u16;
        if !ports.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            ports.push(port);
        }
    }
    ports
}

#[test]
fn an_example_file_is_moved() {
    let text = "# the peers' port is :99\nid = 1\ndata_dir = \"data/n1\"\n\
                peers = [\"1@127.0.0.1:71\", \"2@127.0.0.1:72\"]\n\
                client_bind = \"127.0.0.1:70\"\npeer_bind = \"127.0.0.1:71\"\n# client_advertised = \"x:98\"\n";
    assert_eq!(ports_in(&[text.to_string()]), [71, 72, 70]);
    assert_eq!(own_port(text, "client_bind"), 70);
    let moved = BTreeMap::from([(70, 1070), (71, 1071), (72, 1072)]);
    let out = with_data_dir(&with_ports(text, &moved), Path::new("/d"));
    assert!(out.contains("data_dir = \"/d\"") && out.contains("\"1@127.0.0.1:1071\", \"2@127.0.0.1:1072\""), "{out}");
    assert!(
        out.contains("client_bind = \"127.0.0.1:1070\"") && out.contains("peer_bind = \"127.0.0.1:1071\""),
        "{out}"
    );
    let ports = free_ports(3);
    assert!(ports[0] != ports[1] && ports[1] != ports[2], "{ports:?}");
}
