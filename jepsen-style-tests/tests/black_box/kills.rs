//! Process deaths under load, and how long they are felt.

use std::time::{Duration, Instant};

use jepsen_style_tests::{
    cluster::{Cluster, QUICK, SLOW},
    knob::knob,
    random::Random,
    workload::{Plan, Producer, numbered},
};

use crate::check_topic;

const PARTITIONS: u32 = 6;
const TOPIC: &str = "orders";

/// Enough that every partition has a record every few milliseconds, so that a gap is the cluster's.
const RATE: u32 = 2_000;

/// Under load before, between and after faults.
const BETWEEN: usize = 1_000;

const PAUSES: usize = 5;

/// The promise of an election by plain timers.
const GAP_MAX: Duration = Duration::from_secs(3);

fn start(name: &str) -> (Cluster, Producer) {
    start_with(name, PARTITIONS)
}

fn start_with(name: &str, partitions: u32) -> (Cluster, Producer) {
    let cluster = Cluster::start(name, 3);
    cluster.cli.create_topic(TOPIC, partitions);
    let plan = Plan::new(TOPIC, partitions).rate(RATE);
    let producer = cluster.cli.produce(&plan, numbered("load", 500));
    producer.wait_acked(BETWEEN, QUICK);
    (cluster, producer)
}

/// The partitions that a node leads, each with its epoch.
fn led_by(cluster: &Cluster, node: u64) -> Vec<(u32, u64)> {
    let partitions = cluster.cli.describe(TOPIC).unwrap_or_else(|error| panic!("describe: {error}"));
    partitions.iter().filter(|p| p.leader == Some(node)).map(|p| (p.partition, p.epoch)).collect()
}

/// `FLOTILLA_TEST_LEADER_KILLS`: how many; 100 in scripts/nightly. `FLOTILLA_TEST_KILL_PARTITIONS`: of how many partitions
/// a third is led by who is killed; 96 there.
#[test]
fn after_each_leader_kill_the_next_acknowledgement_comes_within_3_s() {
    let kills: usize = knob("LEADER_KILLS", 8);
    let partitions: u32 = knob("KILL_PARTITIONS", PARTITIONS);
    let mut random = Random::printed("leader kills");
    let (cluster, producer) = start_with("leader-kills", partitions);
    let mut gaps = vec![];
    for kill in 1..=kills {
        let partition = random.below(u64::from(partitions)) as u32;
        let leader = cluster.cli.leader(TOPIC, partition);
        let affected = led_by(&cluster, leader);
        let at = Instant::now();
        cluster.kill(leader);
        producer.wait_new_leaders(&affected, SLOW);
        producer.wait_acked(BETWEEN, SLOW);
        let silences = affected.iter().map(|(partition, _)| producer.longest_gap(*partition, at));
        gaps.extend(silences.clone());
        let (led, longest) = (affected.len(), silences.max().unwrap_or_default());
        println!("  kill {kill}: node {leader}, leader of {led}, longest gap {} ms", longest.as_millis());
        cluster.restart(leader);
        cluster.cli.wait_healthy();
    }
    let produced = producer.finish(SLOW);
    produced.assert_all_acked();
    check_topic(&cluster.cli, TOPIC, partitions, &[&produced], Some(kills));
    gaps.sort_unstable();
    let at = |share: f64| gaps[((gaps.len() - 1) as f64 * share) as usize];
    let [median, p99, worst] = [0.5, 0.99, 1.0].map(at);
    println!(
        "  {kills} leader kills, {} gaps: p50 {} ms, p99 {} ms, maximum {} ms",
        gaps.len(),
        median.as_millis(),
        p99.as_millis(),
        worst.as_millis()
    );
    assert!(worst <= GAP_MAX, "the longest gap was {worst:?}");
    cluster.finish();
}

/// A hung machine: its connections stay open and nobody says goodbye. When it goes on it still believes that it
/// leads, and what it acknowledges or serves then must be true.
#[test]
fn a_paused_leader_is_replaced_and_goes_on_as_a_follower() {
    let mut random = Random::printed("leader pauses");
    let (cluster, producer) = start("leader-pauses");
    let mut gaps = vec![];
    for pause in 1..=PAUSES {
        let partition = random.below(u64::from(PARTITIONS)) as u32;
        let leader = cluster.cli.leader(TOPIC, partition);
        let affected = led_by(&cluster, leader);
        let at = Instant::now();
        cluster.signal("STOP", &[leader]);
        producer.wait_new_leaders(&affected, SLOW);
        producer.wait_acked(BETWEEN, SLOW);
        cluster.signal("CONT", &[leader]);
        producer.wait_acked(BETWEEN, SLOW);
        let gap = affected.iter().map(|(p, _)| producer.longest_gap(*p, at)).max().unwrap_or_default();
        println!("  pause {pause}: node {leader}, (partition, epoch) {affected:?}, longest gap {} ms", gap.as_millis());
        gaps.push(gap);
        cluster.cli.wait_healthy();
    }
    let produced = producer.finish(SLOW);
    produced.assert_all_acked();
    check_topic(&cluster.cli, TOPIC, PARTITIONS, &[&produced], Some(gaps.len()));
    let worst = gaps.iter().max().copied().unwrap_or_default();
    assert!(worst <= GAP_MAX, "the longest gap was {worst:?}");
    cluster.finish();
}

