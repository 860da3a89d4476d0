//! What the faces ask and what they are told: plain data, no wire types.

pub mod groups;
pub mod here;
pub mod reads;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::limits;
use crate::{
    metadata::ConfigEntry,
    types::{
        BrokerId, ClusterId, LeaderEpoch, LogIndex, Offset, PartitionId, ProducerEpoch, ProducerId, RaftGroupId,
        TopicId, WallMs,
    },
};

/// How long a request may take that says nothing of it, or more than any may.
pub fn or_default(asked: Duration, default: Duration) -> Duration {
    if asked.is_zero() { default } else { asked.min(limits::REQUEST_TIMEOUT_MAX) }
}

/// When a produce is answered. `Leader` is answered at commit too (SAFETY B8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    All,
    Leader,
    /// Never answered, nothing promised.
    None,
}

#[derive(Clone, Debug)]
pub struct ProduceRequest {
    pub topic: String,
    /// The topic that is meant; None: whichever has the name.
    pub topic_id: Option<TopicId>,
    pub partition: PartitionId,
    pub acks: Acks,
    pub timeout: Duration,
    /// Exactly one record batch, format v2. Base offset and leader epoch are overwritten.
    pub batch: Bytes,
    /// Compare-and-append.
    pub expected_offset: Option<Offset>,
}

/// Where an acknowledged batch is, and which voters hold it on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub topic: String,
    pub partition: PartitionId,
    pub base_offset: Offset,
    pub count: i32,
    pub epoch: LeaderEpoch,
    pub index: LogIndex,
    /// At least a majority of the voters, always; sorted.
    pub durable_on: Vec<BrokerId>,
    /// The batch was a retry of one already in the log.
    pub duplicate: bool,
    /// What its records were stamped with. None: they keep their own times, or it is the retry of a batch whose
    /// stamp is not remembered.
    pub log_append_time: Option<WallMs>,
    /// The partition's first offset at the moment of this answer.
    pub log_start: Offset,
}

#[derive(Clone, Debug, Default)]
pub struct CreateTopicRequest {
    pub name: String,
    /// None: 1.
    pub partitions: Option<u32>,
    /// None: 3, or all brokers if fewer.
    pub replication_factor: Option<u32>,
    pub configs: BTreeMap<String, String>,
    pub dry_run: bool,
    /// Wait until every partition has a leader that answers.
    pub wait: bool,
    /// Zero: 30 s.
    pub timeout: Duration,
}

#[derive(Clone, Debug, Default)]
pub struct AlterTopicRequest {
    pub name: String,
    pub set: BTreeMap<String, String>,
    pub unset: Vec<String>,
    /// All that is not set goes back to its default.
    pub replaces: bool,
    pub dry_run: bool,
}

#[derive(Clone, Debug)]
pub struct AddPartitionsRequest {
    pub name: String,
    /// The new total.
    pub partitions: u32,
    pub dry_run: bool,
}

#[derive(Clone, Debug)]
pub struct TrimRequest {
    pub topic: String,
    pub partition: PartitionId,
    /// The new log start; None: the high watermark.
    pub before: Option<Offset>,
    pub dry_run: bool,
}

#[derive(Clone, Debug, Default)]
pub struct DeleteTopicRequest {
    pub name: String,
    /// The topic that is meant; None: whichever has the name.
    pub topic_id: Option<TopicId>,
    pub dry_run: bool,
}

#[derive(Clone, Debug)]
pub struct TransferLeaderRequest {
    /// None: the metadata group.
    pub partition: Option<(String, PartitionId)>,
    /// None: the best caught-up other voter.
    pub to: Option<BrokerId>,
    /// Zero: 10 s.
    pub timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderNow {
    pub broker: BrokerId,
    pub epoch: LeaderEpoch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdentity {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSummary {
    pub name: String,
    pub id: TopicId,
    pub partitions: u32,
    pub replication_factor: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    pub name: String,
    pub id: TopicId,
    /// Every config, and whether the topic or the default says so.
    pub configs: Vec<ConfigEntry>,
    pub partitions: Vec<PartitionDescription>,
    /// Worth knowing, one sentence each.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDescription {
    pub partition: PartitionId,
    pub leader: Option<LeaderNow>,
    /// The preferred leader first.
    pub replicas: Vec<BrokerId>,
    pub raft_group: RaftGroupId,
    /// None where the leader could not be asked.
    pub stats: Option<PartitionStats>,
}

/// A partition's size as its leader counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionStats {
    pub log_start: Offset,
    pub high_watermark: Offset,
    /// Bytes of records between the two.
    pub bytes: u64,
}

/// Which topics a metadata view covers.
#[derive(Clone, Debug)]
pub enum TopicsWanted {
    None,
    All,
    Named(Vec<String>),
}

/// What a client needs to route. May be stale by what lies after `metadata_index`.
#[derive(Clone, Debug)]
pub struct ClusterView {
    /// None before the cluster is formed.
    pub cluster_id: Option<ClusterId>,
    pub metadata_index: LogIndex,
    pub metadata_leader: Option<LeaderNow>,
    /// The answering broker is cut off: leaders may have moved, and topics may have been made, without its knowing.
    pub routes_stale: bool,
    pub brokers: Vec<BrokerView>,
    /// Named topics that do not exist have no partitions.
    pub topics: Vec<TopicView>,
}

#[derive(Clone, Debug)]
pub struct BrokerView {
    pub id: BrokerId,
    pub client_address: String,
    pub peer_address: String,
    pub http_address: String,
    /// Where Kafka clients connect. Empty: the broker has no listener for them, or the metadata does not say yet.
    pub kafka_address: String,
    pub rack: String,
    pub version: String,
    /// This broker has a live link to it, or is it.
    pub alive: bool,
    pub metadata_voter: bool,
}

#[derive(Clone, Debug)]
pub struct TopicView {
    pub name: String,
    /// None: there is no such topic.
    pub id: Option<TopicId>,
    /// Every config, and whether the topic or the default says so.
    pub configs: Vec<ConfigEntry>,
    pub partitions: Vec<PartitionView>,
}

#[derive(Clone, Debug)]
pub struct PartitionView {
    pub partition: PartitionId,
    pub leader: Option<LeaderNow>,
    pub replicas: Vec<BrokerId>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthReport {
    pub healthy: bool,
    /// One sentence for each cause, with counts.
    pub problems: Vec<String>,
    /// What stands behind the counts, one partition a line.
    pub details: Vec<String>,
    /// Worth knowing and no problem, one sentence each.
    pub notes: Vec<String>,
    pub brokers_alive: u32,
    pub brokers: u32,
    pub partitions: u32,
    pub partitions_without_leader: u32,
    pub partitions_under_replicated: u32,
    /// What the cluster may write; 0: not known here.
    pub feature_level: u32,
    /// What every registered broker supports, as far as they said.
    pub feature_level_supported: u32,
}

/// Lets the cluster write at a higher feature level, if every registered broker supports it.
#[derive(Clone, Copy, Debug, Default)]
pub struct RaiseFeatureLevelRequest {
    /// None: the highest that the asked broker supports.
    pub to: Option<u32>,
    /// Check only.
    pub dry_run: bool,
    /// Zero: the default.
    pub timeout: Duration,
}

/// Equal: the cluster was at that level already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureLevelRaised {
    pub from: u32,
    pub to: u32,
}

/// For `/readyz` and the health service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// Why not, as a sentence.
    NotReady(String),
}
