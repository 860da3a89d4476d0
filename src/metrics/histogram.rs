//! Histograms that can be read back, which prometheus-client's own cannot: the console draws
//! percentiles of the last seconds out of two readings.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, histogram::exponential_buckets},
};

/// 0.25 ms to about 16 s, by factors of two: from one fsync on a good disk to half a request timeout.
const LATENCY_BUCKETS: (f64, f64, u16) = (0.000_25, 2.0, 17);

const NANOS_PER_SECOND: f64 = 1e9;

/// What a histogram held at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistogramSnapshot {
    sum: f64,
    /// Upper bound and how many fell into this bucket alone, in rising order; the last bound is infinite.
    buckets: Vec<(f64, u64)>,
}

impl HistogramSnapshot {
    /// `counts` are not cumulative and one more than `bounds`: what lies above the last bound comes last.
    /// Bounds and sum are multiplied by `unit`, for example 1e-6 for microseconds.
    pub fn new(bounds: &[u64], counts: &[u64], sum: u64, unit: f64) -> HistogramSnapshot {
        assert_eq!(counts.len(), bounds.len() + 1, "one count more than there are bounds");
        let bounds = bounds.iter().map(|bound| *bound as f64 * unit).chain([f64::INFINITY]);
        HistogramSnapshot { sum: sum as f64 * unit, buckets: bounds.zip(counts.iter().copied()).collect() }
    }

    fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    /// The value that a share `q` of what came after `earlier` does not exceed, or None if nothing came.
    /// Interpolated within its bucket, as Prometheus' `histogram_quantile` does, so it is exact only at
    /// a bucket's bounds; above the last bound it is that bound.
    pub fn quantile_since(&self, earlier: &HistogramSnapshot, q: f64) -> Option<f64> {
        let before = |i: usize| earlier.buckets.get(i).map_or(0, |(_, count)| *count);
        let fresh = self.buckets.iter().enumerate();
        // Saturating: readings of a histogram that is being written to are not one moment.
        let fresh: Vec<(f64, u64)> =
            fresh.map(|(i, (bound, count))| (*bound, count.saturating_sub(before(i)))).collect();
        let total: u64 = fresh.iter().map(|(_, count)| count).sum();
        let rank = q * total as f64;
        let (mut below, mut lower) = (0, 0.0);
        for (bound, count) in fresh {
            if count > 0 && (below + count) as f64 >= rank {
                let share = (rank - below as f64) / count as f64;
                return Some(if bound.is_finite() { lower + (bound - lower) * share } else { lower });
            }
            below += count;
            lower = bound;
        }
        None
    }

    pub(super) fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        encoder.encode_histogram::<NoLabelSet>(self.sum, self.count(), &self.buckets, None)
    }
}

/// A latency histogram of one operation. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Latency(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The upper bounds of the buckets in seconds, rising.
    bounds: Vec<f64>,
    /// One more than bounds; not cumulative.
    counts: Vec<AtomicU64>,
    sum_nanos: AtomicU64,
}

impl Latency {
    pub(super) fn observe(&self, elapsed: Duration) {
        let bucket = self.0.bounds.partition_point(|bound| *bound < elapsed.as_secs_f64());
        self.0.counts[bucket].fetch_add(1, Relaxed);
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        self.0.sum_nanos.fetch_add(nanos, Relaxed);
    }

    pub(super) fn read(&self) -> HistogramSnapshot {
        let bounds = self.0.bounds.iter().copied().chain([f64::INFINITY]);
        let counts = self.0.counts.iter().map(|count| count.load(Relaxed));
        HistogramSnapshot {
            sum: self.0.sum_nanos.load(Relaxed) as f64 / NANOS_PER_SECOND,
            buckets: bounds.zip(counts).collect(),
        }
    }
}

impl Default for Latency {
    fn default() -> Latency {
        let (start, factor, length) = LATENCY_BUCKETS;
        let bounds: Vec<f64> = exponential_buckets(start, factor, length).collect();
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Latency(Arc::new(Inner { bounds, counts, sum_nanos: AtomicU64::new(0) }))
    }
}

impl EncodeMetric for Latency {
    fn encode(&self, encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        self.read().encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_came_after_the_earlier_reading() {
        let latency = Latency::default();
        latency.observe(Duration::from_secs(10));
        let earlier = latency.read();
        assert_eq!(earlier.quantile_since(&earlier, 0.99), None, "nothing came");
        for _ in 0..100 {
            latency.observe(Duration::from_micros(1_500)); // between 1 ms and 2 ms
        }
        let now = latency.read();
        assert_eq!(now.quantile_since(&earlier, 0.5), Some(0.0015));
        assert_eq!(now.quantile_since(&earlier, 1.0), Some(0.002));
        assert!(now.quantile_since(&HistogramSnapshot::default(), 1.0) > Some(8.0), "the first one is there too");
    }

    #[test]
    fn a_value_on_a_bound_counts_below_it_and_what_exceeds_all_is_the_last_bound() {
        let latency = Latency::default();
        latency.observe(Duration::from_micros(250));
        assert_eq!(latency.read().buckets[0], (0.000_25, 1));
        let before = latency.read();
        latency.observe(Duration::from_secs(1_000));
        assert_eq!(latency.read().quantile_since(&before, 0.5), Some(16.384));
    }
}
