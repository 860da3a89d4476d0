//! The main job on real input: 336,776 flights keyed by tail number.

use std::time::{Duration, Instant};

use jepsen_style_tests::{cluster::Cluster, cluster::SLOW, dataset::flights, knob::knob, workload::Plan};

use crate::check_topic;

/// `FLOTILLA_TEST_FLIGHTS_RATE`: records a second. The default keeps the load up for some 20 s, so that
/// both kills and both restarts fall into it.
#[test]
fn flights_survive_the_kill_of_two_leaders_under_load() {
    const PARTITIONS: u32 = 6;
    const RECORDS_MIN: usize = 300_000;
    let records = flights();
    assert!(records.len() >= RECORDS_MIN, "{} records", records.len());
    let total = records.len();
    let cluster = Cluster::start("flights", 3);
    let cli = &cluster.cli;
    cli.create_topic("flights", PARTITIONS);

    let began = Instant::now();
    let plan = Plan::new("flights", PARTITIONS).rate(knob("FLIGHTS_RATE", 15_000));
    let mut producer = cli.produce(&plan, records.into_iter());
    producer.wait_acked(total / 5, SLOW);
    let partitions = cli.describe("flights").unwrap_or_else(|error| panic!("describe: {error}"));
    let fullest = partitions.iter().max_by_key(|p| p.bytes).expect("six partitions");
    let leader = cli.leader("flights", fullest.partition);
    println!("  partition {} has most bytes ({}); killing its leader, node {leader}", fullest.partition, fullest.bytes);
    cluster.kill(leader);
    producer.wait_acked(total / 10, SLOW);
    cluster.restart(leader);
    cli.wait_healthy();

    let leader = cli.metadata_leader().unwrap_or_else(|error| panic!("metadata leader: {error}"));
    println!("  killing the metadata leader, node {leader}");
    let busy = producer.is_running() && producer.acked() < total;
    assert!(busy, "all {total} records were acknowledged before the second kill: lower FLOTILLA_TEST_FLIGHTS_RATE");
    cluster.kill(leader);
    producer.wait_acked(1, SLOW);
    cluster.restart(leader);
    cli.wait_healthy();

    let produced = producer.finish_all(SLOW);
    let took = began.elapsed();
    produced.assert_all_acked();
    assert_eq!(produced.sent_count(), total);
    println!("  {total} records in {} batches, {:.1} s", produced.receipts.len(), took.as_secs_f64());
    // Entries without records (elections) lie between: indexes skip, offsets must not.
    let elections = produced.receipts.iter().map(|receipt| receipt.epoch).max().expect("receipts");
    println!("  highest epoch in a receipt: {elections}");
    assert!(elections >= 2, "no election happened under load");
    assert!(took > Duration::from_secs(1));
    check_topic(cli, "flights", PARTITIONS, &[&produced], Some(2));
    cluster.finish();
}
