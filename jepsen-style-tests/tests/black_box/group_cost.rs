//! What consumer groups, and topics that nobody uses, cost the brokers. The figures are printed; the limits only
//! catch what would be a defect.

use std::time::{Duration, Instant};

use jepsen_style_tests::{
    cluster::{Cluster, SLOW},
    command::{run, wait_for},
    knob::knob,
    workload::{Plan, numbered},
};
use serde_json::Value;

/// `FLOTILLA_TEST_COMMIT_SECONDS`: how long to measure.
#[test]
fn two_hundred_groups_commit_500_times_a_second() {
    const GROUPS: f64 = 200.0;
    const RATE: f64 = 500.0;
    let seconds: u64 = knob("COMMIT_SECONDS", 10);
    let cluster = Cluster::start("commit-cost", 3);
    let duration = format!("{seconds}s");
    let (groups, rate) = (GROUPS.to_string(), RATE.to_string());
    let args = ["bench", "commit", "--groups", &groups, "--rate", &rate, "--warmup", "2s", "--duration", &duration];
    let mut command = cluster.cli.brokered(&args);
    let text = run(command.args(["--format", "json"]), b"", SLOW).ok();
    let json: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("no JSON ({error}): {text}"));
    let number = |json: &Value| json.as_f64().unwrap_or_else(|| panic!("no figure: {text}"));
    let per_s = number(&json["records_per_s"]);
    let latency = &json["latency_ms"];
    let cpu = number(&json["broker_cpu_s_per_million"]) * per_s / 1e6;
    println!(
        "  {GROUPS} groups, {per_s:.0} commits a second: p50 {} ms, p99 {} ms, max {} ms",
        latency["p50"], latency["p99"], latency["max"]
    );
    println!("  the three brokers together used {:.2} CPUs", cpu);
    assert_eq!(json["errors"], 0, "{text}");
    assert!(per_s >= RATE * 0.95, "{per_s} commits a second, {RATE} were due");
    assert!(number(&latency["p99"]) < 1_000.0, "{text}");
    cluster.finish();
}

/// The figures themselves are the business of a quiet machine; that nothing is missing from them is ours.
#[test]
fn a_bench_reads_all_it_wrote_and_every_record_arrives() {
    let cluster = Cluster::start("bench", 3);
    let bench = |args: &[&str]| {
        let mut command = cluster.cli.brokered(&[&["bench"], args].concat());
        let text = run(command.args(["-p", "3", "--format", "json"]), b"", SLOW).ok();
        println!("  {args:?}: {}", text.trim());
        let json: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("no JSON ({error}): {text}"));
        assert_eq!(json["errors"], 0, "{text}");
        assert!(json["records_per_s"].as_f64() > Some(0.0) && json["latency_ms"]["max"].as_f64() > Some(0.0), "{text}");
        json
    };
    bench(&["consume", "--records", "30000"]);
    bench(&["consume", "--records", "30000", "--group", "probe"]);
    let e2e = bench(&["e2e", "--rate", "200", "--warmup", "1s", "--duration", "3s"]);
    // Of a fixed rate all is sent, and so all arrives.
    let per_s = e2e["records_per_s"].as_f64().unwrap_or_default();
    assert!((180.0..=220.0).contains(&per_s), "{e2e}");
    let topics = cluster.cli.json(&["topic", "list"]);
    assert_eq!(topics["topics"].as_array().map(Vec::len), Some(0), "a bench leaves its topic behind: {topics}");
    let groups = cluster.cli.json(&["group", "list"]);
    assert_eq!(groups["groups"].as_array().map(Vec::len), Some(0), "a bench leaves its group behind: {groups}");
    cluster.finish();
}

/// `FLOTILLA_TEST_IDLE_PARTITIONS`, `FLOTILLA_TEST_IDLE_SECONDS`.
#[test]
fn a_thousand_idle_partitions_cost_little_and_are_there_when_needed() {
    /// Heartbeats of 1,000 groups take up to 1.5; more is a busy loop.
    const IDLE_CPUS_MAX: f64 = 1.8;
    let partitions: u32 = knob("IDLE_PARTITIONS", 1_000);
    let seconds: u64 = knob("IDLE_SECONDS", 10);
    let cluster = Cluster::start("idle", 3);
    let cli = &cluster.cli;
    let count = partitions.to_string();
    let began = Instant::now();
    let args = ["topic", "create", "idle", "-p", &count, "-r", "3", "--wait", "--timeout", "120s"];
    run(&mut cli.brokered(&args), b"", SLOW).ok();
    cli.wait_healthy();
    println!("  {partitions} partitions created and led after {:.1} s", began.elapsed().as_secs_f64());
    let epochs = || cli.describe("idle").map(|all| all.iter().map(|p| (p.leader, p.epoch)).collect::<Vec<_>>());
    let before = wait_for("all leaders", SLOW, epochs);

    let (cpu, at) = (cluster.cpu_seconds(), Instant::now());
    wait_for("the measured span to be over", SLOW, || {
        if at.elapsed() >= Duration::from_secs(seconds) { Ok(()) } else { Err(format!("{:?}", at.elapsed())) }
    });
    let used = (cluster.cpu_seconds() - cpu) / at.elapsed().as_secs_f64();
    println!("  idle for {seconds} s: the three brokers together used {used:.2} CPUs");
    let after = wait_for("all leaders", SLOW, epochs);
    assert_eq!((before.len(), after.len()), (partitions as usize, partitions as usize));
    // On plain timers a machine that is busy with something else lets some of them run out: told, not judged.
    let changed = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    println!("  {changed} leaderships changed meanwhile");
    assert!(used < IDLE_CPUS_MAX, "{used:.2} CPUs for nothing");
    cli.wait_healthy();
    let plan = Plan::new("idle", partitions);
    cli.produce(&plan, numbered("awake", u64::from(partitions)).take(2_000)).finish_all(SLOW).assert_all_acked();
    cluster.finish();
}
