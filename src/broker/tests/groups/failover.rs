//! SAFETY M9: what a coordinator answered is neither lost nor taken back by its successor, and what it knew
//! in an old term is of no effect in a new one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{Cluster, Member, SESSION, beat_until, coordinator, counts, move_coordinator, offset, place, topics};
use crate::{
    broker::{
        Broker, Caller,
        groups::{
            CommitRequest, GroupError,
            coordinator::{proposer::NotApplied, tenure::Tenure},
        },
        tests::rig::{PATIENCE, until},
    },
    group::{Expire, ExpireCause, GroupCommand},
};

/// A commit on behalf of nobody.
fn admin_commit(group: &str, next: i64) -> CommitRequest {
    CommitRequest { group: group.into(), offsets: vec![offset(place("t", 0), next)], ..CommitRequest::default() }
}

async fn committed(broker: &Broker, group: &str) -> Result<Option<i64>, GroupError> {
    Ok(broker.fetch_offsets(&Caller::ANONYMOUS, &group.into(), None).await?.offsets.first().map(|found| found.offset.0))
}

/// Commits ever larger offsets through a broker, as a client that retries does. The largest one that was
/// acknowledged is in `acked`, the largest sent in `sent`.
async fn commit_steadily(broker: Broker, stop: Arc<AtomicBool>, acked: Arc<AtomicI64>, sent: Arc<AtomicI64>) {
    while !stop.load(Ordering::SeqCst) {
        let next = sent.fetch_add(1, Ordering::SeqCst) + 1;
        match broker.commit_offsets(&Caller::ANONYMOUS, admin_commit("g", next)).await {
            Ok(refused) => {
                assert_eq!(refused, []);
                acked.fetch_max(next, Ordering::SeqCst);
            }
            Err(error) => assert!(error.is_retriable(), "{error}"),
        }
    }
}

/// Commits go on through transfers of the coordinator and through its crash in the middle of them; whoever
/// asks at any time gets at least what was acknowledged before he asked.
#[tokio::test]
async fn m9_commits_survive_transfer_and_crash_of_the_coordinator_and_none_goes_back() {
    let mut cluster = Cluster::start(3, 3_100).await;
    cluster.create("t", 1).await;
    // The broker that commits stays alive throughout.
    move_coordinator(&cluster, Some(1)).await;
    let (stop, acked, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)), Arc::default());
    let committing = tokio::spawn(commit_steadily(cluster.broker(3), stop.clone(), acked.clone(), Arc::clone(&sent)));
    let mut rounds = 0;
    let check = |cluster: &Cluster, id: u64| {
        let (broker, acked) = (cluster.broker(id), Arc::clone(&acked));
        async move {
            let before = acked.load(Ordering::SeqCst);
            match committed(&broker, "g").await {
                Ok(found) => assert!(found.unwrap_or(0) >= before, "{found:?} after {before} was acknowledged"),
                Err(error) => assert!(error.is_retriable(), "{error}"),
            }
        }
    };
    let some_more = async |acked: &AtomicI64| {
        let from = acked.load(Ordering::SeqCst);
        until("commits go on", || async { acked.load(Ordering::SeqCst) >= from + 20 }).await;
    };
    for to in [2, 1, 2] {
        some_more(&acked).await;
        move_coordinator(&cluster, Some(to)).await;
        for id in 1..=3 {
            check(&cluster, id).await;
        }
        rounds += 1;
    }
    for killed in [2, 1] {
        move_coordinator(&cluster, Some(killed)).await;
        some_more(&acked).await;
        cluster.kill(killed, 31 + killed);
        check(&cluster, 3).await;
        some_more(&acked).await;
        cluster.run(killed).await;
        cluster.wait_ready(killed).await;
        check(&cluster, killed).await;
        rounds += 1;
    }
    stop.store(true, Ordering::SeqCst);
    committing.await.unwrap();
    let (acked, sent) = (acked.load(Ordering::SeqCst), sent.load(Ordering::SeqCst));
    println!("{rounds} failovers, {acked} acknowledged of {sent} sent");
    for id in 1..=3 {
        let found = committed(&cluster.broker(id), "g").await.unwrap().unwrap();
        assert!((acked..=sent).contains(&found), "{found}: {acked} was acknowledged, {sent} was sent");
    }
}

