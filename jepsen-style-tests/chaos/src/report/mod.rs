//! The report of a run: one HTML file that needs nothing else.
//!
//! It is made of the files in a run's directory alone, so that it can be made again from a copy of them, and loads
//! nothing: no font, no script, no picture from elsewhere. The history is read in a stream; what is kept of it are
//! counts for each second. Whatever the files hold is escaped, and cut where it is long.

mod chart;
mod family;
mod faults;
mod figures;
mod histogram;
mod latencies;
mod measure;
mod page;
mod timeline;
mod words;

#[cfg(test)]
mod tests;

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use askama::Template;
use logcheck::{
    context,
    files::{self, BadFile},
    meta::Meta,
    nemesis::Nemesis,
    report::{Anomaly, Report, RuleResult},
};

use self::{
    chart::Axis,
    faults::Faults,
    measure::Plan,
    page::{AnomalyShown, Page, Parts},
};
use crate::{
    progressed, retention_history,
    run::{Run, Span},
    running, verdict,
    workload::retention,
};

/// The name of the report in a run's directory.
pub const FILE: &str = "report.html";

/// Anomalies that are shown with the operations around them: of each rule, and of all.
const SHOWN_OF_RULE: usize = 3;
const SHOWN_MAX: usize = 40;
/// Other operations of the key that are shown around each.
const NEAR: usize = 6;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error(
        "{} has no meta.json, which a run writes last: one that was interrupted leaves what it recorded and the brokers' logs, \
         and no verdict",
        .0.display()
    )]
    Unfinished(PathBuf),
    #[error(transparent)]
    History(#[from] BadFile),
    #[error("{path}: {error}")]
    Run { path: PathBuf, error: io::Error },
    #[error("cannot draw the report: {0}")]
    Draw(#[from] askama::Error),
    #[error("cannot write {path}: {error}")]
    Write { path: PathBuf, error: io::Error },
}

/// Checks the history in a run's directory, and writes its report there. Gives back the verdict and the report's path.
pub fn check_and_write(dir: &Path) -> Result<(Report, PathBuf), ReportError> {
    // Written last.
    if !files::meta_path(dir).exists() {
        return Err(ReportError::Unfinished(dir.to_path_buf()));
    }
    let run = read_run(dir)?.unwrap_or_default();
    let verdict = verdict::with_throughput(logcheck::check(dir)?, run.throughput);
    let verdict = progressed::with_progress(verdict, &run.silences_ms, &run.never);
    let mut verdict = running::with_compared(verdict, &run.compared);
    let own = retention::dir(dir);
    if own.exists() {
        let checked = logcheck::check(&own)?;
        write(&own, &checked)?;
        verdict = retention_history::with_short(verdict, &checked);
    }
    let path = write(dir, &verdict)?;
    Ok((verdict, path))
}

/// Writes the report of a run whose history has been checked into its directory.
pub fn write(dir: &Path, verdict: &Report) -> Result<PathBuf, ReportError> {
    let html = draw(dir, verdict)?;
    let path = dir.join(FILE);
    fs::write(&path, html).map_err(|error| ReportError::Write { path: path.clone(), error })?;
    Ok(path)
}

fn draw(dir: &Path, verdict: &Report) -> Result<String, ReportError> {
    let meta = Meta::read(&files::meta_path(dir))?;
    let nemesis = Nemesis::read(&files::nemesis_path(dir))?;
    let run = read_run(dir)?;
    let main = main_span(run.as_ref());
    let recoveries = run.as_ref().map_or(&[][..], |run| &run.recoveries);
    let last = (verdict.summary.seconds.max(0.0) * 1e9) as u64;
    let faults = Faults::of(&nemesis, recoveries, main.to.min(last));
    let calm = run.as_ref().map_or(vec![], |run| run.calm.clone());
    let one_node = run.as_ref().map(|run| run.one_hit.clone()).filter(|spans| !spans.is_empty());
    let one_node = one_node.unwrap_or_else(|| faults.of_one_node(main));
    let measured = measure::measure(dir, &Plan { main, calm, one_node })?;
    let axis = Axis(Span { from: main.from, to: main.to.min(last).max(main.from) });
    let anomalies = shown(dir, verdict, &meta)?;
    let parts = Parts {
        verdict,
        meta: &meta,
        nemesis: &nemesis,
        run: run.as_ref(),
        faults: &faults,
        measured: &measured,
        axis,
        anomalies,
    };
    Ok(Page::new(parts).render()?)
}

/// None: a run that broke off before it could write it.
fn read_run(dir: &Path) -> Result<Option<Run>, ReportError> {
    match Run::read(dir) {
        Ok(run) => Ok(Some(run)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ReportError::Run { path: dir.join("run.json"), error }),
    }
}

/// When the cluster was under load; all of the run if nobody says.
fn main_span(run: Option<&Run>) -> Span {
    let told = run.map(|run| run.main).filter(|main| main.from < main.to);
    told.unwrap_or(Span { from: 0, to: u64::MAX })
}

/// The first anomalies of each rule that the verdict hangs on, with the operations around them.
fn shown(dir: &Path, verdict: &Report, meta: &Meta) -> Result<Vec<AnomalyShown>, BadFile> {
    let of = |rule| -> Vec<(&RuleResult, &Anomaly)> {
        let rule: &RuleResult = rule;
        let weighing = rule.anomalies.iter().filter(|anomaly| page::weighs(anomaly));
        weighing.take(SHOWN_OF_RULE).map(|anomaly| (rule, anomaly)).collect()
    };
    let shown: Vec<_> = verdict.rules.iter().flat_map(of).take(SHOWN_MAX).collect();
    if shown.is_empty() {
        return Ok(vec![]);
    }
    let found: Vec<_> = shown.iter().map(|(_, anomaly)| &anomaly.found).collect();
    let around = context::around(dir, &found, NEAR)?;
    Ok(shown.iter().zip(&around).map(|((rule, anomaly), seen)| AnomalyShown::of(rule, anomaly, seen, meta)).collect())
}
