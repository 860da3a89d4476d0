//! The metadata group's state and the ways to read it.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::codec::{self, MalformedBytes};
use super::limits;
use super::placement::Loads;
use super::topic_config::TopicConfig;
use crate::formats::FEATURE_LEVEL_MIN;
use crate::group::{Group, Groups};
use crate::replicated::StateDecodeError;
use crate::types::{
    ALLOCATED_REPLICA_MIN, BrokerId, ClusterId, EntryPosition, GroupName, LogIndex, PartitionId, ProducerId,
    RaftGroupId, ReplicaId, StorageId, TopicId, TopicPartition, WallMs,
};

/// Newest version byte of the encoded state. Version 2 added consumer groups, version 3 what feature levels brokers
/// support, version 4 where Kafka clients reach them; all are still read.
pub const STATE_VERSION: u8 = 4;

/// What is written while the cluster's feature level is 1: version 3 is of level 2.
const STATE_VERSION_OF_LEVEL_1: u8 = 2;

/// What is written while the cluster's feature level is 2: version 4 is of level 3.
const STATE_VERSION_OF_LEVEL_2: u8 = 3;

/// What the cluster agrees on besides records. Serialized field by field in this order, and then `levels` and
/// `kafka_addresses` in other versions: frozen.
///
/// Invariants, checked again whenever a state is decoded:
/// - every group id in `topics` and `deleted` is below `next_group`, and names one thing only;
/// - every allocated replica id is below `next_replica`, and names one placement only;
/// - every topic has at least one partition, and configs that parse;
/// - above feature level 1 every broker has said that it supports the cluster's, at level 1 none has said anything;
/// - Kafka addresses are of registered brokers, and below level 3 there are none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    pub(super) applied: Option<EntryPosition>,
    /// The largest leader's clock seen.
    pub(super) clock: WallMs,
    pub(super) cluster_id: Option<ClusterId>,
    pub(super) feature_level: u32,
    pub(super) founders: Vec<BrokerId>,
    pub(super) brokers: BTreeMap<BrokerId, Broker>,
    pub(super) topics: BTreeMap<String, Topic>,
    /// Oldest first, since group ids only grow.
    pub(super) deleted: BTreeMap<RaftGroupId, DeletedGroup>,
    /// The next replica id to hand out. Never goes back (SAFETY B5).
    pub(super) next_replica: u64,
    /// The next group id to hand out. Never goes back (SAFETY B5).
    pub(super) next_group: u64,
    /// The first producer id of the next block. Never goes back.
    pub(super) next_producer_id: ProducerId,
    /// Consumer groups. Since version 2.
    pub(super) groups: Groups,
    /// The feature levels that brokers support, as they said. Since version 3.
    #[serde(skip)]
    pub(super) levels: BTreeMap<BrokerId, u32>,
    /// Where Kafka clients reach brokers: of those that said so, and have a listener for them. Since version 4.
    #[serde(skip)]
    pub(super) kafka_addresses: BTreeMap<BrokerId, String>,
    /// Derived: which topic and partition each living group is.
    #[serde(skip)]
    pub(super) by_group: BTreeMap<RaftGroupId, (String, PartitionId)>,
    /// Derived: names by id.
    #[serde(skip)]
    pub(super) by_id: BTreeMap<TopicId, String>,
    /// Derived: what each broker carries.
    #[serde(skip)]
    pub(super) loads: Loads,
    /// When the layout changed last. It is no part of the state: see [`Metadata::layout_changed_at`].
    #[serde(skip)]
    pub(super) layout: LayoutMark,
}

/// Where the layout changed last, as far as this process saw. Says nothing about the state, so two states are
/// equal whatever they say here.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LayoutMark(pub Option<LogIndex>);

impl PartialEq for LayoutMark {
    fn eq(&self, _: &LayoutMark) -> bool {
        true
    }
}

impl Eq for LayoutMark {}

/// A registered broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broker {
    pub id: BrokerId,
    pub storage_id: StorageId,
    /// Advertised addresses, host:port.
    pub client_address: String,
    pub peer_address: String,
    pub http_address: String,
    pub rack: Option<String>,
    pub version: String,
    /// Its replica of the metadata group: its own id for a founder, an allocated one for others.
    pub metadata_replica: ReplicaId,
    /// When it registered first.
    pub registered_at: WallMs,
}

