//! How long recoveries took, in a few classes. Pure.

use crate::run::Recovery;

/// Where classes end, in milliseconds. Behind the last there is one more.
const ENDS_MS: [u64; 9] = [50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000];
const NAMES: [&str; 10] = [
    "up to 50 ms",
    "to 100 ms",
    "to 200 ms",
    "to 500 ms",
    "to 1 s",
    "to 2 s",
    "to 5 s",
    "to 10 s",
    "to 30 s",
    "longer",
];

/// One class of durations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    pub name: &'static str,
    pub count: u64,
    /// In percent of the class that has most.
    pub share: u64,
}

/// From the first class that has any to the last.
pub fn histogram(recoveries: &[Recovery]) -> Vec<Class> {
    let mut counts = [0; NAMES.len()];
    for recovery in recoveries {
        counts[ENDS_MS.partition_point(|end| *end < recovery.took_ms)] += 1;
    }
    let most = counts.into_iter().max().unwrap_or_default().max(1);
    let (Some(first), Some(last)) = (counts.iter().position(|n| *n > 0), counts.iter().rposition(|n| *n > 0)) else {
        return vec![];
    };
    let classes = NAMES.into_iter().zip(counts).take(last + 1).skip(first);
    classes.map(|(name, count)| Class { name, count, share: count * 100 / most }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(took: &[u64]) -> Vec<(&'static str, u64, u64)> {
        let recovery = |took_ms: &u64| Recovery { took_ms: *took_ms, ..Recovery::default() };
        let recoveries: Vec<Recovery> = took.iter().map(recovery).collect();
        histogram(&recoveries).into_iter().map(|class| (class.name, class.count, class.share)).collect()
    }

    #[test]
    fn a_duration_belongs_to_the_first_class_that_holds_it() {
        assert_eq!(classes(&[]), []);
        assert_eq!(
            classes(&[100, 101, 200, 500, 150, 180]),
            [("to 100 ms", 1, 25), ("to 200 ms", 4, 100), ("to 500 ms", 1, 25)]
        );
        assert_eq!(classes(&[0, 50]), [("up to 50 ms", 2, 100)]);
        assert_eq!(classes(&[30_001, u64::MAX]), [("longer", 2, 100)]);
    }
}
