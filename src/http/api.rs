//! The JSON API: what the console shows, for scripts. Read only. Its shapes are in `shapes`; a problem
//! is `{"error": "..."}` with its status.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    extract::{Query as Extracted, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};

use super::{
    backend::Backend,
    faces::{Faces, Pairs, Shared},
    problem::Problem,
    query::Query,
    records, shapes,
};
use crate::broker::TopicsWanted;
use crate::http::backend::CALLER;
use crate::types::BrokerId;

/// What stands where nothing is.
const PATHS: &str = "there are health, nodes, history, topics, topic, configs, records, groups, group and kafka";

pub fn routes<B: Backend>() -> Router<Arc<Faces<B>>> {
    Router::new()
        .route("/api/v1/health", get(health::<B>))
        .route("/api/v1/nodes", get(nodes::<B>))
        .route("/api/v1/history", get(history::<B>))
        .route("/api/v1/topics", get(topics::<B>))
        .route("/api/v1/topic", get(topic::<B>))
        .route("/api/v1/configs", get(configs::<B>))
        .route("/api/v1/records", get(page_of_records::<B>))
        .route("/api/v1/groups", get(groups::<B>))
        .route("/api/v1/group", get(group::<B>))
        .route("/api/v1/kafka", get(kafka::<B>))
        .route("/api/{*rest}", get(async || answer(Err(Problem::new(StatusCode::NOT_FOUND, PATHS)))))
}

fn answer(result: Result<Value, Problem>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(Problem { status, message }) => (status, Json(json!({ "error": message }))).into_response(),
    }
}

/// 200 whatever it says: monitoring by status is what `/readyz` is for.
async fn health<B: Backend>(State(faces): Shared<B>) -> Response {
    answer(Ok(shapes::health(&faces.backend.health(&CALLER).await)))
}

async fn nodes<B: Backend>(State(faces): Shared<B>) -> Response {
    answer(Ok(shapes::nodes(&faces.backend.cluster_view(&CALLER, TopicsWanted::None).await)))
}

async fn history<B: Backend>(State(faces): Shared<B>, Extracted(pairs): Pairs) -> Response {
    answer(match node_of(&faces.backend, pairs) {
        Ok(node) => {
            let figures = faces.backend.figures(&CALLER, node, true).await;
            figures.map(|figures| shapes::history(node, &figures.history)).ok_or_else(|| silent(node))
        }
        Err(problem) => Err(problem),
    })
}

async fn kafka<B: Backend>(State(faces): Shared<B>, Extracted(pairs): Pairs) -> Response {
    answer(match node_of(&faces.backend, pairs) {
        Ok(node) => {
            let clients = faces.backend.kafka_clients(&CALLER, node).await;
            clients.map(|clients| shapes::kafka(node, &clients)).ok_or_else(|| silent(node))
        }
        Err(problem) => Err(problem),
    })
}

/// The broker that is asked about: this one, if none is named.
fn node_of<B: Backend>(backend: &B, pairs: BTreeMap<String, String>) -> Result<BrokerId, Problem> {
    Ok(Query::new(pairs).node()?.unwrap_or(backend.id()))
}

fn silent(node: BrokerId) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("broker {node} does not answer"))
}

async fn topics<B: Backend>(State(faces): Shared<B>) -> Response {
    let listed = faces.backend.list_topics(&CALLER).await.map(|mut topics| {
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        shapes::topics(&topics)
    });
    answer(listed.map_err(Problem::from))
}

async fn topic<B: Backend>(State(faces): Shared<B>, Extracted(pairs): Pairs) -> Response {
    answer(described(&faces.backend, &Query::new(pairs)).await.map(|topic| shapes::topic(&topic)))
}

async fn configs<B: Backend>(State(faces): Shared<B>, Extracted(pairs): Pairs) -> Response {
    answer(described(&faces.backend, &Query::new(pairs)).await.map(|topic| shapes::configs(&topic)))
}

async fn described<B: Backend>(backend: &B, query: &Query) -> Result<crate::broker::TopicDescription, Problem> {
    Ok(backend.describe_topic(&CALLER, query.required("name")?).await?)
}

async fn page_of_records<B: Backend>(State(faces): Shared<B>, Extracted(pairs): Pairs) -> Response {
    let wanted = match Query::new(pairs).records() {
        Ok(wanted) => wanted,
        Err(problem) => return answer(Err(problem)),
    };
    let page = records::read(&faces.backend, &wanted).await;
    answer(page.map(|page| shapes::records(&wanted.topic, wanted.partition, &page)))
}

async fn groups<B: Backend>(State(faces): Shared<B>) -> Response {
    let listed = faces.backend.list_groups(&CALLER).await.map(|mut groups| {
        groups.sort_by(|a, b| a.group.cmp(&b.group));
        shapes::groups(&groups)
    });
    answer(listed.map_err(Problem::from))
}

async fn group<B: Backend>(State(faces): Shared<B>, Extracted(pairs): Pairs) -> Response {
    let query = Query::new(pairs);
    let name = match query.required("name") {
        Ok(name) => name,
        Err(problem) => return answer(Err(problem)),
    };
    let described = faces.backend.describe_group(&CALLER, &name.into()).await;
    answer(described.map(|group| shapes::group(&group)).map_err(Problem::from))
}
