//! OffsetCommit as Kafka's clients and tools send it: who may commit, of any size, in order.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::{sync::Notify, time::Instant};

use super::{
    Cluster, Member,
    classic::{join, sync},
    coordinator, move_coordinator, offset, place, topics,
};
use crate::{
    broker::{
        Broker, Caller,
        groups::{ClassicJoin, CommitRequest, GroupError, OffsetToCommit},
        tests::rig::until,
    },
    group::{GroupRefusal, OffsetRefusal},
};

const ANY: &Caller = &Caller::ANONYMOUS;

fn commit(group: &str, member: &str, generation: i32, offsets: Vec<OffsetToCommit>) -> CommitRequest {
    CommitRequest { group: group.into(), member: member.into(), epoch: generation, offsets, ..CommitRequest::default() }
}

async fn committed(broker: &Broker, group: &str) -> Vec<i64> {
    let found = broker.fetch_offsets(ANY, &group.into(), None).await.unwrap().offsets;
    found.into_iter().map(|offset| offset.offset.0).collect()
}

/// Kafka's `ClassicGroup.validateOffsetCommit`, case by case.
#[tokio::test]
async fn who_may_commit_is_who_may_with_kafka() {
    let cluster = Cluster::start(3, 4_840).await;
    cluster.create("t", 1).await;
    let broker = cluster.broker(coordinator(&cluster).await);
    let commits = |member: &str, generation: i32, at: i64| {
        broker.classic_commit(ANY, commit("g", member, generation, vec![offset(place("t", 0), at)]))
    };
    assert_eq!(committed(&broker, "g").await, [0; 0], "of an unknown group nothing is committed, without an error");
    let unknown = |answered: &Result<_, GroupError>| matches!(answered, Err(GroupError::UnknownMember { .. }));
    // No group yet, or none with members: whoever says no generation commits, whatever its member id.
    assert_eq!(commits("", -1, 1).await, Ok(vec![]));
    assert_eq!(commits("left over", -1, 2).await, Ok(vec![]));
    for (member, generation) in [("", 0), ("", 1), ("nobody", 0), ("nobody", 1)] {
        let answered = commits(member, generation, 9).await;
        assert!(unknown(&answered), "{member:?} {generation}: {answered:?}");
    }
    let nameless = broker.classic_commit(ANY, commit("", "", -1, vec![])).await;
    assert!(matches!(nameless, Err(GroupError::InvalidGroupName { .. })), "{nameless:?}");

    let joined = broker.classic_join(ANY, join("g", "")).await.unwrap();
    let (member, generation) = (joined.member.0.as_str(), joined.generation);
    let completing = commits(member, generation, 9).await;
    assert_eq!(completing, Err(GroupError::Rebalancing { group: "g".into() }));
    sync(&broker, &joined).await.unwrap();
    for nobody in ["", "nobody"] {
        let answered = commits(nobody, -1, 9).await;
        assert!(unknown(&answered), "{nobody:?}: {answered:?}");
    }
    let wrong =
        |answered: &_| matches!(answered, Err(GroupError::Refused { refusal: GroupRefusal::WrongEpoch { .. }, .. }));
    for other in [-1, generation - 1, generation + 1] {
        let answered = commits(member, other, 9).await;
        assert!(wrong(&answered), "{other}: {answered:?}");
    }
    assert_eq!(commits(member, generation, 3).await, Ok(vec![]));
    assert_eq!(committed(&broker, "g").await, [3], "what was refused has changed nothing");

    let server = Member::join(cluster.broker(1), "server", topics(&["t"])).await;
    let tool = broker.classic_commit(ANY, commit("server", "", -1, vec![offset(place("t", 0), 9)])).await;
    assert!(unknown(&tool), "beside {}: {tool:?}", server.id);
}

#[tokio::test]
async fn metadata_comes_back_as_it_was_and_what_is_too_long_fails_alone() {
    let cluster = Cluster::start(3, 4_850).await;
    cluster.create("t", 3).await;
    let with = |number, metadata: String| OffsetToCommit { metadata, ..offset(place("t", number), 7) };
    let longest = "\u{e9}".repeat(2_048);
    let offsets = vec![with(0, longest.clone()), with(1, longest.clone() + "x"), with(2, "x".repeat(3 << 20))];
    let broker = cluster.broker(coordinator(&cluster).await);
    let refused = broker.classic_commit(ANY, commit("g", "", -1, offsets)).await.unwrap();
    let sizes = refused.iter().map(|(at, error)| match error {
        GroupError::OffsetRefused { refusal: OffsetRefusal::MetadataTooLarge { bytes, .. }, .. } => {
            (at.partition.0, *bytes)
        }
        other => panic!("{at}: {other}"),
    });
    assert_eq!(sizes.collect::<Vec<_>>(), [(1, 4_097), (2, 3 << 20)]);
    let found = cluster.any().fetch_offsets(ANY, &"g".into(), None).await.unwrap().offsets;
    assert_eq!((found.len(), &found[0].metadata), (1, &longest));
}

