//! A disk that fills up: refused before it is full, read meanwhile, and going on by itself.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use jepsen_style_tests::{
    cluster::{Cluster, QUICK, SLOW},
    command::{run, wait_for},
    disk::{Load, Mount, free_bytes, used_bytes},
    knob::knob,
    scrape::Scrape,
    workload::{Plan, Produced, numbered},
};

use crate::check_topic;

const MIB: u64 = 1 << 20;
const TOPIC: &str = "orders";
const PARTITIONS: u32 = 3;
const FILLER: &str = "filler";
const RESUMED_WITHIN: Duration = Duration::from_secs(60);

/// Each node on a small disk of its own; where nothing can be mounted, on the real one with a reserve that
/// leaves as much. Returns the least of a disk that must stay free.
fn start(name: &str, disk_mib: u64) -> (Cluster, u64) {
    // Of a disk of less than 4 GiB a quarter is kept free by default.
    let reserve_bytes = disk_mib * MIB / 4;
    let mount = |data: &[PathBuf]| -> Result<Vec<Mount>, String> {
        data.iter().map(|data| Mount::tmpfs(data, disk_mib)).collect()
    };
    let probe = jepsen_style_tests::cluster::TestDir::new("mount-probe");
    let refused = Mount::tmpfs(&probe.path().join("at"), 1).err();
    match refused {
        None => {
            println!("  three tmpfs of {disk_mib} MiB, {} MiB of each kept free by default", reserve_bytes / MIB);
            let prepare = |data: &[PathBuf]| mount(data).unwrap_or_else(|error| panic!("mount: {error}"));
            (Cluster::start_on(name, 3, &[], prepare), reserve_bytes)
        }
        Some(error) => {
            let reserve_bytes = free_bytes(probe.path()).saturating_sub(3 * disk_mib * MIB * 3 / 4);
            println!("  NO TMPFS ({error}): on the real disk, of which {} MiB must stay free", reserve_bytes / MIB);
            let settings = [format!("disk_reserve_bytes={reserve_bytes}")];
            (Cluster::start_on(name, 3, &settings, |_| vec![]), reserve_bytes)
        }
    }
}

/// One record whose refusal says why.
fn refusal(cluster: &Cluster) -> Result<String, String> {
    let mut command = cluster.cli.brokered(&["produce", FILLER, "--timeout", "2s"]);
    let finished = run(&mut command, b"one more\n", QUICK);
    let says = finished.stderr.trim().to_string();
    if finished.code == 1 && says.contains("disk_reserve_bytes") {
        return Ok(says);
    }
    Err(format!("exit code {}: {says}", finished.code))
}

fn least_free(cluster: &Cluster) -> u64 {
    cluster.status().iter().map(|node| free_bytes(Path::new(&node.data_dir))).min().unwrap_or(0)
}

/// Fills all disks until writes are refused; returns what was produced to `orders` meanwhile.
fn fill(cluster: &Cluster, round: &str) -> Produced {
    let began = Instant::now();
    let plan = Plan::new(TOPIC, PARTITIONS).rate(2_000).timeout(Duration::from_secs(5));
    let producer = cluster.cli.produce(&plan, numbered(round, 100));
    let load = Load::start(&cluster.cli, FILLER, 16 << 10);
    let says = wait_for("writes to be refused", SLOW, || refusal(cluster));
    let free = least_free(cluster) / MIB;
    println!("  {round}: refused after {:.1} s with {free} MiB free: {says}", began.elapsed().as_secs_f64());
    let produced = producer.finish(SLOW);
    assert!([1, 3, 5].contains(&produced.code), "it went on: exit code {}", produced.code);
    assert!(produced.stderr.contains("disk_reserve_bytes"), "the limit is not named: {}", produced.stderr);
    // The load goes on knocking for a while: not one of its retries may use up the reserve.
    let end = Instant::now() + Duration::from_secs(5);
    wait_for("five seconds of knocking", QUICK, || if Instant::now() > end { Ok(()) } else { Err(String::new()) });
    drop(load);
    produced
}

