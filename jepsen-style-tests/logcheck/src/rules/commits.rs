//! What a group has committed of a key is a linearizable register.
//!
//! `commit-regression`: commits carry ids of their own, which come back with the offset, so that each read names its write.
//! Then zones decide ([`super::zones`]). Beside that: a read must not give an id that nobody committed, or whose commit
//! failed, or began later, or was of another offset. A commit of unknown outcome that nobody read may never have
//! happened and is left out.

use std::collections::{BTreeMap, HashMap};

use super::{
    Rule,
    zones::{Zone, conflicts},
};
use crate::{
    event::Outcome,
    facts::{CommitOp, CommitRead, Facts},
    meta::Meta,
    report::{Found, Severity, Sheet},
};

pub fn check(facts: &Facts, meta: &Meta, sheet: &mut Sheet) {
    if facts.commit_reads.is_empty() {
        return sheet.not_applied(Rule::CommitRegression, "nobody read what a group has committed");
    }
    let mut registers: BTreeMap<(u32, u32), Register> = BTreeMap::new();
    for commit in &facts.commits {
        registers.entry((commit.group, commit.key)).or_default().commits.push(commit);
    }
    for read in &facts.commit_reads {
        registers.entry((read.group, read.key)).or_default().reads.push(read);
    }
    for register in registers.values() {
        sheet.checked(Rule::CommitRegression, (register.commits.len() + register.reads.len()) as u64);
        register.check(facts, meta, sheet);
    }
}

#[derive(Default)]
struct Register<'a> {
    commits: Vec<&'a CommitOp>,
    reads: Vec<&'a CommitRead>,
}

/// The cluster of reads that found nothing committed.
const NOTHING: usize = 0;

impl Register<'_> {
    fn check(&self, facts: &Facts, meta: &Meta, sheet: &mut Sheet) {
        // Before everything, nothing was committed.
        let mut zones = vec![Zone { first_end: 0, last_start: 0, of: NOTHING }];
        let mut by_id: HashMap<u64, usize> = HashMap::new();
        let mut read = vec![false; self.commits.len() + 1];
        for (commit, of) in self.commits.iter().zip(1..) {
            zones.push(Zone { first_end: commit.returned, last_start: commit.invoked, of });
            if by_id.insert(commit.id, of).is_some() {
                let says = format!("commit id {} is used twice: a fault of the harness", commit.id);
                tell(sheet, Severity::Fatal, commit.invoked, commit.key, says, (commit.process, commit.op));
            }
        }
        for look in &self.reads {
            let of = look.stored.map_or(Some(NOTHING), |stored| by_id.get(&stored.id).copied());
            let wrong = of.map_or_else(|| Some("that nobody committed".to_string()), |of| self.wrong(of, look));
            if let (Some(wrong), Some(stored)) = (&wrong, look.stored) {
                let severity =
                    if of.is_none() && facts.may_lack_invocations() { Severity::Doubt } else { Severity::Fatal };
                let says = format!(
                    "group {} {}: process {} read commit {} (offset {}) {wrong}",
                    look.group,
                    meta.key(look.key),
                    look.process,
                    stored.id,
                    stored.offset
                );
                tell(sheet, severity, look.returned, look.key, says, (look.process, look.op));
            }
            if let (Some(of), None) = (of, wrong) {
                read[of] = true;
                let zone = &mut zones[of];
                zone.first_end = zone.first_end.min(look.returned);
                zone.last_start = zone.last_start.max(look.invoked);
            }
        }
        zones.retain(|zone| zone.of == NOTHING || read[zone.of] || self.commits[zone.of - 1].outcome == Outcome::Ok);
        for (first, second) in conflicts(&zones) {
            let says = format!("{} and {} exclude each other", self.name(first), self.name(second));
            let last = self.commits[first.max(second) - 1];
            let says = format!("group {} {}: {says}", last.group, meta.key(last.key));
            tell(sheet, Severity::Fatal, last.invoked, last.key, says, (last.process, last.op));
        }
    }

    fn wrong(&self, of: usize, look: &CommitRead) -> Option<String> {
        let commit = self.commits[of.checked_sub(1)?];
        if commit.outcome == Outcome::Fail {
            Some("whose commit failed".into())
        } else if look.returned < commit.invoked {
            Some(format!("that was committed only at {} ns", commit.invoked))
        } else if look.stored.is_some_and(|stored| stored.offset != commit.offset) {
            Some(format!("that was of offset {}", commit.offset))
        } else {
            None
        }
    }

    fn name(&self, of: usize) -> String {
        let Some(commit) = of.checked_sub(1).map(|at| self.commits[at]) else {
            return "reads that found nothing".into();
        };
        format!("commit {} of offset {} (process {}) with its reads", commit.id, commit.offset, commit.process)
    }
}

fn tell(sheet: &mut Sheet, severity: Severity, at: u64, key: u32, says: String, op: (u32, u64)) {
    sheet.add(Rule::CommitRegression, severity, || Found::new(at, says).key(key).ops([op]));
}
