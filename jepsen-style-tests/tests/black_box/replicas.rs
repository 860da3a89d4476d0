//! The replicas' own logs, read from their directories.

use std::{collections::BTreeMap, time::Duration};

use jepsen_style_tests::{
    checker::{DumpedEntry, check_replicas},
    cluster::{Cluster, SLOW},
    readback::dump_log,
    workload::{Plan, numbered},
};

use crate::check_topic;

#[test]
fn all_replicas_hold_the_same_committed_entries() {
    const PARTITIONS: u32 = 3;
    const RECORDS: usize = 20_000;
    let cluster = Cluster::start("replicas", 3);
    let cli = &cluster.cli;
    cli.create_topic("orders", PARTITIONS);
    let producer = cli.produce(&Plan::new("orders", PARTITIONS).rate(4_000), numbered("load", 100).take(RECORDS));
    producer.wait_acked(RECORDS / 4, SLOW);
    let leader = cli.leader("orders", 0);
    cluster.kill(leader);
    producer.wait_acked(RECORDS / 4, SLOW);
    cluster.restart(leader);
    let produced = producer.finish_all(SLOW + Duration::from_secs(60));
    produced.assert_all_acked();
    cli.wait_healthy();
    check_topic(cli, "orders", PARTITIONS, &[&produced], Some(1));

    let nodes = cluster.status();
    cluster.local(&["stop"]);
    let mut groups: BTreeMap<String, Vec<Vec<DumpedEntry>>> = BTreeMap::new();
    for node in &nodes {
        let mut own: BTreeMap<String, Vec<DumpedEntry>> = BTreeMap::new();
        for (group, entry) in dump_log(cli, &node.data_dir) {
            own.entry(group).or_default().push(entry);
        }
        for (group, entries) in own {
            groups.entry(group).or_default().push(entries);
        }
    }
    assert!(groups.len() >= PARTITIONS as usize, "{:?}", groups.keys());
    for (group, replicas) in &groups {
        let counts: Vec<usize> = replicas.iter().map(Vec::len).collect();
        println!("  {group}: committed entries {counts:?}");
        assert_eq!(replicas.len(), 3, "{group}");
        let violations = check_replicas(replicas);
        assert!(violations.is_empty(), "{group}: {} violations, first {:?}", violations.len(), violations.first());
    }
    let data = dump_count(&groups);
    assert!(data > 0, "no entry was dumped");
    // `finish` would stop it again.
    drop(cluster);
}

fn dump_count(groups: &BTreeMap<String, Vec<Vec<DumpedEntry>>>) -> usize {
    groups.values().flatten().map(Vec::len).sum()
}
