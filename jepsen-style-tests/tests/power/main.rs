//! Power cuts of a whole cluster: what was acknowledged is there afterwards, whatever became of the rest.
//!
//! Each node's disk is one of `powerfs`, so what was not synced at the cut is gone, or torn, zeroed or garbage. SIGKILL alone
//! shows nothing of that. `FLOTILLA_TEST_POWER_CUTS`: how many; 200 in scripts/nightly. `FLOTILLA_TEST_SEED` repeats the cuts, though
//! not the moments at which they meet the processes. `FLOTILLA_TEST_POWER_KIND_NAMES=true`: disks that make names durable as
//! ext4 does, with any sync.

mod machine;

use jepsen_style_tests::{
    checker::Violation,
    cluster::SLOW,
    knob::knob,
    random::Random,
    readback::summarize_topic,
    workload::{Plan, Produced, numbered},
};
use machine::{Machine, PARTITIONS, TOPIC};
use powerfs::{TAILS, Tail};

/// True where there is no FUSE; says so. A run that must not skip sets `FLOTILLA_TEST_POWER=required`.
fn is_skipped() -> bool {
    let Some(why) = powerfs::unavailable() else { return false };
    let is_required = std::env::var("FLOTILLA_TEST_POWER").is_ok_and(|value| value == "required");
    assert!(!is_required, "no power can be cut here: {why}");
    println!("  skipped, no power can be cut here: {why}");
    true
}

#[test]
fn what_was_acknowledged_survives_power_cuts_of_the_whole_cluster() {
    if is_skipped() {
        return;
    }
    let cuts: usize = knob("POWER_CUTS", TAILS.len());
    let mut random = Random::printed("power cuts");
    let machine = Machine::start("power-cuts");
    let mut rounds = vec![];
    for cut in 0..cuts {
        rounds.push(machine.round(&format!("cut-{}", cut + 1), TAILS[cut % TAILS.len()], &mut random));
        println!("    serving again after {} ms", rounds[cut].serving_after.as_millis());
    }
    let produced: Vec<&Produced> = rounds.iter().map(|round| &round.produced).collect();
    summarize_topic(&machine.cluster.cli, TOPIC, PARTITIONS, &produced, Some(cuts)).assert_valid();
    let mut times: Vec<_> = rounds.iter().map(|round| round.serving_after).collect();
    times.sort_unstable();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    println!(
        "  {cuts} power cuts: serving again after {} ms (median), {} ms (worst)",
        median.as_millis(),
        worst.as_millis()
    );
    machine.finish();
}

/// The test above would notice: on disks that say that they synced and did not, it finds acknowledged records lost.
#[test]
fn disks_that_lie_about_fsync_are_found_out() {
    if is_skipped() {
        return;
    }
    const RECORDS: usize = 2_000;
    let machine = Machine::start("power-lies");
    let (cluster, switches) = (&machine.cluster, machine.switches());
    let before =
        cluster.cli.produce(&Plan::new(TOPIC, PARTITIONS), numbered("true", 100).take(RECORDS)).finish_all(SLOW);
    switches.iter().for_each(|switch| switch.set_faults(|faults| faults.lies = true));
    let lies = cluster.cli.produce(&Plan::new(TOPIC, PARTITIONS), numbered("lies", 100).take(RECORDS)).finish_all(SLOW);
    [&before, &lies].into_iter().for_each(|produced| produced.assert_all_acked());
    machine.cut("lies", Tail::Clean, &mut Random::seeded(0));
    switches.iter().for_each(|switch| switch.set_faults(|faults| faults.lies = false));
    (1..=3).for_each(|node| cluster.restart(node));
    cluster.cli.wait_healthy();
    let summary = summarize_topic(&cluster.cli, TOPIC, PARTITIONS, &[&before, &lies], Some(1));
    let lost = |violation: &&Violation| matches!(violation, Violation::Lost { .. });
    let lost: Vec<_> = summary.violations.iter().filter(lost).collect();
    println!("  found: {} of {} acknowledged records lost", lost.len(), summary.acked);
    assert!(!lost.is_empty(), "nobody noticed that nothing was synced: {summary:?}");
    let is_true =
        |violation: &&&Violation| matches!(violation, Violation::Lost { value, .. } if value.starts_with("true"));
    assert_eq!(lost.iter().find(is_true), None, "what was synced before the disks lied is there");
    machine.finish();
}
