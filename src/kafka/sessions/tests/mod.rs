//! Rules of sessions one by one; `model` compares one with a client that has none; `hostile` sends whatever there is.

mod hostile;
mod model;

use std::time::Duration;

use super::{
    session::{PartitionSeen, PartitionWanted, TopicKey, next_epoch},
    table::{SessionAsk, SessionLimits, SessionPlan, SessionRefusal, SessionTable, TurnKey},
};
use crate::types::{Offset, TopicId};

const SECOND: Duration = Duration::from_secs(1);
const EVICTED_AFTER: Duration = Duration::from_secs(120);
const ME: u64 = 1;
const OTHER: u64 = 2;

const LIMITS: SessionLimits = SessionLimits {
    sessions: 3,
    per_connection: 2,
    partitions: 12,
    per_session: 8,
    bytes: 1_300,
    partition_bytes: 100,
    name_bytes: 10,
    evicted_after: EVICTED_AFTER,
};

fn named(name: &str) -> TopicKey {
    TopicKey::Name(name.into())
}

fn at(partition: i32, offset: i64) -> PartitionWanted {
    of(named("t"), partition, offset)
}

fn of(topic: TopicKey, partition: i32, offset: i64) -> PartitionWanted {
    PartitionWanted { topic, partition, offset: Offset(offset), bytes_max: 100, epoch: None }
}

fn ask(session: i32, epoch: i32, wanted: &[PartitionWanted]) -> SessionAsk {
    let by_id = wanted.iter().any(|wanted| matches!(wanted.topic, TopicKey::Id(_)));
    SessionAsk { session, epoch, by_id, wanted: wanted.to_vec(), forgotten: Vec::new() }
}

fn some(partitions: i32) -> Vec<PartitionWanted> {
    (0..partitions).map(|partition| at(partition, 0)).collect()
}

/// Nothing is there, or that many records are.
fn seen(records: i64) -> PartitionSeen {
    PartitionSeen { has_records: records > 0, is_refused: false, high_watermark: Offset(records), log_start: Offset(0) }
}

fn refused() -> PartitionSeen {
    PartitionSeen { has_records: false, is_refused: true, high_watermark: Offset(-1), log_start: Offset(-1) }
}

fn numbers(plan: &SessionPlan) -> Vec<i32> {
    plan.wanted.iter().map(|wanted| wanted.partition).collect()
}

fn turn(plan: &SessionPlan) -> TurnKey {
    plan.turn.expect("it is of a session")
}

/// A session of these partitions, in which nothing is there and the first answer is told. Its id.
fn begun(table: &mut SessionTable, owner: u64, wanted: &[PartitionWanted], now: Duration) -> i32 {
    let plan = table.begin(owner, ask(0, 0, wanted), now).unwrap();
    let turn = turn(&plan);
    assert_eq!(table.answer(turn, &vec![seen(0); wanted.len()]), Ok(Some(vec![true; wanted.len()])), "all is told");
    turn.session
}

/// An answered request that names nothing new: what was told.
fn next(table: &mut SessionTable, id: i32, epoch: i32, seen: &[PartitionSeen]) -> Vec<bool> {
    let plan = table.begin(ME, ask(id, epoch, &[]), SECOND).unwrap();
    table.answer(turn(&plan), seen).unwrap().expect("the session goes on")
}

#[test]
fn an_answer_tells_records_refusals_and_moved_bounds_and_nothing_else() {
    let mut table = SessionTable::new(LIMITS);
    let id = begun(&mut table, ME, &some(3), SECOND);
    assert_eq!(next(&mut table, id, 1, &[seen(0); 3]), [false; 3]);
    let moved = PartitionSeen { has_records: false, ..seen(7) };
    assert_eq!(next(&mut table, id, 2, &[seen(0), moved, seen(0)]), [false, true, false], "the high watermark");
    let trimmed = PartitionSeen { log_start: Offset(3), ..moved };
    assert_eq!(next(&mut table, id, 3, &[seen(0), trimmed, seen(0)]), [false, true, false], "the log start");
    assert_eq!(next(&mut table, id, 4, &[seen(0), trimmed, seen(0)]), [false; 3], "once");
    for epoch in [5, 6] {
        assert_eq!(next(&mut table, id, epoch, &[refused(), trimmed, seen(0)]), [true, false, false], "each time");
    }
    assert_eq!(next(&mut table, id, 7, &[seen(0), trimmed, seen(0)]), [true, false, false], "what follows a refusal");
    // An offset that is out of range is refused with the bounds that there are.
    let outside = PartitionSeen { is_refused: true, ..trimmed };
    assert_eq!(next(&mut table, id, 8, &[seen(0), outside, seen(0)]), [false, true, false]);
    assert_eq!(next(&mut table, id, 9, &[seen(0), trimmed, seen(0)]), [false, true, false]);
    for epoch in [10, 11] {
        assert_eq!(next(&mut table, id, epoch, &[seen(0), trimmed, seen(5)]), [false, false, true], "always told");
    }
}

