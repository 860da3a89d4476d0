//! Carries a plan out: each fault when its time has come, on whom it hits then, and its end. Two faults may overlap on
//! one node; a link, a disk and a clock have one fault of a kind at a time, and what comes in between is counted as
//! skipped.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use flotilla::{
    seam::Rng,
    storage::{CrashTail, SimDisk, SimFault},
    types::RaftGroupId,
};
use turmoil::Sim;

use super::{
    links::{Links, Loss},
    schedule::{Crowd, Fault, Illness, Plan, Step, Target},
    watch::Watch,
};
use crate::node::{self, Exit, Node};

/// From a process's own exit until it is started again: as a supervisor would.
const RESTART_MS: (u64, u64) = (100, 2_000);

/// How long a power cut waits for writes that are not synced.
const CRASH_WAITS_MS: u64 = 250;

/// What was done to the cluster.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// Faults by kind.
    pub installed: BTreeMap<&'static str, u64>,
    /// Of those, how many hit a node that led something.
    pub on_leaders: BTreeMap<&'static str, u64>,
    pub skipped: u64,
    pub crashes: u64,
    pub commits_lost: u64,
    /// Processes that exited by themselves because a commit failed.
    pub exits: u64,
}

pub struct Faults {
    steps: std::vec::IntoIter<Step>,
    next: Option<Step>,
    nodes: Vec<Rc<Node>>,
    /// Which Raft group each partition is, once the topic is there.
    group_of: BTreeMap<i32, RaftGroupId>,
    rng: Rng,
    /// Nodes that are down, and when they come back.
    down: BTreeMap<u64, u64>,
    ills: Vec<(u64, u64, SimFault)>,
    clocks: BTreeMap<u64, u64>,
    links: Links,
    pub done: Done,
}

impl Faults {
    pub fn new(plan: &Plan, seed: u64, nodes: Vec<Rc<Node>>) -> Faults {
        let mut steps = plan.steps.clone().into_iter();
        Faults {
            next: steps.next(),
            steps,
            links: Links::new(plan.nodes, plan.latency_max_ms),
            nodes,
            group_of: BTreeMap::new(),
            rng: Rng::seeded(seed ^ 0xfa17),
            down: BTreeMap::new(),
            ills: vec![],
            clocks: BTreeMap::new(),
            done: Done::default(),
        }
    }

    pub fn knows_groups(&self) -> bool {
        !self.group_of.is_empty()
    }

    pub fn learn_groups(&mut self, group_of: BTreeMap<i32, RaftGroupId>) {
        self.group_of = group_of;
    }

    /// `at_ms`: since the load began.
    pub fn tick(&mut self, sim: &mut Sim<'_>, watch: &mut Watch, at_ms: u64) {
        self.end_what_is_over(sim, watch, at_ms);
        while let Some(step) = self.next.filter(|step| step.at_ms <= at_ms && !self.waits(step, watch, at_ms)) {
            self.install(step, sim, watch, at_ms);
            self.next = self.steps.next();
        }
    }

    /// A power cut waits a moment until there is something to lose.
    fn waits(&self, step: &Step, watch: &Watch, at_ms: u64) -> bool {
        let of = match step.fault {
            Fault::Crash { tail: CrashTail::Kept, .. } => return false,
            Fault::Crash { who: Crowd::One(of) | Crowd::Majority(of), .. } => self.known_target(of, watch),
            Fault::Crash { who: Crowd::All, .. } => Some(1),
            Fault::Cut(_) | Fault::Hold(_) | Fault::Delay { .. } | Fault::Disk { .. } | Fault::Clock { .. } => {
                return false;
            }
        };
        at_ms < step.at_ms + CRASH_WAITS_MS && of.is_some_and(|of| self.disk(of).unsynced() == 0)
    }

    /// A process that must exit does so at the end of the step in which it found out, and what it logged as errors
    /// meanwhile (all but the first `errors`) is no surprise. Every step, whatever the phase.
    pub fn exit_processes(&mut self, sim: &mut Sim<'_>, watch: &mut Watch, at_ms: u64, errors: usize) -> Vec<String> {
        let mut for_good = vec![];
        for node in self.nodes.clone() {
            match node.exit() {
                None => {}
                Some(Exit::ForGood(why)) => for_good.push(format!("n{}: {why}", node.id)),
                Some(Exit::Store(why)) => {
                    self.done.exits += 1;
                    node.trace.forgive(&node::name(node.id), errors);
                    self.note(format_args!("n{} exits: {why}", node.id));
                    self.crash(node.id, CrashTail::Torn, sim, watch);
                    let back_ms = at_ms + RESTART_MS.0 + self.rng.below(RESTART_MS.1);
                    self.down.insert(node.id, back_ms);
                }
            }
        }
        for_good
    }

    /// Ends every fault, and starts every node.
    pub fn heal(&mut self, sim: &mut Sim<'_>, watch: &mut Watch) {
        self.next = None;
        self.end_what_is_over(sim, watch, u64::MAX);
        self.note(format_args!("all is healed"));
    }

    /// Restarts what is down and due: also after the healing, when a late exit was noticed.
    fn end_what_is_over(&mut self, sim: &mut Sim<'_>, watch: &mut Watch, at_ms: u64) {
        for (node, _, fault) in self.ills.extract_if(.., |(_, until, _)| *until <= at_ms).collect::<Vec<_>>() {
            if fault == SimFault::HangsOnCommit && !self.down.contains_key(&node) {
                self.note(format_args!("n{node} is ended: its disk hangs"));
                self.crash(node, CrashTail::Torn, sim, watch);
                self.down.insert(node, at_ms.saturating_add(RESTART_MS.0));
            }
            self.disk(node).lift(fault);
            self.note(format_args!("disk of n{node}: {fault:?} is over"));
        }
        for node in due(&mut self.clocks, at_ms) {
            self.node(node).clock.set_wrong_by(0);
            self.note(format_args!("clock of n{node} is right"));
        }
        for what in self.links.end(sim, at_ms) {
            self.note(format_args!("{what}"));
        }
        for node in due(&mut self.down, at_ms) {
            self.note(format_args!("n{node} starts again"));
            sim.bounce(node::name(node));
        }
    }

