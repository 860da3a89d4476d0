//! Committed offsets: groups that read independently, lag, limits, expiry.

use std::time::Duration;

use super::{Cluster, Member, coordinator, move_coordinator, offset, place, topics};
use crate::{
    broker::{
        Caller, CreateTopicRequest,
        groups::{CommitRequest, GroupError, HeartbeatRequest, OffsetToCommit},
        tests::rig::until,
    },
    group::{GroupPhase, GroupRefusal, OffsetRefusal, Subscription, limits},
    types::Offset,
};

fn commit(group: &str, offsets: Vec<OffsetToCommit>) -> CommitRequest {
    CommitRequest { group: group.into(), offsets, ..CommitRequest::default() }
}

#[tokio::test]
async fn m9_a_late_copy_of_a_commit_takes_nothing_back() {
    let cluster = Cluster::start(3, 5_150).await;
    cluster.create("t", 1).await;
    for sequence in 0..10 {
        cluster.produce("t", sequence).await;
    }
    let mut member = Member::join(cluster.broker(1), "g", topics(&["t"])).await;
    member.beat().await.unwrap();
    let commit = |sequence, next| CommitRequest { sequence, ..member.commit(place("t", 0), next) };
    for (sequence, next) in [(1, 4), (3, 8)] {
        assert_eq!(cluster.broker(1).commit_offsets(&Caller::ANONYMOUS, commit(sequence, next)).await, Ok(vec![]));
    }
    // Faces tell a late copy from a wrong generation, which is another answer to Kafka's clients.
    let is_old = |late: &Result<Vec<_>, GroupError>| {
        matches!(late, Err(GroupError::Refused { refusal: GroupRefusal::OldCommit { last: 3, .. }, .. }))
    };
    // Through another broker, which held them up.
    for (sequence, next) in [(1, 4), (2, 6)] {
        let late = cluster.broker(2).commit_offsets(&Caller::ANONYMOUS, commit(sequence, next)).await;
        assert!(is_old(&late), "{late:?}");
    }
    assert_eq!(
        cluster.broker(3).fetch_offsets(&Caller::ANONYMOUS, &"g".into(), None).await.unwrap().offsets[0].offset,
        Offset(8)
    );
    // So it is for whoever coordinates next.
    move_coordinator(&cluster, None).await;
    let late = cluster.broker(2).commit_offsets(&Caller::ANONYMOUS, commit(2, 6)).await;
    assert!(is_old(&late), "{late:?}");
    assert_eq!(
        cluster.broker(2).commit_offsets(&Caller::ANONYMOUS, commit(3, 8)).await,
        Ok(vec![]),
        "a retry of the last"
    );
    assert_eq!(
        cluster.broker(3).fetch_offsets(&Caller::ANONYMOUS, &"g".into(), None).await.unwrap().offsets[0].offset,
        Offset(8)
    );
}