#[test]
fn of_a_thousand_partitions_the_one_that_has_records_is_told() {
    let limits = SessionLimits { partitions: 1_000, per_session: 1_000, bytes: 1 << 20, ..LIMITS };
    let mut table = SessionTable::new(limits);
    let id = begun(&mut table, ME, &some(1_000), SECOND);
    let mut all = vec![seen(0); 1_000];
    all[777] = seen(1);
    let told = next(&mut table, id, 1, &all);
    assert_eq!(told.iter().enumerate().filter(|(_, told)| **told).map(|(place, _)| place).collect::<Vec<_>>(), [777]);
}

#[test]
fn who_had_records_waits_for_its_next_turn_behind_all_others() {
    let mut table = SessionTable::new(LIMITS);
    let id = begun(&mut table, ME, &some(4), SECOND);
    let mut order = Vec::new();
    for epoch in 1..=4 {
        let plan = table.begin(ME, ask(id, epoch, &[]), SECOND).unwrap();
        order.push(numbers(&plan));
        // There is room for the first two only.
        table.answer(turn(&plan), &[seen(9), seen(9), seen(0), seen(0)]).unwrap();
    }
    assert_eq!(order, [[0, 1, 2, 3], [2, 3, 0, 1], [0, 1, 2, 3], [2, 3, 0, 1]]);
}

#[test]
fn a_request_changes_what_it_names_adds_what_is_new_and_forgets_what_it_says() {
    let mut table = SessionTable::new(LIMITS);
    let id = begun(&mut table, ME, &some(3), SECOND);
    let forgotten = vec![(named("t"), 0), (named("t"), 77), (named("u"), 1)];
    let changed = PartitionWanted { bytes_max: 5, ..at(1, 50) };
    let asking = SessionAsk { forgotten, ..ask(id, 1, &[at(9, 90), changed.clone(), at(9, 91)]) };
    let plan = table.begin(ME, asking, SECOND).unwrap();
    assert_eq!(plan.wanted, [changed, at(2, 0), at(9, 91)]);
    assert_eq!(table.answer(turn(&plan), &[seen(0); 3]), Ok(Some(vec![false, false, true])), "the new one is news");
    // Added and forgotten at once: Kafka forgets it.
    let asking = SessionAsk { forgotten: vec![(named("t"), 5)], ..ask(id, 2, &[at(5, 0)]) };
    assert_eq!(numbers(&table.begin(ME, asking, SECOND).unwrap()), [1, 2, 9]);
    assert_eq!(table.totals(), table.counted());
}

#[test]
fn a_session_that_is_of_nothing_any_more_is_over() {
    let mut table = SessionTable::new(LIMITS);
    let id = begun(&mut table, ME, &some(1), SECOND);
    let asking = SessionAsk { forgotten: vec![(named("t"), 0)], ..ask(id, 1, &[]) };
    let plan = table.begin(ME, asking, SECOND).unwrap();
    assert!(plan.turn.is_none() && plan.wanted.is_empty());
    assert_eq!(table.begin(ME, ask(id, 2, &[]), SECOND).unwrap_err(), SessionRefusal::UnknownSession);
    assert_eq!((table.totals().sessions, table.totals().evicted), (0, 0));
    let plan = table.begin(ME, ask(0, 0, &[]), SECOND).unwrap();
    assert!(plan.turn.is_none() && table.totals().refused == 0, "nor is one begun of nothing");
}

#[test]
fn epochs_follow_one_another_and_wrap_to_one() {
    let mut table = SessionTable::new(LIMITS);
    let id = begun(&mut table, ME, &some(1), SECOND);
    for wrong in [2, 7, i32::MAX, -2, i32::MIN] {
        assert_eq!(table.begin(ME, ask(id, wrong, &[]), SECOND).unwrap_err(), SessionRefusal::WrongEpoch, "{wrong}");
    }
    assert_eq!(next(&mut table, id, 1, &[seen(0)]), [false], "a wrong one changed nothing");
    assert_eq!(table.begin(ME, ask(id, 1, &[]), SECOND).unwrap_err(), SessionRefusal::WrongEpoch, "each once");
    assert_eq!([next_epoch(0), next_epoch(i32::MAX - 1), next_epoch(i32::MAX)], [1, i32::MAX, 1]);
}

