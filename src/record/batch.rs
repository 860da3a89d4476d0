//! Building a batch out of records.

use bytes::Bytes;

use super::{Codec, Record};

/// What an idempotent producer writes into a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
    pub base_sequence: i32,
}

/// Why records cannot be made a batch.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    #[error("a record batch holds at least one record")]
    Empty,
    #[error("records of {got} bytes do not fit a batch, at most {max} do")]
    TooLarge { got: usize, max: usize },
    #[error("{codec:?} compression failed: {reason}")]
    Compress { codec: Codec, reason: String },
}

/// Collects records into one batch with base offset 0.
#[derive(Debug)]
pub struct BatchBuilder {}

impl BatchBuilder {
    pub fn new(codec: Codec) -> BatchBuilder {
        let _ = codec;
        todo!()
    }

    /// Makes the batch idempotent. May be set at any time before `build`.
    pub fn producer(&mut self, producer: Producer) -> &mut Self {
        let _ = producer;
        todo!()
    }

    pub fn push(&mut self, record: &Record) -> Result<(), EncodeError> {
        let _ = record;
        todo!()
    }

    /// Records so far.
    pub fn count(&self) -> i32 {
        todo!()
    }

    /// Length of the batch if it were built now without compression.
    pub fn bytes_uncompressed(&self) -> usize {
        todo!()
    }

    pub fn build(self) -> Result<Bytes, EncodeError> {
        todo!()
    }
}
