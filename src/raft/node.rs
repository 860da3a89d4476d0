//! The Raft side of a node: its groups, its links to other nodes, and what they announce.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, AtomicUsize},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use openraft::{Config, Raft, SnapshotPolicy};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    Contradiction, Replica, Room, RoomLevel,
    driver::Driver,
    errors::OpenError,
    greeter::Greeter,
    ground::{Ground, RaftSettings},
    hosted::{Hosted, HostedReplicas},
    leaders::Leaders,
    link::{LinkDeps, LinkError, Trouble},
    links::Links,
    log_store::LogStore,
    matches::Matches,
    network::Factory,
    raft_member::RaftMember,
    reads::ReadRoom,
    running::{ReplicaSpec, RunningReplica},
    seeded::Seeds,
    server,
    session::{CallHandler, INCOMING_BYTES_MAX, SessionDeps},
    status::{Leader, Status},
    watcher::{purge_as_allowed, watch_quorums, watch_status},
    wire::Kind,
};
use crate::{
    metrics::RaftProbe,
    replicated::{Replicated, SnapshotAt},
    seam::{Clock, Listener, Net, Rng},
    storage::{OpenLogError, Store},
    types::{BrokerId, ClusterId, LogIndex, RaftGroupId, ReplicaId},
};

/// Queues into and out of one group's core: full ones hold their senders, so these bound memory.
const CORE_QUEUE: u64 = 1_024;
const APPLY_QUEUE: u64 = 128;
/// The core is the only reader of this queue and waits for room in it when a write is durable, so one
/// that is full leaves it dead for ever (SAFETY M16). Ticks alone, 2 ms apart at the shortest heartbeat,
/// take 131 s to fill it: a disk that stalls for so long has ended the process long before (SAFETY M14).
const CORE_NEWS: u64 = 65_536;
const SNAPSHOT_WITHIN_MS: u64 = 30_000;
/// A core that waits for a stalled disk does not hear that it is to stop. It ends when the disk is back;
/// until then nobody else is held up (SAFETY M16).
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

pub struct NodeDeps {
    pub store: Store,
    pub net: Arc<dyn Net>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<Rng>,
    pub settings: RaftSettings,
    /// Where this node listens for others.
    pub listen: Box<dyn Listener>,
    pub on_call: CallHandler,
    pub probe: RaftProbe,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// No link to that broker; the request was not sent.
    #[error("broker {0} is not reachable")]
    Unreachable(BrokerId),
    /// Sent, and not answered: it may have been executed.
    #[error("broker {broker} did not answer within {waited:?}")]
    NoAnswer { broker: BrokerId, waited: Duration },
    /// It works on too many requests: this one was not begun.
    #[error("broker {0} is busy")]
    Busy(BrokerId),
}

/// The Raft side of one node. Clones share it.
#[derive(Clone)]
pub struct RaftNode(pub(super) Arc<NodeParts>);

/// What a node is made of. Nothing below this file knows all of it.
pub(super) struct NodeParts {
    pub ground: Arc<Ground>,
    pub greeter: Arc<Greeter>,
    pub leaders: Arc<Leaders>,
    pub links: Arc<Links>,
    pub hosted: Arc<HostedReplicas>,
    /// Memory for entries that are read for followers.
    reads: Arc<ReadRoom>,
    on_call: CallHandler,
    tasks: Mutex<Tasks>,
}

#[derive(Default)]
struct Tasks {
    serving: Option<JoinHandle<()>>,
    quorums: Option<JoinHandle<()>>,
    groups: BTreeMap<RaftGroupId, Vec<JoinHandle<()>>>,
}

