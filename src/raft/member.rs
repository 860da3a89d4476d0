//! A running replica as the transport sees it: requests in, answers out, no state machine type.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, future::BoxFuture, stream};
use openraft::{
    Instant as _, ServerState, Snapshot, SnapshotMeta,
    async_runtime::WatchReceiver,
    raft::{AppendEntriesRequest, StreamAppendResult, TransferLeaderRequest, VoteRequest, VoteResponse},
};

use super::{
    Replica, Status, confirm,
    contradiction::Witness,
    replica::Inner,
    types::{RaftLogId, RaftVote, Types, position},
    wire::SnapshotHead,
};
use crate::{
    replicated::Replicated,
    seam::aside,
    types::{BrokerId, EntryPosition, ReplicaId, TERM_MAX, Term},
};

pub(super) type AppendStream = Pin<Box<dyn Stream<Item = AppendEntriesRequest<Types>> + Send>>;
pub(super) type AppendReplies = Pin<Box<dyn Stream<Item = Result<StreamAppendResult<Types>, String>> + Send>>;

/// A term this far above our own is a fault, not an election (SAFETY M12).
const TERM_JUMP_MAX: u64 = 1 << 20;

pub(super) trait Member: Send + Sync {
    fn vote(&self, request: VoteRequest<Types>, pre: bool) -> BoxFuture<'_, Result<VoteResponse<Types>, String>>;
    fn appends(&self, requests: AppendStream) -> BoxFuture<'_, AppendReplies>;
    fn install(&self, head: SnapshotHead, state: Bytes) -> BoxFuture<'_, Result<RaftVote, String>>;
    fn transfer(&self, request: TransferLeaderRequest<Types>) -> BoxFuture<'_, Result<(), String>>;
    /// Whether this replica's last vote is for `leader` in `term`, at some moment of the call.
    fn follows(&self, term: Term, leader: ReplicaId) -> BoxFuture<'_, Result<bool, String>>;
    fn stop(&self) -> BoxFuture<'_, ()>;
    /// The highest term that this replica has seen.
    fn term(&self) -> u64;
    /// Whether the replica on this broker belongs to the group. None: no members are known here yet.
    fn has_member(&self, replica: ReplicaId, broker: BrokerId) -> Option<bool>;
    /// Looks whether a majority still answers this leader, and publishes it (SAFETY M7).
    fn check_quorum(&self);
    /// The group's leader is dead for certain: it need not be waited for.
    fn leader_left(&self, broker: BrokerId);
    /// Up to where the log is purged.
    fn purged(&self) -> Option<EntryPosition> {
        None
    }
    /// Another replica purged its log up to there.
    fn release(&self, _upto: EntryPosition) {}
    /// Whether the replica campaigns when it hears of no leader.
    fn set_campaign(&self, _may: bool) {}
}

