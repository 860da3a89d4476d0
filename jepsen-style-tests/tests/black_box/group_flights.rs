//! Real records through a group: the mean delay per carrier, computed by three consumers together.

use std::collections::BTreeMap;

use jepsen_style_tests::{
    cluster::{Cluster, QUICK, SLOW},
    consumer::Consumer,
    dataset::{delay, flights},
    workload::Plan,
};

/// Sum of the departure delays in minutes, and how many flights have one. Whole numbers, so that the order in
/// which they come changes nothing.
type Delays = BTreeMap<String, (i64, i64)>;

fn add(delays: &mut Delays, row: &str) {
    let (carrier, delay) = delay(row);
    let (sum, flights) = delays.entry(carrier).or_default();
    *sum += delay.unwrap_or(0);
    *flights += i64::from(delay.is_some());
}

#[test]
fn a_group_of_three_computes_the_mean_delay_of_each_carrier() {
    const PARTITIONS: u32 = 6;
    const CARRIERS: usize = 16;
    let records = flights();
    let total = records.len();
    let mut from_file = Delays::new();
    records.iter().for_each(|(_, row)| add(&mut from_file, row));
    assert_eq!(from_file.len(), CARRIERS, "{:?}", from_file.keys());

    let cluster = Cluster::start("group-flights", 3);
    let cli = &cluster.cli;
    cli.create_topic("flights", PARTITIONS);
    let members: Vec<Consumer> = (0..3).map(|_| Consumer::start(cli, &["flights", "-g", "delays"])).collect();
    cli.wait_loads("delays", &[2, 2, 2], QUICK);
    let producer = cli.produce(&Plan::new("flights", PARTITIONS), records.into_iter());
    producer.finish_all(SLOW).assert_all_acked();
    cli.wait_no_lag("delays", SLOW);

    let mut from_group = Delays::new();
    let mut printed = vec![];
    for member in members {
        let lines = member.stop().ok();
        lines.iter().for_each(|line| add(&mut from_group, &line.value));
        printed.push(lines.len());
    }
    println!("  {total} flights, read by three as {printed:?}");
    assert_eq!(printed.iter().sum::<usize>(), total, "each flight once");
    assert!(printed.iter().all(|count| *count > 0), "all three took part: {printed:?}");
    for (carrier, (sum, flights)) in &from_group {
        println!("  {carrier}: mean departure delay {:.2} min of {flights} flights", *sum as f64 / *flights as f64);
    }
    assert_eq!(from_group, from_file);
    cluster.finish();
}
