//! Requests about brokers and leaderships, and what brokers say of them.

use super::{Admin, topics::known_broker};
use crate::{
    client::{
        error::ClientError,
        metadata::Leader,
        net::{cluster_client, unary_within},
    },
    proto::v1,
    types::{BrokerId, LeaderEpoch, PartitionId, TopicPartition},
};

impl Admin {
    /// A request for the brokers and, if it names topics, where their partitions are led.
    pub fn describe_cluster(&self) -> DescribeCluster<'_> {
        DescribeCluster { admin: self, request: v1::GetMetadataRequest::default() }
    }

    /// What the broker at `address` says of the brokers: no other one is asked.
    pub async fn describe_cluster_at(&self, address: &str) -> Result<ClusterDescription, ClientError> {
        let channel = self.cluster.channel(address)?;
        let request = v1::GetMetadataRequest::default();
        let answer = unary_within(address, self.deadline, cluster_client(channel).get_metadata(request)).await?;
        Ok(ClusterDescription::of(answer))
    }

    /// A request that asks whether all is well, and what is not.
    pub fn health(&self) -> Health<'_> {
        Health { admin: self, request: v1::HealthRequest { details: false } }
    }

    /// A request that raises the cluster's feature level, once every broker supports the new one.
    pub fn raise_feature_level(&self) -> RaiseFeatureLevel<'_> {
        let timeout_ms = Some(self.timeout_ms());
        RaiseFeatureLevel {
            admin: self,
            request: v1::RaiseFeatureLevelRequest { to: None, dry_run: false, timeout_ms },
        }
    }

    /// A request that gives the leadership of a partition to another broker.
    pub fn transfer_leader(&self, partition: TopicPartition) -> TransferLeader<'_> {
        self.transfer(partition.topic, partition.partition)
    }

    /// A request that gives the leadership of the metadata group to another broker.
    pub fn transfer_metadata_leader(&self) -> TransferLeader<'_> {
        // Without a topic it is about the metadata group.
        self.transfer(String::new(), PartitionId(0))
    }

    fn transfer(&self, topic: String, partition: PartitionId) -> TransferLeader<'_> {
        let timeout_ms = Some(self.timeout_ms());
        let request = v1::TransferLeaderRequest { topic, partition: partition.0, to_broker: None, timeout_ms };
        TransferLeader { admin: self, request }
    }
}

/// A question about the cluster: see [`Admin::describe_cluster`].
#[must_use = "nothing is asked for before `send`"]
pub struct DescribeCluster<'a> {
    admin: &'a Admin,
    request: v1::GetMetadataRequest,
}

impl DescribeCluster<'_> {
    /// Asks also where the partitions of this topic are led; may be called again for others.
    pub fn topic(mut self, name: impl Into<String>) -> Self {
        self.request.topics.push(name.into());
        self
    }

    /// Asks also where the partitions of all topics are led.
    pub fn all_topics(mut self) -> Self {
        self.request.all_topics = true;
        self
    }

    /// Asks.
    pub async fn send(self) -> Result<ClusterDescription, ClientError> {
        let call = |channel, request| async move { cluster_client(channel).get_metadata(request).await };
        Ok(ClusterDescription::of(self.admin.ask("get_metadata", self.request, call).await?))
    }
}

/// A question about the cluster's health: see [`Admin::health`].
#[must_use = "nothing is asked for before `send`"]
pub struct Health<'a> {
    admin: &'a Admin,
    request: v1::HealthRequest,
}

impl Health<'_> {
    /// Whether the answer also names each partition that has a problem.
    pub fn details(mut self, details: bool) -> Self {
        self.request.details = details;
        self
    }

    /// Asks.
    pub async fn send(self) -> Result<ClusterHealth, ClientError> {
        let call = |channel, request| async move { cluster_client(channel).health(request).await };
        Ok(ClusterHealth::of(self.admin.ask("health", self.request, call).await?))
    }
}

