//! Every number that a request may carry, out of its range: refused, with the field and the value.

use std::collections::{BTreeMap, BTreeSet};

use tokio_stream::iter;

use super::{
    fake::{GROUP, TOPIC},
    *,
};
use crate::proto::v1::{
    ErrorCode, cluster_client::ClusterClient, consume_client::ConsumeClient, consume_request::Start,
    groups_client::GroupsClient, list_offset_request::At, produce_client::ProduceClient, produce_request::Payload,
    produce_response::Result as Outcome, topics_client::TopicsClient,
};

const PROTO: &str = include_str!("../../../proto/flotilla/v1/flotilla.proto");

/// The numbers whose every value is taken, and why.
const TAKEN: [(&str, &str); 4] = [
    ("ProduceRequest.correlation_id", "it is the client's own"),
    ("Record.offset", "ignored in requests"),
    ("ConsumeRequest.records_max", "0 is no limit, and there is no too many"),
    ("CommitOffsetsRequest.sequence", "0 is not numbered, and larger ones grow as they like"),
];

enum Ask {
    Create(v1::CreateTopicRequest),
    Add(v1::AddPartitionsRequest),
    Trim(v1::TrimPartitionRequest),
    Offset(v1::ListOffsetRequest),
    Transfer(v1::TransferLeaderRequest),
    Raise(v1::RaiseFeatureLevelRequest),
    Hash(v1::HashReplicaRequest),
    Consume(v1::ConsumeRequest),
    Produce(v1::ProduceRequest),
    Beat(v1::GroupHeartbeatRequest),
    Commit(v1::CommitOffsetsRequest),
    Fetch(v1::FetchOffsetsRequest),
}

/// What comes of it: None: it is taken.
async fn refusal(channel: Channel, ask: Ask) -> Option<v1::Error> {
    let (mut topics, mut groups) = (TopicsClient::new(channel.clone()), GroupsClient::new(channel.clone()));
    let ended = match ask {
        Ask::Create(request) => topics.create_topic(request).await.map(drop),
        Ask::Add(request) => topics.add_partitions(request).await.map(drop),
        Ask::Trim(request) => topics.trim_partition(request).await.map(drop),
        Ask::Offset(request) => topics.list_offset(request).await.map(drop),
        Ask::Transfer(request) => ClusterClient::new(channel).transfer_leader(request).await.map(drop),
        Ask::Raise(request) => ClusterClient::new(channel).raise_feature_level(request).await.map(drop),
        Ask::Hash(request) => ClusterClient::new(channel).hash_replica(request).await.map(drop),
        Ask::Consume(request) => match ConsumeClient::new(channel).consume(request).await {
            Ok(stream) => soon("an answer", stream.into_inner().message()).await.map(drop),
            Err(status) => Err(status),
        },
        Ask::Beat(request) => groups.heartbeat(request).await.map(drop),
        Ask::Commit(request) => groups.commit_offsets(request).await.map(drop),
        Ask::Fetch(request) => groups.fetch_offsets(request).await.map(drop),
        Ask::Produce(request) => {
            let answers = ProduceClient::new(channel).produce(iter([request])).await.unwrap();
            return match soon("an answer", answers.into_inner().message()).await.unwrap()?.result? {
                Outcome::Error(error) => Some(error),
                Outcome::Receipt(_) => None,
            };
        }
    };
    ended.err().map(|status| error_of(&status))
}

