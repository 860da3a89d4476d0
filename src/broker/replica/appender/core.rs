//! What one led partition's appender decides, without time, tasks or Raft: which batches go into the
//! next entry, and what every waiter is told.
//!
//! Invariants:
//! - Batches are proposed in arrival order, and again in that order after refusals and dead entries.
//! - A batch sits in exactly one place: the queue, or one flight.
//! - A waiter is answered exactly once. Success only for an outcome that apply returned (SAFETY B8).
//! - "No effect" is said only of batches in the queue, or whose proposal was refused or dead.
//! - While one flight of this term is refused, dead or unknown, nothing is proposed until all flights have
//!   outcomes; then the overlay is rebuilt from the applied state (SAFETY M2).

mod check;
mod overdue;
mod planning;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    broker::limits,
    partition::{CheckParams, Overlay, Partition, Ticket, TimestampBounds, Verdict},
    record::BatchHeader,
    types::{BrokerId, EntryPosition, Offset, ProducerEpoch, ProducerId, Sequence, Term, WallMs},
};

/// A batch that was validated and waits to be proposed.
pub struct Arrival<W> {
    pub batch: Bytes,
    pub header: BatchHeader,
    pub expected_offset: Option<Offset>,
    pub deadline: Instant,
    pub waiter: W,
}

/// What the topic's configuration says about checks, and how good the clock is that they are made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    pub log_append_time: bool,
    pub timestamps: TimestampBounds,
    /// This broker's wall clock is near those of most others.
    pub clock_agrees: bool,
}

/// The appender's name for one proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlightId(pub u64);

/// One entry to build and propose in `term`. The batches stay with the core too.
#[derive(Debug)]
pub struct Plan {
    pub id: FlightId,
    pub term: Term,
    pub base_offset: Offset,
    pub append_time: WallMs,
    /// What the records are stamped with instead of their own times, if the topic wants that.
    pub stamp: Option<WallMs>,
    pub batches: Vec<(Bytes, BatchHeader)>,
}

/// How a proposal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlightEnd {
    Live {
        position: EntryPosition,
        base_offset: Offset,
    },
    /// The entry was applied without effect.
    Dead,
    /// The entry was never appended: no majority had answered lately.
    LeaseExpired,
    /// Never appended: the term is over or leadership is moving. The status says so soon.
    NotLeader,
    Unknown,
}

/// Where in the log a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    pub base_offset: Offset,
    pub position: EntryPosition,
    pub count: i32,
    pub duplicate: bool,
    /// What its records were stamped with instead of their own times.
    pub stamp: Option<WallMs>,
}

/// Why a batch is not known to be in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    NotLeader,
    NotEnoughReplicas {
        waited: Duration,
    },
    /// Its turn did not come in time, although the leader gets entries through.
    TimedOut {
        waited: Duration,
    },
    OutcomeUnknown {
        waited: Duration,
    },
    OutOfOrderSequence {
        producer: ProducerId,
        expected: Sequence,
        got: Sequence,
    },
    Fenced {
        producer: ProducerId,
        current: ProducerEpoch,
        got: ProducerEpoch,
    },
    WrongOffset {
        expected: Offset,
        actual: Offset,
    },
    TimestampTooFar {
        timestamp: WallMs,
    },
    TimestampTooOld {
        timestamp: WallMs,
    },
    /// A disk that has to hold it is nearly full.
    DiskFull {
        broker: BrokerId,
        free_bytes: u64,
        reserve_bytes: u64,
    },
    /// Too many of its kind wait already.
    QueueFull,
    /// Leadership was about to move when its time was up.
    Moving,
}

pub type Answer<W> = (W, Result<Done, Failed>);

struct Waiter<W> {
    inner: W,
    arrived: Instant,
    deadline: Instant,
    duplicate: bool,
}

impl<W> Waiter<W> {
    fn waited(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.arrived)
    }
}

