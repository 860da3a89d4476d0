//! Settings held against the machine they are for: no budget above its memory, none above its disk.

use std::fs;

use bytesize::ByteSize;

use super::{ConfigError, ServerConfig, args, validate::rule};

/// What a broker runs on, as far as that is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine {
    /// That this process may use.
    pub memory_bytes: Option<u64>,
    /// The size of the file system of the data directory.
    pub disk_bytes: Option<u64>,
}

impl ServerConfig {
    /// Refuses what the machine can never hold; returns what it can hardly hold, one sentence each.
    pub fn check_machine(&self, machine: &Machine) -> Result<Vec<String>, ConfigError> {
        let mut warnings = Vec::new();
        let budgets = [
            ("tail_bytes_max", self.tail_bytes_max, args::TAIL_BYTES_MAX),
            ("produce_bytes_max", self.produce_bytes_max, args::PRODUCE_BYTES_MAX),
            ("fetch_bytes_max", self.fetch_bytes_max, args::FETCH_BYTES_MAX),
        ];
        if let Some(memory) = machine.memory_bytes {
            let have = ByteSize::b(memory);
            // A default that is too large for a small machine is nobody's mistake: that is a warning.
            let is_absurd = |bytes: u64, default: ByteSize| bytes > memory && bytes > default.as_u64();
            if let Some((key, bytes, _)) = budgets.into_iter().find(|(_, bytes, default)| is_absurd(*bytes, *default)) {
                return Err(rule(key, ByteSize::b(bytes), format!("must fit the memory, of which there are {have}")));
            }
            let sum = budgets.iter().fold(0u64, |sum, (_, bytes, _)| sum.saturating_add(*bytes));
            if sum > memory {
                let names = budgets.map(|(key, _, _)| key).join(", ");
                let sum = ByteSize::b(sum);
                warnings.push(format!("{names} are {sum} together, and there are {have} of memory: lower them"));
            }
        }
        if let Some(disk) = machine.disk_bytes {
            let have = ByteSize::b(disk);
            // As much again is kept for reuse.
            if let Some(wal) = self.wal_bytes_max.filter(|wal| wal.saturating_mul(2) > disk) {
                let why =
                    format!("must be half of the disk at most, which has {have}: as much again is kept for reuse");
                return Err(rule("wal_bytes_max", ByteSize::b(wal), why));
            }
            if let Some(reserve) = self.disk_reserve_bytes.filter(|reserve| *reserve >= disk) {
                let why = format!("must be below the disk's size, {have}, or no write would ever be taken");
                return Err(rule("disk_reserve_bytes", ByteSize::b(reserve), why));
            }
        }
        Ok(warnings)
    }
}

/// Memory that this process may use: the machine's, or what its control group allows. None: unknown.
pub fn memory_bytes() -> Option<u64> {
    let of_machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let of_group = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    [of_machine, of_group].into_iter().flatten().min()
}

/// The memory of the machine, out of `/proc/meminfo`, whose kB are 1,024 bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_known() {
        assert_eq!(total("MemFree: 5 kB\nMemTotal:       2048 kB\n"), Some(2 << 20));
        assert_eq!(total("MemTotal: many"), None);
        assert!(memory_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }
}
