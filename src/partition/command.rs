//! The bytes of a partition's commands: what its Raft entries carry. Frozen.
//!
//! ```text
//! append  version u8 = 1 | kind u8 = 1 | append time i64 | base offset i64 | records u32 | max timestamp i64 | batches
//! trim    version u8 = 1 | kind u8 = 2 | append time i64 | before i64
//! resize  version u8 = 1 | kind u8 = 3 | append time i64 | segment bytes u64 | segment ms i64
//! ```
//! Big-endian. Batches stand back to back, exactly as a fetch returns them, so that reading is slicing.

use bytes::{BufMut, Bytes, BytesMut};

use crate::record::{self, BATCH_HEADER_BYTES, BatchError, BatchHeader};
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, Sequence, WallMs};

/// One entry holds at most this many bytes of batches, or one larger batch: large enough that the cost
/// per entry vanishes, small enough that a follower's append is a matter of milliseconds.
pub const COMMAND_BATCH_BYTES_MAX: usize = 1024 * 1024;

/// One entry holds at most this many records. Compressed batches claim their counts, and a few dozen bytes
/// may claim millions: without a bound a thousand of them would overflow the entry's count. A hundred times
/// what the largest batch may claim, so that honest records meet the bound of bytes first.
pub const COMMAND_RECORDS_MAX: u32 = 1 << 30;

const _: () = assert!(record::BATCH_RECORDS_MAX <= COMMAND_RECORDS_MAX, "one batch always fits");

/// The cluster's feature level from which every broker can apply a resize. A broker that cannot stops its
/// replica, so nobody proposes one below it.
pub const RESIZE_FEATURE_LEVEL: u32 = 1;

const VERSION: u8 = 1;
const KIND_APPEND: u8 = 1;
const KIND_TRIM: u8 = 2;
const KIND_RESIZE: u8 = 3;
/// Version, kind, append time, base offset, records, max timestamp.
const APPEND_HEADER_BYTES: usize = 1 + 1 + 8 + 8 + 4 + 8;
/// Version, kind, append time, before.
const TRIM_BYTES: usize = 1 + 1 + 8 + 8;
/// Version, kind, append time, segment bytes, segment ms.
const RESIZE_BYTES: usize = 1 + 1 + 8 + 8 + 8;

/// Bytes that are not a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error("partition command of {len} bytes is cut short or has trailing bytes")]
    Length { len: usize },
    #[error("partition command has format version {found}, this broker knows {VERSION}: use a newer broker")]
    Version { found: u8 },
    #[error("partition command has unknown or unwanted kind {kind}")]
    Kind { kind: u8 },
    #[error("partition command's batches are malformed: {0}")]
    Batch(#[from] BatchError),
    #[error("segments of {bytes} bytes or {ms} ms cannot be: both must be positive")]
    Segment { bytes: u64, ms: i64 },
    #[error("append of {record_count} records at offset {base_offset} cannot be: offsets are 0 to 2^63-1")]
    Offsets { base_offset: Offset, record_count: u32 },
    #[error(
        "append at offset {base_offset} says {record_count} records up to timestamp {max_timestamp}, its batches do not"
    )]
    Inconsistent { base_offset: Offset, record_count: u32, max_timestamp: WallMs },
}

/// A command, parsed without a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandView {
    Append(AppendView),
    Trim(TrimView),
    Resize(ResizeView),
}

/// An append as readers and `apply` see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendView {
    /// The leader's clock when it built the entry.
    pub append_time: WallMs,
    /// Offset of the first record; the entry is dead unless it was the next offset at apply.
    /// Invariant: not negative, and `end_offset` does not overflow.
    pub base_offset: Offset,
    /// How many records the entry has, at least 1.
    pub record_count: u32,
    /// The largest of the batches' max timestamps.
    pub max_timestamp: WallMs,
    /// Batches back to back, with their final offsets.
    pub batches: Bytes,
}

/// A request to move the log start to `before`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrimView {
    pub append_time: WallMs,
    pub before: Offset,
}

/// When a segment is closed by a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentLimits {
    /// A segment is closed after so many bytes of batches. Positive.
    pub bytes: u64,
    /// A segment is closed after so long by append time. Positive.
    pub ms: i64,
}

/// A command by which segments are closed by other limits from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResizeView {
    pub append_time: WallMs,
    pub segment: SegmentLimits,
}

