//! The 61-byte header of a RecordBatch v2: reading it, the checks a broker makes before it takes a
//! batch, and the two patches it makes to the copy in an entry.
//!
//! ```text
//! 0 base offset i64 | 8 batch length i32 | 12 leader epoch i32 | 16 magic i8 | 17 crc u32
//! 21 attributes i16 | 23 last offset delta i32 | 27 base timestamp i64 | 35 max timestamp i64
//! 43 producer id i64 | 51 producer epoch i16 | 53 base sequence i32 | 57 count i32 | 61 records
//! ```
//! The CRC-32C covers everything from the attributes on, so base offset and leader epoch can be
//! written without touching it.

use bytes::{Bytes, BytesMut};

use super::{Codec, DECODED_BYTES_MAX_DEFAULT};
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, WallMs};

/// Length of a batch header; the records follow.
pub const BATCH_HEADER_BYTES: usize = 61;

/// Largest batch any topic may allow (`max.message.bytes` <= 8 MiB): a batch is one entry at least,
/// and an entry must fit a node frame of 16 MiB.
pub const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Kafka's default of `max.message.bytes`, which its clients are tuned for.
pub const BATCH_BYTES_MAX_DEFAULT: usize = 1_048_588;

/// A record takes seven bytes at least: length, attributes, two deltas, two lengths, header count.
const RECORD_BYTES_MIN: usize = 7;

/// No batch may claim more records than readers would decompress. Without this a client could burn
/// 2^31 offsets with 62 bytes.
pub const BATCH_RECORDS_MAX: u32 = (DECODED_BYTES_MAX_DEFAULT / RECORD_BYTES_MIN) as u32;

/// Producer id of a batch without idempotence.
pub const NO_PRODUCER: ProducerId = ProducerId(-1);

/// The smallest value of the length field: what is left of a header after it.
const BATCH_LENGTH_MIN: i32 = (BATCH_HEADER_BYTES - LENGTH_END) as i32;
/// The length field counts from here.
pub(super) const LENGTH_END: usize = 12;
const LEADER_EPOCH_AT: usize = 12;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
/// What the CRC covers begins here.
const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;
pub(super) const MAGIC: i8 = 2;

const CODEC_MASK: i16 = 0b111;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// What a batch says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: Offset,
    /// Bytes after the length field. The whole batch is [`BatchHeader::total_bytes`] long.
    pub batch_length: i32,
    pub leader_epoch: LeaderEpoch,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: WallMs,
    /// The client's, unless [`BatchHeader::is_log_append_time`].
    pub max_timestamp: WallMs,
    /// [`NO_PRODUCER`] without idempotence.
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub base_sequence: Sequence,
    /// Records in the batch, as claimed.
    pub count: i32,
}

/// What a topic allows of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// How large a batch may be (`max.message.bytes`).
    pub batch_bytes_max: usize,
}

impl Default for BatchLimits {
    fn default() -> Self {
        BatchLimits { batch_bytes_max: BATCH_BYTES_MAX_DEFAULT }
    }
}

/// Why bytes are not a batch that we take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("{got} bytes are too few for a record batch: its header alone takes {BATCH_HEADER_BYTES}")]
    Short { got: usize },
    #[error("record batch claims a length of {batch_length} bytes after the length field, at least {BATCH_LENGTH_MIN}")]
    LengthTooSmall { batch_length: i32 },
    #[error("record batch claims {claimed} bytes in all, but {got} are there: exactly one whole batch is wanted")]
    LengthMismatch { claimed: u64, got: usize },
    #[error("record batch has format version (magic) {magic}, only {MAGIC} is supported")]
    Magic { magic: i8 },
    #[error("record batch of {got} bytes is larger than the topic's max.message.bytes = {max}")]
    TooLarge { got: usize, max: usize },
    #[error("record batch is corrupt: CRC-32C is {computed:#010x}, its header says {stored:#010x}")]
    Crc { stored: u32, computed: u32 },
    #[error("record batch claims {count} records, at least 1 is wanted")]
    NoRecords { count: i32 },
    #[error("record batch claims {count} records, but a last offset delta of {last_offset_delta}, not count - 1")]
    CountMismatch { count: i32, last_offset_delta: i32 },
    #[error("record batch claims {count} records, its bytes can hold at most {max}")]
    TooManyRecords { count: i32, max: u32 },
    #[error("record batch has the control bit set (attributes {attributes:#06x}): only brokers write those")]
    Control { attributes: i16 },
    #[error("record batch is transactional (attributes {attributes:#06x}): transactions are not supported yet")]
    Transactional { attributes: i16 },
    #[error("record batch claims the broker's append time (attributes {attributes:#06x}): only brokers stamp that")]
    LogAppendTime { attributes: i16 },
    #[error("record batch has unknown compression codec {codec}, known are 0 to 4")]
    Codec { codec: i16 },
    #[error(
        "producer {producer_id} sent epoch {producer_epoch} and base sequence {base_sequence}: neither may be negative"
    )]
    Producer { producer_id: ProducerId, producer_epoch: ProducerEpoch, base_sequence: Sequence },
}

