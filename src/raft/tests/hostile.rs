//! Peers that say what no peer may, or too much of it. Their streams end or they are refused; nothing that
//! they send ends anything else.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream, stream::FuturesUnordered};
use openraft::{
    EntryPayload, Membership, RaftNetworkFactory, StoredMembership, Vote,
    network::{RPCOption, v2::RaftNetworkV2},
    raft::AppendEntriesRequest,
};
use tokio::time::{Instant, timeout};

use super::cluster::{Cluster, GROUP, Knobs, NEVER_ANSWERED, WITHIN, replica};
use crate::{
    raft::{
        CallError,
        link::Exchange,
        network::Factory,
        types::{Peer, RaftEntry, RaftLogId, RaftStoredMembership, RaftVote, Types, log_id},
        wire::{self, Announced, Frame, Kind, SnapshotHead, encode_control},
    },
    types::{BrokerId, ClusterId, EntryPosition, LogIndex, RaftGroupId, ReplicaId, TERM_MAX, Term},
};

fn at(term: u64, index: u64) -> RaftLogId {
    log_id(EntryPosition { term: Term(term), index: LogIndex(index) })
}

fn append(vote: RaftVote, prev: Option<RaftLogId>, entries: &[(u64, u64)]) -> AppendEntriesRequest<Types> {
    let entry = |(term, index)| RaftEntry { log_id: at(term, index), payload: EntryPayload::Blank };
    let entries = entries.iter().copied().map(entry).collect();
    AppendEntriesRequest { vote, prev_log_id: prev, leader_commit: None, entries }
}

/// A cluster whose leader can be spoken for.
struct Impostor {
    cluster: Cluster,
    leader: u64,
    victim: u64,
    term: u64,
}

impl Impostor {
    async fn new() -> Impostor {
        let cluster = Cluster::new().await;
        let last = cluster.write(1).await;
        for id in 1..=3 {
            cluster.wait_applied(id, last).await;
        }
        let leader = cluster.leader().await;
        let term = cluster.nodes[&leader].group.status().borrow().term.0;
        Impostor { cluster, leader, victim: leader % 3 + 1, term }
    }

    fn vote(&self) -> RaftVote {
        Vote::new_committed(self.term, replica(self.leader).0)
    }

    async fn open(&self) -> Exchange {
        let link = self.cluster.nodes[&self.leader].raft.0.links.link(BrokerId(self.victim)).unwrap();
        assert!(link.wait_up(WITHIN).await);
        link.open(4).unwrap()
    }

    fn address(&self) -> (RaftGroupId, ReplicaId, ReplicaId) {
        (GROUP, replica(self.leader), replica(self.victim))
    }

    /// What the victim answers; None: it ended the stream.
    async fn answer(&self, kind: Kind, body: Bytes) -> Option<Frame> {
        let mut exchange = self.open().await;
        exchange.send(kind, self.address(), body).await.unwrap();
        timeout(WITHIN, exchange.replies.recv()).await.expect("an answer, or the end")
    }

    /// The victim follows and applies as ever.
    async fn check_alive(&self, number: u64) {
        let last = self.cluster.write(number).await;
        self.cluster.wait_applied(self.victim, last).await;
        assert!(!self.cluster.nodes[&self.victim].group.status().borrow().stopped);
    }
}

/// SAFETY M12, M15: openraft takes all of this for granted, and its log store would stop the broker.
#[tokio::test]
async fn appends_that_no_leader_sends_end_the_stream_and_nothing_else() {
    let impostor = Impostor::new().await;
    let (term, vote) = (impostor.term, impostor.vote());
    let far = at(term, 1 << 63);
    for (number, request) in (2..).zip([
        append(vote, None, &[(term, 7)]),
        append(vote, Some(at(term, 1)), &[(term, 2), (term, 4)]),
        append(vote, Some(at(term, 1)), &[(term, 2), (term - 1, 3)]),
        append(vote, Some(at(term, 1)), &[(term + 1, 2)]),
        append(vote, Some(far), &[]),
        append(Vote::new_committed(TERM_MAX + 1, replica(impostor.leader).0), None, &[]),
        append(Vote::new(term, replica(impostor.leader).0), None, &[]),
    ]) {
        let said = format!("{request:?}");
        assert_eq!(impostor.answer(Kind::Append, wire::encode_append(request)).await, None, "{said}");
        impostor.check_alive(number).await;
    }
}

