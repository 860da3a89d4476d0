//! Committed offsets: never lost, never back, and never ahead of what was printed.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use jepsen_style_tests::{
    cluster::{Cli, Cluster, QUICK, SLOW},
    command::wait_for,
    consumer::Consumer,
    knob::knob,
    random::Random,
    reading::{Partition, Run, check_runs},
    workload::{Plan, numbered},
};

const TOPIC: &str = "orders";
const PARTITIONS: u32 = 3;

/// What the runs of one group came to, and how often one ended badly.
struct Runs {
    runs: Vec<Run>,
    failed: usize,
}

/// Runs `consume -n` in one group again and again until told to stop. Each run's last commit is unique: exit code
/// 0 says that it is fsynced on a majority, so the next run must begin exactly there.
fn run_on(cli: &Cli, group: &str, stop: &AtomicBool, done: &AtomicUsize) -> Runs {
    const RECORDS: &str = "20";
    let mut all = Runs { runs: vec![], failed: 0 };
    let mut committed: BTreeMap<Partition, i64> = BTreeMap::new();
    let mut printed = committed.clone();
    while !stop.load(Ordering::Relaxed) {
        // A second member of the instance id takes over at once from one that could not say goodbye.
        let args = [TOPIC, "-g", group, "-n", RECORDS, "--commit-interval", "20ms", "--instance-id", group];
        let consumed = Consumer::start(cli, &args).ended(SLOW);
        for line in &consumed.lines {
            let end = printed.entry((line.topic.clone(), line.partition)).or_default();
            *end = (*end).max(line.offset + 1);
        }
        match consumed.code {
            0 => committed = printed.clone(),
            // What it committed on its way is not known; the next run may begin anywhere from the old place on.
            _ => {
                println!("  {group}: exit code {}: {}", consumed.code, consumed.stderr.trim());
                all.failed += 1;
            }
        }
        all.runs.push(Run { lines: consumed.lines, committed: committed.clone() });
        done.fetch_add(1, Ordering::Relaxed);
    }
    all
}

/// Looks at a group's committed offsets again and again: how often it looked, and every time one went back.
fn watch(cli: &Cli, group: &str, stop: &AtomicBool) -> (usize, Vec<String>) {
    let (mut looks, mut back) = (0, vec![]);
    let mut last: BTreeMap<Partition, i64> = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) {
        // Without a coordinator there is no answer; what is answered must be right.
        let Ok(group) = cli.group(group) else { continue };
        let committed = group.committed();
        for (partition, before) in &last {
            let now = committed.get(partition);
            if now.is_none_or(|now| now < before) {
                back.push(format!("{partition:?}: {before} then {now:?}"));
            }
        }
        last = committed;
        looks += 1;
    }
    (looks, back)
}

/// `FLOTILLA_TEST_COORDINATOR_KILLS`: how many.
#[test]
fn commits_survive_the_kill_of_the_metadata_leader() {
    const GROUPS: [&str; 4] = ["g0", "g1", "g2", "g3"];
    /// Of all groups together, before each kill and after the last.
    const RUNS_BETWEEN: usize = 8;
    let kills: usize = knob("COORDINATOR_KILLS", 3);
    let cluster = Cluster::start("coordinator-kills", 3);
    let cli = &cluster.cli;
    cli.create_topic(TOPIC, PARTITIONS);
    let producer = cli.produce(&Plan::new(TOPIC, PARTITIONS).rate(2_000), numbered("load", 200));
    // One that commits without a pause, so that a kill falls into a commit.
    let mut steady = Consumer::start(cli, &[TOPIC, "-g", "steady", "--commit-interval", "5ms"]);
    steady.wait_count(1_000, QUICK);

    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (runs, watched) = thread::scope(|scope| {
        let running = GROUPS.map(|group| scope.spawn(|| run_on(cli, group, &stop, &done)));
        let watching = scope.spawn(|| watch(cli, "steady", &stop));
        for kill in 1..=kills {
            wait_runs(&done, RUNS_BETWEEN);
            let leader = wait_for("a metadata leader", QUICK, || cli.metadata_leader());
            let at = Instant::now();
            cluster.kill(leader);
            let next = wait_for("another metadata leader", SLOW, || {
                cli.metadata_leader().and_then(|now| if now == leader { Err(format!("still {now}")) } else { Ok(now) })
            });
            wait_runs(&done, GROUPS.len());
            println!(
                "  kill {kill}: metadata leader {leader}, then {next}; {} runs ended {} ms after the kill",
                GROUPS.len(),
                at.elapsed().as_millis()
            );
            cluster.restart(leader);
            cli.wait_healthy();
        }
        wait_runs(&done, RUNS_BETWEEN);
        stop.store(true, Ordering::Relaxed);
        (running.map(|runs| runs.join().expect("no run panics")), watching.join().expect("watching does not panic"))
    });

    for (group, Runs { runs, failed }) in GROUPS.iter().zip(&runs) {
        let progress = check_runs(runs);
        println!("  {group}: {} runs, {failed} ended badly, {} records again", runs.len(), progress.repeats);
        progress.assert_valid();
        // A broker's death is no failure of its clients: they retry.
        assert!(failed * 2 < runs.len(), "{group}: {failed} of {} runs ended badly", runs.len());
        let last = cli.group(group).unwrap_or_else(|error| panic!("{group}: {error}")).committed();
        for (partition, committed) in &progress.committed {
            assert!(last.get(partition) >= Some(committed), "{group}: acknowledged {committed}, there is {last:?}");
        }
    }
    let (looks, back) = watched;
    println!("  steady: looked at {looks} times, went back {} times", back.len());
    assert!(looks > kills, "looked only {looks} times");
    assert!(back.is_empty(), "{back:?}");
    let produced = producer.finish(SLOW);
    produced.assert_all_acked();
    cli.wait_no_lag("steady", SLOW);
    let lines = steady.stop().ok();
    assert!(lines.len() >= produced.sent_count(), "{} of {} printed", lines.len(), produced.sent_count());
    cluster.finish();
}

