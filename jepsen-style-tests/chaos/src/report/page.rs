//! The page: what its template shows. Every text of a run goes through askama's escaping; `safe` are only our own sheet
//! and script.

use askama::Template;
use logcheck::{
    context::Seen,
    meta::Meta,
    nemesis::Nemesis,
    report::{Anomaly, Report, RuleResult, Severity},
    show,
};

use super::{
    chart::{self, Axis, HEIGHT, Lane, Plot, Tick, WIDTH},
    family::Family,
    faults::{Faults, Kind, percentile},
    figures::{self, Figure, Sentence},
    histogram::{self, Class},
    measure::Measured,
    words::{self, clip},
};
use crate::run::Run;

/// The console's sheet, so that both look alike, and what this page has besides.
const SHEET: &str = concat!(include_str!("../../../../src/http/assets/console.css"), include_str!("page/report.css"));
const SCRIPT: &str = include_str!("page/report.js");
const ICON: &str = include_str!("../../../../src/http/assets/icon.svg");

/// Characters of a line or text that comes from a run, at most.
const TEXT_CHARS_MAX: usize = 400;
/// Rows of a list, at most.
const ROWS_MAX: usize = 100;

#[derive(Template)]
#[template(path = "report.html", config = "src/report/askama.toml")]
pub struct Page {
    sentence: Sentence,
    figures: Vec<Figure>,
    // Over time.
    plots: [Plot; 2],
    lanes: Vec<Lane>,
    windows_left_out: usize,
    time_ticks: Vec<Tick>,
    families: Vec<Family>,
    bins: Bins,
    summary: String,
    // Recoveries and faults.
    recoveries: Vec<Class>,
    kinds: Vec<KindRow>,
    failures: Vec<String>,
    // What was checked.
    anomalies: Vec<AnomalyShown>,
    began_ms: String,
    anomaly_count: u64,
    allowed_count: u64,
    rules: Vec<RuleRow>,
    not_applicable: Vec<RuleRow>,
    guards: Vec<GuardRow>,
    unavailable: Vec<(String, String)>,
    details: Vec<(&'static str, String)>,
    seed: u64,
    command: String,
}

/// How the script finds its way from a pointer to a value.
struct Bins {
    /// What one bin is: `second`, `2 seconds`.
    name: String,
    /// When each began, joined by `|`.
    times: String,
    read: String,
    /// The middle of the first, and the distance to the next, in percent of the chart.
    first: String,
    step: String,
    count: usize,
}

struct KindRow {
    name: String,
    class: &'static str,
    family: &'static str,
    installed: String,
    hit_leader: String,
    /// Empty if all were.
    not_done: String,
    recovered: String,
    p50: String,
    longest: String,
}

/// An anomaly with the operations around it.
pub struct AnomalyShown {
    rule: &'static str,
    severity: &'static str,
    says: String,
    around: Vec<Around>,
}

/// An operation's beginning or end.
struct Around {
    /// Whether the anomaly is about it.
    is_about: bool,
    text: String,
}

struct RuleRow {
    name: &'static str,
    says: &'static str,
    source: &'static str,
    checked: String,
    of: &'static str,
    class: &'static str,
    result: String,
}

struct GuardRow {
    name: &'static str,
    class: &'static str,
    result: &'static str,
    fails: Vec<String>,
}

/// All that a page is made of.
pub struct Parts<'a> {
    pub verdict: &'a Report,
    pub meta: &'a Meta,
    pub nemesis: &'a Nemesis,
    /// None: the run did not come to write it.
    pub run: Option<&'a Run>,
    pub faults: &'a Faults,
    pub measured: &'a Measured,
    pub axis: Axis,
    pub anomalies: Vec<AnomalyShown>,
}

