//! Records out of the batches of one answer, some at a time. Pure.
//!
//! Promises: what is taken at once is bounded in bytes and records, whatever the batches decode to; a batch that is
//! not wanted yet stays as it came; one that cannot be read is named, after all that lies before it was taken.
//! Leaves out: how many batches are decoded at the same time in one process (`net` has their turns).

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::consumer::ConsumedRecord;
use crate::{
    record::{
        BatchHeader, Codec, DECODED_BYTES_MAX_DEFAULT, DecodeError, DecompressError, Record, RecordIter, iter_records,
        walk,
    },
    types::{LeaderEpoch, Offset},
};

/// What is taken at once ends with the record that reaches this: about one answer's worth of small records.
pub(super) const CHUNK_BYTES_MAX: usize = 2 * 1024 * 1024;
/// What is taken at once holds no more records than this, so that tiny ones do not grow to a multiple of their bytes.
pub(super) const CHUNK_RECORDS_MAX: usize = 20_000;
/// A batch that decodes to more needs a turn: a few KB may hide 64 MiB.
const FREE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What a record or header costs beside its bytes: its share of vectors, offset, timestamp.
const RECORD_OVERHEAD_BYTES: usize = 96;

/// What is left of an answer.
#[derive(Debug)]
pub(super) struct Batches {
    bytes: Bytes,
    /// Where the next batch should begin, as far as is known.
    next: Offset,
    open: Option<Open>,
    turn: Option<OwnedSemaphorePermit>,
}

/// A batch that is being read.
#[derive(Debug)]
struct Open {
    records: RecordIter,
    base: Offset,
    /// The offset that follows the batch.
    next: Offset,
    leader_epoch: LeaderEpoch,
    /// The decoded bytes are too many to be kept in memory by a few records that share them.
    copied_from: Option<usize>,
    _turn: Option<OwnedSemaphorePermit>,
}

/// Which records are wanted: those from `position` on, which moves, below `end`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub position: Offset,
    pub end: Option<Offset>,
}

/// What was taken: some records, in order.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub records: Vec<ConsumedRecord>,
    /// The leader epoch of the last record; 0 without records.
    pub leader_epoch: LeaderEpoch,
    bytes: usize,
}

/// Why it went no further.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// As much was taken as is wanted at once.
    Full,
    /// Nothing of the answer is left.
    Done,
    /// The next batch is large: [`Batches::give_turn`] first.
    Large,
    /// Nothing after it can be read without leaving it out.
    Bad(Bad),
}

/// A batch that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bad {
    /// The base offset that the batch has.
    pub offset: Offset,
    /// Where one can read on; None: nobody knows how long it is.
    pub next: Option<Offset>,
    pub detail: String,
}

impl Batches {
    /// Holds what was answered to a fetch from `position`.
    pub fn new(bytes: Bytes, position: Offset) -> Batches {
        Batches { bytes, next: position, open: None, turn: None }
    }

    /// The large batch may be decoded; the turn ends with it.
    pub fn give_turn(&mut self, turn: OwnedSemaphorePermit) {
        self.turn = Some(turn);
    }

    /// Takes records until one of the reasons to stop.
    pub fn take(&mut self, wanted: &mut Wanted, taken: &mut Taken) -> Stop {
        loop {
            let open = match self.open.take() {
                Some(open) => open,
                None => match self.open_next(wanted) {
                    Ok(open) => open,
                    Err(stop) => return stop,
                },
            };
            match take_from(open, wanted, taken) {
                Ok(None) => {}
                Ok(Some(rest)) => {
                    self.open = Some(rest);
                    return Stop::Full;
                }
                Err(bad) => return Stop::Bad(bad),
            }
        }
    }

    fn open_next(&mut self, wanted: &Wanted) -> Result<Open, Stop> {
        loop {
            if wanted.end.is_some_and(|end| wanted.position >= end) {
                return Err(Stop::Done);
            }
            let found = walk(&self.bytes).next().ok_or(Stop::Done)?;
            let (header, range) = found.map_err(|error| {
                let (offset, next, detail) = (self.next, None, error.to_string());
                Stop::Bad(Bad { offset, next, detail })
            })?;
            let next = next_offset(&header).ok_or_else(|| {
                let detail = format!("no batch holds {} records from offset {} on", header.count, header.base_offset);
                Stop::Bad(Bad { offset: self.next, next: None, detail })
            })?;
            if next > wanted.position {
                let batch = self.bytes.slice(range.clone());
                let open = self.open(&header, next, &batch)?;
                (self.bytes, self.next) = (self.bytes.slice(range.end..), next);
                return Ok(open);
            }
            // The answer may begin with what lies before.
            (self.bytes, self.next) = (self.bytes.slice(range.end..), next);
        }
    }

