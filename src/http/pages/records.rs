//! Records of one partition.

use askama::Template;

use super::{Section, Shell, records_href, rendered};
use crate::{
    broker::TopicsWanted,
    http::backend::CALLER,
    http::{
        backend::Backend,
        limits,
        problem::Problem,
        query::Query,
        records::{self, Shown, Wanted},
        units,
    },
    types::Offset,
};
use axum::http::StatusCode;

#[derive(Template)]
#[template(path = "records.html", config = "src/http/askama.toml")]
struct RecordsPage {
    shell: Shell,
    topic: String,
    partition: i32,
    partition_max: usize,
    /// A link to this partition, with its query begun.
    base: String,
    problem: Option<String>,
    older: Option<i64>,
    newer: Option<i64>,
    page: Option<Page>,
}

struct Page {
    text: String,
    older: Option<i64>,
    newer: Option<i64>,
    rows: Vec<Row>,
}

struct Row {
    /// The offset; of a batch that cannot be read, its first and last.
    offset: String,
    error: Option<String>,
    time: String,
    key: Shown,
    value: Shown,
    headers: Vec<(String, Shown)>,
    headers_left_out: usize,
}

/// The page and its status: what cannot be shown leaves the form in place.
pub async fn records<B: Backend>(backend: &B, query: &Query) -> Result<(StatusCode, String), Problem> {
    let topic = query.required("topic")?.to_string();
    let partition: i32 = query.number("partition")?.unwrap_or(0);
    let view = backend.cluster_view(&CALLER, TopicsWanted::Named(vec![topic.clone()])).await;
    let partitions = view.topics.first().map_or(0, |topic| topic.partitions.len());
    let read = match query.records() {
        Ok(wanted) => records::read(backend, &wanted).await.map(|page| view_of(&wanted, page)),
        Err(problem) => Err(problem),
    };
    let (status, problem, page) = match read {
        Ok(page) => (StatusCode::OK, None, Some(page)),
        Err(problem) if problem.status == StatusCode::NOT_FOUND => return Err(problem),
        Err(problem) => (problem.status, Some(problem.message), None),
    };
    let html = rendered(RecordsPage {
        shell: Shell::new(backend, Section::Topics, format!("{topic}-{partition}"), 0),
        base: records_href(&topic, partition),
        topic,
        partition,
        partition_max: partitions.saturating_sub(1),
        problem,
        older: page.as_ref().and_then(|page| page.older),
        newer: page.as_ref().and_then(|page| page.newer),
        page,
    })?;
    Ok((status, html))
}

fn view_of(wanted: &Wanted, page: records::Page) -> Page {
    let limit = i64::from(wanted.limit);
    let records::Page { log_start, high_watermark, offset, next_offset, leader, rows } = page;
    let extent = if log_start < high_watermark {
        format!("offsets {log_start} to {} are kept by broker {leader}, who leads", high_watermark.0 - 1)
    } else {
        format!("broker {leader}, who leads, keeps none; the next offset is {high_watermark}")
    };
    Page {
        text: extent,
        older: (offset > log_start).then(|| (offset.0 - limit).max(log_start.0)),
        newer: (next_offset < high_watermark).then_some(next_offset.0),
        rows: rows.iter().map(row).collect(),
    }
}

fn row(row: &records::Row) -> Row {
    match row {
        records::Row::Record(offset, record) => {
            let headers = record.headers.iter().take(limits::SHOWN_HEADERS_MAX);
            Row {
                offset: offset.to_string(),
                error: None,
                time: units::time(record.timestamp),
                key: Shown::new(record.key.as_ref()),
                value: Shown::new(record.value.as_ref()),
                headers: headers.map(|(key, value)| (name(key), Shown::new(value.as_ref()))).collect(),
                headers_left_out: record.headers.len().saturating_sub(limits::SHOWN_HEADERS_MAX),
            }
        }
        records::Row::Unreadable { first, last, bytes, why } => Row {
            offset: range(*first, *last),
            error: Some(format!("a batch of {} cannot be read: {why}", units::bytes(*bytes as u64))),
            time: String::new(),
            key: Shown::Null,
            value: Shown::Null,
            headers: Vec::new(),
            headers_left_out: 0,
        },
    }
}

fn range(first: Offset, last: Offset) -> String {
    if first == last { first.to_string() } else { format!("{first}–{last}") }
}

/// A header's key, cut like everything that a producer chose.
fn name(key: &str) -> String {
    match Shown::new(Some(&bytes::Bytes::copy_from_slice(key.as_bytes()))) {
        Shown::Text(text, 0) => text,
        Shown::Text(text, _) => format!("{text}…"),
        Shown::Null | Shown::Empty | Shown::Hex(..) => key.escape_debug().take(limits::SHOWN_HEX_MAX).collect(),
    }
}
