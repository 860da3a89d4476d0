//! One broker: its files, its process, and what is known of why it may end.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use crate::error::ChaosError;

/// How long a broker may take to hand its leaderships over and to close its store.
const STOP_MAX: Duration = Duration::from_secs(40);
const LOOK: Duration = Duration::from_millis(20);

/// Where a node listens. Peers reach it through proxies.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub client: SocketAddr,
    pub peer: SocketAddr,
    pub http: SocketAddr,
    pub kafka: SocketAddr,
}

#[derive(Debug)]
pub struct Node {
    pub id: u8,
    pub addresses: Addresses,
    /// Its configuration and log are here.
    dir: PathBuf,
    process: Mutex<Process>,
}

#[derive(Debug, Default)]
struct Process {
    child: Option<Child>,
    /// Whether it is meant to run: a process that ends meanwhile has ended by itself.
    is_wanted: bool,
    is_paused: bool,
    /// Whether its directory is not what it had last, so that it must not run again.
    is_given_up: bool,
    /// A fault that explains it if the process ends by itself, and until when.
    excuse: Option<(String, Option<Instant>)>,
}

/// A process that ended by itself.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    /// The fault that explains it.
    pub excuse: Option<String>,
}

impl Node {
    pub fn new(id: u8, dir: PathBuf, addresses: Addresses) -> Node {
        Node { id, addresses, dir, process: Mutex::default() }
    }

