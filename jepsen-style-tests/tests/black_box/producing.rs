//! What people meet when they produce, typos in names among it, on real processes.

use std::time::{Duration, Instant};

use jepsen_style_tests::{
    cluster::{Cli, Cluster, QUICK, SLOW},
    command::{Finished, run, wait_for},
};

/// At once, on a loaded machine: far below the 30 s of a command's deadline.
const AT_ONCE: Duration = Duration::from_secs(10);

fn produce(cli: &Cli, topic: &str, args: &[&str], input: &[u8]) -> Finished {
    let args = [&["produce", topic], args].concat();
    run(&mut cli.brokered(&args), input, SLOW)
}

/// Records in a topic, by what its leaders say now.
fn records(cli: &Cli, topic: &str) -> i64 {
    let sum = || {
        let marks = cli.describe(topic)?.into_iter().map(|partition| partition.high_watermark).collect::<Vec<_>>();
        if marks.iter().all(|mark| *mark >= 0) { Ok(marks.iter().sum()) } else { Err(format!("{marks:?}")) }
    };
    wait_for("offsets of all partitions", QUICK, sum)
}

fn numbers(range: std::ops::Range<u64>) -> Vec<u8> {
    range.map(|n| format!("{n:075}\n")).collect::<String>().into_bytes()
}

#[test]
fn r5_what_was_read_is_on_the_wire_before_exit() {
    let cluster = Cluster::start("producing", 3);
    let cli = &cluster.cli;
    cli.create_topic("r5", 2);
    let mut sent = 0;
    for input in [b"hello\n".to_vec(), numbers(0..1_000), numbers(0..200_000)] {
        sent += input.iter().filter(|byte| **byte == b'\n').count() as i64;
        let finished = produce(cli, "r5", &["--acks", "0"], &input);
        assert_eq!((finished.code, &finished.stderr[..]), (0, ""), "`{}`", finished.line);
        // Committed a moment later at the latest: brokers have all of it when the command ends.
        wait_for("all of it", QUICK, || match records(cli, "r5") {
            stored if stored == sent => Ok(()),
            stored => Err(format!("{stored} of {sent} records")),
        });
    }
    println!("  acks=0: {sent} records sent, {sent} stored");
    cluster.finish();
}

/// Groups 2: a producer that goes on sending to a leader of the past.
#[test]
fn r5_a_refusal_with_acks_0_ends_the_command() {
    let cluster = Cluster::start("producing", 3);
    let cli = &cluster.cli;
    use std::io::Write;
    use std::process::Stdio;
    cli.create_topic("moved", 1);
    cli.transfer_leader("moved", 0, 1);
    let mut command = cli.brokered(&["produce", "moved", "--acks", "0"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it can be run");
    let mut input = child.stdin.take().expect("piped");
    input.write_all(b"one\n").expect("it reads");
    wait_for("the first record", QUICK, || match records(cli, "moved") {
        1 => Ok(()),
        records => Err(format!("{records} records")),
    });
    cli.transfer_leader("moved", 0, 2);
    // Its end closes the pipe; until then each line is one more that is lost.
    let end = Instant::now() + QUICK;
    while input.write_all(b"lost\n").is_ok() {
        assert!(Instant::now() < end, "it goes on sending to broker 1");
        jepsen_style_tests::command::pause();
    }
    let finished = child.wait_with_output().expect("it ends");
    let stderr = String::from_utf8_lossy(&finished.stderr).into_owned();
    println!("  acks=0 after the leader moved: {}: {}", finished.status, stderr.lines().last().unwrap_or_default());
    assert_eq!(finished.status.code(), Some(3), "what is stored is unknown: {stderr}");
    assert!(stderr.contains("NOT_LEADER"), "{stderr}");
    cluster.finish();
}

#[test]
fn p5_batches_fit_what_the_topic_takes() {
    let cluster = Cluster::start("producing", 3);
    let cli = &cluster.cli;
    cli.create_topic_with("p5", 1, &["max.message.bytes=16384"]);
    let finished = produce(cli, "p5", &[], &numbers(0..500));
    assert_eq!((finished.code, &finished.stderr[..]), (0, ""));
    assert_eq!(records(cli, "p5"), 500);
    cluster.finish();
}

#[test]
fn p20_only_the_record_that_is_too_large_fails() {
    let cluster = Cluster::start("producing", 3);
    let cli = &cluster.cli;
    cli.create_topic_with("p20", 1, &["max.message.bytes=16384"]);
    let large = vec![b'x'; 20_000];
    let input = [&numbers(0..10)[..], &large, b"\n"].concat();
    let finished = produce(cli, "p20", &[], &input);
    println!("  too large: exit code {}: {}", finished.code, finished.stderr.trim());
    assert_ne!(finished.code, 0);
    assert!(finished.stderr.contains("BATCH_TOO_LARGE") && finished.stderr.contains("16384"), "{}", finished.stderr);
    assert_eq!(records(cli, "p20"), 10, "its neighbours are stored");
    cluster.finish();
}

#[test]
fn a_typo_in_a_name_is_answered_at_once() {
    let cluster = Cluster::start("producing", 3);
    let cli = &cluster.cli;
    cli.create_topic("real", 1);
    for args in [
        &["topic", "describe", "typo"][..],
        &["topic", "alter", "typo", "--config", "retention.ms=1000"],
        &["topic", "delete", "typo"],
        &["topic", "trim", "typo", "-p", "0", "--before", "0"],
        &["topic", "add-partitions", "typo", "-p", "9"],
        &["cluster", "transfer-leader", "typo", "-p", "0", "--to", "1"],
        &["cluster", "transfer-leader", "real", "-p", "7", "--to", "1"],
    ] {
        let finished = cli.try_run(args);
        println!("  {args:?}: exit code {} after {:?}: {}", finished.code, finished.took, finished.stderr.trim());
        assert_eq!(finished.code, 4, "{args:?}: {}", finished.stderr);
        assert!(finished.took < AT_ONCE, "{args:?}: {:?}", finished.took);
    }
    cluster.finish();
}

#[test]
fn p16_a_host_that_does_not_exist_is_no_unknown_outcome() {
    let cluster = Cluster::start("producing", 3);
    let cli = &cluster.cli;
    for _ in 0..5 {
        let mut command = cli.command(&["topic", "create", "nowhere", "-b", "no-such-host.invalid:7070"]);
        let finished = run(command.args(["--timeout", "1s"]), b"", QUICK);
        assert_eq!(finished.code, 1, "nothing was sent: {}", finished.stderr);
    }
    cluster.finish();
}
