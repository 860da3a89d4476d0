//! `flotilla verify` on a live cluster: what it finds, what it does not, and that it says so.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use jepsen_style_tests::{
    cluster::{Cluster, QUICK, SLOW},
    command::{run, wait_for},
    workload::Plan,
};
use serde_json::Value;

const PARTITIONS: u32 = 3;
const RECORDS: usize = 600;

/// The verdict of each partition, by name.
fn verdicts(json: &Value) -> Vec<(String, String)> {
    let of = |group: &Value| {
        let name = group["topic"].as_str().map_or("metadata".into(), |topic| format!("{topic}-{}", group["partition"]));
        (name, group["verdict"].as_str().unwrap_or_default().to_string())
    };
    json["groups"].as_array().map(|groups| groups.iter().map(of).collect()).unwrap_or_default()
}

/// The largest blob file of a node.
fn blob_file(data_dir: &Path) -> Option<PathBuf> {
    let mut open = vec![data_dir.to_path_buf()];
    let mut found: Vec<(u64, PathBuf)> = vec![];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => open.push(entry.path()),
                Ok(metadata) if entry.path().extension().is_some_and(|ext| ext == "blob") => {
                    found.push((metadata.len(), entry.path()));
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
    found.into_iter().max().map(|(_, path)| path)
}

/// One byte in the middle of a file is another one.
fn flip(path: &Path) {
    let mut file = File::options().read(true).write(true).open(path).expect("it is there");
    let at = file.metadata().expect("it is there").len() / 2;
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut byte)).expect("it has bytes");
    file.seek(SeekFrom::Start(at)).and_then(|_| file.write_all(&[byte[0] ^ 1])).expect("it can be written");
    println!("  byte {at} of {} flipped", path.display());
}

#[test]
fn a_byte_flipped_in_a_blob_file_of_a_live_cluster_is_found_in_depth_and_not_by_the_quick_look() {
    let cluster = Cluster::start("verify", 3);
    let cli = &cluster.cli;
    cli.create_topic("orders", PARTITIONS);
    let records = (0..RECORDS).map(|n| (format!("key-{n}"), format!("{n:010}-{:.<2000}", "")));
    cli.produce(&Plan::new("orders", PARTITIONS), records).finish_all(SLOW).assert_all_acked();
    // At a start what the write-ahead log holds goes to files.
    for id in 1..=3 {
        cluster.restart(id);
        cli.wait_healthy();
    }
    let quick = run(cli.brokered(&["verify"]).args(["--format", "json"]), b"", SLOW);
    let json: Value = serde_json::from_str(&quick.stdout).unwrap_or_else(|error| panic!("{error}: {quick:?}"));
    assert_eq!((quick.code, &json["disks_read"]), (0, &Value::Bool(false)), "{quick:?}");
    assert_eq!(verdicts(&json).len(), PARTITIONS as usize + 1, "{json}");
    let deep = run(&mut cli.brokered(&["verify", "--deep"]), b"", SLOW);
    println!("{}", deep.stdout);
    assert!(deep.code == 0 && deep.stdout.contains("what their disks hold"), "{deep:?}");

    let node = cluster.node(2);
    let blob = wait_for("a blob file", QUICK, || blob_file(Path::new(&node.data_dir)).ok_or("none yet".to_string()));
    flip(&blob);
    let quick = run(&mut cli.brokered(&["verify"]), b"", SLOW);
    println!("{}", quick.stdout);
    assert!(quick.code == 0 && quick.stdout.contains("no disk was read: --deep does that"), "{quick:?}");
    let deep = run(&mut cli.brokered(&["verify", "--deep"]), b"", SLOW);
    println!("{}", deep.stdout);
    assert_eq!(deep.code, 10, "{deep:?}");
    assert!(deep.stdout.contains("broker 2: entries") && deep.stdout.contains("CRC mismatch"), "{deep:?}");
    // It is of no use any more, and says so.
    cluster.wait_gone(node.pid);
    let mark = fs::read_dir(&node.data_dir).into_iter().flatten().flatten();
    let names: Vec<String> = mark.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert!(names.iter().any(|name| name.to_lowercase().contains("damaged")), "{names:?}");
    let unknown = run(&mut cli.brokered(&["verify", "orders", "--wait", "500ms"]), b"", SLOW);
    println!("{}", unknown.stdout);
    assert!(unknown.code == 11 && unknown.stdout.contains("broker 2 does not say what it holds"), "{unknown:?}");
    cluster.finish();
}
