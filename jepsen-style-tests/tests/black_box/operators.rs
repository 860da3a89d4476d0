//! What an operator does to nodes, and what they and the command line say about it.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use jepsen_style_tests::{
    cluster::{Cluster, SLOW},
    command::run,
    readback::dump_log,
    workload::{Plan, numbered},
};

fn log_of(cluster: &Cluster, id: u64) -> String {
    let path = Path::new(&cluster.node(id).data_dir).with_file_name("log");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Seen once: "node 2 is up" with exit code 0, and it had ended 0.2 s later. The last line
/// of a JSON log was plain text, and numbers were "Some(…)".
#[test]
fn p13_the_restart_of_an_emptied_node_says_why_it_ended_and_its_json_log_is_json_to_the_end() {
    let cluster = Cluster::start_on("emptied-restart", 3, &["log_format=json".to_string()], |_| vec![]);
    cluster.kill(2);
    fs::remove_dir_all(cluster.node(2).data_dir).expect("it is ours");
    let finished = cluster.try_local(&["restart", "2"]);
    assert_eq!(finished.code, 1, "{finished:?}");
    for part in ["node 2 ended", "another data directory"] {
        assert!(finished.stderr.contains(part), "no {part:?} in {}", finished.stderr);
    }
    cluster.cli.try_run(&["cluster", "nodes"]).ok();
    for id in 1..=3 {
        let log = log_of(&cluster, id);
        // Standard output, where supervisors look for it, goes to the same file here.
        for line in log.lines().filter(|line| !line.contains("is ready: client")) {
            let json = serde_json::from_str::<serde_json::Value>(line);
            assert!(json.is_ok_and(|json| json["level"].is_string()), "node {id} logged {line}");
            assert!(!line.contains("Some("), "node {id} logged {line}");
        }
    }
    cluster.finish();
}

/// What a process is started with: nohup's children ignore the signal.
fn is_hang_up_ignored() -> bool {
    const SIGHUP_BIT: u64 = 1;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & SIGHUP_BIT != 0)
}

/// Seen once: SIGHUP killed at once, without hand-over and without a line.
#[test]
fn o7_a_hang_up_hands_leaderships_over_and_is_no_error() {
    if is_hang_up_ignored() {
        println!("  NOT SHOWN: this runs under nohup, so brokers ignore SIGHUP, as they must");
        return;
    }
    let cluster = Cluster::start("hang-up", 3);
    cluster.cli.create_topic("orders", 6);
    let led = cluster.cli.describe("orders").expect("it is there").iter().filter(|p| p.leader == Some(1)).count();
    let producer = cluster.cli.produce(&Plan::new("orders", 6).rate(1_000), numbered("load", 20).take(3_000));
    producer.wait_acked(500, SLOW);
    let pid = cluster.node(1).pid;
    cluster.signal("HUP", &[1]);
    cluster.wait_gone(pid);
    producer.finish_all(SLOW).assert_all_acked();
    let log = log_of(&cluster, 1);
    assert!(log.contains("SIGHUP") && log.contains("stopped"), "{log}");
    assert_eq!(log.matches("leadership handed over").count(), led, "{log}");
    assert!(!log.contains("ERROR"), "an orderly end is no error: {log}");
    cluster.restart(1);
    cluster.cli.wait_healthy();
    // It leads little or nothing now; `balance` gives it back what it is preferred for.
    run(&mut cluster.cli.brokered(&["cluster", "balance"]), b"", SLOW).ok();
    let described = cluster.cli.describe("orders").expect("it is there");
    assert!(described.iter().all(|p| p.leader == p.replicas.first().copied()), "{described:?}");
    cluster.finish();
}

/// Seen once: with the broker frozen it ended well although another one led (2 of 5).
#[test]
fn p8_a_transfer_to_a_frozen_broker_fails_and_names_it() {
    let cluster = Cluster::start("frozen-target", 3);
    cluster.cli.create_topic("orders", 1);
    for frozen in 1..=3 {
        cluster.cli.transfer_leader("orders", 0, frozen % 3 + 1);
        cluster.local(&["pause", &frozen.to_string()]);
        let to = frozen.to_string();
        let args = ["cluster", "transfer-leader", "orders", "-p", "0", "--to", &to, "--timeout", "10s"];
        let finished = cluster.cli.try_run(&args);
        println!("  to frozen broker {frozen}: {:?}, {}", finished.took, finished.stderr.trim());
        assert!(finished.code == 1 && finished.stderr.contains(&format!("broker {frozen}")), "{finished:?}");
        cluster.local(&["resume", &to]);
        cluster.cli.wait_healthy();
    }
    cluster.finish();
}

/// On directories as killed and as stopped brokers leave them.
#[test]
fn p18_dumping_the_log_leaves_every_directory_as_it_is() {
    let cluster = Cluster::start("dump-log", 3);
    cluster.cli.create_topic("orders", 2);
    let plan = Plan::new("orders", 2);
    cluster.cli.produce(&plan, numbered("load", 500).take(2_000)).finish_all(SLOW).assert_all_acked();
    let nodes = cluster.status();
    let running = run(&mut cluster.cli.command(&["dump-log", "--dir", &nodes[0].data_dir]), b"", SLOW);
    assert!(running.code == 1 && running.stderr.contains("stop the broker"), "{running:?}");
    cluster.kill(1);
    cluster.local(&["stop"]);
    for node in &nodes {
        let before = picture(Path::new(&node.data_dir));
        assert!(!dump_log(&cluster.cli, &node.data_dir).is_empty());
        let after = picture(Path::new(&node.data_dir));
        let changed: Vec<_> =
            before.iter().filter(|(path, was)| after.get(*path) != Some(was)).map(|(p, _)| p).collect();
        assert!(changed.is_empty() && before.len() == after.len(), "node {}: {changed:?}", node.id);
    }
    cluster.local(&["start"]);
    cluster.cli.wait_healthy();
    cluster.finish();
}

/// Owner, mode, inode, times of change, and bytes, of everything below a directory.
type Picture = BTreeMap<PathBuf, (Vec<i64>, Vec<u8>)>;

fn picture(directory: &Path) -> Picture {
    let mut picture = Picture::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(path) = open.pop() {
        let meta = fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let owner = [meta.uid(), meta.gid(), meta.mode()].map(i64::from);
        let times = [meta.ino() as i64, meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
        let mut bytes = vec![];
        if meta.is_dir() {
            open.extend(fs::read_dir(&path).expect("it is there").map(|file| file.expect("an entry").path()));
        } else {
            bytes = fs::read(&path).expect("it can be read");
        }
        picture.insert(path, ([&owner[..], &times[..]].concat(), bytes));
    }
    picture
}
