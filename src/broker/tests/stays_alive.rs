//! Nothing stays dead: cancelled transfers, replicas that stop, leaders that are cut off, disks that stall.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};

use super::rig::{Cluster, PATIENCE, try_produce, try_produce_to, until};
use crate::{
    broker::{Caller, FetchError, FetchRequest, parts::Parts},
    metadata::{AllocateProducerIds, Change},
    storage::sim::SimFault,
    types::{BrokerId, METADATA_GROUP, Offset, PartitionId, RaftGroupId},
};

/// Long enough for a transfer to begin, and shorter than it waits for a voter to catch up.
const SHORT: Duration = Duration::from_millis(50);

fn parts(cluster: &Cluster, id: u64) -> Arc<Parts> {
    Arc::clone(&cluster.nodes[&id].broker.parts)
}

fn group(cluster: &Cluster, id: u64, topic: &str, partition: usize) -> RaftGroupId {
    let metadata = parts(cluster, id).node.metadata().unwrap();
    metadata.read(|state| state.topic(topic).unwrap().partitions[partition].group)
}

async fn leader_of(cluster: &Cluster, id: u64, group: RaftGroupId) -> u64 {
    let raft = &parts(cluster, id).node.raft;
    until("a leader is known", || async { raft.leader_of(group).is_some() }).await;
    raft.leader_of(group).unwrap().broker.0
}

/// SAFETY M18: a handler is dropped when its client hangs up. What it paused would refuse writes for ever;
/// of the metadata group: every change of the cluster, and every committed offset.
#[tokio::test(flavor = "multi_thread")]
async fn transfers_that_are_cancelled_leave_partitions_and_metadata_writable() {
    let cluster = Cluster::start(3, 71).await;
    cluster.create("t", 1).await;
    cluster.produce("t", 0).await;
    let mut sequence = 1;
    for group in [group(&cluster, 1, "t", 0), METADATA_GROUP] {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let leader = leader_of(&cluster, 1, group).await;
            let (slow, parts) = (leader % 3 + 1, parts(&cluster, leader));
            until("the voter is alive", || async { parts.node.is_alive(BrokerId(slow)) }).await;
            // It answers and acknowledges nothing new, until it says that its disk stalls. From then on it is
            // refused at once, and on a slow machine this is to be tried again.
            cluster.disks[&slow].plant(SimFault::StallsCommits);
            write(&cluster, leader, sequence).await;
            sequence += 1;
            let ended = timeout(SHORT, parts.transfers.transfer_here(group, Some(BrokerId(slow)), PATIENCE)).await;
            cluster.disks[&slow].heal();
            if ended.is_err() {
                break;
            }
            assert!(Instant::now() < deadline, "no transfer could be cancelled: {ended:?}");
        }
        write(&cluster, 1, sequence).await;
        sequence += 1;
    }
}

/// One more entry of the partition, and one of the metadata through this broker.
async fn write(cluster: &Cluster, through: u64, sequence: i32) {
    cluster.produce("t", sequence).await;
    let parts = parts(cluster, through);
    let change = Change::AllocateProducerIds(AllocateProducerIds { broker: parts.node.me() });
    assert!(parts.metadata.change(change, PATIENCE).await.is_ok(), "the metadata takes changes");
}

/// SAFETY M7: it cannot know whether others lead and have more by now.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_does_not_go_on_saying_that_there_is_nothing_new() {
    let cluster = Cluster::start(3, 72).await;
    cluster.create("t", 1).await;
    cluster.produce("t", 0).await;
    let leader = cluster.led_by("t").await;
    let broker = cluster.broker(leader);
    let fetch = |wait| {
        let topic = "t".into();
        let (partition, offset) = (PartitionId(0), Offset(1));
        broker.fetch(
            &Caller::ANONYMOUS,
            FetchRequest { topic, topic_id: None, partition, offset, bytes_max: 1_000, wait },
        )
    };
    assert!(fetch(Duration::ZERO).await.unwrap().batches.is_empty());
    cluster.cuts.isolate(leader, 1..=3);
    let ended = timeout(PATIENCE, fetch(PATIENCE * 2)).await.expect("a long poll ends when that is noticed");
    assert!(matches!(ended, Err(FetchError::NotLeader { leader: None, .. })), "{ended:?}");
    let ended = fetch(Duration::ZERO).await;
    assert!(matches!(ended, Err(FetchError::NotLeader { .. })), "{ended:?}");
}

