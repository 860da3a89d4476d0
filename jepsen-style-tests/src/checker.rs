//! Holds what a client was told against the log read back after the cluster healed. Pure.
//!
//! Every value sent is unique, so a value names its operation. Three outcomes: acknowledged,
//! refused (certainly no effect) and unknown; what is not known to be one of the first two is the
//! third, and for it both "in the log" and "not in the log" are right.

use std::{collections::HashMap, fmt};

/// How a produce ended, as its client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged: must be in the log, at this offset, for ever.
    Acked { offset: i64 },
    /// Refused before it took effect: must never be in the log.
    Refused,
    /// Timed out or lost its connection.
    Unknown,
}

/// One record as it was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    pub key: String,
    pub value: String,
    pub outcome: Outcome,
}

/// One record as it was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub offset: i64,
    pub key: String,
    pub value: String,
}

/// One partition's run.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub partition: u32,
    /// The first offset that must be readable.
    pub log_start: i64,
    /// One list a producer, each in the order sent.
    pub producers: Vec<Vec<Sent>>,
    /// In the order read.
    pub log: Vec<Read>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Acknowledged at or after the log start, and not in the log.
    Lost { value: String, offset: i64 },
    /// Twice in the log.
    Duplicate { value: String, offsets: [i64; 2] },
    /// Acknowledged at one offset, found at another.
    Moved { value: String, acked: i64, found: i64 },
    /// Refused, yet in the log.
    Phantom { value: String, found: i64 },
    /// In the log, and nobody sent it (or not with this key).
    Stranger { value: String, found: i64 },
    /// Two records of one producer and key stand in the log against the order sent.
    Reordered { key: String, first: String, second: String },
    /// Offsets are not dense from the log start.
    Gap { expected: i64, found: i64 },
    /// Two replicas hold different entries at one index.
    Diverged { index: u64, entries: [String; 2] },
    /// The run acknowledged nothing, so it proved nothing.
    NothingAcked,
    /// The run injected no fault, so it proved nothing about faults.
    NoFault,
    /// Replicas had no entry in common, so comparing them proved nothing.
    NothingCompared,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Lost { value, offset } => write!(f, "lost: {value} was acknowledged at {offset}, is not there"),
            Violation::Duplicate { value, offsets: [a, b] } => write!(f, "duplicate: {value} is at {a} and {b}"),
            Violation::Moved { value, acked, found } => {
                write!(f, "moved: {value} acknowledged at {acked}, is at {found}")
            }
            Violation::Phantom { value, found } => write!(f, "phantom: {value} was refused, is at {found}"),
            Violation::Stranger { value, found } => write!(f, "stranger: nobody sent {value}, it is at {found}"),
            Violation::Reordered { key, first, second } => {
                write!(f, "reordered: key {key}: {first} was sent before {second} and stands after it")
            }
            Violation::Gap { expected, found } => write!(f, "gap: expected offset {expected}, found {found}"),
            Violation::Diverged { index, entries: [a, b] } => write!(f, "diverged: index {index}: {a} and {b}"),
            Violation::NothingAcked => write!(f, "vacuous: nothing was acknowledged"),
            Violation::NoFault => write!(f, "vacuous: no fault was injected"),
            Violation::NothingCompared => write!(f, "vacuous: the replicas have no entry in common"),
        }
    }
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub sent: usize,
    pub acked: usize,
    pub unknown: usize,
    pub read: usize,
    pub violations: Vec<Violation>,
}

impl Summary {
    #[track_caller]
    pub fn assert_valid(&self) {
        const SHOWN_MAX: usize = 20;
        let shown: Vec<String> = self.violations.iter().take(SHOWN_MAX).map(Violation::to_string).collect();
        assert!(
            self.violations.is_empty(),
            "invalid: {} violations ({} sent, {} acked, {} read)\n  {}",
            self.violations.len(),
            self.sent,
            self.acked,
            self.read,
            shown.join("\n  ")
        );
    }
}

