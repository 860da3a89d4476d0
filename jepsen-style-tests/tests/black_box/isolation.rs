//! A broker that is cut off from its peers, packet by packet, while clients reach everybody.

use std::time::{Duration, Instant};

use jepsen_style_tests::{
    cluster::{QUICK, SLOW},
    command::wait_for,
    knob::knob,
    network::{Isles, Shape},
    workload::{Plan, Producer, numbered},
};

const BROKERS: u64 = 3;
const PARTITIONS: u32 = 6;
const TOPIC: &str = "isles";
const GAP_MAX: Duration = Duration::from_secs(3);
/// How long a cut lasts: twice the promise, for an election, the client's search, and what an isolated broker may do
/// then. `FLOTILLA_TEST_CUT_SECONDS`: 8 in scripts/nightly.
const CUT_SECONDS: u64 = 6;

/// Each broker in turn, in all three shapes, with the client's list in every rotation.
#[test]
fn no_partition_goes_without_an_acknowledgement_for_three_seconds_whoever_is_cut_off() {
    let isles = match Isles::start("isolation", BROKERS) {
        Ok(isles) => isles,
        Err(why) => return println!("  skipped: {why}"),
    };
    isles.cli.create_topic(TOPIC, PARTITIONS);
    let cut = Duration::from_secs(knob("CUT_SECONDS", CUT_SECONDS));
    let mut longest = vec![];
    for shape in [Shape::Both, Shape::Outgoing, Shape::Incoming] {
        for cut_off in 1..=BROKERS {
            isles.cli.wait_healthy();
            let started: Vec<Producer> = (1..=BROKERS)
                .map(|first| {
                    let mut command = isles.cli.command(&["produce"]);
                    command.args(["--brokers", &isles.brokers_from(first)]);
                    // Keys enough for every partition to have something under way always.
                    let plan = Plan::new(TOPIC, PARTITIONS).rate(600).timeout(SLOW);
                    Producer::start(command, &plan, numbered(&format!("{shape:?}-{cut_off}-{first}"), 600))
                })
                .collect();
            started.iter().for_each(|producer| producer.wait_acked(600, QUICK));
            let began = Instant::now();
            isles.cut(shape, cut_off);
            wait_for("the cut to last", cut * 2, || {
                if began.elapsed() >= cut { Ok(()) } else { Err(format!("{:?}", began.elapsed())) }
            });
            let gaps: Vec<Duration> = started
                .iter()
                .map(|producer| {
                    let gap = |partition| producer.longest_silence(partition, began);
                    (0..PARTITIONS).map(gap).max().expect("there are partitions")
                })
                .collect();
            println!("  {shape:?}, broker {cut_off} cut off, lists beginning with 1, 2, 3: {gaps:?}");
            isles.mend();
            for producer in started {
                producer.finish(SLOW).assert_all_acked();
            }
            longest.push((gaps.into_iter().max().expect("there are clients"), shape, cut_off));
        }
    }
    let (gap, shape, cut_off) = longest.into_iter().max_by_key(|(gap, ..)| *gap).expect("there were cuts");
    println!("  longest gap of all: {gap:?}");
    assert!(gap <= GAP_MAX, "{shape:?}, broker {cut_off} cut off: {gap:?}");
    isles.finish();
}
