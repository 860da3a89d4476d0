//! Members share partitions, take over from one another, and are never interrupted for nothing.

use std::time::Duration;

use tokio::time::Instant;

use super::{Cluster, Member, SESSION, beat_until, coordinator, counts, place, topics};
use crate::{
    broker::{
        AddPartitionsRequest, Caller, DeleteTopicRequest,
        groups::{GroupError, HeartbeatRequest, Leaver},
        tests::rig::until,
    },
    group::Subscription,
};

#[tokio::test]
async fn six_partitions_are_shared_taken_over_and_evened_out() {
    let cluster = Cluster::start(3, 2_100).await;
    cluster.create("t", 6).await;
    let mut members = Vec::new();
    for id in 1..=3 {
        members.push(Member::join(cluster.broker(id), "g", topics(&["t"])).await);
    }
    beat_until(&mut members, "two each", |members| counts(members) == [2, 2, 2]).await;

    // One falls silent. Nobody takes over before its session is over, and then at once.
    let silent = members.pop().unwrap();
    let last_beat = Instant::now();
    members.iter_mut().for_each(|member| member.lost.clear());
    beat_until(&mut members, "the others took over", |members| counts(members).iter().sum::<usize>() == 6).await;
    let took = last_beat.elapsed();
    println!("taken over {took:?} after the last moment of the silent member");
    assert!(took < SESSION * 3, "{took:?}: a session, a beat, and what a busy machine adds");
    assert_eq!(counts(&members), [3, 3]);
    assert!(members.iter().all(|member| member.lost.is_empty()), "the two that stay gave nothing away");

    // What the silent one does now is too late.
    let mut late = silent;
    let beat = late.beat().await;
    assert!(matches!(beat, Err(GroupError::UnknownMember { .. })), "{beat:?}");
    let commit = late.broker.commit_offsets(&Caller::ANONYMOUS, late.commit(place("t", 0), 5)).await;
    assert!(matches!(commit, Err(GroupError::UnknownMember { .. })), "{commit:?}");

    // Two join: the load evens out, and each keeps two partitions without a break.
    for id in [3, 1] {
        members.push(Member::join(cluster.broker(id), "g", topics(&["t"])).await);
    }
    beat_until(&mut members, "evened out", |members| {
        let counts = counts(members);
        counts.iter().sum::<usize>() == 6 && counts.iter().all(|count| (1..=2).contains(count))
    })
    .await;
    for member in &members[..2] {
        assert_eq!(member.lost.len() + member.owns.len(), 3, "only what went to others was taken: {:?}", member.lost);
    }
}

/// The same under a session long enough that only leaving can be the reason.
#[tokio::test]
async fn who_leaves_is_replaced_at_once_and_a_group_without_members_is_empty() {
    let cluster = Cluster::start(3, 2_200).await;
    cluster.create("t", 4).await;
    let mut members = vec![
        Member::join(cluster.broker(1), "g", topics(&["t"])).await,
        Member::join(cluster.broker(2), "g", topics(&["t"])).await,
    ];
    beat_until(&mut members, "two each", |members| counts(members) == [2, 2]).await;
    let gone = members.remove(0);
    let leaver = |member: &Member| Leaver { member: member.id.clone(), instance: None };
    let left = cluster.broker(3).group_leave(&Caller::ANONYMOUS, &"g".into(), vec![leaver(&gone)]).await.unwrap();
    assert_eq!(left[0].1, None);
    let again = cluster.broker(3).group_leave(&Caller::ANONYMOUS, &"g".into(), vec![leaver(&gone)]).await.unwrap();
    assert!(matches!(again[0].1, Some(GroupError::UnknownMember { .. })), "{again:?}");
    beat_until(&mut members, "the other has all", |members| counts(members) == [4]).await;

    let refused = cluster.any().delete_group(&Caller::ANONYMOUS, &"g".into(), false).await;
    assert_eq!(refused, Err(GroupError::NotEmpty { group: "g".into(), members: 1 }));
    assert_eq!(cluster.any().delete_group(&Caller::ANONYMOUS, &"g".into(), true).await, refused);
    cluster.any().commit_offsets(&Caller::ANONYMOUS, members[0].commit(place("t", 0), 7)).await.unwrap();
    cluster.any().group_leave(&Caller::ANONYMOUS, &"g".into(), vec![leaver(&members[0])]).await.unwrap();
    assert_eq!(
        cluster.broker(3).fetch_offsets(&Caller::ANONYMOUS, &"g".into(), None).await.unwrap().offsets[0].offset.0,
        7
    );
    assert_eq!(cluster.any().delete_group(&Caller::ANONYMOUS, &"g".into(), true).await, Ok(()));
    assert_eq!(cluster.any().delete_group(&Caller::ANONYMOUS, &"g".into(), false).await, Ok(()));
    let unknown = cluster.broker(2).describe_group(&Caller::ANONYMOUS, &"g".into()).await;
    assert_eq!(unknown, Err(GroupError::UnknownGroup { group: "g".into() }));
    assert_eq!(cluster.broker(2).fetch_offsets(&Caller::ANONYMOUS, &"g".into(), None).await.unwrap().offsets, []);
}

