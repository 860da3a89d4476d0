//! Order in real time: what is complete before something else begins stands before it.
//!
//! - `realtime-order`: a value stands at or below an offset that was acknowledged, or returned by an ok poll, before its
//!   send began. Also for sends of unknown outcome that are seen later. Where a value stands twice, its lowest place
//!   counts: each of its places came after its send began.
//! - `stale-fetch`: an ok fetch takes for the end of the log what is not: the high watermark in its answer is not above an
//!   offset that was acknowledged before the fetch began, or it came back empty from a position that had been
//!   acknowledged. That a fetch returns fewer records than there are is no anomaly: answers are bounded. Invalid if the
//!   run promises linearizable fetches; else told, with the lag that Jepsen's `realtime-lag` measures: how long what
//!   the answer showed had no longer been the end.

use super::{
    Rule,
    sweep::{Known, Shown, floors},
};
use crate::{
    event::Outcome,
    facts::{Facts, NOWHERE, Source},
    meta::Meta,
    report::{Found, Severity, Sheet},
};

pub fn check(facts: &Facts, meta: &Meta, sheet: &mut Sheet) {
    order(facts, meta, sheet);
    stale(facts, meta, sheet);
}

/// What acknowledgements showed, and when.
pub fn acknowledged(facts: &Facts) -> Vec<Known> {
    let sends = (0u32..).zip(&facts.sends).filter(|(_, op)| facts.is_promised(op) && op.offset != NOWHERE);
    sends.map(|(who, op)| Known { at: op.returned, key: op.key, value: op.offset, who }).collect()
}

/// Marks a [`Known`] that a poll made known; the rest is the run's number.
const BY_POLL: u32 = 1 << 31;

fn order(facts: &Facts, meta: &Meta, sheet: &mut Sheet) {
    let mut known = acknowledged(facts);
    let runs = (0u32..).zip(&facts.runs).filter(|(_, run)| facts.poll_of(run).outcome == Outcome::Ok);
    known.extend(runs.map(|(run, op)| Known {
        at: facts.poll_of(op).returned,
        key: op.key,
        value: op.end() - 1,
        who: run | BY_POLL,
    }));
    let placed = (0u32..).zip(&facts.sends).filter(|(send, _)| facts.position[*send as usize] != NOWHERE);
    let shown: Vec<Shown> = placed
        .map(|(who, op)| Shown { at: op.invoked, key: op.key, value: facts.position[who as usize], who })
        .collect();
    sheet.checked(Rule::RealtimeOrder, shown.len() as u64);
    floors(facts.keys, known, shown, |shown, known| {
        if shown.value > known.value {
            return;
        }
        sheet.add(Rule::RealtimeOrder, Severity::Fatal, || {
            let op = &facts.sends[shown.who as usize];
            let (who, by) = if known.who & BY_POLL == 0 {
                let first = &facts.sends[known.who as usize];
                (format!("value {} acknowledged at {}", first.value, known.value), None)
            } else {
                let poll = facts.poll_of(&facts.runs[(known.who & !BY_POLL) as usize]);
                (format!("offset {} read by process {}", known.value, poll.process), Some((poll.process, poll.op)))
            };
            let (key, value, offset) = (meta.key(op.key), op.value, shown.value);
            let says = format!(
                "{key} value {value} stands at {offset}; its send began at {} ns, {who} at {} ns",
                op.invoked, known.at
            );
            let found = Found::new(op.invoked, says).key(op.key).values([op.value]);
            by.map_or(found.clone(), |by| found.ops([by]))
        });
    });
}

fn stale(facts: &Facts, meta: &Meta, sheet: &mut Sheet) {
    let fatal = meta.promises.linearizable_fetch;
    let mut shown = vec![];
    for (who, poll) in (0u32..).zip(&facts.polls).filter(|(_, poll)| poll.outcome == Outcome::Ok && poll.error == 0) {
        let at = poll.invoked;
        for mark in facts.marks_of(poll).iter().filter(|mark| mark.high_watermark != NOWHERE) {
            shown.push(Shown { at, key: mark.key, value: mark.high_watermark, who });
        }
        if let Source::Fetch { key, position } = poll.source
            && poll.runs.0 == poll.runs.1
            && poll.marks.0 == poll.marks.1
        {
            shown.push(Shown { at, key, value: position, who });
        }
    }
    if shown.is_empty() {
        return sheet.not_applied(Rule::StaleFetch, "no fetch says where the log ends");
    }
    sheet.checked(Rule::StaleFetch, shown.len() as u64);
    let severity = if fatal { Severity::Fatal } else { Severity::Report };
    let mut lags = Lags::default();
    floors(facts.keys, acknowledged(facts), shown, |shown, known| {
        if shown.value > known.value {
            return;
        }
        let poll = &facts.polls[shown.who as usize];
        let lag_ms = lags.of(facts, shown) as f64 / 1e6;
        sheet.add(Rule::StaleFetch, severity, || {
            let value = facts.value(known.who);
            let says = format!(
                "{} ended at {} for process {} at node {}, though value {value} was acknowledged at {} before: lag {lag_ms:.1} ms",
                meta.key(shown.key), shown.value, poll.process, poll.node, known.value
            );
            Found::new(poll.invoked, says).key(shown.key).values([value]).ops([(poll.process, poll.op)])
        });
    });
    if lags.worst > 0 {
        sheet.note(Rule::StaleFetch, format!("worst lag {:.1} ms", lags.worst as f64 / 1e6));
    }
}

/// For keys with a stale fetch: when it was first known that the log goes on at or after each index.
#[derive(Debug, Default)]
struct Lags {
    known: std::collections::HashMap<u32, Vec<u64>>,
    worst: u64,
}

impl Lags {
    fn of(&mut self, facts: &Facts, shown: &Shown) -> u64 {
        let order = &facts.orders[shown.key as usize];
        let known = self.known.entry(shown.key).or_insert_with(|| {
            let mut first = u64::MAX;
            let returned = order.values().iter().rev().map(|send| {
                let op = facts.sends.get(*send as usize).filter(|op| facts.is_promised(op));
                first = first.min(op.map_or(u64::MAX, |op| op.returned));
                first
            });
            let mut known: Vec<u64> = returned.collect();
            known.reverse();
            known
        });
        let lag = known.get(order.rank(shown.value)).map_or(0, |since| shown.at.saturating_sub(*since));
        self.worst = self.worst.max(lag);
        lag
    }
}
