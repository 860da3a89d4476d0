//! What /proc tells of the brokers.

use std::fs;

use jepsen_style_tests::cluster::{Cluster, cpu_seconds};

/// The processes of a cluster's brokers. To look at them again takes a few reads of `/proc`, no command.
pub struct Brokers {
    pids: Vec<u32>,
}

/// Of a cluster's brokers together, since each of them was started.
pub struct Usage {
    /// Bytes that were read from a device.
    pub read: u64,
    /// Bytes that were written to one.
    pub written: u64,
    pub cpu_s: f64,
    pub rss_now_mb: f64,
    /// The most that each has held.
    pub rss_peak_mb: f64,
}

impl Brokers {
    pub fn of(cluster: &Cluster) -> Brokers {
        Brokers { pids: cluster.status().iter().map(|node| node.pid).filter(|pid| *pid != 0).collect() }
    }

    pub fn usage(&self) -> Usage {
        let sum = |file: &str, key: &str| self.pids.iter().map(|pid| number(*pid, file, key)).sum::<u64>();
        let mb = |kib: u64| (kib * 1_024) as f64 / 1e6;
        Usage {
            read: sum("io", "read_bytes:"),
            written: sum("io", "write_bytes:"),
            cpu_s: self.pids.iter().map(|pid| cpu_seconds(*pid)).sum(),
            rss_now_mb: mb(sum("status", "VmRSS:")),
            rss_peak_mb: mb(sum("status", "VmHWM:")),
        }
    }
}

impl Usage {
    pub fn of(cluster: &Cluster) -> Usage {
        Brokers::of(cluster).usage()
    }
}

/// The number behind `key` in a file of `/proc/PID`.
fn number(pid: u32, file: &str, key: &str) -> u64 {
    let path = format!("/proc/{pid}/{file}");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok());
    value.unwrap_or_else(|| panic!("{path} has no {key}:\n{text}"))
}
