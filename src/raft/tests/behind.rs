//! Followers and state machines that are behind, many of them: what catching up may take, and how often it
//! is tried.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use openraft::{Membership, RaftLogReader, StoredMembership, Vote, raft::AppendEntriesRequest};
use tokio::time::{Instant, timeout};

use super::cluster::{Cluster, GROUP, Hearing, Knobs, WITHIN, replica, start_node};
use crate::{
    metrics::Metrics,
    proto::internal,
    raft::{
        ReplicaSpec,
        appends::{Appends, Books},
        lanes::Outgoing,
        link::{APPEND_WINDOW, Link},
        log_store::LogStore,
        member::AppendStream,
        reads::{READ_BYTES_MAX, ReadRoom, Reads},
        types::{Peer, RaftEntry, Types, encode_membership, encode_vote, log_id},
        wire::{Frame, Kind, decode_append},
    },
    replicated::{Applied, CannotApply, Replicated, SnapshotAt, StateDecodeError},
    storage::{
        EntryKind, Family, KeyRange, Kv, KvFuture, LogEntry, ReplicaLog, ScanLimit, SimDisk, SimKv, Store,
        StoreOptions, WriteBatch, WriterProbe,
    },
    types::{BrokerId, EntryPosition, LogIndex, RaftGroupId, ReplicaId, Term},
};

/// A disk that counts the bytes of entries that were read from it.
struct Counted {
    kv: SimKv,
    read: Arc<AtomicUsize>,
}

impl Kv for Counted {
    fn get<'a>(&'a self, family: Family, key: &'a [u8]) -> KvFuture<'a, Option<Bytes>> {
        self.kv.get(family, key)
    }

    fn scan<'a>(
        &'a self,
        family: Family,
        range: KeyRange,
        limit: ScanLimit,
        reverse: bool,
    ) -> KvFuture<'a, Vec<(Bytes, Bytes)>> {
        Box::pin(async move {
            let found = self.kv.scan(family, range, limit, reverse).await?;
            if family == Family::Log {
                self.read.fetch_add(found.iter().map(|(_, value)| value.len()).sum(), Relaxed);
            }
            Ok(found)
        })
    }

    fn commit(&self, batch: WriteBatch, sync: bool) -> KvFuture<'_, ()> {
        self.kv.commit(batch, sync)
    }

    fn commit_no(&self) -> u64 {
        self.kv.commit_no()
    }

    fn condemn(&self, why: &str) {
        self.kv.condemn(why);
    }
}

fn at(index: u64) -> EntryPosition {
    EntryPosition { term: Term(1), index: LogIndex(index) }
}

fn entry(index: u64, bytes: usize) -> LogEntry {
    LogEntry { position: at(index), kind: EntryKind::Normal, payload: vec![7; bytes].into() }
}

async fn open(kv: Arc<dyn Kv>, tail_bytes_max: usize) -> Store {
    let fail = Arc::new(|error: &_| panic!("{error:?}"));
    let options = StoreOptions { tail_bytes_max, ..StoreOptions::default() };
    Store::open(kv, options, WriterProbe::default(), fail).await.expect("opens")
}

async fn append(log: &ReplicaLog, entries: Vec<LogEntry>) {
    let (done, wait) = tokio::sync::oneshot::channel();
    log.append(entries, Box::new(move |result| drop(done.send(result))));
    wait.await.expect("completed").expect("durable");
}

/// Notes how many bytes of entries were read from disk and are not applied yet.
struct Weigher {
    read: Arc<AtomicUsize>,
    applied: usize,
    most: Arc<AtomicUsize>,
}

impl Replicated for Weigher {
    const SNAPSHOT_AT: SnapshotAt = SnapshotAt::LastApplied;

    fn apply(&mut self, _at: EntryPosition, command: &Bytes) -> Result<Applied, CannotApply> {
        self.most.fetch_max(self.read.load(Relaxed).saturating_sub(self.applied), Relaxed);
        self.applied += command.len();
        Ok(Applied::default())
    }

    fn checkpoint_due(&self, _command: &Bytes) -> bool {
        false
    }

    fn checkpoint_taken(&mut self, _at: EntryPosition) {}

    fn purge_point(&self) -> Option<EntryPosition> {
        None
    }

    fn encode(&self) -> Bytes {
        Bytes::new()
    }

    fn decode(_bytes: &[u8]) -> Result<Self, StateDecodeError> {
        Err(StateDecodeError::Malformed("nothing was ever saved".into()))
    }
}

