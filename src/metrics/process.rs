//! The process itself, under the names that every Prometheus client library uses.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

/// What the kernel says of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessSnapshot {
    /// User and system time used.
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub open_fds: u64,
    /// The soft limit of open descriptors. None: there is none.
    pub fds_max: Option<u64>,
    pub threads: u64,
    /// When the process started, in seconds since 1970.
    pub start_seconds: f64,
}

pub(super) struct ProcessCollector {
    read: Box<dyn Fn() -> Option<ProcessSnapshot> + Send + Sync>,
}

impl ProcessCollector {
    pub(super) fn new(read: impl Fn() -> Option<ProcessSnapshot> + Send + Sync + 'static) -> ProcessCollector {
        ProcessCollector { read: Box::new(read) }
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        // Where the kernel does not say, nothing is exported.
        let Some(now) = (self.read)() else { return Ok(()) };
        let help = "User and system CPU time used.";
        let metric = encoder.encode_descriptor("cpu", help, Some(&Unit::Seconds), MetricType::Counter)?;
        ConstCounter::new(now.cpu_seconds).encode(metric)?;
        for (name, help, unit, value) in [
            ("resident_memory", "Memory in use.", Some(&Unit::Bytes), Some(now.resident_bytes)),
            ("virtual_memory", "Address space in use.", Some(&Unit::Bytes), Some(now.virtual_bytes)),
            ("open_fds", "Open file descriptors.", None, Some(now.open_fds)),
            ("max_fds", "How many descriptors may be open.", None, now.fds_max),
            ("threads", "Threads of the process.", None, Some(now.threads)),
        ] {
            let Some(value) = value else { continue };
            let metric = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
            ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(metric)?;
        }
        let help = "When the process started, since 1970.";
        let metric = encoder.encode_descriptor("start_time", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        ConstGauge::new(now.start_seconds).encode(metric)
    }
}

impl fmt::Debug for ProcessCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessCollector").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn the_process_shows_under_its_usual_names() {
        let metrics = Metrics::new();
        metrics.export_process(|| {
            Some(ProcessSnapshot {
                cpu_seconds: 1.5,
                resident_bytes: 10,
                virtual_bytes: 20,
                open_fds: 7,
                fds_max: Some(1_024),
                threads: 8,
                start_seconds: 1e9,
            })
        });
        let text = metrics.encode();
        for line in [
            "process_cpu_seconds_total 1.5",
            "process_resident_memory_bytes 10",
            "process_virtual_memory_bytes 20",
            "process_open_fds 7",
            "process_max_fds 1024",
            "process_threads 8",
            "process_start_time_seconds 1000000000.0",
        ] {
            assert!(text.lines().any(|l| l == line), "no line {line:?} in:\n{text}");
        }
        metrics.encode();
    }
}
