//! Topics, and one topic.

use askama::Template;

use super::{Pager, Section, Shell, is_found, rendered, window};
use crate::{
    broker::{PartitionDescription, TopicDescription, TopicSummary},
    http::backend::CALLER,
    http::{
        backend::Backend,
        limits,
        problem::Problem,
        query::{Query, encoded},
        units,
    },
};

#[derive(Template)]
#[template(path = "topics.html", config = "src/http/askama.toml")]
struct Topics {
    shell: Shell,
    find: String,
    topics: Vec<TopicSummary>,
    pager: Pager,
}

pub async fn topics<B: Backend>(backend: &B, query: &Query) -> Result<String, Problem> {
    let find = query.text("find").unwrap_or_default().to_string();
    let mut found = backend.list_topics(&CALLER).await?;
    found.retain(|topic| is_found(&topic.name, &find));
    found.sort_by(|a, b| a.name.cmp(&b.name));
    let (first, topics) = window(&found, query.first()?, limits::ROWS_MAX);
    rendered(Topics {
        shell: Shell::new(backend, Section::Topics, "Topics", 15),
        topics: topics.to_vec(),
        pager: Pager::new(&format!("/topics?find={}", encoded(&find)), first, topics.len(), found.len()),
        find,
    })
}

#[derive(Template)]
#[template(path = "topic.html", config = "src/http/askama.toml")]
struct TopicPage {
    shell: Shell,
    name: String,
    total: usize,
    records: String,
    bytes: String,
    partitions: Vec<Partition>,
    pager: Pager,
    configs: Vec<(String, String)>,
}

struct Partition {
    number: i32,
    leader: Option<u64>,
    epoch: i32,
    replicas: String,
    log_start: String,
    high_watermark: String,
    bytes: String,
}

pub async fn topic<B: Backend>(backend: &B, query: &Query) -> Result<String, Problem> {
    let name = query.required("name")?;
    let topic = backend.describe_topic(&CALLER, name).await?;
    let (first, partitions) = window(&topic.partitions, query.first()?, limits::ROWS_MAX);
    let base = format!("/topic?name={}", encoded(name));
    rendered(TopicPage {
        shell: Shell::new(backend, Section::Topics, name, 5),
        name: name.to_string(),
        total: topic.partitions.len(),
        records: known(&topic, |partition| {
            let stats = partition.stats?;
            u64::try_from(stats.high_watermark.0 - stats.log_start.0).ok()
        })
        .map_or_else(|| "?".into(), |(sum, prefix)| format!("{prefix}{}", units::count(sum as i64))),
        bytes: known(&topic, |partition| Some(partition.stats?.bytes))
            .map_or_else(|| "?".into(), |(sum, prefix)| format!("{prefix}{}", units::bytes(sum))),
        partitions: partitions.iter().map(partition).collect(),
        pager: Pager::new(&base, first, partitions.len(), topic.partitions.len()),
        configs: topic.configs.into_iter().map(|entry| (entry.key.to_string(), entry.value)).collect(),
    })
}

/// The sum over all partitions, and "≥ " if some are not known; None if none is.
fn known(
    topic: &TopicDescription,
    figure: impl Fn(&PartitionDescription) -> Option<u64>,
) -> Option<(u64, &'static str)> {
    let known: Vec<u64> = topic.partitions.iter().filter_map(figure).collect();
    let prefix = if known.len() < topic.partitions.len() { "≥ " } else { "" };
    (!known.is_empty()).then(|| (known.iter().fold(0, |sum: u64, n| sum.saturating_add(*n)), prefix))
}

fn partition(partition: &PartitionDescription) -> Partition {
    let stats = partition.stats;
    let unknown = || "?".to_string();
    let replicas: Vec<String> = partition.replicas.iter().map(ToString::to_string).collect();
    Partition {
        number: partition.partition.0,
        leader: partition.leader.map(|leader| leader.broker.0),
        epoch: partition.leader.map_or(0, |leader| leader.epoch.0),
        replicas: replicas.join(", "),
        log_start: stats.map_or_else(unknown, |stats| stats.log_start.to_string()),
        high_watermark: stats.map_or_else(unknown, |stats| stats.high_watermark.to_string()),
        bytes: stats.map_or_else(unknown, |stats| units::bytes(stats.bytes)),
    }
}
