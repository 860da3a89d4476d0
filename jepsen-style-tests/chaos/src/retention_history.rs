//! The history of the topic that keeps next to nothing: one of its own, below the run's, because records may go in it.
//!
//! It has the run's clock and the run's faults. What nodes did by themselves stands in the run's own history alone.

use std::path::Path;

use flotilla::client::Gaps;
use logcheck::{
    files,
    meta::{Expects, Meta, Promises},
    nemesis::{Line, Nemesis},
    recorder::Recorder,
    report::{Guard, Report},
};

use crate::{
    error::ChaosError,
    finale::Finale,
    names::Names,
    report,
    run::Run,
    workload::retention::{self, PARTITIONS, TRIMS_MIN},
};

/// The guard of the run's report that says what became of this history.
pub const GUARD: &str = "w8's history, told in retention/report.html, is valid";
const SHOWN_MAX: usize = 3;

pub fn create(recorder: &Recorder, run: &Path) -> Result<Recorder, ChaosError> {
    let dir = retention::dir(run);
    recorder.beside(&dir).map_err(ChaosError::file("cannot write the history below", dir))
}

/// The end of it, as of the main topic.
pub fn finale(of: &Finale, recorder: &Recorder, names: &Names) -> Finale {
    Finale {
        cluster: of.cluster.clone(),
        recorder: recorder.clone(),
        run: of.run,
        topic: names.short.clone(),
        gaps: Gaps::Tell,
        history: retention::dir(&of.history),
    }
}

/// Ends it like the run's, whose `meta` and `run.json` these are, and checks it.
pub fn conclude(recorder: &Recorder, meta: &Meta, run: &Run, names: &Names, dir: &Path) -> Result<Report, ChaosError> {
    let own = retention::dir(dir);
    let failed = || ChaosError::file("cannot write the history below", &own);
    let nemesis = Nemesis::read(&files::nemesis_path(dir))?;
    for line in nemesis.lines.iter().filter(|line| !matches!(line, Line::NodeFailure { .. })) {
        recorder.nemesis(line).map_err(failed())?;
    }
    run.write(&own).map_err(failed())?;
    recorder.finish(&of_short(meta, names)).map_err(failed())?;
    let report = logcheck::check(&own)?;
    // A history without a page is still one.
    if let Err(error) = report::write(&own, &report) {
        eprintln!("no page of {}: {error}", own.display());
    }
    Ok(report)
}

fn of_short(meta: &Meta, names: &Names) -> Meta {
    Meta {
        keys: (0..PARTITIONS).map(|partition| format!("{}-{partition}", names.short)).collect(),
        promises: Promises { retention: true, ..meta.promises.clone() },
        expects: Expects {
            fault_free: meta.expects.fault_free,
            replicas: meta.expects.replicas,
            trims: TRIMS_MIN,
            ..Expects::default()
        },
        ..meta.clone()
    }
}

/// How often the log start was seen to move, for who reads the table.
pub fn trims(dir: &Path) -> Result<u64, ChaosError> {
    let own = retention::dir(dir);
    let meta = Meta::read(&files::meta_path(&own))?;
    Ok(logcheck::guards::trims_seen(&logcheck::load::facts(&own, &meta)?))
}

/// The run's report, which says also what became of this history.
pub fn with_short(report: Report, short: &Report) -> Report {
    let Report { summary, mut guards, rules, .. } = report;
    guards.push(Guard { name: GUARD, fails: fails(short), verdict: short.verdict });
    Report::new(summary, guards, rules)
}

/// Its guards and rules that failed, by name, with their first anomalies.
fn fails(short: &Report) -> Vec<String> {
    let guards =
        short.guards.iter().flat_map(|guard| guard.fails.iter().map(|fails| format!("{}: {fails}", guard.name)));
    let weighing = short.rules.iter().filter(|rule| rule.fatal + rule.doubts > 0);
    let rules = weighing.flat_map(|rule| {
        let told = |anomaly: &logcheck::report::Anomaly| format!("{}: {}", rule.rule.name(), anomaly.found.says);
        rule.anomalies.iter().take(SHOWN_MAX).map(told)
    });
    rules.chain(guards).collect()
}

#[cfg(test)]
mod tests {
    use logcheck::{
        report::{Sheet, Summary, Verdict},
        rules::Rule,
    };

    use super::*;

    #[test]
    fn what_breaks_there_makes_the_run_invalid_and_is_named() {
        let report = |sheet: Sheet| Report::new(Summary::default(), vec![], sheet.results());
        let fine = with_short(report(Sheet::default()), &report(Sheet::default()));
        assert_eq!(fine.verdict, Verdict::Valid);
        let mut sheet = Sheet::default();
        let found = || logcheck::report::Found::new(1, "it went back".into());
        sheet.add(Rule::LogStartRegression, logcheck::report::Severity::Fatal, found);
        let broken = with_short(report(Sheet::default()), &report(sheet));
        assert_eq!(broken.verdict, Verdict::Invalid);
        let guard = broken.guards.iter().find(|guard| guard.name == GUARD).expect("it is there");
        assert_eq!(guard.fails, ["log-start-regression: it went back"]);
    }
}
