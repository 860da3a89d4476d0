//! What can go wrong with a data directory, and what the operator should do about it.

use std::sync::Arc;

use super::KvError;
use crate::types::{RaftGroupId, ReplicaId};

/// The store of this node has failed or is closed: nothing can be read or written any more, and
/// what became of the writes under way is unknown. The process exits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store has failed: {reason}")]
pub struct StoreFailed {
    reason: Arc<str>,
    damaged: bool,
}

impl StoreFailed {
    pub(crate) fn io(reason: impl Into<Arc<str>>) -> StoreFailed {
        StoreFailed { reason: reason.into(), damaged: false }
    }

    pub(crate) fn damaged(reason: impl Into<Arc<str>>) -> StoreFailed {
        StoreFailed { reason: reason.into(), damaged: true }
    }

    /// Whether data on the disk was found damaged, so that its directory must be marked (SAFETY B9).
    pub fn is_damaged(&self) -> bool {
        self.damaged
    }

    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl From<KvError> for StoreFailed {
    fn from(error: KvError) -> StoreFailed {
        match &error {
            KvError::Damaged { .. } => StoreFailed::damaged(error.to_string()),
            KvError::Io(_) => StoreFailed::io(error.to_string()),
        }
    }
}

/// Why a data directory was not opened, or a question about it not answered.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Data that was fsynced is missing or unreadable. Its replicas are dead (SAFETY B5).
    #[error("damaged data directory: {what}; {to_do}")]
    Damaged { what: String, to_do: String },
    #[error("the data directory {directory} is in use by another process")]
    InUse { directory: String },
    /// It was to become one, and something else is there.
    #[error(
        "{directory} has no database of a broker, and holds {found}: give the broker an empty directory of its own"
    )]
    NotEmpty { directory: String, found: String },
    #[error("{path} is a file, not a directory")]
    NotADirectory { path: String },
    /// It was to be read, and nothing of ours is there.
    #[error("{directory} is no data directory of a broker: it has no database, or no FLOOR beside it")]
    NoDataDirectory { directory: String },
    #[error("{doing}: {cause}")]
    Io { doing: String, cause: String },
    #[error(transparent)]
    Failed(#[from] StoreFailed),
}

/// Why the log of a Raft group was not opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenLogError {
    /// The group's state breaks a rule of SAFETY B1: it lost writes that it once had. This replica
    /// is dead; opening it would let Raft purge its log.
    #[error("replica {replica} of raft group {group} is damaged: {what}; {to_do}")]
    Damaged { group: RaftGroupId, replica: ReplicaId, what: String, to_do: String },
    /// Another placement of the group lives here (SAFETY B5).
    #[error("raft group {group} is here as replica {here}, not {asked}")]
    WrongReplica { group: RaftGroupId, here: ReplicaId, asked: ReplicaId },
    #[error("raft group {group} was deleted here")]
    Tombstoned { group: RaftGroupId },
    #[error("raft group {group} is open already")]
    AlreadyOpen { group: RaftGroupId },
    #[error(transparent)]
    Failed(#[from] StoreFailed),
}
