//! protobuf messages of strangers: requests to a broker, answers to a client. What is decoded here is what both then read.

use std::fmt::Debug;

use prost::Message;

use super::{codec::bound, v1};
use crate::formats::fuzz::{bounded, fuzz, linear};

/// A message without fields is two bytes in a list; the largest that is in a list has eight strings and vectors of 24
/// bytes each, in a vector that is being doubled. Those that a stranger sends are counted before ([`bound`]).
const PER_BYTE: usize = 256;

/// Lists the messages: a sample of each is a seed for all, and the bytes of a case are read as one of them.
macro_rules! messages {
    ($list:ident, $check:ident: $($message:ident { $($field:tt)* })+) => {
        /// An encoded sample of each message, by name.
        pub(crate) fn $list() -> Vec<(&'static str, Vec<u8>)> {
            vec![$((stringify!($message), v1::$message { $($field)* }.encode_to_vec())),+]
        }

        fn $check(number: usize, bytes: &[u8]) {
            let checks: &[fn(&[u8])] = &[$(check::<v1::$message>),+];
            checks[number % checks.len()](bytes)
        }
    };
}

messages! {
    requests, check_request:
    ProduceRequest {
        correlation_id: 1, topic: "orders".into(), partition: 3, acks: 2, timeout_ms: 9, expected_offset: Some(4),
        payload: Some(v1::produce_request::Payload::Records(records())),
    }
    ConsumeRequest {
        topic: "orders".into(), start: Some(v1::consume_request::Start::TimestampMs(5)), end_offset: Some(9),
        records_max: 3, raw: true, wait_ms_max: 7, bytes_max: 8, topic_id: "f".repeat(32), ..Default::default()
    }
    CreateTopicRequest {
        name: "orders".into(), partitions: Some(3), replication_factor: Some(2), configs: configs(), wait: true,
        timeout_ms: Some(9), ..Default::default()
    }
    ListTopicsRequest {}
    DescribeTopicRequest { name: "orders".into() }
    AlterTopicRequest { name: "orders".into(), set: configs(), unset: vec!["a".into(), "b".into()], dry_run: true }
    AddPartitionsRequest { name: "orders".into(), partitions: 9, dry_run: true }
    TrimPartitionRequest { topic: "orders".into(), partition: 1, before_offset: -1, dry_run: false }
    DeleteTopicRequest { name: "orders".into(), dry_run: true }
    ListOffsetRequest {
        topic: "orders".into(), at: Some(v1::list_offset_request::At::Earliest(true)), ..Default::default()
    }
    GroupHeartbeatRequest {
        group: "billing".into(), member_id: "m".into(), epoch: 3, owns: sets(), instance_id: Some("i".into()),
        subscription: Some(v1::GroupSubscription { topics: vec!["t".into()], pattern: "p.*".into(), assignor: 2 }),
        client_id: "c".into(), session_timeout_ms: 10_000, rebalance_timeout_ms: 9, join_as: "j".into(),
    }
    GroupLeaveRequest { group: "billing".into(), member_id: "m".into(), instance_id: Some("i".into()) }
    CommitOffsetsRequest {
        group: "billing".into(), member_id: "m".into(), epoch: 3, sequence: 4, instance_id: None,
        offsets: vec![v1::OffsetToCommit {
            topic: "t".into(), partition: 1, offset: 5, leader_epoch: Some(-1), metadata: "x".into(),
            topic_id: "f".repeat(32),
        }],
    }
    FetchOffsetsRequest { group: "billing".into(), partitions: sets() }
    ListGroupsRequest {}
    DescribeGroupRequest { group: "billing".into() }
    DeleteGroupRequest { group: "billing".into(), dry_run: true }
    DeleteOffsetsRequest { group: "billing".into(), partitions: sets() }
    GetMetadataRequest { topics: vec!["orders".into()], all_topics: true }
    HealthRequest { details: true }
    TransferLeaderRequest { topic: "orders".into(), partition: 1, to_broker: Some(2), timeout_ms: Some(3) }
    RaiseFeatureLevelRequest { to: Some(2), dry_run: true, timeout_ms: Some(1) }
    InitProducerIdRequest {}
}

