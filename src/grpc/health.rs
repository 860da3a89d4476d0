//! gRPC's health service (`grpc.health.v1`): serving while the broker is ready.

use tokio_util::sync::CancellationToken;
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health, HealthServer},
    server::{HealthReporter, health_reporter},
};

use super::{backend::Backend, limits::HEALTH_INTERVAL};
use crate::broker::Readiness;

/// The full names that our services have.
pub(super) const SERVICES: [&str; 5] =
    ["flotilla.v1.Produce", "flotilla.v1.Consume", "flotilla.v1.Topics", "flotilla.v1.Groups", "flotilla.v1.Cluster"];

/// The name that the whole broker has in the health protocol.
const ALL: &str = "";

/// The service, kept current by a task that ends with `stop`.
pub(super) async fn service<B: Backend>(backend: B, stop: CancellationToken) -> HealthServer<impl Health> {
    let (reporter, server) = health_reporter();
    let mut told = current(&backend);
    tell(&reporter, told).await;
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(HEALTH_INTERVAL);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            let now = current(&backend);
            if now != told {
                told = now;
                tell(&reporter, told).await;
            }
        }
        tell(&reporter, ServingStatus::NotServing).await;
    });
    server.max_decoding_message_size(super::limits::REQUEST_BYTES_MAX)
}

/// The services come and go together.
async fn tell(reporter: &HealthReporter, status: ServingStatus) {
    for name in SERVICES.into_iter().chain([ALL]) {
        reporter.set_service_status(name, status).await;
    }
}

fn current(backend: &impl Backend) -> ServingStatus {
    match backend.readiness() {
        Readiness::Ready => ServingStatus::Serving,
        Readiness::NotReady(_) => ServingStatus::NotServing,
    }
}
