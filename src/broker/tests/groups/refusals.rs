//! What Kafka has a code of its own for, a face can tell apart without reading text: each refusal as a client meets it.

use std::time::Duration;

use super::{
    Cluster, Member,
    classic::{beat, join, round, sync},
    offset, place, topics,
};
use crate::{
    broker::{
        Broker, Caller,
        groups::{ClassicJoin, ClassicSync, CommitRequest, GroupError},
    },
    group::GroupRefusal,
};

const ANY: &Caller = &Caller::ANONYMOUS;

async fn refusal_of_join(broker: &Broker, wish: ClassicJoin) -> GroupError {
    broker.classic_join(ANY, wish).await.expect_err("it may not join")
}

#[tokio::test]
async fn names_protocols_and_members_are_refused_each_by_a_variant_of_its_own() {
    let cluster = Cluster::start(3, 4_800).await;
    let broker = cluster.broker(1);
    let nameless = refusal_of_join(&broker, join("", "")).await;
    assert!(matches!(nameless, GroupError::InvalidGroupName { .. }), "{nameless}");
    let joined = round(vec![(cluster.broker(1), join("g", "")), (cluster.broker(2), join("g", ""))]).await;
    let connect = ClassicJoin { protocol_type: "connect".into(), ..join("g", "") };
    let foreign = ClassicJoin { protocols: vec![("roundrobin".into(), vec![])], ..join("g", "") };
    for wish in [connect, foreign] {
        let refused = refusal_of_join(&broker, wish).await;
        assert!(matches!(refused, GroupError::ProtocolMismatch { .. }), "{refused}");
    }
    let member = Member::join(cluster.broker(3), "server", topics(&["t"])).await;
    let refused = refusal_of_join(&broker, join("server", "")).await;
    assert!(matches!(refused, GroupError::ProtocolMismatch { .. }), "beside {}: {refused}", member.id);

    let right = ClassicSync {
        group: "g".into(),
        generation: joined[0].generation,
        member: joined[0].member.clone(),
        ..ClassicSync::default()
    };
    let refused = |sync: ClassicSync| {
        let broker = broker.clone();
        async move { broker.classic_sync(ANY, sync).await.expect_err("something is wrong with it") }
    };
    let other = refused(ClassicSync { protocol: Some("sticky".into()), ..right.clone() }).await;
    assert!(matches!(other, GroupError::ProtocolMismatch { .. }), "{other}");
    let other = refused(ClassicSync { protocol_type: Some("connect".into()), ..right.clone() }).await;
    assert!(matches!(other, GroupError::ProtocolMismatch { .. }), "{other}");
    let old = refused(ClassicSync { generation: right.generation - 1, ..right.clone() }).await;
    let wrong =
        |error: &GroupError| matches!(error, GroupError::Refused { refusal: GroupRefusal::WrongEpoch { .. }, .. });
    assert!(wrong(&old), "{old}");
    let stranger = refused(ClassicSync { member: "nobody".into(), ..right.clone() }).await;
    assert!(matches!(stranger, GroupError::UnknownMember { .. }), "{stranger}");
    let gone = refused(ClassicSync { group: "none".into(), ..right }).await;
    assert!(matches!(gone, GroupError::UnknownMember { .. }), "{gone}");

    let live = broker.delete_group(ANY, &"g".into(), false).await;
    assert!(matches!(live, Err(GroupError::NotEmpty { members: 2, .. })), "{live:?}");
    let none = broker.delete_group(ANY, &"none".into(), false).await;
    assert!(matches!(none, Err(GroupError::UnknownGroup { .. })), "{none:?}");
    let none = broker.describe_group(ANY, &"none".into()).await;
    assert!(matches!(none, Err(GroupError::UnknownGroup { .. })), "{none:?}");
}

/// An application may poll as seldom as it likes: Java's largest int is more than we wait, and no reason to refuse.
#[tokio::test]
async fn a_rebalance_timeout_of_any_length_is_taken() {
    let cluster = Cluster::start(3, 4_810).await;
    for (group, ms) in [("long", i32::MAX as u64), ("none", 0)] {
        let wish = ClassicJoin { rebalance_timeout: Duration::from_millis(ms), ..join(group, "") };
        let joined = cluster.broker(1).classic_join(ANY, wish).await;
        assert_eq!(joined.map(|joined| joined.generation), Ok(1), "{ms} ms");
    }
}

/// Kafka's CompletingRebalance: the member has its generation, and nobody has been assigned anything.
#[tokio::test]
async fn who_commits_before_its_assignment_is_told_of_the_rebalance() {
    let cluster = Cluster::start(3, 4_830).await;
    cluster.create("t", 1).await;
    let broker = cluster.broker(2);
    let joined = broker.classic_join(ANY, join("g", "")).await.unwrap();
    let commit = CommitRequest {
        group: "g".into(),
        member: joined.member.clone(),
        epoch: joined.generation,
        offsets: vec![offset(place("t", 0), 1)],
        ..CommitRequest::default()
    };
    let early = broker.commit_offsets(ANY, commit.clone()).await;
    assert_eq!(early, Err(GroupError::Rebalancing { group: "g".into() }));
    sync(&broker, &joined).await.unwrap();
    assert_eq!(broker.commit_offsets(ANY, commit).await, Ok(vec![]));
    broker.classic_heartbeat(ANY, beat(&joined)).await.unwrap();
}
