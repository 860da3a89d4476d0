//! How much a partition keeps, and where retention would move its log start.
//!
//! Sizes are known at checkpoints and guessed evenly between them: exact after a trim to a checkpoint,
//! else off by less than one segment (64 MiB by default). Equal on all replicas, because it is computed
//! from replicated state in whole numbers.

use super::Partition;
use crate::types::{Offset, WallMs};

/// The part of a segment that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptSegment {
    pub from: Offset,
    pub end: Offset,
    /// No record in it has a later timestamp. One that is trimmed may have had this one.
    pub latest: WallMs,
}

impl Partition {
    /// All that is kept, by segments, oldest first; each has a record.
    pub fn kept_segments(&self) -> Vec<KeptSegment> {
        let closed = self.checkpoints[self.checkpoints_up_to(self.log_start)..].iter();
        let closed = closed.map(|checkpoint| (checkpoint.next_offset, checkpoint.segment_max_timestamp));
        let mut from = self.log_start;
        let mut kept = Vec::new();
        for (end, latest) in closed.chain([(self.next_offset, self.segment.max_timestamp)]) {
            if from < end {
                // The append clock may stand in for timestamps that batches do not have.
                kept.push(KeptSegment { from, end, latest: latest.min(self.max_timestamp) });
                from = end;
            }
        }
        kept
    }

    /// About how many bytes of batches lie between log start and end. See the module's head.
    pub fn retained_bytes(&self) -> u64 {
        self.bytes_from(self.log_start)
    }

    /// Bytes of all batches since the partition began, kept or not: what two looks differ by came between them.
    pub fn appended_bytes(&self) -> u64 {
        self.bytes
    }

    /// About how many bytes of batches lie behind `offset`, which counts as log start or end if it is
    /// outside. See the module's head.
    pub fn bytes_from(&self, offset: Offset) -> u64 {
        let offset = offset.clamp(self.log_start, self.next_offset);
        let above = self.checkpoints_up_to(offset);
        let (from, bytes_from) = match above.checked_sub(1) {
            Some(below) => (self.checkpoints[below].next_offset, self.checkpoints[below].bytes_before),
            None => (Offset(0), 0),
        };
        let (to, bytes_to) = match self.checkpoints.get(above) {
            Some(checkpoint) => (checkpoint.next_offset, checkpoint.bytes_before),
            None => (self.next_offset, self.bytes),
        };
        let before = match (to.0 - from.0) as u128 {
            // The offset is the end, and a checkpoint.
            0 => 0,
            records => u128::from(bytes_to - bytes_from) * (offset.0 - from.0) as u128 / records,
        };
        self.bytes - bytes_from - before as u64
    }

    /// Where retention would move the log start to, or None if it stays. Whole segments only: those
    /// whose records are all older than `retention_ms`, the open one included, and those without which
    /// `retention_bytes` are still there. `now` is the leader's wall clock (SAFETY M4); None: no limit.
    pub fn retention_offset(
        &self,
        now: WallMs,
        retention_ms: Option<i64>,
        retention_bytes: Option<u64>,
    ) -> Option<Offset> {
        let by_time = retention_ms.and_then(|ms| self.expired_before(WallMs(now.0.saturating_sub(ms))));
        let by_size = retention_bytes.and_then(|bytes| self.surplus_before(bytes));
        by_time.max(by_size).filter(|offset| *offset > self.log_start)
    }

    /// The timestamp later than `limit` that keeps retention by time from the oldest segment, and so from all
    /// behind it. None: there is none.
    pub fn pinned_by(&self, limit: WallMs) -> Option<WallMs> {
        let kept = &self.checkpoints[self.checkpoints_up_to(self.log_start)..];
        let open = self.segment.first_append.map(|_| self.segment.max_timestamp);
        kept.first().map(|oldest| oldest.segment_max_timestamp).or(open).filter(|latest| *latest > limit)
    }

    /// The end of the leading segments whose timestamps are all below `cutoff`.
    fn expired_before(&self, cutoff: WallMs) -> Option<Offset> {
        let kept = &self.checkpoints[self.checkpoints_up_to(self.log_start)..];
        let expired = kept.iter().take_while(|checkpoint| checkpoint.segment_max_timestamp < cutoff);
        let closed = expired.clone().last().map(|checkpoint| checkpoint.next_offset);
        let open_too =
            expired.count() == kept.len() && self.segment.first_append.is_some() && self.segment.max_timestamp < cutoff;
        if open_too { Some(self.next_offset) } else { closed }
    }

    /// The end of the leading segments without which at least `bytes` are left.
    fn surplus_before(&self, bytes: u64) -> Option<Offset> {
        let surplus = self.checkpoints.iter().take_while(|c| self.bytes - c.bytes_before >= bytes);
        surplus.last().map(|checkpoint| checkpoint.next_offset)
    }
}
