//! Real directories set back to older copies, copied with `cp -a` as an operator does it.

use std::{path::Path, process::Command};

use jepsen_style_tests::{
    by_hand::ByHand,
    cluster::{QUICK, SLOW},
    command::{run, wait_for},
    workload::{Plan, numbered},
};

use crate::check_topic;

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").args([from, to]), b"", QUICK).ok();
}

/// The steps that lost acknowledged records: n3 is copied while stopped and lives again; n1 stops; records go to n2
/// and n3; both stop; the copy is put back; n1 and n3 are started.
#[test]
fn p1_an_older_copy_of_a_directory_is_refused_and_nothing_is_lost() {
    let mut servers = ByHand::new("restored");
    (1..=3).for_each(|id| servers.start(id));
    servers.wait_cluster_id();
    servers.cli.create_topic("orders", 3);
    let produce = |servers: &ByHand, name: &str| {
        let run = servers.cli.produce(&Plan::new("orders", 3), numbered(name, 10).take(90)).finish_all(SLOW);
        run.assert_all_acked();
        run
    };
    let first = produce(&servers, "first");
    servers.stop(3);
    let (directory, old) = (servers.data_dir(3).to_path_buf(), servers.data_dir(3).with_extension("old"));
    copy(&directory, &old);
    servers.start(3);
    servers.cli.wait_healthy();
    servers.stop(1);
    let second = produce(&servers, "second");
    servers.stop(2);
    servers.stop(3);
    let newest = directory.with_extension("newest");
    std::fs::rename(&directory, &newest).expect("moved aside");
    copy(&old, &directory);
    servers.start(1);
    servers.start(3);

    assert_eq!(servers.wait_ended(3), Some(1));
    let log = servers.log(3);
    assert!(log.contains("set back to an older copy") && log.contains("that this broker had last"), "{log}");
    servers.start(3);
    assert_eq!(servers.wait_ended(3), Some(1), "the mark stays");
    assert!(servers.log(3).contains("was marked damaged"), "{}", servers.log(3));

    servers.start(2);
    wait_for("health to name it", QUICK, || {
        let finished = servers.cli.try_run(&["cluster", "health"]);
        let said = finished.stdout + &finished.stderr;
        if said.contains("broker 3 has stopped for good") { Ok(()) } else { Err(said) }
    });
    // What it had last is as good as ever.
    std::fs::rename(&directory, directory.with_extension("refused")).expect("moved aside");
    std::fs::rename(&newest, &directory).expect("moved back");
    servers.start(3);
    servers.cli.wait_healthy();
    let third = produce(&servers, "third");
    check_topic(&servers.cli, "orders", 3, &[&first, &second, &third], Some(3));
    servers.finish();
}
