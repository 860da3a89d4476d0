//! One seed of the corpus: a cluster, a load and a schedule of faults drawn from it (`schedule`), the invariants of
//! consensus after every step (`watch`, `invariants`), then everything is healed, must serve again in bounded time, is
//! read, and held against what was acknowledged.

mod admin;
mod appends;
mod classic;
mod commits;
mod faults;
mod invariants;
mod known;
mod links;
mod members;
mod planted;
mod reads;
mod report;
mod schedule;
mod watch;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};

use flotilla::{
    seam::{
        Rng,
        plant::{self, Plant},
    },
    storage::SimFault,
    types::{LogIndex, RaftGroupId},
};
use turmoil::Sim;

pub use classic::generations_reject_what_is_wrong;
pub use commits::commits_reject_planted_histories;
pub use links::shapes_cut_what_they_say;
pub use planted::invariants_reject_planted_worlds;
pub use report::{Outcome, Reach, Report, figures_are_read_back};
pub use schedule::plans_differ_and_cover_everything;

use crate::{
    checker::check,
    node::{self, Node},
    seed::committed_logs,
    world::{SimTime, Trace},
};
use faults::Faults;
use known::{Known, Load, PATIENCE, Phase};
use schedule::Plan;
use watch::{Watch, Witness};

/// Simulated; a run that takes longer does not end.
const DURATION_MAX: Duration = Duration::from_secs(180);
/// Followers hear of the last commit with the next heartbeat, and their writers write it alone.
const SETTLE: Duration = Duration::from_millis(1_500);

/// What nodes rightly log as errors under these faults.
const EXPECTED: &[&str] = &["the disk has been busy", "this broker's clock is wrong, or the others' are"];

/// How to run a seed.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub seed: u64,
    /// Print the trace.
    pub prints: bool,
    /// A planted bug: from the first append on every node acknowledges before it syncs.
    pub acks_before_sync: bool,
    /// Another one, of those that the program is built with.
    pub bug: Option<Plant>,
}

/// What is the same for the whole of a run.
struct Run {
    options: Options,
    time: SimTime,
    trace: Trace,
    nodes: Vec<Rc<Node>>,
    load: Rc<Load>,
    watch: Watch,
    faults: Faults,
    wrong: Vec<String>,
    panicked: Panicked,
}

/// The first panic of this process, and where it was: what follows it says less.
type Panicked = Arc<Mutex<Option<String>>>;

fn note_panics() -> Panicked {
    let panicked = Panicked::default();
    let (first, print) = (Arc::clone(&panicked), take_hook());
    set_hook(Box::new(move |info| {
        if let Ok(mut first) = first.lock() {
            first.get_or_insert_with(|| info.to_string().replace('\n', " "));
        }
        print(info);
    }));
    panicked
}

/// Runs one seed. A process runs no more than one: what a library keeps per process would be another for the second.
///
/// # Panics
/// If the bug that is asked for was not built.
pub fn run(options: &Options) -> Outcome {
    if let Some(Err(error)) = options.bug.map(plant::choose) {
        panic!("{error}");
    }
    let plan = schedule::plan(options.seed);
    let time = SimTime::default();
    let trace = Trace::new(time.clone(), options.prints);
    trace.subscribe();
    trace.note("plan", format_args!("{plan}"));
    let rng = Rng::seeded(options.seed);
    let nodes: Vec<Rc<Node>> = (1..=plan.nodes).map(|id| Rc::new(node_of(&plan, id, &rng, &time, &trace))).collect();
    let mut sim = simulation(&plan, &rng, &nodes);
    let load = Rc::new(Load {
        plan: plan.clone(),
        nodes: nodes.clone(),
        rng,
        witness: Witness::new(&nodes),
        known: RefCell::new(Known::default()),
        moments: Cell::default(),
        alone: Cell::default(),
    });
    sim.client("load", Rc::clone(&load).run());
    let run = Run {
        options: options.clone(),
        time,
        trace,
        load,
        watch: Watch::new(nodes.clone()),
        faults: Faults::new(&plan, options.seed, nodes.clone()),
        nodes,
        wrong: vec![],
        panicked: note_panics(),
    };
    run.run_to_its_end(sim, &plan)
}

