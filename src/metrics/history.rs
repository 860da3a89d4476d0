//! What one broker did over the last minutes, for the console: a bounded ring of rates and latencies,
//! each the difference of two readings of the counters. Pure: whoever samples brings time and totals.
//!
//! Leaves out: anything longer. That is what Prometheus is for.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use super::HistogramSnapshot;
use crate::types::WallMs;

/// Between two samples: a hand's breadth of pixels per minute, and cheap.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(5);

/// A quarter of an hour: long enough to see what led up to an incident, a few KiB of memory.
pub const SAMPLES_MAX: usize = 180;

/// What a broker has counted since it started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Acknowledged by partitions led here.
    pub produced_bytes: u64,
    pub produced_records: u64,
    /// Sent to consumers.
    pub consumed_bytes: u64,
    pub consumed_records: u64,
    /// The time from a produce's arrival to its acknowledgement.
    pub produce_seconds: HistogramSnapshot,
    /// The log writer's commits, fsync included.
    pub write_seconds: HistogramSnapshot,
}

/// What happened between two moments.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When it ended, by this broker's wall clock.
    pub at: WallMs,
    pub produced_bytes_per_s: f64,
    pub produced_records_per_s: f64,
    pub consumed_bytes_per_s: f64,
    pub consumed_records_per_s: f64,
    /// The 99th percentile of that time. None: nothing was acknowledged.
    pub produce_p99_s: Option<f64>,
    /// The median of the time of a commit. None: nothing was written.
    pub write_p50_s: Option<f64>,
    pub write_p99_s: Option<f64>,
}

/// The last [`SAMPLES_MAX`] samples, oldest first.
#[derive(Clone, Debug, Default)]
pub struct History {
    samples: VecDeque<Sample>,
    before: Totals,
}

impl History {
    /// Begins at a reading; the first sample is what comes after it.
    pub fn starting_at(totals: Totals) -> History {
        History { samples: VecDeque::new(), before: totals }
    }

    /// Adds what happened since the last call, `elapsed` ago; an old sample goes if there are too many.
    pub fn add(&mut self, at: WallMs, elapsed: Duration, totals: Totals) {
        let before = &self.before;
        let seconds = elapsed.as_secs_f64();
        if seconds > 0.0 {
            let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
            let write = |q| totals.write_seconds.quantile_since(&before.write_seconds, q);
            if self.samples.len() == SAMPLES_MAX {
                self.samples.pop_front();
            }
            self.samples.push_back(Sample {
                at,
                produced_bytes_per_s: rate(totals.produced_bytes, before.produced_bytes),
                produced_records_per_s: rate(totals.produced_records, before.produced_records),
                consumed_bytes_per_s: rate(totals.consumed_bytes, before.consumed_bytes),
                consumed_records_per_s: rate(totals.consumed_records, before.consumed_records),
                produce_p99_s: totals.produce_seconds.quantile_since(&before.produce_seconds, 0.99),
                write_p50_s: write(0.5),
                write_p99_s: write(0.99),
            });
        }
        self.before = totals;
    }

    pub fn samples(&self) -> Vec<Sample> {
        self.samples.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn a_sample_is_the_difference_of_two_readings() {
        let metrics = Metrics::new();
        metrics.requests().produce_acknowledged(7, 700, Duration::from_secs(9));
        let mut history = History::starting_at(metrics.totals());
        metrics.requests().produce_acknowledged(10, 1_000, Duration::from_millis(2));
        metrics.requests().fetch_answered(30, 3_000, Duration::from_millis(1));
        history.add(WallMs(5_000), SAMPLE_EVERY, metrics.totals());
        history.add(WallMs(10_000), SAMPLE_EVERY, metrics.totals());
        let samples = history.samples();
        let first = samples[0];
        assert_eq!((first.at, first.produced_records_per_s, first.produced_bytes_per_s), (WallMs(5_000), 2.0, 200.0));
        assert_eq!((first.consumed_records_per_s, first.consumed_bytes_per_s), (6.0, 600.0));
        assert!(first.produce_p99_s > Some(0.001) && first.produce_p99_s <= Some(0.002), "{first:?}");
        assert_eq!((first.write_p50_s, first.write_p99_s), (None, None), "nothing was written");
        assert_eq!((samples[1].produced_bytes_per_s, samples[1].produce_p99_s), (0.0, None));
    }

    #[test]
    fn the_ring_is_bounded_and_no_time_makes_no_sample() {
        let mut history = History::default();
        history.add(WallMs(0), Duration::ZERO, Totals::default());
        assert_eq!(history.samples(), []);
        for at in 0..SAMPLES_MAX as i64 + 1 {
            history.add(WallMs(at), SAMPLE_EVERY, Totals::default());
        }
        let samples = history.samples();
        assert_eq!((samples.len(), samples[0].at), (SAMPLES_MAX, WallMs(1)));
    }
}
