//! The path of a record through three brokers, and what becomes of it when they crash.

use std::time::Duration;

use super::rig::{Cluster, PATIENCE, read, read_all, try_produce, until};
use crate::{
    broker::{
        AddPartitionsRequest, AdminError, AlterTopicRequest, BrokerFailed, Caller, CreateTopicRequest,
        DeleteTopicRequest, Effect, FetchError, FetchRequest, OffsetAt, ProduceError, Readiness, TopicsWanted,
        TransferLeaderRequest, TrimRequest,
    },
    metadata::Refusal,
    storage::SimDisk,
    types::{BrokerId, Offset, PartitionId, ProducerId, WallMs},
};

const ONE: PartitionId = PartitionId(0);

fn fetch_at(topic: &str, offset: i64, wait: Duration) -> FetchRequest {
    FetchRequest { topic: topic.into(), topic_id: None, partition: ONE, offset: Offset(offset), bytes_max: 0, wait }
}

#[tokio::test]
async fn a_record_is_on_a_majority_and_read_back_where_its_receipt_says() {
    let cluster = Cluster::start(3, 100).await;
    cluster.create("t", 2).await;
    for sequence in 0..100 {
        let receipt = cluster.produce("t", sequence).await;
        assert_eq!(receipt.base_offset, Offset(sequence.into()));
        assert!(receipt.durable_on.len() >= 2 && !receipt.duplicate, "{receipt:?}");
    }
    let retried = cluster.produce("t", 99).await;
    assert!(retried.duplicate && retried.base_offset == Offset(99));
    let values: Vec<(i64, i32)> = (0..100).map(|n| (i64::from(n), n)).collect();
    assert_eq!(cluster.read_all("t").await, values);

    let leader = cluster.broker(cluster.led_by("t").await);
    for (at, offset) in [
        (OffsetAt::Earliest, 0),
        (OffsetAt::Latest, 100),
        (OffsetAt::Time(WallMs(1_042)), 42),
        (OffsetAt::Time(WallMs(9_999)), 100),
    ] {
        assert_eq!(
            leader.find_offset(&Caller::ANONYMOUS, read(None), at).await.unwrap().offset,
            Offset(offset),
            "{at:?}"
        );
    }
    let description = cluster.any().describe_topic(&Caller::ANONYMOUS, "t").await.unwrap();
    assert_eq!(description.partitions[0].stats.unwrap().high_watermark, Offset(100));
    assert!(
        cluster.any().health(&Caller::ANONYMOUS).await.healthy,
        "{:?}",
        cluster.any().health(&Caller::ANONYMOUS).await
    );
}

#[tokio::test]
async fn b7_beyond_the_high_watermark_is_out_of_range_only_when_confirmed() {
    let cluster = Cluster::start(3, 200).await;
    cluster.create("t", 1).await;
    for sequence in 0..3 {
        cluster.produce("t", sequence).await;
    }
    let id = cluster.led_by("t").await;
    let leader = cluster.broker(id);
    let beyond = leader.fetch(&Caller::ANONYMOUS, fetch_at("t", 4, Duration::ZERO)).await;
    assert!(matches!(beyond, Err(FetchError::OffsetOutOfRange { high_watermark: Offset(3), .. })), "{beyond:?}");
    let other = cluster.broker(id % 3 + 1);
    for offset in [2, 3, 4] {
        let elsewhere = other.fetch(&Caller::ANONYMOUS, fetch_at("t", offset, Duration::ZERO)).await;
        let Err(FetchError::NotLeader { leader: Some(hint), .. }) = elsewhere else { panic!("{elsewhere:?}") };
        assert_eq!(hint.broker, BrokerId(id));
        let known = other.broker(hint.broker).expect("its registration has come here");
        assert_eq!(known.client_address, format!("client-{id}:7070"), "where one face reaches it");
    }
    // A long poll wakes with the next record, well before its own end.
    let poll = tokio::spawn({
        let leader = leader.clone();
        async move { leader.fetch(&Caller::ANONYMOUS, fetch_at("t", 3, PATIENCE * 2)).await }
    });
    cluster.produce("t", 3).await;
    let polled = tokio::time::timeout(PATIENCE, poll).await.unwrap().unwrap().unwrap();
    assert_eq!((polled.batches.len(), polled.next_offset), (1, Offset(4)));
}

