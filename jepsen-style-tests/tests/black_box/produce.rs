//! What a producer is told: receipts, and the difference between "no effect" and "unknown".

use std::{
    sync::mpsc::{self, Receiver, Sender},
    time::{Duration, Instant},
};

use jepsen_style_tests::{
    checker::{History, Outcome, check_run},
    cluster::{Cluster, QUICK, SLOW},
    command::{pause, wait_for},
    readback::read_topic,
    workload::{Plan, Produced, Producer, numbered},
};

use crate::check_topic;

const TOPIC: &str = "orders";

#[test]
fn with_node_3_paused_every_receipt_names_exactly_nodes_1_and_2() {
    const PARTITIONS: u32 = 6;
    let cluster = Cluster::start("receipts", 3);
    cluster.cli.create_topic(TOPIC, PARTITIONS);
    let produce = |name: &str| {
        let run = cluster.cli.produce(&Plan::new(TOPIC, PARTITIONS), numbered(name, 100).take(2_000)).finish_all(SLOW);
        run.assert_all_acked();
        run
    };
    let whole = produce("whole");
    assert!(whole.receipts.iter().all(|receipt| receipt.durable_on.len() >= 2), "a receipt names no majority");
    cluster.local(&["pause", "3"]);
    let paused = produce("paused");
    for receipt in &paused.receipts {
        assert_eq!(receipt.durable_on, [1, 2], "{receipt:?}");
    }
    let three = whole.receipts.iter().filter(|receipt| receipt.durable_on.len() == 3).count();
    println!("  whole: {three} of {} receipts name all three", whole.receipts.len());
    println!("  node 3 paused: {} receipts, all name 1 and 2", paused.receipts.len());
    cluster.local(&["resume", "3"]);
    cluster.cli.wait_healthy();
    let after = produce("after");
    check_topic(&cluster.cli, TOPIC, PARTITIONS, &[&whole, &paused, &after], Some(1));
    cluster.finish();
}

/// A producer that is connected and has its producer id before the fault; records are handed to it
/// one by one.
struct Ready {
    producer: Producer,
    hand: Sender<(String, String)>,
}

impl Ready {
    fn start(cluster: &Cluster, name: &str, timeout: Duration) -> Ready {
        let (hand, handed): (_, Receiver<(String, String)>) = mpsc::channel();
        let plan = Plan::new(TOPIC, 1).one_by_one().timeout(timeout);
        // Blocks in `next` while nothing is handed over, and ends when the hand is dropped.
        let producer = cluster.cli.produce(&plan, handed.into_iter());
        hand.send(("k".into(), format!("{name} ready"))).expect("the producer takes records");
        producer.wait_acked(1, QUICK);
        Ready { producer, hand }
    }

    /// Hands over one record, the last, and waits for the end.
    fn last(self, value: &str) -> (Produced, Duration) {
        let began = Instant::now();
        self.hand.send(("k".into(), value.into())).expect("the producer takes records");
        drop(self.hand);
        let produced = self.producer.finish_all(QUICK);
        (produced, began.elapsed())
    }
}

/// SAFETY B8. Without its majority a leader takes records until its lease is over (their outcome is
/// unknown), and refuses them after it (no effect).
#[test]
fn without_a_majority_a_produce_ends_unknown_within_the_lease_and_refused_after_it() {
    const TIMEOUT: Duration = Duration::from_secs(5);
    // For a process to notice and end, on a loaded machine.
    const SLACK: Duration = Duration::from_secs(2);
    const LEASE_OVER: Duration = Duration::from_secs(3);
    let cluster = Cluster::start("no-majority", 3);
    let cli = &cluster.cli;
    cli.create_topic(TOPIC, 1);
    cli.transfer_leader(TOPIC, 0, 1);
    let first = Ready::start(&cluster, "first", TIMEOUT);
    let second = Ready::start(&cluster, "second", TIMEOUT);
    assert_eq!(cli.leader(TOPIC, 0), 1);

    cluster.signal("STOP", &[2, 3]);
    let paused = Instant::now();
    let (unknown, took) = first.last("within the lease");
    println!("  within the lease: exit code {}, {} ms", unknown.code, took.as_millis());
    assert_eq!(unknown.code, 3, "outcome unknown: {}", unknown.stderr);
    assert!(took <= TIMEOUT + SLACK, "{took:?}");

    wait_for("the lease to be over", QUICK, || {
        if paused.elapsed() > LEASE_OVER { Ok(()) } else { Err(format!("{:?}", paused.elapsed())) }
    });
    pause();
    let (refused, took) = second.last("after the lease");
    println!("  after the lease: exit code {}, {} ms: {}", refused.code, took.as_millis(), refused.stderr.trim());
    assert_eq!(refused.code, 5, "the first is stored, the last had no effect: {}", refused.stderr);
    assert!(took <= TIMEOUT + SLACK, "{took:?}");
    // The checker holds exit code 5 to its promise.
    assert_eq!(refused.sent[0].last().map(|sent| sent.outcome), Some(Outcome::Refused));

    cluster.signal("CONT", &[2, 3]);
    cli.wait_healthy();
    let after = cli.produce(&Plan::new(TOPIC, 1), numbered("after", 1).take(100)).finish_all(SLOW);
    after.assert_all_acked();
    let log = read_topic(cli, TOPIC, 1).remove(0);
    let appeared = log.iter().any(|read| read.value == "within the lease");
    println!("  after resume: the unknown record {} in the log", if appeared { "is" } else { "is not" });
    let producers = [unknown, refused, after].map(|mut produced| produced.sent.remove(0)).to_vec();
    let history = History { partition: 0, log_start: 0, producers, log };
    check_run(&[history], Some(1)).assert_valid();
    cluster.finish();
}
