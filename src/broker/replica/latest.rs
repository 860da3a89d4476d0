//! The record of a partition with the largest timestamp.
//!
//! The applied state bounds the timestamps of each segment, and the sparse index leads to a record of a given time. So
//! this asks for the bound of the segment that has the largest. Where no record has that time, for it was trimmed or
//! a header only claimed it, the segment is looked through, and then those whose bound is larger than what was found.

use std::cmp::Reverse;

use bytes::Bytes;

use super::{
    PartitionReplica,
    read::{LookUps, LookedUp, TimeFound, first_record_at, is_long},
    walk::{Live, WalkError, Walker, batches_of},
};
use crate::{
    broker::limits,
    partition::KeptSegment,
    record::{BatchHeader, DECODED_BYTES_MAX_DEFAULT, iter_records},
    seam::CpuTurns,
    types::{Offset, WallMs},
};

/// A record and its timestamp, which is not negative: those are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedRecord {
    pub offset: Offset,
    pub timestamp: WallMs,
}

impl LookUps {
    /// The first of the records with the largest timestamp, whatever retention does meanwhile. None: no record has one.
    pub async fn latest(&self, hosted: &PartitionReplica) -> LookedUp<Option<TimedRecord>> {
        self.look_up(|| latest(hosted, &self.cpu)).await
    }
}

/// The first of the records with the largest timestamp, of those that were kept when this began. None: no record has
/// one.
async fn latest(hosted: &PartitionReplica, cpu: &CpuTurns) -> Result<Option<TimedRecord>, WalkError> {
    let mut segments = hosted.group.read(|state| state.kept_segments());
    // Oldest first among equals, so that the first of records with one time is found.
    segments.sort_by_key(|segment| Reverse(segment.latest));
    let mut best: Option<TimedRecord> = None;
    let mut looked_through = 0;
    for segment in segments.iter().filter(|segment| segment.latest.0 >= 0) {
        let is_earlier =
            |best: TimedRecord| (Reverse(best.timestamp), best.offset) < (Reverse(segment.latest), segment.from);
        if best.is_some_and(is_earlier) {
            break;
        }
        let found = match with_time(hosted, cpu, segment).await? {
            Some(found) => Some(found),
            None => look_through(hosted, cpu, segment, &mut looked_through).await?,
        };
        best = later(best, found);
    }
    Ok(best)
}

/// The later one, of equals the first.
fn later(one: Option<TimedRecord>, other: Option<TimedRecord>) -> Option<TimedRecord> {
    one.into_iter().chain(other).max_by_key(|record| (record.timestamp, Reverse(record.offset)))
}

/// The first record of a segment with the time that bounds it, if there is one. What lies before the place that the
/// index names is not read.
async fn with_time(
    hosted: &PartitionReplica,
    cpu: &CpuTurns,
    segment: &KeptSegment,
) -> Result<Option<TimedRecord>, WalkError> {
    let point = hosted.group.log().find_time(segment.latest).await.map_err(|e| WalkError::Failed(e.to_string()))?;
    let mut walker = Walker::from_point(hosted, point, segment.from).await;
    while walker.cursor().expect < segment.end {
        let entries = walker.next(limits::FIND_TIME_READ_BYTES).await?;
        if entries.is_empty() {
            break;
        }
        for entry in inside(&entries, segment).filter(|entry| entry.append.max_timestamp >= segment.latest) {
            for batch in batches_of(&entry.append) {
                let (header, batch) = batch?;
                if header.max_timestamp < segment.latest || header.last_offset() < segment.from {
                    continue;
                }
                let found = first_record_at(cpu, header, batch, segment.latest, segment.from).await;
                if let Some(TimeFound::Record { offset, timestamp }) = found {
                    return Ok(Some(TimedRecord { offset, timestamp }));
                }
            }
        }
    }
    Ok(None)
}

/// The latest record of a segment, by what its records say. `looked_through`: bytes so far, of all segments.
async fn look_through(
    hosted: &PartitionReplica,
    cpu: &CpuTurns,
    segment: &KeptSegment,
    looked_through: &mut usize,
) -> Result<Option<TimedRecord>, WalkError> {
    let mut walker = Walker::to_offset(hosted, segment.from).await?;
    let mut best: Option<TimedRecord> = None;
    while walker.cursor().expect < segment.end {
        let entries = walker.next(limits::FIND_TIME_READ_BYTES).await?;
        if entries.is_empty() {
            break;
        }
        for entry in inside(&entries, segment) {
            *looked_through += entry.append.batches.len();
            for batch in batches_of(&entry.append) {
                let (header, batch) = batch?;
                let is_later = best.is_none_or(|best| header.max_timestamp > best.timestamp);
                if is_later && header.max_timestamp.0 >= 0 && header.last_offset() >= segment.from {
                    best = later(best, latest_in(cpu, header, batch, segment.from).await);
                }
            }
        }
        if *looked_through > limits::FIND_TIME_BYTES_MAX {
            let end = walker.cursor().expect;
            let why =
                format!("{looked_through} bytes up to offset {end} were looked through, and more would have to be");
            return Err(WalkError::Failed(why));
        }
    }
    Ok(best)
}

fn inside<'a>(entries: &'a [Live], segment: &KeptSegment) -> impl Iterator<Item = &'a Live> {
    let (from, end) = (segment.from, segment.end);
    entries.iter().filter(move |entry| entry.append.end_offset() > from && entry.append.base_offset < end)
}

/// The latest record of one batch from an offset on. One that cannot be decoded, or whose records all have one time,
/// counts as a whole.
async fn latest_in(cpu: &CpuTurns, header: BatchHeader, batch: Bytes, from: Offset) -> Option<TimedRecord> {
    let whole = TimedRecord { offset: header.base_offset.max(from), timestamp: header.max_timestamp };
    if header.is_log_append_time() {
        return Some(whole);
    }
    let decode = move |batch: Bytes| {
        let Ok(records) = iter_records(&batch, DECODED_BYTES_MAX_DEFAULT) else { return Some(whole) };
        let mut best = None;
        for record in records {
            let Ok((offset, record)) = record else { return Some(whole) };
            if offset >= from && record.timestamp.0 >= 0 {
                best = later(best, Some(TimedRecord { offset, timestamp: record.timestamp }));
            }
        }
        best
    };
    match is_long(&header, &batch) {
        true => cpu.run(move || decode(batch)).await,
        false => decode(batch),
    }
}
