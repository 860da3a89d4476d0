//! The log writer's figures. They live in module `storage` as plain atomics and are read at a scrape.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

/// What the log writer has done since it started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WriterSnapshot {
    /// Batches written, synced or not.
    pub commits: u64,
    pub bytes_written: u64,
    /// Waiting to be written now.
    pub queue_bytes: u64,
    /// Of each batch.
    pub batch_bytes: HistogramSnapshot,
    /// From the call to its return, of synced batches.
    pub fsync_seconds: HistogramSnapshot,
}

/// A histogram kept elsewhere.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistogramSnapshot {
    pub sum: f64,
    pub count: u64,
    /// Upper bound and how many fell into this bucket alone, in rising order. The last bound must be
    /// infinite, else the text lacks its `+Inf` line.
    pub buckets: Vec<(f64, u64)>,
}

pub(super) struct WriterCollector {
    read: Box<dyn Fn() -> WriterSnapshot + Send + Sync>,
}

impl WriterCollector {
    pub(super) fn new(read: impl Fn() -> WriterSnapshot + Send + Sync + 'static) -> WriterCollector {
        WriterCollector { read: Box::new(read) }
    }
}

impl Collector for WriterCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        use prometheus_client::encoding::EncodeMetric;
        let now = (self.read)();
        let commits = ConstCounter::new(now.commits);
        commits.encode(encoder.encode_descriptor(
            "writer_commits",
            "Batches written.",
            None,
            MetricType::Counter,
        )?)?;
        let bytes = ConstCounter::new(now.bytes_written);
        let help = "Bytes handed to the database.";
        bytes.encode(encoder.encode_descriptor("writer_written", help, Some(&Unit::Bytes), MetricType::Counter)?)?;
        let queue = ConstGauge::new(i64::try_from(now.queue_bytes).unwrap_or(i64::MAX));
        let help = "Bytes waiting to be written.";
        queue.encode(encoder.encode_descriptor("writer_queue", help, Some(&Unit::Bytes), MetricType::Gauge)?)?;
        let mut histogram = |name, help, unit: Unit, h: HistogramSnapshot| {
            let mut metric = encoder.encode_descriptor(name, help, Some(&unit), MetricType::Histogram)?;
            metric.encode_histogram::<NoLabelSet>(h.sum, h.count, &h.buckets, None)
        };
        histogram("writer_batch", "Size of each batch written.", Unit::Bytes, now.batch_bytes)?;
        histogram("writer_fsync", "Time to write and fsync a batch.", Unit::Seconds, now.fsync_seconds)
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
            bytes_written: 500,
            queue_bytes: 7,
            batch_bytes: HistogramSnapshot { sum: 500.0, count: 5, buckets: vec![(100.0, 4), (f64::INFINITY, 1)] },
            fsync_seconds: HistogramSnapshot { sum: 0.5, count: 2, buckets: vec![(0.25, 1), (f64::INFINITY, 1)] },
        });
        let text = metrics.encode();
        for line in [
            "flotilla_writer_commits_total 5",
            "flotilla_writer_written_bytes_total 500",
            "flotilla_writer_queue_bytes 7",
            "flotilla_writer_batch_bytes_bucket{le=\"100\"} 4",
            "flotilla_writer_batch_bytes_bucket{le=\"+Inf\"} 5",
            "flotilla_writer_fsync_seconds_count 2",
        ] {
            assert!(text.lines().any(|l| l == line), "no line {line:?} in:\n{text}");
        }
    }
}
