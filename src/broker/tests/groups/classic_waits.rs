//! Joins that wait, what is told of a group meanwhile, and what its members own afterwards.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{
    Cluster,
    classic::{beat, join, joining, round, sync},
    coordinator, offset, place,
};
use crate::{
    broker::{
        Broker, Caller,
        groups::{ClassicJoin, ClassicSync, CommitRequest, GroupError, limits},
        tests::rig::{PATIENCE, until},
    },
    group::{GroupPhase, OffsetRefusal, PartitionSet},
    types::PartitionId,
};

const ANY: &Caller = &Caller::ANONYMOUS;

async fn phase(broker: &Broker) -> GroupPhase {
    broker.describe_group(ANY, &"g".into()).await.unwrap().summary.phase
}

/// A client that goes away is not kept alive by the broker at which it waited.
#[tokio::test]
async fn a_waiting_join_ends_with_its_connection() {
    let cluster = Cluster::start(3, 4_880).await;
    let broker = cluster.broker(coordinator(&cluster).await % 3 + 1);
    let joined = broker.classic_join(ANY, join("g", "")).await.unwrap();
    sync(&broker, &joined).await.unwrap();
    let free = || broker.parts.groups.waiting.available_permits();
    until("nobody waits", || async { free() == limits::WAITING_MAX }).await;
    // It waits for the first to join again, which only beats.
    let waiting = joining(broker.clone(), join("g", ""));
    until("it waits", || async { phase(&broker).await == GroupPhase::Joining }).await;
    assert_eq!(free(), limits::WAITING_MAX - 1);
    let began = Instant::now();
    waiting.abort();
    until("its place is free", || async { free() == limits::WAITING_MAX }).await;
    let members = || async { broker.describe_group(ANY, &"g".into()).await.map_or(0, |group| group.members.len()) };
    until("its session is over", || async {
        let told = broker.classic_heartbeat(ANY, beat(&joined)).await;
        assert!(matches!(told, Err(GroupError::Rebalancing { .. })), "{told:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
        members().await == 1
    })
    .await;
    assert!(began.elapsed() >= Duration::from_secs(4), "not before its session was over");
}

#[tokio::test]
async fn joins_that_wait_are_bounded_and_who_finds_no_room_may_ask_again() {
    let cluster = Cluster::start(3, 4_890).await;
    let broker = cluster.broker(1);
    let room = &broker.parts.groups.waiting;
    let held = room.acquire_many(limits::WAITING_MAX as u32).await.unwrap();
    let refused = broker.classic_join(ANY, join("g", "")).await.expect_err("there is no room");
    assert!(matches!(refused, GroupError::Crowded { max: limits::WAITING_MAX, .. }) && refused.is_retriable());
    drop(held);
    let joined = broker.classic_join(ANY, join("g", "")).await.unwrap();
    let _held = room.acquire_many(limits::WAITING_MAX as u32).await.unwrap();
    let refused = sync(&broker, &joined).await;
    assert!(matches!(refused, Err(GroupError::Crowded { .. })), "{refused:?}");
}

/// Kafka's PreparingRebalance, CompletingRebalance, Stable, Empty and Dead.
#[tokio::test]
async fn states_are_told_apart_as_kafka_tells_them() {
    let mut cluster = Cluster::unstarted(3, 4_900).await;
    cluster.groups.initial_rebalance_delay = Duration::from_secs(2);
    cluster.run_all().await;
    cluster.create("t", 1).await;
    let broker = cluster.broker(2);
    let dead = broker.describe_group(ANY, &"g".into()).await;
    assert!(matches!(dead, Err(GroupError::UnknownGroup { .. })), "{dead:?}");
    let waiting = joining(broker.clone(), join("g", ""));
    until("it joins", || async {
        broker.describe_group(ANY, &"g".into()).await.is_ok_and(|group| group.summary.phase == GroupPhase::Joining)
    })
    .await;
    let joined = waiting.await.unwrap().unwrap();
    assert_eq!(phase(&broker).await, GroupPhase::Syncing);
    sync(&broker, &joined).await.unwrap();
    assert_eq!(phase(&broker).await, GroupPhase::Stable);
    let listed = broker.list_groups(ANY).await.unwrap();
    assert_eq!((listed[0].phase, listed[0].protocol.as_str()), (GroupPhase::Stable, "consumer"));
    let commit = CommitRequest {
        group: "g".into(),
        member: joined.member.clone(),
        epoch: joined.generation,
        offsets: vec![offset(place("t", 0), 1)],
        ..CommitRequest::default()
    };
    let coordinating = cluster.broker(coordinator(&cluster).await);
    assert_eq!(coordinating.classic_commit(ANY, commit).await, Ok(vec![]));
    let leaver = crate::broker::groups::Leaver { member: joined.member, instance: None };
    broker.group_leave(ANY, &"g".into(), vec![leaver]).await.unwrap();
    let listed = broker.list_groups(ANY).await.unwrap();
    assert_eq!((listed[0].phase, listed[0].protocol.as_str()), (GroupPhase::Empty, ""));
}

/// KIP-814: a static group leader that comes back into a stable generation has nothing to assign.
#[tokio::test]
async fn a_static_leader_that_comes_back_skips_the_assignment_or_is_told_that_it_does_not_lead() {
    let cluster = Cluster::start(3, 4_910).await;
    let named = |instance: &str| ClassicJoin { instance: Some(instance.into()), ..join("g", "") };
    let joined = round(vec![(cluster.broker(1), named("a")), (cluster.broker(2), named("b"))]).await;
    let leads = joined.iter().position(|joined| joined.leader == joined.member).unwrap();
    let (instance, generation) = (["a", "b"][leads], joined[0].generation);
    assert!(joined.iter().all(|joined| !joined.skip_assignment), "they had to assign");
    let able = ClassicJoin { skips_assignment: true, ..named(instance) };
    let back = cluster.broker(3).classic_join(ANY, able).await.unwrap();
    assert_eq!((back.generation, back.skip_assignment, &back.leader), (generation, true, &back.member));
    assert_eq!(back.members.len(), 2, "it knows them all: it watches their topics");
    let unable = cluster.broker(3).classic_join(ANY, named(instance)).await.unwrap();
    assert_eq!((unable.generation, unable.skip_assignment, &unable.leader), (generation, false, &back.member));
    assert_ne!(unable.member, back.member);
    assert_eq!(unable.members, []);
    let assignment = sync(&cluster.broker(3), &unable).await.unwrap().assignment;
    assert_eq!(assignment, format!("{} {generation}", joined[leads].member).into_bytes());
    assert_eq!(phase(&cluster.broker(1)).await, GroupPhase::Stable);
}

/// What Java's range assignor says, and what somebody hostile may.
#[tokio::test]
async fn what_consumers_own_is_read_from_their_assignments() {
    let cluster = Cluster::start(3, 4_920).await;
    cluster.create("t", 3).await;
    let broker = cluster.broker(1);
    let subscription = b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff".to_vec();
    let consumer = |instance: &str| ClassicJoin {
        instance: Some(instance.into()),
        protocols: vec![("range".into(), subscription.clone())],
        ..join("g", "")
    };
    let both = [joining(broker.clone(), consumer("a")), joining(broker.clone(), consumer("b"))];
    let joined: Vec<_> = join_all(both).await.into_iter().map(|joined| joined.unwrap().unwrap()).collect();
    let leader = joined.iter().find(|joined| joined.leader == joined.member).unwrap();
    // Of t 0, 2 and one that is not there, and of a topic that is not there.
    let mine = b"\0\0\0\0\0\x02\0\x01t\0\0\0\x03\0\0\0\0\0\0\0\x02\0\0\0\x09\0\x01u\0\0\0\x01\0\0\0\0".to_vec();
    let hostile = b"\0\0\x7f\xff\xff\xff\0\x01t".to_vec();
    let assignments = leader
        .members
        .iter()
        .map(|(member, ..)| (member.clone(), if *member == leader.member { mine.clone() } else { hostile.clone() }));
    let sync = ClassicSync {
        group: "g".into(),
        generation: leader.generation,
        member: leader.member.clone(),
        assignments: assignments.collect(),
        ..ClassicSync::default()
    };
    broker.classic_sync(ANY, sync).await.unwrap();
    let described = broker.describe_group(ANY, &"g".into()).await.unwrap();
    let owned = PartitionSet::from([("t".to_string(), vec![PartitionId(0), PartitionId(2)])]);
    for member in &described.members {
        assert_eq!(member.subscription.topics, ["t"]);
        let (expected, bytes) =
            if member.member == leader.member { (owned.clone(), &mine) } else { (PartitionSet::new(), &hostile) };
        assert_eq!(
            (&member.assigned, member.classic.as_ref()),
            (&expected, Some(&(subscription.clone(), bytes.clone())))
        );
    }
    let owners: Vec<_> = described.partitions.iter().map(|of| (of.at.partition.0, of.member.as_ref())).collect();
    assert_eq!(owners, [(0, Some(&leader.member)), (2, Some(&leader.member))]);

    // Kafka's OffsetDelete: what nobody subscribes to may be forgotten while the group runs.
    cluster.create("v", 1).await;
    let (member, epoch) = (leader.member.clone(), leader.generation);
    let offsets = vec![offset(place("t", 0), 1), offset(place("v", 0), 1)];
    let commit = CommitRequest { group: "g".into(), member, epoch, offsets, ..CommitRequest::default() };
    let coordinating = cluster.broker(coordinator(&cluster).await);
    assert_eq!(coordinating.classic_commit(ANY, commit).await, Ok(vec![]));
    let refused = broker.delete_offsets(ANY, &"g".into(), vec![place("t", 0), place("v", 0)]).await.unwrap();
    let [(at, GroupError::OffsetRefused { refusal: OffsetRefusal::InUse, .. })] = &refused[..] else {
        panic!("{refused:?}")
    };
    assert_eq!(*at, place("t", 0));
}

/// As when a service is deployed: all of its consumers come within a moment, each asks for its id first.
#[tokio::test]
async fn fifty_members_that_start_together_have_one_generation() {
    let cluster = Cluster::start(3, 4_930).await;
    let began = Instant::now();
    let starting = (0..50).map(|n| {
        let broker = cluster.broker(n % 3 + 1);
        tokio::spawn(async move {
            let long = Duration::from_secs(60);
            let new = ClassicJoin { require_member_id: true, session_timeout: long, ..join("g", "") };
            let Err(GroupError::MemberIdRequired { member, .. }) = broker.classic_join(ANY, new.clone()).await else {
                panic!("it has no id yet")
            };
            broker.classic_join(ANY, ClassicJoin { member, ..new }).await.unwrap()
        })
    });
    let joined = tokio::time::timeout(PATIENCE, join_all(starting)).await.expect("in time");
    let generations: Vec<i32> = joined.into_iter().map(|joined| joined.unwrap().generation).collect();
    println!("fifty members in generation 1 after {:?}", began.elapsed());
    assert_eq!(generations, [1; 50]);
}
