//! The promises of `core`, as stories. A batch is its number.

mod against_a_model;

use std::time::Duration;

use super::core::{AttemptId, Core, Done, Ended, Item, Now, Stamp, Verdict};
use crate::{
    client::error::{BrokerError, ClientError, Effect, ErrorCode},
    types::Offset,
};

type TestCore = Core<u32, i64>;

const LONG: Now = Duration::from_secs(30);

fn ms(n: u64) -> Now {
    Duration::from_millis(n)
}

fn refused(code: ErrorCode, effect: Effect) -> ClientError {
    let (message, leader) = (String::new(), None);
    let (actual_offset, log_start, high_watermark) = (None, None, None);
    let error =
        BrokerError { code, message, effect, retriable: false, leader, actual_offset, log_start, high_watermark };
    ClientError::Broker(Box::new(error))
}

fn no_effect() -> ClientError {
    refused(ErrorCode::NotLeader, Effect::Nothing)
}

fn lost() -> ClientError {
    ClientError::Lost { address: "a:1".into(), detail: "reset".into() }
}

/// A core with one partition, which knows the broker and is known to it. The batch that made them
/// acquainted has so many records that sequences are back at 0.
fn acquainted() -> TestCore {
    let mut core = Core::new(true);
    core.add_partition(0);
    core.push(0, Item { batch: 99, count: 1 << 31, since: Now::ZERO, deadline: LONG, expected: None });
    let attempt = core.next_send(0, ms(0)).expect("the first").attempt;
    core.on_acked(attempt, 0);
    core.take_done();
    core
}

/// Returns a core with `n` batches of ten records.
fn with_batches(n: u32) -> TestCore {
    let mut core = acquainted();
    for batch in 0..n {
        push(&mut core, batch);
    }
    core
}

fn push(core: &mut TestCore, batch: u32) {
    core.push(0, Item { batch, count: 10, since: Now::ZERO, deadline: LONG, expected: None });
}

/// Sends all that may go: (attempt, batch, epoch, sequence).
fn send_all(core: &mut TestCore, now: Now) -> Vec<(AttemptId, u32, i16, i32)> {
    let mut sent = vec![];
    while let Some(send) = core.next_send(0, now) {
        let Stamp { epoch, sequence } = send.stamp.expect("idempotent");
        sent.push((send.attempt, *send.batch, epoch, sequence));
    }
    sent
}

fn batches(sent: &[(AttemptId, u32, i16, i32)]) -> Vec<u32> {
    sent.iter().map(|s| s.1).collect()
}

fn stamps(sent: &[(AttemptId, u32, i16, i32)]) -> Vec<(u32, i16, i32)> {
    sent.iter().map(|s| (s.1, s.2, s.3)).collect()
}

fn ended(core: &mut TestCore) -> Vec<(u32, &'static str)> {
    let name = |ended: Ended<i64>| match ended {
        Ended::Acked(_) => "acked",
        Ended::Sent => "sent",
        Ended::Failed(error) => {
            assert!(
                !matches!(error, ClientError::Deadline { effect: Effect::Unknown, .. }),
                "a failure without effect says it had one: {error}"
            );
            "failed"
        }
        Ended::Unknown(_) => "unknown",
    };
    core.take_done().into_iter().map(|Done { batch, ended, .. }| (batch, name(ended))).collect()
}

#[test]
fn five_are_in_flight_with_consecutive_sequences() {
    let mut core = with_batches(7);
    let sent = send_all(&mut core, ms(0));
    assert_eq!(stamps(&sent), [(0, 0, 0), (1, 0, 10), (2, 0, 20), (3, 0, 30), (4, 0, 40)]);
    core.on_acked(sent[0].0, 0);
    assert_eq!(stamps(&send_all(&mut core, ms(1))), [(5, 0, 50)]);
}

#[test]
fn the_first_batch_goes_alone_because_a_broker_that_knows_nothing_takes_any_sequence() {
    let mut core: TestCore = Core::new(true);
    core.add_partition(0);
    (0..3).for_each(|batch| push(&mut core, batch));
    let first = send_all(&mut core, ms(0));
    assert_eq!(stamps(&first), [(0, 0, 0)]);
    core.on_acked(first[0].0, 0);
    assert_eq!(stamps(&send_all(&mut core, ms(1))), [(1, 0, 10), (2, 0, 20)]);
}

