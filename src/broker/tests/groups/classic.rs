//! Kafka's classic protocol across three brokers: rounds, syncs, static members, and failovers in the middle.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::{task::JoinHandle, time::Instant};

use super::{Cluster, coordinator, move_coordinator, offset, place};
use crate::{
    broker::{
        Broker, Caller,
        groups::{
            ClassicBeat, ClassicJoin, ClassicJoined, ClassicSync, ClassicSynced, CommitRequest, GroupError, Leaver,
        },
        tests::rig::{PATIENCE, until},
    },
    group::{ClassicPhase, GroupPhase, GroupRefusal},
};

pub fn join(group: &str, member: &str) -> ClassicJoin {
    ClassicJoin {
        group: group.into(),
        member: member.into(),
        client_id: "java".into(),
        session_timeout: Duration::from_secs(6),
        rebalance_timeout: Duration::from_secs(10),
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), b"topics".to_vec()), ("sticky".into(), b"topics and more".to_vec())],
        ..ClassicJoin::default()
    }
}

pub fn beat(joined: &ClassicJoined) -> ClassicBeat {
    let (generation, member) = (joined.generation, joined.member.clone());
    ClassicBeat { group: "g".into(), generation, member, instance: None }
}

/// The leader gives everybody his own name and generation.
pub async fn sync(broker: &Broker, joined: &ClassicJoined) -> Result<ClassicSynced, GroupError> {
    let assignments = joined
        .members
        .iter()
        .map(|(member, ..)| (member.clone(), format!("{member} {}", joined.generation).into_bytes()));
    broker
        .classic_sync(
            &Caller::ANONYMOUS,
            ClassicSync {
                group: "g".into(),
                generation: joined.generation,
                member: joined.member.clone(),
                instance: None,
                protocol_type: Some("consumer".into()),
                protocol: Some(joined.protocol.clone()),
                assignments: assignments.collect(),
            },
        )
        .await
}

/// Joins in the background, as a client whose request waits.
pub fn joining(broker: Broker, join: ClassicJoin) -> JoinHandle<Result<ClassicJoined, GroupError>> {
    tokio::spawn(async move { broker.classic_join(&Caller::ANONYMOUS, join).await })
}

/// All of them join and sync, each through its own broker.
pub async fn round(members: Vec<(Broker, ClassicJoin)>) -> Vec<ClassicJoined> {
    let brokers: Vec<Broker> = members.iter().map(|(broker, _)| broker.clone()).collect();
    let joins = members.into_iter().map(|(broker, join)| joining(broker, join));
    let joined: Vec<ClassicJoined> = join_all(joins).await.into_iter().map(|joined| joined.unwrap().unwrap()).collect();
    let leaders = joined.iter().filter(|joined| joined.leader == joined.member).count();
    assert_eq!(leaders, 1, "{joined:?}");
    assert!(joined.iter().all(|member| member.generation == joined[0].generation && member.protocol == "range"));
    assert!(
        joined
            .iter()
            .all(|member| member.members.len() == if member.leader == member.member { joined.len() } else { 0 })
    );
    let synced = join_all(brokers.iter().zip(&joined).map(|(broker, joined)| sync(broker, joined))).await;
    for (joined, synced) in joined.iter().zip(synced) {
        let own = format!("{} {}", joined.member, joined.generation).into_bytes();
        assert_eq!(synced.unwrap().assignment, own);
    }
    joined
}

