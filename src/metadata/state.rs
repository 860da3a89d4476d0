//! The metadata group's state and the ways to read it.

use std::collections::BTreeMap;

use super::command::{AddPartitions, AlterTopic, CreateTopic, DeleteTopic};
use super::response::Refusal;
use super::topic_config::TopicConfig;
use crate::types::{
    BrokerId, EntryPosition, LogIndex, PartitionId, RaftGroupId, ReplicaId, TopicId, TopicPartition, WallMs,
};

/// What the cluster agrees on besides records. See the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Bumped by every command applied; blank and membership entries do not show here.
    pub(super) applied: Option<EntryPosition>,
    /// The largest leader's clock seen.
    pub(super) clock: WallMs,
    pub(super) cluster_id: Option<u128>,
    pub(super) feature_level: u32,
    pub(super) founders: Vec<BrokerId>,
    pub(super) brokers: BTreeMap<BrokerId, Broker>,
    pub(super) topics: BTreeMap<String, Topic>,
    /// Oldest first, since group ids only grow.
    pub(super) deleted: BTreeMap<RaftGroupId, DeletedGroup>,
    pub(super) next_replica: u64,
    pub(super) next_group: u64,
    pub(super) next_producer_id: i64,
    /// Derived: which topic and partition each living group is.
    pub(super) by_group: BTreeMap<RaftGroupId, (String, PartitionId)>,
    /// Derived: names by id.
    pub(super) by_id: BTreeMap<TopicId, String>,
}

/// A registered broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    pub id: BrokerId,
    pub storage_id: u128,
    /// Advertised addresses, host:port.
    pub client_address: String,
    pub peer_address: String,
    pub http_address: String,
    pub rack: Option<String>,
    pub version: String,
    /// Its replica of the metadata group: its own id for a founder, an allocated one for others.
    pub metadata_replica: ReplicaId,
    pub registered_at: WallMs,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub name: String,
    pub id: TopicId,
    /// As the user set them; [`Topic::config`] says what they mean.
    pub configs: BTreeMap<String, String>,
    pub replication_factor: i32,
    /// By partition number, without gaps.
    pub partitions: Vec<PartitionInfo>,
    pub created_at: WallMs,
}

/// A partition's Raft group and where its replicas are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    pub group: RaftGroupId,
    /// The members the group was created with, for ever the same (SAFETY B6).
    pub initial: Vec<(ReplicaId, BrokerId)>,
    /// The members it should have now; the first is the preferred leader.
    pub replicas: Vec<(ReplicaId, BrokerId)>,
}

/// A tombstone (SAFETY M11): the positive word that a group's data may go.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    pub fn new() -> Metadata {
        todo!()
    }
    /// None until founded.
    pub fn cluster_id(&self) -> Option<u128> {
        self.cluster_id
    }
    pub fn feature_level(&self) -> u32 {
        self.feature_level
    }
    /// The last command applied.
    pub fn applied(&self) -> Option<EntryPosition> {
        self.applied
    }
    pub fn founders(&self) -> &[BrokerId] {
        &self.founders
    }
    pub fn brokers(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.values()
    }
    pub fn broker(&self, id: BrokerId) -> Option<&Broker> {
        self.brokers.get(&id)
    }
    /// By name.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topics.values()
    }
    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.get(name)
    }
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Topic> {
        self.by_id.get(&id).and_then(|n| self.topics.get(n))
    }
    pub fn partition(&self, at: &TopicPartition) -> Option<&PartitionInfo> {
        todo!("{at}")
    }
    /// Which partition a living group is.
    pub fn partition_of(&self, group: RaftGroupId) -> Option<TopicPartition> {
        todo!("{group}")
    }
    pub fn partitions_total(&self) -> usize {
        self.by_group.len()
    }
    /// Every replica that `broker` must run now.
    pub fn groups_on(&self, broker: BrokerId) -> Vec<PartitionPlacement> {
        todo!("{broker}")
    }
    /// Deleted groups whose data `broker` has not yet confirmed to be gone.
    pub fn deleted_on(&self, broker: BrokerId) -> Vec<DeletedPlacement> {
        todo!("{broker}")
    }
    pub fn is_deleted(&self, group: RaftGroupId) -> bool {
        self.deleted.contains_key(&group)
    }

    /// What creating would come to: the topic as it would be now. The same code that `apply` runs.
    pub fn check_create(&self, wish: &CreateTopic) -> Result<Topic, Refusal> {
        todo!("{wish:?}")
    }
    /// The topic as it would be.
    pub fn check_add_partitions(&self, wish: &AddPartitions) -> Result<Topic, Refusal> {
        todo!("{wish:?}")
    }
    /// The topic as it would be.
    pub fn check_alter(&self, wish: &AlterTopic) -> Result<Topic, Refusal> {
        todo!("{wish:?}")
    }
    /// The topic that would go.
    pub fn check_delete(&self, wish: &DeleteTopic) -> Result<&Topic, Refusal> {
        todo!("{wish:?}")
    }
}

impl Topic {
    /// What the configs mean.
    pub fn config(&self) -> TopicConfig {
        TopicConfig::parse(&self.configs, self.replication_factor)
            .expect("configs are validated before they are stored")
    }
}
