//! A consumer goes forward, and leaves nothing out.
//!
//! - `poll-skip`, `nonmonotonic-poll`: between two successive ok polls of one process that return records of a key, the
//!   index of the first new record is more, or less, than one above that of the last old one. What stands between
//!   counts in indexes, since offsets may have holes. An assignment or subscription keeps the position of keys that it
//!   names and drops others; so do a seek, a revocation, a crash, an answer "out of range", and a poll of unknown outcome,
//!   after which nobody knows where the consumer stands. A fetch that names its position is held against that instead.
//!   Invalid for what a process has assigned itself, told for subscriptions, where the group may have moved it (Jepsen).
//! - `int-poll-skip`, `int-nonmonotonic-poll`: the same within one poll, unless the key was rebalanced during it.
//!
//! Below the log start of a run with `retention` nothing is missed by a consumer that goes forward by itself. A fetch that
//! names its position is to be told that it is out of range: if it leaves out what is gone and says nothing, that is a skip.

use std::collections::HashMap;

use super::Rule;
use crate::{
    event::{Outcome, Seek},
    facts::{Change, Changed, Facts, PollOp, RunOp, Source, Step},
    meta::Meta,
    report::{Found, Severity, Sheet},
};

/// Kafka's OFFSET_OUT_OF_RANGE.
pub const OUT_OF_RANGE: i16 = 1;

pub fn check(facts: &Facts, meta: &Meta, sheet: &mut Sheet) {
    let mut consumers: HashMap<u32, Consumer> = HashMap::new();
    let mut counts = Counts::default();
    for step in &facts.steps {
        match *step {
            Step::Change(change) => {
                let change = &facts.changes[change as usize];
                consumers.entry(change.process).or_default().change(change);
            }
            Step::Poll(poll) => {
                let poll = &facts.polls[poll as usize];
                let consumer = consumers.entry(poll.process).or_default();
                match poll.outcome {
                    Outcome::Ok => Walk { facts, meta, poll, consumer }.check(sheet, &mut counts),
                    Outcome::Info => consumer.positions.clear(),
                    Outcome::Fail if poll.error == OUT_OF_RANGE => consumer.positions.clear(),
                    Outcome::Fail => {}
                }
            }
        }
    }
    for rule in [Rule::PollSkip, Rule::NonmonotonicPoll] {
        sheet.checked(rule, counts.between);
    }
    for rule in [Rule::IntPollSkip, Rule::IntNonmonotonicPoll] {
        sheet.checked(rule, counts.polls);
    }
}

/// Pairs of polls, and polls with records.
#[derive(Default)]
struct Counts {
    between: u64,
    polls: u64,
}

/// What is known of a process's consumer.
#[derive(Default)]
struct Consumer {
    /// By key, the index after the last record that it got.
    positions: HashMap<u32, usize>,
    subscribed: bool,
    /// Rebalances since its last poll.
    rebalanced: Vec<(u64, Vec<u32>)>,
}

impl Consumer {
    fn change(&mut self, change: &Change) {
        match &change.what {
            Changed::Assign { keys, seek } => {
                self.subscribed = false;
                match seek {
                    Seek::Keep => self.positions.retain(|key, _| keys.contains(key)),
                    Seek::Beginning | Seek::Elsewhere => self.positions.clear(),
                }
            }
            Changed::Subscribe { keys, .. } => {
                self.subscribed = true;
                self.positions.retain(|key, _| keys.contains(key));
            }
            Changed::Rebalance { revoked, assigned, .. } => {
                for key in revoked.iter().chain(assigned) {
                    self.positions.remove(key);
                }
                self.rebalanced.push((change.at, [&revoked[..], &assigned[..]].concat()));
            }
            Changed::Leave { .. } | Changed::Crash => self.positions.clear(),
        }
    }
}

/// One ok poll, against where its consumer stood.
struct Walk<'a> {
    facts: &'a Facts,
    meta: &'a Meta,
    poll: &'a PollOp,
    consumer: &'a mut Consumer,
}

