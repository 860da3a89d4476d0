//! The trap between retention and snapshots: a replica that was away while the log
//! was trimmed past its end must still get every retained record before it leads.

use jepsen_style_tests::{
    checker::Read,
    cluster::{Cluster, SLOW},
    readback::read_topic,
    workload::{Plan, Produced, numbered},
};

const TOPIC: &str = "orders";

fn produce(cluster: &Cluster, name: &str, records: usize) -> Produced {
    let plan = Plan::new(TOPIC, 1);
    let run = cluster.cli.produce(&plan, numbered(name, 50).take(records)).finish_all(SLOW);
    run.assert_all_acked();
    run
}

/// What is retained, read from `leader`.
fn read_from(cluster: &Cluster, leader: u64) -> Vec<Read> {
    assert_eq!(cluster.cli.leader(TOPIC, 0), leader);
    read_topic(&cluster.cli, TOPIC, 1).remove(0)
}

#[test]
fn a_node_that_slept_through_a_trim_serves_all_retained_records_as_leader() {
    let cluster = Cluster::start("trap", 3);
    let cli = &cluster.cli;
    cli.create_topic(TOPIC, 1);
    produce(&cluster, "before", 5_000);
    let asleep = cli.leader(TOPIC, 0) % 3 + 1;
    println!("  node {asleep} goes down");
    cluster.kill(asleep);
    let trimmed = produce(&cluster, "trimmed", 5_000);
    // In the middle of what the sleeping node never saw.
    let before = trimmed.receipts.iter().map(|receipt| receipt.base_offset).max().expect("receipts") - 1_000;
    assert!(before > 5_000, "{before}");
    cli.try_run(&["topic", "trim", TOPIC, "--partition", "0", "--before", &before.to_string()]).ok();
    produce(&cluster, "after", 5_000);
    let retained = read_topic(cli, TOPIC, 1).remove(0);
    println!("  trimmed to {before}; {} records retained", retained.len());
    assert_eq!(retained.first().map(|read| read.offset), Some(before));
    assert_eq!(retained.last().map(|read| read.offset), Some(14_999));

    cluster.restart(asleep);
    cli.transfer_leader(TOPIC, 0, asleep);
    assert_eq!(read_from(&cluster, asleep), retained, "as leader");
    println!("  node {asleep} back and leading: the same {} records at the same offsets", retained.len());

    cluster.kill(asleep);
    cluster.restart(asleep);
    cli.transfer_leader(TOPIC, 0, asleep);
    assert_eq!(read_from(&cluster, asleep), retained, "as leader after its restart");
    produce(&cluster, "at last", 100);
    let grown = read_from(&cluster, asleep);
    assert_eq!(grown[..retained.len()], retained);
    assert_eq!(grown.len(), retained.len() + 100);
    cluster.finish();
}
