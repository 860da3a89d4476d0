//! Who asks, and what answering one request takes: the words that connection and APIs share.

use std::{io, net::SocketAddr, sync::Arc};

use futures_util::future::BoxFuture;
use kafka_wire_core::{DecodeError, EncodeError};
use tokio_util::sync::CancellationToken;

use super::{
    frame::{Arriving, FrameError},
    segments::Segments,
    sessions::{ConnectionSessions, NodeSessions},
    wire::StrBytes,
};
use crate::{
    broker::{
        Broker, Caller, ProduceError,
        held::{Closer, Crowded},
    },
    metrics::{KafkaConnection, KafkaProbe, RequestProbe},
};

/// Who asks through this listener: its clients are not told apart yet.
pub(super) const CALLER: Caller = Caller::ANONYMOUS;

/// What all connections of the listener share.
pub(super) struct Shared {
    pub broker: Broker,
    /// What ApiVersions tells.
    pub served: Vec<Served>,
    /// The partitions of a topic that is made because a client asked for it. None: none is.
    pub auto_create: Option<u32>,
    /// The data directory, as operators know it.
    pub log_dir: String,
    pub arriving: Arriving,
    pub probe: RequestProbe,
    pub kafka: KafkaProbe,
    pub sessions: Arc<NodeSessions>,
    /// The node stops.
    pub stop: CancellationToken,
}

/// The versions in which an API is served, as clients are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Served {
    pub key: i16,
    pub min: i16,
    pub max: i16,
}

/// A client on its connection.
pub(super) struct Client {
    pub shared: Arc<Shared>,
    pub closer: Arc<Closer>,
    pub from: SocketAddr,
    /// The client has closed its side, or this broker stops: whoever waits for something to happen gives up.
    pub gone: CancellationToken,
    /// Told what the client says it is (KIP-511).
    pub connection: KafkaConnection,
    pub sessions: ConnectionSessions,
}

/// One request, as whoever answers it sees it.
#[derive(Clone)]
pub(super) struct Asked {
    pub client: Arc<Client>,
    pub client_id: Option<StrBytes>,
    pub version: i16,
    pub correlation: i32,
}

/// When a request begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// After all before it of this lane have their answers.
    Serial,
    /// At once; what is behind it in the serial lane begins when it has its answer too.
    Early,
    /// At once.
    Free,
}

/// An answer in the making. None: the client wants none.
pub(super) type Answering = BoxFuture<'static, Result<Option<Segments>, Closing>>;

/// A request that was begun.
pub(super) struct Begun {
    pub lane: Lane,
    pub answering: Answering,
}

/// Why a connection is closed by this side.
#[derive(Debug, thiserror::Error)]
pub(super) enum Closing {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("API key {key} is not served here")]
    UnknownApi { key: i16 },
    #[error("version {version} of {api} is not served here")]
    UnknownVersion { api: &'static str, version: i16 },
    #[error("a {api} request that cannot be read: {cause}")]
    Unreadable {
        api: &'static str,
        #[source]
        cause: DecodeError,
    },
    #[error("{partitions} partitions in one {api} request, at most {max} are taken")]
    TooManyPartitions { api: &'static str, partitions: usize, max: usize },
    /// Of a produce that wants no answer nobody hears otherwise.
    #[error("a produce without acknowledgement was refused: {0}")]
    Unanswered(#[source] ProduceRefused),
    #[error("others waited for what this client held up")]
    Slow,
    #[error(transparent)]
    Crowded(Crowded),
    #[error("the client is gone")]
    Gone,
    #[error("an answer of {api} version {version} cannot be written: {cause}")]
    Unwritable {
        api: &'static str,
        version: i16,
        #[source]
        cause: EncodeError,
    },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProduceRefused {
    #[error("acks is none of -1, 0 and 1")]
    Acks,
    #[error("transactions are not supported")]
    Transactional,
    #[error("no topic has this id")]
    UnknownId,
    #[error("zstd came with version {since} of Produce, and this is version {version}")]
    Zstd { since: i16, version: i16 },
    #[error(transparent)]
    ByBroker(ProduceError),
}
