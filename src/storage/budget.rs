//! The node's one budget for recent entries in memory. What was appended first, by whichever group,
//! is evicted first: busy groups cannot be starved by what idle ones once held.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use super::{WriterProbe, log::OpenLog, tail::AppendNo};

/// Appends remembered. Those whose entries were purged or truncated meanwhile stay until they are
/// the oldest; beyond this many the oldest is evicted whatever the budget says (24 bytes each).
const APPENDS_MAX: usize = 1 << 18;

pub(super) struct Budget {
    bytes: AtomicUsize,
    bytes_max: usize,
    /// Oldest first. Taken before a log's lock, never while one is held.
    appends: Mutex<VecDeque<(Weak<OpenLog>, AppendNo)>>,
    probe: WriterProbe,
}

impl Budget {
    pub fn new(bytes_max: usize, probe: WriterProbe) -> Budget {
        Budget { bytes: AtomicUsize::new(0), bytes_max, appends: Mutex::default(), probe }
    }

    /// Entries came into memory; no lock of a log may be held.
    pub fn added(&self, group: &Arc<OpenLog>, append_no: AppendNo, bytes: usize) {
        self.bytes.fetch_add(bytes, Relaxed);
        self.lock().push_back((Arc::downgrade(group), append_no));
        self.evict();
    }

    pub fn freed(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Relaxed);
    }

    /// Evicts the oldest entries until the budget is kept, as far as they are written.
    pub fn evict(&self) {
        let mut appends = self.lock();
        while self.bytes.load(Relaxed) > self.bytes_max || appends.len() > APPENDS_MAX {
            let Some((group, append_no)) = appends.front() else { break };
            if let Some(group) = group.upgrade()
                && !group.evict(*append_no)
            {
                // Pinned, and so is whatever was appended later: one writer writes in this order.
                break;
            }
            appends.pop_front();
        }
        self.probe.tail_bytes(self.bytes.load(Relaxed));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(Weak<OpenLog>, AppendNo)>> {
        self.appends.lock().expect("nothing panics while it holds this lock")
    }
}
