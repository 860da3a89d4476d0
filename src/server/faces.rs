//! The listeners for clients, for Kafka clients and for HTTP, and what answers behind them.

use std::time::Duration;

use futures_util::future::OptionFuture;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    bounds::bounded,
    error::{FaceError, ServerFailed},
};
use crate::{
    broker::Broker,
    grpc::{self, GrpcOptions},
    http::{self, HttpOptions},
    kafka::{self, KafkaOptions},
    seam::Listener,
};

/// How long clients have to take their last answers.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// Everybody who asks a broker from outside comes through these. Dropped, they end at once.
pub struct Faces {
    clients: Face,
    kafka: Option<Face>,
    http: Face,
}

/// One listener with its connections.
struct Face {
    name: &'static str,
    stop: CancellationToken,
    /// The listener's task, until its end was told.
    task: JoinSet<Result<(), FaceError>>,
}

impl Faces {
    /// Serves clients' gRPC on one listener, Kafka's protocol and HTTP on others, until they are closed.
    pub fn serve(
        broker: &Broker,
        (client_listener, grpc): (Box<dyn Listener>, GrpcOptions),
        kafka: Option<(Box<dyn Listener>, KafkaOptions)>,
        (http_listener, http): (Box<dyn Listener>, HttpOptions),
    ) -> Faces {
        let stop = CancellationToken::new();
        let serve = grpc::serve(broker.clone(), client_listener, grpc, stop.clone());
        let clients = Face::start("client", stop, serve);
        let kafka = kafka.map(|(listener, options)| {
            let stop = CancellationToken::new();
            let serve = kafka::serve(broker.clone(), listener, options, stop.clone());
            Face::start("Kafka", stop, serve)
        });
        let stop = CancellationToken::new();
        let serve = http::serve(broker.clone(), http_listener, http, stop.clone().cancelled_owned());
        Faces { clients, kafka, http: Face::start("HTTP", stop, serve) }
    }

    /// Resolves when one of them has ended, which nobody has asked for.
    pub async fn failed(&mut self) -> ServerFailed {
        tokio::select! {
            failed = self.clients.failed() => failed,
            failed = OptionFuture::from(self.kafka.as_mut().map(Face::failed)), if self.kafka.is_some() => {
                failed.expect("it is there")
            }
            failed = self.http.failed() => failed,
        }
    }

    /// Takes no new connection and lets those that there are take their last answers. HTTP comes last, so that
    /// whoever asks whether this node is ready is told for as long as clients are.
    pub async fn close(&mut self) {
        let kafka =
            OptionFuture::from(self.kafka.as_mut().map(|face| face.close("closing connections of Kafka clients")));
        tokio::join!(self.clients.close("closing client connections"), kafka);
        self.http.close("closing HTTP connections").await;
    }
}

impl Face {
    fn start<E: Into<FaceError>>(
        name: &'static str,
        stop: CancellationToken,
        serve: impl Future<Output = Result<(), E>> + Send + 'static,
    ) -> Face {
        let mut task = JoinSet::new();
        task.spawn(async move { serve.await.map_err(Into::into) });
        Face { name, stop, task }
    }

    async fn failed(&mut self) -> ServerFailed {
        let cause = match self.task.join_next().await {
            Some(Ok(Ok(()))) | None => None,
            Some(Ok(Err(error))) => Some(error),
            Some(Err(error)) => Some(error.into()),
        };
        ServerFailed::Listener { face: self.name, cause }
    }

    async fn close(&mut self, what: &'static str) {
        self.stop.cancel();
        bounded(what, CLOSE_MAX, self.task.join_next()).await;
    }
}

impl Drop for Face {
    fn drop(&mut self) {
        // The task alone is aborted: connections have tasks of their own, and hear it from here.
        self.stop.cancel();
    }
}
