//! `flotilla topic ...`

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    exit::Failure,
    global::Global,
    output::{FormatArg, OutputFormat, ids, print_json, print_line, print_table, said},
    terminal::say,
    units,
};
use crate::client::{Offset, PartitionDescription, PartitionId, TopicDescription, TopicPartition, TopicSummary};

pub const EXAMPLES: &str = "\
Examples:
  flotilla topic create orders -p 6 -r 3 -c retention.ms=86400000 --wait
  flotilla topic list
  flotilla topic describe orders --format json
  flotilla topic alter orders -c retention.bytes=1073741824 --unset retention.ms
  flotilla topic add-partitions orders -p 12
  flotilla topic trim orders -p 0 --before 1000 --dry-run
  flotilla topic delete orders";

#[derive(Subcommand)]
pub enum TopicCommand {
    /// Create a topic.
    Create(CreateArgs),
    /// List all topics.
    List(FormatArg),
    /// Show a topic's partitions: leaders, replicas, offsets, sizes.
    Describe {
        name: String,
        #[command(flatten)]
        format: FormatArg,
    },
    /// Change a topic's configs.
    Alter(AlterArgs),
    /// Give a topic more partitions.
    AddPartitions {
        name: String,
        /// The new total.
        #[arg(short, long, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(1..))]
        partitions: i32,
        /// Only check.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        format: FormatArg,
    },
    /// Delete the records of a partition below an offset, for good.
    Trim(TrimArgs),
    /// Delete a topic and all its records, for good.
    Delete {
        name: String,
        /// Only show what would be deleted.
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Args)]
pub struct CreateArgs {
    name: String,
    /// Number of partitions [default: 1].
    #[arg(short, long, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Copies of each partition [default: 3, or all brokers if fewer].
    #[arg(short, long, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(1..))]
    replication_factor: Option<i32>,
    /// A config, by Kafka's name (README.md has the table); may be given again.
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = units::key_value)]
    config: Vec<(String, String)>,
    /// Wait until every partition has a leader that answers.
    #[arg(long)]
    wait: bool,
    /// Only check.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: FormatArg,
}

#[derive(Args)]
pub struct AlterArgs {
    name: String,
    /// A config to set; may be given again.
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = units::key_value)]
    config: Vec<(String, String)>,
    /// A config to put back to its default; may be given again.
    #[arg(long, value_name = "KEY")]
    unset: Vec<String>,
    /// Only check.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: FormatArg,
}

#[derive(Args)]
pub struct TrimArgs {
    name: String,
    #[arg(short, long, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(0..))]
    partition: i32,
    /// The new first offset, or 'end': everything there is now.
    #[arg(long, value_parser = parse_before, allow_negative_numbers = true)]
    before: i64,
    /// Only show what would be deleted.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: FormatArg,
}

/// Reads the offset before which records go; -1 stands for everything there is.
pub(super) fn parse_before(text: &str) -> Result<i64, String> {
    match text {
        "end" => Ok(-1),
        _ => match text.parse::<i64>() {
            Ok(offset) if offset >= 0 => Ok(offset),
            Ok(_) | Err(_) => Err(format!("{text:?} is not an offset: write a number or 'end'")),
        },
    }
}

pub async fn run(command: TopicCommand, global: &Global) -> Result<(), Failure> {
    match command {
        TopicCommand::Create(args) => create(args, global).await,
        TopicCommand::List(format) => list(format, global).await,
        TopicCommand::Describe { name, format } => {
            let admin = global.admin()?;
            let topic = admin.describe_topic(&name).await.map_err(Failure::of_read)?;
            show(&topic, format)?;
            if format.format == OutputFormat::Text {
                say_configs(&topic);
            }
            Ok(())
        }
        TopicCommand::Alter(args) => alter(args, global).await,
        TopicCommand::AddPartitions { name, partitions, dry_run, format } => {
            let admin = global.admin()?;
            let topic = admin.add_partitions(&name, partitions).dry_run(dry_run).send().await?;
            said(dry_run, &format!("topic {name} has {partitions} partitions"));
            show_places(&topic, format)
        }
        TopicCommand::Trim(args) => trim(args, global).await,
        TopicCommand::Delete { name, dry_run } => {
            let admin = global.admin()?;
            let partitions = admin.delete_topic(&name).dry_run(dry_run).send().await?.partitions;
            said(dry_run, &format!("topic {name} with {partitions} partitions deleted"));
            Ok(())
        }
    }
}

