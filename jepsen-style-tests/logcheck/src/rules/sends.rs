//! What one process sends to a key stands in the order in which it was sent.
//!
//! - `nonmonotonic-send`: of two successive sends of one process to a key, the second stands before the first. Only if
//!   the first had returned before the second began, or both carry ascending sequences of one idempotent producer: a
//!   plain client with several requests in flight promises no order between them, where Jepsen's sends are one by one.
//! - `int-nonmonotonic-send`: the same within a batch that was handed over at once; told only, where the producer is
//!   neither idempotent nor without retries.
//! - `int-send-skip`: something stands between two records of a batch. Normal for Kafka, as for Jepsen: told only.
//!
//! A value that stands twice is taken where it breaks the rule least.

use std::collections::HashMap;

use super::{Rule, offsets::is_exactly_once};
use crate::{
    event::Outcome,
    facts::{ALONE, Facts, NOWHERE, PLAIN, SendOp},
    meta::Meta,
    report::{Found, Severity, Sheet},
};

pub fn check(facts: &Facts, meta: &Meta, sheet: &mut Sheet) {
    let mut last: HashMap<(bool, u32, u32), u32> = HashMap::new();
    let mut in_batch: HashMap<(u32, u32, u32), u32> = HashMap::new();
    let (mut pairs, mut batched) = (0, 0);
    for (send, op) in (0u32..).zip(&facts.sends) {
        if facts.position[send as usize] == NOWHERE || op.outcome == Outcome::Fail {
            continue;
        }
        let chain = match op.producer {
            PLAIN => (false, op.process, op.key),
            producer => (true, producer, op.key),
        };
        if let Some(before) = last.insert(chain, send)
            && is_ordered(&facts.sends[before as usize], op)
        {
            pairs += 1;
            if facts.last_offset(send) < facts.position[before as usize] {
                sheet.add(Rule::NonmonotonicSend, Severity::Fatal, || reversed(facts, meta, before, send));
            }
        }
        if op.batch != ALONE
            && let Some(before) = in_batch.insert((op.process, op.batch, op.key), send)
        {
            batched += 1;
            within_batch(facts, meta, before, send, sheet);
        }
    }
    sheet.checked(Rule::NonmonotonicSend, pairs);
    for rule in [Rule::IntNonmonotonicSend, Rule::IntSendSkip] {
        sheet.checked(rule, batched);
    }
}

fn is_ordered(first: &SendOp, second: &SendOp) -> bool {
    let one_producer = first.producer != PLAIN && first.producer == second.producer;
    first.returned < second.invoked || one_producer && first.sequence < second.sequence
}

fn within_batch(facts: &Facts, meta: &Meta, before: u32, send: u32, sheet: &mut Sheet) {
    let order = &facts.orders[facts.sends[send as usize].key as usize];
    let first = order.rank(facts.position[before as usize]);
    let second = order.rank(facts.last_offset(send));
    if second < first {
        let severity = if is_exactly_once(facts, meta, send) { Severity::Fatal } else { Severity::Report };
        sheet.add(Rule::IntNonmonotonicSend, severity, || reversed(facts, meta, before, send));
    } else if second > first + 1 {
        sheet.add(Rule::IntSendSkip, Severity::Report, || {
            let op = &facts.sends[send as usize];
            let (key, values) = (meta.key(op.key), [before, send].map(|send| facts.value(send)));
            let says = format!(
                "{key}: {} records stand between values {} and {} of one batch",
                second - first - 1,
                values[0],
                values[1]
            );
            Found::new(op.invoked, says).key(op.key).values(values)
        });
    }
}

fn reversed(facts: &Facts, meta: &Meta, before: u32, send: u32) -> Found {
    let op = &facts.sends[send as usize];
    let values = [before, send].map(|send| facts.value(send));
    let says = format!(
        "{}: process {} sent value {} before value {}; they stand at {} and {}",
        meta.key(op.key),
        op.process,
        values[0],
        values[1],
        facts.position[before as usize],
        facts.last_offset(send)
    );
    Found::new(op.invoked, says).key(op.key).values(values)
}
