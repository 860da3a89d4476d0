//! What a replica publishes of its group: who leads, and how far it can be relied on.

use std::sync::Arc;

use crate::types::{BrokerId, ReplicaId, Term};

/// Who leads a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    pub term: Term,
    pub replica: ReplicaId,
    pub broker: BrokerId,
}

/// What this replica knows of its group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub term: Term,
    pub leader: Option<Leader>,
    /// This replica leads in `term`.
    pub leads: bool,
    /// This replica is leader-ready in `term` (SAFETY M1): its state holds all that may be committed.
    pub ready: bool,
    /// It leads, and for longer than a lease no majority has answered: what it knows may be old, and others
    /// may lead (SAFETY M7). Looked at a few times a second.
    pub without_quorum: bool,
    /// The group stopped because of a failure or a shutdown.
    pub stopped: bool,
    /// Why it stopped, if nobody had asked it to.
    pub failure: Option<Arc<str>>,
}

impl Status {
    /// Puts in place what is known now. True if it is news.
    ///
    /// # Panics
    /// If the term goes back, or a part contradicts another.
    pub(super) fn become_next(&mut self, next: Status) -> bool {
        next.check(self.term);
        let is_news = *self != next;
        *self = next;
        is_news
    }

    /// Whoever stopped says of no term any more.
    fn check(&self, term_before: Term) {
        assert!(self.stopped || self.term >= term_before, "the term went back from {term_before}: {self:?}");
        assert!(!self.leads || !self.stopped, "it has stopped and leads: {self:?}");
        assert!(self.leads || !(self.ready || self.without_quorum), "it does not lead: {self:?}");
        let is_of_term = self.leader.is_none_or(|leader| leader.term == self.term);
        assert!(is_of_term, "its leader is of another term: {self:?}");
        assert!(self.stopped || self.failure.is_none(), "it has failed and goes on: {self:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leads(term: u64) -> Status {
        let leader = Leader { term: Term(term), replica: ReplicaId(1), broker: BrokerId(1) };
        Status { term: Term(term), leader: Some(leader), leads: true, ready: true, ..Status::default() }
    }

    #[test]
    fn a_status_goes_up_in_term_until_it_stops() {
        let mut status = Status::default();
        assert!(status.become_next(leads(3)));
        assert!(!status.become_next(leads(3)));
        assert!(status.become_next(Status { term: Term(4), ..Status::default() }));
        assert!(status.become_next(Status { stopped: true, ..Status::default() }));
    }

    #[test]
    #[should_panic(expected = "the term went back from 4")]
    fn a_term_that_goes_back_is_a_bug() {
        let mut status = leads(4);
        status.become_next(leads(3));
    }
}
