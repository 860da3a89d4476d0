//! Committed offsets: their order, their limits, and where there are none.

use super::{
    super::super::{
        codes::Code,
        limits,
        wire::{
            OffsetCommitRequest, OffsetFetchRequest, Uuid, message,
            offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics},
        },
    },
    Consumer, Versions, commit_request, committed, round, with_topic,
};
use crate::{
    broker::{
        Caller,
        tests::rig::{PATIENCE, until},
    },
    group::limits::OFFSET_METADATA_BYTES_MAX,
};

#[tokio::test]
async fn commits_sent_without_waiting_keep_their_order_and_leaving_comes_after_them() {
    let (alone, id) = with_topic(7_500).await;
    let mut all = [Consumer::of(&alone.face, "g", Versions::newest())];
    round(&mut all).await;
    let [mut member] = all;
    let mut asked = Vec::new();
    for next in 1..=30 {
        let request = member.commit_request(id, &[(0, next, "")]);
        asked.push(member.wire.send(member.versions.commit, &request).await);
    }
    let leave = member.leave_request();
    let leaves = member.wire.send(member.versions.leave, &leave).await;
    for asked in asked {
        let answer = member.wire.receive::<OffsetCommitRequest>(member.versions.commit, asked).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, 0, "{answer:?}");
    }
    let left = member.wire.receive::<super::LeaveGroupRequest>(member.versions.leave, leaves).await;
    assert_eq!((left.error_code, left.members[0].error_code), (0, 0));
    assert_eq!(member.committed(id, &[0]).await, [(0, 30, 0, String::new())]);
}

#[tokio::test]
async fn a_commit_does_not_wait_for_a_join_before_it() {
    let (alone, id) = with_topic(7_600).await;
    let broker = alone.broker();
    let mut all = [Consumer::of(&alone.face, "g", Versions::newest())];
    round(&mut all).await;
    let mut waits = Consumer::of(&alone.face, "g", Versions::of_age(3));
    waits.wire.send(3, &waits.join_request()).await;
    waits.wire.send(9, &commit_request("other", id, &[(0, 1, "")])).await;
    until("it is committed", || async {
        let found = broker.fetch_offsets(&Caller::ANONYMOUS, &"other".into(), None).await.unwrap();
        found.offsets.len() == 1
    })
    .await;
    assert!(waits.wire.is_silent().await, "its answer comes after that of the join");
}

#[tokio::test]
async fn metadata_has_a_limit_and_what_is_within_it_is_committed() {
    let (alone, id) = with_topic(7_700).await;
    let mut nobody = Consumer::of(&alone.face, "g", Versions::newest());
    let (fits, long) = ("x".repeat(OFFSET_METADATA_BYTES_MAX), "x".repeat(OFFSET_METADATA_BYTES_MAX + 1));
    assert_eq!(OFFSET_METADATA_BYTES_MAX, 4_096);
    let codes = nobody.commit(id, &[(0, 1, &fits), (1, 1, &long)]).await;
    assert_eq!(codes, [0, Code::OffsetMetadataTooLarge.value()]);
    assert_eq!(nobody.committed(id, &[0, 1]).await, [(0, 1, 0, fits), (1, -1, 0, String::new())]);
}

#[tokio::test]
async fn nothing_committed_is_no_error_at_any_version() {
    let (alone, id) = with_topic(7_800).await;
    let mut wire = alone.face.connect();
    for version in 1..=10 {
        let found = committed(&mut wire, version, "unheard-of", id, Some(&[0, 7])).await;
        assert_eq!(found, [(0, -1, 0, String::new()), (7, -1, 0, String::new())], "version {version}");
        if version >= 2 {
            assert!(committed(&mut wire, version, "unheard-of", id, None).await.is_empty());
        }
    }
    // By an id that no topic has.
    let mut nobody = Consumer::of(&alone.face, "g", Versions::newest());
    let strange = Uuid::from_bytes([7; 16]);
    let unknown = Code::UnknownTopicId.value();
    assert_eq!(nobody.committed(strange, &[0]).await, [(0, -1, unknown, String::new())]);
    assert_eq!(nobody.commit(strange, &[(0, 1, "")]).await, [unknown]);
    nobody.versions = Versions::of_age(9);
    let mut request = nobody.commit_request(id, &[(0, 1, ""), (9, 1, "")]);
    request.topics.push(message!(super::OffsetCommitRequestTopic {
        name: "nowhere".into(),
        partitions: request.topics[0].partitions.clone(),
    }));
    let answer = nobody.wire.ask(9, &request).await;
    let codes = |topic: usize| answer.topics[topic].partitions.iter().map(|at| at.error_code).collect::<Vec<_>>();
    let unknown = Code::UnknownTopicOrPartition.value();
    assert_eq!((codes(0), codes(1)), (vec![0, unknown], vec![unknown, unknown]));
}