impl RaftNode {
    pub async fn start(deps: NodeDeps) -> RaftNode {
        let NodeDeps { store, net, clock, rng, settings, listen, on_call, probe } = deps;
        let reads = Arc::new(ReadRoom::new(probe.clone()));
        let ground = Arc::new(Ground {
            cluster: watch::Sender::new(settings.cluster),
            room: RwLock::default(),
            settings,
            incarnation: rng.u64(),
            store,
            net,
            clock,
            seeds: Seeds::new(rng.clone()),
            rng,
            probe,
            may_campaign: AtomicBool::new(true),
            contradicted: watch::Sender::new(None),
            stopping: CancellationToken::new(),
        });
        let greeter = Arc::new(Greeter::new(ground.clone()));
        let leaders = Arc::new(Leaders::new());
        let hosted = Arc::new(HostedReplicas::new(ground.clone()));
        let link_deps = LinkDeps { ground: ground.clone(), greeter: greeter.clone(), leaders: leaders.clone() };
        let links = Arc::new(Links::new(link_deps));
        let session_deps = SessionDeps {
            ground: ground.clone(),
            greeter: greeter.clone(),
            links: links.clone(),
            leaders: leaders.clone(),
            hosted: hosted.clone(),
            on_call: on_call.clone(),
            incoming: Arc::new(Semaphore::new(INCOMING_BYTES_MAX)),
        };
        let serving = tokio::spawn(server::serve(session_deps, listen));
        let quorums = tokio::spawn(watch_quorums(hosted.clone()));
        let tasks = Tasks { serving: Some(serving), quorums: Some(quorums), ..Tasks::default() };
        let tasks = Mutex::new(tasks);
        RaftNode(Arc::new(NodeParts { ground, greeter, leaders, links, hosted, reads, on_call, tasks }))
    }

    /// Runs a replica. `fresh` is its state if it has none on disk.
    pub async fn open<S: Replicated>(&self, spec: ReplicaSpec, fresh: S) -> Result<Replica<S>, OpenError> {
        let group = spec.group;
        let failed = |reason: String| OpenError::Failed { group, reason };
        let log = self.0.ground.store.open_log(group, spec.replica).await.map_err(|e| refuse(group, e))?;
        let (mut driver, shared) =
            Driver::load(log.clone(), fresh).await.map_err(|e| OpenError::Damaged { group, what: e.to_string() })?;
        driver.catch_up(&self.0.reads).await.map_err(|e| failed(e.to_string()))?;
        let matches = Arc::new(Matches::default());
        let factory = Factory {
            links: self.0.links.clone(),
            hosted: self.0.hosted.clone(),
            group,
            replica: spec.replica,
            matches: matches.clone(),
        };
        let config = Arc::new(config::<S>(&self.0.ground.settings).validate().map_err(|e| failed(e.to_string()))?);
        let log_store = LogStore { log: log.clone(), room: self.0.reads.clone() };
        let started = Raft::new(spec.replica.0, config, factory, log_store, driver);
        let raft = self.0.ground.seeds.scope(started).await.map_err(|e| failed(e.to_string()))?;
        let running = Arc::new(RunningReplica {
            ground: self.0.ground.clone(),
            links: self.0.links.clone(),
            leaders: self.0.leaders.clone(),
            raft,
            log,
            shared,
            status: watch::Sender::new(Status::default()),
            matches,
            paused: AtomicUsize::new(0),
            rescuing: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            spec: spec.clone(),
        });
        self.0.hosted.insert(group, Hosted::new(spec.replica, Arc::new(RaftMember(running.clone()))));
        let watching =
            vec![tokio::spawn(watch_status(running.clone())), tokio::spawn(purge_as_allowed(running.clone()))];
        self.tasks().groups.insert(group, watching);
        Ok(Replica(running))
    }

    /// Stops a replica; its data stays. Bounded: a core that does not hear it ends later by itself, and
    /// takes no more requests.
    pub async fn close(&self, group: RaftGroupId) {
        let hosted = self.0.hosted.remove(group);
        if let Some(hosted) = hosted
            && timeout(CLOSE_WITHIN, hosted.member.stop()).await.is_err()
        {
            tracing::warn!(%group, within = ?CLOSE_WITHIN, "a replica does not stop in time: its disk may stall");
        }
        for task in self.tasks().groups.remove(&group).unwrap_or_default() {
            task.abort();
        }
    }

