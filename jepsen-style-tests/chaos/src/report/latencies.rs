//! How long operations took, in a few kilobytes however many there were. Pure.

/// Each doubling is told in so many steps: percentiles are exact to a thirty-second.
const STEPS: u64 = 32;
const STEP_BITS: u32 = STEPS.ilog2();

/// Counts of durations in microseconds, by steps that grow with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    counts: Vec<u32>,
    total: u64,
}

impl Latencies {
    pub fn add(&mut self, micros: u64) {
        let step = step_of(micros);
        if step >= self.counts.len() {
            self.counts.resize(step + 1, 0);
        }
        self.counts[step] = self.counts[step].saturating_add(1);
        self.total += 1;
    }

    pub fn merge(&mut self, other: &Latencies) {
        if other.counts.len() > self.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (own, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *own = own.saturating_add(*theirs);
        }
        self.total += other.total;
    }

    /// The duration in microseconds that so many of a hundred did not exceed; none if there are none.
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let rank = (self.total.saturating_mul(percent)).div_ceil(100).max(1);
        let mut seen = 0;
        let step = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= rank
        });
        step.map(middle_of)
    }
}

fn step_of(micros: u64) -> usize {
    let doublings = micros.max(1).ilog2().saturating_sub(STEP_BITS);
    (u64::from(doublings) * STEPS + (micros >> doublings)) as usize
}

/// The middle of what is counted in a step.
fn middle_of(step: usize) -> u64 {
    let step = step as u64;
    let doublings = (step / STEPS).saturating_sub(1);
    let first = (step - doublings * STEPS) << doublings;
    first + ((1 << doublings) - 1) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_follow_one_another_and_lead_back() {
        let mut last = 0;
        for micros in (0..5_000).chain((13..64).map(|bits| 1 << bits)).chain([u64::MAX]) {
            let step = step_of(micros);
            assert!(step >= last, "{micros}: {step} after {last}");
            last = step;
            let off = middle_of(step).abs_diff(micros);
            assert!(off as f64 <= micros as f64 / STEPS as f64, "{micros} is told as {}", middle_of(step));
        }
        assert!(last < 64 * STEPS as usize, "{last}");
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_list() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentile(50), None);
        (1..=100).for_each(|micros| latencies.add(micros));
        assert_eq!([1, 50, 99, 100].map(|p| latencies.percentile(p)), [Some(1), Some(50), Some(98), Some(100)]);
        let mut slow = Latencies::default();
        slow.add(1_000_000);
        slow.merge(&latencies);
        assert_eq!(slow.percentile(50), Some(51));
        assert!(slow.percentile(100).is_some_and(|max| max.abs_diff(1_000_000) < 32_000));
    }
}