/// Holds a whole run against its logs. `faults`: how many were injected, or none if the run was
/// meant to be free of them.
pub fn check_run(histories: &[History], faults: Option<usize>) -> Summary {
    let mut summary = Summary::default();
    for history in histories {
        for sent in history.producers.iter().flatten() {
            summary.sent += 1;
            summary.acked += usize::from(matches!(sent.outcome, Outcome::Acked { .. }));
            summary.unknown += usize::from(sent.outcome == Outcome::Unknown);
        }
        summary.read += history.log.len();
        summary.violations.extend(check_log(history));
    }
    if summary.acked == 0 {
        summary.violations.push(Violation::NothingAcked);
    }
    if faults == Some(0) {
        summary.violations.push(Violation::NoFault);
    }
    summary
}

/// Holds one partition's history against its log.
pub fn check_log(history: &History) -> Vec<Violation> {
    let mut violations = vec![];
    let mut expected = history.log_start;
    let mut found: HashMap<&str, &Read> = HashMap::with_capacity(history.log.len());
    for read in &history.log {
        if read.offset != expected {
            violations.push(Violation::Gap { expected, found: read.offset });
        }
        expected = read.offset + 1;
        if let Some(first) = found.insert(&read.value, read) {
            let offsets = [first.offset, read.offset];
            violations.push(Violation::Duplicate { value: read.value.clone(), offsets });
        }
    }
    for producer in &history.producers {
        check_producer(producer, history.log_start, &mut found, &mut violations);
    }
    // What is left over, nobody sent.
    let mut strangers: Vec<&Read> = found.into_values().collect();
    strangers.sort_by_key(|read| read.offset);
    let stranger = |read: &Read| Violation::Stranger { value: read.value.clone(), found: read.offset };
    violations.extend(strangers.into_iter().map(stranger));
    violations
}

/// Takes this producer's records out of `found`.
fn check_producer(
    producer: &[Sent],
    log_start: i64,
    found: &mut HashMap<&str, &Read>,
    violations: &mut Vec<Violation>,
) {
    // Of each key, the last record that is in the log.
    let mut last: HashMap<&str, (i64, &str)> = HashMap::new();
    for sent in producer {
        let read = found.remove(sent.value.as_str());
        let value = || sent.value.clone();
        if let Some(read) = read {
            if read.key != sent.key {
                violations.push(Violation::Stranger { value: value(), found: read.offset });
            }
            if let Some((offset, first)) = last.insert(&sent.key, (read.offset, &sent.value))
                && offset > read.offset
            {
                let (key, first) = (sent.key.clone(), first.to_string());
                violations.push(Violation::Reordered { key, first, second: value() });
            }
        }
        match (sent.outcome, read.map(|read| read.offset)) {
            (Outcome::Acked { offset }, Some(found)) if found != offset => {
                violations.push(Violation::Moved { value: value(), acked: offset, found });
            }
            // Below the log start it was trimmed.
            (Outcome::Acked { offset }, None) if offset >= log_start => {
                violations.push(Violation::Lost { value: value(), offset });
            }
            (Outcome::Refused, Some(found)) => violations.push(Violation::Phantom { value: value(), found }),
            (Outcome::Acked { .. }, _) | (Outcome::Refused, None) | (Outcome::Unknown, _) => {}
        }
    }
}

/// One entry of a replica's committed log: its index, and everything about it in words.
pub type DumpedEntry = (u64, String);

