//! The leader's view of what it has proposed and not yet seen applied.
//!
//! Promises: while every outcome is a live entry, offsets and sequences it hands out are what `apply`
//! will find. After a refusal or a dead entry it is wrong on purpose, and everything proposed from it is
//! dead, until [`Overlay::resync`]: no duplicate, gap or reordering can come of that (SAFETY M2).

use std::collections::{BTreeMap, VecDeque};

use super::Partition;
use crate::record::BatchHeader;
use crate::seam::plant::{self, Plant};
use crate::types::{EntryPosition, Offset, ProducerEpoch, ProducerId, Sequence, WallMs};

/// How far a client's timestamp may lie ahead of the leader's clock (`message.timestamp.after.max.ms`).
#[cfg(test)]
pub const TIMESTAMP_AFTER_MAX_MS_DEFAULT: i64 = 3_600_000;

/// Pending batches that a debug build walks over with each change; with more it would take quadratic time.
const WALKED_MAX: usize = 64;

/// The appender's name for one batch it has proposed. Never used twice within one overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What a check depends on besides state and batch.
#[derive(Clone, Copy, Debug)]
pub struct CheckParams {
    /// The append time the entry would carry ([`Partition::append_time`]).
    pub now: WallMs,
    /// What the records' own times are held against: the same, unless that is known to be ahead.
    pub record_now: WallMs,
    /// Compare-and-append: the batch is taken only at this offset.
    pub expected_offset: Option<Offset>,
    /// None: a client's timestamps are not looked at (`LogAppendTime`).
    pub timestamps: Option<TimestampBounds>,
}

/// How far a client's timestamps may be from the leader's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampBounds {
    /// By how much the first record of a batch may be older.
    pub before_max_ms: i64,
    /// By how much the latest one may be ahead.
    pub after_max_ms: i64,
}

impl TimestampBounds {
    fn check(&self, header: &BatchHeader, now: WallMs) -> Option<Verdict> {
        let limit = WallMs(now.0.saturating_add(self.after_max_ms));
        if header.max_timestamp > limit {
            return Some(Verdict::TimestampTooFar { max_timestamp: header.max_timestamp, limit });
        }
        let limit = WallMs(now.0.saturating_sub(self.before_max_ms));
        // A record without a time is not old.
        let is_told = header.base_timestamp.0 >= 0;
        (is_told && header.base_timestamp < limit)
            .then_some(Verdict::TimestampTooOld { base_timestamp: header.base_timestamp, limit })
    }
}

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Take it: `push`, and propose it at this offset.
    Append { base_offset: Offset },
    /// It is in the log already: answer as the first time.
    DuplicateCommitted { base_offset: Offset, position: EntryPosition },
    /// It is on its way: wait for that one's outcome.
    DuplicatePending { ticket: Ticket, base_offset: Offset },
    /// A batch is missing before it, or it is older than all that is remembered.
    OutOfOrderSequence { expected: Sequence, got: Sequence },
    /// A newer producer has this id.
    Fenced { current_epoch: ProducerEpoch, got: ProducerEpoch },
    /// The next offset is another one.
    WrongOffset { expected: Offset, actual: Offset },
    /// The client's clock is ahead by more than is allowed.
    TimestampTooFar { max_timestamp: WallMs, limit: WallMs },
    /// Its first record is older than is allowed.
    TimestampTooOld { base_timestamp: WallMs, limit: WallMs },
}

/// One batch without an outcome.
#[derive(Clone, Copy, Debug)]
struct Pending {
    ticket: Ticket,
    epoch: ProducerEpoch,
    base_sequence: Sequence,
    last_sequence: Sequence,
    base_offset: Offset,
}

/// Proposed batches on top of an applied [`Partition`]. Bounded by what the appender lets be in flight.
///
/// Invariants, true whenever no method is running:
/// - Each batch of a producer has a ticket that names this producer, and each such ticket a batch.
/// - A producer that is listed has a batch, and its batches are in order of offset, all below `next_offset`.
#[derive(Clone, Debug)]
pub struct Overlay {
    next_offset: Offset,
    /// Every pending batch; its producer's id, if it has one.
    tickets: BTreeMap<Ticket, Option<ProducerId>>,
    /// Pending batches of each producer that has any, oldest first.
    producers: BTreeMap<ProducerId, VecDeque<Pending>>,
}

impl Overlay {
    /// An empty overlay, at leader-ready.
    pub fn new(partition: &Partition) -> Overlay {
        Overlay { next_offset: partition.next_offset(), tickets: BTreeMap::new(), producers: BTreeMap::new() }
    }

    /// What to do with a validated batch. Changes nothing. A duplicate is one whatever else it claims,
    /// because the first copy was taken.
    pub fn check(&self, partition: &Partition, header: &BatchHeader, params: &CheckParams) -> Verdict {
        if header.is_idempotent()
            && !plant::on(Plant::SequenceNotChecked)
            && let Some(verdict) = self.check_sequence(partition, header, params.now)
        {
            return verdict;
        }
        if let Some(bounds) = params.timestamps
            && let Some(verdict) = bounds.check(header, params.record_now)
        {
            return verdict;
        }
        match params.expected_offset {
            Some(expected) if expected != self.next_offset => {
                Verdict::WrongOffset { expected, actual: self.next_offset }
            }
            Some(_) | None => Verdict::Append { base_offset: self.next_offset },
        }
    }

    /// Whether a producer's next sequence follows from its batches, committed or pending.
    pub fn knows(&self, partition: &Partition, producer: ProducerId, now: WallMs) -> bool {
        self.producers.contains_key(&producer) || partition.producer(producer, now).is_some()
    }

