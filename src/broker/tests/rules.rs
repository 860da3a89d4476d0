//! Safety rules end to end. Each test was seen to fail with the rule's lines taken out.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use tokio::time::timeout;

use super::rig::{Cluster, PATIENCE, read, read_all, until};
use crate::{
    broker::{
        Broker, Caller, CreateTopicRequest, FetchError, FetchRequest, OffsetAt, TransferLeaderRequest, TrimRequest,
        upkeep::retention,
    },
    types::{BrokerId, LogIndex, Offset, PartitionId},
};

const ONE: PartitionId = PartitionId(0);

fn fetch_at(offset: i64, wait: Duration) -> FetchRequest {
    FetchRequest { topic: "t".into(), topic_id: None, partition: ONE, offset: Offset(offset), bytes_max: 0, wait }
}

/// The only partition's replica on a broker.
pub(super) fn purged(broker: &Broker) -> Option<LogIndex> {
    broker.parts.replicas.hosted()[0].group.log().purged().map(|at| at.index)
}

/// One partition whose segments end after a second, by the leader's clock.
pub(super) async fn create_with_short_segments(cluster: &Cluster) {
    let configs = [("segment.ms", "1000"), ("retention.ms", "-1")];
    let request = CreateTopicRequest {
        name: "t".into(),
        partitions: Some(1),
        replication_factor: Some(3),
        configs: configs.map(|(key, value)| (key.to_string(), value.to_string())).into(),
        wait: true,
        ..CreateTopicRequest::default()
    };
    cluster.any().create_topic(&Caller::ANONYMOUS, request).await.unwrap();
}

/// All clocks go on together, so that the open segment's time is over.
pub(super) fn two_seconds_later(cluster: &Cluster) {
    for world in cluster.worlds.values() {
        world.ahead_ms.fetch_add(2_000, Relaxed);
    }
}

pub(super) async fn lead(cluster: &Cluster, to: u64) {
    let partition = Some(("t".to_string(), ONE));
    let request = TransferLeaderRequest { partition, to: Some(BrokerId(to)), timeout: Duration::from_secs(5) };
    until(&format!("{to} leads"), || async {
        let _ = cluster.any().transfer_leader(&Caller::ANONYMOUS, request.clone()).await;
        cluster.leader("t").await == Some(to) && cluster.broker(to).parts.replicas.hosted()[0].is_ready()
    })
    .await;
}

/// The leader's next look proposes what the topic says.
pub(super) async fn shorten_segments(leader: &Broker) {
    until("its segments end after a second", || async {
        retention::round(&leader.parts.retention).await;
        leader.parts.replicas.hosted()[0].group.read(|state| state.segment_limits().ms) == 1_000
    })
    .await;
}

/// SAFETY M5 end to end: the log is purged up to a checkpoint, a node that missed it all is given that
/// checkpoint as its snapshot and the rest as entries, and after a restart leads with every retained record and
/// all that it must know of producers.
#[tokio::test]
async fn m5_a_node_behind_the_purge_starts_from_the_checkpoint_and_leads_with_all_that_is_retained() {
    let mut cluster = Cluster::start(3, 720).await;
    create_with_short_segments(&cluster).await;
    let mut sequence = 0;
    cluster.produce("t", sequence).await;
    let first = cluster.broker(cluster.led_by("t").await);
    shorten_segments(&first).await;
    let late = cluster.led_by("t").await % 3 + 1;
    cluster.kill(late, 6);
    for _ in 0..6 {
        two_seconds_later(&cluster);
        for _ in 0..10 {
            sequence += 1;
            cluster.produce("t", sequence).await;
        }
    }
    let leader = cluster.broker(cluster.led_by("t").await);
    let last_index = leader.parts.replicas.hosted()[0].group.log().last().unwrap().index;
    let trim = TrimRequest { topic: "t".into(), partition: ONE, before: Some(Offset(45)), dry_run: false };
    assert_eq!(cluster.any().trim_partition(&Caller::ANONYMOUS, trim).await, Ok(Offset(45)));
    until("the log is purged below the log start", || async { purged(&leader).is_some() }).await;
    // Several segments lie below 45, and some records between the purge point and the log start.
    let point = purged(&leader).unwrap();
    assert!(point.0 > 10 && point < last_index, "purged to {point} of {last_index}");

    cluster.run(late).await;
    cluster.wait_ready(late).await;
    let returned = cluster.broker(late);
    let end = Offset(i64::from(sequence) + 1);
    until("the returned node has all of it", || async {
        let hosted = returned.parts.replicas.hosted();
        hosted.first().is_some_and(|hosted| hosted.bounds().high_watermark == end)
    })
    .await;
    assert_eq!(purged(&returned), Some(point), "it was given the checkpoint, not the entries below it");
    // The rest came as entries: nothing that is retained was skipped.
    let (next, end_of_it) = (LogIndex(point.0 + 1), LogIndex(point.0 + 2));
    let first_kept = returned.parts.replicas.hosted()[0].group.log().read(next, end_of_it, 1).await;
    assert_eq!(first_kept.unwrap().len(), 1, "the entry behind the checkpoint is in its log");
    cluster.kill(late, 7);
    cluster.run(late).await;
    cluster.wait_ready(late).await;
    lead(&cluster, late).await;
    let retained: Vec<(i64, i32)> = (45..=sequence).map(|n| (i64::from(n), n)).collect();
    assert_eq!(read_all(&cluster.broker(late), "t", 45).await, retained);
    let retried = cluster.produce("t", sequence).await;
    assert!(retried.duplicate, "what the producer has sent came with the checkpoint: {retried:?}");
    assert_eq!(cluster.produce("t", sequence + 1).await.base_offset, end);
}

