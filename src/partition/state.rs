//! The state of a partition: a fold over its log, and nothing else.

use serde::{Deserialize, Serialize};

use super::command::{AppendView, ResizeView, SegmentLimits, TrimView};
use super::producers::{KnownProducer, Producers};
use super::response::PartitionResponse;
use crate::record;
use crate::replicated::{CannotApply, IndexPoint};
use crate::seam::plant::{self, Plant};
use crate::types::{EntryPosition, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, WallMs};

/// No segment is smaller than this part of all that is kept: a state names each, and is saved every
/// second. With segments of 64 MiB it matters from 256 GiB on; beyond, their number grows with the
/// logarithm of what is kept (1 TiB: below 10,000, a quarter of a megabyte).
pub(super) const SEGMENT_PART_MIN: u64 = 4_096;

/// No entry makes a remembered producer older by more than this part of the time it is remembered.
const PRODUCER_LIFE_PARTS: i64 = 4;

/// The numbers that place checkpoints and bound the state. They are part of the state, so that every
/// replica, of whatever version, uses those the partition was created with; those of segments change
/// only by an entry that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionLimits {
    /// A checkpoint after this many bytes of batches: 64 MiB is replayed in a second or so, and is the
    /// grain in which retention gives disk space back.
    pub checkpoint_bytes: u64,
    /// A checkpoint after this long by append time: without it a slow partition would
    /// never give anything back.
    pub segment_ms: i64,
    /// About one point of the sparse index per this many bytes: what a read may have to skip.
    pub index_bytes: u64,
    /// Producers remembered: some 50 MB of memory at worst, and 10 MB of a checkpoint.
    pub producers_max: u64,
    /// How long a silent producer is remembered (`producer.id.expiration.ms`).
    pub producer_expiry_ms: i64,
}

/// Some 10 MB of state for each partition that has so many.
pub const PRODUCERS_MAX_DEFAULT: u64 = 100_000;
/// Kafka's `producer.id.expiration.ms`.
pub const PRODUCER_EXPIRY_MS_DEFAULT: i64 = 24 * 3_600_000;

impl Default for PartitionLimits {
    fn default() -> Self {
        PartitionLimits {
            checkpoint_bytes: 64 * 1024 * 1024,
            segment_ms: 7 * 24 * 3_600_000,
            index_bytes: 64 * 1024,
            producers_max: PRODUCERS_MAX_DEFAULT,
            producer_expiry_ms: PRODUCER_EXPIRY_MS_DEFAULT,
        }
    }
}

/// One checkpoint: everything before `next_offset` lies at or before `position`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub position: EntryPosition,
    pub next_offset: Offset,
    /// Bytes of live batches before it, since the partition began.
    pub bytes_before: u64,
    /// The largest client timestamp since the previous checkpoint; where batches have none, the append
    /// clock stands in. Drives time retention.
    pub segment_max_timestamp: WallMs,
}

/// Where a leader epoch ends (OffsetForLeaderEpoch).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    pub epoch: LeaderEpoch,
    pub end_offset: Offset,
}

/// The first live entry of a term (SAFETY M12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EpochStart {
    pub epoch: LeaderEpoch,
    pub first_offset: Offset,
}

/// What has been appended since the last checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Segment {
    /// Append clock of its first live entry. None: there is none yet.
    pub first_append: Option<WallMs>,
    pub max_timestamp: WallMs,
}

/// What one partition's Raft group agrees on.
///
/// Dead entries change nothing at all, so that what a replica remembers never depends on them.
#[derive(Clone, Debug)]
pub struct Partition {
    pub(super) limits: PartitionLimits,
    /// Invariant: `log_start <= next_offset`. Neither ever decreases.
    pub(super) log_start: Offset,
    pub(super) next_offset: Offset,
    /// The latest append time of all accepted entries: never goes back, whatever leaders' clocks do.
    pub(super) clock: WallMs,
    /// The largest client timestamp ever appended; -1 before any.
    pub(super) max_timestamp: WallMs,
    /// Bytes of live batches since the partition began.
    pub(super) bytes: u64,
    /// Bytes until the next point of the sparse index; 0: the next live entry gets one.
    pub(super) bytes_to_point: u64,
    /// Ascending in both fields, without terms that lie wholly below the log start. Bounded by what
    /// is retained: each has at least one live entry.
    pub(super) epochs: Vec<EpochStart>,
    /// Ascending in every position field, from the purge point on. Bounded by what is retained: each
    /// closes a segment with at least one live entry.
    pub(super) checkpoints: Vec<Checkpoint>,
    pub(super) segment: Segment,
    pub(super) producers: Producers,
    pub(super) producers_evicted: u64,
}

impl Default for Partition {
    fn default() -> Self {
        Partition::new(PartitionLimits::default())
    }
}

