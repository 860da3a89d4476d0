//! `flotilla bench produce`: records per second and latency of producing.

use clap::Args;

use super::{
    load::{Load, LoadArgs, TimeArgs},
    report::{Measured, Report, Usage, print, report},
    topic::{BenchTopic, REPLICATION_FACTOR, TopicArgs},
};
use crate::{
    cli::{
        exit::Failure,
        global::Global,
        local,
        output::{self, OutputFormat},
        produce::AcksArg,
        terminal::say,
    },
    client::{Admin, OffsetAt, PartitionId, TopicPartition},
};

pub const EXAMPLES: &str = "\
Examples:
  flotilla bench produce -p 16 --size 1KiB --duration 60s --warmup 10s --in-flight 8192
  flotilla bench produce -p 1 --in-flight 1            one record at a time: latency
  flotilla bench produce -t orders --rate 10000 --format json";

#[derive(Args)]
pub struct ProduceBench {
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

pub async fn run(args: ProduceBench, global: &Global) -> Result<(), Failure> {
    let admin = global.admin()?;
    let topic = BenchTopic::open(&admin, &args.topic).await?;
    let report = measure(&args, &admin, &topic.name, global).await;
    topic.close(&admin).await;
    print(&report?, args.format)
}

async fn measure(args: &ProduceBench, admin: &Admin, topic: &str, global: &Global) -> Result<Report, Failure> {
    let size = args.topic.size;
    let (mut load, mut deliveries) = Load::open(&args.load, size, admin.cluster(), topic, global, false).await?;
    // With acks=0 the topic tells what arrived.
    let is_silent = matches!(args.load.acks, AcksArg::Zero);
    let before = if is_silent { stored(admin, topic).await? } else { 0 };
    let pids = local::running_pids();
    let bar = output::progress("warming up");
    load.run(&mut deliveries, load.began() + args.time.warmup, &bar).await?;
    bar.set_message("measuring");
    load.begin_measuring();
    let used = Usage::now(&pids);
    load.run(&mut deliveries, used.at + args.time.duration, &bar).await?;
    let after = Usage::now(&pids);
    let outcomes = load.end_measuring();
    bar.finish_and_clear();
    let sent = load.end(&mut deliveries).await;
    let lost = if is_silent { (before + sent).saturating_sub(stored(admin, topic).await?) } else { 0 };
    if lost > 0 {
        say(&format!("flotilla: {lost} of {sent} records sent with acks=0 are not in the topic"));
    }
    Ok(report(&Measured {
        records: outcomes.acked,
        bytes: outcomes.acked as f64 * size as f64,
        latency: outcomes.latency,
        errors: outcomes.errors + lost,
        before: used,
        after,
        replicas: REPLICATION_FACTOR,
    }))
}

/// Returns how many records were stored in a topic, those that were trimmed among them.
async fn stored(admin: &Admin, topic: &str) -> Result<u64, Failure> {
    let mut records = 0;
    for partition in 0..admin.partition_count(topic).await? {
        let partition = TopicPartition::new(topic, PartitionId(partition as i32));
        let end = admin.offset_at(&partition, OffsetAt::Latest).await?;
        records += u64::try_from(end.0).unwrap_or(0);
    }
    Ok(records)
}
