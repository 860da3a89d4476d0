//! The public gRPC API (`proto/flotilla/v1`) on its listener: decode, call the broker, encode.
//!
//! Promises: requests of one Produce stream reach the broker in the order sent; nothing a client sends
//! panics, or allocates beyond `limits`; a full stream is not read on; every failure carries the
//! encoded error of the table in `error`. When told to stop, it answers what is pending and ends
//! every stream. Leaves out: decisions (module `broker`), the node-to-node listener (module `raft`).

mod answer;
mod backend;
mod cluster;
mod connection;
mod consume;
mod convert;
mod decode;
mod decode_groups;
mod error;
#[cfg(test)]
mod fuzz;
mod groups;
mod health;
pub mod limits;
mod produce;
mod receive;
#[cfg(test)]
mod tests;
mod topics;

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status, transport::Server};

pub use backend::Backend;
pub use error::{ERROR_TRAILER, RequestError, status};

use error::CallFailure;
use receive::{ReceiveLayer, Receiving};

use crate::{
    broker::held::{HeldBytes, HeldLimits},
    metrics::{Api, ConnectionRefusal, HeldUp, IntakeProbe, Limit, Metrics, RequestProbe, RequestResult},
    proto::{
        self,
        v1::{
            self, cluster_server::ClusterServer, consume_server::ConsumeServer, groups_server::GroupsServer,
            produce_server::ProduceServer, topics_server::TopicsServer,
        },
    },
    seam::{ConnectionLimits, GuardedListener, Listener},
    types::BrokerId,
};

/// What the configuration says about this listener.
#[derive(Clone, Debug)]
pub struct GrpcOptions {
    /// How many connections there may be at once; one more is closed.
    pub connections_max: usize,
    /// How many descriptors this process has for connections: the smaller number holds.
    pub descriptors_max: usize,
    pub metrics: Metrics,
}

/// Serves until `stop` is cancelled and every connection has closed. The caller bounds that wait:
/// a client may be slow to take its last answers.
pub async fn serve<B: Backend>(
    backend: B,
    listener: Box<dyn Listener>,
    options: GrpcOptions,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let GrpcOptions { connections_max, descriptors_max, .. } = options;
    let reason = match descriptors_max < connections_max {
        true => ConnectionRefusal::Descriptors,
        false => ConnectionRefusal::Limit,
    };
    let connections_max = connections_max.min(descriptors_max);
    let connections = ConnectionLimits { connections_max, silence: limits::SILENCE };
    let listener = GuardedListener::new(listener, "client", connections).reporting(options.metrics.intake(), reason);
    let incoming = connection::incoming(listener, options.metrics.requests());
    let receiving = Receiving::new(&options.metrics);
    let services = Services::new(backend, options, stop.clone());
    let mut server = Server::builder()
        .layer(ReceiveLayer(receiving))
        .http2_keepalive_interval(Some(limits::KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(limits::HEADERS_BYTES_MAX)
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION_MAX)
        .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .max_frame_size(limits::FRAME_BYTES_MAX);
    let small = limits::REQUEST_BYTES_MAX;
    server
        .add_service(ProduceServer::new(services.clone()).max_decoding_message_size(limits::PRODUCE_MESSAGE_BYTES_MAX))
        .add_service(ConsumeServer::new(services.clone()).max_decoding_message_size(small))
        .add_service(TopicsServer::new(services.clone()).max_decoding_message_size(small))
        .add_service(GroupsServer::new(services.clone()).max_decoding_message_size(limits::GROUPS_REQUEST_BYTES_MAX))
        .add_service(ClusterServer::new(services.clone()).max_decoding_message_size(small))
        .add_service(health::service(services.backend.clone(), stop.clone()).await)
        .add_service(
            reflection().build_v1().expect("the descriptors come from our own build").max_decoding_message_size(small),
        )
        .add_service(
            reflection()
                .build_v1alpha()
                .expect("the descriptors come from our own build")
                .max_decoding_message_size(small),
        )
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await
}

/// Lists what this listener serves, not what nodes say to one another.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    let builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name("grpc.health.v1.Health");
    health::SERVICES.into_iter().fold(builder, |builder, name| builder.with_service_name(name))
}

