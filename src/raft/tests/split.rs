//! A vote that is split, which openraft gets over late where a longer log was seen.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use openraft::{
    Vote,
    raft::{TransferLeaderRequest, VoteRequest, VoteResponse},
};
use tokio::time::timeout;

use super::cluster::{Cluster, GROUP, WITHIN, replica};
use crate::{
    raft::{
        member::{AppendReplies, AppendStream, Member},
        types::{RaftVote, Types},
        wire::SnapshotHead,
    },
    types::{BrokerId, ReplicaId, Term},
};

/// A voter that has already voted for itself in the first term that it is asked for its vote in.
struct Rival {
    member: Arc<dyn Member>,
    id: ReplicaId,
    has_refused: AtomicBool,
}

impl Member for Rival {
    fn vote(&self, request: VoteRequest<Types>, pre: bool) -> BoxFuture<'_, Result<VoteResponse<Types>, String>> {
        if pre || self.has_refused.swap(true, SeqCst) {
            return self.member.vote(request, pre);
        }
        let own = Vote::new(request.vote.leader_id().term, self.id.0);
        Box::pin(std::future::ready(Ok(VoteResponse::new(own, request.last_log_id, false))))
    }

    fn appends(&self, requests: AppendStream) -> BoxFuture<'_, AppendReplies> {
        self.member.appends(requests)
    }

    fn install(&self, head: SnapshotHead, state: Bytes) -> BoxFuture<'_, Result<RaftVote, String>> {
        self.member.install(head, state)
    }

    fn transfer(&self, request: TransferLeaderRequest<Types>) -> BoxFuture<'_, Result<(), String>> {
        self.member.transfer(request)
    }

    fn follows(&self, term: Term, leader: ReplicaId) -> BoxFuture<'_, Result<bool, String>> {
        self.member.follows(term, leader)
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        self.member.stop()
    }

    fn term(&self) -> u64 {
        self.member.term()
    }

    fn has_member(&self, replica: ReplicaId, broker: BrokerId) -> Option<bool> {
        self.member.has_member(replica, broker)
    }

    fn check_quorum(&self) {
        self.member.check_quorum();
    }

    /// A kill says no goodbye.
    fn leader_left(&self, _broker: BrokerId) {}
}

/// R2: openraft's own timers stand still here, as they do for two of the longest election timeouts in one that saw a
/// longer log. Whoever may not campaign does not do so again either.
#[tokio::test(flavor = "multi_thread")]
async fn r2_a_candidate_that_nobody_elected_campaigns_again() {
    let mut cluster = Cluster::new().await;
    let last = cluster.write(1).await;
    for id in 1..=3 {
        cluster.wait_applied(id, last).await;
    }
    let old = cluster.leader().await;
    let (candidate, rival) = (old % 3 + 1, (old + 1) % 3 + 1);
    for id in [candidate, rival] {
        let inner = &cluster.nodes[&id].group.0;
        inner.raft.runtime_config().elect(false);
        let mut hosted = inner.core.hosted.write().unwrap();
        let here = hosted.get_mut(&GROUP).unwrap();
        let (member, has_refused) = (here.member.clone(), AtomicBool::new(false));
        here.member = Arc::new(Rival { member, id: replica(id), has_refused });
    }
    cluster.kill(old).await;
    let node = &cluster.nodes[&candidate];
    let mut status = node.group.status();
    node.raft.set_campaign(false);
    node.group.0.raft.trigger().elect(false).await.unwrap();
    // Three of its timeouts.
    let is_early = timeout(Duration::from_secs(3), status.wait_for(|status| status.leads)).await.is_ok();
    assert!(!is_early, "it may not campaign: {:?}", status.borrow());
    node.raft.set_campaign(true);
    let is_elected = timeout(WITHIN, status.wait_for(|status| status.leads)).await.is_ok();
    assert!(is_elected, "it gave up: {:?}", status.borrow());
    cluster.write(2).await;
    assert_eq!(cluster.numbers(candidate), [1, 2]);
}
