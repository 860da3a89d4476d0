//! The ends of a log do not go back: not for one client, and not from one client to the next.
//!
//! Answers are ordered in real time: one that came before another's request was sent is before it.
//! - `hw-regression`: a fetch names a lower high watermark than an answer before it. Also: a fetch is told that its
//!   position is out of range, though that offset had been acknowledged before, and is not below the log start.
//! - `leo-regression`: the same of the latest offset, as ListOffsets gives it.
//! - `log-start-regression`: the same of the log start, in fetches and as the earliest offset. Whoever is told that an
//!   offset is out of range that had been acknowledged is told that the log start is above it.

use super::{
    Rule,
    polls::OUT_OF_RANGE,
    realtime::acknowledged,
    sweep::{Known, Shown, floors},
};
use crate::{
    event::{Outcome, Which},
    facts::{Facts, NOWHERE, Source},
    meta::Meta,
    report::{Found, Severity, Sheet},
};

pub fn check(facts: &Facts, meta: &Meta, sheet: &mut Sheet) {
    let watermarks = answers(facts, |mark| mark.high_watermark);
    regressions(facts, meta, Rule::HwRegression, "high watermark", watermarks, sheet);
    regressions(facts, meta, Rule::LeoRegression, "latest offset", listed(facts, Which::Latest), sheet);
    let mut starts = answers(facts, |mark| mark.log_start);
    starts.extend(listed(facts, Which::Earliest));
    if meta.promises.retention {
        starts.extend(denied(facts));
    }
    regressions(facts, meta, Rule::LogStartRegression, "log start", starts, sheet);
    out_of_range(facts, meta, sheet);
}

/// One answer about one end of one key's log.
#[derive(Clone, Copy)]
struct Answer {
    invoked: u64,
    returned: u64,
    value: i64,
    key: u32,
    op: (u32, u64),
    /// The end is said to be there or beyond.
    is_least: bool,
}

fn answers(facts: &Facts, of: impl Fn(&crate::facts::Mark) -> i64) -> Vec<Answer> {
    let polls = facts.polls.iter().filter(|poll| poll.outcome == Outcome::Ok);
    let mut found = vec![];
    for poll in polls {
        for mark in facts.marks_of(poll).iter().filter(|mark| of(mark) != NOWHERE) {
            let (invoked, returned, op) = (poll.invoked, poll.returned, (poll.process, poll.op));
            found.push(Answer { invoked, returned, value: of(mark), key: mark.key, op, is_least: false });
        }
    }
    found
}

fn listed(facts: &Facts, which: Which) -> Vec<Answer> {
    let listed = facts.listed.iter().filter(|listed| listed.which == which);
    let answer = |l: &crate::facts::Listed| Answer {
        invoked: l.invoked,
        returned: l.returned,
        value: l.offset,
        key: l.key,
        op: (l.process, l.op),
        is_least: false,
    };
    listed.map(answer).collect()
}

/// What was denied although it had been acknowledged before can only have been trimmed.
fn denied(facts: &Facts) -> Vec<Answer> {
    let refused = (0u32..).zip(&facts.polls).filter(|(_, poll)| poll.error == OUT_OF_RANGE);
    let shown = refused.filter_map(|(who, poll)| match poll.source {
        Source::Fetch { key, position } => Some(Shown { at: poll.invoked, value: position, key, who }),
        Source::Assigned | Source::Group => None,
    });
    let mut found = vec![];
    floors(facts.keys, acknowledged(facts), shown.collect(), |shown, known| {
        let poll = &facts.polls[shown.who as usize];
        let (invoked, returned, op) = (poll.invoked, poll.returned, (poll.process, poll.op));
        if shown.value <= known.value {
            let value = shown.value.saturating_add(1);
            found.push(Answer { invoked, returned, value, key: shown.key, op, is_least: true });
        }
    });
    found
}

fn regressions(facts: &Facts, meta: &Meta, rule: Rule, what: &str, answers: Vec<Answer>, sheet: &mut Sheet) {
    if answers.is_empty() {
        return sheet.not_applied(rule, &format!("no answer names a {what}"));
    }
    sheet.checked(rule, answers.len() as u64);
    let known = |(who, a): (u32, &Answer)| Known { at: a.returned, value: a.value, key: a.key, who };
    let shown = |(who, a): (u32, &Answer)| Shown { at: a.invoked, value: a.value, key: a.key, who };
    let knowns = (0..).zip(&answers).map(known).collect();
    // It goes back on nothing: whoever says that it is beyond an offset may be told so of an older one later.
    let showns = (0..).zip(&answers).filter(|(_, answer)| !answer.is_least).map(shown).collect();
    floors(facts.keys, knowns, showns, |shown, known| {
        if shown.value < known.value {
            sheet.add(rule, Severity::Fatal, || {
                let (second, first) = (answers[shown.who as usize].op, answers[known.who as usize].op);
                let says = format!(
                    "{}: the {what} was {} for process {} at {} ns, and later {} for process {}",
                    meta.key(shown.key),
                    known.value,
                    first.0,
                    known.at,
                    shown.value,
                    second.0
                );
                Found::new(shown.at, says).key(shown.key).ops([first, second])
            });
        }
    });
}

fn out_of_range(facts: &Facts, meta: &Meta, sheet: &mut Sheet) {
    let refused = (0u32..).zip(&facts.polls).filter(|(_, poll)| poll.error == OUT_OF_RANGE);
    let shown = refused.filter_map(|(who, poll)| match poll.source {
        Source::Fetch { key, position } if !facts.is_trimmed(key, position, meta.promises.retention) => {
            Some(Shown { at: poll.invoked, value: position, key, who })
        }
        Source::Fetch { .. } | Source::Assigned | Source::Group => None,
    });
    let shown: Vec<Shown> = shown.filter(|shown| shown.value >= 0).collect();
    if shown.is_empty() {
        return;
    }
    sheet.checked(Rule::HwRegression, shown.len() as u64);
    floors(facts.keys, acknowledged(facts), shown, |shown, known| {
        if shown.value <= known.value {
            sheet.add(Rule::HwRegression, Severity::Fatal, || {
                let poll = &facts.polls[shown.who as usize];
                let (key, value) = (meta.key(shown.key), facts.value(known.who));
                let says = format!(
                    "{key}: {} was out of range for process {}, though value {value} was acknowledged at {} before",
                    shown.value, poll.process, known.value
                );
                Found::new(poll.returned, says).key(shown.key).values([value]).ops([(poll.process, poll.op)])
            });
        }
    });
}
