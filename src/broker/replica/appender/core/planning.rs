//! What goes into an appender's next entry, and what is told at once of batches that need none.

use tokio::time::Instant;

use super::{Answer, Core, Done, Failed, Flight, FlightId, Item, Plan, Rules};
use crate::{
    broker::limits,
    partition::{CheckParams, EntryFill, Overlay, Partition, Ticket, Verdict},
    record::BatchHeader,
    types::{Offset, ProducerId, WallMs},
};

impl<W> Core<W> {
    /// The next entry, made of as many queued batches as fit. Answers those that need no entry.
    pub fn plan(
        &mut self,
        partition: &Partition,
        rules: Rules,
        wall: WallMs,
        now: Instant,
        answers: &mut Vec<Answer<W>>,
    ) -> Option<Plan> {
        if !self.wants_to_propose(now) {
            return None;
        }
        self.retry_at = None;
        let (term, mut overlay) = self.session.take().expect("wants_to_propose checked it");
        let id = FlightId(self.next_flight);
        let append_time = partition.append_time(wall);
        let record_now = record_time(append_time, wall, rules.clock_agrees);
        let stamp = rules.log_append_time.then_some(record_now);
        let mut flight = Flight { id, items: Vec::new(), stamp, without_effect: false };
        let mut fill = EntryFill::default();
        for _ in 0..limits::ENTRY_BATCHES_MAX {
            let Some(item) = self.queue.pop_front() else { break };
            if item.waiters.is_empty() {
                continue;
            }
            if !fill.fits(&item.header) {
                self.queue.push_front(item);
                break;
            }
            let params = CheckParams {
                now: append_time,
                record_now,
                expected_offset: item.expected_offset,
                timestamps: (!rules.log_append_time).then_some(rules.timestamps),
            };
            let Some(verdict) = self.verdict(partition, &overlay, &item.header, &params) else {
                // What it is compared with is not decided yet: it goes when the flights have landed.
                self.queue.push_front(item);
                break;
            };
            match verdict {
                Verdict::Append { base_offset } => {
                    fill.add(&item.header);
                    self.take_off(item, base_offset, &mut overlay, &mut flight);
                }
                Verdict::DuplicatePending { ticket, base_offset: _ } => {
                    self.attach(item, ticket, Some(&mut flight), now, answers);
                }
                Verdict::DuplicateCommitted { base_offset, position } => {
                    let done = Done { base_offset, position, count: item.header.count, duplicate: true, stamp: None };
                    answers.extend(item.waiters.into_iter().map(|waiter| (waiter.inner, Ok(done))));
                }
                refused @ (Verdict::OutOfOrderSequence { .. }
                | Verdict::Fenced { .. }
                | Verdict::WrongOffset { .. }
                | Verdict::TimestampTooFar { .. }
                | Verdict::TimestampTooOld { .. }) => {
                    let failed = refusal(refused, item.header.producer_id);
                    answers.extend(item.waiters.into_iter().map(|waiter| (waiter.inner, Err(failed))));
                }
            }
        }
        self.session = Some((term, overlay));
        let plan = flight.plan(term, append_time);
        if plan.is_some() {
            self.next_flight += 1;
            self.flights.push_back(flight);
        }
        self.check();
        plan
    }

    /// What is to become of a batch. None: that cannot be told before what is in flight has landed.
    fn verdict(
        &mut self,
        partition: &Partition,
        overlay: &Overlay,
        header: &BatchHeader,
        params: &CheckParams,
    ) -> Option<Verdict> {
        let verdict = overlay.check(partition, header, params);
        let known = overlay.knows(partition, header.producer_id, params.now);
        wrong_offset_for_good(self.in_sequence(verdict, header, known), partition, overlay)
    }

