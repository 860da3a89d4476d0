//! One Produce stream to one broker: opened, fed, read, and gone at the first error.
//!
//! Promises: `Opened` is reported only once the broker has answered the call, so that a batch is
//! handed over only to a stream that exists; after `Closed` no other event of this stream comes.

use std::time::Duration;

use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    client::{
        error::ClientError,
        metadata::Metadata,
        net::{Cluster, MESSAGE_BYTES_MAX},
    },
    proto::v1::{ProduceRequest, ProduceResponse, produce_client::ProduceClient},
};

/// Requests queued for one stream: five of each of a few hundred partitions. More wait in `core`.
const QUEUED_MAX: usize = 1024;
/// From the connection to the first headers of the answer: one round trip.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

/// Which stream: a broker's streams are numbered, so that a late event of an old one is seen as such.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamId {
    pub broker: u64,
    pub number: u64,
}

pub(super) enum Event {
    Opened(StreamId, mpsc::Sender<ProduceRequest>),
    Answer(StreamId, ProduceResponse),
    Closed(StreamId, ClientError),
    Refreshed(Result<(), ClientError>),
}

/// Lives until the stream ends or the driver drops its sender and everything was answered.
pub(super) async fn run(cluster: Cluster, id: StreamId, events: mpsc::Sender<Event>) {
    let address = cluster.look(|m: &Metadata| m.address(id.broker).map(str::to_string));
    let error = match address {
        Some(address) => converse(&cluster, &address, id, &events).await,
        None => {
            let (address, detail) = (format!("broker {}", id.broker), "its address is not known".into());
            ClientError::Connect { address, detail }
        }
    };
    // The driver is gone: nobody cares.
    let _ = events.send(Event::Closed(id, error)).await;
}

async fn converse(cluster: &Cluster, address: &str, id: StreamId, events: &mpsc::Sender<Event>) -> ClientError {
    let channel = match cluster.connect(address).await {
        Ok(channel) => channel,
        Err(error) => return error,
    };
    let mut client = ProduceClient::new(channel)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
    let (to, requests) = mpsc::channel(QUEUED_MAX);
    let mut answers = match timeout(OPEN_TIMEOUT, client.produce(ReceiverStream::new(requests))).await {
        Ok(Ok(response)) => response.into_inner(),
        // Nothing was handed over yet: whatever it is, it had no effect.
        Ok(Err(status)) => return not_open(address, ClientError::from_status(&status, address).to_string()),
        Err(_) => return not_open(address, "it accepts connections but does not answer".into()),
    };
    if events.send(Event::Opened(id, to)).await.is_err() {
        return ClientError::Closed;
    }
    loop {
        match answers.message().await {
            Ok(Some(answer)) => {
                if events.send(Event::Answer(id, answer)).await.is_err() {
                    return ClientError::Closed;
                }
            }
            Ok(None) => return ClientError::Lost { address: address.into(), detail: "it ended the stream".into() },
            Err(status) => {
                let detail = ClientError::from_status(&status, address).to_string();
                return ClientError::Lost { address: address.into(), detail };
            }
        }
    }
}

fn not_open(address: &str, detail: String) -> ClientError {
    ClientError::Connect { address: address.to_string(), detail }
}
