//! Consumer groups' figures: what the coordinator counts, and how far groups are behind.
//!
//! Lag is the one place where labels hold names of users (group, topic): who computes it bounds how many
//! series there are.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{
        MetricType,
        counter::Counter,
        gauge::ConstGauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use super::histogram::Latency;

/// One group's place in one partition that is led here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LagSample {
    pub group: String,
    pub topic: String,
    pub partition: i32,
    /// Committed to high watermark.
    pub records: i64,
    /// Age of the first unread record; None: not known.
    pub age_ms: Option<u64>,
    /// Retention is about to delete unread records.
    pub retention_threatens: bool,
}

/// What the group coordinator reports.
#[derive(Clone, Debug)]
pub struct GroupProbe {
    commit_seconds: Latency,
    commits_per_entry: Histogram,
    expired: Counter<u64, AtomicU64>,
}

impl GroupProbe {
    pub(super) fn new() -> GroupProbe {
        GroupProbe {
            commit_seconds: Latency::default(),
            commits_per_entry: Histogram::new(exponential_buckets(1.0, 2.0, 12)),
            expired: Counter::default(),
        }
    }

    /// An entry of this many commits was proposed.
    pub fn commits_proposed(&self, commits: u64) {
        self.commits_per_entry.observe(commits as f64);
    }

    /// A commit was applied, so long after it came to the coordinator.
    pub fn commit_acknowledged(&self, took: Duration) {
        self.commit_seconds.observe(took);
    }

    /// Members were given up.
    pub fn members_expired(&self, members: u64) {
        self.expired.inc_by(members);
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "From an offset commit's arrival at the coordinator to its acknowledgement";
        registry.register_with_unit("group_commit_latency", help, Unit::Seconds, self.commit_seconds.clone());
        let help = "Offset commits that one entry carries";
        registry.register("group_entry_commits", help, self.commits_per_entry.clone());
        registry.register("group_members_expired", "Group members given up by this coordinator", self.expired.clone());
    }
}

pub(super) struct LagCollector {
    read: Box<dyn Fn() -> Arc<Vec<LagSample>> + Send + Sync>,
}

impl LagCollector {
    pub(super) fn new(read: impl Fn() -> Arc<Vec<LagSample>> + Send + Sync + 'static) -> LagCollector {
        LagCollector { read: Box::new(read) }
    }
}

/// One value of each series, or None where it is not known.
fn family(
    encoder: &mut DescriptorEncoder,
    (name, help, unit): (&str, &str, Option<&Unit>),
    samples: &[LagSample],
    value: impl Fn(&LagSample) -> Option<f64>,
) -> fmt::Result {
    if samples.is_empty() {
        return Ok(());
    }
    let mut metric = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    for sample in samples {
        let Some(value) = value(sample) else { continue };
        let partition = sample.partition.to_string();
        let labels = [("group", &*sample.group), ("topic", &*sample.topic), ("partition", &*partition)];
        ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

impl Collector for LagCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let samples = (self.read)();
        let help = "Records that a consumer group has yet to read, as the partition's leader sees it.";
        family(&mut encoder, ("consumer_lag_records", help, None), &samples, |s| Some(s.records as f64))?;
        let help = "Age of the first record that a consumer group has yet to read.";
        let seconds = |s: &LagSample| s.age_ms.map(|ms| ms as f64 / 1_000.0);
        family(&mut encoder, ("consumer_lag", help, Some(&Unit::Seconds)), &samples, seconds)?;
        let help = "1 while retention is about to delete records that the group has not read.";
        let threat = |s: &LagSample| Some(f64::from(u8::from(s.retention_threatens)));
        family(&mut encoder, ("consumer_retention_threat", help, None), &samples, threat)
    }
}

impl fmt::Debug for LagCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LagCollector").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn groups_figures_show_in_the_text() {
        let metrics = Metrics::new();
        let sample = |partition, age_ms, retention_threatens| LagSample {
            group: "g".into(),
            topic: "a \"t\"".into(),
            partition,
            records: 7,
            age_ms,
            retention_threatens,
        };
        let samples = Arc::new(vec![sample(0, Some(1_500), true), sample(1, None, false)]);
        metrics.export_lag(move || Arc::clone(&samples));
        metrics.groups().members_expired(2);
        metrics.groups().commits_proposed(3);
        metrics.groups().commit_acknowledged(Duration::from_millis(2));
        let text = metrics.encode();
        for line in [
            "flotilla_consumer_lag_records{group=\"g\",topic=\"a \\\"t\\\"\",partition=\"0\"} 7.0",
            "flotilla_consumer_lag_records{group=\"g\",topic=\"a \\\"t\\\"\",partition=\"1\"} 7.0",
            "flotilla_consumer_lag_seconds{group=\"g\",topic=\"a \\\"t\\\"\",partition=\"0\"} 1.5",
            "flotilla_consumer_retention_threat{group=\"g\",topic=\"a \\\"t\\\"\",partition=\"0\"} 1.0",
            "flotilla_consumer_retention_threat{group=\"g\",topic=\"a \\\"t\\\"\",partition=\"1\"} 0.0",
            "flotilla_group_members_expired_total 2",
            "flotilla_group_commit_latency_seconds_count 1",
            "flotilla_group_entry_commits_bucket{le=\"4\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "no line {line:?} in:\n{text}");
        }
        let unknown = "flotilla_consumer_lag_seconds{group=\"g\",topic=\"a \\\"t\\\"\",partition=\"1\"}";
        assert!(!text.contains(unknown), "what is not known is not exported");
    }
}
