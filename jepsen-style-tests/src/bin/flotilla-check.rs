//! The demonstration behind `scripts/demo`: three nodes, seeded orders, a leader killed with
//! SIGKILL under load, and a check of every acknowledgement against the log.

use std::time::{Duration, Instant};

use jepsen_style_tests::{
    checker::{History, check_run},
    cluster::{Cluster, SLOW},
    knob::knob,
    random::Random,
    readback::read_topic,
    workload::Plan,
};

const TOPIC: &str = "orders";
const PARTITIONS: u32 = 3;

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("demo") => demo(),
        other => {
            eprintln!("flotilla-check: {other:?} is not a command; try `flotilla-check demo`");
            std::process::exit(2);
        }
    }
}

/// Every order is distinct: its number is in it.
fn orders(mut random: Random) -> impl Iterator<Item = (String, String)> + Send {
    const ITEMS: [&str; 6] = ["anchor", "compass", "lantern", "rope", "sail", "sextant"];
    (1u64..).map(move |number| {
        let customer = format!("customer-{}", random.below(200));
        let item = ITEMS[random.below(ITEMS.len() as u64) as usize];
        let (quantity, cents) = (1 + random.below(9), 100 + random.below(90_000));
        let order = format!(r#"{{"order":{number},"item":"{item}","quantity":{quantity},"cents":{cents}}}"#);
        (customer, order)
    })
}

/// Panics, and so exits with a code other than 0, on anything that breaks the promise.
fn demo() {
    let seed: u64 = knob("SEED", 2026);
    let count: usize = knob("DEMO_RECORDS", 40_000);
    let began = Instant::now();
    step(began, "starting three nodes (flotilla local start --nodes 3)");
    let cluster = Cluster::start("demo", 3);
    let cli = &cluster.cli;
    for node in cluster.status() {
        step(began, &format!("  node {}: pid {}, clients at {}", node.id, node.pid, node.client));
    }
    step(began, &format!("creating topic {TOPIC}: {PARTITIONS} partitions, 3 replicas each"));
    cli.create_topic(TOPIC, PARTITIONS);

    step(began, &format!("producing {count} orders (seed {seed}) with acks=all"));
    let plan = Plan::new(TOPIC, PARTITIONS).rate(5_000);
    let producer = cli.produce(&plan, orders(Random::seeded(seed)).take(count));
    producer.wait_acked(count / 3, SLOW);
    let leader = cli.leader(TOPIC, 0);
    let partitions = cli.describe(TOPIC).unwrap_or_else(|error| panic!("{error}"));
    let led: Vec<(u32, u64)> =
        partitions.iter().filter(|p| p.leader == Some(leader)).map(|p| (p.partition, p.epoch)).collect();
    let numbers: Vec<u32> = led.iter().map(|(partition, _)| *partition).collect();
    step(
        began,
        &format!("SIGKILL to node {leader}, leader of partitions {numbers:?}, with {} acknowledged", producer.acked()),
    );
    let killed = Instant::now();
    cluster.kill(leader);
    producer.wait_new_leaders(&led, SLOW);
    let gap = numbers.iter().map(|p| producer.longest_gap(*p, killed)).max().unwrap_or_default();
    step(began, &format!("its partitions acknowledge again; longest gap {} ms", gap.as_millis()));
    step(began, &format!("restarting node {leader}"));
    cluster.restart(leader);
    let produced = producer.finish_all(SLOW);
    produced.assert_all_acked();

    step(began, "reading everything back");
    let logs = read_topic(cli, TOPIC, PARTITIONS);
    let history = |(partition, log): (usize, _)| {
        let producers = vec![produced.sent[partition].clone()];
        History { partition: partition as u32, log_start: 0, producers, log }
    };
    let histories: Vec<History> = logs.into_iter().enumerate().map(history).collect();
    let summary = check_run(&histories, Some(1));
    summary.assert_valid();
    assert!(summary.acked == count && summary.read == count, "{summary:?}");
    cluster.finish();
    let took = began.elapsed();
    println!();
    println!(
        "proved: {count} orders sent, {} acknowledged by a majority's disks, {} read back:",
        summary.acked, summary.read
    );
    println!("  every acknowledged order is there exactly once, at the offset its receipt named,");
    println!("  in the order sent within its customer, offsets dense from 0 in all {PARTITIONS} partitions,");
    println!("  although node {leader} was killed with SIGKILL under load (longest gap {} ms).", gap.as_millis());
    println!("{:.1} s in all", took.as_secs_f64());
    if took > Duration::from_secs(60) {
        eprintln!("flotilla-check: slower than the promised 60 s");
    }
}

fn step(began: Instant, what: &str) {
    println!("[{:5.1} s] {what}", began.elapsed().as_secs_f64());
}