    /// Stops a replica, then deletes its data and leaves a tombstone (SAFETY M11), which remembers the entry
    /// of the metadata log that deleted the group.
    pub async fn delete(&self, group: RaftGroupId, deleted_at: LogIndex) -> Result<(), OpenError> {
        self.close(group).await;
        self.0.leaders.forget(group);
        let deleted = self.0.ground.store.delete_group(group, deleted_at).await;
        deleted.map_err(|e| OpenError::Failed { group, reason: e.to_string() })
    }

    /// Names an address where a peer may be; a link to it is kept from then on. The latest named is tried
    /// first, the others in turn.
    pub fn set_peer(&self, broker: BrokerId, address: String) {
        self.0.links.set_peer(broker, &address);
    }

    /// All nodes that a link is kept to.
    pub fn peers(&self) -> Vec<BrokerId> {
        self.0.links.peers()
    }

    /// The address of a peer whose link is up.
    pub fn address_of(&self, broker: BrokerId) -> Option<String> {
        self.0.links.link(broker)?.address()
    }

    /// Why there is no link to a peer. None: it is up, or it was not tried yet.
    pub fn trouble_with(&self, broker: BrokerId) -> Option<Trouble> {
        self.0.links.link(broker)?.trouble()
    }

    /// Which of its lives the link to a peer is in; a new one may lead to a new process. None: not up.
    pub fn session_with(&self, broker: BrokerId) -> Option<u64> {
        self.0.links.link(broker)?.session()
    }

    /// The peer's own link to this node is up, whether or not ours to it is.
    pub fn hears(&self, broker: BrokerId) -> bool {
        self.0.links.hears(broker)
    }

    /// Peers that belong to other clusters, as far as they said lately.
    pub fn foreign_peers(&self) -> BTreeMap<BrokerId, ClusterId> {
        self.0.greeter.foreign()
    }

    /// Whether replicas here campaign when they hear of no leader. Those of the metadata group always do.
    pub fn set_campaign(&self, may: bool) {
        self.0.hosted.set_campaign(may);
    }