#[test]
fn a_follower_kill_fails_no_produce() {
    let (cluster, producer) = start("follower-kill");
    for follower in 1..=3 {
        // Leads nothing, so it is a follower of everything.
        for (partition, _) in led_by(&cluster, follower) {
            cluster.cli.transfer_leader(TOPIC, partition, follower % 3 + 1);
        }
        assert_eq!(led_by(&cluster, follower), []);
        let at = Instant::now();
        cluster.kill(follower);
        producer.wait_acked(BETWEEN, SLOW);
        let gap = (0..PARTITIONS).map(|p| producer.longest_gap(p, at)).max().unwrap_or_default();
        println!("  follower {follower} killed: longest gap {} ms", gap.as_millis());
        cluster.restart(follower);
        cluster.cli.wait_healthy();
    }
    let produced = producer.finish(SLOW);
    produced.assert_all_acked();
    check_topic(&cluster.cli, TOPIC, PARTITIONS, &[&produced], Some(3));
    cluster.finish();
}

/// SAFETY M13: leaderships move away before the process ends.
#[test]
fn sigterm_of_each_node_in_turn_fails_no_produce() {
    let (cluster, producer) = start("sigterm");
    for node in 1..=3 {
        let pid = cluster.node(node).pid;
        let led = led_by(&cluster, node);
        let at = Instant::now();
        cluster.signal("TERM", &[node]);
        cluster.wait_gone(pid);
        let ended = at.elapsed();
        producer.wait_acked(BETWEEN, SLOW);
        let gap = (0..PARTITIONS).map(|p| producer.longest_gap(p, at)).max().unwrap_or_default();
        println!(
            "  SIGTERM of node {node}, leader of {led:?}: ended in {} ms, longest gap {} ms",
            ended.as_millis(),
            gap.as_millis()
        );
        cluster.restart(node);
        cluster.cli.wait_healthy();
    }
    let produced = producer.finish(SLOW);
    produced.assert_all_acked();
    check_topic(&cluster.cli, TOPIC, PARTITIONS, &[&produced], Some(3));
    cluster.finish();
}

/// Restart, not power loss: the operating system keeps what was written.
/// `FLOTILLA_TEST_TOTAL_KILLS`: how many; 100 in scripts/nightly.
#[test]
fn all_three_killed_at_once_again_and_again_lose_nothing_acknowledged() {
    let kills: usize = knob("TOTAL_KILLS", 8);
    let cluster = Cluster::start("total-kills", 3);
    cluster.cli.create_topic(TOPIC, PARTITIONS);
    let mut runs = vec![];
    for kill in 1..=kills {
        // A producer of its own for each round. What is in flight when all die may outlive it or not.
        let plan = Plan::new(TOPIC, PARTITIONS).rate(RATE);
        let producer = cluster.cli.produce(&plan, numbered(&format!("round-{kill}"), 500));
        producer.wait_acked(BETWEEN, SLOW);
        let pids: Vec<u32> = cluster.status().iter().map(|node| node.pid).collect();
        cluster.signal("KILL", &[1, 2, 3]);
        pids.iter().for_each(|pid| cluster.wait_gone(*pid));
        let down = Instant::now();
        for node in 1..=3 {
            cluster.restart(node);
        }
        // The same producer goes on: its retries outlast the outage.
        producer.wait_acked(1, SLOW);
        println!("  kill {kill}: acknowledging again after {} ms", down.elapsed().as_millis());
        runs.push(producer.finish(SLOW));
    }
    cluster.cli.wait_healthy();
    let failed = runs.iter().filter(|run| run.code != 0).count();
    println!("  {kills} kills of all three; {failed} producers ended with a failure");
    let runs: Vec<_> = runs.iter().collect();
    check_topic(&cluster.cli, TOPIC, PARTITIONS, &runs, Some(kills));
    cluster.finish();
}
