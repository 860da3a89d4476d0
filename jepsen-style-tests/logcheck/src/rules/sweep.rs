//! What was known before an operation began: one pass over time for all keys.

/// Somebody learned of `value` at `at`: an answer came that says so.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub at: u64,
    pub value: i64,
    pub key: u32,
    /// Whatever tells the caller who.
    pub who: u32,
}

/// An operation that began at `at` showed `value`.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    pub at: u64,
    pub value: i64,
    pub key: u32,
    pub who: u32,
}

/// Calls `each` for everything shown, with the highest value of its key that was known strictly before. Nothing, where
/// nothing was known. `keys`: no key is as high as that.
pub fn floors(keys: usize, mut known: Vec<Known>, mut shown: Vec<Shown>, mut each: impl FnMut(&Shown, &Known)) {
    // Workers record in order of time, so both are a few sorted runs: what a merging sort is best at.
    known.sort_by_key(|known| known.at);
    shown.sort_by_key(|shown| shown.at);
    let mut highest: Vec<Option<Known>> = vec![None; keys];
    let mut known = known.iter().peekable();
    for shown in &shown {
        while let Some(known) = known.next_if(|known| known.at < shown.at) {
            let highest = &mut highest[known.key as usize];
            if highest.is_none_or(|highest| highest.value < known.value) {
                *highest = Some(*known);
            }
        }
        if let Some(highest) = &highest[shown.key as usize] {
            each(shown, highest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_known_strictly_before_counts() {
        let known = |at, key, value| Known { at, key, value, who: 0 };
        let shown = |at, key| Shown { at, key, value: 0, who: 0 };
        let mut found = vec![];
        let (knowns, showns) = (
            vec![known(5, 0, 7), known(3, 0, 9), known(1, 1, 2)],
            vec![shown(3, 0), shown(4, 0), shown(9, 0), shown(2, 1)],
        );
        floors(2, knowns, showns, |shown, known| found.push((shown.at, shown.key, known.value)));
        assert_eq!(found, [(2, 1, 2), (4, 0, 9), (9, 0, 9)]);
    }
}