#[test]
fn the_window_is_counted_from_the_oldest_unresolved_batch() {
    let mut core = with_batches(9);
    let sent = send_all(&mut core, ms(0));
    for s in &sent[1..] {
        core.on_acked(s.0, 0);
    }
    // 0 must stay among the last five that the broker saw: else its retry is taken for a gap.
    assert!(send_all(&mut core, ms(1)).is_empty(), "5 to 8 wait for 0");
    core.on_acked(sent[0].0, 0);
    assert_eq!(batches(&send_all(&mut core, ms(1))), [5, 6, 7, 8]);
}

#[test]
fn a_lost_stream_is_retried_in_order_with_the_same_stamps() {
    let mut core = with_batches(3);
    let first = send_all(&mut core, ms(0));
    core.on_acked(first[0].0, 0);
    for s in &first[1..] {
        core.on_lost(s.0, lost(), ms(1), 0);
    }
    assert_eq!(send_all(&mut core, ms(1)), [], "it pauses first");
    let second = send_all(&mut core, ms(1000));
    assert_eq!(stamps(&second), [(1, 0, 10), (2, 0, 20)]);
    assert_eq!(ended(&mut core), [(0, "acked")]);
}

#[test]
fn nothing_overtakes_a_batch_that_waits() {
    let mut core = with_batches(3);
    let sent = send_all(&mut core, ms(0));
    core.on_refused(sent[0].0, Verdict::Retry, no_effect(), ms(1), 0);
    push(&mut core, 3);
    assert_eq!(send_all(&mut core, ms(1)), []);
    // The others are refused for the gap that the first one left.
    let gap = || refused(ErrorCode::OutOfOrderSequence, Effect::Nothing);
    core.on_refused(sent[1].0, Verdict::Sequence, gap(), ms(2), 0);
    core.on_refused(sent[2].0, Verdict::Sequence, gap(), ms(2), 0);
    let again = send_all(&mut core, ms(1000));
    assert_eq!(stamps(&again), [(0, 0, 0), (1, 0, 10), (2, 0, 20), (3, 0, 30)]);
}

#[test]
fn a_gap_answer_that_was_overtaken_by_the_retry_is_no_failure() {
    let mut core = with_batches(2);
    let sent = send_all(&mut core, ms(0));
    core.on_refused(sent[0].0, Verdict::Retry, no_effect(), ms(1), 0);
    let again = send_all(&mut core, ms(1000));
    assert_eq!(batches(&again), [0], "1 still waits for its answer");
    core.on_acked(again[0].0, 0);
    core.on_refused(sent[1].0, Verdict::Sequence, refused(ErrorCode::OutOfOrderSequence, Effect::Nothing), ms(1001), 0);
    assert_eq!(stamps(&send_all(&mut core, ms(2000))), [(1, 0, 10)]);
}

#[test]
fn only_what_surely_was_not_appended_fails_without_effect() {
    let mut core = with_batches(2);
    let sent = send_all(&mut core, ms(0));
    core.on_refused(sent[0].0, Verdict::Retry, no_effect(), ms(1), 0);
    core.on_lost(sent[1].0, lost(), ms(1), 0);
    core.expire(LONG);
    // The first was refused; so the second, whose fate was open, came behind a hole.
    assert_eq!(ended(&mut core), [(0, "failed"), (1, "failed")]);
}

#[test]
fn a_retry_that_was_refused_does_not_settle_an_earlier_attempt() {
    let mut core = with_batches(1);
    let sent = send_all(&mut core, ms(0));
    core.on_lost(sent[0].0, lost(), ms(1), 0);
    let again = send_all(&mut core, ms(1000));
    core.on_refused(again[0].0, Verdict::Retry, no_effect(), ms(1001), 0);
    core.expire(LONG);
    assert_eq!(ended(&mut core), [(0, "unknown")]);
}

/// Otherwise a broker that takes all the time it has would answer when nobody waits any more, and what surely had no
/// effect would end as unknown.
#[test]
fn a_broker_is_given_less_time_than_there_is() {
    let mut core = with_batches(1);
    assert_eq!(core.next_send(0, ms(0)).unwrap().answer_within, LONG - ms(100));
    let mut core = with_batches(1);
    assert_eq!(core.next_send(0, LONG - ms(40)).unwrap().answer_within, ms(30));
}