async fn create(args: CreateArgs, global: &Global) -> Result<(), Failure> {
    let admin = global.admin()?;
    let mut request = admin.create_topic(&args.name).dry_run(args.dry_run).wait(args.wait);
    if let Some(partitions) = args.partitions {
        request = request.partitions(partitions);
    }
    if let Some(replicas) = args.replication_factor {
        request = request.replicas(replicas);
    }
    for (name, value) in args.config {
        request = request.config(name, value);
    }
    let topic = request.send().await?;
    let replicas = topic.partitions.first().map_or(0, |partition| partition.replicas.len());
    let counts = format!("{}, {} each", counted(topic.partitions.len(), "partition"), counted(replicas, "replica"));
    said(args.dry_run, &format!("topic {} created: {counts}", args.name));
    match args.wait && !args.dry_run {
        true => show(&topic, args.format),
        // Elections are under way: who leads, and from where to where, is known a moment later.
        false => show_places(&topic, args.format),
    }
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

async fn alter(args: AlterArgs, global: &Global) -> Result<(), Failure> {
    if args.config.is_empty() && args.unset.is_empty() {
        return Err(Failure::usage("nothing to change: give -c KEY=VALUE or --unset KEY"));
    }
    let admin = global.admin()?;
    let mut request = admin.alter_topic(&args.name).dry_run(args.dry_run);
    for (name, value) in args.config {
        request = request.set(name, value);
    }
    for name in args.unset {
        request = request.unset(name);
    }
    let configs = request.send().await?.configs;
    said(args.dry_run, &format!("topic {} altered", args.name));
    match args.format.format {
        OutputFormat::Json => {
            let configs: serde_json::Map<_, _> = configs.into_iter().map(|(k, v)| (k, Value::String(v))).collect();
            print_json(&json!({"name": args.name, "configs": configs}))
        }
        OutputFormat::Text => print_table(&["CONFIG", "VALUE"], configs.into_iter().map(|(k, v)| vec![k, v]).collect()),
    }
}

async fn trim(args: TrimArgs, global: &Global) -> Result<(), Failure> {
    let (topic, partition, dry_run) = (args.name, args.partition, args.dry_run);
    let admin = global.admin()?;
    let mut request = admin.trim_partition(TopicPartition::new(&topic, PartitionId(partition))).dry_run(dry_run);
    if args.before >= 0 {
        request = request.before(Offset(args.before));
    }
    let log_start = request.send().await?;
    match args.format.format {
        OutputFormat::Json => print_json(&json!({"topic": topic, "partition": partition, "log_start": log_start})),
        OutputFormat::Text => {
            said(dry_run, &format!("{topic}-{partition} trimmed"));
            print_line(&format!("{topic}-{partition} begins at offset {log_start}"))
        }
    }
}

async fn list(format: FormatArg, global: &Global) -> Result<(), Failure> {
    let mut topics = global.admin()?.list_topics().await.map_err(Failure::of_read)?;
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    match format.format {
        OutputFormat::Json => {
            let topics: Vec<Value> = topics
                .iter()
                .map(|t| json!({"name": t.name, "partitions": t.partitions, "replication_factor": t.replicas}))
                .collect();
            print_json(&json!({ "topics": topics }))
        }
        OutputFormat::Text => {
            let row = |t: TopicSummary| vec![t.name, t.partitions.to_string(), t.replicas.to_string()];
            print_table(&["TOPIC", "PARTITIONS", "REPLICAS"], topics.into_iter().map(row).collect())
        }
    }
}

/// Prints all about a topic's partitions, and its notes.
fn show(topic: &TopicDescription, format: FormatArg) -> Result<(), Failure> {
    match format.format {
        OutputFormat::Json => print_json(&describe_json(topic)),
        OutputFormat::Text => {
            print_table(
                &["PARTITION", "LEADER", "EPOCH", "REPLICAS", "LOG START", "HIGH WATERMARK", "SIZE"],
                topic.partitions.iter().map(row).collect(),
            )?;
            say_notes(topic);
            Ok(())
        }
    }
}

/// Prints only where the partitions stand: what a plan knows, or a topic whose leaders are not elected yet.
fn show_places(topic: &TopicDescription, format: FormatArg) -> Result<(), Failure> {
    match format.format {
        OutputFormat::Json => print_json(&describe_json(topic)),
        OutputFormat::Text => {
            let row = |p: &PartitionDescription| vec![p.partition.to_string(), ids(&p.replicas)];
            print_table(&["PARTITION", "REPLICAS"], topic.partitions.iter().map(row).collect())?;
            say_notes(topic);
            Ok(())
        }
    }
}

fn say_notes(topic: &TopicDescription) {
    for note in &topic.notes {
        say(&format!("note: {note}"));
    }
}

/// Prints configs one a line: they are many.
fn say_configs(topic: &TopicDescription) {
    let mut configs: Vec<String> = topic.configs.iter().map(|(k, v)| format!("  {k}={v}")).collect();
    configs.sort();
    if !configs.is_empty() {
        say(&format!("configs:\n{}", configs.join("\n")));
    }
}

fn row(p: &PartitionDescription) -> Vec<String> {
    let known = |offset: Option<Offset>| offset.map_or("?".to_string(), |offset| offset.to_string());
    vec![
        p.partition.to_string(),
        p.leader.map_or("none".into(), |leader| leader.to_string()),
        p.epoch.to_string(),
        ids(&p.replicas),
        known(p.log_start),
        known(p.high_watermark),
        units::human_bytes(p.bytes),
    ]
}

/// The description's JSON, an interface. Leader 0: none is known; offset -1: the leader could not be asked.
fn describe_json(topic: &TopicDescription) -> Value {
    let partitions: Vec<Value> = topic
        .partitions
        .iter()
        .map(|p| {
            json!({
                "partition": p.partition, "leader": p.leader.unwrap_or_default(), "epoch": p.epoch,
                "replicas": p.replicas, "log_start": p.log_start.unwrap_or(Offset(-1)),
                "high_watermark": p.high_watermark.unwrap_or(Offset(-1)), "bytes": p.bytes,
            })
        })
        .collect();
    let configs: BTreeMap<&String, &String> = topic.configs.iter().collect();
    json!({"name": topic.name, "partitions": partitions, "configs": configs, "notes": topic.notes})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{BrokerId, LeaderEpoch, RaftGroupId};

    #[test]
    fn a_descriptions_json_is_frozen() {
        let p = PartitionDescription {
            partition: PartitionId(0),
            leader: Some(BrokerId(2)),
            epoch: LeaderEpoch(3),
            replicas: [2, 1, 3].map(BrokerId).to_vec(),
            log_start: Some(Offset(5)),
            high_watermark: Some(Offset(9)),
            bytes: 1234,
            raft_group: RaftGroupId(77),
        };
        let configs = [("retention.ms".to_string(), "1000".to_string())].into();
        let notes = vec!["a note".to_string()];
        let topic = TopicDescription { name: "t".into(), partitions: vec![p], configs, notes, ..Default::default() };
        let want = json!({"name":"t","partitions":[{"partition":0,"leader":2,"epoch":3,"replicas":[2,1,3],
            "log_start":5,"high_watermark":9,"bytes":1234}],"configs":{"retention.ms":"1000"},"notes":["a note"]});
        assert_eq!(describe_json(&topic), want);
        let unled = PartitionDescription::default();
        let topic = TopicDescription { partitions: vec![unled], ..TopicDescription::default() };
        let want =
            json!({"partition":0,"leader":0,"epoch":0,"replicas":[],"log_start":-1,"high_watermark":-1,"bytes":0});
        assert_eq!(describe_json(&topic)["partitions"][0], want);
    }

    #[test]
    fn trim_offsets() {
        assert_eq!(parse_before("end"), Ok(-1));
        assert_eq!(parse_before("7"), Ok(7));
        assert!(parse_before("-1").is_err());
    }
}
