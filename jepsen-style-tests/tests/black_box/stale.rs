//! What a leader says that slept while others chose another.

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use jepsen_style_tests::{
    cluster::{Cluster, SLOW},
    command::pause,
    kafka::{Answer, Connection},
    knob::knob,
    workload::{Plan, numbered},
};

use crate::check_topic;

const TOPIC: &str = "orders";
/// How long its answers are watched once it goes on.
const WATCHED: Duration = Duration::from_secs(5);

/// Requests wait in its socket when it wakes, before any message of its peers: it must not answer them by what it
/// believes (etcd #20418). `FLOTILLA_TEST_SLEEP_SECONDS`: how long; 30 in scripts/nightly.
#[test]
fn a_leader_that_slept_takes_no_old_end_for_the_end() {
    let sleeps = Duration::from_secs(knob("SLEEP_SECONDS", 8));
    let cluster = Cluster::start("stale", 3);
    cluster.cli.create_topic(TOPIC, 1);
    let producer = cluster.cli.produce(&Plan::new(TOPIC, 1).rate(500), numbered("load", 10));
    producer.wait_acked(500, SLOW);
    let leader = cluster.cli.leader(TOPIC, 0);
    let epoch = cluster.cli.describe(TOPIC).expect("it is there")[0].epoch;
    let mut asked = Connection::open(&cluster.node(leader).kafka, TOPIC, SLOW).expect("the leader listens");
    asked.ask_latest(0).expect("sent");
    assert!(matches!(asked.answer(), Ok(Answer::Latest(end)) if end >= 500), "awake it answers");

    cluster.signal("STOP", &[leader]);
    let slept = Instant::now();
    asked.ask_latest(0).expect("into its socket");
    asked.ask_records(0, 0).expect("into its socket");
    producer.wait_new_leaders(&[(0, epoch)], SLOW);
    producer.wait_acked(500, SLOW);
    while slept.elapsed() < sleeps {
        pause();
    }
    let acked = producer.acked() as i64;
    cluster.signal("CONT", &[leader]);
    let (mut answers, mut read, woke) = (0, vec![], Instant::now());
    while woke.elapsed() < WATCHED {
        asked.ask_latest(0).expect("it lives");
        asked.ask_records(0, 0).expect("it lives");
        for _ in 0..2 {
            answers += 1;
            match asked.answer() {
                Ok(Answer::Error(_)) => {}
                Ok(Answer::Latest(end)) => assert!(end >= acked, "{end} is the end, {acked} were acknowledged"),
                Ok(Answer::Fetched { high_watermark, records }) => {
                    assert!(high_watermark >= acked, "{high_watermark}, and {acked} were acknowledged before");
                    read.push(records);
                }
                Err(error) => panic!("no answer within {SLOW:?}: {error} ({:?})", error.kind() == ErrorKind::TimedOut),
            }
        }
    }
    println!("  slept {} s; {answers} answers, {} of them with records", slept.elapsed().as_secs(), read.len());
    let produced = producer.finish(SLOW);
    produced.assert_all_acked();
    check_topic(&cluster.cli, TOPIC, 1, &[&produced], Some(1));
    // Whatever it handed out is there still, byte for byte.
    let now = cluster.cli.leader(TOPIC, 0);
    let mut asked = Connection::open(&cluster.node(now).kafka, TOPIC, SLOW).expect("the leader listens");
    asked.ask_records(0, 0).expect("sent");
    let Ok(Answer::Fetched { records: last, .. }) = asked.answer() else { panic!("the leader does not answer") };
    assert!(!last.is_empty());
    for read in read {
        let common = read.len().min(last.len());
        assert!(read[..common] == last[..common], "what was read has been taken back");
    }
    cluster.finish();
}
