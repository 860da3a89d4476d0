//! From fetched batches to one Consume answer: cut to what was asked, raw or decoded.

use std::{collections::VecDeque, ops::ControlFlow};

use bytes::{Bytes, BytesMut};

use super::{RequestError, limits};
use crate::{
    broker::Fetched,
    proto::v1::{self, consume_response::Data},
    record::{BatchError, BatchHeader, Codec, Record, RecordIter, iter_records, walk},
    types::{Offset, WallMs},
};

/// What one record takes beside its key, value and headers, at most: tags, lengths, offset, timestamp.
const RECORD_OVERHEAD_BYTES: usize = 40;

/// Where a Consume call stands, and what it still wants.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    /// The offset of the next record.
    pub position: Offset,
    /// The first offset that is not sent; `None` says that there is no end.
    pub stop_at: Option<Offset>,
    pub records_left: Option<u64>,
    /// A look-up by time found a batch: records before this time at its front were not asked for.
    pub skip_before: Option<WallMs>,
    /// How many bytes one answer has at most.
    pub bytes_max: usize,
}

impl Cursor {
    pub fn is_at_end(&self) -> bool {
        self.records_left == Some(0) || self.stop_at.is_some_and(|stop_at| self.position >= stop_at)
    }

    /// Nothing more is wanted.
    pub fn end(&mut self) {
        self.records_left = Some(0);
    }

    fn take(&mut self, records: u64) {
        if let Some(left) = &mut self.records_left {
            *left = left.saturating_sub(records);
        }
    }
}

/// One answer, and what it leaves behind.
pub(super) struct Answer {
    pub response: v1::ConsumeResponse,
    pub rest: Option<Rest>,
    /// Decoding came to a record that cannot be read; the response holds what lies before it.
    pub failed: Option<RequestError>,
    /// The memory that sending the response's records takes, if they are decoded.
    pub decoded_bytes: usize,
}

/// The undecoded part of what was fetched.
pub(super) struct Rest {
    batch: OpenBatch,
    high_watermark: Offset,
    log_start: Offset,
}

struct OpenBatch {
    records: RecordIter,
    base: Offset,
    /// The offset that follows the batch.
    next: Offset,
}

impl Rest {
    /// The memory that keeping it takes.
    pub fn bytes(&self) -> usize {
        self.batch.records.decoded_bytes()
    }

    pub fn answer(self, cursor: &mut Cursor) -> Answer {
        let mut decoding = Decoding::new(self.high_watermark, self.log_start);
        let _full = decoding.drain(self.batch, cursor);
        decoding.finish(cursor)
    }
}

pub(super) fn is_empty(response: &v1::ConsumeResponse) -> bool {
    match &response.data {
        Some(Data::Batches(batches)) => batches.is_empty(),
        Some(Data::Records(records)) => records.records.is_empty(),
        None => true,
    }
}

/// Answers with stored batches, whole: from the one that holds the position to the one that holds the end.
pub(super) fn raw(fetched: &Fetched, cursor: &mut Cursor) -> Result<Answer, RequestError> {
    let mut parts: Vec<Bytes> = Vec::new();
    for batch in batches(&fetched.batches) {
        let (header, bytes) = batch.map_err(|(offset, error)| stored(offset, error))?;
        if header.last_offset() < cursor.position {
            continue;
        }
        if cursor.is_at_end() {
            break;
        }
        let next = after(&header);
        cursor.take((next.0 - cursor.position.0).unsigned_abs());
        cursor.position = next;
        parts.push(bytes);
    }
    let batches = match parts.len() {
        1 => parts.swap_remove(0),
        _ => {
            let mut joined = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
            parts.iter().for_each(|part| joined.extend_from_slice(part));
            joined.freeze()
        }
    };
    let response = v1::ConsumeResponse {
        data: Some(Data::Batches(batches)),
        high_watermark: fetched.high_watermark.0,
        log_start: fetched.log_start.0,
        next_offset: cursor.position.0,
    };
    Ok(Answer { response, rest: None, failed: None, decoded_bytes: 0 })
}

/// The most memory that the records of what was fetched take at once: one batch at a time is decoded.
pub(super) fn decoded_bytes_max(fetched: &Fetched) -> usize {
    let expands = |batch: Result<(BatchHeader, Bytes), (Offset, BatchError)>| {
        let Ok((header, bytes)) = batch else { return 0 };
        match header.codec() {
            // Its records share the batch's memory, or cannot be decoded.
            Ok(Codec::None) | Err(_) => bytes.len(),
            Ok(codec) => codec.expands_to_max(bytes.len()).min(limits::DECODED_BYTES_MAX),
        }
    };
    batches(&fetched.batches).map(expands).max().unwrap_or(0)
}

