use tonic::Code;

use super::{
    fake::{GROUP, TOPIC, at_partition},
    *,
};
use crate::{
    broker::groups::{CommitRequest, HeartbeatRequest, OffsetToCommit},
    group::{Assignor, PartitionSet, Subscription},
    proto::v1::{ErrorCode, groups_client::GroupsClient},
    types::{LeaderEpoch, Offset, PartitionId},
};

async fn client(server: &Server) -> GroupsClient<Channel> {
    GroupsClient::new(server.channel().await)
}

fn set(partitions: &[i32]) -> v1::PartitionSet {
    v1::PartitionSet { topic: TOPIC.into(), partitions: partitions.into() }
}

fn beat() -> v1::GroupHeartbeatRequest {
    v1::GroupHeartbeatRequest { group: GROUP.into(), ..Default::default() }
}

fn offset(partition: i32, offset: i64) -> v1::OffsetToCommit {
    v1::OffsetToCommit { topic: TOPIC.into(), partition, offset, ..Default::default() }
}

fn commit(offsets: Vec<v1::OffsetToCommit>) -> v1::CommitOffsetsRequest {
    let (group, member_id, instance_id) = (GROUP.into(), "m-1".into(), Some("i".into()));
    v1::CommitOffsetsRequest { group, member_id, epoch: 4, offsets, sequence: 7, instance_id }
}

#[tokio::test]
async fn a_heartbeat_reaches_the_broker_sorted_and_with_its_sender() {
    let server = Server::start(Fake::new()).await;
    let request = v1::GroupHeartbeatRequest {
        member_id: "m-0".into(),
        epoch: 7,
        subscription: Some(v1::GroupSubscription {
            topics: vec![TOPIC.into()],
            pattern: "o.*".into(),
            assignor: v1::Assignor::Range.into(),
        }),
        // Doubly, unsorted, and empty.
        owns: vec![set(&[3, 1]), set(&[]), set(&[3, 0])],
        instance_id: Some("i".into()),
        client_id: "c".into(),
        session_timeout_ms: 6_000,
        rebalance_timeout_ms: 0,
        ..beat()
    };
    let answer = client(&server).await.heartbeat(request).await.unwrap().into_inner();
    let want = v1::GroupHeartbeatResponse {
        member_id: "m-1".into(),
        epoch: 8,
        assigned: vec![set(&[0, 1])],
        heartbeat_ms: 1_500,
        rebalancing: true,
    };
    assert_eq!(answer, want);
    let subscription =
        Subscription { topics: vec![TOPIC.into()], pattern: Some("o.*".into()), assignor: Assignor::Range };
    let want = HeartbeatRequest {
        group: GROUP.into(),
        member: "m-0".into(),
        epoch: 7,
        subscription: Some(subscription),
        owns: PartitionSet::from([(TOPIC.into(), [0, 1, 3].map(PartitionId).into())]),
        instance: Some("i".into()),
        client_id: "c".into(),
        client_host: "127.0.0.1".into(),
        session_timeout: Duration::from_secs(6),
        rebalance_timeout: Duration::ZERO,
    };
    assert_eq!(server.fake.beats(), [want]);
    server.stop().await;
}

