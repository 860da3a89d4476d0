//! Forming a cluster from servers started by hand, and not forming a second one.

use std::time::Duration;

use jepsen_style_tests::{
    by_hand::ByHand,
    cluster::{QUICK, SLOW},
    command::{pause, wait_for},
    workload::{Plan, numbered},
};

use crate::check_topic;

#[test]
fn three_servers_started_by_hand_form_one_cluster_in_any_order() {
    const TOPICS: [&str; 2] = ["orders", "flights"];
    let mut servers = ByHand::new("by-hand");
    // Not the founder first.
    for id in [3, 1, 2] {
        servers.start(id);
    }
    let cluster_id = servers.wait_cluster_id();
    println!("  cluster {cluster_id}");
    for topic in TOPICS {
        servers.cli.create_topic(topic, 3);
    }
    let mut produced = vec![];
    let mut round = 0;
    let mut produce = |servers: &ByHand| {
        round += 1;
        let records = numbered(&format!("round {round}"), 10).take(300);
        let run = servers.cli.produce(&Plan::new("orders", 3), records).finish_all(SLOW);
        run.assert_all_acked();
        produced.push(run);
    };
    produce(&servers);

    // One by one.
    for id in [2, 3, 1] {
        assert_eq!(servers.stop(id), Some(0), "SIGTERM is an orderly end");
        servers.start(id);
        servers.cli.wait_healthy();
        assert_same(&servers, &cluster_id, &TOPICS);
    }
    produce(&servers);
    // All at once, back in each of several orders.
    for order in [[1, 2, 3], [3, 2, 1], [2, 1, 3]] {
        servers.stop_all();
        for id in order {
            servers.start(id);
        }
        assert_eq!(servers.wait_cluster_id(), cluster_id);
        servers.cli.wait_healthy();
        assert_same(&servers, &cluster_id, &TOPICS);
        produce(&servers);
    }
    let produced: Vec<_> = produced.iter().collect();
    check_topic(&servers.cli, "orders", 3, &produced, Some(6));
    servers.finish();
}

#[track_caller]
fn assert_same(servers: &ByHand, cluster_id: &str, topics: &[&str]) {
    assert_eq!(servers.wait_cluster_id(), cluster_id);
    for topic in topics {
        let partitions = servers.cli.describe(topic).unwrap_or_else(|error| panic!("{topic}: {error}"));
        assert_eq!(partitions.len(), 3, "{topic}");
    }
}

/// SAFETY B5 and B6: it lost its votes, so it must not give new ones, and the peers it would found
/// a cluster with have one.
#[test]
fn node_1_with_an_emptied_directory_neither_founds_nor_votes() {
    let mut servers = ByHand::new("emptied");
    for id in 1..=3 {
        servers.start(id);
    }
    let cluster_id = servers.wait_cluster_id();
    servers.cli.create_topic("orders", 3);
    let run = servers.cli.produce(&Plan::new("orders", 3), numbered("before", 10).take(300)).finish_all(SLOW);
    run.assert_all_acked();

    servers.stop(1);
    servers.wipe(1);
    servers.start(1);
    // The others form a majority and go on under the same id.
    let during = servers.cli.produce(&Plan::new("orders", 3), numbered("during", 10).take(300)).finish_all(SLOW);
    during.assert_all_acked();
    assert_eq!(servers.wait_cluster_id(), cluster_id);
    let receipts_of_1 = during.receipts.iter().filter(|receipt| receipt.durable_on.contains(&1)).count();
    assert_eq!(receipts_of_1, 0, "the emptied node claims to hold records durably");

    // With node 2 away only an illegal vote of node 1 could make a leader.
    servers.stop(2);
    watch_no_leader(&servers);
    let refused = servers
        .cli
        .produce(&Plan::new("orders", 3).timeout(Duration::from_secs(3)), numbered("without", 10).take(3))
        .finish_all(SLOW);
    assert_ne!(refused.code, 0, "acknowledged with one of three disks: {:?}", refused.receipts);
    assert!(refused.receipts.is_empty(), "{:?}", refused.receipts);
    println!("  node 1 says: {}", servers.log(1).lines().last().unwrap_or_default());

    servers.start(2);
    assert_eq!(servers.wait_cluster_id(), cluster_id);
    wait_for("leaders of all partitions", QUICK, || {
        let partitions = servers.cli.describe("orders")?;
        if partitions.iter().all(|p| p.leader.is_some()) { Ok(()) } else { Err(format!("{partitions:?}")) }
    });
    check_topic(&servers.cli, "orders", 3, &[&run, &during, &refused], Some(1));
    if servers.is_running(1) {
        servers.stop(1);
    } else {
        // A damaged directory stops its broker, with a message that says what to do.
        assert_ne!(servers.wait_ended(1), Some(0), "a damaged directory is no orderly end");
    }
    servers.finish();
}

/// For several election timeouts nobody may lead: an event that must not happen has to be given time.
fn watch_no_leader(servers: &ByHand) {
    const WATCHED: Duration = Duration::from_secs(5);
    let end = std::time::Instant::now() + WATCHED;
    let epochs = |servers: &ByHand| servers.cli.describe("orders").map(|ps| ps.iter().map(|p| p.epoch).max());
    let before = epochs(servers);
    while std::time::Instant::now() < end {
        pause();
    }
    let after = epochs(servers);
    println!("  highest epoch before {before:?}, after {after:?}");
}
