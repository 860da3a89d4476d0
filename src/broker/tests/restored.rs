//! A directory set back to an older copy, in every way that an operator or a VM snapshot does it, and
//! what must come of it. Nothing acknowledged is lost in any of them.

use tokio::time::timeout;

use super::rig::{Cluster, PATIENCE, read_all, until};
use crate::{
    broker::{BrokerFailed, Caller, cluster::setback},
    storage::SimDisk,
    types::BrokerId,
};

/// The number of the start, and the commit, that one broker keeps of another.
async fn known(cluster: &Cluster, by: u64, of: u64) -> Option<(u64, u64)> {
    let told = setback::recall(&cluster.broker(by).parts.memory, BrokerId(of)).await?;
    Some((told.start.0, told.commit_no))
}

/// Until all others that run keep of a broker what it is at now.
async fn wait_told(cluster: &Cluster, of: u64) {
    let parts = cluster.broker(of).parts;
    let now = (parts.memory.past.starts.current().number, parts.node.store.commit_no());
    for by in cluster.nodes.keys().copied().filter(|by| *by != of) {
        until(&format!("broker {by} knows of {now:?} of broker {of}"), || async {
            known(cluster, by, of).await.is_some_and(|known| known >= now)
                && cluster.broker(by).parts.memory.past.is_durable()
        })
        .await;
    }
}

async fn end_of(cluster: &Cluster, id: u64) -> BrokerFailed {
    let broker = cluster.broker(id);
    timeout(PATIENCE, broker.failed()).await.unwrap_or_else(|_| panic!("broker {id} goes on"))
}

/// It was noticed at start: nothing was opened, the directory is marked, and the message names who knew.
async fn assert_refused(cluster: &Cluster, id: u64) {
    let failed = end_of(cluster, id).await;
    let BrokerFailed::SetBack { peer, .. } = &failed else { panic!("{failed:?}") };
    assert_ne!(*peer, BrokerId(id));
    let text = failed.to_string();
    assert!(text.contains("older copy") && text.contains("that this broker had last"), "{text}");
    assert!(cluster.broker(id).parts.node.metadata().is_none(), "no replica was opened");
    let mark = cluster.disks[&id].condemned();
    assert!(mark.as_ref().is_some_and(|mark| mark.contains("older copy")), "{mark:?}");
}

async fn produce(cluster: &Cluster, sequences: std::ops::Range<i32>) {
    for sequence in sequences {
        cluster.produce("t", sequence).await;
    }
}

fn values(count: i32) -> Vec<(i64, i32)> {
    (0..count).map(|n| (i64::from(n), n)).collect()
}

/// Three brokers, ten records, and who leads them.
async fn formed(seed: u64) -> (Cluster, u64) {
    let cluster = Cluster::start(3, seed).await;
    cluster.create("t", 1).await;
    produce(&cluster, 0..10).await;
    let leader = cluster.led_by("t").await;
    (cluster, leader)
}

/// A stopped copy is put back after another life of the broker.
async fn stopped_copy(seed: u64, of_leader: bool) {
    let (mut cluster, leader) = formed(seed).await;
    let id = if of_leader { leader } else { leader % 3 + 1 };
    wait_told(&cluster, id).await;
    cluster.kill(id, seed);
    let copy = cluster.disks[&id].copy(seed);
    cluster.run(id).await;
    cluster.wait_ready(id).await;
    wait_told(&cluster, id).await;
    produce(&cluster, 10..20).await;
    cluster.kill(id, seed + 1);
    cluster.disks.insert(id, copy);
    cluster.run(id).await;
    assert_refused(&cluster, id).await;
    cluster.kill(id, seed + 2);
    produce(&cluster, 20..30).await;
    assert_eq!(cluster.read_all("t").await, values(30));
}

#[tokio::test]
async fn p17_1_a_stopped_copy_of_a_follower_is_refused_after_another_life() {
    stopped_copy(21_000, false).await;
}

#[tokio::test]
async fn p17_2_a_stopped_copy_of_the_leader_is_refused_after_another_life() {
    stopped_copy(21_100, true).await;
}

/// A copy of a running directory, put back over the very life that it was taken from: no later start gives it
/// away, only commits.
async fn hot_copy(seed: u64, of_leader: bool) {
    let (mut cluster, leader) = formed(seed).await;
    let id = if of_leader { leader } else { leader % 3 + 1 };
    let copy = cluster.disks[&id].copy(seed);
    produce(&cluster, 10..20).await;
    wait_told(&cluster, id).await;
    cluster.kill(id, seed);
    cluster.disks.insert(id, copy);
    cluster.run(id).await;
    assert_refused(&cluster, id).await;
    cluster.kill(id, seed + 1);
    produce(&cluster, 20..30).await;
    assert_eq!(cluster.read_all("t").await, values(30));
}

