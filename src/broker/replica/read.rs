//! Reading one partition's replica: a page of whole batches, the first record of a time, the time of a record.

use std::{ops::Range, time::Duration};

use bytes::Bytes;
use tokio::{sync::Semaphore, time::timeout};

use super::{
    Bounds, PartitionReplica,
    cursors::Cursor,
    walk::{WalkError, Walker, batches_of},
};
use crate::{
    broker::{limits, requests::reads::Fetched},
    record::{BatchHeader, DECODED_BYTES_MAX_DEFAULT, iter_records},
    seam::CpuTurns,
    types::{Offset, WallMs},
};

/// Whole batches from `offset`, and the reader's next place remembered. `whole`: the first one even if it is larger than
/// `bytes_max`.
pub async fn page(
    hosted: &PartitionReplica,
    offset: Offset,
    bytes_max: usize,
    whole: bool,
) -> Result<Fetched, WalkError> {
    let mut walker = Walker::to_offset(hosted, offset).await?;
    let (mut batches, mut bytes, mut next_offset) = (Vec::new(), 0, offset);
    let mut cursor = walker.cursor();
    'filling: while bytes < bytes_max {
        let entries = walker.next(bytes_max - bytes).await?;
        if entries.is_empty() {
            break;
        }
        for entry in entries {
            cursor = Cursor { index: entry.index, expect: entry.append.base_offset };
            if entry.append.end_offset() <= offset {
                continue;
            }
            for batch in batches_of(&entry.append) {
                let (header, batch) = batch?;
                if header.last_offset() < offset {
                    continue;
                }
                if (!whole || !batches.is_empty()) && bytes + batch.len() > bytes_max {
                    break 'filling;
                }
                bytes += batch.len();
                next_offset = Offset(header.last_offset().0 + 1);
                batches.push(batch);
            }
        }
        cursor = walker.cursor();
    }
    let Bounds { log_start, high_watermark } = hosted.bounds();
    if next_offset > offset {
        hosted.cursors.moved(offset, next_offset, cursor);
    }
    Ok(Fetched { batches, high_watermark, log_start, next_offset })
}

/// Bytes of the whole batches with records in `range`, counted until there are `enough`.
pub async fn bytes_in(hosted: &PartitionReplica, range: Range<Offset>, enough: usize) -> Result<usize, WalkError> {
    let mut walker = Walker::to_offset(hosted, range.start).await?;
    let mut bytes = 0;
    while bytes < enough && walker.cursor().expect < range.end {
        let entries = walker.next(enough - bytes).await?;
        if entries.is_empty() {
            break;
        }
        for entry in entries.iter().filter(|entry| entry.append.end_offset() > range.start) {
            for batch in batches_of(&entry.append) {
                let (header, batch) = batch?;
                if header.last_offset() >= range.start && header.base_offset < range.end {
                    bytes += batch.len();
                }
            }
        }
    }
    Ok(bytes)
}

/// A broker's look-ups by time, and of times: they may read and decompress much, so there are only so many at once.
pub struct LookUps {
    pub turns: Semaphore,
    /// The node's turns at long computations.
    pub cpu: CpuTurns,
}

/// What a look-up by time came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeFound {
    Record {
        offset: Offset,
        timestamp: WallMs,
    },
    /// No record is of that time or later, up to this offset, which was the high watermark of a moment during the search.
    None {
        looked_to: Offset,
    },
}

/// All turns are taken, and were for as long as the asker waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoTurn;

/// What a look-up came to, if it had a turn.
pub type LookedUp<T> = Result<Result<T, WalkError>, NoTurn>;

impl LookUps {
    pub fn new(cpu: CpuTurns) -> LookUps {
        LookUps { turns: Semaphore::new(limits::FIND_TIMES_MAX), cpu }
    }

