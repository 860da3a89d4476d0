//! A group commits what it was given.
//!
//! - `commit-beyond-delivery`: a member's commit of offset `c` began while a visible record below `c` had been returned to no
//!   member of the group. Polls of every outcome count as deliveries. Left out is what a commit from outside the group
//!   skipped, what is below the log start, and, where groups begin at the end, what is below their first record. Or `c` is
//!   above the end of the log, as far as records, watermarks and latest offsets ever showed it.
//! - `consume-counts`: how often records of ok polls under a subscription were delivered, for each group. Told only:
//!   at-least-once allows it.

use std::collections::{BTreeMap, HashMap};

use super::Rule;
use crate::{
    event::Outcome,
    facts::{Changed, CommitOp, Facts, Order, RunOp, STRANGER, Source, Step},
    meta::{Meta, Reset},
    report::{Found, Severity, Sheet},
};

/// A run that a group got, and when.
struct Delivery<'a> {
    at: u64,
    group: u32,
    run: &'a RunOp,
    ok: bool,
}

pub fn check(facts: &Facts, meta: &Meta, sheet: &mut Sheet) {
    let mut deliveries = deliveries(facts);
    if deliveries.is_empty() {
        for rule in [Rule::CommitBeyondDelivery, Rule::ConsumeCounts] {
            sheet.not_applied(rule, "no group was given anything");
        }
        return;
    }
    consume_counts(facts, &deliveries, sheet);
    deliveries.sort_by_key(|delivery| delivery.at);
    let mut commits: Vec<&CommitOp> = facts.commits.iter().filter(|c| c.outcome != Outcome::Fail).collect();
    commits.sort_by_key(|commit| commit.invoked);
    let ends = ends(facts);
    let mut delivered: HashMap<(u32, u32), Delivered> = HashMap::new();
    let mut deliveries = deliveries.iter().peekable();
    for commit in commits {
        while let Some(delivery) = deliveries.next_if(|delivery| delivery.at <= commit.invoked) {
            let place = (delivery.group, delivery.run.key);
            delivered.entry(place).or_insert_with(|| Delivered::new(facts, meta, place.1)).take(facts, delivery.run);
        }
        let place = (commit.group, commit.key);
        let own = delivered.entry(place).or_insert_with(|| Delivered::new(facts, meta, place.1));
        let below = facts.orders[commit.key as usize].rank(commit.offset);
        if commit.generation < 0 {
            own.whole = own.whole.max(below);
            continue;
        }
        sheet.checked(Rule::CommitBeyondDelivery, 1);
        let end = ends[commit.key as usize];
        if commit.offset > end {
            sheet.add(Rule::CommitBeyondDelivery, Severity::Fatal, || {
                let (group, key, offset) = (commit.group, meta.key(commit.key), commit.offset);
                let says = format!(
                    "group {group} {key}: process {} committed {offset}, the log ends at {end}",
                    commit.process
                );
                Found::new(commit.invoked, says).key(commit.key).ops([(commit.process, commit.op)])
            });
        }
        if let Some(missing) = own.missing_below(below) {
            sheet.add(Rule::CommitBeyondDelivery, Severity::Fatal, || {
                let order = &facts.orders[commit.key as usize];
                let value = facts.value(order.values()[missing]);
                let (group, key, offset) = (commit.group, meta.key(commit.key), order.offset(missing));
                let says = format!(
                    "group {group} {key}: process {} committed {}, and nobody had got offset {offset} (value {value})",
                    commit.process, commit.offset
                );
                let found = Found::new(commit.invoked, says).key(commit.key).values([value]);
                found.ops([(commit.process, commit.op)])
            });
        }
    }
}

/// How far each key's log was ever seen to go.
fn ends(facts: &Facts) -> Vec<i64> {
    let last = |order: &Order| order.len().checked_sub(1).map_or(0, |last| order.offset(last) + 1);
    let mut ends: Vec<i64> = facts.orders.iter().map(last).collect();
    let marks = facts.marks.iter().map(|mark| (mark.key, mark.high_watermark));
    for (key, end) in marks.chain(facts.listed.iter().map(|listed| (listed.key, listed.offset))) {
        ends[key as usize] = ends[key as usize].max(end);
    }
    ends
}

fn deliveries(facts: &Facts) -> Vec<Delivery<'_>> {
    let mut groups: HashMap<u32, u32> = HashMap::new();
    let mut found = vec![];
    for step in &facts.steps {
        match *step {
            Step::Change(change) => {
                let change = &facts.changes[change as usize];
                if let Changed::Subscribe { group, .. } = &change.what {
                    groups.insert(change.process, *group);
                }
            }
            Step::Poll(poll) => {
                let poll = &facts.polls[poll as usize];
                let Some(&group) = groups.get(&poll.process).filter(|_| poll.source == Source::Group) else { continue };
                let ok = poll.outcome == Outcome::Ok;
                found.extend(facts.runs_of(poll).iter().map(|run| Delivery { at: poll.returned, group, run, ok }));
            }
        }
    }
    found
}

/// What a group was given of a key, by index.
struct Delivered {
    /// Everything below was given, or need not be.
    whole: usize,
    given: Vec<bool>,
    begins_at_first: bool,
}

impl Delivered {
    fn new(facts: &Facts, meta: &Meta, key: u32) -> Delivered {
        let order = &facts.orders[key as usize];
        let start = if meta.promises.retention { order.rank(facts.log_starts[key as usize]) } else { 0 };
        let begins_at_first = meta.promises.reset == Reset::Latest;
        Delivered { whole: start, given: vec![false; order.len()], begins_at_first }
    }

    fn take(&mut self, facts: &Facts, run: &RunOp) {
        let first = facts.orders[run.key as usize].rank(run.base);
        if std::mem::take(&mut self.begins_at_first) {
            self.whole = self.whole.max(first);
        }
        self.given[first..first + run.count as usize].fill(true);
    }

    fn missing_below(&mut self, below: usize) -> Option<usize> {
        while self.given.get(self.whole) == Some(&true) {
            self.whole += 1;
        }
        (self.whole < below).then_some(self.whole)
    }
}

fn consume_counts(facts: &Facts, deliveries: &[Delivery], sheet: &mut Sheet) {
    let mut counts: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    for delivery in deliveries.iter().filter(|delivery| delivery.ok) {
        let counts = counts.entry(delivery.group).or_insert_with(|| vec![0; facts.sends.len()]);
        sheet.checked(Rule::ConsumeCounts, u64::from(delivery.run.count));
        for send in facts.records_of(delivery.run).iter().filter(|send| **send != STRANGER) {
            let count = &mut counts[*send as usize];
            *count = count.saturating_add(1);
        }
    }
    for (group, counts) in counts {
        let mut distribution: BTreeMap<u8, u64> = BTreeMap::new();
        counts.iter().filter(|count| **count > 0).for_each(|count| *distribution.entry(*count).or_default() += 1);
        let told: Vec<String> =
            distribution.iter().map(|(times, values)| format!("{values} values {times} times")).collect();
        sheet.note(Rule::ConsumeCounts, format!("group {group}: {}", told.join(", ")));
    }
}
