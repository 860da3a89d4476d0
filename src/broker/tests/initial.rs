//! Who begins a partition's Raft group (SAFETY B6).

use std::sync::Arc;

use tokio::time::Instant;

use super::rig::{Cluster, try_produce_to, until};
use crate::{
    broker::{cluster::reconcile::initialize, limits::INITIALIZE_AFTER, node::Node},
    metadata::PartitionPlacement,
    partition::{Partition, PartitionLimits},
    raft::ReplicaSpec,
    types::{BrokerId, Offset, PartitionId, RaftGroupId, ReplicaId, TopicId},
};

fn node(cluster: &Cluster, id: u64) -> Arc<Node> {
    Arc::clone(&cluster.nodes[&id].broker.parts.node)
}

/// Its first member is away. The second one begins the group, with the same members, and not before the first had
/// its time; when that comes back it joins the group that there is.
#[tokio::test(flavor = "multi_thread")]
async fn b6_the_second_initial_member_begins_a_group_whose_first_is_away() {
    const AWAY: u64 = 3;
    let mut cluster = Cluster::start(3, 9_100).await;
    // A death that is noticed before the topic is placed makes no first member of the dead: another topic then.
    let mut tries = 0;
    let (topic, began, number, partition) = loop {
        tries += 1;
        assert!(tries <= 10, "it was never placed first");
        let topic = format!("t{tries}");
        cluster.kill(AWAY, tries);
        let began = Instant::now();
        cluster.create(&topic, 3).await;
        let of = node(&cluster, 1).metadata().unwrap();
        let partitions = of.read(|state| state.topic(&topic).unwrap().partitions.clone());
        let mut numbered = (0..).map(PartitionId).zip(partitions);
        if let Some((number, partition)) = numbered.find(|(_, found)| found.initial[0].1 == BrokerId(AWAY)) {
            break (topic, began, number, partition);
        }
        cluster.run(AWAY).await;
        cluster.wait_ready(AWAY).await;
        until("it counts as alive", || async { (1..AWAY).all(|id| node(&cluster, id).is_alive(BrokerId(AWAY))) }).await;
    };
    let raft = &node(&cluster, 1).raft;
    until("the group has a leader", || async { raft.leader_of(partition.group).is_some() }).await;
    assert!(began.elapsed() >= INITIALIZE_AFTER, "its first member had {:?}", began.elapsed());
    let leader = raft.leader_of(partition.group).unwrap().broker.0;
    assert_ne!(leader, AWAY);
    until("it takes records", || async { try_produce_to(&cluster.broker(leader), &topic, number, 0).await.is_ok() })
        .await;

    cluster.run(AWAY).await;
    let hosted = || cluster.broker(AWAY).parts.replicas.hosted_group(partition.group);
    until("it has the record", || async { hosted().is_some_and(|hosted| hosted.bounds().high_watermark == Offset(1)) })
        .await;
    let mut members = hosted().unwrap().group.members();
    let mut initial = partition.initial.clone();
    members.sort_unstable();
    initial.sort_unstable();
    assert_eq!(members, initial, "one configuration");
}

/// What it would begin is a second group under the first one's name: it starts empty, and waits for a leader.
#[tokio::test(flavor = "multi_thread")]
async fn b6_a_replica_that_was_added_later_never_begins_its_group() {
    let cluster = Cluster::start(3, 9_200).await;
    let node = node(&cluster, 1);
    let (group, replica) = (RaftGroupId(77_777), ReplicaId(99_004));
    // The brokers of the first members are gone: no leader is ever heard of.
    let initial = vec![(ReplicaId(99_001), BrokerId(2)), (ReplicaId(99_002), BrokerId(3))];
    let spec = ReplicaSpec { group, replica, initial: initial.clone() };
    let later = node.raft.open(spec, Partition::new(PartitionLimits::default())).await.expect("opens");
    let (topic, topic_id) = ("t".to_string(), TopicId(1));
    let placement = PartitionPlacement { topic, topic_id, partition: PartitionId(0), group, replica, initial };
    initialize(Arc::clone(&node), later.clone(), placement).await;
    assert_eq!((later.members(), later.log().last()), (vec![], None), "it is as empty as it was");
    assert!(node.raft.leader_of(group).is_none());
}