#[test]
fn a_retry_that_has_no_time_for_its_answer_is_not_made() {
    let mut core = with_batches(1);
    let sent = send_all(&mut core, ms(0));
    core.on_refused(sent[0].0, Verdict::Retry, no_effect(), LONG - ms(200), 0);
    assert!(!core.is_sendable(0, LONG - ms(99)));
    core.expire(LONG);
    assert_eq!(ended(&mut core), [(0, "failed")]);

    // What may have been appended has nothing to lose, and everything to gain.
    let mut core = with_batches(1);
    let sent = send_all(&mut core, ms(0));
    core.on_lost(sent[0].0, lost(), LONG - ms(200), 0);
    let again = send_all(&mut core, LONG - ms(99));
    core.on_acked(again[0].0, 0);
    assert_eq!(ended(&mut core), [(0, "acked")]);
}

#[test]
fn an_unknown_answer_is_unknown_at_the_deadline_and_acked_if_the_retry_finds_it() {
    let unknown = || refused(ErrorCode::OutcomeUnknown, Effect::Unknown);
    let mut core = with_batches(1);
    let sent = send_all(&mut core, ms(0));
    core.on_refused(sent[0].0, Verdict::Retry, unknown(), ms(1), 0);
    let again = send_all(&mut core, ms(1000));
    assert_eq!(stamps(&again), [(0, 0, 0)]);
    core.on_acked(again[0].0, 7);
    assert_eq!(ended(&mut core), [(0, "acked")]);
}

#[test]
fn after_an_unknown_the_rest_goes_on_in_a_new_epoch() {
    let mut core = with_batches(1);
    send_all(&mut core, ms(0));
    core.push(0, Item { batch: 1, count: 10, since: LONG, deadline: LONG * 2, expected: None });
    core.expire(LONG);
    assert_eq!(ended(&mut core), [(0, "unknown")]);
    // Epoch 1 fences what may still be on a wire.
    assert_eq!(stamps(&send_all(&mut core, LONG)), [(1, 1, 0)]);
}

#[test]
fn what_may_be_appended_is_never_stamped_anew() {
    let mut core = with_batches(1);
    let first = send_all(&mut core, ms(0));
    core.push(0, Item { batch: 1, count: 10, since: LONG, deadline: LONG * 2, expected: None });
    let second = send_all(&mut core, ms(1));
    core.on_lost(first[0].0, lost(), ms(2), 0);
    core.on_lost(second[0].0, lost(), ms(2), 0);
    core.expire(LONG);
    assert_eq!(ended(&mut core), [(0, "unknown")]);
    core.push(0, Item { batch: 2, count: 10, since: LONG, deadline: LONG * 2, expected: None });
    // 1 goes out again as it was; 2 waits for its end.
    let again = send_all(&mut core, LONG);
    assert_eq!(stamps(&again), [(1, 0, 10)]);
    core.on_acked(again[0].0, 10);
    assert_eq!(stamps(&send_all(&mut core, LONG)), [(2, 1, 0)]);
}

#[test]
fn a_gap_behind_an_unknown_one_ends_as_unknown_if_it_may_be_there() {
    let mut core = with_batches(1);
    let first = send_all(&mut core, ms(0));
    core.push(0, Item { batch: 1, count: 10, since: LONG, deadline: LONG * 2, expected: None });
    let second = send_all(&mut core, ms(1));
    core.on_lost(first[0].0, lost(), ms(2), 0);
    core.on_lost(second[0].0, lost(), ms(2), 0);
    core.expire(LONG);
    let again = send_all(&mut core, LONG);
    let gap = refused(ErrorCode::OutOfOrderSequence, Effect::Nothing);
    core.on_refused(again[0].0, Verdict::Sequence, gap, LONG, 0);
    assert_eq!(ended(&mut core), [(0, "unknown"), (1, "unknown")]);
}

