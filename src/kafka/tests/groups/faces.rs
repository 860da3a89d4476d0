//! Groups and offsets of the other face, seen through this one, and the reverse.

use super::{
    super::super::wire::{DescribeGroupsRequest, ListGroupsRequest, message},
    Consumer, Versions, with_topic,
};
use crate::{
    broker::{
        Caller,
        groups::{CommitRequest, HeartbeatRequest, OffsetToCommit},
        tests::rig::until,
    },
    group::{Subscription, consumer_protocol},
    types::{LeaderEpoch, Offset, PartitionId, TopicPartition},
};

#[tokio::test]
async fn a_commit_through_one_face_is_seen_through_the_other() {
    let (alone, id) = with_topic(8_200).await;
    let broker = alone.broker();
    let mut nobody = Consumer::of(&alone.face, "g", Versions::newest());
    assert_eq!(nobody.commit(id, &[(0, 3, "kafka's")]).await, [0]);
    let found = broker.fetch_offsets(&Caller::ANONYMOUS, &"g".into(), None).await.unwrap();
    assert_eq!((found.offsets[0].offset, found.offsets[0].metadata.as_str()), (Offset(3), "kafka's"));

    let commit = CommitRequest {
        group: "g".into(),
        offsets: vec![OffsetToCommit {
            at: TopicPartition { topic: "t".into(), partition: PartitionId(1) },
            topic_id: None,
            offset: Offset(4),
            leader_epoch: Some(LeaderEpoch(1)),
            metadata: "ours".into(),
        }],
        ..CommitRequest::default()
    };
    assert_eq!(broker.commit_offsets(&Caller::ANONYMOUS, commit).await, Ok(vec![]));
    let found = nobody.committed(id, &[0, 1]).await;
    assert_eq!(found, [(0, 3, 0, "kafka's".to_string()), (1, 4, 0, "ours".to_string())]);
}

/// Kafka's tools look for consumers, and read what these say in their own protocol.
#[tokio::test]
async fn members_whose_partitions_the_server_assigns_look_like_consumers() {
    let (alone, _) = with_topic(8_300).await;
    let broker = alone.broker();
    let subscription = Subscription { topics: vec!["t".into()], ..Subscription::default() };
    let join = HeartbeatRequest {
        group: "ours".into(),
        subscription: Some(subscription),
        client_id: "c".into(),
        ..HeartbeatRequest::default()
    };
    let joined = broker.group_join(&Caller::ANONYMOUS, join).await.unwrap();
    until("it has its partitions", || async {
        let known = broker.describe_group(&Caller::ANONYMOUS, &"ours".into()).await.unwrap();
        known.members[0].assigned.get("t").is_some_and(|numbers| numbers.len() == 2)
    })
    .await;
    let mut wire = alone.face.connect();
    let listed = wire.ask(5, &message!(ListGroupsRequest {})).await;
    let [group] = &listed.groups[..] else { panic!("{listed:?}") };
    let said = [&group.group_id, &group.protocol_type, &group.group_type].map(|said| said.as_str());
    assert_eq!(said, ["ours", "consumer", "consumer"]);
    for version in 0..=6 {
        let described = wire.ask(version, &message!(DescribeGroupsRequest { groups: vec!["ours".into()] })).await;
        let [group] = &described.groups[..] else { panic!("{described:?}") };
        assert_eq!((group.error_code, group.protocol_type.as_str()), (0, "consumer"));
        let [member] = &group.members[..] else { panic!("{described:?}") };
        assert_eq!(member.member_id.as_str(), joined.member.0);
        assert_eq!(consumer_protocol::subscribed_topics(&member.member_metadata), Some(vec!["t"]));
        let assigned = consumer_protocol::assigned_partitions(&member.member_assignment).unwrap();
        assert_eq!(assigned["t"], [PartitionId(0), PartitionId(1)]);
    }
}
