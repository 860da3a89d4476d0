//! What a simulation sees of a replica from outside, between two of its steps.

use openraft::{ServerState, async_runtime::WatchReceiver};

use super::{
    replica::Replica,
    types::{position, vote_parts},
};
use crate::{
    replicated::Replicated,
    types::{EntryPosition, LogIndex, Term},
};

/// How far a replica has come, by its own word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaLook {
    pub term: Term,
    /// The last vote that this replica has fsynced: its term, for whom it is, and whether that one was elected.
    pub vote: (Term, u64, bool),
    /// The Raft core leads.
    pub leads: bool,
    pub last: Option<LogIndex>,
    /// Known to be committed. The core says so in its metrics, and in the log before it has anything applied; which of
    /// the two a moment between steps finds first is chance.
    pub committed: Option<EntryPosition>,
    pub applied: Option<EntryPosition>,
    pub purged: Option<EntryPosition>,
    /// One more than the index of the last entry in the state.
    pub state_next: LogIndex,
}

impl<S: Replicated> Replica<S> {
    pub fn look(&self) -> ReplicaLook {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        let (term, voted_for, is_elected) = vote_parts(&metrics.vote);
        ReplicaLook {
            term: Term(metrics.current_term),
            vote: (Term(term), voted_for, is_elected),
            leads: metrics.state == ServerState::Leader,
            last: metrics.last_log_index.map(LogIndex),
            committed: metrics.local_committed.as_ref().map(position).max(self.0.log.committed()),
            applied: metrics.last_applied.as_ref().map(position),
            purged: metrics.purged.as_ref().map(position),
            state_next: self.state_next(),
        }
    }
}
