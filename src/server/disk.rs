//! A server's disk: opened, watched, and shown in its metrics.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use super::{descriptors::Descriptors, error::ServerFailed};
use crate::{
    config::ServerConfig,
    metrics::{HistogramSnapshot, Metrics, SpaceSnapshot, WriterSnapshot},
    storage::{
        Histogram, RocksKv, RocksOptions, SpaceProbe, Store, StoreError, StoreOptions, WriterProbe, disk_bytes,
        fail_stop,
    },
};

const SECONDS_PER_MICRO: f64 = 1e-6;

/// How large the disk is, and what of it stays free.
#[derive(Clone, Copy)]
pub struct Room {
    /// The size of the disk. None: the system does not say.
    pub disk_bytes: Option<u64>,
    pub reserve_bytes: u64,
}

impl Room {
    /// Looked up once: the store and the broker must not disagree about the reserve.
    pub fn of(config: &ServerConfig) -> Room {
        let disk_bytes = disk_bytes(&config.data_dir).ok();
        Room { disk_bytes, reserve_bytes: config.reserve_bytes(disk_bytes) }
    }
}

/// Opens the data directory and the store on it. `watch` is given what shows the writer at work before the first
/// write is: from then on a disk may hang.
pub async fn open(
    config: &ServerConfig,
    room: Room,
    descriptors: Descriptors,
    metrics: &Metrics,
    watch: impl FnOnce(&WriterProbe) -> Result<(), ServerFailed>,
) -> Result<Store, ServerFailed> {
    let Room { disk_bytes, reserve_bytes } = room;
    let directory = &config.data_dir;
    let open_files_max = u32::try_from(descriptors.store_files).ok();
    let options = RocksOptions { reserve_bytes, open_files_max, ..RocksOptions::new(disk_bytes, config.wal_bytes_max) };
    // Left out where it is not known.
    tracing::info!(disk_bytes, reserve_bytes, options.wal_bytes_max, options.write_buffer_bytes, "opening the disk");
    let kv = RocksKv::open(directory.clone(), options).await.map_err(refused(directory))?;
    export_space(metrics, kv.space());
    let tail_bytes_max = usize::try_from(config.tail_bytes_max).unwrap_or(usize::MAX);
    let options = StoreOptions { tail_bytes_max, ..StoreOptions::default() };
    let probe = WriterProbe::default();
    export_writer(metrics, &probe);
    watch(&probe)?;
    let on_failure = fail_stop(directory.clone());
    Store::open(Arc::new(kv), options, probe, on_failure).await.map_err(refused(directory))
}

fn refused(directory: &Path) -> impl FnOnce(StoreError) -> ServerFailed {
    let directory = directory.to_path_buf();
    move |cause| ServerFailed::Directory { directory, cause }
}

fn export_space(metrics: &Metrics, probe: SpaceProbe) {
    metrics.export_space(move || {
        let counters = probe.counters();
        SpaceSnapshot {
            blob_bytes: counters.blob_bytes.load(Relaxed),
            garbage_bytes: counters.garbage_bytes.load(Relaxed),
            held_bytes: counters.held_bytes.load(Relaxed),
            is_collecting: counters.is_collecting.load(Relaxed),
            settles: counters.settles.load(Relaxed),
            passes: counters.passes.load(Relaxed),
            moved_bytes: counters.moved_bytes.load(Relaxed),
            freed_bytes: counters.freed_bytes.load(Relaxed),
            busy_seconds: counters.busy_us.load(Relaxed) as f64 * SECONDS_PER_MICRO,
        }
    });
}

/// Module `metrics` knows nothing of `storage`: the figures are handed over at each scrape.
fn export_writer(metrics: &Metrics, probe: &WriterProbe) {
    let probe = probe.clone();
    metrics.export_writer(move || {
        let counters = probe.counters();
        WriterSnapshot {
            commits: counters.commits.load(Relaxed),
            synced_commits: counters.synced_commits.load(Relaxed),
            bytes: counters.bytes.load(Relaxed),
            entries: counters.entries.load(Relaxed),
            queue_bytes: counters.queue_bytes.load(Relaxed),
            tail_bytes: counters.tail_bytes.load(Relaxed),
            commit_seconds: snapshot(&counters.commit_latency_us, SECONDS_PER_MICRO),
            writes_per_commit: snapshot(&counters.writes_per_commit, 1.0),
            commit_running_seconds: probe.commit_running().unwrap_or_default().as_secs_f64(),
        }
    });
}

fn snapshot(histogram: &Histogram, unit: f64) -> HistogramSnapshot {
    HistogramSnapshot::new(histogram.bounds(), &histogram.counts(), histogram.sum(), unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writer_figures_reach_the_metrics_in_their_units() {
        let (metrics, probe) = (Metrics::new(), WriterProbe::default());
        export_writer(&metrics, &probe);
        probe.counters().commits.store(3, Relaxed);
        probe.counters().tail_bytes.store(17, Relaxed);
        let text = metrics.encode();
        for line in ["flotilla_writer_commits_total 3", "flotilla_tail_bytes 17"] {
            assert!(text.lines().any(|l| l == line), "no line {line:?} in:\n{text}");
        }
    }
}