#[tokio::test]
async fn p17_3_a_hot_copy_of_a_follower_is_refused_for_its_commits() {
    hot_copy(21_200, false).await;
}

#[tokio::test]
async fn p17_4_a_hot_copy_of_the_leader_is_refused_for_its_commits() {
    hot_copy(21_300, true).await;
}

/// The steps that once lost records: n3 is copied while stopped and lives again; n1 stops; records go to n2 and n3; both stop; the copy is
/// put back, and n1 and n3 are started: a majority that knows nothing of the last records.
#[tokio::test]
async fn p1_5_the_steps_that_lost_acknowledged_records_lose_none() {
    let (mut cluster, _) = formed(21_400).await;
    cluster.kill(3, 1);
    let copy = cluster.disks[&3].copy(1);
    cluster.run(3).await;
    cluster.wait_ready(3).await;
    wait_told(&cluster, 3).await;
    cluster.kill(1, 2);
    produce(&cluster, 10..20).await;
    cluster.kill(2, 3);
    cluster.kill(3, 4);
    let newest = cluster.disks.insert(3, copy).unwrap();
    cluster.run(1).await;
    cluster.run(3).await;
    assert_refused(&cluster, 3).await;
    cluster.kill(3, 5);
    cluster.run(2).await;
    cluster.wait_ready(2).await;
    assert_eq!(cluster.read_all("t").await, values(20));
    produce(&cluster, 20..21).await;

    // The directory that it had last is as good as ever.
    cluster.disks.insert(3, newest);
    cluster.run(3).await;
    cluster.wait_ready(3).await;
    cluster.kill(1, 6);
    produce(&cluster, 21..22).await;
    assert_eq!(cluster.read_all("t").await, values(22));
}

/// Two processes on copies of one directory, one after the other: the counter of starts is the same, the ids are not.
#[tokio::test]
async fn p1_6_of_two_lives_that_begin_on_one_copy_the_second_is_refused() {
    let (mut cluster, leader) = formed(21_500).await;
    let id = leader % 3 + 1;
    cluster.kill(id, 1);
    let copy = cluster.disks[&id].copy(1);
    cluster.run(id).await;
    cluster.wait_ready(id).await;
    wait_told(&cluster, id).await;
    let (first, _) = known(&cluster, leader, id).await.unwrap();
    cluster.kill(id, 2);
    cluster.disks.insert(id, copy);
    cluster.run(id).await;
    assert_refused(&cluster, id).await;
    assert_eq!(cluster.broker(id).parts.memory.past.starts.current().number, first, "the counter alone would not tell");
}

/// Nobody who could know was reachable at start, so it runs; restarts of it hide nothing; who knows comes back.
#[tokio::test]
async fn p1_7_a_peer_that_was_away_at_start_is_asked_when_it_comes_back() {
    let (mut cluster, leader) = formed(21_600).await;
    let id = leader % 3 + 1;
    let copy = cluster.disks[&id].copy(1);
    produce(&cluster, 10..20).await;
    wait_told(&cluster, id).await;
    for other in 1..=3 {
        cluster.kill(other, other);
    }
    let first = copy.clone();
    cluster.disks.insert(id, copy);
    for life in 0..3 {
        cluster.run(id).await;
        until("its replica is open", || async { cluster.broker(id).parts.node.metadata().is_some() }).await;
        cluster.kill(id, 10 + life);
    }
    cluster.run(id).await;
    until("its replica is open", || async { cluster.broker(id).parts.node.metadata().is_some() }).await;
    assert_eq!(first.condemned(), None, "nobody could tell");
    cluster.run(leader).await;
    let failed = end_of(&cluster, id).await;
    assert!(matches!(failed, BrokerFailed::SetBack { peer, .. } if peer == BrokerId(leader)), "{failed:?}");
    assert!(first.condemned().is_some());
    cluster.kill(id, 20);
    let third = (1..=3).find(|other| *other != id && *other != leader).unwrap();
    cluster.run(third).await;
    cluster.wait_ready(leader).await;
    assert_eq!(cluster.read_all("t").await, values(20));
}

