//! What the log writer counts. Independent of how metrics are published: `metrics` or a test reads
//! the counters when it wants to.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

/// Upper bounds of the commit latency buckets, in microseconds: one fdatasync of a good disk is
/// 100 to 500, of a struggling one 10,000 and more.
pub const LATENCY_BOUNDS_US: [u64; 14] =
    [50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 1_000_000, 15_000_000];

/// Upper bounds of the buckets of writes per commit.
pub const WRITES_BOUNDS: [u64; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024];

/// Counts of values by upper bound; what is above the last bound is in the last, extra bucket.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    counts: Vec<AtomicU64>,
    sum: AtomicU64,
}

impl Histogram {
    fn new(bounds: &'static [u64]) -> Histogram {
        Histogram { bounds, counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    fn record(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    pub fn bounds(&self) -> &'static [u64] {
        self.bounds
    }

    /// One more than there are bounds; not cumulative.
    pub fn counts(&self) -> Vec<u64> {
        self.counts.iter().map(|count| count.load(Relaxed)).collect()
    }

    pub fn sum(&self) -> u64 {
        self.sum.load(Relaxed)
    }
}

#[derive(Debug)]
pub struct WriterCounters {
    pub commits: AtomicU64,
    pub synced_commits: AtomicU64,
    /// The bytes of values and keys that were handed to the disk.
    pub bytes: AtomicU64,
    /// The log entries that were appended.
    pub entries: AtomicU64,
    /// Waiting or being written, now.
    pub queue_bytes: AtomicU64,
    /// Recent entries held in memory, now.
    pub tail_bytes: AtomicU64,
    pub commit_latency_us: Histogram,
    /// Queued writes that shared one commit.
    pub writes_per_commit: Histogram,
    commit_since: Mutex<Option<Instant>>,
}

/// Counters of one store, cheap to clone.
#[derive(Clone, Debug)]
pub struct WriterProbe(Arc<WriterCounters>);

impl Default for WriterProbe {
    fn default() -> Self {
        WriterProbe(Arc::new(WriterCounters {
            commits: AtomicU64::new(0),
            synced_commits: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            queue_bytes: AtomicU64::new(0),
            tail_bytes: AtomicU64::new(0),
            commit_latency_us: Histogram::new(&LATENCY_BOUNDS_US),
            writes_per_commit: Histogram::new(&WRITES_BOUNDS),
            commit_since: Mutex::new(None),
        }))
    }
}

impl WriterProbe {
    pub fn counters(&self) -> &WriterCounters {
        &self.0
    }

    /// How long the commit under way has taken, if one is: a disk that hangs shows here (SAFETY M14).
    pub fn commit_running(&self) -> Option<Duration> {
        self.commit_since().map(|since| since.elapsed())
    }

    pub(super) fn commit_started(&self) {
        *self.commit_since() = Some(Instant::now());
    }

    pub(super) fn commit_done(&self, writes: usize, bytes: usize, is_synced: bool) {
        let since = self.commit_since().take();
        let took = since.map(|since| since.elapsed()).unwrap_or_default();
        self.0.commits.fetch_add(1, Relaxed);
        self.0.synced_commits.fetch_add(is_synced.into(), Relaxed);
        self.0.bytes.fetch_add(bytes as u64, Relaxed);
        self.0.commit_latency_us.record(took.as_micros() as u64);
        self.0.writes_per_commit.record(writes as u64);
    }

    pub(super) fn entries_appended(&self, count: usize) {
        self.0.entries.fetch_add(count as u64, Relaxed);
    }

    pub(super) fn queue_bytes(&self, bytes: usize) {
        self.0.queue_bytes.store(bytes as u64, Relaxed);
    }

    pub(super) fn tail_bytes(&self, bytes: usize) {
        self.0.tail_bytes.store(bytes as u64, Relaxed);
    }

    fn commit_since(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.0.commit_since.lock().expect("nothing panics while it holds this lock")
    }
}

#[test]
fn a_value_on_a_bound_counts_below_it_and_a_larger_one_than_all_counts_last() {
    let histogram = Histogram::new(&WRITES_BOUNDS);
    for value in [1, 2, 3, 1_024, 1_025] {
        histogram.record(value);
    }
    assert_eq!(histogram.counts(), [1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
    assert_eq!(histogram.sum(), 2_055);
}