fn topics_and_cluster() -> Vec<(&'static str, Ask, &'static str)> {
    let topic = || TOPIC.to_string();
    let create = || v1::CreateTopicRequest { name: "new".into(), ..Default::default() };
    let add = |partitions| Ask::Add(v1::AddPartitionsRequest { name: topic(), partitions, dry_run: true });
    let trim = || v1::TrimPartitionRequest { topic: topic(), ..Default::default() };
    let earliest = Some(At::Earliest(true));
    let look = || v1::ListOffsetRequest { topic: topic(), at: earliest, ..Default::default() };
    let transfer = || v1::TransferLeaderRequest { topic: topic(), ..Default::default() };
    let partitions = |n| Ask::Create(v1::CreateTopicRequest { partitions: Some(n), ..create() });
    let replicas = |n| Ask::Create(v1::CreateTopicRequest { replication_factor: Some(n), ..create() });
    let create_in = |ms| Ask::Create(v1::CreateTopicRequest { timeout_ms: Some(ms), ..create() });
    let raise = |to, timeout_ms| Ask::Raise(v1::RaiseFeatureLevelRequest { to, timeout_ms, dry_run: true });
    let hash = || v1::HashReplicaRequest { topic: topic(), ..Default::default() };
    let reread = |reread_from, reread_to| Ask::Hash(v1::HashReplicaRequest { reread_from, reread_to, ..hash() });
    let transfer_in = |ms| Ask::Transfer(v1::TransferLeaderRequest { timeout_ms: Some(ms), ..transfer() });
    let no_topic = v1::TransferLeaderRequest { topic: String::new(), partition: 3, ..transfer() };
    vec![
        ("CreateTopicRequest.partitions", partitions(0), "partitions is 0"),
        ("CreateTopicRequest.partitions", partitions(-3), "partitions is -3"),
        ("CreateTopicRequest.replication_factor", replicas(0), "replication_factor is 0"),
        ("CreateTopicRequest.replication_factor", replicas(i32::MIN), "replication_factor is -2147483648"),
        ("CreateTopicRequest.timeout_ms", create_in(0), "timeout_ms is 0"),
        ("CreateTopicRequest.timeout_ms", create_in(300_001), "timeout_ms is 300001"),
        ("AddPartitionsRequest.partitions", add(0), "partitions is 0"),
        ("AddPartitionsRequest.partitions", add(-1), "partitions is -1"),
        (
            "TrimPartitionRequest.partition",
            Ask::Trim(v1::TrimPartitionRequest { partition: -1, ..trim() }),
            "partition is -1",
        ),
        (
            "TrimPartitionRequest.before_offset",
            Ask::Trim(v1::TrimPartitionRequest { before_offset: -2, ..trim() }),
            "before_offset is -2",
        ),
        (
            "ListOffsetRequest.partition",
            Ask::Offset(v1::ListOffsetRequest { partition: -1, ..look() }),
            "partition is -1",
        ),
        (
            "ListOffsetRequest.timestamp_ms",
            Ask::Offset(v1::ListOffsetRequest { at: Some(At::TimestampMs(-1)), ..look() }),
            "timestamp_ms is -1",
        ),
        (
            "TransferLeaderRequest.partition",
            Ask::Transfer(v1::TransferLeaderRequest { partition: -1, ..transfer() }),
            "partition is -1",
        ),
        ("TransferLeaderRequest.partition", Ask::Transfer(no_topic), "partition is 3 and topic is empty"),
        (
            "TransferLeaderRequest.to_broker",
            Ask::Transfer(v1::TransferLeaderRequest { to_broker: Some(0), ..transfer() }),
            "to_broker is 0",
        ),
        ("TransferLeaderRequest.timeout_ms", transfer_in(0), "timeout_ms is 0"),
        ("TransferLeaderRequest.timeout_ms", transfer_in(u32::MAX), "timeout_ms is 4294967295"),
        (
            "HashReplicaRequest.partition",
            Ask::Hash(v1::HashReplicaRequest { partition: -1, ..hash() }),
            "partition is -1",
        ),
        ("HashReplicaRequest.reread_from", reread(Some(5), None), "reread_from is 5, without a reread_to"),
        ("HashReplicaRequest.reread_to", reread(Some(5), Some(5)), "reread_to is 5, not above reread_from, 5"),
        ("HashReplicaRequest.reread_to", reread(None, Some(0)), "reread_to is 0"),
        ("RaiseFeatureLevelRequest.to", raise(Some(0), None), "to is 0"),
        ("RaiseFeatureLevelRequest.timeout_ms", raise(None, Some(0)), "timeout_ms is 0"),
    ]
}