    /// `known`: the partition knows the producer, so that the overlay has judged the sequence by itself.
    fn in_sequence(&mut self, verdict: Verdict, header: &BatchHeader, known: bool) -> Verdict {
        let Verdict::Append { .. } = verdict else { return verdict };
        let got = header.base_sequence;
        match self.owed.get(&header.producer_id) {
            Some(&(epoch, expected)) if !known && epoch == header.producer_epoch && got > expected => {
                Verdict::OutOfOrderSequence { expected, got }
            }
            Some(_) => {
                self.owed.remove(&header.producer_id);
                verdict
            }
            None => verdict,
        }
    }

    fn take_off(&mut self, mut item: Item<W>, base_offset: Offset, overlay: &mut Overlay, flight: &mut Flight<W>) {
        // A ticket names one try: after a resync the old one is meaningless.
        item.ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let pushed = overlay.push(item.ticket, &item.header);
        assert_eq!(pushed, base_offset, "the overlay reserves what it promised");
        flight.items.push((item, base_offset));
    }

    /// A retry waits for the outcome of the batch it repeats.
    pub(super) fn attach(
        &mut self,
        item: Item<W>,
        ticket: Ticket,
        planned: Option<&mut Flight<W>>,
        now: Instant,
        answers: &mut Vec<Answer<W>>,
    ) {
        let flights = self.flights.iter_mut().chain(planned);
        let pending = flights.flat_map(|flight| flight.items.iter_mut()).map(|(item, _)| item);
        let original = pending.into_iter().find(|original| original.ticket == ticket);
        let original = original.expect("a pending batch of the overlay is in a flight");
        for mut waiter in item.waiters {
            if original.waiters.len() >= limits::WAITERS_PER_BATCH_MAX {
                // That very batch is on its way: nobody can say that nothing was appended.
                let waited = waiter.waited(now);
                answers.push((waiter.inner, Err(Failed::OutcomeUnknown { waited })));
                continue;
            }
            waiter.duplicate = true;
            original.waiters.push(waiter);
        }
    }
}

/// The time that records are stamped with and held against. The partition's clock never goes back, so after a
/// leader whose clock was ahead it stays ahead; a leader who is known to be right does not pass that on.
fn record_time(append_time: WallMs, wall: WallMs, clock_agrees: bool) -> WallMs {
    let ahead_ms = u128::try_from(append_time.0.saturating_sub(wall.0)).unwrap_or(0);
    if clock_agrees && ahead_ms > limits::CLOCK_SKEW_MAX.as_millis() { wall } else { append_time }
}

/// A comparison that failed must have compared with an offset that really was the next one: not with
/// proposals that may yet come to nothing. None: not decided yet.
fn wrong_offset_for_good(verdict: Verdict, partition: &Partition, overlay: &Overlay) -> Option<Verdict> {
    let Verdict::WrongOffset { expected, .. } = verdict else { return Some(verdict) };
    let applied = partition.next_offset();
    if expected >= applied && overlay.pending() > 0 {
        return None;
    }
    Some(Verdict::WrongOffset { expected, actual: applied })
}

/// # Panics
/// For verdicts that refuse nothing.
fn refusal(verdict: Verdict, producer: ProducerId) -> Failed {
    match verdict {
        Verdict::OutOfOrderSequence { expected, got } => Failed::OutOfOrderSequence { producer, expected, got },
        Verdict::Fenced { current_epoch, got } => Failed::Fenced { producer, current: current_epoch, got },
        Verdict::WrongOffset { expected, actual } => Failed::WrongOffset { expected, actual },
        Verdict::TimestampTooFar { max_timestamp, limit: _ } => Failed::TimestampTooFar { timestamp: max_timestamp },
        Verdict::TimestampTooOld { base_timestamp, limit: _ } => Failed::TimestampTooOld { timestamp: base_timestamp },
        Verdict::Append { .. } | Verdict::DuplicateCommitted { .. } | Verdict::DuplicatePending { .. } => {
            unreachable!("{verdict:?} is not a refusal")
        }
    }
}