fn node_of(plan: &Plan, id: u64, rng: &Rng, time: &SimTime, trace: &Trace) -> Node {
    let node = Node::new(id, plan.nodes, rng, time, trace);
    match plan.metadata_snapshot_every {
        0 => node,
        every => node.with_metadata_snapshots(every),
    }
}

fn simulation<'a>(plan: &Plan, rng: &Rng, nodes: &[Rc<Node>]) -> Sim<'a> {
    let mut sim = turmoil::Builder::new()
        .rng_seed(rng.u64())
        .tick_duration(Duration::from_millis(plan.tick_ms))
        .simulation_duration(DURATION_MAX)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(plan.latency_max_ms))
        .tcp_capacity(65_536)
        .enable_random_order()
        .build();
    for node in nodes {
        let node = Rc::clone(node);
        sim.host(node::name(node.id), move || node::live(Rc::clone(&node)));
    }
    sim
}

impl Run {
    fn run_to_its_end(mut self, mut sim: Sim<'_>, plan: &Plan) -> Outcome {
        // A panic of a node is a finding like any other: the run ends there, and says what it was.
        let ended = catch_unwind(AssertUnwindSafe(|| while !self.step(&mut sim, plan) {}));
        if ended.is_err() {
            let text = self.panicked.lock().map(|mut first| first.take()).unwrap_or_default();
            self.wrong.push(format!("a panic: {}", text.unwrap_or_default()));
            // Half a step was made: what would be dropped in order is left alone.
            std::mem::forget(sim);
        } else {
            drop(sim);
            if self.wrong.is_empty() {
                self.check_the_end();
            }
            let errors =
                self.trace.errors().into_iter().filter(|error| !EXPECTED.iter().any(|text| error.contains(text)));
            self.wrong.extend(errors.map(|error| format!("a node logged an error: {error}")));
        }
        report::outcome(self.options.seed, plan, &self.load, &self.watch, &self.faults.done, &self.trace, self.wrong)
    }

    /// One tick. True: the run is over.
    fn step(&mut self, sim: &mut Sim<'_>, plan: &Plan) -> bool {
        self.time.advance(plan.tick_ms);
        let errors = self.trace.errors().len();
        let is_over = match sim.step() {
            Ok(is_over) => is_over,
            Err(error) => {
                self.wrong.push(format!("at {} ms: {error}", self.time.now_ms()));
                return true;
            }
        };
        self.watch.look();
        let phase = self.load.known.borrow().phase;
        let at_ms = self.time.now_ms() - self.load.known.borrow().running_ms;
        // First: a node that is to exit is down when faults choose theirs.
        let for_good = self.faults.exit_processes(sim, &mut self.watch, at_ms, errors);
        self.wrong.extend(for_good.into_iter().map(|what| format!("a node stops for good: {what}")));
        match phase {
            Phase::Forming => {}
            Phase::Running if at_ms > plan.load_ms => {
                self.faults.heal(sim, &mut self.watch);
                self.load.known.borrow_mut().phase = Phase::Draining;
            }
            Phase::Running | Phase::Draining => {
                self.begin_faults();
                self.faults.tick(sim, &mut self.watch, at_ms);
            }
        }
        self.take_found();
        is_over || !self.wrong.is_empty()
    }

    /// Once: the load has created its topic.
    fn begin_faults(&mut self) {
        if self.faults.knows_groups() {
            return;
        }
        let known = self.load.known.borrow();
        self.faults.learn_groups(known.places.values().map(|place| (place.key, place.group)).collect());
        if self.options.acks_before_sync {
            self.nodes.iter().for_each(|node| node.disk.plant(SimFault::SyncsNothing));
        }
    }

    fn take_found(&mut self) {
        let broken = std::mem::take(&mut self.watch.invariants.found);
        let receipts = self.load.witness.take_found();
        let found = broken.into_iter().chain(receipts).map(|broken| broken.to_string());
        let wrong = std::mem::take(&mut self.load.known.borrow_mut().wrong);
        self.wrong.extend(found.chain(wrong));
    }

