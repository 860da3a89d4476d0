//! The leader's view of what it has proposed and not yet seen applied.

use super::Partition;
use crate::record::BatchHeader;
use crate::types::{EntryPosition, Offset, WallMs};

/// How far a client's timestamp may lie ahead of the leader's clock (`message.timestamp.after.max.ms`).
pub const TIMESTAMP_AFTER_MAX_MS_DEFAULT: i64 = 3_600_000;

/// The appender's name for one batch it has proposed. Never used twice within one overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What a check depends on besides state and batch.
#[derive(Clone, Copy, Debug)]
pub struct CheckParams {
    /// The append time the entry would carry ([`Partition::append_time`]).
    pub now: WallMs,
    /// Compare-and-append: the batch is taken only at this offset.
    pub expected_offset: Option<Offset>,
    /// None: client timestamps are not looked at (`LogAppendTime`).
    pub timestamp_after_max_ms: Option<i64>,
}

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Take it: propose it at this offset, after `push`.
    Append { base_offset: Offset },
    /// It is in the log already: answer as the first time.
    DuplicateCommitted { base_offset: Offset, position: EntryPosition },
    /// It is on its way: wait for that one's outcome.
    DuplicatePending { ticket: Ticket, base_offset: Offset },
    /// A batch is missing before it, or it is older than all that is remembered.
    OutOfOrderSequence { expected: i32, got: i32 },
    /// A newer producer has this id.
    Fenced { current_epoch: i16, got: i16 },
    /// The next offset is another one.
    WrongOffset { expected: Offset, actual: Offset },
    /// The client's clock is ahead by more than is allowed.
    TimestampTooFar { max_timestamp: WallMs, limit: WallMs },
}

/// Proposed batches on top of an applied [`Partition`].
#[derive(Clone, Debug)]
pub struct Overlay {}

impl Overlay {
    /// An empty overlay, at leader-ready.
    pub fn new(partition: &Partition) -> Overlay {
        todo!("{partition:?}")
    }

    /// What to do with a validated batch. Changes nothing.
    pub fn check(&self, partition: &Partition, header: &BatchHeader, params: &CheckParams) -> Verdict {
        todo!("{partition:?} {header:?} {params:?}")
    }

    /// Reserves the next offsets, and the sequence, for a batch that `check` just told to append.
    /// Returns its base offset.
    pub fn push(&mut self, ticket: Ticket, header: &BatchHeader) -> Offset {
        todo!("{ticket:?} {header:?}")
    }

    /// The batch has an outcome, whichever; if it was applied, the partition knows it now.
    pub fn settle(&mut self, ticket: Ticket) {
        todo!("{ticket:?}")
    }

    /// Forgets everything pending and begins again from the applied state: after a refusal or a dead
    /// entry, once no proposal is outstanding (SAFETY M2).
    pub fn resync(&mut self, partition: &Partition) {
        *self = Overlay::new(partition);
    }

    /// The next offset, counting what is pending.
    pub fn next_offset(&self) -> Offset {
        todo!()
    }

    /// Batches without an outcome.
    pub fn pending(&self) -> usize {
        todo!()
    }
}
