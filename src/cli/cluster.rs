//! `flotilla cluster ...`

mod balance;
mod health;
mod upgrade;

use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};

use super::{
    exit::Failure,
    global::Global,
    output::{FormatArg, OutputFormat, or_none, print_json, print_line, print_table},
    terminal::say,
};
use crate::client::{BrokerId, BrokerInfo, ClusterDescription, PartitionId, TopicPartition};

pub const EXAMPLES: &str = "\
Examples:
  flotilla cluster health                      exit code 10 if something is wrong
  flotilla cluster health --watch              until Ctrl-C; repaints on a terminal
  flotilla cluster health --watch >> health.log   one line a change
  flotilla cluster health --details            also each partition behind a count
  flotilla cluster nodes --format json
  flotilla cluster transfer-leader orders -p 0 --to 2
  flotilla cluster transfer-leader --metadata
  flotilla cluster upgrade --dry-run           whether every broker supports what the newest version brings
  flotilla cluster balance --dry-run           which leaderships would go back to their preferred brokers";

#[derive(Subcommand)]
pub enum ClusterCommand {
    /// Is everything well? Exits with 10 if not (not while watching). Notes are worth knowing, and no problems.
    Health(health::HealthArgs),
    /// List the brokers.
    Nodes(FormatArg),
    /// Move the leadership of a partition, or of the metadata group.
    TransferLeader(TransferArgs),
    /// Give leaderships back to the preferred brokers: after a restart the others have them.
    Balance(balance::BalanceArgs),
    /// The last step of a rolling upgrade: let the cluster write what the new version brings.
    Upgrade(upgrade::UpgradeArgs),
}

#[derive(Args)]
#[command(group = ArgGroup::new("what").required(true).args(["topic", "metadata"]))]
pub struct TransferArgs {
    /// The topic.
    topic: Option<String>,
    #[arg(short, long, conflicts_with = "metadata", default_value_t = 0, allow_negative_numbers = true,
          value_parser = clap::value_parser!(i32).range(0..))]
    partition: i32,
    /// The metadata group's leadership.
    #[arg(long)]
    metadata: bool,
    /// The broker that shall lead [default: the best caught-up other one].
    #[arg(long, value_name = "BROKER", allow_negative_numbers = true, value_parser = clap::value_parser!(u64).range(1..))]
    to: Option<u64>,
    #[command(flatten)]
    format: FormatArg,
}

pub async fn run(command: ClusterCommand, global: &Global) -> Result<(), Failure> {
    match command {
        ClusterCommand::Health(args) => health::run(args, global).await,
        ClusterCommand::Nodes(format) => nodes(format, global).await,
        ClusterCommand::TransferLeader(args) => transfer(args, global).await,
        ClusterCommand::Balance(args) => balance::run(args, global).await,
        ClusterCommand::Upgrade(args) => upgrade::run(args, global).await,
    }
}

async fn nodes(format: FormatArg, global: &Global) -> Result<(), Failure> {
    let answer = global.admin()?.describe_cluster().send().await.map_err(Failure::of_read)?;
    let leader = answer.metadata_leader;
    match format.format {
        OutputFormat::Json => print_json(&nodes_json(&answer)),
        OutputFormat::Text => {
            let row = |b: &BrokerInfo| {
                let role = match (Some(b.id) == leader, b.is_metadata_voter) {
                    (true, _) => "leader",
                    (false, true) => "voter",
                    (false, false) => "learner",
                };
                let alive = if b.is_alive { "alive" } else { "dead" };
                let mut row = vec![b.id.to_string(), alive.into(), role.into()];
                row.extend([&b.client_address, &b.peer_address, &b.http_address].map(String::clone));
                row.push(or_none(&b.kafka_address));
                row.extend([b.rack.clone(), b.version.clone()]);
                row
            };
            say(&format!("cluster {}", answer.cluster_id));
            print_table(
                &["BROKER", "STATE", "METADATA", "CLIENT", "PEER", "HTTP", "KAFKA", "RACK", "VERSION"],
                answer.brokers.iter().map(row).collect(),
            )
        }
    }
}

fn nodes_json(answer: &ClusterDescription) -> Value {
    let brokers: Vec<Value> = answer
        .brokers
        .iter()
        .map(|b| {
            json!({
                "id": b.id, "alive": b.is_alive, "metadata_voter": b.is_metadata_voter, "client": b.client_address,
                "peer": b.peer_address, "http": b.http_address, "kafka": b.kafka_address, "rack": b.rack, "version": b.version,
            })
        })
        .collect();
    // 0: none is known.
    let leader = answer.metadata_leader.unwrap_or_default();
    json!({"cluster_id": answer.cluster_id, "metadata_leader": leader, "brokers": brokers})
}

async fn transfer(args: TransferArgs, global: &Global) -> Result<(), Failure> {
    let admin = global.admin()?;
    let mut request = match &args.topic {
        Some(topic) => admin.transfer_leader(TopicPartition::new(topic, PartitionId(args.partition))),
        None => admin.transfer_metadata_leader(),
    };
    if let Some(to) = args.to {
        request = request.to(BrokerId(to));
    }
    let answer = request.send().await?;
    let what = args.topic.map_or("metadata".into(), |topic| format!("{topic}-{}", args.partition));
    if let Some(to) = args.to.filter(|to| *to != answer.broker.0) {
        return Err(Failure::failed(format!("{what} is led by broker {}, not broker {to}", answer.broker)));
    }
    match args.format.format {
        OutputFormat::Json => print_json(&json!({"leader": answer.broker, "epoch": answer.epoch})),
        OutputFormat::Text => {
            print_line(&format!("{what} is led by broker {} since epoch {}", answer.broker, answer.epoch))
        }
    }
}
