//! The bytes of a partition's commands: what its Raft entries carry. Frozen.
//!
//! ```text
//! append  version u8 = 1 | kind u8 = 1 | append time i64 | base offset i64 | records u32 | max timestamp i64 | batches
//! trim    version u8 = 1 | kind u8 = 2 | append time i64 | before i64
//! ```
//! Big-endian. Batches stand back to back, exactly as a fetch returns them, so that reading is slicing.

use bytes::{BufMut, Bytes, BytesMut};

use crate::record::{self, BatchError, BatchHeader};
use crate::types::{LeaderEpoch, Offset, WallMs};

/// One entry holds at most this many bytes of batches, or one larger batch: large enough that the cost
/// per entry vanishes, small enough that a follower's append is a matter of milliseconds.
pub const COMMAND_BATCH_BYTES_MAX: usize = 1024 * 1024;

const VERSION: u8 = 1;
const KIND_APPEND: u8 = 1;
const KIND_TRIM: u8 = 2;
const APPEND_HEADER_BYTES: usize = 30;
const TRIM_BYTES: usize = 18;

/// Bytes that are not a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error("partition command of {len} bytes is cut short or has trailing bytes")]
    Length { len: usize },
    #[error("partition command has format version {found}, this broker knows {VERSION}: use a newer broker")]
    Version { found: u8 },
    #[error("partition command has unknown kind {kind}")]
    Kind { kind: u8 },
    #[error("partition command's batch at byte {at} is malformed: {error}")]
    Batch { at: usize, error: BatchError },
    #[error(
        "partition command says base offset {base_offset}, {record_count} records, max timestamp {max_timestamp}, but its batches do not"
    )]
    Inconsistent { base_offset: Offset, record_count: u32, max_timestamp: WallMs },
}

/// A command, parsed without a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandView {
    Append(AppendView),
    Trim(TrimView),
}

/// An append as readers and `apply` see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendView {
    /// The leader's clock when it built the entry.
    pub append_time: WallMs,
    /// Offset of the first record; the entry is dead unless it was the next offset at apply.
    pub base_offset: Offset,
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

impl CommandView {
    /// Parses a command. An append's batches are checked by [`AppendView::check`], not here.
    pub fn parse(command: &Bytes) -> Result<CommandView, CommandError> {
        todo!("{command:?}")
    }
}

impl AppendView {
    /// Parses an append; `Kind` if the command is another one. Reads only the command's header.
    pub fn parse(command: &Bytes) -> Result<AppendView, CommandError> {
        todo!("{command:?}")
    }

    /// The offset after the last record.
    pub fn end_offset(&self) -> Offset {
        Offset(self.base_offset.0.saturating_add(i64::from(self.record_count)))
    }
}

/// The bytes of a trim.
pub fn encode_trim(append_time: WallMs, before: Offset) -> Bytes {
    todo!("{append_time} {before}")
}

/// Puts one entry together: each batch is copied once, to where it will lie for good.
#[derive(Debug)]
pub struct AppendBuilder {
    buffer: BytesMut,
}

impl AppendBuilder {
    /// `bytes_hint`: how many bytes of batches are expected, to size the buffer.
    pub fn new(base_offset: Offset, epoch: LeaderEpoch, append_time: WallMs, bytes_hint: usize) -> AppendBuilder {
        todo!("{base_offset} {epoch} {append_time} {bytes_hint}")
    }

    /// Whether a batch of this length may go in: always the first one, later ones up to
    /// [`COMMAND_BATCH_BYTES_MAX`] in all.
    pub fn fits(&self, batch_bytes: usize) -> bool {
        todo!("{batch_bytes}")
    }

    /// Copies a validated batch in and gives it its base offset, which is returned. With
    /// `log_append_time` its timestamps become the entry's append time.
    pub fn push(&mut self, batch: &[u8], header: &BatchHeader, log_append_time: bool) -> Offset {
        todo!("{batch:?} {header:?} {log_append_time}")
    }

    pub fn is_empty(&self) -> bool {
        self.buffer.len() == APPEND_HEADER_BYTES
    }

    /// The offset after the last record pushed.
    pub fn next_offset(&self) -> Offset {
        todo!()
    }

    /// The command. At least one batch must have been pushed.
    pub fn finish(self) -> Bytes {
        todo!()
    }
}