#[tokio::test]
async fn two_groups_read_the_same_partitions_independently() {
    let cluster = Cluster::start(3, 5_100).await;
    cluster.create("t", 1).await;
    for sequence in 0..10 {
        cluster.produce("t", sequence).await;
    }
    let mut one = Member::join(cluster.broker(1), "one", topics(&["t"])).await;
    let mut two = Member::join(cluster.broker(2), "two", topics(&["t"])).await;
    for member in [&mut one, &mut two] {
        member.beat().await.unwrap();
        assert_eq!(member.owns.len(), 1, "each group has all partitions");
    }
    assert_eq!(cluster.broker(3).commit_offsets(&Caller::ANONYMOUS, one.commit(place("t", 0), 4)).await, Ok(vec![]));
    assert_eq!(cluster.broker(1).commit_offsets(&Caller::ANONYMOUS, two.commit(place("t", 0), 10)).await, Ok(vec![]));
    for (group, committed) in [("one", 4), ("two", 10)] {
        for id in 1..=3 {
            let all = cluster.broker(id).fetch_offsets(&Caller::ANONYMOUS, &group.into(), None).await.unwrap().offsets;
            let named = vec![place("t", 0), place("t", 7)];
            let named =
                cluster.broker(id).fetch_offsets(&Caller::ANONYMOUS, &group.into(), Some(named)).await.unwrap().offsets;
            assert_eq!((all.len(), all[0].offset), (1, Offset(committed)), "{group} from {id}");
            assert_eq!(named, all, "what was never committed is absent");
        }
        let described = cluster.broker(3).describe_group(&Caller::ANONYMOUS, &group.into()).await.unwrap();
        let partition = &described.partitions[0];
        assert_eq!(described.summary.phase, GroupPhase::Stable);
        assert_eq!((described.summary.protocol.as_str(), described.assignor.as_str()), ("flotilla", "sticky"));
        assert_eq!(described.coordinator.map(|broker| broker.0), Some(coordinator(&cluster).await));
        assert_eq!((partition.bounds, partition.lag), (Some((Offset(0), Offset(10))), Some(10 - committed)));
        assert_eq!(partition.member.as_ref(), Some(&described.members[0].member));
        // The records of these tests are from 1970: read up, there is no lag in time either.
        let in_time = partition.lag_time.unwrap();
        assert_eq!(in_time.is_zero(), committed == 10, "{in_time:?}");
    }
    let listed = cluster.broker(2).list_groups(&Caller::ANONYMOUS).await.unwrap();
    let names: Vec<(&str, u32)> = listed.iter().map(|group| (&*group.group.0, group.members)).collect();
    assert_eq!(names, [("one", 1), ("two", 1)]);
    let stranger = cluster.any().describe_group(&Caller::ANONYMOUS, &"three".into()).await;
    assert_eq!(stranger, Err(GroupError::UnknownGroup { group: "three".into() }));
}

#[tokio::test]
async fn a_commit_is_judged_partition_by_partition() {
    let cluster = Cluster::start(3, 5_200).await;
    cluster.create("t", 2).await;
    let long = "x".repeat(limits::OFFSET_METADATA_BYTES_MAX);
    let with = |number, metadata: &str| OffsetToCommit { metadata: metadata.into(), ..offset(place("t", number), 1) };
    let offsets = vec![with(0, &long), with(1, &(long.clone() + "y")), with(7, ""), offset(place("none", 0), 1)];
    let refused = cluster.broker(2).commit_offsets(&Caller::ANONYMOUS, commit("g", offsets)).await.unwrap();
    let refused: Vec<_> = refused.into_iter().map(|(at, error)| (at.to_string(), error)).collect();
    let [(a, long_one), (b, partition), (c, topic)] = &refused[..] else { panic!("{refused:?}") };
    assert_eq!([a, b, c], ["t-1", "t-7", "none-0"]);
    let is_its_cause = |refusal: &_| matches!(refusal, OffsetRefusal::MetadataTooLarge { bytes: 4_097, max: 4_096 });
    assert!(matches!(long_one, GroupError::OffsetRefused { refusal, .. } if is_its_cause(refusal)), "{long_one}");
    assert!(matches!(partition, GroupError::UnknownPartition { .. }), "{partition}");
    assert!(matches!(topic, GroupError::UnknownTopic { .. }), "{topic}");
    let found = cluster.any().fetch_offsets(&Caller::ANONYMOUS, &"g".into(), None).await.unwrap().offsets;
    assert_eq!((found.len(), found[0].metadata.len()), (1, long.len()));

    // With members, only they commit, and only what they hold.
    let mut members = vec![Member::join(cluster.broker(1), "g", topics(&["t"])).await];
    members.push(Member::join(cluster.broker(2), "g", topics(&["t"])).await);
    super::beat_until(&mut members, "one each", |members| super::counts(members) == [1, 1]).await;
    let nobody = cluster.any().commit_offsets(&Caller::ANONYMOUS, commit("g", vec![offset(place("t", 0), 2)])).await;
    assert!(nobody.is_err() || !nobody.unwrap().is_empty());
    let (own, others) = (members[0].owns.first().unwrap().clone(), members[1].owns.first().unwrap().clone());
    let both = CommitRequest {
        offsets: vec![offset(own, 3), offset(others.clone(), 3)],
        ..members[0].commit(others.clone(), 3)
    };
    let refused = cluster.broker(3).commit_offsets(&Caller::ANONYMOUS, both).await.unwrap();
    assert_eq!(refused.len(), 1);
    assert!(
        refused[0].0 == others
            && matches!(refused[0].1, GroupError::OffsetRefused { refusal: OffsetRefusal::NotHeld, .. }),
        "{refused:?}"
    );
    let deleted = cluster.any().delete_offsets(&Caller::ANONYMOUS, &"g".into(), vec![others.clone()]).await.unwrap();
    assert!(deleted.len() == 1, "a member holds it: {deleted:?}");
}