/// More than one entry holds, in bytes and in number.
#[tokio::test]
async fn a_commit_may_be_of_any_size() {
    let cluster = Cluster::start(3, 4_860).await;
    cluster.create("t", 2).await;
    let broker = cluster.broker(coordinator(&cluster).await);
    let metadata = "x".repeat(1_000);
    // One and the same partition, again and again: what comes last in the request is what stays.
    let mut offsets: Vec<OffsetToCommit> =
        (0..3_000).map(|at| OffsetToCommit { metadata: metadata.clone(), ..offset(place("t", 0), at) }).collect();
    offsets.extend((0..10_000).map(|n| offset(place("none", n), 1)));
    offsets.push(offset(place("t", 1), 8));
    let refused = broker.classic_commit(ANY, commit("g", "", -1, offsets.clone())).await.unwrap();
    assert_eq!(refused.len(), 10_000);
    assert!(refused.iter().all(|(at, _)| at.topic == "none"), "{:?}", refused[0]);
    assert!(refused.iter().all(|(_, error)| matches!(error, GroupError::UnknownTopic { .. })), "{:?}", refused[0]);
    assert_eq!(committed(&broker, "g").await, [2_999, 8]);
    let stranger = broker.classic_commit(ANY, commit("g", "nobody", 3, offsets)).await;
    assert!(matches!(stranger, Err(GroupError::UnknownMember { .. })), "{:?}", stranger.map(|refused| refused.len()));
}

/// Java's commitAsync: many under way at once, while the coordinator moves from broker to broker.
#[tokio::test]
async fn commits_of_a_member_apply_in_the_order_in_which_they_were_sent() {
    let cluster = Cluster::start(3, 4_870).await;
    cluster.create("t", 1).await;
    let long = ClassicJoin { session_timeout: Duration::from_secs(60), ..join("g", "") };
    let joined = cluster.any().classic_join(ANY, long).await.unwrap();
    sync(&cluster.any(), &joined).await.unwrap();
    let (mut last, mut acknowledged, began) = (0, 0, Instant::now());
    for _ in 0..3 {
        let broker = cluster.broker(coordinator(&cluster).await);
        let some = Notify::new();
        let sent = (last + 1..=last + 40).map(|at| {
            let offsets = vec![offset(place("t", 0), at)];
            let sent = broker.classic_commit(ANY, commit("g", &joined.member.0, joined.generation, offsets));
            let (some, is_tenth) = (&some, at == last + 10);
            async move {
                let answer = sent.await;
                if is_tenth {
                    some.notify_one();
                }
                (at, answer)
            }
        });
        // Polled in the opposite order: their order is that of the calls.
        let mut sent: Vec<_> = sent.collect();
        sent.reverse();
        let moving = async {
            some.notified().await;
            move_coordinator(&cluster, None).await;
        };
        let (mut answered, ()) = tokio::join!(join_all(sent), moving);
        last += 40;
        answered.sort_by_key(|(at, _)| *at);
        for (at, answer) in answered {
            match answer {
                Ok(refused) => {
                    assert_eq!(refused, []);
                    acknowledged = at;
                }
                Err(GroupError::NoCoordinator { .. } | GroupError::OutcomeUnknown { .. }) => {}
                Err(error) => panic!("{at}: {error:?}"),
            }
        }
        let found = committed(&broker, "g").await;
        assert!(found.iter().all(|found| (acknowledged..=last).contains(found)), "{found:?}, of {acknowledged}");
    }
    assert!(acknowledged > 80, "some of the last round too");
    println!("{acknowledged} of {last} commits one after the other in {:?}", began.elapsed());
}

/// librdkafka sent a commit to a coordinator that stood still, the same and a later one to its successor, and the first
/// found the second when it woke (chaos, seed 3 of 90 s with k1 and k2).
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_waited_at_a_former_coordinator_takes_nothing_back() {
    let cluster = Cluster::start(3, 4_880).await;
    cluster.create("t", 1).await;
    let former = coordinator(&cluster).await;
    let of = |at| commit("g", "", -1, vec![offset(place("t", 0), at)]);
    cluster.cuts.isolate(former, 1..=3);
    let coordinates = |id: &u64| *id != former && cluster.broker(*id).parts.groups.tenure.borrow().is_some();
    until("somebody else coordinates", || async { (1..=3).any(|id| coordinates(&id)) }).await;
    let broker = cluster.broker((1..=3).find(coordinates).expect("it does"));
    assert_eq!(broker.classic_commit(ANY, of(1)).await, Ok(vec![]));
    assert_eq!(broker.classic_commit(ANY, of(2)).await, Ok(vec![]));
    let woken = tokio::spawn(cluster.broker(former).classic_commit(ANY, of(1)));
    cluster.cuts.mend();
    let answered = woken.await.unwrap();
    let is_refused = matches!(answered, Err(GroupError::NoCoordinator { .. } | GroupError::OutcomeUnknown { .. }));
    assert!(is_refused, "{answered:?}");
    assert_eq!(committed(&broker, "g").await, [2]);
}

#[tokio::test]
async fn who_does_not_coordinate_takes_no_commit_of_a_kafka_client() {
    let cluster = Cluster::start(3, 4_890).await;
    cluster.create("t", 1).await;
    let other = cluster.broker(coordinator(&cluster).await % 3 + 1);
    let answered = other.classic_commit(ANY, commit("g", "", -1, vec![offset(place("t", 0), 1)])).await;
    assert!(matches!(answered, Err(GroupError::NoCoordinator { .. })), "{answered:?}");
    assert_eq!(committed(&other, "g").await, [0; 0]);
}
