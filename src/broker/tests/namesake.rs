//! SAFETY M11 for those who read: a topic that was deleted and made anew is another topic.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use super::rig::{Cluster, PATIENCE, read, until};
use crate::{
    broker::{
        Broker, Caller, DeleteTopicRequest, FetchError, FetchRequest, Fetched, OffsetAt,
        groups::{CommitRequest, GroupError, OffsetToCommit},
    },
    storage::OpenLogError,
    types::{Offset, PartitionId, ReplicaId, TopicId, TopicPartition},
};

const ONE: PartitionId = PartitionId(0);

async fn fetch(broker: &Broker, of: TopicId, offset: i64, wait: Duration) -> Result<Fetched, FetchError> {
    let topic_id = Some(of);
    let offset = Offset(offset);
    broker
        .fetch(
            &Caller::ANONYMOUS,
            FetchRequest { topic: "t".into(), topic_id, partition: ONE, offset, bytes_max: 0, wait },
        )
        .await
}

async fn id_of(broker: &Broker) -> TopicId {
    broker.describe_topic(&Caller::ANONYMOUS, "t").await.unwrap().id
}

/// Deletes the topic and makes it anew with so many records. Its new id.
async fn replace(cluster: &Cluster, by: u64, records: i32) -> TopicId {
    let broker = cluster.broker(by);
    broker
        .delete_topic(&Caller::ANONYMOUS, DeleteTopicRequest { name: "t".into(), ..DeleteTopicRequest::default() })
        .await
        .unwrap();
    cluster.create("t", 1).await;
    for sequence in 0..records {
        cluster.produce("t", sequence).await;
    }
    id_of(&broker).await
}

#[tokio::test]
async fn m11_a_late_request_cannot_reach_the_namesake() {
    let cluster = Cluster::start(3, 8_100).await;
    cluster.create("t", 1).await;
    for sequence in 0..3 {
        cluster.produce("t", sequence).await;
    }
    let old = id_of(&cluster.any()).await;
    let leader = cluster.broker(cluster.led_by("t").await);
    let poll = tokio::spawn({
        let leader = leader.clone();
        async move { fetch(&leader, old, 3, PATIENCE * 2).await }
    });
    until("the old topic is read", || async { fetch(&leader, old, 0, Duration::ZERO).await.is_ok() }).await;
    let new = replace(&cluster, 1, 5).await;
    assert_ne!(old, new);

    let polled = tokio::time::timeout(PATIENCE, poll).await.expect("the long poll ends with its topic").unwrap();
    assert!(polled.is_err(), "{polled:?}");
    for id in 1..=3 {
        let broker = cluster.broker(id);
        let replaced = Err(FetchError::TopicReplaced { topic: "t".into(), meant: old, now: new });
        // Until it hears of it, a broker may read the old topic; never the new one.
        until("the broker says that the topic was replaced", || async {
            let found = fetch(&broker, old, 0, Duration::ZERO).await;
            assert!(found.as_ref().is_ok_and(|page| page.high_watermark == Offset(3)) || found.is_err(), "{found:?}");
            found == replaced
        })
        .await;
        for offset in [0, 3, 5, 9] {
            assert_eq!(fetch(&broker, old, offset, Duration::ZERO).await, replaced, "{id}");
        }
        for at in [OffsetAt::Earliest, OffsetAt::Latest] {
            let found = broker.find_offset(&Caller::ANONYMOUS, read(Some(old)), at).await;
            assert!(matches!(found, Err(FetchError::TopicReplaced { .. })), "{found:?}");
        }
    }
    let leader = cluster.broker(cluster.led_by("t").await);
    assert_eq!(fetch(&leader, new, 0, Duration::ZERO).await.unwrap().high_watermark, Offset(5));
    assert_eq!(
        leader.find_offset(&Caller::ANONYMOUS, read(Some(new)), OffsetAt::Latest).await.unwrap().offset,
        Offset(5)
    );
}

#[tokio::test]
async fn m11_an_offset_of_the_old_topic_is_not_committed_for_its_namesake() {
    let cluster = Cluster::start(3, 8_200).await;
    cluster.create("t", 1).await;
    let old = id_of(&cluster.any()).await;
    let new = replace(&cluster, 2, 0).await;
    let at = TopicPartition { topic: "t".into(), partition: ONE };
    let commit = |topic_id| {
        let (at, offset, metadata) = (at.clone(), Offset(7), String::new());
        let offsets = vec![OffsetToCommit { at, topic_id, offset, leader_epoch: None, metadata }];
        CommitRequest { group: "g".into(), offsets, ..CommitRequest::default() }
    };
    for id in 1..=3 {
        let broker = cluster.broker(id);
        let refused = broker.commit_offsets(&Caller::ANONYMOUS, commit(Some(old))).await.unwrap();
        assert_eq!(refused, [(at.clone(), GroupError::TopicReplaced { topic: "t".into() })]);
        let found = broker.fetch_offsets(&Caller::ANONYMOUS, &"g".into(), Some(vec![at.clone()])).await.unwrap();
        assert_eq!((found.offsets, found.topics), (vec![], vec![("t".to_string(), new)]));
    }
    assert_eq!(cluster.any().commit_offsets(&Caller::ANONYMOUS, commit(Some(new))).await, Ok(vec![]));
    let found = cluster.broker(3).fetch_offsets(&Caller::ANONYMOUS, &"g".into(), Some(vec![at])).await.unwrap();
    assert_eq!(found.offsets[0].offset, Offset(7));
}