/// Holds the committed logs of one partition's replicas against each other: where two have an
/// entry at the same index, it is the same entry. A replica may have less at either end.
pub fn check_replicas(replicas: &[Vec<DumpedEntry>]) -> Vec<Violation> {
    let mut violations = vec![];
    let mut known: HashMap<u64, &str> = HashMap::new();
    let mut compared = 0;
    for (index, entry) in replicas.iter().flatten() {
        match known.get(index) {
            Some(first) if *first != entry => {
                let entries = [first.to_string(), entry.clone()];
                violations.push(Violation::Diverged { index: *index, entries });
            }
            Some(_) => compared += 1,
            None => {
                known.insert(*index, entry);
            }
        }
    }
    if compared == 0 && violations.is_empty() {
        violations.push(Violation::NothingCompared);
    }
    violations
}

/// A checker that never fired proves nothing: each violation has a history that must trip it.
#[cfg(test)]
mod tests {
    use super::*;

    fn sent(key: &str, value: &str, outcome: Outcome) -> Sent {
        Sent { key: key.into(), value: value.into(), outcome }
    }

    fn acked(key: &str, value: &str, offset: i64) -> Sent {
        sent(key, value, Outcome::Acked { offset })
    }

    fn log(values: &[(i64, &str, &str)]) -> Vec<Read> {
        let read = |&(offset, key, value): &(i64, &str, &str)| Read { offset, key: key.into(), value: value.into() };
        values.iter().map(read).collect()
    }

    fn check(producer: Vec<Sent>, values: &[(i64, &str, &str)]) -> Vec<Violation> {
        check_log(&History { producers: vec![producer], log: log(values), ..History::default() })
    }

    #[test]
    fn a_clean_history_is_valid() {
        let producer = vec![
            acked("k", "a", 0),
            sent("k", "b", Outcome::Unknown),
            sent("k", "c", Outcome::Unknown),
            sent("k", "d", Outcome::Refused),
            acked("j", "e", 2),
        ];
        assert_eq!(check(producer, &[(0, "k", "a"), (1, "k", "c"), (2, "j", "e")]), []);
    }

    #[test]
    fn a_lost_record_is_caught() {
        let lost = Violation::Lost { value: "b".into(), offset: 1 };
        assert_eq!(check(vec![acked("k", "a", 0), acked("k", "b", 1)], &[(0, "k", "a")]), [lost]);
    }

    #[test]
    fn a_trimmed_record_is_not_lost() {
        let producers = vec![vec![acked("k", "a", 0), acked("k", "b", 1)]];
        let history = History { log_start: 1, producers, log: log(&[(1, "k", "b")]), ..History::default() };
        assert_eq!(check_log(&history), []);
    }

    #[test]
    fn a_duplicate_is_caught() {
        let found = check(vec![acked("k", "a", 0)], &[(0, "k", "a"), (1, "k", "a")]);
        assert!(found.contains(&Violation::Duplicate { value: "a".into(), offsets: [0, 1] }), "{found:?}");
    }

    #[test]
    fn a_moved_record_is_caught() {
        let found = check(vec![acked("k", "a", 1), acked("j", "b", 0)], &[(0, "k", "a"), (1, "j", "b")]);
        assert!(found.contains(&Violation::Moved { value: "a".into(), acked: 1, found: 0 }), "{found:?}");
    }

    #[test]
    fn a_phantom_is_caught() {
        let phantom = Violation::Phantom { value: "a".into(), found: 0 };
        assert_eq!(check(vec![sent("k", "a", Outcome::Refused)], &[(0, "k", "a")]), [phantom]);
    }

    #[test]
    fn a_stranger_and_a_changed_key_are_caught() {
        let stranger = |value: &str| Violation::Stranger { value: value.into(), found: 0 };
        assert_eq!(check(vec![], &[(0, "k", "x")]), [stranger("x")]);
        assert_eq!(check(vec![acked("k", "a", 0)], &[(0, "j", "a")]), [stranger("a")]);
    }

