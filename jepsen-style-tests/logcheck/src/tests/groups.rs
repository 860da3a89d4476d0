//! Rules of `commits`, `members`, `resume` and `delivery`.

use super::tale::{Tale, marked, tale};
use crate::{
    event::{Body, From, Outcome, Polled, Protocol},
    meta::Reset,
};

/// A log of five values that somebody outside the group has read.
fn five() -> Tale {
    let mut tale = tale();
    tale.all_acked(1, 0, 0, &[10, 11, 12, 13, 14]);
    tale.read(9, &[(0, 0, &[10, 11, 12, 13, 14])]);
    tale
}

/// Process 2 is a member, has key 0, and has got the first three.
fn three() -> Tale {
    let mut tale = five();
    tale.subscribe(2);
    tale.rebalance(2, 1, &[], &[0]);
    tale.group_read(2, &[(0, 0, &[10, 11, 12])]);
    tale
}

#[test]
fn a_commit_that_is_gone() {
    let mut bad = three();
    bad.commits(2, 1, 0, 1, 100);
    bad.commits(2, 1, 0, 2, 101);
    bad.commit_read(3, 0, Some((1, 100)));
    assert_eq!(bad.broken(), ["commit-regression"]);
    // While the next one is open, either.
    let mut fine = three();
    fine.commits(2, 1, 0, 1, 100);
    let op = fine.commit(2, 1, 0, 2, 101);
    fine.commit_read(3, 0, Some((1, 100)));
    fine.commit_read(3, 0, Some((2, 101)));
    fine.committed(2, op, Outcome::Ok);
    fine.commit_read(3, 0, Some((2, 101)));
    fine.is_fine();
    // Not back again: a reader has had it.
    let mut bad = three();
    bad.commits(2, 1, 0, 1, 100);
    bad.commit(2, 1, 0, 2, 101);
    bad.commit_read(3, 0, Some((2, 101)));
    bad.commit_read(3, 0, Some((1, 100)));
    assert_eq!(bad.broken(), ["commit-regression"]);
}

#[test]
fn nothing_committed_though_something_was() {
    let mut bad = three();
    bad.commits(2, 1, 0, 1, 100);
    bad.commit_read(3, 0, None);
    assert_eq!(bad.broken(), ["commit-regression"]);
    let mut fine = three();
    fine.commit_read(3, 0, None);
    let op = fine.commit(2, 1, 0, 1, 100);
    fine.committed(2, op, Outcome::Info);
    fine.commit_read(3, 0, None);
    fine.is_fine();
}

#[test]
fn a_commit_that_nobody_made_or_that_failed() {
    let mut bad = three();
    bad.commit_read(3, 0, Some((1, 999)));
    assert_eq!(bad.broken(), ["commit-regression"]);
    let mut bad = three();
    let op = bad.commit(2, 1, 0, 1, 100);
    bad.committed(2, op, Outcome::Fail);
    bad.commit_read(3, 0, Some((1, 100)));
    assert_eq!(bad.broken(), ["commit-regression"]);
    let mut bad = three();
    bad.commits(2, 1, 0, 1, 100);
    bad.commit_read(3, 0, Some((2, 100)));
    assert_eq!(bad.broken(), ["commit-regression"]);
    let mut bad = three();
    bad.commit_read(3, 0, Some((1, 100)));
    bad.commits(2, 1, 0, 1, 100);
    assert_eq!(bad.broken(), ["commit-regression"]);
}

#[test]
fn a_commit_of_a_generation_that_is_over() {
    let mut bad = three();
    bad.subscribe(3);
    bad.rebalance(3, 2, &[], &[1]);
    bad.commits(2, 1, 0, 1, 100);
    assert_eq!(bad.broken(), ["zombie-commit"]);
    // It began before the other's join was complete.
    let mut fine = three();
    fine.subscribe(3);
    let op = fine.commit(2, 1, 0, 1, 100);
    fine.rebalance(3, 2, &[], &[1]);
    fine.committed(2, op, Outcome::Ok);
    fine.is_fine();
    // Refused, as it should be.
    let mut fine = three();
    fine.subscribe(3);
    fine.rebalance(3, 2, &[], &[1]);
    let op = fine.commit(2, 1, 0, 1, 100);
    fine.put(2, op, Body::Committed { outcome: Outcome::Fail, error: 22 });
    fine.is_fine();
    let mut bad = three();
    bad.subscribe(3);
    bad.rebalance(3, 2, &[], &[1]);
    bad.heartbeat(2, 1);
    assert_eq!(bad.broken(), ["zombie-commit"]);
}