#[tokio::test]
async fn three_members_join_sync_beat_commit_and_leave() {
    let cluster = Cluster::start(3, 4_100).await;
    cluster.create("t", 1).await;
    let joined = round((1..=3).map(|id| (cluster.broker(id), join("g", ""))).collect()).await;
    for (id, joined) in (1..=3).zip(&joined) {
        cluster.broker(id).classic_heartbeat(&Caller::ANONYMOUS, beat(joined)).await.unwrap();
    }
    let described = cluster.broker(2).describe_group(&Caller::ANONYMOUS, &"g".into()).await.unwrap();
    assert_eq!((described.summary.phase, described.summary.protocol.as_str()), (GroupPhase::Stable, "consumer"));
    assert_eq!((described.assignor.as_str(), described.members.len()), ("range", 3));

    let commit = |joined: &ClassicJoined, epoch, next| CommitRequest {
        group: "g".into(),
        member: joined.member.clone(),
        instance: None,
        epoch,
        offsets: vec![offset(place("t", 0), next)],
        sequence: 0,
    };
    let generation = joined[0].generation;
    assert_eq!(
        cluster.broker(1).commit_offsets(&Caller::ANONYMOUS, commit(&joined[2], generation, 5)).await,
        Ok(vec![])
    );
    let old = cluster.broker(1).commit_offsets(&Caller::ANONYMOUS, commit(&joined[2], generation - 1, 6)).await;
    assert!(is_wrong_generation(&old), "{old:?}");
    let nobody = ClassicJoined { member: "nobody".into(), ..joined[0].clone() };
    let stranger = cluster.broker(1).commit_offsets(&Caller::ANONYMOUS, commit(&nobody, generation, 6)).await;
    assert!(matches!(stranger, Err(GroupError::UnknownMember { .. })), "{stranger:?}");
    assert_eq!(
        cluster.broker(3).fetch_offsets(&Caller::ANONYMOUS, &"g".into(), None).await.unwrap().offsets[0].offset.0,
        5
    );

    let leaver = Leaver { member: joined[2].member.clone(), instance: None };
    let left = cluster.broker(1).group_leave(&Caller::ANONYMOUS, &"g".into(), vec![leaver]).await.unwrap();
    assert_eq!(left[0].1, None);
    for id in 1..=2 {
        let told = cluster.broker(id).classic_heartbeat(&Caller::ANONYMOUS, beat(&joined[id as usize - 1])).await;
        assert_eq!(told, Err(GroupError::Rebalancing { group: "g".into() }));
    }
    let again =
        round((1..=2).map(|id| (cluster.broker(id), join("g", &joined[id as usize - 1].member.0))).collect()).await;
    assert_eq!(again[0].generation, generation + 1);
    let old = cluster.broker(1).classic_heartbeat(&Caller::ANONYMOUS, beat(&joined[0])).await;
    assert!(is_wrong_generation(&old), "{old:?}");
}

#[tokio::test]
async fn a_new_member_is_given_its_id_first_and_a_stranger_is_refused() {
    let cluster = Cluster::start(3, 4_200).await;
    let new = ClassicJoin { require_member_id: true, ..join("g", "") };
    let told = cluster.broker(1).classic_join(&Caller::ANONYMOUS, new).await;
    let Err(GroupError::MemberIdRequired { member, .. }) = told else { panic!("{told:?}") };
    assert!(member.0.starts_with("java-"), "{member}");
    let listed = cluster.any().list_groups(&Caller::ANONYMOUS).await.unwrap();
    assert_eq!(listed, [], "it is not a member yet");
    let joined = cluster
        .broker(2)
        .classic_join(&Caller::ANONYMOUS, ClassicJoin { require_member_id: true, ..join("g", &member.0) })
        .await;
    assert_eq!(joined.unwrap().member, member);
    let stranger = cluster.broker(2).classic_join(&Caller::ANONYMOUS, join("g", "made up")).await;
    assert!(matches!(stranger, Err(GroupError::UnknownMember { .. })), "{stranger:?}");
    // It left: its id is not new any more.
    cluster
        .any()
        .group_leave(&Caller::ANONYMOUS, &"g".into(), vec![Leaver { member: member.clone(), instance: None }])
        .await
        .unwrap();
    let back = cluster.broker(2).classic_join(&Caller::ANONYMOUS, join("g", &member.0)).await;
    assert!(matches!(back, Err(GroupError::UnknownMember { .. })), "{back:?}");

    let short = ClassicJoin { session_timeout: Duration::from_millis(5_999), ..join("g", "") };
    let refused = cluster.broker(1).classic_join(&Caller::ANONYMOUS, short).await;
    let bounds = GroupError::InvalidSessionTimeout { asked_ms: 5_999, min_ms: 6_000, max_ms: 1_800_000 };
    assert_eq!(refused, Err(bounds));
}

/// KIP-345: who comes back with its instance id takes its place without a round, and its old id is fenced.
#[tokio::test]
async fn a_static_member_comes_back_without_a_round() {
    let cluster = Cluster::start(3, 4_300).await;
    let named = |member: &str, instance: &str| ClassicJoin { instance: Some(instance.into()), ..join("g", member) };
    let joined = round(vec![(cluster.broker(1), named("", "a")), (cluster.broker(2), named("", "b"))]).await;
    let generation = joined[0].generation;
    let follower = joined.iter().position(|joined| joined.leader != joined.member).unwrap();
    let instance = ["a", "b"][follower];
    let back = cluster.broker(3).classic_join(&Caller::ANONYMOUS, named("", instance)).await.unwrap();
    assert_eq!(back.generation, generation, "no round");
    assert_ne!(back.member, joined[follower].member);
    let old = ClassicBeat { instance: Some(instance.into()), ..beat(&joined[follower]) };
    let fenced = cluster.broker(1).classic_heartbeat(&Caller::ANONYMOUS, old).await;
    assert_eq!(fenced, Err(GroupError::FencedInstance { group: "g".into(), instance: instance.into() }));
    let assignment = sync(&cluster.broker(3), &back).await.unwrap().assignment;
    let handed_over = format!("{} {generation}", joined[follower].member).into_bytes();
    assert_eq!(assignment, handed_over, "the assignment of the one it replaced");
}

