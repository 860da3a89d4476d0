//! What the product promises, shown on real processes through the command line. Each test is named
//! for the fact it proves and prints what it measured.
//!
//! `scripts/test` runs them one at a time; `FLOTILLA_TEST_*` (see each test) makes them longer.

mod abuse;
mod alerts;
mod commits;
mod console;
mod forming;
mod full_disk;
mod garbage;
mod group_cost;
mod group_faults;
mod group_flights;
mod groups;
mod isolation;
mod kills;
mod local;
mod moved;
mod operated;
mod operators;
mod partitioners;
mod produce;
mod producing;
mod real_records;
mod replicas;
mod reported;
mod restored;
mod retention;
mod stalled_disk;
mod subscriptions;
mod trap;

use jepsen_style_tests::{
    checker::{History, Summary, check_run},
    cluster::{Cli, QUICK},
    command::wait_for,
    readback::read_topic,
    workload::Produced,
};

/// Reads the topic back and holds the producers' histories against it.
#[track_caller]
fn check_topic(cli: &Cli, topic: &str, partitions: u32, produced: &[&Produced], faults: Option<usize>) -> Summary {
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
    summary.assert_valid();
    summary
}