impl Walk<'_> {
    fn check(self, sheet: &mut Sheet, counts: &mut Counts) {
        let Walk { facts, meta, poll, consumer } = self;
        let rebalanced: Vec<u32> =
            consumer.rebalanced.drain(..).filter(|(at, _)| *at >= poll.invoked).flat_map(|(_, keys)| keys).collect();
        let runs = facts.runs_of(poll);
        counts.polls += u64::from(!runs.is_empty());
        // The index after the last record of each key in this poll.
        let mut within: HashMap<u32, usize> = HashMap::new();
        for run in runs {
            let order = &facts.orders[run.key as usize];
            let first = order.rank(run.base);
            if let Some(&expected) = within.get(&run.key) {
                if !rebalanced.contains(&run.key) {
                    let rules = (Rule::IntPollSkip, Rule::IntNonmonotonicPoll);
                    let jump = Jump { facts, meta, poll, run, expected, first, severity: Severity::Fatal };
                    jump.tell(rules, "within one poll", sheet);
                }
            } else if let Some((expected, severity, how)) = expectation(facts, meta, poll, consumer, run) {
                counts.between += 1;
                let rules = (Rule::PollSkip, Rule::NonmonotonicPoll);
                Jump { facts, meta, poll, run, expected, first, severity }.tell(rules, how, sheet);
            }
            within.insert(run.key, first + run.count as usize);
        }
        if !matches!(poll.source, Source::Fetch { .. }) {
            consumer.positions.extend(within);
        }
    }
}

/// The index that the first record of a poll should have, if something is known of it.
fn expectation(
    facts: &Facts,
    meta: &Meta,
    poll: &PollOp,
    consumer: &Consumer,
    run: &RunOp,
) -> Option<(usize, Severity, &'static str)> {
    let order = &facts.orders[run.key as usize];
    let (expected, severity, how) = match poll.source {
        Source::Fetch { key, position } if key == run.key => {
            (order.rank(position), Severity::Fatal, "behind the position that it named")
        }
        Source::Fetch { .. } | Source::Assigned | Source::Group => {
            let weight = if consumer.subscribed { Severity::Report } else { Severity::Fatal };
            (*consumer.positions.get(&run.key)?, weight, "behind its last poll")
        }
    };
    // What may be gone at the front is not left out by who comes too late for it.
    let may_jump = meta.promises.retention && !matches!(poll.source, Source::Fetch { .. });
    let start = if may_jump { order.rank(facts.log_starts[run.key as usize]) } else { 0 };
    let first = order.rank(run.base);
    Some((if first > expected && first <= start { first } else { expected }, severity, how))
}

struct Jump<'a> {
    facts: &'a Facts,
    meta: &'a Meta,
    poll: &'a PollOp,
    run: &'a RunOp,
    expected: usize,
    first: usize,
    severity: Severity,
}

impl Jump<'_> {
    fn tell(&self, (skip, back): (Rule, Rule), how: &str, sheet: &mut Sheet) {
        let Jump { facts, meta, poll, run, expected, first, severity } = *self;
        if first == expected {
            return;
        }
        let rule = if first > expected { skip } else { back };
        sheet.add(rule, severity, || {
            let order = &facts.orders[run.key as usize];
            let at = |index: usize| order.values().get(index).map(|send| (order.offset(index), facts.value(*send)));
            let key = meta.key(run.key);
            let values = facts.records_of(run).first().map(|send| facts.value(*send));
            let who = format!("{key}: process {} {how}", poll.process);
            let says = match (first > expected, at(expected)) {
                (true, Some((offset, value))) => {
                    let count = first - expected;
                    format!("{who} begins at {} and leaves out {count} from offset {offset} (value {value})", run.base)
                }
                (_, at) => {
                    let expected = at.map_or("the end".to_string(), |(offset, _)| format!("offset {offset}"));
                    format!("{who} goes back to {} from {expected}", run.base)
                }
            };
            let left_out = if first > expected { at(expected).map(|(_, value)| value) } else { None };
            let mut found = Found::new(poll.returned, says).key(run.key).ops([(poll.process, poll.op)]);
            found.values = values.into_iter().chain(left_out).collect();
            found
        });
    }
}
