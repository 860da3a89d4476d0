use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture};
use openraft::raft::{TransferLeaderRequest, VoteRequest, VoteResponse};
use tokio::time::timeout;

use super::Journal;
use crate::{
    metrics::Metrics,
    raft::{
        NodeDeps, ProposalEnd, RaftNode, RaftSettings, Replica, ReplicaSpec,
        link::DIGEST_EVERY,
        member::{AppendReplies, AppendStream, Member},
        types::{RaftVote, Types},
        wire::{self, Kind, SnapshotHead},
    },
    seam::{Net, Rng, SystemClock, TcpNet},
    storage::{Kv, Store, StoreOptions, WriterProbe, sim::SimDisk},
    types::{BrokerId, ClusterId, LogIndex, RaftGroupId, ReplicaId, Term},
};

pub const GROUP: RaftGroupId = RaftGroupId(1);
/// A call that takes for ever.
pub const NEVER_ANSWERED: &[u8] = b"never answered";
/// Every wait of these tests; far above what a loaded machine needs.
pub const WITHIN: Duration = Duration::from_secs(20);

/// For what follows a connection at once.
const SOON: Duration = Duration::from_secs(4);

pub struct Node {
    pub raft: RaftNode,
    pub group: Replica<Journal>,
    address: String,
}

pub struct Cluster {
    pub disks: BTreeMap<u64, SimDisk>,
    pub nodes: BTreeMap<u64, Node>,
    knobs: Knobs,
}

/// What a test may want otherwise.
#[derive(Clone, Copy)]
pub struct Knobs {
    pub heartbeat: Duration,
    pub elections: [Duration; 2],
    pub queue_bytes_max: usize,
    /// That the nodes know to be theirs from the start.
    pub cluster: Option<ClusterId>,
}

impl Default for Knobs {
    fn default() -> Knobs {
        let [heartbeat, min, max] = [200, 600, 1_000].map(Duration::from_millis);
        Knobs {
            heartbeat,
            elections: [min, max],
            queue_bytes_max: StoreOptions::default().queue_bytes_max,
            cluster: Some(ClusterId(7)),
        }
    }
}

pub fn replica(id: u64) -> ReplicaId {
    ReplicaId(100 + id)
}

/// A node without groups, and where it listens.
pub async fn start_node(id: u64, kv: Arc<dyn Kv>, knobs: Knobs) -> (RaftNode, String) {
    let fail = Arc::new(|e: &_| eprintln!("the disk failed, as when it was crashed: {e:?}"));
    let options = StoreOptions { queue_bytes_max: knobs.queue_bytes_max, ..StoreOptions::default() };
    let store = Store::open(kv, options, WriterProbe::default(), fail);
    let store = store.await.unwrap();
    let listen = TcpNet.bind("127.0.0.1:0").await.unwrap();
    let address = listen.local_addr().unwrap().to_string();
    let deps = NodeDeps {
        store,
        net: Arc::new(TcpNet),
        clock: Arc::new(SystemClock),
        rng: Arc::new(Rng::seeded(id)),
        settings: RaftSettings {
            broker: BrokerId(id),
            cluster: knobs.cluster,
            advertised: String::new(),
            peer_override: BTreeMap::new(),
            heartbeat: knobs.heartbeat,
            election_min: knobs.elections[0],
            election_max: knobs.elections[1],
            metadata_snapshot_every: RaftSettings::METADATA_SNAPSHOT_EVERY,
        },
        listen,
        on_call: Arc::new(|_, request| {
            Box::pin(async move {
                match &request[..] {
                    NEVER_ANSWERED => std::future::pending().await,
                    _ => request,
                }
            })
        }),
        probe: Metrics::new().raft(),
    };
    (RaftNode::start(deps).await, address)
}

async fn start(id: u64, disk: &SimDisk, knobs: Knobs) -> Node {
    let (raft, address) = start_node(id, Arc::new(disk.open()), knobs).await;
    let initial = (1..=3).map(|id| (replica(id), BrokerId(id))).collect();
    let spec = ReplicaSpec { group: GROUP, replica: replica(id), initial };
    let group = raft.open(spec, Journal::default()).await.unwrap();
    Node { raft, group, address }
}

impl Cluster {
    pub async fn new() -> Cluster {
        Cluster::with(Knobs::default()).await
    }

