//! The appender's decisions against a real partition, with every outcome chosen by the test.

mod random_outcomes;

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{build, core::*};
use crate::{
    broker::limits,
    partition::{COMMAND_RECORDS_MAX, Partition, PartitionLimits, PartitionResponse, TimestampBounds},
    record::{BATCH_RECORDS_MAX, BatchBuilder, BatchHeader, Codec, Producer, Record},
    replicated::Replicated,
    types::{BrokerId, EntryPosition, LogIndex, Offset, ProducerEpoch, ProducerId, Sequence, Term, WallMs},
};

const TERM: Term = Term(3);
const BOUNDS: TimestampBounds = TimestampBounds { before_max_ms: i64::MAX, after_max_ms: 3_600_000 };
const RULES: Rules = Rules { log_append_time: false, timestamps: BOUNDS, clock_agrees: true };
const WALL: WallMs = WallMs(1_700_000_000_000);

/// One partition, its appender, and a Raft that does what it is told.
struct Rig {
    partition: Partition,
    core: Core<u32>,
    index: u64,
    now: Instant,
    plans: Vec<Plan>,
    answers: Vec<Answer<u32>>,
}

impl Rig {
    fn new() -> Rig {
        let mut rig = Rig {
            partition: Partition::new(PartitionLimits::default()),
            core: Core::default(),
            index: 0,
            now: Instant::now(),
            plans: Vec::new(),
            answers: Vec::new(),
        };
        rig.core.begin(TERM, &rig.partition);
        rig
    }

    fn send(&mut self, waiter: u32, batch: &Bytes) {
        self.send_with(waiter, batch, None, Duration::from_secs(30));
    }

    fn send_with(&mut self, waiter: u32, batch: &Bytes, expected_offset: Option<Offset>, within: Duration) {
        let header = BatchHeader::parse(batch).unwrap();
        let (batch, deadline) = (batch.clone(), self.now + within);
        let answer = self.core.enqueue(Arrival { batch, header, expected_offset, deadline, waiter }, self.now);
        self.answers.extend(answer);
    }

    /// Proposes what can be proposed; the position of its plan in `plans`.
    fn propose(&mut self) -> Option<usize> {
        let plan = self.core.plan(&self.partition, RULES, WALL, self.now, &mut self.answers)?;
        self.plans.push(plan);
        Some(self.plans.len() - 1)
    }

    /// The entry is committed and applied.
    fn commit(&mut self, plan: usize) -> FlightEnd {
        self.index += 1;
        let position = EntryPosition { term: TERM, index: LogIndex(self.index) };
        let applied = self.partition.apply(position, &build(&self.plans[plan])).unwrap();
        let end = match PartitionResponse::decode(&applied.response).unwrap() {
            PartitionResponse::Appended { base_offset } => FlightEnd::Live { position, base_offset },
            PartitionResponse::Dead => FlightEnd::Dead,
            other => panic!("{other:?}"),
        };
        self.land(plan, end);
        end
    }

    fn land(&mut self, plan: usize, end: FlightEnd) {
        let answers = self.core.landed(self.plans[plan].id, end, self.now);
        self.answers.extend(answers);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.answers.extend(self.core.tick(self.now));
    }

    fn resync(&mut self) {
        assert!(self.core.wants_resync());
        self.core.resync(&self.partition);
    }

    fn answer(&self, waiter: u32) -> Option<Result<Done, Failed>> {
        let mut found = self.answers.iter().filter(|(to, _)| *to == waiter).map(|(_, result)| *result);
        let first = found.next();
        assert_eq!(found.next(), None, "waiter {waiter} was answered twice");
        first
    }

    fn offset(&self, waiter: u32) -> Offset {
        self.answer(waiter).expect("answered").expect("appended").base_offset
    }
}

fn batch_of(records: usize, producer: Option<Producer>) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    if let Some(producer) = producer {
        builder.producer(producer);
    }
    for _ in 0..records {
        let record = Record { value: Some(Bytes::from_static(b"value")), timestamp: WALL, ..Record::default() };
        builder.push(&record).unwrap();
    }
    builder.build().unwrap()
}

fn plain(records: usize) -> Bytes {
    batch_of(records, None)
}

