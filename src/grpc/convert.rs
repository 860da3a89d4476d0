//! What the broker answers, as the wire says it.

use crate::{
    broker::{
        BrokerView, ClusterView, HealthReport, LeaderNow, PartitionDescription, PartitionView, Receipt,
        TopicDescription, TopicSummary, TopicView,
    },
    proto::v1,
    types::BrokerId,
};

/// Offsets and sizes where the leader could not be asked.
const NOT_ASKED: i64 = -1;

pub(super) fn receipt(receipt: Receipt) -> v1::Receipt {
    v1::Receipt {
        topic: receipt.topic,
        partition: receipt.partition.0,
        base_offset: receipt.base_offset.0,
        count: receipt.count,
        epoch: receipt.epoch.0,
        index: receipt.index.0,
        durable_on: ids(receipt.durable_on),
        duplicate: receipt.duplicate,
    }
}

pub(super) fn topic(topic: TopicDescription) -> v1::TopicDescription {
    v1::TopicDescription {
        name: topic.name,
        id: topic.id.to_string(),
        configs: topic.configs.into_iter().collect(),
        partitions: topic.partitions.into_iter().map(partition).collect(),
    }
}

fn partition(partition: PartitionDescription) -> v1::PartitionDescription {
    let (leader, epoch) = leader(partition.leader);
    let stats = partition.stats;
    v1::PartitionDescription {
        partition: partition.partition.0,
        leader,
        epoch,
        replicas: ids(partition.replicas),
        log_start: stats.map_or(NOT_ASKED, |stats| stats.log_start.0),
        high_watermark: stats.map_or(NOT_ASKED, |stats| stats.high_watermark.0),
        bytes: stats.map_or(NOT_ASKED, |stats| i64::try_from(stats.bytes).unwrap_or(i64::MAX)),
        raft_group: partition.raft_group.0,
    }
}

pub(super) fn summary(topic: TopicSummary) -> v1::TopicSummary {
    v1::TopicSummary {
        name: topic.name,
        partitions: count(topic.partitions),
        replication_factor: count(topic.replication_factor),
    }
}

pub(super) fn metadata(view: ClusterView) -> v1::GetMetadataResponse {
    v1::GetMetadataResponse {
        // Empty before the cluster is formed.
        cluster_id: view.cluster_id.map(|id| format!("{id:032x}")).unwrap_or_default(),
        metadata_index: view.metadata_index.0,
        metadata_leader: view.metadata_leader.map_or(0, |broker| broker.0),
        brokers: view.brokers.into_iter().map(broker).collect(),
        topics: view.topics.into_iter().map(routing).collect(),
    }
}

fn broker(broker: BrokerView) -> v1::BrokerInfo {
    v1::BrokerInfo {
        id: broker.id.0,
        client_address: broker.client_address,
        peer_address: broker.peer_address,
        http_address: broker.http_address,
        rack: broker.rack,
        alive: broker.alive,
        metadata_voter: broker.metadata_voter,
        version: broker.version,
    }
}

fn routing(topic: TopicView) -> v1::TopicRouting {
    v1::TopicRouting {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(partition_routing).collect(),
        configs: topic.configs.into_iter().collect(),
    }
}

fn partition_routing(partition: PartitionView) -> v1::PartitionRouting {
    let (leader, epoch) = leader(partition.leader);
    v1::PartitionRouting { partition: partition.partition.0, leader, epoch, replicas: ids(partition.replicas) }
}

pub(super) fn health(report: HealthReport) -> v1::HealthResponse {
    v1::HealthResponse {
        healthy: report.healthy,
        problems: report.problems,
        brokers_alive: count(report.brokers_alive),
        brokers: count(report.brokers),
        partitions: count(report.partitions),
        partitions_without_leader: count(report.partitions_without_leader),
        partitions_under_replicated: count(report.partitions_under_replicated),
        notes: report.notes,
    }
}

/// 0: none known; no broker has that id.
fn leader(leader: Option<LeaderNow>) -> (u64, i32) {
    leader.map_or((0, 0), |leader| (leader.broker.0, leader.epoch.0))
}

fn ids(brokers: Vec<BrokerId>) -> Vec<u64> {
    brokers.into_iter().map(|broker| broker.0).collect()
}

/// Counts of things that a cluster never has two billion of.
fn count(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