/// SAFETY B7: what a leader that is cut off does not have, another one may.
#[tokio::test]
async fn b7_a_leader_that_is_cut_off_calls_no_offset_out_of_range() {
    let cluster = Cluster::start(3, 730).await;
    cluster.create("t", 1).await;
    for sequence in 0..3 {
        cluster.produce("t", sequence).await;
    }
    let id = cluster.led_by("t").await;
    let leader = cluster.broker(id);
    cluster.cuts.isolate(id, 1..=3);
    // At once, while it still has its lease, and later.
    for _ in 0..3 {
        let beyond = timeout(PATIENCE, leader.fetch(&Caller::ANONYMOUS, fetch_at(4, Duration::ZERO)))
            .await
            .expect("an answer in time");
        let error = beyond.expect_err("there is no such record");
        assert!(!matches!(error, FetchError::OffsetOutOfRange { .. }), "{error:?}");
        // The end of the log is as little known as what lies beyond.
        let latest = timeout(PATIENCE, leader.find_offset(&Caller::ANONYMOUS, read(None), OffsetAt::Latest))
            .await
            .expect("in time");
        assert!(latest.is_err(), "{latest:?}");
    }
    let below = leader.fetch(&Caller::ANONYMOUS, fetch_at(2, Duration::ZERO)).await;
    assert!(below.is_ok(), "what is committed stays true: {below:?}");
    cluster.cuts.mend();
    until("it is in range, or known to be out of it", || async {
        let now = cluster.leader("t").await;
        let Some(now) = now.map(|id| cluster.broker(id)) else { return false };
        matches!(
            now.fetch(&Caller::ANONYMOUS, fetch_at(4, Duration::ZERO)).await,
            Err(FetchError::OffsetOutOfRange { .. })
        )
    })
    .await;
}

/// SAFETY M13: leaderships are handed over, not left to elections: when the stop is done, others lead already.
#[tokio::test]
async fn m13_a_stopped_broker_was_replaced_before_it_ended() {
    let mut cluster = Cluster::start(3, 740).await;
    cluster.create("t", 6).await;
    cluster.produce("t", 0).await;
    let stopping = cluster.led_by("t").await;
    let broker = cluster.broker(stopping);
    let led = || broker.parts.replicas.hosted().into_iter().filter(|hosted| hosted.is_ready()).collect::<Vec<_>>();
    until("it leads some partitions", || async { !led().is_empty() }).await;
    let groups: Vec<_> = led().iter().map(|hosted| hosted.group.id()).collect();
    timeout(PATIENCE, broker.shutdown()).await.expect("a stop is bounded");
    let other = cluster.broker(stopping % 3 + 1);
    for group in &groups {
        let leader = other.parts.node.raft.leader_of(*group).map(|leader| leader.broker.0);
        assert!(leader.is_some_and(|leader| leader != stopping), "group {group} still has leader {leader:?}");
    }
    let text = cluster.nodes[&stopping].metrics.encode();
    let handed = text.lines().find_map(|line| line.strip_prefix("flotilla_raft_transfers_total{result=\"moved\"} "));
    let handed: usize = handed.and_then(|count| count.parse().ok()).unwrap_or(0);
    assert!(handed >= groups.len(), "{handed} of {} were handed over", groups.len());
    cluster.kill(stopping, 5);
    assert_eq!(cluster.produce("t", 1).await.base_offset, Offset(1));
}
