//! Sets of byte positions, kept as few ranges: which bytes of a file are not synced.

use std::{collections::BTreeMap, ops::Range};

/// A set of positions. Its ranges neither overlap nor touch, and none is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    /// From a range's first position to the one after its last.
    ends: BTreeMap<u64, u64>,
}

impl Ranges {
    pub fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = (range.start, range.end);
        // Those that begin at or before our end, from the last one down, until one ends before our start.
        while let Some((&other, &other_end)) = self.ends.range(..=end).next_back() {
            if other_end < start {
                break;
            }
            start = start.min(other);
            end = end.max(other_end);
            self.ends.remove(&other);
        }
        self.ends.insert(start, end);
    }

    pub fn clear(&mut self) {
        self.ends.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.ends.iter().map(|(&start, &end)| start..end)
    }

    /// The parts of the set that lie within `window`, in order.
    pub fn within(&self, window: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let before = self.ends.range(..=window.start).next_back().map_or(window.start, |(&start, _)| start);
        let candidates = self.ends.range(before..window.end.max(before));
        let clipped = candidates.map(move |(&start, &end)| start.max(window.start)..end.min(window.end));
        clipped.filter(|range| !range.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_that_touch_become_one() {
        let mut ranges = Ranges::default();
        ranges.insert(0..5);
        ranges.insert(10..15);
        ranges.insert(5..10);
        assert!(ranges.iter().eq(std::iter::once(0..15)));
        ranges.clear();
        assert!(ranges.is_empty());
    }

    proptest! {
        /// The ranges hold what a plain set of positions holds.
        #[test]
        fn ranges_are_a_set_of_positions(steps in prop::collection::vec((0..60u64, 0..20u64), 0..30), window in (0..70u64, 0..30u64)) {
            let mut ranges = Ranges::default();
            let mut plain = BTreeSet::new();
            for (at, len) in steps {
                ranges.insert(at..at + len);
                plain.extend(at..at + len);
            }
            prop_assert_eq!(ranges.iter().flatten().collect::<Vec<_>>(), plain.iter().copied().collect::<Vec<_>>());
            let window = window.0..window.0 + window.1;
            let expected: Vec<u64> = plain.iter().copied().filter(|position| window.contains(position)).collect();
            prop_assert_eq!(ranges.within(window).flatten().collect::<Vec<_>>(), expected);
            // As few ranges as there can be.
            let ends: Vec<_> = ranges.iter().collect();
            prop_assert!(ends.windows(2).all(|pair| pair[0].end < pair[1].start));
        }
    }
}
