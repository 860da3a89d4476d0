//! What an operator asks of a cluster of which a broker is away.

use std::{collections::BTreeSet, sync::atomic::Ordering::Relaxed, time::Duration};

use tokio::time::Instant;

use super::rig::{Cluster, until};
use crate::{
    broker::{
        AddPartitionsRequest, AdminError, Broker, Caller, CreateTopicRequest, LeaderNow, TopicDescription,
        TopicsWanted, TransferLeaderRequest,
    },
    types::{BrokerId, Offset, PartitionId},
};

/// What "at once" may take on a loaded machine; the requests below are given a minute.
const AT_ONCE: Duration = Duration::from_secs(5);

async fn transfer(broker: &Broker, partition: Option<(&str, i32)>, to: u64) -> Result<LeaderNow, AdminError> {
    let began = Instant::now();
    let partition = partition.map(|(topic, number)| (topic.to_string(), PartitionId(number)));
    let timeout = Duration::from_secs(60);
    let result = broker
        .transfer_leader(&Caller::ANONYMOUS, TransferLeaderRequest { partition, to: Some(BrokerId(to)), timeout })
        .await;
    assert!(began.elapsed() < AT_ONCE, "{:?}: {result:?}", began.elapsed());
    result
}

async fn until_dead(cluster: &Cluster, id: u64) {
    for broker in cluster.nodes.values().map(|node| node.broker.clone()) {
        until(&format!("broker {id} is seen dead"), || async {
            let view = broker.cluster_view(&Caller::ANONYMOUS, TopicsWanted::None).await;
            view.brokers.iter().any(|broker| broker.id.0 == id && !broker.alive)
        })
        .await;
    }
}

fn wish(name: &str, partitions: u32, replication_factor: u32) -> CreateTopicRequest {
    CreateTopicRequest {
        name: name.into(),
        partitions: Some(partitions),
        replication_factor: Some(replication_factor),
        wait: true,
        ..CreateTopicRequest::default()
    }
}

/// Seen once: it took the whole timeout, and then said "cannot connect".
#[tokio::test]
async fn p8_a_transfer_to_who_cannot_lead_is_refused_at_once_by_name() {
    let mut cluster = Cluster::start(4, 8_100).await;
    cluster.create("t", 1).await;
    let description = cluster.any().describe_topic(&Caller::ANONYMOUS, "t").await.unwrap();
    let replicas: BTreeSet<u64> = description.partitions[0].replicas.iter().map(|broker| broker.0).collect();
    let outsider = (1..=4).find(|id| !replicas.contains(id)).unwrap();
    let refused = transfer(&cluster.any(), Some(("t", 0)), outsider).await.unwrap_err();
    assert!(
        matches!(&refused, AdminError::InvalidRequest { detail } if detail.contains(&outsider.to_string())),
        "{refused}"
    );
    let refused = transfer(&cluster.any(), Some(("t", 7)), 1).await.unwrap_err();
    assert!(matches!(refused, AdminError::UnknownPartition { partition: PartitionId(7), .. }), "{refused}");
    assert!(!refused.is_retriable(), "the metadata leader has confirmed it");

    let leader = cluster.led_by("t").await;
    let follower = *replicas.iter().find(|id| **id != leader).unwrap();
    cluster.kill(follower, 1);
    until_dead(&cluster, follower).await;
    for broker in cluster.nodes.values().map(|node| node.broker.clone()) {
        let refused = transfer(&broker, Some(("t", 0)), follower).await.unwrap_err();
        let says = |detail: &str| detail.contains(&format!("broker {follower} does not answer"));
        assert!(matches!(&refused, AdminError::InvalidRequest { detail } if says(detail)), "{refused}");
    }
    let now = cluster.produce("t", 0).await;
    assert_eq!(now.base_offset, Offset(0), "the leader goes on");
    // Also of one that led when it was last heard: that was taken for success.
    cluster.create("u", 1).await;
    let leader = cluster.led_by("u").await;
    cluster.kill(leader, 2);
    until_dead(&cluster, leader).await;
    let refused = transfer(&cluster.any(), Some(("u", 0)), leader).await.unwrap_err();
    assert!(matches!(refused, AdminError::InvalidRequest { .. }), "{refused}");
}

#[tokio::test]
async fn p8_a_transfer_by_name_ends_well_only_if_that_broker_leads() {
    let cluster = Cluster::start(3, 8_200).await;
    cluster.create("t", 1).await;
    for round in 0..6 {
        let to = round % 3 + 1;
        for partition in [Some(("t", 0)), None] {
            // It may come before the broker has caught up; what ends well has come about.
            until(&format!("broker {to} leads {partition:?}"), || async {
                match transfer(&cluster.any(), partition, to).await {
                    Ok(moved) => moved.broker == BrokerId(to) || panic!("it ended well: {moved:?}, not {to}"),
                    // On a loaded machine a broker may be silent for a second.
                    Err(error) if error.to_string().contains("does not answer") => false,
                    Err(error) => !error.is_retriable() && panic!("{error}"),
                }
            })
            .await;
        }
    }
}