/// Every broker whose disk has less than the reserve says so, and they are a majority: one that gave more back
/// may have room, which the others keep from being used.
fn wait_told(cluster: &Cluster, reserve_bytes: u64) {
    let full = wait_for("every broker to tell of its disk", QUICK, || {
        let mut full = vec![];
        for node in cluster.status() {
            let free = free_bytes(Path::new(&node.data_dir));
            let says_full = Scrape::of(&node)?.value("flotilla_disk_full") == 1.0;
            if !says_full && free < reserve_bytes {
                return Err(format!("node {} does not call its disk full: {free} of {reserve_bytes} bytes", node.id));
            }
            full.extend(says_full.then_some(node.id));
        }
        Ok(full)
    });
    println!("  the disks of {full:?} are full");
    assert!(full.len() >= 2, "writes were refused although a majority of disks has room");
}

fn trim_filler(cluster: &Cluster) {
    for partition in 0..PARTITIONS {
        let partition = partition.to_string();
        let finished = cluster.cli.try_run(&["topic", "trim", FILLER, "--partition", &partition, "--before", "end"]);
        assert_eq!(finished.code, 0, "a trim must work on a full disk: {}", finished.stderr);
    }
}

fn wait_resumed(cluster: &Cluster, round: usize) {
    let began = Instant::now();
    wait_for("writes to go on by themselves", RESUMED_WITHIN, || {
        let finished = run(&mut cluster.cli.brokered(&["produce", FILLER, "--timeout", "2s"]), b"again\n", QUICK);
        if finished.code == 0 { Ok(()) } else { Err(finished.stderr) }
    });
    let used: Vec<u64> = cluster.status().iter().map(|node| used_bytes(Path::new(&node.data_dir)) / MIB).collect();
    println!(
        "  round {round}: going on {:.1} s after the trim; directories hold {used:?} MiB",
        began.elapsed().as_secs_f64()
    );
}

/// `FLOTILLA_TEST_DISK_MIB`: the size of each node's disk. `FLOTILLA_TEST_FULL_ROUNDS`: how often it fills.
#[test]
fn a_full_disk_is_refused_read_trimmed_and_written_again() {
    let disk_mib: u64 = knob("DISK_MIB", 1_024);
    let rounds: usize = knob("FULL_ROUNDS", 2);
    let (cluster, reserve_bytes) = start("full-disk", disk_mib);
    let cli = &cluster.cli;
    cli.create_topic(TOPIC, PARTITIONS);
    cli.create_topic(FILLER, PARTITIONS);
    let mut runs = vec![];
    for round in 1..=rounds {
        runs.push(fill(&cluster, &format!("round-{round}")));
        let free = least_free(&cluster);
        println!("  after 5 s of knocking {} MiB are free", free / MIB);
        assert!(free > reserve_bytes / 2, "the reserve of {reserve_bytes} is half gone: {free}");
        // Told of, and all alive.
        assert_eq!(cli.try_run(&["cluster", "health"]).code, 10);
        wait_told(&cluster, reserve_bytes);
        check_topic(cli, TOPIC, PARTITIONS, &runs.iter().collect::<Vec<_>>(), Some(round));
        if round == 1 {
            // A restart replays and flushes the logs: that is what the reserve is for, too.
            let pids: Vec<u32> = cluster.status().iter().map(|node| node.pid).collect();
            cluster.signal("KILL", &[1, 2, 3]);
            pids.iter().for_each(|pid| cluster.wait_gone(*pid));
            (1..=3).for_each(|node| cluster.restart(node));
            check_topic(cli, TOPIC, PARTITIONS, &runs.iter().collect::<Vec<_>>(), Some(round));
            // Without logs to recycle there may be a little room again.
            println!("  all three killed and restarted: {} MiB free", least_free(&cluster) / MIB);
            runs.push(fill(&cluster, "round-1-again"));
        }
        trim_filler(&cluster);
        wait_resumed(&cluster, round);
    }
    let after = cli.produce(&Plan::new(TOPIC, PARTITIONS), numbered("after", 100).take(5_000)).finish_all(SLOW);
    after.assert_all_acked();
    cli.wait_healthy();
    runs.push(after);
    check_topic(cli, TOPIC, PARTITIONS, &runs.iter().collect::<Vec<_>>(), Some(rounds));
    cluster.finish();
}