#[test]
fn in_the_consumer_protocol_only_the_partition_counts() {
    let taken = |given: &[u32]| {
        let mut tale = five();
        tale.subscribe(2);
        tale.rebalance_by(Protocol::Consumer, 2, 1, &[], &[0, 1]);
        tale.group_read(2, &[(0, 0, &[10, 11, 12])]);
        tale.rebalance_by(Protocol::Consumer, 2, 1, &[1], &[]);
        tale.subscribe(3);
        tale.rebalance_by(Protocol::Consumer, 3, 2, &[], given);
        tale.commits(2, 1, 0, 1, 100);
        tale.broken()
    };
    // The member may not have heard yet that the group is at epoch 2.
    assert_eq!(taken(&[1]), [] as [&str; 0]);
    assert_eq!(taken(&[0]), ["zombie-commit", "double-assign"]);
}

#[test]
fn one_generation_with_two_owners() {
    let owners = |second: (i32, &[u32])| {
        let mut tale = five();
        tale.subscribe(2);
        tale.rebalance(2, 1, &[], &[0]);
        tale.subscribe(3);
        tale.rebalance(3, second.0, &[], second.1);
        tale.broken()
    };
    assert_eq!(owners((1, &[0])), ["double-assign"]);
    assert_eq!(owners((1, &[1])), [] as [&str; 0]);
    // In the next one it may be somebody else's.
    assert_eq!(owners((2, &[0])), [] as [&str; 0]);
}

#[test]
fn an_owner_that_lives_on() {
    let lives = |let_go: bool, lives_on: bool| {
        let mut tale = five();
        tale.subscribe(2);
        tale.rebalance_by(Protocol::Consumer, 2, 1, &[], &[0]);
        if let_go {
            tale.rebalance_by(Protocol::Consumer, 2, 1, &[0], &[]);
        }
        tale.subscribe(3);
        tale.rebalance_by(Protocol::Consumer, 3, 2, &[], &[0]);
        if lives_on {
            tale.heartbeat(2, 1);
        }
        tale.broken()
    };
    assert_eq!(lives(false, true), ["double-assign"]);
    assert_eq!(lives(true, true), [] as [&str; 0]);
    // It was expired, and does not know it.
    assert_eq!(lives(false, false), [] as [&str; 0]);
}

/// Another member is given key 0 and begins at `base`.
fn resumes(mut tale: Tale, base: i64) -> Vec<&'static str> {
    tale.rebalance(2, 1, &[0], &[]);
    tale.subscribe(3);
    tale.rebalance(3, 2, &[], &[0]);
    let values: Vec<u64> = (10 + base as u64..15).collect();
    tale.group_read(3, &[(0, base, &values)]);
    tale.broken()
}

#[test]
fn a_member_begins_where_the_group_committed() {
    let committed = |offsets: &[i64]| {
        let mut tale = three();
        (100..).zip(offsets).for_each(|(id, offset)| tale.commits(2, 1, 0, *offset, id));
        tale
    };
    assert_eq!(resumes(committed(&[2]), 2), [] as [&str; 0]);
    assert_eq!(resumes(committed(&[2]), 3), ["bad-resume"]);
    assert_eq!(resumes(committed(&[2]), 1), ["bad-resume"]);
    // The log start only while nothing is committed; an older commit not at all.
    assert_eq!(resumes(committed(&[2]), 0), ["bad-resume"]);
    assert_eq!(resumes(committed(&[]), 0), [] as [&str; 0]);
    assert_eq!(resumes(committed(&[]), 1), ["bad-resume"]);
    assert_eq!(resumes(committed(&[1, 2]), 1), ["bad-resume"]);
    // A commit that may have had its effect, or may not.
    for base in [1, 2, 3] {
        let mut tale = committed(&[1]);
        let op = tale.commit(2, 1, 0, 2, 200);
        tale.committed(2, op, Outcome::Info);
        let broken: &[&str] = if base == 3 { &["bad-resume"] } else { &[] };
        assert_eq!(resumes(tale, base), broken, "{base}");
    }
}

