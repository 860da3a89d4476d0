//! Moves leadership on purpose (SAFETY B2).
//!
//! openraft never un-marks a leader that transfers, and sends its request once; a lost request would
//! leave a leader that refuses writes. So a transfer is prepared (nothing in flight, target caught
//! up), watched, and repeated with the next candidate until a higher term has a leader.
//!
//! Whoever asked may go away at any moment, as a handler does whose client hung up (SAFETY M18). While
//! a transfer is prepared that cancels it, and proposals are taken again. Once the request is out
//! nothing can take it back, so the rest runs in a task of its own, which goes on after the deadline
//! with whatever voter is alive: somebody must lead in the end.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use openraft::async_runtime::WatchReceiver;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{Replica, errors::TransferError, running::RunningReplica, status::Leader};
use crate::{
    metrics::TransferResult,
    replicated::Replicated,
    types::{BrokerId, ReplicaId, Term},
};

/// A request without a new leader after this long is sent again.
const REPEAT_AFTER: Duration = Duration::from_millis(300);
/// How long a candidate may need to acknowledge the last entries once proposals stopped.
const CATCH_UP_WITHIN: Duration = Duration::from_millis(1_000);
/// How long a transfer that missed its deadline is still repeated: several elections' worth.
const RESCUE_WITHIN: Duration = Duration::from_secs(30);

/// Proposals are refused as long as one of these lives.
struct Paused<S: Replicated>(Arc<RunningReplica<S>>);

impl<S: Replicated> Paused<S> {
    fn new(group: &Replica<S>) -> Paused<S> {
        group.0.paused.fetch_add(1, Ordering::AcqRel);
        Paused(group.0.clone())
    }
}

impl<S: Replicated> Drop for Paused<S> {
    fn drop(&mut self) {
        self.0.paused.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<S: Replicated> Replica<S> {
    /// Moves leadership to the voter on `to`, or to the best caught-up one. Proposals are refused
    /// meanwhile, and go on being accepted here if no transfer was begun. Dropped before it was, it
    /// has no effect; later it goes on by itself.
    pub async fn transfer_leader(&self, to: Option<BrokerId>, within: Duration) -> Result<Leader, TransferError> {
        let status = self.status().borrow().clone();
        if !status.leads {
            return Err(TransferError::NotLeader);
        }
        let deadline = Instant::now() + within;
        let paused = Paused::new(self);
        let moved = match self.candidates(to, deadline.min(Instant::now() + CATCH_UP_WITHIN)).await {
            Ok(candidates) => {
                let answer = self.begin(status.term, candidates, deadline, paused);
                // No answer: the node stops, and what was asked for may still happen.
                answer.await.ok().flatten().ok_or(TransferError::TimedOut(within))
            }
            Err(error) => Err(error),
        };
        let result = if moved.is_ok() { TransferResult::Moved } else { TransferResult::Failed };
        self.0.ground.probe.transfer_finished(result);
        moved
    }

    /// Asks the candidates in turn, in a task that ends by itself in bounded time, or with the node.
    /// Answers by the deadline: the new leader, if there is one by then.
    fn begin(
        &self,
        term: Term,
        candidates: Vec<ReplicaId>,
        deadline: Instant,
        paused: Paused<S>,
    ) -> oneshot::Receiver<Option<Leader>> {
        let (told, answer) = oneshot::channel();
        let (group, stopping) = (self.clone(), self.0.ground.stopping.clone());
        let moving = async move {
            let moved = group.ask_in_turn(term, candidates, deadline).await;
            drop(paused);
            let is_over = moved.is_some();
            // Whoever asked may be gone.
            let _ = told.send(moved);
            if !is_over && !group.0.rescuing.swap(true, Ordering::AcqRel) {
                tracing::warn!(group = %group.id(), "leadership transfer without a new leader in time: any voter may lead");
                let anybody = group.others().into_iter().map(|(replica, _)| replica).collect();
                group.ask_in_turn(term, anybody, Instant::now() + RESCUE_WITHIN).await;
                group.0.rescuing.store(false, Ordering::Release);
            }
        };
        tokio::spawn(async move { stopping.run_until_cancelled(moving).await });
        answer
    }

    /// Asks one candidate after the other until there is a leader of a higher term than `term`.
    async fn ask_in_turn(&self, term: Term, candidates: Vec<ReplicaId>, deadline: Instant) -> Option<Leader> {
        for candidate in candidates.iter().cycle() {
            // An error: the core has stopped, or will not answer any more.
            let asked = timeout_at(deadline, self.0.raft.trigger().transfer_leader(candidate.0)).await;
            if !matches!(asked, Ok(Ok(()))) {
                return None;
            }
            let until = deadline.min(Instant::now() + REPEAT_AFTER);
            if let Ok(leader) = timeout_at(until, self.new_leader(term)).await {
                return Some(leader);
            }
            if self.status().borrow().term > term {
                // It was heard: an election is under way, and whoever wins it will say so.
                return timeout_at(deadline, self.new_leader(term)).await.ok();
            }
            if Instant::now() >= deadline {
                return None;
            }
            tracing::warn!(group = %self.id(), %candidate, "leadership transfer repeated");
        }
        None
    }

    /// The voters but this one.
    fn others(&self) -> Vec<(ReplicaId, BrokerId)> {
        self.voters().into_iter().filter(|(replica, _)| *replica != self.replica()).collect()
    }

    /// Voters that may take over, best first: alive, and with all of our log acknowledged.
    async fn candidates(&self, to: Option<BrokerId>, until: Instant) -> Result<Vec<ReplicaId>, TransferError> {
        let others: Vec<_> =
            self.others().into_iter().filter(|(_, broker)| to.is_none_or(|to| to == *broker)).collect();
        match (to, others.is_empty()) {
            (Some(to), true) => return Err(TransferError::NoSuchVoter(to)),
            (None, true) => return Err(TransferError::NoCandidate),
            (_, false) => {}
        }
        let mut metrics = self.0.raft.metrics();
        loop {
            let ready = {
                let now = metrics.borrow_watched();
                let caught_up = |id: ReplicaId| {
                    let matched = now.replication.as_ref().and_then(|r| r.get(&id.0)).and_then(|id| id.as_ref());
                    matched.map(|id| id.index) == now.last_log_index
                };
                let ready = others.iter().filter(|(id, broker)| self.0.links.alive(*broker) && caught_up(*id));
                ready.map(|(id, _)| *id).collect::<Vec<_>>()
            };
            if !ready.is_empty() {
                return Ok(ready);
            }
            if !matches!(timeout_at(until, metrics.changed()).await, Ok(Ok(()))) {
                return Err(TransferError::NoCandidate);
            }
        }
    }

    /// Waits for a leader of a higher term than `term`, as announced or as this replica sees it.
    pub(super) async fn new_leader(&self, term: Term) -> Leader {
        let mut changes = self.0.leaders.changes();
        loop {
            if let Some(leader) = self.0.leaders.of(self.id()).filter(|leader| leader.term > term) {
                return leader;
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
