//! What a run came to: the checker's verdict, what was expected besides, and the table that says so.

use std::{collections::BTreeMap, fmt::Write, path::Path};

use logcheck::{
    nemesis::{Line, Nemesis},
    report::{Guard, Report, Verdict},
};

use crate::{
    fault::Fault,
    nemesis::Stretch,
    progress::grouped,
    run::{Recovery, Run, Span, Throughput, Unavailable},
    schedule::SETTLE_MS,
    tally::Tally,
};

/// Of the throughput without faults, so much is expected while at most one node is hit.
const THROUGHPUT_KEPT: f64 = 0.5;
/// After a fault so long is looked for a later leader.
const RECOVERY_MAX_NS: u64 = 20_000_000_000;
const NS_PER_MS: u64 = 1_000_000;

impl Throughput {
    pub fn of(tally: &Tally, calm: &[Span], stretches: &[Stretch]) -> Throughput {
        let spared = stretches.iter().filter(|stretch| stretch.spares_majority());
        let spans: Vec<Span> = spared.map(|stretch| Span { from: stretch.from, to: stretch.to }).collect();
        Throughput { calm: tally.rate(calm), one_hit: tally.rate(&spans), is_expected: !spans.is_empty() }
    }

    /// Why it is less than expected, if it is.
    pub fn fails(&self) -> Option<String> {
        let (Some(calm), Some(hit)) = (self.calm, self.one_hit) else {
            return self.is_expected.then(|| "there was no calm time to compare with: let the run be longer".into());
        };
        (hit < calm * THROUGHPUT_KEPT).then(|| {
            format!(
                "throughput while one node was hit was {hit:.0} records/s, less than {:.0} % of the {calm:.0} without faults",
                THROUGHPUT_KEPT * 100.0
            )
        })
    }
}

/// The checker's report, which also says whether throughput was kept.
pub fn with_throughput(report: Report, throughput: Throughput) -> Report {
    let Report { summary, mut guards, rules, .. } = report;
    let fails = throughput.fails().into_iter().collect();
    guards.push(Guard { name: "throughput was kept while one node was hit", fails, verdict: Verdict::Unknown });
    Report::new(summary, guards, rules)
}

/// The stretches of the main phase without a fault, settling apart.
pub fn calm(main: Span, stretches: &[Stretch]) -> Vec<Span> {
    let mut calm = vec![];
    let mut from = main.from;
    for stretch in stretches {
        calm.push(Span { from, to: stretch.from });
        from = stretch.to + SETTLE_MS * NS_PER_MS;
    }
    calm.push(Span { from, to: main.to });
    calm.retain(|span| span.from < span.to);
    calm
}

/// How long partitions whose leaders were hit were without acknowledgements: of each fault the longest.
pub fn recoveries(tally: &Tally, stretches: &[Stretch]) -> Vec<Recovery> {
    let mut found = vec![];
    for (at, stretch) in stretches.iter().enumerate() {
        // What the next fault does is not this one's.
        let next = stretches.get(at + 1).map_or(u64::MAX, |next| next.from);
        // What is handed over need not recover, and may be handed over late.
        for window in stretch.windows.iter().filter(|window| window.fault != Fault::Transfer) {
            let until = next.min(window.to + RECOVERY_MAX_NS);
            let of = |partition: &u32| tally.recovery(*partition, window.from, until, next);
            if let Some(took) = window.partitions.iter().filter_map(of).max() {
                let (fault, took_ms) = (window.fault.to_string(), took.as_millis() as u64);
                found.push(Recovery { fault, at: window.from, took_ms });
            }
        }
    }
    found
}

/// Everything that the table shows.
pub struct Outcome<'a> {
    pub run: &'a Run,
    /// What the checker says of each history, by name.
    pub reports: &'a [(String, Report)],
    pub nemesis: &'a Nemesis,
    pub tally: &'a Tally,
    pub dir: &'a Path,
    /// How often the log start of the topic that keeps next to nothing was seen to move, if there is one.
    pub trims: Option<u64>,
    /// How often a replica took a snapshot in the place of entries.
    pub snapshots: u64,
    /// The page, or why there is none.
    pub page: String,
}