/// A topic: its partitions, and what its user set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    pub name: String,
    pub id: TopicId,
    /// The configs as the user set them; [`Topic::config`] says what they mean.
    pub configs: BTreeMap<String, String>,
    pub replication_factor: i32,
    /// The partitions by their numbers, without gaps.
    pub partitions: Vec<PartitionInfo>,
    pub created_at: WallMs,
}

/// A partition's Raft group and where its replicas are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionInfo {
    pub group: RaftGroupId,
    /// The members the group was created with, for ever the same (SAFETY B6).
    pub initial: Vec<(ReplicaId, BrokerId)>,
    /// The members it should have now; the first is the preferred leader.
    pub replicas: Vec<(ReplicaId, BrokerId)>,
}

/// A tombstone (SAFETY M11): the positive word that a group's data may go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedGroup {
    pub topic_id: TopicId,
    /// The entry that deleted it.
    pub at: LogIndex,
    /// Replicas whose brokers have not yet said that their data is gone.
    pub replicas: Vec<(ReplicaId, BrokerId)>,
}

/// A replica that a broker must run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionPlacement {
    pub topic: String,
    pub topic_id: TopicId,
    pub partition: PartitionId,
    pub group: RaftGroupId,
    /// The broker's own.
    pub replica: ReplicaId,
    pub initial: Vec<(ReplicaId, BrokerId)>,
}

/// Deleted data that a broker must remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeletedPlacement {
    pub group: RaftGroupId,
    pub replica: ReplicaId,
    pub at: LogIndex,
}

impl Metadata {
    /// The state of a cluster that is not founded yet.
    pub fn new() -> Metadata {
        Metadata {
            applied: None,
            clock: WallMs(0),
            cluster_id: None,
            feature_level: FEATURE_LEVEL_MIN,
            founders: Vec::new(),
            brokers: BTreeMap::new(),
            topics: BTreeMap::new(),
            deleted: BTreeMap::new(),
            next_replica: ALLOCATED_REPLICA_MIN,
            // 0 is the metadata group itself.
            next_group: 1,
            next_producer_id: ProducerId(0),
            groups: Groups::default(),
            levels: BTreeMap::new(),
            kafka_addresses: BTreeMap::new(),
            by_group: BTreeMap::new(),
            by_id: BTreeMap::new(),
            loads: Loads::default(),
            layout: LayoutMark::default(),
        }
    }