fn idempotent(base_sequence: i32, records: usize) -> Bytes {
    batch_of(
        records,
        Some(Producer { id: ProducerId(7), epoch: ProducerEpoch(0), base_sequence: Sequence(base_sequence) }),
    )
}

#[test]
fn one_entry_carries_everything_that_waited() {
    let mut rig = Rig::new();
    rig.send(1, &plain(2));
    rig.send(2, &plain(3));
    let plan = rig.propose().unwrap();
    assert_eq!((rig.plans[plan].base_offset, rig.plans[plan].batches.len()), (Offset(0), 2));
    assert_eq!(rig.propose(), None, "nothing waits");
    assert_eq!(rig.answer(1), None, "B8: not answered before the outcome");
    rig.commit(plan);
    assert_eq!((rig.offset(1), rig.offset(2)), (Offset(0), Offset(2)));
    assert_eq!(rig.partition.next_offset(), Offset(5));
}

#[test]
fn few_proposals_are_outstanding_so_that_the_next_entry_grows() {
    let mut rig = Rig::new();
    for waiter in 0..limits::PROPOSALS_MAX as u32 {
        rig.send(waiter, &plain(1));
        assert!(rig.propose().is_some());
    }
    rig.send(100, &plain(1));
    rig.send(101, &plain(1));
    assert_eq!(rig.propose(), None);
    rig.commit(0);
    let plan = rig.propose().unwrap();
    assert_eq!(rig.plans[plan].batches.len(), 2);
}

#[test]
fn m2_refused_and_dead_batches_are_proposed_again_in_their_old_order() {
    let mut rig = Rig::new();
    let plans: Vec<usize> = (1..=3)
        .map(|waiter| {
            rig.send(waiter, &plain(1));
            rig.propose().unwrap()
        })
        .collect();
    rig.send(4, &plain(1));
    rig.commit(plans[0]);
    rig.land(plans[1], FlightEnd::LeaseExpired);
    assert_eq!(rig.propose(), None, "after a refusal nothing is proposed");
    assert!(!rig.core.wants_resync(), "the third proposal has no outcome yet");
    assert_eq!(rig.commit(plans[2]), FlightEnd::Dead, "it came after one that was never appended");
    rig.resync();
    assert_eq!(rig.propose(), None, "a refusal is retried shortly, not at once");
    rig.pass(limits::REFUSED_RETRY);
    let again = rig.propose().unwrap();
    assert_eq!(rig.plans[again].base_offset, Offset(1));
    rig.commit(again);
    assert_eq!([1, 2, 3, 4].map(|waiter| rig.offset(waiter)), [0, 1, 2, 3].map(Offset));
}

#[test]
fn m2_a_late_outcome_holds_the_resync_back() {
    let mut rig = Rig::new();
    rig.send(1, &plain(1));
    let first = rig.propose().unwrap();
    rig.send(2, &plain(1));
    let second = rig.propose().unwrap();
    rig.land(second, FlightEnd::LeaseExpired);
    assert!(!rig.core.wants_resync());
    rig.commit(first);
    rig.resync();
    rig.pass(limits::REFUSED_RETRY);
    let again = rig.propose().unwrap();
    assert_eq!(rig.plans[again].base_offset, Offset(1), "computed from the applied state");
}

#[test]
fn b8_no_lease_for_a_second_is_not_enough_replicas_without_effect() {
    let mut rig = Rig::new();
    rig.send(1, &plain(1));
    let plan = rig.propose().unwrap();
    rig.land(plan, FlightEnd::LeaseExpired);
    rig.resync();
    for _ in 0..3 {
        rig.pass(Duration::from_millis(300));
        assert_eq!(rig.answer(1), None);
        let again = rig.propose().expect("tried again while its second lasts");
        rig.land(again, FlightEnd::LeaseExpired);
        rig.resync();
    }
    rig.pass(Duration::from_millis(100));
    assert!(matches!(rig.answer(1), Some(Err(Failed::NotEnoughReplicas { .. }))), "{:?}", rig.answers);
    rig.pass(limits::REFUSED_RETRY);
    assert_eq!(rig.propose(), None, "what was answered is not proposed any more");
}

