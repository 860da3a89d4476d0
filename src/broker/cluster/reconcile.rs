//! Makes what runs here what the applied metadata says: peers' addresses, replicas of partitions,
//! deletions, and (on the metadata leader) learners for brokers that joined.
//!
//! Groups are created only here, out of applied metadata (SAFETY M11). What is on disk and not in
//! metadata is left alone and reported: only a tombstone in metadata deletes data.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    broker::{
        BrokerFailed, limits,
        metadata_group::MetadataGroup,
        node::{Node, storage_failed},
        replica::{Ground, PartitionReplica, rules::TopicRules},
        replicas::{PartitionRoute, Replicas, TopicRoute},
        upkeep::tombstones::Tombstones,
    },
    metadata::{Change, DeletedPlacement, ForgetDeleted, Metadata, PartitionPlacement},
    partition::{Partition, PartitionLimits},
    raft::{OpenError, Replica, ReplicaSpec, Status},
    types::{BrokerId, LogIndex, METADATA_GROUP, RaftGroupId, ReplicaId, TopicId, TopicPartition},
};

/// What metadata wants of this broker.
struct Wanted {
    addresses: Vec<(BrokerId, String)>,
    learners: Vec<(ReplicaId, BrokerId)>,
    placements: Vec<PartitionPlacement>,
    deleted: Vec<DeletedPlacement>,
    /// Every group that is made from now on has this id or a higher one.
    groups_below: RaftGroupId,
    topics: Vec<TopicWanted>,
}

struct TopicWanted {
    name: String,
    id: TopicId,
    rules: TopicRules,
    groups: Vec<RaftGroupId>,
}

struct Reconciler {
    /// What replicas stand on that are opened.
    ground: Ground,
    node: Arc<Node>,
    replicas: Arc<Replicas>,
    changes: Arc<MetadataGroup>,
    metadata: Replica<Metadata>,
    hosted: BTreeMap<RaftGroupId, Arc<PartitionReplica>>,
    opening: BTreeSet<RaftGroupId>,
    opened: mpsc::Receiver<Opened>,
    opened_tx: mpsc::Sender<Opened>,
    /// Opening failed: when to try again.
    retry: BTreeMap<RaftGroupId, Instant>,
    /// Deletions under way or confirmed by us, until metadata forgets them.
    deleting: BTreeSet<RaftGroupId>,
    /// Groups that had state here when the process started.
    found: BTreeSet<RaftGroupId>,
    /// The layout that the last pass made true, if nothing is to be done again.
    settled: Option<Option<LogIndex>>,
    /// How many groups there were when leaders of others were last forgotten, and what ids they had.
    kept: (usize, RaftGroupId),
    tombstones: Tombstones,
}

struct Opened {
    placement: PartitionPlacement,
    result: Result<Replica<Partition>, OpenError>,
}

/// Runs until the broker stops.
pub async fn run(ground: Ground, replicas: Arc<Replicas>, changes: Arc<MetadataGroup>) {
    let node = Arc::clone(&ground.node);
    let mut metadata = node.metadata.subscribe();
    let Ok(group) = metadata.wait_for(Option::is_some).await.map(|group| group.clone()) else { return };
    let Some(metadata) = group else { return };
    let (opened_tx, opened) = mpsc::channel(limits::OPENING_MAX);
    let found = match node.store.groups().await {
        Ok(groups) => groups.into_iter().map(|(group, _)| group).filter(|group| *group != METADATA_GROUP).collect(),
        Err(error) => return node.fail(storage_failed(error)),
    };
    let mut reconciler = Reconciler {
        ground,
        node,
        replicas,
        changes,
        metadata,
        hosted: BTreeMap::new(),
        opening: BTreeSet::new(),
        opened,
        opened_tx,
        retry: BTreeMap::new(),
        deleting: BTreeSet::new(),
        found,
        settled: None,
        kept: (0, RaftGroupId(0)),
        tombstones: Tombstones::default(),
    };
    reconciler.run().await;
}