#[test]
fn a_final_refusal_strips_those_behind_and_they_go_on_in_order() {
    let mut core = with_batches(4);
    let sent = send_all(&mut core, ms(0));
    core.on_refused(sent[1].0, Verdict::Final, refused(ErrorCode::BatchTooLarge, Effect::Nothing), ms(1), 0);
    assert_eq!(ended(&mut core), [(1, "failed")]);
    assert_eq!(send_all(&mut core, ms(2)), [], "0 must end first: the next epoch would fence its retry");
    // Late answers to attempts that were taken back change nothing.
    core.on_refused(sent[2].0, Verdict::Sequence, refused(ErrorCode::OutOfOrderSequence, Effect::Nothing), ms(2), 0);
    core.on_acked(sent[0].0, 0);
    let again = send_all(&mut core, ms(3));
    assert_eq!(stamps(&again), [(2, 1, 0)]);
    core.on_acked(again[0].0, 10);
    assert_eq!(stamps(&send_all(&mut core, ms(4))), [(3, 1, 10)]);
}

#[test]
fn a_forgotten_producer_starts_a_new_epoch_if_that_is_safe() {
    let mut core = with_batches(1);
    let sent = send_all(&mut core, ms(0));
    core.on_refused(sent[0].0, Verdict::Sequence, refused(ErrorCode::UnknownProducer, Effect::Nothing), ms(1), 0);
    assert_eq!(stamps(&send_all(&mut core, ms(1000))), [(0, 1, 0)]);
}

#[test]
fn a_new_leader_gets_everything_in_order_and_the_old_ones_answers_count() {
    let mut core = with_batches(3);
    let old = send_all(&mut core, ms(0));
    core.on_leader_changed(0);
    let new = send_all(&mut core, ms(1));
    assert_eq!(stamps(&new), [(0, 0, 0), (1, 0, 10), (2, 0, 20)]);
    core.on_acked(old[0].0, 5);
    core.on_refused(old[1].0, Verdict::Retry, no_effect(), ms(2), 0);
    assert_eq!(ended(&mut core), [(0, "acked")]);
    assert_eq!(send_all(&mut core, ms(2)), [], "a late refusal does not send a third time");
    core.on_acked(new[0].0, 5); // Resolved already: ignored.
    core.on_acked(new[1].0, 6);
    core.on_acked(new[2].0, 7);
    assert_eq!(ended(&mut core), [(1, "acked"), (2, "acked")]);
}

#[test]
fn a_failed_condition_fails_what_follows() {
    let mut core: TestCore = Core::new(true);
    core.add_partition(0);
    for (batch, expected) in [(0, 5), (1, 15), (2, 25)] {
        core.push(0, Item { batch, count: 10, since: ms(0), deadline: LONG, expected: Some(Offset(expected)) });
    }
    let sent = send_all(&mut core, ms(0));
    core.on_refused(sent[0].0, Verdict::Final, refused(ErrorCode::WrongOffset, Effect::Nothing), ms(1), 0);
    assert_eq!(ended(&mut core), [(0, "failed"), (1, "failed"), (2, "failed")]);
    core.push(0, Item { batch: 3, count: 10, since: ms(0), deadline: LONG, expected: Some(Offset(35)) });
    assert_eq!(ended(&mut core), [(3, "failed")]);
}

#[test]
fn without_idempotence_nothing_that_may_be_there_is_sent_again() {
    let mut core: TestCore = Core::new(false);
    core.add_partition(0);
    for batch in 0..2 {
        core.push(0, Item { batch, count: 10, since: ms(0), deadline: LONG, expected: None });
    }
    let attempt = core.next_send(0, ms(0)).expect("the first").attempt;
    assert!(core.next_send(0, ms(0)).is_none(), "one at a time keeps the order");
    core.on_lost(attempt, lost(), ms(1), 0);
    assert_eq!(ended(&mut core), [(0, "unknown")]);
}

#[test]
fn sequences_wrap_to_zero() {
    let mut core = acquainted();
    for (batch, count) in [(0, i32::MAX as u32), (1, 3), (2, 1)] {
        core.push(0, Item { batch, count, since: ms(0), deadline: LONG, expected: None });
    }
    assert_eq!(stamps(&send_all(&mut core, ms(0))), [(0, 0, 0), (1, 0, i32::MAX), (2, 0, 2)]);
}

/// A batch is its number; the second half of `n` is `n + 100`, of ten records at first.
fn halve(batch: &mut u32) -> Option<(u32, u32)> {
    (*batch < 100).then_some((*batch + 100, 5))
}

