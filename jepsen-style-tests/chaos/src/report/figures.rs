//! What a run comes to in a few figures, and its verdict in a sentence. Pure.

use logcheck::{
    report::{Report, RuleResult, Severity, Verdict},
    rules::Rule,
};

use super::{
    faults::{self, Faults},
    measure::Measured,
    words,
};
use crate::{retention_history, run::Recovery};

/// One of the key figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    pub name: &'static str,
    pub value: String,
    pub hint: String,
    /// Of a style sheet; empty if it is neither good nor bad.
    pub class: &'static str,
}

fn figure(name: &'static str, value: String, hint: impl Into<String>) -> Figure {
    Figure { name, value, hint: hint.into(), class: "" }
}

impl Figure {
    /// None of it is good, any is bad.
    fn judged(self, number: Option<u64>) -> Figure {
        let class = match number {
            Some(0) => "good",
            Some(_) => "bad",
            None => "",
        };
        Figure { class, ..self }
    }
}

/// The verdict for somebody who has never read one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    pub class: &'static str,
    pub head: String,
    pub text: String,
}

fn result(report: &Report, rule: Rule) -> Option<&RuleResult> {
    report.rules.iter().find(|result| result.rule == rule)
}

/// How many acknowledged records are missing, by the rule that misses most; none if no rule looked for them.
fn lost(report: &Report) -> Option<u64> {
    let rules = [Rule::LostWrite, Rule::Unseen, Rule::LostTail].map(|rule| result(report, rule));
    let looked = rules.into_iter().flatten().filter(|result| result.not_applied.is_none() && result.checked > 0);
    looked.map(|result| result.fatal + result.doubts).max()
}

/// How many acknowledged records were looked for in what was read, and how many of them were there.
fn read_back(report: &Report) -> Option<(u64, u64)> {
    let unseen = result(report, Rule::Unseen).filter(|unseen| unseen.not_applied.is_none() && unseen.checked > 0)?;
    Some((unseen.checked, unseen.checked.saturating_sub(unseen.fatal + unseen.doubts)))
}

fn faults_in_words(faults: &Faults) -> String {
    let installed: u64 = faults.kinds.iter().map(|kind| kind.installed).sum();
    let kinds = faults.kinds.iter().filter(|kind| kind.installed > 0).count() as u64;
    format!("{} of {}", words::counted(installed, "fault"), words::counted(kinds, "kind"))
}

pub fn sentence(report: &Report, faults: &Faults) -> Sentence {
    match report.verdict {
        Verdict::Valid => valid(report, faults),
        Verdict::Invalid => invalid(report),
        Verdict::Unknown => unknown(report),
    }
}

fn valid(report: &Report, faults: &Faults) -> Sentence {
    let acknowledged = words::count(report.summary.acknowledged);
    let meanwhile = match report.summary.faults_installed {
        0 => "while nothing was done to it".into(),
        _ => format!("while it was put through {}", faults_in_words(faults)),
    };
    let kept = match read_back(report) {
        Some((asked, _)) if asked == report.summary.acknowledged => "every one of them was read back".into(),
        Some((asked, _)) => format!("all {} of them that it promised to keep were read back", words::count(asked)),
        None => "none of them is known to be missing".to_string(),
    };
    Sentence {
        class: "good",
        head: "Valid: nothing that was acknowledged was lost".into(),
        text: format!(
            "The cluster acknowledged {acknowledged} records {meanwhile}, and {kept}. No rule found an anomaly. This \
             shows what happened in this run, and does not prove that a cluster is without faults."
        ),
    }
}

fn invalid(report: &Report) -> Sentence {
    let broken: Vec<&RuleResult> = report.rules.iter().filter(|result| result.fatal > 0).collect();
    let (head, text) = if let Some(short) = short_broken(report).filter(|_| broken.is_empty()) {
        ("Invalid: the history of a topic of its own is", format!("What is wrong with that of w8: {short}."))
    } else if broken.is_empty() {
        let wrong = first_failure(report, Verdict::Invalid);
        ("Invalid: the test itself went wrong", format!("So it says nothing about the cluster. {wrong}"))
    } else {
        let told = broken.iter().map(|result| {
            format!("{} ({}): {}", result.rule.name(), words::counted(result.fatal, "time"), result.rule.says())
        });
        let told = told.collect::<Vec<_>>().join("; ");
        let lost = lost(report).filter(|lost| *lost > 0);
        let head = match lost {
            Some(_) => "Invalid: acknowledged records are lost",
            None => "Invalid: the cluster broke a promise",
        };
        let lost = lost.map(|lost| format!("{} missing. ", is_are(lost, "acknowledged record")));
        (head, format!("{}What must not be, and was: {told}.", lost.unwrap_or_default()))
    };
    Sentence { class: "bad", head: head.into(), text }
}

