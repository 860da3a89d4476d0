//! Stops writes before the disk is full: a failed write would stop the whole broker, and reads
//! should go on meanwhile.

use std::sync::{Arc, Mutex};

use super::{AdminError, ProduceError, limits};

/// Free bytes of the data directory's disk; None if that cannot be told. Quick.
pub type FreeBytes = Arc<dyn Fn() -> Option<u64> + Send + Sync>;

/// Of a directory on a real disk.
pub fn free_bytes_of(directory: std::path::PathBuf) -> FreeBytes {
    Arc::new(move || {
        let stat = rustix::fs::statvfs(&directory).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    pub free_bytes: u64,
    pub reserve_bytes: u64,
}

pub struct DiskGuard {
    free_bytes: FreeBytes,
    reserve_bytes: u64,
    now: Mutex<State>,
}

#[derive(Clone, Copy, Default)]
struct State {
    free_bytes: Option<u64>,
    is_short: bool,
}

impl DiskGuard {
    pub fn new(free_bytes: FreeBytes, reserve_bytes: u64) -> DiskGuard {
        let guard = DiskGuard { free_bytes, reserve_bytes, now: Mutex::default() };
        guard.check();
        guard
    }

    /// Reads the free space again.
    pub fn check(&self) {
        let free_bytes = (self.free_bytes)();
        let mut now = self.now.lock().expect("no holder panics");
        let was_short = now.is_short;
        // A tenth above the reserve before writes go on: no flapping at the edge.
        let needed = if was_short { self.reserve_bytes + self.reserve_bytes / 10 } else { self.reserve_bytes };
        *now = State { free_bytes, is_short: free_bytes.is_some_and(|free| free < needed) };
        match (was_short, now.is_short) {
            (false, true) => {
                tracing::error!(free_bytes, reserve_bytes = self.reserve_bytes, "disk nearly full: writes are refused");
            }
            (true, false) => tracing::info!(free_bytes, "disk has room again: writes go on"),
            (true, true) | (false, false) => {}
        }
    }

    /// Set while writes are refused.
    pub fn shortage(&self) -> Option<Shortage> {
        let now = *self.now.lock().expect("no holder panics");
        let free_bytes = now.free_bytes.unwrap_or(0);
        now.is_short.then_some(Shortage { free_bytes, reserve_bytes: self.reserve_bytes })
    }

    pub fn free_bytes(&self) -> Option<u64> {
        self.now.lock().expect("no holder panics").free_bytes
    }

    pub fn reserve_bytes(&self) -> u64 {
        self.reserve_bytes
    }

    pub async fn run(&self) {
        loop {
            tokio::time::sleep(limits::DISK_CHECK_EVERY).await;
            self.check();
        }
    }
}

impl From<Shortage> for ProduceError {
    fn from(shortage: Shortage) -> ProduceError {
        let Shortage { free_bytes, reserve_bytes } = shortage;
        ProduceError::DiskFull { free_bytes, reserve_bytes }
    }
}

impl From<Shortage> for AdminError {
    fn from(shortage: Shortage) -> AdminError {
        AdminError::Unavailable { reason: format!("disk nearly full: {} bytes free", shortage.free_bytes) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn writes_stop_below_the_reserve_and_go_on_clearly_above_it() {
        let free = Arc::new(AtomicU64::new(1_000));
        let read = Arc::clone(&free);
        let guard = DiskGuard::new(Arc::new(move || Some(read.load(Ordering::Relaxed))), 500);
        assert_eq!(guard.shortage(), None);
        for (free_bytes, is_short) in [(499, true), (520, true), (550, false), (510, false)] {
            free.store(free_bytes, Ordering::Relaxed);
            guard.check();
            assert_eq!(guard.shortage().is_some(), is_short, "{free_bytes}");
        }
    }
}
