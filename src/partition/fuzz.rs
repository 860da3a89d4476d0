//! What a partition reads from its log, from disk and from peers: commands, responses, and whole states.

use bytes::Bytes;

use super::{tests::*, *};
use crate::{
    formats::{
        frozen::literals,
        fuzz::{bounded, fuzz, linear},
    },
    record::Producer,
    replicated::Replicated,
    types::{EntryPosition, LeaderEpoch, LogIndex, Offset, ProducerEpoch, ProducerId, Sequence, Term, WallMs},
};

/// A state holds a producer in some 200 bytes, which are some 15 encoded; a vector that is being doubled.
const STATE_PER_BYTE: usize = 128;

fn producer(sequence: i32) -> Option<Producer> {
    Some(Producer { id: ProducerId(9), epoch: ProducerEpoch(1), base_sequence: Sequence(sequence) })
}

/// Commands that follow one another: appends of one and several batches, a trim and a resize between them.
fn commands() -> Vec<Bytes> {
    let batches = [batch(2, 20, WallMs(7), producer(0)), batch(1, 0, WallMs(-1), None)];
    vec![
        append(Offset(0), LeaderEpoch(1), WallMs(1_000), &batches),
        encode_trim(WallMs(1_001), Offset(2)),
        append(Offset(3), LeaderEpoch(1), WallMs(900), &[batch(4, 300, WallMs(9), producer(2))]),
        encode_resize(WallMs(1_002), SegmentLimits { bytes: 500, ms: 10 }),
        append(Offset(7), LeaderEpoch(2), WallMs(9_000), &[batch(1, 5, WallMs(3), producer(6))]),
        encode_trim(WallMs(9_001), Offset(8)),
    ]
}

fn frozen_seeds(text: &str) -> impl Iterator<Item = Vec<u8>> {
    literals(text).into_iter().map(|(_, bytes)| bytes)
}

/// Applies an entry as the driver does. False: it cannot be applied, and the replica would stop.
fn drive_on(partition: &mut Partition, last: &mut EntryPosition, command: &Bytes) -> bool {
    let at = EntryPosition { term: Term(3), index: LogIndex(last.index.0 + 1) };
    if partition.checkpoint_due(command) {
        partition.checkpoint_taken(*last);
    }
    let before = partition.clone();
    match partition.apply(at, command) {
        Ok(applied) => {
            let response = PartitionResponse::decode(&applied.response).expect("what apply encodes");
            assert_eq!(response.encode(), applied.response);
            *last = at;
            true
        }
        Err(_) => {
            assert_eq!(partition.encode(), before.encode(), "after an error the state is as it was");
            false
        }
    }
}

/// What a state must hold whatever it was made of, and what its readers ask of it.
fn check_state(partition: &Partition) {
    assert!(partition.log_start() <= partition.next_offset());
    let again = Partition::decode(&partition.encode()).expect("our own bytes");
    assert_eq!(again.encode(), partition.encode());
    partition.retention_offset(WallMs(i64::MAX), Some(0), Some(0));
    partition.retention_offset(WallMs(i64::MIN), Some(i64::MAX), Some(u64::MAX));
    partition.bytes_from(Offset(i64::MIN));
    for epoch in [LeaderEpoch(i32::MIN), LeaderEpoch(1), LeaderEpoch(i32::MAX)] {
        partition.end_offset_for_epoch(epoch, partition.next_offset());
    }
    assert!(partition.retained_bytes() >= partition.bytes_from(partition.next_offset()));
    partition.kept_segments();
    assert!(partition.purge_point() <= partition.checkpoints().last().map(|last| last.position));
    assert_eq!(partition.remembered().count(), partition.producer_count());
}

