//! Faults of other systems like ours that were tried here, and of an operator's fortnight, from the
//! command line: each test does what was tried and says what is right. Those of groups, producers and nodes
//! stand in `group_faults`, `producing`, `operators`, `restored`, `moved`, `abuse`, `isolation` and `alerts`.

use std::time::Duration;

use jepsen_style_tests::{
    cluster::{Cli, Cluster, QUICK, SLOW, root},
    command::{run, wait_for},
    consumer::{Consumed, Consumer},
    scrape::get,
};

#[track_caller]
fn produce(cli: &Cli, topic: &str, values: std::ops::Range<u32>) {
    let input = values.map(|value| format!("{value}\n")).collect::<String>();
    run(&mut cli.brokered(&["produce", topic]), input.as_bytes(), QUICK).ok();
}

fn values(consumed: &Consumed) -> Vec<u32> {
    consumed.lines.iter().map(|line| line.value.parse().expect("a number")).collect()
}

/// Seen once: group members skipped the first records of the new topic and committed past them (20 of 20); a plain
/// reader was silent for 30 s and ended with NOT_LEADER.
#[test]
fn p4_a_topic_made_anew_is_another_topic_to_everybody_who_reads() {
    let cluster = Cluster::start("p4", 3);
    let cli = &cluster.cli;
    cli.create_topic("t", 1);
    produce(cli, "t", 0..10);
    let mut plain = Consumer::start(cli, &["t", "-o", "start"]);
    let mut member = Consumer::start(cli, &["t", "-g", "g", "--offset-reset", "earliest"]);
    plain.wait_count(10, SLOW);
    member.wait_count(10, SLOW);

    cli.try_run(&["topic", "delete", "t"]).ok();
    cli.create_topic("t", 1);
    produce(cli, "t", 100..110);
    member.wait_count(20, SLOW);
    // Often before it has heard that the partition is another one: its last commit was refused then.
    let member = member.stop();
    assert_eq!(values(&member), (0..10).chain(100..110).collect::<Vec<_>>(), "{}", member.stderr);
    member.ok();
    cli.wait_no_lag("g", SLOW);
    let plain = plain.ended(SLOW);
    assert!(plain.code != 0 && plain.stderr.contains("\"t\" was deleted while it was read"), "{}", plain.stderr);
    assert_eq!(values(&plain), (0..10).collect::<Vec<_>>(), "nothing of the namesake");
    cluster.finish();
}

/// Seen once: the leader of a group refused all writes for good after a transfer that its caller gave up: for the
/// metadata group no topic could be made and no offset committed, and health said healthy.
#[test]
fn p19_a_transfer_that_is_given_up_leaves_a_leader_that_leads() {
    const GIVEN_UP: Duration = Duration::from_millis(600);
    let cluster = Cluster::start("p19", 3);
    let cli = &cluster.cli;
    cli.create_topic("orders", 1);
    let led = wait_for("a metadata leader", QUICK, || cli.metadata_leader());
    cli.transfer_leader("orders", 0, led);
    // It counts as alive for a second yet, so the transfer begins, and waits for it.
    let frozen = led % 3 + 1;
    cluster.local(&["pause", &frozen.to_string()]);
    let to = frozen.to_string();
    for what in [&["orders", "--partition", "0"][..], &["--metadata"]] {
        let args = [&["cluster", "transfer-leader"][..], what, &["--to", &to]].concat();
        let finished = run(&mut cli.brokered(&args), b"", GIVEN_UP);
        println!("  {what:?} to frozen broker {frozen}: exit code {} after {:?}", finished.code, finished.took);
        assert_ne!(finished.code, 0, "{finished:?}");
    }
    produce(cli, "orders", 0..10);
    cli.create_topic("made", 1);
    assert_eq!(Consumer::start(cli, &["orders", "-g", "g", "-n", "10"]).ended(SLOW).ok().len(), 10);
    cli.try_run(&["group", "seek", "g", "--to", "earliest", "--topic", "orders"]).ok();
    cluster.local(&["resume", &to]);
    cli.wait_healthy();
    cluster.finish();
}

/// Seen once: the command was answered before the leader used the new rule.
#[test]
fn p25_a_rule_holds_when_the_command_that_sets_it_ends() {
    let cluster = Cluster::start("p25", 3);
    let cli = &cluster.cli;
    cli.create_topic("t", 3);
    let record = "x".repeat(5_000);
    for round in 0..10 {
        for (bytes, code) in [(2_000, 1), (100_000, 0)] {
            let set = format!("max.message.bytes={bytes}");
            cli.try_run(&["topic", "alter", "t", "--config", &set]).ok();
            let partition = (round % 3).to_string();
            let args = ["produce", "t", "--partition", &partition];
            let finished = run(&mut cli.brokered(&args), record.as_bytes(), QUICK);
            assert_eq!(finished.code, code, "round {round}, {set}: {finished:?}");
        }
    }
    cluster.finish();
}

