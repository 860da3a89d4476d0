//! Moves leadership on purpose (SAFETY B2).
//!
//! openraft never un-marks a leader that transfers, and sends its request once; a lost request would
//! leave a leader that refuses writes. So a transfer is prepared (nothing in flight, target caught
//! up), watched, and repeated with the next candidate until a higher term has a leader.

use std::{sync::atomic::Ordering, time::Duration};

use openraft::async_runtime::WatchReceiver;
use tokio::time::{Instant, timeout_at};

use super::{Group, Leader, TransferError};
use crate::{
    replicated::Replicated,
    types::{BrokerId, ReplicaId, Term},
};

/// A request without a new leader after this long is sent again.
const REPEAT_AFTER: Duration = Duration::from_millis(300);
/// How long a candidate may need to acknowledge the last entries once proposals stopped.
const CATCH_UP_WITHIN: Duration = Duration::from_millis(1_000);

impl<S: Replicated> Group<S> {
    /// Moves leadership to the voter on `to`, or to the best caught-up one. Proposals are refused
    /// meanwhile, and go on being accepted here if no transfer was begun.
    pub async fn transfer_leader(&self, to: Option<BrokerId>, within: Duration) -> Result<Leader, TransferError> {
        let status = self.status().borrow().clone();
        if !status.leads {
            return Err(TransferError::NotLeader);
        }
        self.0.paused.store(true, Ordering::Release);
        let moved = self.transfer(status.term, to, within).await;
        self.0.paused.store(false, Ordering::Release);
        self.0.core.probe.transfer_finished(if moved.is_ok() { "moved" } else { "failed" });
        moved
    }

    async fn transfer(&self, term: Term, to: Option<BrokerId>, within: Duration) -> Result<Leader, TransferError> {
        let deadline = Instant::now() + within;
        let mut candidates = self.candidates(to, deadline.min(Instant::now() + CATCH_UP_WITHIN)).await?;
        loop {
            let candidate = candidates[0];
            candidates.rotate_left(1);
            if self.0.raft.trigger().transfer_leader(candidate.0).await.is_err() {
                return Err(TransferError::NotLeader);
            }
            let watched = timeout_at(deadline.min(Instant::now() + REPEAT_AFTER), self.new_leader(term)).await;
            match watched {
                Ok(leader) => return Ok(leader),
                Err(_) if Instant::now() >= deadline => return Err(TransferError::TimedOut(within)),
                Err(_) => tracing::warn!(group = %self.id(), %candidate, "leadership transfer repeated"),
            }
        }
    }

    /// Voters that may take over, best first: alive, and with all of our log acknowledged.
    async fn candidates(&self, to: Option<BrokerId>, until: Instant) -> Result<Vec<ReplicaId>, TransferError> {
        let others = self.voters().into_iter().filter(|(replica, _)| *replica != self.replica());
        let others: Vec<_> = others.filter(|(_, broker)| to.is_none_or(|to| to == *broker)).collect();
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
                let ready = others.iter().filter(|(id, broker)| self.0.core.alive(*broker) && caught_up(*id));
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
    async fn new_leader(&self, term: Term) -> Leader {
        let mut changes = self.0.core.leaders.changes();
        loop {
            if let Some(leader) = self.0.core.leaders.of(self.id()).filter(|leader| leader.term > term) {
                return leader;
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
