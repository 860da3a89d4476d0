//! `flotilla local`: a cluster of real processes for one's own machine.

use jepsen_style_tests::{
    cluster::{Cluster, QUICK, SLOW},
    command::wait_for,
    workload::{Plan, numbered},
};

use crate::check_topic;

#[test]
fn local_drives_a_cluster_of_three() {
    drives(3);
}

#[test]
fn local_drives_a_cluster_of_five() {
    drives(5);
}

fn drives(nodes: u64) {
    const PARTITIONS: u32 = 4;
    const RECORDS: usize = 2_000;
    let cluster = Cluster::start(&format!("local-{nodes}"), nodes);
    let cli = &cluster.cli;
    let all = cluster.status();
    assert!(all.iter().map(|node| node.id).eq(1..=nodes), "broker ids are 1 to {nodes}: {all:?}");
    assert!(all.iter().all(|node| node.state == "running" && node.pid != 0), "{all:?}");
    cli.create_topic("orders", PARTITIONS);

    let mut produced = vec![];
    let mut produce = |name: &str| {
        let records = numbered(name, 50).take(RECORDS);
        let run = cli.produce(&Plan::new("orders", PARTITIONS), records).finish_all(SLOW);
        run.assert_all_acked();
        produced.push(run);
    };
    produce("whole");
    // Whoever leads: with one node of three or more away, produce goes on.
    cluster.kill(1);
    assert_eq!(cluster.node(1).state, "stopped", "after kill");
    produce("one killed");
    cluster.restart(1);
    wait_state(&cluster, 1, "running");
    cluster.local(&["pause", "2"]);
    assert_eq!(cluster.node(2).state, "paused", "after pause");
    produce("one paused");
    cluster.local(&["resume", "2"]);
    wait_state(&cluster, 2, "running");
    cli.wait_healthy();

    let pids: Vec<u32> = cluster.status().iter().map(|node| node.pid).collect();
    cluster.local(&["stop"]);
    for pid in pids {
        cluster.wait_gone(pid);
    }
    cluster.local(&["start", "--nodes", &nodes.to_string()]);
    cli.wait_healthy();
    produce("started again");
    let produced: Vec<_> = produced.iter().collect();
    check_topic(cli, "orders", PARTITIONS, &produced, Some(2));
    cluster.finish();
}

#[track_caller]
fn wait_state(cluster: &Cluster, id: u64, state: &str) {
    wait_for(&format!("node {id} to be {state}"), QUICK, || {
        let node = cluster.node(id);
        if node.state == state { Ok(()) } else { Err(format!("{node:?}")) }
    });
}