impl CommandView {
    /// Parses a command. Of an append only the command's own header is read; its batches are checked
    /// by [`AppendView::check`].
    pub fn parse(command: &Bytes) -> Result<CommandView, CommandError> {
        let len = command.len();
        let &[version, kind, ..] = &command[..] else {
            return Err(CommandError::Length { len });
        };
        if version != VERSION {
            return Err(CommandError::Version { found: version });
        }
        match kind {
            KIND_APPEND => AppendView::parse(command).map(CommandView::Append),
            KIND_TRIM if len == TRIM_BYTES => {
                let append_time = WallMs(i64_at(command, 2)?);
                Ok(CommandView::Trim(TrimView { append_time, before: Offset(i64_at(command, 10)?) }))
            }
            KIND_RESIZE if len == RESIZE_BYTES => {
                let append_time = WallMs(i64_at(command, 2)?);
                let (bytes, ms) = (i64_at(command, 10)? as u64, i64_at(command, 18)?);
                let segment = SegmentLimits { bytes, ms };
                if !segment.are_positive() {
                    return Err(CommandError::Segment { bytes, ms });
                }
                Ok(CommandView::Resize(ResizeView { append_time, segment }))
            }
            KIND_TRIM | KIND_RESIZE => Err(CommandError::Length { len }),
            _ => Err(CommandError::Kind { kind }),
        }
    }
}

impl AppendView {
    /// Parses an append; [`CommandError::Kind`] if the command is another one. Reads only the command's
    /// header: this is what a fetch does for every entry it passes.
    pub fn parse(command: &Bytes) -> Result<AppendView, CommandError> {
        let len = command.len();
        match command[..] {
            [] | [_] => return Err(CommandError::Length { len }),
            [VERSION, KIND_APPEND, ..] if len < APPEND_HEADER_BYTES + BATCH_HEADER_BYTES => {
                return Err(CommandError::Length { len });
            }
            [VERSION, KIND_APPEND, ..] => {}
            [VERSION, kind, ..] => return Err(CommandError::Kind { kind }),
            [found, ..] => return Err(CommandError::Version { found }),
        }
        let append_time = WallMs(i64_at(command, 2)?);
        let base_offset = Offset(i64_at(command, 10)?);
        let count = command.get(18..).and_then(|rest| rest.first_chunk()).ok_or(CommandError::Length { len })?;
        let record_count = u32::from_be_bytes(*count);
        let max_timestamp = WallMs(i64_at(command, 22)?);
        let fits = base_offset.0.checked_add(i64::from(record_count)).is_some();
        if base_offset.0 < 0 || record_count == 0 || !fits {
            return Err(CommandError::Offsets { base_offset, record_count });
        }
        let batches = command.slice(APPEND_HEADER_BYTES..);
        Ok(AppendView { append_time, base_offset, record_count, max_timestamp, batches })
    }

    /// The offset after the last record.
    pub fn end_offset(&self) -> Offset {
        Offset(self.base_offset.0 + i64::from(self.record_count))
    }

    /// Checks that the batches are what the command's header says: dense from its base offset, as many
    /// records, the same largest timestamp. Reads each batch's header; CRCs are not computed.
    pub fn check(&self) -> Result<(), CommandError> {
        let AppendView { base_offset, record_count, max_timestamp, .. } = *self;
        let wrong = CommandError::Inconsistent { base_offset, record_count, max_timestamp };
        let mut next_offset = base_offset;
        let mut latest = WallMs(i64::MIN);
        for batch in record::walk(&self.batches) {
            let (header, _) = batch?;
            let dense = header.base_offset == next_offset
                && header.count > 0
                && header.last_offset_delta == header.count - 1
                && (!header.is_idempotent()
                    || (header.base_sequence >= Sequence(0) && header.producer_epoch >= ProducerEpoch(0)));
            if !dense || i64::from(header.count) > self.end_offset().0 - next_offset.0 {
                return Err(wrong);
            }
            next_offset.0 += i64::from(header.count);
            latest = latest.max(header.max_timestamp);
        }
        if next_offset != self.end_offset() || latest != max_timestamp {
            return Err(wrong);
        }
        Ok(())
    }
}

/// The bytes of a trim.
pub fn encode_trim(append_time: WallMs, before: Offset) -> Bytes {
    let mut bytes = BytesMut::with_capacity(TRIM_BYTES);
    bytes.put_u8(VERSION);
    bytes.put_u8(KIND_TRIM);
    bytes.put_i64(append_time.0);
    bytes.put_i64(before.0);
    bytes.freeze()
}

impl SegmentLimits {
    fn are_positive(&self) -> bool {
        self.bytes > 0 && self.ms > 0
    }
}

/// The bytes of a resize.
///
/// # Panics
/// If a limit is not positive: every replica would stop at such an entry.
pub fn encode_resize(append_time: WallMs, segment: SegmentLimits) -> Bytes {
    assert!(segment.are_positive(), "{segment:?} must be positive");
    let mut bytes = BytesMut::with_capacity(RESIZE_BYTES);
    bytes.put_u8(VERSION);
    bytes.put_u8(KIND_RESIZE);
    bytes.put_i64(append_time.0);
    bytes.put_u64(segment.bytes);
    bytes.put_i64(segment.ms);
    bytes.freeze()
}

