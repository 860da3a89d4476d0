//! The services over real sockets, with a fake broker behind them.

mod consume;
pub(super) mod fake;
mod groups;
mod hostile;
mod numbers;
mod produce;
mod unary;

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use prost::Message;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::*;
use crate::{
    broker::answer_room,
    metrics::Metrics,
    record::{BatchBuilder, Codec, Record},
    seam::{Net, TcpNet},
    types::WallMs,
};
use fake::Fake;

/// How long any one wait of a test may take.
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    fake: Fake,
    address: SocketAddr,
    stop: CancellationToken,
    served: JoinHandle<()>,
    metrics: Metrics,
}

impl Server {
    async fn start(fake: Fake) -> Server {
        Server::with_options(fake, 64, 64 << 20).await
    }

    async fn with_options(mut fake: Fake, connections_max: usize, fetch_bytes_max: usize) -> Server {
        let listener = TcpNet.bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, metrics) = (CancellationToken::new(), Metrics::new());
        let options = GrpcOptions { connections_max, descriptors_max: usize::MAX, metrics: metrics.clone() };
        fake.room = answer_room(fetch_bytes_max, metrics.intake());
        let serving = serve(fake.clone(), listener, options, stop.clone());
        let served = tokio::spawn(async move { serving.await.unwrap() });
        Server { fake, address, stop, served, metrics }
    }

    async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    /// Ends the server and proves that it ends.
    async fn stop(self) {
        self.stop.cancel();
        soon("the server ends", self.served).await.unwrap();
    }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

/// Makes a batch of records with the values given, and the timestamps 1000, 1001, ...
pub(super) fn batch(codec: Codec, values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    for (i, value) in values.iter().enumerate() {
        let value = Some(Bytes::copy_from_slice(value.as_bytes()));
        builder.push(&Record { value, timestamp: WallMs(1_000 + i as i64), ..Record::default() }).unwrap();
    }
    builder.build().unwrap()
}

/// Returns the error in a status' trailer.
pub(super) fn error_of(status: &tonic::Status) -> v1::Error {
    let trailer = status.metadata().get_bin(ERROR_TRAILER).unwrap_or_else(|| panic!("no trailer: {status:?}"));
    v1::Error::decode(trailer.to_bytes().unwrap()).unwrap()
}
