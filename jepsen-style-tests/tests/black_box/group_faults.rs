//! Faults that were seen at groups, from the command line: each test does what was tried, and says what is right.

use std::time::Duration;

use jepsen_style_tests::{
    cluster::{Cli, Cluster, QUICK, SLOW},
    command::{run, signal, wait_for},
    consumer::{Consumed, Consumer},
};

#[track_caller]
fn produce(cli: &Cli, topic: &str, values: std::ops::Range<u32>) {
    let input = values.map(|value| format!("{value}\n")).collect::<String>();
    run(&mut cli.brokered(&["produce", topic]), input.as_bytes(), QUICK).ok();
}

fn values(consumed: &Consumed) -> Vec<u32> {
    let mut values: Vec<u32> = consumed.lines.iter().map(|line| line.value.parse().expect("a number")).collect();
    values.sort_unstable();
    values
}

fn consume(cli: &Cli, args: &[&str]) -> Consumed {
    Consumer::start(cli, args).ended(SLOW)
}

/// Waits until a group has a member that reads so many partitions.
#[track_caller]
fn wait_reading(cli: &Cli, group: &str, partitions: usize) {
    wait_for(&format!("{partitions} partitions read in {group}"), SLOW, || {
        let described = cli.try_run(&["group", "describe", group, "--format", "json"]);
        let json: serde_json::Value = serde_json::from_str(&described.stdout).map_err(|e| e.to_string())?;
        let read = json["partitions"].as_array().map_or(0, |all| all.iter().filter(|p| !p["member"].is_null()).count());
        if read == partitions { Ok(()) } else { Err(described.stdout) }
    });
}

/// What was written before the member heard of a new partition, or topic, was skipped.
#[test]
fn p9_partitions_and_topics_that_appear_while_a_group_runs_are_read_from_their_first_record() {
    let cluster = Cluster::start("p9", 3);
    let cli = &cluster.cli;
    cli.create_topic("orders", 1);
    cli.create_topic("log-a", 1);
    produce(cli, "orders", 0..10);
    produce(cli, "log-a", 0..10);
    let latest = |args: &[&str]| Consumer::start(cli, &[args, &["--offset-reset", "latest"]].concat());
    let named = latest(&["orders", "-g", "named"]);
    let matching = latest(&["--topics-regex", "log-.*", "-g", "matching"]);
    wait_reading(cli, "named", 1);
    wait_reading(cli, "matching", 1);

    // Written at once, before any member can have heard.
    cli.try_run(&["topic", "add-partitions", "orders", "-p", "4"]).ok();
    produce(cli, "orders", 100..200);
    cli.create_topic("log-b", 2);
    produce(cli, "log-b", 100..200);
    wait_reading(cli, "named", 4);
    wait_reading(cli, "matching", 3);
    produce(cli, "orders", 200..201);
    produce(cli, "log-b", 200..201);
    for (mut consumer, name) in [(named, "named"), (matching, "matching")] {
        consumer.wait_count(101, SLOW);
        let consumed = consumer.stop();
        assert_eq!(values(&consumed), (100..201).collect::<Vec<_>>(), "{name}: nothing old, and all that is new");
        consumed.ok();
    }
    cluster.finish();
}

/// A name that is mistyped was waited for in silence, and with -e it was exit code 0.
#[test]
fn p10_a_topic_that_does_not_exist_is_named_at_once() {
    let cluster = Cluster::start("p10", 3);
    let cli = &cluster.cli;
    let typo = consume(cli, &["typo", "-g", "g", "-e"]);
    assert_eq!((typo.code, typo.lines.len()), (4, 0), "{}", typo.stderr);
    assert!(typo.stderr.contains("\"typo\""), "{}", typo.stderr);

    let mut waits = Consumer::start(cli, &["later", "-g", "g"]);
    wait_reading_none(cli, "g");
    cli.create_topic("later", 1);
    produce(cli, "later", 0..3);
    waits.wait_count(3, SLOW);
    let waited = waits.stop();
    assert!(waited.stderr.contains("topic \"later\" does not exist"), "{}", waited.stderr);
    waited.ok();
    cluster.finish();
}

#[track_caller]
fn wait_reading_none(cli: &Cli, group: &str) {
    wait_for("a member", SLOW, || {
        let described = cli.try_run(&["group", "describe", group, "--format", "json"]);
        if described.stdout.contains("\"members\":[{") { Ok(()) } else { Err(described.stdout) }
    });
}