fn too_large() -> ClientError {
    refused(ErrorCode::BatchTooLarge, Effect::Nothing)
}

#[test]
fn a_batch_that_is_too_large_goes_in_two_halves_and_what_follows_keeps_its_place() {
    let mut core = with_batches(3);
    let sent = send_all(&mut core, ms(0));
    assert_eq!(stamps(&sent), [(0, 0, 0), (1, 0, 10), (2, 0, 20)]);
    core.on_too_large(sent[0].0, too_large(), ms(1), halve);
    let halves = send_all(&mut core, ms(1));
    assert_eq!(stamps(&halves), [(0, 0, 0), (100, 0, 5)]);
    // The others came behind a gap, and go again behind both halves.
    let gap = || refused(ErrorCode::OutOfOrderSequence, Effect::Nothing);
    core.on_refused(sent[1].0, Verdict::Sequence, gap(), ms(2), 0);
    core.on_refused(sent[2].0, Verdict::Sequence, gap(), ms(2), 0);
    assert_eq!(stamps(&send_all(&mut core, ms(2))), [(1, 0, 10), (2, 0, 20)]);
    core.on_acked(halves[0].0, 0);
    core.on_acked(halves[1].0, 5);
    assert_eq!(ended(&mut core), [(0, "acked"), (100, "acked")]);
}

#[test]
fn halves_count_in_the_window() {
    let mut core = with_batches(6);
    let sent = send_all(&mut core, ms(0));
    assert_eq!(batches(&sent), [0, 1, 2, 3, 4]);
    core.on_too_large(sent[0].0, too_large(), ms(1), halve);
    let gap = || refused(ErrorCode::OutOfOrderSequence, Effect::Nothing);
    sent[1..].iter().for_each(|s| core.on_refused(s.0, Verdict::Sequence, gap(), ms(2), 0));
    // Five are in flight at most, for the broker remembers no more: 4 waits, stamped as it is.
    let again = send_all(&mut core, ms(1000));
    assert_eq!(stamps(&again), [(0, 0, 0), (100, 0, 5), (1, 0, 10), (2, 0, 20), (3, 0, 30)]);
    core.on_acked(again[0].0, 0);
    assert_eq!(stamps(&send_all(&mut core, ms(1000))), [(4, 0, 40)]);
    core.on_acked(again[1].0, 0);
    assert_eq!(stamps(&send_all(&mut core, ms(1000))), [(5, 0, 50)]);
}

#[test]
fn a_single_record_that_is_too_large_fails_alone_and_what_follows_says_so() {
    let mut core = with_batches(2);
    let sent = send_all(&mut core, ms(0));
    core.on_too_large(sent[0].0, too_large(), ms(1), |_| None);
    let again = send_all(&mut core, ms(1000));
    assert_eq!(stamps(&again), [(1, 1, 0)], "its sequence is lost, and the epoch with it");
    core.on_acked(again[0].0, 0);
    push(&mut core, 2);
    let later = send_all(&mut core, ms(1000));
    core.on_acked(later[0].0, 10);
    let done: Vec<_> = core.take_done().into_iter().map(|done| (done.batch, done.after_failure)).collect();
    assert_eq!(done, [(0, false), (1, true), (2, true)]);
}

#[test]
fn what_may_be_in_the_log_is_not_sent_in_other_pieces() {
    let mut core = with_batches(1);
    let sent = send_all(&mut core, ms(0));
    core.on_lost(sent[0].0, lost(), ms(1), 0);
    let again = send_all(&mut core, ms(1000));
    core.on_too_large(again[0].0, too_large(), ms(1001), halve);
    assert_eq!(ended(&mut core), [(0, "unknown")]);
}

#[test]
fn halves_of_a_compared_batch_expect_their_own_offsets() {
    let mut core = acquainted();
    core.push(0, Item { batch: 0, count: 10, since: Now::ZERO, deadline: LONG, expected: Some(Offset(7)) });
    let sent = send_all(&mut core, ms(0));
    core.on_too_large(sent[0].0, too_large(), ms(1), halve);
    assert_eq!(core.next_send(0, ms(1)).unwrap().expected, Some(Offset(7)));
    assert_eq!(core.next_send(0, ms(1)).unwrap().expected, Some(Offset(12)));
}