    #[test]
    fn records_of_a_key_out_of_order_are_caught() {
        let unknown = |value| sent("k", value, Outcome::Unknown);
        let reordered = Violation::Reordered { key: "k".into(), first: "a".into(), second: "b".into() };
        assert_eq!(check(vec![unknown("a"), unknown("b")], &[(0, "k", "b"), (1, "k", "a")]), [reordered]);
        // Two keys, or two producers, have no order between them.
        let two = vec![sent("k", "a", Outcome::Unknown), sent("j", "b", Outcome::Unknown)];
        assert_eq!(check(two, &[(0, "j", "b"), (1, "k", "a")]), []);
        let producers = vec![vec![unknown("a")], vec![unknown("b")]];
        let log = log(&[(0, "k", "b"), (1, "k", "a")]);
        assert_eq!(check_log(&History { producers, log, ..History::default() }), []);
    }

    #[test]
    fn offsets_that_are_not_dense_are_caught() {
        let found = check(vec![acked("k", "a", 0), acked("k", "b", 2)], &[(0, "k", "a"), (2, "k", "b")]);
        assert_eq!(found, [Violation::Gap { expected: 1, found: 2 }]);
        let found = check(vec![acked("k", "a", 1)], &[(1, "k", "a")]);
        assert_eq!(found, [Violation::Gap { expected: 0, found: 1 }]);
    }

    #[test]
    fn diverging_replicas_are_caught() {
        let entry = |index: u64, words: &str| (index, words.to_string());
        let one = vec![entry(1, "t1"), entry(2, "t1"), entry(3, "t2")];
        assert_eq!(check_replicas(&[one.clone(), one[1..].to_vec(), one[..2].to_vec()]), []);
        let other = vec![entry(2, "t1"), entry(3, "t3")];
        let entries = ["t2".to_string(), "t3".to_string()];
        assert_eq!(check_replicas(&[one.clone(), other]), [Violation::Diverged { index: 3, entries }]);
        assert_eq!(check_replicas(&[one, vec![]]), [Violation::NothingCompared]);
    }

    #[test]
    fn vacuous_runs_are_rejected() {
        let clean =
            History { producers: vec![vec![acked("k", "a", 0)]], log: log(&[(0, "k", "a")]), ..History::default() };
        assert_eq!(check_run(std::slice::from_ref(&clean), Some(1)).violations, []);
        assert_eq!(check_run(std::slice::from_ref(&clean), None).violations, []);
        assert_eq!(check_run(&[clean], Some(0)).violations, [Violation::NoFault]);
        let unknown = History { producers: vec![vec![sent("k", "a", Outcome::Unknown)]], ..History::default() };
        assert_eq!(check_run(&[unknown], Some(1)).violations, [Violation::NothingAcked]);
    }

    /// Any single damage to a long clean history is seen.
    #[test]
    fn mutations_of_a_clean_history_are_caught() {
        const RECORDS: i64 = 10_000;
        let value = |n: i64| format!("v{n}");
        let producer: Vec<Sent> = (0..RECORDS).map(|n| acked("k", &value(n), n)).collect();
        let clean: Vec<Read> = (0..RECORDS).map(|n| Read { offset: n, key: "k".into(), value: value(n) }).collect();
        let violations =
            |log: Vec<Read>| check_log(&History { producers: vec![producer.clone()], log, ..History::default() }).len();
        assert_eq!(violations(clean.clone()), 0);
        let mut random = crate::random::Random::seeded(1);
        for _ in 0..20 {
            let at = random.below(RECORDS as u64 - 1) as usize;
            let mut dropped = clean.clone();
            dropped.remove(at);
            assert!(violations(dropped) > 0, "dropped {at}");
            let mut doubled = clean.clone();
            doubled.insert(at, clean[at].clone());
            assert!(violations(doubled) > 0, "doubled {at}");
            let mut swapped = clean.clone();
            (swapped[at].value, swapped[at + 1].value) = (value(at as i64 + 1), value(at as i64));
            assert!(violations(swapped) > 0, "swapped {at}");
            let mut changed = clean.clone();
            changed[at].value.push('x');
            assert!(violations(changed) > 0, "changed {at}");
        }
    }
}
