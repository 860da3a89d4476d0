//! A network of one's own: each broker in a network namespace on one bridge, the test and its clients on the bridge.
//! Packets from one broker to another can be made to vanish, one way or both, while clients reach everybody.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use crate::{
    cluster::{Cli, QUICK, TestDir, assert_no_panics},
    command::{Finished, run, signal, wait, wait_for},
};

/// Which packets of a broker vanish: those to its peers, those from them, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Both,
    Outgoing,
    Incoming,
}

/// Names begin with this process's id, so that two runs do not meet.
struct Names(u32);

impl Names {
    fn new() -> Names {
        Names(std::process::id())
    }

    fn bridge(&self) -> String {
        format!("fl{}", self.0)
    }

    fn space(&self, id: u64) -> String {
        format!("fl{}n{id}", self.0)
    }

    /// The ends of a broker's cable: outside and inside. A name of a device has 15 bytes at most.
    fn cable(&self, id: u64) -> [String; 2] {
        ["o", "i"].map(|end| format!("fl{}{end}{id}", self.0))
    }
}

/// 10.x.y.0/24, by the process.
fn address(id: u64) -> String {
    let process = std::process::id();
    format!("10.{}.{}.{}", 128 + (process >> 8) % 120, process & 0xff, id)
}

/// Brokers 1 to `size` in their namespaces; all of it goes when this is dropped.
pub struct Isles {
    pub cli: Cli,
    names: Names,
    servers: BTreeMap<u64, Child>,
    size: u64,
    dir: TestDir,
}

impl Isles {
    /// Err: why there is no such network here (no root, no `ip`).
    pub fn start(name: &str, size: u64) -> Result<Isles, String> {
        let dir = TestDir::new(name);
        let cli = Cli::new(dir.path());
        let mut isles = Isles { cli, names: Names::new(), servers: BTreeMap::new(), size, dir };
        isles.build()?;
        for id in 1..=size {
            isles.serve(id);
        }
        let clients: Vec<String> = (1..=size).map(|id| format!("{}:7070", address(id))).collect();
        isles.cli.brokers = clients.join(",");
        wait_for("a cluster that answers", QUICK, || match isles.cli.cluster()? {
            (id, brokers) if !id.is_empty() && brokers as u64 == size => Ok(()),
            (id, brokers) => Err(format!("id {id:?}, {brokers} brokers registered")),
        });
        Ok(isles)
    }

    fn build(&self) -> Result<(), String> {
        let bridge = self.names.bridge();
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&["addr", "add", &format!("{}/24", address(254)), "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        for id in 1..=self.size {
            let (space, [outside, inside]) = (self.names.space(id), self.names.cable(id));
            ip(&["netns", "add", &space])?;
            ip(&["link", "add", &outside, "type", "veth", "peer", "name", &inside, "netns", &space])?;
            ip(&["link", "set", &outside, "master", &bridge, "up"])?;
            ip(&["-n", &space, "addr", "add", &format!("{}/24", address(id)), "dev", &inside])?;
            ip(&["-n", &space, "link", "set", &inside, "up"])?;
            ip(&["-n", &space, "link", "set", "lo", "up"])?;
        }
        Ok(())
    }

    fn serve(&mut self, id: u64) {
        let path = |name: String| -> PathBuf { self.dir.path().join(name) };
        let peers: Vec<String> = (1..=self.size).map(|id| format!("\"{id}@{}:7071\"", address(id))).collect();
        let own = address(id);
        let text = format!(
            "id = {id}\ndata_dir = {:?}\npeers = [{}]\nclient_bind = \"{own}:7070\"\npeer_bind = \"{own}:7071\"\n\
             http_bind = \"{own}:7080\"\nkafka_bind = \"{own}:9092\"\n",
            path(format!("data-{id}")).display().to_string(),
            peers.join(", ")
        );
        let config = path(format!("n{id}.toml"));
        fs::write(&config, text).unwrap_or_else(|error| panic!("{}: {error}", config.display()));
        let log = File::create(path(format!("server-{id}.log"))).expect("the test's own directory is writable");
        let server = self.cli.command(&["server", "--config", &config.to_string_lossy()]);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names.space(id)]).arg(server.get_program()).args(server.get_args());
        for (name, value) in server.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file can be cloned")).stderr(log);
        // `ip` becomes the server: its pid is the server's.
        self.servers.insert(id, command.spawn().expect("ip can be run"));
    }

    /// The client addresses, beginning with one broker's.
    pub fn brokers_from(&self, first: u64) -> String {
        let order = (0..self.size).map(|i| (first - 1 + i) % self.size + 1);
        order.map(|id| format!("{}:7070", address(id))).collect::<Vec<_>>().join(",")
    }

    /// From here on packets vanish between a broker and all others.
    #[track_caller]
    pub fn cut(&self, shape: Shape, id: u64) {
        for other in (1..=self.size).filter(|other| *other != id) {
            if shape != Shape::Incoming {
                self.vanish(id, other);
            }
            if shape != Shape::Outgoing {
                self.vanish(other, id);
            }
        }
    }

    /// What one broker sends to another.
    #[track_caller]
    fn vanish(&self, from: u64, to: u64) {
        let peer = format!("{}/32", address(to));
        ip(&["-n", &self.names.space(from), "route", "replace", "blackhole", &peer]).expect("a route is replaced");
    }

    /// All packets arrive again.
    #[track_caller]
    pub fn mend(&self) {
        for from in 1..=self.size {
            for to in (1..=self.size).filter(|to| *to != from) {
                // Fails where nothing was cut.
                let peer = format!("{}/32", address(to));
                let _ = ip(&["-n", &self.names.space(from), "route", "del", "blackhole", &peer]);
            }
        }
    }

    #[track_caller]
    pub fn finish(mut self) {
        let pids: Vec<u32> = self.servers.values().map(Child::id).collect();
        assert!(signal("TERM", &pids), "a server was gone");
        for (id, mut server) in std::mem::take(&mut self.servers) {
            assert!(wait(&mut server, QUICK).is_some(), "server {id} did not stop in {QUICK:?}");
        }
        assert_no_panics(self.dir.path());
    }
}

impl Drop for Isles {
    fn drop(&mut self) {
        for server in self.servers.values_mut() {
            let _ = server.kill();
            let _ = server.wait();
        }
        for id in 1..=self.size {
            // Its end inside goes with the namespace, and the other end with it.
            let _ = ip(&["link", "del", &self.names.cable(id)[0]]);
            let _ = ip(&["netns", "del", &self.names.space(id)]);
        }
        let _ = ip(&["link", "del", &self.names.bridge()]);
    }
}

fn ip(args: &[&str]) -> Result<(), String> {
    if Command::new("ip").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        return Err("there is no `ip` here".into());
    }
    let Finished { code, stderr, line, .. } = run(Command::new("ip").args(args), b"", QUICK);
    if code == 0 { Ok(()) } else { Err(format!("`{line}`: {}", stderr.trim())) }
}