#[test]
fn ids_that_are_not_known_are_refused_and_another_connections_are_not_known() {
    let mut table = SessionTable::new(LIMITS);
    let id = begun(&mut table, ME, &some(1), SECOND);
    for (owner, unknown) in [(ME, 0), (ME, id + 1), (ME, -1), (OTHER, id)] {
        let refusal = table.begin(owner, ask(unknown, 1, &[]), SECOND).unwrap_err();
        assert_eq!(refusal, SessionRefusal::UnknownSession, "{unknown}");
    }
    // Nor can it be ended from there.
    for epoch in [0, -1] {
        table.begin(OTHER, ask(id, epoch, &[]), SECOND).unwrap();
    }
    table.end_all_of(OTHER);
    assert_eq!(next(&mut table, id, 1, &[seen(0)]), [false]);
    table.end_all_of(ME);
    assert_eq!(table.totals().sessions, 0);
}

#[test]
fn names_and_ids_are_not_mixed() {
    let mut table = SessionTable::new(LIMITS);
    let (by_name, by_id) = (some(1), [of(TopicKey::Id(TopicId(7)), 0, 0)]);
    for (first, second) in [(&by_name[..], &by_id[..]), (&by_id[..], &by_name[..])] {
        let id = begun(&mut table, ME, first, SECOND);
        assert_eq!(table.begin(ME, ask(id, 1, second), SECOND).unwrap_err(), SessionRefusal::OtherNames);
        let go_on = SessionAsk { by_id: matches!(first[0].topic, TopicKey::Id(_)), ..ask(id, 1, &[]) };
        assert!(table.begin(ME, go_on, SECOND).is_ok(), "it is not over");
    }
}

#[test]
fn a_full_request_ends_the_session_that_it_names_and_begins_one_if_it_asks() {
    let mut table = SessionTable::new(LIMITS);
    let first = begun(&mut table, ME, &some(1), SECOND);
    let plan = table.begin(ME, ask(first, 0, &some(2)), SECOND).unwrap();
    let second = turn(&plan).session;
    assert_ne!(first, second);
    assert_eq!(table.answer(turn(&plan), &[seen(0); 2]), Ok(Some(vec![true; 2])));
    assert_eq!(table.totals().sessions, 1);
    let plan = table.begin(ME, ask(second, -1, &some(2)), SECOND).unwrap();
    assert!(plan.turn.is_none());
    assert_eq!((numbers(&plan), table.totals().sessions), (vec![0, 1], 0));
}

#[test]
fn one_request_of_a_session_is_worked_on_at_a_time() {
    let mut table = SessionTable::new(LIMITS);
    let id = begun(&mut table, ME, &some(1), SECOND);
    let first = turn(&table.begin(ME, ask(id, 1, &[]), SECOND).unwrap());
    assert_eq!(table.begin(ME, ask(id, 2, &[]), SECOND).unwrap_err(), SessionRefusal::WrongEpoch);
    assert_eq!(table.answer(first, &[seen(0)]), Ok(Some(vec![false])));
    assert_eq!(next(&mut table, id, 2, &[seen(0)]), [false]);
}

#[test]
fn a_session_that_ends_while_a_request_is_worked_on_keeps_its_room_until_then() {
    let mut table = SessionTable::new(LIMITS);
    let id = begun(&mut table, ME, &some(3), SECOND);
    let first = turn(&table.begin(ME, ask(id, 1, &[]), SECOND).unwrap());
    table.begin(ME, ask(id, -1, &[]), SECOND).unwrap();
    assert_eq!(table.begin(ME, ask(id, 2, &[]), SECOND).unwrap_err(), SessionRefusal::UnknownSession);
    assert_eq!(table.totals().partitions, 3);
    assert_eq!(table.answer(first, &[seen(0); 3]), Err(SessionRefusal::UnknownSession));
    assert_eq!(table.totals().partitions, 0);
    // The first request of one, which was answered in full anyway.
    let plan = table.begin(ME, ask(0, 0, &some(1)), SECOND).unwrap();
    table.end_all_of(ME);
    assert_eq!(table.answer(turn(&plan), &[seen(0)]), Ok(None));
    // Nobody gets an answer.
    let plan = table.begin(ME, ask(0, 0, &some(1)), SECOND).unwrap();
    table.give_up(turn(&plan));
    assert_eq!(table.totals().sessions, 0);
}

