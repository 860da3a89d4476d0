//! Whatever the seed, a history of a log that keeps its promises is valid: no rule cries wolf.

use proptest::prelude::*;

use crate::{
    check::check_facts,
    generate::Plan,
    load,
    nemesis::Nemesis,
    report::{Report, Verdict},
    rules::Rule,
};

pub fn report(plan: &Plan) -> Report {
    let meta = plan.meta();
    let facts = load::facts_of(&meta, &plan.events()).unwrap_or_else(|error| panic!("{error}"));
    check_facts(&facts, &meta, &Nemesis { lines: plan.nemesis(), torn: false })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn clean_histories_are_valid(
        seed: u64,
        sends in 200u64..1_500,
        keys in 1u32..6,
        producers in 1u32..6,
        members in 0u32..5,
        unknown_in in prop_oneof![Just(0u64), 2u64..12],
        failed_in in prop_oneof![Just(0u64), 2u64..12],
        rebalance_in in 15u64..80,
        poll_records in 1u64..40,
    ) {
        let replicas = seed % 2 == 0;
        let plan = Plan {
            seed, sends, reads: 2, keys, producers, members, unknown_in, failed_in, rebalance_in, poll_records, replicas,
        };
        let report = report(&plan);
        prop_assert_eq!(report.broken(), Vec::<&str>::new(), "{:?}", report.rules.iter().flat_map(|r| &r.anomalies).next());
        prop_assert_eq!(report.verdict, Verdict::Valid, "{:?}", report.guards);
    }
}

/// Each rule has something to look at: none passes by looking away.
#[test]
fn every_rule_is_applied_to_what_is_made_up() {
    let plan = Plan { sends: 5_000, rebalance_in: 40, unknown_in: 20, ..Plan::default() };
    let report = report(&plan);
    let idle: Vec<&str> = report
        .rules
        .iter()
        .filter(|rule| rule.checked == 0 || rule.not_applied.is_some())
        .map(|r| r.rule.name())
        .collect();
    assert_eq!(idle, [] as [&str; 0]);
    assert_eq!(report.rules.len(), Rule::ALL.len());
    // Rebalances and crashes make a group read some of it twice.
    let counts = &report.rules[Rule::ConsumeCounts as usize].notes;
    assert!(counts[0].contains(" 2 times"), "{counts:?}");
}

#[test]
fn a_seed_makes_one_history() {
    let plan = Plan { sends: 300, ..Plan::default() };
    assert_eq!(plan.events(), plan.events());
    assert_ne!(plan.events(), Plan { seed: 2, ..plan }.events());
}
