//! Each shipped alert rule, fired by a real cluster in the state that it is for.

use std::{
    collections::BTreeSet,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jepsen_style_tests::{
    alerting::{Recording, alerts},
    cluster::{Cluster, QUICK},
    command::{pause, run, signal, wait_for},
    disk::{Load, Mount, free_bytes},
    scrape::Scrape,
};

/// For rules that wait for minutes, half a minute a scrape.
const SHORT: usize = 24;
/// For those that look at a trend for a quarter of an hour, and then wait for another.
const LONG: usize = 72;
const OFTEN: Duration = Duration::from_millis(100);
/// Lag is looked at every two seconds.
const LAG_SCRAPES_EVERY: Duration = Duration::from_millis(300);

#[track_caller]
fn assert_fires(recording: &Recording, wanted: &[&str], seen: &mut BTreeSet<String>) {
    let firing = recording.firing();
    println!("  firing: {firing:?}");
    for alert in wanted {
        assert!(firing.contains(*alert), "{alert} does not fire: {firing:?}");
    }
    seen.extend(firing);
}

fn has_promtool() -> bool {
    Command::new("promtool").arg("--version").output().is_ok_and(|output| output.status.success())
}

#[test]
fn each_alert_is_fired_by_a_cluster_in_that_state_and_none_by_a_healthy_one() {
    assert!(has_promtool(), "promtool is missing: scripts/setup.sh --tests installs it");
    let mut seen = BTreeSet::new();
    lost_brokers(&mut seen);
    let has_frozen = disks(&mut seen);
    let mut missing: Vec<String> = alerts().difference(&seen).cloned().collect();
    if !has_frozen {
        println!("  NOT SHOWN here, where no loop device can be mounted: FlotillaFsyncHangs");
        missing.retain(|alert| alert != "FlotillaFsyncHangs");
    }
    assert_eq!(missing, Vec::<String>::new(), "alerts that no cluster here fired");
}

fn lost_brokers(seen: &mut BTreeSet<String>) {
    let cluster = Cluster::start("alerts", 3);
    let cli = &cluster.cli;
    cli.create_topic("t", 6);
    cli.wait_healthy();
    let quiet = Recording::of(&cluster, SHORT, OFTEN).firing();
    assert_eq!(quiet, BTreeSet::new(), "alerts of a healthy cluster");

    lagging_group(&cluster, seen);
    slow_syncs(&cluster, seen);

    // The one that stays knows of no majority: what it says must page somebody.
    cluster.kill(3);
    let text = cli.try_run(&["cluster", "health"]);
    assert_eq!(text.code, 10, "{text:?}");
    assert_fires(&Recording::of(&cluster, SHORT, OFTEN), &["FlotillaBrokerDown", "FlotillaUnderReplicated"], seen);
    cluster.kill(2);
    let alive = cluster.node(1);
    wait_for("the last broker to say that it serves nothing", QUICK, || {
        let leaderless = Scrape::of(&alive)?.value("flotilla_raft_groups_leaderless");
        let (status, why) = jepsen_style_tests::scrape::get(&alive, &alive.http, "/readyz")?;
        // Six partitions, the group's, the metadata group.
        match leaderless >= 7.0 && status == 503 {
            true => Ok(()),
            false => Err(format!("{leaderless} leaderless, /readyz {status} {why}")),
        }
    });
    assert_fires(&Recording::of(&cluster, SHORT, OFTEN), &["FlotillaNoLeader"], seen);
    cluster.restart(2);
    cluster.restart(3);
    cli.wait_healthy();
    cluster.finish();
}

/// A group that reads one record of a topic whose others are old, many, and soon deleted.
fn lagging_group(cluster: &Cluster, seen: &mut BTreeSet<String>) {
    let cli = &cluster.cli;
    cli.create_topic_with("late", 1, &["retention.ms=600000"]);
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    // Older than the 300 s of the lag rule, and than four fifths of what retention keeps.
    let dated = now_ms - 500_000;
    let lines = |count: usize| -> String {
        (0..count).map(|n| format!("{{\"value\":\"{n}\",\"timestamp\":{dated}}}\n")).collect()
    };
    let produce = |count: usize| {
        let finished = run(&mut cli.brokered(&["produce", "late", "-f", "json"]), lines(count).as_bytes(), QUICK);
        assert_eq!(finished.code, 0, "{}", finished.stderr);
    };
    produce(12_000);
    let mut read_one = cli.brokered(&["consume", "late", "-g", "slow", "--offset-reset", "earliest", "-n", "1"]);
    run(&mut read_one, b"", QUICK).ok();
    let done = AtomicBool::new(false);
    let recording = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                produce(200);
            }
        });
        let recording = Recording::of(cluster, LONG, LAG_SCRAPES_EVERY);
        done.store(true, Ordering::Relaxed);
        recording
    });
    let wanted = [
        "FlotillaConsumerLagGrowsInRecords",
        "FlotillaConsumerLagGrowsInSeconds",
        "FlotillaRetentionWillEatUnreadData",
    ];
    assert_fires(&recording, &wanted, seen);
}

