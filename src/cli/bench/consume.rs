//! `flotilla bench consume`: reads a topic to its end, alone or as a member of a group.

use std::time::Duration;

use clap::Args;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{
    load::{Load, LoadArgs},
    report::{Measured, Report, Usage, histogram, print, report},
    topic::{BenchTopic, TopicArgs},
};
use crate::{
    cli::{
        exit::Failure,
        global::Global,
        local,
        output::{self, OutputFormat},
        terminal::say,
        units,
    },
    client::{
        Admin, ClientError, ConsumeOptions, ConsumedRecord, Consumer, GroupConsumer, GroupEvent, GroupOptions,
        OffsetAt, PartitionId, TopicPartition,
    },
};

pub const EXAMPLES: &str = "\
Examples:
  flotilla bench consume -p 16 --records 1000000       fills a topic, then reads it
  flotilla bench consume -t orders                     reads what is there, once
  flotilla bench consume -t orders --group probe --commit-interval 100ms
                                                       the same as the only member of a new group";

/// Answers that wait to be counted.
const CHUNKS_MAX: usize = 64;

#[derive(Args)]
pub struct ConsumeBench {
    #[command(flatten)]
    topic: TopicArgs,
    /// Records to fill the topic with that is made for it.
    #[arg(long, default_value = "200000", conflicts_with = "topic", value_parser = units::count::<u64>)]
    records: u64,
    #[command(flatten)]
    load: LoadArgs,
    /// Read as the only member of this group; it must be new, and is deleted.
    #[arg(short, long)]
    group: Option<String>,
    /// How often the group's member commits.
    #[arg(long, requires = "group", default_value = "1s", value_name = "TIME", value_parser = units::wait)]
    commit_interval: Duration,
    /// Stop after so long, also before the end.
    #[arg(long, default_value = "10m", value_parser = units::wait)]
    duration: Duration,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

pub async fn run(args: ConsumeBench, global: &Global) -> Result<(), Failure> {
    let admin = global.admin()?;
    let topic = BenchTopic::open(&admin, &args.topic).await?;
    let report = fill_and_measure(&args, &admin, &topic, global).await;
    topic.close(&admin).await;
    print(&report?, args.format)
}

async fn fill_and_measure(
    args: &ConsumeBench,
    admin: &Admin,
    topic: &BenchTopic,
    global: &Global,
) -> Result<Report, Failure> {
    if topic.is_ours {
        let bar = output::progress("filling the topic");
        let size = args.topic.size;
        let (load, mut deliveries) = Load::open(&args.load, size, admin.cluster(), &topic.name, global, false).await?;
        load.fill(&mut deliveries, args.records).await?;
        bar.finish_and_clear();
    }
    let (mut first, mut end) = (0, 0);
    let partitions = admin.partition_count(&topic.name).await.map_err(Failure::of_read)? as i32;
    for partition in 0..partitions {
        let partition = TopicPartition::new(&topic.name, PartitionId(partition));
        first += admin.offset_at(&partition, OffsetAt::Earliest).await.map_err(Failure::of_read)?.0;
        end += admin.offset_at(&partition, OffsetAt::Latest).await.map_err(Failure::of_read)?.0;
    }
    let wanted = u64::try_from(end - first).unwrap_or(0);
    if wanted == 0 {
        return Err(Failure::failed(format!("topic {} has no records", topic.name)));
    }
    match &args.group {
        None => measure(args, admin, &topic.name, partitions, global).await,
        Some(group) => {
            let report = measure_group(args, group, admin, &topic.name, wanted, global).await;
            if let Err(error) = admin.delete_group(group).send().await {
                say(&format!("flotilla: group {group} is still there: {error}"));
            }
            report
        }
    }
}

/// Counts what comes, and how long it was waited for.
struct Count {
    records: u64,
    bytes: f64,
    latency: hdrhistogram::Histogram<u64>,
    asked: Instant,
}

impl Count {
    fn new() -> Count {
        Count { records: 0, bytes: 0.0, latency: histogram(), asked: Instant::now() }
    }

