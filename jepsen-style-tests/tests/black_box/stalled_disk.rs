//! A disk that hangs below a broker that leads everything (SAFETY M14, M16): a file system that is frozen, under load.
//!
//! A thread that waits for a frozen file system is beyond any signal. So a process that ends meanwhile ends but for
//! this thread, and keeps its sockets: to everybody else it is one that is silent, and it can be waited for only after
//! the thaw.

use std::{
    fs,
    net::TcpStream,
    time::{Duration, Instant},
};

use jepsen_style_tests::{
    by_hand::ByHand,
    cluster::{QUICK, SLOW},
    command::{signal, wait_for},
    knob::knob,
    workload::{Plan, Produced, Producer, numbered},
};

use crate::check_topic;

const TOPIC: &str = "orders";
const PARTITIONS: u32 = 64;
const DISK_MIB: u64 = 1_024;
/// Ten for each partition, so that each has a record several times in a tenth of a second.
const KEYS: u64 = 640;
/// Of one of three producers.
const RATE: u32 = 500;
/// From the freeze on, for each partition: an acknowledgement by another leader.
const OTHERS_LEAD_WITHIN: Duration = Duration::from_secs(5);
/// The watchdog's 15 s, the looks that it takes to see the hung write, and its last words.
const ENDS_WITHIN: Duration = Duration::from_secs(20);
/// Where the watchdog ends what was told to stop, and its last words.
const STOPS_WITHIN: Duration = Duration::from_secs(30);
/// What ended for the disk exits with.
const STORE_FAILED: i32 = 74;

/// From SIGKILL, `exit` or its own end on, whatever still waits in the kernel.
fn has_ended(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}

/// The letters of its threads' states.
fn threads(pid: u32) -> String {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let stats = tasks.filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    stats.filter_map(|stat| stat.rsplit(')').next()?.trim_start().chars().next()).collect()
}

#[track_caller]
fn wait_ended(pid: u32, since: Instant, within: Duration) -> Duration {
    wait_for("the process to end", within.saturating_sub(since.elapsed()), || match has_ended(pid) {
        true => Ok(since.elapsed()),
        false => Err(format!("threads {}", threads(pid))),
    })
}

#[track_caller]
fn wait_until(since: Instant, long: Duration) {
    wait_for("the stall to last", long * 2, || match since.elapsed() >= long {
        true => Ok(()),
        false => Err(format!("{:?}", since.elapsed())),
    });
}

/// Everything is led by this broker, the metadata too. The epoch of each partition.
#[track_caller]
fn lead_all(servers: &ByHand, id: u64) -> Vec<u64> {
    let cli = &servers.cli;
    let described = || wait_for("the partitions", QUICK, || cli.describe(TOPIC));
    for partition in described() {
        if partition.leader != Some(id) {
            cli.transfer_leader(TOPIC, partition.partition, id);
        }
    }
    wait_for("the metadata's leadership to move", SLOW, || {
        let moved = cli.try_run(&["cluster", "transfer-leader", "--metadata", "--to", &id.to_string()]);
        if cli.metadata_leader()? == id { Ok(()) } else { Err(moved.stderr) }
    });
    let described = described();
    assert!(described.iter().all(|partition| partition.leader == Some(id)), "{described:?}");
    described.iter().map(|partition| partition.epoch).collect()
}

/// One producer for each broker that the client may ask first.
#[track_caller]
fn load(servers: &ByHand, name: &str) -> Vec<Producer> {
    let mut brokers: Vec<&str> = servers.cli.brokers.split(',').collect();
    let producers: Vec<Producer> = (1..=brokers.len())
        .map(|first| {
            brokers.rotate_left(usize::from(first > 1));
            let mut cli = servers.cli.clone();
            cli.brokers = brokers.join(",");
            let plan = Plan::new(TOPIC, PARTITIONS).rate(RATE).timeout(SLOW);
            cli.produce(&plan, numbered(&format!("{name}-{first}"), KEYS))
        })
        .collect();
    producers.iter().for_each(|producer| producer.wait_acked(RATE as usize, QUICK));
    producers
}

/// The longest time that any partition went without an acknowledgement, for each producer.
fn longest_silences(producers: &[Producer], since: Instant) -> Vec<Duration> {
    let silence = |producer: &Producer| (0..PARTITIONS).map(|p| producer.longest_silence(p, since)).max();
    producers.iter().filter_map(silence).collect()
}

/// When the last partition had an acknowledgement by a later leader.
fn led_by_others(produced: &[Produced], epochs: &[u64], since: Instant) -> Option<Duration> {
    let first = |(partition, epoch): (u32, &u64)| {
        let receipts = produced.iter().flat_map(|produced| &produced.receipts);
        let later = receipts.filter(|receipt| receipt.partition == partition && receipt.epoch > *epoch);
        later.map(|receipt| receipt.at).min()
    };
    let firsts: Option<Vec<Instant>> = (0..).zip(epochs).map(first).collect();
    firsts?.into_iter().max().map(|at| at.saturating_duration_since(since))
}