    fn open(&mut self, header: &BatchHeader, next: Offset, batch: &Bytes) -> Result<Open, Stop> {
        let base = header.base_offset;
        let bad = |error: DecodeError| Stop::Bad(Bad { offset: base, next: Some(next), detail: error.to_string() });
        let is_plain = header.codec().is_ok_and(|codec| codec == Codec::None);
        let bytes_max = if is_plain || self.turn.is_some() { DECODED_BYTES_MAX_DEFAULT } else { FREE_BYTES_MAX };
        let records = iter_records(batch, bytes_max).map_err(|error| match error {
            DecodeError::Decompress(DecompressError::OverLimit { .. }) if bytes_max == FREE_BYTES_MAX => Stop::Large,
            error => bad(error),
        })?;
        let decoded = records.decoded_bytes();
        let copied_from = (!is_plain && decoded > CHUNK_BYTES_MAX).then_some(decoded);
        let leader_epoch = header.leader_epoch;
        Ok(Open { records, base, next, leader_epoch, copied_from, _turn: self.turn.take() })
    }
}

/// The offset after the last one that a batch may hold. None: there is no such offset.
fn next_offset(header: &BatchHeader) -> Option<Offset> {
    let (base, delta) = (header.base_offset.0, i64::from(header.last_offset_delta));
    let is_possible = base >= 0 && delta >= 0;
    is_possible.then(|| base.checked_add(delta)?.checked_add(1)).flatten().map(Offset)
}

/// Takes records of the batch, and returns its rest if the chunk is full before.
fn take_from(mut open: Open, wanted: &mut Wanted, taken: &mut Taken) -> Result<Option<Open>, Bad> {
    while let Some(found) = open.records.next() {
        let (offset, record) = found.map_err(|error| {
            let (offset, next, detail) = (open.base, Some(open.next), error.to_string());
            Bad { offset, next, detail }
        })?;
        // The first batch may begin below, the last may end above what was asked for.
        if offset < wanted.position {
            continue;
        }
        if wanted.end.is_some_and(|end| offset >= end) {
            break;
        }
        wanted.position = Offset(offset.0 + 1);
        taken.leader_epoch = open.leader_epoch;
        let bytes = record_bytes(&record);
        let record = match open.copied_from {
            // A record that is most of the decoded bytes keeps little else in memory.
            Some(decoded) if bytes < decoded / 2 => copied(record),
            Some(_) | None => record,
        };
        taken.bytes += bytes;
        taken.records.push(ConsumedRecord { offset, record });
        if taken.bytes >= CHUNK_BYTES_MAX || taken.records.len() >= CHUNK_RECORDS_MAX {
            return Ok(Some(open));
        }
    }
    Ok(None)
}

/// Returns about how much memory a record takes.
pub(super) fn record_bytes(record: &Record) -> usize {
    let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers: usize =
        record.headers.iter().map(|(key, value)| key.len() + length(value) + RECORD_OVERHEAD_BYTES).sum();
    length(&record.key) + length(&record.value) + headers + RECORD_OVERHEAD_BYTES
}

