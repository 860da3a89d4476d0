//! Members of a group share the partitions, take over from each other, and leave other groups alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use jepsen_style_tests::{
    checker::{History, Read, check_run},
    cluster::{Cli, Cluster, QUICK, SLOW},
    command::wait_for,
    consumer::{Consumer, Line},
    groups::Group,
    knob::knob,
    workload::{Plan, Produced, numbered},
};

const TOPIC: &str = "orders";

/// Of the members that are killed.
const SESSION: Duration = Duration::from_secs(3);
/// After the session: the expiry is agreed on, and the others hear of it with their next heartbeat, which comes
/// at least thrice a session; and this machine is busy.
const HEARD: Duration = Duration::from_secs(2);

fn member(cli: &Cli, group: &str) -> Consumer {
    let session = format!("{}s", SESSION.as_secs());
    Consumer::start(cli, &[TOPIC, "-g", group, "--session-timeout", &session, "--commit-interval", "100ms"])
}

/// The partitions that a consumer reads.
fn partitions_of(group: &Group, consumer: &Consumer) -> BTreeSet<u32> {
    let reads = group.reads(consumer.pid()).unwrap_or_else(|| panic!("process {} in {group:?}", consumer.pid()));
    reads.into_iter().map(|(_, partition)| partition).collect()
}

/// The longest time without a record of this partition, of what was printed from `since` to `until`.
fn longest_gap(lines: &[Line], partition: u32, since: Instant, until: Instant) -> Duration {
    let times = lines.iter().filter(|line| line.partition == partition).map(|line| line.at);
    let times: Vec<Instant> = times.filter(|at| (since..until).contains(at)).chain([until]).collect();
    let mut before = since;
    let mut longest = Duration::ZERO;
    for at in times {
        longest = longest.max(at - before);
        before = at;
    }
    longest
}

#[test]
fn members_share_partitions_take_over_from_the_dead_and_make_room_for_the_new() {
    const PARTITIONS: u32 = 6;
    /// What a member that keeps its partition may be without a record, while others come. Records come every few
    /// milliseconds; a stop of the whole group would take a rebalance.
    const KEPT_GAP_MAX: Duration = Duration::from_millis(1_500);
    let cluster = Cluster::start("members", 3);
    let cli = &cluster.cli;
    cli.create_topic(TOPIC, PARTITIONS);
    let producer = cli.produce(&Plan::new(TOPIC, PARTITIONS).rate(600), numbered("load", 200));

    let mut members: Vec<Consumer> = (0..3).map(|_| member(cli, "billing")).collect();
    let before = cli.wait_loads("billing", &[2, 2, 2], QUICK);
    members.iter_mut().for_each(|member| member.wait_count(100, QUICK));

    let victim = members.remove(0);
    let orphans = partitions_of(&before, &victim);
    let killed_at = Instant::now();
    let killed = victim.kill();
    let after = cli.wait_loads("billing", &[3, 3], QUICK);
    let took = killed_at.elapsed();
    let got: Vec<BTreeSet<u32>> = members.iter().map(|member| partitions_of(&after, member)).collect();
    println!(
        "  {orphans:?} orphaned; taken over {} ms after the kill (session {SESSION:?}): {got:?}",
        took.as_millis()
    );
    assert!(took <= SESSION + HEARD, "the rest took over after {took:?}");
    for partition in &orphans {
        let is_read = |lines: &[Line]| lines.iter().any(|line| line.partition == *partition && line.at > killed_at);
        wait_for(&format!("a record of orphaned partition {partition}"), QUICK, || {
            let found = members.iter().any(|member| is_read(&member.lines()));
            if found { Ok(()) } else { Err("none".into()) }
        });
    }

    // Two come: the load evens out, and whoever keeps a partition is not disturbed.
    let joined_at = Instant::now();
    members.extend([member(cli, "billing"), member(cli, "billing")]);
    let even = cli.wait_loads("billing", &[1, 1, 2, 2], QUICK);
    let settled_at = Instant::now();
    println!("  two more members: even after {} ms", (settled_at - joined_at).as_millis());
    for (member, held) in members.iter().zip(&got) {
        let lines = member.lines();
        for partition in partitions_of(&even, member).intersection(held) {
            let gap = longest_gap(&lines, *partition, joined_at, settled_at);
            println!("  kept partition {partition}: longest gap {} ms", gap.as_millis());
            assert!(gap <= KEPT_GAP_MAX, "partition {partition} stood still for {gap:?}");
        }
    }

    let produced = producer.finish(SLOW);
    produced.assert_all_acked();
    cli.wait_no_lag("billing", SLOW);
    let left: Vec<Vec<Line>> = members.into_iter().map(|member| member.stop().ok()).collect();
    let group = cli.group("billing").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((group.state.as_str(), group.members.len()), ("empty", 0), "after SIGTERM to all");
    check_union(&produced, &killed.lines, &left, &orphans);
    cluster.finish();
}

