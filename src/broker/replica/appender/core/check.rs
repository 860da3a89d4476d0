//! What must hold in an appender's core whenever none of its methods runs. All of it is of our own making: what
//! clients send has been validated, and a peer has no say in it.

use super::Core;
use crate::broker::limits;

/// What was refused goes back to a queue that may have been filled meanwhile.
const QUEUED_MAX: usize = limits::QUEUE_BATCHES_MAX + limits::PROPOSALS_MAX * limits::ENTRY_BATCHES_MAX;
/// Batches that a debug build walks over with each change; with more it would take quadratic time.
const WALKED_MAX: usize = 64;

impl<W> Core<W> {
    /// As many steps as there may be flights. All of it is of our own making: what clients send is in batches
    /// that were validated, and in answers of `partition`.
    pub(super) fn check(&self) {
        let (queue, flights) = (self.queue.len(), self.flights.len());
        let owed = self.owed.len();
        assert!(queue <= QUEUED_MAX, "{queue} batches are queued, {QUEUED_MAX} may be");
        assert!(flights <= limits::PROPOSALS_MAX, "{flights} proposals, {} may be", limits::PROPOSALS_MAX);
        assert!(owed <= limits::OWED_MAX, "{owed} producers are owed a batch, {} may be", limits::OWED_MAX);
        let is_idle = queue == 0 && flights == 0 && owed == 0 && !self.draining;
        assert!(
            self.session.is_some() || is_idle,
            "no session, and {queue} queued, {flights} in flight, {owed} owed, draining: {}",
            self.draining
        );
        let mut open = 0;
        let mut last = None;
        for flight in &self.flights {
            let (id, items) = (flight.id, flight.items.len());
            assert!(
                last < Some(id) && id.0 < self.next_flight,
                "{id:?} flies after {last:?}, before {}",
                self.next_flight
            );
            assert!((1..=limits::ENTRY_BATCHES_MAX).contains(&items), "{id:?} carries {items} batches");
            assert!(self.draining || !flight.without_effect, "{id:?} had no effect, and nobody waits for the others");
            last = Some(id);
            open += if flight.without_effect { 0 } else { items };
        }
        let pending = self.session.as_ref().map_or(0, |(_, overlay)| overlay.pending());
        assert!(pending == open, "{pending} batches are pending in the overlay, {open} in flights without an outcome");
        if cfg!(debug_assertions) && queue + open <= WALKED_MAX {
            self.check_all();
        }
    }

    fn check_all(&self) {
        let flying = self.flights.iter().flat_map(|flight| &flight.items);
        let tickets: Vec<u64> = flying.clone().map(|(item, _)| item.ticket.0).collect();
        let are_drawn = tickets.last().is_none_or(|last| *last < self.next_ticket);
        assert!(tickets.is_sorted_by(|a, b| a < b) && are_drawn, "tickets {tickets:?} before {}", self.next_ticket);
        for item in flying.map(|(item, _)| item).chain(&self.queue) {
            let waiters = item.waiters.len();
            assert!(waiters <= limits::WAITERS_PER_BATCH_MAX, "{waiters} wait for one batch");
            let due = item.waiters.iter().map(|waiter| waiter.deadline).min();
            let is_woken = due.is_none_or(|due| self.next_deadline.is_some_and(|next| next <= due));
            assert!(is_woken, "an answer is due at {due:?}, the next look is at {:?}", self.next_deadline);
        }
    }
}
