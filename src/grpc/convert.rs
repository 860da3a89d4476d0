//! What the broker answers, as the wire says it.

use bytes::Bytes;

use crate::{
    broker::groups::{CommittedOffset, GroupDescription, GroupMember, GroupPartition, GroupSummary, HeartbeatAnswer},
    broker::{
        BrokerView, ClusterView, HealthReport, LeaderNow, PartitionDescription, PartitionView, Receipt, ReplicaHash,
        RereadHash, TopicDescription, TopicSummary, TopicView,
    },
    group::{GroupPhase, PartitionSet},
    metadata::ConfigEntry,
    proto::v1,
    rolling::Mark,
    types::{BrokerId, ms_i64, ms_u32},
};

/// What offsets and sizes say where the leader could not be asked.
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
        configs: by_key(topic.configs).collect(),
        partitions: topic.partitions.into_iter().map(partition).collect(),
        notes: topic.notes,
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

/// Returns keys with their values. The wire does not say who set them.
fn by_key(configs: Vec<ConfigEntry>) -> impl Iterator<Item = (String, String)> {
    configs.into_iter().map(|entry| (entry.key.to_string(), entry.value))
}

pub(super) fn summary(topic: TopicSummary) -> v1::TopicSummary {
    v1::TopicSummary {
        name: topic.name,
        partitions: count(topic.partitions),
        replication_factor: count(topic.replication_factor),
    }
}

pub(super) fn metadata(view: ClusterView) -> v1::GetMetadataResponse {
    let (metadata_leader, metadata_leader_epoch) = leader(view.metadata_leader);
    v1::GetMetadataResponse {
        // Empty before the cluster is formed.
        cluster_id: view.cluster_id.map(|id| id.to_string()).unwrap_or_default(),
        metadata_index: view.metadata_index.0,
        metadata_leader,
        metadata_leader_epoch,
        routes_stale: view.routes_stale,
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
        kafka_address: broker.kafka_address,
        rack: broker.rack,
        alive: broker.alive,
        metadata_voter: broker.metadata_voter,
        version: broker.version,
    }
}

fn routing(topic: TopicView) -> v1::TopicRouting {
    v1::TopicRouting {
        name: topic.name,
        id: topic.id.map(|id| id.to_string()).unwrap_or_default(),
        partitions: topic.partitions.into_iter().map(partition_routing).collect(),
        configs: by_key(topic.configs).collect(),
    }
}

fn partition_routing(partition: PartitionView) -> v1::PartitionRouting {
    let (leader, epoch) = leader(partition.leader);
    v1::PartitionRouting { partition: partition.partition.0, leader, epoch, replicas: ids(partition.replicas) }
}

pub(super) fn health(report: HealthReport, with_details: bool) -> v1::HealthResponse {
    v1::HealthResponse {
        healthy: report.healthy,
        problems: report.problems,
        brokers_alive: count(report.brokers_alive),
        brokers: count(report.brokers),
        partitions: count(report.partitions),
        partitions_without_leader: count(report.partitions_without_leader),
        partitions_under_replicated: count(report.partitions_under_replicated),
        notes: report.notes,
        feature_level: report.feature_level,
        feature_level_supported: report.feature_level_supported,
        details: if with_details { report.details } else { Vec::new() },
    }
}

pub(super) fn heartbeat(answer: HeartbeatAnswer) -> v1::GroupHeartbeatResponse {
    v1::GroupHeartbeatResponse {
        member_id: answer.member.0,
        epoch: answer.epoch,
        assigned: partition_sets(answer.assigned),
        heartbeat_ms: ms_u32(answer.next_beat),
        rebalancing: answer.rebalancing,
    }
}

pub(super) fn committed(offset: CommittedOffset) -> v1::CommittedOffset {
    v1::CommittedOffset {
        topic: offset.at.topic,
        partition: offset.at.partition.0,
        offset: offset.offset.0,
        leader_epoch: offset.leader_epoch.map(|epoch| epoch.0),
        metadata: offset.metadata,
        committed_at_ms: offset.committed_at.0,
    }
}

