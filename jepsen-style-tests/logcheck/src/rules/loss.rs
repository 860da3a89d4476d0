//! What was acknowledged is there. A send with acks=0 was promised nothing and is left out.
//!
//! - `lost-write`: with `bound` the highest first offset of any value that an ok poll of the key returned, an
//!   acknowledged value whose last offset is not above `bound` and which no ok poll returned (Jepsen's rule: what is
//!   above every read may only not be read yet).
//! - `lost-tail`: an acknowledged value that stands in no replica's committed log after the run. It catches what is lost
//!   above every read, which no black box can.
//! - `unseen`: an acknowledged value that no ok poll returned by the end. If the final reads reached the end of the log it
//!   is lost; if they did not, the cluster did not serve it in time. Both are invalid, as in Jepsen.
//!
//! Only where the run says `retention` may records go at the front: below the highest log start that was seen.

use super::Rule;
use crate::{
    event::{Outcome, Phase},
    facts::{Facts, NOWHERE, STRANGER, SendOp, Source},
    meta::Meta,
    report::{Found, Severity, Sheet},
};

pub fn check(facts: &Facts, meta: &Meta, sheet: &mut Sheet) {
    lost_writes(facts, meta, sheet);
    lost_tails(facts, meta, sheet);
    unseen(facts, meta, sheet);
}

/// Acknowledged sends that the log must still have.
fn kept<'a>(facts: &'a Facts, meta: &'a Meta) -> impl Iterator<Item = (u32, &'a SendOp)> {
    let trimmed = move |send: u32, op: &SendOp| {
        let offset = facts.last_offset(send);
        offset != NOWHERE && facts.is_trimmed(op.key, offset, meta.promises.retention)
    };
    let promised = (0u32..).zip(&facts.sends).filter(move |(_, op)| facts.is_promised(op));
    promised.filter(move |(send, op)| !trimmed(*send, op))
}

fn lost(facts: &Facts, meta: &Meta, send: u32, rule: Rule, sheet: &mut Sheet, what: impl FnOnce() -> String) {
    sheet.add(rule, Severity::Fatal, || {
        let op = &facts.sends[send as usize];
        let place = if op.offset == NOWHERE { "without an offset".into() } else { format!("at {}", op.offset) };
        let says = format!("{} value {} was acknowledged {place} {}", meta.key(op.key), op.value, what());
        Found::new(op.returned, says).key(op.key).values([op.value])
    });
}

fn lost_writes(facts: &Facts, meta: &Meta, sheet: &mut Sheet) {
    let mut bound = vec![NOWHERE; facts.keys];
    for (send, op) in (0u32..).zip(&facts.sends) {
        if facts.was_read(send) {
            let bound = &mut bound[op.key as usize];
            *bound = (*bound).max(facts.position[send as usize]);
        }
    }
    let mut checked = 0;
    for (send, op) in kept(facts, meta) {
        checked += 1;
        let last = facts.last_offset(send);
        if last != NOWHERE && last <= bound[op.key as usize] && !facts.was_read(send) {
            let bound = bound[op.key as usize];
            lost(facts, meta, send, Rule::LostWrite, sheet, || format!("and never read, though {bound} was"));
        }
    }
    sheet.checked(Rule::LostWrite, checked);
}

fn lost_tails(facts: &Facts, meta: &Meta, sheet: &mut Sheet) {
    if facts.replicas.is_empty() {
        return sheet.not_applied(Rule::LostTail, "no replica's log was dumped after the run");
    }
    let mut dumped = vec![false; facts.keys];
    facts.replicas.iter().for_each(|replica| dumped[replica.key as usize] = true);
    let mut in_log = vec![false; facts.sends.len()];
    for entry in facts.committed_entries() {
        for &send in &facts.entry_records[entry.first as usize..][..entry.count as usize] {
            if send != STRANGER && facts.sends[send as usize].key == entry.key {
                in_log[send as usize] = true;
            }
        }
    }
    let mut checked = 0;
    for (send, _) in kept(facts, meta).filter(|(_, op)| dumped[op.key as usize]) {
        checked += 1;
        if !in_log[send as usize] {
            lost(facts, meta, send, Rule::LostTail, sheet, || "and is in no replica's committed log".into());
        }
    }
    sheet.checked(Rule::LostTail, checked);
}

fn unseen(facts: &Facts, meta: &Meta, sheet: &mut Sheet) {
    if meta.expects.no_final_reads {
        return sheet.not_applied(Rule::Unseen, "the run says that it has no final reads");
    }
    let ends = FinalReads::of(facts);
    let mut checked = 0;
    for (send, op) in kept(facts, meta) {
        checked += 1;
        if !facts.was_read(send) {
            let reached = ends.reached_end(op.key);
            lost(facts, meta, send, Rule::Unseen, sheet, || match reached {
                true => "and is not among what the final reads read to the end of the log".into(),
                false => "and was never read: the final reads did not get to the end of the log".into(),
            });
        }
    }
    sheet.checked(Rule::Unseen, checked);
}

/// How far the final phase read each key.
#[derive(Debug)]
pub struct FinalReads {
    /// The offset after the last record that was read.
    read: Vec<i64>,
    /// The highest high watermark that an answer named.
    watermark: Vec<i64>,
    /// The offset after the last acknowledged one.
    acked: Vec<i64>,
}

impl FinalReads {
    pub fn of(facts: &Facts) -> FinalReads {
        let mut ends = FinalReads {
            read: vec![NOWHERE; facts.keys],
            watermark: vec![NOWHERE; facts.keys],
            acked: vec![NOWHERE; facts.keys],
        };
        let raise = |ends: &mut Vec<i64>, key: u32, end: i64| {
            let known = &mut ends[key as usize];
            *known = (*known).max(end);
        };
        for poll in facts.polls.iter().filter(|poll| poll.phase == Phase::Final && poll.outcome == Outcome::Ok) {
            facts.runs_of(poll).iter().for_each(|run| raise(&mut ends.read, run.key, run.end()));
            facts.marks_of(poll).iter().for_each(|mark| raise(&mut ends.watermark, mark.key, mark.high_watermark));
            // An answer without records stands where its reader asked.
            if let Source::Fetch { key, position } = poll.source {
                raise(&mut ends.read, key, position);
            }
        }
        for op in facts.sends.iter().filter(|op| facts.is_promised(op) && op.offset != NOWHERE) {
            raise(&mut ends.acked, op.key, op.offset.saturating_add(1));
        }
        ends
    }

    /// Whether a key was read as far as its answers say that it goes; if they do not say, to the last acknowledged record.
    pub fn reached_end(&self, key: u32) -> bool {
        let key = key as usize;
        let end = if self.watermark[key] == NOWHERE { self.acked[key] } else { self.watermark[key] };
        self.read[key] >= end || end == 0
    }
}
