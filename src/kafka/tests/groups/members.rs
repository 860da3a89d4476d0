//! What members of a group do, at every version.

use futures_util::future::join_all;

use super::{Consumer, Uuid, Versions, round, with_topic};
use crate::{
    broker::{Caller, tests::rig::until},
    group::GroupPhase,
    kafka::{codes::Code, tests::harness::Face},
};

#[tokio::test]
async fn two_members_join_sync_beat_commit_and_leave_at_every_version() {
    let (alone, id) = with_topic(7_100).await;
    join_all((0..=10).map(|age| two_members(&alone.face, id, age))).await;
    let broker = alone.broker();
    for group in broker.list_groups(&Caller::ANONYMOUS).await.unwrap() {
        assert_eq!((group.phase, group.members), (GroupPhase::Empty, 0), "{}", group.group);
    }
}

async fn two_members(face: &Face, id: Uuid, age: i16) {
    let (group, versions) = (format!("g{age}"), Versions::of_age(age));
    let mut both = [0, 1].map(|_| Consumer::of(face, &group, versions));
    round(&mut both).await;
    let [one, two] = &mut both;
    let generation = one.generation;
    assert_eq!((one.heartbeat().await, two.heartbeat().await), (0, 0), "{versions:?}");
    assert_eq!(one.commit(id, &[(0, 5, "five"), (1, 6, "")]).await, [0, 0], "{versions:?}");
    let found = two.committed(id, &[1, 0]).await;
    assert_eq!(found, [(1, 6, 0, "".to_string()), (0, 5, 0, "five".to_string())], "{versions:?}");

    assert_eq!(two.leave().await, 0, "{versions:?}");
    assert_eq!(two.leave().await, Code::UnknownMemberId.value(), "{versions:?}");
    assert_eq!(one.heartbeat().await, Code::RebalanceInProgress.value(), "{versions:?}");
    round(std::slice::from_mut(&mut both[0])).await;
    let [one, _] = &mut both;
    assert_eq!(one.generation, generation + 1);
    one.generation = generation;
    assert_eq!(one.heartbeat().await, Code::IllegalGeneration.value(), "{versions:?}");
    assert_eq!(one.commit(id, &[(0, 7, "")]).await, [Code::IllegalGeneration.value()], "{versions:?}");
    assert_eq!(one.leave().await, 0, "{versions:?}");
}

#[tokio::test]
async fn a_new_member_is_told_its_id_before_it_joins_from_version_4_on() {
    let (alone, _) = with_topic(7_200).await;
    let mut member = Consumer::of(&alone.face, "g", Versions::newest());
    let told = member.wire.ask(4, &member.join_request()).await;
    assert_eq!(told.error_code, Code::MemberIdRequired.value());
    assert!(told.member_id.starts_with("test-"), "it begins with the client's id: {told:?}");
    member.member = told.member_id.to_string();
    let joined = member.wire.ask(4, &member.join_request()).await;
    assert_eq!((joined.error_code, joined.member_id), (0, told.member_id));

    let mut old = Consumer::of(&alone.face, "old", Versions::newest());
    let joined = old.wire.ask(3, &old.join_request()).await;
    assert_eq!(joined.error_code, 0);
}

#[tokio::test]
async fn a_static_member_that_comes_back_has_its_place_and_its_former_self_is_fenced() {
    let (alone, _) = with_topic(7_300).await;
    let consumer = || {
        let mut consumer = Consumer::of(&alone.face, "g", Versions::newest());
        consumer.instance = Some("i".into());
        consumer
    };
    let mut all = [consumer()];
    round(&mut all).await;
    let [mut former] = all;
    let mut back = consumer();
    back.join().await;
    assert_ne!(back.member, former.member);
    assert_eq!((back.generation, back.skips_assignment), (former.generation, true));
    back.sync().await;
    assert_eq!(back.assignment, former.assignment, "nothing moves");
    assert_eq!(former.heartbeat().await, Code::FencedInstanceId.value());
    assert_eq!(back.heartbeat().await, 0);
}

#[tokio::test]
async fn a_join_whose_connection_closes_waits_no_more() {
    let (alone, _) = with_topic(7_400).await;
    let broker = alone.broker();
    let members = || async { broker.describe_group(&Caller::ANONYMOUS, &"g".into()).await.unwrap().members.len() };
    let mut all = [Consumer { session_ms: 60_000, ..Consumer::of(&alone.face, "g", Versions::newest()) }];
    round(&mut all).await;
    let [mut stays] = all;
    let mut goes = Consumer::of(&alone.face, "g", Versions::of_age(3));
    goes.wire.send(goes.versions.join, &goes.join_request()).await;
    until("it has joined", || async { members().await == 2 }).await;
    assert!(goes.wire.is_silent().await, "it waits for the other one");
    drop(goes);
    // Nobody beats for it any more, so that its session ends.
    until("it is forgotten", || async { members().await == 1 }).await;
    assert!([0, Code::RebalanceInProgress.value()].contains(&stays.heartbeat().await));
}