/// Answers with plain records, exactly from the position on. Ends early, after at least one record, when the answer has
/// its size: what was fetched beyond is fetched again, or kept as [`Answer::rest`].
pub(super) fn decoded(fetched: Fetched, cursor: &mut Cursor) -> Answer {
    let mut decoding = Decoding::new(fetched.high_watermark, fetched.log_start);
    for batch in batches(&fetched.batches) {
        let (header, bytes) = match batch {
            Ok(batch) => batch,
            Err((offset, error)) => {
                decoding.failed = Some(stored(offset, error));
                break;
            }
        };
        if header.last_offset() < cursor.position {
            continue;
        }
        if cursor.is_at_end() || decoding.batch(&header, &bytes, cursor).is_break() {
            break;
        }
    }
    decoding.finish(cursor)
}

/// An answer of plain records in the making.
struct Decoding {
    records: Vec<v1::Record>,
    bytes: usize,
    high_watermark: Offset,
    log_start: Offset,
    rest: Option<OpenBatch>,
    failed: Option<RequestError>,
}

impl Decoding {
    fn new(high_watermark: Offset, log_start: Offset) -> Decoding {
        Decoding { records: Vec::new(), bytes: 0, high_watermark, log_start, rest: None, failed: None }
    }

    /// Adds the records of one batch. Breaks if the answer is full, or cannot go on.
    fn batch(&mut self, header: &BatchHeader, bytes: &Bytes, cursor: &mut Cursor) -> ControlFlow<()> {
        if cursor.skip_before.is_some_and(|time| header.max_timestamp < time) {
            // The look-up ended at the high watermark: everything after it was asked for.
            cursor.skip_before = None;
        }
        match iter_records(bytes, limits::DECODED_BYTES_MAX) {
            Ok(records) => {
                let (base, next) = (header.base_offset, after(header));
                self.drain(OpenBatch { records, base, next }, cursor)
            }
            Err(error) => {
                let (offset, next) = (header.base_offset, after(header));
                self.failed = Some(RequestError::Decompression { offset, next, error });
                ControlFlow::Break(())
            }
        }
    }

    fn drain(&mut self, mut batch: OpenBatch, cursor: &mut Cursor) -> ControlFlow<()> {
        while let Some(record) = batch.records.next() {
            let (offset, record) = match record {
                Ok(record) => record,
                Err(error) => {
                    let (offset, next) = (batch.base, batch.next);
                    self.failed = Some(RequestError::Decompression { offset, next, error });
                    return ControlFlow::Break(());
                }
            };
            if offset < cursor.position {
                continue;
            }
            cursor.position = offset;
            if cursor.is_at_end() {
                return ControlFlow::Break(());
            }
            cursor.position = after_record(offset);
            if cursor.skip_before.is_some_and(|time| record.timestamp < time) {
                continue;
            }
            cursor.skip_before = None;
            cursor.take(1);
            self.push(offset, record);
            if self.bytes >= cursor.bytes_max {
                if cursor.position < batch.next {
                    self.rest = Some(batch);
                }
                return ControlFlow::Break(());
            }
        }
        cursor.position = cursor.position.max(batch.next);
        ControlFlow::Continue(())
    }

    fn push(&mut self, offset: Offset, record: Record) {
        let headers: Vec<v1::Header> =
            record.headers.into_iter().map(|(key, value)| v1::Header { key, value }).collect();
        let header_bytes: usize = headers
            .iter()
            .map(|header| header.key.len() + header.value.as_ref().map_or(0, Bytes::len) + RECORD_OVERHEAD_BYTES)
            .sum();
        let [key, value] = [&record.key, &record.value].map(|part| part.as_ref().map_or(0, Bytes::len));
        self.bytes += key + value + header_bytes + RECORD_OVERHEAD_BYTES;
        self.records.push(v1::Record {
            key: record.key,
            value: record.value,
            headers,
            timestamp_ms: Some(record.timestamp.0),
            offset: offset.0,
        });
    }

    fn finish(self, cursor: &Cursor) -> Answer {
        let records = v1::Records { records: self.records, compression: v1::Compression::None.into() };
        let response = v1::ConsumeResponse {
            data: Some(Data::Records(records)),
            high_watermark: self.high_watermark.0,
            log_start: self.log_start.0,
            next_offset: cursor.position.0,
        };
        let (high_watermark, log_start) = (self.high_watermark, self.log_start);
        let rest = self.rest.map(|batch| Rest { batch, high_watermark, log_start });
        Answer { response, rest, failed: self.failed, decoded_bytes: self.bytes }
    }
}

/// Each batch of each part, whether a part is one batch or several back to back.
fn batches(parts: &[Bytes]) -> impl Iterator<Item = Result<(BatchHeader, Bytes), (Offset, BatchError)>> {
    parts.iter().flat_map(|part| {
        let mut last = Offset(0);
        let mut found = VecDeque::new();
        for batch in walk(part) {
            match batch {
                Ok((header, range)) => {
                    last = after(&header);
                    found.push_back(Ok((header, part.slice(range))));
                }
                Err(error) => found.push_back(Err((last, error))),
            }
        }
        found
    })
}

fn stored(offset: Offset, error: BatchError) -> RequestError {
    RequestError::StoredBatch { offset, error }
}

fn after(header: &BatchHeader) -> Offset {
    after_record(header.last_offset())
}

fn after_record(offset: Offset) -> Offset {
    Offset(offset.0.saturating_add(1))
}
