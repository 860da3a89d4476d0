//! Leader epochs: one leader each, in the order of offsets, and each ends in one place.
//!
//! - The epoch of batches, and of sends that were acknowledged at the first attempt, does not fall as offsets rise, and no
//!   record has two. (The answer to a repeated send may be of a later leader than the record, so it says nothing.)
//! - Two nodes do not acknowledge sends, at the first attempt, in one epoch of a key.
//! - Where an epoch ends (OffsetForLeaderEpoch) does not fall below what had been acknowledged when it was first told, and
//!   does not change any more once an answer of a later epoch had come before it was first asked for.

use std::collections::{BTreeMap, HashMap};

use super::{
    Rule,
    realtime::acknowledged,
    sweep::{Known, Shown, floors},
};
use crate::{
    event::Outcome,
    facts::{EpochEnd, Facts, NOWHERE, SendOp},
    meta::Meta,
    report::{Found, Severity, Sheet},
};

pub fn check(facts: &Facts, meta: &Meta, sheet: &mut Sheet) {
    let told = facts.runs.iter().any(|run| run.epoch >= 0) || facts.sends.iter().any(|op| op.leader_epoch >= 0);
    if !told && facts.epoch_ends.is_empty() {
        return sheet.not_applied(Rule::EpochOrder, "no answer names a leader epoch");
    }
    rising(facts, meta, sheet);
    one_leader(facts, meta, sheet);
    ends(facts, meta, sheet);
}

/// Sends whose answer says in which epoch they were appended.
fn first_attempts(facts: &Facts) -> impl Iterator<Item = &SendOp> {
    let told = |op: &&SendOp| op.outcome == Outcome::Ok && op.leader_epoch >= 0 && op.attempts == 1;
    facts.sends.iter().filter(told)
}

fn tell(sheet: &mut Sheet, at: u64, key: u32, says: String) {
    sheet.add(Rule::EpochOrder, Severity::Fatal, || Found::new(at, says).key(key));
}

fn rising(facts: &Facts, meta: &Meta, sheet: &mut Sheet) {
    let mut epochs: Vec<Vec<i32>> = facts.orders.iter().map(|order| vec![-1; order.len()]).collect();
    let mut put = |sheet: &mut Sheet, at: u64, key: u32, index: usize, epoch: i32| {
        let Some(known) = epochs[key as usize].get_mut(index) else { return };
        if *known >= 0 && *known != epoch {
            let offset = facts.orders[key as usize].offset(index);
            tell(sheet, at, key, format!("{} offset {offset} is of epoch {known} and of epoch {epoch}", meta.key(key)));
        }
        *known = epoch;
    };
    for run in facts.runs.iter().filter(|run| run.epoch >= 0) {
        let first = facts.orders[run.key as usize].rank(run.base);
        let at = facts.poll_of(run).returned;
        (first..first + run.count as usize).for_each(|index| put(sheet, at, run.key, index, run.epoch));
    }
    for op in first_attempts(facts).filter(|op| op.offset != NOWHERE) {
        if let Some(index) = facts.orders[op.key as usize].index(op.offset) {
            put(sheet, op.returned, op.key, index, op.leader_epoch);
        }
    }
    for (key, epochs) in (0u32..).zip(&epochs) {
        let mut highest = (-1, 0);
        for (index, &epoch) in epochs.iter().enumerate().filter(|(_, epoch)| **epoch >= 0) {
            sheet.checked(Rule::EpochOrder, 1);
            if epoch < highest.0 {
                let order = &facts.orders[key as usize];
                let (low, high) = (order.offset(highest.1), order.offset(index));
                let says =
                    format!("{} offset {low} is of epoch {}, offset {high} of epoch {epoch}", meta.key(key), highest.0);
                let at = facts.sends.get(order.values()[index] as usize).map_or(0, |op| op.invoked);
                tell(sheet, at, key, says);
            } else {
                highest = (epoch, index);
            }
        }
    }
}

