//! Zones against the search of `wgl`, on small histories of a register whose writes are all different.

use fastrand::Rng;

use super::tale::tale;
use crate::{
    event::{Body, Commit, Event, Outcome, Stored},
    facts::NEVER,
    load,
    report::Sheet,
    rules::{
        Rule, commits,
        wgl::{Answer, Timed, linearizable},
    },
};

#[derive(Clone, Copy, Debug)]
enum Op {
    Write(u64),
    Read(Option<u64>),
}

fn drawn(random: &mut Rng) -> Vec<Timed<Op>> {
    let writes = 1 + random.u64(..4);
    let mut ops: Vec<Timed<Op>> = vec![];
    for id in 1..=writes {
        let invoked = 1 + random.u64(..20);
        let returned = if random.u64(..6) == 0 { NEVER } else { invoked + 1 + random.u64(..8) };
        ops.push(Timed { invoked, returned, op: Op::Write(id) });
    }
    for _ in 0..random.u64(..5) {
        let id = random.u64(..writes + 1);
        let invoked = 1 + random.u64(..24);
        let op = Op::Read((id > 0).then_some(id));
        ops.push(Timed { invoked, returned: invoked + 1 + random.u64(..6), op });
    }
    ops
}

/// Each operation by a process of its own.
fn by_rule(ops: &[Timed<Op>]) -> bool {
    let meta = tale().meta;
    let mut workers = vec![];
    for (process, op) in (0u32..).zip(ops) {
        let event = |at, body| Event { at, process, op: 0, phase: crate::event::Phase::Main, body };
        let (begin, end) = match op.op {
            Op::Write(id) => (
                Body::Commit(Commit { group: 0, key: 0, offset: id as i64, generation: -1, member: 0, id }),
                Body::Committed { outcome: Outcome::Ok, error: 0 },
            ),
            Op::Read(id) => {
                let stored = id.map(|id| Stored { offset: id as i64, id });
                (Body::FetchCommit { group: 0, key: 0 }, Body::FetchedCommit { outcome: Outcome::Ok, error: 0, stored })
            }
        };
        let mut events = vec![event(op.invoked, begin)];
        if op.returned != NEVER {
            events.push(event(op.returned, end));
        }
        workers.push(events);
    }
    let facts = load::facts_of(&meta, &workers).expect("a history");
    let mut sheet = Sheet::default();
    commits::check(&facts, &meta, &mut sheet);
    sheet.results()[Rule::CommitRegression as usize].fatal == 0
}

#[test]
fn zones_agree_with_the_search() {
    let mut random = Rng::with_seed(11);
    let (mut yes, mut no) = (0, 0);
    for round in 0..20_000 {
        let ops = drawn(&mut random);
        let apply = |state: &Option<u64>, op: &Op| match op {
            Op::Write(id) => Some(Some(*id)),
            Op::Read(id) => (state == id).then_some(*state),
        };
        let searched = linearizable(&ops, None, apply, 1_000_000) == Answer::Linearizable;
        assert_eq!(by_rule(&ops), searched, "round {round}: {ops:?}");
        if searched { yes += 1 } else { no += 1 }
    }
    assert!(yes > 3_000 && no > 3_000, "{yes} linearizable, {no} not: the histories say little");
}
