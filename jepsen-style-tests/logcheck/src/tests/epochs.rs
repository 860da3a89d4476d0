//! Rules of `epochs` and `producers`.

use super::tale::{OK, Tale, run, tale};
use crate::event::{Body, Outcome, Run, Sent};

fn acked_in(tale: &mut Tale, value: u64, offset: i64, leader_epoch: i32, node: u8, attempts: u8) {
    let op = tale.send(1, 0, value);
    tale.sent(1, op, Sent { offset: Some(offset), leader_epoch: Some(leader_epoch), node, attempts, ..OK });
}

#[test]
fn epochs_rise_with_offsets() {
    let epochs = |first: i32, second: i32, attempts| {
        let mut tale = tale();
        acked_in(&mut tale, 10, 0, first, first as u8, attempts);
        acked_in(&mut tale, 11, 1, second, second as u8, 1);
        tale.read(2, &[(0, 0, &[10, 11])]);
        tale.broken()
    };
    assert_eq!(epochs(2, 1, 1), ["epoch-order"]);
    assert_eq!(epochs(1, 2, 1), [] as [&str; 0]);
    // The answer to a repeated send may be of a later leader.
    assert_eq!(epochs(2, 1, 2), [] as [&str; 0]);
}

#[test]
fn a_batch_has_one_epoch() {
    let batches = |epochs: [i32; 2]| {
        let mut tale = tale();
        tale.all_acked(1, 0, 0, &[10]);
        for (process, epoch) in (2..).zip(epochs) {
            tale.fetch(process, 0, 0, vec![Run { epoch: Some(epoch), ..run(&(0, 0, &[10])) }]);
        }
        tale.broken()
    };
    assert_eq!(batches([1, 2]), ["epoch-order"]);
    assert_eq!(batches([2, 2]), [] as [&str; 0]);
}

#[test]
fn an_epoch_has_one_leader() {
    let leaders = |second: (i32, u8)| {
        let mut tale = tale();
        acked_in(&mut tale, 10, 0, 1, 1, 1);
        acked_in(&mut tale, 11, 1, second.0, second.1, 1);
        tale.read(2, &[(0, 0, &[10, 11])]);
        tale.broken()
    };
    assert_eq!(leaders((1, 2)), ["epoch-order"]);
    assert_eq!(leaders((2, 2)), [] as [&str; 0]);
    assert_eq!(leaders((1, 1)), [] as [&str; 0]);
}

#[test]
fn an_epoch_ends_in_one_place() {
    let ends = |first: i64, second: i64, superseded: bool| {
        let mut tale = tale();
        acked_in(&mut tale, 10, 0, 1, 1, 1);
        acked_in(&mut tale, 11, 1, 1, 1, 1);
        if superseded {
            acked_in(&mut tale, 12, 2, 2, 2, 1);
        }
        for end in [first, second] {
            tale.did(3, Body::EpochEnd { key: 0, epoch: 1 }, Body::EpochEnded { outcome: Outcome::Ok, error: 0, end });
        }
        let read: &[u64] = if superseded { &[10, 11, 12] } else { &[10, 11] };
        tale.read(2, &[(0, 0, read)]);
        tale.broken()
    };
    // While the epoch lasts its end moves on, and what was not acknowledged may be taken back.
    assert_eq!(ends(2, 3, false), [] as [&str; 0]);
    assert_eq!(ends(3, 2, false), [] as [&str; 0]);
    assert_eq!(ends(2, 1, false), ["epoch-order"]);
    // Once the next has begun it does not move.
    assert_eq!(ends(2, 3, true), ["epoch-order"]);
    assert_eq!(ends(2, 2, true), [] as [&str; 0]);
}

#[test]
fn a_producer_id_is_given_once() {
    let given = |second: (i64, i16)| {
        let mut tale = tale();
        tale.all_acked(1, 0, 0, &[10]);
        tale.read(2, &[(0, 0, &[10])]);
        for (producer_id, producer_epoch) in [(7, 0), second] {
            let answer = Body::InitedProducer { outcome: Outcome::Ok, error: 0, producer_id, producer_epoch };
            tale.did(3, Body::InitProducer, answer);
        }
        tale.broken()
    };
    assert_eq!(given((7, 0)), ["pid-reuse"]);
    assert_eq!(given((7, 1)), [] as [&str; 0]);
    assert_eq!(given((8, 0)), [] as [&str; 0]);
}