/// An offset of 10^12 was taken without a word. (What members do with one that was committed: `client::group_tests`.)
#[test]
fn o10_a_place_beyond_the_end_is_named() {
    let cluster = Cluster::start("o10", 3);
    let cli = &cluster.cli;
    cli.create_topic("t", 1);
    produce(cli, "t", 0..10);
    // A place beyond the end is the end, and that is said.
    let seek = cli.try_run(&["group", "seek", "g", "--to", "1000000000000", "--topic", "t"]);
    assert!(seek.stderr.contains("t-0") && seek.stderr.contains("1000000000000"), "{}", seek.stderr);
    seek.ok();
    assert_eq!(consume(cli, &["t", "-g", "g", "-e"]).ok(), []);
    cluster.finish();
}

/// Records that retention took were skipped without a word.
#[test]
fn p23_records_that_are_gone_are_said_with_from_and_to() {
    let cluster = Cluster::start("p23", 3);
    let cli = &cluster.cli;
    cli.create_topic("t", 1);
    produce(cli, "t", 0..10);
    assert_eq!(consume(cli, &["t", "-g", "g", "-n", "3"]).ok().len(), 3);
    cli.try_run(&["topic", "trim", "t", "-p", "0", "--before", "7"]).ok();
    let rest = consume(cli, &["t", "-g", "g", "-e"]);
    assert_eq!(values(&rest), [7, 8, 9]);
    let said = "the records from offset 3 to 6 are gone (retention or a trim); reading on at 7: 4 records skipped";
    assert!(rest.stderr.contains(said), "{}", rest.stderr);
    rest.ok();
    cluster.finish();
}

/// `timeout` signals its child twice within milliseconds: that was taken for two wishes, and the last commit was lost.
#[test]
fn p12_two_signals_at_once_are_one_wish() {
    const TIMES: u32 = 10;
    let cluster = Cluster::start("p12", 3);
    let cli = &cluster.cli;
    cli.create_topic("t", 1);
    for round in 0..TIMES {
        produce(cli, "t", round * 10..round * 10 + 10);
        let mut consumer = Consumer::start(cli, &["t", "-g", "g", "--commit-interval", "1h"]);
        consumer.wait_count(10, SLOW);
        let pid = [consumer.pid()];
        assert!(signal("TERM", &pid), "it runs");
        signal("TERM", &pid); // It may have ended by now.
        let consumed = consumer.ended(QUICK);
        assert_eq!(values(&consumed), (round * 10..round * 10 + 10).collect::<Vec<_>>(), "round {round}");
        assert_eq!(consumed.code, 0, "round {round}: {}", consumed.stderr);
    }
    cluster.finish();
}

/// Ctrl-C did nothing while the ends of partitions were looked up.
#[test]
fn a_signal_ends_a_member_that_looks_for_the_ends_of_its_partitions() {
    let cluster = Cluster::start("group-ends", 3);
    let cli = &cluster.cli;
    // On one broker only, which is stopped: nobody can say where it ends.
    let created = ["topic", "create", "t", "-p", "1", "-r", "1", "--wait"];
    cli.try_run(&created).ok();
    let holder = cli.leader("t", 0);
    let coordinator = cli.metadata_leader().expect("it is known");
    if holder == coordinator {
        cli.try_run(&["cluster", "transfer-leader", "--metadata", "--to", &(holder % 3 + 1).to_string()]).ok();
    }
    cluster.signal("STOP", &[holder]);
    let consumer = Consumer::start(cli, &["t", "-g", "g", "-e", "-v"]);
    wait_for("the member", SLOW, || {
        let described = cli.try_run(&["group", "describe", "g", "--format", "json"]);
        if described.stdout.contains("\"assigned\":{\"t\":[0]}") { Ok(()) } else { Err(described.stdout) }
    });
    let began = std::time::Instant::now();
    let ended = consumer.stop();
    cluster.signal("CONT", &[holder]);
    assert!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    cluster.finish();
}

/// A static member with a long session that crashed held its partitions, and nobody could take it out.
#[test]
fn a_crashed_static_member_is_removed_by_hand() {
    let cluster = Cluster::start("remove-member", 3);
    let cli = &cluster.cli;
    cli.create_topic("t", 2);
    let long = ["t", "-g", "g", "--session-timeout", "30m"];
    let crashed = Consumer::start(cli, &[&long[..], &["--instance-id", "one"]].concat());
    wait_reading(cli, "g", 2);
    drop(crashed.kill());
    produce(cli, "t", 0..10);
    let mut heir = Consumer::start(cli, &long);
    wait_for("two members", SLOW, || {
        let described = cli.json(&["group", "describe", "g"]);
        if described["members"].as_array().is_some_and(|m| m.len() == 2) { Ok(()) } else { Err(described.to_string()) }
    });
    let removed = cli.try_run(&["group", "remove-member", "g", "--instance-id", "one"]);
    removed.ok();
    heir.wait_count(10, SLOW);
    heir.stop().ok();
    let gone = cli.try_run(&["group", "remove-member", "g", "--instance-id", "one"]);
    assert_eq!(gone.code, 4, "{}", gone.stderr);
    cluster.finish();
}