struct Item<W> {
    /// Fresh for each proposal; means nothing in the queue.
    ticket: Ticket,
    batch: Bytes,
    header: BatchHeader,
    expected_offset: Option<Offset>,
    /// Empty: nobody waits any more. In the queue such a batch is dropped.
    waiters: Vec<Waiter<W>>,
}

struct Flight<W> {
    id: FlightId,
    /// The batches, each with the offset that it was given.
    items: Vec<(Item<W>, Offset)>,
    stamp: Option<WallMs>,
    /// Failed without effect; kept until all flights have an outcome, to keep the order.
    without_effect: bool,
}

impl<W> Flight<W> {
    /// The entry to build. None: no batch is in it.
    fn plan(&self, term: Term, append_time: WallMs) -> Option<Plan> {
        let (_, base_offset) = self.items.first()?;
        let batches = self.items.iter().map(|(item, _)| (item.batch.clone(), item.header)).collect();
        Some(Plan { id: self.id, term, base_offset: *base_offset, append_time, stamp: self.stamp, batches })
    }
}

/// See the module's head. `W` is whatever the shell answers to.
pub struct Core<W> {
    /// Leader-ready in this term, with what was proposed in it (SAFETY M1).
    session: Option<(Term, Overlay)>,
    queue: VecDeque<Item<W>>,
    /// What was proposed, in that order. Flights that came to live or unknown are gone.
    flights: VecDeque<Flight<W>>,
    /// Whether something went wrong in this session: all flights are settled, then the overlay is built anew.
    draining: bool,
    /// A transfer is near: propose nothing.
    paused: bool,
    /// Since when proposals are refused for want of a majority, with nothing getting through.
    stalled_since: Option<Instant>,
    retry_at: Option<Instant>,
    /// Never later than the first moment at which `tick` has something to say.
    next_deadline: Option<Instant>,
    /// Epoch and sequence of the first batch of a producer that was answered without effect in this
    /// session: its later batches must not overtake it. Only for producers the partition does not know,
    /// from whom it takes any sequence; whoever it knows has to send the next one anyway.
    owed: BTreeMap<ProducerId, (ProducerEpoch, Sequence)>,
    next_ticket: u64,
    next_flight: u64,
}

impl<W> Default for Core<W> {
    fn default() -> Self {
        Core {
            session: None,
            queue: VecDeque::new(),
            flights: VecDeque::new(),
            draining: false,
            paused: false,
            stalled_since: None,
            retry_at: None,
            next_deadline: None,
            owed: BTreeMap::new(),
            next_ticket: 0,
            next_flight: 0,
        }
    }
}

impl<W> Core<W> {
    /// Leader-ready in `term`: begins with an empty overlay on the applied state.
    ///
    /// # Panics
    /// If the last session was not ended.
    pub fn begin(&mut self, term: Term, partition: &Partition) {
        assert!(self.session.is_none(), "a session begins after the last one ended");
        assert!(self.flights.is_empty() && self.queue.is_empty(), "an ended session leaves nothing behind");
        self.session = Some((term, Overlay::new(partition)));
        self.check();
    }

    /// The term is over, or the group is: whoever waits hears what is known.
    pub fn end(&mut self, now: Instant) -> Vec<Answer<W>> {
        let mut answers = Vec::new();
        for flight in std::mem::take(&mut self.flights) {
            for waiter in flight.items.into_iter().flat_map(|(item, _)| item.waiters) {
                let failed = match flight.without_effect {
                    true => Failed::NotLeader,
                    // It is in our log, and a later leader may commit it.
                    false => Failed::OutcomeUnknown { waited: waiter.waited(now) },
                };
                answers.push((waiter.inner, Err(failed)));
            }
        }
        let queued = std::mem::take(&mut self.queue).into_iter().flat_map(|item| item.waiters);
        answers.extend(queued.map(|waiter| (waiter.inner, Err(Failed::NotLeader))));
        let (next_ticket, next_flight) = (self.next_ticket, self.next_flight);
        *self = Core { next_ticket, next_flight, ..Core::default() };
        self.check();
        answers
    }

