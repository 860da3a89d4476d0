//! What tools ask about groups, and do to them.

use super::{
    super::super::{
        codes::Code,
        wire::{
            DeleteGroupsRequest, DescribeGroupsRequest, ListGroupsRequest, OffsetDeleteRequest, StrBytes, message,
            offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
        },
    },
    Consumer, Versions, round, with_topic,
};

fn names(names: &[&str]) -> Vec<StrBytes> {
    names.iter().map(|name| (*name).into()).collect()
}

#[tokio::test]
async fn groups_are_described_and_listed_at_every_version() {
    let (alone, id) = with_topic(8_400).await;
    let mut all = [Consumer::of(&alone.face, "live", Versions::newest())];
    round(&mut all).await;
    let [mut member] = all;
    let mut nobody = Consumer::of(&alone.face, "bare", Versions::newest());
    assert_eq!(nobody.commit(id, &[(0, 1, "")]).await, [0]);
    let mut wire = alone.face.connect();
    for version in 0..=6 {
        let asked = message!(DescribeGroupsRequest { groups: names(&["live", "bare", "unheard-of"]) });
        let answer = wire.ask(version, &asked).await;
        let [live, bare, unknown] = &answer.groups[..] else { panic!("{answer:?}") };
        let said = [&live.group_state, &live.protocol_type, &live.protocol_data].map(|said| said.as_str());
        assert_eq!((live.error_code, said), (0, ["Stable", "consumer", "range"]), "version {version}");
        let [only] = &live.members[..] else { panic!("{live:?}") };
        let said = [&only.member_id, &only.client_id, &only.client_host].map(|said| said.as_str());
        assert_eq!(said, [member.member.as_str(), "test", "/192.0.2.1"]);
        assert_eq!((&only.member_assignment[..], only.member_metadata.is_empty()), (member.member.as_bytes(), false));
        assert_eq!((bare.error_code, bare.group_state.as_str(), bare.members.len()), (0, "Empty", 0));
        let unheard_of = if version >= 6 { Code::GroupIdNotFound } else { Code::None };
        assert_eq!((unknown.error_code, unknown.group_state.as_str()), (unheard_of.value(), "Dead"));
        assert_eq!(unknown.error_message.is_some(), version >= 6);
    }
    for version in 0..=5 {
        let answer = wire.ask(version, &message!(ListGroupsRequest {})).await;
        let mut listed: Vec<_> = answer
            .groups
            .iter()
            .map(|group| [&group.group_id, &group.group_state, &group.group_type].map(|said| said.as_str()))
            .collect();
        listed.sort_unstable();
        let from = |since: i16, word: &'static str| if version >= since { word } else { "" };
        let expected =
            [["bare", from(4, "Empty"), from(5, "classic")], ["live", from(4, "Stable"), from(5, "classic")]];
        assert_eq!(listed, expected, "version {version}");
    }
    let of = |states: &[&str], types: &[&str]| {
        message!(ListGroupsRequest { states_filter: names(states), types_filter: names(types) })
    };
    for (filter, expected) in [
        (of(&["stable"], &[]), vec!["live"]),
        (of(&["Empty", "Stable"], &["Classic"]), vec!["bare", "live"]),
        (of(&[], &["consumer"]), vec![]),
        (of(&["nonsense"], &[]), vec![]),
    ] {
        let answer = wire.ask(5, &filter).await;
        let mut listed: Vec<_> = answer.groups.iter().map(|group| group.group_id.as_str()).collect();
        listed.sort_unstable();
        assert_eq!(listed, expected, "{filter:?}");
    }
    assert_eq!(member.heartbeat().await, 0);
}

#[tokio::test]
async fn only_groups_without_members_are_deleted() {
    let (alone, id) = with_topic(8_500).await;
    let mut all = [Consumer::of(&alone.face, "live", Versions::newest())];
    round(&mut all).await;
    let mut wire = alone.face.connect();
    for version in 0..=2 {
        let mut nobody = Consumer::of(&alone.face, "bare", Versions::newest());
        assert_eq!(nobody.commit(id, &[(0, 1, "")]).await, [0]);
        let asked = message!(DeleteGroupsRequest { groups_names: names(&["live", "bare", "unheard-of"]) });
        let codes: Vec<_> = wire.ask(version, &asked).await.results.iter().map(|result| result.error_code).collect();
        assert_eq!(codes, [Code::NonEmptyGroup.value(), 0, Code::GroupIdNotFound.value()], "version {version}");
        assert_eq!(nobody.committed(id, &[0]).await, [(0, -1, 0, String::new())]);
    }
}

