//! Brokers move to other addresses, all at once or one while the others run. `FLOTILLA_TEST_MOVES` is how often,
//! 5 in scripts/nightly.

use std::time::{Duration, Instant};

use jepsen_style_tests::{
    by_hand::ByHand,
    cluster::SLOW,
    knob::knob,
    workload::{Plan, numbered},
};

use crate::check_topic;

/// Until everything serves again, on a machine that does nothing else; `FLOTILLA_TEST_MOVES_S` for a busy one.
const SERVING_S: u64 = 10;

/// Clients that know one broker only reach all partitions, whichever it is.
#[track_caller]
fn assert_reached(servers: &ByHand, round: usize) -> Vec<jepsen_style_tests::workload::Produced> {
    let clients: Vec<String> = servers.cli.brokers.split(',').map(str::to_string).collect();
    let through = clients.into_iter().map(|client| {
        let mut cli = servers.cli.clone();
        cli.brokers.clone_from(&client);
        let records = numbered(&format!("round {round} through {client}"), 10).take(60);
        let run = cli.produce(&Plan::new("orders", 3), records).finish_all(SLOW);
        run.assert_all_acked();
        run
    });
    through.collect()
}

#[track_caller]
fn moves(name: &str, moved_at: impl Fn(usize) -> Vec<u64>, everywhere: bool) {
    let rounds = knob("MOVES", 2);
    let mut servers = ByHand::new(name);
    (1..=3).for_each(|id| servers.start(id));
    let cluster_id = servers.wait_cluster_id();
    servers.cli.create_topic("orders", 3);
    let mut produced = assert_reached(&servers, 0);
    let mut slowest = Duration::ZERO;
    for round in 1..=rounds {
        let moved = moved_at(round);
        for id in &moved {
            assert_eq!(servers.stop(*id), Some(0), "SIGTERM is an orderly end");
        }
        servers.move_ports(&moved, everywhere);
        let began = Instant::now();
        moved.iter().for_each(|id| servers.start(*id));
        servers.cli.wait_healthy();
        assert_eq!(servers.wait_cluster_id(), cluster_id);
        let took = began.elapsed();
        println!("  round {round}: {moved:?} moved, healthy after {took:.1?}");
        slowest = slowest.max(took);
        produced.extend(assert_reached(&servers, round));
    }
    let produced: Vec<_> = produced.iter().collect();
    check_topic(&servers.cli, "orders", 3, &produced, Some(rounds));
    assert!(slowest <= Duration::from_secs(knob("MOVES_S", SERVING_S)), "{slowest:?}");
    servers.finish();
}

#[test]
fn o2_all_addresses_of_all_brokers_change_at_once() {
    moves("moved-all", |_| vec![1, 2, 3], true);
}

/// The files of the others still have the old address.
#[test]
fn p2_one_broker_moves_while_the_others_run() {
    moves("moved-one", |round| vec![round as u64 % 3 + 1], false);
}