/// A feature level that the cluster shall have: see [`Admin::raise_feature_level`].
#[must_use = "nothing is changed before `send`"]
pub struct RaiseFeatureLevel<'a> {
    admin: &'a Admin,
    request: v1::RaiseFeatureLevelRequest,
}

impl RaiseFeatureLevel<'_> {
    /// The new level; without it the highest that the asked broker supports.
    pub fn to(mut self, level: u32) -> Self {
        self.request.to = Some(level);
        self
    }

    /// Whether it is only checked.
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.request.dry_run = dry_run;
        self
    }

    /// Raises the level. Repeating it changes nothing more.
    pub async fn send(self) -> Result<RaisedLevel, ClientError> {
        let call = |channel, request| async move { cluster_client(channel).raise_feature_level(request).await };
        let raised = self.admin.change("raise_feature_level", self.request, call).await?;
        Ok(RaisedLevel { from: raised.from, to: raised.to })
    }
}

/// The cluster's feature level before and after a raise; equal if it was there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaisedLevel {
    /// The feature level that the cluster had before.
    pub from: u32,
    /// The feature level that the cluster has afterwards, or would have.
    pub to: u32,
}

/// A leadership that shall be another broker's: see [`Admin::transfer_leader`].
#[must_use = "nothing is asked for before `send`"]
pub struct TransferLeader<'a> {
    admin: &'a Admin,
    request: v1::TransferLeaderRequest,
}

impl TransferLeader<'_> {
    /// The broker that shall lead; without it the best of the others that have all records.
    pub fn to(mut self, broker: BrokerId) -> Self {
        self.request.to_broker = Some(broker.0);
        self
    }

    /// Moves the leadership, and says who leads now. Any broker passes it on to the leader; the one that shall lead is
    /// asked last, for if it hangs, that is what the others have to say.
    pub async fn send(self) -> Result<Leader, ClientError> {
        let limit = self.admin.deadline + super::GRACE;
        let call = |address: String, channel| {
            let request = self.request.clone();
            async move { unary_within(&address, limit, cluster_client(channel).transfer_leader(request)).await }
        };
        let to = self.request.to_broker.map(BrokerId);
        let answer = self.admin.cluster.change_avoiding("transfer_leader", limit, to, call).await?;
        Ok(Leader { broker: BrokerId(answer.leader), epoch: LeaderEpoch(answer.epoch) })
    }
}

/// The brokers of a cluster as one of them sees it, and where the partitions of topics are led.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterDescription {
    /// What tells this cluster from every other; empty until it is formed.
    pub cluster_id: String,
    /// How new it is: of two views the one with the higher number was made later.
    pub metadata_index: u64,
    /// The leader of the metadata group, if one is known that serves.
    pub metadata_leader: Option<BrokerId>,
    /// The brokers that the cluster has.
    pub brokers: Vec<BrokerInfo>,
    /// The topics that were asked for. One that is not known has no partitions.
    pub topics: Vec<TopicRoutes>,
    /// Whether the broker that answered is cut off from the others: all of it may be old then.
    pub is_stale: bool,
}

impl ClusterDescription {
    pub(in crate::client) fn of(answer: v1::GetMetadataResponse) -> ClusterDescription {
        ClusterDescription {
            cluster_id: answer.cluster_id,
            metadata_index: answer.metadata_index,
            metadata_leader: known_broker(answer.metadata_leader),
            brokers: answer.brokers.into_iter().map(BrokerInfo::of).collect(),
            topics: answer.topics.into_iter().map(TopicRoutes::of).collect(),
            is_stale: answer.routes_stale,
        }
    }
}

