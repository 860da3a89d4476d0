//! Rules of `polls` and `marks`.

use super::tale::{marked, run, tale};
use crate::event::{Body, From, Outcome, Polled, Seek, Which};

/// A log of five values, and a reader that has read all of it.
fn five() -> super::tale::Tale {
    let mut tale = tale();
    tale.all_acked(1, 0, 0, &[10, 11, 12, 13, 14]);
    tale.read(9, &[(0, 0, &[10, 11, 12, 13, 14])]);
    tale.assign(2, &[0, 1], Seek::Keep);
    tale
}

#[test]
fn a_consumer_that_leaves_records_out() {
    let mut bad = five();
    bad.read(2, &[(0, 0, &[10, 11])]);
    bad.read(2, &[(0, 3, &[13, 14])]);
    assert_eq!(bad.broken(), ["poll-skip"]);
    let mut fine = five();
    fine.read(2, &[(0, 0, &[10, 11])]);
    fine.read(2, &[]);
    fine.read(2, &[(0, 2, &[12])]);
    fine.read(2, &[(0, 3, &[13, 14])]);
    fine.is_fine();
}

#[test]
fn a_hole_that_everybody_sees_is_not_left_out() {
    let mut fine = tale();
    fine.acked(1, 0, 10, 0);
    fine.acked(1, 0, 11, 7);
    fine.read(2, &[(0, 0, &[10])]);
    fine.read(2, &[(0, 7, &[11])]);
    fine.is_fine();
}

#[test]
fn a_consumer_that_goes_back() {
    let mut bad = five();
    bad.read(2, &[(0, 0, &[10, 11])]);
    bad.read(2, &[(0, 1, &[11, 12])]);
    assert_eq!(bad.broken(), ["nonmonotonic-poll"]);
    // One that failed had no effect; it does not count.
    let mut fine = five();
    fine.read(2, &[(0, 0, &[10, 11])]);
    let op = fine.poll(2, From::Assigned);
    fine.put(2, op, Body::Polled(Polled { outcome: Outcome::Fail, error: 6, runs: vec![] }));
    fine.read(2, &[(0, 2, &[12])]);
    fine.is_fine();
}

#[test]
fn what_makes_a_consumer_forget_where_it_stood() {
    let seeks: [(Seek, &[u32], bool); 4] = [
        (Seek::Keep, &[0], true),
        (Seek::Keep, &[1], false),
        (Seek::Beginning, &[0], false),
        (Seek::Elsewhere, &[0], false),
    ];
    for (seek, keys, keeps) in seeks {
        let mut tale = five();
        tale.read(2, &[(0, 0, &[10, 11, 12])]);
        tale.assign(2, keys, seek);
        tale.read(2, &[(0, 0, &[10, 11, 12])]);
        let broken: &[&str] = if keeps { &["nonmonotonic-poll"] } else { &[] };
        assert_eq!(tale.broken(), broken, "{seek:?} {keys:?}");
    }
    let forgets: [Body; 3] = [
        Body::Crash,
        Body::Polled(Polled { outcome: Outcome::Info, error: 7, runs: vec![] }),
        Body::Polled(Polled { outcome: Outcome::Fail, error: 1, runs: vec![] }),
    ];
    for forget in forgets {
        let mut fine = five();
        fine.read(2, &[(0, 0, &[10, 11, 12])]);
        if forget == Body::Crash {
            fine.begin(2, forget);
        } else {
            fine.did(2, Body::Poll(crate::event::Poll { from: From::Assigned, node: 1 }), forget);
        }
        fine.read(2, &[(0, 1, &[11])]);
        fine.is_fine();
    }
}