#[test]
fn b8_one_that_arrives_during_the_stall_is_tried_some_times_before_it_is_refused() {
    let mut rig = Rig::new();
    rig.send(1, &plain(1));
    let plan = rig.propose().unwrap();
    rig.land(plan, FlightEnd::LeaseExpired);
    rig.resync();
    rig.pass(Duration::from_millis(900));
    rig.send(2, &plain(1));
    rig.pass(Duration::from_millis(100));
    assert!(rig.answer(1).is_some());
    assert_eq!(rig.answer(2), None);
    rig.pass(limits::LEASE_GONE_WAIT - Duration::from_millis(100));
    assert!(matches!(rig.answer(2), Some(Err(Failed::NotEnoughReplicas { .. }))));
    // Nobody waits a second for each batch that is sent to a leader which lost its lease long ago.
    rig.pass(Duration::from_secs(10));
    rig.send(3, &plain(1));
    rig.pass(limits::LEASE_GONE_WAIT);
    assert!(matches!(rig.answer(3), Some(Err(Failed::NotEnoughReplicas { .. }))));
}

#[test]
fn b8_accepted_without_quorum_is_unknown_and_what_comes_later_has_no_effect() {
    let mut rig = Rig::new();
    rig.send_with(1, &plain(1), None, Duration::from_secs(3));
    let first = rig.propose().unwrap();
    rig.pass(Duration::from_secs(2));
    rig.send_with(2, &plain(1), None, Duration::from_secs(3));
    let second = rig.propose().unwrap();
    rig.land(second, FlightEnd::LeaseExpired);
    rig.pass(Duration::from_secs(1));
    assert!(matches!(rig.answer(1), Some(Err(Failed::OutcomeUnknown { .. }))), "{:?}", rig.answers);
    assert!(matches!(rig.answer(2), Some(Err(Failed::NotEnoughReplicas { .. }))), "{:?}", rig.answers);
    // The quorum is back: the first turns out committed, the second never appears.
    rig.commit(first);
    rig.resync();
    rig.pass(limits::REFUSED_RETRY);
    assert_eq!(rig.propose(), None);
    assert_eq!(rig.partition.next_offset(), Offset(1));
}

#[test]
fn m2_a_retry_of_a_pending_batch_attaches_even_after_its_first_waiter_gave_up() {
    let mut rig = Rig::new();
    let batch = idempotent(0, 2);
    rig.send_with(1, &batch, None, Duration::from_secs(1));
    let plan = rig.propose().unwrap();
    rig.pass(Duration::from_secs(1));
    assert!(matches!(rig.answer(1), Some(Err(Failed::OutcomeUnknown { .. }))));
    rig.send(2, &batch);
    assert_eq!(rig.propose(), None, "the overlay knows it");
    rig.commit(plan);
    let done = rig.answer(2).unwrap().unwrap();
    assert_eq!((done.base_offset, done.duplicate), (Offset(0), true));
    rig.send(3, &batch);
    assert_eq!(rig.propose(), None);
    let again = rig.answer(3).unwrap().unwrap();
    assert_eq!((again.base_offset, again.duplicate, again.position), (Offset(0), true, done.position));
    assert_eq!(rig.partition.next_offset(), Offset(2));
}

#[test]
fn a_batch_and_its_retry_in_one_entry_are_appended_once() {
    let mut rig = Rig::new();
    rig.send(1, &idempotent(0, 1));
    rig.send(2, &idempotent(0, 1));
    rig.send(3, &idempotent(1, 1));
    let plan = rig.propose().unwrap();
    rig.commit(plan);
    assert_eq!([1, 2, 3].map(|waiter| rig.offset(waiter)), [0, 0, 1].map(Offset));
    assert_eq!(rig.partition.next_offset(), Offset(2));
}

#[test]
fn m2_a_refused_idempotent_batch_keeps_its_sequence_when_proposed_again() {
    let mut rig = Rig::new();
    rig.send(1, &idempotent(0, 1));
    let first = rig.propose().unwrap();
    rig.send(2, &idempotent(1, 1));
    let second = rig.propose().unwrap();
    rig.land(first, FlightEnd::LeaseExpired);
    rig.commit(second);
    rig.resync();
    rig.pass(limits::REFUSED_RETRY);
    let again = rig.propose().unwrap();
    rig.commit(again);
    assert_eq!((rig.offset(1), rig.offset(2)), (Offset(0), Offset(1)));
}