/// SAFETY M12.
#[tokio::test]
async fn terms_that_leap_are_refused_whatever_names_them() {
    let impostor = Impostor::new().await;
    let leap = impostor.term + (1 << 21);
    let vote = Vote::new_committed(leap, replica(impostor.leader).0);
    let transfer = openraft::raft::TransferLeaderRequest::new(vote, replica(impostor.victim).0, None);
    let head = SnapshotHead { vote, last_log_id: Some(at(leap, 100)), membership: membership() };
    for (kind, body) in [
        (Kind::Append, wire::encode_append(append(vote, None, &[]))),
        (Kind::Transfer, wire::encode_transfer(&transfer)),
    ] {
        let refused = impostor.answer(kind, body).await.expect("an answer");
        assert_eq!(refused.kind, Kind::Failed, "{kind:?}");
        assert!(String::from_utf8_lossy(&refused.body).contains("too far above"), "{refused:?}");
    }
    let refused = install(&impostor, &head, Bytes::new()).await;
    assert!(refused.contains("too far above"), "{refused}");
    impostor.check_alive(2).await;
    assert_eq!(impostor.cluster.nodes[&impostor.victim].group.status().borrow().term.0, impostor.term);
}

fn membership() -> RaftStoredMembership {
    let nodes =
        (1..=3).map(|id| (replica(id).0, Peer { broker: BrokerId(id) })).collect::<std::collections::BTreeMap<_, _>>();
    let voters = nodes.keys().copied().collect();
    StoredMembership::new(Some(at(0, 0)), Membership::new(vec![voters], nodes).unwrap())
}

/// Why the victim refused a snapshot.
async fn install(impostor: &Impostor, head: &SnapshotHead, state: Bytes) -> String {
    let mut exchange = impostor.open().await;
    exchange.send(Kind::SnapshotHead, impostor.address(), wire::encode_snapshot_head(head)).await.unwrap();
    exchange.send(Kind::SnapshotEnd, impostor.address(), state).await.unwrap();
    let refused = timeout(WITHIN, exchange.replies.recv()).await.expect("an answer").expect("the stream goes on");
    assert_eq!(refused.kind, Kind::Failed);
    String::from_utf8_lossy(&refused.body).into_owned()
}

/// openraft asserts what the first of these break; the last one would have stopped the core for good.
#[tokio::test]
async fn snapshots_that_cannot_be_are_refused_and_stop_nothing() {
    let impostor = Impostor::new().await;
    let (term, vote) = (impostor.term, impostor.vote());
    let committed = impostor.cluster.nodes[&impostor.victim].group.applied().borrow().unwrap().0;
    let head = |last| SnapshotHead { vote, last_log_id: Some(last), membership: membership() };
    let nobody = SnapshotHead { membership: StoredMembership::default(), ..head(at(term, committed + 9)) };
    let next_vote = Vote::new_committed(term + 1, replica(impostor.leader).0);
    let contradicts = SnapshotHead { vote: next_vote, ..head(at(term + 1, committed)) };
    for (head, state, why) in [
        (head(at(term + 1, committed + 9)), &[0; 8][..], "cannot be of the leader"),
        (contradicts, &[0; 8], "contradicts"),
        (nobody, &[0; 8], "without voters"),
        (head(at(term, committed + 9)), &[0; 9], "malformed"),
    ] {
        let refused = install(&impostor, &head, Bytes::copy_from_slice(state)).await;
        assert!(refused.contains(why), "{refused}");
    }
    impostor.check_alive(2).await;
}

