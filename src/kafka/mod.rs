//! Kafka's protocol on its listener: decode, call the broker, encode. Unmodified Kafka clients speak to it.
//!
//! Promises: requests of one connection begin in the order in which they came, batches are appended in that order, and
//! answers leave in it; nothing that a stranger sends panics, or makes this node hold more than `limits` says; a version
//! of an API that `apis` lists is answered at every version listed, and none else. Leaves out: what a request means
//! (module `broker`), records (a batch is checked by its header and stays the bytes that the client made).

mod answers;
mod api;
mod apis;
mod call;
mod client;
mod codes;
mod connection;
mod frame;
mod group_views;
pub mod limits;
mod segments;
mod sessions;
#[cfg(test)]
mod tests;
mod views;
mod wire;

use std::{convert::Infallible, sync::Arc};

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    broker::Broker,
    metrics::{ConnectionRefusal, Metrics},
    seam::{ConnectionLimits, GuardedListener, Listener},
};
use client::Shared;
use frame::Arriving;
use sessions::NodeSessions;

/// What the configuration says about this listener.
#[derive(Clone, Debug)]
pub struct KafkaOptions {
    /// Connections at once; one more is closed.
    pub connections_max: usize,
    /// Descriptors that this process has for them: the smaller number holds.
    pub descriptors_max: usize,
    /// The partitions of a topic that is made because a client asked for it (Kafka's `auto.create.topics.enable` and
    /// `num.partitions`). None: no topic is made so.
    pub auto_create: Option<u32>,
    /// The data directory, for those who ask where it is.
    pub log_dir: String,
    pub metrics: Metrics,
}

/// Serves until `stop` is cancelled and every connection has closed. The caller bounds that wait: a client may be slow
/// to take its last answers.
pub async fn serve(
    broker: Broker,
    listener: Box<dyn Listener>,
    options: KafkaOptions,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let KafkaOptions { connections_max, descriptors_max, auto_create, log_dir, metrics } = options;
    let reason = match descriptors_max < connections_max {
        true => ConnectionRefusal::Descriptors,
        false => ConnectionRefusal::Limit,
    };
    let limits = ConnectionLimits { connections_max: connections_max.min(descriptors_max), silence: limits::SILENCE };
    let mut listener = GuardedListener::new(listener, "kafka", limits).reporting(metrics.intake(), reason);
    let arriving = Arriving::new(metrics.intake());
    let shared = Arc::new(Shared {
        broker,
        served: apis::ROUTES.iter().map(call::Route::served).collect(),
        auto_create,
        log_dir,
        arriving,
        probe: metrics.requests(),
        kafka: metrics.kafka(),
        sessions: NodeSessions::new(metrics.kafka()),
        stop: stop.clone(),
    });
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            (stream, from) = listener.accept() => {
                connections.spawn(connection::serve(stream, from, Arc::clone(&shared)));
            }
            Some(ended) = connections.join_next() => pass_on(ended),
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        pass_on(ended);
    }
    Ok(())
}

/// A connection that panicked takes the node along, as any other task does: nobody knows what it left undone.
fn pass_on(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}
