//! Rules of `loss` and `replicas`.

use super::tale::{OK, Tale, marked, run, tale};
use crate::event::{Body, Entry, Phase, Replica, Send, Sent};

#[test]
fn an_acknowledged_value_that_is_not_read_though_later_ones_are() {
    let mut bad = tale();
    bad.all_acked(1, 0, 0, &[10, 11, 12]);
    bad.fetch(2, 0, 0, vec![run(&(0, 0, &[10]))]);
    bad.fetch(2, 0, 2, vec![run(&(0, 2, &[12]))]);
    assert_eq!(bad.broken(), ["lost-write", "unseen"]);
    // What is above every read is unseen, and not yet lost.
    let mut bad = tale();
    bad.all_acked(1, 0, 0, &[10, 11, 12]);
    bad.read(2, &[(0, 0, &[10, 11])]);
    assert_eq!(bad.broken(), ["unseen"]);
    bad.read(2, &[(0, 2, &[12])]);
    bad.is_fine();
}

#[test]
fn what_was_promised_nothing_is_not_missed() {
    for (acks, missed) in [(0, false), (1, true), (-1, true)] {
        let mut tale = tale();
        tale.acked(1, 0, 10, 0);
        let send = Body::Send(Send { key: 0, value: 11, acks, producer: None, batch: None });
        tale.did(1, send, Body::Sent(Sent { offset: Some(1), ..OK }));
        tale.read(2, &[(0, 0, &[10])]);
        assert_eq!(!tale.broken().is_empty(), missed, "acks {acks}");
    }
    // Nor what is not known to be there, nor what failed.
    let mut fine = tale();
    fine.acked(1, 0, 10, 0);
    fine.send(1, 0, 11);
    fine.failed(1, 0, 12);
    fine.read(2, &[(0, 0, &[10])]);
    fine.is_fine();
}

#[test]
fn what_is_trimmed_is_not_missed() {
    let trimmed = |retention| {
        let mut tale = tale();
        tale.meta.promises.retention = retention;
        tale.all_acked(1, 0, 0, &[10, 11, 12]);
        tale.fetch(2, 0, 2, vec![marked((0, 2, &[12]), 3, 2)]);
        tale
    };
    trimmed(true).is_fine();
    assert_eq!(trimmed(false).broken(), ["lost-write", "unseen"]);
}

#[test]
fn a_run_without_final_reads_says_nothing_of_what_is_unseen() {
    let mut fine = tale();
    fine.meta.expects.no_final_reads = true;
    fine.all_acked(1, 0, 0, &[10, 11]);
    fine.read(2, &[(0, 0, &[10])]);
    fine.is_fine();
}

/// Two replicas of key 0 whose logs hold these values, one entry each.
fn dumped(tale: &mut Tale, logs: [&[u64]; 2]) {
    tale.phase = Phase::Final;
    for (node, values) in (1..).zip(logs) {
        for (base_offset, value) in (0i64..).zip(values) {
            let (index, term) = (base_offset as u64 + 1, 1);
            let entry = Entry { node, key: 0, index, term, hash: *value, base_offset, values: vec![*value] };
            tale.begin(0, Body::Entry(entry));
        }
        let committed_index = values.len() as u64;
        let end = Replica { node, key: 0, committed_index, log_start: 0, state_hash: Some(committed_index) };
        tale.begin(0, Body::Replica(end));
    }
}

#[test]
fn an_acknowledged_value_that_is_in_no_log() {
    let logged = |logs| {
        let mut tale = tale();
        tale.meta.expects.no_final_reads = true;
        tale.all_acked(1, 0, 0, &[10, 11]);
        tale.read(2, &[(0, 0, &[10])]);
        dumped(&mut tale, logs);
        tale.broken()
    };
    assert_eq!(logged([&[10], &[10]]), ["lost-tail"]);
    // One replica may be behind.
    assert_eq!(logged([&[10, 11], &[10]]), [] as [&str; 0]);
}

#[test]
fn replicas_that_differ() {
    let logged = |change: fn(&mut Entry), state: Option<u64>| {
        let mut tale = tale();
        tale.all_acked(1, 0, 0, &[10, 11]);
        tale.read(2, &[(0, 0, &[10, 11])]);
        dumped(&mut tale, [&[10, 11], &[10]]);
        let mut entry = Entry { node: 3, key: 0, index: 2, term: 1, hash: 11, base_offset: 1, values: vec![11] };
        change(&mut entry);
        tale.begin(0, Body::Entry(entry));
        tale.begin(0, Body::Replica(Replica { node: 3, key: 0, committed_index: 2, log_start: 0, state_hash: state }));
        tale.broken()
    };
    assert_eq!(logged(|_| {}, Some(2)), [] as [&str; 0]);
    assert_eq!(logged(|entry| entry.term = 2, None), ["replica-divergence"]);
    assert_eq!(logged(|entry| entry.hash = 12, None), ["replica-divergence"]);
    assert_eq!(logged(|_| {}, Some(3)), ["replica-divergence"]);
    // What is not committed may differ.
    let uncommitted = |entry: &mut Entry| (entry.index, entry.term, entry.values) = (3, 9, vec![]);
    assert_eq!(logged(uncommitted, None), [] as [&str; 0]);
}
