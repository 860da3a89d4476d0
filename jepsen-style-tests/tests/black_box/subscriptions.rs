//! What a consumer reads: several topics, and topics that match a pattern, also those created later.

use std::time::{Duration, Instant};

use jepsen_style_tests::{
    cluster::{Cli, Cluster, QUICK, SLOW},
    command::{run, wait_for},
    consumer::{Consumer, Line},
};

/// From the creation of a topic that matches to its first record at the consumer.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(10);

#[track_caller]
fn produce(cli: &Cli, topic: &str, values: &[&str]) {
    let input = values.iter().map(|value| format!("{value}\n")).collect::<String>();
    run(&mut cli.brokered(&["produce", topic]), input.as_bytes(), QUICK).ok();
}

/// Topic and value of what was printed, sorted.
fn printed(lines: &[Line]) -> Vec<(&str, &str)> {
    let mut printed: Vec<_> = lines.iter().map(|line| (line.topic.as_str(), line.value.as_str())).collect();
    printed.sort_unstable();
    printed
}

#[test]
fn a_subscription_is_to_two_topics_or_to_a_pattern_and_follows_what_is_created_later() {
    let cluster = Cluster::start("subscriptions", 3);
    let cli = &cluster.cli;
    for topic in ["orders", "payments", "log.old", "catalog.x"] {
        cli.create_topic(topic, 2);
    }
    produce(cli, "orders", &["o1", "o2"]);
    produce(cli, "payments", &["p1"]);
    produce(cli, "log.old", &["l1"]);
    produce(cli, "catalog.x", &["never"]);

    let mut both = Consumer::start(cli, &["orders", "payments", "-g", "both"]);
    let mut alone = Consumer::start(cli, &["--topics-regex", r"log\..*"]);
    let mut member = Consumer::start(cli, &["--topics-regex", r"log\..*", "-g", "logs"]);
    both.wait_count(3, QUICK);
    for consumer in [&mut alone, &mut member] {
        consumer.wait_count(1, QUICK);
    }

    let created = Instant::now();
    cli.create_topic("log.new", 2);
    produce(cli, "log.new", &["l2", "l3"]);
    for (name, consumer) in [("without a group", &mut alone), ("in a group", &mut member)] {
        consumer.wait_count(3, SLOW);
        let first = consumer.lines().into_iter().find(|line| line.topic == "log.new").expect("three lines");
        let took = first.at - created;
        println!("  {name}: a record of the new topic {} ms after its creation began", took.as_millis());
        assert!(took <= FOLLOWED_WITHIN, "{name}: {took:?}");
    }
    // Not for whole names: "catalog.x" has "log." in it.
    produce(cli, "log.old", &["l4"]);
    let logs = [("log.new", "l2"), ("log.new", "l3"), ("log.old", "l1"), ("log.old", "l4")];
    for consumer in [&mut alone, &mut member] {
        consumer.wait_count(4, QUICK);
        assert_eq!(printed(&consumer.lines()), logs);
    }
    assert_eq!(printed(&both.stop().ok()), [("orders", "o1"), ("orders", "o2"), ("payments", "p1")]);
    assert_eq!(printed(&member.stop().ok()), logs);
    drop(alone.kill());

    // What was committed at SIGTERM is not printed again.
    produce(cli, "orders", &["o3"]);
    let again = Consumer::start(cli, &["orders", "payments", "-g", "both", "-e"]).ended(QUICK).ok();
    assert_eq!(printed(&again), [("orders", "o3")]);
    cluster.finish();
}