/// Members wait for a round while the coordinator crashes: they wait on their own brokers, and the new
/// coordinator ends the round.
#[tokio::test]
async fn joins_and_syncs_that_wait_survive_the_coordinators_crash() {
    let mut cluster = Cluster::start(3, 4_400).await;
    move_coordinator(&cluster, Some(1)).await;
    let joined = round((2..=3).map(|id| (cluster.broker(id), join("g", ""))).collect()).await;
    let generation = joined[0].generation;

    // One joins anew with another subscription, and waits for the other.
    let changed =
        ClassicJoin { protocols: vec![("range".into(), b"others".to_vec())], ..join("g", &joined[0].member.0) };
    let waiting = joining(cluster.broker(2), changed);
    let state = cluster.broker(3).parts.node.metadata().unwrap();
    let phase = || state.read(|state| state.group(&"g".into()).and_then(|group| Some(group.classic()?.phase)));
    until("a round has begun", || async { phase() == Some(ClassicPhase::Joining) }).await;
    cluster.kill(1, 44);
    assert!(!waiting.is_finished());
    let other = join("g", &joined[1].member.0);
    let rejoined = joining(cluster.broker(3), other).await.unwrap().unwrap();
    let waited = waiting.await.unwrap().unwrap();
    assert_eq!((waited.generation, rejoined.generation), (generation + 1, generation + 1));

    // The same for a sync that waits for the leader's.
    let (leader, follower) = match waited.leader == waited.member {
        true => ((cluster.broker(2), waited), (cluster.broker(3), rejoined)),
        false => ((cluster.broker(3), rejoined), (cluster.broker(2), waited)),
    };
    let waiting = tokio::spawn(async move { sync(&follower.0, &follower.1).await.map(|synced| (synced, follower.1)) });
    cluster.run(1).await;
    cluster.wait_ready(1).await;
    let now = coordinator(&cluster).await;
    move_coordinator(&cluster, Some(now % 3 + 1)).await;
    assert!(!waiting.is_finished());
    sync(&leader.0, &leader.1).await.unwrap();
    let (synced, follower) = waiting.await.unwrap().unwrap();
    assert_eq!(synced.assignment, format!("{} {}", follower.member, follower.generation).into_bytes());
}