/// Implements every service.
#[derive(Clone)]
struct Services<B> {
    backend: B,
    shared: Arc<Shared>,
}

/// What all streams of the node share.
struct Shared {
    stop: CancellationToken,
    produce_streams: Arc<Semaphore>,
    consume_streams: Arc<Semaphore>,
    /// The decompressed rests of batches that did not fit one answer.
    decoded: Arc<HeldBytes>,
    probe: RequestProbe,
    intake: IntakeProbe,
    /// Where clients of this face reach a broker.
    address_of: Box<dyn Fn(BrokerId) -> String + Send + Sync>,
}

impl<B: Backend> Services<B> {
    fn new(backend: B, options: GrpcOptions, stop: CancellationToken) -> Services<B> {
        let of_decoded = HeldLimits {
            what: HeldUp::Decoded,
            limit: Limit::Decoded,
            bytes_max: limits::DECODED_HELD_BYTES_MAX,
            waiting_max: limits::ANSWERS_WAITING_MAX,
            wait_max: limits::ANSWER_WAIT_MAX,
            grace: limits::ANSWER_GRACE,
            bytes_per_second: limits::ANSWER_BYTES_PER_SECOND,
        };
        let known = backend.clone();
        let shared = Shared {
            address_of: Box::new(move |of| known.client_address(of)),
            stop,
            produce_streams: Arc::new(Semaphore::new(limits::PRODUCE_STREAMS_MAX)),
            consume_streams: Arc::new(Semaphore::new(limits::CONSUME_STREAMS_MAX)),
            decoded: HeldBytes::new(of_decoded, options.metrics.intake()),
            probe: options.metrics.requests(),
            intake: options.metrics.intake(),
        };
        let decoded = Arc::clone(&shared.decoded);
        options.metrics.on_scrape(move |gauges| {
            gauges.decoded_bytes_in_flight.set(i64::try_from(decoded.bytes_in_use()).unwrap_or(i64::MAX));
        });
        Services { backend, shared: Arc::new(shared) }
    }

    /// Ends a unary call: counts it, and turns an error into its status.
    fn answer<T>(&self, api: Api, result: Result<T, impl Into<CallFailure>>) -> Result<Response<T>, Status> {
        match result {
            Ok(answer) => {
                self.shared.probe.request_finished(api, RequestResult::Ok);
                Ok(Response::new(answer))
            }
            Err(error) => Err(self.shared.failed(api, error)),
        }
    }
}

impl Shared {
    /// Counts a failure and makes it a status.
    fn failed(&self, api: Api, error: impl Into<CallFailure>) -> Status {
        status(self.counted(api, error))
    }

    /// Counts a failure that travels inside a stream.
    fn counted(&self, api: Api, error: impl Into<CallFailure>) -> v1::Error {
        let error = error.into().wire(&self.address_of);
        let result = RequestResult::Failed(error.code());
        self.probe.request_finished(api, result);
        tracing::debug!(api = api.name(), code = result.name(), message = error.message, "request failed");
        error
    }

    fn produce_slot(&self) -> Result<OwnedSemaphorePermit, RequestError> {
        self.stream_slot(&self.produce_streams, Limit::ProduceStreams, "produce", limits::PRODUCE_STREAMS_MAX)
    }

    fn consume_slot(&self) -> Result<OwnedSemaphorePermit, RequestError> {
        self.stream_slot(&self.consume_streams, Limit::ConsumeStreams, "consume", limits::CONSUME_STREAMS_MAX)
    }

    /// Takes a place among the node's streams of one kind.
    fn stream_slot(
        &self,
        slots: &Arc<Semaphore>,
        limit: Limit,
        what: &'static str,
        streams_max: usize,
    ) -> Result<OwnedSemaphorePermit, RequestError> {
        slots.clone().try_acquire_owned().map_err(|_| {
            self.intake.refused_at(limit);
            RequestError::TooManyStreams { what, streams_max }
        })
    }
}
