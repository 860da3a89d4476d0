//! Brokers that come back under other addresses, all of them or one, whoever's list is old.

use tokio::time::{Duration, Instant};

use super::rig::{Cluster, until};
use crate::{
    broker::{Caller, Readiness, TopicsWanted, TransferLeaderRequest, node::Stage},
    types::{BrokerId, METADATA_GROUP},
};

/// What a move may cost on an idle machine; these run beside others.
const SERVING_WITHIN: Duration = Duration::from_secs(20);

/// Until every running broker tells clients the address at which each of these listens.
async fn wait_known(cluster: &Cluster, moved: &[u64]) {
    for (id, node) in &cluster.nodes {
        until(&format!("broker {id} knows where {moved:?} are"), || async {
            let view = node.broker.cluster_view(&Caller::ANONYMOUS, TopicsWanted::None).await;
            moved.iter().all(|moved| {
                let broker = view.brokers.iter().find(|broker| broker.id == BrokerId(*moved));
                broker.is_some_and(|b| b.alive && b.peer_address == cluster.peers[*moved as usize - 1].address)
            })
        })
        .await;
    }
}

#[tokio::test]
async fn o2_all_brokers_come_back_under_other_addresses() {
    let mut cluster = Cluster::start(3, 41_000).await;
    cluster.create("t", 1).await;
    for round in 0..2 {
        for id in 1..=3 {
            cluster.kill(id, id);
            cluster.relocate(id).await;
        }
        let began = Instant::now();
        cluster.run_all().await;
        cluster.produce("t", round).await;
        assert!(began.elapsed() < SERVING_WITHIN, "round {round}: {:?}", began.elapsed());
        wait_known(&cluster, &[1, 2, 3]).await;
    }
}

/// The lists of those that run stay the old ones.
#[tokio::test]
async fn p2_one_broker_comes_back_elsewhere_while_the_others_run() {
    let mut cluster = Cluster::start(3, 42_000).await;
    cluster.create("t", 1).await;
    for (round, id) in (0..).zip([3, 1, 2]) {
        cluster.kill(id, id);
        cluster.relocate(id).await;
        cluster.run(id).await;
        cluster.wait_ready(id).await;
        wait_known(&cluster, &[id]).await;
        cluster.produce("t", round).await;
    }
}

/// Its list names only one broker that is still there, and not the leader.
#[tokio::test]
async fn o2_the_others_are_found_through_any_member() {
    let mut cluster = Cluster::start(3, 43_000).await;
    let leader = cluster.any().parts.node.raft.leader_of(METADATA_GROUP).unwrap().broker.0;
    let (id, member) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    // What it has registered of the leader is old as well: the leader moves while it is away.
    cluster.kill(id, 1);
    cluster.kill(leader, 2);
    cluster.relocate(leader).await;
    cluster.run(leader).await;
    cluster.wait_ready(leader).await;
    wait_known(&cluster, &[leader]).await;
    cluster.relocate(id).await;
    cluster.lists.insert(id, vec![cluster.peers[member as usize - 1].clone(), cluster.peers[id as usize - 1].clone()]);
    cluster.run(id).await;
    cluster.wait_ready(id).await;
    wait_known(&cluster, &[id]).await;
}

/// Nobody can dial the metadata leader, which can dial them: it asks for what they cannot bring.
#[tokio::test]
async fn s11_a_broker_that_cannot_reach_the_leader_is_registered_by_it() {
    let mut cluster = Cluster::start(3, 44_000).await;
    let lead = TransferLeaderRequest { partition: None, to: Some(BrokerId(3)), timeout: Duration::from_secs(5) };
    until("broker 3 leads the metadata", || async {
        cluster.any().transfer_leader(&Caller::ANONYMOUS, lead.clone()).await.is_ok_and(|now| now.broker == BrokerId(3))
    })
    .await;
    cluster.kill(1, 1);
    cluster.relocate(1).await;
    cluster.cuts.cut(1, 3);
    cluster.cuts.cut(2, 3);
    cluster.run(1).await;
    // It is part of the cluster; that nothing can be changed through it while it reaches no leader is another matter.
    until("it is registered", || async { *cluster.broker(1).parts.node.stage.borrow() == Stage::Running }).await;
    let of_leader = cluster.broker(3).cluster_view(&Caller::ANONYMOUS, TopicsWanted::None).await;
    let known = of_leader.brokers.iter().find(|broker| broker.id == BrokerId(1)).unwrap();
    assert_eq!(known.peer_address, cluster.peers[0].address);
    until("health names the link", || async {
        let problems = cluster.broker(1).health(&Caller::ANONYMOUS).await.problems.join("\n");
        problems.contains("broker 1 cannot link to broker 3") && problems.contains("which links to it")
    })
    .await;
}

/// Until clients are sent to where it is, a broker leads nothing.
#[tokio::test]
async fn o2_a_broker_that_is_not_registered_does_not_campaign() {
    let mut cluster = Cluster::start(3, 45_000).await;
    cluster.create("t", 1).await;
    cluster.produce("t", 0).await;
    let leader = cluster.led_by("t").await;
    let moved = leader % 3 + 1;
    for id in 1..=3 {
        cluster.kill(id, id);
    }
    cluster.relocate(moved).await;
    // Two of three: the moved one is registered as soon as the metadata has a leader, and serves then.
    cluster.run(moved).await;
    until("its partition is open", || async { cluster.broker(moved).parts.node.metadata().is_some() }).await;
    let node = cluster.broker(moved).parts.node.clone();
    assert!(matches!(cluster.broker(moved).readiness(), Readiness::NotReady(_)));
    assert!(!node.raft.may_campaign(), "it is not registered where it is");
    cluster.run(leader).await;
    cluster.wait_ready(moved).await;
    assert!(node.raft.may_campaign());
    cluster.produce("t", 1).await;
}
