//! Reads at a leader that was deposed while it was frozen (SAFETY M17).

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, poll};
use openraft::raft::{TransferLeaderRequest, VoteRequest, VoteResponse};
use tokio::{sync::watch, time::timeout};

use super::cluster::{Cluster, GROUP, WITHIN};
use crate::{
    raft::{
        member::{AppendReplies, AppendStream, Member},
        types::{RaftVote, Types, vote_parts},
        wire::SnapshotHead,
    },
    types::{BrokerId, ReplicaId, Term},
};

/// What a test does to the traffic of one replica.
#[derive(Clone)]
struct Gate(watch::Sender<Held>);

#[derive(Clone, Copy, Default, PartialEq)]
struct Held {
    /// Answers to appends of this term stay here, and what follows them on their stream is not looked at.
    answers_of: Option<u64>,
    /// It grants no votes, and hears nothing of later terms than this.
    deaf_above: Option<u64>,
}

struct Gated {
    inner: Arc<dyn Member>,
    gate: Gate,
}

impl Member for Gated {
    fn vote(&self, request: VoteRequest<Types>, pre: bool) -> BoxFuture<'_, Result<VoteResponse<Types>, String>> {
        match self.gate.0.borrow().deaf_above {
            Some(_) => Box::pin(std::future::ready(Err("deaf".into()))),
            None => self.inner.vote(request, pre),
        }
    }

    fn appends(&self, requests: AppendStream) -> BoxFuture<'_, AppendReplies> {
        let (term, gate) = (Arc::new(AtomicU64::new(0)), self.gate.clone());
        let (seen, deaf) = (term.clone(), self.gate.clone());
        let heard = requests.filter(move |request| {
            let (term, _, _) = vote_parts(&request.vote);
            seen.store(term, Ordering::SeqCst);
            std::future::ready(deaf.0.borrow().deaf_above.is_none_or(|above| term <= above))
        });
        Box::pin(async move {
            let answers = self.inner.appends(Box::pin(heard)).await;
            let held = answers.then(move |answer| {
                let (term, mut gate) = (term.load(Ordering::SeqCst), gate.0.subscribe());
                async move {
                    let _ = gate.wait_for(|held| held.answers_of != Some(term)).await;
                    answer
                }
            });
            Box::pin(held) as AppendReplies
        })
    }

    fn install(&self, head: SnapshotHead, state: Bytes) -> BoxFuture<'_, Result<RaftVote, String>> {
        self.inner.install(head, state)
    }

    fn transfer(&self, request: TransferLeaderRequest<Types>) -> BoxFuture<'_, Result<(), String>> {
        self.inner.transfer(request)
    }

    fn term(&self) -> u64 {
        self.inner.term()
    }

    fn has_member(&self, replica: ReplicaId, broker: BrokerId) -> Option<bool> {
        self.inner.has_member(replica, broker)
    }

    fn check_quorum(&self) {
        self.inner.check_quorum();
    }

    fn leader_left(&self, broker: BrokerId) {
        self.inner.leader_left(broker);
    }

    fn follows(&self, term: Term, leader: ReplicaId) -> BoxFuture<'_, Result<bool, String>> {
        self.inner.follows(term, leader)
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        self.inner.stop()
    }
}

/// Behind a gate from the first append on.
fn gated(cluster: &Cluster, id: u64) -> Gate {
    let gate = Gate(watch::Sender::default());
    let mut hosted = cluster.nodes[&id].raft.0.hosted.write();
    let here = hosted.get_mut(&GROUP).unwrap();
    here.member = Arc::new(Gated { inner: here.member.clone(), gate: gate.clone() });
    gate
}

/// The answers to an append lie in the sockets of a leader that is frozen; meanwhile another is elected and
/// commits. When the old one goes on, a read begins *before* it sees these answers: they must not confirm it.
#[tokio::test]
async fn m17_answers_from_before_a_read_do_not_confirm_it() {
    let cluster = Cluster::without_members().await;
    let gates = [1, 2, 3].map(|id| gated(&cluster, id));
    let gate = |id: u64| &gates[id as usize - 1];
    cluster.nodes[&1].group.initialize().await.unwrap();
    let last = cluster.write(1).await;
    for id in 1..=3 {
        cluster.wait_applied(id, last).await;
    }
    let old = cluster.leader().await;
    let group = &cluster.nodes[&old].group;
    let term = group.status().borrow().term;
    let others = [1, 2, 3].into_iter().filter(|id| *id != old).collect::<Vec<u64>>();
    // Frozen: it hears nothing new, and what it was answered waits.
    gate(old).0.send_modify(|held| held.deaf_above = Some(term.0));
    for other in &others {
        gate(*other).0.send_modify(|held| held.answers_of = Some(term.0));
    }
    let written = group.propose(term, Bytes::copy_from_slice(&2u64.to_be_bytes())).await;
    let successor = {
        let elected = others.iter().map(|id| {
            let (id, mut status) = (*id, cluster.nodes[id].group.status());
            Box::pin(async move {
                status.wait_for(|status| status.ready && status.term > term).await.unwrap();
                id
            })
        });
        timeout(WITHIN, futures_util::future::select_all(elected)).await.expect("another leader in time").0
    };
    let committed = {
        let group = &cluster.nodes[&successor].group;
        let term = group.status().borrow().term;
        let written = group.propose(term, Bytes::copy_from_slice(&3u64.to_be_bytes())).await;
        written.await.expect("a leader with a majority").0
    };
    let mut reading = Box::pin(group.read_index());
    assert!(poll!(&mut reading).is_pending());
    // The core takes its requests in order: by now the read has begun.
    group.0.raft.with_raft_state(|_| ()).await.unwrap();
    let other = *others.iter().find(|id| **id != successor).unwrap();
    gate(other).0.send_modify(|held| held.answers_of = None);
    let (at, _) = written.await.expect("the answer of one follower commits it");
    gate(successor).0.send_modify(|held| held.answers_of = None);
    let read = reading.await;
    assert!(read.is_err(), "a leader of {term} read at {read:?} after {committed} was committed; it wrote {at}");
}