/// Nobody else would notice: it neither votes nor acknowledges, and looks far behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_core_has_stopped_is_opened_again() {
    let cluster = Cluster::start(3, 73).await;
    cluster.create("t", 1).await;
    cluster.produce("t", 0).await;
    let group = group(&cluster, 1, "t", 0);
    for id in 1..=3 {
        parts(&cluster, id).replicas.hosted_group(group).unwrap().group.break_core().await;
    }
    let receipt = cluster.produce("t", 1).await;
    assert_eq!(receipt.base_offset, Offset(1));
    for id in 1..=3 {
        let parts = parts(&cluster, id);
        until("all have caught up", || async {
            parts.replicas.hosted_group(group).is_some_and(|hosted| hosted.bounds().high_watermark == Offset(2))
        })
        .await;
        assert!(parts.replicas.stopped().is_empty(), "and it is no problem any more");
    }
}

/// As many as one process with three brokers carries on a busy machine.
const PARTITIONS: i32 = 16;
const STALL: Duration = Duration::from_secs(8);

/// SAFETY M14, M16: commits need only the other disks, so it would go on as leader with a queue that grows.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_whose_disk_stalls_gives_all_its_leaderships_away_and_comes_back() {
    let mut cluster = Cluster::unstarted(3, 74).await;
    // As in production: a busy machine elects nobody for no reason.
    cluster.elections = [1_500, 3_000].map(Duration::from_millis);
    cluster.run_all().await;
    cluster.create("t", PARTITIONS as u32).await;
    let groups: Vec<RaftGroupId> = (0..PARTITIONS as usize).map(|i| group(&cluster, 1, "t", i)).collect();
    for group in &groups {
        let leader = leader_of(&cluster, 1, *group).await;
        if leader != 1 {
            let moved = parts(&cluster, leader).transfers.transfer_here(*group, Some(BrokerId(1)), PATIENCE).await;
            assert_eq!(moved.expect("all are alive").broker, BrokerId(1));
        }
    }
    let produce = async |id: u64, partition: i32, sequence: i32| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let broker = cluster.broker(leader_of(&cluster, id, groups[partition as usize]).await);
            match try_produce_to(&broker, "t", PartitionId(partition), sequence).await {
                Ok(receipt) => return receipt,
                Err(error) => assert!(error.is_retriable() && Instant::now() < deadline, "{partition}: {error:?}"),
            }
        }
    };
    for partition in 0..PARTITIONS {
        produce(1, partition, 0).await;
    }
    let began = Instant::now();
    cluster.disks[&1].plant(SimFault::StallsCommits);
    let raft = &parts(&cluster, 2).node.raft;
    let led_by_others = || groups.iter().filter(|group| raft.leader_of(**group).unwrap().broker.0 != 1).count();
    let mut sequence = 1;
    until("others lead all of them", || async { led_by_others() == groups.len() }).await;
    println!("others lead after {:?}", began.elapsed());
    assert!(began.elapsed() < STALL, "they wait for its disk");
    while began.elapsed() < STALL {
        for partition in 0..4 {
            produce(2, partition, sequence).await;
        }
        sequence += 1;
    }
    assert!(parts(&cluster, 1).node.raft.is_stalled() && !raft.peer_alive(BrokerId(1)));
    cluster.disks[&1].heal();
    until("it counts as alive again", || async { raft.peer_alive(BrokerId(1)) }).await;
    for (partition, group) in (0..).zip(&groups) {
        let next = if partition < 4 { sequence } else { 1 };
        let receipt = produce(2, partition, next).await;
        let parts = parts(&cluster, 1);
        until("its replicas follow", || async {
            let hosted = parts.replicas.hosted_group(*group).unwrap();
            hosted.bounds().high_watermark.0 > receipt.base_offset.0
        })
        .await;
    }
}

/// A shutdown does not wait for a disk that hangs.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_stops_in_time_although_its_disk_hangs() {
    let cluster = Cluster::start(3, 75).await;
    cluster.create("t", 4).await;
    cluster.produce("t", 0).await;
    let leader = cluster.led_by("t").await;
    cluster.disks[&leader].plant(SimFault::StallsCommits);
    let broker = cluster.broker(leader);
    let _ = timeout(SHORT, try_produce(&broker, "t", 1)).await;
    timeout(Duration::from_secs(15), broker.shutdown()).await.expect("its own bounds hold");
}

/// Each runs in a runtime of its own, which says what is left in it.
#[tokio::test]
async fn brokers_that_stop_leave_no_task_behind() {
    let mut cluster = Cluster::start(3, 76).await;
    cluster.create("t", 4).await;
    cluster.produce("t", 0).await;
    for id in 1..=3 {
        cluster.end(id).await;
    }
}
