//! Disks that do not answer for a while (SAFETY M14, M16).

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use openraft::raft::VoteRequest;
use tokio::time::{Instant, timeout};

use super::cluster::{Cluster, GROUP, Knobs, WITHIN, replica};
use crate::{
    raft::wire::{self, Kind},
    storage::sim::SimFault,
    types::{BrokerId, ClusterId},
};

/// Ticks come every 4 ms: 1,024 of them fit into 4.2 s.
const KNOBS: Knobs = Knobs {
    heartbeat: Duration::from_millis(20),
    elections: [Duration::from_millis(150), Duration::from_millis(300)],
    queue_bytes_max: 4 << 10,
    cluster: Some(ClusterId(7)),
};

/// Longer than a queue of 1,024 ticks lasts.
const STALL: Duration = Duration::from_secs(6);

/// Writes on whoever leads but `stalled` until its disk has stalled for so long.
async fn write_meanwhile(cluster: &Cluster, stalled: u64, since: Instant) {
    let mut number = 1_000;
    while since.elapsed() < STALL {
        cluster.write_but(Some(stalled), number).await;
        number += 1;
    }
}

/// Its core waits for a vote to be durable, and then tells itself so through a queue that ticks fill.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_whose_disk_stalls_through_an_election_goes_on_afterwards() {
    let cluster = Cluster::with(KNOBS).await;
    cluster.write(1).await;
    let leader = cluster.leader().await;
    let (stalled, next) = if leader == 1 { (2, 3) } else { (1, 5 - leader) };
    let began = Instant::now();
    cluster.disks[&stalled].plant(SimFault::StallsCommits);
    let moved = cluster.nodes[&leader].group.transfer_leader(Some(BrokerId(next)), WITHIN).await;
    assert_eq!(moved.expect("two of three agree").broker, BrokerId(next));
    write_meanwhile(&cluster, stalled, began).await;
    cluster.disks[&stalled].heal();
    let last = cluster.write_but(Some(stalled), 2).await;
    cluster.wait_applied(stalled, last).await;
}

/// Its core waits for room in the writer's queue. Others lead meanwhile, and what they say comes first
/// when it goes on: a vote to be saved, and told itself of through the same queue.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_disk_stalls_follows_others_afterwards() {
    let cluster = Cluster::with(KNOBS).await;
    cluster.write(1).await;
    let stalled = cluster.leader().await;
    let began = Instant::now();
    cluster.disks[&stalled].plant(SimFault::StallsCommits);
    let group = &cluster.nodes[&stalled].group;
    let term = group.status().borrow().term;
    // Each alone more than the queue's bound: the second waits, and with it the core.
    for number in 10..20u64 {
        let mut command = number.to_be_bytes().to_vec();
        command.resize(2 * KNOBS.queue_bytes_max, 0);
        let outcome = async { group.propose(term, command.into()).await.await };
        let _ = timeout(Duration::from_millis(50), outcome).await;
    }
    let next = cluster.leader_but(Some(stalled)).await;
    assert_ne!(next, stalled);
    write_meanwhile(&cluster, stalled, began).await;
    cluster.disks[&stalled].heal();
    let last = cluster.write_but(Some(stalled), 2).await;
    cluster.wait_applied(stalled, last).await;
}

/// As when a broker dies that led a thousand groups: they all elect in the same moment, and each vote waits for
/// the disk. None may be turned away: its candidate would try again only an election timeout later.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_votes_at_once_all_get_their_answer() {
    let cluster = Cluster::new().await;
    cluster.write(1).await;
    let (from, to) = (cluster.leader().await, cluster.leader().await % 3 + 1);
    let raft = &cluster.nodes[&from].raft;
    let link = raft.0.links.link(BrokerId(to)).unwrap();
    let ask = |term: u64| {
        let vote = openraft::Vote::new(term, replica(from).0);
        let request = VoteRequest { vote, last_log_id: None, leadership_transfer: false };
        let body = wire::encode_vote_request(&request);
        link.request(Kind::Vote, (GROUP, replica(from), replica(to)), body, WITHIN)
    };
    let term = cluster.nodes[&from].group.status().borrow().term.0;
    cluster.disks[&to].plant(SimFault::StallsCommits);
    let answers = join_all((1..=1_000).map(|n| ask(term + n)));
    let healed = async {
        // It comes behind all of them.
        raft.call(BrokerId(to), Bytes::from_static(b"hello"), WITHIN).await.expect("the stream goes on");
        cluster.disks[&to].heal();
    };
    let (answers, ()) = tokio::join!(answers, healed);
    let refused = answers.iter().filter(|answer| !matches!(answer, Ok(frame) if frame.kind == Kind::VoteReply));
    assert_eq!(refused.count(), 0, "of {}", answers.len());
}