/// `FLOTILLA_TEST_STALL_SECONDS`: how long the disk hangs; longer than the watchdog waits.
#[test]
fn a_leader_of_64_partitions_whose_disk_hangs_is_replaced_ends_and_comes_back() {
    let stall = Duration::from_secs(knob("STALL_SECONDS", 22));
    let mut servers = match ByHand::on_disks("stalled-disk", DISK_MIB) {
        Ok(servers) => servers,
        Err(why) => return println!("  skipped, no disk can be frozen here: {why}"),
    };
    (1..=3).for_each(|id| servers.start(id));
    servers.wait_cluster_id();
    servers.cli.create_topic(TOPIC, PARTITIONS);
    servers.cli.wait_healthy();
    let mut produced = hangs_until_it_ends(&mut servers, 1, stall);
    produced.extend(is_told_to_stop_while_it_hangs(&mut servers, 2));
    // Each replica of both can lead, so it has all that was acknowledged.
    for id in [1, 2] {
        lead_all(&servers, id);
        let last = load(&servers, &format!("led-by-{id}"));
        produced.extend(last.into_iter().map(|producer| producer.finish(SLOW)));
    }
    produced.iter().for_each(Produced::assert_all_acked);
    check_topic(&servers.cli, TOPIC, PARTITIONS, &produced.iter().collect::<Vec<_>>(), Some(2));
    servers.finish();
}

#[track_caller]
fn hangs_until_it_ends(servers: &mut ByHand, id: u64, stall: Duration) -> Vec<Produced> {
    let epochs = lead_all(servers, id);
    let producers = load(servers, "hangs");
    let pid = servers.pid(id);
    let began = Instant::now();
    let frozen = servers.freeze(id);
    let ended = wait_ended(pid, began, ENDS_WITHIN);
    let says = servers.log(id);
    println!("  broker {id} ended {ended:.1?} after the freeze, threads {}", threads(pid));
    println!("  last line: {}", says.lines().last().unwrap_or_default());
    wait_until(began, stall);
    let address = servers.cli.brokers.split(',').nth(id as usize - 1).expect("one for each").to_string();
    println!(
        "  until the thaw its port {}",
        match TcpStream::connect(address) {
            Ok(_) => "is connected to by the kernel".to_string(),
            Err(error) => error.to_string(),
        }
    );
    let silences = longest_silences(&producers, began);
    println!("  stalled for {:.1?}; longest time without an acknowledgement {silences:.2?}", began.elapsed());
    drop(frozen);
    assert_eq!(servers.wait_ended(id), Some(STORE_FAILED), "{says}");
    assert!(says.contains("the disk has not finished one write for 15 s"), "{says}");
    servers.start(id);
    servers.cli.wait_healthy();
    println!("  healthy {:.1?} after the freeze", began.elapsed());
    let produced: Vec<Produced> = producers.into_iter().map(|producer| producer.finish(SLOW)).collect();
    let led = led_by_others(&produced, &epochs, began);
    println!("  others had acknowledged in all {PARTITIONS} partitions after {led:.2?}");
    assert!(led.is_some_and(|led| led <= OTHERS_LEAD_WITHIN), "{led:?}");
    assert!(silences.iter().all(|silence| *silence <= OTHERS_LEAD_WITHIN), "{silences:?}");
    produced
}

#[track_caller]
fn is_told_to_stop_while_it_hangs(servers: &mut ByHand, id: u64) -> Vec<Produced> {
    lead_all(servers, id);
    let producers = load(servers, "told");
    let pid = servers.pid(id);
    let began = Instant::now();
    let frozen = servers.freeze(id);
    assert!(signal("TERM", &[pid]), "it runs");
    let ended = wait_ended(pid, began, STOPS_WITHIN);
    let silences = longest_silences(&producers, began);
    let says = servers.log(id);
    println!("  SIGTERM while its disk hangs: broker {id} ended after {ended:.1?}, threads {}", threads(pid));
    println!("  last line: {}", says.lines().last().unwrap_or_default());
    println!("  longest time without an acknowledgement {silences:.2?}");
    drop(frozen);
    println!("  exit code {:?}", servers.wait_ended(id));
    servers.start(id);
    servers.cli.wait_healthy();
    let produced = producers.into_iter().map(|producer| producer.finish(SLOW)).collect();
    assert!(silences.iter().all(|silence| *silence <= OTHERS_LEAD_WITHIN), "{silences:?}");
    produced
}