    pub fn name(&self) -> String {
        format!("n{}", self.id)
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub fn config(&self) -> PathBuf {
        self.dir.join("flotilla.toml")
    }

    /// Like [`Node::config`], with addresses that nobody knows, and none of its peers.
    pub fn alone_config(&self) -> PathBuf {
        self.dir.join("alone.toml")
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// What the node's wall clock is set by: milliseconds to add, or "stopped".
    pub fn clock(&self) -> PathBuf {
        self.dir.join("clock")
    }

    pub fn set_clock(&self, text: &str) -> Result<(), ChaosError> {
        // Whole or not at all: the node may read it at any moment.
        let new = self.clock().with_extension("new");
        fs::create_dir_all(&self.dir).map_err(ChaosError::file("cannot make", &self.dir))?;
        let written = fs::write(&new, text).and_then(|()| fs::rename(&new, self.clock()));
        written.map_err(ChaosError::file("cannot write", self.clock()))
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().expect("nobody panics with a process")
    }

    pub fn pid(&self) -> Option<u32> {
        self.process().child.as_ref().map(Child::id)
    }

    /// Starts the process, unless it runs, or must not run again.
    pub fn start(&self, binary: &Path) -> Result<(), ChaosError> {
        let mut process = self.process();
        if process.is_given_up {
            return Ok(());
        }
        process.is_wanted = true;
        if process.child.is_none() {
            process.child = Some(self.spawn(binary, &self.config())?);
            process.is_paused = false;
        }
        Ok(())
    }

    /// Starts the process without wanting it to go on: whoever tries it looks after it.
    pub fn try_start(&self, binary: &Path, is_alone: bool) -> Result<(), ChaosError> {
        let config = if is_alone { self.alone_config() } else { self.config() };
        let mut process = self.process();
        process.is_wanted = false;
        process.child = Some(self.spawn(binary, &config)?);
        process.is_paused = false;
        Ok(())
    }

    /// How a process that was tried has ended, if it has.
    pub fn tried(&self) -> Option<ExitStatus> {
        let mut process = self.process();
        let status = process.child.as_mut()?.try_wait().ok()??;
        process.child = None;
        Some(status)
    }

    /// It stays out for the rest of the run.
    pub fn give_up(&self) {
        self.process().is_given_up = true;
    }

    pub fn is_given_up(&self) -> bool {
        self.process().is_given_up
    }

    fn spawn(&self, binary: &Path, config: &Path) -> Result<Child, ChaosError> {
        let log = File::options().create(true).append(true).open(self.log());
        let log = log.map_err(ChaosError::file("cannot write", self.log()))?;
        let errors = log.try_clone().map_err(ChaosError::file("cannot write", self.log()))?;
        let mut command = Command::new(binary);
        command.arg("server").arg("--config").arg(config);
        // The environment goes before the file, and is not the cluster's, but for a bug that is to be found.
        let is_setting = |name: &str| name.starts_with("FLOTILLA_") && name != "FLOTILLA_PLANT";
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_setting(&name.to_string_lossy())) {
            command.env_remove(name);
        }
        // In a group of its own, so that Ctrl-C here does not reach it.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let spawned = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        let child = spawned.map_err(|error| ChaosError::Program { program: binary.display().to_string(), error })?;
        // Whoever cleans up after a harness that was killed goes by these.
        let _ = fs::write(self.dir.join("pid"), child.id().to_string());
        Ok(child)
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&self) {
        let mut process = self.process();
        process.is_wanted = false;
        if let Some(mut child) = process.child.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends SIGKILL and does not wait: several nodes can be hit at one moment.
    pub fn strike(&self) {
        let mut process = self.process();
        process.is_wanted = false;
        if let Some(child) = &mut process.child {
            let _ = child.kill();
        }
    }

    /// SIGTERM. Whether it ended in time; else it was killed. Blocks.
    pub fn stop(&self) -> bool {
        let pid = {
            let mut process = self.process();
            process.is_wanted = false;
            process.child.as_ref().map(Child::id)
        };
        let Some(pid) = pid else { return true };
        signal("TERM", pid);
        let end = Instant::now() + STOP_MAX;
        while Instant::now() < end {
            let mut process = self.process();
            let Some(child) = &mut process.child else { return true };
            if child.try_wait().is_ok_and(|status| status.is_some()) {
                process.child = None;
                return true;
            }
            drop(process);
            std::thread::sleep(LOOK);
        }
        self.kill();
        false
    }

    /// Everything in it stands still until [`Node::resume`]. Whether there was something to pause.
    pub fn pause(&self) -> bool {
        let mut process = self.process();
        let Some(pid) = process.child.as_ref().map(Child::id) else { return false };
        process.is_paused = signal("STOP", pid);
        process.is_paused
    }

    pub fn resume(&self) {
        let mut process = self.process();
        if let Some(pid) = process.child.as_ref().map(Child::id).filter(|_| process.is_paused) {
            signal("CONT", pid);
        }
        process.is_paused = false;
    }

    /// From now on a fault explains it if the process ends by itself.
    pub fn excuse(&self, fault: &str) {
        self.process().excuse = Some((fault.to_string(), None));
    }

    /// What is over explains an end only a little longer.
    pub fn excuse_until(&self, until: Instant) {
        if let Some(excuse) = &mut self.process().excuse {
            excuse.1 = Some(until);
        }
    }

    /// Takes note of a process that is meant to run and has ended.
    pub fn take_ended(&self) -> Option<Ended> {
        let mut process = self.process();
        if !process.is_wanted {
            return None;
        }
        let status = process.child.as_mut()?.try_wait().ok()??;
        process.child = None;
        let now = Instant::now();
        let holds = |excuse: &&(String, Option<Instant>)| excuse.1.is_none_or(|until| now < until);
        let excuse = process.excuse.as_ref().filter(holds).map(|(fault, _)| fault.clone());
        Some(Ended { status, excuse })
    }

    /// Whether it is meant to run and does not.
    pub fn is_missing(&self) -> bool {
        let process = self.process();
        process.is_wanted && process.child.is_none()
    }

    /// Whether it runs, as far as is known.
    pub fn is_running(&self) -> bool {
        self.process().child.is_some()
    }

    /// The last lines of its log.
    pub fn last_words(&self, lines: usize) -> String {
        const BYTES_MAX: usize = 64 << 10;
        let bytes = fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(BYTES_MAX)..]).into_owned();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether the signal was sent.
fn signal(name: &str, pid: u32) -> bool {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).stderr(Stdio::null()).status();
    sent.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_was_given_up_is_never_started_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let addresses = Addresses { client: nowhere, peer: nowhere, http: nowhere, kafka: nowhere };
        let node = Node::new(1, dir.path().into(), addresses);
        node.start(Path::new("/bin/true")).expect("that is there");
        assert!(node.is_running());
        node.kill();
        node.give_up();
        node.start(Path::new("/bin/true")).expect("it need not be there");
        assert!(!node.is_running() && !node.is_missing() && node.is_given_up());
    }
}
