//! Processes of a local cluster: starting them detached, finding them again, signalling them.
//!
//! Promises: a signal goes only to a process whose command line names the node's configuration file,
//! so a recycled pid is never hit.

use std::{
    env, fs,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use super::state::Node;
use crate::cli::exit::Failure;

/// What a node's process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessState {
    Running,
    /// The process was stopped by a signal.
    Paused,
    Dead,
}

impl ProcessState {
    pub fn name(self) -> &'static str {
        match self {
            ProcessState::Running => "running",
            ProcessState::Paused => "paused",
            ProcessState::Dead => "stopped",
        }
    }
}

/// What the node's last process does now.
pub fn state_of(node: &Node) -> ProcessState {
    let Some(pid) = node.pid else { return ProcessState::Dead };
    let is_ours = fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| names(&line, &node.config));
    if !is_ours {
        return ProcessState::Dead;
    }
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(ProcessState::Dead, |stat| parse_stat(&stat))
}

/// Does a command line (arguments end with a zero byte) name this file?
fn names(line: &[u8], config: &Path) -> bool {
    line.split(|byte| *byte == 0).any(|arg| arg == config.as_os_str().as_encoded_bytes())
}

/// Reads the state from /proc/PID/stat: it is the letter behind the name, which is in parentheses and may hold
/// anything.
pub(super) fn parse_stat(stat: &str) -> ProcessState {
    let letter = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    match letter {
        Some('T' | 't') => ProcessState::Paused,
        Some('Z' | 'X' | 'x') | None => ProcessState::Dead,
        Some(_) => ProcessState::Running,
    }
}

/// Sends a signal. Returns whether there was a process to send it to.
pub fn signal(node: &Node, signal: Signal) -> Result<bool, Failure> {
    if state_of(node) == ProcessState::Dead {
        return Ok(false);
    }
    let Some(pid) = node.pid.and_then(Pid::from_raw) else { return Ok(false) };
    match kill_process(pid, signal) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::SRCH) => Ok(false),
        Err(error) => {
            Err(Failure::failed(format!("cannot signal node {} (pid {}): {error}", node.id, pid.as_raw_nonzero())))
        }
    }
}

/// Starts `flotilla server` in a process group of its own, so that Ctrl-C here does not reach it.
pub fn spawn(node: &Node) -> Result<Child, Failure> {
    let program = env::current_exe().map_err(|e| Failure::failed(format!("cannot find my own program: {e}")))?;
    let log_error = |e: std::io::Error| Failure::failed(format!("cannot write {}: {e}", node.log.display()));
    let log = fs::OpenOptions::new().create(true).append(true).open(&node.log).map_err(log_error)?;
    let mut command = Command::new(program);
    command.arg("server").arg("--config").arg(&node.config);
    // The environment goes before the file; the file is what was asked for here.
    for (key, _) in env::vars_os() {
        let name = key.to_string_lossy();
        if name.starts_with("FLOTILLA_") && !name.starts_with("FLOTILLA_LOG_") {
            command.env_remove(&key);
        }
    }
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(log_error)?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .map_err(|error| Failure::failed(format!("cannot start node {}: {error}", node.id)))
}

/// The end of a node's log, for a message about why it did not start.
pub fn log_tail(node: &Node) -> String {
    const LINES: usize = 5;
    const BYTES_MAX: usize = 64 * 1024;
    let bytes = fs::read(&node.log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(BYTES_MAX)..]).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// What /proc counts CPU time in: USER_HZ, which is 100 on every Linux we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Returns the CPU seconds that a process has used, user and system.
pub fn cpu_seconds(pid: i32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(ticks as f64 / TICKS_PER_SECOND)
}

/// Returns how many bytes a process caused to be written to a device.
pub fn written_bytes(pid: i32) -> Option<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_by_their_letter() {
        assert_eq!(parse_stat("7 (a) b) S 1 7"), ProcessState::Running);
        assert_eq!(parse_stat("7 (flotilla) T 1"), ProcessState::Paused);
        assert_eq!(parse_stat("7 (flotilla) Z 1"), ProcessState::Dead);
        assert_eq!(parse_stat(""), ProcessState::Dead);
    }

    #[test]
    fn a_recycled_pid_is_not_ours() {
        assert!(names(b"flotilla\0server\0--config\0/d/n1/node.toml\0", Path::new("/d/n1/node.toml")));
        assert!(!names(b"vi\0/d/n1/node.toml.bak\0", Path::new("/d/n1/node.toml")));
        let node = Node {
            id: 1,
            pid: Some(std::process::id() as i32),
            client: String::new(),
            peer: String::new(),
            http: String::new(),
            kafka: String::new(),
            data_dir: "/nowhere".into(),
            config: "/nowhere/node.toml".into(),
            log: "/nowhere/log".into(),
        };
        assert_eq!(state_of(&node), ProcessState::Dead);
        assert_eq!(signal(&node, Signal::KILL), Ok(false));
    }

    #[test]
    fn our_own_usage_can_be_read() {
        let me = std::process::id() as i32;
        assert!(cpu_seconds(me).is_some());
    }
}