/// A coordinator that is cut off and does not know that it is deposed still has the old offset in its
/// state, and believes that it leads: only the confirmation keeps it from handing that out.
#[tokio::test]
async fn m9_a_deposed_coordinator_hands_out_nothing_old() {
    let cluster = Cluster::start(3, 3_200).await;
    cluster.create("t", 1).await;
    cluster.any().commit_offsets(&Caller::ANONYMOUS, admin_commit("g", 10)).await.unwrap();
    let old = coordinator(&cluster).await;
    let deposed = cluster.broker(old);
    let mut member = Member::join(deposed.clone(), "h", topics(&["t"])).await;
    cluster.cuts.isolate(old, 1..=3);
    let other = cluster.broker(old % 3 + 1);
    until("the others have a coordinator", || async {
        other.commit_offsets(&Caller::ANONYMOUS, admin_commit("g", 20)).await.is_ok()
    })
    .await;
    assert_eq!(committed(&other, "g").await, Ok(Some(20)));

    // What an unconfirmed answer would be made of.
    let believes = deposed.parts.groups.tenure.borrow().is_some();
    let in_state = deposed.parts.node.metadata().unwrap().read(|state| {
        state
            .group(&"g".into())
            .and_then(|group| group.offset("t", place("t", 0).partition))
            .map(|found| found.offset.0)
    });
    assert_eq!((believes, in_state), (true, Some(10)), "the test shows something only then");
    let (read, beat, listed) =
        tokio::join!(committed(&deposed, "g"), member.beat(), deposed.list_groups(&Caller::ANONYMOUS));
    assert!(matches!(read, Err(GroupError::NoCoordinator { .. })), "{read:?}");
    assert!(matches!(beat, Err(GroupError::NoCoordinator { .. })), "{beat:?}");
    assert!(matches!(listed, Err(GroupError::NoCoordinator { .. })), "{listed:?}");

    cluster.cuts.mend();
    until("it is told", || async { committed(&deposed, "g").await == Ok(Some(20)) }).await;
}

/// The coordinator of a term that is over cannot decide anything, even where the same broker leads again.
#[tokio::test]
async fn m9_a_decision_of_an_old_term_is_refused() {
    let cluster = Cluster::start(3, 3_300).await;
    cluster.create("t", 1).await;
    move_coordinator(&cluster, Some(1)).await;
    until("it coordinates", || async { coordinator(&cluster).await == 1 }).await;
    let tenure = |cluster: &Cluster| cluster.broker(1).parts.groups.tenure.borrow().clone();
    let old: Arc<Tenure> = tenure(&cluster).unwrap();
    let mut member = Member::join(cluster.broker(2), "g", topics(&["t"])).await;
    move_coordinator(&cluster, Some(2)).await;
    move_coordinator(&cluster, Some(1)).await;
    until("it coordinates again", || async { tenure(&cluster).is_some_and(|now| now.term > old.term) }).await;
    let id = member.id.clone();
    let expire = || {
        let (group, members) = ("g".into(), vec![id.clone()]);
        GroupCommand::Expire(Expire { group, members, because: ExpireCause::Session })
    };
    let deadline = Instant::now() + PATIENCE;
    assert_eq!(old.propose(expire(), deadline).await, Err(NotApplied::NotDone));
    member.beat().await.expect("it is still there");
    // The same in the present term is of effect, so the refusal was the term's.
    tenure(&cluster).unwrap().propose(expire(), deadline).await.unwrap().result.unwrap();
    let gone = member.beat().await;
    assert!(matches!(gone, Err(GroupError::UnknownMember { .. })), "{gone:?}");
}

/// A member that has been silent for most of its session when the coordinator changes has all of it again.
#[tokio::test]
async fn m9_all_sessions_start_in_full_in_a_new_term() {
    let cluster = Cluster::start(3, 3_400).await;
    cluster.create("t", 1).await;
    move_coordinator(&cluster, Some(1)).await;
    let member = Member::join(cluster.broker(2), "g", topics(&["t"])).await;
    tokio::time::sleep(SESSION * 7 / 10).await; // Silence is what this test is about.
    let moved = Instant::now();
    // Away and back again: timers of the first term must not go on in the third.
    move_coordinator(&cluster, Some(2)).await;
    move_coordinator(&cluster, Some(1)).await;
    until("it is expired", || async {
        let described = cluster.broker(3).describe_group(&Caller::ANONYMOUS, &"g".into()).await;
        described.is_ok_and(|group| group.members.is_empty())
    })
    .await;
    let took = moved.elapsed();
    assert!(took >= SESSION, "expired {took:?} after the change: {} had a session begun before it", member.id);
}

/// Members go on through a crash of the coordinator: nobody is expired, nothing changes hands.
#[tokio::test]
async fn members_keep_their_partitions_through_a_crash_of_the_coordinator() {
    let mut cluster = Cluster::start(3, 3_500).await;
    cluster.create("t", 6).await;
    move_coordinator(&cluster, Some(1)).await;
    let mut members = vec![
        Member::join(cluster.broker(2), "g", topics(&["t"])).await,
        Member::join(cluster.broker(3), "g", topics(&["t"])).await,
    ];
    beat_until(&mut members, "three each", |members| counts(members) == [3, 3]).await;
    members.iter_mut().for_each(|member| member.lost.clear());
    cluster.kill(1, 35);
    let killed = Instant::now();
    beat_until(&mut members, "a new coordinator answers, for two sessions", |members| {
        killed.elapsed() > SESSION * 2 + Duration::from_secs(2) && counts(members) == [3, 3]
    })
    .await;
    assert!(members.iter().all(|member| member.lost.is_empty()));
    let epochs: Vec<i32> = members.iter().map(|member| member.epoch).collect();
    let described = cluster.broker(2).describe_group(&Caller::ANONYMOUS, &"g".into()).await.unwrap();
    assert_eq!((described.members.len(), described.epoch), (2, *epochs.iter().max().unwrap()));
}