/// SAFETY M16: whoever closes a replica is not held up by its core.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_closed_in_bounded_time_although_its_disk_stalls() {
    let cluster = Cluster::with(KNOBS).await;
    cluster.write(1).await;
    let leader = cluster.leader().await;
    let (stalled, next) = if leader == 1 { (2, 3) } else { (1, 5 - leader) };
    cluster.disks[&stalled].plant(SimFault::StallsCommits);
    cluster.nodes[&leader].group.transfer_leader(Some(BrokerId(next)), WITHIN).await.expect("two of three agree");
    cluster.write_but(Some(stalled), 2).await;
    timeout(WITHIN, cluster.nodes[&stalled].raft.close(GROUP)).await.expect("it is given up");
    cluster.disks[&stalled].heal();
    cluster.write_but(Some(stalled), 3).await;
}

/// SAFETY M14: who stalls is no candidate for anything, and everybody knows; its stream stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_disk_stalls_counts_as_dead_until_it_is_back() {
    let cluster = Cluster::new().await;
    cluster.write(1).await;
    let stalled = BrokerId(cluster.leader().await % 3 + 1);
    let others: Vec<_> = cluster.nodes.iter().filter(|(id, _)| **id != stalled.0).map(|(_, node)| &node.raft).collect();
    let wait = async |is_alive: bool| {
        timeout(WITHIN, async {
            while others.iter().any(|raft| raft.peer_alive(stalled) != is_alive) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    };
    wait(true).await.expect("all are linked");
    cluster.disks[&stalled.0].plant(SimFault::StallsCommits);
    cluster.write_but(Some(stalled.0), 2).await;
    wait(false).await.expect("it says that it stalls");
    assert!(cluster.nodes[&stalled.0].raft.is_stalled());
    cluster.disks[&stalled.0].heal();
    wait(true).await.expect("it answers again");
}

/// What waits at a core that waits for its disk is bounded: heartbeats come several times a second.
#[tokio::test(flavor = "multi_thread")]
async fn appends_to_a_replica_that_answers_none_are_refused_in_the_end() {
    const ENOUGH: usize = 80;
    let cluster = Cluster::with(KNOBS).await;
    cluster.write(1).await;
    let leader = cluster.leader().await;
    let (stalled, next) = if leader == 1 { (2, 3) } else { (1, 5 - leader) };
    cluster.disks[&stalled].plant(SimFault::StallsCommits);
    cluster.nodes[&leader].group.transfer_leader(Some(BrokerId(next)), WITHIN).await.expect("two of three agree");
    let link = cluster.nodes[&next].raft.0.links.link(BrokerId(stalled)).unwrap();
    let term = cluster.nodes[&next].group.status().borrow().term.0;
    let vote = openraft::Vote::new_committed(term, replica(next).0);
    let heartbeat =
        openraft::raft::AppendEntriesRequest { vote, prev_log_id: None, leader_commit: None, entries: vec![] };
    let body = wire::encode_append(heartbeat);
    let mut exchanges = vec![];
    for _ in 0..ENOUGH {
        let mut exchange = link.open(1).unwrap();
        exchange.send(Kind::Append, (GROUP, replica(next), replica(stalled)), body.clone()).await.unwrap();
        exchanges.push(exchange);
    }
    let last = exchanges.last_mut().unwrap();
    assert_eq!(
        timeout(WITHIN, last.replies.recv()).await.expect("an answer").expect("the stream goes on").kind,
        Kind::Busy
    );
    cluster.disks[&stalled].heal();
    let last = cluster.write_but(Some(stalled), 2).await;
    cluster.wait_applied(stalled, last).await;
}

/// SAFETY M13: a goodbye is certain, and nobody waits for the one who said it.
#[tokio::test(flavor = "multi_thread")]
async fn who_says_goodbye_is_replaced_at_once() {
    const PATIENT: Duration = Duration::from_secs(12);
    let mut cluster = Cluster::with(Knobs { elections: [PATIENT, PATIENT * 5 / 4], ..Knobs::default() }).await;
    let last = cluster.write(1).await;
    for id in 1..=3 {
        cluster.wait_applied(id, last).await;
    }
    let leader = cluster.leader().await;
    let left = cluster.nodes.remove(&leader).unwrap();
    let began = Instant::now();
    left.raft.shutdown().await;
    cluster.write(2).await;
    assert!(began.elapsed() < PATIENT / 2, "it was waited for: {:?}", began.elapsed());
}

/// SAFETY M7: openraft's leader goes on without a majority, and so would everybody who asks it.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_no_majority_answers_knows_it() {
    let mut cluster = Cluster::new().await;
    cluster.write(1).await;
    let leader = cluster.leader().await;
    assert!(!cluster.nodes[&leader].group.status().borrow().without_quorum);
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    cluster.kill(others[0]).await;
    cluster.write(2).await;
    assert!(!cluster.nodes[&leader].group.status().borrow().without_quorum, "two of three are a majority");
    cluster.kill(others[1]).await;
    let mut status = cluster.nodes[&leader].group.status();
    timeout(WITHIN, status.wait_for(|status| status.without_quorum)).await.expect("it notices").unwrap();
    cluster.start(others[0]).await;
    timeout(WITHIN, status.wait_for(|status| !status.without_quorum)).await.expect("it notices").unwrap();
}