/// Every acknowledged record was printed; twice only what the killed member had not committed.
fn check_union(produced: &Produced, killed: &[Line], left: &[Vec<Line>], orphans: &BTreeSet<u32>) {
    let mut seen: BTreeMap<(u32, i64), usize> = BTreeMap::new();
    for line in left.iter().flatten() {
        *seen.entry((line.partition, line.offset)).or_default() += 1;
    }
    let twice: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).map(|(place, _)| *place).collect();
    assert_eq!(twice, [], "printed twice by members that nobody killed");
    let again = killed.iter().filter(|line| seen.contains_key(&(line.partition, line.offset)));
    let again: Vec<u32> = again.map(|line| line.partition).collect();
    assert!(again.iter().all(|partition| orphans.contains(partition)), "repeated: {again:?}");
    let all = killed.iter().chain(left.iter().flatten());
    let values: BTreeSet<&str> = all.map(|line| line.value.as_str()).collect();
    let sent = produced.sent.iter().flatten();
    let missing: Vec<&str> = sent.map(|sent| sent.value.as_str()).filter(|value| !values.contains(value)).collect();
    assert!(missing.is_empty(), "{} records were never printed, first {:?}", missing.len(), missing.first());
    println!("  {} records, all printed; {} again after the kill", produced.sent_count(), again.len());
}

/// `FLOTILLA_TEST_GROUP_RECORDS`: of each of the eight producers.
#[test]
fn two_groups_read_what_eight_producers_send_each_for_itself() {
    const PARTITIONS: u32 = 8;
    const GROUPS: [&str; 2] = ["billing", "audit"];
    let records: usize = knob("GROUP_RECORDS", 10_000);
    let cluster = Cluster::start("two-groups", 3);
    let cli = &cluster.cli;
    cli.create_topic(TOPIC, PARTITIONS);
    let consumers: Vec<(usize, Consumer)> = (0..8).map(|i| (i % 2, member(cli, GROUPS[i % 2]))).collect();
    GROUPS.iter().for_each(|group| drop(cli.wait_loads(group, &[2, 2, 2, 2], QUICK)));

    let began = Instant::now();
    let start = |i: usize| cli.produce(&Plan::new(TOPIC, PARTITIONS), numbered(&format!("p{i}"), 100).take(records));
    let producers: Vec<_> = (0..8).map(start).collect();
    let produced: Vec<Produced> = producers.into_iter().map(|producer| producer.finish_all(SLOW)).collect();
    produced.iter().for_each(Produced::assert_all_acked);
    println!("  8 producers: {} records in {:.1} s", 8 * records, began.elapsed().as_secs_f64());
    GROUPS.iter().for_each(|group| drop(cli.wait_no_lag(group, SLOW)));
    println!("  8 consumers in 2 groups had printed and committed all after {:.1} s", began.elapsed().as_secs_f64());

    let mut read: Vec<Vec<Line>> = vec![vec![]; GROUPS.len()];
    for (group, consumer) in consumers {
        let lines = consumer.stop().ok();
        assert!(!lines.is_empty(), "a member of {} printed nothing", GROUPS[group]);
        read[group].extend(lines);
    }
    for (group, lines) in GROUPS.iter().zip(read) {
        let summary = check_run(&histories(PARTITIONS, &produced, lines), None);
        println!("  {group}: {} acknowledged, {} read, each once and in order", summary.acked, summary.read);
        summary.assert_valid();
        assert_eq!(summary.read, 8 * records);
    }
    cluster.finish();
}

/// What a group printed, as if it were the log. Nobody was killed, so it must be exactly that; a partition was
/// printed in order by its one reader.
fn histories(partitions: u32, produced: &[Produced], lines: Vec<Line>) -> Vec<History> {
    let mut logs: Vec<Vec<Read>> = (0..partitions).map(|_| vec![]).collect();
    for Line { partition, offset, key, value, .. } in lines {
        logs[partition as usize].push(Read { offset, key, value });
    }
    let history = |(partition, log): (usize, Vec<Read>)| History {
        partition: partition as u32,
        log_start: 0,
        producers: produced.iter().map(|produced| produced.sent[partition].clone()).collect(),
        log,
    };
    logs.into_iter().enumerate().map(history).collect()
}
