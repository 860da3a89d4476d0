//! What the product promises, shown on real processes through the command line. Each test is named
//! for the fact it proves and prints what it measured.
//!
//! `scripts/test` runs them one at a time; `FLOTILLA_TEST_*` (see each test) makes them longer.

mod abuse;
mod alerts;
mod commits;
mod console;
mod damaged;
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
mod stale;
mod stalled_disk;
mod subscriptions;
mod swapped;
mod trap;
mod verify;

use jepsen_style_tests::{checker::Summary, cluster::Cli, readback::summarize_topic, workload::Produced};

/// Reads the topic back and holds the producers' histories against it.
#[track_caller]
fn check_topic(cli: &Cli, topic: &str, partitions: u32, produced: &[&Produced], faults: Option<usize>) -> Summary {
    let summary = summarize_topic(cli, topic, partitions, produced, faults);
    summary.assert_valid();
    summary
}
