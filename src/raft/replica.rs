//! One replica of one Raft group, as the layers above use it.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use bytes::Bytes;
use openraft::{
    ReadPolicy,
    async_runtime::WatchReceiver,
    errors::{ClientWriteError, ForwardReason, ForwardToLeader},
    raft::ClientWriteResult,
};
use openraft_rt::Instant as _;
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};

use super::{
    confirm::{self, READ_INDEX_WITHIN},
    errors::{OpenError, ProposalEnd, ReadError, Refusal},
    running::RunningReplica,
    status::Status,
    types::{Command, Peer, Reply, Types, position},
};
use crate::{
    replicated::Replicated,
    seam::plant::{self, Plant},
    storage::ReplicaLog,
    types::{BrokerId, EntryPosition, LogIndex, RaftGroupId, ReplicaId, Term},
};

/// A proposal that reached the Raft core. Resolves once its outcome is known; dropping it does not
/// withdraw the proposal.
pub struct Pending(Sent);

enum Sent {
    Refused(Refusal),
    Waiting(oneshot::Receiver<ClientWriteResult<Types>>),
}

impl Future for Pending {
    type Output = Result<(EntryPosition, Bytes), ProposalEnd>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let receiver = match &mut self.0 {
            Sent::Refused(refusal) => return Poll::Ready(Err(ProposalEnd::Refused(*refusal))),
            Sent::Waiting(receiver) => receiver,
        };
        Pin::new(receiver).poll(cx).map(|outcome| match outcome {
            Ok(Ok(done)) => Ok((position(&done.log_id), done.data.0)),
            Ok(Err(ClientWriteError::ForwardToLeader(why))) => Err(ProposalEnd::Refused(refusal(&why))),
            // Discarded, a fatal error, or a core that dropped the responder: it may be committed.
            Ok(Err(_)) | Err(_) => Err(ProposalEnd::Unknown),
        })
    }
}

fn refusal(why: &ForwardToLeader<Types>) -> Refusal {
    match why.reason {
        ForwardReason::NotLeader => Refusal::NotLeader,
        ForwardReason::LeaseExpired => Refusal::LeaseExpired,
        ForwardReason::LeadershipTransfer => Refusal::Transferring,
    }
}

/// Handle to one running replica. Clones share it.
pub struct Replica<S: Replicated>(pub(super) Arc<RunningReplica<S>>);

impl<S: Replicated> Clone for Replica<S> {
    fn clone(&self) -> Self {
        Replica(self.0.clone())
    }
}

impl<S: Replicated> Replica<S> {
    pub fn id(&self) -> RaftGroupId {
        self.0.spec.group
    }

    pub fn replica(&self) -> ReplicaId {
        self.0.spec.replica
    }

    pub fn status(&self) -> watch::Receiver<Status> {
        self.0.status.subscribe()
    }

    /// The index of the last entry applied here; changes after each batch of applies.
    pub fn applied(&self) -> watch::Receiver<Option<LogIndex>> {
        self.0.shared.applied.subscribe()
    }

    /// One more than the index of the last entry that any state read before this call holds. Never behind the
    /// state, as [`Replica::applied`] may be for a moment.
    pub fn state_next(&self) -> LogIndex {
        self.0.shared.state_next()
    }

    /// Reads the applied state. `f` runs under a lock that applying needs: keep it short.
    pub fn read<T>(&self, f: impl FnOnce(&S) -> T) -> T {
        self.0.shared.read(f)
    }

    /// The replica's log, for reads of applied entries.
    pub fn log(&self) -> &ReplicaLog {
        &self.0.log
    }

    /// Hands a command to the Raft core, to be appended only if this replica still leads in `term`.
    /// Returns once the core has it in its queue, so that awaited calls keep their order; whether it
    /// was appended or refused, `Pending` tells.
    pub async fn propose(&self, term: Term, command: Bytes) -> Pending {
        if self.0.paused.load(Ordering::Acquire) > 0 {
            return Pending(Sent::Refused(Refusal::Transferring));
        }
        if self.0.closing.load(Ordering::Acquire) {
            return Pending(Sent::Refused(Refusal::NotLeader));
        }
        let (sender, receiver) = oneshot::channel();
        let write = self.0.raft.write(Command(command)).with_leader(term.0).responder(Reply(sender));
        match write.await {
            // A core that stops drops the responder, which reads as an unknown outcome.
            Ok(()) => Pending(Sent::Waiting(receiver)),
            // It had stopped before: what it never had it cannot have appended.
            Err(_) => Pending(Sent::Refused(Refusal::NotLeader)),
        }
    }

