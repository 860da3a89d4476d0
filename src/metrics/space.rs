//! The figures of blob files: how much of the disk they take, how much of that is garbage, and what
//! collecting it does. As with the log writer's, whoever starts a broker hands over a snapshot at each scrape.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

/// What blob files hold now, and what was done about it since the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpaceSnapshot {
    pub blob_bytes: u64,
    /// The part of those bytes that belongs to purged entries.
    pub garbage_bytes: u64,
    /// The bytes of files that only readers still hold open.
    pub held_bytes: u64,
    pub is_collecting: bool,
    pub settles: u64,
    pub passes: u64,
    /// Live bytes that passes wrote again.
    pub moved_bytes: u64,
    /// Garbage that passes dropped.
    pub freed_bytes: u64,
    pub busy_seconds: f64,
}

pub(super) struct SpaceCollector {
    read: Box<dyn Fn() -> SpaceSnapshot + Send + Sync>,
}

impl SpaceCollector {
    pub(super) fn new(read: impl Fn() -> SpaceSnapshot + Send + Sync + 'static) -> SpaceCollector {
        SpaceCollector { read: Box::new(read) }
    }
}

impl Collector for SpaceCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let now = (self.read)();
        for (name, help, unit, value) in [
            ("blob", "Blob files, garbage included.", Some(&Unit::Bytes), now.blob_bytes),
            ("blob_garbage", "What purged entries left in blob files.", Some(&Unit::Bytes), now.garbage_bytes),
            ("blob_held", "Blob files that only readers still hold.", Some(&Unit::Bytes), now.held_bytes),
            ("blob_collecting", "1 while garbage is being collected.", None, now.is_collecting.into()),
        ] {
            let metric = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
            ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(metric)?;
        }
        for (name, help, unit, value) in [
            ("blob_settles", "Flushes and compactions after purges.", None, now.settles),
            ("blob_collections", "Passes of garbage collection.", None, now.passes),
            ("blob_moved", "Live bytes written again by garbage collection.", Some(&Unit::Bytes), now.moved_bytes),
            ("blob_freed", "Garbage dropped by garbage collection.", Some(&Unit::Bytes), now.freed_bytes),
        ] {
            let metric = encoder.encode_descriptor(name, help, unit, MetricType::Counter)?;
            ConstCounter::new(value).encode(metric)?;
        }
        let help = "Time spent in settles and collections.";
        let metric = encoder.encode_descriptor("blob_busy", help, Some(&Unit::Seconds), MetricType::Counter)?;
        ConstCounter::new(now.busy_seconds).encode(metric)
    }
}

impl fmt::Debug for SpaceCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpaceCollector").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn space_figures_show_in_the_text() {
        let metrics = Metrics::new();
        metrics.export_space(|| SpaceSnapshot {
            blob_bytes: 10,
            garbage_bytes: 3,
            held_bytes: 1,
            is_collecting: true,
            settles: 4,
            passes: 5,
            moved_bytes: 70,
            freed_bytes: 30,
            busy_seconds: 0.5,
        });
        let text = metrics.encode();
        for line in [
            "flotilla_blob_bytes 10",
            "flotilla_blob_garbage_bytes 3",
            "flotilla_blob_held_bytes 1",
            "flotilla_blob_collecting 1",
            "flotilla_blob_settles_total 4",
            "flotilla_blob_collections_total 5",
            "flotilla_blob_moved_bytes_total 70",
            "flotilla_blob_freed_bytes_total 30",
            "flotilla_blob_busy_seconds_total 0.5",
        ] {
            assert!(text.lines().any(|l| l == line), "no line {line:?} in:\n{text}");
        }
    }
}