#[tokio::test]
async fn a_request_asks_about_all_topics_and_about_many_groups() {
    let (alone, id) = with_topic(7_900).await;
    let mut nobody = Consumer::of(&alone.face, "g", Versions::newest());
    assert_eq!(nobody.commit(id, &[(0, 3, "three"), (1, 4, "")]).await, [0, 0]);
    for version in 2..=10 {
        let found = committed(&mut nobody.wire, version, "g", id, None).await;
        assert_eq!(found, [(0, 3, 0, "three".to_string()), (1, 4, 0, String::new())], "version {version}");
    }
    let group = |name: &str| message!(OffsetFetchRequestGroup { group_id: name.into(), topics: None });
    let request = message!(OffsetFetchRequest { groups: vec![group("g"), group("unheard-of"), group("g")] });
    let answer = nobody.wire.ask(9, &request).await;
    let sizes: Vec<_> = answer.groups.iter().map(|group| (group.error_code, group.topics.len())).collect();
    assert_eq!(sizes, [(0, 1), (0, 0), (0, 1)]);
}

/// One group fits whatever it holds, and naming it again and again makes no larger answer.
#[tokio::test]
async fn an_answer_is_bounded_however_often_a_partition_is_named() {
    let (alone, id) = with_topic(8_000).await;
    let mut nobody = Consumer::of(&alone.face, "g", Versions::of_age(9));
    let metadata = "x".repeat(OFFSET_METADATA_BYTES_MAX);
    assert_eq!(nobody.commit(id, &[(0, 3, &metadata)]).await, [0]);
    let fit = limits::GROUPS_ANSWER_BYTES_MAX / (OFFSET_METADATA_BYTES_MAX + 64);
    let ask = |times: usize| {
        let topic = message!(OffsetFetchRequestTopics { name: "t".into(), partition_indexes: vec![0; times] });
        let group = message!(OffsetFetchRequestGroup { group_id: "g".into(), topics: Some(vec![topic]) });
        message!(OffsetFetchRequest { groups: vec![group] })
    };
    let answer = nobody.wire.ask(9, &ask(fit + 1)).await;
    assert_eq!(answer.groups[0].error_code, Code::InvalidRequest.value());
    let answer = nobody.wire.ask(9, &ask(1_000)).await;
    assert_eq!((answer.groups[0].error_code, answer.groups[0].topics[0].partitions.len()), (0, 1_000));
}

#[tokio::test]
async fn more_partitions_than_a_group_may_have_close_the_connection() {
    let (alone, id) = with_topic(8_100).await;
    let max = limits::NAMED_PARTITIONS_MAX;
    let ask = |first: usize, second: usize| {
        let topic = |times| message!(OffsetFetchRequestTopics { name: "t".into(), partition_indexes: vec![0; times] });
        let group =
            message!(OffsetFetchRequestGroup { group_id: "g".into(), topics: Some(vec![topic(first), topic(second)]) });
        message!(OffsetFetchRequest { groups: vec![group] })
    };
    let mut wire = alone.face.connect();
    let answer = wire.ask(9, &ask(max - 1, 1)).await;
    assert_eq!(answer.groups[0].error_code, 0);
    wire.send(9, &ask(max, 1)).await;
    assert!(wire.is_closed().await, "within {PATIENCE:?}");

    let mut wire = alone.face.connect();
    let mut request = commit_request("g", id, &vec![(0, 1, ""); max]);
    let one = commit_request("g", id, &[(0, 1, "")]);
    request.topics.extend(one.topics);
    wire.send(9, &request).await;
    assert!(wire.is_closed().await, "within {PATIENCE:?}");
}
