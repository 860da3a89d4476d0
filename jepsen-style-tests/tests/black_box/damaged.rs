//! One node's files are damaged, of each kind: nothing acknowledged is lost, and the node takes part only while it does
//! not know. That NATS lost what a majority still had is why (nats-server #7549).

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use jepsen_style_tests::{
    cluster::{Cluster, SLOW},
    command::wait_for,
    disk::Load,
    knob::knob,
    random::Random,
    workload::{Plan, numbered},
};
use powerfs::wal::live_bytes;

use crate::check_topic;

const TOPIC: &str = "orders";
const PARTITIONS: u32 = 3;
const RATE: u32 = 2_000;
const BETWEEN: usize = 500;
const SECTOR_BYTES: u64 = 512;
/// What a live log must hold for damage in its first half to be in what was synced.
const LIVE_BYTES_MIN: u64 = 64 << 10;

/// Which of a node's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    LiveLog,
    Blob,
    Table,
    Manifest,
    Floor,
    OlderLog,
    Current,
    Options,
    Identity,
}

/// The first five are struck in every run of the tests.
const KINDS: [Kind; 9] = [
    Kind::LiveLog,
    Kind::Blob,
    Kind::Table,
    Kind::Manifest,
    Kind::Current,
    Kind::Floor,
    Kind::OlderLog,
    Kind::Options,
    Kind::Identity,
];

impl Kind {
    /// Those of this kind in a data directory, by name.
    fn files(self, data: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(data.join("db")).unwrap_or_else(|error| panic!("{}: {error}", data.display()));
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.push(data.join("FLOOR"));
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.retain(|path| match self {
            Kind::LiveLog | Kind::OlderLog => name(path).ends_with(".log"),
            Kind::Blob => name(path).ends_with(".blob"),
            Kind::Table => name(path).ends_with(".sst"),
            Kind::Manifest => name(path).starts_with("MANIFEST"),
            Kind::Floor => name(path) == "FLOOR",
            Kind::Current => name(path) == "CURRENT",
            Kind::Options => name(path).starts_with("OPTIONS"),
            Kind::Identity => name(path) == "IDENTITY",
        });
        files.retain(|path| path.metadata().is_ok_and(|metadata| metadata.len() > 0));
        files.sort();
        match self {
            Kind::LiveLog => files.split_off(files.len().saturating_sub(1)),
            // The last may be the only one: then there is none older.
            Kind::OlderLog => files.drain(..files.len().saturating_sub(1)).collect(),
            _ => files,
        }
    }

    /// Whether it is read when a node starts and serves: the others are written for people, to be written over, or in
    /// several copies.
    fn is_read(self) -> bool {
        matches!(self, Kind::LiveLog | Kind::Blob | Kind::Table | Kind::Manifest | Kind::Current)
    }

    /// Whether damage to it must be noticed before the node serves: a node that opens with such a file has forgotten
    /// something. (An older log may be kept only to be written over.)
    fn is_always_noticed(self) -> bool {
        matches!(self, Kind::LiveLog | Kind::Current)
    }
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    Flip,
    Cut,
    Zero,
}

const DAMAGES: [Damage; 3] = [Damage::Flip, Damage::Cut, Damage::Zero];

impl Damage {
    /// What was done, in words.
    fn strike(self, path: &Path, random: &mut Random) -> io::Result<String> {
        let file = File::options().read(true).write(true).open(path)?;
        let size = size(path)?;
        // What was written last may not have been synced: to miss that is no fault.
        let at = random.below(size / 2 + 1);
        let done = match self {
            Damage::Flip => {
                let (mut byte, bit) = ([0], random.below(8));
                file.read_exact_at(&mut byte, at)?;
                file.write_all_at(&[byte[0] ^ 1 << bit], at)?;
                format!("bit {bit} of byte {at} flipped")
            }
            Damage::Cut => {
                file.set_len(at)?;
                format!("cut to {at}")
            }
            Damage::Zero => {
                let (from, end) = (at - at % SECTOR_BYTES, size.min(at - at % SECTOR_BYTES + SECTOR_BYTES));
                let mut bytes = vec![0; (end - from) as usize];
                file.read_exact_at(&mut bytes, from)?;
                if bytes.iter().all(|byte| *byte == 0) {
                    return self.strike(path, random);
                }
                file.write_all_at(&vec![0; bytes.len()], from)?;
                format!("{from} to {end} zeroed")
            }
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok(format!("{name} of {size} bytes: {done}"))
    }
}

/// The bytes of a file that count: of a log, those of the records that were written since it bears its name.
fn size(path: &Path) -> io::Result<u64> {
    let bytes = fs::read(path)?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let log = name.strip_suffix(".log").map(|number| number.parse().unwrap_or_else(|e| panic!("{name}: {e}")));
    Ok(match log {
        Some(number) => live_bytes(&bytes, number),
        // Without the room behind them that was taken in advance.
        None => bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1),
    } as u64)
}

/// When the node said that it is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Noticed {
    AtStart,
    OnReading,
    /// What was struck is nothing that anybody reads.
    Never,
}

