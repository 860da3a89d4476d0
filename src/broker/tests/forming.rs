//! A cluster forms whatever happens meanwhile, says what it waits for, and takes in whoever may join.

use futures_util::{StreamExt, stream};
use tokio::time::{Duration, timeout};

use super::rig::{Cluster, Log, PATIENCE, until};
use crate::{
    broker::{BrokerFailed, Caller, Readiness, TopicsWanted},
    storage::{SimDisk, SimFault},
    types::BrokerId,
};

/// Formations at once: each mostly waits for timers.
const AT_ONCE: usize = 4;

/// SAFETY B6: for each number of commits, the founder's disk takes so many and no more, and then its power is cut.
#[tokio::test]
async fn d7_the_founder_killed_after_any_of_its_commits_still_forms_the_cluster() {
    let whole = Cluster::start(3, 31_000).await.disks[&1].commits().0;
    assert!(whole > 5, "{whole} commits form a cluster?");
    let formed = |commits: u64| async move {
        let mut cluster = Cluster::unstarted(3, 31_100 + 10 * commits).await;
        cluster.disks[&1].plant(SimFault::HangsAfterCommits(commits));
        cluster.run(2).await;
        cluster.run(3).await;
        // Its first commits are made before it is there.
        let is_there = timeout(Duration::from_secs(1), cluster.run(1)).await.is_ok();
        let disk = cluster.disks[&1].clone();
        if is_there {
            until(&format!("{commits} commits"), || async {
                disk.commits().0 >= commits || cluster.broker(1).readiness() == Readiness::Ready
            })
            .await;
            cluster.kill(1, commits);
        } else {
            disk.crash(commits);
        }
        disk.heal();
        cluster.run(1).await;
        for id in 1..=3 {
            cluster.wait_ready(id).await;
        }
        let view = cluster.broker(2).cluster_view(&Caller::ANONYMOUS, TopicsWanted::None).await;
        assert!(view.cluster_id.is_some(), "after {commits} commits");
    };
    stream::iter(0..=whole).for_each_concurrent(AT_ONCE, formed).await;
}

/// Who waits says for whom and why, and shows both lists where they differ.
#[tokio::test]
async fn s3_a_wait_names_whom_it_waits_for_and_why() {
    let mut cluster = Cluster::unstarted(3, 32_000).await;
    cluster.run(1).await;
    let says = |cluster: &Cluster, words: Vec<String>| {
        let broker = cluster.broker(1);
        async move {
            until(&format!("{words:?}"), || async {
                let Readiness::NotReady(why) = broker.readiness() else { return false };
                words.iter().all(|word| why.contains(word))
            })
            .await;
        }
    };
    let [two, three] = [1, 2].map(|i| cluster.peers[i].address.clone());
    let named = [format!("broker 2 ({two}: "), format!("broker 3 ({three}: "), "refused".to_string()];
    says(&cluster, named.to_vec()).await;

    cluster.lists.insert(2, cluster.peers[..2].to_vec());
    cluster.run(2).await;
    let (all, some) = (cluster.broker(1).parts.node.peers_text(), cluster.broker(2).parts.node.peers_text());
    says(&cluster, vec!["broker 2 has another `peers` list".into(), all, format!("there it is {some};")]).await;
}

/// A list of one founds nothing unless it says that it is meant.
#[tokio::test]
async fn s3_a_list_of_one_is_refused_unless_it_is_meant() {
    let mut cluster = Cluster::unstarted(2, 32_100).await;
    cluster.lists.insert(1, cluster.peers[..1].to_vec());
    cluster.singles = false;
    cluster.run(1).await;
    let failed = timeout(PATIENCE, cluster.broker(1).failed()).await.unwrap();
    let text = failed.to_string();
    assert!(matches!(failed, BrokerFailed::InvalidSetting { .. }) && text.contains("--single"), "{text}");
}

/// Seen once: both waited for ever, and said so as INFO only.
#[tokio::test]
async fn p14_two_emptied_brokers_of_three_warn_whom_they_wait_for_and_what_to_do() {
    let mut cluster = Cluster::start(3, 32_500).await;
    cluster.warn_after = Duration::from_millis(500);
    let log = cluster.log.insert(Log::default()).clone();
    for id in [2, 3] {
        cluster.kill(id, 1);
        cluster.disks.insert(id, SimDisk::new(32_500 + id));
    }
    for id in [2, 3] {
        cluster.run(id).await;
    }
    let is_told = |line: &str| {
        line.contains(" WARN ")
            && [
                "still waiting",
                "has not taken this broker's registration",
                "broker 1 (",
                "directories that they last had",
            ]
            .iter()
            .all(|part| line.contains(part))
    };
    until("both have warned", || async { log.text().lines().filter(|line| is_told(line)).count() >= 2 }).await;
    for id in [2, 3] {
        assert!(matches!(cluster.broker(id).readiness(), Readiness::NotReady(why) if why.contains("registration")));
    }
}

/// What the refusal of an emptied directory advises works: another id, and any running broker in its list, which
/// the old ones need not name.
#[tokio::test]
async fn o4_a_new_broker_joins_with_one_reachable_member_in_its_list() {
    let mut cluster = Cluster::start(3, 33_000).await;
    cluster.create("t", 1).await;
    cluster.kill(3, 1);
    let id = cluster.add(33_000).await;
    cluster.lists.insert(id, vec![cluster.peers[1].clone()]);
    cluster.run(id).await;
    cluster.wait_ready(id).await;
    until("the others know it", || async {
        let view = cluster.broker(1).cluster_view(&Caller::ANONYMOUS, TopicsWanted::None).await;
        view.brokers.iter().any(|broker| broker.id == BrokerId(id) && broker.alive)
    })
    .await;
    cluster.produce("t", 0).await;
}

/// The directory of another cluster's broker. The one among strangers leaves, the others go on.
#[tokio::test]
async fn s13_a_broker_of_another_cluster_does_not_stay() {
    let mut ours = Cluster::start(3, 34_000).await;
    let theirs = Cluster::start(3, 34_500).await;
    ours.kill(3, 1);
    let strange = theirs.disks[&3].copy(1);
    drop(theirs);
    let own = ours.disks.insert(3, strange).unwrap();
    ours.run(3).await;
    let failed = timeout(PATIENCE, ours.broker(3).failed()).await.unwrap();
    assert!(matches!(failed, BrokerFailed::WrongCluster { .. }), "{failed:?}");
    ours.kill(3, 2);
    ours.create("t", 1).await;
    ours.disks.insert(3, own);
    ours.run(3).await;
    ours.wait_ready(3).await;
    assert!(timeout(Duration::ZERO, ours.broker(1).failed()).await.is_err());
}