#[tokio::test]
async fn requests_are_bounded() {
    let cluster = Cluster::start(1, 5_300).await;
    cluster.create_on("t", 1, 1).await;
    let broker = cluster.any();
    let max = crate::broker::groups::limits::OFFSETS_PER_REQUEST_MAX;
    let many = |count: usize| vec![offset(place("t", 0), 1); count];
    let refused = broker.commit_offsets(&Caller::ANONYMOUS, commit("g", many(max + 1))).await;
    assert!(matches!(refused, Err(GroupError::LimitReached { .. })), "{refused:?}");
    assert_eq!(broker.commit_offsets(&Caller::ANONYMOUS, commit("g", many(max))).await, Ok(vec![]));
    let refused = broker.fetch_offsets(&Caller::ANONYMOUS, &"g".into(), Some(vec![place("t", 0); max + 1])).await;
    assert!(matches!(refused, Err(GroupError::LimitReached { .. })), "{refused:?}");
    assert_eq!(
        broker
            .fetch_offsets(&Caller::ANONYMOUS, &"g".into(), Some(vec![place("t", 0); max]))
            .await
            .unwrap()
            .offsets
            .len(),
        max
    );

    // Few offsets, many bytes.
    let long = OffsetToCommit { metadata: "x".repeat(limits::OFFSET_METADATA_BYTES_MAX), ..offset(place("t", 0), 1) };
    let refused = broker.commit_offsets(&Caller::ANONYMOUS, commit("g", vec![long.clone(); 260])).await;
    assert!(matches!(refused, Err(GroupError::LimitReached { .. })), "{refused:?}");
    assert_eq!(broker.commit_offsets(&Caller::ANONYMOUS, commit("g", vec![long; 250])).await, Ok(vec![]));

    let longest = "g".repeat(limits::GROUP_NAME_BYTES_MAX);
    assert_eq!(broker.commit_offsets(&Caller::ANONYMOUS, commit(&longest, many(1))).await, Ok(vec![]));
    assert!(broker.commit_offsets(&Caller::ANONYMOUS, commit(&(longest.clone() + "g"), many(1))).await.is_err());

    let join = |session: u64, pattern: String| HeartbeatRequest {
        group: "h".into(),
        subscription: Some(Subscription { pattern: Some(pattern), ..Subscription::default() }),
        session_timeout: Duration::from_millis(session),
        ..HeartbeatRequest::default()
    };
    for session in [999, 1_800_001] {
        let refused = broker.group_heartbeat(&Caller::ANONYMOUS, join(session, "t".into())).await;
        let bounds = GroupError::InvalidSessionTimeout { asked_ms: session, min_ms: 1_000, max_ms: 1_800_000 };
        assert_eq!(refused, Err(bounds));
    }
    assert!(
        broker.group_heartbeat(&Caller::ANONYMOUS, join(1_000, "t".repeat(limits::PATTERN_BYTES_MAX))).await.is_ok()
    );
    let refused =
        broker.group_heartbeat(&Caller::ANONYMOUS, join(1_800_000, "t".repeat(limits::PATTERN_BYTES_MAX + 1))).await;
    assert!(matches!(refused, Err(GroupError::LimitReached { .. })), "{refused:?}");
    let explosion =
        broker.group_heartbeat(&Caller::ANONYMOUS, join(1_800_000, "((((a{99}){99}){99}){99})".into())).await;
    assert!(matches!(explosion, Err(GroupError::InvalidRequest { .. })), "{explosion:?}");
}