    /// As [`RaftNode::set_campaign`] said last.
    #[cfg(test)]
    pub fn may_campaign(&self) -> bool {
        self.0.ground.may_campaign.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// The first committed entry of a replica here that its leader contradicts. That replica has taken
    /// nothing of that leader since, and the node must stop.
    pub fn contradicted(&self) -> watch::Receiver<Option<Contradiction>> {
        self.0.ground.contradicted.subscribe()
    }

    /// From now on nodes of other clusters are refused. Streams to and from peers that did not name this
    /// one end and are begun anew, and what such a peer said of leaders is forgotten (SAFETY B5).
    pub fn set_cluster(&self, cluster: ClusterId) {
        self.0.ground.cluster.send_if_modified(|known| known.replace(cluster) != Some(cluster));
    }

    /// A round trip to it was made in the last second.
    pub fn peer_alive(&self, broker: BrokerId) -> bool {
        self.0.links.alive(broker)
    }

    /// The disk has been busy with one write for so long that others had better lead (SAFETY M14).
    pub fn is_stalled(&self) -> bool {
        self.0.ground.is_stalled()
    }

    /// What others are told of this node's disk from now on. While it is full, its replicas take no more
    /// bulk from their leaders.
    pub fn set_room(&self, room: Room) {
        *self.0.ground.room.write().expect("no panic under this lock") = room;
    }

    /// What a broker's disk has left, as it said within the last second. None: it does not answer.
    pub fn room_of(&self, broker: BrokerId) -> Option<Room> {
        self.0.links.room_of(broker)
    }

    /// Whether any other node is short of disk space.
    pub fn any_peer_short(&self) -> bool {
        self.0.links.all().iter().any(|link| link.room().is_some_and(|room| room.level > RoomLevel::Enough))
    }

    /// Which groups the cluster has, of those with an id below `below`. Who leads others is of no interest.
    pub fn keep_leaders(&self, existing: BTreeSet<RaftGroupId>, below: RaftGroupId) {
        self.0.leaders.keep(existing, below);
    }

    /// The leader with the highest term announced for a group (SAFETY M10), hosted here or not.
    pub fn leader_of(&self, group: RaftGroupId) -> Option<Leader> {
        self.0.leaders.of(group)
    }

    /// Changes whenever any leader announcement was news.
    pub fn leaders_changed(&self) -> watch::Receiver<u64> {
        self.0.leaders.changes()
    }

    /// Sends an opaque request to a broker's call handler, which bounds what it takes.
    pub async fn call(&self, to: BrokerId, request: Bytes, within: Duration) -> Result<Bytes, CallError> {
        if to == self.0.ground.settings.broker {
            return Ok((self.0.on_call)(to, request).await);
        }
        let link = self.0.links.link(to).ok_or(CallError::Unreachable(to))?;
        let nobody = (RaftGroupId(0), ReplicaId(0), ReplicaId(0));
        match link.request(Kind::Call, nobody, request, within).await {
            Ok(frame) if frame.kind == Kind::CallReply => Ok(frame.body),
            Ok(frame) if frame.kind == Kind::Busy => Err(CallError::Busy(to)),
            Ok(_) | Err(LinkError::NoAnswer) => Err(CallError::NoAnswer { broker: to, waited: within }),
            Err(LinkError::NotSent) => Err(CallError::Unreachable(to)),
        }
    }

    /// Says goodbye to all peers and stops every group. Transfer leaderships first (SAFETY M13).
    pub async fn shutdown(&self) {
        for link in self.0.links.all() {
            link.tell(Kind::Goodbye, Bytes::new());
        }
        // Together: each may take its whole time.
        join_all(self.0.hosted.groups().into_iter().map(|group| self.close(group))).await;
        self.0.ground.stopping.cancel();
        self.0.links.abort();
        let mut tasks = self.tasks();
        for task in tasks.serving.take().into_iter().chain(tasks.quorums.take()) {
            task.abort();
        }
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, Tasks> {
        self.0.tasks.lock().expect("no panic under this lock")
    }
}

fn refuse(group: RaftGroupId, error: OpenLogError) -> OpenError {
    match error {
        OpenLogError::Damaged { what, .. } => OpenError::Damaged { group, what },
        OpenLogError::Tombstoned { group } => OpenError::Tombstoned(group),
        other => OpenError::Failed { group, reason: other.to_string() },
    }
}

fn config<S: Replicated>(settings: &RaftSettings) -> Config {
    let millis = |duration: Duration| duration.as_millis() as u64;
    // Partitions purge by their own command only; metadata snapshots its full state (SAFETY M8).
    let (snapshot_policy, kept) = match S::SNAPSHOT_AT {
        SnapshotAt::PurgePoint => (SnapshotPolicy::Never, u64::MAX),
        SnapshotAt::LastApplied => {
            let every = settings.metadata_snapshot_every;
            (SnapshotPolicy::LogsSinceLast(every), every / 10)
        }
    };
    Config {
        cluster_name: "flotilla".into(),
        heartbeat_interval: millis(settings.heartbeat),
        election_timeout_min: millis(settings.election_min),
        election_timeout_max: millis(settings.election_max),
        install_snapshot_timeout: SNAPSHOT_WITHIN_MS,
        snapshot_policy,
        max_in_snapshot_log_to_keep: kept,
        api_channel_size: Some(CORE_QUEUE),
        notification_channel_size: Some(CORE_NEWS),
        state_machine_channel_size: Some(APPLY_QUEUE),
        enable_pre_vote: Some(true),
        // A restarted leader must not resume its term: the leader epoch always changes.
        enable_leader_restore: Some(false),
        // A follower with less log than it acknowledged is damaged, never re-fed (SAFETY B5).
        allow_log_reversion: Some(false),
        // SAFETY M7: notice the loss of the quorum although nobody proposes.
        quorum_loss_probe_interval: Some(2 * millis(settings.election_max)),
        ..Config::default()
    }
}
