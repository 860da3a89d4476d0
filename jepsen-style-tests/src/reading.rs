//! Holds what the consumers of a group printed, one after another, against "at least once": nothing left out,
//! and repeated only what was not committed. Pure.

use std::{collections::BTreeMap, fmt};

use crate::consumer::Line;

pub type Partition = (String, u32);

/// One consumer from its start to its end, the only member of its group.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// In the order printed.
    pub lines: Vec<Line>,
    /// What the group is known to have committed after it had ended: the next offset to read. Absent: nothing.
    pub committed: BTreeMap<Partition, i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Records between what was printed and this one were left out.
    LeftOut { run: usize, partition: Partition, expected: i64, found: i64 },
    /// Something below the last commit was printed again.
    RepeatedCommitted { run: usize, partition: Partition, committed: i64, found: i64 },
    /// Within one run the offsets of a partition are not dense.
    NotInOrder { run: usize, partition: Partition, expected: i64, found: i64 },
    /// More was committed than was printed.
    CommittedUnprinted { run: usize, partition: Partition, committed: i64, printed: i64 },
    /// A commit went back.
    WentBack { run: usize, partition: Partition, from: i64, to: Option<i64> },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// How far a series of runs got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The next offset after the highest printed.
    pub printed: BTreeMap<Partition, i64>,
    pub committed: BTreeMap<Partition, i64>,
    /// Lines that had been printed by an earlier run.
    pub repeats: usize,
    pub faults: Vec<Fault>,
}

impl Progress {
    #[track_caller]
    pub fn assert_valid(&self) {
        let shown: Vec<String> = self.faults.iter().take(20).map(Fault::to_string).collect();
        assert!(self.faults.is_empty(), "{} faults\n  {}", self.faults.len(), shown.join("\n  "));
    }
}

/// Partitions begin at offset 0.
pub fn check_runs(runs: &[Run]) -> Progress {
    let mut progress = Progress::default();
    for (number, run) in runs.iter().enumerate() {
        progress.take(number, run);
    }
    progress
}

impl Progress {
    fn take(&mut self, run: usize, Run { lines, committed }: &Run) {
        // The next offset of each partition in this run.
        let mut next: BTreeMap<Partition, i64> = BTreeMap::new();
        for line in lines {
            let partition = (line.topic.clone(), line.partition);
            let found = line.offset;
            let printed = self.printed.get(&partition).copied().unwrap_or(0);
            match next.get(&partition).copied() {
                Some(expected) if found != expected => {
                    self.faults.push(Fault::NotInOrder { run, partition: partition.clone(), expected, found });
                }
                Some(_) => {}
                None => self.check_first(run, &partition, printed, found),
            }
            self.repeats += usize::from(found < printed);
            self.printed.insert(partition.clone(), printed.max(found + 1));
            next.insert(partition, found + 1);
        }
        for (partition, &committed) in committed {
            let printed = self.printed.get(partition).copied().unwrap_or(0);
            if committed > printed {
                self.faults.push(Fault::CommittedUnprinted { run, partition: partition.clone(), committed, printed });
            }
        }
        for (partition, &from) in &self.committed {
            let to = committed.get(partition).copied();
            if to.is_none_or(|to| to < from) {
                self.faults.push(Fault::WentBack { run, partition: partition.clone(), from, to });
            }
        }
        self.committed = committed.clone();
    }

    fn check_first(&mut self, run: usize, partition: &Partition, printed: i64, found: i64) {
        let committed = self.committed.get(partition).copied().unwrap_or(0);
        let partition = partition.clone();
        if found > printed {
            self.faults.push(Fault::LeftOut { run, partition, expected: printed, found });
        } else if found < committed {
            self.faults.push(Fault::RepeatedCommitted { run, partition, committed, found });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn run(offsets: &[i64], committed: Option<i64>) -> Run {
        let line = |offset: &i64| Line {
            topic: "t".into(),
            partition: 0,
            offset: *offset,
            key: "k".into(),
            value: "v".into(),
            at: Instant::now(),
        };
        let committed = committed.map(|offset| (("t".to_string(), 0), offset));
        Run { lines: offsets.iter().map(line).collect(), committed: committed.into_iter().collect() }
    }

    #[test]
    fn at_least_once_is_accepted() {
        let progress =
            check_runs(&[run(&[0, 1, 2], Some(1)), run(&[], Some(1)), run(&[1, 2, 3], Some(4)), run(&[4], Some(5))]);
        progress.assert_valid();
        assert_eq!((progress.repeats, progress.printed[&("t".to_string(), 0)]), (2, 5));
        check_runs(&[run(&[0, 1], None), run(&[0, 1], Some(2))]).assert_valid();
    }

    #[test]
    fn each_fault_is_seen() {
        let partition = || ("t".to_string(), 0);
        let faults = |runs: &[Run]| check_runs(runs).faults;
        assert_eq!(
            faults(&[run(&[0, 1], Some(2)), run(&[3], Some(4))]),
            [Fault::LeftOut { run: 1, partition: partition(), expected: 2, found: 3 }]
        );
        assert_eq!(
            faults(&[run(&[1], None)]),
            [Fault::LeftOut { run: 0, partition: partition(), expected: 0, found: 1 }]
        );
        assert_eq!(
            faults(&[run(&[0, 1], Some(2)), run(&[1, 2], Some(3))]),
            [Fault::RepeatedCommitted { run: 1, partition: partition(), committed: 2, found: 1 }]
        );
        assert_eq!(
            faults(&[run(&[0, 2], None)]),
            [Fault::NotInOrder { run: 0, partition: partition(), expected: 1, found: 2 }]
        );
        assert_eq!(
            faults(&[run(&[0, 1], Some(3))]),
            [Fault::CommittedUnprinted { run: 0, partition: partition(), committed: 3, printed: 2 }]
        );
        assert_eq!(
            faults(&[run(&[0, 1], Some(2)), run(&[], Some(1))]),
            [Fault::WentBack { run: 1, partition: partition(), from: 2, to: Some(1) }]
        );
        assert_eq!(
            faults(&[run(&[0, 1], Some(2)), run(&[], None)]),
            [Fault::WentBack { run: 1, partition: partition(), from: 2, to: None }]
        );
    }
}