/// As any broker has heard.
async fn leader_of(cluster: &Cluster, partition: Option<(&str, i32)>) -> u64 {
    let view = || async {
        let wanted = partition.map_or(TopicsWanted::None, |(topic, _)| TopicsWanted::Named(vec![topic.into()]));
        let view = cluster.any().cluster_view(&Caller::ANONYMOUS, wanted).await;
        let of_topic = view.topics.first().and_then(|topic| topic.partitions[0].leader);
        if partition.is_some() { of_topic } else { view.metadata_leader }
    };
    until("a leader", || async { view().await.is_some() }).await;
    view().await.expect("just now").broker.0
}

/// While a broker that led is not known to be frozen, others take it for the leader.
#[tokio::test]
async fn p8_a_transfer_to_a_leader_that_is_frozen_is_no_success() {
    let cluster = Cluster::start(3, 8_250).await;
    cluster.create("t", 1).await;
    for partition in [Some(("t", 0)), None] {
        let leader = leader_of(&cluster, partition).await;
        let asked = cluster.broker(leader % 3 + 1);
        until("it is known", || async { transfer(&asked, partition, leader).await.is_ok() }).await;
        let frozen = cluster.freeze(leader);
        let refused = transfer(&asked, partition, leader).await.expect_err("it says nothing");
        assert!(refused.to_string().contains(&format!("broker {leader}")), "{refused}");
        drop(frozen);
        cluster.wait_ready(leader).await;
    }
}

/// Seen once: a topic of three replicas got one on a broker known to be dead, and no word.
#[tokio::test]
async fn replicas_go_to_live_brokers_and_a_note_says_where_there_are_too_few() {
    let mut cluster = Cluster::start(4, 8_300).await;
    cluster.kill(2, 1);
    until_dead(&cluster, 2).await;
    let dry = CreateTopicRequest { dry_run: true, ..wish("a", 4, 3) };
    for request in [dry, wish("a", 4, 3)] {
        let created = cluster.any().create_topic(&Caller::ANONYMOUS, request).await.unwrap();
        assert!(created.partitions.iter().all(|p| !p.replicas.contains(&BrokerId(2))), "{created:?}");
        assert_eq!(created.notes, Vec::<String>::new());
    }
    let more = AddPartitionsRequest { name: "a".into(), partitions: 8, dry_run: false };
    let grown = cluster.any().add_partitions(&Caller::ANONYMOUS, more).await.unwrap();
    assert!(grown.partitions.iter().all(|p| !p.replicas.contains(&BrokerId(2))), "{grown:?}");

    let created = cluster.any().create_topic(&Caller::ANONYMOUS, wish("b", 4, 4)).await.unwrap();
    assert!(created.notes.len() == 1 && created.notes[0].contains("4 new replicas stand on broker 2"), "{created:?}");
    assert!(
        created.partitions.iter().all(|p| p.replicas[0] != BrokerId(2)),
        "the dead are nobody's leaders: {created:?}"
    );
}

/// Seen once: "?" for every offset right after `create --wait`, and right after `create`.
#[tokio::test]
async fn r8_what_was_just_created_tells_its_numbers() {
    let cluster = Cluster::start(3, 8_400).await;
    for round in 0..5 {
        for wait in [true, false] {
            let name = format!("t-{round}-{wait}");
            let created = cluster
                .any()
                .create_topic(&Caller::ANONYMOUS, CreateTopicRequest { wait, ..wish(&name, 5, 3) })
                .await
                .unwrap();
            assert!(!wait || created.partitions.iter().all(|p| p.stats.is_some()), "{created:?}");
            let has_all = |topic: &TopicDescription| topic.partitions.iter().all(|p| p.stats.is_some());
            // Whoever is asked.
            for node in cluster.nodes.values() {
                if wait {
                    let described = node.broker.describe_topic(&Caller::ANONYMOUS, &name).await.unwrap();
                    assert!(has_all(&described), "{described:?}");
                } else {
                    // It waits for elections, but not for as long as they may take.
                    until("all leaders tell", || async {
                        has_all(&node.broker.describe_topic(&Caller::ANONYMOUS, &name).await.unwrap())
                    })
                    .await;
                }
            }
        }
    }
}

/// Time that stands still on every broker hangs nothing.
#[tokio::test]
async fn o11_a_clock_that_stands_still_hangs_nothing() {
    let mut cluster = Cluster::unstarted(3, 8_500).await;
    for world in cluster.worlds.values() {
        world.stopped_at_ms.store(1_700_000_000_000, Relaxed);
    }
    cluster.run_all().await;
    cluster.create("t", 1).await;
    for sequence in 0..20 {
        cluster.produce("t", sequence).await;
    }
    let leader = cluster.led_by("t").await;
    until("leadership moves", || async { transfer(&cluster.any(), Some(("t", 0)), leader % 3 + 1).await.is_ok() })
        .await;
    let leader = cluster.led_by("t").await;
    cluster.kill(leader, 1);
    for sequence in 20..40 {
        cluster.produce("t", sequence).await;
    }
    let values: Vec<(i64, i32)> = (0..40).map(|n| (i64::from(n), n)).collect();
    assert_eq!(cluster.read_all("t").await, values);
}