    fn install(&mut self, step: Step, sim: &mut Sim<'_>, watch: &mut Watch, at_ms: u64) {
        let until_ms = at_ms + step.lasts_ms;
        let leaders = watch.leaders.all();
        let hit = match step.fault {
            Fault::Crash { who, tail } => self.crash_crowd(who, tail, until_ms, sim, watch),
            Fault::Cut(shape) => {
                let of = self.target(shape.target(), watch);
                let pairs = self.links.pairs(shape, of);
                self.lose(pairs, until_ms, of, sim)
            }
            Fault::Hold(of) => {
                let of = self.target(of, watch);
                let pairs = self.links.all_of(of);
                self.lose(pairs.into_iter().map(|(a, b)| (a, b, Loss::Held)).collect(), until_ms, of, sim)
            }
            Fault::Delay { of, max_ms } => {
                let of = self.target(of, watch);
                if self.links.delay(of, max_ms, until_ms, sim) { vec![of] } else { vec![] }
            }
            Fault::Disk { of, ill } => {
                let of = self.target(of, watch);
                self.sicken(of, ill, until_ms)
            }
            Fault::Clock { of, by_ms } => {
                let of = self.target(of, watch);
                self.node(of).clock.set_wrong_by(by_ms);
                self.clocks.insert(of, until_ms);
                vec![of]
            }
        };
        let kind = step.fault.kind();
        if hit.is_empty() {
            self.done.skipped += 1;
            return;
        }
        self.note(format_args!("{:?} for {} ms, on {hit:?}", step.fault, step.lasts_ms));
        *self.done.installed.entry(kind).or_default() += 1;
        if hit.iter().any(|node| leaders.contains(node)) {
            *self.done.on_leaders.entry(kind).or_default() += 1;
        }
    }

    fn crash_crowd(
        &mut self,
        who: Crowd,
        tail: CrashTail,
        until_ms: u64,
        sim: &mut Sim<'_>,
        watch: &mut Watch,
    ) -> Vec<u64> {
        let count = self.nodes.len() as u64;
        let (first, wanted) = match who {
            Crowd::One(target) => (self.target(target, watch), 1),
            Crowd::Majority(target) => (self.target(target, watch), count / 2 + 1),
            Crowd::All => (1, count),
        };
        let crowd = (0..wanted).map(|i| (first - 1 + i) % count + 1);
        let up: Vec<u64> = crowd.filter(|node| !self.down.contains_key(node)).collect();
        for &node in &up {
            self.crash(node, tail, sim, watch);
            // They come back one after the other, at times long after.
            self.down.insert(node, until_ms + self.rng.below(600));
        }
        up
    }

    fn crash(&mut self, id: u64, tail: CrashTail, sim: &mut Sim<'_>, watch: &mut Watch) {
        sim.crash(node::name(id));
        let node = self.node(id);
        node.forget_process();
        let lost = node.disk.crash_leaving(tail, self.rng.u64());
        watch.process_ended(id);
        self.done.crashes += 1;
        self.done.commits_lost += lost as u64;
        self.note(format_args!("n{id} crashes, {tail:?}: {lost} commits lost"));
    }

    fn lose(&mut self, pairs: Vec<(u64, u64, Loss)>, until_ms: u64, of: u64, sim: &Sim<'_>) -> Vec<u64> {
        if self.links.lose(pairs, until_ms, sim) { vec![of] } else { vec![] }
    }

    fn sicken(&mut self, of: u64, ill: Illness, until_ms: u64) -> Vec<u64> {
        if self.ills.iter().any(|(node, _, _)| *node == of) {
            return vec![];
        }
        let fault = match ill {
            Illness::Slow(us) => SimFault::SlowSyncs(us),
            Illness::Stalls => SimFault::StallsCommits,
            Illness::Hangs => SimFault::HangsOnCommit,
            Illness::Fails => SimFault::FailsNextCommit,
        };
        self.disk(of).plant(fault);
        self.ills.push((of, until_ms, fault));
        vec![of]
    }

    /// Where nobody leads, anybody is hit.
    fn target(&self, target: Target, watch: &Watch) -> u64 {
        let known = self.known_target(target, watch);
        known.unwrap_or_else(|| 1 + self.rng.below(self.nodes.len() as u64))
    }

    fn known_target(&self, target: Target, watch: &Watch) -> Option<u64> {
        match target {
            Target::Node(id) => Some(id),
            Target::MetadataLeader => watch.leaders.metadata(),
            Target::PartitionLeader(partition) => {
                self.group_of.get(&partition).and_then(|group| watch.leaders.of(*group))
            }
        }
    }

    fn node(&self, id: u64) -> &Node {
        &self.nodes[id as usize - 1]
    }

    fn disk(&self, id: u64) -> &SimDisk {
        &self.node(id).disk
    }

    fn note(&self, what: std::fmt::Arguments) {
        self.nodes[0].trace.note("fault", what);
    }
}

/// Takes out what ends by now.
fn due(until: &mut BTreeMap<u64, u64>, now_ms: u64) -> BTreeSet<u64> {
    let due: BTreeSet<u64> = until.iter().filter(|(_, at)| **at <= now_ms).map(|(node, _)| *node).collect();
    until.retain(|node, _| !due.contains(node));
    due
}