impl Reconciler {
    async fn run(&mut self) {
        let mut applied = self.metadata.applied();
        let mut stage = self.node.stage.subscribe();
        let mut again = Instant::now();
        loop {
            if self.node.is_stopping() {
                return;
            }
            applied.borrow_and_update();
            let (layout, index) =
                self.metadata.read(|state| (state.layout_changed_at(), state.applied().map(|at| at.index)));
            // Most entries are of consumer groups: a pass looks at every partition and topic, and there may be
            // thousands of either.
            if self.settled != Some(layout) {
                self.pass().await;
                self.settled = Some(layout);
                again = Instant::now() + limits::RECONCILE_EVERY;
            }
            self.replicas.goes_by(index);
            tokio::select! {
                biased;
                changed = stage.changed() => if changed.is_err() { return },
                Some(opened) = self.opened.recv() => {
                    self.take_opened(opened);
                    while let Ok(more) = self.opened.try_recv() {
                        self.take_opened(more);
                    }
                    self.settled = None;
                }
                changed = applied.changed() => if changed.is_err() { return },
                () = sleep_until(again) => self.settled = None,
            }
        }
    }

    async fn pass(&mut self) {
        self.replicas.reconciled.fetch_add(1, Relaxed);
        self.close_failed().await;
        let wanted = self.wanted();
        for (broker, address) in &wanted.addresses {
            self.node.raft.set_peer(*broker, address.clone());
        }
        self.add_learners(&wanted.learners).await;
        // Nothing leads to what is deleted by the time it is (SAFETY M11).
        self.keep_leaders(&wanted);
        self.publish(wanted.topics);
        self.delete(&wanted.deleted).await;
        for placement in wanted.placements {
            self.open(placement);
        }
        self.forget_deleted().await;
    }

    /// A replica whose core has ended by itself does nothing any more, and nobody else would notice. Its
    /// state on disk is whole: it is closed, and opened again a little later. Without its replica of the
    /// metadata a broker knows nothing: it stops.
    async fn close_failed(&mut self) {
        let failure = |status: Status| status.failure.filter(|_| status.stopped);
        if let Some(reason) = failure(self.metadata.status().borrow().clone()) {
            self.node.fail(BrokerFailed::Raft { detail: format!("the replica of the metadata has stopped: {reason}") });
        }
        let failed =
            |(group, hosted): (&RaftGroupId, &Arc<PartitionReplica>)| Some((*group, failure(hosted.status())?));
        let failed: Vec<(RaftGroupId, Arc<str>)> = self.hosted.iter().filter_map(failed).collect();
        for (group, reason) in failed {
            let Some(hosted) = self.hosted.remove(&group) else { continue };
            tracing::error!(partition = %hosted.name, %group, %reason, "a replica has stopped, and is opened again");
            self.replicas.stopped().insert(group, (hosted.name.clone(), reason));
            self.node.raft.close(group).await;
            self.retry.insert(group, Instant::now() + limits::REOPEN_AFTER);
        }
    }

    fn wanted(&self) -> Wanted {
        let me = self.node.me();
        self.metadata.read(|state| Wanted {
            addresses: state.brokers().filter(|b| b.id != me).map(|b| (b.id, b.peer_address.clone())).collect(),
            learners: state.brokers().map(|broker| (broker.metadata_replica, broker.id)).collect(),
            placements: state.groups_on(me),
            deleted: state.deleted_on(me),
            groups_below: state.groups_below(),
            topics: state
                .topics()
                .map(|topic| TopicWanted {
                    name: topic.name.clone(),
                    id: topic.id,
                    rules: TopicRules::from(&topic.config()),
                    groups: topic.partitions.iter().map(|partition| partition.group).collect(),
                })
                .collect(),
        })
    }

