//! Committed offsets beyond the end of their partitions: set so by hand, or the records were lost. Whoever reads from
//! there begins where its offset reset says, which is seldom what was meant.

use super::limits;
use crate::types::{GroupName, Offset, TopicPartition};

/// One of them, in a partition that is led here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeyondEnd {
    pub group: GroupName,
    pub at: TopicPartition,
    pub committed: Offset,
    pub end: Offset,
}

/// The sentences that a health report has about it.
pub fn notes(found: &[BeyondEnd]) -> Vec<String> {
    let named = found.iter().take(limits::NOTES_MAX).map(|BeyondEnd { group, at, committed, end }| {
        format!(
            "group {group:?} has committed offset {committed} of {at}, beyond its end, {end}: its reader begins by its \
             offset reset"
        )
    });
    let mut notes: Vec<String> = named.collect();
    let more = found.len() - notes.len();
    if more > 0 {
        notes.push(format!("and {more} more committed offsets beyond the end of their partitions"));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::PartitionId;

    #[test]
    fn the_first_are_named_and_the_rest_is_counted() {
        let at = TopicPartition { topic: "t".into(), partition: PartitionId(3) };
        let one = BeyondEnd { group: "g".into(), at, committed: Offset(1_000), end: Offset(7) };
        assert_eq!(
            notes(std::slice::from_ref(&one)),
            ["group \"g\" has committed offset 1000 of t-3, beyond its end, 7: its reader begins by its offset reset"]
        );
        let many = notes(&vec![one; limits::NOTES_MAX + 2]);
        assert_eq!(many.len(), limits::NOTES_MAX + 1);
        assert!(many.last().expect("a last one").starts_with("and 2 more"), "{many:?}");
    }
}