/// `FLOTILLA_TEST_DAMAGES`: how many; 100 in scripts/nightly.
#[test]
fn a_damaged_file_of_one_node_loses_nothing_and_never_votes() {
    let damages: usize = knob("DAMAGES", 5);
    let mut random = Random::printed("damages");
    let mut came: BTreeMap<(Kind, Noticed), usize> = BTreeMap::new();
    for round in 1..=damages {
        let kind = KINDS[(round - 1) % KINDS.len()];
        // A cluster of its own: a node that went on has promised since what no older copy of its files knows.
        let cluster = start(round);
        *came.entry((kind, strike(&cluster, kind, &mut random))).or_default() += 1;
        cluster.finish();
    }
    came.iter().for_each(|((kind, noticed), times)| println!("  {kind:?}: noticed {noticed:?}, {times} times"));
    let times = |is_noticed: fn(&Noticed) -> bool| {
        let those = came.iter().filter(|((kind, noticed), _)| kind.is_read() && is_noticed(noticed));
        those.map(|(_, times)| *times).sum::<usize>()
    };
    let (all, noticed) = (times(|_| true), times(|noticed| *noticed != Noticed::Never));
    assert!(2 * noticed > all, "most of what was struck was of no use, so little is shown: {came:?}");
}

#[track_caller]
fn start(round: usize) -> Cluster {
    // Small logs, so that there are files of every kind within seconds.
    let settings = ["wal_bytes_max=16MiB".to_string()];
    let cluster = Cluster::start_on(&format!("damaged-{round}"), 3, &settings, |_| vec![]);
    cluster.cli.create_topic(TOPIC, PARTITIONS);
    cluster.cli.create_topic("load", 3);
    cluster
}

/// One node dies, is damaged, and is started again under load.
#[track_caller]
fn strike(cluster: &Cluster, kind: Kind, random: &mut Random) -> Noticed {
    let id = 1 + random.below(3);
    let node = cluster.node(id);
    let data = PathBuf::from(&node.data_dir);
    let load = Load::paced(&cluster.cli, "load", 4 << 10, 2_000);
    let plan = Plan::new(TOPIC, PARTITIONS).rate(RATE);
    let producer = cluster.cli.produce(&plan, numbered("load", 100));
    producer.wait_acked(BETWEEN, SLOW);
    wait_for(&format!("{kind:?} files of node {id}"), SLOW, || match kind.files(&data).first() {
        None => Err("none yet".into()),
        Some(log) if kind == Kind::LiveLog && is_short(log) => Err("it holds next to nothing yet".into()),
        Some(_) => Ok(()),
    });
    cluster.kill(id);
    cluster.wait_gone(node.pid);
    drop(load);
    let files = kind.files(&data);
    let file = &files[random.below(files.len() as u64) as usize];
    // A log that was begun as the node died may hold nothing that was synced.
    let is_always_noticed = kind.is_always_noticed() && !(kind == Kind::LiveLog && is_short(file));
    let what = DAMAGES[random.below(3) as usize].strike(file, random);
    let what = what.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    producer.wait_acked(BETWEEN, SLOW);

    let noticed = look(cluster, id);
    println!("  node {id}, {what}; noticed {noticed:?}");
    assert!(!is_always_noticed || noticed == Noticed::AtStart, "it began with a damaged {kind:?}: {what}");
    producer.wait_acked(BETWEEN, SLOW);
    let produced = producer.finish(SLOW);
    produced.assert_all_acked();
    check_topic(&cluster.cli, TOPIC, PARTITIONS, &[&produced], Some(1));
    noticed
}

fn is_short(log: &Path) -> bool {
    size(log).unwrap_or_else(|error| panic!("{}: {error}", log.display())) < LIVE_BYTES_MIN
}

/// Starts the damaged node; makes it leader of everything, so that all is read that it has.
#[track_caller]
fn look(cluster: &Cluster, id: u64) -> Noticed {
    let started = cluster.try_local(&["restart", &id.to_string()]);
    if started.code != 0 {
        assert_says_damaged(cluster, id);
        assert_ne!(cluster.try_local(&["restart", &id.to_string()]).code, 0, "the mark stays");
        return Noticed::AtStart;
    }
    let is_gone = || cluster.node(id).pid == 0;
    for partition in 0..PARTITIONS {
        let (number, node) = (partition.to_string(), id.to_string());
        wait_for(&format!("node {id} to lead {TOPIC}/{partition}, or to end"), SLOW, || {
            if is_gone() {
                return Ok(());
            }
            let args = ["cluster", "transfer-leader", TOPIC, "--partition", &number, "--to", &node];
            let finished = cluster.cli.try_run(&args);
            if finished.code == 0 { Ok(()) } else { Err(finished.stderr) }
        });
    }
    let read = cluster.cli.try_run(&["consume", TOPIC, "--offset", "start", "--exit-at-end"]);
    assert_eq!(read.code, 0, "whoever leads answers: {}", read.stderr);
    if !is_gone() {
        return Noticed::Never;
    }
    assert_says_damaged(cluster, id);
    Noticed::OnReading
}

#[track_caller]
fn assert_says_damaged(cluster: &Cluster, id: u64) {
    let path = cluster.dir().join(format!("local/n{id}/log"));
    let log = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(log.contains("damaged"), "node {id} ended and does not say why:\n{log}");
}
