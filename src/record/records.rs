//! The records inside a batch, for our own clients and the plain-record API.

use bytes::Bytes;

use super::varint::Reader;
use super::{BATCH_HEADER_BYTES, BatchError, BatchHeader, DecompressError, compress, header};
use crate::types::{Offset, WallMs};

/// A header takes two bytes at least, so a claim of more headers than half the bytes left is a lie.
const HEADER_BYTES_MIN: usize = 2;

/// One record. `None` is Kafka's null, which is not an empty value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    /// The headers in their order; a key may occur more than once.
    pub headers: Vec<(String, Option<Bytes>)>,
    pub timestamp: WallMs,
}

/// Why a batch's records cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    #[error("record {record} of the batch is malformed: {reason}")]
    Record { record: i32, reason: &'static str },
}

/// Reads every record of one whole batch; see [`iter_records`]. The result takes up to some 16 times the
/// memory of `output_limit` if records are tiny: where that matters, iterate.
pub fn decode_records(batch: &Bytes, output_limit: usize) -> Result<Vec<(Offset, Record)>, DecodeError> {
    iter_records(batch, output_limit)?.collect()
}

/// Checks one whole batch (length, CRC, codec), decompresses it into at most `output_limit` bytes and
/// reads its records one by one. Keys and values share memory with `batch`, or with the decompressed copy.
/// Header keys that are not UTF-8 are read with replacement characters, as Java does.
pub fn iter_records(batch: &Bytes, output_limit: usize) -> Result<RecordIter, DecodeError> {
    let header = BatchHeader::parse(batch)?;
    if header.total_bytes() != batch.len() {
        let error = BatchError::LengthMismatch { claimed: header.total_bytes() as u64, got: batch.len() };
        return Err(error.into());
    }
    header::check_crc(&header, batch)?;
    let records = compress::decompress(header.codec()?, &batch.slice(BATCH_HEADER_BYTES..), output_limit)?;
    let decoded_bytes = records.len();
    Ok(RecordIter { header, reader: Reader::new(records), decoded_bytes, read: 0, last_delta: -1, failed: false })
}

/// See [`iter_records`]. Ends after the first error.
#[derive(Clone, Debug)]
pub struct RecordIter {
    header: BatchHeader,
    reader: Reader,
    decoded_bytes: usize,
    /// Records read so far.
    read: i32,
    last_delta: i32,
    failed: bool,
}

impl RecordIter {
    /// The bytes of all its records, read or not: what keeping it, or any record of it, keeps in memory.
    pub fn decoded_bytes(&self) -> usize {
        self.decoded_bytes
    }

    fn record(&mut self) -> Result<(Offset, Record), &'static str> {
        let len = self.reader.varint()?;
        let mut body = Reader::new(self.reader.take(i64::from(len))?);
        let _attributes = body.u8()?;
        let timestamp_delta = body.varlong()?;
        let delta = body.varint()?;
        if delta <= self.last_delta || delta > self.header.last_offset_delta {
            return Err("its offset is out of order");
        }
        self.last_delta = delta;
        let timestamp = if self.header.is_log_append_time() {
            self.header.max_timestamp
        } else {
            WallMs(self.header.base_timestamp.0.wrapping_add(timestamp_delta))
        };
        let (key, value) = (body.nullable()?, body.nullable()?);
        let count = usize::try_from(body.varint()?).map_err(|_| "its header count is negative")?;
        if count > body.remaining() / HEADER_BYTES_MIN {
            return Err("it claims more headers than it can hold");
        }
        let mut headers = Vec::with_capacity(count);
        for _ in 0..count {
            let key = body.nullable()?.ok_or("a header has no key")?;
            headers.push((String::from_utf8_lossy(&key).into_owned(), body.nullable()?));
        }
        if body.remaining() > 0 {
            return Err("it has trailing bytes");
        }
        let offset = Offset(self.header.base_offset.0.wrapping_add(i64::from(delta)));
        Ok((offset, Record { key, value, headers, timestamp }))
    }
}

impl Iterator for RecordIter {
    type Item = Result<(Offset, Record), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let result = if self.read < self.header.count {
            self.record()
        } else if self.reader.remaining() > 0 {
            Err("bytes follow the last record")
        } else {
            return None;
        };
        let record = self.read;
        self.read = self.read.saturating_add(1);
        Some(result.map_err(|reason| {
            self.failed = true;
            DecodeError::Record { record, reason }
        }))
    }
}