pub(super) fn group_summary(group: GroupSummary) -> v1::GroupSummary {
    let state = match group.phase {
        GroupPhase::Empty => "empty",
        GroupPhase::Stable => "stable",
        GroupPhase::Rebalancing | GroupPhase::Joining | GroupPhase::Syncing => "rebalancing",
    };
    let members = count(group.members);
    v1::GroupSummary { group: group.group.0, state: state.into(), protocol: group.protocol, members }
}

pub(super) fn group(group: GroupDescription) -> v1::DescribeGroupResponse {
    v1::DescribeGroupResponse {
        summary: Some(group_summary(group.summary)),
        epoch: group.epoch,
        assignor: group.assignor,
        coordinator: group.coordinator.map_or(0, |broker| broker.0),
        members: group.members.into_iter().map(group_member).collect(),
        partitions: group.partitions.into_iter().map(group_partition).collect(),
    }
}

fn group_member(member: GroupMember) -> v1::GroupMember {
    v1::GroupMember {
        member_id: member.member.0,
        instance_id: member.instance.unwrap_or_default(),
        client_id: member.client_id,
        client_host: member.client_host,
        topics: member.subscription.topics,
        pattern: member.subscription.pattern.unwrap_or_default(),
        assigned: partition_sets(member.assigned),
        revoking: partition_sets(member.revoking),
    }
}

fn group_partition(partition: GroupPartition) -> v1::GroupPartition {
    let (log_start, high_watermark) = partition.bounds.map_or((NOT_ASKED, NOT_ASKED), |(start, end)| (start.0, end.0));
    v1::GroupPartition {
        topic: partition.at.topic,
        partition: partition.at.partition.0,
        member_id: partition.member.unwrap_or_default().0,
        committed: partition.committed.map(|offset| offset.0),
        metadata: partition.metadata,
        log_start,
        high_watermark,
        lag: partition.lag.unwrap_or(NOT_ASKED),
        lag_ms: partition.lag_time.map_or(NOT_ASKED, ms_i64),
        retention_threatens: partition.retention_threatens,
    }
}

fn partition_sets(sets: PartitionSet) -> Vec<v1::PartitionSet> {
    let one = |(topic, partitions): (String, Vec<_>)| v1::PartitionSet {
        topic,
        partitions: partitions.into_iter().map(|partition: crate::types::PartitionId| partition.0).collect(),
    };
    sets.into_iter().map(one).collect()
}

/// Returns the leader and its epoch; 0 says that none is known, for no broker has that id.
fn leader(leader: Option<LeaderNow>) -> (u64, i32) {
    leader.map_or((0, 0), |leader| (leader.broker.0, leader.epoch.0))
}

fn ids(brokers: Vec<BrokerId>) -> Vec<u64> {
    brokers.into_iter().map(|broker| broker.0).collect()
}

/// Encodes a count of things that a cluster never has two billion of.
fn count(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// What a replica is compared by.
pub fn replica_hash(hash: ReplicaHash) -> v1::HashReplicaResponse {
    let sum = |sum: u128| Bytes::copy_from_slice(&sum.to_be_bytes());
    let mark = |mark: Mark| v1::HashMark { next_index: mark.next.0, sum: sum(mark.sum) };
    let reread = hash.reread.map(|reread| match reread {
        RereadHash::Damaged(failed) => {
            let damage = failed.reason().to_string();
            v1::RereadEntries { damage, ..v1::RereadEntries::default() }
        }
        RereadHash::Read(read) => v1::RereadEntries {
            from: read.from.0,
            next: read.next.0,
            sum: sum(read.sum),
            bytes: read.bytes,
            wrong: read.wrong.into_iter().map(|(index, problem)| v1::WrongEntry { index: index.0, problem }).collect(),
            damage: String::new(),
        },
    });
    v1::HashReplicaResponse {
        broker: hash.broker.0,
        group: hash.group.0,
        first_index: hash.log.first.0,
        marks: hash.log.marks.into_iter().map(mark).collect(),
        state: hash.log.state.map(sum).unwrap_or_default(),
        reread,
    }
}