    async fn turn(&self, within: Duration) -> Result<tokio::sync::SemaphorePermit<'_>, NoTurn> {
        timeout(within, self.turns.acquire()).await.ok().and_then(Result::ok).ok_or(NoTurn)
    }

    /// The first record of this time or later, whatever retention does meanwhile.
    pub async fn first_at(&self, hosted: &PartitionReplica, time: WallMs) -> LookedUp<TimeFound> {
        self.look_up(|| first_at(hosted, &self.cpu, time, hosted.bounds().log_start)).await
    }

    /// In its turn and its time, as often as a trim overtakes it, within reason.
    pub async fn look_up<T, F: Future<Output = Result<T, WalkError>>>(&self, search: impl Fn() -> F) -> LookedUp<T> {
        let _turn = self.turn(limits::FIND_TIME_WITHIN).await?;
        let searching = async {
            let mut tries = 0;
            loop {
                tries += 1;
                match search().await {
                    // The log start moves only forward: the next try begins where there are records.
                    Err(WalkError::Purged) if tries < limits::FIND_TIME_TRIES => {}
                    found => return found,
                }
            }
        };
        let found = timeout(limits::FIND_TIME_WITHIN, searching).await;
        let within = limits::FIND_TIME_WITHIN.as_secs();
        Ok(found.unwrap_or_else(|_| Err(WalkError::Failed(format!("not found within {within} s")))))
    }

    /// The timestamp of the record at an offset that exists. None: it has none, or could not be read now.
    pub async fn timestamp_at(&self, hosted: &PartitionReplica, offset: Offset) -> Option<WallMs> {
        let _turn = self.turn(limits::FETCH_CONFIRM_MAX).await.ok()?;
        let mut walker = Walker::to_offset(hosted, offset).await.ok()?;
        loop {
            let entries = walker.next(1).await.ok()?;
            if entries.is_empty() {
                return None;
            }
            for entry in entries.iter().filter(|entry| entry.append.end_offset() > offset) {
                for batch in batches_of(&entry.append) {
                    let (header, batch) = batch.ok()?;
                    if header.last_offset() >= offset {
                        return self.timestamp_in(header, batch, offset).await.filter(|timestamp| timestamp.0 >= 0);
                    }
                }
            }
        }
    }

    /// The time of the first record at or after an offset in a batch. Decompresses it only for a record in its middle,
    /// where readers seldom stop.
    async fn timestamp_in(&self, header: BatchHeader, batch: Bytes, offset: Offset) -> Option<WallMs> {
        if header.is_log_append_time() {
            return Some(header.max_timestamp);
        }
        if offset <= header.base_offset {
            return Some(header.base_timestamp);
        }
        let decode = move || {
            let records = iter_records(&batch, DECODED_BYTES_MAX_DEFAULT).ok()?;
            let mut at = records.flatten().filter(|(found, _)| *found >= offset);
            at.next().map(|(_, record)| record.timestamp)
        };
        self.cpu.run(decode).await
    }
}

/// The first offset at or after the log start whose record has this timestamp or a later one; else the end of what
/// was looked at, which is the high watermark of that moment or a later one.
async fn first_at(
    hosted: &PartitionReplica,
    cpu: &CpuTurns,
    time: WallMs,
    log_start: Offset,
) -> Result<TimeFound, WalkError> {
    let point = hosted.group.log().find_time(time).await.map_err(|e| WalkError::Failed(e.to_string()))?;
    let mut walker = Walker::from_point(hosted, point, log_start).await;
    let mut looked_through = 0;
    loop {
        let entries = walker.next(limits::FIND_TIME_READ_BYTES).await?;
        if entries.is_empty() {
            return Ok(TimeFound::None { looked_to: walker.cursor().expect.max(log_start) });
        }
        for entry in entries {
            if entry.append.max_timestamp < time || entry.append.end_offset() <= log_start {
                continue;
            }
            looked_through += entry.append.batches.len();
            for batch in batches_of(&entry.append) {
                let (header, batch) = batch?;
                if header.max_timestamp < time || header.last_offset() < log_start {
                    continue;
                }
                if let Some(found) = first_record_at(cpu, header, batch, time, log_start).await {
                    return Ok(found);
                }
            }
        }
        if looked_through > limits::FIND_TIME_BYTES_MAX {
            let why = format!(
                "{looked_through} bytes of batches up to offset {} claim records of that time or later, and have none",
                walker.cursor().expect
            );
            return Err(WalkError::Failed(why));
        }
    }
}

/// The first record of one batch at or after a time. A batch that cannot be decoded is found as a whole: its reader
/// will say why.
pub async fn first_record_at(
    cpu: &CpuTurns,
    header: BatchHeader,
    batch: Bytes,
    time: WallMs,
    log_start: Offset,
) -> Option<TimeFound> {
    if header.is_log_append_time() {
        return Some(whole(&header, log_start));
    }
    match is_long(&header, &batch) {
        true => cpu.run(move || first_decoded_at(&header, &batch, time, log_start)).await,
        false => first_decoded_at(&header, &batch, time, log_start),
    }
}

/// Whether decoding it may take so long that it needs a turn.
pub fn is_long(header: &BatchHeader, batch: &Bytes) -> bool {
    header.codec().is_ok_and(|codec| codec.expands_to_max(batch.len()) > limits::COMPUTED_INLINE_BYTES)
}

fn first_decoded_at(header: &BatchHeader, batch: &Bytes, time: WallMs, log_start: Offset) -> Option<TimeFound> {
    let whole = Some(whole(header, log_start));
    let Ok(records) = iter_records(batch, DECODED_BYTES_MAX_DEFAULT) else { return whole };
    for record in records {
        match record {
            Ok((offset, record)) if record.timestamp >= time && offset >= log_start => {
                return Some(TimeFound::Record { offset, timestamp: record.timestamp });
            }
            Ok(_) => {}
            Err(_) => return whole,
        }
    }
    // The header's max timestamp promised one, but it lies below the log start, or lied.
    None
}

/// A batch as one record: all of its records have the log's time, or they cannot be told apart.
fn whole(header: &BatchHeader, log_start: Offset) -> TimeFound {
    TimeFound::Record { offset: header.base_offset.max(log_start), timestamp: header.max_timestamp }
}