#[tokio::test]
async fn topics_that_come_grow_and_go_are_dealt_out_and_a_pattern_finds_new_ones() {
    let cluster = Cluster::start(3, 2_300).await;
    cluster.create("logs-a", 1).await;
    let pattern = Subscription { pattern: Some("logs-.*".into()), ..Subscription::default() };
    let mut members = vec![Member::join(cluster.broker(1), "g", pattern).await];
    beat_until(&mut members, "it reads the topic that matches", |members| counts(members) == [1]).await;
    cluster.create("logs-b", 2).await;
    cluster.create("other", 2).await;
    let created = Instant::now();
    beat_until(&mut members, "it reads the new topic", |members| counts(members) == [3]).await;
    println!("a new topic that matches was assigned after {:?}", created.elapsed());
    assert!(created.elapsed() < Duration::from_secs(10));
    let more = AddPartitionsRequest { name: "logs-a".into(), partitions: 3, dry_run: false };
    cluster.any().add_partitions(&Caller::ANONYMOUS, more).await.unwrap();
    beat_until(&mut members, "it reads the new partitions", |members| counts(members) == [5]).await;
    cluster
        .any()
        .delete_topic(&Caller::ANONYMOUS, DeleteTopicRequest { name: "logs-b".into(), ..DeleteTopicRequest::default() })
        .await
        .unwrap();
    beat_until(&mut members, "the deleted topic is gone", |members| counts(members) == [3]).await;
    assert!(members[0].owns.iter().all(|at| at.topic == "logs-a"));

    let bad = Subscription { pattern: Some("logs-(".into()), ..Subscription::default() };
    let join = HeartbeatRequest { group: "h".into(), subscription: Some(bad), ..HeartbeatRequest::default() };
    let refused = cluster.any().group_heartbeat(&Caller::ANONYMOUS, join).await;
    assert!(matches!(refused, Err(GroupError::InvalidRequest { .. })), "{refused:?}");
}

