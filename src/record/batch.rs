//! Building a batch out of records, for our own clients.

use bytes::{BufMut, Bytes, BytesMut};

use super::header::{self, BATCH_BYTES_MAX, BATCH_HEADER_BYTES, NO_PRODUCER};
use super::{Codec, DECODED_BYTES_MAX_DEFAULT, Record, compress, varint};
use crate::types::{ProducerEpoch, ProducerId, Sequence, WallMs};

/// What an idempotent producer writes into a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
    pub base_sequence: Sequence,
}

/// Why records cannot be made a batch. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("a record batch holds at least one record")]
    Empty,
    #[error("records of {got} bytes do not fit a batch, at most {max} do")]
    TooLarge { got: usize, max: usize },
    #[error("{codec:?} compression failed: {reason}")]
    Compress { codec: Codec, reason: String },
}

/// Collects records into one batch with base offset 0.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    codec: Codec,
    producer: Option<Producer>,
    /// Records encoded so far, uncompressed: at most [`DECODED_BYTES_MAX_DEFAULT`], so that every
    /// reader with the default limit can read them.
    records: Vec<u8>,
    count: i32,
    base_timestamp: WallMs,
    max_timestamp: WallMs,
    /// Kept for its memory: one record's body, whose length must be known first.
    body: Vec<u8>,
}

impl BatchBuilder {
    pub fn new(codec: Codec) -> BatchBuilder {
        BatchBuilder {
            codec,
            producer: None,
            records: Vec::new(),
            count: 0,
            base_timestamp: WallMs(-1),
            max_timestamp: WallMs(-1),
            body: Vec::new(),
        }
    }

    /// Makes the batch idempotent. May be set at any time before `build`.
    pub fn producer(&mut self, producer: Producer) -> &mut Self {
        self.producer = Some(producer);
        self
    }

    /// Adds one record.
    pub fn push(&mut self, record: &Record) -> Result<(), EncodeError> {
        let (base, max) = match self.count {
            0 => (record.timestamp, record.timestamp),
            _ => (self.base_timestamp, self.max_timestamp.max(record.timestamp)),
        };
        let got = self.records.len().saturating_add(content_bytes(record));
        let too_large = |got| EncodeError::TooLarge { got, max: DECODED_BYTES_MAX_DEFAULT };
        if got > DECODED_BYTES_MAX_DEFAULT {
            return Err(too_large(got));
        }
        self.body.clear();
        // No record attribute is defined.
        self.body.push(0);
        varint::put(&mut self.body, record.timestamp.0.wrapping_sub(base.0));
        varint::put(&mut self.body, i64::from(self.count));
        varint::put_bytes(&mut self.body, record.key.as_deref());
        varint::put_bytes(&mut self.body, record.value.as_deref());
        varint::put(&mut self.body, record.headers.len() as i64);
        for (key, value) in &record.headers {
            varint::put_bytes(&mut self.body, Some(key.as_bytes()));
            varint::put_bytes(&mut self.body, value.as_deref());
        }
        // Ten bytes hold any length prefix.
        let got = self.records.len() + self.body.len() + 10;
        if got > DECODED_BYTES_MAX_DEFAULT {
            return Err(too_large(got));
        }
        varint::put_bytes(&mut self.records, Some(&self.body));
        self.count += 1;
        (self.base_timestamp, self.max_timestamp) = (base, max);
        Ok(())
    }

    /// Records so far.
    #[cfg(test)]
    pub fn count(&self) -> i32 {
        self.count
    }

    /// Length of the batch if it were built now without compression.
    #[cfg(test)]
    pub fn bytes_uncompressed(&self) -> usize {
        BATCH_HEADER_BYTES + self.records.len()
    }

    /// The batch, sealed with its CRC.
    pub fn build(self) -> Result<Bytes, EncodeError> {
        if self.count == 0 {
            return Err(EncodeError::Empty);
        }
        let codec = self.codec;
        let records =
            compress::compress(codec, self.records).map_err(|reason| EncodeError::Compress { codec, reason })?;
        let total = BATCH_HEADER_BYTES + records.len();
        if total > BATCH_BYTES_MAX {
            return Err(EncodeError::TooLarge { got: total, max: BATCH_BYTES_MAX });
        }
        let producer = self.producer.unwrap_or(Producer {
            id: NO_PRODUCER,
            epoch: ProducerEpoch(-1),
            base_sequence: Sequence(-1),
        });
        let mut batch = BytesMut::with_capacity(total);
        batch.put_i64(0); // base offset: the broker's
        batch.put_i32((total - header::LENGTH_END) as i32);
        batch.put_i32(-1); // leader epoch: the broker's
        batch.put_i8(header::MAGIC);
        batch.put_u32(0); // CRC: sealed below
        batch.put_i16(codec.bits());
        batch.put_i32(self.count - 1);
        batch.put_i64(self.base_timestamp.0);
        batch.put_i64(self.max_timestamp.0);
        batch.put_i64(producer.id.0);
        batch.put_i16(producer.epoch.0);
        batch.put_i32(producer.base_sequence.0);
        batch.put_i32(self.count);
        batch.put_slice(&records);
        header::seal(&mut batch);
        Ok(batch.freeze())
    }
}

/// Bytes of a record's own content, without any length in front.
fn content_bytes(record: &Record) -> usize {
    let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers = record.headers.iter().map(|(key, value)| key.len() + len(value));
    len(&record.key) + len(&record.value) + headers.sum::<usize>()
}
