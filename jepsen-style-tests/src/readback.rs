//! Reading a topic and a replica's log back through the command line.

use serde_json::Value;

use crate::{
    checker::{DumpedEntry, History, Read, Summary, check_run},
    cluster::{Cli, QUICK, SLOW},
    command::{run, wait_for},
    workload::Produced,
};

/// All retained records of a topic, by partition.
pub fn read_topic(cli: &Cli, topic: &str, partitions: u32) -> Vec<Vec<Read>> {
    let mut command = cli.brokered(&["consume", topic, "--offset", "start", "--exit-at-end"]);
    command.args(["--format", "%p %o %k %v\\n"]);
    let text = run(&mut command, b"", SLOW).ok();
    parse_records(&text, partitions)
}

/// Reads a topic back, holds the producers' histories against it, and prints what came of it.
#[track_caller]
pub fn summarize_topic(
    cli: &Cli,
    topic: &str,
    partitions: u32,
    produced: &[&Produced],
    faults: Option<usize>,
) -> Summary {
    let described = wait_for(&format!("the offsets of all partitions of {topic}"), QUICK, || {
        let partitions = cli.describe(topic)?;
        let known = partitions.iter().all(|p| p.log_start >= 0 && p.high_watermark >= 0);
        if known { Ok(partitions) } else { Err(format!("{partitions:?}")) }
    });
    let logs = read_topic(cli, topic, partitions);
    let histories = logs.into_iter().enumerate().map(|(partition, log)| History {
        partition: partition as u32,
        log_start: described[partition].log_start,
        producers: produced.iter().map(|produced| produced.sent[partition].clone()).collect(),
        log,
    });
    let histories: Vec<History> = histories.collect();
    for history in &histories {
        let end = history.log.last().map_or(history.log_start, |read| read.offset + 1);
        let mark = described[history.partition as usize].high_watermark;
        assert!(end >= mark, "partition {}: read up to {end}, high watermark was {mark}", history.partition);
    }
    let summary = check_run(&histories, faults);
    println!(
        "  {topic}: {} sent, {} acknowledged, {} unknown, {} read back, {} violations",
        summary.sent,
        summary.acked,
        summary.unknown,
        summary.read,
        summary.violations.len()
    );
    summary
}

fn parse_records(text: &str, partitions: u32) -> Vec<Vec<Read>> {
    let mut logs: Vec<Vec<Read>> = (0..partitions).map(|_| vec![]).collect();
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        let mut word = || words.next().unwrap_or_else(|| panic!("not `partition offset key value`: {line}"));
        let partition: usize = word().parse().unwrap_or_else(|_| panic!("not a partition: {line}"));
        let offset: i64 = word().parse().unwrap_or_else(|_| panic!("not an offset: {line}"));
        let (key, value) = (word().to_string(), word().to_string());
        let log = logs.get_mut(partition).unwrap_or_else(|| panic!("no such partition: {line}"));
        log.push(Read { offset, key, value });
    }
    logs
}

/// The committed entries of every partition in a stopped node's data directory, by `topic/partition`.
pub fn dump_log(cli: &Cli, data_dir: &str) -> Vec<(String, DumpedEntry)> {
    let mut command = cli.command(&["dump-log", "--dir", data_dir, "--format", "json"]);
    let text = run(&mut command, b"", SLOW).ok();
    text.lines().map(parse_dumped).collect()
}

/// Everything about an entry is compared but what may differ between replicas.
fn parse_dumped(line: &str) -> (String, DumpedEntry) {
    let json: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("no JSON ({error}): {line}"));
    let index = json["index"].as_u64().unwrap_or_else(|| panic!("an entry without index: {line}"));
    assert!(json["term"].is_u64(), "an entry without term: {line}");
    let group = ["topic", "partition", "group"].map(|name| json[name].to_string()).join("/");
    (group, (index, json.to_string()))
}

#[test]
fn records_are_parsed_by_partition() {
    let logs = parse_records("1 0 k a b\n0 5  v\n1 1 k c\n", 2);
    let read = |offset, key: &str, value: &str| Read { offset, key: key.into(), value: value.into() };
    assert_eq!(logs, [vec![read(5, "", "v")], vec![read(0, "k", "a b"), read(1, "k", "c")]]);
}
