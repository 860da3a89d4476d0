//! One broker's Kafka clients.

use askama::Template;

use super::{Section, Shell, rendered};
use crate::{
    broker::TopicsWanted,
    http::backend::CALLER,
    http::{backend::Backend, limits, problem::Problem, query::Query, units},
    metrics::KafkaClients,
};

#[derive(Template)]
#[template(path = "kafka.html", config = "src/http/askama.toml")]
struct Kafka {
    shell: Shell,
    /// Whose clients these are.
    of: u64,
    /// Brokers that can be asked.
    others: Vec<u64>,
    /// None: it does not answer.
    clients: Option<Clients>,
}

struct Clients {
    connections: u64,
    sessions: u64,
    session_partitions: String,
    requests: String,
    /// Connections that did not say what they are.
    silent: u64,
    software: Vec<(String, u64)>,
    by_version: Vec<(String, i16, String)>,
}

pub async fn kafka<B: Backend>(backend: &B, query: &Query) -> Result<String, Problem> {
    let of = query.node()?.unwrap_or(backend.id());
    let (view, clients) =
        tokio::join!(backend.cluster_view(&CALLER, TopicsWanted::None), backend.kafka_clients(&CALLER, of));
    let alive = view.brokers.iter().filter(|broker| broker.alive).map(|broker| broker.id.0);
    rendered(Kafka {
        shell: Shell::new(backend, Section::Kafka, "Kafka clients", 5),
        of: of.0,
        others: alive.take(limits::NODES_MAX).collect(),
        clients: clients.map(shown),
    })
}

fn shown(clients: KafkaClients) -> Clients {
    let KafkaClients { connections, fetch_sessions, fetch_session_partitions, software, requests } = clients;
    let count = |count: u64| units::count(i64::try_from(count).unwrap_or(i64::MAX));
    let said = software.iter().fold(0, |sum: u64, (_, open)| sum.saturating_add(*open));
    Clients {
        connections,
        sessions: fetch_sessions,
        session_partitions: count(fetch_session_partitions),
        requests: count(requests.iter().fold(0, |sum: u64, (_, _, begun)| sum.saturating_add(*begun))),
        silent: connections.saturating_sub(said),
        software,
        by_version: requests.into_iter().map(|(api, version, begun)| (api, version, count(begun))).collect(),
    }
}