#[tokio::test]
async fn offsets_are_deleted_where_no_member_reads() {
    let (alone, id) = with_topic(8_600).await;
    let mut all = [Consumer::of(&alone.face, "live", Versions::newest())];
    round(&mut all).await;
    let [mut member] = all;
    assert_eq!(member.commit(id, &[(0, 1, "")]).await, [0]);
    let mut nobody = Consumer::of(&alone.face, "bare", Versions::newest());
    assert_eq!(nobody.commit(id, &[(0, 1, ""), (1, 2, "")]).await, [0, 0]);
    let of = |group: &str| {
        let partition = message!(OffsetDeleteRequestPartition { partition_index: 0 });
        let topic = message!(OffsetDeleteRequestTopic { name: "t".into(), partitions: vec![partition] });
        message!(OffsetDeleteRequest { group_id: group.into(), topics: vec![topic] })
    };
    let mut wire = alone.face.connect();
    let answer = wire.ask(0, &of("live")).await;
    let reads = Code::GroupSubscribedToTopic.value();
    assert_eq!((answer.error_code, answer.topics[0].partitions[0].error_code), (0, reads));
    let answer = wire.ask(0, &of("bare")).await;
    assert_eq!((answer.error_code, answer.topics[0].partitions[0].error_code), (0, 0));
    assert_eq!(nobody.committed(id, &[0, 1]).await, [(0, -1, 0, String::new()), (1, 2, 0, String::new())]);
    let answer = wire.ask(0, &of("unheard-of")).await;
    assert_eq!((answer.error_code, answer.topics.len()), (Code::GroupIdNotFound.value(), 0));
}

/// As a tool does it: all offsets, and then the group.
#[tokio::test]
async fn a_group_without_offsets_is_there_to_be_deleted() {
    let (alone, id) = with_topic(8_660).await;
    let mut nobody = Consumer::of(&alone.face, "bare", Versions::newest());
    assert_eq!(nobody.commit(id, &[(0, 1, "")]).await, [0]);
    let partition = message!(OffsetDeleteRequestPartition { partition_index: 0 });
    let topic = message!(OffsetDeleteRequestTopic { name: "t".into(), partitions: vec![partition] });
    let mut wire = alone.face.connect();
    let deleted = wire.ask(0, &message!(OffsetDeleteRequest { group_id: "bare".into(), topics: vec![topic] })).await;
    assert_eq!((deleted.error_code, deleted.topics[0].partitions[0].error_code), (0, 0));
    let described = wire.ask(5, &message!(DescribeGroupsRequest { groups: names(&["bare"]) })).await;
    assert_eq!((described.groups[0].error_code, described.groups[0].group_state.as_str()), (0, "Empty"));
    let delete = message!(DeleteGroupsRequest { groups_names: names(&["bare"]) });
    for expected in [0, Code::GroupIdNotFound.value()] {
        assert_eq!(wire.ask(2, &delete).await.results[0].error_code, expected);
    }
}

#[tokio::test]
async fn offsets_are_not_deleted_where_kafka_refuses_it() {
    let (alone, id) = with_topic(8_650).await;
    let mut nobody = Consumer::of(&alone.face, "bare", Versions::newest());
    assert_eq!(nobody.commit(id, &[(0, 1, "")]).await, [0]);
    let of = |group: &str, places: &[(&str, i32)]| {
        let topics = places.iter().map(|(topic, partition)| {
            let partition = message!(OffsetDeleteRequestPartition { partition_index: *partition });
            message!(OffsetDeleteRequestTopic { name: (*topic).into(), partitions: vec![partition] })
        });
        message!(OffsetDeleteRequest { group_id: group.into(), topics: topics.collect() })
    };
    let mut wire = alone.face.connect();
    let long = "x".repeat(10_000);
    let unknown = [("unheard-of", 0), ("t", 2), ("t", -1), ("", 0), (long.as_str(), 0)];
    let answer = wire.ask(0, &of("bare", &[&unknown[..], &[("t", 0)]].concat())).await;
    let codes: Vec<_> = answer.topics.iter().map(|topic| topic.partitions[0].error_code).collect();
    let no_such = Code::UnknownTopicOrPartition.value();
    assert_eq!((answer.error_code, codes), (0, vec![no_such, no_such, no_such, no_such, no_such, 0]));
    assert_eq!(nobody.committed(id, &[0]).await, [(0, -1, 0, String::new())], "the others hold it up no longer");
    for places in [&unknown[..], &[]] {
        let answer = wire.ask(0, &of("unheard-of", places)).await;
        assert_eq!((answer.error_code, answer.topics.len()), (Code::GroupIdNotFound.value(), 0));
    }
    // Of members that are no consumers nobody knows what they read.
    let mut worker = Consumer::of(&alone.face, "connect", Versions::newest());
    let mut join = worker.join_request();
    join.protocol_type = "connect".into();
    join.member_id = worker.wire.ask(9, &join).await.member_id;
    assert_eq!(worker.wire.ask(9, &join).await.error_code, 0);
    let answer = wire.ask(0, &of("connect", &[("t", 0)])).await;
    assert_eq!((answer.error_code, answer.topics.len()), (Code::NonEmptyGroup.value(), 0));
}
