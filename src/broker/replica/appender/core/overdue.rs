//! The pass over an appender's waiters that answers those whose time is up.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::{Answer, Core, Failed, Item, Waiter, answer_by};
use crate::{
    partition::Overlay,
    record::BatchHeader,
    types::{ProducerEpoch, ProducerId, Sequence},
};

impl<W> Core<W> {
    /// Answers whose time is up: no effect if the batch was never appended, else unknown. A batch whose
    /// outcome is open stays in its flight and in the overlay, so that a retry finds it.
    pub fn tick(&mut self, now: Instant) -> Vec<Answer<W>> {
        if self.next_deadline.is_none_or(|at| now < at) {
            return Vec::new();
        }
        let overlay = self.session.as_ref().map(|(_, overlay)| overlay);
        let (stalled_since, paused) = (self.stalled_since, self.paused);
        let mut sweep = Sweep { now, stalled_since, paused, overlay, broken: BTreeMap::new(), next: None };
        let mut answers = Vec::new();
        for flight in &mut self.flights {
            let never_appended = flight.without_effect;
            flight.items.iter_mut().for_each(|(item, _)| sweep.item(item, never_appended, &mut answers));
        }
        self.queue.iter_mut().for_each(|item| sweep.item(item, true, &mut answers));
        self.queue.retain(|item| !item.waiters.is_empty());
        let Sweep { broken, next, .. } = sweep;
        self.next_deadline = next;
        for (producer, first) in broken {
            self.owe(producer, first);
        }
        self.check();
        answers
    }
}

/// One pass over everything that waits, in order.
struct Sweep<'a> {
    now: Instant,
    stalled_since: Option<Instant>,
    paused: bool,
    /// What is on its way.
    overlay: Option<&'a Overlay>,
    /// Producers of which a batch went without effect, with its epoch and sequence: later ones go with it.
    broken: BTreeMap<ProducerId, (ProducerEpoch, Sequence)>,
    /// When to look at the waiters again.
    next: Option<Instant>,
}

impl Sweep<'_> {
    fn item<W>(&mut self, item: &mut Item<W>, never_appended: bool, answers: &mut Vec<Answer<W>>) {
        if item.waiters.is_empty() {
            return;
        }
        let Sweep { now, stalled_since, paused, overlay, .. } = *self;
        let follows_broken = never_appended && self.broken.contains_key(&item.header.producer_id);
        let stalled_since = stalled_since.filter(|_| never_appended);
        let due = |waiter: &Waiter<W>| match follows_broken {
            true => now,
            false => answer_by(waiter.deadline, waiter.arrived, stalled_since),
        };
        // A copy that waits behind the batch it repeats cannot say that this was not appended.
        let is_on_its_way = !never_appended || overlay.is_some_and(|overlay| overlay.is_pending(&item.header));
        for waiter in item.waiters.extract_if(.., |waiter| due(waiter) <= now) {
            let waited = waiter.waited(now);
            let failed = match (is_on_its_way, paused, stalled_since) {
                (true, _, _) => Failed::OutcomeUnknown { waited },
                (false, true, _) => Failed::Moving,
                (false, false, Some(_)) => Failed::NotEnoughReplicas { waited },
                (false, false, None) => Failed::TimedOut { waited },
            };
            answers.push((waiter.inner, Err(failed)));
        }
        self.next = item.waiters.iter().map(due).chain(self.next).min();
        if item.waiters.is_empty() && never_appended && item.header.is_idempotent() {
            let BatchHeader { producer_id, producer_epoch, base_sequence, .. } = item.header;
            self.broken.entry(producer_id).or_insert((producer_epoch, base_sequence));
        }
    }
}