/// Unread data that retention is about to delete is noticed by its age, exported, described and noted.
#[tokio::test]
async fn unread_records_in_danger_are_in_metrics_description_and_health_notes() {
    let cluster = Cluster::start(3, 5_400).await;
    // The records of these tests are from 1970: any retention threatens them.
    let configs = [("retention.ms".to_string(), "3600000000".to_string())].into();
    let request = CreateTopicRequest {
        name: "t".into(),
        replication_factor: Some(3),
        configs,
        wait: true,
        ..CreateTopicRequest::default()
    };
    cluster.any().create_topic(&Caller::ANONYMOUS, request).await.unwrap();
    for sequence in 0..5 {
        cluster.produce("t", sequence).await;
    }
    cluster.any().commit_offsets(&Caller::ANONYMOUS, commit("behind", vec![offset(place("t", 0), 2)])).await.unwrap();
    cluster.any().commit_offsets(&Caller::ANONYMOUS, commit("done", vec![offset(place("t", 0), 5)])).await.unwrap();
    let described = cluster.any().describe_group(&Caller::ANONYMOUS, &"behind".into()).await.unwrap();
    assert!(described.partitions[0].retention_threatens && described.partitions[0].lag == Some(3), "{described:?}");
    assert!(
        !cluster.any().describe_group(&Caller::ANONYMOUS, &"done".into()).await.unwrap().partitions[0]
            .retention_threatens
    );
    until("a note", || async {
        let health = cluster.any().health(&Caller::ANONYMOUS).await;
        assert!(health.healthy, "it is a note and no problem: {health:?}");
        // Beside it stands that these records are older than what retention keeps.
        health.notes.iter().any(|note| note.contains("\"behind\"") && note.contains(" t "))
    })
    .await;
    let leader = cluster.led_by("t").await;
    let text = cluster.nodes[&leader].metrics.encode();
    for line in [
        "flotilla_consumer_lag_records{group=\"behind\",topic=\"t\",partition=\"0\"} 3.0",
        "flotilla_consumer_lag_seconds{group=\"done\",topic=\"t\",partition=\"0\"} 0.0",
        "flotilla_consumer_retention_threat{group=\"behind\",topic=\"t\",partition=\"0\"} 1.0",
        "flotilla_consumer_retention_threat{group=\"done\",topic=\"t\",partition=\"0\"} 0.0",
    ] {
        assert!(text.lines().any(|found| found == line), "no line {line:?} in:\n{text}");
    }
    let others = cluster.nodes.iter().filter(|(id, _)| **id != leader);
    assert!(others.map(|(_, node)| node.metrics.encode()).all(|text| !text.contains("consumer_lag_records{")));
}

/// Seen once: an offset of 10^12 was taken, with a lag of 0 and no word.
#[tokio::test]
async fn o10_committed_offsets_beyond_the_end_are_notes_of_health() {
    let cluster = Cluster::start(3, 5_450).await;
    cluster.create("t", 1).await;
    for sequence in 0..5 {
        cluster.produce("t", sequence).await;
    }
    for (group, at) in [("far", 1_000_000_000_000), ("done", 5), ("late", 2)] {
        assert_eq!(
            cluster.any().commit_offsets(&Caller::ANONYMOUS, commit(group, vec![offset(place("t", 0), at)])).await,
            Ok(vec![])
        );
    }
    let want = "group \"far\" has committed offset 1000000000000 of t-0, beyond its end, 5";
    let notes = |id: u64| {
        let broker = cluster.broker(id);
        async move {
            let health = broker.health(&Caller::ANONYMOUS).await;
            assert!(health.healthy, "it is a note and no problem: {health:?}");
            health.notes.into_iter().filter(|note| note.contains("beyond its end")).collect::<Vec<_>>()
        }
    };
    for id in 1..=3 {
        until("a note", || async { matches!(&notes(id).await[..], [one] if one.starts_with(want)) }).await;
    }
    cluster.any().delete_offsets(&Caller::ANONYMOUS, &"far".into(), vec![place("t", 0)]).await.unwrap();
    until("none any more", || async { notes(1).await.is_empty() }).await;
}

