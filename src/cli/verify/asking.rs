//! What is asked for, and asking for it.

use std::time::Duration;

use clap::Args;

use crate::{
    cli::{
        exit::Failure,
        output::{FormatArg, progress},
        units,
    },
    client::{Admin, ClientError, VerifiedGroup},
};

/// Every replica keeps a hash of the entries that it applied; this asks each for it, compares them at a common entry, and
/// names what differs and who agrees with whom. That reads no disk. With --deep each replica reads its log again from its
/// disk, with every checksum, and what was read is compared too.
#[derive(Args)]
pub struct VerifyArgs {
    /// Only these topics; without any, all of them and the metadata.
    pub topics: Vec<String>,
    /// Read every replica's log from disk again. A broker whose disk is damaged says so and stops.
    #[arg(long)]
    pub deep: bool,
    /// How much of each broker's disk to read in a second [default: 64MiB, the brokers' own limit].
    #[arg(long, requires = "deep", value_name = "SIZE", value_parser = units::room, allow_negative_numbers = true)]
    pub rate: Option<usize>,
    /// How long to wait for replicas that are behind or do not answer.
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = units::wait, allow_hyphen_values = true)]
    pub wait: Duration,
    /// Go on until Ctrl-C, and send a record a second through a topic of three replicas, __flotilla_canary.
    #[arg(short = 'w', long)]
    pub watch: bool,
    /// How often to compare.
    #[arg(long, requires = "watch", default_value = "60s", value_name = "TIME", value_parser = units::wait, allow_hyphen_values = true)]
    pub interval: Duration,
    /// Where to show Prometheus what was found, at /metrics.
    #[arg(long, requires = "watch", value_name = "HOST:PORT")]
    pub metrics: Option<String>,
    #[command(flatten)]
    pub format: FormatArg,
}

pub async fn verify(args: &VerifyArgs, admin: &Admin) -> Result<Vec<VerifiedGroup>, ClientError> {
    let mut verify = admin.verify().deep(args.deep).wait(args.wait);
    for topic in &args.topics {
        verify = verify.topic(topic);
    }
    if let Some(rate) = args.rate {
        verify = verify.bytes_per_second(rate as u64);
    }
    let bar = progress(if args.deep { "bytes read from disks" } else { "partitions compared" });
    let verified = verify.send(|done| bar.set_position(if args.deep { done.bytes } else { done.groups as u64 })).await;
    bar.finish_and_clear();
    verified
}

/// What cannot be asked is not known: only a topic that is not there is another matter.
pub fn not_verified(error: ClientError) -> Failure {
    match error.is_not_found() {
        true => Failure::of_read(error),
        false => Failure::verdict_unknown(error.to_string()),
    }
}