/// What went wrong in the history of the topic that keeps next to nothing.
fn short_broken(report: &Report) -> Option<&String> {
    let guards = report
        .guards
        .iter()
        .filter(|guard| guard.name == retention_history::GUARD && guard.verdict == Verdict::Invalid);
    guards.flat_map(|guard| guard.fails.first()).next()
}

fn is_are(number: u64, one: &str) -> String {
    format!("{} {}", words::counted(number, one), if number == 1 { "is" } else { "are" })
}

fn unknown(report: &Report) -> Sentence {
    let doubts: u64 = report.rules.iter().map(|result| result.doubts).sum();
    let why = match doubts {
        0 => first_failure(report, Verdict::Unknown),
        _ => format!("What was recorded leaves {} that nobody can decide.", words::counted(doubts, "doubt")),
    };
    let head = "Unknown: nothing wrong was seen, but the run does not prove what it was to prove".into();
    Sentence { class: "doubt", head, text: format!("That is not a success. {why}") }
}

/// What the first guard says that makes this verdict, and how many others do.
fn first_failure(report: &Report, verdict: Verdict) -> String {
    let failed = report.guards.iter().filter(|guard| guard.verdict == verdict);
    let fails: Vec<&String> = failed.flat_map(|guard| &guard.fails).collect();
    match fails.split_first() {
        None => String::new(),
        Some((first, [])) => format!("Why: {}.", words::clip(first, 600)),
        Some((first, others)) => format!("Why: {}; and {} more.", words::clip(first, 600), others.len()),
    }
}

pub fn figures(report: &Report, faults: &Faults, measured: &Measured, recoveries: &[Recovery]) -> Vec<Figure> {
    let summary = &report.summary;
    let not_checked = || "not checked".to_string();
    let mut figures = vec![
        figure("Acknowledged", words::count(summary.acknowledged), "records that the cluster said it keeps"),
        match read_back(report) {
            Some((asked, found)) => {
                let hint = format!("of {} that it must keep", words::count(asked));
                figure("Read back", words::count(found), hint)
            }
            None => figure("Read back", not_checked(), "nobody read to the end"),
        },
        figure("Lost", lost(report).map_or_else(not_checked, words::count), "acknowledged, and gone")
            .judged(lost(report)),
        figure("Anomalies", words::count(anomalies(report)), "of any kind").judged(Some(anomalies(report))),
        figure("Outcome unknown", words::count(summary.unknown), "sends that may or may not be stored"),
    ];
    figures.extend(of_faults(faults));
    figures.extend(of_throughput(measured));
    figures.extend(of_recovery(recoveries));
    let latency = |percent| measured.latencies.percentile(percent).map_or("–".into(), words::micros);
    figures.push(figure("Latency p50", latency(50), "from send to acknowledgement"));
    figures.push(figure("Latency p99", latency(99), "faults included"));
    figures
}

/// All that makes or could make a run invalid.
pub fn anomalies(report: &Report) -> u64 {
    report.rules.iter().map(|result| result.fatal + result.doubts).sum()
}

fn of_faults(faults: &Faults) -> [Figure; 2] {
    let sum = |of: fn(&faults::Kind) -> u64| faults.kinds.iter().map(of).sum::<u64>();
    let kinds = |of: fn(&faults::Kind) -> u64| faults.kinds.iter().filter(|kind| of(kind) > 0).count() as u64;
    let of_kinds = |of| format!("of {}", words::counted(kinds(of), "kind"));
    [
        figure("Faults", words::count(sum(|kind| kind.installed)), of_kinds(|kind| kind.installed)),
        figure("Leaders hit", words::count(sum(|kind| kind.hit_leader)), of_kinds(|kind| kind.hit_leader)),
    ]
}

fn of_throughput(measured: &Measured) -> [Figure; 2] {
    let rate = |rate: Option<f64>| rate.map_or("–".into(), |rate| format!("{} /s", words::rate(rate)));
    let (calm, one_node) = (measured.calm.per_second(), measured.one_node.per_second());
    let during = |seconds: f64| format!("acknowledged, over {seconds:.0} s");
    let share = match (calm, one_node) {
        (Some(calm), Some(one_node)) if calm > 0.0 => {
            format!("{:.0} % of that without, over {:.0} s", one_node / calm * 100.0, measured.one_node.seconds())
        }
        _ => during(measured.one_node.seconds()),
    };
    [
        figure("Throughput, no fault", rate(calm), during(measured.calm.seconds())),
        figure("Throughput, one node at fault", rate(one_node), share),
    ]
}