#[test]
fn where_groups_begin_at_the_end_anywhere_will_do() {
    let mut tale = three();
    tale.meta.promises.reset = Reset::Latest;
    assert_eq!(resumes(tale, 1), [] as [&str; 0]);
}

#[test]
fn after_a_poll_of_unknown_outcome_nobody_knows_where_a_member_began() {
    let mut tale = three();
    tale.commits(2, 1, 0, 1, 100);
    tale.rebalance(2, 1, &[0], &[]);
    tale.subscribe(3);
    tale.rebalance(3, 2, &[], &[0]);
    let op = tale.poll(3, From::Group);
    tale.put(3, op, Body::Polled(Polled { outcome: Outcome::Info, error: 7, runs: vec![] }));
    tale.group_read(3, &[(0, 3, &[13, 14])]);
    tale.is_fine();
}

#[test]
fn a_commit_that_is_trimmed_begins_at_the_log_start() {
    let begins = |start| {
        let mut tale = three();
        tale.meta.promises.retention = true;
        tale.commits(2, 1, 0, 1, 100);
        tale.rebalance(2, 1, &[0], &[]);
        tale.subscribe(3);
        tale.rebalance(3, 2, &[], &[0]);
        let op = tale.poll(3, From::Group);
        tale.polled(3, op, vec![marked((0, 3, &[13, 14]), 5, start)]);
        tale.broken()
    };
    assert_eq!(begins(3), [] as [&str; 0]);
    assert_eq!(begins(2), ["bad-resume"]);
}

#[test]
fn a_commit_of_what_nobody_got() {
    let commits = |offset| {
        let mut tale = three();
        tale.commits(2, 1, 0, offset, 100);
        tale.broken()
    };
    assert_eq!(commits(4), ["commit-beyond-delivery"]);
    assert_eq!(commits(3), [] as [&str; 0]);
    // Beyond the end of the log, though everything was got.
    for (offset, beyond) in [(5, false), (6, true)] {
        let mut tale = three();
        tale.group_read(2, &[(0, 3, &[13, 14])]);
        tale.commits(2, 1, 0, offset, 100);
        let broken: &[&str] = if beyond { &["commit-beyond-delivery"] } else { &[] };
        assert_eq!(tale.broken(), broken, "{offset}");
    }
    // Got by another member, or by a poll of unknown outcome.
    let mut fine = three();
    fine.subscribe(3);
    let op = fine.poll(3, From::Group);
    let runs = vec![super::tale::run(&(0, 3, &[13]))];
    fine.put(3, op, Body::Polled(Polled { outcome: Outcome::Info, error: 7, runs }));
    fine.commits(2, 1, 0, 4, 100);
    fine.is_fine();
    // Too late.
    let mut bad = three();
    bad.commits(2, 1, 0, 4, 100);
    bad.group_read(2, &[(0, 3, &[13])]);
    assert_eq!(bad.broken(), ["commit-beyond-delivery"]);
}

#[test]
fn what_somebody_outside_the_group_skips_is_skipped() {
    let mut fine = three();
    fine.commits(7, -1, 0, 4, 100);
    fine.commits(2, 1, 0, 4, 101);
    fine.is_fine();
}

#[test]
fn deliveries_are_counted() {
    let mut tale = three();
    tale.rebalance(2, 1, &[0], &[]);
    tale.subscribe(3);
    tale.rebalance(3, 2, &[], &[0]);
    tale.group_read(3, &[(0, 0, &[10, 11])]);
    tale.is_fine();
    let report = tale.report();
    let counts = report.rules.iter().find(|rule| rule.rule.name() == "consume-counts").expect("it is a rule");
    assert_eq!(counts.notes, ["group 0: 1 values 1 times, 2 values 2 times"]);
}
