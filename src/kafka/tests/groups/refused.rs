//! Refusals, each at every version in which it can be asked for.

use super::{
    super::super::{
        codes::Code,
        limits,
        wire::{
            JoinGroupRequest, OffsetFetchRequest, SyncGroupRequest, message,
            offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics},
        },
    },
    Consumer, Versions, with_topic,
};
use crate::group::limits::OFFSET_METADATA_BYTES_MAX;

#[tokio::test]
async fn a_join_is_refused_at_every_version() {
    let (alone, _) = with_topic(8_700).await;
    let mut member = Consumer::of(&alone.face, "g", Versions::newest());
    let good = member.join_request();
    type Change = fn(&mut JoinGroupRequest);
    let wishes: [(Change, Code); 5] = [
        (|wish| wish.group_id = "".into(), Code::InvalidGroupId),
        (|wish| wish.session_timeout_ms = 5_999, Code::InvalidSessionTimeout),
        (|wish| wish.session_timeout_ms = -1, Code::InvalidSessionTimeout),
        (|wish| wish.protocols.clear(), Code::InconsistentGroupProtocol),
        (|wish| wish.member_id = "stranger".into(), Code::UnknownMemberId),
    ];
    for version in 0..=9 {
        for (change, code) in wishes {
            let mut wish = good.clone();
            change(&mut wish);
            let answer = member.wire.ask(version, &wish).await;
            assert_eq!(answer.error_code, code.value(), "version {version}: {wish:?}");
            assert_eq!((answer.generation_id, answer.member_id), (-1, wish.member_id));
            assert_eq!(answer.protocol_name.as_deref(), (version < 7).then_some(""));
        }
    }
}

#[tokio::test]
async fn strangers_are_refused_at_every_version() {
    let (alone, id) = with_topic(8_800).await;
    for age in 0..=10 {
        let mut stranger = Consumer::of(&alone.face, "g", Versions::of_age(age));
        // Also with an id that is longer than any.
        for member in ["stranger", &"x".repeat(10_000)] {
            stranger.member = member.into();
            stranger.generation = 1;
            let unknown = Code::UnknownMemberId.value();
            assert_eq!(stranger.heartbeat().await, unknown, "age {age}");
            assert_eq!(stranger.leave().await, unknown, "age {age}");
            assert_eq!(stranger.commit(id, &[(0, 1, "")]).await, [unknown], "age {age}");
            let version = stranger.versions.sync;
            let answer = stranger.wire.ask(version, &sync(member)).await;
            assert_eq!((answer.error_code, answer.assignment.len()), (unknown, 0), "age {age}");
        }
    }
    let mut silent = Consumer::of(&alone.face, "g", Versions::newest());
    let request = message!(SyncGroupRequest { group_id: "g".into(), member_id: "m".into(), generation_id: 1 });
    let answer = silent.wire.ask(5, &request).await;
    assert_eq!(answer.error_code, Code::InconsistentGroupProtocol.value());
}

fn sync(member: &str) -> SyncGroupRequest {
    message!(SyncGroupRequest {
        group_id: "g".into(),
        generation_id: 1,
        member_id: member.into(),
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
    })
}

/// What there is no room for in one answer is a refusal that every version can be made to tell.
#[tokio::test]
async fn offsets_are_refused_by_partition_then_as_a_whole_then_by_group() {
    let (alone, id) = with_topic(8_900).await;
    let metadata = "x".repeat(OFFSET_METADATA_BYTES_MAX);
    let mut nobody = Consumer::of(&alone.face, "g", Versions::of_age(9));
    assert_eq!(nobody.commit(id, &[(0, 3, &metadata)]).await, [0]);
    let too_many = limits::GROUPS_ANSWER_BYTES_MAX / OFFSET_METADATA_BYTES_MAX + 1;
    let refused = Code::InvalidRequest.value();
    for version in 1..=10 {
        let mut request = message!(OffsetFetchRequest {});
        if version >= 8 {
            let topic = message!(OffsetFetchRequestTopics {
                name: "t".into(),
                topic_id: id,
                partition_indexes: vec![0; too_many],
            });
            let group = |topics| message!(OffsetFetchRequestGroup { group_id: "g".into(), topics: topics });
            request.groups = vec![group(Some(vec![topic])), group(None)];
        } else {
            let topic = message!(OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![0; too_many] });
            (request.group_id, request.topics) = ("g".into(), Some(vec![topic]));
        }
        let answer = nobody.wire.ask(version, &request).await;
        match version {
            1 => {
                let [topic] = &answer.topics[..] else { panic!("{} topics", answer.topics.len()) };
                assert_eq!((answer.error_code, topic.partitions.len()), (0, too_many));
                let said =
                    topic.partitions.iter().map(|at| (at.error_code, at.committed_offset, at.metadata.as_deref()));
                assert!(said.clone().all(|said| said == (refused, -1, Some(""))), "{:?}", said.clone().next());
            }
            2..=7 => assert_eq!((answer.error_code, answer.topics.len()), (refused, 0), "version {version}"),
            _ => {
                let said: Vec<_> = answer.groups.iter().map(|group| (group.error_code, group.topics.len())).collect();
                assert_eq!((answer.error_code, said), (0, vec![(refused, 0), (0, 1)]), "version {version}");
            }
        }
    }
}
