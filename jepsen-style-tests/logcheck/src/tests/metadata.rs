//! Rules of `metadata` and `errors`, and the search below the former.

use super::tale::{Tale, tale};
use crate::{
    event::{AdminCall, AdminResult, Body, Sent},
    nemesis::Line,
    rules::wgl::{Answer, Timed, linearizable},
};

fn calls(told: &[(AdminCall, AdminResult)]) -> Tale {
    let mut tale = tale();
    tale.all_acked(1, 0, 0, &[10]);
    tale.read(2, &[(0, 0, &[10])]);
    for (call, result) in told {
        tale.did(3, Body::Admin { topic: 0, call: *call }, Body::Administered { result: *result, error: 0 });
    }
    tale
}

const CREATE: AdminCall = AdminCall::Create { partitions: 3, config: 7 };
const SHOWN: AdminResult = AdminResult::Described { partitions: 3, config: 7 };

#[test]
fn answers_that_no_order_explains() {
    use AdminResult::{AlreadyExists, Done, Info, NotFound};
    let bad: [&[(AdminCall, AdminResult)]; 7] = [
        &[(CREATE, Done), (CREATE, Done)],
        &[(CREATE, AlreadyExists)],
        &[(CREATE, Done), (AdminCall::Describe, NotFound)],
        &[(CREATE, Done), (AdminCall::Delete, Done), (AdminCall::Describe, SHOWN)],
        &[(CREATE, Done), (AdminCall::AlterConfig { config: 8 }, Done), (AdminCall::Describe, SHOWN)],
        &[(CREATE, Done), (AdminCall::AddPartitions { partitions: 2 }, Done)],
        &[(AdminCall::Delete, Done)],
    ];
    for told in bad {
        assert_eq!(calls(told).broken(), ["metadata-linearizability"], "{told:?}");
    }
    let fine: [&[(AdminCall, AdminResult)]; 4] = [
        &[(CREATE, Done), (CREATE, AlreadyExists), (AdminCall::Describe, SHOWN), (AdminCall::Delete, Done)],
        // What is not known to have happened explains either.
        &[(CREATE, Info), (AdminCall::Describe, SHOWN)],
        &[(CREATE, Info), (AdminCall::Describe, NotFound), (AdminCall::Describe, SHOWN)],
        &[(CREATE, Done), (AdminCall::Delete, Info), (CREATE, AdminResult::Refused), (AdminCall::Describe, SHOWN)],
    ];
    for told in fine {
        assert_eq!(calls(told).broken(), [] as [&str; 0], "{told:?}");
    }
}

#[test]
fn calls_at_once_may_go_either_way() {
    let at_once = |first_read, second_read| {
        let mut tale = calls(&[]);
        let create = tale.begin(3, Body::Admin { topic: 0, call: CREATE });
        for (process, result) in [(4, first_read), (5, second_read)] {
            let describe = Body::Admin { topic: 0, call: AdminCall::Describe };
            tale.did(process, describe, Body::Administered { result, error: 0 });
        }
        tale.put(3, create, Body::Administered { result: AdminResult::Done, error: 0 });
        tale.broken()
    };
    assert_eq!(at_once(AdminResult::NotFound, SHOWN), [] as [&str; 0]);
    assert_eq!(at_once(SHOWN, AdminResult::NotFound), ["metadata-linearizability"]);
}

#[test]
fn what_is_remembered_was_so_once() {
    use AdminResult::{AlreadyExists, Done, Info, NotFound, Refused};
    const REMEMBERED: AdminResult = AdminResult::Remembered { partitions: 3, config: 7 };
    const OTHER: AdminCall = AdminCall::Create { partitions: 3, config: 8 };
    const TOLD: (AdminCall, AdminResult) = (AdminCall::Describe, REMEMBERED);
    let bad: [&[(AdminCall, AdminResult)]; 6] = [
        &[TOLD],
        // It will be so, and is not yet.
        &[TOLD, (CREATE, Done)],
        &[(OTHER, Done), TOLD],
        &[(CREATE, Refused), TOLD],
        // It cannot have been so: another was there from before that was asked until after.
        &[(OTHER, Done), (CREATE, AlreadyExists), TOLD],
        &[
            (CREATE, Done),
            (AdminCall::AddPartitions { partitions: 4 }, Done),
            (AdminCall::Describe, AdminResult::Remembered { partitions: 4, config: 8 }),
        ],
    ];
    for told in bad {
        assert_eq!(calls(told).broken(), ["metadata-linearizability"], "{told:?}");
    }
    let fine: [&[(AdminCall, AdminResult)]; 5] = [
        &[(CREATE, Done), TOLD],
        // It is old.
        &[(CREATE, Done), (AdminCall::Delete, Done), TOLD],
        &[(CREATE, Done), (AdminCall::Delete, Done), (AdminCall::Describe, NotFound), (OTHER, Done), TOLD],
        &[(CREATE, Info), TOLD],
        // Two who remember may be behind by different spans.
        &[
            (CREATE, Done),
            (AdminCall::AlterConfig { config: 8 }, Done),
            (AdminCall::Describe, AdminResult::Remembered { partitions: 3, config: 8 }),
            TOLD,
        ],
    ];
    for told in fine {
        assert_eq!(calls(told).broken(), [] as [&str; 0], "{told:?}");
    }
}