    /// The id of the cluster. None until it is founded.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.cluster_id
    }

    /// The last command applied. Blank and membership entries do not show here.
    pub fn applied(&self) -> Option<EntryPosition> {
        self.applied
    }

    /// All brokers, in the order of their ids.
    pub fn brokers(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.values()
    }

    pub fn broker(&self, id: BrokerId) -> Option<&Broker> {
        self.brokers.get(&id)
    }

    /// Where Kafka clients reach a broker, host:port. None: it has no listener for them, or did not say yet.
    pub fn kafka_address(&self, of: BrokerId) -> Option<&str> {
        self.kafka_addresses.get(&of).map(String::as_str)
    }

    /// All topics, in the order of their names.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topics.values()
    }

    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.get(name)
    }

    pub fn topic_by_id(&self, id: TopicId) -> Option<&Topic> {
        self.topics.get(self.by_id.get(&id)?)
    }

    pub fn partition(&self, at: &TopicPartition) -> Option<&PartitionInfo> {
        let i = usize::try_from(at.partition.0).ok()?;
        self.topics.get(&at.topic)?.partitions.get(i)
    }

    /// Which partition a living group is.
    pub fn partition_of(&self, group: RaftGroupId) -> Option<TopicPartition> {
        let (topic, partition) = self.by_group.get(&group)?;
        Some(TopicPartition { topic: topic.clone(), partition: *partition })
    }

    /// The consumer groups.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    pub fn group(&self, name: &GroupName) -> Option<&Group> {
        self.groups.get(name)
    }

    /// How many partitions the whole cluster has.
    pub fn partitions_total(&self) -> usize {
        self.by_group.len()
    }

    /// Every replica that `broker` must run now, by topic and partition.
    pub fn groups_on(&self, broker: BrokerId) -> Vec<PartitionPlacement> {
        let mut placements = Vec::new();
        for topic in self.topics.values() {
            for (partition, info) in (0..).map(PartitionId).zip(&topic.partitions) {
                let Some((replica, _)) = info.replicas.iter().find(|(_, b)| *b == broker) else { continue };
                placements.push(PartitionPlacement {
                    topic: topic.name.clone(),
                    topic_id: topic.id,
                    partition,
                    group: info.group,
                    replica: *replica,
                    initial: info.initial.clone(),
                });
            }
        }
        placements
    }

    /// Deleted groups whose data `broker` has not yet confirmed to be gone. Anything else that a broker
    /// finds on its disk and not in [`Metadata::groups_on`] is a surprise, and kept.
    pub fn deleted_on(&self, broker: BrokerId) -> Vec<DeletedPlacement> {
        let here = |(group, deleted): (&RaftGroupId, &DeletedGroup)| {
            let (replica, _) = deleted.replicas.iter().find(|(_, b)| *b == broker)?;
            Some(DeletedPlacement { group: *group, replica: *replica, at: deleted.at })
        };
        self.deleted.iter().filter_map(here).collect()
    }

    /// Whether a tombstone of `group` is kept.
    /// Every group that is made from now on has this id or a higher one.
    pub fn groups_below(&self) -> RaftGroupId {
        RaftGroupId(self.next_group)
    }

    pub fn is_deleted(&self, group: RaftGroupId) -> bool {
        self.deleted.contains_key(&group)
    }

    pub(super) fn to_bytes(&self) -> Bytes {
        match self.feature_level {
            FEATURE_LEVEL_MIN => codec::encode(STATE_VERSION_OF_LEVEL_1, self),
            _ if !self.registers_kafka() => codec::encode(STATE_VERSION_OF_LEVEL_2, &(self, &self.levels)),
            _ => codec::encode(STATE_VERSION, &(self, &self.levels, &self.kafka_addresses)),
        }
    }

    /// The last entry, not later than [`Metadata::applied`], that may have changed anything but consumer groups:
    /// brokers, topics, placement. Whoever acts on those need not look again before it moves.
    pub fn layout_changed_at(&self) -> Option<LogIndex> {
        self.layout.0
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Metadata, StateDecodeError> {
        let state = match bytes.first() {
            Some(&StateV1::VERSION) => codec::decode::<StateV1>(StateV1::VERSION, bytes).map(Metadata::from),
            Some(&STATE_VERSION_OF_LEVEL_1) => codec::decode(STATE_VERSION_OF_LEVEL_1, bytes),
            Some(&STATE_VERSION_OF_LEVEL_2) => {
                codec::decode::<(Metadata, BTreeMap<BrokerId, u32>)>(STATE_VERSION_OF_LEVEL_2, bytes)
                    .map(|(state, levels)| Metadata { levels, ..state })
            }
            Some(_) | None => {
                codec::decode::<(Metadata, BTreeMap<BrokerId, u32>, BTreeMap<BrokerId, String>)>(STATE_VERSION, bytes)
                    .map(|(state, levels, kafka_addresses)| Metadata { levels, kafka_addresses, ..state })
            }
        };
        let mut state = state.map_err(|error| match error {
            MalformedBytes::Version { found, known } => StateDecodeError::Version { found, known },
            MalformedBytes::Empty | MalformedBytes::Body(_) => StateDecodeError::Malformed(error.to_string()),
        })?;
        if let Err(needs) = state.check_supported() {
            return Err(StateDecodeError::FeatureLevel(needs));
        }
        state.index().map_err(StateDecodeError::Malformed)?;
        state.layout = LayoutMark(state.applied.map(|at| at.index));
        Ok(state)
    }

    /// Builds what is derived and checks the invariants.
    pub(super) fn index(&mut self) -> Result<(), String> {
        self.check_counters()?;
        self.check_levels()?;
        let mut groups = BTreeMap::new();
        let mut ids = BTreeMap::new();
        let mut loads = Loads::default();
        let mut replicas: Vec<ReplicaId> = self.brokers.values().map(|b| b.metadata_replica).collect();
        for (name, topic) in &self.topics {
            self.check_topic(name, topic)?;
            loads.add(&topic.partitions);
            if ids.insert(topic.id, name.clone()).is_some() {
                return Err(format!("topic id {} is there twice", topic.id));
            }
            for (number, partition) in (0..).map(PartitionId).zip(&topic.partitions) {
                if groups.insert(partition.group, (name.clone(), number)).is_some() {
                    return Err(format!("group {} is there twice", partition.group));
                }
                // `initial` may name replicas that have since moved away, but never twice in all.
                let moved = partition.initial.iter().filter(|r| !partition.replicas.contains(r));
                replicas.extend(partition.replicas.iter().chain(moved).map(|(replica, _)| *replica));
            }
        }
        if let Some(group) = self.deleted.keys().find(|g| groups.contains_key(g)) {
            return Err(format!("group {group} is both alive and deleted"));
        }
        replicas.extend(self.deleted.values().flat_map(|d| &d.replicas).map(|(replica, _)| *replica));
        replicas.sort_unstable();
        if let Some(pair) = replicas.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("replica {} is there twice", pair[0]));
        }
        if let Some(last) = replicas.last().filter(|last| last.0 >= self.next_replica) {
            return Err(format!("replica {last} was never allocated, the next is {}", self.next_replica));
        }
        (self.by_group, self.by_id, self.loads) = (groups, ids, loads);
        self.set_feature_level(self.feature_level);
        let Metadata { groups, topics, .. } = self;
        groups.index(&|name| topics.get(name).map(Topic::partition_count))
    }

    fn check_counters(&self) -> Result<(), String> {
        if self.next_replica < ALLOCATED_REPLICA_MIN || self.next_group < 1 || self.next_producer_id < ProducerId(0) {
            let (r, g, p) = (self.next_replica, self.next_group, self.next_producer_id);
            return Err(format!("next ids went back: replica {r}, group {g}, producer {p}"));
        }
        if let Some((id, broker)) = self.brokers.iter().find(|(id, broker)| **id != broker.id) {
            return Err(format!("broker {} is stored under {id}", broker.id));
        }
        match self.deleted.keys().find(|g| !self.was_allocated(**g)) {
            Some(group) => Err(format!("deleted group {group} was never allocated")),
            None => Ok(()),
        }
    }

    fn check_topic(&self, name: &str, topic: &Topic) -> Result<(), String> {
        limits::check_topic_name(name).map_err(|e| e.to_string())?;
        if topic.name != *name {
            return Err(format!("topic {:?} is stored under {name:?}", topic.name));
        }
        let factor = topic.replication_factor;
        if !(1..=limits::REPLICATION_FACTOR_MAX).contains(&factor) {
            return Err(format!("topic {name:?} has the impossible replication factor {factor}"));
        }
        TopicConfig::parse(&topic.configs, factor).map_err(|e| e.to_string())?;
        if topic.partitions.is_empty() {
            return Err(format!("topic {name:?} has no partitions"));
        }
        let bad = |p: &&PartitionInfo| {
            let lists = [&p.initial, &p.replicas];
            let is_own = lists.iter().any(|l| l.iter().any(|(r, _)| r.0 < ALLOCATED_REPLICA_MIN));
            !self.was_allocated(p.group) || lists.iter().any(|l| l.is_empty()) || is_own
        };
        match topic.partitions.iter().find(bad) {
            Some(p) => Err(format!("topic {name:?} has an impossible partition: {p:?}")),
            None => Ok(()),
        }
    }

    fn was_allocated(&self, group: RaftGroupId) -> bool {
        (1..self.next_group).contains(&group.0)
    }
}

