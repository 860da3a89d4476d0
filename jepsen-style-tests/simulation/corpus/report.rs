//! What a run came to, for people and, as one line of figures, for whoever runs many seeds.

use std::{collections::BTreeMap, fmt};

use super::{
    faults::Done,
    known::Load,
    schedule::{KINDS, Plan},
    watch::Watch,
};
use crate::world::Trace;

/// Fewer acknowledged appends prove little.
const ACKED_MIN: u64 = 100;

/// What one seed came to.
#[derive(Debug)]
pub struct Outcome {
    pub report: Report,
    /// What must not be.
    pub wrong: Vec<String>,
    /// Why the run proves little, if so. No failure of the product.
    pub vacuous: Vec<String>,
    text: String,
}

/// Figures that add up over seeds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report(pub BTreeMap<String, u64>);

const MARK: &str = "figures:";

/// What some of many seeds must come to, beside the kinds of fault: figures of the report.
const REACHES: &[&str] = &[
    "acked as retries",
    "beats",
    "classic beats",
    "classic commits",
    "classic joins",
    "classic syncs",
    "commits lost",
    "exits",
    "metadata snapshots installed",
    "offset commits",
    "offset reads",
    "producer ids",
    "topics created",
    "topics deleted",
    "transfers",
    "trims",
];

/// How many seeds came to each of these.
#[derive(Clone, Debug, Default)]
pub struct Reach(BTreeMap<&'static str, u64>);

impl Reach {
    pub fn add(&mut self, report: &Report) {
        for name in REACHES.iter().chain(&KINDS) {
            *self.0.entry(name).or_default() += u64::from(report.of(name) > 0);
        }
    }

    pub fn missed(&self) -> Vec<&'static str> {
        let all = REACHES.iter().chain(&KINDS).copied();
        all.filter(|name| self.0.get(name).is_none_or(|seeds| *seeds == 0)).collect()
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.0.iter().map(|(name, seeds)| format!("{name} {seeds}")).collect();
        write!(f, "seeds that reached: {}", pairs.join(", "))
    }
}

impl Report {
    pub fn add(&mut self, other: &Report) {
        for (name, figure) in &other.0 {
            *self.0.entry(name.clone()).or_default() += figure;
        }
    }

    pub fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// The figures in what a run printed.
    pub fn read(printed: &str) -> Option<Report> {
        let line = printed.lines().find_map(|line| line.strip_prefix(MARK))?;
        let pair = |pair: &str| {
            let (name, figure) = pair.split_once('=')?;
            Some((name.trim().to_string(), figure.parse().ok()?))
        };
        line.split(';').map(pair).collect::<Option<_>>().map(Report)
    }

    /// Faults by kind, and how many of them hit a leader.
    pub fn faults(&self) -> String {
        let kind = |kind: &&str| {
            let (all, leaders) = (self.of(kind), self.of(&format!("{kind} on leaders")));
            (all > 0).then(|| format!("{kind} {all} ({leaders} on leaders)"))
        };
        KINDS.iter().filter_map(kind).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.0.iter().map(|(name, figure)| format!("{name}={figure}")).collect();
        write!(f, "{MARK} {}", pairs.join("; "))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        writeln!(f, "{}", self.report)
    }
}

pub fn outcome(
    seed: u64,
    plan: &Plan,
    load: &Load,
    watch: &Watch,
    done: &Done,
    trace: &Trace,
    wrong: Vec<String>,
) -> Outcome {
    let known = load.known.borrow();
    let acked = known.history.acked.len() as u64;
    let mut vacuous = vec![];
    if done.crashes == 0 {
        vacuous.push("nothing crashed".to_string());
    }
    if acked < ACKED_MIN {
        vacuous.push(format!("only {acked} appends were acknowledged"));
    }
    if done.on_leaders.is_empty() {
        vacuous.push("no fault hit a leader".to_string());
    }
    let (hash, lines) = trace.sum();
    let simulated_ms = load.nodes[0].time.now_ms();
    let mut figures: BTreeMap<String, u64> =
        known.counts.iter().map(|(name, count)| ((*name).to_string(), *count)).collect();
    let mut put = |name: &str, figure: u64| {
        figures.insert(name.to_string(), figure);
    };
    put("simulated ms", simulated_ms);
    put("metadata snapshots installed", trace.metadata_snapshots());
    put("crashes", done.crashes);
    put("commits lost", done.commits_lost);
    put("exits", done.exits);
    put("faults skipped", done.skipped);
    put("terms led", watch.invariants.terms_led() as u64);
    put("entries committed", watch.invariants.committed_count() as u64);
    for (kind, count) in &done.installed {
        put(kind, *count);
    }
    for (kind, count) in &done.on_leaders {
        put(&format!("{kind} on leaders"), *count);
    }
    let report = Report(figures);
    let text = format!(
        "seed {seed}: trace {hash:016x} of {lines} lines, {simulated_ms} ms; {} nodes, {} partitions; {acked} \
         acknowledged; {} crashes, {} commits lost; {}",
        plan.nodes,
        plan.partitions,
        done.crashes,
        done.commits_lost,
        report.faults(),
    );
    Outcome { report, wrong, vacuous, text }
}

/// Figures survive being printed.
pub fn figures_are_read_back() {
    let report = Report([("acked".to_string(), 5), ("crash on leaders".to_string(), 2)].into());
    assert_eq!(Report::read(&format!("seed 1: fine\n{report}\n")), Some(report.clone()));
    assert_eq!(Report::read("seed 1: no such line\n"), None);
    let mut twice = report.clone();
    twice.add(&report);
    assert_eq!(twice.of("acked"), 10);
    let mut reach = Reach::default();
    let all = REACHES.iter().chain(&KINDS).map(|name| ((*name).to_string(), 1)).collect();
    reach.add(&Report(all));
    reach.add(&report);
    assert_eq!(reach.missed(), [""; 0]);
    let mut little = Reach::default();
    little.add(&report);
    assert!(little.missed().contains(&"classic syncs") && !reach.to_string().contains("classic syncs 0"));
}