/// Seen once: replicas, even preferred leaders, were placed on a broker known to be dead, without a word.
#[test]
fn o5_new_replicas_stand_on_live_brokers_as_far_as_there_are_any() {
    let cluster = Cluster::start("o5", 3);
    let cli = &cluster.cli;
    cluster.kill(3);
    wait_for("its death to be noticed", SLOW, || {
        let health = cli.try_run(&["cluster", "health"]);
        if health.stdout.contains("broker 3 does not answer") { Ok(()) } else { Err(health.stdout) }
    });
    let two = cli.try_run(&["topic", "create", "two", "--partitions", "6", "--replication-factor", "2", "--wait"]);
    assert!(!two.stderr.contains("does not answer"), "there are enough: {}", two.stderr);
    two.ok();
    let placed = cli.describe("two").expect("it is there");
    assert!(placed.iter().all(|p| !p.replicas.contains(&3)), "{placed:?}");

    let three = cli.try_run(&["topic", "create", "three", "--partitions", "6", "--replication-factor", "3", "--wait"]);
    let said = "on broker 3, which does not answer: there are too few live brokers";
    assert!(three.stderr.contains(said), "{}", three.stderr);
    three.ok();
    let placed = cli.describe("three").expect("it is there");
    assert!(placed.iter().all(|p| p.replicas.first() != Some(&3)), "preferred, and dead: {placed:?}");
    produce(cli, "three", 0..10);
    cluster.finish();
}

/// Seen once: of three brokers one is left. It said that it is ready, and health took a line a partition.
#[test]
fn o3_who_is_left_alone_says_so_in_few_lines() {
    let cluster = Cluster::start("o3", 3);
    let cli = &cluster.cli;
    cli.create_topic("t", 20);
    produce(cli, "t", 0..10);
    cluster.signal("KILL", &[2, 3]);
    let alone = cluster.node(1);
    wait_for("/readyz to say that there is no majority", SLOW, || match get(&alone, &alone.http, "/readyz")? {
        (503, _) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let health = wait_for("health to name both", SLOW, || {
        let health = cli.try_run(&["cluster", "health"]);
        let names = [2, 3].iter().all(|id| health.stdout.contains(&format!("broker {id} does not answer")));
        if health.code == 10 && names { Ok(health.stdout) } else { Err(format!("{}: {}", health.code, health.stdout)) }
    });
    assert!(health.lines().count() <= 12, "one line a cause, not a partition:\n{health}");
    let described = cli.describe("t").expect("it is there");
    assert!(described.iter().all(|p| p.leader.is_none()), "nobody takes writes: {described:?}");
    assert_eq!(cli.metadata_leader().ok(), None);
    cluster.restart(2);
    cluster.restart(3);
    cli.wait_healthy();
    cluster.finish();
}

/// Seen once: right after `create --wait` the numbers of partitions were question marks.
#[test]
fn r8_what_was_just_created_has_its_numbers() {
    let cluster = Cluster::start("r8", 3);
    let cli = &cluster.cli;
    for round in 0..10 {
        let topic = format!("t{round}");
        cli.try_run(&["topic", "create", &topic, "--partitions", "4", "--wait"]).ok();
        let described = cli.try_run(&["topic", "describe", &topic]).ok();
        assert!(!described.contains('?'), "round {round}:\n{described}");
        let known = cli.describe(&topic).expect("it is there");
        assert!(known.iter().all(|p| (p.log_start, p.high_watermark, p.bytes) == (0, 0, 0)), "{known:?}");
    }
    cluster.finish();
}

/// Seen once: the API did not say which gRPC status an error becomes, nor how large a message may be.
#[test]
fn o12_the_api_tells_the_status_of_each_error_and_the_limit_of_a_message() {
    let path = root().join("proto/flotilla/v1/flotilla.proto");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let codes = text.split("enum ErrorCode {").nth(1).and_then(|rest| rest.split("\n}").next()).expect("the enum");
    let lines: Vec<&str> = codes.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let is_silent = |pair: &&[&str]| pair[1].contains(" = ") && !pair[0].starts_with("// Status ");
    let silent: Vec<&str> = lines.windows(2).filter(is_silent).map(|pair| pair[1]).collect();
    assert!(silent.is_empty() && lines.len() > 30, "without a status: {silent:?}");
    assert!(text.contains("16 MiB"), "the limit of a message");
}
