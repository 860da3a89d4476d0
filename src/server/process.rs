//! What the kernel says of this process, for `/metrics`.

use procfs::{
    WithCurrentSystemInfo,
    process::{LimitValue, Process},
};

use crate::metrics::ProcessSnapshot;

/// What the kernel tells of this process. None where it does not: another system, or a mount that hides it.
pub fn read() -> Option<ProcessSnapshot> {
    let process = Process::myself().ok()?;
    let stat = process.stat().ok()?;
    let ticks = procfs::ticks_per_second() as f64;
    let fds_max = match process.limits().ok()?.max_open_files.soft_limit {
        LimitValue::Value(limit) => Some(limit),
        LimitValue::Unlimited => None,
    };
    let started = procfs::boot_time_secs().ok()? as f64 + stat.starttime as f64 / ticks;
    Some(ProcessSnapshot {
        cpu_seconds: (stat.utime + stat.stime) as f64 / ticks,
        resident_bytes: stat.rss_bytes().get(),
        virtual_bytes: stat.vsize,
        open_fds: process.fd_count().ok()? as u64,
        fds_max,
        threads: u64::try_from(stat.num_threads).unwrap_or(0),
        start_seconds: started,
    })
}

#[test]
fn this_process_is_told_of() {
    let now = read().expect("Linux has /proc");
    assert!(now.resident_bytes > 1 << 20 && now.virtual_bytes > now.resident_bytes, "{now:?}");
    assert!(now.open_fds >= 3 && now.fds_max.is_none_or(|max| max >= now.open_fds), "{now:?}");
    assert!(now.threads >= 1 && now.start_seconds > 1.6e9, "{now:?}");
}
