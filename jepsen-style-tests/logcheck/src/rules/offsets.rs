//! One offset, one value; one value, one offset.
//!
//! - `inconsistent-offsets`: some offset of a key shows two values, to readers, in acknowledgements or in replicas' logs.
//!   Polls of every outcome count, and sends that were acknowledged, or that are unknown and were read (Jepsen's
//!   `version-orders`).
//! - `duplicate`: a value stands at two offsets. Allowed to a plain producer that sends again; not to an idempotent one.
//! - `ack-mismatch`: a value was acknowledged at one offset and seen at others only. Where duplicates are allowed, the
//!   acknowledged one may just not have been read: then it must show another value to be an anomaly.
//! - `divergent-successor`: two ok polls show different values behind the same one. Values that stand twice are left out,
//!   since each of their places has a successor of its own. Implied by others; often the best report.

use std::collections::HashSet;

use super::Rule;
use crate::{
    event::Outcome,
    facts::{Facts, NOWHERE, PLAIN, STRANGER},
    meta::Meta,
    report::{Found, Severity, Sheet},
};

pub fn check(facts: &Facts, meta: &Meta, sheet: &mut Sheet) {
    inconsistent(facts, meta, sheet);
    duplicates(facts, meta, sheet);
    mismatches(facts, meta, sheet);
    successors(facts, meta, sheet);
}

/// Whether a value of this send at two offsets breaks a promise.
pub fn is_exactly_once(facts: &Facts, meta: &Meta, send: u32) -> bool {
    let plain = facts.sends[send as usize].producer == PLAIN && !meta.promises.idempotent;
    !plain || !meta.promises.client_retries
}

fn inconsistent(facts: &Facts, meta: &Meta, sheet: &mut Sheet) {
    sheet.checked(Rule::InconsistentOffsets, facts.orders.iter().map(|order| order.len() as u64).sum());
    let conflicts: HashSet<_> = facts.conflicts.iter().collect();
    let mut conflicts: Vec<_> = conflicts.into_iter().collect();
    conflicts.sort_unstable();
    for &&(key, offset, first, other) in &conflicts {
        sheet.add(Rule::InconsistentOffsets, Severity::Fatal, || {
            let values = [first, other].map(|send| facts.value(send));
            let says = format!("{} offset {offset} shows value {} and value {}", meta.key(key), values[0], values[1]);
            Found::new(sent_at(facts, other), says).key(key).values(values)
        });
    }
}

fn sent_at(facts: &Facts, send: u32) -> u64 {
    facts.sends.get(send as usize).map_or(0, |send| send.invoked)
}

fn duplicates(facts: &Facts, meta: &Meta, sheet: &mut Sheet) {
    sheet.checked(Rule::Duplicate, facts.position.iter().filter(|offset| **offset != NOWHERE).count() as u64);
    let mut spread: Vec<_> = facts.spread.iter().collect();
    spread.sort_unstable();
    for (&send, offsets) in spread {
        let fatal = is_exactly_once(facts, meta, send);
        let severity = if fatal { Severity::Fatal } else { Severity::Report };
        sheet.add(Rule::Duplicate, severity, || {
            let op = &facts.sends[send as usize];
            let says = format!("{} value {} stands at offsets {offsets:?}", meta.key(op.key), op.value);
            Found::new(op.invoked, says).key(op.key).values([op.value])
        });
    }
}

fn mismatches(facts: &Facts, meta: &Meta, sheet: &mut Sheet) {
    let acked = facts.sends.iter().filter(|send| send.outcome == Outcome::Ok && send.offset != NOWHERE);
    sheet.checked(Rule::AckMismatch, acked.count() as u64);
    for &send in &facts.moved {
        let op = &facts.sends[send as usize];
        let shown = facts.orders[op.key as usize].value_at(op.offset);
        if !is_exactly_once(facts, meta, send) && shown.is_none_or(|shown| shown == send) {
            continue;
        }
        sheet.add(Rule::AckMismatch, Severity::Fatal, || {
            let elsewhere: Vec<i64> =
                facts.offsets_of(send).into_iter().filter(|offset| *offset != op.offset).collect();
            let key = meta.key(op.key);
            let says = format!("{key} value {} was acknowledged at {} and seen at {elsewhere:?}", op.value, op.offset);
            Found::new(op.returned, says).key(op.key).values([op.value])
        });
    }
}

const NONE: u32 = u32::MAX;

fn successors(facts: &Facts, meta: &Meta, sheet: &mut Sheet) {
    let mut successor = vec![NONE; facts.sends.len()];
    let mut pairs = 0;
    for poll in facts.polls.iter().filter(|poll| poll.outcome == Outcome::Ok) {
        // The last record of the run before, if that is of the same key.
        let mut before: Option<(u32, u32)> = None;
        for run in facts.runs_of(poll) {
            let mut last = before.filter(|(key, _)| *key == run.key).map_or(NONE, |(_, last)| last);
            for &next in facts.records_of(run) {
                if last != NONE && next != STRANGER {
                    pairs += 1;
                    let known = &mut successor[last as usize];
                    if *known == NONE {
                        *known = next;
                    } else if *known != next && !facts.spread.contains_key(&last) {
                        let values = [last, *known, next].map(|send| facts.value(send));
                        sheet.add(Rule::DivergentSuccessor, Severity::Fatal, || {
                            let [last, known, next] = values;
                            let says = format!(
                                "{}: behind value {last} one read has {known}, another {next}",
                                meta.key(run.key)
                            );
                            Found::new(poll.returned, says).key(run.key).values(values).ops([(poll.process, poll.op)])
                        });
                    }
                }
                last = next;
            }
            before = Some((run.key, last));
        }
    }
    sheet.checked(Rule::DivergentSuccessor, pairs);
}