#[track_caller]
fn wait_runs(done: &AtomicUsize, more: usize) {
    let goal = done.load(Ordering::Relaxed) + more;
    wait_for(&format!("{goal} ended runs"), SLOW, || {
        let done = done.load(Ordering::Relaxed);
        if done >= goal { Ok(()) } else { Err(format!("{done}")) }
    });
}

/// `FLOTILLA_TEST_CONSUMER_KILLS`: how many; 100 in scripts/nightly.
#[test]
fn a_consumer_killed_again_and_again_leaves_nothing_out_and_repeats_only_what_it_had_not_committed() {
    let kills: usize = knob("CONSUMER_KILLS", 8);
    let mut random = Random::printed("consumer kills");
    let cluster = Cluster::start("consumer-kills", 3);
    let cli = &cluster.cli;
    cli.create_topic(TOPIC, PARTITIONS);
    let producer = cli.produce(&Plan::new(TOPIC, PARTITIONS).rate(2_000), numbered("load", 200));
    // The instance id: it comes back as the same member, without waiting for the dead one's session to end.
    let args = [TOPIC, "-g", "billing", "--commit-interval", "150ms", "--instance-id", "only"];
    let mut runs = vec![];
    let mut committed = 0;
    for _ in 0..kills {
        let mut consumer = Consumer::start(cli, &args);
        // After a commit of its own, and somewhere on the way to a later one: it prints all that waits for it at
        // once, and would else be killed before its first.
        committed = wait_for("a commit of this run", QUICK, || {
            let now = cli.group("billing")?.committed().values().sum::<i64>();
            if now > committed { Ok(now) } else { Err(format!("{now} committed")) }
        });
        consumer.wait_count(consumer.count() + 1 + random.below(800) as usize, QUICK);
        assert!(consumer.is_running(), "it must be killed in the middle");
        let lines = consumer.kill().lines;
        let group = wait_for("the killed consumer's group", QUICK, || cli.group("billing"));
        runs.push(Run { lines, committed: group.committed() });
    }
    let produced = producer.finish(SLOW);
    produced.assert_all_acked();
    let consumer = Consumer::start(cli, &args);
    let group = cli.wait_no_lag("billing", SLOW);
    runs.push(Run { lines: consumer.stop().ok(), committed: group.committed() });

    let printed: usize = runs.iter().map(|run| run.lines.len()).sum();
    let progress = check_runs(&runs);
    let records: i64 = progress.printed.values().sum();
    println!("  {kills} kills: {records} records, {printed} lines, {} of them again", progress.repeats);
    progress.assert_valid();
    assert_eq!(progress.printed, progress.committed, "committed at the end is what was printed");
    assert_eq!(records as usize, produced.sent_count(), "the union of the outputs has every record");
    // That nothing committed was printed again is checked record by record above. Beside it, a bound that holds
    // the checker itself to account: without commits each run would begin at 0, and half of all records be
    // repeated a kill.
    let repeats_max = records as usize * kills / 5;
    assert!(progress.repeats < repeats_max, "{} of {printed} lines are repeats", progress.repeats);
    assert!(progress.repeats > 0, "no kill fell between a line and its commit: nothing was shown");
    cluster.finish();
}