#[test]
fn a_producers_later_batches_do_not_overtake_one_that_went_without_effect() {
    let mut rig = Rig::new();
    rig.send_with(1, &idempotent(0, 1), None, Duration::from_secs(1));
    let plan = rig.propose().unwrap();
    rig.land(plan, FlightEnd::Dead);
    rig.send(2, &idempotent(1, 1));
    rig.pass(Duration::from_secs(1));
    assert!(matches!(rig.answer(1), Some(Err(Failed::TimedOut { .. }))), "no lease was refused");
    assert!(matches!(rig.answer(2), Some(Err(Failed::TimedOut { .. }))), "it goes with the first");
    rig.resync();
    rig.send(3, &idempotent(2, 1));
    rig.send(4, &idempotent(0, 1));
    let plan = rig.propose().unwrap();
    let refused = Failed::OutOfOrderSequence { producer: ProducerId(7), expected: Sequence(0), got: Sequence(2) };
    assert_eq!(rig.answer(3), Some(Err(refused)));
    rig.commit(plan);
    assert_eq!(rig.offset(4), Offset(0));
}

#[test]
fn a_batch_that_came_before_its_turn_and_went_holds_up_none_that_is_due() {
    let full = Failed::DiskFull { broker: BrokerId(4), free_bytes: 5, reserve_bytes: 6 };
    for known in [false, true] {
        let mut rig = Rig::new();
        if known {
            rig.send(1, &idempotent(0, 1));
            let plan = rig.propose().unwrap();
            rig.commit(plan);
        }
        // Those before it were lost on their way here. They are sent again, and it is too.
        let first = i32::from(known);
        rig.send(2, &idempotent(first + 2, 1));
        let refused = rig.core.refuse_queued(&rig.partition, WALL, rig.now, full);
        rig.answers.extend(refused);
        for (waiter, sequence) in (3..).zip(first..first + 3) {
            rig.send(waiter, &idempotent(sequence, 1));
            let plan = rig.propose().unwrap_or_else(|| panic!("{sequence}: {:?}", rig.answer(waiter)));
            rig.commit(plan);
            assert_eq!(rig.offset(waiter), Offset(i64::from(sequence)), "known {known}");
        }
    }
}

#[test]
fn a_copy_that_went_while_the_first_was_in_flight_holds_up_nothing() {
    let mut rig = Rig::new();
    rig.send(1, &idempotent(0, 1));
    let flying = rig.propose().unwrap();
    rig.send(2, &idempotent(0, 1));
    let full = Failed::DiskFull { broker: BrokerId(4), free_bytes: 5, reserve_bytes: 6 };
    let refused = rig.core.refuse_queued(&rig.partition, WALL, rig.now, full);
    rig.answers.extend(refused);
    assert_eq!(rig.answer(2), None, "nobody can say yet that it was not appended");
    rig.commit(flying);
    assert_eq!((rig.offset(1), rig.offset(2)), (Offset(0), Offset(0)));
    rig.send(9, &idempotent(0, 1));
    let refused = rig.core.refuse_queued(&rig.partition, WALL, rig.now, full);
    rig.answers.extend(refused);
    assert_eq!(rig.offset(9), Offset(0), "what is in the log needs no room");
    rig.send(3, &idempotent(1, 1));
    let next = rig.propose().unwrap_or_else(|| panic!("{:?}", rig.answer(3)));
    rig.commit(next);
    assert_eq!(rig.offset(3), Offset(1));
}

#[test]
fn what_waits_is_refused_when_the_disk_is_full_and_what_flies_is_not() {
    let mut rig = Rig::new();
    rig.send(1, &idempotent(0, 1));
    let plan = rig.propose().unwrap();
    rig.send(2, &idempotent(1, 1));
    rig.send(3, &plain(1));
    let full = Failed::DiskFull { broker: BrokerId(4), free_bytes: 5, reserve_bytes: 6 };
    let refused = rig.core.refuse_queued(&rig.partition, WALL, rig.now, full);
    rig.answers.extend(refused);
    assert_eq!((rig.answer(1), rig.answer(2), rig.answer(3)), (None, Some(Err(full)), Some(Err(full))));
    rig.commit(plan);
    assert_eq!(rig.offset(1), Offset(0));
    // With room again: what followed the refused one does not overtake it.
    rig.send(4, &idempotent(2, 1));
    rig.send(5, &idempotent(1, 1));
    let plan = rig.propose().unwrap();
    assert!(matches!(rig.answer(4), Some(Err(Failed::OutOfOrderSequence { .. }))), "{:?}", rig.answer(4));
    rig.commit(plan);
    assert_eq!(rig.offset(5), Offset(1));
}