#[test]
fn a_group_is_moved_only_while_it_is_empty() {
    const RECORDS: usize = 100;
    let cluster = Cluster::start("group-places", 3);
    let cli = &cluster.cli;
    cli.create_topic("orders", 1);
    let values: Vec<String> = (0..RECORDS).map(|n| n.to_string()).collect();
    produce(cli, "orders", &values.iter().map(String::as_str).collect::<Vec<_>>());

    let mut consumer = Consumer::start(cli, &["orders", "-g", "billing"]);
    consumer.wait_count(RECORDS, QUICK);
    for verb in [&["seek", "billing", "--to", "earliest"][..], &["reset", "billing"], &["delete", "billing"]] {
        let refused = cli.try_run(&[&["group"], verb].concat());
        println!("  {verb:?} of a group with a member: {}", refused.stderr.trim());
        assert_eq!(refused.code, 1, "{verb:?}: {}", refused.stderr);
        assert!(refused.stderr.contains("stop"), "{verb:?} does not say what to do: {}", refused.stderr);
    }
    consumer.stop().ok();

    let offsets = |args: &[&str]| {
        let lines = Consumer::start(cli, &[&["orders", "-g", "billing", "-e"], args].concat()).ended(QUICK).ok();
        (lines.first().map(|line| line.offset), lines.len())
    };
    let seek = |args: &[&str]| cli.json(&[&["group", "seek", "billing", "--to"], args].concat());
    assert_eq!(offsets(&[]), (None, 0), "everything was committed");
    let would = seek(&["-5", "--dry-run"]);
    assert_eq!(would["partitions"][0]["from"], 100);
    assert_eq!(would["partitions"][0]["to"], 95);
    assert_eq!(offsets(&[]), (None, 0), "a dry run moves nothing");
    seek(&["-5"]);
    assert_eq!(offsets(&["--no-commit"]), (Some(95), 5));
    assert_eq!(offsets(&[]), (Some(95), 5), "with --no-commit the place stayed");
    seek(&["42", "--topic", "orders:0"]);
    assert_eq!(offsets(&["-n", "3"]), (Some(42), 3));
    assert_eq!(offsets(&["-n", "2"]), (Some(45), 2), "-n commits what it printed");
    seek(&["@0"]);
    assert_eq!(offsets(&[]), (Some(0), RECORDS));

    cli.try_run(&["group", "reset", "billing"]).ok();
    let fails = Consumer::start(cli, &["orders", "-g", "billing", "--offset-reset", "fail"]).ended(QUICK);
    assert_eq!((fails.code, fails.lines.len()), (1, 0), "{}", fails.stderr);
    assert_eq!(offsets(&["--offset-reset", "latest"]), (None, 0));
    cli.try_run(&["group", "delete", "billing"]).ok();
    assert_eq!(cli.try_run(&["group", "describe", "billing"]).code, 4, "it is gone");
    cluster.finish();
}

/// One line a change on a pipe; Ctrl-C ends it well.
#[test]
fn health_is_watched_through_a_kill() {
    let cluster = Cluster::start("watched", 3);
    let cli = &cluster.cli;
    cli.create_topic("orders", 1);
    cli.wait_healthy();
    let mut watching = Watch::start(cli);
    watching.wait("a healthy cluster", |line| line.contains(" healthy; 3 of 3 brokers alive"));
    cluster.kill(3);
    watching.wait("an unhealthy cluster that names broker 3", |line| {
        line.contains(" unhealthy; ") && line.contains("broker 3")
    });
    cluster.restart(3);
    watching.wait("a healthy cluster again", |line| line.contains(" healthy; 3 of 3 brokers alive"));
    assert_eq!(watching.stop(), Some(0));
    cluster.finish();
}

struct Watch {
    child: std::process::Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Watch {
    fn start(cli: &Cli) -> Watch {
        use std::io::BufRead;
        let mut command = cli.brokered(&["cluster", "health", "--watch", "--interval", "200ms"]);
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().expect("the binary can be run");
        let stdout = child.stdout.take().expect("piped");
        let (to, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in std::io::BufReader::new(stdout).lines().map_while(Result::ok) {
                if to.send(line).is_err() {
                    return;
                }
            }
        });
        Watch { child, lines }
    }

    /// Takes lines up to the first that is meant.
    #[track_caller]
    fn wait(&mut self, what: &str, is_meant: impl Fn(&str) -> bool) {
        let mut last = String::from("no line");
        wait_for(what, QUICK, || match self.lines.try_recv() {
            Ok(line) if is_meant(&line) => Ok(()),
            Ok(line) => {
                last = line;
                Err(last.clone())
            }
            Err(_) => Err(last.clone()),
        });
    }

    fn stop(mut self) -> Option<i32> {
        assert!(jepsen_style_tests::command::signal("INT", &[self.child.id()]), "it was gone");
        jepsen_style_tests::command::wait(&mut self.child, QUICK).and_then(|status| status.code())
    }
}