    /// Confirms leadership with a majority and waits until everything committed before the call is
    /// applied here (Raft thesis 6.4, ReadIndex). `confirm` says why openraft's own round is not enough.
    pub async fn read_index(&self) -> Result<LogIndex, ReadError> {
        let confirmed = async {
            let read = self.0.raft.ensure_linearizable(ReadPolicy::ReadIndex);
            let (read, still_leads) = match plant::on(Plant::ReadByOldAnswer) {
                true => (read.await, Ok(())),
                false => tokio::join!(read, confirm::majority_follows(&self.0)),
            };
            still_leads?;
            match read {
                Ok(read) => Ok(LogIndex(read.index())),
                Err(e) if e.forward_to_leader().is_some() => Err(ReadError::NotLeader),
                Err(_) => Err(ReadError::NoQuorum),
            }
        };
        timeout(READ_INDEX_WITHIN, confirmed).await.unwrap_or(Err(ReadError::NoQuorum))
    }

    /// Brokers whose fsynced log covers `index`, as this leader knows it, in id order. Followers are
    /// named by their append replies, which they send only after their fsync; this replica only once
    /// its own flush covers the entry.
    pub fn durable_on(&self, index: LogIndex) -> Vec<BrokerId> {
        let term = self.0.status.borrow().term;
        let mut covering = self.0.matches.covering(term, index);
        if self.0.log.flushed().is_some_and(|flushed| flushed >= index) {
            covering.push(self.replica());
        }
        let voters = self.voters();
        let mut brokers: Vec<BrokerId> =
            voters.iter().filter(|(replica, _)| covering.contains(replica)).map(|(_, broker)| *broker).collect();
        brokers.sort_unstable();
        brokers
    }

    /// This replica is leader-ready, and a majority of the voters answered it within the leader lease (the
    /// longest election timeout). Without that it can commit nothing, and another replica may lead in a
    /// later term (SAFETY M7): openraft does not step down by itself.
    pub fn leads_with_majority(&self) -> bool {
        let status = self.0.status.borrow();
        if !(status.leads && status.ready) || status.stopped {
            return false;
        }
        drop(status);
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.membership_config.membership().voter_ids().nth(1).is_none() || plant::on(Plant::LeaseNotChecked) {
            return true; // A single voter is its own majority.
        }
        let lease = self.0.ground.settings.election_max;
        metrics.last_quorum_acked.is_some_and(|acked| acked.into_inner().elapsed() <= lease)
    }

    pub fn voters(&self) -> Vec<(ReplicaId, BrokerId)> {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let voters = membership.voter_ids();
        voters.filter_map(|id| membership.get_node(&id).map(|peer| (ReplicaId(id), peer.broker))).collect()
    }

    /// Voters and learners.
    pub fn members(&self) -> Vec<(ReplicaId, BrokerId)> {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.nodes().map(|(id, peer)| (ReplicaId(*id), peer.broker)).collect()
    }

    /// By how many entries each follower's acknowledged log is behind this leader's. Nothing if this is no leader.
    pub fn followers_behind(&self) -> Vec<(BrokerId, u64)> {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        let Some(replication) = &metrics.replication else { return vec![] };
        let last = metrics.last_log_index.unwrap_or(0);
        let membership = metrics.membership_config.membership();
        let behind = |id: u64| {
            let matched = replication.get(&id).and_then(|id| id.as_ref()).map_or(0, |id| id.index);
            membership.get_node(&id).map(|peer| (peer.broker, last.saturating_sub(matched)))
        };
        membership.voter_ids().filter(|id| *id != self.replica().0).filter_map(behind).collect()
    }

    /// By how many entries the state machine is behind the log.
    pub fn apply_behind(&self) -> u64 {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        let applied = metrics.last_applied.as_ref().map_or(0, |id| id.index);
        metrics.last_log_index.unwrap_or(0).saturating_sub(applied)
    }

    /// Starts a group with its immutable first members (SAFETY B6). Refused, harmlessly, on a replica
    /// that has any state.
    pub async fn initialize(&self) -> Result<(), OpenError> {
        let members = self.0.spec.initial.iter().map(|(id, broker)| (id.0, Peer { broker: *broker }));
        let members: std::collections::BTreeMap<u64, Peer> = members.collect();
        match self.0.raft.initialize(members).await {
            Ok(()) => Ok(()),
            Err(e) if e.api_error().is_some() => Ok(()),
            Err(e) => Err(OpenError::Failed { group: self.id(), reason: e.to_string() }),
        }
    }

    /// Ends the core as an error of its own would.
    #[cfg(test)]
    pub async fn break_core(&self) {
        let _ = self.0.raft.with_raft_state(|_| panic!("a test breaks this core")).await;
    }

    pub async fn add_learner(&self, replica: ReplicaId, broker: BrokerId) -> Result<(), ReadError> {
        match self.0.raft.add_learner(replica.0, Peer { broker }, false).await {
            Ok(_) => Ok(()),
            Err(e) if e.forward_to_leader().is_some() => Err(ReadError::NotLeader),
            Err(_) => Err(ReadError::NoQuorum),
        }
    }
}