impl BatchError {
    /// Whether the bytes are not what its writer made of them: cut, or damaged. Else its writer broke a rule.
    pub fn is_corrupt(&self) -> bool {
        match self {
            BatchError::Short { .. }
            | BatchError::LengthTooSmall { .. }
            | BatchError::LengthMismatch { .. }
            | BatchError::Crc { .. } => true,
            BatchError::Magic { .. }
            | BatchError::TooLarge { .. }
            | BatchError::NoRecords { .. }
            | BatchError::CountMismatch { .. }
            | BatchError::TooManyRecords { .. }
            | BatchError::Control { .. }
            | BatchError::Transactional { .. }
            | BatchError::LogAppendTime { .. }
            | BatchError::Codec { .. }
            | BatchError::Producer { .. } => false,
        }
    }
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`. Checks what must hold to find the batch's end
    /// (length, magic), nothing else.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        let header: &[u8; BATCH_HEADER_BYTES] = bytes.first_chunk().ok_or(BatchError::Short { got: bytes.len() })?;
        // Magic first: before v2 the other fields lie elsewhere.
        let magic = header[MAGIC_AT] as i8;
        if magic != MAGIC {
            return Err(BatchError::Magic { magic });
        }
        let batch_length = i32_at(header, 8);
        if batch_length < BATCH_LENGTH_MIN {
            return Err(BatchError::LengthTooSmall { batch_length });
        }
        Ok(BatchHeader {
            base_offset: Offset(i64_at(header, 0)),
            batch_length,
            leader_epoch: LeaderEpoch(i32_at(header, LEADER_EPOCH_AT)),
            crc: i32_at(header, CRC_AT) as u32,
            attributes: i16_at(header, ATTRIBUTES_AT),
            last_offset_delta: i32_at(header, 23),
            base_timestamp: WallMs(i64_at(header, 27)),
            max_timestamp: WallMs(i64_at(header, MAX_TIMESTAMP_AT)),
            producer_id: ProducerId(i64_at(header, 43)),
            producer_epoch: ProducerEpoch(i16_at(header, 51)),
            base_sequence: Sequence(i32_at(header, 53)),
            count: i32_at(header, 57),
        })
    }

    /// Length of the whole batch.
    pub fn total_bytes(&self) -> usize {
        // `parse` refused lengths below the rest of a header, so this is not negative.
        self.batch_length.max(0) as usize + LENGTH_END
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset.0.saturating_add(i64::from(self.last_offset_delta)))
    }

    /// Whether the batch takes part in idempotence.
    pub fn is_idempotent(&self) -> bool {
        self.producer_id > NO_PRODUCER
    }

    /// Sequence of the last record; sequences wrap from 2^31-1 to 0.
    pub fn last_sequence(&self) -> Sequence {
        self.base_sequence.last_of(self.count)
    }

    /// How the records are compressed.
    pub fn codec(&self) -> Result<Codec, BatchError> {
        let codec = self.attributes & CODEC_MASK;
        Codec::from_bits(codec).ok_or(BatchError::Codec { codec })
    }

    /// Whether `max_timestamp` is the broker's append time and stands for every record.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// Whether only a broker may have written it.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Whether it belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }
}

/// Every check a broker makes before it takes a client's batch, without reading a record: exactly
/// one whole batch, its CRC, and a header whose parts agree. What depends on state (sequence,
/// expected offset, time) is [`crate::partition::Overlay`]'s.
pub fn validate_batch(bytes: &Bytes, limits: &BatchLimits) -> Result<BatchHeader, BatchError> {
    if bytes.len() > limits.batch_bytes_max {
        return Err(BatchError::TooLarge { got: bytes.len(), max: limits.batch_bytes_max });
    }
    let header = BatchHeader::parse(bytes)?;
    if header.total_bytes() != bytes.len() {
        return Err(BatchError::LengthMismatch { claimed: header.total_bytes() as u64, got: bytes.len() });
    }
    check_crc(&header, bytes)?;
    let BatchHeader { attributes, count, last_offset_delta, producer_id, producer_epoch, base_sequence, .. } = header;
    if count <= 0 {
        return Err(BatchError::NoRecords { count });
    }
    if last_offset_delta != count - 1 {
        return Err(BatchError::CountMismatch { count, last_offset_delta });
    }
    if header.is_control() {
        return Err(BatchError::Control { attributes });
    }
    if header.is_transactional() {
        return Err(BatchError::Transactional { attributes });
    }
    if header.is_log_append_time() {
        return Err(BatchError::LogAppendTime { attributes });
    }
    let max = records_max(header.codec()?, bytes.len() - BATCH_HEADER_BYTES);
    if count as u32 > max {
        return Err(BatchError::TooManyRecords { count, max });
    }
    if header.is_idempotent() && (base_sequence < Sequence(0) || producer_epoch < ProducerEpoch(0)) {
        return Err(BatchError::Producer { producer_id, producer_epoch, base_sequence });
    }
    Ok(header)
}

/// The most records that so many bytes behind a header can hold: none is smaller than seven bytes when it is
/// decompressed, no codec makes more of its data than its ratio, and no reader takes more than the limit.
fn records_max(codec: Codec, bytes: usize) -> u32 {
    let decoded = codec.expands_to_max(bytes).min(DECODED_BYTES_MAX_DEFAULT);
    (decoded / RECORD_BYTES_MIN) as u32
}

/// Checks the CRC of the batch at the front of `bytes`, whose header was read from them.
pub fn check_crc(header: &BatchHeader, bytes: &[u8]) -> Result<(), BatchError> {
    let covered = bytes
        .get(ATTRIBUTES_AT..header.total_bytes())
        .ok_or(BatchError::LengthMismatch { claimed: header.total_bytes() as u64, got: bytes.len() })?;
    let computed = crc32c::crc32c(covered);
    if computed != header.crc {
        return Err(BatchError::Crc { stored: header.crc, computed });
    }
    Ok(())
}

/// Copies a checked batch behind what `buffer` holds, with the base offset and leader epoch it gets
/// in the log. Both lie outside the CRC.
///
/// # Panics
/// If `batch` is shorter than a header: it was not checked.
pub fn append_patched(buffer: &mut BytesMut, batch: &[u8], base_offset: Offset, epoch: LeaderEpoch) {
    assert!(batch.len() >= BATCH_HEADER_BYTES, "a batch of {} bytes was not validated", batch.len());
    let at = buffer.len();
    buffer.extend_from_slice(batch);
    let copy = &mut buffer[at..];
    copy[..8].copy_from_slice(&base_offset.0.to_be_bytes());
    copy[LEADER_EPOCH_AT..MAGIC_AT].copy_from_slice(&epoch.0.to_be_bytes());
}

/// Does what [`append_patched`] does, and stamps the broker's append time (`message.timestamp.type = LogAppendTime`):
/// attribute bit and max timestamp, both under the CRC, which is computed again.
///
/// # Panics
/// As [`append_patched`].
pub fn append_stamped(
    buffer: &mut BytesMut,
    batch: &[u8],
    base_offset: Offset,
    epoch: LeaderEpoch,
    append_time: WallMs,
) {
    let at = buffer.len();
    append_patched(buffer, batch, base_offset, epoch);
    let copy = &mut buffer[at..];
    copy[ATTRIBUTES_AT + 1] |= LOG_APPEND_TIME as u8;
    copy[MAX_TIMESTAMP_AT..43].copy_from_slice(&append_time.0.to_be_bytes());
    seal(copy);
}

/// Writes the CRC of a whole batch into its header.
pub(super) fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
}

fn i16_at(header: &[u8; BATCH_HEADER_BYTES], at: usize) -> i16 {
    i16::from_be_bytes([header[at], header[at + 1]])
}

fn i32_at(header: &[u8; BATCH_HEADER_BYTES], at: usize) -> i32 {
    i32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

fn i64_at(header: &[u8; BATCH_HEADER_BYTES], at: usize) -> i64 {
    let high = i64::from(i32_at(header, at));
    let low = i64::from(i32_at(header, at + 4) as u32);
    high << 32 | low
}