fn one_leader(facts: &Facts, meta: &Meta, sheet: &mut Sheet) {
    let mut leaders: HashMap<(u32, i32), u8> = HashMap::new();
    for op in first_attempts(facts).filter(|op| op.node != 0) {
        let leader = *leaders.entry((op.key, op.leader_epoch)).or_insert(op.node);
        if leader != op.node {
            let (key, epoch, node) = (meta.key(op.key), op.leader_epoch, op.node);
            let says = format!("{key}: nodes {leader} and {node} both acknowledged in epoch {epoch}");
            sheet.add(Rule::EpochOrder, Severity::Fatal, || {
                Found::new(op.returned, says).key(op.key).values([op.value])
            });
        }
    }
}

fn ends(facts: &Facts, meta: &Meta, sheet: &mut Sheet) {
    if facts.epoch_ends.is_empty() {
        return;
    }
    sheet.checked(Rule::EpochOrder, facts.epoch_ends.len() as u64);
    let mut sure: Vec<i64> = vec![NOWHERE; facts.epoch_ends.len()];
    let shown =
        (0u32..).zip(&facts.epoch_ends).map(|(who, told)| Shown { at: told.returned, value: 0, key: told.key, who });
    floors(facts.keys, acknowledged(facts), shown.collect(), |shown, known: &Known| {
        let told = &facts.epoch_ends[shown.who as usize];
        sure[shown.who as usize] = told.end.min(known.value + 1);
    });
    let later = Superseded::of(facts);
    let mut by_epoch: BTreeMap<(u32, i32), Vec<(&EpochEnd, i64)>> = BTreeMap::new();
    for (told, sure) in facts.epoch_ends.iter().zip(sure) {
        by_epoch.entry((told.key, told.epoch)).or_default().push((told, sure));
    }
    for ((key, epoch), mut told) in by_epoch {
        told.sort_by_key(|(told, _)| told.invoked);
        let mut fixed: Option<&EpochEnd> = None;
        for (at, (second, _)) in told.iter().enumerate() {
            let before = told[..at].iter().filter(|(first, _)| first.returned < second.invoked);
            let fell = before.max_by_key(|(_, sure)| *sure).filter(|(_, sure)| second.end < *sure);
            let moved = fixed.filter(|first| first.returned < second.invoked && first.end != second.end);
            if let Some(first) = fell.map(|(first, _)| *first).or(moved) {
                let (key_name, ends) = (meta.key(key), [first.end, second.end]);
                let says = format!("{key_name}: epoch {epoch} ends at {}, and later at {}", ends[0], ends[1]);
                sheet.add(Rule::EpochOrder, Severity::Fatal, || {
                    Found::new(second.returned, says)
                        .key(key)
                        .ops([(first.process, first.op), (second.process, second.op)])
                });
            }
            if fixed.is_none() && later.since(key, epoch).is_some_and(|since| since < second.invoked) {
                fixed = Some(second);
            }
        }
    }
}

/// When an answer of each epoch of each key was first seen.
struct Superseded {
    first: HashMap<u32, BTreeMap<i32, u64>>,
}

impl Superseded {
    fn of(facts: &Facts) -> Superseded {
        let mut first: HashMap<u32, BTreeMap<i32, u64>> = HashMap::new();
        let mut see = |key: u32, epoch: i32, at: u64| {
            let seen = first.entry(key).or_default().entry(epoch).or_insert(at);
            *seen = (*seen).min(at);
        };
        let told = facts.sends.iter().filter(|op| op.outcome == Outcome::Ok && op.leader_epoch >= 0);
        told.for_each(|op| see(op.key, op.leader_epoch, op.returned));
        let runs = facts.runs.iter().filter(|run| run.epoch >= 0);
        runs.for_each(|run| see(run.key, run.epoch, facts.poll_of(run).returned));
        Superseded { first }
    }

    /// When it was first known that a later epoch has begun.
    fn since(&self, key: u32, epoch: i32) -> Option<u64> {
        self.first.get(&key)?.range(epoch + 1..).map(|(_, at)| *at).min()
    }
}
