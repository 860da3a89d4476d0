//! Rules of `offsets`, `reads`, `realtime` and `sends`.

use super::tale::{OK, marked, run, tale};
use crate::{
    event::{Body, From, Outcome, Poll, Polled, Sent},
    payload,
};

#[test]
fn one_offset_with_two_values() {
    let mut bad = tale();
    bad.all_acked(1, 0, 0, &[10, 11]);
    bad.read(2, &[(0, 0, &[10, 11])]);
    bad.acked(1, 0, 12, 1);
    bad.breaks("inconsistent-offsets");
    // Polls of every outcome count.
    let mut bad = tale();
    bad.all_acked(1, 0, 0, &[10, 11]);
    let lost = bad.send(1, 0, 12);
    bad.sent(1, lost, Sent::default());
    let op = bad.poll(2, From::Assigned);
    bad.put(2, op, Body::Polled(Polled { outcome: Outcome::Info, error: 7, runs: vec![run(&(0, 1, &[12]))] }));
    bad.breaks("inconsistent-offsets");
    // The same offset of another key, and an answer of unknown outcome whose value nobody read.
    let mut fine = tale();
    fine.all_acked(1, 0, 0, &[10]);
    fine.all_acked(1, 1, 0, &[11]);
    let lost = fine.send(1, 0, 12);
    fine.sent(1, lost, Sent { offset: Some(0), ..Sent::default() });
    fine.read(2, &[(0, 0, &[10]), (1, 0, &[11])]);
    fine.is_fine();
}

#[test]
fn one_value_at_two_offsets() {
    let twice = |idempotent, client_retries| {
        let mut tale = tale();
        (tale.meta.promises.idempotent, tale.meta.promises.client_retries) = (idempotent, client_retries);
        tale.acked(1, 0, 10, 1);
        tale.read(2, &[(0, 0, &[10, 10])]);
        tale
    };
    assert_eq!(twice(true, true).broken(), ["duplicate"]);
    assert_eq!(twice(false, false).broken(), ["duplicate"]);
    // A plain producer that sends again was promised nothing else.
    twice(false, true).is_fine();
    assert_eq!(twice(false, true).told(), ["duplicate"]);
    // A sequence makes a producer idempotent, whatever the run says.
    let mut bad = tale();
    bad.meta.promises.idempotent = false;
    let op = bad.sequenced(1, 0, 10, 0);
    bad.sent(1, op, Sent { offset: Some(0), ..OK });
    bad.read(2, &[(0, 0, &[10, 10])]);
    assert_eq!(bad.broken(), ["duplicate"]);
}

#[test]
fn an_acknowledgement_that_names_another_offset() {
    let mut bad = tale();
    bad.acked(1, 0, 10, 5);
    bad.read(2, &[(0, 3, &[10])]);
    bad.breaks("ack-mismatch");
    // Where it may stand twice, the second place may just not have been read...
    bad.meta.promises.idempotent = false;
    bad.is_fine();
    // ...unless it is known to hold something else.
    bad.sends(11..13);
    bad.read(2, &[(0, 4, &[11, 12])]);
    bad.breaks("ack-mismatch");
    let mut fine = tale();
    fine.acked(1, 0, 10, 3);
    fine.read(2, &[(0, 3, &[10])]);
    fine.is_fine();
}

#[test]
fn two_successors_of_one_value() {
    let mut bad = tale();
    bad.sends(10..13);
    bad.read(2, &[(0, 0, &[10, 11])]);
    bad.read(3, &[(0, 0, &[10, 12])]);
    bad.breaks("divergent-successor");
    // Over a hole everybody sees the same.
    let mut fine = tale();
    fine.sends(10..12);
    fine.read(2, &[(0, 0, &[10]), (0, 5, &[11])]);
    fine.read(3, &[(0, 0, &[10]), (0, 5, &[11])]);
    fine.is_fine();
    // A value that stands twice, where that is allowed, has two.
    let mut fine = tale();
    fine.meta.promises.idempotent = false;
    fine.sends(10..13);
    fine.read(2, &[(0, 0, &[10, 11, 10, 12])]);
    fine.is_fine();
}

#[test]
fn a_record_of_nobody() {
    for value in [77, payload::DAMAGED, payload::OTHER_RUN, payload::OTHER_KEY] {
        let mut bad = tale();
        bad.acked(1, 0, 10, 0);
        bad.read(2, &[(0, 0, &[10, value])]);
        assert_eq!(bad.broken(), ["phantom"], "{value}");
    }
}

#[test]
fn a_record_of_another_key() {
    let mut bad = tale();
    let op = bad.send(1, 1, 10);
    bad.sent(1, op, Sent::default());
    bad.read(2, &[(0, 0, &[10])]);
    assert_eq!(bad.broken(), ["phantom"]);
}

#[test]
fn a_record_that_is_read_before_it_was_sent() {
    let mut bad = tale();
    bad.read(2, &[(0, 0, &[10])]);
    bad.acked(1, 0, 10, 0);
    bad.breaks("phantom");
    let mut fine = tale();
    let poll = fine.poll(2, From::Assigned);
    let send = fine.send(1, 0, 10);
    fine.polled(2, poll, vec![run(&(0, 0, &[10]))]);
    fine.sent(1, send, Sent { offset: Some(0), ..OK });
    fine.is_fine();
}

#[test]
fn a_record_whose_send_failed() {
    let mut bad = tale();
    bad.failed(1, 0, 10);
    bad.read(2, &[(0, 0, &[10])]);
    assert_eq!(bad.broken(), ["G1a"]);
    let mut fine = tale();
    fine.failed(1, 0, 9);
    let op = fine.send(1, 0, 10);
    fine.sent(1, op, Sent::default());
    fine.read(2, &[(0, 0, &[10])]);
    fine.is_fine();
}