/// A broker that has not heard of the new topic takes nothing for replaced.
#[tokio::test]
async fn m11_a_broker_that_is_late_does_not_call_the_new_topic_replaced() {
    let cluster = Cluster::start(3, 8_300).await;
    cluster.create("t", 1).await;
    let late = 3;
    until("all know the topic", || async { id_of(&cluster.broker(late)).await == id_of(&cluster.broker(1)).await })
        .await;
    cluster.cuts.isolate(late, 1..=3);
    until("the others go on", || async { cluster.broker(1).describe_topic(&Caller::ANONYMOUS, "t").await.is_ok() })
        .await;
    let broker = cluster.broker(1);
    broker
        .delete_topic(&Caller::ANONYMOUS, DeleteTopicRequest { name: "t".into(), ..DeleteTopicRequest::default() })
        .await
        .unwrap();
    let create = crate::broker::CreateTopicRequest { name: "t".into(), ..Default::default() };
    let new = broker.create_topic(&Caller::ANONYMOUS, create).await.unwrap().id;
    let found = fetch(&cluster.broker(late), new, 0, Duration::ZERO).await;
    assert!(matches!(found, Err(FetchError::Unavailable { .. })), "{found:?}");
    cluster.cuts.mend();
    until("it hears of it", || async {
        !matches!(fetch(&cluster.broker(late), new, 0, Duration::ZERO).await, Err(FetchError::Unavailable { .. }))
    })
    .await;
    let found = fetch(&cluster.broker(late), new, 0, Duration::ZERO).await;
    assert!(!matches!(found, Err(FetchError::TopicReplaced { .. })), "{found:?}");
}

/// Two passes of the reconciler: one that began after this call is among them.
async fn two_passes(cluster: &Cluster, id: u64) {
    let passes = &cluster.nodes[&id].broker.parts.replicas.reconciled;
    let before = passes.load(Relaxed);
    until("two passes", || async { passes.load(Relaxed) >= before + 2 }).await;
}

/// The tombstone outlives a restart and all that metadata remembers of the group, as long as the deletion may be
/// applied again here; not for ever.
#[tokio::test(flavor = "multi_thread")]
async fn m11_a_tombstone_stays_until_the_log_of_metadata_is_purged_past_the_deletion() {
    let mut cluster = Cluster::start(3, 8_300).await;
    cluster.create("t", 1).await;
    cluster.produce("t", 0).await;
    let metadata = |cluster: &Cluster, id: u64| cluster.nodes[&id].broker.parts.node.metadata().unwrap();
    let group = metadata(&cluster, 1).read(|state| state.topic("t").unwrap().partitions[0].group);
    for id in 1..=3 {
        // Below the deletion: that it is purged at all allows nothing.
        metadata(&cluster, id).purge_now().await;
    }
    cluster
        .any()
        .delete_topic(&Caller::ANONYMOUS, DeleteTopicRequest { name: "t".into(), ..DeleteTopicRequest::default() })
        .await
        .unwrap();
    for id in 1..=3 {
        let metadata = metadata(&cluster, id);
        let is_gone = || async { metadata.read(|state| state.topic("t").is_none() && !state.is_deleted(group)) };
        until("all have confirmed the deletion", is_gone).await;
    }
    cluster.kill(3, 1);
    cluster.run(3).await;
    cluster.wait_ready(3).await;
    let store = |cluster: &Cluster, id: u64| cluster.nodes[&id].broker.parts.node.store.clone();
    for id in 1..=3 {
        two_passes(&cluster, id).await;
        assert!(store(&cluster, id).tombstoned(group).await.unwrap(), "broker {id} may apply the deletion again");
        let again = store(&cluster, id).open_log(group, ReplicaId(5_000)).await;
        assert!(matches!(again, Err(OpenLogError::Tombstoned { .. })), "broker {id} would serve the old group");
    }
    for id in 1..=3 {
        metadata(&cluster, id).purge_now().await;
        let store = store(&cluster, id);
        until("the tombstone goes", || async { !store.tombstoned(group).await.unwrap() }).await;
    }
    cluster.kill(3, 2);
    cluster.run(3).await;
    cluster.wait_ready(3).await;
    two_passes(&cluster, 3).await;
    assert!(cluster.nodes[&3].broker.parts.replicas.hosted_group(group).is_none(), "nothing brings the group back");
    let groups = store(&cluster, 3).groups().await.unwrap();
    assert!(groups.iter().all(|(known, _)| *known != group), "{groups:?}");
}
