//! Requests about topics, and what brokers say of them.

use std::collections::BTreeMap;

use super::{Admin, nothing_said};
use crate::{
    client::{error::ClientError, net::topics_client},
    proto::v1,
    types::{BrokerId, LeaderEpoch, Offset, PartitionId, RaftGroupId, TopicId, TopicPartition},
};

impl Admin {
    /// A request for a new topic: of one partition, with three replicas (or one on each broker, if there are fewer),
    /// unless it is told otherwise.
    pub fn create_topic(&self, name: impl Into<String>) -> CreateTopic<'_> {
        let timeout_ms = Some(self.timeout_ms());
        let request = v1::CreateTopicRequest { name: name.into(), timeout_ms, ..Default::default() };
        CreateTopic { admin: self, request }
    }

    /// A request that sets configs of a topic, or gives them back their defaults.
    pub fn alter_topic(&self, name: impl Into<String>) -> AlterTopic<'_> {
        AlterTopic { admin: self, request: v1::AlterTopicRequest { name: name.into(), ..Default::default() } }
    }

    /// A request for more partitions: `total` is how many the topic shall have. It never has fewer than before.
    pub fn add_partitions(&self, name: impl Into<String>, total: i32) -> AddPartitions<'_> {
        let request = v1::AddPartitionsRequest { name: name.into(), partitions: total, dry_run: false };
        AddPartitions { admin: self, request }
    }

    /// A request that deletes the records of a partition below an offset, for good; without
    /// [`TrimPartition::before`] all that are committed. Repeating it changes nothing more.
    pub fn trim_partition(&self, partition: TopicPartition) -> TrimPartition<'_> {
        let request = v1::TrimPartitionRequest {
            topic: partition.topic,
            partition: partition.partition.0,
            // The wire's word for the high watermark.
            before_offset: -1,
            dry_run: false,
        };
        TrimPartition { admin: self, request }
    }

    /// A request that deletes a topic with its records.
    pub fn delete_topic(&self, name: impl Into<String>) -> DeleteTopic<'_> {
        DeleteTopic { admin: self, request: v1::DeleteTopicRequest { name: name.into(), dry_run: false } }
    }

    /// Lists all topics, in no particular order.
    pub async fn list_topics(&self) -> Result<Vec<TopicSummary>, ClientError> {
        let call = |channel, request| async move { topics_client(channel).list_topics(request).await };
        let answer = self.ask("list_topics", v1::ListTopicsRequest {}, call).await?;
        Ok(answer.topics.into_iter().map(TopicSummary::of).collect())
    }

    /// Describes one topic, with its configs, and the leaders, offsets and sizes of its partitions.
    pub async fn describe_topic(&self, name: &str) -> Result<TopicDescription, ClientError> {
        let request = v1::DescribeTopicRequest { name: name.into() };
        let call = |channel, request| async move { topics_client(channel).describe_topic(request).await };
        TopicDescription::of(self.ask("describe_topic", request, call).await?.topic)
    }
}

/// A topic that shall be: see [`Admin::create_topic`].
#[must_use = "nothing is asked for before `send`"]
pub struct CreateTopic<'a> {
    admin: &'a Admin,
    request: v1::CreateTopicRequest,
}

impl CreateTopic<'_> {
    /// How many partitions it has, from 1 to 10,000.
    pub fn partitions(mut self, partitions: i32) -> Self {
        self.request.partitions = Some(partitions);
        self
    }

    /// Sets on how many brokers each partition is kept, its leader included.
    pub fn replicas(mut self, replicas: i32) -> Self {
        self.request.replication_factor = Some(replicas);
        self
    }

    /// Sets a config, by Kafka's name for it: `retention.ms`, `max.message.bytes` and others.
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.request.configs.insert(name.into(), value.into());
        self
    }

    /// Whether the answer comes only when every partition has a leader that takes records.
    pub fn wait(mut self, wait: bool) -> Self {
        self.request.wait = wait;
        self
    }

    /// Whether it is only checked, and the answer says what would be.
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.request.dry_run = dry_run;
        self
    }

    /// Creates the topic.
    pub async fn send(self) -> Result<TopicDescription, ClientError> {
        let call = |channel, request| async move { topics_client(channel).create_topic(request).await };
        TopicDescription::of(self.admin.change("create_topic", self.request, call).await?.topic)
    }
}

/// Configs of a topic that shall change: see [`Admin::alter_topic`].
#[must_use = "nothing is asked for before `send`"]
pub struct AlterTopic<'a> {
    admin: &'a Admin,
    request: v1::AlterTopicRequest,
}

impl AlterTopic<'_> {
    /// Sets a config.
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.request.set.insert(name.into(), value.into());
        self
    }

    /// Gives a config back its default.
    pub fn unset(mut self, name: impl Into<String>) -> Self {
        self.request.unset.push(name.into());
        self
    }

    /// Whether it is only checked, and the answer says what would be.
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.request.dry_run = dry_run;
        self
    }

    /// Changes the configs.
    pub async fn send(self) -> Result<TopicDescription, ClientError> {
        let call = |channel, request| async move { topics_client(channel).alter_topic(request).await };
        TopicDescription::of(self.admin.change("alter_topic", self.request, call).await?.topic)
    }
}

