//! A cluster of three on disks whose power can be cut.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use jepsen_style_tests::{
    checker::{DumpedEntry, check_replicas},
    cluster::{Cluster, SLOW, assert_no_panics},
    command::{signal, wait_for},
    disk::Load,
    knob::knob,
    random::Random,
    readback::dump_log,
    workload::{Plan, Produced, numbered},
};
use powerfs::{Cut, Mounted, Options, Power, Tail, cut_all};

pub const TOPIC: &str = "orders";
pub const PARTITIONS: u32 = 6;
/// Larger records, so that write buffers are flushed, files compacted and given back meanwhile.
const LOAD: &str = "load";
const LOAD_RECORD_BYTES: u64 = 4 << 10;
const LOAD_RATE: u32 = 1_000;
const RATE: u32 = 2_000;
const KEYS: u64 = 500;
/// Of each disk, both views. Only what is written is taken.
const DISK_MEMORY_BYTES: u64 = 4 << 30;
/// From the return of the power on, without a human step.
const SERVING_WITHIN: Duration = Duration::from_secs(30);

/// Three nodes, and the switch of each one's disk.
pub struct Machine {
    pub cluster: Cluster,
    // After the cluster, whose processes have files open there.
    disks: Disks,
}

struct Disks(Vec<Mounted>);

impl Drop for Disks {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        // They are in memory: what a failed test is to be understood by is copied beside.
        for disk in &self.0 {
            disk.power().on();
            let copy = disk.at().with_extension("kept");
            let copied = Command::new("cp").arg("-a").arg(disk.at()).arg(&copy).status();
            eprintln!("{}: {copied:?}; {}", copy.display(), disk.power().status());
        }
    }
}

/// What one cut came to.
pub struct Round {
    pub produced: Produced,
    pub serving_after: Duration,
}

impl Machine {
    #[track_caller]
    pub fn start(name: &str) -> Machine {
        let mut disks = vec![];
        let kind_names = knob("POWER_KIND_NAMES", false);
        let options = Options { memory_bytes_max: DISK_MEMORY_BYTES, kind_names, ..Options::default() };
        let mount = |at: &PathBuf| {
            fs::create_dir_all(at).unwrap_or_else(|error| panic!("{}: {error}", at.display()));
            Mounted::new(at, options).unwrap_or_else(|error| panic!("{}: {error}", at.display()))
        };
        // Small logs, so that they are flushed and recycled within a round.
        let settings = ["wal_bytes_max=16MiB".to_string()];
        let cluster = Cluster::start_on(name, 3, &settings, |data| {
            disks.extend(data.iter().map(mount));
            vec![]
        });
        cluster.cli.create_topic(TOPIC, PARTITIONS);
        cluster.cli.create_topic_with(LOAD, 3, &["retention.bytes=16777216"]);
        Machine { cluster, disks: Disks(disks) }
    }

    pub fn switches(&self) -> Vec<Power> {
        self.disks.0.iter().map(|disk| disk.power().clone()).collect()
    }

    /// Produces, cuts the power of all three at once, kills what is left of the processes, and starts them again.
    #[track_caller]
    pub fn round(&self, name: &str, tail: Tail, random: &mut Random) -> Round {
        const BEFORE: u64 = 500;
        // A sync that takes its time leaves more between a write and its durability.
        let sync_delay = Duration::from_millis([0, 1, 5][random.below(3) as usize]);
        let switches = self.switches();
        switches.iter().for_each(|switch| switch.set_faults(|faults| faults.sync_delay = sync_delay));
        let cli = &self.cluster.cli;
        let load = Load::paced(cli, LOAD, LOAD_RECORD_BYTES, LOAD_RATE);
        let producer = cli.produce(&Plan::new(TOPIC, PARTITIONS).rate(RATE), numbered(name, KEYS));
        producer.wait_acked((BEFORE + random.below(4 * BEFORE)) as usize, SLOW);

        assert!(self.cluster.status().iter().all(|node| node.pid != 0), "all run: {:?}", self.cluster.status());
        self.cut(name, tail, random);
        drop(load);
        if random.below(4) == 0 {
            // What two of them do to find their way back is cut off in its turn.
            (1..=2).for_each(|node| self.cluster.restart(node));
            self.cut(&format!("{name}, again while two start"), tail, random);
        }
        let on = Instant::now();
        (1..=3).for_each(|node| self.cluster.restart(node));
        let left = SERVING_WITHIN.saturating_sub(on.elapsed());
        wait_for(&format!("the cluster to be healthy {SERVING_WITHIN:?} after the cut"), left, || {
            let finished = cli.try_run(&["cluster", "health"]);
            if finished.code == 0 { Ok(()) } else { Err(format!("{}{}", finished.stdout, finished.stderr)) }
        });
        // The same producer goes on: its retries outlast the outage.
        producer.wait_acked(1, SERVING_WITHIN.saturating_sub(on.elapsed()));
        let serving_after = on.elapsed();
        Round { produced: producer.finish(SLOW), serving_after }
    }

    /// The power goes and comes back; no process outlives it.
    #[track_caller]
    pub fn cut(&self, name: &str, tail: Tail, random: &mut Random) {
        let pids: Vec<u32> = self.cluster.status().iter().map(|node| node.pid).filter(|pid| *pid != 0).collect();
        assert!(!pids.is_empty(), "{name}: no process would notice");
        let (switches, seed) = (self.switches(), random.u64());
        let loss = cut_all(&switches, Cut::new(tail, seed));
        // Those that saw their disk fail have ended by themselves.
        signal("KILL", &pids);
        pids.iter().for_each(|pid| self.cluster.wait_gone(*pid));
        let sync_delay = switches[0].faults().sync_delay;
        switches.iter().for_each(Power::on);
        println!(
            "  {name}: {tail}, seed {seed}, syncs of {} ms: {} bytes and {} changes of names lost",
            sync_delay.as_millis(),
            loss.bytes,
            loss.names
        );
    }

    /// The logs of all three are compared, and looked through for panics.
    #[track_caller]
    pub fn finish(self) {
        let Machine { cluster, disks } = self;
        let nodes = cluster.status();
        cluster.local(&["stop"]);
        compare_replicas(&cluster, nodes.iter().map(|node| node.data_dir.as_str()));
        assert_no_panics(&logs_only(cluster.dir()));
        disks.0.iter().for_each(|disk| println!("  {}", disk.power().status()));
        drop(disks);
        drop(cluster);
    }
}

/// Where the nodes' own logs are.
fn logs_only(dir: &Path) -> PathBuf {
    dir.join("local")
}

#[track_caller]
fn compare_replicas<'a>(cluster: &Cluster, data_dirs: impl Iterator<Item = &'a str>) {
    let mut groups: BTreeMap<String, Vec<Vec<DumpedEntry>>> = BTreeMap::new();
    for data_dir in data_dirs {
        let mut own: BTreeMap<String, Vec<DumpedEntry>> = BTreeMap::new();
        for (group, entry) in dump_log(&cluster.cli, data_dir) {
            own.entry(group).or_default().push(entry);
        }
        own.into_iter().for_each(|(group, entries)| groups.entry(group).or_default().push(entries));
    }
    for (group, replicas) in &groups {
        assert_eq!(replicas.len(), 3, "{group}");
        let violations = check_replicas(replicas);
        assert!(violations.is_empty(), "{group}: {} violations, first {:?}", violations.len(), violations.first());
    }
    println!("  {} groups hold the same committed entries on all three", groups.len());
}
