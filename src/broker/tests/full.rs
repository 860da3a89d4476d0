//! Disks that are nearly full, a leader's and its followers'.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use tokio::time::Instant;

use super::{
    rig::{Cluster, PATIENCE, RESERVE_BYTES, read_all, try_produce, until},
    rules::{create_with_short_segments, lead, purged, shorten_segments, two_seconds_later},
};
use crate::{
    broker::{AdminError, Caller, CreateTopicRequest, Effect, ProduceError, TrimRequest},
    raft::RoomLevel,
    types::{BrokerId, LogIndex, Offset, PartitionId},
};

const SHORT: u64 = RESERVE_BYTES - 1;
const FULL: u64 = RESERVE_BYTES / 2 - 1;
const ROOM: u64 = 1 << 40;

fn free(cluster: &Cluster, id: u64, bytes: u64) {
    cluster.worlds[&id].free_bytes.store(bytes, Relaxed);
}

fn last_index(cluster: &Cluster, id: u64) -> Option<LogIndex> {
    cluster.broker(id).parts.replicas.hosted()[0].group.log().last().map(|last| last.index)
}

/// By how many entries the slowest follower is behind, as this broker's metrics say.
fn lag_shown(cluster: &Cluster, id: u64) -> u64 {
    let text = cluster.nodes[&id].metrics.encode();
    let line = text.lines().find_map(|line| line.strip_prefix("flotilla_raft_lag_entries_max "));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

/// Produces one record after the other until something is true.
async fn produce_until(cluster: &Cluster, sequence: &mut i32, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "not true after {sequence} records");
        cluster.produce("t", *sequence).await;
        *sequence += 1;
    }
}

/// The broker whose disk is named by the refusal, once there is one.
async fn refused(cluster: &Cluster, leader: u64) -> ProduceError {
    let broker = cluster.broker(leader);
    let mut error = None;
    // Not an idempotent retry of anything: refused batches leave nothing behind.
    until("produce is refused for want of disk", || async {
        matches!(try_produce(&broker, "t", 1_000).await, Err(ProduceError::DiskFull { .. }))
    })
    .await;
    error = error.or(try_produce(&broker, "t", 1_000).await.err());
    error.expect("it is still short")
}

#[tokio::test]
async fn a_leader_short_of_disk_refuses_reads_on_trims_and_hands_over() {
    let cluster = Cluster::start(3, 1_600).await;
    cluster.create("t", 1).await;
    for sequence in 0..10 {
        cluster.produce("t", sequence).await;
    }
    let id = cluster.led_by("t").await;
    for id in 1..=3 {
        free(&cluster, id, SHORT);
    }
    let error = refused(&cluster, id).await;
    assert_eq!((error.effect(), error.is_retriable()), (Effect::None, true));
    let text = error.to_string();
    assert!(text.contains(&format!("broker {id}")) && text.contains("disk_reserve_bytes keeps 1000 back"), "{text}");
    let create = CreateTopicRequest { name: "u".into(), ..CreateTopicRequest::default() };
    let refused = cluster.broker(id).create_topic(&Caller::ANONYMOUS, create).await;
    assert!(matches!(&refused, Err(AdminError::DiskFull { .. })), "{refused:?}");
    assert!(!cluster.any().health(&Caller::ANONYMOUS).await.healthy);

    let leader = cluster.broker(id);
    let trim = TrimRequest { topic: "t".into(), partition: PartitionId(0), before: Some(Offset(5)), dry_run: false };
    assert_eq!(leader.trim_partition(&Caller::ANONYMOUS, trim).await, Ok(Offset(5)));
    assert_eq!(read_all(&leader, "t", 5).await, (5..10).map(|n| (i64::from(n), n)).collect::<Vec<_>>());

    // Others have room again: the leadership goes there, and writes go on.
    for other in (1..=3).filter(|other| *other != id) {
        free(&cluster, other, ROOM);
    }
    until("a broker with room leads", || async { cluster.leader("t").await.is_some_and(|leader| leader != id) }).await;
    for sequence in 10..20 {
        cluster.produce("t", sequence).await;
    }
    free(&cluster, id, ROOM);
    until("all is well", || async { cluster.any().health(&Caller::ANONYMOUS).await.healthy }).await;
}