/// Every limit, reached and passed by one: the client is answered in full, and has no session.
#[test]
fn beyond_each_limit_a_client_goes_on_without_a_session() {
    let has_session = |table: &mut SessionTable, owner, wanted: &[PartitionWanted]| {
        let plan = table.begin(owner, ask(0, 0, wanted), SECOND).unwrap();
        assert_eq!(plan.wanted, wanted, "it is answered all the same");
        assert_eq!(table.totals(), table.counted());
        plan.turn.is_some()
    };
    let roomy = SessionLimits { partitions: 1_000, bytes: 1 << 20, sessions: 100, per_connection: 100, ..LIMITS };
    let small = SessionLimits { sessions: 2, ..roomy };
    let cases: [(&str, SessionLimits, u64, [Vec<PartitionWanted>; 3]); 6] = [
        ("sessions", small, 3, [some(1), some(1), some(1)]),
        ("of a connection", SessionLimits { per_connection: 2, ..roomy }, ME, [some(1), some(1), some(1)]),
        ("partitions", SessionLimits { partitions: 12, ..roomy }, 3, [some(8), some(4), some(1)]),
        ("in one session", roomy, ME, [some(8), some(1), some(9)]),
        ("bytes", SessionLimits { bytes: 808 + 303, ..roomy }, 3, [some(8), some(3), some(1)]),
        ("a name", roomy, ME, [some(1), vec![of(named("abcdefghij"), 0, 0)], vec![of(named("abcdefghijk"), 0, 0)]]),
    ];
    for (what, limits, last, [first, second, third]) in cases {
        let mut table = SessionTable::new(limits);
        assert!(has_session(&mut table, ME, &first), "{what}");
        assert!(has_session(&mut table, ME, &second), "{what}");
        assert!(!has_session(&mut table, last, &third), "{what}");
        assert_eq!((table.totals().refused, table.totals().evicted), (1, 0), "{what}");
    }
}

#[test]
fn those_that_nobody_used_for_long_make_room_the_oldest_first() {
    let mut table = SessionTable::new(LIMITS);
    let (old, newer) = (begun(&mut table, ME, &some(1), SECOND), begun(&mut table, ME, &some(1), 2 * SECOND));
    let others = begun(&mut table, OTHER, &some(1), Duration::ZERO);
    // Used again: now `newer` is the oldest one of this connection, and `others` of all.
    let now = EVICTED_AFTER - SECOND;
    let plan = table.begin(ME, ask(old, 1, &[]), now).unwrap();
    table.answer(turn(&plan), &[seen(0)]).unwrap();
    let begins = |table: &mut SessionTable, owner, now| {
        let plan = table.begin(owner, ask(0, 0, &some(1)), now).unwrap();
        plan.turn.inspect(|turn| drop(table.answer(*turn, &[seen(0)]))).is_some()
    };
    assert!(!begins(&mut table, 3, now), "all were used of late");
    assert!(begins(&mut table, 3, EVICTED_AFTER));
    assert_eq!((table.totals().evicted, table.totals().refused), (1, 1));
    assert_eq!(table.begin(OTHER, ask(others, 1, &[]), now).unwrap_err(), SessionRefusal::UnknownSession);
    // The connection's own is the one that goes, where it is the connection that has too many.
    assert!(!begins(&mut table, ME, EVICTED_AFTER + SECOND));
    assert!(begins(&mut table, ME, EVICTED_AFTER + 2 * SECOND));
    assert_eq!(table.begin(ME, ask(newer, 1, &[]), now).unwrap_err(), SessionRefusal::UnknownSession);
    assert!(table.begin(ME, ask(old, 2, &[]), now).is_ok());
}

#[test]
fn a_session_that_is_worked_on_makes_no_room() {
    let mut table = SessionTable::new(SessionLimits { sessions: 1, ..LIMITS });
    let busy = turn(&table.begin(ME, ask(0, 0, &some(1)), SECOND).unwrap());
    let later = 10 * EVICTED_AFTER;
    assert!(table.begin(OTHER, ask(0, 0, &some(1)), later).unwrap().turn.is_none());
    assert_eq!(table.answer(busy, &[seen(0)]), Ok(Some(vec![true])));
    assert!(table.begin(OTHER, ask(0, 0, &some(1)), later).unwrap().turn.is_some());
}

#[test]
fn a_session_that_grows_beyond_the_room_ends() {
    for (limits, more) in [(LIMITS, some(9)), (SessionLimits { partitions: 5, ..LIMITS }, some(6))] {
        let mut table = SessionTable::new(limits);
        let id = begun(&mut table, ME, &some(5), SECOND);
        assert_eq!(table.begin(ME, ask(id, 1, &more), SECOND).unwrap_err(), SessionRefusal::UnknownSession);
        assert_eq!((table.totals().sessions, table.totals().evicted), (0, 1));
        assert_eq!(table.totals(), table.counted());
    }
}