    /// Kafka's rules for one producer: an exact copy of a remembered batch is a duplicate; otherwise
    /// the next sequence is wanted, 0 from a new epoch, and any from a producer nobody remembers.
    /// None: nothing is wrong with it.
    fn check_sequence(&self, partition: &Partition, header: &BatchHeader, now: WallMs) -> Option<Verdict> {
        let (epoch, got) = (header.producer_epoch, header.base_sequence);
        let committed = partition.producer(header.producer_id, now);
        let pending = self.producers.get(&header.producer_id);
        let last_committed =
            committed.and_then(|p| p.batches.back().map(|last| (last.base_offset, p.epoch, last.last_sequence)));
        let last_pending =
            pending.and_then(|batches| batches.back()).map(|last| (last.base_offset, last.epoch, last.last_sequence));
        // A batch may be in both for a moment, between apply and settle; the later offset is the later batch.
        let (_, current_epoch, last_sequence) = last_committed.max(last_pending)?;
        if epoch < current_epoch {
            return Some(Verdict::Fenced { current_epoch, got: epoch });
        }
        if let Some(producer) = committed.filter(|producer| producer.epoch == epoch)
            && let Some(copy) = producer.find(got, header.last_sequence())
        {
            let base_offset = if plant::on(Plant::DuplicateAckedAtZero) { Offset(0) } else { copy.base_offset };
            return Some(Verdict::DuplicateCommitted { base_offset, position: copy.position });
        }
        let same = |batch: &&Pending| {
            (batch.epoch, batch.base_sequence, batch.last_sequence) == (epoch, got, header.last_sequence())
        };
        if let Some(copy) = pending.and_then(|batches| batches.iter().find(same)) {
            return Some(Verdict::DuplicatePending { ticket: copy.ticket, base_offset: copy.base_offset });
        }
        let expected = if epoch > current_epoch { Sequence(0) } else { last_sequence.next() };
        (got != expected).then_some(Verdict::OutOfOrderSequence { expected, got })
    }

    /// Reserves the next offsets, and the sequence, for a batch that `check` just told to append.
    /// Returns its base offset.
    ///
    /// # Panics
    /// If the ticket is in use.
    pub fn push(&mut self, ticket: Ticket, header: &BatchHeader) -> Offset {
        let base_offset = self.next_offset;
        let producer = header.is_idempotent().then_some(header.producer_id);
        let before = self.tickets.insert(ticket, producer);
        assert!(before.is_none(), "{ticket:?} is in use");
        if let Some(id) = producer {
            self.producers.entry(id).or_default().push_back(Pending {
                ticket,
                epoch: header.producer_epoch,
                base_sequence: header.base_sequence,
                last_sequence: header.last_sequence(),
                base_offset,
            });
        }
        self.next_offset.0 += i64::from(header.count);
        assert!(self.next_offset > base_offset, "a batch of {} records at {base_offset}", header.count);
        self.check_invariants();
        base_offset
    }

    /// The batch has an outcome, whichever; if it was applied, the partition knows it now. A ticket
    /// from before a resync is ignored. Once one was refused or dead, verdicts mean nothing until
    /// `resync`: a producer's next batch may look out of order.
    pub fn settle(&mut self, ticket: Ticket) {
        let Some(Some(id)) = self.tickets.remove(&ticket) else {
            return self.check_invariants();
        };
        if let Some(batches) = self.producers.get_mut(&id) {
            batches.retain(|batch| batch.ticket != ticket);
            if batches.is_empty() {
                self.producers.remove(&id);
            }
        }
        self.check_invariants();
    }

    /// Forgets everything pending and begins again from the applied state: after a refusal or a dead
    /// entry, once no proposal is outstanding (SAFETY M2).
    pub fn resync(&mut self, partition: &Partition) {
        *self = Overlay::new(partition);
        self.check_invariants();
    }

    fn check_invariants(&self) {
        let (producers, tickets) = (self.producers.len(), self.tickets.len());
        assert!(producers <= tickets, "{producers} producers have {tickets} batches pending");
        if cfg!(debug_assertions) && tickets <= WALKED_MAX {
            self.check_all();
        }
    }

    fn check_all(&self) {
        let batches: usize = self.producers.values().map(VecDeque::len).sum();
        let named = self.tickets.values().filter(|producer| producer.is_some()).count();
        assert_eq!(batches, named, "batches and tickets of producers: {self:?}");
        for (id, batches) in &self.producers {
            assert!(!batches.is_empty(), "producer {id} has nothing pending: {self:?}");
            let is_named = batches.iter().all(|batch| self.tickets.get(&batch.ticket) == Some(&Some(*id)));
            assert!(is_named, "a batch of producer {id} has no ticket: {self:?}");
            let offsets = batches.iter().map(|batch| batch.base_offset).chain([self.next_offset]);
            assert!(offsets.is_sorted_by(|a, b| a < b), "offsets of producer {id} go back: {self:?}");
        }
    }

    /// The next offset, counting what is pending.
    #[cfg(test)]
    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// Whether this very batch of an idempotent producer is pending.
    pub fn is_pending(&self, header: &BatchHeader) -> bool {
        let same = |batch: &Pending| {
            (batch.epoch, batch.base_sequence, batch.last_sequence)
                == (header.producer_epoch, header.base_sequence, header.last_sequence())
        };
        header.is_idempotent()
            && self.producers.get(&header.producer_id).is_some_and(|batches| batches.iter().any(same))
    }

    /// Batches without an outcome.
    pub fn pending(&self) -> usize {
        self.tickets.len()
    }
}
