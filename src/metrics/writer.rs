//! The log writer's figures. Module `storage` counts them in its `WriterProbe` and knows nothing of
//! Prometheus; this module may not know `storage`, so whoever starts a broker hands over a snapshot
//! at each scrape.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

use super::HistogramSnapshot;

/// What the log writer has done since it started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WriterSnapshot {
    /// Batches written, synced or not.
    pub commits: u64,
    pub synced_commits: u64,
    /// Handed to the database.
    pub bytes: u64,
    /// The entries that were appended to the logs of all groups.
    pub entries: u64,
    /// Waiting or being written, now.
    pub queue_bytes: u64,
    /// Recent entries held in memory, now.
    pub tail_bytes: u64,
    /// The time of a commit from the call to its return, fsync included.
    pub commit_seconds: HistogramSnapshot,
    /// Queued writes that shared one commit.
    pub writes_per_commit: HistogramSnapshot,
    /// How long the commit under way has taken; 0 if none is. A hanging disk shows here first.
    pub commit_running_seconds: f64,
}

pub(super) struct WriterCollector {
    pub(super) read: ReadWriter,
}

/// Where the figures come from.
pub(super) type ReadWriter = Arc<dyn Fn() -> WriterSnapshot + Send + Sync>;

impl Collector for WriterCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let now = (self.read)();
        for (name, help, unit, value) in [
            ("writer_commits", "Batches written, synced or not.", None, now.commits),
            ("writer_synced_commits", "Batches written and synced.", None, now.synced_commits),
            ("writer_written", "Bytes handed to the database.", Some(&Unit::Bytes), now.bytes),
            ("writer_entries", "Raft entries written.", None, now.entries),
        ] {
            let metric = encoder.encode_descriptor(name, help, unit, MetricType::Counter)?;
            ConstCounter::new(value).encode(metric)?;
        }
        for (name, help, bytes) in [
            ("writer_queue", "Bytes waiting or being written.", now.queue_bytes),
            ("tail", "Recent entries kept in memory.", now.tail_bytes),
        ] {
            let metric = encoder.encode_descriptor(name, help, Some(&Unit::Bytes), MetricType::Gauge)?;
            ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX)).encode(metric)?;
        }
        let help = "How long the commit under way has taken.";
        let metric =
            encoder.encode_descriptor("writer_commit_running", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        ConstGauge::new(now.commit_running_seconds).encode(metric)?;
        for (name, help, unit, histogram) in [
            ("writer_commit", "Time to write a batch, fsync included.", Some(&Unit::Seconds), now.commit_seconds),
            ("writer_commit_writes", "Queued writes that shared one batch.", None, now.writes_per_commit),
        ] {
            histogram.encode(encoder.encode_descriptor(name, help, unit, MetricType::Histogram)?)?;
        }
        Ok(())
    }
}

impl fmt::Debug for WriterCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriterCollector").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn writer_figures_show_in_the_text() {
        let metrics = Metrics::new();
        metrics.export_writer(|| WriterSnapshot {
            commits: 5,
            synced_commits: 4,
            bytes: 500,
            entries: 9,
            queue_bytes: 7,
            tail_bytes: 8,
            commit_seconds: HistogramSnapshot::new(&[250_000], &[1, 1], 500_000, 1e-6),
            writes_per_commit: HistogramSnapshot::new(&[1, 2], &[4, 0, 1], 10, 1.0),
            commit_running_seconds: 0.5,
        });
        let text = metrics.encode();
        for line in [
            "flotilla_writer_commits_total 5",
            "flotilla_writer_synced_commits_total 4",
            "flotilla_writer_written_bytes_total 500",
            "flotilla_writer_entries_total 9",
            "flotilla_writer_queue_bytes 7",
            "flotilla_tail_bytes 8",
            "flotilla_writer_commit_running_seconds 0.5",
            "flotilla_writer_commit_seconds_bucket{le=\"0.25\"} 1",
            "flotilla_writer_commit_seconds_bucket{le=\"+Inf\"} 2",
            "flotilla_writer_commit_seconds_sum 0.5",
            "flotilla_writer_commit_writes_bucket{le=\"2\"} 4",
            "flotilla_writer_commit_writes_count 5",
        ] {
            assert!(text.lines().any(|l| l == line), "no line {line:?} in:\n{text}");
        }
    }
}
