//! What a history must be: nothing acknowledged is lost, moved or doubled, offsets are dense, nothing
//! is there that nobody sent, and all replicas committed the same log. Pure; shown wrong histories.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acked {
    pub partition: i32,
    pub value: u64,
    pub offset: i64,
    /// Of the Raft entry that holds it.
    pub index: u64,
}

/// An entry of a committed log, as far as it must be the same everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    pub term: u64,
    pub index: u64,
    pub payload: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
pub struct History {
    /// Values handed to the cluster, acknowledged or not.
    pub sent: BTreeSet<(i32, u64)>,
    pub acked: Vec<Acked>,
    /// At the end, per partition: offset and value of every record, in the order read.
    pub read: BTreeMap<i32, Vec<(i64, u64)>>,
    /// At the end, per partition and node: all that the node knows to be committed, and has not purged.
    pub logs: BTreeMap<i32, BTreeMap<u64, Vec<Logged>>>,
    /// Per partition that was trimmed: the first offset that may be the first at the end, and the last.
    pub trims: BTreeMap<i32, (i64, i64)>,
}

impl History {
    /// What of it is about one partition.
    pub fn only(&self, partition: i32) -> History {
        let of = |of: &(&i32, &Vec<(i64, u64)>)| *of.0 == partition;
        History {
            sent: self.sent.iter().copied().filter(|(of, _)| *of == partition).collect(),
            acked: self.acked.iter().copied().filter(|acked| acked.partition == partition).collect(),
            read: self.read.iter().filter(of).map(|(of, read)| (*of, read.clone())).collect(),
            logs: self.logs.get(&partition).map(|logs| (partition, logs.clone())).into_iter().collect(),
            trims: self.trims.get(&partition).map(|trims| (partition, *trims)).into_iter().collect(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anomaly {
    /// Acknowledged, and not there.
    Lost(Acked),
    /// Acknowledged at one offset, found at another.
    Moved {
        acked: Acked,
        found: i64,
    },
    Twice {
        partition: i32,
        value: u64,
        offsets: Vec<i64>,
    },
    /// The record after the last one does not have the next offset.
    NotDense {
        partition: i32,
        expected: i64,
        found: i64,
    },
    NeverSent {
        partition: i32,
        value: u64,
    },
    /// The log begins where no trim could have let it begin.
    WrongStart {
        partition: i32,
        found: i64,
        trimmed: (i64, i64),
    },
    /// One node's committed log lacks an acknowledged entry, or is not there at all.
    Behind {
        partition: i32,
        node: u64,
        committed: Option<u64>,
        acked: u64,
    },
    LogsDiffer {
        partition: i32,
        nodes: (u64, u64),
        index: u64,
    },
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

pub fn check(history: &History, nodes: &[u64]) -> Vec<Anomaly> {
    let mut found = vec![];
    let mut places: BTreeMap<(i32, u64), Vec<i64>> = BTreeMap::new();
    for (&partition, records) in &history.read {
        let trimmed = history.trims.get(&partition).copied().unwrap_or_default();
        // Of an empty log nobody says where it begins.
        let start = records.first().map_or(trimmed.1, |(offset, _)| *offset);
        if !(trimmed.0..=trimmed.1).contains(&start) {
            found.push(Anomaly::WrongStart { partition, found: start, trimmed });
        }
        for (expected, &(offset, _)) in (start.min(trimmed.1)..).zip(records) {
            if offset != expected {
                found.push(Anomaly::NotDense { partition, expected, found: offset });
                break;
            }
        }
        for &(offset, value) in records {
            places.entry((partition, value)).or_default().push(offset);
        }
    }
    for (&(partition, value), offsets) in &places {
        if offsets.len() > 1 {
            found.push(Anomaly::Twice { partition, value, offsets: offsets.clone() });
        }
        if !history.sent.contains(&(partition, value)) {
            found.push(Anomaly::NeverSent { partition, value });
        }
    }
    for &acked in &history.acked {
        let records = history.read.get(&acked.partition).map(Vec::as_slice).unwrap_or_default();
        let start = match (records.first(), history.trims.get(&acked.partition)) {
            (Some((start, _)), Some((_, last))) => *start.min(last),
            (None, Some((_, last))) => *last,
            (_, None) => 0,
        };
        match places.get(&(acked.partition, acked.value)) {
            None if acked.offset < start => {}
            None => found.push(Anomaly::Lost(acked)),
            Some(offsets) if !offsets.contains(&acked.offset) => {
                found.push(Anomaly::Moved { acked, found: offsets[0] });
            }
            Some(_) => {}
        }
    }
    for (&partition, logs) in &history.logs {
        check_logs(history, partition, logs, nodes, &mut found);
    }
    found
}

fn check_logs(
    history: &History,
    partition: i32,
    logs: &BTreeMap<u64, Vec<Logged>>,
    nodes: &[u64],
    found: &mut Vec<Anomaly>,
) {
    let acked = history.acked.iter().filter(|acked| acked.partition == partition).map(|acked| acked.index).max();
    let acked = acked.unwrap_or(0);
    let of = |node: &u64| logs.get(node).map(Vec::as_slice).unwrap_or_default();
    for node in nodes {
        let committed = of(node).last().map(|entry| entry.index);
        if committed.is_none_or(|committed| committed < acked) {
            found.push(Anomaly::Behind { partition, node: *node, committed, acked });
        }
    }
    let Some((first, rest)) = nodes.split_first() else { return };
    for node in rest {
        // What one of them has purged cannot be compared.
        let start = |node| of(node).first().map_or(0, |entry: &Logged| entry.index);
        let from = start(first).max(start(node));
        let rest_of = |node| of(node).iter().filter(move |entry| entry.index >= from);
        let differ = rest_of(first).zip(rest_of(node)).find(|(a, b)| a != b);
        if let Some((entry, _)) = differ {
            found.push(Anomaly::LogsDiffer { partition, nodes: (*first, *node), index: entry.index });
        }
    }
}

/// Each anomaly has a history that shows it, one step from one that is right.
pub fn rejects_planted_histories() {
    let acked = |value, offset| Acked { partition: 0, value, offset, index: offset as u64 + 1 };
    let log: Vec<Logged> = (0..4).map(|index| Logged { term: 1, index, payload: vec![index as u8] }).collect();
    let right = History {
        sent: [(0, 10), (0, 11), (0, 12)].into(),
        acked: vec![acked(10, 0), acked(12, 2)],
        read: [(0, vec![(0, 10), (1, 11), (2, 12)])].into(),
        logs: [(0, NODES.iter().map(|node| (*node, log.clone())).collect())].into(),
        trims: BTreeMap::new(),
    };
    assert_eq!(check(&right, &NODES), []);
    planted_reads(&right);
    planted_logs(&right);
    planted_trims(&right);
}

/// Trimmed before 1 for certain, and maybe before 2.
fn planted_trims(right: &History) {
    let trimmed = History { trims: [(0, (1, 2))].into(), ..right.clone() };
    let read = |records: &[(i64, u64)]| History { read: [(0, records.to_vec())].into(), ..trimmed.clone() };
    for begins in [&[(1, 11), (2, 12)][..], &[(2, 12)]] {
        assert_eq!(check(&read(begins), &NODES), []);
    }
    let rejects = |what: &str, records: &[(i64, u64)], wanted: fn(&Anomaly) -> bool| {
        let found = check(&read(records), &NODES);
        assert!(found.iter().any(wanted), "{what}: {found:?}");
    };
    let untrimmed = [(0, 10), (1, 11), (2, 12)];
    rejects("a trim undone", &untrimmed, |found| matches!(found, Anomaly::WrongStart { found: 0, .. }));
    rejects("the rest lost", &[], |found| matches!(found, Anomaly::Lost(acked) if acked.value == 12));
    rejects("lost after the start", &[(1, 11)], |found| matches!(found, Anomaly::Lost(acked) if acked.value == 12));
    rejects("a gap", &[(1, 11), (3, 12)], |found| matches!(found, Anomaly::NotDense { expected: 2, .. }));
    let mut purged = trimmed.clone();
    purged.logs.get_mut(&0).expect("it has logs").get_mut(&2).expect("it has a log").drain(..2);
    assert_eq!(check(&History { read: [(0, vec![(2, 12)])].into(), ..purged.clone() }, &NODES), []);
    purged.logs.get_mut(&0).expect("it has logs").get_mut(&2).expect("it has a log")[0].term = 9;
    let found = check(&purged, &NODES);
    assert!(found.iter().any(|found| matches!(found, Anomaly::LogsDiffer { index: 2, .. })), "{found:?}");
}

const NODES: [u64; 3] = [1, 2, 3];

fn rejects(right: &History, what: &str, change: impl FnOnce(&mut History), wanted: fn(&Anomaly) -> bool) {
    let mut wrong = right.clone();
    change(&mut wrong);
    let found = check(&wrong, &NODES);
    assert!(found.iter().any(wanted), "{what}: {found:?}");
}

fn planted_reads(right: &History) {
    let read = |what, records: &[(i64, u64)], wanted| {
        rejects(right, what, |history| drop(history.read.insert(0, records.to_vec())), wanted);
    };
    read("lost", &[(0, 10), (1, 11)], |found| matches!(found, Anomaly::Lost(acked) if acked.value == 12));
    read("all lost", &[], |found| matches!(found, Anomaly::Lost(acked) if acked.value == 10));
    read("moved", &[(0, 10), (1, 12), (2, 11)], |found| matches!(found, Anomaly::Moved { found: 1, .. }));
    read("a gap", &[(0, 10), (2, 12)], |found| matches!(found, Anomaly::NotDense { expected: 1, .. }));
    let twice = [(0, 10), (1, 11), (2, 12), (3, 10)];
    read("twice", &twice, |found| matches!(found, Anomaly::Twice { value: 10, .. }));
    let invented = [(0, 10), (1, 11), (2, 12), (3, 13)];
    read("never sent", &invented, |found| matches!(found, Anomaly::NeverSent { value: 13, .. }));
}

fn planted_logs(right: &History) {
    let log = |what, node: u64, change: fn(&mut Vec<Logged>), wanted| {
        let change = |history: &mut History| change(history.logs.entry(0).or_default().entry(node).or_default());
        rejects(right, what, change, wanted);
    };
    log("behind", 2, |log| log.truncate(3), |found| matches!(found, Anomaly::Behind { node: 2, .. }));
    log("no log", 3, Vec::clear, |found| matches!(found, Anomaly::Behind { node: 3, committed: None, .. }));
    log("another term", 3, |log| log[1].term = 9, |found| matches!(found, Anomaly::LogsDiffer { index: 1, .. }));
    log("other bytes", 2, |log| log[2].payload[0] = 9, |found| matches!(found, Anomaly::LogsDiffer { index: 2, .. }));
}