#[tokio::test]
async fn commits_are_refused_one_by_one() {
    let server = Server::start(Fake::new()).await;
    let mut groups = client(&server).await;
    let metadata = v1::OffsetToCommit { metadata: "x".repeat(4_096), leader_epoch: Some(3), ..offset(0, 5) };
    let unknown_epoch = v1::OffsetToCommit { leader_epoch: Some(-1), ..offset(1, 6) };
    let answer = groups.commit_offsets(commit(vec![metadata, unknown_epoch])).await.unwrap().into_inner();
    let [refused] = &answer.refused[..] else { panic!("{answer:?}") };
    assert_eq!((refused.topic.as_str(), refused.partition), (TOPIC, 1));
    let error = refused.error.as_ref().unwrap();
    assert_eq!((error.code(), error.effect(), error.retriable), (ErrorCode::FencedMember, v1::Effect::None, false));
    assert!(server.metrics.encode().contains(r#"api="commit_offsets",result="FENCED_MEMBER"} 1"#));
    let of = |partition, offset, leader_epoch, metadata: String| OffsetToCommit {
        at: at_partition(partition),
        topic_id: None,
        offset: Offset(offset),
        leader_epoch,
        metadata,
    };
    let want = CommitRequest {
        group: GROUP.into(),
        member: "m-1".into(),
        instance: Some("i".into()),
        epoch: 4,
        offsets: vec![of(0, 5, Some(LeaderEpoch(3)), "x".repeat(4_096)), of(1, 6, None, String::new())],
        sequence: 7,
    };
    assert_eq!(server.fake.commits(), [want]);
    server.stop().await;
}

#[tokio::test]
async fn offsets_are_fetched_all_or_by_name() {
    let server = Server::start(Fake::new()).await;
    let mut groups = client(&server).await;
    let ask = |partitions| v1::FetchOffsetsRequest { group: GROUP.into(), partitions };
    let answer = groups.fetch_offsets(ask(vec![])).await.unwrap().into_inner();
    let want = v1::CommittedOffset {
        topic: TOPIC.into(),
        partition: 0,
        offset: 5,
        leader_epoch: Some(3),
        metadata: "here".into(),
        committed_at_ms: 77,
    };
    assert_eq!(answer.offsets, [want]);
    groups.fetch_offsets(ask(vec![set(&[1, 0])])).await.unwrap();
    assert_eq!(server.fake.asked(), [None, Some(vec![at_partition(0), at_partition(1)])]);
    server.stop().await;
}

#[tokio::test]
async fn groups_answer_in_the_wires_words() {
    let server = Server::start(Fake::new()).await;
    let mut groups = client(&server).await;
    let listed = groups.list_groups(v1::ListGroupsRequest {}).await.unwrap().into_inner().groups;
    let states: Vec<&str> = listed.iter().map(|group| group.state.as_str()).collect();
    assert_eq!(states, ["empty", "stable", "rebalancing"]);
    let summary =
        v1::GroupSummary { group: GROUP.into(), state: "stable".into(), protocol: "flotilla".into(), members: 1 };
    assert_eq!(listed[1], summary);
    let request = v1::DescribeGroupRequest { group: GROUP.into() };
    let described = groups.describe_group(request).await.unwrap().into_inner();
    let known = v1::GroupPartition {
        topic: TOPIC.into(),
        partition: 0,
        member_id: "m-1".into(),
        committed: Some(5),
        metadata: "here".into(),
        log_start: 2,
        high_watermark: 9,
        lag: 4,
        lag_ms: 1_234,
        retention_threatens: true,
    };
    let unknown = v1::GroupPartition {
        topic: TOPIC.into(),
        partition: 1,
        log_start: -1,
        high_watermark: -1,
        lag: -1,
        lag_ms: -1,
        ..Default::default()
    };
    let member = v1::GroupMember {
        member_id: "m-1".into(),
        instance_id: "i".into(),
        client_id: "c".into(),
        client_host: "h".into(),
        topics: vec![TOPIC.into()],
        pattern: "o.*".into(),
        assigned: vec![set(&[0])],
        revoking: vec![set(&[1])],
    };
    let want = v1::DescribeGroupResponse {
        summary: Some(summary),
        epoch: 8,
        assignor: "sticky".into(),
        coordinator: 3,
        members: vec![member],
        partitions: vec![known, unknown],
    };
    assert_eq!(described, want);

    let leave =
        |member: &str| v1::GroupLeaveRequest { group: GROUP.into(), member_id: member.into(), instance_id: None };
    groups.leave(leave("m-1")).await.unwrap();
    let status = groups.leave(leave("m-2")).await.unwrap_err();
    assert_eq!(error_of(&status).code(), ErrorCode::UnknownMember);
    assert_eq!(groups.leave(leave("")).await.unwrap_err().code(), Code::InvalidArgument);
    let delete = |group: &str, dry_run| v1::DeleteGroupRequest { group: group.into(), dry_run };
    groups.delete_group(delete(GROUP, true)).await.unwrap();
    let status = groups.delete_group(delete(GROUP, false)).await.unwrap_err();
    assert_eq!((status.code(), error_of(&status).code()), (Code::FailedPrecondition, ErrorCode::GroupNotEmpty));
    let status = groups.delete_group(delete("nobodys", false)).await.unwrap_err();
    assert_eq!((status.code(), error_of(&status).code()), (Code::NotFound, ErrorCode::UnknownGroup));
    let delete = v1::DeleteOffsetsRequest { group: GROUP.into(), partitions: vec![set(&[0, 1])] };
    let answer = groups.delete_offsets(delete).await.unwrap().into_inner();
    assert_eq!(answer.refused.iter().map(|refused| refused.partition).collect::<Vec<_>>(), [1]);
    server.stop().await;
}

/// Each number is tried at its limit, and one beyond.
#[tokio::test]
async fn limits_of_heartbeats() {
    let server = Server::start(Fake::new()).await;
    let mut groups = client(&server).await;
    let named = |topics| v1::GroupSubscription { topics, ..Default::default() };
    let subscribed = |subscription| v1::GroupHeartbeatRequest { subscription: Some(subscription), ..beat() };
    let topics = |count| subscribed(named(vec!["t".to_string(); count]));
    let pattern = |bytes| subscribed(v1::GroupSubscription { pattern: "p".repeat(bytes), ..named(vec![]) });
    let topic = |bytes| subscribed(named(vec!["t".repeat(bytes)]));
    let member = |bytes| v1::GroupHeartbeatRequest { member_id: "m".repeat(bytes), ..beat() };
    let instance = |bytes| v1::GroupHeartbeatRequest { instance_id: Some("i".repeat(bytes)), ..beat() };
    let client_id = |bytes| v1::GroupHeartbeatRequest { client_id: "c".repeat(bytes), ..beat() };
    let join_as = |id: &str| v1::GroupHeartbeatRequest { join_as: id.into(), ..beat() };
    let owns = |count: usize| v1::GroupHeartbeatRequest { owns: vec![set(&vec![1; count])], ..beat() };
    let label = limits::LABEL_BYTES_MAX;
    for (good, bad, says) in [
        (topics(limits::SUBSCRIBED_TOPICS_MAX), topics(limits::SUBSCRIBED_TOPICS_MAX + 1), "1001 subscribed topics"),
        (pattern(limits::PATTERN_BYTES_MAX), pattern(limits::PATTERN_BYTES_MAX + 1), "pattern has 1025 bytes"),
        (topic(limits::TOPIC_NAME_BYTES_MAX), topic(limits::TOPIC_NAME_BYTES_MAX + 1), "a topic name of 250 bytes"),
        (member(limits::MEMBER_ID_BYTES_MAX), member(limits::MEMBER_ID_BYTES_MAX + 1), "member_id has 301 bytes"),
        (instance(label), instance(label + 1), "instance_id has 256 bytes"),
        (client_id(label), client_id(label + 1), "client_id has 256 bytes"),
        (owns(limits::OFFSETS_PER_GROUP_MAX), owns(limits::OFFSETS_PER_GROUP_MAX + 1), "100001 partitions in owns"),
        (beat(), topic(0), "topic name is empty"),
        (beat(), instance(0), "instance_id is empty"),
        (beat(), v1::GroupHeartbeatRequest { owns: vec![set(&[-1])], ..beat() }, "partition is -1"),
        (beat(), subscribed(v1::GroupSubscription { assignor: 9, ..named(vec![]) }), "assignor is 9"),
        (beat(), v1::GroupHeartbeatRequest { group: String::new(), ..beat() }, "the group's name is empty"),
        (beat(), v1::GroupHeartbeatRequest { group: "g".repeat(256), ..beat() }, "group has 256 bytes"),
        (join_as("m-1"), v1::GroupHeartbeatRequest { member_id: "m".into(), ..join_as("m-1") }, "beside a member_id"),
        (join_as(&"j".repeat(limits::MEMBER_ID_BYTES_MAX)), join_as(&"j".repeat(301)), "join_as has 301 bytes"),
        (beat(), join_as("a\u{1b}[2J"), "join_as has the control character"),
        (beat(), v1::GroupHeartbeatRequest { member_id: "a\nb".into(), ..beat() }, "member_id has the control"),
        (beat(), v1::GroupHeartbeatRequest { client_id: "a\u{1b}b".into(), ..beat() }, "client_id has the control"),
        (beat(), v1::GroupHeartbeatRequest { instance_id: Some("\r".into()), ..beat() }, "instance_id has the control"),
    ] {
        groups.heartbeat(good).await.unwrap_or_else(|status| panic!("{says}: {status:?}"));
        let status = groups.heartbeat(bad).await.unwrap_err();
        assert_eq!(error_of(&status).code(), ErrorCode::InvalidRequest, "{says}");
        assert!(status.message().contains(says), "{:?} lacks {says:?}", status.message());
    }
    server.stop().await;
}

#[tokio::test]
async fn limits_of_offsets() {
    let server = Server::start(Fake::new()).await;
    let mut groups = client(&server).await;
    let many = |count| commit(vec![offset(0, 1); count]);
    groups.commit_offsets(many(limits::GROUP_OFFSETS_MAX)).await.unwrap();
    let metadata = commit(vec![v1::OffsetToCommit { metadata: "x".repeat(4_097), ..offset(0, 5) }]);
    for (bad, says) in [
        (many(limits::GROUP_OFFSETS_MAX + 1), "10001 offsets"),
        (metadata, "metadata has 4097 bytes"),
        (commit(vec![offset(0, -1)]), "offset is -1"),
        (commit(vec![offset(-1, 0)]), "partition is -1"),
    ] {
        let status = groups.commit_offsets(bad).await.unwrap_err();
        assert_eq!(error_of(&status).code(), ErrorCode::InvalidRequest, "{says}");
        assert!(status.message().contains(says), "{:?} lacks {says:?}", status.message());
    }
    let ask = |count: i32| v1::FetchOffsetsRequest {
        group: GROUP.into(),
        partitions: vec![set(&(0..count).collect::<Vec<_>>())],
    };
    groups.fetch_offsets(ask(10_000)).await.unwrap();
    assert_eq!(groups.fetch_offsets(ask(10_001)).await.unwrap_err().code(), Code::InvalidArgument);
    let none = v1::DeleteOffsetsRequest { group: GROUP.into(), partitions: vec![] };
    assert_eq!(groups.delete_offsets(none).await.unwrap_err().code(), Code::InvalidArgument);
    server.stop().await;
}
