//! What replicas committed is the same everywhere.
//!
//! `replica-divergence`: two replicas of a key committed entries at one index that differ in term or bytes (a replica may
//! have less at either end), or made states of different hashes at one applied index.

use std::collections::HashMap;

use super::Rule;
use crate::{
    facts::{EntryOp, Facts},
    meta::Meta,
    report::{Found, Severity, Sheet},
};

pub fn check(facts: &Facts, meta: &Meta, sheet: &mut Sheet) {
    if facts.replicas.is_empty() {
        return sheet.not_applied(Rule::ReplicaDivergence, "no replica's log was dumped after the run");
    }
    let mut entries: Vec<&EntryOp> = facts.committed_entries().collect();
    entries.sort_by_key(|entry| (entry.key, entry.index, entry.node));
    for pair in entries.windows(2) {
        let [first, second] = [pair[0], pair[1]];
        if (first.key, first.index) != (second.key, second.index) {
            continue;
        }
        sheet.checked(Rule::ReplicaDivergence, 1);
        if (first.term, first.hash) != (second.term, second.hash) {
            differ(
                meta,
                first.key,
                || {
                    let of = |entry: &EntryOp| {
                        format!("term {} hash {:016x} at node {}", entry.term, entry.hash, entry.node)
                    };
                    format!("index {} is {} and {}", first.index, of(first), of(second))
                },
                sheet,
            );
        }
    }
    let mut states: HashMap<(u32, u64), (u8, u64)> = HashMap::new();
    for end in &facts.replicas {
        let Some(hash) = end.state_hash else { continue };
        let &mut (node, first) = states.entry((end.key, end.committed_index)).or_insert((end.node, hash));
        sheet.checked(Rule::ReplicaDivergence, u64::from(node != end.node));
        if first != hash {
            let index = end.committed_index;
            let says =
                || format!("the state at {index} is {first:016x} at node {node}, {hash:016x} at node {}", end.node);
            differ(meta, end.key, says, sheet);
        }
    }
}

fn differ(meta: &Meta, key: u32, says: impl FnOnce() -> String, sheet: &mut Sheet) {
    sheet.add(Rule::ReplicaDivergence, Severity::Fatal, || {
        Found::new(0, format!("{}: {}", meta.key(key), says())).key(key)
    });
}