    pub async fn with(knobs: Knobs) -> Cluster {
        let cluster = Cluster::uninitialized(knobs).await;
        cluster.nodes[&1].group.initialize().await.unwrap();
        cluster
    }

    /// Three nodes whose group is not initialized yet.
    pub async fn without_members() -> Cluster {
        Cluster::uninitialized(Knobs::default()).await
    }

    async fn uninitialized(knobs: Knobs) -> Cluster {
        let disks: BTreeMap<u64, SimDisk> = (1..=3).map(|id| (id, SimDisk::new(id))).collect();
        let mut cluster = Cluster { nodes: BTreeMap::new(), disks, knobs };
        for id in 1..=3 {
            cluster.start(id).await;
        }
        cluster
    }

    pub async fn start(&mut self, id: u64) {
        let node = start(id, &self.disks[&id], self.knobs).await;
        for (other, peer) in &self.nodes {
            peer.raft.set_peer(BrokerId(id), node.address.clone());
            node.raft.set_peer(BrokerId(*other), peer.address.clone());
        }
        self.nodes.insert(id, node);
    }

    /// As a kill: no goodbye, no transfer, un-synced bytes gone.
    pub async fn kill(&mut self, id: u64) {
        let node = self.nodes.remove(&id).unwrap();
        self.disks[&id].crash(id);
        node.raft.shutdown().await;
    }

    /// The node whose replica is leader-ready.
    pub async fn leader(&self) -> u64 {
        self.leader_but(None).await
    }

    /// Another node than this one, whose replica is leader-ready.
    pub async fn leader_but(&self, not: Option<u64>) -> u64 {
        let ready = |node: &Node| {
            let mut status = node.group.status();
            async move { status.wait_for(|status| status.ready).await.map(|_| ()).map_err(drop) }
        };
        let all: Vec<_> = self
            .nodes
            .iter()
            .filter(|(id, _)| Some(**id) != not)
            .map(|(id, node)| {
                let ready = ready(node);
                Box::pin(async move {
                    ready.await.unwrap();
                    *id
                })
            })
            .collect();
        timeout(WITHIN, futures_util::future::select_all(all)).await.expect("a leader in time").0
    }

    /// Proposes on whoever leads until one is applied.
    pub async fn write(&self, number: u64) -> LogIndex {
        self.write_but(None, number).await
    }

    /// The same, on whoever leads but this one.
    pub async fn write_but(&self, not: Option<u64>, number: u64) -> LogIndex {
        timeout(WITHIN, async {
            loop {
                let group = &self.nodes[&self.leader_but(not).await].group;
                let term = group.status().borrow().term;
                match group.propose(term, Bytes::copy_from_slice(&number.to_be_bytes())).await.await {
                    Ok((at, _)) => return at.index,
                    Err(ProposalEnd::Refused(_)) => tokio::task::yield_now().await,
                    Err(ProposalEnd::Unknown) => panic!("the test would not know what to expect"),
                }
            }
        })
        .await
        .expect("a write in time")
    }

    pub async fn wait_applied(&self, id: u64, index: LogIndex) {
        let mut applied = self.nodes[&id].group.applied();
        timeout(WITHIN, applied.wait_for(|at| *at >= Some(index))).await.expect("applied in time").unwrap();
    }

    pub fn numbers(&self, id: u64) -> Vec<u64> {
        self.nodes[&id].group.read(|journal| journal.numbers.clone())
    }
}