#[test]
fn a_send_below_what_was_known_when_it_began() {
    let mut bad = tale();
    bad.acked(1, 0, 10, 5);
    bad.acked(3, 0, 11, 4);
    bad.read(2, &[(0, 4, &[11, 10])]);
    assert_eq!(bad.broken(), ["realtime-order"]);
    // What a read showed counts as well; and a send of unknown outcome that is seen later.
    let mut bad = tale();
    bad.send(1, 0, 10);
    bad.read(2, &[(0, 5, &[10])]);
    bad.send(3, 0, 11);
    bad.read(4, &[(0, 4, &[11, 10])]);
    assert_eq!(bad.broken(), ["realtime-order"]);
    // At once, any order will do; so it will between keys.
    let mut fine = tale();
    let (one, other) = (fine.send(1, 0, 10), fine.send(3, 0, 11));
    fine.sent(1, one, Sent { offset: Some(5), ..OK });
    fine.sent(3, other, Sent { offset: Some(4), ..OK });
    fine.acked(3, 1, 12, 0);
    fine.read(2, &[(0, 4, &[11, 10]), (1, 0, &[12])]);
    fine.is_fine();
}

#[test]
fn a_fetch_that_takes_for_the_end_what_is_not() {
    let stale = |linearizable, watermark| {
        let mut tale = tale();
        tale.meta.promises.linearizable_fetch = linearizable;
        tale.all_acked(1, 0, 0, &[10, 11, 12]);
        tale.fetch(2, 0, 0, vec![marked((0, 0, &[10]), watermark, 0)]);
        tale.fetch(3, 0, 0, vec![run(&(0, 0, &[10, 11, 12]))]);
        tale
    };
    assert_eq!(stale(true, 2).broken(), ["stale-fetch"]);
    stale(false, 2).is_fine();
    assert_eq!(stale(false, 2).told(), ["stale-fetch"]);
    // A short answer that knows that there is more.
    stale(true, 3).is_fine();
    // An empty answer from where something had been acknowledged; and while it was being appended.
    let mut bad = tale();
    bad.meta.promises.linearizable_fetch = true;
    bad.all_acked(1, 0, 0, &[10]);
    bad.fetch(2, 0, 0, vec![]);
    bad.fetch(2, 0, 0, vec![run(&(0, 0, &[10]))]);
    assert_eq!(bad.broken(), ["stale-fetch"]);
    let mut fine = tale();
    fine.meta.promises.linearizable_fetch = true;
    let op = fine.send(1, 0, 10);
    let poll = fine.poll(2, From::Fetch { key: 0, position: 0 });
    fine.sent(1, op, Sent { offset: Some(0), ..OK });
    fine.polled(2, poll, vec![]);
    fine.fetch(2, 0, 0, vec![run(&(0, 0, &[10]))]);
    fine.is_fine();
}

#[test]
fn two_sends_the_other_way_round() {
    // Both of unknown outcome and at once: no order, unless a producer's sequences give one.
    let reversed = |sequenced: bool| {
        let mut tale = tale();
        for (value, sequence) in [(10, 0), (11, 1)] {
            if sequenced {
                tale.sequenced(1, 0, value, sequence);
            } else {
                tale.send(1, 0, value);
            }
        }
        tale.read(2, &[(0, 0, &[11, 10])]);
        tale
    };
    assert_eq!(reversed(true).broken(), ["nonmonotonic-send"]);
    reversed(false).is_fine();
    // One after the other.
    let mut bad = tale();
    bad.acked(1, 0, 10, 1);
    bad.acked(1, 0, 11, 0);
    bad.read(2, &[(0, 0, &[11, 10])]);
    assert_eq!(bad.broken(), ["realtime-order", "nonmonotonic-send"]);
    // A failure between two says nothing.
    let mut fine = tale();
    fine.acked(1, 0, 10, 0);
    fine.failed(1, 0, 9);
    fine.acked(1, 0, 11, 1);
    fine.read(2, &[(0, 0, &[10, 11])]);
    fine.is_fine();
}

#[test]
fn records_of_a_batch() {
    let batch = |read: &[u64], idempotent| {
        let mut tale = tale();
        tale.meta.promises.idempotent = idempotent;
        for value in [10, 11] {
            tale.batched(1, 0, value, 7);
        }
        tale.send(3, 0, 12);
        tale.read(2, &[(0, 0, read)]);
        tale
    };
    assert_eq!(batch(&[11, 10, 12], true).broken(), ["int-nonmonotonic-send"]);
    // A plain producer's retry may overtake.
    batch(&[11, 10, 12], false).is_fine();
    batch(&[10, 12, 11], true).is_fine();
    assert_eq!(batch(&[10, 12, 11], true).told(), ["int-send-skip"]);
    batch(&[10, 11, 12], true).is_fine();
    assert_eq!(batch(&[10, 11, 12], true).told(), [] as [&str; 0]);
    // Two batches have no order.
    let mut fine = tale();
    fine.batched(1, 0, 10, 7);
    fine.batched(1, 0, 11, 8);
    fine.read(2, &[(0, 0, &[11, 10])]);
    fine.is_fine();
}

#[test]
fn an_operation_without_a_beginning_is_no_history() {
    let mut bad = tale();
    bad.put(2, 7, Body::Polled(Polled::default()));
    assert!(std::panic::catch_unwind(|| bad.report()).is_err());
    let mut bad = tale();
    bad.poll(2, From::Assigned);
    bad.begin(2, Body::Poll(Poll { from: From::Assigned, node: 1 }));
    assert!(std::panic::catch_unwind(|| bad.report()).is_err());
}