#[test]
fn m2_the_end_of_the_term_tells_what_was_never_appended_from_what_may_be() {
    let mut rig = Rig::new();
    let plans: Vec<usize> = (1..=2)
        .map(|waiter| {
            rig.send(waiter, &plain(1));
            rig.propose().unwrap()
        })
        .collect();
    rig.send(3, &plain(1));
    rig.land(plans[1], FlightEnd::NotLeader);
    let answers = rig.core.end(rig.now);
    rig.answers.extend(answers);
    assert!(matches!(rig.answer(1), Some(Err(Failed::OutcomeUnknown { .. }))));
    assert_eq!(rig.answer(2), Some(Err(Failed::NotLeader)));
    assert_eq!(rig.answer(3), Some(Err(Failed::NotLeader)));
    // What comes after is refused, and outcomes of the old term change nothing.
    rig.send(4, &plain(1));
    assert_eq!(rig.answer(4), Some(Err(Failed::NotLeader)));
    rig.core.begin(Term(4), &rig.partition);
    rig.land(plans[0], FlightEnd::Dead);
    assert!(!rig.core.wants_resync());
}

#[test]
fn an_unknown_outcome_is_told_and_the_appender_looks_again() {
    let mut rig = Rig::new();
    rig.send(1, &plain(1));
    let plan = rig.propose().unwrap();
    rig.land(plan, FlightEnd::Unknown);
    assert!(matches!(rig.answer(1), Some(Err(Failed::OutcomeUnknown { .. }))));
    rig.resync();
    rig.send(2, &plain(1));
    assert!(rig.propose().is_some());
}

#[test]
fn compare_and_append_waits_for_what_it_is_compared_with() {
    let mut rig = Rig::new();
    rig.send(1, &plain(1));
    let first = rig.propose().unwrap();
    rig.send_with(2, &plain(1), Some(Offset(0)), Duration::from_secs(30));
    rig.send_with(3, &plain(1), Some(Offset(1)), Duration::from_secs(30));
    assert_eq!(rig.propose(), None);
    assert_eq!(rig.answer(2), None, "the offset may turn out to be 0 still");
    rig.commit(first);
    let plan = rig.propose().unwrap();
    let wrong = Failed::WrongOffset { expected: Offset(0), actual: Offset(1) };
    assert_eq!(rig.answer(2), Some(Err(wrong)));
    rig.commit(plan);
    assert_eq!(rig.offset(3), Offset(1));
}

#[test]
fn a_pause_lets_flights_land_and_keeps_the_queue() {
    let mut rig = Rig::new();
    rig.send(1, &plain(1));
    let plan = rig.propose().unwrap();
    rig.core.pause();
    rig.send_with(2, &plain(1), None, Duration::from_secs(1));
    rig.send(3, &plain(1));
    assert!(!rig.core.is_settled());
    rig.commit(plan);
    assert!(rig.core.is_settled());
    assert_eq!(rig.propose(), None);
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.answer(2), Some(Err(Failed::Moving)), "its time is up, and it had no effect");
    rig.core.unpause();
    let plan = rig.propose().unwrap();
    rig.commit(plan);
    assert_eq!(rig.offset(3), Offset(1));
}

#[test]
fn an_entry_holds_a_mebibyte_or_one_larger_batch() {
    let mut rig = Rig::new();
    let value = Bytes::from(vec![7; 700_000]);
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(&Record { value: Some(value), timestamp: WALL, ..Record::default() }).unwrap();
    let large = builder.build().unwrap();
    rig.send(1, &large);
    rig.send(2, &large);
    let plan = rig.propose().unwrap();
    assert_eq!(rig.plans[plan].batches.len(), 1);
    assert!(rig.propose().is_some());
}

/// As a header may claim it: a compressed batch of a few bytes that stands for so many records.
fn claims(records: u32) -> Bytes {
    let mut batch = plain(1).to_vec();
    batch[22] |= Codec::Zstd.bits() as u8;
    batch[23..27].copy_from_slice(&(records - 1).to_be_bytes());
    batch[57..61].copy_from_slice(&records.to_be_bytes());
    batch.into()
}

