//! What an operator found in a fortnight, and faults of other systems that were tried here, on servers started by
//! hand.

use std::{path::Path, process::Command, time::Duration};

use jepsen_style_tests::{
    by_hand::ByHand,
    cluster::{QUICK, SLOW},
    command::{run, wait_for},
    scrape::Scrape,
    skew::Skew,
    workload::{Plan, Produced, numbered},
};

use crate::check_topic;

fn formed(name: &str) -> ByHand {
    let mut servers = ByHand::new(name);
    (1..=3).for_each(|id| servers.start(id));
    servers.wait_cluster_id();
    servers.cli.wait_healthy();
    servers
}

fn produce(servers: &ByHand, name: &str) -> Produced {
    let run = servers.cli.produce(&Plan::new("orders", 3), numbered(name, 10).take(90)).finish_all(SLOW);
    run.assert_all_acked();
    run
}

/// What `cluster health` says, once it says all of this.
#[track_caller]
fn wait_health(servers: &ByHand, parts: &[&str]) -> String {
    wait_for(&format!("health to say {parts:?}"), SLOW, || {
        let finished = servers.cli.try_run(&["cluster", "health"]);
        let said = finished.stdout + &finished.stderr;
        if parts.iter().all(|part| said.contains(part)) { Ok(said) } else { Err(said) }
    })
}

#[track_caller]
fn wait_log(servers: &ByHand, id: u64, deadline: Duration, parts: &[&str]) {
    wait_for(&format!("server {id} to log {parts:?}"), deadline, || {
        let log = servers.log(id);
        let is_there = log.lines().any(|line| parts.iter().all(|part| line.contains(part)));
        if is_there { Ok(()) } else { Err(log) }
    });
}

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").args([from, to]), b"", QUICK).ok();
}

/// Two of three are set back together while the third is away, so that nobody could know; what the third has
/// committed is contradicted by the leader of the second history. It once stacked new entries upon it, and health said
/// healthy.
#[test]
fn o1_a_broker_whose_committed_records_are_contradicted_stops_and_health_says_so() {
    let mut servers = formed("contradicted");
    servers.cli.create_topic("orders", 3);
    let before = produce(&servers, "before");
    servers.stop_all();
    let old = |id: u64| servers.data_dir(id).with_extension("old");
    for id in [1, 2] {
        copy(servers.data_dir(id), &old(id));
    }
    (1..=3).for_each(|id| servers.start(id));
    servers.cli.wait_healthy();
    let first = produce(&servers, "first history");
    servers.stop_all();
    for id in [1, 2] {
        let (directory, old) = (servers.data_dir(id).to_path_buf(), servers.data_dir(id).with_extension("old"));
        std::fs::rename(&directory, directory.with_extension("newest")).expect("moved aside");
        std::fs::rename(&old, &directory).expect("put back");
        servers.start(id);
    }
    servers.wait_cluster_id();
    wait_health(&servers, &["broker 3 does not answer"]);
    produce(&servers, "second history");

    // It meets what contradicts it, or tells the others first that it knows of later starts of theirs. Either way no
    // two histories are mixed: one side stops, and says why.
    servers.start(3);
    let has_ended = |servers: &mut ByHand, ids: &[u64]| ids.iter().all(|id| !servers.is_running(*id));
    wait_for("one side to stop", QUICK, || match has_ended(&mut servers, &[3]) || has_ended(&mut servers, &[1, 2]) {
        true => Ok(()),
        false => Err("all go on".to_string()),
    });
    if has_ended(&mut servers, &[3]) {
        assert_eq!(servers.wait_ended(3), Some(1), "{}", servers.log(3));
        wait_log(&servers, 3, QUICK, &["Committed records were lost elsewhere", "its directory is untouched: keep it"]);
        println!("  broker 3 was contradicted");
    } else {
        for id in [1, 2] {
            wait_log(&servers, id, QUICK, &["set back to an older copy", "broker 3 knows better"]);
        }
        servers.end(3);
        println!("  brokers 1 and 2 were told by broker 3");
    }

    // What the two had last is as good as ever. Broker 3 is left out: in groups where nothing contradicted it, it may have
    // taken of the second history by then.
    for id in [1, 2] {
        servers.end(id);
        let directory = servers.data_dir(id).to_path_buf();
        std::fs::rename(&directory, directory.with_extension("second")).expect("moved aside");
        std::fs::rename(directory.with_extension("newest"), &directory).expect("put back");
    }
    (1..=2).for_each(|id| servers.start(id));
    servers.wait_cluster_id();
    wait_health(&servers, &["2 of 3 brokers alive", "0 without leader", "broker 3 does not answer"]);
    check_topic(&servers.cli, "orders", 3, &[&before, &first], Some(1));
    servers.finish();
}

