//! `flotilla bench ...`: measures with the ordinary client, and says what the brokers spent on it.
//!
//! Promises: one JSON shape for all; a latency runs from when something was due, so that a stall is not
//! forgiven (coordinated omission); topics and groups it made are deleted.

mod commit;
mod consume;
mod e2e;
mod load;
mod produce;
mod report;
mod topic;

use clap::Subcommand;

use super::{exit::Failure, global::Global};

pub const EXAMPLES: &str = "\
Examples:
  flotilla bench produce -p 16 --size 1KiB --duration 60s --warmup 10s --in-flight 8192
  flotilla bench produce -p 1 --in-flight 1            one record at a time: latency
  flotilla bench produce -t orders --rate 10000 --format json
  flotilla bench consume -p 16 --records 1000000       how fast a topic is read
  flotilla bench consume -t orders --group probe       an existing one, as a member of a group
  flotilla bench e2e -p 6 --rate 1000 --duration 30s   from a record's due time to its consumer
  flotilla bench commit --groups 200 --rate 500        what committing costs

In JSON, device_bytes_per_byte is what all brokers of the local cluster wrote per byte of value
and replica; it and broker_cpu_s_per_million are null when the brokers are not local.";

#[derive(Subcommand)]
pub enum BenchCommand {
    /// Records per second and latency of producing.
    #[command(after_help = produce::EXAMPLES)]
    Produce(produce::ProduceBench),
    /// Records per second of reading what is there; the latency is that of waiting for an answer.
    #[command(after_help = consume::EXAMPLES)]
    Consume(consume::ConsumeBench),
    /// Producing and consuming at once: the latency runs from when a record was due to its consumer.
    #[command(after_help = e2e::EXAMPLES)]
    E2e(e2e::E2eBench),
    /// Commits per second of many groups, one member each; in the report a record is a commit.
    #[command(after_help = commit::EXAMPLES)]
    Commit(commit::CommitBench),
}

pub async fn run(command: BenchCommand, global: &Global) -> Result<(), Failure> {
    match command {
        BenchCommand::Produce(args) => produce::run(args, global).await,
        BenchCommand::Consume(args) => consume::run(args, global).await,
        BenchCommand::E2e(args) => e2e::run(args, global).await,
        BenchCommand::Commit(args) => commit::run(args, global).await,
    }
}
