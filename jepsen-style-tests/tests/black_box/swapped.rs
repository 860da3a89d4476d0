//! Two clusters of which two brokers stand at each other's addresses.

use std::fs;

use jepsen_style_tests::{
    by_hand::ByHand,
    cluster::SLOW,
    command::wait_for,
    workload::{Plan, Produced, numbered},
};

use crate::check_topic;

/// A copy of a virtual machine at the wrong address, or two data directories mounted the wrong way round: each finds
/// itself among strangers. Nobody counts it, and it takes nothing of theirs.
#[test]
fn brokers_of_two_clusters_at_each_others_addresses_are_refused() {
    let mut clusters = ["swapped-a", "swapped-b"].map(formed);
    let first = [0, 1].map(|n| produce(&clusters[n], &format!("first-{n}")));
    let ids = [0, 1].map(|n| clusters[n].wait_cluster_id());
    assert_ne!(ids[0], ids[1]);
    for cluster in &mut clusters {
        assert_eq!(cluster.stop(3), Some(0));
    }
    swap(&clusters);
    for cluster in &mut clusters {
        cluster.start(3);
    }
    for (cluster, foreign) in clusters.iter().zip([&ids[1], &ids[0]]) {
        for id in [1, 2] {
            wait_for(&format!("broker {id} to name the stranger's cluster"), SLOW, || {
                let log = cluster.log(id);
                let says =
                    log.lines().any(|line| line.contains("belongs to another cluster") && line.contains(foreign));
                if says { Ok(()) } else { Err(log) }
            });
        }
    }
    // Two of three go on, of both.
    let second = [0, 1].map(|n| produce(&clusters[n], &format!("second-{n}")));
    for cluster in &mut clusters {
        cluster.end(3);
    }
    swap(&clusters);
    for (n, cluster) in clusters.iter_mut().enumerate() {
        cluster.start(3);
        cluster.cli.wait_healthy();
        // To what it had, and to nothing of the other's.
        (0..3).for_each(|partition| cluster.cli.transfer_leader("orders", partition, 3));
        check_topic(&cluster.cli, "orders", 3, &[&first[n], &second[n]], Some(1));
    }
    clusters.into_iter().for_each(ByHand::finish);
}

fn formed(name: &str) -> ByHand {
    let mut servers = ByHand::new(name);
    (1..=3).for_each(|id| servers.start(id));
    servers.wait_cluster_id();
    servers.cli.create_topic("orders", 3);
    servers
}

#[track_caller]
fn produce(servers: &ByHand, name: &str) -> Produced {
    let produced = servers.cli.produce(&Plan::new("orders", 3), numbered(name, 50).take(300)).finish_all(SLOW);
    produced.assert_all_acked();
    produced
}

/// The data directories of both brokers 3.
fn swap(clusters: &[ByHand; 2]) {
    let [a, b] = clusters.each_ref().map(|cluster| cluster.data_dir(3));
    let aside = a.with_extension("aside");
    for (from, to) in [(a, aside.as_path()), (b, a), (aside.as_path(), b)] {
        fs::rename(from, to).unwrap_or_else(|error| panic!("{} to {}: {error}", from.display(), to.display()));
    }
}
