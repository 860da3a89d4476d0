//! What happened in each second of a run, and in each few seconds of a long one. Pure.

use super::latencies::Latencies;
use crate::run::Span;

/// Bins of a timeline, at most: about one for each pixel of a wide chart's half.
pub const BINS_MAX: usize = 600;

/// The shortest bin, in nanoseconds.
pub const SECOND: u64 = 1_000_000_000;

/// What came to its end in one bin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bin {
    pub acknowledged: u64,
    pub read: u64,
    /// From a record's send to its acknowledgement.
    pub latencies: Latencies,
}

/// Bins of equal width from the beginning of a span. The width doubles whenever there would be too many.
#[derive(Clone, Debug)]
pub struct Timeline {
    span: Span,
    /// In nanoseconds.
    width: u64,
    bins: Vec<Bin>,
}

impl Timeline {
    /// What lies outside of `span` is left out.
    pub fn new(span: Span) -> Timeline {
        Timeline { span, width: SECOND, bins: vec![] }
    }

    /// The bin of a moment; none if it is outside.
    pub fn at(&mut self, at: u64) -> Option<&mut Bin> {
        if at < self.span.from || at > self.span.to {
            return None;
        }
        while self.index(at) >= BINS_MAX {
            self.double();
        }
        let index = self.index(at);
        if index >= self.bins.len() {
            self.bins.resize(index + 1, Bin::default());
        }
        self.bins.get_mut(index)
    }

    fn index(&self, at: u64) -> usize {
        ((at - self.span.from) / self.width) as usize
    }

    fn double(&mut self) {
        self.width = self.width.saturating_mul(2);
        for pair in 0..self.bins.len().div_ceil(2) {
            let mut bin = std::mem::take(&mut self.bins[2 * pair]);
            if let Some(second) = self.bins.get_mut(2 * pair + 1).map(std::mem::take) {
                bin.acknowledged += second.acknowledged;
                bin.read += second.read;
                bin.latencies.merge(&second.latencies);
            }
            self.bins[pair] = bin;
        }
        self.bins.truncate(self.bins.len().div_ceil(2));
    }

    pub fn bins(&self) -> &[Bin] {
        &self.bins
    }

    pub fn width(&self) -> u64 {
        self.width
    }

    pub fn from(&self) -> u64 {
        self.span.from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(from: u64, to: u64) -> Span {
        Span { from, to }
    }

    fn acknowledge(timeline: &mut Timeline, seconds: u64) {
        let bin = timeline.at(seconds * SECOND).expect("inside");
        bin.acknowledged += 1;
        bin.latencies.add(seconds);
    }

    #[test]
    fn seconds_are_counted_from_where_the_span_begins() {
        let mut timeline = Timeline::new(span(10 * SECOND, 20 * SECOND));
        assert!(timeline.at(10 * SECOND - 1).is_none() && timeline.at(20 * SECOND + 1).is_none());
        for seconds in [10, 10, 12] {
            acknowledge(&mut timeline, seconds);
        }
        let counts: Vec<u64> = timeline.bins().iter().map(|bin| bin.acknowledged).collect();
        assert_eq!((counts, timeline.width()), (vec![2, 0, 1], SECOND));
    }

    #[test]
    fn a_long_run_has_wider_bins_and_loses_nothing() {
        let mut timeline = Timeline::new(span(0, u64::MAX));
        for seconds in 0..1_501 {
            acknowledge(&mut timeline, seconds);
        }
        assert_eq!((timeline.width(), timeline.bins().len()), (4 * SECOND, 376));
        assert_eq!(timeline.bins().iter().map(|bin| bin.acknowledged).sum::<u64>(), 1_501);
        assert_eq!(timeline.bins()[1].acknowledged, 4);
        assert_eq!(timeline.bins()[1].latencies.percentile(100), Some(7));
    }

    #[test]
    fn no_moment_is_too_far() {
        let mut timeline = Timeline::new(span(0, u64::MAX));
        acknowledge(&mut timeline, 0);
        assert!(timeline.at(u64::MAX).is_some());
        assert!(timeline.bins().len() <= BINS_MAX);
        assert_eq!(timeline.bins()[0].acknowledged, 1);
    }
}