impl Outcome<'_> {
    pub fn verdict(&self) -> Verdict {
        let has = |verdict| self.reports.iter().any(|(_, report)| report.verdict == verdict);
        if has(Verdict::Invalid) {
            Verdict::Invalid
        } else if has(Verdict::Unknown) {
            Verdict::Unknown
        } else {
            Verdict::Valid
        }
    }

    pub fn exit_code(&self) -> u8 {
        match self.verdict() {
            Verdict::Valid => 0,
            Verdict::Invalid => 10,
            Verdict::Unknown => 11,
        }
    }

    /// The table, for people.
    pub fn table(&self) -> String {
        let mut out = String::new();
        self.faults(&mut out);
        self.counts(&mut out);
        self.anomalies(&mut out);
        let verdict = match self.verdict() {
            Verdict::Valid => "valid: every promise was kept",
            Verdict::Invalid => "INVALID: a promise was broken, or the harness erred; what is said above says which",
            Verdict::Unknown => "UNKNOWN: nothing wrong was seen, but the run does not prove what it was to prove",
        };
        let _ = writeln!(out, "\nverdict   {verdict}");
        let _ = writeln!(out, "history   {}", self.dir.display());
        let _ = writeln!(out, "report    {}", self.page);
        let _ = writeln!(out, "again     {}", self.run.command);
        out
    }

    fn faults(&self, out: &mut String) {
        let mut counts: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
        for fault in self.nemesis.installed() {
            let [count, led] = counts.entry(&fault.fault).or_default();
            *count += 1;
            *led += u64::from(!fault.led.is_empty());
        }
        let mut took: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        self.run.recoveries.iter().for_each(|recovery| took.entry(&recovery.fault).or_default().push(recovery.took_ms));
        let _ =
            writeln!(out, "{:<18} {:>9} {:>10}  recovery of what its targets led", "fault", "installed", "hit leader");
        for (fault, [count, led]) in counts {
            let longest = took.get(fault).and_then(|took| took.iter().max());
            let longest = longest.map_or("-".into(), |ms| format!("{} ms at most", grouped(*ms)));
            let _ = writeln!(out, "{fault:<18} {count:>9} {led:>10}  {longest}");
        }
        for (names, why) in Unavailable::by_reason(&self.run.unavailable) {
            let _ = writeln!(out, "not done: {names}: {why}");
        }
    }

    fn counts(&self, out: &mut String) {
        let [sent, acked, unknown, failed, read] = self.tally.totals().map(grouped);
        let _ = writeln!(
            out,
            "\nrecords   {sent} sent: {acked} acknowledged, {unknown} unknown, {failed} refused; {read} read"
        );
        if let Some(trims) = self.trims {
            let _ = writeln!(
                out,
                "trims     {} moves of log starts seen by w8, {} snapshots taken by replicas",
                grouped(trims),
                grouped(self.snapshots)
            );
        }
        let rate = |rate: Option<f64>| rate.map_or("none".into(), |rate| format!("{} records/s", grouped(rate as u64)));
        let Throughput { calm, one_hit, .. } = self.run.throughput;
        let share = calm.zip(one_hit).map(|(calm, hit)| format!(" ({:.0} %)", 100.0 * hit / calm.max(1.0)));
        let share = share.unwrap_or_default();
        let _ =
            writeln!(out, "rate      {} without faults, {} while one node was hit{share}", rate(calm), rate(one_hit));
        let mut took: Vec<u64> = self.run.recoveries.iter().map(|recovery| recovery.took_ms).collect();
        took.sort_unstable();
        let at =
            |part: usize| took.get((took.len() * part / 100).min(took.len().saturating_sub(1))).copied().unwrap_or(0);
        if !took.is_empty() {
            let [p50, p99, most] = [at(50), at(99), at(100)].map(grouped);
            let _ = writeln!(out, "recovery  p50 {p50} ms, p99 {p99} ms, longest {most} ms, of {}", took.len());
        }
        if let Some((what, ms)) = self.run.silences_ms.iter().max_by_key(|(_, ms)| **ms) {
            let ms = grouped(*ms);
            let _ = writeln!(out, "progress  longest silence while a majority was left alone: {what}, {ms} ms");
        }
        let ended = |expected: bool| {
            let of = |line: &&Line| matches!(line, Line::NodeFailure { expected: is, .. } if *is == expected);
            self.nemesis.lines.iter().filter(of).count()
        };
        if ended(true) > 0 {
            let _ = writeln!(out, "nodes     ended by themselves {} times, as their faults ask for", ended(true));
        }
        for (name, report) in self.reports {
            let applied = report.rules.iter().filter(|rule| rule.checked > 0 && rule.not_applied.is_none()).count();
            let broken = report.broken();
            let said =
                if broken.is_empty() { "none broken".to_string() } else { format!("BROKEN: {}", broken.join(", ")) };
            let _ = writeln!(out, "rules     {applied} applied to {name}, {said}");
        }
    }

    /// What is wrong, each with its first words; the report has all of it.
    fn anomalies(&self, out: &mut String) {
        const SHOWN_MAX: usize = 3;
        for (name, report) in self.reports {
            for guard in report.guards.iter().filter(|guard| !guard.fails.is_empty()) {
                for fails in guard.fails.iter().take(SHOWN_MAX) {
                    let _ = writeln!(out, "FAILED    {name}: {}: {fails}", guard.name);
                }
            }
            for rule in report.rules.iter().filter(|rule| rule.fatal + rule.doubts > 0) {
                let count = rule.fatal + rule.doubts;
                let _ = writeln!(out, "ANOMALY   {name}: {} ({count} times): {}", rule.rule.name(), rule.rule.says());
                for anomaly in rule.anomalies.iter().take(SHOWN_MAX) {
                    let _ = writeln!(out, "          {}", anomaly.found.says);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use logcheck::nemesis::Done;

    use super::*;
    use crate::{nemesis::Window, tally::Ack};

    fn stretch(fault: Fault, from_ms: u64, to_ms: u64) -> Stretch {
        let (from, to) = (from_ms * NS_PER_MS, to_ms * NS_PER_MS);
        let window = Window { fault, from, to, partitions: vec![0], has_led: true, outcome: Done::Installed };
        Stretch { from, to, windows: vec![window] }
    }

    #[test]
    fn what_the_next_fault_stops_is_not_laid_to_the_one_before() {
        let tally = Tally::new(1);
        let ack = |ms: u64, epoch| tally.acked(0, Ack { at: ms * NS_PER_MS, epoch }, 1);
        (0..12_000).step_by(100).for_each(|ms| ack(ms, 1));
        (14_000..20_000).step_by(100).for_each(|ms| ack(ms, 2));
        let found =
            recoveries(&tally, &[stretch(Fault::FsyncSlow, 1_000, 6_000), stretch(Fault::Kill, 11_950, 17_000)]);
        let took: Vec<u64> = found.iter().map(|recovery| recovery.took_ms).collect();
        assert_eq!(took, [100, 2_050]);
    }

    #[test]
    fn throughput_that_could_not_be_measured_is_not_taken_for_kept() {
        let none = Throughput::default();
        assert_eq!(none.fails(), None, "no fault of a minority was there");
        assert!(Throughput { one_hit: Some(9.0), is_expected: true, ..none }.fails().is_some());
        let kept = Throughput { calm: Some(10.0), one_hit: Some(5.0), is_expected: true };
        assert_eq!(kept.fails(), None);
        assert!(Throughput { one_hit: Some(4.9), ..kept }.fails().is_some());
    }
}
