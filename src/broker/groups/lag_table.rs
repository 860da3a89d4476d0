//! The figures of lag that were taken last, and what is worth saying about them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use super::{
    beyond::{self, BeyondEnd},
    limits,
};
use crate::metrics::LagSample;

/// The latest figures of the partitions led here.
#[derive(Default)]
pub struct LagTable {
    pub samples: Mutex<Arc<Vec<LagSample>>>,
    pub beyond: Mutex<Vec<BeyondEnd>>,
}

impl LagTable {
    pub fn latest(&self) -> Arc<Vec<LagSample>> {
        Arc::clone(&self.samples.lock().expect("no code that holds this lock panics"))
    }

    /// The sentences that a health report has about it.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.threats();
        notes.extend(beyond::notes(&self.beyond.lock().expect("no code that holds this lock panics")));
        notes
    }

    /// Which groups are about to lose what they have not read.
    fn threats(&self) -> Vec<String> {
        let mut threatened: BTreeMap<(&str, &str), Vec<i32>> = BTreeMap::new();
        let samples = self.latest();
        for sample in samples.iter().filter(|sample| sample.retention_threatens) {
            threatened.entry((&sample.group, &sample.topic)).or_default().push(sample.partition);
        }
        let total = threatened.len();
        let notes = threatened.into_iter().take(limits::NOTES_MAX).map(|((group, topic), partitions)| {
            format!(
                "retention will soon delete records of {topic} that group {group:?} has not read, in {}",
                named(&partitions)
            )
        });
        let mut notes: Vec<String> = notes.collect();
        if total > notes.len() {
            notes.push(format!(
                "and {} more groups and topics whose unread records retention threatens",
                total - notes.len()
            ));
        }
        notes
    }
}

/// "partition 3", "partitions 3, 4 and 9 more".
fn named(partitions: &[i32]) -> String {
    let named: Vec<String> = partitions.iter().take(limits::NOTE_PARTITIONS_MAX).map(i32::to_string).collect();
    let noun = if partitions.len() == 1 { "partition" } else { "partitions" };
    match partitions.len() - named.len() {
        0 => format!("{noun} {}", named.join(", ")),
        more => format!("{noun} {} and {more} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_name_the_threatened_and_count_the_rest() {
        let sample = |group: usize, partition, retention_threatens| LagSample {
            group: format!("g{group:02}"),
            topic: "t".into(),
            partition,
            records: 5,
            age_ms: None,
            retention_threatens,
        };
        let table = LagTable::default();
        let mut samples: Vec<LagSample> = (0..limits::NOTES_MAX + 2).map(|group| sample(group, 0, true)).collect();
        samples.push(sample(0, 3, true));
        samples.extend((1..=limits::NOTE_PARTITIONS_MAX as i32 + 2).map(|partition| sample(1, partition, true)));
        samples.push(sample(99, 0, false));
        *table.samples.lock().unwrap() = Arc::new(samples);
        let notes = table.notes();
        assert_eq!(notes.len(), limits::NOTES_MAX + 1);
        assert!(notes[0].contains("\"g00\"") && notes[0].ends_with(" in partitions 0, 3"), "{}", notes[0]);
        assert!(notes[1].contains(" in partitions 0, 1, ") && notes[1].ends_with(" and 3 more"), "{}", notes[1]);
        assert!(notes[2].ends_with(" in partition 0"), "{}", notes[2]);
        assert!(notes.last().unwrap().contains("2 more"));
    }
}
