//! One Produce stream to one broker: opened, fed, read, and gone at the first error.
//!
//! Promises: `Opened` is reported only once the broker has answered the call, so that a batch is
//! handed over only to a stream that exists; after `Closed` no other event of this stream comes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::mpsc, time::timeout};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};

use super::Shared;

use crate::{
    client::{
        error::ClientError,
        metadata::Metadata,
        net::{Cluster, MESSAGE_BYTES_MAX},
    },
    proto::v1::{ProduceRequest, ProduceResponse, produce_client::ProduceClient},
    types::BrokerId,
};

/// How many requests are queued for one stream: five of each of a few hundred partitions. More wait in `core`.
const QUEUED_MAX: usize = 1024;
/// How long it may take from the connection to the first headers of the answer: that is one round trip.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

/// Which stream: a broker's streams are numbered, so that a late event of an old one is seen as such.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamId {
    pub broker: BrokerId,
    pub number: u64,
}

/// How many requests of a stream the connection has taken, in the order they were handed over. What it took goes to
/// the broker before the stream ends.
#[derive(Clone, Debug, Default)]
pub(super) struct Taken(Arc<AtomicU64>);

impl Taken {
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// The way into a stream.
pub(super) struct Entrance {
    pub to: mpsc::Sender<ProduceRequest>,
    pub taken: Taken,
}

pub(super) enum Event {
    Opened(StreamId, Entrance),
    Answer(StreamId, ProduceResponse),
    /// The stream ended with an error, or after everything that was sent was read by the broker and worked on.
    Closed(StreamId, Result<(), ClientError>),
    Refreshed(Result<(), ClientError>),
}

/// Lives until the stream ends or the driver drops its sender and everything was answered. `watched`: whom to wake
/// when the connection takes a request, if anybody counts them.
pub(super) async fn run(cluster: Cluster, id: StreamId, events: mpsc::Sender<Event>, watched: Option<Arc<Shared>>) {
    let address = cluster.look(|m: &Metadata| m.address(id.broker).map(str::to_string));
    let ended = match address {
        Some(address) => converse(&cluster, &address, id, &events, watched).await,
        None => {
            let (address, detail) = (format!("broker {}", id.broker), "its address is not known".into());
            Err(ClientError::Connect { address, detail })
        }
    };
    // The driver is gone: nobody cares.
    let _ = events.send(Event::Closed(id, ended)).await;
}

async fn converse(
    cluster: &Cluster,
    address: &str,
    id: StreamId,
    events: &mpsc::Sender<Event>,
    watched: Option<Arc<Shared>>,
) -> Result<(), ClientError> {
    let channel = cluster.connect(address).await?;
    let mut client = ProduceClient::new(channel)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
    let (to, requests) = mpsc::channel(QUEUED_MAX);
    let taken = Taken::default();
    let count = taken.clone();
    let requests = ReceiverStream::new(requests).map(move |request| {
        count.0.fetch_add(1, Ordering::AcqRel);
        if let Some(shared) = &watched {
            shared.work.notify_one();
        }
        request
    });
    let mut answers = match timeout(OPEN_TIMEOUT, client.produce(requests)).await {
        Ok(Ok(response)) => response.into_inner(),
        // Nothing was handed over yet: whatever it is, it had no effect.
        Ok(Err(status)) => return Err(not_open(address, ClientError::from_status(&status, address).to_string())),
        Err(_) => return Err(not_open(address, "it accepts connections but does not answer".into())),
    };
    if events.send(Event::Opened(id, Entrance { to, taken })).await.is_err() {
        return Err(ClientError::Closed);
    }
    loop {
        match answers.message().await {
            Ok(Some(answer)) => {
                if events.send(Event::Answer(id, answer)).await.is_err() {
                    return Err(ClientError::Closed);
                }
            }
            Ok(None) => return Ok(()),
            Err(status) => {
                let detail = ClientError::from_status(&status, address).to_string();
                return Err(ClientError::Lost { address: address.into(), detail });
            }
        }
    }
}

fn not_open(address: &str, detail: String) -> ClientError {
    ClientError::Connect { address: address.to_string(), detail }
}