/// Partitions that a topic shall have: see [`Admin::add_partitions`].
#[must_use = "nothing is asked for before `send`"]
pub struct AddPartitions<'a> {
    admin: &'a Admin,
    request: v1::AddPartitionsRequest,
}

impl AddPartitions<'_> {
    /// Whether it is only checked, and the answer says what would be.
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.request.dry_run = dry_run;
        self
    }

    /// Adds the partitions.
    pub async fn send(self) -> Result<TopicDescription, ClientError> {
        let call = |channel, request| async move { topics_client(channel).add_partitions(request).await };
        TopicDescription::of(self.admin.change("add_partitions", self.request, call).await?.topic)
    }
}

/// Records of a partition that shall go: see [`Admin::trim_partition`].
#[must_use = "nothing is asked for before `send`"]
pub struct TrimPartition<'a> {
    admin: &'a Admin,
    request: v1::TrimPartitionRequest,
}

impl TrimPartition<'_> {
    /// The first offset that is kept.
    pub fn before(mut self, offset: Offset) -> Self {
        self.request.before_offset = offset.0;
        self
    }

    /// Whether it is only checked, and the answer says what would be.
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.request.dry_run = dry_run;
        self
    }

    /// Deletes the records, and says at which offset the partition begins now.
    pub async fn send(self) -> Result<Offset, ClientError> {
        let call = |channel, request| async move { topics_client(channel).trim_partition(request).await };
        Ok(Offset(self.admin.change("trim_partition", self.request, call).await?.log_start))
    }
}

/// A topic that shall go: see [`Admin::delete_topic`].
#[must_use = "nothing is asked for before `send`"]
pub struct DeleteTopic<'a> {
    admin: &'a Admin,
    request: v1::DeleteTopicRequest,
}

impl DeleteTopic<'_> {
    /// Whether it is only checked, and the answer says what would go.
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.request.dry_run = dry_run;
        self
    }

    /// Deletes the topic, and says what it was.
    pub async fn send(self) -> Result<TopicSummary, ClientError> {
        let call = |channel, request| async move { topics_client(channel).delete_topic(request).await };
        let answer = self.admin.change("delete_topic", self.request, call).await?;
        answer.topic.map(TopicSummary::of).ok_or_else(|| nothing_said("the topic"))
    }
}

/// A topic in a list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicSummary {
    /// The name of the topic.
    pub name: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// The number of brokers on which each partition is kept.
    pub replicas: i32,
}

impl TopicSummary {
    fn of(topic: v1::TopicSummary) -> TopicSummary {
        let v1::TopicSummary { name, partitions, replication_factor } = topic;
        TopicSummary { name, partitions, replicas: replication_factor }
    }
}

/// A topic and where its partitions stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicDescription {
    /// The name of the topic.
    pub name: String,
    /// What tells it from every other topic that ever has its name; `None` in a dry run of one that is not made yet.
    pub id: Option<TopicId>,
    /// The configs that it was given; all others have their defaults.
    pub configs: BTreeMap<String, String>,
    /// The topic's partitions, by number.
    pub partitions: Vec<PartitionDescription>,
    /// What is worth knowing about it, one sentence each.
    pub notes: Vec<String>,
}

impl TopicDescription {
    pub(in crate::client) fn of(topic: Option<v1::TopicDescription>) -> Result<TopicDescription, ClientError> {
        let v1::TopicDescription { name, id, configs, partitions, notes } =
            topic.ok_or_else(|| nothing_said("the topic"))?;
        Ok(TopicDescription {
            name,
            id: u128::from_str_radix(&id, 16).ok().filter(|id| *id != 0).map(TopicId),
            configs: configs.into_iter().collect(),
            partitions: partitions.into_iter().map(PartitionDescription::of).collect(),
            notes,
        })
    }
}

/// A partition, who keeps it, and what it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionDescription {
    /// The partition's number in the topic.
    pub partition: PartitionId,
    /// The broker that leads it, if one is known.
    pub leader: Option<BrokerId>,
    /// The epoch since which the leader leads.
    pub epoch: LeaderEpoch,
    /// The brokers that keep it, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// The first offset that is kept; `None` where the leader could not be asked.
    pub log_start: Option<Offset>,
    /// The offset of the next record to be committed; `None` where the leader could not be asked.
    pub high_watermark: Option<Offset>,
    /// How many bytes of records it holds, as its leader counts them.
    pub bytes: i64,
    /// The Raft group that replicates the partition.
    pub raft_group: RaftGroupId,
}

impl PartitionDescription {
    fn of(p: v1::PartitionDescription) -> PartitionDescription {
        PartitionDescription {
            partition: PartitionId(p.partition),
            leader: known_broker(p.leader),
            epoch: LeaderEpoch(p.epoch),
            replicas: p.replicas.into_iter().map(BrokerId).collect(),
            log_start: known_offset(p.log_start),
            high_watermark: known_offset(p.high_watermark),
            bytes: p.bytes,
            raft_group: RaftGroupId(p.raft_group),
        }
    }
}

/// Reads a broker's id; on the wire 0 says that there is none.
pub(super) fn known_broker(id: u64) -> Option<BrokerId> {
    Some(BrokerId(id)).filter(|id| id.0 != 0)
}

/// Reads an offset; on the wire -1 says that it is not known.
pub(super) fn known_offset(offset: i64) -> Option<Offset> {
    Some(Offset(offset)).filter(|offset| offset.0 >= 0)
}
