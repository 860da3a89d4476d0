//! One seed: the cluster, its load, the crash at a moment that the seed picks, the restart, the check.

use std::{cell::RefCell, collections::BTreeMap, fmt, rc::Rc, time::Duration};

use flotilla::{
    seam::Rng,
    storage::{LogEntry, SimDisk, SimFault, Store, StoreOptions, WriterProbe},
    types::{LogIndex, RaftGroupId},
};
use turmoil::Sim;

use crate::{
    checker::{Anomaly, Logged, check},
    load::{APPENDS, Known, Load, PARTITIONS, Phase},
    node::{self, NODES, Node},
    world::{SimTime, Trace},
};

/// As fine as tokio's timers.
pub const TICK_MS: u64 = 1;
/// Simulated; a run that takes longer does not end.
const DURATION_MAX: Duration = Duration::from_secs(180);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Crash {
    #[default]
    Leader,
    /// A power cut.
    All,
}

#[derive(Clone, Debug, Default)]
pub struct Options {
    pub seed: u64,
    pub crash: Crash,
    /// A planted bug: from the first append on every node acknowledges before it syncs.
    pub acks_before_sync: bool,
    /// Print the trace.
    pub prints: bool,
}

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    pub anomalies: Vec<Anomaly>,
    /// Why the run proves nothing, if so.
    pub vacuous: Vec<String>,
    pub errors: Vec<String>,
    pub hash: u64,
    pub lines: u64,
    crashed: Crashed,
    acked: usize,
    duplicates: usize,
    epochs: BTreeMap<i32, Vec<i32>>,
    simulated_ms: u64,
}

/// The crash as it happened.
#[derive(Clone, Debug, Default)]
struct Crashed {
    nodes: Vec<u64>,
    at_ms: u64,
    acked: usize,
    outstanding: usize,
    /// Commits that their disks lost.
    lost: usize,
    restarted_ms: Vec<u64>,
    /// How long the last of them had one link less.
    cut_ms: u64,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Crashed { nodes, at_ms, acked, outstanding, lost, restarted_ms, cut_ms } = &self.crashed;
        write!(f, "trace {:016x} of {} lines, {} ms; ", self.hash, self.lines, self.simulated_ms)?;
        write!(f, "nodes {nodes:?} crashed at {at_ms} ms ({acked} acknowledged, {outstanding} outstanding, ")?;
        write!(f, "{lost} commits lost), back at {restarted_ms:?} ms, a link cut for {cut_ms} ms; ")?;
        write!(f, "{} of {APPENDS} acknowledged, {} as retries, epochs {:?}", self.acked, self.duplicates, self.epochs)
    }
}

/// Runs one seed. A process runs no more than one: what a library keeps per process would be another
/// for the second.
pub fn run(options: &Options) -> Outcome {
    let time = SimTime::default();
    let trace = Trace::new(time.clone(), options.prints);
    trace.subscribe();
    let rng = Rc::new(Rng::seeded(options.seed));
    let nodes: Vec<Rc<Node>> = (1..=NODES).map(|id| Rc::new(Node::new(id, NODES, &rng, &time, &trace))).collect();
    let known = Rc::new(RefCell::new(Known::default()));
    let mut sim = simulation(&rng, &nodes);
    let (nodes_of_load, known_of_load) = (nodes.clone(), Rc::clone(&known));
    let load = Load { nodes: nodes_of_load, known: known_of_load, rng: Rc::clone(&rng), partitions: PARTITIONS };
    sim.client("load", Rc::new(load).run());
    let mut faults = Faults::new(options, rng, nodes.clone());
    loop {
        time.advance(TICK_MS);
        node::no_store_fails(&nodes);
        match sim.step() {
            Ok(true) => break,
            Ok(false) => faults.tick(&mut sim, &known.borrow(), time.now_ms()),
            Err(error) => panic!("at {} ms: {error}", time.now_ms()),
        }
    }
    drop(sim);
    let mut known = known.borrow_mut();
    known.history.logs = committed_logs(&nodes, &known.groups);
    judge(&known, faults.crashed, &trace, time.now_ms())
}

/// The hosts on their network.
pub fn simulation<'a>(rng: &Rng, nodes: &[Rc<Node>]) -> Sim<'a> {
    let mut sim = turmoil::Builder::new()
        .rng_seed(rng.u64())
        .tick_duration(Duration::from_millis(TICK_MS))
        .simulation_duration(DURATION_MAX)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(2 + rng.below(8)))
        .tcp_capacity(65_536)
        .enable_random_order()
        .build();
    for node in nodes {
        let node = Rc::clone(node);
        sim.host(node::name(node.id), move || node::live(Rc::clone(&node)));
    }
    sim
}

fn judge(known: &Known, crashed: Crashed, trace: &Trace, simulated_ms: u64) -> Outcome {
    let nodes: Vec<u64> = (1..=NODES).collect();
    let acked = known.history.acked.len();
    let mut vacuous = vec![];
    if crashed.nodes.is_empty() || crashed.outstanding == 0 {
        vacuous.push(format!("no node crashed while appends were outstanding: {crashed:?}"));
    }
    if acked < APPENDS * 3 / 4 {
        vacuous.push(format!("only {acked} of {APPENDS} appends were acknowledged"));
    }
    if known.epochs.values().all(|epochs| epochs.len() < 2) {
        vacuous.push(format!("no partition's leader changed: {:?}", known.epochs));
    }
    let (hash, lines) = trace.sum();
    Outcome {
        anomalies: check(&known.history, &nodes),
        vacuous,
        errors: trace.errors(),
        hash,
        lines,
        crashed,
        acked,
        duplicates: known.duplicates,
        epochs: known.epochs.clone(),
        simulated_ms,
    }
}