fn records() -> Vec<(&'static str, Ask, &'static str)> {
    let consume = |change: fn(&mut v1::ConsumeRequest)| {
        let (topic, start) = (TOPIC.to_string(), Some(Start::Earliest(true)));
        // One that is taken ends.
        let mut request = v1::ConsumeRequest { topic, start, stop_at_end: true, ..Default::default() };
        change(&mut request);
        Ask::Consume(request)
    };
    let produce = |change: fn(&mut v1::ProduceRequest)| {
        let record = v1::Record { value: Some(Bytes::from_static(b"v")), ..Default::default() };
        let payload = Payload::Records(v1::Records { records: vec![record], compression: 0 });
        let mut request = v1::ProduceRequest { topic: TOPIC.into(), payload: Some(payload), ..Default::default() };
        change(&mut request);
        Ask::Produce(request)
    };
    let stamped = |request: &mut v1::ProduceRequest| {
        if let Some(Payload::Records(records)) = &mut request.payload {
            records.records[0].timestamp_ms = Some(-5);
        }
    };
    let compressed = |request: &mut v1::ProduceRequest| {
        request.payload = Some(Payload::Records(v1::Records { records: vec![], compression: -1 }));
    };
    vec![
        ("ConsumeRequest.partition", consume(|r| r.partition = -1), "partition is -1"),
        ("ConsumeRequest.offset", consume(|r| r.start = Some(Start::Offset(-1))), "offset is -1"),
        ("ConsumeRequest.timestamp_ms", consume(|r| r.start = Some(Start::TimestampMs(-2))), "timestamp_ms is -2"),
        ("ConsumeRequest.end_offset", consume(|r| r.end_offset = Some(-1)), "end_offset is -1"),
        ("ConsumeRequest.wait_ms_max", consume(|r| r.wait_ms_max = 60_001), "wait_ms_max is 60001"),
        ("ConsumeRequest.bytes_max", consume(|r| r.bytes_max = 9 << 20), "bytes_max is 9437184"),
        ("ProduceRequest.partition", produce(|r| r.partition = -1), "partition is -1"),
        ("ProduceRequest.acks", produce(|r| r.acks = 3), "acks is 3"),
        ("ProduceRequest.acks", produce(|r| r.acks = -1), "acks is -1"),
        ("ProduceRequest.timeout_ms", produce(|r| r.timeout_ms = 300_001), "timeout_ms is 300001"),
        ("ProduceRequest.expected_offset", produce(|r| r.expected_offset = Some(-1)), "expected_offset is -1"),
        ("Record.timestamp_ms", produce(stamped), "timestamp_ms is -5"),
        ("Records.compression", produce(compressed), "compression is -1"),
    ]
}

