//! The partition's tests: stories as scripts, laws as properties, and frozen bytes.

mod frozen;
mod properties;
mod scripts;

use bytes::Bytes;

use super::*;
use crate::record::{BatchBuilder, BatchHeader, BatchLimits, Codec, Producer, Record, validate_batch};
use crate::replicated::{Applied, Replicated};
use crate::types::{EntryPosition, LeaderEpoch, LogIndex, Offset, ProducerEpoch, ProducerId, Sequence, Term, WallMs};

/// A batch of equal records whose values have `value_bytes` bytes, all with one timestamp.
pub(super) fn batch(
    records: u32,
    value_bytes: usize,
    timestamp: WallMs,
    producer: Option<Producer>,
) -> (Bytes, BatchHeader) {
    let mut builder = BatchBuilder::new(Codec::None);
    if let Some(producer) = producer {
        builder.producer(producer);
    }
    let record = Record { value: Some(vec![b'v'; value_bytes].into()), timestamp, ..Record::default() };
    (0..records).for_each(|_| builder.push(&record).expect("it is small"));
    let batch = builder.build().expect("it has records");
    let header = validate_batch(&batch, &BatchLimits::default()).expect("it is ours");
    (batch, header)
}

/// The command that appends these batches.
pub(super) fn append(
    base_offset: Offset,
    epoch: LeaderEpoch,
    append_time: WallMs,
    batches: &[(Bytes, BatchHeader)],
) -> Bytes {
    let mut builder = AppendBuilder::new(base_offset, epoch, append_time, 0);
    for (batch, header) in batches {
        builder.push(batch, header, None);
    }
    builder.finish()
}

pub(super) fn at(term: u64, index: u64) -> EntryPosition {
    EntryPosition { term: Term(term), index: LogIndex(index) }
}

/// Applies as the driver does: a checkpoint first if one is due. Returns its encoding too.
pub(super) fn drive(
    partition: &mut Partition,
    last: Option<EntryPosition>,
    at: EntryPosition,
    command: &Bytes,
) -> (Applied, Option<Bytes>) {
    let due = partition.checkpoint_due(command);
    let checkpoint = due.then(|| {
        partition.checkpoint_taken(last.expect("a checkpoint has an entry before it"));
        partition.encode()
    });
    assert!(!partition.checkpoint_due(command), "one checkpoint is enough");
    (partition.apply(at, command).expect("it is a command of ours"), checkpoint)
}

pub(super) fn response(applied: &Applied) -> PartitionResponse {
    PartitionResponse::decode(&applied.response).expect("it is ours")
}

/// The state names every segment, so there must not be too many.
#[test]
fn a_partition_that_keeps_very_much_closes_larger_segments() {
    const PART: u64 = super::state::SEGMENT_PART_MIN;
    let mut partition = Partition::new(PartitionLimits { checkpoint_bytes: 1, ..PartitionLimits::default() });
    let one = batch(1, 1, WallMs(0), None);
    let mut segments = vec![];
    let mut last = None;
    for index in 0..3 * PART {
        let command = append(partition.next_offset(), LeaderEpoch(1), WallMs(0), std::slice::from_ref(&one));
        drive(&mut partition, last, at(1, index), &command);
        last = Some(at(1, index));
        if index + 1 == PART || index + 1 == 2 * PART {
            segments.push(partition.checkpoints().len() as u64);
        }
    }
    segments.push(partition.checkpoints().len() as u64);
    // One an entry, then one every second entry, then one every third.
    assert_eq!(segments[0], PART - 1);
    assert!(segments[1] < PART * 17 / 10 && segments[2] < PART * 22 / 10, "{segments:?}");
    assert!(segments[2] > segments[1], "{segments:?}");
}