/// SAFETY M10, M12: an epoch is made of what is announced, and clients are sent there.
#[tokio::test]
async fn announcements_are_believed_only_of_members_and_of_possible_terms() {
    let impostor = Impostor::new().await;
    let (leader, victim) = (&impostor.cluster.nodes[&impostor.leader], &impostor.cluster.nodes[&impostor.victim]);
    let link = leader.raft.0.links.link(BrokerId(impostor.victim)).unwrap();
    let known = victim.raft.leader_of(GROUP);
    let says = |group, term, id| {
        let said = Announced { group, term: Term(term), replica: ReplicaId(id) };
        link.tell(Kind::Announce, encode_control(&[said].as_slice()));
    };
    says(GROUP, impostor.term + 1, 4_711);
    says(GROUP, impostor.term + (1 << 21), replica(impostor.leader).0);
    let other = RaftGroupId(77);
    says(other, 5, 4_712);
    timeout(WITHIN, async {
        while victim.raft.leader_of(other).is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("what may be is believed, and it was said last");
    assert_eq!(victim.raft.leader_of(GROUP), known);
    let mut exchange = impostor.open().await;
    let said = Announced { group: RaftGroupId(78), term: Term(TERM_MAX + 1), replica: ReplicaId(1) };
    exchange.send(Kind::Announce, impostor.address(), encode_control(&[said].as_slice())).await.unwrap();
    assert_eq!(timeout(WITHIN, exchange.replies.recv()).await.expect("the stream ends"), None);
    assert_eq!(victim.raft.leader_of(RaftGroupId(78)), None);
    impostor.check_alive(2).await;
}

/// Calls of the layers above may take long. Appends, votes and pings of the same peer do not wait for them.
#[tokio::test]
async fn calls_that_hang_hold_up_nothing_else_of_their_peer() {
    const TOO_MANY: usize = 300;
    const WORKED_ON: usize = 256;
    let cluster = Cluster::new().await;
    cluster.write(1).await;
    let (from, to) = (&cluster.nodes[&1].raft, BrokerId(2));
    let call = || from.call(to, Bytes::from_static(NEVER_ANSWERED), WITHIN);
    let mut calls: FuturesUnordered<_> = (0..TOO_MANY).map(|_| call()).collect();
    for _ in WORKED_ON..TOO_MANY {
        let ended = timeout(WITHIN, calls.next()).await.expect("too many are refused at once").unwrap();
        assert!(matches!(ended, Err(CallError::Busy(_))), "{ended:?}");
    }
    let began = Instant::now();
    let mut number = 2;
    while began.elapsed() < Duration::from_secs(2) {
        let last = cluster.write(number).await;
        cluster.wait_applied(2, last).await;
        assert!(from.peer_alive(to), "it answers pings");
        number += 1;
    }
}

/// openraft reads entries from disk before it hands them over: for a peer that is away it must not.
#[tokio::test]
async fn nothing_is_read_for_a_peer_without_a_link() {
    let cluster = Cluster::new().await;
    let parts = &cluster.nodes[&1].raft.0;
    let mut factory = Factory {
        links: parts.links.clone(),
        hosted: parts.hosted.clone(),
        group: GROUP,
        replica: replica(1),
        matches: Default::default(),
    };
    let mut network = factory.new_client(999, &Peer { broker: BrokerId(9) }).await;
    let input = stream::poll_fn(|_| -> std::task::Poll<Option<AppendEntriesRequest<Types>>> {
        panic!("the log is read for nobody");
    });
    let ended = network.stream_append(input, RPCOption::new(WITHIN)).await;
    assert!(ended.is_err());
}

/// SAFETY B5: while a node does not know its cluster it talks to whoever answers. Once it does, streams of
/// other clusters must not go on, whoever began them.
#[tokio::test]
async fn streams_between_clusters_end_once_they_know_what_they_are() {
    let cluster = Cluster::with(Knobs { cluster: None, ..Knobs::default() }).await;
    cluster.write(1).await;
    for (id, named) in [(1, 8), (2, 9), (3, 8)] {
        cluster.nodes[&id].raft.set_cluster(ClusterId(named));
    }
    let linked = |from: u64, to: u64| cluster.nodes[&from].raft.peer_alive(BrokerId(to));
    timeout(WITHIN, async {
        while linked(1, 2) || linked(2, 1) || linked(2, 3) || linked(3, 2) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("strangers are parted");
    cluster.write_but(Some(2), 2).await;
    assert!(linked(1, 3) && linked(3, 1), "those of one cluster go on");
}