#[tokio::test]
async fn a_full_follower_takes_no_more_and_catches_up_when_it_has_room() {
    let mut cluster = Cluster::unstarted(3, 1_700).await;
    // Long enough that no busy machine keeps a leader silent for so long: an election has another cause.
    cluster.elections = [2_000, 3_000].map(Duration::from_millis);
    cluster.run_all().await;
    cluster.create("t", 1).await;
    cluster.produce("t", 0).await;
    let id = cluster.led_by("t").await;
    let full = id % 3 + 1;
    free(&cluster, full, FULL);
    let mut sequence = 1;
    produce_until(&cluster, &mut sequence, || {
        let room = cluster.broker(id).parts.node.raft.room_of(BrokerId(full));
        room.is_some_and(|room| room.level == RoomLevel::Full)
    })
    .await;
    // What was on its way is taken; then nothing is, and the other two carry on.
    let mut seen = (last_index(&cluster, full), Instant::now());
    produce_until(&cluster, &mut sequence, || {
        let last = last_index(&cluster, full);
        if last != seen.0 {
            seen = (last, Instant::now());
        }
        seen.1.elapsed() > Duration::from_secs(1)
    })
    .await;
    let stopped_at = seen.0;
    // For longer than an election timeout: it takes no entries, but must go on hearing its leader.
    let end = Instant::now() + cluster.elections[1] * 2;
    produce_until(&cluster, &mut sequence, || Instant::now() > end).await;
    assert_eq!(last_index(&cluster, full), stopped_at, "it follows although its disk is full");
    assert_eq!(cluster.leader("t").await, Some(id), "a full follower costs nobody the leadership");
    let trim = TrimRequest { topic: "t".into(), partition: PartitionId(0), before: Some(Offset(0)), dry_run: false };
    assert_eq!(cluster.any().trim_partition(&Caller::ANONYMOUS, trim).await, Ok(Offset(0)), "metadata and admin work");

    let missing = last_index(&cluster, id).unwrap().0 - stopped_at.unwrap().0;
    assert!(missing > 0 && lag_shown(&cluster, id) == missing, "{missing} entries, {} shown", lag_shown(&cluster, id));

    free(&cluster, full, ROOM);
    until("it has caught up", || async { last_index(&cluster, full) == last_index(&cluster, id) }).await;
    until("its leader shows it", || async { lag_shown(&cluster, id) == 0 }).await;
    let all: Vec<(i64, i32)> = (0..sequence).map(|n| (i64::from(n), n)).collect();
    assert_eq!(cluster.read_all("t").await, all);
}

#[tokio::test]
async fn a_leader_refuses_what_too_few_followers_have_room_for() {
    let cluster = Cluster::start(3, 1_800).await;
    cluster.create("t", 1).await;
    cluster.produce("t", 0).await;
    let id = cluster.led_by("t").await;
    let others: Vec<u64> = (1..=3).filter(|other| *other != id).collect();
    free(&cluster, others[0], SHORT);
    for sequence in 1..5 {
        cluster.produce("t", sequence).await;
    }
    free(&cluster, others[1], SHORT - 1);
    let ProduceError::DiskFull { broker, free_bytes, reserve_bytes } = refused(&cluster, id).await else {
        panic!("another error")
    };
    assert_eq!((broker.0, free_bytes, reserve_bytes), (others[1], SHORT - 1, RESERVE_BYTES));
    free(&cluster, others[1], ROOM);
    for sequence in 5..10 {
        cluster.produce("t", sequence).await;
    }
    assert_eq!(cluster.read_all("t").await, (0..10).map(|n| (i64::from(n), n)).collect::<Vec<_>>());
}

/// The trim that would free a full disk stands behind entries which that disk has no room for.
#[tokio::test]
async fn d8_a_full_follower_frees_what_others_purged_before_the_trim_reaches_it() {
    let mut cluster = Cluster::start(3, 1_900).await;
    create_with_short_segments(&cluster).await;
    cluster.produce("t", 0).await;
    let id = cluster.led_by("t").await;
    shorten_segments(&cluster.broker(id)).await;
    let mut sequence = 1;
    for _ in 0..4 {
        two_seconds_later(&cluster);
        for _ in 0..10 {
            cluster.produce("t", sequence).await;
            sequence += 1;
        }
    }
    let full = id % 3 + 1;
    until("it follows", || async { last_index(&cluster, full) == last_index(&cluster, id) }).await;
    free(&cluster, full, FULL);
    let room = || cluster.broker(id).parts.node.raft.room_of(BrokerId(full));
    until("its leader knows of its disk", || async { room().is_some_and(|room| room.level == RoomLevel::Full) }).await;
    for _ in 0..20 {
        cluster.produce("t", sequence).await;
        sequence += 1;
    }
    let trim = TrimRequest { topic: "t".into(), partition: PartitionId(0), before: Some(Offset(35)), dry_run: false };
    assert_eq!(cluster.any().trim_partition(&Caller::ANONYMOUS, trim).await, Ok(Offset(35)));
    until("the leader purges", || async { purged(&cluster.broker(id)).is_some() }).await;
    let point = purged(&cluster.broker(id));
    until("the full one purges as well", || async { purged(&cluster.broker(full)) == point }).await;
    let log_start = |id| cluster.broker(id).parts.replicas.hosted()[0].bounds().log_start;
    assert!(last_index(&cluster, full) < last_index(&cluster, id), "it is still full");
    assert_eq!((log_start(full), log_start(id)), (Offset(0), Offset(35)), "the trim has not reached it");

    // What it has now, it opens again; with room it takes the rest, and leads with all that is retained.
    cluster.kill(full, 8);
    cluster.run(full).await;
    cluster.wait_ready(full).await;
    until("it is open", || async { !cluster.broker(full).parts.replicas.hosted().is_empty() }).await;
    until("it is purged, or again", || async { purged(&cluster.broker(full)) == point }).await;
    free(&cluster, full, ROOM);
    until("it has caught up", || async { last_index(&cluster, full) == last_index(&cluster, id) }).await;
    lead(&cluster, full).await;
    let retained: Vec<(i64, i32)> = (35..sequence).map(|n| (i64::from(n), n)).collect();
    assert_eq!(read_all(&cluster.broker(full), "t", 35).await, retained);
}