#[tokio::test]
async fn acknowledged_records_survive_the_leaders_crash_once_and_in_order() {
    let mut cluster = Cluster::start(3, 300).await;
    cluster.create("t", 1).await;
    let mut sequence = 0;
    for round in 0..3 {
        for _ in 0..50 {
            let receipt = cluster.produce("t", sequence).await;
            assert_eq!(receipt.base_offset, Offset(sequence.into()));
            sequence += 1;
        }
        let leader = cluster.led_by("t").await;
        cluster.kill(leader, 1_000 + round);
        for _ in 0..50 {
            let receipt = cluster.produce("t", sequence).await;
            assert_eq!(receipt.base_offset, Offset(sequence.into()));
            assert!(!receipt.durable_on.contains(&BrokerId(leader)));
            sequence += 1;
        }
        cluster.run(leader).await;
        cluster.wait_ready(leader).await;
    }
    let values: Vec<(i64, i32)> = (0..sequence).map(|n| (i64::from(n), n)).collect();
    assert_eq!(cluster.read_all("t").await, values);
}

#[tokio::test]
async fn all_crash_at_once_and_nothing_acknowledged_is_missing() {
    let mut cluster = Cluster::start(3, 400).await;
    cluster.create("t", 1).await;
    for sequence in 0..50 {
        cluster.produce("t", sequence).await;
    }
    for id in 1..=3 {
        cluster.kill(id, 2_000 + id);
    }
    for id in [2, 3, 1] {
        cluster.run(id).await;
    }
    for id in 1..=3 {
        cluster.wait_ready(id).await;
    }
    let values: Vec<(i64, i32)> = (0..50).map(|n| (i64::from(n), n)).collect();
    assert_eq!(cluster.read_all("t").await, values);
    assert_eq!(cluster.produce("t", 50).await.base_offset, Offset(50));
}

#[tokio::test]
async fn b8_without_quorum_unknown_within_the_lease_then_not_enough_replicas() {
    let mut cluster = Cluster::start(3, 900).await;
    cluster.create("t", 1).await;
    cluster.produce("t", 0).await;
    let id = cluster.led_by("t").await;
    let leader = cluster.broker(id);
    for other in (1..=3).filter(|other| *other != id) {
        cluster.kill(other, 8);
    }
    let later = async {
        // The next ones too are accepted while the lease lasts; a retry of one would attach to it.
        for sequence in 2..6 {
            let result = try_produce(&leader, "t", sequence).await;
            match result {
                Err(ProduceError::OutcomeUnknown { .. }) => {}
                Err(error @ ProduceError::NotEnoughReplicas { .. }) => return error,
                other => panic!("{other:?}"),
            }
        }
        panic!("the lease is not gone");
    };
    let (accepted, refused) = tokio::join!(try_produce(&leader, "t", 1), later);
    assert!(matches!(accepted, Err(ProduceError::OutcomeUnknown { .. })), "{accepted:?}");
    assert_eq!(refused.effect(), Effect::None);
    for other in (1..=3).filter(|other| *other != id) {
        cluster.run(other).await;
    }
    // The retries of an idempotent producer: each is there once, in order.
    for sequence in 1..8 {
        assert_eq!(cluster.produce("t", sequence).await.base_offset, Offset(sequence.into()));
    }
    assert_eq!(cluster.read_all("t").await, (0..8).map(|n| (i64::from(n), n)).collect::<Vec<_>>());
}

