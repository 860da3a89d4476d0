//! Transfers whose caller goes away, and several at once (SAFETY B2, M18).

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::cluster::{Cluster, GROUP, Knobs, WITHIN};
use crate::{
    raft::{ProposalEnd, Refusal, TransferError},
    types::BrokerId,
};

/// Long enough for a transfer to begin, and shorter than it waits for a voter to catch up.
const SHORT: Duration = Duration::from_millis(50);

async fn with_a_dead_voter() -> (Cluster, u64, BrokerId) {
    let mut cluster = Cluster::new().await;
    cluster.write(1).await;
    let leader = cluster.leader().await;
    let dead = if leader == 3 { 2 } else { 3 };
    cluster.kill(dead).await;
    (cluster, leader, BrokerId(dead))
}

/// A handler is dropped when its client hangs up: what it paused must not stay so.
#[tokio::test]
async fn a_transfer_that_is_cancelled_leaves_the_group_writable() {
    let (cluster, leader, dead) = with_a_dead_voter().await;
    let group = &cluster.nodes[&leader].group;
    let moving = group.transfer_leader(Some(dead), WITHIN);
    assert!(timeout(SHORT, moving).await.is_err(), "a dead voter does not catch up");
    cluster.write(2).await;
    assert_eq!(cluster.leader().await, leader);
}

#[tokio::test]
async fn one_of_two_transfers_that_ends_does_not_end_the_pause_of_the_other() {
    let (cluster, leader, dead) = with_a_dead_voter().await;
    let group = &cluster.nodes[&leader].group;
    let first = async {
        let ended = group.transfer_leader(Some(dead), SHORT).await;
        assert!(matches!(ended, Err(TransferError::NoCandidate)), "{ended:?}");
        let term = group.status().borrow().term;
        let outcome = group.propose(term, bytes::Bytes::new()).await.await;
        assert!(matches!(outcome, Err(ProposalEnd::Refused(Refusal::Transferring))), "{outcome:?}");
    };
    let (_, second) = tokio::join!(first, group.transfer_leader(Some(dead), WITHIN));
    assert!(matches!(second, Err(TransferError::NoCandidate)), "{second:?}");
    cluster.write(2).await;
}

/// Nothing takes a request back once it is out: if nobody watched it, the leader would refuse writes until
/// its followers lose patience.
#[tokio::test]
async fn a_transfer_that_is_cancelled_after_its_request_went_out_is_still_watched() {
    let cluster = Cluster::new().await;
    let last = cluster.write(1).await;
    for id in 1..=3 {
        cluster.wait_applied(id, last).await;
    }
    let from = cluster.leader().await;
    let to = if from == 1 { 2 } else { 1 };
    let target = &cluster.nodes[&to].raft.0.hosted;
    let hidden = target.write().remove(&GROUP).unwrap();
    let group = &cluster.nodes[&from].group;
    assert!(timeout(SHORT, group.transfer_leader(Some(BrokerId(to)), WITHIN)).await.is_err());
    let term = group.status().borrow().term;
    let outcome = group.propose(term, bytes::Bytes::new()).await.await;
    assert!(matches!(outcome, Err(ProposalEnd::Refused(Refusal::Transferring))), "still under way: {outcome:?}");
    target.write().insert(GROUP, hidden);
    cluster.write(2).await;
    timeout(WITHIN, async {
        while group.0.paused.load(std::sync::atomic::Ordering::Acquire) > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("nobody is paused once it is over");
}

/// SAFETY M2: what a core drops unread because it stops was never proposed. Who proposes is told in time that it
/// stops, and what comes later is refused.
#[tokio::test]
async fn f4_a_replica_that_is_closed_refuses_what_it_can_no_longer_append() {
    let cluster = Cluster::new().await;
    cluster.write(1).await;
    let leader = cluster.leader().await;
    let node = &cluster.nodes[&leader];
    let (group, term) = (node.group.clone(), node.group.status().borrow().term);
    node.raft.close(GROUP).await;
    assert!(group.status().borrow().stopped, "who watches its status knows, as soon as it is closed");
    let outcome = group.propose(term, bytes::Bytes::new()).await.await;
    assert!(matches!(outcome, Err(ProposalEnd::Refused(Refusal::NotLeader))), "{outcome:?}");
}

/// A core that has ended by itself cannot have appended what it never had.
#[tokio::test]
async fn f4_a_core_that_has_ended_refuses() {
    let cluster = Cluster::new().await;
    cluster.write(1).await;
    let group = cluster.nodes[&cluster.leader().await].group.clone();
    let term = group.status().borrow().term;
    group.break_core().await;
    let mut status = group.status();
    timeout(WITHIN, status.wait_for(|status| status.stopped)).await.expect("it is noticed").expect("watched");
    let outcome = group.propose(term, bytes::Bytes::new()).await.await;
    assert!(matches!(outcome, Err(ProposalEnd::Refused(Refusal::NotLeader))), "{outcome:?}");
}

/// Nobody campaigns by itself within the tests' time.
const PATIENT: Duration = Duration::from_secs(60);

/// A caught-up cluster, its leader and its followers, of which the first is alive, and hears nothing of what it is
/// asked in this group.
async fn with_a_deaf_candidate() -> (Cluster, u64, Vec<u64>) {
    // The first leader is elected at once, by who initialises the group.
    let cluster = Cluster::with(Knobs { elections: [PATIENT, PATIENT * 5 / 4], ..Knobs::default() }).await;
    let last = cluster.write(1).await;
    for id in 1..=3 {
        cluster.wait_applied(id, last).await;
    }
    let leader = cluster.leader().await;
    // Its books come after their logs: one that is behind in them would be no candidate.
    timeout(WITHIN, async {
        while cluster.nodes[&leader].group.followers_behind().iter().any(|(_, entries)| *entries > 0) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the leader knows that all have it");
    let followers: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    cluster.nodes[&followers[0]].raft.0.hosted.write().remove(&GROUP).expect("it runs there");
    (cluster, leader, followers)
}

/// SAFETY B2: openraft sends its request once, and refuses writes until somebody leads. The link to the first
/// candidate is cut after it was chosen: the next one is asked.
#[tokio::test(flavor = "multi_thread")]
async fn b2_the_next_candidate_is_asked_when_the_first_hears_nothing() {
    let (cluster, leader, followers) = with_a_deaf_candidate().await;
    let began = Instant::now();
    let moved = timeout(WITHIN, cluster.nodes[&leader].group.transfer_leader(None, WITHIN)).await;
    assert_eq!(moved.expect("in time").expect("moved").broker, BrokerId(followers[1]));
    assert!(began.elapsed() < PATIENT / 4, "it was an election: {:?}", began.elapsed());
    cluster.write(2).await;
}

/// SAFETY B2: the one voter that was asked for hears nothing. The deadline passes, and any other voter is asked:
/// nothing takes the first request back, and somebody must lead in the end.
#[tokio::test(flavor = "multi_thread")]
async fn b2_any_voter_is_asked_in_the_end_when_the_one_asked_for_hears_nothing() {
    let (cluster, leader, followers) = with_a_deaf_candidate().await;
    let began = Instant::now();
    let to = Some(BrokerId(followers[0]));
    let moved = cluster.nodes[&leader].group.transfer_leader(to, Duration::from_secs(1)).await;
    assert!(matches!(moved, Err(TransferError::TimedOut(_))), "{moved:?}");
    cluster.write(2).await;
    assert!(began.elapsed() < PATIENT / 4, "it was an election: {:?}", began.elapsed());
    assert_eq!(cluster.leader().await, followers[1]);
}