impl Page {
    pub fn new(parts: Parts) -> Page {
        let Parts { verdict, meta, run, faults, measured, axis, .. } = parts;
        let recoveries = run.map_or(&[][..], |run| &run.recoveries);
        let timeline = &measured.timeline;
        let (lanes, windows_left_out) = chart::lanes(faults, timeline, axis);
        let sentence = figures::sentence(verdict, faults);
        let (rules, not_applicable) = rules(verdict);
        let seen = |family: &Family| faults.kinds.iter().any(|kind| kind.family == *family && kind.installed > 0);
        Page {
            figures: figures::figures(verdict, faults, measured, recoveries),
            plots: [chart::throughput(timeline, axis, measured.calm.per_second()), chart::latency(timeline, axis)],
            summary: summary(measured, faults, axis),
            lanes,
            windows_left_out,
            time_ticks: axis.ticks(),
            families: Family::ALL.iter().copied().filter(seen).collect(),
            bins: Bins::of(measured, axis),
            recoveries: histogram::histogram(recoveries),
            kinds: faults.kinds.iter().take(ROWS_MAX).map(KindRow::of).collect(),
            failures: failures(faults, axis),
            began_ms: words::count(axis.0.from / 1_000_000),
            anomaly_count: figures::anomalies(verdict),
            allowed_count: verdict.rules.iter().map(|rule| rule.reported).sum(),
            anomalies: parts.anomalies,
            rules,
            not_applicable,
            guards: verdict.guards.iter().map(GuardRow::of).collect(),
            unavailable: unavailable(run),
            seed: run.map_or(meta.seed, |run| run.seed),
            command: clip(run.map_or(&meta.command, |run| &run.command), TEXT_CHARS_MAX),
            details: details(verdict, meta, parts.nemesis, run),
            sentence,
        }
    }
}

impl Bins {
    fn of(measured: &Measured, axis: Axis) -> Bins {
        let timeline = &measured.timeline;
        let (width, count) = (timeline.width(), timeline.bins().len());
        let began = |n: usize| axis.clock(timeline.from().saturating_add((n as u64).saturating_mul(width)));
        let seconds = width as f64 / 1e9;
        let length = axis.0.to.saturating_sub(axis.0.from).max(1) as f64;
        let step = width as f64 / length * 100.0;
        let rate = |read: u64| words::rate(read as f64 / seconds);
        Bins {
            name: if width == super::timeline::SECOND { "second".into() } else { format!("{seconds:.0} seconds") },
            times: (0..count).map(began).collect::<Vec<_>>().join("|"),
            read: timeline.bins().iter().map(|bin| rate(bin.read)).collect::<Vec<_>>().join("|"),
            first: format!("{:.4}", step / 2.0),
            step: format!("{step:.4}"),
            count,
        }
    }
}

/// The charts in a sentence, for those who do not see them.
fn summary(measured: &Measured, faults: &Faults, axis: Axis) -> String {
    let rate =
        |rate: Option<f64>| rate.map_or("none measured".into(), |rate| format!("{} a second", words::rate(rate)));
    format!(
        "Acknowledged records and their latency over {}, with {}. Without a fault: {}; with one node at fault: {}.",
        axis.clock(axis.0.to),
        words::counted(faults.windows.len() as u64, "fault window"),
        rate(measured.calm.per_second()),
        rate(measured.one_node.per_second()),
    )
}

impl KindRow {
    fn of(kind: &Kind) -> KindRow {
        let took = |percent| percentile(&kind.recoveries, percent).map_or("–".into(), words::millis);
        KindRow {
            name: clip(&kind.name, 60),
            class: kind.family.class(),
            family: kind.family.name(),
            installed: words::count(kind.installed),
            hit_leader: words::count(kind.hit_leader),
            not_done: not_done(kind),
            recovered: words::count(kind.recoveries.len() as u64),
            p50: took(50),
            longest: took(100),
        }
    }
}

fn not_done(kind: &Kind) -> String {
    let told = [(kind.skipped, "not possible"), (kind.indeterminate, "in doubt")];
    let told = told.into_iter().filter(|(number, _)| *number > 0);
    told.map(|(number, what)| format!("{} {what}", words::count(number))).collect::<Vec<_>>().join(", ")
}

impl GuardRow {
    fn of(guard: &logcheck::report::Guard) -> GuardRow {
        let (class, result) = match guard.fails.is_empty() {
            true => ("good", "passed"),
            false => ("bad", "failed"),
        };
        let fails = guard.fails.iter().take(ROWS_MAX).map(|fails| clip(fails, TEXT_CHARS_MAX)).collect();
        GuardRow { name: guard.name, class, result, fails }
    }
}

