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
    /// At the end, per partition and node: all that the node knows to be committed.
    pub logs: BTreeMap<i32, BTreeMap<u64, Vec<Logged>>>,
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
        for (expected, &(offset, _)) in (0..).zip(records) {
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
        match places.get(&(acked.partition, acked.value)) {
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
        let differ = of(first).iter().zip(of(node)).find(|(a, b)| a != b);
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
    };
    assert_eq!(check(&right, &NODES), []);
    planted_reads(&right);
    planted_logs(&right);
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