/// SAFETY N5: openraft asks for 64 entries at once when it starts, and groups start side by side.
#[tokio::test]
async fn a_start_applies_again_what_it_reads_a_little_at_a_time() {
    const ENTRIES: u64 = 100;
    const BYTES: usize = 256 << 10;
    let disk = SimDisk::new(1);
    let store = open(Arc::new(disk.open()), 0).await;
    let log = store.open_log(GROUP, replica(1)).await.expect("opens");
    let nodes = BTreeMap::from([(replica(1).0, Peer { broker: BrokerId(1) })]);
    let members = Membership::new(vec![[replica(1).0].into()], nodes).expect("one voter");
    let payload = encode_membership(&StoredMembership::new(None, members));
    append(&log, vec![LogEntry { position: at(0), kind: EntryKind::Membership, payload }]).await;
    log.save_vote(encode_vote(&Vote::new_committed(1, replica(1).0))).await.expect("saved");
    for index in 1..=ENTRIES {
        append(&log, vec![entry(index, BYTES)]).await;
    }
    log.save_committed(Some(at(ENTRIES)));
    store.close().await.expect("closed");
    drop((log, store));

    let (read, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let kv = Counted { kv: disk.open(), read: read.clone() };
    let (node, _) = start_node(1, Arc::new(kv), Knobs::default()).await;
    let initial = vec![(replica(1), BrokerId(1))];
    let fresh = Weigher { read, applied: 0, most: most.clone() };
    let spec = ReplicaSpec { group: GROUP, replica: replica(1), initial };
    let group = node.open(spec, fresh).await.expect("opens");
    assert!(*group.applied().borrow() >= Some(LogIndex(ENTRIES)), "all that was committed is applied");
    assert_eq!(group.read(|weigher| weigher.applied), ENTRIES as usize * BYTES);
    let most = most.load(Relaxed);
    assert!((BYTES..2 * READ_BYTES_MAX).contains(&most), "{most} bytes were in memory");
    node.shutdown().await;
}

/// The leader's side of many groups, each of which has one entry of a mebibyte on disk for the same follower.
struct Leader {
    log: LogStore,
    metrics: Metrics,
    read: Arc<AtomicUsize>,
}

impl Leader {
    async fn new() -> Leader {
        let read = Arc::<AtomicUsize>::default();
        let store = open(Arc::new(Counted { kv: SimDisk::new(2).open(), read: read.clone() }), 0).await;
        let log = store.open_log_alone(GROUP, replica(1)).await.expect("opens");
        append(&log, vec![entry(1, READ_BYTES_MAX)]).await;
        let metrics = Metrics::new();
        let room = Arc::new(ReadRoom::new(metrics.raft()));
        Leader { log: LogStore { log, room }, metrics, read }
    }

    /// Sends the entry to one group's follower, as openraft asks for it. Ends when the follower has answered.
    async fn replicate(&self, link: &Arc<Link>, group: u64) {
        let mut log = self.log.clone();
        let input = Box::pin(stream::once(async move {
            let entries = log.limited_get_log_entries(1, 2).await.expect("reads");
            request(entries)
        }));
        let reads = Reads::through(link.reads.clone());
        self.exchange(link, group, (input, reads)).await;
    }

    async fn exchange<S>(&self, link: &Arc<Link>, group: u64, (mut input, reads): (S, Arc<Reads>))
    where
        S: futures_util::Stream<Item = AppendEntriesRequest<Types>> + Unpin + Send + 'static,
    {
        let address = (RaftGroupId(group), ReplicaId(1), ReplicaId(2));
        let exchange = link.open(APPEND_WINDOW).expect("the link is up");
        let books = Books { matches: Arc::default(), notes: true, refusals: Arc::default() };
        let first = reads.during(input.next()).await.expect("a request");
        let appends = Appends::new(exchange, address, books, (input, reads), first);
        stream::unfold(Some(appends), Appends::step).for_each(|_| std::future::ready(())).await;
    }

    fn in_flight(&self) -> String {
        let text = self.metrics.encode();
        let line = text.lines().find(|line| line.starts_with("flotilla_raft_read_bytes_in_flight "));
        line.expect("the level is exported").to_string()
    }
}

fn request(entries: Vec<RaftEntry>) -> AppendEntriesRequest<Types> {
    let vote = Vote::new_committed(1, 1);
    AppendEntriesRequest { vote, prev_log_id: Some(log_id(at(0))), leader_commit: None, entries }
}

/// Until nothing moves any more: time is paused, and goes on only then.
async fn settle() {
    tokio::time::advance(Duration::from_millis(1)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
}

async fn heard(frames: &mut Outgoing<internal::Frame>) -> Frame {
    let frame = timeout(WITHIN, frames.next()).await.expect("a frame in time").expect("the link is up");
    Frame::decode(frame.data).expect("it is whole")
}

/// A broker that comes back is behind in all its groups at once, and its link takes their entries in turn.
#[tokio::test(start_paused = true)]
async fn what_waits_for_a_link_is_bounded_and_holds_up_no_other() {
    const GROUPS: u64 = 200;
    const ENOUGH: usize = 32 << 20;
    let leader = Arc::new(Leader::new().await);
    let (slow, mut frames) = Link::to_a_test();
    for group in 0..GROUPS {
        let (leader, slow) = (leader.clone(), slow.clone());
        tokio::spawn(async move { leader.replicate(&slow, group).await });
    }
    settle().await;
    let read = leader.read.load(Relaxed);
    assert!((ENOUGH / 2..=ENOUGH).contains(&read), "{read} bytes were read for one link that takes none");

    // What takes no memory does not wait: a heartbeat, and a few recent entries.
    let heartbeat = (Box::pin(stream::iter([request(vec![])])), Reads::through(slow.reads.clone()));
    tokio::spawn({
        let (leader, slow) = (leader.clone(), slow.clone());
        async move { leader.exchange(&slow, 1_000, heartbeat).await }
    });
    let store = open(Arc::new(SimDisk::new(3).open()), 1 << 20).await;
    let log = store.open_log_alone(GROUP, replica(1)).await.expect("opens");
    append(&log, vec![entry(1, 10_000)]).await;
    let mut recent = LogStore { log, room: leader.log.room.clone() };
    let small = Reads::through(slow.reads.clone());
    let found = timeout(Duration::from_millis(1), small.during(recent.limited_get_log_entries(1, 2))).await;
    assert_eq!(found.expect("at once").expect("reads").len(), 1);

    // Nor does another follower wait for the slow one.
    let (other, mut others) = Link::to_a_test();
    tokio::spawn({
        let (leader, other) = (leader.clone(), other.clone());
        async move { leader.replicate(&other, 2_000).await }
    });
    assert_eq!(heard(&mut others).await.group, RaftGroupId(2_000));
    settle().await;

    let mut sent = BTreeSet::new();
    let mut before_heartbeat = 0;
    while sent.len() < GROUPS as usize {
        let frame = heard(&mut frames).await;
        match frame.kind {
            Kind::Append if frame.group == RaftGroupId(1_000) => before_heartbeat = sent.len(),
            Kind::Append => {
                assert_eq!(decode_append(frame.body).expect("whole").entries.len(), 1);
                assert!(sent.insert(frame.group), "once each");
            }
            _ => {} // Ends of exchanges.
        }
    }
    assert!(before_heartbeat <= ENOUGH / READ_BYTES_MAX, "the heartbeat waited for {before_heartbeat} others");
    settle().await;
    assert_eq!(leader.in_flight(), "flotilla_raft_read_bytes_in_flight 0", "all room is free again");
}

/// Appends that reached the replica whose log went back.
static APPENDS: AtomicUsize = AtomicUsize::new(0);

/// SAFETY B5: a log that went back is not fed again, and openraft would ask the same of it again at once.
#[tokio::test(flavor = "multi_thread")]
async fn d13_a_follower_whose_log_went_back_is_asked_less_and_less_often() {
    const WATCHED: Duration = Duration::from_secs(3);
    let mut cluster = Cluster::new().await;
    let first = cluster.write(0).await;
    let leader = cluster.leader().await;
    let (set_back, other) = if leader == 1 { (2, 3) } else { (1, 5 - leader) };
    cluster.wait_applied(set_back, first).await;
    let older = cluster.disks[&set_back].copy(1);
    let mut last = first;
    for number in 1..20 {
        last = cluster.write(number).await;
    }
    cluster.wait_applied(set_back, last).await;
    let group = cluster.nodes[&leader].group.clone();
    let term = group.status().borrow().term;
    let acknowledged = || group.followers_behind().into_iter().any(|behind| behind == (BrokerId(set_back), 0));
    timeout(WITHIN, async {
        while !acknowledged() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the leader knows that it has all");

    cluster.kill(set_back).await;
    cluster.disks.insert(set_back, older);
    cluster.start(set_back).await;
    {
        let mut hosted = cluster.nodes[&set_back].raft.0.hosted.write();
        let here = hosted.get_mut(&GROUP).expect("it runs here");
        let appends = |requests: AppendStream| {
            let counted = requests.inspect(|_| {
                APPENDS.fetch_add(1, Relaxed);
            });
            Box::pin(counted) as AppendStream
        };
        here.member = Arc::new(Hearing { appends, ..Hearing::all(here.member.clone()) });
    }
    let began = Instant::now();
    let mut number = 100;
    while began.elapsed() < WATCHED {
        let last = cluster.write(number).await;
        cluster.wait_applied(other, last).await;
        number += 1;
    }
    let status = group.status().borrow().clone();
    assert!(status.leads && status.term == term, "the leader goes on: {status:?}");
    let heartbeats = WATCHED.as_millis() / Knobs::default().heartbeat.as_millis();
    let asked = APPENDS.load(Relaxed);
    assert!(asked > 1, "it was asked");
    assert!(asked < 3 * heartbeats as usize, "it was asked {asked} times");
    assert!(cluster.nodes[&set_back].group.applied().borrow().unwrap_or_default() < last, "it is not fed again");
}
