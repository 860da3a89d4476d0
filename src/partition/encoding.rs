//! The bytes of a partition's state: checkpoints, applied state, Raft snapshots. Frozen.
//!
//! A version byte, then the fields of [`StateV1`] in order as postcard writes them. A change of any
//! field is a new version with a new struct; old ones stay readable.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::producers::{BATCHES_MAX, KnownProducer, Producers};
use super::state::{Checkpoint, EpochStart, Partition, PartitionLimits, Segment};
use crate::record::NO_PRODUCER;
use crate::replicated::StateDecodeError;
use crate::seam::plant::{self, Plant};
use crate::types::{Offset, ProducerEpoch, ProducerId, Sequence, WallMs};

const VERSION: u8 = 1;

/// Borrowed to encode, owned when decoded.
#[derive(Serialize, Deserialize)]
struct StateV1<'a> {
    limits: PartitionLimits,
    log_start: Offset,
    next_offset: Offset,
    clock: WallMs,
    max_timestamp: WallMs,
    bytes: u64,
    bytes_to_point: u64,
    epochs: Cow<'a, [EpochStart]>,
    checkpoints: Cow<'a, [Checkpoint]>,
    segment: Segment,
    /// The producers, in order of their ids.
    producers: Vec<(ProducerId, Cow<'a, KnownProducer>)>,
    producers_evicted: u64,
}

pub(super) fn encode(partition: &Partition) -> Bytes {
    let Partition {
        limits,
        log_start,
        next_offset,
        clock,
        max_timestamp,
        bytes,
        bytes_to_point,
        epochs,
        checkpoints,
        segment,
        producers,
        producers_evicted,
    } = partition;
    let state = StateV1 {
        limits: *limits,
        log_start: if plant::on(Plant::LogStartNotSaved) { Offset(0) } else { *log_start },
        next_offset: *next_offset,
        clock: *clock,
        max_timestamp: *max_timestamp,
        bytes: *bytes,
        bytes_to_point: *bytes_to_point,
        epochs: Cow::Borrowed(epochs),
        checkpoints: Cow::Borrowed(checkpoints),
        segment: *segment,
        producers: match plant::on(Plant::ProducersNotSaved) {
            true => Vec::new(),
            false => producers.entries().map(|(id, producer)| (*id, Cow::Borrowed(producer))).collect(),
        },
        producers_evicted: *producers_evicted,
    };
    postcard::to_extend(&state, vec![VERSION]).expect("memory is the only thing to run out of").into()
}

pub(super) fn decode(bytes: &[u8]) -> Result<Partition, StateDecodeError> {
    let malformed = |reason: &str| StateDecodeError::Malformed(reason.to_owned());
    let (&found, rest) = bytes.split_first().ok_or_else(|| malformed("it is empty"))?;
    if found != VERSION {
        return Err(StateDecodeError::Version { found, known: VERSION });
    }
    let (state, rest) =
        postcard::take_from_bytes::<StateV1<'static>>(rest).map_err(|e| StateDecodeError::Malformed(e.to_string()))?;
    if !rest.is_empty() {
        return Err(StateDecodeError::Malformed(format!("{} bytes follow it", rest.len())));
    }
    if let Some(broken) = state.broken_invariant() {
        return Err(malformed(broken));
    }
    Ok(Partition {
        limits: state.limits,
        log_start: state.log_start,
        next_offset: state.next_offset,
        clock: state.clock,
        max_timestamp: state.max_timestamp,
        bytes: state.bytes,
        bytes_to_point: state.bytes_to_point,
        epochs: state.epochs.into_owned(),
        checkpoints: state.checkpoints.into_owned(),
        segment: state.segment,
        producers: Producers::from_entries(
            state.producers.into_iter().map(|(id, producer)| (id, producer.into_owned())),
        ),
        producers_evicted: state.producers_evicted,
    })
}

impl StateV1<'_> {
    /// What later code relies on, so that bytes that lie are refused here instead of panicking there.
    fn broken_invariant(&self) -> Option<&'static str> {
        let checkpoints = &self.checkpoints;
        let ascending = |a: &Checkpoint, b: &Checkpoint| {
            a.position < b.position
                && a.position.is_up_to(b.position)
                && a.next_offset < b.next_offset
                && a.bytes_before < b.bytes_before
        };
        let last = checkpoints.last().map_or((Offset(0), 0), |last| (last.next_offset, last.bytes_before));
        let producers_descend = self.producers.is_sorted_by(|a, b| a.0 < b.0);
        let rules = [
            (self.limits.are_positive(), "a limit is not positive"),
            (
                Offset(0) <= self.log_start && self.log_start <= self.next_offset,
                "log start is not between 0 and the end",
            ),
            (self.bytes_to_point <= self.limits.index_bytes, "the next index point is too far"),
            (
                self.epochs.is_sorted_by(|a, b| a.epoch < b.epoch && a.first_offset <= b.first_offset),
                "epochs are out of order",
            ),
            (self.epochs.iter().all(|e| e.epoch.0 >= 0 && self.holds(e.first_offset)), "an epoch is out of range"),
            (checkpoints.is_sorted_by(ascending), "checkpoints are out of order"),
            (checkpoints.iter().all(|c| c.next_offset.0 > 0), "a checkpoint has no records before it"),
            (last.0 <= self.next_offset && last.1 <= self.bytes, "a checkpoint is past the end"),
            (
                self.segment.first_append.is_some() == (self.next_offset > last.0)
                    && (self.next_offset > last.0) == (self.bytes > last.1),
                "records and bytes since the last checkpoint disagree",
            ),
            (producers_descend, "producers are out of order"),
            (self.producers.len() as u64 <= self.limits.producers_max, "there are more producers than the limit"),
            (self.producers.iter().all(|(id, producer)| self.allows(*id, producer)), "a producer is malformed"),
        ];
        rules.into_iter().find(|(holds, _)| !holds).map(|(_, broken)| broken)
    }

    fn holds(&self, offset: Offset) -> bool {
        Offset(0) <= offset && offset <= self.next_offset
    }

    /// Whether a record may have had this offset, kept or not.
    fn is_in_log(&self, offset: Offset) -> bool {
        Offset(0) <= offset && offset < self.next_offset
    }

    fn allows(&self, id: ProducerId, producer: &KnownProducer) -> bool {
        let batches = &producer.batches;
        id > NO_PRODUCER
            && producer.epoch >= ProducerEpoch(0)
            && producer.last_append <= self.clock
            && (1..=BATCHES_MAX).contains(&batches.len())
            && batches.iter().all(|b| {
                b.base_sequence >= Sequence(0) && b.last_sequence >= Sequence(0) && self.is_in_log(b.base_offset)
            })
            && batches.iter().is_sorted_by(|a, b| a.base_offset < b.base_offset)
    }
}
