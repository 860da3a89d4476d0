//! A run that shows nothing is no success, and a harness that errs proves nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    event::Which,
    facts::{Facts, Kind},
    load,
    meta::Meta,
    nemesis::{Fault, Nemesis},
    report::{Guard, Verdict},
    rules::{errors::SURE_FAILURES, loss::FinalReads},
};

pub fn check(facts: &Facts, meta: &Meta, nemesis: &Nemesis) -> Vec<Guard> {
    let guard = |name, verdict, fails| Guard { name, fails, verdict };
    vec![
        guard("the harness made no mistake", Verdict::Invalid, harness(facts, meta)),
        guard("the harness came to its end", Verdict::Unknown, finished(facts, meta, nemesis)),
        guard("enough was done, and worked", Verdict::Unknown, enough(facts, meta)),
        guard("faults were installed, and hit leaders", Verdict::Unknown, faults(meta, nemesis)),
        guard("every key was read to its end", Verdict::Unknown, final_reads(facts, meta)),
        guard("the log start moved", Verdict::Unknown, trims(facts, meta)),
        guard("replicas' logs were dumped", Verdict::Unknown, replicas(facts, meta)),
    ]
}

fn harness(facts: &Facts, meta: &Meta) -> Vec<String> {
    let mut fails: Vec<String> = meta.harness.errors.clone();
    if let Some((first, second)) = facts.resent.first() {
        let [first, second] = [first, second].map(|send| &facts.sends[*send as usize]);
        fails.push(format!(
            "{} values were sent twice, the first {} by processes {} and {}",
            facts.resent.len(),
            first.value,
            first.process,
            second.process
        ));
    }
    for (error, count) in &facts.failed_sends {
        if !SURE_FAILURES.contains(error) && !meta.modelled_errors.contains(error) {
            fails.push(format!("{count} sends ended as failures with error {error}, which promises no such thing"));
        }
    }
    let known = |what: &str| Kind::ALL.iter().any(|kind| kind.name() == what);
    for (phase, wanted) in &meta.expects.ok {
        if load::phase(phase).is_none() {
            fails.push(format!("meta.json expects operations of a phase {phase:?}: there are warm, main and final"));
        }
        let strangers = wanted.keys().filter(|kind| !known(kind));
        fails.extend(strangers.map(|kind| format!("meta.json expects operations of a kind {kind:?}: there is none")));
    }
    fails
}

fn finished(facts: &Facts, meta: &Meta, nemesis: &Nemesis) -> Vec<String> {
    let mut fails = vec![];
    if !meta.finished {
        fails.push("meta.json does not say that the run is finished".into());
    }
    for (worker, torn) in &facts.unfinished {
        if meta.harness.crashed_workers.contains(worker) {
            continue;
        }
        let torn = if *torn > 0 { format!(" and breaks off {torn} bytes into an event") } else { String::new() };
        fails.push(format!("worker {worker} did not finish: its file has no end{torn}"));
    }
    if nemesis.torn {
        fails.push("the last line of nemesis.jsonl is cut off".into());
    }
    fails
}

fn enough(facts: &Facts, meta: &Meta) -> Vec<String> {
    let mut fails = vec![];
    for kind in [Kind::Send, Kind::Poll] {
        if !facts.ok.iter().any(|((_, found), count)| *found == kind && *count > 0) {
            fails.push(format!("no {} was ok", kind.name()));
        }
    }
    if !facts.sends.iter().any(|op| facts.is_promised(op)) {
        fails.push("nothing was acknowledged that promises to be kept".into());
    }
    for (name, wanted) in &meta.expects.ok {
        let Some(phase) = load::phase(name) else { continue };
        for (kind, wanted) in wanted {
            let of = Kind::ALL.iter().find(|known| known.name() == kind);
            let found = of.and_then(|of| facts.ok.get(&(phase, *of))).copied().unwrap_or(0);
            if found < *wanted {
                fails.push(format!("{found} of {kind} were ok in phase {name}, not {wanted}"));
            }
        }
    }
    fails
}

fn faults(meta: &Meta, nemesis: &Nemesis) -> Vec<String> {
    let mut installed: BTreeMap<&str, u64> = BTreeMap::new();
    let mut hit: BTreeMap<&str, u64> = BTreeMap::new();
    for Fault { fault, led, .. } in nemesis.installed() {
        *installed.entry(fault).or_default() += 1;
        *hit.entry(fault).or_default() += u64::from(!led.is_empty());
    }
    let mut fails = vec![];
    if installed.is_empty() != meta.expects.fault_free {
        fails.push(match meta.expects.fault_free {
            true => "faults were installed in a run that was to be free of them".into(),
            false => "no fault was installed".into(),
        });
    }
    let counts =
        [(&meta.expects.faults, &installed, "was installed"), (&meta.expects.leaders_hit, &hit, "hit a leader")];
    for (expected, found, what) in counts {
        for (fault, wanted) in expected {
            let found = found.get(fault.as_str()).copied().unwrap_or(0);
            if found < *wanted {
                fails.push(format!("{fault} {what} {found} times, not {wanted}"));
            }
        }
    }
    fails
}

fn final_reads(facts: &Facts, meta: &Meta) -> Vec<String> {
    if meta.expects.no_final_reads {
        return vec![];
    }
    let ends = FinalReads::of(facts);
    let short: Vec<u32> = (0..facts.keys as u32).filter(|key| !ends.reached_end(*key)).collect();
    let Some(first) = short.first() else { return vec![] };
    vec![format!("{} keys were not read to their end in the final phase, the first {}", short.len(), meta.key(*first))]
}

/// A run with retention that saw nothing go has shown nothing of it.
fn trims(facts: &Facts, meta: &Meta) -> Vec<String> {
    let seen = trims_seen(facts);
    let wanted = meta.expects.trims;
    if seen < wanted { vec![format!("the log start was seen to move {seen} times, not {wanted}")] } else { vec![] }
}

/// How many log starts above 0 were seen, over all keys.
pub fn trims_seen(facts: &Facts) -> u64 {
    let marks = facts.marks.iter().map(|mark| (mark.key, mark.log_start));
    let earliest = facts.listed.iter().filter(|listed| listed.which == Which::Earliest);
    let starts = marks.chain(earliest.map(|listed| (listed.key, listed.offset)));
    starts.filter(|(_, start)| *start > 0).collect::<BTreeSet<_>>().len() as u64
}

fn replicas(facts: &Facts, meta: &Meta) -> Vec<String> {
    if !meta.expects.replicas {
        return vec![];
    }
    let mut dumped = vec![0; facts.keys];
    facts.replicas.iter().for_each(|replica| dumped[replica.key as usize] += 1);
    let lacking = (0u32..).zip(&dumped).filter(|(_, count)| **count < 2);
    lacking.map(|(key, count)| format!("{}: {count} replicas' logs, nothing to compare", meta.key(key))).collect()
}