impl Partition {
    /// An empty partition.
    ///
    /// # Panics
    /// If a limit is not positive.
    pub fn new(limits: PartitionLimits) -> Partition {
        assert!(limits.are_positive(), "{limits:?} must all be positive");
        Partition {
            limits,
            log_start: Offset(0),
            next_offset: Offset(0),
            clock: WallMs(0),
            max_timestamp: WallMs(-1),
            bytes: 0,
            bytes_to_point: 0,
            epochs: Vec::new(),
            checkpoints: Vec::new(),
            segment: Segment::default(),
            producers: Producers::default(),
            producers_evicted: 0,
        }
    }

    /// Offset of the next record: the high watermark, since all that is applied is committed.
    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// The first offset clients may read.
    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    /// The append time an entry built now should carry: never before the last one's.
    pub fn append_time(&self, now: WallMs) -> WallMs {
        now.max(self.clock)
    }

    /// The largest client timestamp ever appended, -1 before any.
    #[cfg(test)]
    pub fn max_timestamp(&self) -> WallMs {
        self.max_timestamp
    }

    /// The checkpoints from the purge point on, oldest first.
    pub fn checkpoints(&self) -> &[Checkpoint] {
        &self.checkpoints
    }

    /// Producers forgotten to keep within the bound, since the partition began. Not expired ones.
    pub fn producers_evicted(&self) -> u64 {
        self.producers_evicted
    }

    /// What is remembered of each producer, in order of their ids: the epoch, last sequence and append time of its last
    /// batch.
    pub fn remembered(&self) -> impl Iterator<Item = (ProducerId, ProducerEpoch, Sequence, WallMs)> {
        self.producers.entries().filter_map(|(id, known)| {
            let last = known.batches.back()?;
            Some((*id, known.epoch, last.last_sequence, known.last_append))
        })
    }

    /// How many producers are remembered.
    pub fn producer_count(&self) -> usize {
        self.producers.len()
    }

    /// The epoch of the last live entry.
    pub fn last_epoch(&self) -> Option<LeaderEpoch> {
        self.epochs.last().map(|start| start.epoch)
    }