/// A peer that was itself set back, one whose power was cut with what it had heard, and one with a new life each
/// day: none of them proves anything against a directory that is right.
#[tokio::test]
async fn p1_8_what_peers_have_forgotten_is_no_proof() {
    let (mut cluster, leader) = formed(21_700).await;
    let (id, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let old = cluster.disks[&other].copy(1);
    for life in 0..3 {
        cluster.kill(id, life);
        cluster.run(id).await;
        cluster.wait_ready(id).await;
        wait_told(&cluster, id).await;
    }
    // Power cuts: what was not synced may be gone, other brokers' commits first of all.
    for life in 0..3 {
        for cut in 1..=3 {
            cluster.kill(cut, 100 * life + cut);
        }
        cluster.run_all().await;
    }
    produce(&cluster, 10..11).await;
    wait_told(&cluster, other).await;
    // The one that was set back is refused, and the others go on beside it.
    cluster.kill(other, 7);
    cluster.kill(id, 8);
    cluster.disks.insert(other, old);
    cluster.run(other).await;
    cluster.run(id).await;
    assert!(matches!(end_of(&cluster, other).await, BrokerFailed::SetBack { .. }));
    cluster.wait_ready(id).await;
    cluster.kill(other, 9);
    produce(&cluster, 11..12).await;
    assert_eq!(cluster.read_all("t").await, values(12));
}

/// An emptied directory is another matter: its storage id tells, and it must not make peers forget.
#[tokio::test]
async fn p1_9_an_emptied_directory_does_not_hide_an_older_copy() {
    let (mut cluster, leader) = formed(21_800).await;
    let id = leader % 3 + 1;
    let copy = cluster.disks[&id].copy(1);
    produce(&cluster, 10..12).await;
    wait_told(&cluster, id).await;
    cluster.kill(id, 1);
    cluster.disks.insert(id, SimDisk::new(77));
    cluster.run(id).await;
    assert!(matches!(end_of(&cluster, id).await, BrokerFailed::StorageIdMismatch { .. }));
    cluster.kill(id, 2);
    cluster.disks.insert(id, copy);
    cluster.run(id).await;
    assert_refused(&cluster, id).await;
}

/// The same where nobody can know at start: the only broker that stayed away all the time and the old copy form a majority,
/// and write a second history. The first that returns with the first one says so and stops, with its directory
/// untouched, and so does the copy.
#[tokio::test]
async fn o1_10_a_committed_entry_that_the_leader_contradicts_stops_the_broker_that_has_it() {
    let (mut cluster, two) = formed(21_900).await;
    let (one, three) = (two % 3 + 1, (two + 1) % 3 + 1);
    cluster.kill(one, 2);
    let copy = cluster.disks[&three].copy(1);
    produce(&cluster, 10..20).await;
    assert_eq!(cluster.leader("t").await, Some(two), "the copy's term goes on");
    wait_told(&cluster, three).await;
    cluster.kill(two, 3);
    cluster.kill(three, 4);
    cluster.disks.insert(three, copy);
    cluster.run(one).await;
    cluster.run(three).await;
    cluster.wait_ready(one).await;
    // The second history.
    produce(&cluster, 10..11).await;

    cluster.run(two).await;
    let failed = end_of(&cluster, two).await;
    let BrokerFailed::Contradicted { what } = &failed else { panic!("{failed:?}") };
    assert!(what.contains("term"), "{what}");
    assert_eq!(cluster.disks[&two].condemned(), None, "it may be the only one with those records");
    assert!(matches!(end_of(&cluster, three).await, BrokerFailed::SetBack { .. }));
    // In its log nothing stands on what is contradicted: it still has the first history.
    cluster.kill(two, 5);
    cluster.kill(three, 6);

    // Others keep why, over restarts too.
    cluster.kill(one, 7);
    cluster.run(one).await;
    until("health names both", || async {
        let problems = cluster.broker(one).health(&Caller::ANONYMOUS).await.problems.join("\n");
        [two, three].iter().all(|gone| problems.contains(&format!("broker {gone} has stopped for good")))
    })
    .await;
}

/// What the other replicas have, the broker that stopped has too, once the copy is out of the way.
#[tokio::test]
async fn p1_11_a_broker_set_back_alone_costs_nothing_but_itself() {
    let (mut cluster, leader) = formed(22_000).await;
    let id = leader % 3 + 1;
    let copy = cluster.disks[&id].copy(1);
    produce(&cluster, 10..20).await;
    wait_told(&cluster, id).await;
    cluster.kill(id, 1);
    cluster.disks.insert(id, copy);
    cluster.run(id).await;
    assert_refused(&cluster, id).await;
    let report = cluster.broker(leader).health(&Caller::ANONYMOUS).await;
    assert!(report.problems.iter().any(|problem| problem.contains("stopped for good")), "{report:?}");
    let values = values(20);
    assert_eq!(read_all(&cluster.broker(leader), "t", 0).await, values);
}
