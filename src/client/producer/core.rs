//! The producer's promises as a pure state machine: no I/O, no clock, no randomness, no bytes.
//!
//! Promises, per partition: batches are appended in the order pushed, each at most once, and each
//! resolves exactly once: acknowledged, failed without effect, or unknown.
//!
//! How. Each batch gets a stamp (producer epoch, sequence) when it is first sent, and keeps it for
//! every retry, so that the broker recognises a batch that it has. It refuses a batch whose
//! predecessor it lacks; hence a batch behind one that surely was never appended surely was not
//! appended either. When a stamped batch fails, its sequence is lost: the rest is stamped anew under
//! the next producer epoch, but only what surely was not appended, and only once nothing of the old
//! epoch is open. The first batch of the new epoch fences whatever of the old one is still on a wire.
//!
//! A batch failed "without effect" iff each attempt that was handed to a connection was answered
//! with an error that says so. Leaves out: where leaders are, bytes, memory (the driver's).

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::{
    client::error::{ClientError, Effect},
    types::Offset,
};

/// Time since the producer was opened. The driver reads the clock once per event.
pub type Now = Duration;

/// The broker remembers the last five batches of a producer (as Kafka's does): a sixth in flight
/// could push the first one out of that memory, and its retry would be taken for a gap.
pub const IN_FLIGHT_MAX: usize = 5;

/// The first pause after a failed attempt, and the longest. An election takes a second or so: it
/// is met by a handful of tries, not by hundreds.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(400);

/// What an answer needs to get here, kept back from the time that the broker is given; of little time a
/// quarter. Else a broker that uses all of it answers when the batch has just expired, and what surely had
/// no effect ends as unknown. For the same reason nothing is retried with less than this left, unless its
/// outcome is unknown anyway.
const ANSWER_TIME: Duration = Duration::from_millis(100);

/// What makes a batch recognisable: one producer epoch and the sequence of its first record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub epoch: i16,
    pub sequence: i32,
}

/// One try to send one batch over one connection. Its number is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptId(pub u64);

/// A batch as it is queued.
#[derive(Debug)]
pub struct Item<B> {
    pub batch: B,
    /// How many records the batch holds.
    pub count: u32,
    /// When its first record was given to the producer.
    pub since: Now,
    pub deadline: Now,
    /// The offset that the first record must get, if this is a compare-and-append.
    pub expected: Option<Offset>,
}

/// What the driver does next for a partition.
#[derive(Debug)]
pub struct Send<'a, B> {
    pub attempt: AttemptId,
    pub batch: &'a mut B,
    /// The producer's stamp; `None` when the producer is not idempotent.
    pub stamp: Option<Stamp>,
    /// The offset that the first record must get, if this is a compare-and-append.
    pub expected: Option<Offset>,
    /// How long the broker may take, so that its answer is here by the deadline.
    pub answer_within: Duration,
}

/// How a batch ended. Exactly one per batch.
#[derive(Debug, PartialEq)]
pub enum Ended<R> {
    Acked(R),
    /// It was handed to a connection with acks=0: nothing is promised.
    Sent,
    /// It is not in the log, and never will be.
    Failed(ClientError),
    /// It is in the log once, or not at all.
    Unknown(ClientError),
}

#[derive(Debug)]
pub struct Done<B, R> {
    pub partition: usize,
    pub batch: B,
    pub ended: Ended<R>,
    /// A batch that was pushed before it had failed, or its outcome was unknown, when this one ended.
    pub after_failure: bool,
}

/// How the driver read an error: what may be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The same batch may succeed later.
    Retry,
    /// The broker lacks a predecessor of this batch, or all memory of this producer.
    Sequence,
    /// Sending it will never succeed.
    Final,
    /// The batch is larger than the topic allows: [`Core::on_too_large`] deals with it.
    TooLarge,
}

#[derive(Debug)]
struct Queued<B> {
    id: u64,
    /// The batch's number in the partition: the window is counted in these, whatever ended in between.
    ordinal: u64,
    batch: B,
    count: u32,
    since: Now,
    deadline: Now,
    expected: Option<Offset>,
    stamp: Option<Stamp>,
    /// The attempt whose answer is waited for; `None`: to be sent (again).
    current: Option<AttemptId>,
    /// Was that attempt sent with nothing before it in the queue?
    was_head: bool,
    /// How many attempts may have appended the batch, `current` included. 0 proves "no effect".
    open: u32,
    last_error: Option<ClientError>,
}

