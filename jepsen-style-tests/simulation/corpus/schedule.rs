//! What one seed does: how large the cluster is, what is asked of it, and which faults come when. Drawn from the seed
//! alone, so that it can be printed without a run, and a run repeated without a record.
//!
//! Each seed uses some kinds of fault and not others, and some much more than others: a mix of everything in every
//! seed would keep apart what only two kinds together show.

use std::fmt;

use flotilla::{seam::Rng, storage::CrashTail};

/// The whole plan of one seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub nodes: u64,
    pub partitions: i32,
    /// One step of the network and of the wall clocks.
    pub tick_ms: u64,
    pub latency_max_ms: u64,
    /// Producers of all partitions together.
    pub workers: u64,
    /// The longest pause of a producer between two appends.
    pub pause_ms: u64,
    /// How long load and faults go on together.
    pub load_ms: u64,
    /// A segment is closed after so long, so that trims have something to purge.
    pub segment_ms: u64,
    /// Members of the consumer group; none: there is no group.
    pub members: u64,
    /// Members of the group that speaks Kafka's classic protocol.
    pub classics: u64,
    /// Metadata is snapshotted after so many entries, and its log kept as short; 0: as in production, so never.
    pub metadata_snapshot_every: u64,
    pub trims: bool,
    /// Topics come and go beside the one that stays.
    pub churns_topics: bool,
    /// The longest time between two transfers of a leadership; 0: there are none.
    pub transfer_ms: u64,
    /// Faults in the order in which they come.
    pub steps: Vec<Step>,
}

/// One fault: when it comes, in milliseconds since the load began, and how long it stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub at_ms: u64,
    pub lasts_ms: u64,
    pub fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Processes die, and come back when it is over.
    Crash {
        who: Crowd,
        tail: CrashTail,
    },
    /// Links carry nothing.
    Cut(Shape),
    /// What is sent over the links of one node waits, and comes all at once.
    Hold(Target),
    /// Messages over the links of one node take up to so long, so those of two connections overtake each other.
    Delay {
        of: Target,
        max_ms: u64,
    },
    Disk {
        of: Target,
        ill: Illness,
    },
    /// A wall clock is wrong by so much meanwhile.
    Clock {
        of: Target,
        by_ms: i64,
    },
}