#[test]
fn a_subscription_may_be_moved() {
    let moved = |subscribed: bool| {
        let mut tale = five();
        if subscribed {
            tale.subscribe(2);
        }
        tale.group_read(2, &[(0, 0, &[10])]);
        tale.group_read(2, &[(0, 3, &[13])]);
        tale
    };
    assert_eq!(moved(false).broken(), ["poll-skip"]);
    moved(true).is_fine();
    assert_eq!(moved(true).told(), ["poll-skip"]);
}

#[test]
fn a_fetch_is_held_against_the_position_that_it_names() {
    let fetch = |position, got: &[u64], base| {
        let mut tale = five();
        tale.fetch(3, 0, position, vec![run(&(0, base, got))]);
        tale.broken()
    };
    assert_eq!(fetch(1, &[12], 2), ["poll-skip"]);
    assert_eq!(fetch(3, &[12], 2), ["nonmonotonic-poll"]);
    assert_eq!(fetch(2, &[12], 2), [] as [&str; 0]);
    // Two fetches of one process need not follow each other.
    let mut fine = five();
    fine.fetch(3, 0, 3, vec![run(&(0, 3, &[13]))]);
    fine.fetch(3, 0, 0, vec![run(&(0, 0, &[10]))]);
    fine.is_fine();
}

#[test]
fn what_is_trimmed_is_not_left_out() {
    let trimmed = |retention| {
        let mut tale = five();
        tale.meta.promises.retention = retention;
        tale.read(2, &[(0, 0, &[10])]);
        let op = tale.poll(2, From::Assigned);
        tale.polled(2, op, vec![marked((0, 3, &[13]), 5, 3)]);
        tale
    };
    trimmed(true).is_fine();
    assert_eq!(trimmed(false).broken(), ["poll-skip"]);
    // Above the log start it is.
    let mut bad = five();
    bad.meta.promises.retention = true;
    bad.read(2, &[(0, 0, &[10])]);
    let op = bad.poll(2, From::Assigned);
    bad.polled(2, op, vec![marked((0, 3, &[13]), 5, 2)]);
    assert_eq!(bad.broken(), ["poll-skip"]);
}

#[test]
fn one_poll_that_jumps() {
    let within = |got: &[super::tale::Got]| {
        let mut tale = five();
        tale.read(2, got);
        tale.broken()
    };
    assert_eq!(within(&[(0, 0, &[10, 11]), (0, 3, &[13])]), ["int-poll-skip", "divergent-successor"]);
    let back = within(&[(0, 2, &[12, 13]), (0, 2, &[12])]);
    assert!(back.contains(&"int-nonmonotonic-poll"), "{back:?}");
    assert_eq!(within(&[(0, 0, &[10, 11]), (0, 2, &[12])]), [] as [&str; 0]);
}

#[test]
fn a_poll_during_which_the_key_was_given_anew_may_jump() {
    let jump = |during: bool| {
        let mut tale = five();
        tale.subscribe(2);
        tale.rebalance(2, 1, &[], &[0]);
        let op = tale.poll(2, From::Group);
        if during {
            tale.rebalance(2, 2, &[0], &[0]);
        }
        tale.polled(2, op, vec![run(&(0, 2, &[12, 13])), run(&(0, 0, &[10]))]);
        tale.broken()
    };
    assert!(jump(false).contains(&"int-nonmonotonic-poll"));
    assert!(!jump(true).contains(&"int-nonmonotonic-poll"));
}

#[test]
fn ends_that_go_back() {
    let fetches = |first: (i64, i64), second: (i64, i64)| {
        let mut tale = five();
        tale.fetch(3, 0, 4, vec![marked((0, 4, &[14]), first.0, first.1)]);
        tale.fetch(4, 0, 4, vec![marked((0, 4, &[14]), second.0, second.1)]);
        tale.broken()
    };
    assert_eq!(fetches((7, 1), (6, 1)), ["hw-regression"]);
    assert_eq!(fetches((7, 1), (7, 0)), ["log-start-regression"]);
    assert_eq!(fetches((7, 1), (7, 1)), [] as [&str; 0]);
    // Answers to questions that were open at once have no order.
    let mut fine = five();
    let [one, other] = [3, 4];
    let ops = [one, other].map(|process| fine.poll(process, From::Fetch { key: 0, position: 4 }));
    fine.polled(one, ops[0], vec![marked((0, 4, &[14]), 7, 0)]);
    fine.polled(other, ops[1], vec![marked((0, 4, &[14]), 6, 0)]);
    fine.is_fine();
}

