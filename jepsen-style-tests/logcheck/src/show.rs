//! A report as text for people.

use std::fmt::Write;

use crate::{
    context::Seen,
    event::{Body, Record, Run},
    meta::Meta,
    report::{Anomaly, Report, RuleResult, Severity, Verdict},
};

/// The whole report but for anomalies, which follow it one by one.
pub fn report(report: &Report) -> String {
    let mut out = String::new();
    let s = &report.summary;
    let line = format!(
        "{} events of {:.1} s: {} sends to {} keys ({} acknowledged, {} unknown, {} failed), {} polls of {} records, \
         {} faults installed\n\n",
        s.events,
        s.seconds,
        s.sends,
        s.keys,
        s.acknowledged,
        s.unknown,
        s.failed,
        s.polls,
        s.records_read,
        s.faults_installed
    );
    out.push_str(&line);
    let _ = writeln!(out, "{:<26} {:>12} {:<26} result", "rule", "checked", "of");
    for rule in &report.rules {
        let checked = if rule.not_applied.is_some() { "-".into() } else { rule.checked.to_string() };
        let _ = writeln!(out, "{:<26} {checked:>12} {:<26} {}", rule.rule.name(), rule.rule.of(), result(rule));
        for note in &rule.notes {
            let _ = writeln!(out, "{:<26} {:>12} {note}", "", "");
        }
    }
    let _ = writeln!(out, "\n{:<44} result", "guard");
    for guard in &report.guards {
        let result = match (guard.fails.first(), guard.verdict) {
            (None, _) => "passed",
            (Some(_), Verdict::Invalid) => "FAILED: invalid",
            (Some(_), Verdict::Unknown | Verdict::Valid) => "FAILED: unknown",
        };
        let _ = writeln!(out, "{:<44} {result}", guard.name);
        for fails in &guard.fails {
            let _ = writeln!(out, "    {fails}");
        }
    }
    out
}

fn result(rule: &RuleResult) -> String {
    let mut told = vec![];
    let mut tell = |count: u64, what: &str| {
        if count > 0 {
            told.push(format!("{count} {what}"));
        }
    };
    tell(rule.fatal, "ANOMALIES");
    tell(rule.doubts, "doubts");
    tell(rule.reported, "allowed, told");
    match (&rule.not_applied, rule.checked) {
        (Some(why), _) if told.is_empty() => format!("not applicable: {why}"),
        (None, 0) if told.is_empty() => "not applicable: nothing of that kind".into(),
        _ if rule.fatal + rule.doubts == 0 => {
            ["passed".to_string()].into_iter().chain(told).collect::<Vec<_>>().join(", ")
        }
        _ => told.join(", "),
    }
}

/// What the verdict means, in one line.
pub fn verdict(report: &Report) -> String {
    match report.verdict {
        Verdict::Valid => "verdict: valid".into(),
        Verdict::Invalid if report.broken().is_empty() => "verdict: invalid (the harness, see the guards)".into(),
        Verdict::Invalid => format!("verdict: invalid ({})", report.broken().join(", ")),
        Verdict::Unknown => {
            "verdict: unknown: nothing wrong was seen, but the run does not prove what it was to prove".into()
        }
    }
}

/// One anomaly with the operations around it.
pub fn anomaly(rule: &RuleResult, anomaly: &Anomaly, context: &[Seen], meta: &Meta) -> String {
    let mut out = String::new();
    let weight = match anomaly.severity {
        Severity::Fatal => "",
        Severity::Doubt => " (doubt)",
        Severity::Report => " (allowed)",
    };
    let _ = writeln!(out, "{}{weight}: {}", rule.rule.name(), anomaly.found.says);
    let _ = writeln!(out, "  rule: {} [{}]", rule.rule.says(), rule.rule.source());
    for seen in context {
        let event = &seen.event;
        let mark = if seen.about { '>' } else { ' ' };
        let what = body(&event.body, &anomaly.found.values, anomaly.found.key, meta);
        let at = event.at as f64 / 1e6;
        let _ = writeln!(out, "  {mark} {at:>12.3} ms  {:<12} p{} op {}  {what}", seen.worker, event.process, event.op);
    }
    out
}

fn body(body: &Body, values: &[u64], key: Option<u32>, meta: &Meta) -> String {
    match body {
        Body::Polled(polled) => {
            let runs = polled.runs.iter().filter(|run| key.is_none_or(|key| run.key == key));
            let runs: Vec<String> = runs.map(|run| self::run(run, values, meta)).collect();
            format!("polled {:?} error {}: {}", polled.outcome, polled.error, runs.join("; "))
        }
        Body::Entry(entry) => {
            format!("node {} index {} term {} base {}", entry.node, entry.index, entry.term, entry.base_offset)
        }
        other => format!("{other:?}"),
    }
}

/// A run, and of its records only those that matter and their neighbours.
fn run(run: &Run, values: &[u64], meta: &Meta) -> String {
    let (Some(first), Some(last)) = (run.records.first(), run.records.last()) else {
        return format!("{} nothing, high watermark {:?}", meta.key(run.key), run.high_watermark);
    };
    let is_near = |at: usize| {
        let near = &run.records[at.saturating_sub(1)..(at + 2).min(run.records.len())];
        near.iter().any(|record| values.contains(&record.value))
    };
    let shown = run.records.iter().enumerate().filter(|(at, _)| is_near(*at)).map(|(_, record)| record);
    let shown: Vec<String> = shown.map(|Record { offset, value }| format!("{offset}:{value}")).collect();
    let shown = if shown.is_empty() { String::new() } else { format!(" with {}", shown.join(" ")) };
    format!("{} offsets {}..={}{shown}", meta.key(run.key), first.offset, last.offset)
}
