//! What commits cost. Not part of a normal run:
//! `cargo test --release --lib broker::tests::groups::load -- --ignored --nocapture`

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Cluster, Member, topics};
use crate::{broker::Caller, types::TopicPartition};

const GROUPS: usize = 200;
const PER_SECOND: usize = 500;
const SECONDS: u64 = 10;

/// User and system time of this process so far, in seconds.
fn cpu_seconds() -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: f64 = fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum();
    ticks / TICKS_PER_SECOND
}

/// 200 groups of one member each commit 500 times a second together, and beat, over three brokers.
#[tokio::test]
#[ignore = "a measurement: see the module's head"]
async fn two_hundred_groups_commit_five_hundred_times_a_second() {
    let cluster = Cluster::start(3, 6_100).await;
    cluster.create("t", 6).await;
    let (mut members, minute, joining) = (Vec::new(), Duration::from_secs(60), Instant::now());
    for number in 0..GROUPS {
        let broker = cluster.broker(number as u64 % 3 + 1);
        let group = format!("group-{number}");
        let mut member = Member::join_as(broker, &group, topics(&["t"]), None, minute, minute).await;
        member.beat().await.unwrap();
        assert_eq!(member.owns.len(), 6);
        members.push(member);
    }
    println!("{GROUPS} members joined one after the other in {:?}", joining.elapsed());
    let idle_cpu = cpu_seconds();
    tokio::time::sleep(Duration::from_secs(2)).await; // Idle cost, to be taken off.
    let idle_cpu = (cpu_seconds() - idle_cpu) / 2.0;

    let (began, cpu) = (Instant::now(), cpu_seconds());
    let mut tasks = Vec::new();
    for (number, mut member) in members.into_iter().enumerate() {
        tasks.push(tokio::spawn(async move {
            let every = Duration::from_secs(1) * GROUPS as u32 / PER_SECOND as u32;
            tokio::time::sleep(every * number as u32 / GROUPS as u32).await; // Spread over the period.
            let mut ticks = interval(every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            let places: Vec<TopicPartition> = member.owns.iter().cloned().collect();
            let (mut latencies, mut next) = (Vec::new(), 0);
            while began.elapsed() < Duration::from_secs(SECONDS) {
                ticks.tick().await;
                next += 1;
                let sent = Instant::now();
                let at = places[next as usize % places.len()].clone();
                let refused = member.broker.commit_offsets(&Caller::ANONYMOUS, member.commit(at, next)).await.unwrap();
                assert_eq!(refused, []);
                latencies.push(sent.elapsed());
                if Instant::now() >= member.next {
                    member.beat().await.unwrap();
                }
            }
            latencies
        }));
    }
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.unwrap());
    }
    let (took, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    latencies.sort_unstable();
    let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize];
    println!(
        "{GROUPS} groups, {:.0} commits/s for {took:.1} s: p50 {:?}, p99 {:?}, max {:?}; CPU of all three brokers and \
         the clients {:.2} cores (idle before: {idle_cpu:.2})",
        latencies.len() as f64 / took,
        at(0.5),
        at(0.99),
        at(1.0),
        cpu / took,
    );
    assert!(latencies.len() as f64 / took > PER_SECOND as f64 * 0.8, "the load was not reached");
}
