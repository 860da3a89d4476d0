//! Verdicts: a run that shows nothing is no success, and a harness that errs makes it invalid.

use super::tale::{Tale, tale};
use crate::{
    event::{Body, From, Outcome, Phase, Sent, Which},
    meta::Meta,
    nemesis::{Done, Fault, Line},
    report::Verdict,
};

fn fine() -> Tale {
    let mut tale = tale();
    tale.phase = Phase::Main;
    tale.all_acked(1, 0, 0, &[10, 11]);
    tale.phase = Phase::Final;
    tale.read(2, &[(0, 0, &[10, 11])]);
    tale
}

#[track_caller]
fn is(tale: &Tale, verdict: Verdict) {
    let report = tale.report();
    assert_eq!(report.verdict, verdict, "{:?} {:?}", report.broken(), report.guards);
}

#[track_caller]
fn with(change: impl FnOnce(&mut Meta), verdict: Verdict) {
    let mut tale = fine();
    change(&mut tale.meta);
    is(&tale, verdict);
}

#[test]
fn a_run_that_shows_what_it_was_to_show_is_valid() {
    is(&fine(), Verdict::Valid);
}

#[test]
fn an_anomaly_is_invalid_and_outweighs_a_doubt() {
    let mut bad = fine();
    bad.meta.finished = false;
    bad.read(2, &[(0, 2, &[99])]);
    is(&bad, Verdict::Invalid);
}

#[test]
fn a_harness_that_erred_or_did_not_finish() {
    with(|meta| meta.harness.errors.push("worker 3 panicked".into()), Verdict::Invalid);
    with(|meta| meta.finished = false, Verdict::Unknown);
    // A value that is sent twice proves nothing where it is read.
    let mut bad = fine();
    bad.send(3, 1, 10);
    is(&bad, Verdict::Invalid);
    // A failure that is none: the error promises nothing.
    let failure = |error| {
        let mut tale = fine();
        let op = tale.send(3, 1, 12);
        tale.sent(3, op, Sent { outcome: Outcome::Fail, error, ..Sent::default() });
        tale
    };
    is(&failure(7), Verdict::Invalid);
    is(&failure(6), Verdict::Valid);
}

#[test]
fn too_little_was_done() {
    let expects = |phase: &str, kind: &str, count| {
        let (phase, kind) = (phase.to_string(), kind.to_string());
        move |meta: &mut Meta| drop(meta.expects.ok.insert(phase, [(kind, count)].into()))
    };
    with(expects("main", "send", 2), Verdict::Valid);
    with(expects("main", "send", 3), Verdict::Unknown);
    with(expects("final", "send", 1), Verdict::Unknown);
    with(expects("final", "poll", 1), Verdict::Valid);
    with(expects("main", "pol", 1), Verdict::Invalid);
    with(expects("finale", "poll", 1), Verdict::Invalid);
    let mut nothing = tale();
    nothing.send(1, 0, 10);
    nothing.read(2, &[]);
    is(&nothing, Verdict::Unknown);
}

#[test]
fn nothing_was_trimmed_in_a_run_that_was_to_show_it() {
    let trimmed = |starts: &[i64], trims| {
        let mut tale = fine();
        tale.meta.promises.retention = true;
        tale.meta.expects.trims = trims;
        for &offset in starts {
            let listed = Body::Listed { outcome: Outcome::Ok, error: 0, offset };
            tale.did(4, Body::ListOffsets { key: 0, which: Which::Earliest }, listed);
        }
        tale
    };
    is(&trimmed(&[0, 1], 1), Verdict::Valid);
    is(&trimmed(&[0, 1, 1], 2), Verdict::Unknown);
    is(&trimmed(&[0], 1), Verdict::Unknown);
    is(&trimmed(&[0], 0), Verdict::Valid);
}

fn kills(count: u64) -> std::collections::BTreeMap<String, u64> {
    [("kill".to_string(), count)].into()
}

#[test]
fn faults_were_not_installed_or_hit_nobody() {
    with(|meta| meta.expects.faults = kills(1), Verdict::Valid);
    with(|meta| meta.expects.faults = kills(2), Verdict::Unknown);
    with(|meta| meta.expects.faults = [("pause".into(), 1)].into(), Verdict::Unknown);
    with(|meta| meta.expects.leaders_hit = kills(1), Verdict::Valid);
    with(|meta| meta.expects.leaders_hit = kills(2), Verdict::Unknown);
    with(|meta| meta.expects.fault_free = true, Verdict::Unknown);
    let mut idle = fine();
    for outcome in [Done::Skipped, Done::Indeterminate] {
        let fault = Fault { at: 1, fault: "kill".into(), targets: vec![], outcome, led: vec!["t/0".into()] };
        idle.nemesis.lines = vec![Line::Start(fault)];
        is(&idle, Verdict::Unknown);
    }
    idle.nemesis.lines.clear();
    is(&idle, Verdict::Unknown);
    idle.meta.expects.fault_free = true;
    is(&idle, Verdict::Valid);
}

#[test]
fn a_key_was_not_read_to_its_end() {
    let ends = |watermark| {
        let mut tale = fine();
        tale.fetch(3, 0, 2, vec![super::tale::marked((0, 2, &[]), watermark, 0)]);
        tale
    };
    is(&ends(2), Verdict::Valid);
    is(&ends(3), Verdict::Unknown);
    let mut excused = ends(3);
    excused.meta.expects.no_final_reads = true;
    is(&excused, Verdict::Valid);
    // Read before the end of the main phase is not read in the end.
    let mut early = tale();
    early.phase = Phase::Main;
    early.all_acked(1, 0, 0, &[10]);
    let op = early.poll(2, From::Assigned);
    early.polled(2, op, vec![super::tale::run(&(0, 0, &[10]))]);
    is(&early, Verdict::Unknown);
}

#[test]
fn replicas_were_to_be_dumped() {
    with(|meta| meta.expects.replicas = true, Verdict::Unknown);
}
