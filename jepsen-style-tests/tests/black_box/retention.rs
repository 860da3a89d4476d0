//! Space that retention gives back.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use jepsen_style_tests::{
    cluster::{Cli, Cluster, Node, Partition, QUICK, SLOW},
    command::{run, wait_for},
    disk::{Load, used_bytes},
    knob::knob,
    scrape::Scrape,
    workload::Plan,
};

use crate::check_topic;

const MIB: u64 = 1 << 20;
const RECORD_BYTES: u64 = 16 << 10;

/// What the issue promises for 4 GiB written, with 64 MiB kept of each of four partitions.
const DIRECTORY_BYTES_MAX: u64 = 1_228 * MIB;
/// Of blob bytes. Read off each node's metrics.
const GARBAGE_MAX: f64 = 0.30;
/// Garbage of less than 16 MiB is left alone.
const DELETED_BYTES_MAX: f64 = (17 * MIB) as f64;
const WITHIN: Duration = Duration::from_secs(60);

/// Every blob file holds a little of `kept`, which is never trimmed, among much of `short`.
///
/// `FLOTILLA_TEST_RETENTION_MIB`: how much is written to `short`; 4,096 in scripts/nightly.
#[test]
fn trimmed_space_is_given_back_although_a_neighbour_is_never_trimmed() {
    const PARTITIONS: u32 = 4;
    let written_max: u64 = knob::<u64>("RETENTION_MIB", 1_024) * MIB;
    let cluster = Cluster::start("retention", 3);
    let cli = &cluster.cli;
    cli.create_topic_with("short", PARTITIONS, &["retention.bytes=67108864"]);
    cli.create_topic("kept", 1);
    let records = (0u64..).map(|n| (format!("key-{}", n % 100), format!("kept-{n:010}-{:.<1000}", "")));
    let kept = cli.produce(&Plan::new("kept", 1).rate(250), records);
    let began = Instant::now();
    let load = Load::start(cli, "short", RECORD_BYTES);
    let written = wait_for("enough to be written", SLOW * 2, || {
        let written = written_bytes(cli)?;
        if written >= written_max { Ok(written) } else { Err(format!("{} MiB", written / MIB)) }
    });
    drop(load);
    let kept = kept.finish(SLOW);
    kept.assert_all_acked();
    let (stopped, took) = (Instant::now(), began.elapsed().as_secs_f64());
    let peaks: Vec<u64> = cluster.status().iter().map(|node| used_bytes(Path::new(&node.data_dir)) / MIB).collect();
    println!("  {} MiB written in {took:.1} s; data directories {peaks:?} MiB then", written / MIB);

    wait_for("space to be given back", WITHIN, || {
        cluster.status().iter().try_for_each(is_small)?;
        // The garbage may be gone before the leaders have looked at what was written last.
        cli.describe("short")?.iter().try_for_each(is_trimmed)
    });
    println!("  given back {:.1} s after the last write", stopped.elapsed().as_secs_f64());
    cluster.status().iter().for_each(report);

    // What is kept is there: of each short partition at least what was asked for, and all of its neighbour.
    let described = cli.describe("short").unwrap_or_else(|error| panic!("describe: {error}"));
    let lines = run(
        cli.brokered(&["consume", "short", "--offset", "start", "--exit-at-end"]).args(["--format", "%p\\n"]),
        b"",
        SLOW,
    );
    let lines = lines.ok();
    for partition in &described {
        let records = partition.high_watermark - partition.log_start;
        assert_eq!(is_trimmed(partition), Ok(()));
        let number = partition.partition.to_string();
        assert_eq!(lines.lines().filter(|line| *line == number).count(), records as usize, "{partition:?}");
    }
    check_topic(cli, "kept", 1, &[&kept], None);

    for topic in ["short", "kept"] {
        let deleted = cli.try_run(&["topic", "delete", topic]);
        assert_eq!(deleted.code, 0, "{}", deleted.stderr);
    }
    let deleted = Instant::now();
    wait_for("the space of deleted topics to be given back", WITHIN, || {
        cluster.status().iter().try_for_each(|node| {
            let blobs = Scrape::of(node)?.value("flotilla_blob_bytes");
            if blobs < DELETED_BYTES_MAX { Ok(()) } else { Err(format!("node {}: {blobs} bytes", node.id)) }
        })
    });
    println!("  both topics deleted: given back {:.1} s later", deleted.elapsed().as_secs_f64());
    cluster.finish();
}

