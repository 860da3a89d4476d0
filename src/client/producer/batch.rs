//! The records of one batch: open until it is first sent, then bytes that every retry sends again.

use bytes::{Bytes, BytesMut};

use super::core::Stamp;
use crate::{
    client::error::ClientError,
    record::{
        BatchBuilder, Codec, DECODED_BYTES_MAX_DEFAULT, EncodeError, NO_PRODUCER, Producer as BatchProducer, Record,
        decode_records,
    },
    types::{ProducerEpoch, ProducerId, Sequence},
};

/// What a record costs beside its bytes: its tag and its share of a batch.
const RECORD_OVERHEAD_BYTES: usize = 32;

#[derive(Debug)]
enum Body {
    Records(Option<BatchBuilder>),
    Built { bytes: Bytes, stamp: Option<Stamp> },
}

#[derive(Debug)]
pub(super) struct Batch {
    body: Body,
    /// The tags of the records, in order.
    pub tags: Vec<u64>,
    /// What its records take of the producer's memory.
    pub bytes: usize,
}

impl Batch {
    pub fn new(builder: BatchBuilder, tags: Vec<u64>, bytes: usize) -> Batch {
        Batch { body: Body::Records(Some(builder)), tags, bytes }
    }

    /// The bytes to send under this stamp: built once, patched if a retry got a new stamp.
    pub fn encode(&mut self, producer_id: Option<i64>, stamp: Option<Stamp>) -> Result<Bytes, ClientError> {
        let producer = |stamp: Stamp| BatchProducer {
            id: producer_id.map_or(NO_PRODUCER, ProducerId),
            epoch: ProducerEpoch(stamp.epoch),
            base_sequence: Sequence(stamp.sequence),
        };
        match &mut self.body {
            Body::Built { bytes, stamp: old } => {
                if *old != stamp
                    && let Some(stamp) = stamp
                {
                    *bytes = restamp(bytes, producer(stamp));
                }
                *old = stamp;
                Ok(bytes.clone())
            }
            Body::Records(builder) => {
                let gone = || ClientError::Invalid { detail: "the records of a batch could not be encoded".into() };
                let mut builder = builder.take().ok_or_else(gone)?;
                if let Some(stamp) = stamp {
                    builder.producer(producer(stamp));
                }
                let bytes = builder.build().map_err(encode_error)?;
                self.body = Body::Built { bytes: bytes.clone(), stamp };
                Ok(bytes)
            }
        }
    }

    /// Takes the second half of a batch that was built out of it, with its number of records. `None`: it is one
    /// record. Happens only where the topic takes less than was known.
    pub fn halve(&mut self, codec: Codec) -> Option<(Batch, u32)> {
        let Body::Built { bytes, .. } = &self.body else { return None };
        let records = decode_records(bytes, DECODED_BYTES_MAX_DEFAULT).ok()?;
        let middle = self.tags.len() / 2;
        if middle == 0 || records.len() != self.tags.len() {
            return None;
        }
        let build = |records: &[(_, Record)]| {
            let mut builder = BatchBuilder::new(codec);
            let mut bytes = 0;
            for (_, record) in records {
                builder.push(record).ok()?;
                bytes += record_bytes(record);
            }
            Some((builder, bytes))
        };
        let (first, first_bytes) = build(&records[..middle])?;
        let (second, _) = build(&records[middle..])?;
        // Whatever a record was counted for, together they count for that.
        let second_bytes = self.bytes.checked_sub(first_bytes)?;
        let second = Batch::new(second, self.tags.split_off(middle), second_bytes);
        *self = Batch::new(first, std::mem::take(&mut self.tags), first_bytes);
        let count = second.tags.len() as u32;
        Some((second, count))
    }
}

/// A copy of a batch under another producer stamp, with its CRC. Happens only after a failure.
fn restamp(batch: &Bytes, producer: BatchProducer) -> Bytes {
    let mut copy = BytesMut::from(batch.as_ref());
    copy[43..51].copy_from_slice(&producer.id.0.to_be_bytes());
    copy[51..53].copy_from_slice(&producer.epoch.0.to_be_bytes());
    copy[53..57].copy_from_slice(&producer.base_sequence.0.to_be_bytes());
    let crc = crc32c::crc32c(&copy[21..]);
    copy[17..21].copy_from_slice(&crc.to_be_bytes());
    copy.freeze()
}

/// What a record counts for: in a batch, uncompressed, it takes no more, as long as its lengths are not absurd.
pub(super) fn record_bytes(record: &Record) -> usize {
    let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers: usize = record.headers.iter().map(|(key, value)| key.len() + length(value) + 10).sum();
    length(&record.key) + length(&record.value) + headers + RECORD_OVERHEAD_BYTES
}

pub(super) fn encode_error(error: EncodeError) -> ClientError {
    ClientError::Invalid { detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchLimits, validate_batch};

    fn record(value: &'static [u8]) -> Record {
        Record { value: Some(Bytes::from_static(value)), ..Default::default() }
    }

    fn batch(values: &[&'static [u8]]) -> Batch {
        let mut builder = BatchBuilder::new(Codec::None);
        values.iter().for_each(|value| builder.push(&record(value)).expect("fits"));
        let bytes = values.iter().map(|value| record_bytes(&record(value))).sum();
        Batch::new(builder, (1..=values.len() as u64).collect(), bytes)
    }

    #[test]
    fn a_restamped_batch_is_the_one_built_so() {
        let (old, new) = (Stamp { epoch: 0, sequence: 5 }, Stamp { epoch: 1, sequence: 0 });
        let build = |stamp: Stamp| batch(&[b"x"]).encode(Some(7), Some(stamp)).expect("builds");
        let mut sent = batch(&[b"x"]);
        assert_eq!(sent.encode(Some(7), Some(old)).expect("builds"), build(old));
        let restamped = sent.encode(Some(7), Some(new)).expect("patches");
        assert_eq!(restamped, build(new));
        validate_batch(&restamped, &BatchLimits::default()).expect("its CRC is right");
    }

    #[test]
    fn halves_hold_the_same_records_in_order() {
        let mut first = batch(&[b"a", b"bb", b"ccc"]);
        let bytes = first.bytes;
        assert!(first.halve(Codec::None).is_none(), "nothing was sent yet");
        first.encode(None, None).expect("builds");
        let (mut second, count) = first.halve(Codec::Zstd).expect("three records have halves");
        assert_eq!((count, &first.tags[..], &second.tags[..]), (2, &[1][..], &[2, 3][..]));
        assert_eq!(first.bytes + second.bytes, bytes);
        let mut values = vec![];
        for half in [&mut first, &mut second] {
            let bytes = half.encode(None, None).expect("builds");
            values.extend(decode_records(&bytes, 1000).expect("decodes").into_iter().map(|(_, record)| record.value));
        }
        assert_eq!(values.into_iter().flatten().collect::<Vec<_>>(), [&b"a"[..], b"bb", b"ccc"]);
        assert!(first.halve(Codec::None).is_none(), "one record has none");
        assert_eq!(first.tags, [1]);
    }
}