/// Whom a fault hits, as it is known when it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Node(u64),
    MetadataLeader,
    PartitionLeader(i32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowd {
    One(Target),
    /// One more than half of the nodes, this one among them.
    Majority(Target),
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One node has no link.
    Isolate(Target),
    /// One less than half of the nodes and the others have no links between them; this one is in the smaller part.
    Halves(Target),
    /// Two halves that only this node has links to.
    Bridge(Target),
    /// One node is heard and hears nothing.
    Deaf(Target),
    /// One node hears and is not heard.
    Mute(Target),
    /// One link, in one direction.
    OneWay { from: Target, to: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Illness {
    /// Syncs take up to so many microseconds more.
    Slow(u64),
    /// Nothing returns until the disk is well again.
    Stalls,
    /// Nothing returns any more: somebody ends the process when the time is over, and starts it again.
    Hangs,
    /// The next commit fails: the process must exit by itself, and is started again.
    Fails,
}

/// The kinds of fault, as a seed chooses among them and as they are counted.
pub const KINDS: [&str; 12] = [
    "crash",
    "crash-many",
    "power-cut",
    "cut",
    "one-way",
    "hold",
    "delay",
    "slow-disk",
    "stall",
    "hang",
    "fsync-error",
    "clock",
];

impl Fault {
    pub fn kind(&self) -> &'static str {
        match self {
            Fault::Crash { who: Crowd::One(_), .. } => "crash",
            Fault::Crash { who: Crowd::Majority(_), .. } => "crash-many",
            Fault::Crash { who: Crowd::All, .. } => "power-cut",
            Fault::Cut(Shape::Isolate(_) | Shape::Halves(_) | Shape::Bridge(_)) => "cut",
            Fault::Cut(Shape::Deaf(_) | Shape::Mute(_) | Shape::OneWay { .. }) => "one-way",
            Fault::Hold(_) => "hold",
            Fault::Delay { .. } => "delay",
            Fault::Disk { ill: Illness::Slow(_), .. } => "slow-disk",
            Fault::Disk { ill: Illness::Stalls, .. } => "stall",
            Fault::Disk { ill: Illness::Hangs, .. } => "hang",
            Fault::Disk { ill: Illness::Fails, .. } => "fsync-error",
            Fault::Clock { .. } => "clock",
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { nodes, partitions, workers, members, load_ms, .. } = self;
        writeln!(f, "{nodes} nodes, {partitions} partitions, {workers} producers, {members} members, {load_ms} ms")?;
        if self.classics > 0 || self.metadata_snapshot_every > 0 {
            let (classics, every) = (self.classics, self.metadata_snapshot_every);
            writeln!(f, "  {classics} classic members, metadata snapshots every {every} entries")?;
        }
        for Step { at_ms, lasts_ms, fault } in &self.steps {
            writeln!(f, "  at {at_ms:>5} ms for {lasts_ms:>4} ms: {fault:?}")?;
        }
        Ok(())
    }
}

/// The plan of a seed.
pub fn plan(seed: u64) -> Plan {
    let rng = Rng::seeded(seed ^ 0x5eed_c0de);
    let nodes = if rng.below(4) == 0 { 5 } else { 3 };
    // Few more often than many: a run's cost is that of its Raft groups.
    let partitions = 1 + rng.below(8).min(rng.below(8)) as i32;
    let load_ms = 13_000 + rng.below(3_000);
    let draw = Draw { rng: &rng, nodes, partitions, load_ms };
    let steps = draw.steps();
    Plan {
        nodes,
        partitions,
        tick_ms: 2 + rng.below(4),
        latency_max_ms: 2 + rng.below(10),
        workers: (partitions as u64).max(6 + rng.below(4)),
        pause_ms: 120 + rng.below(200),
        load_ms,
        segment_ms: 500 + rng.below(3_000),
        members: rng.below(4),
        // By the number, not drawn: these came later, and the plans of the other seeds stay as they were.
        classics: if seed.is_multiple_of(4) { 1 + seed / 4 % 3 } else { 0 },
        metadata_snapshot_every: if seed % 4 == 1 || seed.is_multiple_of(8) { 10 + seed % 31 } else { 0 },
        trims: rng.below(2) == 0,
        churns_topics: rng.below(2) == 0,
        transfer_ms: [0, 0, 1_000, 4_000][rng.below(4) as usize],
        steps,
    }
}

struct Draw<'a> {
    rng: &'a Rng,
    nodes: u64,
    partitions: i32,
    load_ms: u64,
}

impl Draw<'_> {
    fn steps(&self) -> Vec<Step> {
        let mut kinds: Vec<&str> = KINDS.iter().copied().filter(|_| self.rng.below(5) < 2).collect();
        // Every seed crashes something: what a restart finds is most of what there is to find.
        let crash = KINDS[self.rng.below(3) as usize];
        kinds.push(crash);
        let gap_ms = 400 + self.rng.below(2_200);
        let mut steps = vec![];
        let mut at_ms = 300 + self.rng.below(1_500);
        while at_ms < self.load_ms {
            let kind = kinds[self.rng.below(kinds.len() as u64) as usize];
            steps.push(Step { at_ms, lasts_ms: 50 + self.rng.below(3_500), fault: self.fault(kind) });
            at_ms += 50 + self.rng.below(2 * gap_ms);
        }
        if !steps.iter().any(|step| matches!(step.fault, Fault::Crash { .. })) {
            let middle = steps.len() / 2;
            steps[middle].fault = self.fault(crash);
        }
        steps
    }

    fn fault(&self, kind: &str) -> Fault {
        let of = self.target();
        let tail = [CrashTail::Kept, CrashTail::Dropped, CrashTail::Torn][self.rng.below(3) as usize];
        let disk = |ill| Fault::Disk { of, ill };
        match kind {
            "crash" => Fault::Crash { who: Crowd::One(of), tail },
            "crash-many" => Fault::Crash { who: Crowd::Majority(of), tail },
            "power-cut" => Fault::Crash { who: Crowd::All, tail },
            "cut" => Fault::Cut(match self.rng.below(3) {
                0 => Shape::Isolate(of),
                1 => Shape::Halves(of),
                _ => Shape::Bridge(of),
            }),
            "one-way" => Fault::Cut(match self.rng.below(3) {
                0 => Shape::Deaf(of),
                1 => Shape::Mute(of),
                _ => Shape::OneWay { from: of, to: self.node() },
            }),
            "hold" => Fault::Hold(of),
            "delay" => Fault::Delay { of, max_ms: 20 + self.rng.below(400) },
            "slow-disk" => disk(Illness::Slow(5_000 + self.rng.below(200_000))),
            "stall" => disk(Illness::Stalls),
            "hang" => disk(Illness::Hangs),
            "fsync-error" => disk(Illness::Fails),
            _ => {
                // Less than the hour that a client's timestamp may lie ahead.
                let by_ms = 1_000 + self.rng.below(50 * 60_000) as i64;
                Fault::Clock { of, by_ms: if self.rng.below(2) == 0 { by_ms } else { -by_ms } }
            }
        }
    }

    fn target(&self) -> Target {
        match self.rng.below(5) {
            0 => Target::MetadataLeader,
            1 | 2 => Target::PartitionLeader(self.rng.below(self.partitions as u64) as i32),
            _ => Target::Node(self.node()),
        }
    }

    fn node(&self) -> u64 {
        1 + self.rng.below(self.nodes)
    }
}

/// A thousand plans: of every size and kind, in order, and each with a crash.
pub fn plans_differ_and_cover_everything() {
    let plans: Vec<Plan> = (0..1_000).map(plan).collect();
    for kind in KINDS {
        let with = plans.iter().filter(|plan| plan.steps.iter().any(|step| step.fault.kind() == kind)).count();
        assert!(with > 150, "{kind} comes in {with} of 1000 plans");
    }
    for size in [3, 5] {
        assert!(plans.iter().any(|plan| plan.nodes == size), "no plan has {size} nodes");
    }
    for partitions in 1..=8 {
        assert!(plans.iter().any(|plan| plan.partitions == partitions), "no plan has {partitions} partitions");
    }
    let (classic, snapshots) = (|plan: &Plan| plan.classics > 0, |plan: &Plan| plan.metadata_snapshot_every > 0);
    assert!(plans.iter().any(|plan| classic(plan) && snapshots(plan)), "no plan has both");
    assert!(plans.iter().any(|plan| !classic(plan) && !snapshots(plan)), "every plan has one of the two");
    for (seed, plan) in plans.iter().enumerate() {
        assert!(plan.steps.is_sorted_by_key(|step| step.at_ms), "seed {seed}: {plan}");
        assert!(plan.steps.iter().any(|step| matches!(step.fault, Fault::Crash { .. })), "seed {seed}: {plan}");
        assert!(plan.steps.iter().all(|step| step.at_ms < plan.load_ms), "seed {seed}: {plan}");
    }
    assert_eq!(plan(7), plan(7));
    assert_ne!(plan(7), plan(8));
}