/// Returns the same record with bytes of its own.
fn copied(record: Record) -> Record {
    let copy = |bytes: Option<Bytes>| bytes.map(|bytes| Bytes::copy_from_slice(&bytes));
    Record {
        key: copy(record.key),
        value: copy(record.value),
        headers: record.headers.into_iter().map(|(key, value)| (key, copy(value))).collect(),
        timestamp: record.timestamp,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::BytesMut;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::{
        record::{BatchBuilder, append_patched},
        types::WallMs,
    };

    /// Makes a batch of values at an offset.
    fn batch(base: i64, codec: Codec, values: &[Bytes]) -> Bytes {
        let mut builder = BatchBuilder::new(codec);
        for value in values {
            let record = Record { value: Some(value.clone()), timestamp: WallMs(1), ..Record::default() };
            builder.push(&record).expect("it fits");
        }
        let mut patched = BytesMut::new();
        append_patched(&mut patched, &builder.build().expect("it fits"), Offset(base), LeaderEpoch(7));
        patched.freeze()
    }

    fn small(base: i64, records: usize) -> Bytes {
        batch(base, Codec::None, &vec![Bytes::from_static(b"v"); records])
    }

    fn joined(parts: &[Bytes]) -> Bytes {
        parts.concat().into()
    }

    fn offsets(taken: &Taken) -> Vec<i64> {
        taken.records.iter().map(|record| record.offset.0).collect()
    }

    #[test]
    fn records_outside_of_what_was_asked_for_are_left_out() {
        let mut batches = Batches::new(joined(&[small(0, 3), small(3, 3), small(6, 3)]), Offset(4));
        let (mut wanted, mut taken) = (Wanted { position: Offset(4), end: Some(Offset(7)) }, Taken::default());
        assert_eq!(batches.take(&mut wanted, &mut taken), Stop::Done);
        assert_eq!((offsets(&taken), taken.leader_epoch.0, wanted.position.0), (vec![4, 5, 6], 7, 7));
    }

    #[test]
    fn a_batch_that_cannot_be_read_costs_only_itself() {
        let (mut flipped, cut) = (small(3, 2).to_vec(), small(7, 1));
        *flipped.last_mut().expect("not empty") ^= 1;
        let bytes = joined(&[small(0, 3), flipped.into(), small(5, 2), cut.slice(..cut.len() - 1)]);
        let mut batches = Batches::new(bytes, Offset(0));
        let (mut wanted, mut taken) = (Wanted { position: Offset(0), end: None }, Taken::default());
        let Stop::Bad(bad) = batches.take(&mut wanted, &mut taken) else { panic!("it cannot be read") };
        assert_eq!((offsets(&taken), wanted.position.0), (vec![0, 1, 2], 3));
        assert_eq!((bad.offset, bad.next), (Offset(3), Some(Offset(5))));
        // From there on, and up to one of which not even the length can be believed.
        wanted.position = Offset(5);
        let Stop::Bad(bad) = batches.take(&mut wanted, &mut taken) else { panic!("it is cut short") };
        assert_eq!((offsets(&taken), bad.offset.0, bad.next), (vec![0, 1, 2, 5, 6], 7, None));
    }

    /// Seen once: a broker that said so could make the next offset overflow.
    #[test]
    fn a_batch_at_offsets_that_cannot_be_is_bad() {
        for base in [i64::MAX, i64::MAX - 1, -1] {
            let mut batches = Batches::new(joined(&[small(0, 3), small(base, 2)]), Offset(0));
            let (mut wanted, mut taken) = (Wanted { position: Offset(0), end: None }, Taken::default());
            let Stop::Bad(bad) = batches.take(&mut wanted, &mut taken) else { panic!("{base}") };
            assert_eq!((offsets(&taken), bad.offset, bad.next), (vec![0, 1, 2], Offset(3), None), "{base}");
            assert!(bad.detail.contains(&base.to_string()), "{}", bad.detail);
        }
    }

    #[test]
    fn what_is_taken_at_once_is_bounded_in_records_and_bytes() {
        let mut batches = Batches::new(small(0, CHUNK_RECORDS_MAX + 5), Offset(0));
        let (mut wanted, mut taken) = (Wanted { position: Offset(0), end: None }, Taken::default());
        assert_eq!(batches.take(&mut wanted, &mut taken), Stop::Full);
        assert_eq!(taken.records.len(), CHUNK_RECORDS_MAX);
        let mut taken = Taken::default();
        assert_eq!(batches.take(&mut wanted, &mut taken), Stop::Done);
        assert_eq!(taken.records.len(), 5);

        let half = Bytes::from(vec![b'x'; CHUNK_BYTES_MAX / 2]);
        let mut batches = Batches::new(batch(0, Codec::None, &[half.clone(), half.clone(), half]), Offset(0));
        let (mut wanted, mut taken) = (Wanted { position: Offset(0), end: None }, Taken::default());
        assert_eq!(batches.take(&mut wanted, &mut taken), Stop::Full);
        assert_eq!(offsets(&taken), [0, 1]);
    }

    #[test]
    fn a_large_batch_waits_for_a_turn_and_keeps_it_while_it_is_read() {
        let turns = Arc::new(Semaphore::new(1));
        let zeros = Bytes::from(vec![0; 3 * CHUNK_BYTES_MAX]);
        let bomb = batch(3, Codec::Zstd, &[Bytes::from_static(b"tiny"), zeros.clone(), zeros]);
        let mut batches = Batches::new(joined(&[small(0, 3), bomb, small(6, 1)]), Offset(0));
        let (mut wanted, mut taken) = (Wanted { position: Offset(0), end: None }, Taken::default());
        assert_eq!(batches.take(&mut wanted, &mut taken), Stop::Large);
        assert_eq!(offsets(&taken), [0, 1, 2], "what lies before it needs no turn");
        batches.give_turn(turns.clone().try_acquire_owned().expect("free"));
        for expected in [vec![3, 4], vec![5]] {
            let mut taken = Taken::default();
            assert_eq!(batches.take(&mut wanted, &mut taken), Stop::Full);
            assert_eq!(offsets(&taken), expected);
            assert_eq!(turns.available_permits(), 0);
        }
        let mut taken = Taken::default();
        assert_eq!(batches.take(&mut wanted, &mut taken), Stop::Done);
        assert_eq!((offsets(&taken), turns.available_permits()), (vec![6], 1));
    }
}