#[test]
fn fuzz_commands_on_a_partition() {
    let mut partition = Partition::default();
    let mut last = EntryPosition { term: Term(1), index: LogIndex(0) };
    for command in commands() {
        assert!(drive_on(&mut partition, &mut last, &command), "{command:?}");
    }
    let states = [Partition::default(), partition];
    fuzz!(commands().into_iter().map(Vec::from).chain(frozen_seeds(include_str!("tests/commands.frozen"))), |bytes| {
        let command = Bytes::copy_from_slice(bytes);
        let parsed = bounded(bytes.len(), 0, || CommandView::parse(&command));
        match &parsed {
            Ok(CommandView::Append(append)) => {
                assert_eq!(AppendView::parse(&command).as_ref(), Ok(append));
                assert!(append.end_offset() > append.base_offset && append.base_offset >= Offset(0));
                let _ = bounded(bytes.len(), 0, || append.check());
            }
            Ok(CommandView::Trim(trim)) => assert_eq!(encode_trim(trim.append_time, trim.before), command),
            Ok(CommandView::Resize(resize)) => assert_eq!(encode_resize(resize.append_time, resize.segment), command),
            Err(_) => assert!(AppendView::parse(&command).is_err()),
        }
        for state in &states {
            let mut partition = state.clone();
            let mut last = EntryPosition { term: Term(2), index: LogIndex(100) };
            let is_applied = drive_on(&mut partition, &mut last, &command);
            assert!(parsed.is_ok() || !is_applied, "what cannot be read is never passed over");
            check_state(&partition);
            // It goes on from there, whatever that was.
            for command in commands() {
                drive_on(&mut partition, &mut last, &command);
            }
            check_state(&partition);
        }
    });
    let one = batch(1, 0, WallMs(1), None);
    linear(
        |bytes| append(Offset(0), LeaderEpoch(1), WallMs(1), &vec![one.clone(); bytes / one.0.len()]).to_vec(),
        |command| assert!(drive_on(&mut Partition::default(), &mut last.clone(), &command)),
    );
}

#[test]
fn fuzz_states_of_a_partition() {
    let mut partition = Partition::default();
    let mut last = EntryPosition { term: Term(1), index: LogIndex(0) };
    let mut seeds = vec![partition.encode()];
    for command in commands() {
        drive_on(&mut partition, &mut last, &command);
        seeds.push(partition.encode());
    }
    fuzz!(seeds.into_iter().map(Vec::from).chain(frozen_seeds(include_str!("tests/states.frozen"))), |bytes| {
        let Ok(mut partition) = bounded(bytes.len(), STATE_PER_BYTE, || Partition::decode(bytes)) else { return };
        check_state(&partition);
        // Whoever loads it holds it against the entry that it is said to be of.
        let mut last = EntryPosition { term: Term(2), index: LogIndex(100) };
        if !partition.can_be_after(Some(last)) {
            return;
        }
        let next = partition.next_offset();
        let fits = (0..i64::MAX - 1_000).contains(&next.0);
        for command in commands() {
            drive_on(&mut partition, &mut last, &command);
        }
        if fits {
            let more = [batch(1, 600, WallMs(1), producer(3)), batch(1, 600, WallMs(1), None)];
            for (ahead, batch) in (0..).zip(more) {
                let command = append(Offset(next.0 + ahead), LeaderEpoch(9), WallMs(i64::MAX), &[batch]);
                drive_on(&mut partition, &mut last, &command);
                let trim = encode_trim(WallMs(0), partition.next_offset());
                drive_on(&mut partition, &mut last, &trim);
            }
        }
        check_state(&partition);
    });
    linear(
        |bytes| {
            let one = |id: i64| {
                let producer = Producer { id: ProducerId(id), epoch: ProducerEpoch(0), base_sequence: Sequence(0) };
                batch(1, 0, WallMs(1), Some(producer))
            };
            let mut partition = Partition::default();
            let batches: Vec<_> = (0..bytes as i64 / 15).map(one).collect();
            let mut last = EntryPosition { term: Term(1), index: LogIndex(0) };
            for some in batches.chunks(5_000) {
                let command = append(partition.next_offset(), LeaderEpoch(1), WallMs(1), some);
                assert!(drive_on(&mut partition, &mut last, &command));
            }
            partition.encode().to_vec()
        },
        |state| assert!(Partition::decode(&state).is_ok()),
    );
}

#[test]
fn fuzz_responses_of_a_partition() {
    fuzz!(frozen_seeds(include_str!("responses.frozen")), |bytes| {
        if let Ok(response) = bounded(bytes.len(), 0, || PartitionResponse::decode(bytes)) {
            assert_eq!(response.encode(), bytes);
        }
    });
}