    fn add(&mut self, records: &[ConsumedRecord]) {
        let now = Instant::now();
        self.latency.saturating_record(((now - self.asked).as_micros() as u64).max(1));
        self.asked = now;
        self.records += records.len() as u64;
        self.bytes += records.iter().map(|r| r.record.value.as_ref().map_or(0, bytes::Bytes::len) as f64).sum::<f64>();
    }

    fn measured(self, before: Usage, after: Usage) -> Measured {
        let Count { records, bytes, latency, .. } = self;
        Measured { records, bytes, latency, errors: 0, before, after, replicas: 0 }
    }
}

async fn measure(
    args: &ConsumeBench,
    admin: &Admin,
    topic: &str,
    partitions: i32,
    global: &Global,
) -> Result<Report, Failure> {
    let (to, mut from) = mpsc::channel(CHUNKS_MAX);
    let mut readers = JoinSet::new();
    let pids = local::running_pids();
    let before = Usage::now(&pids);
    let end = before.at + args.duration;
    for partition in 0..partitions {
        let options = ConsumeOptions { stop_at_end: true, patience: global.timeout, ..Default::default() };
        let (cluster, to) = (admin.cluster().clone(), to.clone());
        let partition = TopicPartition::new(topic, PartitionId(partition));
        readers.spawn(async move {
            let result = read(&cluster, partition, options, &to).await;
            if let Err(error) = result {
                let _ = to.send(Err(error)).await; // Nobody counts any more.
            }
        });
    }
    drop(to);
    let bar = output::progress("reading");
    let mut count = Count::new();
    while let Ok(Some(chunk)) = timeout_at(end, from.recv()).await {
        count.add(&chunk.map_err(Failure::of_read)?);
        bar.set_position(count.records);
    }
    bar.finish_and_clear();
    Ok(report(&count.measured(before, Usage::now(&pids))))
}

async fn read(
    cluster: &crate::client::Cluster,
    partition: TopicPartition,
    options: ConsumeOptions,
    to: &mpsc::Sender<Result<Vec<ConsumedRecord>, ClientError>>,
) -> Result<(), ClientError> {
    let mut consumer = Consumer::open(cluster, partition, options).await?;
    while let Some(chunk) = consumer.next().await? {
        if !chunk.records.is_empty() && to.send(Ok(chunk.records)).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn measure_group(
    args: &ConsumeBench,
    group: &str,
    admin: &Admin,
    topic: &str,
    wanted: u64,
    global: &Global,
) -> Result<Report, Failure> {
    let options = GroupOptions {
        topics: vec![topic.into()],
        client_id: "flotilla-bench".into(),
        auto_commit: Some(args.commit_interval),
        patience: global.timeout,
        ..GroupOptions::new(group)
    };
    let pids = local::running_pids();
    let before = Usage::now(&pids);
    let end = before.at + args.duration;
    let mut member = GroupConsumer::open(admin.cluster(), options)?;
    let bar = output::progress("reading");
    let mut count = Count::new();
    while count.records < wanted {
        let Ok(event) = timeout_at(end, member.next()).await else { break };
        match event.map_err(Failure::of_read)? {
            GroupEvent::Records(records) => count.add(&records.records),
            GroupEvent::Assigned(_) | GroupEvent::Revoked(_) | GroupEvent::Jumped(_) => {}
            GroupEvent::Replaced(_) => return Err(Failure::failed("the topic was replaced while it was read")),
            GroupEvent::Lost(_) => return Err(Failure::failed("the member was expired: its broker was away too long")),
        }
        bar.set_position(count.records);
    }
    bar.finish_and_clear();
    let after = Usage::now(&pids);
    member.close().await?;
    Ok(report(&count.measured(before, after)))
}