/// Invariants, whenever no method runs:
/// - stamped batches are a prefix of `queue`, with consecutive sequences of one epoch;
/// - only batches whose ordinal is within `in_flight_max` of the first one's are sent, and only stamped ones have
///   attempts;
/// - `broken`: a sequence of this epoch was lost, so nothing more is stamped in it.
#[derive(Debug)]
struct Partition<B> {
    queue: VecDeque<Queued<B>>,
    next_ordinal: u64,
    epoch: i16,
    /// Something was acknowledged in this epoch, so the broker remembers this producer and refuses
    /// gaps. Before, it takes any sequence (as Kafka's does): then one batch is in flight at a time.
    is_known: bool,
    next_sequence: i32,
    broken: bool,
    /// A compare-and-append failed here: what follows it must not be appended.
    condition_failed: bool,
    /// A batch failed, or its outcome is unknown: those that follow stand in the log without it.
    has_hole: bool,
    retry_at: Now,
    failures: u32,
}

#[derive(Debug)]
pub struct Core<B, R> {
    idempotent: bool,
    in_flight_max: usize,
    partitions: Vec<Partition<B>>,
    /// Attempts that may still be answered.
    attempts: HashMap<AttemptId, (usize, u64)>,
    next_attempt: u64,
    next_batch: u64,
    done: Vec<Done<B, R>>,
}

impl<B, R> Core<B, R> {
    /// Begins without partitions. Without idempotence one batch is in flight at a time (order survives a retry), and
    /// none is sent again that may have been appended.
    pub fn new(idempotent: bool) -> Core<B, R> {
        Core {
            idempotent,
            in_flight_max: if idempotent { IN_FLIGHT_MAX } else { 1 },
            partitions: Vec::new(),
            attempts: HashMap::new(),
            next_attempt: 0,
            next_batch: 0,
            done: Vec::new(),
        }
    }

    /// A new partition's number. `epoch` is the one the broker gave with the producer id.
    pub fn add_partition(&mut self, epoch: i16) -> usize {
        self.partitions.push(Partition {
            queue: VecDeque::new(),
            next_ordinal: 0,
            epoch,
            is_known: false,
            next_sequence: 0,
            broken: false,
            condition_failed: false,
            has_hole: false,
            retry_at: Duration::ZERO,
            failures: 0,
        });
        self.partitions.len() - 1
    }

    /// Queues a batch behind all others of its partition.
    pub fn push(&mut self, partition: usize, item: Item<B>) {
        let p = &mut self.partitions[partition];
        let Item { batch, count, since, deadline, expected } = item;
        if p.condition_failed {
            let ended = Ended::Failed(ClientError::EarlierFailed);
            self.done.push(Done { partition, batch, ended, after_failure: true });
            return;
        }
        let id = self.next_batch;
        self.next_batch += 1;
        let ordinal = p.next_ordinal;
        p.next_ordinal += 1;
        p.queue.push_back(Queued {
            id,
            ordinal,
            batch,
            count,
            since,
            deadline,
            expected,
            stamp: None,
            current: None,
            was_head: false,
            open: 0,
            last_error: None,
        });
    }

    /// Returns how many batches are not resolved.
    pub fn queued(&self, partition: usize) -> usize {
        self.partitions[partition].queue.len()
    }

    /// Would a batch pushed now go out at once?
    pub fn has_room(&self, partition: usize, now: Now) -> bool {
        let p = &self.partitions[partition];
        !p.broken && p.retry_at <= now && p.next_ordinal < p.window_end(self.in_flight_max)
    }

    /// When a paused partition may be tried again; `None` if it is not paused or has nothing to send.
    pub fn retry_at(&self, partition: usize, now: Now) -> Option<Now> {
        let p = &self.partitions[partition];
        (!p.queue.is_empty() && p.retry_at > now).then_some(p.retry_at)
    }

