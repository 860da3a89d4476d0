//! Topics are linearizable registers.
//!
//! `metadata-linearizability`: of each topic, what was asked of it (create, delete, alter, describe) and answered, in some
//! order that respects real time and explains every answer. Topics are checked one by one, which is enough. Where the search
//! takes too long the rule has no opinion, and the verdict is unknown.
//!
//! An answer from memory may be old, but it must have been true: each is held against that order by itself, as a call that
//! may have taken effect at any time before its answer. Two of them may contradict each other's order, since two brokers
//! may be behind by different spans.

use std::collections::{BTreeMap, HashSet};

use super::{
    Rule,
    wgl::{Answer, Timed, linearizable},
};
use crate::{
    event::{AdminCall, AdminResult},
    facts::{AdminOp, Facts},
    meta::Meta,
    report::{Found, Severity, Sheet},
};

/// Operations that may be tried for one topic: some ten seconds.
const TRIES_MAX: u64 = 20_000_000;

/// A topic: none, or its partitions and its setting.
type Topic = Option<(u32, u64)>;

type Calls<'a> = Vec<Timed<&'a AdminOp>>;

pub fn check(facts: &Facts, _: &Meta, sheet: &mut Sheet) {
    if facts.admins.is_empty() {
        return sheet.not_applied(Rule::MetadataLinearizability, "nobody administered topics");
    }
    sheet.checked(Rule::MetadataLinearizability, facts.admins.len() as u64);
    let mut topics: BTreeMap<u32, Calls> = BTreeMap::new();
    for op in &facts.admins {
        // One without effect that says nothing, and one that changes nothing and was not answered, explain themselves.
        let idle =
            op.result == AdminResult::Refused || op.result == AdminResult::Info && op.call == AdminCall::Describe;
        if !idle {
            topics.entry(op.topic).or_default().push(Timed { invoked: op.invoked, returned: op.returned, op });
        }
    }
    for (topic, mut ops) in topics {
        ops.sort_by_key(|op| op.invoked);
        let remembered: Calls =
            ops.extract_if(.., |op| matches!(op.op.result, AdminResult::Remembered { .. })).collect();
        match search(&ops) {
            Answer::Linearizable => memories(topic, ops, remembered, sheet),
            Answer::Not { explained } => sheet.add(Rule::MetadataLinearizability, Severity::Fatal, || {
                let op = ops[explained.min(ops.len() - 1)].op;
                let says = format!(
                    "topic {topic}: no order explains all answers to {} calls; about {:?} at {} ns it fails",
                    ops.len(),
                    op.call,
                    op.invoked
                );
                Found::new(op.invoked, says).ops([(op.process, op.op)])
            }),
            Answer::Unknown => sheet.add(Rule::MetadataLinearizability, Severity::Doubt, || {
                Found::new(0, format!("topic {topic}: {} calls took more than {TRIES_MAX} tries", ops.len()))
            }),
        }
    }
}

fn search(ops: &[Timed<&AdminOp>]) -> Answer {
    linearizable(ops, None, |state, op| apply(state, op.call, op.result), TRIES_MAX)
}

/// What was answered from memory, one answer at a time: together they would have every order tried. If an answer was true
/// before it came, so was the same one that came later: the first of each is enough.
fn memories<'a>(topic: u32, mut ops: Calls<'a>, mut remembered: Calls<'a>, sheet: &mut Sheet) {
    let mut known = HashSet::new();
    remembered.sort_by_key(|op| op.returned);
    remembered.retain(|op| known.insert(op.op.result));
    for Timed { returned, op, .. } in remembered {
        ops.push(Timed { invoked: 0, returned, op });
        let answer = search(&ops);
        ops.pop();
        let (severity, why) = match answer {
            Answer::Linearizable => continue,
            Answer::Not { .. } => (Severity::Fatal, "which it had never been by then".to_string()),
            Answer::Unknown => (Severity::Doubt, format!("and to tell took more than {TRIES_MAX} tries")),
        };
        sheet.add(Rule::MetadataLinearizability, severity, || {
            let says = format!("topic {topic}: the answer at {returned} ns was {:?}, {why}", op.result);
            Found::new(returned, says).ops([(op.process, op.op)])
        });
    }
}

/// The topic after a call that was answered so; none, if it cannot be.
fn apply(topic: &Topic, call: AdminCall, result: AdminResult) -> Option<Topic> {
    match (result, topic) {
        (AdminResult::Done | AdminResult::Info, _) => done(topic, call, result == AdminResult::Info),
        (AdminResult::AlreadyExists, Some(_)) | (AdminResult::NotFound, None) => Some(*topic),
        (AdminResult::Described { partitions, config } | AdminResult::Remembered { partitions, config }, Some(now))
            if *now == (partitions, config) =>
        {
            Some(*topic)
        }
        (
            AdminResult::AlreadyExists
            | AdminResult::NotFound
            | AdminResult::Described { .. }
            | AdminResult::Remembered { .. },
            _,
        ) => None,
        (AdminResult::Refused, _) => Some(*topic),
    }
}

/// A call that had its effect, or (`may_fail`) has none where it cannot.
fn done(topic: &Topic, call: AdminCall, may_fail: bool) -> Option<Topic> {
    let after = match (call, *topic) {
        (AdminCall::Create { partitions, config }, None) => Some(Some((partitions, config))),
        (AdminCall::Delete, Some(_)) => Some(None),
        (AdminCall::AlterConfig { config }, Some((partitions, _))) => Some(Some((partitions, config))),
        (AdminCall::AddPartitions { partitions }, Some((now, config))) if partitions > now => {
            Some(Some((partitions, config)))
        }
        (
            AdminCall::Create { .. }
            | AdminCall::Delete
            | AdminCall::AlterConfig { .. }
            | AdminCall::AddPartitions { .. }
            | AdminCall::Describe,
            _,
        ) => None,
    };
    if after.is_none() && may_fail { Some(*topic) } else { after }
}