/// What one entry holds so far. The appender fills entries by this rule and [`AppendBuilder`] asserts the same
/// one, so that no batch is ever planned that cannot be built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryFill {
    bytes: usize,
    records: u32,
}

impl EntryFill {
    /// Whether a batch may go in: always the first one, later ones up to `COMMAND_BATCH_BYTES_MAX` and
    /// [`COMMAND_RECORDS_MAX`] in all.
    pub fn fits(&self, header: &BatchHeader) -> bool {
        let bytes_left = COMMAND_BATCH_BYTES_MAX.saturating_sub(self.bytes);
        let records_left = COMMAND_RECORDS_MAX.saturating_sub(self.records);
        self.bytes == 0 || (header.total_bytes() <= bytes_left && records_of(header) <= records_left)
    }

    /// A batch that fits goes in.
    ///
    /// # Panics
    /// If it does not fit: the appender's mistake.
    pub fn add(&mut self, header: &BatchHeader) {
        assert!(self.fits(header), "{header:?} does not fit an entry of {self:?}");
        self.bytes += header.total_bytes();
        // The first batch is at most BATCH_RECORDS_MAX, each other one fits.
        self.records += records_of(header);
    }
}

/// # Panics
/// If the header was not validated.
fn records_of(header: &BatchHeader) -> u32 {
    let count = u32::try_from(header.count).expect("a validated batch has records");
    assert!(count <= record::BATCH_RECORDS_MAX, "a validated batch holds fewer than {count} records");
    count
}

/// Puts one entry together: each batch is copied once, to where it will lie for good.
#[derive(Debug)]
pub struct AppendBuilder {
    buffer: BytesMut,
    base_offset: Offset,
    epoch: LeaderEpoch,
    fill: EntryFill,
    max_timestamp: WallMs,
}

impl AppendBuilder {
    /// `bytes_hint`: how many bytes of batches are expected, to size the buffer; held against
    /// `COMMAND_BATCH_BYTES_MAX`.
    pub fn new(base_offset: Offset, epoch: LeaderEpoch, append_time: WallMs, bytes_hint: usize) -> AppendBuilder {
        assert!(base_offset.0 >= 0, "base offset {base_offset} is negative");
        let capacity = APPEND_HEADER_BYTES + bytes_hint.min(COMMAND_BATCH_BYTES_MAX);
        let mut buffer = BytesMut::with_capacity(capacity);
        buffer.put_u8(VERSION);
        buffer.put_u8(KIND_APPEND);
        buffer.put_i64(append_time.0);
        buffer.put_i64(base_offset.0);
        // Record count and max timestamp: `finish` knows them.
        buffer.put_u32(0);
        buffer.put_i64(0);
        AppendBuilder { buffer, base_offset, epoch, fill: EntryFill::default(), max_timestamp: WallMs(i64::MIN) }
    }

    /// Copies a validated batch in and gives it its base offset, which is returned. With a `stamp` that becomes
    /// the time of its records.
    ///
    /// # Panics
    /// If the batch does not fit, or was not validated: the appender's mistake.
    pub fn push(&mut self, batch: &[u8], header: &BatchHeader, stamp: Option<WallMs>) -> Offset {
        assert_eq!(batch.len(), header.total_bytes(), "header and batch belong together");
        let base_offset = self.next_offset();
        self.fill.add(header);
        match stamp {
            Some(stamp) => {
                record::append_stamped(&mut self.buffer, batch, base_offset, self.epoch, stamp);
                self.max_timestamp = self.max_timestamp.max(stamp);
            }
            None => {
                record::append_patched(&mut self.buffer, batch, base_offset, self.epoch);
                self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
            }
        }
        base_offset
    }

    pub fn is_empty(&self) -> bool {
        self.fill == EntryFill::default()
    }

    /// The offset after the last record pushed.
    pub fn next_offset(&self) -> Offset {
        Offset(self.base_offset.0 + i64::from(self.fill.records))
    }

    /// The command.
    ///
    /// # Panics
    /// If nothing was pushed.
    pub fn finish(mut self) -> Bytes {
        assert!(!self.is_empty(), "an append holds at least one batch");
        self.buffer[18..22].copy_from_slice(&self.fill.records.to_be_bytes());
        self.buffer[22..30].copy_from_slice(&self.max_timestamp.0.to_be_bytes());
        self.buffer.freeze()
    }
}

fn i64_at(command: &Bytes, at: usize) -> Result<i64, CommandError> {
    let bytes = command.get(at..).and_then(|rest| rest.first_chunk());
    bytes.map(|bytes| i64::from_be_bytes(*bytes)).ok_or(CommandError::Length { len: command.len() })
}
