//! `flotilla bench commit`: many groups of one member each, that commit at a fixed rate together.
//!
//! Every commit is of a new offset, so none is a repetition that would cost less. Latency runs from when a
//! commit was due to its answer, which means: fsynced on a majority.

use std::{sync::Arc, time::Duration};

use clap::Args;
use futures_util::{StreamExt, stream};
use hdrhistogram::Histogram;
use tokio::{
    sync::{Mutex, Semaphore},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    load::TimeArgs,
    report::{Measured, Report, Usage, histogram, print, report},
    topic::BenchTopic,
};
use crate::{
    cli::{
        exit::Failure,
        global::Global,
        local,
        output::{self, OutputFormat},
        terminal::say,
    },
    client::{Admin, ClientError, GroupConsumer, GroupEvent, GroupOptions, Offset, OffsetToCommit, World},
    types::TopicPartition,
};

/// This is longer than anybody measures.
const MEASURING_MAX: Duration = Duration::from_secs(7 * 86_400);

pub const EXAMPLES: &str = "\
Examples:
  flotilla bench commit --groups 200 --rate 500 --duration 30s
  flotilla bench commit --groups 1 --rate 100 --format json";

/// How many groups join, or are deleted, at a time.
const AT_ONCE: usize = 16;

#[derive(Args)]
pub struct CommitBench {
    /// Groups, of one member each.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    groups: u32,
    /// Commits per second, of all groups together.
    #[arg(long, default_value_t = 500.0, value_parser = positive)]
    rate: f64,
    #[command(flatten)]
    time: TimeArgs,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

fn positive(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| rate.is_finite() && *rate >= 0.001);
    rate.ok_or_else(|| format!("{text:?} is not a rate: write a number from 0.001 up"))
}

/// What the members counted together.
struct Tally {
    is_measuring: bool,
    commits: u64,
    errors: u64,
    first_error: Option<ClientError>,
    latency: Histogram<u64>,
}

struct Shared {
    tally: Mutex<Tally>,
    /// The permits of members that may join now.
    joining: Semaphore,
    /// A permit for each member that has.
    joined: Semaphore,
    stop: CancellationToken,
}

pub async fn run(args: CommitBench, global: &Global) -> Result<(), Failure> {
    let admin = global.admin()?;
    let topic = BenchTopic::make(&admin, 1).await?;
    let prefix = format!("{}-group", topic.name);
    let names: Vec<String> = (0..args.groups).map(|i| format!("{prefix}-{i}")).collect();
    let report = measure(&args, &admin, &topic.name, &names, global).await;
    let deletions = stream::iter(&names).map(|group| admin.delete_group(group).send());
    let deleted: Vec<_> = deletions.buffer_unordered(AT_ONCE).collect().await;
    let left = deleted.iter().filter_map(|deleted| deleted.as_ref().err()).find(|error| !error.is_not_found());
    if let Some(error) = left {
        say(&format!("flotilla: groups {prefix}-... are still there: {error}"));
    }
    topic.close(&admin).await;
    print(&report?, args.format)
}