messages! {
    answers, check_answer:
    ProduceResponse {
        correlation_id: 1,
        result: Some(v1::produce_response::Result::Receipt(v1::Receipt {
            topic: "orders".into(), count: 2, durable_on: vec![1, 2], ..Default::default()
        })),
    }
    ConsumeResponse {
        data: Some(v1::consume_response::Data::Records(records())), high_watermark: 9, log_start: 1, next_offset: 3,
    }
    Error {
        code: 4, message: "not here".into(), effect: 1, retriable: true,
        leader: Some(v1::LeaderHint { broker: 2, address: "h:1".into(), epoch: 7 }),
        actual_offset: Some(1), log_start: Some(2), high_watermark: Some(3),
    }
    CreateTopicResponse { topic: Some(topic()) }
    ListTopicsResponse { topics: vec![v1::TopicSummary { name: "t".into(), partitions: 1, replication_factor: 3 }] }
    DescribeTopicResponse { topic: Some(topic()) }
    AlterTopicResponse { topic: Some(topic()) }
    AddPartitionsResponse { topic: None }
    TrimPartitionResponse { log_start: 7 }
    DeleteTopicResponse { topic: Some(v1::TopicSummary::default()) }
    ListOffsetResponse { offset: 5, epoch: 6 }
    GetMetadataResponse {
        cluster_id: "c".into(), metadata_index: 9, metadata_leader: 1, routes_stale: false, metadata_leader_epoch: 3,
        brokers: vec![v1::BrokerInfo { id: 1, client_address: "h:1".into(), alive: true, ..Default::default() }; 3],
        topics: vec![v1::TopicRouting {
            name: "t".into(), id: "f".repeat(32), configs: configs(),
            partitions: vec![v1::PartitionRouting { partition: 0, leader: 1, epoch: 2, replicas: vec![1, 2] }],
        }],
    }
    HealthResponse { problems: vec!["p".into()], details: vec!["d".into()], feature_level: 3, ..Default::default() }
    TransferLeaderResponse { leader: 2, epoch: 9 }
    RaiseFeatureLevelResponse { from: 1, to: 2 }
    InitProducerIdResponse { producer_id: 1_000, producer_epoch: 0 }
    GroupHeartbeatResponse { member_id: "m".into(), epoch: 3, assigned: sets(), heartbeat_ms: 9, rebalancing: true }
    GroupLeaveResponse {}
    CommitOffsetsResponse { refused: refused() }
    FetchOffsetsResponse {
        offsets: vec![v1::CommittedOffset { topic: "t".into(), offset: 5, leader_epoch: Some(1), ..Default::default() }],
        topics: vec![v1::TopicIdentity { name: "t".into(), id: "f".repeat(32) }],
    }
    ListGroupsResponse { groups: vec![group()] }
    DescribeGroupResponse {
        summary: Some(group()), epoch: 1, assignor: "range".into(), coordinator: 2,
        members: vec![v1::GroupMember { member_id: "m".into(), assigned: sets(), ..Default::default() }],
        partitions: vec![v1::GroupPartition { topic: "t".into(), committed: Some(4), lag: -1, ..Default::default() }],
    }
    DeleteGroupResponse {}
    DeleteOffsetsResponse { refused: refused() }
}

fn records() -> v1::Records {
    let header = v1::Header { key: "h".into(), value: Some(b"1".as_slice().into()) };
    let (key, value) = (Some(b"k".as_slice().into()), Some(b"value".as_slice().into()));
    let full = v1::Record { key, value, headers: vec![header; 2], timestamp_ms: Some(5), offset: 3 };
    v1::Records { records: vec![full, v1::Record::default()], compression: 1 }
}

fn configs() -> std::collections::HashMap<String, String> {
    [("retention.ms".to_string(), "9".to_string()), ("max.message.bytes".to_string(), "1024".to_string())].into()
}

fn sets() -> Vec<v1::PartitionSet> {
    vec![v1::PartitionSet { topic: "t".into(), partitions: vec![2, 0, 2] }, v1::PartitionSet::default()]
}

fn topic() -> v1::TopicDescription {
    let partition = v1::PartitionDescription { leader: 1, replicas: vec![1, 2], log_start: -1, ..Default::default() };
    let (name, id, notes) = ("t".into(), "f".repeat(32), vec!["n".into()]);
    v1::TopicDescription { name, id, configs: configs(), partitions: vec![partition], notes }
}

fn group() -> v1::GroupSummary {
    v1::GroupSummary { group: "g".into(), state: "stable".into(), protocol: "flotilla".into(), members: 2 }
}

fn refused() -> Vec<v1::RefusedCommit> {
    vec![v1::RefusedCommit { topic: "t".into(), partition: 1, error: Some(v1::Error::default()) }]
}

/// What was read, written again, reads the same.
fn check<T: Message + Default + PartialEq + Debug + 'static>(bytes: &[u8]) {
    let counted = bound::<T>().map(|(count, most, _)| (bounded(bytes.len(), 0, || count(bytes)), most));
    let Ok(message) = bounded(bytes.len(), PER_BYTE, || T::decode(bytes)) else { return };
    let again = message.encode_to_vec();
    assert_eq!(T::decode(&*again).as_ref(), Ok(&message));
    if let Some((counted, _)) = counted {
        let (count, ..) = bound::<T>().expect("it had one");
        assert!(counted >= count(&again), "what was decoded has more elements than were counted: {message:?}");
    }
}

#[test]
fn fuzz_requests_as_protobuf() {
    let samples = requests();
    let seeds = samples.iter().zip(0u8..).map(|((_, bytes), number)| [&[number], &bytes[..]].concat());
    fuzz!(seeds, |bytes| {
        if let Some((number, bytes)) = bytes.split_first() {
            check_request((*number).into(), bytes);
        }
    });
    // Groups that nobody knows, one within the other, cost no more than other bytes.
    let nested = |bytes: usize| vec![(9 << 3) | 3; bytes];
    linear(nested, |bytes| check::<v1::ProduceRequest>(&bytes));
    linear(nested, |bytes| check::<v1::GroupHeartbeatRequest>(&bytes));
    let empty = |bytes: usize| {
        let records = v1::Records { records: vec![v1::Record::default(); bytes / 2], compression: 0 };
        let payload = Some(v1::produce_request::Payload::Records(records));
        v1::ProduceRequest { payload, ..Default::default() }.encode_to_vec()
    };
    linear(empty, |bytes| check_request(0, &bytes));
}

#[test]
fn fuzz_answers_as_protobuf() {
    let seeds = answers().into_iter().zip(0u8..).map(|((_, bytes), number)| [&[number], &bytes[..]].concat());
    fuzz!(seeds, |bytes| {
        if let Some((number, bytes)) = bytes.split_first() {
            check_answer((*number).into(), bytes);
        }
    });
}