    /// Every registered broker carries the metadata: voters since founding, all others as learners.
    async fn add_learners(&self, wanted: &[(ReplicaId, BrokerId)]) {
        let status = self.metadata.status().borrow().clone();
        if !status.leads || !status.ready {
            return;
        }
        let members = self.metadata.members();
        for (replica, broker) in wanted.iter().filter(|wanted| !members.contains(wanted)) {
            let added = timeout(limits::CALL_WITHIN, self.metadata.add_learner(*replica, *broker)).await;
            match added {
                Ok(Ok(())) => tracing::info!(%broker, %replica, "broker joins the metadata group as a learner"),
                Ok(Err(error)) => tracing::debug!(%broker, %error, "learner not added yet"),
                Err(_) => tracing::debug!(%broker, "adding a learner takes long"),
            }
        }
    }

    fn open(&mut self, placement: PartitionPlacement) {
        let group = placement.group;
        let waits = self.retry.get(&group).is_some_and(|at| Instant::now() < *at);
        if waits || self.hosted.contains_key(&group) || self.opening.contains(&group) {
            return;
        }
        if self.opening.len() >= limits::OPENING_MAX {
            return; // The next pass, which an opened group starts, takes the next ones.
        }
        self.opening.insert(group);
        let (node, opened) = (Arc::clone(&self.node), self.opened_tx.clone());
        self.node.tasks.spawn(async move {
            let spec = ReplicaSpec { group, replica: placement.replica, initial: placement.initial.clone() };
            // The same on every replica and for ever, whatever the topic's configs become.
            let result = node.raft.open(spec, Partition::new(PartitionLimits::default())).await;
            let _ = opened.send(Opened { placement, result }).await;
        });
    }

    fn take_opened(&mut self, opened: Opened) {
        let Opened { placement, result } = opened;
        let id = placement.group;
        self.opening.remove(&id);
        self.retry.remove(&id);
        let name = TopicPartition { topic: placement.topic.clone(), partition: placement.partition };
        let group = match result {
            Ok(group) => group,
            Err(error @ OpenError::Damaged { .. }) => {
                // Its acks and votes would be those of someone who forgot (SAFETY B5).
                self.node.fail(BrokerFailed::Raft { detail: error.to_string() });
                return;
            }
            Err(error @ (OpenError::Failed { .. } | OpenError::Tombstoned(_))) => {
                tracing::warn!(partition = %name, %error, "partition not opened, will be tried again");
                self.retry.insert(id, Instant::now() + limits::RECONCILE_EVERY * 5);
                return;
            }
        };
        let rules = self.metadata.read(|state| state.topic(&name.topic).map(|topic| TopicRules::from(&topic.config())));
        let Some(rules) = rules else { return }; // Deleted meanwhile: the tombstone removes it.
        self.replicas.stopped().remove(&id);
        let hosted = PartitionReplica::start(self.ground.clone(), name, group.clone(), rules);
        self.hosted.insert(id, Arc::new(hosted));
        self.node.tasks.spawn(initialize(Arc::clone(&self.node), group, placement));
    }

    async fn delete(&mut self, deleted: &[DeletedPlacement]) {
        let named: BTreeMap<RaftGroupId, LogIndex> =
            deleted.iter().map(|deleted| (deleted.group, deleted.at)).collect();
        self.deleting.retain(|group| named.contains_key(group));
        let mut gone = Vec::new();
        for (group, deleted_at) in named {
            if self.opening.contains(&group) || !self.deleting.insert(group) {
                continue;
            }
            // First stop, then delete (SAFETY M11). Dropping the handle ends the appender.
            if let Some(hosted) = self.hosted.remove(&group) {
                tracing::info!(partition = %hosted.name, %group, "partition deleted");
            }
            match self.node.raft.delete(group, deleted_at).await {
                Ok(()) => {
                    self.found.remove(&group);
                    self.replicas.stopped().remove(&group);
                    gone.push(group);
                }
                Err(error) => {
                    tracing::warn!(%group, %error, "deleted partition's data is still here, will be tried again");
                    self.deleting.remove(&group);
                }
            }
        }
        if !gone.is_empty() {
            self.node.tasks.spawn(confirm_deleted(Arc::clone(&self.changes), gone));
        }
    }