#[tokio::test]
async fn transfers_under_a_pipelined_load_lose_and_duplicate_nothing() {
    let cluster = Cluster::start(3, 1_000).await;
    cluster.create("t", 1).await;
    let (mut sequence, window) = (0, 5);
    for round in 0..30 {
        // Five in flight, as an idempotent client has; on failure it sends all of them again, in order.
        let mut acked = 0;
        while acked < window {
            let Some(leader) = cluster.leader("t").await else { continue };
            let leader = cluster.broker(leader);
            let sent = (acked..window).map(|n| try_produce(&leader, "t", sequence + n));
            let results = futures_util::future::join_all(sent).await;
            let ok = results.iter().take_while(|result| result.is_ok()).count();
            for receipt in results.iter().flatten().take(ok) {
                assert_eq!(receipt.base_offset, Offset(i64::from(sequence + acked)));
                acked += 1;
            }
        }
        sequence += window;
        if round % 10 == 5 {
            let request = TransferLeaderRequest { partition: Some(("t".into(), ONE)), to: None, timeout: PATIENCE };
            let moved = tokio::spawn({
                let broker = cluster.any();
                async move { broker.transfer_leader(&Caller::ANONYMOUS, request).await }
            });
            for _ in 0..20 {
                assert_eq!(cluster.produce("t", sequence).await.base_offset, Offset(sequence.into()));
                sequence += 1;
            }
            moved.await.unwrap().unwrap();
        }
    }
    let values: Vec<(i64, i32)> = (0..sequence).map(|n| (i64::from(n), n)).collect();
    assert_eq!(cluster.read_all("t").await, values);
}

#[tokio::test]
async fn a_fourth_broker_learns_metadata_and_a_single_one_serves_alone() {
    let cluster = Cluster::start(4, 1_100).await;
    let view = cluster.broker(4).cluster_view(&Caller::ANONYMOUS, TopicsWanted::All).await;
    let voters: Vec<u64> = view.brokers.iter().filter(|broker| broker.metadata_voter).map(|b| b.id.0).collect();
    assert_eq!((view.brokers.len(), voters), (4, vec![1, 2, 3]));
    cluster
        .broker(4)
        .create_topic(&Caller::ANONYMOUS, CreateTopicRequest { name: "t".into(), wait: true, ..Default::default() })
        .await
        .unwrap();

    let alone = Cluster::start(1, 1_200).await;
    let request = CreateTopicRequest { name: "t".into(), wait: true, ..Default::default() };
    assert_eq!(
        alone.any().create_topic(&Caller::ANONYMOUS, request).await.unwrap().partitions[0].replicas,
        [BrokerId(1)]
    );
    assert_eq!(alone.produce("t", 0).await.durable_on, [BrokerId(1)]);
    assert_eq!(alone.read_all("t").await, [(0, 0)]);
}

#[tokio::test]
async fn b5_an_emptied_directory_neither_founds_nor_votes_nor_runs() {
    let mut cluster = Cluster::start(3, 500).await;
    cluster.create("t", 1).await;
    cluster.produce("t", 0).await;
    let view = cluster.any().cluster_view(&Caller::ANONYMOUS, TopicsWanted::None).await;
    cluster.kill(1, 3);
    cluster.disks.insert(1, SimDisk::new(77));
    cluster.run(1).await;
    let failed = tokio::time::timeout(PATIENCE, cluster.broker(1).failed()).await.unwrap();
    assert!(matches!(failed, BrokerFailed::StorageIdMismatch { broker: BrokerId(1), .. }), "{failed:?}");
    cluster.kill(1, 4);
    assert_eq!(cluster.produce("t", 1).await.base_offset, Offset(1));
    assert_eq!(cluster.any().cluster_view(&Caller::ANONYMOUS, TopicsWanted::None).await.cluster_id, view.cluster_id);
}

#[tokio::test]
async fn m13_a_stopping_broker_hands_its_leaderships_over() {
    let mut cluster = Cluster::start(3, 600).await;
    cluster.create("t", 1).await;
    cluster.produce("t", 0).await;
    let leader = cluster.led_by("t").await;
    cluster.broker(leader).shutdown().await;
    let stopped = try_produce(&cluster.broker(leader), "t", 1).await;
    assert!(matches!(stopped, Err(ProduceError::NotLeader { .. })), "{stopped:?}");
    cluster.kill(leader, 5);
    assert_eq!(cluster.produce("t", 1).await.base_offset, Offset(1));
    cluster.run(leader).await;
    cluster.wait_ready(leader).await;
}

