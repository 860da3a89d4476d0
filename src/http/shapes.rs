//! The JSON of the API. An interface: where the CLI prints the same thing with `--format json`, the
//! shape is the same, so that a script may use either. Frozen by the tests of this module.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::records::{Page, Row};
use crate::{
    broker::{
        BrokerView, ClusterView, HealthReport, PartitionDescription, TopicDescription, TopicSummary,
        groups::{GroupDescription, GroupMember, GroupPartition, GroupSummary},
    },
    group::{GroupPhase, PartitionSet},
    metadata::ConfigEntry,
    metrics::{KafkaClients, SAMPLE_EVERY, Sample},
    record::Record,
    types::{BrokerId, Offset, PartitionId},
};

/// Offsets and sizes where the leader could not be asked.
const NOT_ASKED: i64 = -1;

/// The JSON of `cluster health`.
pub fn health(report: &HealthReport) -> Value {
    json!({
        "healthy": report.healthy, "problems": report.problems, "notes": report.notes,
        "brokers_alive": report.brokers_alive, "brokers": report.brokers, "partitions": report.partitions,
        "partitions_without_leader": report.partitions_without_leader,
        "partitions_under_replicated": report.partitions_under_replicated,
        "feature_level": report.feature_level, "feature_level_supported": report.feature_level_supported,
    })
}

/// The JSON of `cluster nodes`.
pub fn nodes(view: &ClusterView) -> Value {
    let broker = |broker: &BrokerView| {
        json!({
            "id": broker.id, "alive": broker.alive, "metadata_voter": broker.metadata_voter,
            "client": broker.client_address, "peer": broker.peer_address, "http": broker.http_address,
            "kafka": broker.kafka_address, "rack": broker.rack, "version": broker.version,
        })
    };
    json!({
        "cluster_id": cluster_id(view),
        "metadata_leader": view.metadata_leader.map(|leader| leader.broker).unwrap_or_default(),
        "brokers": view.brokers.iter().map(broker).collect::<Vec<_>>(),
    })
}

/// Empty before the cluster is formed.
pub fn cluster_id(view: &ClusterView) -> String {
    view.cluster_id.map(|id| id.to_string()).unwrap_or_default()
}

/// The JSON of `topic list`.
pub fn topics(topics: &[TopicSummary]) -> Value {
    let topic = |topic: &TopicSummary| {
        json!({
            "name": topic.name, "partitions": topic.partitions, "replication_factor": topic.replication_factor,
        })
    };
    json!({ "topics": topics.iter().map(topic).collect::<Vec<_>>() })
}

/// The JSON of `topic describe`.
pub fn topic(topic: &TopicDescription) -> Value {
    let partition = |partition: &PartitionDescription| {
        let (leader, epoch) = partition.leader.map(|leader| (leader.broker, leader.epoch)).unwrap_or_default();
        let stats = partition.stats;
        json!({
            "partition": partition.partition, "leader": leader, "epoch": epoch, "replicas": partition.replicas,
            "log_start": stats.map_or(NOT_ASKED, |stats| stats.log_start.0),
            "high_watermark": stats.map_or(NOT_ASKED, |stats| stats.high_watermark.0),
            "bytes": stats.map_or(NOT_ASKED, |stats| i64::try_from(stats.bytes).unwrap_or(i64::MAX)),
        })
    };
    json!({
        "name": topic.name, "partitions": topic.partitions.iter().map(partition).collect::<Vec<_>>(),
        "configs": by_key(&topic.configs), "notes": topic.notes,
    })
}

/// What `topic alter` prints: every config, defaults too.
pub fn configs(topic: &TopicDescription) -> Value {
    json!({"name": topic.name, "configs": by_key(&topic.configs)})
}

fn by_key(configs: &[ConfigEntry]) -> BTreeMap<&'static str, &str> {
    configs.iter().map(|entry| (entry.key, entry.value.as_str())).collect()
}

/// The JSON of `group list`.
pub fn groups(groups: &[GroupSummary]) -> Value {
    let group = |group: &GroupSummary| {
        json!({
            "group": group.group, "state": state(group.phase), "protocol": group.protocol, "members": group.members,
        })
    };
    json!({ "groups": groups.iter().map(group).collect::<Vec<_>>() })
}

/// `group describe`. What is not known is null.
pub fn group(group: &GroupDescription) -> Value {
    let GroupDescription { summary, epoch, assignor, coordinator, members, partitions } = group;
    json!({
        "group": summary.group, "state": state(summary.phase), "protocol": summary.protocol, "epoch": epoch,
        "assignor": Some(assignor).filter(|assignor| !assignor.is_empty()), "coordinator": coordinator,
        "members": members.iter().map(member).collect::<Vec<_>>(),
        "partitions": partitions.iter().map(group_partition).collect::<Vec<_>>(),
    })
}