/// Seen once: the advice for an emptied directory led into two walls, and a broker that is not in its own list was
/// told that it can join, and then that this is an invalid setting.
#[test]
fn o4_p15_the_advice_for_an_emptied_directory_works() {
    let mut servers = formed("advice");
    servers.cli.create_topic("orders", 3);
    let first = produce(&servers, "first");
    assert_eq!(servers.stop(3), Some(0));
    servers.wipe(3);
    servers.start(3);
    assert_eq!(servers.wait_ended(3), Some(1));
    wait_log(&servers, 3, QUICK, &["put the directory back that it had last", "a new broker id"]);
    // A new id, an empty directory, and one running broker in its list, which the others need not name.
    let new = servers.add(2);
    servers.start(new);
    wait_for("the new broker to be one of the cluster", SLOW, || {
        let nodes = servers.cli.try_run(&["cluster", "nodes"]).ok();
        let is_alive =
            nodes.lines().any(|line| line.trim_start().starts_with(&new.to_string()) && line.contains("alive"));
        if is_alive { Ok(()) } else { Err(nodes) }
    });
    let warned = servers.log(new).matches("it joins the cluster of those listed, and forms none").count();
    assert_eq!(warned, 1, "one sentence: {}", servers.log(new));
    let topic = ["topic", "create", "placed", "--partitions", "3", "--replication-factor", "3", "--wait"];
    servers.cli.try_run(&topic).ok();
    let placed = servers.cli.describe("placed").expect("it is there");
    assert!(placed.iter().all(|partition| partition.replicas.contains(&new)), "{placed:?}");
    let second = produce(&servers, "second");
    check_topic(&servers.cli, "orders", 3, &[&first, &second], Some(1));
    servers.finish();
}

/// Seen once: both waited for ever, at INFO.
#[test]
fn p14_two_emptied_brokers_of_three_warn_whom_they_wait_for_and_what_to_do() {
    let mut servers = formed("two-emptied");
    servers.stop_all();
    for id in [2, 3] {
        servers.wipe(id);
    }
    (1..=3).for_each(|id| servers.start(id));
    for id in [2, 3] {
        wait_log(&servers, id, SLOW, &[" WARN ", "still waiting", "broker 1 (", "directories that they last had"]);
    }
    servers.finish();
}

/// A broker's clock is 8 days off, jumps, and stands still: once nothing said so.
#[test]
fn p22_o11_a_clock_that_is_off_is_said_everywhere_and_hangs_nothing() {
    const DAY: Duration = Duration::from_secs(86_400);
    let mut servers = ByHand::new("clock");
    let skew = Skew::new(servers.dir());
    skew.ahead(8 * DAY);
    servers.start(1);
    servers.start(2);
    servers.start_with_clock(3, &skew);
    servers.wait_cluster_id();
    servers.cli.create_topic("orders", 3);
    let mut produced = vec![produce(&servers, "ahead")];
    let ahead = |expected: Duration| {
        wait_for(&format!("the metric to say {expected:?}"), SLOW, || {
            let seconds = Scrape::of(&servers.http(3))?.value("flotilla_clock_ahead_seconds");
            let is_so = (seconds - expected.as_secs_f64()).abs() < 60.0;
            if is_so { Ok(()) } else { Err(seconds.to_string()) }
        });
    };
    wait_health(&servers, &["broker 3's clock is 691", "ahead of the median"]);
    wait_log(&servers, 3, SLOW, &["ERROR", "this broker's clock is wrong", "ahead of the median"]);
    ahead(8 * DAY);

    // Right again, it leads, jumps by an hour, and stands still: records are taken and read all the same.
    skew.ahead(Duration::ZERO);
    servers.cli.wait_healthy();
    wait_log(&servers, 3, SLOW, &["clock agrees with the others' again"]);
    (0..3).for_each(|partition| servers.cli.transfer_leader("orders", partition, 3));
    skew.behind(Duration::from_secs(3_600));
    produced.push(produce(&servers, "behind"));
    wait_health(&servers, &["broker 3's clock is 3", "behind the median"]);
    skew.ahead(Duration::ZERO);
    servers.cli.wait_healthy();
    skew.stop();
    produced.push(produce(&servers, "standing still"));
    (0..3).for_each(|partition| servers.cli.transfer_leader("orders", partition, 1));
    let produced: Vec<_> = produced.iter().collect();
    check_topic(&servers.cli, "orders", 3, &produced, Some(4));
    servers.finish();
}