    /// Why the oldest batch has not gone through yet, for messages.
    pub fn note(&mut self, partition: usize, error: &ClientError) {
        if let Some(first) = self.partitions[partition].queue.front_mut() {
            first.last_error = Some(error.clone());
        }
    }

    /// Is there something to send now?
    pub fn is_sendable(&mut self, partition: usize, now: Now) -> bool {
        self.sendable(partition, now).is_some()
    }

    /// The next batch to send, which counts as handed over from here on: call this only with an
    /// open connection to the leader at hand.
    pub fn next_send(&mut self, partition: usize, now: Now) -> Option<Send<'_, B>> {
        let i = self.sendable(partition, now)?;
        let attempt = AttemptId(self.next_attempt);
        self.next_attempt += 1;
        let p = &mut self.partitions[partition];
        let (epoch, sequence) = (p.epoch, p.next_sequence);
        let b = &mut p.queue[i];
        if self.idempotent && b.stamp.is_none() {
            b.stamp = Some(Stamp { epoch, sequence });
            p.next_sequence = add_sequence(sequence, b.count);
        }
        b.current = Some(attempt);
        b.was_head = i == 0;
        b.open += 1;
        self.attempts.insert(attempt, (partition, b.id));
        let remaining = b.deadline.saturating_sub(now);
        let answer_within = remaining - ANSWER_TIME.min(remaining / 4);
        Some(Send { attempt, stamp: b.stamp, expected: b.expected, answer_within, batch: &mut b.batch })
    }

    /// The position of what may be sent: the first batch without an attempt in flight, if every one
    /// before it has one. Never past a batch that waits: order.
    fn sendable(&mut self, partition: usize, now: Now) -> Option<usize> {
        let idempotent = self.idempotent;
        let p = &mut self.partitions[partition];
        if p.retry_at > now {
            return None;
        }
        if p.broken && p.queue.front().is_none_or(|b| b.stamp.is_none()) {
            // Nothing of the old epoch is open: go on in the next one.
            p.epoch = p.epoch.checked_add(1)?;
            (p.next_sequence, p.broken, p.is_known) = (0, false, false);
        }
        let end = p.window_end(self.in_flight_max);
        let i = p.queue.iter().take_while(|b| b.ordinal < end).position(|b| b.current.is_none())?;
        let b = &p.queue[i];
        let is_too_late = b.open == 0 && b.last_error.is_some() && b.deadline < now + ANSWER_TIME;
        if is_too_late || p.broken && idempotent && b.stamp.is_none() {
            return None;
        }
        Some(i)
    }

    /// Notes that a batch with acks=0 was handed over, and that is all there will ever be.
    pub fn on_handed_over(&mut self, attempt: AttemptId) {
        self.resolve(attempt, |_| Ended::Sent);
    }

    pub fn on_acked(&mut self, attempt: AttemptId, receipt: R) {
        if let Some((partition, i)) = self.resolve(attempt, |_| Ended::Acked(receipt)) {
            let p = &mut self.partitions[partition];
            (p.failures, p.retry_at) = (0, Duration::ZERO);
            // A late answer of an older epoch, if there can be one, finds nothing to resolve.
            p.is_known = true;
            let is_sent = p.queue.iter().take(i).all(|b| b.stamp.is_some() || !self.idempotent);
            assert!(is_sent, "a batch was acknowledged behind one that was never sent: {i}");
        }
    }

    /// The broker answered `attempt` with an error. `jitter` is any number: it spreads retries.
    pub fn on_refused(&mut self, attempt: AttemptId, verdict: Verdict, error: ClientError, now: Now, jitter: u32) {
        let Some((partition, id)) = self.attempts.remove(&attempt) else { return };
        let idempotent = self.idempotent;
        let p = &mut self.partitions[partition];
        let Some(i) = p.queue.iter().position(|b| b.id == id) else { return };
        let b = &mut p.queue[i];
        let effect = error.effect();
        if effect == Effect::Nothing {
            b.open = b.open.saturating_sub(1);
        }
        b.last_error = Some(error.clone());
        if b.current != Some(attempt) {
            return; // A late answer: the batch is on its way again already.
        }
        b.current = None;
        let (open, was_head, clean) = (b.open, b.was_head, b.open == 0);
        // Sent again without a stamp, it could be there twice.
        let may_retry = idempotent || clean;
        match verdict {
            Verdict::Final | Verdict::TooLarge => self.fail(partition, i, error),
            Verdict::Retry if !may_retry => self.fail(partition, i, error),
            Verdict::Retry => {
                p.back_off(now, jitter);
                if p.broken && clean {
                    self.strip_from(partition, i);
                }
            }
            // Its predecessor is on its way again (or was, when this was sent): retry behind it.
            Verdict::Sequence if !(was_head || p.broken && clean) => {
                if i == 0 {
                    p.back_off(now, jitter);
                }
            }
            Verdict::Sequence if open > 0 => self.fail(partition, i, error),
            Verdict::Sequence => {
                p.back_off(now, jitter);
                p.broken = true;
                self.strip_from(partition, i);
            }
        }
    }

    /// The broker refused `attempt` since the batch is larger than the topic allows. `halve` takes the second half out
    /// of a batch and counts its records; a single record has none, and fails. Both halves keep their sequences, so
    /// those of what follows hold as well.
    pub fn on_too_large(
        &mut self,
        attempt: AttemptId,
        error: ClientError,
        now: Now,
        halve: impl FnOnce(&mut B) -> Option<(B, u32)>,
    ) {
        let Some(&(partition, id)) = self.attempts.get(&attempt) else { return };
        let p = &mut self.partitions[partition];
        let Some(i) = p.queue.iter().position(|b| b.id == id) else { return };
        let b = &mut p.queue[i];
        // Only what surely is not in the log may go there as something else.
        let is_clean = b.current == Some(attempt) && b.open == 1 && error.effect() == Effect::Nothing;
        let half = if is_clean { halve(&mut b.batch) } else { None };
        let Some((batch, count)) = half else { return self.on_refused(attempt, Verdict::Final, error, now, 0) };
        self.attempts.remove(&attempt);
        (b.current, b.open, b.count) = (None, 0, b.count - count);
        let second = Queued {
            id: self.next_batch,
            ordinal: b.ordinal + 1,
            batch,
            count,
            since: b.since,
            deadline: b.deadline,
            expected: b.expected.map(|offset| Offset(offset.0.saturating_add(i64::from(b.count)))),
            stamp: b.stamp.map(|s| Stamp { sequence: add_sequence(s.sequence, b.count), ..s }),
            current: None,
            was_head: false,
            open: 0,
            last_error: Some(error.clone()),
        };
        b.last_error = Some(error);
        self.next_batch += 1;
        p.next_ordinal += 1;
        p.queue.iter_mut().skip(i + 1).for_each(|b| b.ordinal += 1);
        p.queue.insert(i + 1, second);
        if p.broken {
            self.strip_from(partition, i);
        }
    }

    /// The connection that carried `attempt` is gone, and with it the answer.
    pub fn on_lost(&mut self, attempt: AttemptId, error: ClientError, now: Now, jitter: u32) {
        let Some((partition, id)) = self.attempts.remove(&attempt) else { return };
        let idempotent = self.idempotent;
        let p = &mut self.partitions[partition];
        let Some(i) = p.queue.iter().position(|b| b.id == id) else { return };
        let b = &mut p.queue[i];
        if b.current != Some(attempt) {
            return;
        }
        b.current = None;
        b.last_error = Some(error.clone());
        if !idempotent {
            return self.fail(partition, i, error);
        }
        p.back_off(now, jitter);
    }

    /// The leader moved: what was sent to the old one goes to the new one, in order. Answers of the
    /// old one still count if they come.
    pub fn on_leader_changed(&mut self, partition: usize) {
        let p = &mut self.partitions[partition];
        p.retry_at = Duration::ZERO;
        if self.idempotent {
            p.queue.iter_mut().for_each(|b| b.current = None);
        }
    }

    /// Ends what is past its deadline.
    pub fn expire(&mut self, now: Now) {
        for partition in 0..self.partitions.len() {
            while let Some(b) = self.partitions[partition].queue.front().filter(|b| b.deadline <= now) {
                let effect = if b.open == 0 { Effect::Nothing } else { Effect::Unknown };
                let last = b.last_error.as_ref().map_or("no answer came".to_string(), |e| e.to_string());
                let (what, waited) = ("delivery".to_string(), now.saturating_sub(b.since));
                self.fail(partition, 0, ClientError::Deadline { what, waited, effect, last });
            }
        }
    }

    pub fn take_done(&mut self) -> Vec<Done<B, R>> {
        std::mem::take(&mut self.done)
    }

    fn resolve(&mut self, attempt: AttemptId, ended: impl FnOnce(&B) -> Ended<R>) -> Option<(usize, usize)> {
        let (partition, id) = self.attempts.remove(&attempt)?;
        let p = &mut self.partitions[partition];
        let i = p.queue.iter().position(|b| b.id == id)?;
        let b = p.queue.remove(i).expect("found at this position");
        let after_failure = p.has_hole;
        self.done.push(Done { partition, ended: ended(&b.batch), batch: b.batch, after_failure });
        Some((partition, i))
    }

    /// Ends batch `i` as failed or unknown, and deals with those behind it.
    fn fail(&mut self, partition: usize, i: usize, error: ClientError) {
        let p = &mut self.partitions[partition];
        let b = p.queue.remove(i).expect("the caller found it");
        let clean = b.open == 0;
        let ended = if clean { Ended::Failed(error) } else { Ended::Unknown(error) };
        let after_failure = std::mem::replace(&mut p.has_hole, true);
        self.done.push(Done { partition, batch: b.batch, ended, after_failure });
        if b.stamp.is_some() {
            p.broken = true;
            // Behind a hole nothing was appended: sure if this one left a hole, and else from the
            // first one on that surely was not appended.
            let hole = if clean { Some(i) } else { p.queue.iter().position(|b| b.stamp.is_some() && b.open == 0) };
            if let Some(hole) = hole {
                self.strip_from(partition, hole);
            }
        }
        if b.expected.is_some() {
            self.fail_conditioned(partition);
        }
    }

    /// Takes stamps and attempts from batches of which none was, or will be, appended under them.
    fn strip_from(&mut self, partition: usize, first: usize) {
        let p = &mut self.partitions[partition];
        for b in p.queue.iter_mut().skip(first).filter(|b| b.stamp.is_some()) {
            (b.stamp, b.current, b.open) = (None, None, 0);
            let id = b.id;
            self.attempts.retain(|_, (_, of)| *of != id);
        }
    }

    fn fail_conditioned(&mut self, partition: usize) {
        let p = &mut self.partitions[partition];
        p.condition_failed = true;
        let first = p.queue.iter().position(|b| b.open == 0).unwrap_or(p.queue.len());
        for b in p.queue.drain(first..) {
            let ended = Ended::Failed(ClientError::EarlierFailed);
            self.done.push(Done { partition, batch: b.batch, ended, after_failure: true });
        }
    }
}

impl<B> Partition<B> {
    /// The first ordinal that must wait: the oldest unresolved batch has to be among the last five the
    /// broker saw, and the first of an epoch has to be known to it before any other.
    fn window_end(&self, in_flight_max: usize) -> u64 {
        let first = self.queue.front().map_or(self.next_ordinal, |b| b.ordinal);
        first + if self.is_known { in_flight_max as u64 } else { 1 }
    }

    fn back_off(&mut self, now: Now, jitter: u32) {
        if self.retry_at > now {
            return; // One fault is one failure, however many batches it hit.
        }
        let step = BACKOFF_MIN.saturating_mul(1 << self.failures.min(8)).min(BACKOFF_MAX);
        self.failures = self.failures.saturating_add(1);
        // Half of it fixed, half of it spread.
        self.retry_at = now + step / 2 + step.mul_f64(f64::from(jitter % 1024) / 2048.0);
    }
}

/// Adds to a sequence, which wraps from the largest i32 to 0, as Kafka's do.
fn add_sequence(sequence: i32, count: u32) -> i32 {
    ((i64::from(sequence) + i64::from(count)) & i64::from(i32::MAX)) as i32
}