    /// The epoch in which the record at an offset was appended, if there is one that is kept.
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let begun = self.epochs.partition_point(|start| start.first_offset <= offset);
        begun.checked_sub(1).map(|found| self.epochs[found].epoch)
    }

    /// The largest epoch with data that is not above `epoch`, and where it ends: at the first offset of
    /// the next one, or at the high watermark. An epoch below all that is known ends where those begin
    /// (as in Kafka). None: no data at all. Whether `epoch` is one of the future is the caller's question.
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch, high_watermark: Offset) -> Option<EpochEnd> {
        let first = self.epochs.first()?;
        let after = self.epochs.partition_point(|start| start.epoch <= epoch);
        let end_offset = self.epochs.get(after).map_or(high_watermark, |next| next.first_offset.min(high_watermark));
        match after.checked_sub(1) {
            Some(found) => Some(EpochEnd { epoch: self.epochs[found].epoch, end_offset }),
            None => Some(EpochEnd { epoch, end_offset: first.first_offset.min(high_watermark) }),
        }
    }

    /// The producer as an entry with this append time would find it.
    pub(super) fn producer(&self, id: ProducerId, now: WallMs) -> Option<&KnownProducer> {
        let aged_to = WallMs(self.append_time(now).0.saturating_sub(self.leap_ms(now)));
        self.producers.get(id, aged_to, self.limits.producer_expiry_ms)
    }

    /// The part of what an entry with this append time moves the clock by that makes producers no older.
    ///
    /// One leader whose clock is a day ahead must not make the partition forget who sent what: a retry that was
    /// on its way would be appended twice. So no single entry makes a producer older than a part of its life;
    /// one that is silent for longer than its life is forgotten a few entries later.
    fn leap_ms(&self, append_time: WallMs) -> i64 {
        let moved = self.append_time(append_time).0.saturating_sub(self.clock.0);
        moved.saturating_sub(self.limits.producer_expiry_ms / PRODUCER_LIFE_PARTS).max(0)
    }

    pub(super) fn apply_append(
        &mut self,
        at: EntryPosition,
        append: &AppendView,
    ) -> Result<(PartitionResponse, Option<IndexPoint>), CannotApply> {
        // The proposal before it in the leader's pipeline was refused, or the leader has since been
        // replaced: on every replica alike it takes an index and no offsets.
        if append.base_offset != self.next_offset && !plant::on(Plant::DeadEntryApplied) {
            return Ok((PartitionResponse::Dead, None));
        }
        // Only our own appender builds commands, and storage and transport have checksums: this
        // replica, or that leader, is not what it should be. Better no replica than a diverged one.
        append.check().map_err(|error| CannotApply(error.to_string()))?;
        let (epoch, last) = (at.term.epoch(), self.last_epoch());
        if last > Some(epoch) {
            return Err(CannotApply(format!("terms never go back: it is of epoch {epoch}, after {last:?}")));
        }
        self.advance_clock(append.append_time);
        if last < Some(epoch) {
            self.epochs.push(EpochStart { epoch, first_offset: append.base_offset });
        }
        let point = (self.bytes_to_point == 0)
            .then_some(IndexPoint { offset: append.base_offset, max_timestamp_before: self.max_timestamp });
        if point.is_some() {
            self.bytes_to_point = self.limits.index_bytes;
        }
        for batch in record::walk(&append.batches) {
            let (header, _) = batch.expect("every batch was checked above");
            if header.is_idempotent() {
                let evicted = self.producers.remember(&header, at, self.clock, self.limits.producers_max);
                self.producers_evicted = self.producers_evicted.saturating_add(evicted);
            }
        }
        self.count_append(append);
        if plant::on(Plant::BlankTakesAnOffset) && last < Some(epoch) {
            self.next_offset.0 += 1;
        }
        Ok((PartitionResponse::Appended { base_offset: append.base_offset }, point))
    }

    /// Moves the ends and sums on by a live entry.
    fn count_append(&mut self, append: &AppendView) {
        let bytes = append.batches.len() as u64;
        self.bytes = self.bytes.saturating_add(bytes);
        self.bytes_to_point = self.bytes_to_point.saturating_sub(bytes);
        self.next_offset = append.end_offset();
        self.max_timestamp = self.max_timestamp.max(append.max_timestamp);
        // A client may send no timestamp (-1): it must not make the segment look ancient.
        let timestamp = if append.max_timestamp.0 < 0 { self.clock } else { append.max_timestamp };
        let segment = &mut self.segment;
        segment.max_timestamp = match segment.first_append {
            Some(_) => segment.max_timestamp.max(timestamp),
            None => timestamp,
        };
        segment.first_append.get_or_insert(self.clock);
    }

    pub(super) fn apply_trim(&mut self, trim: TrimView) -> PartitionResponse {
        let TrimView { append_time, before } = trim;
        if before > self.next_offset {
            return PartitionResponse::TrimOutOfRange { before, next_offset: self.next_offset };
        }
        self.advance_clock(append_time);
        if before > self.log_start {
            self.log_start = before;
            let purged = self.checkpoints_up_to(before).saturating_sub(1);
            self.checkpoints.drain(..purged);
            self.trim_epochs();
        }
        PartitionResponse::LogStart { log_start: self.log_start }
    }

    pub(super) fn apply_resize(&mut self, resize: ResizeView) -> PartitionResponse {
        let ResizeView { append_time, segment } = resize;
        self.advance_clock(append_time);
        self.limits.checkpoint_bytes = segment.bytes;
        self.limits.segment_ms = segment.ms;
        PartitionResponse::Resized
    }

    /// The limits by which segments are closed now.
    pub fn segment_limits(&self) -> SegmentLimits {
        SegmentLimits { bytes: self.limits.checkpoint_bytes, ms: self.limits.segment_ms }
    }

    /// Forgets epochs that lie wholly below the log start.
    fn trim_epochs(&mut self) {
        let log_start = self.log_start;
        let begun = self.epochs.partition_point(|start| start.first_offset <= log_start);
        self.epochs.drain(..begun.saturating_sub(1));
        if let Some(first) = self.epochs.first_mut() {
            first.first_offset = first.first_offset.max(log_start);
        }
    }

    /// How many checkpoints lie at or below `offset`.
    pub(super) fn checkpoints_up_to(&self, offset: Offset) -> usize {
        self.checkpoints.partition_point(|checkpoint| checkpoint.next_offset <= offset)
    }

    fn advance_clock(&mut self, append_time: WallMs) {
        let append_time = if plant::on(Plant::ClockOfTheReplica) { plant::replica_time() } else { append_time };
        let leap_ms = self.leap_ms(append_time);
        self.clock = self.append_time(append_time);
        if leap_ms > 0 {
            self.producers.rejuvenate(leap_ms);
        }
        self.producers.expire(self.clock, self.limits.producer_expiry_ms);
    }

    /// Whether the segment that this live append would extend is full or old enough to be closed.
    pub(super) fn segment_is_due(&self, append_time: WallMs) -> bool {
        let Some(first_append) = self.segment.first_append else {
            return false;
        };
        let bytes = self.bytes - self.last_checkpoint().1;
        let kept = self.bytes - self.checkpoints.first().map_or(0, |first| first.bytes_before);
        let age_ms = self.append_time(append_time).0.saturating_sub(first_append.0);
        let is_due = bytes >= self.limits.checkpoint_bytes || age_ms >= self.limits.segment_ms;
        is_due && bytes >= kept / SEGMENT_PART_MIN
    }

    /// Next offset and bytes before it at the last checkpoint, or at the partition's beginning.
    pub(super) fn last_checkpoint(&self) -> (Offset, u64) {
        self.checkpoints.last().map_or((Offset(0), 0), |last| (last.next_offset, last.bytes_before))
    }
}

impl PartitionLimits {
    pub(super) fn are_positive(&self) -> bool {
        let PartitionLimits { checkpoint_bytes, segment_ms, index_bytes, producers_max, producer_expiry_ms } = *self;
        checkpoint_bytes > 0 && segment_ms > 0 && index_bytes > 0 && producers_max > 0 && producer_expiry_ms > 0
    }
}
