//! Why a server does not start, or must not go on.

use std::{error::Error, io, path::PathBuf};

use crate::{
    broker::BrokerFailed,
    config::{Peer, alone},
    storage::StoreError,
};

/// Whatever a listener fails with: each face has an error of its own.
pub type FaceError = Box<dyn Error + Send + Sync>;

/// Why a server does not start, or must not go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerFailed {
    /// The list of peers names nobody else, and a cluster of one was not asked for.
    #[error("{}", alone(.peers))]
    Alone { peers: Vec<Peer> },
    /// An address cannot be bound; `key` is the configuration's word for it.
    #[error("cannot listen on {address} ({key}): {cause}")]
    Bind {
        key: &'static str,
        address: String,
        #[source]
        cause: io::Error,
    },
    /// The data directory is refused or cannot be opened.
    #[error("data directory {} cannot be opened: {cause}", .directory.display())]
    Directory {
        directory: PathBuf,
        #[source]
        cause: StoreError,
    },
    /// The broker does not start, or must not go on.
    #[error(transparent)]
    Broker(#[from] BrokerFailed),
    /// The system gives no thread to the watchdog.
    #[error("cannot start threads: {0}")]
    Threads(#[source] io::Error),
    /// A listener ended while the server ran. None: it ended by itself, without an error.
    #[error("the {face} listener failed: {}", why(.cause.as_ref()))]
    Listener {
        face: &'static str,
        #[source]
        cause: Option<FaceError>,
    },
}

fn why(cause: Option<&FaceError>) -> String {
    cause.map_or_else(|| "it ended by itself".to_string(), ToString::to_string)
}