fn groups() -> Vec<(&'static str, Ask, &'static str)> {
    let group = || GROUP.to_string();
    let beat = |change: fn(&mut v1::GroupHeartbeatRequest)| {
        let mut request = v1::GroupHeartbeatRequest { group: group(), ..Default::default() };
        change(&mut request);
        Ask::Beat(request)
    };
    let commit = |change: fn(&mut v1::CommitOffsetsRequest)| {
        let offsets = vec![v1::OffsetToCommit { topic: TOPIC.into(), ..Default::default() }];
        let mut request = v1::CommitOffsetsRequest { group: group(), offsets, ..Default::default() };
        change(&mut request);
        Ask::Commit(request)
    };
    let assignor = |request: &mut v1::GroupHeartbeatRequest| {
        request.subscription = Some(v1::GroupSubscription { assignor: 3, ..Default::default() });
    };
    let partitions = vec![v1::PartitionSet { topic: TOPIC.into(), partitions: vec![-1] }];
    vec![
        ("GroupHeartbeatRequest.epoch", beat(|r| r.epoch = -1), "epoch is -1"),
        ("GroupHeartbeatRequest.session_timeout_ms", beat(|r| r.session_timeout_ms = 999), "session_timeout_ms is 999"),
        (
            "GroupHeartbeatRequest.session_timeout_ms",
            beat(|r| r.session_timeout_ms = 1_800_001),
            "session_timeout_ms is 1800001",
        ),
        (
            "GroupHeartbeatRequest.rebalance_timeout_ms",
            beat(|r| r.rebalance_timeout_ms = 3_600_001),
            "rebalance_timeout_ms is 3600001",
        ),
        ("GroupSubscription.assignor", beat(assignor), "assignor is 3"),
        (
            "PartitionSet.partitions",
            Ask::Fetch(v1::FetchOffsetsRequest { group: group(), partitions }),
            "partition is -1",
        ),
        ("CommitOffsetsRequest.epoch", commit(|r| r.epoch = -1), "epoch is -1"),
        ("OffsetToCommit.partition", commit(|r| r.offsets[0].partition = -1), "partition is -1"),
        ("OffsetToCommit.offset", commit(|r| r.offsets[0].offset = -1), "offset is -1"),
        ("OffsetToCommit.leader_epoch", commit(|r| r.offsets[0].leader_epoch = Some(-2)), "leader_epoch is -2"),
    ]
}

/// Lists `Message.field` of each number that a request may carry, as the proto has them.
fn numbers() -> BTreeSet<String> {
    let mut messages: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    let mut enums = BTreeSet::new();
    let mut inside = None;
    for line in PROTO.lines().map(|line| line.split("//").next().unwrap_or_default().trim()) {
        let mut words = line.split([' ', '{', ';']).filter(|word| !word.is_empty());
        match (words.next(), words.next(), words.next()) {
            (Some("enum"), Some(name), _) => drop(enums.insert(name)),
            (Some("message"), Some(name), first) => {
                // All of it may stand in one line.
                messages.insert(name, first.zip(words.next()).into_iter().collect());
                inside = (!line.ends_with('}')).then_some(name);
            }
            (Some("optional" | "repeated"), Some(kind), Some(name)) | (Some(kind), Some(name), Some("=")) => {
                if let Some(message) = inside {
                    messages.entry(message).or_default().push((kind, name));
                }
            }
            _ => {}
        }
    }
    let mut open: Vec<&str> = messages.keys().copied().filter(|name| name.ends_with("Request")).collect();
    assert!(open.len() > 20, "{open:?}");
    let (mut seen, mut found) = (BTreeSet::new(), BTreeSet::new());
    while let Some(message) = open.pop() {
        if !seen.insert(message) {
            continue;
        }
        for (kind, name) in &messages[message] {
            if ["int32", "int64", "uint32", "uint64"].contains(kind) || enums.contains(kind) {
                found.insert(format!("{message}.{name}"));
            } else if messages.contains_key(kind) {
                open.push(kind);
            }
        }
    }
    found
}

#[tokio::test]
async fn r4_every_number_of_a_request_is_refused_by_name_beyond_its_range() {
    let server = Server::start(Fake::new()).await;
    let channel = server.channel().await;
    let table: Vec<_> = topics_and_cluster().into_iter().chain(records()).chain(groups()).collect();
    let shown: BTreeSet<String> = table.iter().map(|(field, ..)| field.to_string()).collect();
    let taken: BTreeSet<String> = TAKEN.iter().map(|(field, _)| field.to_string()).collect();
    assert_eq!(numbers(), &shown | &taken, "left: the proto's, right: those of this test");
    let mut silent = Vec::new();
    for (field, ask, says) in table {
        match refusal(channel.clone(), ask).await {
            Some(error) if error.code() == ErrorCode::InvalidRequest && error.message.contains(says) => {}
            other => silent.push(format!("{field}: no {says:?} in {other:?}")),
        }
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
    server.stop().await;
}