/// The delay of a first round, the end of a round whose members do not all come, and the end of one whose
/// leader never sends assignments.
#[tokio::test]
async fn rounds_end_by_their_timers() {
    let cluster = Cluster::start(3, 4_500).await;
    let began = Instant::now();
    let quick = |member: &str| ClassicJoin { rebalance_timeout: Duration::from_secs(1), ..join("g", member) };
    let joined = round(vec![(cluster.broker(1), quick("")), (cluster.broker(2), quick(""))]).await;
    assert!(began.elapsed() >= Duration::from_millis(300), "the first round waits for more members");

    // A third comes, the second does not join again (it beats, so that only the round can end it).
    let third = joining(cluster.broker(3), quick(""));
    let first = joining(cluster.broker(1), quick(&joined[0].member.0));
    let second = cluster.broker(2);
    let beats = beat(&joined[1]);
    let beating = tokio::spawn(async move {
        loop {
            match second.classic_heartbeat(&Caller::ANONYMOUS, beats.clone()).await {
                Err(GroupError::UnknownMember { .. }) => return,
                Ok(()) | Err(GroupError::Rebalancing { .. } | GroupError::Refused { .. }) => {}
                other => panic!("{other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let began = Instant::now();
    let (first, third) = (first.await.unwrap().unwrap(), third.await.unwrap().unwrap());
    println!("the round ended after {:?}", began.elapsed());
    tokio::time::timeout(PATIENCE, beating).await.expect("it is out").unwrap();
    assert_eq!(first.generation, joined[0].generation + 1);
    let (leader, other) = if first.leader == first.member { (first, third) } else { (third, first) };
    assert_eq!(leader.members.len(), 2);

    // The leader beats and never syncs: it is out after its rebalance timeout, and the other is told to join.
    let waiting = tokio::spawn({
        let (broker, other) = (cluster.broker(2), other.clone());
        async move { sync(&broker, &other).await }
    });
    let waited = tokio::time::timeout(PATIENCE, waiting).await.expect("in time").unwrap();
    assert_eq!(waited, Err(GroupError::Rebalancing { group: "g".into() }));
    let gone = cluster.broker(1).classic_heartbeat(&Caller::ANONYMOUS, beat(&leader)).await;
    assert!(matches!(gone, Err(GroupError::UnknownMember { .. })), "{gone:?}");
}

/// Beats that are answered with Ok for longer than the rebalance timeout of those who beat.
async fn beat_on(cluster: &Cluster, members: &[ClassicJoined]) {
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1_500) {
        for member in members {
            assert_eq!(cluster.any().classic_heartbeat(&Caller::ANONYMOUS, beat(member)).await, Ok(()));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_member_that_beats_and_never_syncs_is_out_and_those_who_did_stay() {
    let cluster = Cluster::start(3, 4_600).await;
    let quick = |member: &str| ClassicJoin { rebalance_timeout: Duration::from_secs(1), ..join("g", member) };
    let both = [joining(cluster.broker(1), quick("")), joining(cluster.broker(2), quick(""))];
    let joined: Vec<ClassicJoined> = join_all(both).await.into_iter().map(|joined| joined.unwrap().unwrap()).collect();
    let (leaders, followers): (Vec<_>, Vec<_>) = joined.into_iter().partition(|one| one.leader == one.member);
    let (leader, follower) = (&leaders[0], &followers[0]);
    sync(&cluster.broker(1), leader).await.unwrap();
    until("it is out", || async {
        let told = cluster.broker(2).classic_heartbeat(&Caller::ANONYMOUS, beat(follower)).await;
        matches!(told, Err(GroupError::UnknownMember { .. }))
    })
    .await;
    let told = cluster.broker(1).classic_heartbeat(&Caller::ANONYMOUS, beat(leader)).await;
    assert_eq!(told, Err(GroupError::Rebalancing { group: "g".into() }), "its partitions are free");

    let joined = round(vec![(cluster.broker(1), quick(&leader.member.0)), (cluster.broker(2), quick(""))]).await;
    beat_on(&cluster, &joined).await;
    let now = coordinator(&cluster).await;
    move_coordinator(&cluster, Some(now % 3 + 1)).await;
    beat_on(&cluster, &joined).await;
}

/// Those who wait do so on a broker that sees nothing while their round ends and the next one begins. They must
/// not sit there until the time to join is over, when they would be thrown out.
#[tokio::test]
async fn who_missed_the_end_of_a_round_takes_part_in_the_next_one() {
    let mut cluster = Cluster::unstarted(3, 4_700).await;
    // Time to cut the link after both have joined.
    cluster.groups.initial_rebalance_delay = Duration::from_secs(2);
    cluster.run_all().await;
    let leads = coordinator(&cluster).await;
    let behind = leads % 3 + 1;
    let joined_at = |broker: &Broker| {
        broker.parts.node.metadata().unwrap().read(|state| {
            let classic = state.group(&"g".into()).and_then(|group| group.classic().cloned());
            classic.map(|classic| (classic.phase, classic.members.values().filter(|m| m.joined).count()))
        })
    };
    let waiting = [0, 1].map(|_| joining(cluster.broker(behind), join("g", "")));
    let both = Some((ClassicPhase::Joining, 2));
    until("both have joined", || async { joined_at(&cluster.broker(behind)) == both }).await;
    cluster.cuts.isolate(behind, 1..=3);
    let ended = |now| matches!(now, Some((ClassicPhase::Syncing, _)));
    until("their round is over", || async { ended(joined_at(&cluster.broker(leads))) }).await;
    let third = joining(cluster.broker(leads), join("g", ""));
    let next = Some((ClassicPhase::Joining, 1));
    until("the next has begun", || async { joined_at(&cluster.broker(leads)) == next }).await;
    assert_eq!(joined_at(&cluster.broker(behind)), both, "it has seen nothing of that");
    let mended = Instant::now();
    cluster.cuts.mend();
    let joined: Vec<ClassicJoined> = join_all(waiting).await.into_iter().map(|one| one.unwrap().unwrap()).collect();
    let took = mended.elapsed();
    println!("generations {:?} after {took:?}", joined.iter().map(|one| one.generation).collect::<Vec<_>>());
    assert!(took < join("g", "").rebalance_timeout, "they were answered by the end of the time to join: {took:?}");
    third.abort();
}

/// Kafka's ILLEGAL_GENERATION, apart from all other reasons to be fenced.
fn is_wrong_generation<T>(answered: &Result<T, GroupError>) -> bool {
    matches!(answered, Err(GroupError::Refused { refusal: GroupRefusal::WrongEpoch { .. }, .. }))
}
