//! Holds what replicas say of their logs against each other. Nothing here asks anybody.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::BrokerId;

/// The sums that replicas remember: by index, over all entries below it. Where each begins to sum is its own matter.
pub(super) type Sums = BTreeMap<u64, u128>;

/// Entries of which replicas hold different ones, or states that differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The first index of the range that differs, as narrow as it is known.
    pub from: u64,
    /// The index after the last.
    pub to: u64,
    /// The brokers that agree with each other, the most first.
    pub camps: Vec<Vec<BrokerId>>,
}

/// What a comparison came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    /// The entries that at least two replicas were compared by: `from..to`. None: there were none.
    pub range: Option<(u64, u64)>,
    /// By broker, the first index from which on it was compared with another one.
    pub since: BTreeMap<BrokerId, u64>,
    pub differences: Vec<Difference>,
}

/// Compares what lies between places that several replicas remember: first what all do, then, below, what those do
/// that began earlier.
pub(super) fn compare(replicas: &BTreeMap<BrokerId, Sums>) -> Compared {
    let mut compared = Compared::default();
    let mut left: BTreeMap<BrokerId, &Sums> = replicas.iter().map(|(broker, sums)| (*broker, sums)).collect();
    let mut end = u64::MAX;
    while left.len() > 1 {
        let places = common(left.values().copied(), end);
        for pair in places.windows(2) {
            let (from, to) = (pair[0], pair[1]);
            compared.range = compared.range.map_or(Some((from, to)), |(a, b)| Some((a.min(from), b.max(to))));
            for broker in left.keys() {
                let since = compared.since.entry(*broker).or_insert(from);
                *since = from.min(*since);
            }
            let camps = camps(left.iter().map(|(broker, sums)| (*broker, sums[&to].wrapping_sub(sums[&from]))));
            if camps.len() > 1 {
                compared.differences.push(Difference { from, to, camps });
            }
        }
        // Who remembers least of what came before leaves.
        let first = |sums: &Sums| sums.keys().next().copied().unwrap_or(u64::MAX);
        let latest = left.values().map(|sums| first(sums)).max().unwrap_or(u64::MAX);
        end = places.first().copied().unwrap_or(end);
        left.retain(|_, sums| first(sums) < latest);
    }
    compared.differences.sort_by_key(|difference| difference.from);
    compared
}

/// The places that all remember, up to `end`, ascending.
pub(super) fn common<'a>(sums: impl Iterator<Item = &'a Sums>, end: u64) -> Vec<u64> {
    let mut places: Option<BTreeSet<u64>> = None;
    for sums in sums {
        let these: BTreeSet<u64> = sums.range(..=end).map(|(place, _)| *place).collect();
        places = Some(places.map_or_else(|| these.clone(), |places| &places & &these));
    }
    places.unwrap_or_default().into_iter().collect()
}

/// Who says the same, the most first.
pub(super) fn camps(said: impl Iterator<Item = (BrokerId, u128)>) -> Vec<Vec<BrokerId>> {
    let mut by_word: BTreeMap<u128, Vec<BrokerId>> = BTreeMap::new();
    for (broker, word) in said {
        by_word.entry(word).or_default().push(broker);
    }
    let mut camps: Vec<Vec<BrokerId>> = by_word.into_values().collect();
    camps.sort_by_key(|camp| (std::cmp::Reverse(camp.len()), camp[0]));
    camps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u64]) -> Vec<BrokerId> {
        ids.iter().copied().map(BrokerId).collect()
    }

    /// A log of `to` entries that is summed from `from` on, with places every ten; entry `at` is another one.
    fn log(from: u64, to: u64, at: Option<u64>) -> Sums {
        let mut sum = u128::from(from) << 90;
        let mut sums = Sums::from([(from, sum)]);
        for index in from..to {
            sum = sum.wrapping_add(u128::from(index + 1) << 64).wrapping_add(u128::from(at == Some(index)));
            if (index + 1) % 10 == 0 || index + 1 == to {
                sums.insert(index + 1, sum);
            }
        }
        sums
    }

    fn of(logs: &[Sums]) -> BTreeMap<BrokerId, Sums> {
        (1..).map(BrokerId).zip(logs.iter().cloned()).collect()
    }

    #[test]
    fn equal_logs_agree_wherever_their_sums_began() {
        let compared = compare(&of(&[log(0, 95, None), log(0, 95, None), log(33, 95, None)]));
        assert_eq!(compared.range, Some((0, 95)));
        assert_eq!(compared.since, [(BrokerId(1), 0), (BrokerId(2), 0), (BrokerId(3), 40)].into());
        assert_eq!(compared.differences, []);
    }

    #[test]
    fn what_differs_is_named_with_who_agrees() {
        let compared = compare(&of(&[log(0, 95, None), log(0, 95, Some(42)), log(33, 95, None)]));
        assert_eq!(compared.differences, [Difference { from: 40, to: 50, camps: vec![ids(&[1, 3]), ids(&[2])] }]);
        // Below where the third began there are only two.
        let compared = compare(&of(&[log(0, 95, Some(7)), log(0, 95, None), log(33, 95, None)]));
        assert_eq!(compared.differences, [Difference { from: 0, to: 10, camps: vec![ids(&[1]), ids(&[2])] }]);
        let compared = compare(&of(&[log(0, 95, Some(94)), log(0, 95, Some(3)), log(0, 95, None)]));
        assert_eq!(compared.differences.len(), 2);
    }

    #[test]
    fn what_nobody_else_remembers_is_not_compared() {
        let compared = compare(&of(&[log(0, 95, None), log(95, 95, None)]));
        assert_eq!((compared.range, compared.since.len()), (None, 0));
        assert_eq!(compare(&of(&[log(0, 95, None)])), Compared::default());
        // One that is behind is compared as far as it is.
        let compared = compare(&of(&[log(0, 95, None), log(0, 60, None)]));
        assert_eq!(compared.range, Some((0, 60)));
    }
}