    async fn forget_deleted(&mut self) {
        let log = self.metadata.log();
        let [purged, last] = [log.purged(), log.last()].map(|at| at.map(|at| at.index));
        if let Err(error) = self.tombstones.pass(&self.node.store, purged, last).await {
            tracing::warn!(%error, "tombstones of deleted groups stay for now");
        }
    }

    /// Who leads a group that was deleted is forgotten, once per change of which groups there are.
    fn keep_leaders(&mut self, wanted: &Wanted) {
        let kept = (wanted.topics.iter().map(|topic| topic.groups.len()).sum(), wanted.groups_below);
        if std::mem::replace(&mut self.kept, kept) != kept {
            let existing = wanted.topics.iter().flat_map(|topic| topic.groups.iter().copied()).collect();
            self.node.raft.keep_leaders(existing, wanted.groups_below);
        }
    }

    fn publish(&self, topics: Vec<TopicWanted>) {
        let mut routes = BTreeMap::new();
        for topic in topics {
            let partitions = topic.groups.into_iter().map(|group| {
                let hosted = self.hosted.get(&group).cloned();
                if let Some(hosted) = &hosted {
                    hosted.set_rules(topic.rules);
                }
                PartitionRoute { group, hosted }
            });
            let partitions = partitions.collect();
            routes.insert(topic.name, TopicRoute { id: topic.id, partitions });
        }
        self.replicas.replace(routes);
        self.note_orphans();
    }

    /// Replicas that are here and that metadata does not know: kept, and reported by health.
    fn note_orphans(&self) {
        let known = |group: &RaftGroupId| {
            self.metadata.read(|state| state.partition_of(*group).is_some() || state.is_deleted(*group))
        };
        let here = self.hosted.keys().chain(&self.found);
        let orphans: BTreeSet<RaftGroupId> = here.filter(|group| !known(group)).copied().collect();
        self.replicas.set_orphans(orphans);
    }
}

/// Tells metadata that deleted data is gone. Repeated at the next start if it fails.
async fn confirm_deleted(changes: Arc<MetadataGroup>, groups: Vec<RaftGroupId>) {
    let forget = Change::ForgetDeleted(ForgetDeleted { broker: changes.node.me(), groups });
    if let Err(error) = changes.change(forget, limits::ADMIN_TIMEOUT).await {
        tracing::warn!(?error, "deleted partitions could not be confirmed");
    }
}

/// SAFETY B6: the first of `initial` initialises at once; each later one only if no leader was heard
/// of for another two seconds. A replica with any state does nothing.
pub(in crate::broker) async fn initialize(node: Arc<Node>, group: Replica<Partition>, placement: PartitionPlacement) {
    let me = (placement.replica, node.me());
    let Some(turn) = placement.initial.iter().position(|member| *member == me) else { return };
    let turn = u32::try_from(turn).unwrap_or(u32::MAX);
    if turn > 0 && led_within(&node, &group, limits::INITIALIZE_AFTER.saturating_mul(turn)).await {
        return;
    }
    if let Err(error) = group.initialize().await {
        tracing::warn!(group = %placement.group, %error, "group not initialised");
    }
}

/// Whether a leader of the group is heard of in time.
async fn led_within(node: &Node, group: &Replica<Partition>, within: Duration) -> bool {
    let (mut leaders, mut status) = (node.raft.leaders_changed(), group.status());
    let heard = async {
        loop {
            leaders.borrow_and_update();
            let led = { status.borrow_and_update().leader.is_some() };
            if led || node.raft.leader_of(group.id()).is_some() {
                return;
            }
            tokio::select! {
                biased;
                changed = leaders.changed() => if changed.is_err() { return },
                changed = status.changed() => if changed.is_err() { return },
            }
        }
    };
    timeout(within, heard).await.is_ok()
}
