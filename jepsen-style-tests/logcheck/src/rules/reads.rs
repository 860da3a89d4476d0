//! What is read was sent: here, before, and not in vain.
//!
//! - `phantom`: a polled record is damaged, of another run, of another key, of nobody, or was read before its send
//!   began. Polls of every outcome count: a record that a client got is there. A value that nobody sent is a doubt
//!   if a worker did not finish, since its invocation may be what is missing.
//! - `G1a`: an ok poll has a value whose send is known to have failed.

use super::Rule;
use crate::{
    event::Outcome,
    facts::{Facts, RunOp, STRANGER},
    meta::Meta,
    payload::{DAMAGED, OTHER_KEY, OTHER_RUN},
    report::{Found, Severity, Sheet},
};

pub fn check(facts: &Facts, meta: &Meta, sheet: &mut Sheet) {
    sheet.checked(Rule::Phantom, facts.records.len() as u64);
    strangers(facts, meta, sheet);
    let mut read = 0;
    for run in &facts.runs {
        let poll = facts.poll_of(run);
        let ok = poll.outcome == Outcome::Ok;
        read += if ok { u64::from(run.count) } else { 0 };
        for (at, &send) in (0i64..).zip(facts.records_of(run)) {
            if send == STRANGER {
                continue;
            }
            let op = &facts.sends[send as usize];
            let offset = run.base + at;
            if op.key != run.key {
                let what = format!("value {} was sent to {}", op.value, meta.key(op.key));
                let phantom = Phantom { run, offset, value: op.value, what };
                sheet.add(Rule::Phantom, Severity::Fatal, || phantom.found(facts, meta));
            } else if poll.returned < op.invoked {
                let what = format!("value {} was sent only at {} ns", op.value, op.invoked);
                let phantom = Phantom { run, offset, value: op.value, what };
                sheet.add(Rule::Phantom, Severity::Fatal, || phantom.found(facts, meta));
            }
            if ok && op.outcome == Outcome::Fail {
                sheet.add(Rule::AbortedRead, Severity::Fatal, || {
                    let says = format!("{} offset {offset}: value {} failed, yet is read", meta.key(run.key), op.value);
                    let found = Found::new(poll.returned, says).key(run.key).values([op.value]);
                    found.ops([(poll.process, poll.op)])
                });
            }
        }
    }
    sheet.checked(Rule::AbortedRead, read);
}

fn strangers(facts: &Facts, meta: &Meta, sheet: &mut Sheet) {
    for &(at, value) in &facts.strangers {
        let run = &facts.runs[facts.runs.partition_point(|run| run.first <= at) - 1];
        let offset = run.base + i64::from(at - run.first);
        let (what, severity) = match value {
            DAMAGED => ("a payload that is damaged".to_string(), Severity::Fatal),
            OTHER_RUN => ("a payload of another run".to_string(), Severity::Fatal),
            OTHER_KEY => ("a payload that was sent to another key".to_string(), Severity::Fatal),
            _ if facts.may_lack_invocations() => {
                (format!("value {value} was sent by nobody whose record we have"), Severity::Doubt)
            }
            _ => (format!("value {value} was sent by nobody"), Severity::Fatal),
        };
        let phantom = Phantom { run, offset, value, what };
        sheet.add(Rule::Phantom, severity, || phantom.found(facts, meta));
    }
}

/// A record that should not be there: where it was read, its value, and what is wrong with it.
struct Phantom<'a> {
    run: &'a RunOp,
    offset: i64,
    value: u64,
    what: String,
}

impl Phantom<'_> {
    fn found(self, facts: &Facts, meta: &Meta) -> Found {
        let Phantom { run, offset, value, what } = self;
        let poll = facts.poll_of(run);
        let says = format!("{} offset {offset}, read by process {}: {what}", meta.key(run.key), poll.process);
        Found::new(poll.returned, says).key(run.key).values([value]).ops([(poll.process, poll.op)])
    }
}
