//! What a client does must never end a broker, nor keep the others out.

use std::{
    fs,
    io::Read,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use jepsen_style_tests::{
    abuse::{Abuser, bomb, bytes_field, claiming_batch, consume_request, message, number_field, produce_request},
    by_hand::ByHand,
    cluster::{Cli, Cluster, Node, QUICK, SLOW},
    command::{pause, wait_for},
    knob::knob,
    scrape::Scrape,
    workload::{Plan, numbered},
};

const PRODUCE: &str = "/flotilla.v1.Produce/Produce";
const CONSUME: &str = "/flotilla.v1.Consume/Consume";
const HEARTBEAT: &str = "/flotilla.v1.Groups/Heartbeat";

const MIB: u64 = 1 << 20;
const BOMBS: usize = 40;

fn resident_bytes(pid: u32) -> u64 {
    const PAGE_BYTES: u64 = 4096;
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * PAGE_BYTES
}

/// The most that it has been. 0 once it has ended.
fn peak_resident_bytes(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

fn assert_all_run(cluster: &Cluster, before: &[Node]) {
    for (now, before) in cluster.status().iter().zip(before) {
        assert_eq!((now.pid, now.state.as_str()), (before.pid, "running"), "node {}", now.id);
    }
}

/// Counts are claims, and 62 bytes may claim 9,586,980 records.
#[test]
fn claims_of_millions_of_records_that_wait_behind_paused_followers_end_no_process() {
    const CLAIMED: u32 = 9_586_980;
    let cluster = Cluster::start("claims", 3);
    let cli = &cluster.cli;
    cli.create_topic("t", 1);
    let nodes = cluster.status();
    let leader = cli.leader("t", 0);
    let followers: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    let address = nodes.iter().find(|node| node.id == leader).expect("it leads").client.clone();
    cluster.signal("STOP", &followers);
    // Two kinds: those whose bytes cannot hold what they claim, and those whose bytes could.
    let lying = claiming_batch(CLAIMED, &[0]);
    let able = claiming_batch(CLAIMED, &[7; 2_100]);
    let mut client = Abuser::connect(&address, 1 << 20, true).expect("the leader listens");
    let calls = [client.call(PRODUCE), client.call(PRODUCE)];
    for (call, batch) in calls.into_iter().zip([lying, able]) {
        for id in 0..500 {
            assert!(client.send_all(call, &produce_request(id, "t", 0, &batch), QUICK), "the stream is read");
        }
    }
    client.pump(Duration::from_millis(500));
    cluster.signal("CONT", &followers);
    for call in calls {
        client.finish(call);
    }
    wait_for("both streams to be answered to their ends", SLOW, || {
        client.pump(Duration::from_millis(100));
        if calls.iter().all(|call| client.ended.contains(call)) { Ok(()) } else { Err(format!("{:?}", client.ended)) }
    });
    assert!(!client.is_closed);
    assert_all_run(&cluster, &nodes);
    cli.create_topic("after", 1);
    cli.produce(&Plan::new("after", 1), numbered("after", 10).take(100)).finish_all(SLOW).assert_all_acked();
    cluster.finish();
}

/// 1,000 half-sent messages, 200 consumers that never read, 40 bombs: each node grows by less than 256 MiB, and no
/// produce beside them fails. Whoever reads the bombs needs less than 300 MiB.
#[test]
fn half_sent_messages_and_answers_that_nobody_takes_cost_little_and_fail_no_produce() {
    let cluster = Cluster::start("hoarders", 3);
    let cli = &cluster.cli;
    cli.create_topic("t", 1);
    cli.create_topic("orders", 3);
    let nodes = cluster.status();
    let leader = cli.leader("t", 0);
    let address = nodes.iter().find(|node| node.id == leader).expect("it leads").client.clone();
    let values = (0..3_000u32).map(|i| (i.to_string(), format!("{i:01000}")));
    cli.produce(&Plan::new("t", 1), values).finish_all(SLOW).assert_all_acked();
    let resident: Vec<u64> = nodes.iter().map(|node| resident_bytes(node.pid)).collect();
    let beside = cli.produce(&Plan::new("orders", 3).rate(200), numbered("beside", 10).take(4_000));
    let stop = Arc::new(AtomicBool::new(false));
    let watching = {
        let (nodes, resident, stop) = (nodes.clone(), resident.clone(), stop.clone());
        thread::spawn(move || {
            let mut grown = vec![0; nodes.len()];
            while !stop.load(Ordering::Relaxed) {
                for ((most, node), before) in grown.iter_mut().zip(&nodes).zip(&resident) {
                    *most = (*most).max(resident_bytes(node.pid).saturating_sub(*before));
                }
                pause();
            }
            grown
        })
    };
    let mut readers = vec![];
    for _ in 0..200 {
        let mut reader = Abuser::connect(&address, 1, false).expect("the node listens");
        let call = reader.call(CONSUME);
        reader.send(call, &consume_request("t", 0, true));
        reader.finish(call);
        readers.push(reader);
    }
    let mut bombs = Abuser::connect(&address, 1 << 20, true).expect("the node listens");
    let call = bombs.call(PRODUCE);
    for id in 0..BOMBS as u64 {
        assert!(bombs.send_all(call, &produce_request(id, "t", 0, &bomb(60)), QUICK), "the stream is read");
    }
    bombs.finish(call);
    wait_for("the bombs to be answered", SLOW, || {
        bombs.pump(Duration::from_millis(20));
        if bombs.ended.contains(&call) { Ok(()) } else { Err("the call goes on".into()) }
    });
    let mut halves = half_sent_messages(&address);
    // Pings are answered, so that nobody is closed for being silent.
    let until = Instant::now() + Duration::from_secs(knob("HOARD_SECONDS", 10));
    while Instant::now() < until {
        for client in readers.iter_mut().chain(&mut halves).chain([&mut bombs]) {
            client.pump(Duration::from_millis(1));
        }
    }
    beside.finish_all(SLOW).assert_all_acked();
    drop((readers, halves, bombs));
    reads_bombs_in_little_memory(cli, "t", 3_000 + BOMBS);
    stop.store(true, Ordering::Relaxed);
    let grown = watching.join().expect("watching does not panic");
    println!("  grew by at most {:?} MiB", grown.iter().map(|bytes| bytes / MIB).collect::<Vec<_>>());
    assert!(grown.iter().all(|bytes| *bytes < 256 * MIB), "{grown:?}");
    assert_all_run(&cluster, &nodes);
    cluster.finish();
}

/// Connections that each have twenty messages under way, none of which ever arrives whole.
fn half_sent_messages(address: &str) -> Vec<Abuser> {
    let mut half = vec![0];
    half.extend((3 * MIB as u32).to_be_bytes());
    half.resize(3 << 19, 7);
    let mut halves = vec![];
    for _ in 0..50 {
        let Ok(mut client) = Abuser::connect(address, 1 << 16, true) else { continue };
        let calls: Vec<u32> = (0..20).map(|_| client.call(HEARTBEAT)).collect();
        let mut sent = vec![0; calls.len()];
        for _ in 0..3 {
            for (call, sent) in calls.iter().zip(&mut sent) {
                *sent += client.send(*call, &half[*sent..]);
            }
            client.pump(Duration::from_millis(5));
        }
        halves.push(client);
    }
    halves
}

/// What people type, with its output taken and counted.
#[track_caller]
fn reads_bombs_in_little_memory(cli: &Cli, topic: &str, records: usize) {
    const RESIDENT_MAX: u64 = 300 * MIB;
    let began = Instant::now();
    let mut command = cli.brokered(&["consume", topic, "-o", "start", "-e"]);
    let mut consumer = command.stdout(Stdio::piped()).spawn().expect("the binary can be run");
    let mut output = consumer.stdout.take().expect("piped");
    let counting = thread::spawn(move || {
        let (mut buffer, mut lines, mut bytes) = (vec![0; 1 << 20], 0, 0);
        while let Ok(read @ 1..) = output.read(&mut buffer) {
            lines += buffer[..read].iter().filter(|byte| **byte == b'\n').count();
            bytes += read as u64;
        }
        (lines, bytes)
    });
    let mut peak = 0;
    while consumer.try_wait().expect("our own child can be waited for").is_none() {
        assert!(began.elapsed() < SLOW, "it reads for ever");
        peak = peak.max(peak_resident_bytes(consumer.id()));
        pause();
    }
    let (lines, bytes) = counting.join().expect("counting does not panic");
    println!(
        "  `flotilla consume` of {lines} records, {} MiB in {:.1?}: at most {} MiB resident",
        bytes / MIB,
        began.elapsed(),
        peak / MIB
    );
    assert!(consumer.wait().is_ok_and(|status| status.success()), "it ends well");
    assert_eq!(lines, records, "each of them is printed");
    assert!(0 < peak && peak < RESIDENT_MAX, "{peak}");
}

fn elections(nodes: &[Node]) -> f64 {
    let scraped = nodes.iter().map(|node| Scrape::of(node).expect("it answers").value("flotilla_raft_elections_total"));
    scraped.sum()
}

/// Readers that want records decoded, and producers that want them gzipped, at full speed: the threads that send
/// heartbeats do neither. `FLOTILLA_TEST_CODEC_SECONDS` makes it as long as the promise (60).
#[test]
fn codec_work_at_full_speed_makes_no_election() {
    let cluster = Cluster::start("codecs", 3);
    let cli = &cluster.cli;
    cli.create_topic("t", 1);
    let nodes = cluster.status();
    let leader = cli.leader("t", 0);
    let address = nodes.iter().find(|node| node.id == leader).expect("it leads").client.clone();
    // 8 MiB of plain records that gzip has work with, and that decode to as much.
    let mut noise = 1u64;
    let record = |noise: &mut u64| {
        let value: Vec<u8> = (0..1_000)
            .map(|_| {
                *noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                b'a' + (*noise >> 60) as u8
            })
            .collect();
        bytes_field(1, &bytes_field(2, &value))
    };
    let mut records: Vec<u8> = (0..1_000).flat_map(|_| record(&mut noise)).collect();
    records.extend(number_field(2, 1));
    let parts = [bytes_field(2, b"t"), number_field(5, 60_000), bytes_field(7, &records)];
    let request = message(&parts.concat());
    let before = elections(&nodes);
    let until = Instant::now() + Duration::from_secs(knob("CODEC_SECONDS", 10));
    let producers = (0..4).map(|_| {
        let (address, request) = (address.clone(), request.clone());
        thread::spawn(move || {
            let mut client = Abuser::connect(&address, 1 << 20, true).expect("the node listens");
            let call = client.call(PRODUCE);
            let mut sent = 0;
            while Instant::now() < until && client.send_all(call, &request, SLOW) {
                sent += 1;
            }
            sent
        })
    });
    let readers = (0..4).map(|_| {
        let address = address.clone();
        thread::spawn(move || {
            let mut taken = 0;
            while Instant::now() < until {
                let mut client = Abuser::connect(&address, 4 << 20, true).expect("the node listens");
                let call = client.call(CONSUME);
                client.send(call, &consume_request("t", 0, false));
                client.finish(call);
                client.pump(Duration::from_secs(2));
                taken += client.taken.get(&call).copied().unwrap_or(0);
            }
            taken
        })
    });
    let (producers, readers): (Vec<_>, Vec<_>) = (producers.collect(), readers.collect());
    let sent: usize = producers.into_iter().map(|thread| thread.join().expect("it does not panic")).sum();
    let taken: usize = readers.into_iter().map(|thread| thread.join().expect("it does not panic")).sum();
    println!("  {sent} MiB gzipped, {} MiB read decoded", taken as u64 / MIB);
    assert!(sent > 0 && taken > 0, "nothing was done");
    assert_eq!(elections(&nodes) - before, 0.0, "elections");
    assert_all_run(&cluster, &nodes);
    cluster.finish();
}

/// Seen once: under 480 idle connections the store found no descriptor, and the broker ended.
#[test]
fn with_256_descriptors_and_1000_idle_connections_service_goes_on() {
    let mut servers = ByHand::new("descriptors");
    for id in 1..=3 {
        servers.start_with_descriptors(id, 256);
    }
    servers.wait_cluster_id();
    servers.cli.create_topic("t", 3);
    let address = servers.cli.brokers.split(',').next().expect("three of them").to_string();
    let idle: Vec<_> = (0..1_000).filter_map(|_| std::net::TcpStream::connect(&address).ok()).collect();
    println!("  {} idle connections to {address}", idle.len());
    for round in 0..3 {
        let records = numbered(&format!("round-{round}"), 10).take(2_000);
        servers.cli.produce(&Plan::new("t", 3), records).finish_all(SLOW).assert_all_acked();
    }
    for id in 1..=3 {
        assert!(servers.is_running(id), "server {id}:\n{}", servers.log(id));
    }
    let log = servers.log(1);
    assert!(log.contains("connections_max = 10000 does not fit"), "{log}");
    assert!(log.contains("connection limit reached, refusing"), "{log}");
    assert!(log.lines().filter(|line| line.contains("refusing")).count() < 50, "{log}");
    drop(idle);
    servers.finish();
}
