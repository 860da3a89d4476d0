//! The records inside a batch, for our own clients and the plain-record API.

use bytes::Bytes;

use super::{BatchError, DecompressError};
use crate::types::{Offset, WallMs};

/// How many bytes one batch may decompress to, unless a caller knows better: eight times the largest
/// batch, more than any real producer's ratio leaves of it.
pub const DECODED_BYTES_MAX_DEFAULT: usize = 64 * 1024 * 1024;

/// One record. `None` is Kafka's null, which is not an empty value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    /// In order; a key may occur more than once.
    pub headers: Vec<(String, Option<Bytes>)>,
    pub timestamp: WallMs,
}

/// Why a batch's records cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    #[error("record {record} of the batch is malformed: {reason}")]
    Record { record: i32, reason: &'static str },
}

/// Reads every record of one whole batch; see [`iter_records`].
pub fn decode_records(batch: &Bytes, output_limit: usize) -> Result<Vec<(Offset, Record)>, DecodeError> {
    iter_records(batch, output_limit)?.collect()
}

/// Checks one whole batch (length, CRC, codec), decompresses it into at most `output_limit` bytes and
/// reads its records one by one. Keys and values share memory with `batch`, or with the decompressed copy.
pub fn iter_records(batch: &Bytes, output_limit: usize) -> Result<RecordIter, DecodeError> {
    let _ = (batch, output_limit);
    todo!()
}

/// See [`iter_records`].
#[derive(Debug)]
pub struct RecordIter {}

impl Iterator for RecordIter {
    type Item = Result<(Offset, Record), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}