/// Counts are claims, and an entry's count is a u32: batches that wait must not add up beyond it.
#[test]
fn tiny_batches_that_claim_millions_of_records_go_into_several_entries() {
    let mut rig = Rig::new();
    let bomb = claims(BATCH_RECORDS_MAX);
    for waiter in 0..500 {
        rig.send(waiter, &bomb);
    }
    while let Some(plan) = rig.propose() {
        assert!(rig.plans[plan].batches.len() <= (COMMAND_RECORDS_MAX / BATCH_RECORDS_MAX) as usize);
        rig.commit(plan);
    }
    for waiter in 0..500 {
        assert_eq!(rig.offset(waiter), Offset(i64::from(waiter) * i64::from(BATCH_RECORDS_MAX)));
    }
}

/// Batches wait while as many proposals as may be are in the air: that is no want of replicas.
#[test]
fn what_times_out_behind_a_busy_leader_is_told_so_and_a_copy_of_what_flies_that_nobody_knows() {
    let mut rig = Rig::new();
    let flying: Vec<usize> = (0..limits::PROPOSALS_MAX as i32)
        .map(|sequence| {
            rig.send(sequence as u32, &idempotent(sequence, 1));
            rig.propose().unwrap()
        })
        .collect();
    rig.send_with(10, &plain(1), None, Duration::from_secs(1));
    rig.send_with(11, &idempotent(0, 1), None, Duration::from_secs(1));
    rig.pass(Duration::from_secs(1));
    let waited = Duration::from_secs(1);
    assert_eq!(rig.answer(10), Some(Err(Failed::TimedOut { waited })));
    assert_eq!(rig.answer(11), Some(Err(Failed::OutcomeUnknown { waited })));
    for plan in flying {
        rig.commit(plan);
    }
    assert_eq!(rig.offset(0), Offset(0));
}

#[test]
fn more_retries_than_may_wait_on_a_batch_in_flight_are_not_told_that_nothing_was_appended() {
    let mut rig = Rig::new();
    rig.send(0, &idempotent(0, 1));
    let plan = rig.propose().unwrap();
    for waiter in 1..=limits::WAITERS_PER_BATCH_MAX as u32 {
        rig.send(waiter, &idempotent(0, 1));
    }
    assert_eq!(rig.propose(), None);
    let last = limits::WAITERS_PER_BATCH_MAX as u32;
    assert_eq!(rig.answer(last), Some(Err(Failed::OutcomeUnknown { waited: Duration::ZERO })));
    rig.commit(plan);
    assert_eq!(rig.offset(last - 1), Offset(0));
}

/// A leader whose clock is right stamps what it appends with its own time, not with that of one before it.
#[test]
fn stamps_do_not_stay_ahead_under_a_leader_whose_clock_is_right() {
    const DAY_MS: i64 = 24 * 3_600_000;
    let rules = Rules { log_append_time: true, ..RULES };
    for clock_agrees in [true, false] {
        let mut rig = Rig::new();
        rig.send(1, &plain(1));
        let plan = rig.core.plan(&rig.partition, rules, WallMs(WALL.0 + DAY_MS), rig.now, &mut rig.answers).unwrap();
        rig.plans.push(plan);
        rig.commit(0);
        rig.send(2, &plain(1));
        let rules = Rules { clock_agrees, ..rules };
        let plan = rig.core.plan(&rig.partition, rules, WALL, rig.now, &mut rig.answers).unwrap();
        let ahead = WallMs(WALL.0 + DAY_MS);
        assert_eq!((plan.append_time, plan.stamp), (ahead, Some(if clock_agrees { WALL } else { ahead })));
        rig.plans.push(plan);
        rig.commit(1);
        assert_eq!(rig.offset(2), Offset(1));
    }
}

#[test]
fn the_queue_is_bounded() {
    let mut rig = Rig::new();
    let batch = plain(1);
    for waiter in 0..limits::QUEUE_BATCHES_MAX as u32 {
        rig.send(waiter, &batch);
    }
    assert!(rig.answers.is_empty() && !rig.core.has_room());
    rig.send(u32::MAX, &batch);
    assert_eq!(rig.answer(u32::MAX), Some(Err(Failed::QueueFull)));
}
