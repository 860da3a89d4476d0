//! Every damage that changes what a history says is noticed, wherever it is.

use std::sync::OnceLock;

use crate::{
    check::check_facts,
    generate::Plan,
    load,
    mutate::{History, Mutation},
    nemesis::Nemesis,
    report::{Report, Verdict},
};

/// Damages that leave another history of a log that keeps its promises, and why.
const INVISIBLE: &[(Mutation, &str)] =
    &[(Mutation::DropAck, "without its answer a send's outcome is unknown, and both outcomes of such a one are right")];

/// The rule that must notice each of the others, wherever it strikes.
const NOTICED_BY: &[(Mutation, &[&str])] = &[
    (Mutation::DropRecord, &["int-poll-skip"]),
    (Mutation::DuplicateRecord, &["duplicate", "inconsistent-offsets"]),
    (Mutation::SwapRecords, &["inconsistent-offsets"]),
    (Mutation::ShiftRun, &["inconsistent-offsets"]),
    (Mutation::ForgeRecord, &["phantom"]),
    (Mutation::LoseValue, &["lost-write", "unseen", "lost-tail"]),
    (Mutation::DuplicateValue, &["duplicate"]),
    (Mutation::SwapValues, &["realtime-order"]),
    (Mutation::DropPoll, &["poll-skip"]),
    (Mutation::DuplicatePoll, &["nonmonotonic-poll"]),
    (Mutation::SwapPolls, &["nonmonotonic-poll"]),
    (Mutation::DropSend, &["phantom"]),
    (Mutation::DuplicateSend, &[]),
    (Mutation::FailSend, &["G1a"]),
    (Mutation::ShiftAck, &["ack-mismatch"]),
    (Mutation::SwapAcks, &["ack-mismatch"]),
    (Mutation::ShiftWatermark, &["hw-regression", "stale-fetch"]),
    (Mutation::ShiftCommit, &["commit-beyond-delivery"]),
    (Mutation::SwapCommits, &["commit-regression"]),
    (Mutation::DropCommit, &["commit-regression"]),
    (Mutation::ShiftEntry, &["replica-divergence"]),
];

/// A clean history of a hundred thousand sends.
fn clean() -> &'static History {
    static CLEAN: OnceLock<History> = OnceLock::new();
    CLEAN.get_or_init(|| {
        let plan = Plan { sends: 100_000, keys: 8, rebalance_in: 2_000, seed: 5, ..Plan::default() };
        let nemesis = Nemesis { lines: plan.nemesis(), torn: false };
        History { meta: plan.meta(), nemesis, names: plan.workers(), workers: plan.events() }
    })
}

fn check(history: &History) -> Report {
    let facts = load::facts_of(&history.meta, &history.workers).unwrap_or_else(|error| panic!("{error}"));
    check_facts(&facts, &history.meta, &history.nemesis)
}

/// How many places of the long history each mutation strikes.
const SEEDS: u64 = 3;

#[test]
fn the_clean_history_is_valid() {
    let report = check(clean());
    assert_eq!(report.verdict, Verdict::Valid, "{:?} {:?}", report.broken(), report.guards);
}

#[test]
fn each_mutation_is_noticed_or_known_to_be_invisible() {
    let known: Vec<Mutation> =
        NOTICED_BY.iter().map(|(kind, _)| *kind).chain(INVISIBLE.iter().map(|(kind, _)| *kind)).collect();
    let unknown: Vec<_> = Mutation::ALL.iter().filter(|kind| !known.contains(kind)).collect();
    assert!(unknown.is_empty() && known.len() == Mutation::ALL.len(), "{unknown:?}");
}

fn strike(clean: &History, kind: Mutation, seed: u64) -> (String, Report) {
    let mut history = clean.clone();
    let what = kind.apply(&mut history, seed).unwrap_or_else(|| panic!("{kind:?} finds nothing to damage"));
    (what, check(&history))
}

fn is_noticed(clean: &History, seeds: u64) {
    for (kind, rules) in NOTICED_BY {
        for seed in 0..seeds {
            let (what, report) = strike(clean, *kind, seed);
            assert_eq!(report.verdict, Verdict::Invalid, "seed {seed}: {what}");
            let broken = report.broken();
            for rule in *rules {
                assert!(broken.contains(rule), "seed {seed}: {what}: {rule} is not among {broken:?}");
            }
        }
    }
}

#[test]
fn mutations_of_a_hundred_thousand_sends_are_noticed() {
    is_noticed(clean(), SEEDS);
}

#[test]
fn mutations_of_many_small_histories_are_noticed() {
    for seed in 0..40 {
        let plan = Plan { sends: 1_500, keys: 3, rebalance_in: 100, poll_records: 60, seed, ..Plan::default() };
        let nemesis = Nemesis { lines: plan.nemesis(), torn: false };
        let clean = History { meta: plan.meta(), nemesis, names: plan.workers(), workers: plan.events() };
        is_noticed(&clean, 2);
    }
}

#[test]
fn what_is_invisible_stays_so() {
    for (kind, why) in INVISIBLE {
        for seed in 0..SEEDS {
            let (what, report) = strike(clean(), *kind, seed);
            assert_eq!(report.verdict, Verdict::Valid, "{what}: {:?}; it was invisible since {why}", report.broken());
        }
    }
}
