//! What one partition's Raft group agrees on, and the leader's view of what it has proposed.
//!
//! Promises: offsets are dense from 0 whatever becomes of proposals; a batch of an idempotent producer
//! is in the log at most once; every replica computes the same state, byte for byte. Pure: no I/O, no
//! clock, no randomness, no async; the only "now" is the append time an entry carries (SAFETY M4).
//!
//! Leaves out: who proposes and waits (the appender, in `broker`), where batches are kept (`storage`).

mod checked;
mod command;
pub mod contracts;
mod encoding;
#[cfg(test)]
mod fuzz;
mod overlay;
mod producers;
mod replicated;
mod response;
mod retention;
mod state;
#[cfg(test)]
mod tests;

pub use command::{
    AppendBuilder, AppendView, COMMAND_RECORDS_MAX, CommandError, CommandView, EntryFill, RESIZE_FEATURE_LEVEL,
    ResizeView, SegmentLimits, TrimView, encode_resize, encode_trim,
};
#[cfg(test)]
use overlay::TIMESTAMP_AFTER_MAX_MS_DEFAULT;
pub use overlay::{CheckParams, Overlay, Ticket, TimestampBounds, Verdict};
pub use response::{PartitionResponse, ResponseError};
pub use retention::KeptSegment;
pub use state::{Checkpoint, EpochEnd, Partition, PartitionLimits};