#[tokio::test]
async fn who_does_not_let_go_in_time_is_expired_though_it_beats() {
    let cluster = Cluster::start(3, 2_400).await;
    cluster.create("t", 2).await;
    let timeout = Duration::from_millis(1_500);
    let mut stubborn = Member::join_as(cluster.broker(1), "g", topics(&["t"]), None, SESSION, timeout).await;
    stubborn.lets_go = false;
    let mut other = Member::join(cluster.broker(2), "g", topics(&["t"])).await;
    let asked = Instant::now();
    let error = loop {
        assert!(asked.elapsed() < Duration::from_secs(15), "it is still there");
        if let Err(error) = stubborn.beat().await {
            break error;
        }
        other.beat().await.unwrap();
        if other.owns.len() > 1 {
            break stubborn.beat().await.expect_err("the other was given what the stubborn one holds");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(matches!(error, GroupError::UnknownMember { .. }), "{error}");
    assert!(asked.elapsed() >= timeout - Duration::from_millis(100), "{:?}", asked.elapsed());
    beat_until(&mut [other], "the other has both", |members| counts(members) == [2]).await;
}

/// A member with an instance id that comes back takes its partitions over; nobody else notices.
#[tokio::test]
async fn a_static_member_comes_back_without_a_rebalance_and_its_former_self_is_fenced() {
    let cluster = Cluster::start(3, 2_500).await;
    cluster.create("t", 4).await;
    let long = Duration::from_secs(60);
    let first = Member::join_as(cluster.broker(1), "g", topics(&["t"]), Some("i1"), SESSION, long).await;
    let mut members =
        vec![first, Member::join_as(cluster.broker(2), "g", topics(&["t"]), Some("i2"), SESSION, long).await];
    beat_until(&mut members, "two each", |members| counts(members) == [2, 2]).await;
    let mut former = members.remove(0);
    members[0].lost.clear();
    let mut again = Member::join_as(cluster.broker(3), "g", topics(&["t"]), Some("i1"), SESSION, long).await;
    assert_ne!(again.id, former.id);
    again.beat().await.unwrap();
    assert_eq!(again.owns, former.owns);
    let fenced = former.beat().await;
    let expected = GroupError::FencedInstance { group: "g".into(), instance: "i1".into() };
    assert_eq!(fenced, Err(expected));
    let at = former.owns.first().unwrap().clone();
    let refused = cluster.any().commit_offsets(&Caller::ANONYMOUS, former.commit(at.clone(), 3)).await;
    assert!(!matches!(&refused, Ok(refused) if refused.is_empty()), "{refused:?}");
    assert_eq!(cluster.any().commit_offsets(&Caller::ANONYMOUS, again.commit(at, 4)).await, Ok(vec![]));
    members.push(again);
    beat_until(&mut members, "still two each", |members| counts(members) == [2, 2]).await;
    assert!(members[0].lost.is_empty());
}

/// A classic client must not join a group of the other kind, nor the other way round.
#[tokio::test]
async fn a_group_has_one_protocol_at_a_time() {
    let cluster = Cluster::start(1, 2_600).await;
    cluster.create_on("t", 1, 1).await;
    let mut member = Member::join(cluster.any(), "g", topics(&["t"])).await;
    let join = super::classic::join("g", "");
    let refused = cluster.any().classic_join(&Caller::ANONYMOUS, join.clone()).await;
    assert!(matches!(refused, Err(GroupError::ProtocolMismatch { .. })), "{refused:?}");
    assert!(member.beat().await.is_ok());
    until("its session is over", || async {
        let described = cluster.any().describe_group(&Caller::ANONYMOUS, &"g".into()).await;
        described.is_ok_and(|group| group.members.is_empty())
    })
    .await;
    let joined = cluster.any().classic_join(&Caller::ANONYMOUS, join).await.unwrap();
    assert_eq!(joined.leader, joined.member);
    assert_eq!(coordinator(&cluster).await, 1);
    let beat =
        HeartbeatRequest { group: "g".into(), subscription: Some(topics(&["t"])), ..HeartbeatRequest::default() };
    let refused = cluster.any().group_heartbeat(&Caller::ANONYMOUS, beat).await;
    assert!(matches!(refused, Err(GroupError::ProtocolMismatch { .. })), "{refused:?}");
}

/// A client whose first answer was lost asks again with the id that it drew.
#[tokio::test]
async fn a_repeated_join_is_the_same_member_and_a_crashed_one_is_taken_out_by_its_instance() {
    let cluster = Cluster::start(3, 2_900).await;
    cluster.create("t", 4).await;
    let join = |member: &str, instance: Option<&str>| HeartbeatRequest {
        group: "g".into(),
        member: member.into(),
        subscription: Some(topics(&["t"])),
        instance: instance.map(str::to_string),
        session_timeout: Duration::from_secs(1_800),
        ..HeartbeatRequest::default()
    };
    let first = cluster.broker(1).group_join(&Caller::ANONYMOUS, join("billing-1", None)).await.unwrap();
    let again = cluster.broker(2).group_join(&Caller::ANONYMOUS, join("billing-1", None)).await.unwrap();
    assert_eq!((first.member.0.as_str(), &again), ("billing-1", &first));
    assert_eq!(
        cluster.broker(3).describe_group(&Caller::ANONYMOUS, &"g".into()).await.unwrap().members.len(),
        1,
        "no ghost"
    );

    // A static member whose machine is gone: its session is long, and its instance is all that is known of it.
    let crashed = cluster.broker(1).group_join(&Caller::ANONYMOUS, join("billing-2", Some("two"))).await.unwrap();
    assert_eq!(crashed.member, "billing-2");
    let by_instance = Leaver { member: Default::default(), instance: Some("two".into()) };
    let left = cluster.broker(3).group_leave(&Caller::ANONYMOUS, &"g".into(), vec![by_instance.clone()]).await.unwrap();
    assert_eq!(left, [(by_instance.clone(), None)]);
    let described = cluster.any().describe_group(&Caller::ANONYMOUS, &"g".into()).await.unwrap();
    assert_eq!(described.members.len(), 1, "{described:?}");
    let left = cluster.broker(3).group_leave(&Caller::ANONYMOUS, &"g".into(), vec![by_instance]).await.unwrap();
    assert!(matches!(left[0].1, Some(GroupError::UnknownMember { .. })), "{left:?}");
}
