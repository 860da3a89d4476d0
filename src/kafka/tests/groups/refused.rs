//! Refusals, each at every version in which it can be asked for.

use super::{
    super::super::{
        codes::Code,
        wire::{JoinGroupRequest, SyncGroupRequest, message},
    },
    Consumer, Versions, with_topic,
};

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
