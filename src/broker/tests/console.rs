//! What a console on any broker sees of the whole cluster.

use std::time::Duration;

use tokio::time::Instant;

use super::rig::{Cluster, PATIENCE, RESERVE_BYTES, until};
use crate::{
    broker::{BrowseFrom, BrowseRequest, Browsed, Caller, FetchError, TrimRequest, limits},
    metrics::KafkaClients,
    types::{BrokerId, Offset, PartitionId, WallMs},
};

fn browse(from: BrowseFrom) -> BrowseRequest {
    BrowseRequest { topic: "t".into(), partition: PartitionId(0), from, bytes_max: 1 << 20 }
}

/// From whoever leads, however often that changes.
async fn page(cluster: &Cluster, id: u64, from: BrowseFrom) -> Browsed {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let leader = cluster.led_by("t").await;
        match cluster.broker(id).browse(&Caller::ANONYMOUS, browse(from)).await {
            Ok(page) if page.leader == BrokerId(leader) => return page,
            other => assert!(Instant::now() < deadline, "broker {id}: {from:?}: {other:?}, and {leader} leads"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await; // A person's second look.
    }
}

#[tokio::test]
async fn every_broker_shows_a_partitions_records_wherever_it_is_led() {
    let cluster = Cluster::start(3, 700).await;
    cluster.create("t", 1).await;
    for sequence in 0..10 {
        cluster.produce("t", sequence).await;
    }
    for id in 1..=3 {
        let broker = cluster.broker(id);
        for (from, offset) in [
            (BrowseFrom::Start, 0),
            (BrowseFrom::Offset(Offset(7)), 7),
            (BrowseFrom::BeforeEnd(4), 6),
            (BrowseFrom::BeforeEnd(100), 0),
            (BrowseFrom::Time(WallMs(1_003)), 3),
        ] {
            let page = page(&cluster, id, from).await;
            assert_eq!(page.offset, Offset(offset), "broker {id}: {from:?}");
            let batches = page.fetched.batches.len() as i64;
            assert_eq!((batches, page.fetched.next_offset), (10 - offset, Offset(10)), "broker {id}: {from:?}");
        }
        let beyond = broker.browse(&Caller::ANONYMOUS, browse(BrowseFrom::Offset(Offset(11)))).await;
        assert!(matches!(beyond, Err(FetchError::OffsetOutOfRange { high_watermark: Offset(10), .. })), "{beyond:?}");
        let unknown = BrowseRequest { topic: "gone".into(), ..browse(BrowseFrom::Start) };
        assert!(matches!(broker.browse(&Caller::ANONYMOUS, unknown).await, Err(FetchError::UnknownTopic { .. })));
    }
}

/// A page from an offset that was looked up, and a trim is quicker than its read.
#[tokio::test]
async fn a_page_of_what_is_kept_begins_where_the_log_begins_by_then() {
    let cluster = Cluster::start(1, 750).await;
    cluster.create_on("t", 1, 1).await;
    for sequence in 0..5 {
        cluster.produce("t", sequence).await;
    }
    let broker = cluster.broker(1);
    let (topic, partition) = ("t".to_string(), PartitionId(0));
    let trim = TrimRequest { topic, partition, before: Some(Offset(3)), dry_run: false };
    broker.trim_partition(&Caller::ANONYMOUS, trim).await.unwrap();
    let consoles = &broker.parts.consoles;
    for from in [BrowseFrom::Start, BrowseFrom::BeforeEnd(5), BrowseFrom::Time(WallMs(1_001))] {
        let page = consoles.page_at(&browse(from), Offset(1)).await.expect("the rest is there");
        let found = (page.offset, page.fetched.batches.len(), page.fetched.next_offset);
        assert_eq!(found, (Offset(3), 2, Offset(5)), "{from:?}");
    }
    let named = consoles.page_at(&browse(BrowseFrom::Offset(Offset(1))), Offset(1)).await;
    assert!(matches!(named, Err(FetchError::OffsetOutOfRange { log_start: Offset(3), .. })), "{named:?}");
}

#[tokio::test]
async fn figures_come_from_living_brokers_and_a_missing_replica_is_counted() {
    let mut cluster = Cluster::start(3, 800).await;
    cluster.create("t", 1).await;
    cluster.produce("t", 0).await;
    for id in 1..=3 {
        let figures = cluster.broker(1).figures(&Caller::ANONYMOUS, BrokerId(id), true).await.expect("it lives");
        assert_eq!((figures.disk_free_bytes, figures.disk_reserve_bytes), (Some(1 << 40), RESERVE_BYTES));
    }
    let leader = cluster.led_by("t").await;
    let broker = cluster.broker(leader);
    let under_replicated = || {
        broker.parts.replicas.hosted().iter().filter(|hosted| hosted.is_under_replicated(&broker.parts.node)).count()
    };
    until("all replicas caught up", || async { under_replicated() == 0 }).await;
    let follower = leader % 3 + 1;
    cluster.kill(follower, 801);
    until("the missing replica is counted", || async { under_replicated() == 1 }).await;
    let figures = tokio::time::timeout(PATIENCE, broker.figures(&Caller::ANONYMOUS, BrokerId(follower), true)).await;
    assert_eq!(figures.expect("in time"), None);
}

#[tokio::test]
async fn every_broker_tells_the_kafka_clients_of_every_other() {
    let mut cluster = Cluster::start(3, 860).await;
    let probe = cluster.nodes[&2].metrics.kafka();
    let connection = probe.connection();
    connection.is_of("librdkafka 2.15.0");
    probe.request_began("Fetch", 12);
    for id in 1..=3 {
        let of = async |of| cluster.broker(id).kafka_clients(&Caller::ANONYMOUS, BrokerId(of)).await;
        let clients = of(2).await.expect("it lives");
        assert_eq!((clients.connections, clients.software), (1, vec![("librdkafka 2.15.0".to_string(), 1)]));
        assert_eq!(clients.requests, [("Fetch".to_string(), 12, 1)]);
        assert_eq!(of(1).await, Some(KafkaClients::default()));
    }
    cluster.kill(3, 861);
    let broker = cluster.broker(1);
    let silent = broker.kafka_clients(&Caller::ANONYMOUS, BrokerId(3));
    assert_eq!(tokio::time::timeout(PATIENCE, silent).await.expect("in time"), None);
}

#[tokio::test]
async fn only_so_many_pages_are_read_at_once() {
    let cluster = Cluster::start(1, 850).await;
    cluster.create_on("t", 1, 1).await;
    cluster.produce("t", 0).await;
    let broker = cluster.broker(1);
    let turns = &broker.parts.consoles.turns;
    let others = turns.acquire_many(limits::BROWSES_MAX as u32 - 1).await.unwrap();
    broker.browse(&Caller::ANONYMOUS, browse(BrowseFrom::Start)).await.expect("one turn is left");
    let last = turns.try_acquire().expect("it is given back");
    let refused = broker.browse(&Caller::ANONYMOUS, browse(BrowseFrom::Start)).await;
    assert!(matches!(&refused, Err(FetchError::Unavailable { reason }) if reason.contains("too many")), "{refused:?}");
    drop((others, last));
    broker.browse(&Caller::ANONYMOUS, browse(BrowseFrom::Start)).await.expect("there is room again");
}