#[tokio::test]
async fn a_node_that_was_down_through_a_trim_leads_with_all_retained_records() {
    let mut cluster = Cluster::start(3, 700).await;
    cluster.create("t", 1).await;
    let leader = cluster.led_by("t").await;
    let down = leader % 3 + 1;
    cluster.kill(down, 6);
    for sequence in 0..60 {
        cluster.produce("t", sequence).await;
    }
    let trim = |before, dry_run| TrimRequest { topic: "t".into(), partition: ONE, before, dry_run };
    assert_eq!(cluster.any().trim_partition(&Caller::ANONYMOUS, trim(Some(Offset(20)), true)).await, Ok(Offset(20)));
    assert_eq!(cluster.any().trim_partition(&Caller::ANONYMOUS, trim(Some(Offset(20)), false)).await, Ok(Offset(20)));
    let past = cluster.any().trim_partition(&Caller::ANONYMOUS, trim(Some(Offset(61)), false)).await;
    assert!(matches!(past, Err(AdminError::OffsetOutOfRange { .. })), "{past:?}");
    let old =
        cluster.broker(cluster.led_by("t").await).fetch(&Caller::ANONYMOUS, fetch_at("t", 19, Duration::ZERO)).await;
    assert!(matches!(old, Err(FetchError::OffsetOutOfRange { log_start: Offset(20), .. })), "{old:?}");

    cluster.run(down).await;
    cluster.wait_ready(down).await;
    let transfer = TransferLeaderRequest {
        partition: Some(("t".into(), ONE)),
        to: Some(BrokerId(down)),
        timeout: Duration::from_secs(5),
    };
    until("the returned node leads", || async {
        let moved = cluster.any().transfer_leader(&Caller::ANONYMOUS, transfer.clone()).await;
        moved.is_ok_and(|leader| leader.broker == BrokerId(down))
    })
    .await;
    until("it is ready", || async { cluster.leader("t").await == Some(down) }).await;
    let retained: Vec<(i64, i32)> = (20..60).map(|n| (i64::from(n), n)).collect();
    assert_eq!(read_all(&cluster.broker(down), "t", 20).await, retained);
    assert_eq!(cluster.produce("t", 60).await.base_offset, Offset(60));
}

#[tokio::test]
async fn topics_are_made_changed_and_deleted_from_any_broker() {
    let cluster = Cluster::start(3, 800).await;
    cluster.create("t", 1).await;
    cluster.produce("t", 0).await;
    for id in 1..=3 {
        let broker = cluster.broker(id);
        let again = broker
            .create_topic(&Caller::ANONYMOUS, CreateTopicRequest { name: "t".into(), ..Default::default() })
            .await;
        assert_eq!(again, Err(AdminError::TopicExists { topic: "t".into() }));
        let wrong = [("no.such.key".to_string(), "1".to_string())].into();
        let request = CreateTopicRequest { name: "u".into(), configs: wrong, dry_run: true, ..Default::default() };
        assert!(matches!(
            broker.create_topic(&Caller::ANONYMOUS, request).await,
            Err(AdminError::Refused(Refusal::InvalidConfig { .. }))
        ));
        let name = format!("made-by-{id}");
        let made = broker
            .create_topic(&Caller::ANONYMOUS, CreateTopicRequest { name: name.clone(), ..Default::default() })
            .await;
        assert_eq!(made.unwrap().partitions[0].replicas.len(), 3);
        let seen = cluster.broker(id % 3 + 1).describe_topic(&Caller::ANONYMOUS, &name).await;
        assert!(seen.is_ok(), "M9: another broker knows it: {seen:?}");
    }
    let set = [("max.message.bytes".to_string(), "100".to_string())].into();
    let alter = AlterTopicRequest { name: "t".into(), set, ..Default::default() };
    let configs = cluster.broker(2).alter_topic(&Caller::ANONYMOUS, alter).await.unwrap().configs;
    let entry = |key| configs.iter().find(|entry| entry.key == key).map(|e| (e.value.as_str(), e.is_default));
    assert_eq!(entry("max.message.bytes"), Some(("100", false)));
    assert_eq!(entry("min.insync.replicas").map(|(_, is_default)| is_default), Some(true), "who says it is told");
    let more = AddPartitionsRequest { name: "t".into(), partitions: 3, dry_run: false };
    assert_eq!(cluster.broker(3).add_partitions(&Caller::ANONYMOUS, more).await.unwrap().partitions.len(), 3);

    let ids: Vec<ProducerId> = [
        cluster.any().init_producer_id(&Caller::ANONYMOUS).await,
        cluster.broker(2).init_producer_id(&Caller::ANONYMOUS).await,
    ]
    .into_iter()
    .map(|identity| identity.unwrap().id)
    .collect();
    assert_ne!(ids[0], ids[1]);

    let delete = DeleteTopicRequest { name: "t".into(), ..DeleteTopicRequest::default() };
    assert_eq!(cluster.broker(1).delete_topic(&Caller::ANONYMOUS, delete.clone()).await.unwrap().partitions, 3);
    let gone = cluster.broker(1).delete_topic(&Caller::ANONYMOUS, delete).await;
    assert_eq!(gone, Err(AdminError::UnknownTopic { topic: "t".into() }));
    // M11: the namesake is another topic.
    cluster.create("t", 1).await;
    assert_eq!(cluster.read_all("t").await, []);
    assert_eq!(cluster.produce("t", 0).await.base_offset, Offset(0));
}