#[test]
fn topics_are_told_apart() {
    let mut fine = calls(&[(CREATE, AdminResult::Done)]);
    fine.did(3, Body::Admin { topic: 1, call: CREATE }, Body::Administered { result: AdminResult::Done, error: 0 });
    fine.is_fine();
}

#[test]
fn a_search_that_takes_too_long_has_no_opinion() {
    // Writes at once and a read of none of them: every order must be tried.
    let mut ops: Vec<Timed<(bool, u32)>> =
        (0..24).map(|value| Timed { invoked: 0, returned: 10, op: (true, value) }).collect();
    ops.push(Timed { invoked: 20, returned: 30, op: (false, 99) });
    let apply = |state: &u64, op: &(bool, u32)| {
        if op.0 { Some(state.wrapping_mul(31).wrapping_add(op.1.into())) } else { None }
    };
    assert_eq!(linearizable(&ops, 0, apply, 10_000), Answer::Unknown);
    assert_eq!(linearizable(&ops[..5], 0, apply, 10_000), Answer::Linearizable);
}

#[test]
fn an_error_that_no_fault_explains() {
    let met = |error| {
        let mut tale = calls(&[]);
        let op = tale.send(1, 0, 11);
        tale.sent(1, op, Sent { error, ..Sent::default() });
        tale
    };
    assert_eq!(met(-1).broken(), ["unexpected-error"]);
    assert_eq!(met(56).broken(), ["unexpected-error"]);
    met(7).is_fine();
    met(10_001).is_fine();
    let mut fine = met(56);
    fine.meta.modelled_errors = vec![56];
    fine.is_fine();
}

#[test]
fn a_node_that_dies_by_itself() {
    let failure = |expected| {
        let mut tale = calls(&[]);
        let (node, what) = ("n1".to_string(), "panicked at src/x.rs:1".to_string());
        tale.nemesis.lines.push(Line::NodeFailure { at: 5, node, what, expected });
        tale.broken()
    };
    assert_eq!(failure(false), ["unexpected-error"]);
    assert_eq!(failure(true), [] as [&str; 0]);
}

/// The search against trying every order, on all small histories of a register that a few seeds draw.
#[test]
fn the_search_agrees_with_trying_every_order() {
    let mut random = fastrand::Rng::with_seed(3);
    let mut yes = 0;
    for round in 0..3_000 {
        let count = 1 + random.u64(..6);
        let ops: Vec<Timed<(bool, u64)>> = (0..count)
            .map(|_| {
                let invoked = random.u64(..12);
                let returned = if random.u64(..6) == 0 { u64::MAX } else { invoked + 1 + random.u64(..6) };
                Timed { invoked, returned, op: (random.bool(), random.u64(..3)) }
            })
            .collect();
        let expected = any_order(&ops, &mut vec![], 0);
        let apply = |state: &u64, op: &(bool, u64)| if op.0 { Some(op.1) } else { (*state == op.1).then_some(*state) };
        let found = linearizable(&ops, 0, apply, 1_000_000);
        assert_eq!(found == Answer::Linearizable, expected, "round {round}: {ops:?} {found:?}");
        yes += u32::from(expected);
    }
    assert!((500..2_500).contains(&yes), "{yes} of 3,000: the histories say little");
}

fn any_order(ops: &[Timed<(bool, u64)>], done: &mut Vec<usize>, state: u64) -> bool {
    let left: Vec<usize> = (0..ops.len()).filter(|op| !done.contains(op)).collect();
    if left.iter().all(|op| ops[*op].returned == u64::MAX) {
        return true;
    }
    left.iter().any(|&op| {
        let first = left.iter().all(|other| ops[*other].returned >= ops[op].invoked);
        let (is_write, value) = ops[op].op;
        if !first || !is_write && state != value {
            return false;
        }
        done.push(op);
        let found = any_order(ops, done, if is_write { value } else { state });
        done.pop();
        found
    })
}

#[test]
fn what_ends_as_ok_is_counted() {
    let report = calls(&[(CREATE, AdminResult::Done)]).report();
    let rule = report.rules.iter().find(|rule| rule.rule.name() == "unexpected-error").expect("it is a rule");
    assert_eq!((rule.checked, report.summary.acknowledged), (3, 1));
}