/// A broker that is stopped for 400 ms at a time while it writes: so long its writes then take.
fn slow_syncs(cluster: &Cluster, seen: &mut BTreeSet<String>) {
    let node = cluster.node(1);
    let load = Load::start(&cluster.cli, "t", 100);
    let done = AtomicBool::new(false);
    let recording = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                signal("STOP", &[node.pid]);
                wait_ms(400);
                signal("CONT", &[node.pid]);
                // So short that the slow writes are more than one in a hundred.
                wait_ms(10);
            }
        });
        let recording = Recording::of(cluster, SHORT, Duration::from_millis(500));
        done.store(true, Ordering::Relaxed);
        recording
    });
    drop(load);
    assert_fires(&recording, &["FlotillaFsyncSlow"], seen);
    cluster.cli.wait_healthy();
}

/// The fault itself, not a wait for anything.
fn wait_ms(ms: u64) {
    let end = std::time::Instant::now() + Duration::from_millis(ms);
    while std::time::Instant::now() < end {
        pause();
    }
}

/// Disks that fill up and one that hangs. False: none can be made to hang here.
fn disks(seen: &mut BTreeSet<String>) -> bool {
    const MIB: u64 = 1 << 20;
    const DISK_MIB: u64 = 512;
    let mut mounted = vec![];
    let mut frozen_disk = None;
    let cluster = Cluster::start_on("alerts-disks", 3, &["disk_reserve_bytes=64MiB".to_string()], |data| {
        for data in &data[..2] {
            mounted.push(Mount::tmpfs(data, DISK_MIB).unwrap_or_else(|error| panic!("tmpfs: {error}")));
        }
        match Mount::ext4(&data[2], DISK_MIB) {
            Ok(mount) => frozen_disk = Some(mount),
            Err(why) => println!("  no disk that can be frozen: {why}"),
        }
        vec![]
    });
    cluster.cli.create_topic("t", 3);
    let data = cluster.node(1).data_dir;
    let take_until_free = |left_mib: u64| {
        let free = free_bytes(Path::new(&data)) / MIB;
        let take = free.saturating_sub(left_mib) * MIB;
        let ballast = Path::new(&data).join(format!("ballast-{left_mib}"));
        // Allocated, not written: a tmpfs then takes little of the machine's memory.
        run(Command::new("fallocate").args(["-l", &take.to_string()]).arg(ballast), b"", QUICK).ok();
    };
    let done = AtomicBool::new(false);
    let filling = thread::scope(|scope| {
        scope.spawn(|| {
            let mut left = free_bytes(Path::new(&data)) / MIB;
            while !done.load(Ordering::Relaxed) && left > 140 {
                left -= 3;
                take_until_free(left);
                wait_ms(60);
            }
        });
        let recording = Recording::of(&cluster, SHORT + 40, OFTEN);
        done.store(true, Ordering::Relaxed);
        recording
    });
    assert_fires(&filling, &["FlotillaDiskFillsUp"], seen);
    take_until_free(100);
    assert_fires(&Recording::of(&cluster, SHORT, OFTEN), &["FlotillaDiskNearlyFull"], seen);
    take_until_free(30);
    wait_for("the broker to call its disk full", QUICK, || {
        let full = Scrape::of(&cluster.node(1))?.value("flotilla_disk_full");
        if full == 1.0 { Ok(()) } else { Err(format!("flotilla_disk_full {full}")) }
    });
    assert_fires(&Recording::of(&cluster, SHORT, OFTEN), &["FlotillaDiskFull"], seen);

    let Some(disk) = frozen_disk else { return false };
    let node = cluster.node(3);
    let frozen = disk.freeze();
    let load = Load::start(&cluster.cli, "t", 100);
    wait_for("a write that hangs for six seconds", QUICK, || {
        let running = Scrape::of(&node)?.value("flotilla_writer_commit_running_seconds");
        if running > 6.0 { Ok(()) } else { Err(format!("{running} s")) }
    });
    let recording = Recording::of(&cluster, 10, OFTEN);
    drop(frozen);
    drop(load);
    assert_fires(&recording, &["FlotillaFsyncHangs"], seen);
    true
}