    /// Queues a batch, or hands its waiter back with why not.
    pub fn enqueue(&mut self, arrival: Arrival<W>, now: Instant) -> Option<Answer<W>> {
        if self.session.is_none() {
            return Some((arrival.waiter, Err(Failed::NotLeader)));
        }
        if self.queue.len() >= limits::QUEUE_BATCHES_MAX {
            return Some((arrival.waiter, Err(Failed::QueueFull)));
        }
        let Arrival { batch, header, expected_offset, deadline, waiter } = arrival;
        self.wake_by(answer_by(deadline, now, self.stalled_since));
        let waiter = Waiter { inner: waiter, arrived: now, deadline, duplicate: false };
        self.queue.push_back(Item { ticket: Ticket(0), batch, header, expected_offset, waiters: vec![waiter] });
        self.check();
        None
    }

    /// Whether the queue takes more.
    pub fn has_room(&self) -> bool {
        self.queue.len() < limits::QUEUE_BATCHES_MAX
    }

    /// Whether [`Core::plan`] may have something to propose now: cheap, asks no partition.
    pub fn wants_to_propose(&self, now: Instant) -> bool {
        self.session.is_some()
            && !self.draining
            && !self.paused
            && !self.queue.is_empty()
            && self.flights.len() < limits::PROPOSALS_MAX
            && self.retry_at.is_none_or(|at| now >= at)
    }

    /// The outcome of a proposal. Those of sessions that ended are ignored.
    pub fn landed(&mut self, id: FlightId, end: FlightEnd, now: Instant) -> Vec<Answer<W>> {
        let Some(at) = self.flights.iter().position(|flight| flight.id == id) else { return Vec::new() };
        let Some((_, overlay)) = &mut self.session else { return Vec::new() };
        for (item, _) in &self.flights[at].items {
            overlay.settle(item.ticket);
        }
        let answers = self.ended(at, end, now);
        self.check();
        answers
    }

    /// What the end of the flight at `at` means for its batches, and for what is proposed next.
    fn ended(&mut self, at: usize, end: FlightEnd, now: Instant) -> Vec<Answer<W>> {
        match end {
            FlightEnd::Live { position, base_offset } => {
                self.stalled_since = None;
                let flight = self.flights.remove(at).expect("the caller has found it");
                live(flight, position, base_offset)
            }
            FlightEnd::Unknown => {
                // If it is in the log after all, our next entry is dead and we look again.
                self.draining = true;
                let flight = self.flights.remove(at).expect("the caller has found it");
                let waiters = flight.items.into_iter().flat_map(|(item, _)| item.waiters);
                waiters
                    .map(|w| (w.waited(now), w))
                    .map(|(waited, w)| (w.inner, Err(Failed::OutcomeUnknown { waited })))
                    .collect()
            }
            FlightEnd::Dead => self.without_effect(at),
            FlightEnd::LeaseExpired | FlightEnd::NotLeader => {
                let since = *self.stalled_since.get_or_insert(now);
                self.wake_by(since + limits::LEASE_EXPIRED_MAX);
                self.retry_at = Some(now + limits::REFUSED_RETRY);
                self.without_effect(at)
            }
        }
    }

    fn without_effect(&mut self, at: usize) -> Vec<Answer<W>> {
        self.draining = true;
        self.flights[at].without_effect = true;
        Vec::new()
    }

    /// Everything proposed has an outcome, and something went wrong: [`Core::resync`] is due.
    pub fn wants_resync(&self) -> bool {
        self.draining && self.flights.iter().all(|flight| flight.without_effect)
    }

    /// Begins again from the applied state; what had no effect goes back to the front, in its old order.
    pub fn resync(&mut self, partition: &Partition) {
        assert!(self.wants_resync(), "a resync waits for every outcome (SAFETY M2)");
        let (_, overlay) = self.session.as_mut().expect("draining happens within a session");
        overlay.resync(partition);
        for flight in self.flights.drain(..).rev() {
            for (item, _) in flight.items.into_iter().rev() {
                self.queue.push_front(item);
            }
        }
        self.draining = false;
        self.check();
    }