/// As a tool does it: all offsets, and then the group.
#[tokio::test]
async fn a_group_without_offsets_is_there_to_be_deleted() {
    let cluster = Cluster::start(3, 5_480).await;
    cluster.create("t", 1).await;
    let one = commit("g", vec![offset(place("t", 0), 0)]);
    assert_eq!(cluster.any().commit_offsets(&Caller::ANONYMOUS, one).await, Ok(vec![]));
    let deleted = cluster.any().delete_offsets(&Caller::ANONYMOUS, &"g".into(), vec![place("t", 0)]).await;
    assert_eq!(deleted, Ok(vec![]));
    let described = cluster.any().describe_group(&Caller::ANONYMOUS, &"g".into()).await.expect("it is there");
    assert_eq!(described.summary.phase, GroupPhase::Empty);
    assert_eq!(cluster.any().delete_group(&Caller::ANONYMOUS, &"g".into(), false).await, Ok(()));
    let gone = cluster.any().delete_group(&Caller::ANONYMOUS, &"g".into(), false).await;
    assert_eq!(gone, Err(GroupError::UnknownGroup { group: "g".into() }));
}

/// Only once the retention is over, and only while nobody is a member.
#[tokio::test]
async fn offsets_of_a_group_without_members_expire() {
    let mut cluster = Cluster::unstarted(3, 5_500).await;
    cluster.groups.offsets_retention = Duration::from_secs(2);
    for id in 1..=3 {
        cluster.run(id).await;
    }
    for id in 1..=3 {
        cluster.wait_ready(id).await;
    }
    cluster.create("t", 1).await;
    // Clocks are compared every ten seconds; before that nothing expires.
    let agreed = |id: u64| cluster.broker(id).parts.views.clock_view.borrow().agrees();
    until("the clocks agree", || async { (1..=3).all(agreed) }).await;
    let mut member = Member::join(cluster.broker(1), "used", topics(&["t"])).await;
    member.beat().await.unwrap();
    assert_eq!(cluster.any().commit_offsets(&Caller::ANONYMOUS, member.commit(place("t", 0), 1)).await, Ok(vec![]));
    cluster.any().commit_offsets(&Caller::ANONYMOUS, commit("left", vec![offset(place("t", 0), 1)])).await.unwrap();
    let began = tokio::time::Instant::now();
    let beating = tokio::spawn(async move {
        loop {
            member.beat().await.unwrap();
            tokio::time::sleep_until(member.next).await;
        }
    });
    until("the offsets of the one without members are gone", || async {
        cluster.any().fetch_offsets(&Caller::ANONYMOUS, &"left".into(), None).await.unwrap().offsets.is_empty()
    })
    .await;
    assert!(began.elapsed() >= Duration::from_millis(1_900), "{:?}", began.elapsed());
    assert_eq!(cluster.any().fetch_offsets(&Caller::ANONYMOUS, &"used".into(), None).await.unwrap().offsets.len(), 1);
    beating.abort();
    move_coordinator(&cluster, None).await;
    until("the other's too, once its member is gone", || async {
        cluster.any().fetch_offsets(&Caller::ANONYMOUS, &"used".into(), None).await.unwrap().offsets.is_empty()
    })
    .await;
}

/// Ten thousand refusals, each of which names a long group, a member and a topic, come back from the coordinator.
#[tokio::test]
async fn refusals_are_answered_however_many_and_long_they_are() {
    let cluster = Cluster::start(3, 5_960).await;
    let (mine, other) = ("t".repeat(30), "u".repeat(30));
    cluster.create(&mine, 1).await;
    cluster.create(&other, 1).await;
    let group = "g".repeat(limits::GROUP_NAME_BYTES_MAX);
    let asked = cluster.broker(coordinator(&cluster).await % 3 + 1);
    let member = Member::join(asked.clone(), &group, topics(&[&mine])).await;
    let max = crate::broker::groups::limits::OFFSETS_PER_REQUEST_MAX;
    let offsets = vec![offset(place(&other, 0), 1); max];
    let refused = asked
        .commit_offsets(&Caller::ANONYMOUS, CommitRequest { offsets, ..member.commit(place(&mine, 0), 1) })
        .await
        .unwrap();
    assert_eq!(refused.len(), max);
    let is_fenced = |error: &GroupError| matches!(error, GroupError::OffsetRefused { group: of, .. } if of.0 == group);
    assert!(refused.iter().all(|(at, error)| *at == place(&other, 0) && is_fenced(error)), "{:?}", refused[0]);
}