/// A broker of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerInfo {
    /// The id of the broker.
    pub id: BrokerId,
    /// Where clients reach the broker, as host:port.
    pub client_address: String,
    /// Where other brokers reach it, as host:port.
    pub peer_address: String,
    /// Where its metrics and console are, as host:port.
    pub http_address: String,
    /// Where Kafka clients reach the broker, as host:port; empty if it has no listener for them, or has not said so yet.
    pub kafka_address: String,
    /// Where it stands; empty if its operator did not say.
    pub rack: String,
    /// Whether the broker that answered hears from this one.
    pub is_alive: bool,
    /// Whether the broker votes in the metadata group.
    pub is_metadata_voter: bool,
    /// The version that it runs.
    pub version: String,
}

impl BrokerInfo {
    pub(in crate::client) fn of(broker: v1::BrokerInfo) -> BrokerInfo {
        BrokerInfo {
            id: BrokerId(broker.id),
            client_address: broker.client_address,
            peer_address: broker.peer_address,
            http_address: broker.http_address,
            kafka_address: broker.kafka_address,
            rack: broker.rack,
            is_alive: broker.alive,
            is_metadata_voter: broker.metadata_voter,
            version: broker.version,
        }
    }
}

/// Where the partitions of a topic are led.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicRoutes {
    /// The topic's name.
    pub name: String,
    /// The topic's partitions, by number; there are none if the topic is not known.
    pub partitions: Vec<PartitionRoute>,
}

impl TopicRoutes {
    fn of(topic: v1::TopicRouting) -> TopicRoutes {
        let partitions = topic.partitions.into_iter().map(PartitionRoute::of).collect();
        TopicRoutes { name: topic.name, partitions }
    }
}

/// Where a partition is led, and which brokers keep it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionRoute {
    /// The partition's number in the topic.
    pub partition: PartitionId,
    /// The broker that leads it, if one is known.
    pub leader: Option<BrokerId>,
    /// The epoch since which the leader leads.
    pub epoch: LeaderEpoch,
    /// The brokers that keep it, the preferred leader first.
    pub replicas: Vec<BrokerId>,
}

impl PartitionRoute {
    fn of(p: v1::PartitionRouting) -> PartitionRoute {
        PartitionRoute {
            partition: PartitionId(p.partition),
            leader: known_broker(p.leader),
            epoch: LeaderEpoch(p.epoch),
            replicas: p.replicas.into_iter().map(BrokerId).collect(),
        }
    }
}

/// Whether all is well with a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterHealth {
    /// Whether there is no problem.
    pub is_healthy: bool,
    /// What is wrong: one sentence for each cause, with counts.
    pub problems: Vec<String>,
    /// The partitions behind the counts, one sentence each, if they were asked for; 10,000 at most.
    pub details: Vec<String>,
    /// What is worth knowing and no problem, one sentence each.
    pub notes: Vec<String>,
    /// How many brokers answer.
    pub brokers_alive: i32,
    /// How many brokers there are.
    pub brokers: i32,
    /// How many partitions there are.
    pub partitions: i32,
    /// How many of them nobody leads.
    pub partitions_without_leader: i32,
    /// How many partitions miss a replica.
    pub partitions_under_replicated: i32,
    /// What brokers may write to one another and to disk. None: the broker that answered is of a version that does not
    /// say, or in no cluster yet.
    pub feature_level: Option<u32>,
    /// What every broker supports, as far as they said. None as for `feature_level`.
    pub feature_level_supported: Option<u32>,
}

impl ClusterHealth {
    pub(in crate::client) fn of(answer: v1::HealthResponse) -> ClusterHealth {
        // Levels begin at 1.
        let told = |level: u32| (level > 0).then_some(level);
        ClusterHealth {
            is_healthy: answer.healthy,
            problems: answer.problems,
            details: answer.details,
            notes: answer.notes,
            brokers_alive: answer.brokers_alive,
            brokers: answer.brokers,
            partitions: answer.partitions,
            partitions_without_leader: answer.partitions_without_leader,
            partitions_under_replicated: answer.partitions_under_replicated,
            feature_level: told(answer.feature_level),
            feature_level_supported: told(answer.feature_level_supported),
        }
    }
}