impl AnomalyShown {
    pub fn of(rule: &RuleResult, anomaly: &Anomaly, around: &[Seen], meta: &Meta) -> AnomalyShown {
        // Its first two lines are what stands above it here.
        let text = show::anomaly(rule, anomaly, around, meta);
        let lines = text.lines().skip(2).map(|line| Around {
            is_about: line.starts_with("  >"),
            text: clip(line.trim_start_matches(['>', ' ']), TEXT_CHARS_MAX),
        });
        AnomalyShown {
            rule: rule.rule.name(),
            severity: figures::severity(anomaly.severity),
            says: clip(&anomaly.found.says, TEXT_CHARS_MAX),
            around: lines.collect(),
        }
    }
}

/// Those that were applied, and those that had nothing to be applied to.
fn rules(report: &Report) -> (Vec<RuleRow>, Vec<RuleRow>) {
    let (applied, others): (Vec<&RuleResult>, Vec<&RuleResult>) =
        report.rules.iter().partition(|rule| rule.checked + rule.fatal + rule.doubts + rule.reported > 0);
    let others = others.into_iter().map(|rule| {
        let why = rule.not_applied.as_deref().unwrap_or("nothing of that kind happened");
        row(rule, "", clip(why, TEXT_CHARS_MAX))
    });
    let applied = applied.into_iter().map(|rule| {
        let mut told = vec![];
        for (number, what) in [(rule.fatal, "broken"), (rule.doubts, "in doubt"), (rule.reported, "allowed, told")] {
            if number > 0 {
                told.push(format!("{} {what}", words::count(number)));
            }
        }
        let class = if rule.fatal + rule.doubts > 0 { "bad" } else { "good" };
        let passed = (class == "good").then(|| "passed".to_string());
        row(rule, class, passed.into_iter().chain(told).collect::<Vec<_>>().join(", "))
    });
    (applied.collect(), others.collect())
}

fn row(result: &RuleResult, class: &'static str, told: String) -> RuleRow {
    let rule = result.rule;
    let (name, says, source, of) = (rule.name(), rule.says(), rule.source(), rule.of());
    RuleRow { name, says, source, of, checked: words::count(result.checked), class, result: told }
}

fn failures(faults: &Faults, axis: Axis) -> Vec<String> {
    let failures = faults.failures.iter().take(ROWS_MAX).map(|failure| {
        let explained = if failure.expected { "a fault explains it" } else { "no fault explains it" };
        let (node, what) = (clip(&failure.node, 60), clip(&failure.what, TEXT_CHARS_MAX));
        format!("{} {node}: {what} ({explained})", axis.clock(failure.at))
    });
    failures.collect()
}

fn unavailable(run: Option<&Run>) -> Vec<(String, String)> {
    let all = run.map_or(&[][..], |run| &run.unavailable).iter().take(ROWS_MAX);
    all.map(|missing| (clip(&missing.fault, 60), clip(&missing.why, TEXT_CHARS_MAX))).collect()
}

fn details(report: &Report, meta: &Meta, nemesis: &Nemesis, run: Option<&Run>) -> Vec<(&'static str, String)> {
    let summary = &report.summary;
    let mut details = vec![];
    if let Some(run) = run {
        details.push(("Began", words::utc(run.began_ms)));
        details.push(("Version", clip(&run.version, 100)));
        details.push(("Nodes", clip(&run.nodes.join(", "), TEXT_CHARS_MAX)));
        details.push(("Workloads", clip(&run.workloads.join(", "), TEXT_CHARS_MAX)));
    } else {
        details.push(("Broken off", "there is no run.json: the run did not come to its end".into()));
    }
    if nemesis.torn {
        details.push(("Broken off", "the last line of nemesis.jsonl is cut off".into()));
    }
    details.push(("Length", format!("{:.1} s, warm-up and final reads included", summary.seconds)));
    details.push(("Partitions", words::count(summary.keys as u64)));
    details.push((
        "Sends",
        format!("{}, {} of them refused", words::count(summary.sends as u64), words::count(summary.failed)),
    ));
    details.push((
        "Polls",
        format!("{}, with {} records", words::count(summary.polls as u64), words::count(summary.records_read as u64)),
    ));
    if !meta.git.is_empty() {
        details.push(("Commit", clip(&meta.git, 100)));
    }
    details
}

/// Whether an anomaly is one that the verdict hangs on.
pub fn weighs(anomaly: &Anomaly) -> bool {
    anomaly.severity > Severity::Report
}