#[tokio::test]
async fn three_replicas_agree_and_receipts_name_a_majority() {
    let cluster = Cluster::new().await;
    let mut last = LogIndex(0);
    for number in 0..100 {
        last = cluster.write(number).await;
        let leader = cluster.leader().await;
        let durable = cluster.nodes[&leader].group.durable_on(last);
        assert!(durable.len() >= 2, "only {durable:?} hold entry {last} that was acknowledged");
    }
    for id in 1..=3 {
        cluster.wait_applied(id, last).await;
        assert_eq!(cluster.numbers(id), (0..100).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_the_leader_dies_again_and_again() {
    let mut cluster = Cluster::new().await;
    let mut last = LogIndex(0);
    for round in 0..4 {
        for number in 0..20 {
            last = cluster.write(round * 20 + number).await;
        }
        let leader = cluster.leader().await;
        cluster.kill(leader).await;
        last = last.max(cluster.write(1_000 + round).await);
        cluster.start(leader).await;
    }
    let expected: Vec<u64> = (0..4).flat_map(|round| (round * 20..round * 20 + 20).chain([1_000 + round])).collect();
    for id in 1..=3 {
        cluster.wait_applied(id, last).await;
        assert_eq!(cluster.numbers(id), expected, "node {id}");
    }
}

/// SAFETY B2.
#[tokio::test]
async fn leadership_moves_to_the_voter_asked_for() {
    let cluster = Cluster::new().await;
    cluster.write(1).await;
    for to in [2, 3, 1, 2] {
        let from = cluster.leader().await;
        if from == to {
            continue;
        }
        let moved = cluster.nodes[&from].group.transfer_leader(Some(BrokerId(to)), WITHIN).await.unwrap();
        assert_eq!(moved.broker, BrokerId(to));
        cluster.write(to).await;
    }
}

/// SAFETY B5: a frame for a replica that this node does not host does nothing.
#[tokio::test]
async fn a_former_self_gets_no_frames() {
    let cluster = Cluster::new().await;
    let last = cluster.write(1).await;
    cluster.wait_applied(3, last).await;
    let link = cluster.nodes[&1].raft.0.links.link(BrokerId(3)).unwrap();
    let vote = openraft::raft::VoteRequest::new(openraft::Vote::new(1_000, 101), None);
    let address = (GROUP, replica(1), ReplicaId(4_711));
    let body = wire::encode_vote_request(&vote);
    let reply = link.request(Kind::Vote, address, body, WITHIN).await.unwrap();
    assert_eq!(reply.kind, Kind::Failed);
    assert!(String::from_utf8_lossy(&reply.body).contains("no such replica"));
    assert!(cluster.nodes[&3].group.status().borrow().term.0 < 1_000);
}

#[tokio::test]
async fn calls_are_answered_and_a_dead_peer_is_noticed() {
    let mut cluster = Cluster::new().await;
    cluster.write(1).await;
    let answer = cluster.nodes[&1].raft.call(BrokerId(2), Bytes::from_static(b"hello"), WITHIN).await.unwrap();
    assert_eq!(&answer[..], b"hello");
    cluster.kill(2).await;
    let node = &cluster.nodes[&1].raft;
    timeout(WITHIN, async {
        while node.peer_alive(BrokerId(2)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("its death is noticed");
    assert!(node.call(BrokerId(2), Bytes::new(), WITHIN).await.is_err());
}

/// SAFETY B2: openraft sends its request once and never un-marks the leader, so a request that is
/// lost would leave a leader that refuses writes.
#[tokio::test]
async fn a_transfer_whose_request_is_lost_is_repeated() {
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
    let mut moving = Box::pin(group.transfer_leader(Some(BrokerId(to)), WITHIN));
    let first_request = timeout(Duration::from_millis(200), &mut moving).await;
    assert!(first_request.is_err(), "a target that hears nothing cannot have taken over");
    target.write().insert(GROUP, hidden);
    let moved = timeout(WITHIN, moving).await.expect("the request is repeated");
    assert_eq!(moved.unwrap().broker, BrokerId(to));
    cluster.write(2).await;
}

/// SAFETY M1: what openraft calls a leader may be a restarted one that no majority knows of.
#[tokio::test]
async fn m1_a_leader_is_ready_only_with_a_majority() {
    let mut cluster = Cluster::new().await;
    cluster.write(1).await;
    let leader = cluster.leader().await;
    for id in 1..=3 {
        cluster.kill(id).await;
    }
    cluster.start(leader).await;
    let group = &cluster.nodes[&leader].group;
    let mut status = group.status();
    let ready = timeout(Duration::from_secs(2), status.wait_for(|status| status.ready)).await;
    assert!(ready.is_err(), "ready without a majority: {:?}", group.status().borrow());
    let term = group.status().borrow().term;
    let outcome = group.propose(term, Bytes::copy_from_slice(&2u64.to_be_bytes())).await.await;
    assert!(matches!(outcome, Err(ProposalEnd::Refused(_))), "{outcome:?}");
}

/// What a replica answers by itself when its vote, or its pre-vote, is asked for.
pub type Ballot = Box<dyn Fn(&VoteRequest<Types>, bool) -> Option<VoteResponse<Types>> + Send + Sync>;

/// A replica, what it hears of the appends that are sent to it, and what is answered in its stead.
pub struct Hearing {
    pub member: Arc<dyn Member>,
    pub appends: fn(AppendStream) -> AppendStream,
    pub ballot: Ballot,
    pub hears_goodbyes: bool,
}

impl Hearing {
    /// Everything, until a test says otherwise.
    pub fn all(member: Arc<dyn Member>) -> Hearing {
        Hearing { member, appends: |requests| requests, ballot: Box::new(|_, _| None), hears_goodbyes: true }
    }

    /// Votes for others, and hears nothing of what they then say.
    fn nothing(member: Arc<dyn Member>) -> Hearing {
        let appends =
            |requests: AppendStream| -> AppendStream { Box::pin(requests.filter(|_| std::future::ready(false))) };
        Hearing { appends, ..Hearing::all(member) }
    }
}

impl Member for Hearing {
    fn vote(&self, request: VoteRequest<Types>, pre: bool) -> BoxFuture<'_, Result<VoteResponse<Types>, String>> {
        match (self.ballot)(&request, pre) {
            Some(answer) => Box::pin(std::future::ready(Ok(answer))),
            None => self.member.vote(request, pre),
        }
    }

    fn appends(&self, requests: AppendStream) -> BoxFuture<'_, AppendReplies> {
        self.member.appends((self.appends)(requests))
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

    fn leader_left(&self, broker: BrokerId) {
        if self.hears_goodbyes {
            self.member.leader_left(broker);
        }
    }
}

/// Without its leader, and with a new one that two elected: nobody hears what it says. Who would.
async fn with_an_unheard_leader() -> (Cluster, Replica<Journal>, Vec<(RaftNode, Arc<dyn Member>)>) {
    let mut cluster = Cluster::new().await;
    let last = cluster.write(1).await;
    for id in 1..=3 {
        cluster.wait_applied(id, last).await;
    }
    let old = cluster.leader().await;
    let mut hearing = vec![];
    for node in cluster.nodes.iter().filter(|(id, _)| **id != old).map(|(_, node)| node) {
        let mut hosted = node.raft.0.hosted.write();
        let here = hosted.get_mut(&GROUP).unwrap();
        hearing.push((node.raft.clone(), here.member.clone()));
        here.member = Arc::new(Hearing::nothing(here.member.clone()));
    }
    cluster.kill(old).await;
    let leader = timeout(WITHIN, async {
        loop {
            let leads = |node: &&Node| node.group.status().borrow().leads;
            if let Some(leader) = cluster.nodes.values().find(leads) {
                return leader.group.clone();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("the votes of two make a leader");
    (cluster, leader, hearing)
}

/// SAFETY M1: a freshly elected leader has a majority's votes; whether it holds all that was committed
/// in its state it knows only once an entry of its own term is. Here none can be.
#[tokio::test]
async fn m1_a_fresh_leader_is_not_ready_before_an_entry_of_its_term_is_committed() {
    let (cluster, leader, hearing) = with_an_unheard_leader().await;
    // As long as a whole round takes: one that does not count on it would be ready by now.
    timeout(WITHIN, leader.read_index()).await.expect("a round has a deadline").expect_err("nobody answers");
    assert!(!leader.status().borrow().ready, "ready without a committed entry: {:?}", leader.status().borrow());
    for (raft, member) in hearing {
        raft.0.hosted.write().get_mut(&GROUP).unwrap().member = member;
    }
    cluster.write(2).await;
    assert_eq!(cluster.numbers(cluster.leader().await), [1, 2]);
}

/// It asks for its readiness again and again: once the core has ended every try fails at once, and nobody would be told.
#[tokio::test]
async fn the_end_of_a_core_is_noticed_while_its_leader_is_not_ready() {
    let (_cluster, leader, _hearing) = with_an_unheard_leader().await;
    leader.break_core().await;
    let mut status = leader.status();
    timeout(WITHIN, status.wait_for(|status| status.stopped)).await.expect("it is noticed").expect("watched");
    assert!(leader.status().borrow().failure.is_some(), "and why: {:?}", leader.status().borrow());
}

/// SAFETY M11: whoever closes a replica may delete its log next, so nothing of it may be applied any more (seed 2984 of the
/// corpus: a task went on applying what was being deleted, and openraft's own assert ended the process).
#[tokio::test(flavor = "multi_thread")]
async fn m11_a_closed_replica_has_applied_its_last() {
    let cluster = Cluster::new().await;
    let first = cluster.write(1).await;
    let leader = cluster.leader().await;
    let node = &cluster.nodes[&leader];
    let (term, group) = (node.group.status().borrow().term, node.group.0.clone());
    // Whoever reads the state keeps it from being changed.
    let (reading, begun) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let read = group.clone();
    let reader = std::thread::spawn(move || {
        read.shared.read(|_| {
            reading.send(()).expect("it is waited for");
            released.recv().expect("it is released");
        });
    });
    begun.recv().expect("it reads");
    drop(node.group.propose(term, Bytes::copy_from_slice(&2u64.to_be_bytes())).await);
    // The leader had it committed before them.
    cluster.wait_applied(leader % 3 + 1, LogIndex(first.0 + 1)).await;
    let mut closing = std::pin::pin!(node.raft.close(GROUP));
    timeout(Duration::from_millis(300), &mut closing).await.expect_err("it is applying still");
    release.send(()).expect("it reads");
    timeout(WITHIN, closing).await.expect("nothing holds it up any more");
    assert!(group.shared.ended.is_cancelled(), "it goes on after its end");
    reader.join().expect("no panic");
}

/// SAFETY M12: a term that no sequence of elections could have reached changes nothing.
#[tokio::test]
async fn m12_a_vote_with_an_impossible_term_changes_nothing() {
    let cluster = Cluster::new().await;
    let last = cluster.write(1).await;
    cluster.wait_applied(3, last).await;
    let link = cluster.nodes[&1].raft.0.links.link(BrokerId(3)).unwrap();
    let before = cluster.nodes[&3].group.status().borrow().term;
    let vote = VoteRequest::new(openraft::Vote::new(before.0 + (1 << 21), 101), None);
    for kind in [Kind::Vote, Kind::PreVote] {
        let body = wire::encode_vote_request(&vote);
        let reply = link.request(kind, (GROUP, replica(1), replica(3)), body, WITHIN).await.unwrap();
        assert_eq!(reply.kind, Kind::Failed);
        assert!(String::from_utf8_lossy(&reply.body).contains("too far above"));
    }
    cluster.write(2).await;
    assert_eq!(cluster.nodes[&3].group.status().borrow().term, before);
}

/// SAFETY M10: who leads is told to whoever connects, at once: the next digest would come too late for this.
#[tokio::test]
async fn m10_a_node_that_comes_later_hears_who_leads() {
    let mut cluster = Cluster::new().await;
    cluster.write(1).await;
    let leader = cluster.leader().await;
    let late = if leader == 3 { 2 } else { 3 };
    cluster.kill(late).await;
    cluster.write(2).await;
    cluster.start(late).await;
    assert!(SOON < DIGEST_EVERY, "a digest would do");
    timeout(SOON, async {
        while cluster.nodes[&late].raft.leader_of(GROUP).map(|heard| heard.broker) != Some(BrokerId(leader)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("it hears who leads, as soon as it is connected");
}

/// SAFETY M8: a group whose state is the data snapshots all of it by itself, and a node that missed
/// what was purged starts from the snapshot.
#[tokio::test]
async fn m8_state_is_snapshotted_and_a_late_node_starts_from_it() {
    const NUMBERS: u64 = 12_000; // Above METADATA_SNAPSHOT_EVERY plus what is kept.
    let mut cluster = Cluster::new().await;
    cluster.write(0).await;
    let leader = cluster.leader().await;
    let late = if leader == 3 { 2 } else { 3 };
    cluster.kill(late).await;
    let group = cluster.nodes[&leader].group.clone();
    let term = group.status().borrow().term;
    let mut outcomes = vec![];
    for number in 1..NUMBERS {
        outcomes.push(group.propose(term, Bytes::copy_from_slice(&number.to_be_bytes())).await);
    }
    let mut last = LogIndex(0);
    for outcome in outcomes {
        last = outcome.await.expect("a leader with a majority applies").0.index;
    }
    timeout(WITHIN, async {
        while group.log().purged().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the log is purged below a snapshot");
    cluster.start(late).await;
    cluster.wait_applied(late, last).await;
    assert_eq!(cluster.numbers(late), (0..NUMBERS).collect::<Vec<_>>());
    assert!(cluster.nodes[&late].group.log().purged().is_some(), "it was given a snapshot, not entries");
}
