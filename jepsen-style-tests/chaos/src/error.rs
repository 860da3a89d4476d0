//! What can keep a run from coming about, or from coming to its end.

use std::{io, path::PathBuf, time::Duration};

use flotilla::client::ClientError;
use logcheck::files::BadFile;

/// The harness could not do its work. What a run finds wrong with the cluster is no error but a verdict.
#[derive(Debug, thiserror::Error)]
pub enum ChaosError {
    #[error("{0}")]
    Usage(String),
    #[error(
        "no flotilla binary: looked at {tried}; build one with `cargo build --release --bin flotilla`, or name it with --flotilla"
    )]
    NoBinary { tried: String },
    #[error("{} holds a run already: name another directory with --dir", .0.display())]
    DirTaken(PathBuf),
    #[error("{what} {}: {error}", .path.display())]
    File { what: &'static str, path: PathBuf, error: io::Error },
    #[error("cannot run {program}: {error}")]
    Program { program: String, error: io::Error },
    #[error("{what} took longer than {} s: {last}; the nodes' logs are in {}", .waited.as_secs(), .logs.display())]
    Late { what: String, waited: Duration, last: String, logs: PathBuf },
    #[error("{what}: {error}")]
    Client { what: String, error: ClientError },
    #[error("{what}: librdkafka says: {error}")]
    Kafka { what: String, error: String },
    #[error("the log of {node} cannot be dumped: {said}")]
    Dump { node: String, said: String },
    #[error("the history cannot be checked: {0}")]
    History(#[from] BadFile),
    #[error("a part of the harness ended early: {0}; please report it with this line")]
    Broken(String),
    #[error("interrupted: the brokers have ended, and nothing is said of what they promised")]
    Interrupted,
}

impl ChaosError {
    /// Names the file in an error of the system.
    pub fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> ChaosError {
        let path = path.into();
        move |error| ChaosError::File { what, path, error }
    }

    /// Says what a client was to do when it met an error.
    pub fn client(what: impl Into<String>) -> impl FnOnce(ClientError) -> ChaosError {
        let what = what.into();
        move |error| ChaosError::Client { what, error }
    }

    /// Whether this says something of the cluster, rather than of the harness or of the machine.
    pub fn is_of_the_cluster(&self) -> bool {
        match self {
            ChaosError::Late { .. } | ChaosError::Client { .. } | ChaosError::Dump { .. } => true,
            ChaosError::Usage(_)
            | ChaosError::NoBinary { .. }
            | ChaosError::DirTaken(_)
            | ChaosError::File { .. }
            | ChaosError::Program { .. }
            | ChaosError::Kafka { .. }
            | ChaosError::History(_)
            | ChaosError::Broken(_)
            | ChaosError::Interrupted => false,
        }
    }

    /// What the process ends with: 2 for a command line that makes no sense, 130 after Ctrl-C, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            ChaosError::Usage(_) | ChaosError::DirTaken(_) | ChaosError::NoBinary { .. } => 2,
            ChaosError::Interrupted => 130,
            ChaosError::File { .. }
            | ChaosError::Program { .. }
            | ChaosError::Late { .. }
            | ChaosError::Client { .. }
            | ChaosError::Kafka { .. }
            | ChaosError::Dump { .. }
            | ChaosError::History(_)
            | ChaosError::Broken(_) => 1,
        }
    }
}