/// Decides when who crashes and comes back.
struct Faults {
    options: Options,
    rng: Rc<Rng>,
    nodes: Vec<Rc<Node>>,
    /// Appends acknowledged before the crash.
    after: usize,
    /// The partition whose leader crashes.
    partition: i32,
    crashed: Crashed,
    /// Nodes that are down, and until when.
    down: Vec<(u64, u64)>,
    /// A link that carries nothing, and until when: with some seeds a node comes back to half a network.
    cut: Option<(u64, u64, u64)>,
    planted: bool,
}

impl Faults {
    fn new(options: &Options, rng: Rc<Rng>, nodes: Vec<Rc<Node>>) -> Faults {
        let (after, partition) = (30 + rng.below(100) as usize, rng.below(2) as i32);
        let (crashed, down, options) = (Crashed::default(), vec![], options.clone());
        Faults { options, rng, nodes, after, partition, crashed, down, cut: None, planted: false }
    }

    fn tick(&mut self, sim: &mut Sim<'_>, known: &Known, now_ms: u64) {
        if known.phase == Phase::Forming {
            return;
        }
        if self.options.acks_before_sync && !self.planted {
            self.nodes.iter().for_each(|node| node.disk.plant(SimFault::SyncsNothing));
            self.planted = true;
        }
        self.restart(sim, now_ms);
        self.heal(sim, now_ms);
        if self.crashed.nodes.is_empty() && known.history.acked.len() >= self.after {
            self.crash(sim, known, now_ms);
        }
    }

    /// The moment has come once the leader has appends to answer and writes to lose.
    fn crash(&mut self, sim: &mut Sim<'_>, known: &Known, now_ms: u64) {
        let Some(&leader) = known.leaders.get(&self.partition) else { return };
        let outstanding = known.outstanding.get(&leader).copied().unwrap_or(0);
        if outstanding == 0 || self.nodes[leader as usize - 1].disk.unsynced() == 0 {
            return;
        }
        let nodes = match self.options.crash {
            Crash::Leader => vec![leader],
            Crash::All => (1..=NODES).collect(),
        };
        let mut lost = 0;
        for &id in &nodes {
            sim.crash(node::name(id));
            lost += self.nodes[id as usize - 1].disk.crash(self.rng.u64());
            // Before an election could end, at times, and well after, at others.
            self.down.push((id, now_ms + 100 + self.rng.below(3_000)));
        }
        let acked = known.history.acked.len();
        self.nodes[0].trace.note("fault", format_args!("{nodes:?} crash, {lost} commits lost"));
        self.crashed = Crashed { nodes, at_ms: now_ms, acked, outstanding, lost, ..Crashed::default() };
    }

    fn restart(&mut self, sim: &mut Sim<'_>, now_ms: u64) {
        let due: Vec<u64> = self.down.iter().filter(|(_, until)| *until <= now_ms).map(|(id, _)| *id).collect();
        self.down.retain(|(id, _)| !due.contains(id));
        for id in due {
            sim.bounce(node::name(id));
            self.crashed.restarted_ms.push(now_ms);
            if self.down.is_empty() && self.rng.below(2) == 0 {
                let other = id % NODES + 1;
                sim.partition(node::name(id), node::name(other));
                self.cut = Some((id, other, now_ms + 500 + self.rng.below(3_000)));
                self.nodes[0].trace.note("fault", format_args!("no link between {id} and {other}"));
            }
        }
    }

    fn heal(&mut self, sim: &mut Sim<'_>, now_ms: u64) {
        if let Some((one, other, _)) = self.cut.take_if(|(_, _, until)| *until <= now_ms) {
            sim.repair(node::name(one), node::name(other));
            self.nodes[0].trace.note("fault", format_args!("the link between {one} and {other} is back"));
            self.crashed.cut_ms = now_ms - self.crashed.restarted_ms.last().copied().unwrap_or(now_ms);
        }
    }
}

type Logs = BTreeMap<i32, BTreeMap<u64, Vec<Logged>>>;

/// What each node's disk holds as committed, read as a restart would.
pub fn committed_logs(nodes: &[Rc<Node>], groups: &BTreeMap<i32, RaftGroupId>) -> Logs {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime of this thread");
    let mut logs = Logs::new();
    for node in nodes {
        for (&partition, &group) in groups {
            let log = runtime.block_on(committed_log(node.disk.clone(), group));
            logs.entry(partition).or_default().insert(node.id, log);
        }
    }
    logs
}

async fn committed_log(disk: SimDisk, group: RaftGroupId) -> Vec<Logged> {
    let on_failure = std::sync::Arc::new(|error: &_| panic!("reading back: {error:?}"));
    let kv = std::sync::Arc::new(disk.open());
    let store = Store::open(kv, StoreOptions::default(), WriterProbe::default(), on_failure).await;
    let store = store.expect("a disk that was written by a store");
    let groups = store.groups().await.expect("a disk that can be read");
    let Some((_, replica)) = groups.into_iter().find(|(of, _)| *of == group) else { return vec![] };
    let log = store.open_log(group, replica).await.expect("a log in order");
    let Some(committed) = log.committed() else { return vec![] };
    let entries = log.read_all(LogIndex(0), LogIndex(committed.index.0 + 1)).await.expect("a readable log");
    let logged = |entry: LogEntry| Logged {
        term: entry.position.term.0,
        index: entry.position.index.0,
        payload: [&[entry.kind as u8], &entry.payload[..]].concat(),
    };
    entries.into_iter().map(logged).collect()
}