fn of_recovery(recoveries: &[Recovery]) -> [Figure; 3] {
    let mut took: Vec<u64> = recoveries.iter().map(|recovery| recovery.took_ms).collect();
    took.sort();
    let percentile = |percent| faults::percentile(&took, percent).map_or("–".into(), words::millis);
    [
        figure("Recovery p50", percentile(50), format!("of {}", words::count(took.len() as u64))),
        figure("Recovery p99", percentile(99), "until the next acknowledgement"),
        figure("Recovery, longest", percentile(100), ""),
    ]
}

/// What stands in a table of anomalies beside their number.
pub fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Fatal => "broken promise",
        Severity::Doubt => "doubt",
        Severity::Report => "allowed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logcheck::report::{Found, Guard, Sheet, Summary};

    fn report(fill: impl FnOnce(&mut Sheet), fails: &[(Verdict, &str)]) -> Report {
        let mut sheet = Sheet::default();
        fill(&mut sheet);
        let guard = |(verdict, fails): &(Verdict, &str)| Guard {
            name: "a guard",
            fails: vec![fails.to_string()],
            verdict: *verdict,
        };
        let summary = Summary { acknowledged: 1_000, faults_installed: 3, ..Summary::default() };
        Report::new(summary, fails.iter().map(guard).collect(), sheet.results())
    }

    fn say(report: &Report) -> String {
        let Sentence { class, head, text } = sentence(report, &Faults::default());
        format!("{class} | {head} | {text}")
    }

    fn find(sheet: &mut Sheet, rule: Rule, severity: Severity) {
        sheet.add(rule, severity, || Found::new(1, "it is so".into()));
    }

    #[test]
    fn a_valid_run_claims_what_was_looked_for() {
        let all = say(&report(|sheet| sheet.checked(Rule::Unseen, 1_000), &[]));
        assert!(all.starts_with("good | Valid: nothing that was acknowledged was lost"), "{all}");
        assert!(all.contains("1,000 records") && all.contains("every one of them was read back"), "{all}");
        let some = say(&report(|sheet| sheet.checked(Rule::Unseen, 900), &[]));
        assert!(some.contains("all 900 of them that it promised to keep were read back"), "{some}");
        let none = say(&report(|sheet| sheet.not_applied(Rule::Unseen, "no final reads"), &[]));
        assert!(none.contains("none of them is known to be missing"), "{none}");
    }

    #[test]
    fn an_invalid_run_says_whose_fault_it_is() {
        let lost = say(&report(
            |sheet| {
                sheet.checked(Rule::LostWrite, 9);
                find(sheet, Rule::LostWrite, Severity::Fatal);
            },
            &[],
        ));
        assert!(lost.starts_with("bad | Invalid: acknowledged records are lost | 1 acknowledged record is"), "{lost}");
        assert!(lost.contains("lost-write (1 time): acknowledged, below what was read, and never read."), "{lost}");
        let stale = say(&report(|sheet| find(sheet, Rule::StaleFetch, Severity::Fatal), &[]));
        assert!(stale.starts_with("bad | Invalid: the cluster broke a promise | What must not be"), "{stale}");
        let harness = say(&report(|_| {}, &[(Verdict::Invalid, "a value was sent twice")]));
        assert!(harness.contains("the test itself went wrong"), "{harness}");
        assert!(harness.ends_with("Why: a value was sent twice."), "{harness}");
    }

    #[test]
    fn an_unknown_run_is_no_success_and_says_why() {
        let short = [(Verdict::Unknown, "no fault was installed"), (Verdict::Unknown, "no poll was ok")];
        let short = say(&report(|_| {}, &short));
        assert!(short.starts_with("doubt | Unknown:"), "{short}");
        assert!(short.ends_with("not a success. Why: no fault was installed; and 1 more."), "{short}");
        let doubt = say(&report(|sheet| find(sheet, Rule::Phantom, Severity::Doubt), &[]));
        assert!(doubt.contains("1 doubt that nobody can decide"), "{doubt}");
    }

    #[test]
    fn what_was_not_looked_for_is_not_said_to_be_there() {
        let nothing = report(|_| {}, &[]);
        assert_eq!((lost(&nothing), read_back(&nothing)), (None, None));
        let two_rules = report(
            |sheet| {
                [Rule::LostWrite, Rule::Unseen].into_iter().for_each(|rule| sheet.checked(rule, 10));
                find(sheet, Rule::LostWrite, Severity::Fatal);
                find(sheet, Rule::Unseen, Severity::Fatal);
                find(sheet, Rule::Unseen, Severity::Fatal);
            },
            &[],
        );
        assert_eq!((lost(&two_rules), read_back(&two_rules)), (Some(2), Some((10, 8))), "one record breaks both rules");
    }
}
