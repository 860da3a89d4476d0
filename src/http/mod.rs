//! The HTTP listener: `/metrics` (Prometheus text), `/livez` and `/readyz` for machines; the web
//! console at `/` and its JSON API under `/api/v1/` for people and scripts, unless switched off.
//!
//! - `/livez` answers 200 while the process can answer at all: a supervisor restarts on anything else.
//! - `/readyz` answers 200 when clients can be served, else 503 with the reason in words.
//! - The console of any broker shows the whole cluster; what only another broker knows, `broker` asks it.
//!
//! It takes no request body and changes nothing. It loads nothing from elsewhere. Leaves out:
//! authentication, which no listener has yet (`guard` says what stands in for it).

mod api;
mod backend;
mod chart;
mod faces;
#[cfg(test)]
mod fuzz;
mod guard;
mod limits;
mod pages;
mod problem;
mod query;
mod records;
mod shapes;
#[cfg(test)]
mod tests;
mod units;

use std::{future::Future, io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::{self, State},
    http::{StatusCode, header},
    middleware,
    response::{Html, IntoResponse, Response},
    routing::get,
};

use crate::{
    broker::Readiness,
    metrics::{CONTENT_TYPE, ConnectionRefusal, Metrics},
    seam::{AtLimit, ConnectionLimits, GuardedListener, GuardedStream, Listener, Silence},
};
use faces::{Faces, Pairs, Shared};
use guard::Guard;
use problem::Problem;
use query::Query;

pub use backend::Backend;

/// How the listener behaves.
pub struct HttpOptions {
    pub metrics: Metrics,
    /// Whether the console and its API are served.
    pub console: bool,
    /// host:port as others are told. The console answers under this name.
    pub advertised: String,
    /// Descriptors that this process has for its connections.
    pub descriptors_max: usize,
}

/// Serves until `stop` completes and what was being answered is answered.
pub async fn serve<B: Backend>(
    backend: B,
    listener: Box<dyn Listener>,
    options: HttpOptions,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let silence = Silence::Always(limits::SILENCE_MAX);
    let connections_max = options.descriptors_max.min(limits::CONNECTIONS_MAX);
    let listener = GuardedListener::new(listener, "http", ConnectionLimits { connections_max, silence })
        .reporting(options.metrics.intake(), ConnectionRefusal::Limit)
        .at_limit(AtLimit::CloseMostSilent);
    axum::serve(Guarded(listener), router(backend, options)).with_graceful_shutdown(stop).await
}

fn router<B: Backend>(backend: B, options: HttpOptions) -> Router {
    let HttpOptions { metrics, console, advertised, descriptors_max: _ } = options;
    let guard = Arc::new(Guard::new(&advertised, metrics.intake()));
    let faces = Arc::new(Faces { backend, metrics });
    let metrics_guard = middleware::from_fn_with_state(Arc::clone(&guard), guard::guard_metrics);
    let machines = Router::new()
        .route("/metrics", get(prometheus::<B>))
        .layer(metrics_guard)
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz::<B>));
    let people = if console {
        let people = console_routes::<B>().merge(api::routes::<B>());
        // A layer holds for the routes that are there already, and for the fallback.
        people.fallback(nothing::<B>).layer(middleware::from_fn_with_state(guard, guard::guard))
    } else {
        Router::new().fallback(async || (StatusCode::NOT_FOUND, "there are /metrics, /livez and /readyz\n"))
    };
    machines.merge(people).with_state(faces)
}

fn console_routes<B: Backend>() -> Router<Arc<Faces<B>>> {
    let asset = |content_type: &'static str, body: &'static str| {
        get(async move || ([(header::CONTENT_TYPE, content_type)], body))
    };
    Router::new()
        .route("/", get(overview::<B>))
        .route("/topics", get(topics::<B>))
        .route("/topic", get(topic::<B>))
        .route("/records", get(records_page::<B>))
        .route("/groups", get(groups::<B>))
        .route("/group", get(group::<B>))
        .route("/kafka", get(kafka::<B>))
        .route("/assets/console.css", asset("text/css; charset=utf-8", include_str!("assets/console.css")))
        .route("/assets/console.js", asset("text/javascript; charset=utf-8", include_str!("assets/console.js")))
        .route("/assets/icon.svg", asset("image/svg+xml", include_str!("assets/icon.svg")))
}

async fn prometheus<B: Backend>(State(faces): State<Arc<Faces<B>>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], faces.metrics.encode())
}

async fn readyz<B: Backend>(State(faces): State<Arc<Faces<B>>>) -> (StatusCode, String) {
    match faces.backend.readiness() {
        Readiness::Ready => (StatusCode::OK, "ready\n".into()),
        Readiness::NotReady(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
    }
}

async fn overview<B: Backend>(State(faces): Shared<B>, extract::Query(pairs): Pairs) -> Response {
    shown(&faces.backend, pages::overview(&faces.backend, &Query::new(pairs)).await)
}

async fn topics<B: Backend>(State(faces): Shared<B>, extract::Query(pairs): Pairs) -> Response {
    shown(&faces.backend, pages::topics(&faces.backend, &Query::new(pairs)).await)
}

async fn topic<B: Backend>(State(faces): Shared<B>, extract::Query(pairs): Pairs) -> Response {
    shown(&faces.backend, pages::topic(&faces.backend, &Query::new(pairs)).await)
}

async fn groups<B: Backend>(State(faces): Shared<B>, extract::Query(pairs): Pairs) -> Response {
    shown(&faces.backend, pages::groups(&faces.backend, &Query::new(pairs)).await)
}

async fn group<B: Backend>(State(faces): Shared<B>, extract::Query(pairs): Pairs) -> Response {
    shown(&faces.backend, pages::group(&faces.backend, &Query::new(pairs)).await)
}

async fn kafka<B: Backend>(State(faces): Shared<B>, extract::Query(pairs): Pairs) -> Response {
    shown(&faces.backend, pages::kafka(&faces.backend, &Query::new(pairs)).await)
}

async fn records_page<B: Backend>(State(faces): Shared<B>, extract::Query(pairs): Pairs) -> Response {
    match pages::records(&faces.backend, &Query::new(pairs)).await {
        Ok((status, html)) => (status, Html(html)).into_response(),
        Err(problem) => shown(&faces.backend, Err(problem)),
    }
}

async fn nothing<B: Backend>(State(faces): Shared<B>) -> Response {
    shown(&faces.backend, Err(Problem::new(StatusCode::NOT_FOUND, "There is no such page.")))
}

fn shown<B: Backend>(backend: &B, page: Result<String, Problem>) -> Response {
    match page {
        Ok(html) => Html(html).into_response(),
        Err(problem) => (problem.status, Html(pages::problem(backend, &problem))).into_response(),
    }
}

struct Guarded(GuardedListener);

impl axum::serve::Listener for Guarded {
    type Io = GuardedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (GuardedStream, SocketAddr) {
        self.0.accept().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