    /// Propose nothing until [`Core::unpause`]: a leadership transfer wants nothing in flight (SAFETY B2).
    pub fn pause(&mut self) {
        self.paused = true;
    }

    pub fn unpause(&mut self) {
        self.paused = false;
    }

    /// No proposal is without an outcome.
    pub fn is_settled(&self) -> bool {
        self.flights.iter().all(|flight| flight.without_effect)
    }

    /// When to call [`Core::tick`] or [`Core::plan`] next, at the latest.
    pub fn next_wake(&self) -> Option<Instant> {
        let retry = self.retry_at.filter(|_| !self.draining && !self.paused && !self.queue.is_empty());
        match (self.next_deadline, retry) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Answers everything that waits and is in no flight: it goes without effect. A copy of a batch that is in
    /// the log, or on its way there, needs no room and is answered for what it is.
    pub fn refuse_queued(
        &mut self,
        partition: &Partition,
        wall: WallMs,
        now: Instant,
        failed: Failed,
    ) -> Vec<Answer<W>> {
        let mut answers = Vec::new();
        for item in std::mem::take(&mut self.queue) {
            if item.header.is_idempotent() && !item.waiters.is_empty() {
                match self.copy_of(partition, &item.header, wall) {
                    Some(Verdict::DuplicateCommitted { base_offset, position }) => {
                        let count = item.header.count;
                        let done = Done { base_offset, position, count, duplicate: true, stamp: None };
                        answers.extend(item.waiters.into_iter().map(|waiter| (waiter.inner, Ok(done))));
                        continue;
                    }
                    Some(Verdict::DuplicatePending { ticket, .. }) => {
                        self.attach(item, ticket, None, now, &mut answers);
                        continue;
                    }
                    Some(_) | None => {}
                }
                let BatchHeader { producer_id, producer_epoch, base_sequence, .. } = item.header;
                self.owe(producer_id, (producer_epoch, base_sequence));
            }
            answers.extend(item.waiters.into_iter().map(|waiter| (waiter.inner, Err(failed))));
        }
        self.check();
        answers
    }

    fn copy_of(&self, partition: &Partition, header: &BatchHeader, wall: WallMs) -> Option<Verdict> {
        let (_, overlay) = self.session.as_ref()?;
        let now = partition.append_time(wall);
        let params = CheckParams { now, record_now: now, expected_offset: None, timestamps: None };
        Some(overlay.check(partition, header, &params))
    }

    /// This batch of the producer goes without effect: none that follows it may overtake it.
    fn owe(&mut self, producer: ProducerId, first: (ProducerEpoch, Sequence)) {
        if self.owed.len() >= limits::OWED_MAX {
            self.owed.pop_first();
        }
        self.owed.entry(producer).or_insert(first);
    }

    fn wake_by(&mut self, at: Instant) {
        self.next_deadline = Some(self.next_deadline.map_or(at, |next| next.min(at)));
    }
}

/// When a batch that was not appended is answered at the latest: a second after the lease was lost, so that its
/// client looks for a leader that has one, and not before it had some tries of its own, for the lease may come back.
fn answer_by(deadline: Instant, arrived: Instant, stalled_since: Option<Instant>) -> Instant {
    let Some(since) = stalled_since else { return deadline };
    deadline.min((since + limits::LEASE_EXPIRED_MAX).max(arrived + limits::LEASE_GONE_WAIT))
}

fn live<W>(flight: Flight<W>, position: EntryPosition, base_offset: Offset) -> Vec<Answer<W>> {
    let (_, planned) = flight.items.first().expect("a flight holds a batch");
    assert_eq!(*planned, base_offset, "a live entry begins where it was planned");
    let mut answers = Vec::new();
    for (item, base_offset) in flight.items {
        let count = item.header.count;
        for waiter in item.waiters {
            let done = Done { base_offset, position, count, duplicate: waiter.duplicate, stamp: flight.stamp };
            answers.push((waiter.inner, Ok(done)));
        }
    }
    answers
}
