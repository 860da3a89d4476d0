//! What a running replica does with the requests of other replicas: they are checked, then openraft answers them.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream};
use openraft::{
    Instant as _, ServerState, Snapshot, SnapshotMeta,
    async_runtime::WatchReceiver,
    raft::{TransferLeaderRequest, VoteRequest, VoteResponse},
};

use super::{
    Replica,
    checks::{check_snapshot, check_term},
    confirm,
    contradiction::Witness,
    member::{AppendReplies, AppendStream, Member},
    running::RunningReplica,
    status::Status,
    types::{RaftVote, Types, position},
    wire::SnapshotHead,
};
use crate::{
    replicated::Replicated,
    seam::aside,
    types::{BrokerId, EntryPosition, ReplicaId, Term},
};

pub(super) struct RaftMember<S: Replicated>(pub Arc<RunningReplica<S>>);

impl<S: Replicated> RaftMember<S> {
    fn witness(&self) -> Witness<S> {
        Witness { raft: self.0.raft.clone(), log: self.0.log.clone() }
    }
}

impl<S: Replicated> Member for RaftMember<S> {
    fn vote(&self, request: VoteRequest<Types>, pre: bool) -> BoxFuture<'_, Result<VoteResponse<Types>, String>> {
        Box::pin(async move {
            check_term(request.vote.leader_id().term, self.term())?;
            let raft = &self.0.raft;
            let answer = if pre { raft.pre_vote(request).await } else { raft.vote(request).await };
            answer.map_err(|e| e.to_string())
        })
    }

    fn appends(&self, requests: AppendStream) -> BoxFuture<'_, AppendReplies> {
        Box::pin(async move {
            // Ends with the first request that must not be taken.
            let checked = (requests, self.witness(), self.0.ground.clone());
            let checked = stream::unfold(checked, |(mut requests, witness, ground)| async move {
                let request = requests.next().await?;
                if let Some(found) = witness.against_append(&request).await {
                    ground.contradict(found);
                    return None;
                }
                Some((request, (requests, witness, ground)))
            });
            let requests: AppendStream = Box::pin(checked);
            let replies = self.0.ground.seeds.scope(async { self.0.raft.stream_append(requests) }).await;
            Box::pin(replies.map(|reply| reply.map_err(|e| e.to_string()))) as AppendReplies
        })
    }

    fn install(&self, head: SnapshotHead, state: Bytes) -> BoxFuture<'_, Result<RaftVote, String>> {
        Box::pin(async move {
            let committed = self.0.raft.metrics().borrow_watched().local_committed;
            check_term(head.vote.leader_id().term, self.term())?;
            check_snapshot(&head, committed.as_ref())?;
            // What cannot be read must not reach the core: it would stop for good.
            let (bytes, at) = (state.clone(), head.last_log_id.as_ref().map(position));
            aside(move || S::decode_after(&bytes, at).map(drop)).await.map_err(|e| e.to_string())?;
            if let Some(found) = self.witness().against_snapshot(head.last_log_id.as_ref(), &head.vote).await {
                self.0.ground.contradict(found);
                return Err("it contradicts what is committed here".into());
            }
            let meta = SnapshotMeta { last_log_id: head.last_log_id, last_membership: head.membership };
            let snapshot = Snapshot { meta, snapshot: state };
            let answer = self.0.raft.install_full_snapshot(head.vote, snapshot).await;
            answer.map(|response| response.vote).map_err(|e| e.to_string())
        })
    }

    fn transfer(&self, request: TransferLeaderRequest<Types>) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            check_term(request.from_leader().leader_id().term, self.term())?;
            // openraft asks no such thing: a learner would lead.
            let is_voter = Replica(self.0.clone()).voters().iter().any(|(id, _)| *id == self.0.spec.replica);
            if *request.to_node_id() == self.0.spec.replica.0 && !is_voter {
                return Err("this replica is no voter".into());
            }
            match self.0.raft.handle_transfer_leader(request).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(e)) => Err(e.to_string()),
                Err(e) => Err(e.to_string()),
            }
        })
    }

    fn follows(&self, term: Term, leader: ReplicaId) -> BoxFuture<'_, Result<bool, String>> {
        Box::pin(async move { confirm::follows(&self.0.raft, term, leader).await.map_err(|e| e.to_string()) })
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        self.0.closing.store(true, Ordering::Release);
        // Before the core ends: nobody proposes to it any more what it would drop unread, with an outcome that
        // nobody knows.
        self.0.status.send_if_modified(|status| {
            // Why it stopped before stays.
            !status.stopped && status.become_next(Status { stopped: true, ..Status::default() })
        });
        Box::pin(async move {
            if let Err(e) = self.0.raft.shutdown().await {
                tracing::warn!(error = %e, "raft core did not stop cleanly");
            }
            // The core's end is not that of the task which applies: that goes on with what was committed. Who deletes the log
            // next must not take it away from below (SAFETY M11).
            self.0.shared.ended.cancelled().await;
        })
    }

    fn term(&self) -> u64 {
        self.0.raft.metrics().borrow_watched().current_term
    }

    fn has_member(&self, replica: ReplicaId, broker: BrokerId) -> Option<bool> {
        let members = Replica(self.0.clone()).members();
        (!members.is_empty()).then(|| members.contains(&(replica, broker)))
    }

    fn check_quorum(&self) {
        let lease = self.0.ground.settings.election_max;
        let without_quorum = {
            let metrics = self.0.raft.metrics();
            let now = metrics.borrow_watched();
            // Who was never answered is not ready either, which tells as much.
            let acked = now.last_quorum_acked.is_some_and(|at| at.elapsed() > lease);
            let is_alone = now.membership_config.membership().voter_ids().count() <= 1;
            now.state == ServerState::Leader && acked && !is_alone
        };
        let announced = self.0.leaders.of(self.0.spec.group).map(|leader| leader.term);
        self.0.status.send_if_modified(|status| {
            let mut next = status.clone();
            next.without_quorum = without_quorum && next.leads;
            if next.without_quorum && announced > Some(next.term) {
                // The core has not heard of its successor: it is cut off, or waits for its disk.
                (next.leads, next.ready, next.without_quorum) = (false, false, false);
            }
            status.become_next(next)
        });
    }

    fn leader_left(&self, broker: BrokerId) {
        let status = self.0.status.borrow().clone();
        let Some(leader) = status.leader.filter(|leader| leader.broker == broker) else { return };
        let (group, stopping) = (Replica(self.0.clone()), self.0.ground.stopping.clone());
        // Ends by itself in bounded time, and with the node.
        tokio::spawn(async move { stopping.run_until_cancelled(group.replace(leader)).await });
    }

    fn purged(&self) -> Option<EntryPosition> {
        self.0.log.purged()
    }

    fn release(&self, upto: EntryPosition) {
        if self.0.log.purged() < Some(upto) && self.0.shared.release(upto) {
            tracing::info!(group = %self.0.spec.group, %upto, "purges what others purged, for want of disk");
        }
    }

    fn set_campaign(&self, may: bool) {
        self.0.raft.runtime_config().elect(may);
    }
}