fn metric(cluster: &Cluster, id: u64, name: &str) -> f64 {
    let text = cluster.nodes[&id].metrics.encode();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// SAFETY M7. Two of three brokers are gone: the third must say in every way that it serves nothing, whether it
/// had led or followed.
#[tokio::test]
async fn m7_a_broker_without_a_majority_says_so_everywhere() {
    let mut cluster = Cluster::start(3, 710).await;
    cluster.create("t", 6).await;
    let all_led = || async {
        cluster
            .any()
            .describe_topic(&Caller::ANONYMOUS, "t")
            .await
            .unwrap()
            .partitions
            .iter()
            .all(|p| p.leader.is_some())
    };
    until("every partition has a leader", all_led).await;
    let healthy = |id| metric(&cluster, id, "flotilla_raft_groups_leaderless") == 0.0;
    until("no broker misses a leader", || async { (1..=3).all(healthy) }).await;
    let id = cluster.led_by("t").await;
    for other in (1..=3).filter(|other| *other != id) {
        cluster.kill(other, other);
    }
    // Six partitions and the metadata group.
    let leaderless = || async { metric(&cluster, id, "flotilla_raft_groups_leaderless") == 7.0 };
    until("every group is counted as leaderless", leaderless).await;
    assert!(metric(&cluster, id, "flotilla_raft_groups_without_majority") >= 1.0, "it led at least one");
    let readiness = cluster.broker(id).readiness();
    assert!(matches!(&readiness, Readiness::NotReady(why) if why.contains("metadata group")), "{readiness:?}");
    let health = cluster.broker(id).health(&Caller::ANONYMOUS).await;
    assert_eq!(health.partitions_without_leader, 6, "{health:?}");
    assert!(health.problems.iter().any(|problem| problem.contains("no majority answers")), "{health:?}");
    let described = cluster.broker(id).describe_topic(&Caller::ANONYMOUS, "t").await.unwrap();
    assert!(described.partitions.iter().all(|p| p.leader.is_none()), "{described:?}");
    let view = cluster.broker(id).cluster_view(&Caller::ANONYMOUS, TopicsWanted::None).await;
    assert_eq!(view.metadata_leader, None);
    let ids: Vec<u64> = (1..=3).filter(|other| *other != id).collect();
    for other in ids {
        cluster.run(other).await;
    }
    for id in 1..=3 {
        cluster.wait_ready(id).await;
    }
    until("all of them are led again", || async {
        (1..=3).all(|id| metric(&cluster, id, "flotilla_raft_groups_leaderless") == 0.0)
    })
    .await;
}
