//! Why what was asked of a replica did not happen.

use std::time::Duration;

use crate::types::{BrokerId, RaftGroupId};

/// Why a proposal has no applied answer (SAFETY M2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposalEnd {
    /// Never appended: no effect, now or later.
    #[error("refused: {0:?}")]
    Refused(Refusal),
    /// Appended, and its fate is not known here: it may be committed.
    #[error("outcome unknown")]
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not the leader, or not in the term asked for.
    NotLeader,
    /// No quorum answered lately; also right after an election: retry shortly (SAFETY B8).
    LeaseExpired,
    /// A leadership transfer is under way.
    Transferring,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    #[error("group {group}: {reason}")]
    Failed { group: RaftGroupId, reason: String },
    #[error("group {group} is damaged: {what}")]
    Damaged { group: RaftGroupId, what: String },
    #[error("group {0} was deleted here")]
    Tombstoned(RaftGroupId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("not the leader")]
    NotLeader,
    #[error("no majority answered")]
    NoQuorum,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum TransferError {
    #[error("not the leader")]
    NotLeader,
    #[error("broker {0} holds no voter of this group")]
    NoSuchVoter(BrokerId),
    #[error("no other voter is alive and caught up")]
    NoCandidate,
    /// The request went out, and may still be followed: this replica refuses writes until a new leader
    /// is there.
    #[error("no new leader within {0:?}, and there may yet be one")]
    TimedOut(Duration),
}
