//! `flotilla local`: a cluster of real processes for one's own machine.

use std::{path::Path, process::Command};

use jepsen_style_tests::{
    cluster::{Cli, Cluster, QUICK, SLOW, TestDir},
    command::{run, wait_for},
    workload::{Plan, numbered},
};

use crate::check_topic;

#[test]
fn local_drives_a_cluster_of_three() {
    drives(3);
}

#[test]
fn local_drives_a_cluster_of_five() {
    drives(5);
}

fn drives(nodes: u64) {
    const PARTITIONS: u32 = 4;
    const RECORDS: usize = 2_000;
    let cluster = Cluster::start(&format!("local-{nodes}"), nodes);
    let cli = &cluster.cli;
    let all = cluster.status();
    assert!(all.iter().map(|node| node.id).eq(1..=nodes), "broker ids are 1 to {nodes}: {all:?}");
    assert!(all.iter().all(|node| node.state == "running" && node.pid != 0), "{all:?}");
    cli.create_topic("orders", PARTITIONS);

    let mut produced = vec![];
    let mut produce = |name: &str| {
        let records = numbered(name, 50).take(RECORDS);
        let run = cli.produce(&Plan::new("orders", PARTITIONS), records).finish_all(SLOW);
        run.assert_all_acked();
        produced.push(run);
    };
    produce("whole");
    // Whoever leads: with one node of three or more away, produce goes on.
    cluster.kill(1);
    assert_eq!(cluster.node(1).state, "stopped", "after kill");
    produce("one killed");
    cluster.restart(1);
    wait_state(&cluster, 1, "running");
    cluster.local(&["pause", "2"]);
    assert_eq!(cluster.node(2).state, "paused", "after pause");
    produce("one paused");
    cluster.local(&["resume", "2"]);
    wait_state(&cluster, 2, "running");
    cli.wait_healthy();

    let pids: Vec<u32> = cluster.status().iter().map(|node| node.pid).collect();
    cluster.local(&["stop"]);
    for pid in pids {
        cluster.wait_gone(pid);
    }
    cluster.local(&["start", "--nodes", &nodes.to_string()]);
    cli.wait_healthy();
    produce("started again");
    let produced: Vec<_> = produced.iter().collect();
    check_topic(cli, "orders", PARTITIONS, &produced, Some(2));
    cluster.finish();
}

#[track_caller]
fn wait_state(cluster: &Cluster, id: u64, state: &str) {
    wait_for(&format!("node {id} to be {state}"), QUICK, || {
        let node = cluster.node(id);
        if node.state == state { Ok(()) } else { Err(format!("{node:?}")) }
    });
}

/// Seen once: after a power cut soon after `local start` the configuration of the nodes was gone: written and renamed,
/// the directory not synced. No power is cut here (a file system of ours will do that); but the order of the calls can be
/// seen: what gets a name is synced before, and its directory after, before the command ends.
#[test]
fn r6_what_local_start_writes_is_synced_before_and_its_name_after() {
    let probe = run(Command::new("sh").args(["-c", "strace -o /dev/null true"]), b"", QUICK);
    if probe.code != 0 {
        println!("  skipped: no process can be traced here: {}", probe.stderr.trim());
        return;
    }
    let dir = TestDir::new("r6");
    let (cli, local, trace) = (Cli::new(dir.path()), dir.path().join("local"), dir.path().join("trace"));
    let local = local.to_string_lossy().into_owned();
    let plain = cli.command(&["local", "start", "--nodes", "1", "--dir", &local]);
    let mut command = Command::new("strace");
    // What it starts is none of ours.
    command.args(["-f", "-y", "--detach-on=execve", "-e", "trace=fsync,fdatasync,rename,renameat,renameat2", "-o"]);
    command.arg(&trace).arg(plain.get_program()).args(plain.get_args());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let started = run(&mut command, b"", SLOW);
    run(&mut cli.command(&["local", "stop", "--dir", &local]), b"", SLOW);
    started.ok();
    let text = std::fs::read_to_string(&trace).expect("strace wrote it");
    let calls: Vec<&str> = text.lines().filter(|line| line.ends_with("= 0")).collect();
    let synced = |calls: &[&str], path: &str| {
        calls.iter().any(|call| call.contains("sync(") && call.contains(&format!("<{path}>")))
    };
    let mut named = 0;
    for (at, call) in calls.iter().enumerate().filter(|(_, call)| call.contains("rename")) {
        let paths: Vec<&str> = call.split('"').skip(1).step_by(2).collect();
        let [from, to] = paths[..] else { panic!("{call}") };
        let parent = Path::new(to).parent().expect("a file stands in a directory").to_string_lossy();
        assert!(synced(&calls[..at], from), "not synced before it got its name: {call}\n{text}");
        assert!(synced(&calls[at..], &parent), "its directory is not synced after: {call}\n{text}");
        named += 1;
    }
    assert!(named >= 2, "the node's configuration and the cluster's state:\n{text}");
}
