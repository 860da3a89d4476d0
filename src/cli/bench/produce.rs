//! `flotilla bench produce`: records per second and latency of producing.

use clap::Args;

use super::{
    super::{
        Failure, Global, local,
        output::{self, OutputFormat},
    },
    Measured, REPLICATION_FACTOR, Report, Topic, TopicArgs, Usage,
    load::{Load, LoadArgs, TimeArgs},
    print, report,
};
use crate::client::Admin;

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
    let topic = Topic::open(&admin, &args.topic, global).await?;
    let report = measure(&args, &admin, &topic.name, global).await;
    topic.close(&admin).await;
    print(&report?, args.format)
}

async fn measure(args: &ProduceBench, admin: &Admin, topic: &str, global: &Global) -> Result<Report, Failure> {
    let size = args.topic.size;
    let (mut load, mut deliveries) = Load::open(&args.load, size, admin.cluster(), topic, global, false).await?;
    let pids = local::running_pids();
    let bar = output::progress("warming up");
    load.run(&mut deliveries, load.began() + args.time.warmup, &bar).await?;
    bar.set_message("measuring");
    load.begin_measuring();
    let before = Usage::now(&pids);
    load.run(&mut deliveries, before.at + args.time.duration, &bar).await?;
    let after = Usage::now(&pids);
    let outcomes = load.end_measuring();
    bar.finish_and_clear();
    drop(load);
    while deliveries.recv().await.is_some() {}
    Ok(report(&Measured {
        records: outcomes.acked,
        bytes: outcomes.acked as f64 * size as f64,
        latency: outcomes.latency,
        errors: outcomes.errors,
        before,
        after,
        replicas: REPLICATION_FACTOR,
    }))
}