fn member(member: &GroupMember) -> Value {
    let set = |set: &PartitionSet| -> BTreeMap<String, Vec<PartitionId>> { set.clone() };
    json!({
        "member": member.member, "instance": member.instance, "client_id": member.client_id,
        "host": member.client_host, "topics": member.subscription.topics, "pattern": member.subscription.pattern,
        "assigned": set(&member.assigned), "revoking": set(&member.revoking),
    })
}

fn group_partition(partition: &GroupPartition) -> Value {
    json!({
        "topic": partition.at.topic, "partition": partition.at.partition, "member": partition.member,
        "committed": partition.committed, "metadata": partition.metadata,
        "log_start": partition.bounds.map(|(log_start, _)| log_start),
        "high_watermark": partition.bounds.map(|(_, high_watermark)| high_watermark),
        "lag": partition.lag, "lag_seconds": partition.lag_time.map(|lag| lag.as_millis() as f64 / 1e3),
        "retention_threatens": partition.retention_threatens,
    })
}

/// The phase of a group, as the wire and the CLI call it.
pub fn state(phase: GroupPhase) -> &'static str {
    match phase {
        GroupPhase::Empty => "empty",
        GroupPhase::Stable => "stable",
        GroupPhase::Rebalancing | GroupPhase::Joining | GroupPhase::Syncing => "rebalancing",
    }
}

/// A page of records; each is what `consume --format json` prints for it.
pub fn records(topic: &str, partition: PartitionId, page: &Page) -> Value {
    let row = |row: &Row| match row {
        Row::Record(offset, record) => record_line(topic, partition, *offset, record),
        Row::Unreadable { first, last, bytes, why } => json!({
            "topic": topic, "partition": partition, "offset": first, "last_offset": last, "batch_bytes": bytes,
            "error": why.to_string(),
        }),
    };
    json!({
        "topic": topic, "partition": partition, "leader": page.leader, "log_start": page.log_start,
        "high_watermark": page.high_watermark, "offset": page.offset, "next_offset": page.next_offset,
        "records": page.rows.iter().map(row).collect::<Vec<_>>(),
    })
}

fn record_line(topic: &str, partition: PartitionId, offset: Offset, record: &Record) -> Value {
    let mut line = Map::new();
    line.insert("topic".into(), json!(topic));
    line.insert("partition".into(), json!(partition));
    line.insert("offset".into(), json!(offset));
    line.insert("timestamp".into(), json!(record.timestamp));
    for (name, bytes) in [("key", &record.key), ("value", &record.value)] {
        match bytes.as_ref().map(|bytes| (bytes, std::str::from_utf8(bytes))) {
            None => drop(line.insert(name.into(), Value::Null)),
            Some((_, Ok(text))) => drop(line.insert(name.into(), json!(text))),
            Some((bytes, Err(_))) => drop(line.insert(format!("{name}_base64"), json!(STANDARD.encode(bytes)))),
        }
    }
    if !record.headers.is_empty() {
        let text = |value: &Option<Bytes>| value.as_ref().map(|value| String::from_utf8_lossy(value).into_owned());
        let headers: Vec<Value> = record.headers.iter().map(|(key, value)| json!([key, text(value)])).collect();
        line.insert("headers".into(), Value::Array(headers));
    }
    Value::Object(line)
}

/// A node's last minutes. Latencies are null where nothing happened.
pub fn history(broker: BrokerId, samples: &[Sample]) -> Value {
    let ms = |seconds: Option<f64>| seconds.map(|seconds| seconds * 1e3);
    let sample = |sample: &Sample| {
        json!({
            "at": sample.at, "produced_bytes_per_s": sample.produced_bytes_per_s,
            "produced_records_per_s": sample.produced_records_per_s,
            "consumed_bytes_per_s": sample.consumed_bytes_per_s,
            "consumed_records_per_s": sample.consumed_records_per_s,
            "produce_p99_ms": ms(sample.produce_p99_s), "write_p50_ms": ms(sample.write_p50_s),
            "write_p99_ms": ms(sample.write_p99_s),
        })
    };
    json!({
        "broker": broker, "interval_s": SAMPLE_EVERY.as_secs(),
        "samples": samples.iter().map(sample).collect::<Vec<_>>(),
    })
}

/// The Kafka clients of a node.
pub fn kafka(broker: BrokerId, clients: &KafkaClients) -> Value {
    let software = clients.software.iter().map(|(software, open)| json!({ "software": software, "connections": open }));
    let requests = clients
        .requests
        .iter()
        .map(|(api, version, requests)| json!({ "api": api, "version": version, "requests": requests }));
    json!({
        "broker": broker, "connections": clients.connections, "fetch_sessions": clients.fetch_sessions,
        "fetch_session_partitions": clients.fetch_session_partitions,
        "software": software.collect::<Vec<_>>(), "requests": requests.collect::<Vec<_>>(),
    })
}
