//! Whether a register whose writes are all different is linearizable, in n log n (Gibbons and Korach, "Testing Shared
//! Memories", 1997).
//!
//! A write and the reads of what it wrote are a cluster. With `f` the earliest end and `s` the latest beginning in it,
//! its zone is what lies between: forward if `f < s`, so that the register certainly had the value from `f` to `s`, else
//! backward. Some operation of one cluster precedes one of another exactly if the one's `f` is below the other's `s`.
//! So two clusters exclude each other if that holds both ways: two forward zones that overlap, or a backward zone within a
//! forward one.

/// A cluster's zone; `of` is the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone {
    /// The earliest end of an operation of it.
    pub first_end: u64,
    /// The latest beginning of one.
    pub last_start: u64,
    pub of: usize,
}

impl Zone {
    fn is_forward(&self) -> bool {
        self.first_end < self.last_start
    }

    fn excludes(&self, other: &Zone) -> bool {
        self.first_end < other.last_start && other.first_end < self.last_start
    }
}

/// Pairs of clusters that exclude each other; at least one, if there is any.
pub fn conflicts(zones: &[Zone]) -> Vec<(usize, usize)> {
    let (mut forward, backward): (Vec<Zone>, Vec<Zone>) = zones.iter().partition(|zone| zone.is_forward());
    forward.sort_by_key(|zone| (zone.first_end, zone.last_start));
    let mut found = vec![];
    // The forward zone so far that reaches furthest.
    let mut furthest: Option<Zone> = None;
    let mut reach = Vec::with_capacity(forward.len());
    for zone in &forward {
        if let Some(before) = furthest.filter(|before| before.excludes(zone)) {
            found.push((before.of, zone.of));
        }
        if furthest.is_none_or(|before| before.last_start < zone.last_start) {
            furthest = Some(*zone);
        }
        reach.extend(furthest);
    }
    for zone in &backward {
        let begun = forward.partition_point(|forward| forward.first_end < zone.last_start);
        if let Some(around) = begun.checked_sub(1).map(|last| reach[last]).filter(|around| around.excludes(zone)) {
            found.push((around.of, zone.of));
        }
    }
    found
}
