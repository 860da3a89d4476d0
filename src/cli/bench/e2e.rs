//! `flotilla bench e2e`: one process produces and consumes. Every value says when it was due; its consumer
//! subtracts that from when it has the record. Both sides use one clock, so no clocks must agree.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use clap::Args;
use hdrhistogram::Histogram;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    load::{Load, LoadArgs, TimeArgs, stamp_of},
    report::{Measured, Report, Usage, histogram, print, report},
    topic::{BenchTopic, REPLICATION_FACTOR, TopicArgs},
};
use crate::{
    cli::{
        exit::Failure,
        global::Global,
        local,
        output::{self, OutputFormat},
    },
    client::{Admin, ClientError, ConsumeOptions, Consumer, PartitionId, Start, TopicPartition},
};

pub const EXAMPLES: &str = "\
Examples:
  flotilla bench e2e -p 6 --rate 1000 --duration 30s          latency at a load that is easily borne
  flotilla bench e2e -p 16 --in-flight 8192 --format json     latency at the most that goes
  flotilla bench e2e -p 1 --in-flight 1 --size 100";

/// How often the end of what is still on its way is looked for.
const POLL: Duration = Duration::from_millis(20);

#[derive(Args)]
pub struct E2eBench {
    #[command(flatten)]
    topic: TopicArgs,
    #[command(flatten)]
    time: TimeArgs,
    #[command(flatten)]
    load: LoadArgs,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

/// What has come out at the consumers' end.
struct Arrivals {
    /// How many records have arrived since the beginning.
    in_all: u64,
    /// Records that were due at this moment or later count, in microseconds since the load began.
    from: u64,
    records: u64,
    latency: Histogram<u64>,
    error: Option<ClientError>,
}

pub async fn run(args: E2eBench, global: &Global) -> Result<(), Failure> {
    let admin = global.admin()?;
    let topic = BenchTopic::open(&admin, &args.topic).await?;
    let report = measure(&args, &admin, &topic.name, global).await;
    topic.close(&admin).await;
    print(&report?, args.format)
}

async fn measure(args: &E2eBench, admin: &Admin, topic: &str, global: &Global) -> Result<Report, Failure> {
    let size = args.topic.size;
    let (mut load, mut deliveries) = Load::open(&args.load, size, admin.cluster(), topic, global, true).await?;
    let arrivals = Arrivals { in_all: 0, from: u64::MAX, records: 0, latency: histogram(), error: None };
    let arrivals = Arc::new(Mutex::new(arrivals));
    let mut readers = JoinSet::new();
    for partition in 0..admin.partition_count(topic).await.map_err(Failure::of_read)? as i32 {
        let options = ConsumeOptions { start: Start::Latest, patience: global.timeout, ..Default::default() };
        let partition = TopicPartition::new(topic, PartitionId(partition));
        let consumer = Consumer::open(admin.cluster(), partition, options).await.map_err(Failure::of_read)?;
        readers.spawn(read(consumer, load.began(), arrivals.clone()));
    }
    let pids = local::running_pids();
    let bar = output::progress("warming up");
    load.run(&mut deliveries, load.began() + args.time.warmup, &bar).await?;
    bar.set_message("measuring");
    load.begin_measuring();
    let before = Usage::now(&pids);
    arrivals.lock().expect("no holder panics").from = (before.at - load.began()).as_micros() as u64;
    load.run(&mut deliveries, before.at + args.time.duration, &bar).await?;
    let after = Usage::now(&pids);
    let outcomes = load.end_measuring();
    bar.set_message("waiting for the last ones");
    let (acked, _) = load.finish(&mut deliveries).await;
    let missing = wait_arrived(&arrivals, acked, global.timeout).await?;
    bar.finish_and_clear();
    readers.abort_all();
    let mut arrivals = arrivals.lock().expect("no holder panics");
    let records = arrivals.records;
    Ok(report(&Measured {
        records,
        bytes: records as f64 * size as f64,
        latency: std::mem::replace(&mut arrivals.latency, histogram()),
        errors: outcomes.errors + missing,
        before,
        after,
        replicas: REPLICATION_FACTOR,
    }))
}

async fn read(mut consumer: Consumer, began: Instant, arrivals: Arc<Mutex<Arrivals>>) {
    loop {
        let chunk = consumer.next().await;
        let now = began.elapsed().as_micros() as u64;
        let mut arrivals = arrivals.lock().expect("no holder panics");
        match chunk {
            Ok(Some(chunk)) => {
                let stamps = chunk.records.iter().filter_map(|r| r.record.value.as_deref().and_then(stamp_of));
                // A topic that was there before may hold records of others.
                stamps.filter(|due| *due <= now).for_each(|due| arrivals.count(due, now));
            }
            Ok(None) => return,
            Err(error) => return arrivals.error = Some(error),
        }
    }
}

impl Arrivals {
    fn count(&mut self, due: u64, now: u64) {
        self.in_all += 1;
        if due >= self.from {
            self.records += 1;
            self.latency.saturating_record((now - due).max(1));
        }
    }
}

/// Waits for so many arrivals. How many never came.
async fn wait_arrived(arrivals: &Mutex<Arrivals>, wanted: u64, limit: Duration) -> Result<u64, Failure> {
    let end = Instant::now() + limit;
    loop {
        let (arrived, error) = {
            let arrivals = arrivals.lock().expect("no holder panics");
            (arrivals.in_all, arrivals.error.clone())
        };
        if let Some(error) = error {
            return Err(Failure::of_read(error));
        }
        if arrived >= wanted || Instant::now() >= end {
            return Ok(wanted.saturating_sub(arrived));
        }
        sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_never_arrives_is_counted() {
        let mut arrivals = Arrivals { in_all: 0, from: 100, records: 0, latency: histogram(), error: None };
        arrivals.count(50, 70);
        arrivals.count(100, 1_100);
        assert_eq!((arrivals.in_all, arrivals.records, arrivals.latency.max()), (2, 1, 1_000));
        let arrivals = Mutex::new(arrivals);
        assert_eq!(wait_arrived(&arrivals, 2, Duration::from_secs(9)).await, Ok(0));
        assert_eq!(wait_arrived(&arrivals, 5, Duration::from_secs(9)).await, Ok(3));
    }
}