#[test]
fn a_latest_offset_that_goes_back() {
    let listed = |which, first, second| {
        let mut tale = five();
        for offset in [first, second] {
            tale.did(3, Body::ListOffsets { key: 0, which }, Body::Listed { outcome: Outcome::Ok, error: 0, offset });
        }
        tale.broken()
    };
    assert_eq!(listed(Which::Latest, 5, 4), ["leo-regression"]);
    assert_eq!(listed(Which::Earliest, 2, 1), ["log-start-regression"]);
    assert_eq!(listed(Which::Latest, 4, 5), [] as [&str; 0]);
}

#[test]
fn an_acknowledged_offset_that_is_out_of_range() {
    let refused = |position, start: Option<i64>| {
        let mut tale = five();
        tale.meta.promises.retention = start.is_some();
        let op = tale.poll(3, From::Fetch { key: 0, position });
        tale.put(3, op, Body::Polled(Polled { outcome: Outcome::Fail, error: 1, runs: vec![] }));
        if let Some(start) = start {
            tale.fetch(4, 0, start, vec![marked((0, start, &[14]), 5, start)]);
        }
        tale.broken()
    };
    assert_eq!(refused(4, None), ["hw-regression"]);
    assert_eq!(refused(5, None), [] as [&str; 0]);
    // Below the log start it may be.
    assert_eq!(refused(2, Some(4)), [] as [&str; 0]);
    assert_eq!(refused(4, Some(4)), ["hw-regression", "log-start-regression"]);
}

#[test]
fn who_was_denied_an_offset_knows_that_the_log_starts_above_it() {
    let denied = |position, earliest| {
        let mut tale = five();
        tale.meta.promises.retention = true;
        let op = tale.poll(3, From::Fetch { key: 0, position });
        tale.put(3, op, Body::Polled(Polled { outcome: Outcome::Fail, error: 1, runs: vec![] }));
        for offset in [earliest, 4] {
            let listed = Body::Listed { outcome: Outcome::Ok, error: 0, offset };
            tale.did(4, Body::ListOffsets { key: 0, which: Which::Earliest }, listed);
        }
        tale.broken()
    };
    assert_eq!(denied(2, 2), ["log-start-regression"]);
    assert_eq!(denied(2, 3), [] as [&str; 0]);
}

/// It says where the log does not begin, not where it does.
#[test]
fn who_is_denied_an_old_offset_after_others_is_told_nothing_that_went_back() {
    let mut tale = five();
    tale.meta.promises.retention = true;
    for position in [3, 0] {
        let op = tale.poll(3, From::Fetch { key: 0, position });
        tale.put(3, op, Body::Polled(Polled { outcome: Outcome::Fail, error: 1, runs: vec![] }));
    }
    let listed = Body::Listed { outcome: Outcome::Ok, error: 0, offset: 4 };
    tale.did(4, Body::ListOffsets { key: 0, which: Which::Earliest }, listed);
    tale.is_fine();
}

#[test]
fn a_fetch_is_told_that_its_position_is_gone() {
    // Both read what the log has, and the first was never told that it lacks something.
    let fetched = |position| {
        let mut tale = five();
        tale.meta.promises.retention = true;
        tale.fetch(3, 0, position, vec![marked((0, 3, &[13, 14]), 5, 3)]);
        tale.broken()
    };
    assert_eq!(fetched(2), ["poll-skip"]);
    assert_eq!(fetched(3), [] as [&str; 0]);
}