pub(super) struct RaftMember<S: Replicated>(pub Arc<Inner<S>>);

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
            let checked = (requests, self.witness(), self.0.core.clone());
            let checked = stream::unfold(checked, |(mut requests, witness, core)| async move {
                let request = requests.next().await?;
                if let Some(found) = witness.against_append(&request).await {
                    core.contradict(found);
                    return None;
                }
                Some((request, (requests, witness, core)))
            });
            let requests: AppendStream = Box::pin(checked);
            let replies = self.0.core.seeds.scope(async { self.0.raft.stream_append(requests) }).await;
            Box::pin(replies.map(|reply| reply.map_err(|e| e.to_string()))) as AppendReplies
        })
    }

    fn install(&self, head: SnapshotHead, state: Bytes) -> BoxFuture<'_, Result<RaftVote, String>> {
        Box::pin(async move {
            let committed = self.0.raft.metrics().borrow_watched().local_committed;
            check_term(head.vote.leader_id().term, self.term())?;
            check_snapshot(&head, committed.as_ref())?;
            // What cannot be read must not reach the core: it would stop for good.
            let bytes = state.clone();
            aside(move || S::decode(&bytes).map(drop)).await.map_err(|e| e.to_string())?;
            if let Some(found) = self.witness().against_snapshot(head.last_log_id.as_ref(), &head.vote).await {
                self.0.core.contradict(found);
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
            let goes_on = !status.stopped;
            if goes_on {
                *status = Status { stopped: true, ..Status::default() };
            }
            goes_on
        });
        Box::pin(async move {
            if let Err(e) = self.0.raft.shutdown().await {
                tracing::warn!(error = %e, "raft core did not stop cleanly");
            }
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
        let lease = self.0.core.settings.election_max;
        let without_quorum = {
            let metrics = self.0.raft.metrics();
            let now = metrics.borrow_watched();
            // Who was never answered is not ready either, which tells as much.
            let acked = now.last_quorum_acked.is_some_and(|at| at.elapsed() > lease);
            let is_alone = now.membership_config.membership().voter_ids().count() <= 1;
            now.state == ServerState::Leader && acked && !is_alone
        };
        let announced = self.0.core.leaders.of(self.0.spec.group).map(|leader| leader.term);
        self.0.status.send_if_modified(|status| {
            let before = status.clone();
            status.without_quorum = without_quorum && status.leads;
            if status.without_quorum && announced > Some(status.term) {
                // The core has not heard of its successor: it is cut off, or waits for its disk.
                (status.leads, status.ready, status.without_quorum) = (false, false, false);
            }
            *status != before
        });
    }

    fn leader_left(&self, broker: BrokerId) {
        let status = self.0.status.borrow().clone();
        let Some(leader) = status.leader.filter(|leader| leader.broker == broker) else { return };
        let (group, stopping) = (Replica(self.0.clone()), self.0.core.stopping.clone());
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

/// SAFETY M12, for whatever names a term. `own` is 0 where no term is known yet.
pub(super) fn check_term(asked: u64, own: u64) -> Result<(), String> {
    if asked > TERM_MAX || (own > 0 && asked > own.saturating_add(TERM_JUMP_MAX)) {
        tracing::error!(asked, own, "an impossible term was refused");
        return Err(format!("term {asked} is too far above {own}"));
    }
    Ok(())
}

/// What openraft takes for granted of an append: its entries follow one another and the one before them,
/// and none is of a later term than the leader.
pub(super) fn check_append(request: &AppendEntriesRequest<Types>) -> Result<(), String> {
    if !request.vote.is_committed() {
        return Err("an append of one who was not elected".into());
    }
    let mut last = request.prev_log_id.as_ref().map(position);
    for entry in &request.entries {
        let at = position(&entry.log_id);
        let next = last.map_or(0, |last| last.index.0 + 1);
        if at.index.0 != next || last.is_some_and(|last| at.term < last.term) {
            return Err(format!("entry {at} cannot follow {last:?}"));
        }
        last = Some(at);
    }
    let leader = Term(request.vote.leader_id().term);
    match last.filter(|last| last.term > leader) {
        Some(last) => Err(format!("entry {last} is of a later term than its leader's {leader}")),
        None => Ok(()),
    }
}

/// What openraft asserts of a snapshot: it is no newer than its leader, and contradicts nothing that is committed.
fn check_snapshot(head: &SnapshotHead, committed: Option<&RaftLogId>) -> Result<(), String> {
    let Some(last) = head.last_log_id.as_ref().map(position) else { return Ok(()) };
    let leader = Term(head.vote.leader_id().term);
    if !head.vote.is_committed() || last.term > leader {
        return Err(format!("a snapshot at {last} cannot be of the leader of term {leader}"));
    }
    if head.membership.membership().voter_ids().next().is_none() {
        return Err(format!("a snapshot at {last} without voters"));
    }
    match committed.map(position) {
        Some(committed) if last > committed && last.index <= committed.index => {
            Err(format!("a snapshot at {last} contradicts the entry {committed}, which is committed here"))
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::{
        raft::types::{Peer, RaftEntry, log_id},
        types::{EntryPosition, LogIndex},
    };

    /// SAFETY M12.
    #[test]
    fn votes_with_impossible_terms_are_refused() {
        assert!(check_term(5, 4).is_ok());
        assert!(check_term(4, 5).is_ok());
        assert!(check_term(4 + TERM_JUMP_MAX, 4).is_ok());
        assert!(check_term(5 + TERM_JUMP_MAX, 4).is_err());
        assert!(check_term(TERM_MAX + 1, TERM_MAX).is_err());
        assert!(check_term(TERM_MAX, 0).is_ok(), "a replica that has seen nothing yet joins a group of any age");
        assert!(check_term(TERM_MAX + 1, 0).is_err());
    }

    fn at(term: u64, index: u64) -> RaftLogId {
        log_id(EntryPosition { term: Term(term), index: LogIndex(index) })
    }

    fn append(leader: u64, prev: Option<(u64, u64)>, entries: &[(u64, u64)]) -> AppendEntriesRequest<Types> {
        let entry = |(term, index)| RaftEntry { log_id: at(term, index), payload: openraft::EntryPayload::Blank };
        AppendEntriesRequest {
            vote: openraft::Vote::new_committed(leader, 1),
            prev_log_id: prev.map(|(term, index)| at(term, index)),
            leader_commit: None,
            entries: entries.iter().copied().map(entry).collect(),
        }
    }

    #[test]
    fn appends_that_no_leader_sends_are_refused() {
        assert_eq!(check_append(&append(3, None, &[])), Ok(()));
        assert_eq!(check_append(&append(3, None, &[(0, 0), (1, 1)])), Ok(()));
        assert_eq!(check_append(&append(3, Some((2, 7)), &[(2, 8), (3, 9)])), Ok(()));
        for (request, why) in [
            (append(3, None, &[(1, 1)]), "does not begin at the beginning"),
            (append(3, Some((2, 7)), &[(2, 9)]), "a gap before"),
            (append(3, Some((2, 7)), &[(2, 7)]), "the one before again"),
            (append(3, Some((2, 7)), &[(2, 8), (2, 10)]), "a gap within"),
            (append(3, Some((2, 7)), &[(1, 8)]), "a term that goes back"),
            (append(3, Some((2, 7)), &[(3, 8), (2, 9)]), "a term that goes back within"),
            (append(3, Some((2, 7)), &[(4, 8)]), "a term above its leader's"),
            (append(3, Some((4, 7)), &[]), "a term before it above its leader's"),
            (AppendEntriesRequest { vote: openraft::Vote::new(3, 1), ..append(3, None, &[]) }, "of a candidate"),
        ] {
            assert!(check_append(&request).is_err(), "{why}");
        }
    }

    #[test]
    fn snapshots_that_contradict_what_is_committed_are_refused() {
        let nodes = BTreeMap::from([(1, Peer { broker: BrokerId(1) })]);
        let membership = openraft::Membership::new(vec![BTreeSet::from([1])], nodes).unwrap();
        let head = |leader, last: (u64, u64)| SnapshotHead {
            vote: openraft::Vote::new_committed(leader, 1),
            last_log_id: Some(at(last.0, last.1)),
            membership: openraft::StoredMembership::new(Some(at(0, 0)), membership.clone()),
        };
        let committed = at(3, 10);
        assert_eq!(check_snapshot(&head(4, (4, 11)), Some(&committed)), Ok(()));
        assert_eq!(check_snapshot(&head(4, (2, 9)), Some(&committed)), Ok(()), "an older one is skipped");
        assert_eq!(check_snapshot(&head(4, (4, 9)), None), Ok(()));
        assert!(check_snapshot(&head(4, (4, 10)), Some(&committed)).is_err());
        assert!(check_snapshot(&head(4, (4, 9)), Some(&committed)).is_err());
        assert!(check_snapshot(&head(4, (5, 20)), Some(&committed)).is_err(), "newer than its leader");
        let nobody = SnapshotHead { membership: Default::default(), ..head(4, (4, 11)) };
        assert!(check_snapshot(&nobody, Some(&committed)).is_err());
    }
}