/// The state before there were consumer groups. Frozen, only ever read.
#[derive(Deserialize)]
struct StateV1 {
    applied: Option<EntryPosition>,
    clock: WallMs,
    cluster_id: Option<ClusterId>,
    feature_level: u32,
    founders: Vec<BrokerId>,
    brokers: BTreeMap<BrokerId, Broker>,
    topics: BTreeMap<String, Topic>,
    deleted: BTreeMap<RaftGroupId, DeletedGroup>,
    next_replica: u64,
    next_group: u64,
    next_producer_id: ProducerId,
}

impl StateV1 {
    const VERSION: u8 = 1;
}

impl From<StateV1> for Metadata {
    fn from(old: StateV1) -> Metadata {
        Metadata {
            applied: old.applied,
            clock: old.clock,
            cluster_id: old.cluster_id,
            feature_level: old.feature_level,
            founders: old.founders,
            brokers: old.brokers,
            topics: old.topics,
            deleted: old.deleted,
            next_replica: old.next_replica,
            next_group: old.next_group,
            next_producer_id: old.next_producer_id,
            ..Metadata::new()
        }
    }
}

impl Default for Metadata {
    fn default() -> Metadata {
        Metadata::new()
    }
}

impl Topic {
    pub fn partition_count(&self) -> i32 {
        i32::try_from(self.partitions.len()).expect("limited to PARTITIONS_PER_TOPIC_MAX")
    }

    /// What the configs mean.
    pub fn config(&self) -> TopicConfig {
        TopicConfig::parse(&self.configs, self.replication_factor).expect("checked when they were stored or decoded")
    }
}
