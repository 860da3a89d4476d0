//! The cluster at a glance, and one broker's last minutes.

use askama::Template;
use futures_util::future::join_all;

use super::{Section, Shell, rendered};
use crate::{
    broker::{BrokerView, ClusterView, HealthReport, NodeFigures, TopicsWanted},
    http::backend::CALLER,
    http::{
        backend::Backend,
        chart::{BOTTOM, Chart, HEIGHT, LEFT, Quantity, RIGHT, Series, TOP, WIDTH},
        limits,
        problem::Problem,
        query::Query,
        shapes, units,
    },
    metrics::{SAMPLES_MAX, Sample},
    types::BrokerId,
};

#[derive(Template)]
#[template(path = "overview.html", config = "src/http/askama.toml")]
struct Overview {
    shell: Shell,
    cluster_id: String,
    health: HealthReport,
    nodes: Vec<Node>,
    nodes_left_out: usize,
    /// Whose charts these are.
    of: u64,
    /// Empty if it does not answer.
    charts: Vec<Chart>,
}

struct Node {
    id: u64,
    alive: bool,
    role: &'static str,
    client: String,
    http: String,
    /// Empty: none is known.
    kafka: String,
    rack: String,
    version: String,
    disk: String,
    /// It refuses writes.
    is_short: bool,
}

pub async fn overview<B: Backend>(backend: &B, query: &Query) -> Result<String, Problem> {
    let of = query.node()?.unwrap_or(backend.id());
    let (health, view, of_figures) = tokio::join!(
        backend.health(&CALLER),
        backend.cluster_view(&CALLER, TopicsWanted::None),
        backend.figures(&CALLER, of, true)
    );
    let shown = &view.brokers[..view.brokers.len().min(limits::NODES_MAX)];
    let figures =
        join_all(shown.iter().map(|broker| async {
            if broker.alive { backend.figures(&CALLER, broker.id, false).await } else { None }
        }));
    let nodes = shown.iter().zip(figures.await).map(|(broker, figures)| node(&view, broker, figures));
    rendered(Overview {
        shell: Shell::new(backend, Section::Overview, "Cluster", 5),
        cluster_id: shapes::cluster_id(&view),
        health,
        nodes: nodes.collect(),
        nodes_left_out: view.brokers.len() - shown.len(),
        of: of.0,
        charts: of_figures.map(|figures| charts(&figures.history)).unwrap_or_default(),
    })
}

fn node(view: &ClusterView, broker: &BrokerView, figures: Option<NodeFigures>) -> Node {
    let free = figures.as_ref().and_then(|figures| figures.disk_free_bytes);
    let reserve = figures.as_ref().map_or(0, |figures| figures.disk_reserve_bytes);
    Node {
        id: broker.id.0,
        alive: broker.alive,
        role: role(view.metadata_leader.map(|leader| leader.broker), broker),
        client: broker.client_address.clone(),
        http: broker.http_address.clone(),
        kafka: broker.kafka_address.clone(),
        rack: broker.rack.clone(),
        version: broker.version.clone(),
        disk: free.map_or("?".into(), units::bytes),
        is_short: free.is_some_and(|free| free < reserve),
    }
}

/// The role of a broker, as `cluster nodes` calls it.
fn role(leader: Option<BrokerId>, broker: &BrokerView) -> &'static str {
    match (leader == Some(broker.id), broker.metadata_voter) {
        (true, _) => "leader",
        (false, true) => "voter",
        (false, false) => "learner",
    }
}

fn charts(samples: &[Sample]) -> Vec<Chart> {
    let bytes = [
        Series { name: "produced", value: |sample| Some(sample.produced_bytes_per_s) },
        Series { name: "consumed", value: |sample| Some(sample.consumed_bytes_per_s) },
    ];
    let records = [
        Series { name: "produced", value: |sample| Some(sample.produced_records_per_s) },
        Series { name: "consumed", value: |sample| Some(sample.consumed_records_per_s) },
    ];
    let produce = [Series { name: "p99", value: |sample| sample.produce_p99_s }];
    let writes = [
        Series { name: "p50", value: |sample| sample.write_p50_s },
        Series { name: "p99", value: |sample| sample.write_p99_s },
    ];
    vec![
        Chart::new("Bytes", Quantity::BytesPerSecond, &bytes, samples),
        Chart::new("Records", Quantity::RecordsPerSecond, &records, samples),
        Chart::new("Produce latency, request to acknowledgement", Quantity::Seconds, &produce, samples),
        Chart::new("Log write latency, fsync included", Quantity::Seconds, &writes, samples),
    ]
}
