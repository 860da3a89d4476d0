//! Who may trim by time (SAFETY M4), and segments' limits on all replicas.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use super::rig::{Cluster, until};
use crate::{
    broker::{AlterTopicRequest, Broker, Caller, CreateTopicRequest, TransferLeaderRequest, upkeep::retention},
    partition::SegmentLimits,
    types::{BrokerId, Offset, PartitionId},
};

const HOUR_MS: i64 = 3_600_000;

/// A topic whose records carry the leader's append time and are kept for half an hour.
async fn half_an_hour(cluster: &Cluster) {
    let configs = [("retention.ms", "1800000"), ("message.timestamp.type", "LogAppendTime")];
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

async fn lead(cluster: &Cluster, to: u64) -> Broker {
    let partition = Some(("t".to_string(), PartitionId(0)));
    let request = TransferLeaderRequest { partition, to: Some(BrokerId(to)), timeout: Duration::from_secs(5) };
    until(&format!("{to} leads"), || async {
        let _ = cluster.any().transfer_leader(&Caller::ANONYMOUS, request.clone()).await;
        cluster.leader("t").await == Some(to)
    })
    .await;
    let broker = cluster.broker(to);
    until("it is ready", || async { broker.parts.replicas.hosted()[0].is_ready() }).await;
    broker
}

fn log_start(broker: &Broker) -> Offset {
    broker.parts.replicas.hosted()[0].bounds().log_start
}

fn ahead(cluster: &Cluster, id: u64, ms: i64) {
    cluster.worlds[&id].ahead_ms.store(ms, Relaxed);
}

#[tokio::test]
async fn m4_a_leader_whose_clock_jumps_an_hour_trims_nothing() {
    let cluster = Cluster::start(3, 1_300).await;
    half_an_hour(&cluster).await;
    for sequence in 0..20 {
        cluster.produce("t", sequence).await;
    }
    let id = cluster.led_by("t").await;
    let leader = cluster.broker(id);
    ahead(&cluster, id, HOUR_MS);
    retention::round(&leader.parts.retention).await;
    assert!(leader.parts.views.clock_view.borrow().is_off());
    let health = leader.health(&Caller::ANONYMOUS).await;
    assert!(health.problems.iter().any(|p| p.contains("clock is 3") && p.contains("ahead of")), "{health:?}");
    let text = cluster.nodes[&id].metrics.encode();
    let skew = text.lines().find_map(|line| line.strip_prefix("flotilla_clock_ahead_seconds ")?.parse::<f64>().ok());
    assert!(skew.is_some_and(|skew| (3_590.0..3_610.0).contains(&skew)), "{skew:?}");
    assert_eq!(log_start(&leader), Offset(0));
    // What it appends meanwhile carries its time, and is not kept the less for it.
    cluster.produce("t", 20).await;
    ahead(&cluster, id, 0);
    retention::round(&leader.parts.retention).await;
    assert!(leader.parts.views.clock_view.borrow().agrees());
    assert_eq!(log_start(&leader), Offset(0));
    // An hour later by all clocks they are too old.
    for id in 1..=3 {
        ahead(&cluster, id, 2 * HOUR_MS);
    }
    retention::round(&leader.parts.retention).await;
    assert_eq!(log_start(&leader), Offset(21));
}

#[tokio::test]
async fn m4_a_lagging_replica_that_leads_with_a_jumped_clock_wipes_nothing() {
    let mut cluster = Cluster::start(3, 1_400).await;
    half_an_hour(&cluster).await;
    cluster.produce("t", 0).await;
    let late = cluster.led_by("t").await % 3 + 1;
    cluster.kill(late, 6);
    for sequence in 1..60 {
        cluster.produce("t", sequence).await;
    }
    ahead(&cluster, late, HOUR_MS);
    cluster.run(late).await;
    cluster.wait_ready(late).await;
    let leader = lead(&cluster, late).await;
    retention::round(&leader.parts.retention).await;
    assert_eq!(log_start(&leader), Offset(0));
    let all: Vec<(i64, i32)> = (0..60).map(|n| (i64::from(n), n)).collect();
    assert_eq!(cluster.read_all("t").await, all);
    // Its clock is right again: still nothing is too old.
    ahead(&cluster, late, 0);
    retention::round(&leader.parts.retention).await;
    assert_eq!(log_start(&leader), Offset(0));
    // With one peer gone there are two clocks, and no telling which of them is wrong.
    let gone = late % 3 + 1;
    cluster.kill(gone, 7);
    ahead(&cluster, late, HOUR_MS);
    retention::round(&leader.parts.retention).await;
    assert_eq!(log_start(&leader), Offset(0));
    ahead(&cluster, gone % 3 + 1, HOUR_MS);
    until("both are an hour later, and it is trimmed", || async {
        retention::round(&leader.parts.retention).await;
        log_start(&leader) == Offset(60)
    })
    .await;
}

/// The limits are part of the replicated state: replicas close segments at the same entries.
#[tokio::test]
async fn segments_of_a_topic_change_on_every_replica_by_an_entry() {
    let mut cluster = Cluster::start(3, 1_500).await;
    cluster.create("t", 1).await;
    cluster.produce("t", 0).await;
    let set = [("segment.bytes", "1048576"), ("segment.ms", "5")];
    let set = set.map(|(key, value)| (key.to_string(), value.to_string())).into();
    let alter = AlterTopicRequest { name: "t".into(), set, ..AlterTopicRequest::default() };
    cluster.any().alter_topic(&Caller::ANONYMOUS, alter).await.unwrap();
    let wanted = SegmentLimits { bytes: 1 << 20, ms: 1_000 };
    let has = |broker: &Broker| broker.parts.replicas.hosted()[0].group.read(|state| state.segment_limits()) == wanted;
    let leader = cluster.led_by("t").await;
    let asked = cluster.broker(leader);
    until("the leader has heard of it", || async {
        retention::round(&asked.parts.retention).await;
        has(&asked)
    })
    .await;
    for id in 1..=3 {
        let broker = cluster.broker(id);
        until("every replica has it", || async { has(&broker) }).await;
    }
    cluster.kill(leader, 9);
    cluster.produce("t", 1).await;
    let next = cluster.led_by("t").await;
    assert!(next != leader && has(&cluster.broker(next)));
    // The first round trims: these records are from 1970. After it nothing is left to say.
    let last = || cluster.broker(next).parts.replicas.hosted()[0].group.log().last();
    retention::round(&cluster.broker(next).parts.retention).await;
    let before = last();
    retention::round(&cluster.broker(next).parts.retention).await;
    assert_eq!(last(), before);
}