    /// What was read, and what the disks hold, against what was acknowledged.
    fn check_the_end(&mut self) {
        let mut known = self.load.known.borrow_mut();
        known.history.trims = known.trims.iter().map(|(key, (tried, acked))| (*key, (*acked, *tried))).collect();
        let stays: BTreeMap<i32, RaftGroupId> = known.places.values().map(|place| (place.key, place.group)).collect();
        known.history.logs = committed_logs(&self.nodes, &stays);
        for (key, group) in &stays {
            // With five nodes some have no replica.
            let logs = known.history.logs.get_mut(key).expect("of every place");
            logs.retain(|_, log| !log.is_empty());
            if logs.len() < watch::REPLICAS {
                self.wrong.push(format!("the disks of {:?} alone have a log of group {group}", logs.keys()));
            }
            self.wrong.extend(watch::logs_contradict(&self.watch.invariants, *group, logs));
            let nodes: Vec<u64> = logs.keys().copied().collect();
            let of_place = known.history.only(*key);
            self.wrong.extend(check(&of_place, &nodes).into_iter().map(|anomaly| anomaly.to_string()));
        }
        for ((key, offset), value) in &known.given {
            let last = known.history.read.get(key).map(|records| records.last().map_or(-1, |(last, _)| *last));
            let trimmed = known.history.trims.get(key).map_or(0, |(_, tried)| *tried);
            if last.is_some_and(|last| last < *offset) && *offset >= trimmed {
                self.wrong.push(format!("offset {offset} of {key} was given to a reader as {value}, and is gone"));
            }
        }
        self.wrong.extend(known.commits.check().into_iter().map(|stale| stale.to_string()));
    }
}

impl Load {
    async fn run(self: Rc<Self>) -> turmoil::Result {
        self.all_ready().await;
        self.begin().await;
        let mut tasks = vec![];
        tasks.push(tokio::task::spawn_local(Rc::clone(&self).read_on()));
        tasks.push(tokio::task::spawn_local(Rc::clone(&self).draw_producer_ids()));
        for worker in 0..self.plan.workers {
            tasks.push(tokio::task::spawn_local(Rc::clone(&self).append_all(worker)));
        }
        for member in 0..self.plan.members {
            tasks.push(tokio::task::spawn_local(Rc::clone(&self).be_member(member)));
        }
        if self.plan.members > 0 {
            tasks.push(tokio::task::spawn_local(Rc::clone(&self).commit_alone()));
            tasks.push(tokio::task::spawn_local(Rc::clone(&self).watch_commits()));
        }
        for _ in 0..self.plan.classics {
            tasks.push(tokio::task::spawn_local(Rc::clone(&self).be_classic()));
        }
        if self.plan.trims {
            tasks.push(tokio::task::spawn_local(Rc::clone(&self).trim_all()));
        }
        if self.plan.churns_topics {
            tasks.push(tokio::task::spawn_local(Rc::clone(&self).churn_topics()));
        }
        if self.plan.transfer_ms > 0 {
            tasks.push(tokio::task::spawn_local(Rc::clone(&self).transfer_leaders()));
        }
        for task in tasks {
            task.await?;
        }
        self.finish().await;
        Ok(())
    }

    async fn begin(&self) {
        let created = self.create(1, known::TOPIC, self.plan.partitions as u32, true).await;
        match created {
            Some(Ok(topic)) => drop(self.learn(&topic)),
            other => self.wrong(format!("a whole cluster creates no topic: {other:?}")),
        }
        let mut known = self.known.borrow_mut();
        known.phase = Phase::Running;
        known.running_ms = self.nodes[0].time.now_ms();
    }

    /// Everything is healed and nothing is under way: within bounded time everybody serves, and knows the same.
    async fn finish(&self) {
        if !self.all_ready().await {
            return;
        }
        self.settle_topics().await;
        for place in self.places() {
            let records = self.read_all(&place).await;
            let acked = {
                let mut known = self.known.borrow_mut();
                known.history.read.insert(place.key, records);
                known.history.acked.iter().filter(|acked| acked.partition == place.key).map(|acked| acked.index).max()
            };
            if let Some(LogIndex(index)) = acked.map(LogIndex) {
                self.all_have(place.group, index).await;
            }
        }
        if self.plan.members > 0 {
            self.read_all_committed().await;
        }
        if self.plan.classics > 0 {
            self.read_all_committed_of(classic::CLASSICS).await;
        }
        self.note(format_args!("all is read, within {PATIENCE:?} each"));
        tokio::time::sleep(SETTLE).await; // The last commits are saved without being asked for.
    }
}