async fn measure(
    args: &CommitBench,
    admin: &Admin,
    topic: &str,
    names: &[String],
    global: &Global,
) -> Result<Report, Failure> {
    let bar = output::progress("joining");
    let tally = Tally { is_measuring: false, commits: 0, errors: 0, first_error: None, latency: histogram() };
    let shared = Arc::new(Shared {
        tally: Mutex::new(tally),
        joining: Semaphore::new(AT_ONCE),
        joined: Semaphore::new(0),
        stop: CancellationToken::new(),
    });
    let mut members = JoinSet::new();
    let interval = Duration::from_secs_f64(f64::from(args.groups) / args.rate);
    for name in names {
        let options = GroupOptions {
            topics: vec![topic.into()],
            client_id: "flotilla-bench".into(),
            auto_commit: None,
            // It asks for no records: whoever measures for an hour is not stuck.
            poll_interval_max: MEASURING_MAX,
            patience: global.timeout,
            ..GroupOptions::new(name)
        };
        let consumer = GroupConsumer::open(admin.cluster(), options)?;
        let shared = shared.clone();
        members.spawn(async move { member(consumer, interval, &shared).await });
    }
    let all = tokio::select! {
        all = shared.joined.acquire_many(args.groups) => all.map(drop).map_err(|_| Failure::failed("the members are gone")),
        Some(ended) = members.join_next() => Err(match ended {
            Ok(Err(error)) => error.into(),
            Ok(Ok(())) | Err(_) => Failure::failed("a member ended early"),
        }),
    };
    all?;
    bar.set_message("warming up");
    sleep_until(Instant::now() + args.time.warmup).await;
    bar.set_message("measuring");
    let pids = local::running_pids();
    shared.tally.lock().await.is_measuring = true;
    let before = Usage::now(&pids);
    sleep_until(before.at + args.time.duration).await;
    let after = Usage::now(&pids);
    shared.tally.lock().await.is_measuring = false;
    bar.finish_and_clear();
    shared.stop.cancel();
    while members.join_next().await.is_some() {}
    let tally = shared.tally.lock().await;
    if let Some(error) = &tally.first_error {
        say(&format!("flotilla: first error: {error}"));
    }
    let latency = tally.latency.clone();
    Ok(report(&Measured {
        records: tally.commits,
        bytes: 0.0,
        latency,
        errors: tally.errors,
        before,
        after,
        replicas: 0,
    }))
}

async fn first_partition(consumer: &mut GroupConsumer) -> Result<TopicPartition, ClientError> {
    loop {
        match consumer.next().await? {
            GroupEvent::Assigned(partitions) => {
                if let Some(at) = partitions.into_iter().next() {
                    return Ok(at);
                }
            }
            GroupEvent::Records(_)
            | GroupEvent::Revoked(_)
            | GroupEvent::Lost(_)
            | GroupEvent::Replaced(_)
            | GroupEvent::Jumped(_) => {}
        }
    }
}

/// Joins, commits until it is stopped, and leaves.
async fn member(mut consumer: GroupConsumer, interval: Duration, shared: &Shared) -> Result<(), ClientError> {
    let at = {
        let _turn = shared.joining.acquire().await;
        first_partition(&mut consumer).await?
    };
    shared.joined.add_permits(1);
    // Spread over the interval, so that the rate is even.
    let phase = interval.mul_f64(World::system().rng.below(1_000) as f64 / 1_000.0);
    let mut due = Instant::now() + phase;
    for offset in 1.. {
        tokio::select! {
            () = sleep_until(due) => {}
            () = shared.stop.cancelled() => break,
        }
        let result = consumer.commit_offsets(vec![OffsetToCommit::new(at.clone(), Offset(offset))]).await;
        shared.tally.lock().await.count(due, result);
        due += interval;
    }
    consumer.close().await
}

impl Tally {
    fn count(&mut self, due: Instant, result: Result<(), ClientError>) {
        if !self.is_measuring {
            return;
        }
        match result {
            Ok(()) => {
                self.commits += 1;
                self.latency.saturating_record((due.elapsed().as_micros() as u64).max(1));
            }
            Err(error) => {
                self.errors += 1;
                self.first_error.get_or_insert(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_commit_counts_from_when_it_was_due_and_only_while_measuring() {
        let mut tally = Tally { is_measuring: false, commits: 0, errors: 0, first_error: None, latency: histogram() };
        let due = Instant::now();
        tokio::time::advance(Duration::from_millis(7)).await;
        tally.count(due, Ok(()));
        assert_eq!(tally.commits, 0);
        tally.is_measuring = true;
        tally.count(due, Ok(()));
        tally.count(due, Err(ClientError::Closed));
        assert_eq!((tally.commits, tally.errors, tally.first_error), (1, 1, Some(ClientError::Closed)));
        assert!((6_900..7_100).contains(&tally.latency.max()), "{}", tally.latency.max());
    }

    #[test]
    fn a_rate_is_above_zero() {
        assert_eq!(positive("2.5"), Ok(2.5));
        for bad in ["0", "-1", "x", "inf", "NaN"] {
            assert!(positive(bad).is_err(), "{bad}");
        }
    }
}