/// It keeps what `retention.bytes` says, and less than two segments more.
fn is_trimmed(partition: &Partition) -> Result<(), String> {
    let bytes = (partition.high_watermark - partition.log_start) as u64 * RECORD_BYTES;
    let holds = partition.log_start > 0 && (64 * MIB..192 * MIB).contains(&bytes);
    if holds { Ok(()) } else { Err(format!("{partition:?}")) }
}

/// By the records' values, as acknowledged.
fn written_bytes(cli: &Cli) -> Result<u64, String> {
    let described = cli.describe("short")?;
    Ok(described.iter().map(|partition| partition.high_watermark.max(0) as u64 * RECORD_BYTES).sum())
}

fn is_small(node: &Node) -> Result<(), String> {
    let used = used_bytes(Path::new(&node.data_dir));
    let scrape = Scrape::of(node)?;
    let (blobs, garbage) = (scrape.value("flotilla_blob_bytes"), scrape.value("flotilla_blob_garbage_bytes"));
    let passes = scrape.value("flotilla_blob_collections_total");
    let seen = format!("node {}: {} MiB, {garbage:.0} of {blobs:.0} are garbage, {passes} passes", node.id, used / MIB);
    // Without a pass the neighbour pinned nothing, and the run proved nothing.
    let holds = used < DIRECTORY_BYTES_MAX && blobs > 0.0 && garbage <= GARBAGE_MAX * blobs && passes > 0.0;
    if holds { Ok(()) } else { Err(seen) }
}

fn report(node: &Node) {
    let scrape = Scrape::of(node).unwrap_or_else(|error| panic!("{error}"));
    let mib = |name: &str| scrape.value(name) / MIB as f64;
    println!(
        "  node {}: directory {} MiB, blobs {:.0} MiB of which {:.0} garbage; {} passes moved {:.0} MiB to free {:.0}",
        node.id,
        used_bytes(Path::new(&node.data_dir)) / MIB,
        mib("flotilla_blob_bytes"),
        mib("flotilla_blob_garbage_bytes"),
        scrape.value("flotilla_blob_collections_total"),
        mib("flotilla_blob_moved_bytes_total"),
        mib("flotilla_blob_freed_bytes_total"),
    );
}

/// `retention.ms`, by the records' own timestamps: what is old goes, what is young stays.
#[test]
fn records_go_when_they_are_older_than_retention_ms() {
    let cluster = Cluster::start("retention-ms", 3);
    let cli = &cluster.cli;
    cli.create_topic_with("aging", 1, &["retention.ms=15000", "segment.ms=2000"]);
    let records = |name: &'static str| (0..1_000u32).map(move |n| (format!("key-{}", n % 9), format!("{name}-{n}")));
    let old = cli.produce(&Plan::new("aging", 1), records("old")).finish_all(SLOW);
    old.assert_all_acked();
    let began = Instant::now();
    let mut young = vec![];
    let age = wait_for("the old records to go", SLOW, || {
        young.push(cli.produce(&Plan::new("aging", 1), records("young").take(10)).finish_all(QUICK));
        let described = cli.describe("aging")?.remove(0);
        if described.log_start >= 1_000 { Ok(began.elapsed()) } else { Err(format!("{described:?}")) }
    });
    println!("  retention.ms=15000: gone after {:.1} s", age.as_secs_f64());
    assert!(age >= Duration::from_secs(14), "too early: {age:?}");
    let described = cli.describe("aging").unwrap_or_else(|error| panic!("{error}")).remove(0);
    let sent = 1_000 + 10 * young.len() as i64;
    assert!(described.high_watermark == sent && described.log_start < sent, "the young ones stay: {described:?}");
    cluster.finish();
}
