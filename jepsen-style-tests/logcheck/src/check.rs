//! The whole check: files to facts, rules, guards, verdict.

use std::path::Path;

use crate::{
    event::Outcome,
    facts::Facts,
    files::{self, BadFile},
    guards, load,
    meta::Meta,
    nemesis::Nemesis,
    report::{Report, Sheet, Summary},
    rules,
};

/// Checks the history in a directory.
pub fn check(dir: &Path) -> Result<Report, BadFile> {
    let meta = Meta::read(&files::meta_path(dir))?;
    let nemesis = Nemesis::read(&files::nemesis_path(dir))?;
    let facts = load::facts(dir, &meta)?;
    Ok(check_facts(&facts, &meta, &nemesis))
}

/// Checks a history that is loaded.
pub fn check_facts(facts: &Facts, meta: &Meta, nemesis: &Nemesis) -> Report {
    let mut sheet = Sheet::default();
    rules::apply(facts, meta, nemesis, &mut sheet);
    let count = |outcome| facts.sends.iter().filter(|op| op.outcome == outcome).count() as u64;
    let summary = Summary {
        events: facts.events,
        keys: facts.keys,
        sends: facts.sends.len(),
        acknowledged: count(Outcome::Ok),
        unknown: count(Outcome::Info),
        failed: count(Outcome::Fail),
        polls: facts.polls.len(),
        records_read: facts.records.len(),
        faults_installed: nemesis.installed().count(),
        seconds: facts.last_at as f64 / 1e9,
    };
    Report::new(summary, guards::check(facts, meta, nemesis), sheet.results())
}
