//! Where a member begins to read what it was given.
//!
//! `bad-resume`: after a rebalance gave a member a partition, the first record that an ok poll returns of it is the first
//! visible one at or after none of: an offset whose commit had begun before that poll returned, and had not been
//! overwritten before the rebalance (a commit is overwritten if a later one began after it had ended and was complete);
//! the log start, if no commit was complete before the rebalance, or if what was committed is trimmed. Where groups begin at
//! the end (`reset: latest`), a member of a group that had committed nothing may begin anywhere.
//!
//! A poll of unknown outcome in between may have been the first, so nothing is said then.

use std::collections::HashMap;

use super::Rule;
use crate::{
    event::Outcome,
    facts::{Changed, CommitOp, Facts, PollOp, RunOp, Source, Step},
    meta::{Meta, Reset},
    report::{Found, Severity, Sheet},
};

/// Commits of one group and key, in the order in which they began, for each of them.
type Commits<'a> = HashMap<(u32, u32), Vec<&'a CommitOp>>;

/// By process: keys that it was given and has read nothing of, with group and time.
type Waiting = HashMap<u32, HashMap<u32, (u32, u64)>>;

pub fn check(facts: &Facts, meta: &Meta, sheet: &mut Sheet) {
    let mut commits: Commits = HashMap::new();
    for commit in facts.commits.iter().filter(|commit| commit.outcome != Outcome::Fail) {
        commits.entry((commit.group, commit.key)).or_default().push(commit);
    }
    commits.values_mut().for_each(|commits| commits.sort_by_key(|commit| commit.invoked));
    let mut waiting: Waiting = HashMap::new();
    let mut any = false;
    for step in &facts.steps {
        match *step {
            Step::Change(change) => {
                let change = &facts.changes[change as usize];
                let waiting = waiting.entry(change.process).or_default();
                match &change.what {
                    Changed::Rebalance { group, revoked, assigned, .. } => {
                        any |= !assigned.is_empty();
                        waiting.retain(|key, _| !revoked.contains(key));
                        waiting.extend(assigned.iter().map(|key| (*key, (*group, change.at))));
                    }
                    Changed::Assign { .. } | Changed::Subscribe { .. } | Changed::Leave { .. } | Changed::Crash => {
                        waiting.clear();
                    }
                }
            }
            Step::Poll(poll) => {
                let poll = &facts.polls[poll as usize];
                let Some(waiting) = waiting.get_mut(&poll.process).filter(|_| poll.source == Source::Group) else {
                    continue;
                };
                match poll.outcome {
                    Outcome::Info => waiting.clear(),
                    Outcome::Fail => {}
                    Outcome::Ok => {
                        for run in facts.runs_of(poll) {
                            if let Some(given) = waiting.remove(&run.key) {
                                sheet.checked(Rule::BadResume, 1);
                                let commits = commits.get(&(given.0, run.key)).map(Vec::as_slice).unwrap_or_default();
                                Resume { facts, meta, poll, run, given, commits }.check(sheet);
                            }
                        }
                    }
                }
            }
        }
    }
    if !any {
        sheet.not_applied(Rule::BadResume, "no group has had a rebalance");
    }
}

struct Resume<'a> {
    facts: &'a Facts,
    meta: &'a Meta,
    poll: &'a PollOp,
    run: &'a RunOp,
    /// The group, and when it gave the key.
    given: (u32, u64),
    commits: &'a [&'a CommitOp],
}

impl Resume<'_> {
    fn check(&self, sheet: &mut Sheet) {
        let Resume { facts, meta, poll, run, given: (group, since), commits } = *self;
        let (first, start) = (self.rank(run.base), self.rank(facts.log_starts[run.key as usize]));
        let complete = commits.iter().filter(|c| c.outcome == Outcome::Ok && c.returned < since);
        let newest = complete.map(|commit| commit.invoked).max();
        let is_open = |c: &&&CommitOp| newest.is_none_or(|newest| c.returned >= newest);
        let begun = commits.partition_point(|commit| commit.invoked < poll.returned);
        // The latest first: nearly always it is that one.
        let possible: Vec<&&CommitOp> = commits[..begun].iter().rev().filter(is_open).collect();
        let trimmed = |offset: i64| facts.is_trimmed(run.key, offset, meta.promises.retention);
        let at_start = first == 0 || meta.promises.retention && first <= start;
        let by_commit = possible.iter().any(|c| self.rank(c.offset) == first || trimmed(c.offset) && at_start);
        let fresh = newest.is_none() && (at_start || meta.promises.reset == Reset::Latest);
        if by_commit || fresh {
            return;
        }
        sheet.add(Rule::BadResume, Severity::Fatal, || {
            const NAMED_MAX: usize = 5;
            let offsets: Vec<i64> = possible.iter().take(NAMED_MAX).map(|commit| commit.offset).collect();
            let says = format!(
                "group {group} {}: process {} began at {}; committed was one of {offsets:?}{}",
                meta.key(run.key),
                poll.process,
                run.base,
                if newest.is_none() { " or nothing" } else { "" }
            );
            Found::new(poll.returned, says).key(run.key).ops([(poll.process, poll.op)])
        });
    }

    fn rank(&self, offset: i64) -> usize {
        self.facts.orders[self.run.key as usize].rank(offset)
    }
}
