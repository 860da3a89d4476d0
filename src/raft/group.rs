//! One replica of one Raft group, as the layers above use it.

use std::{
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::watch;

use crate::{
    replicated::Replicated,
    types::{BrokerId, EntryPosition, LogIndex, RaftGroupId, ReplicaId, Term},
};

/// Which replica of which group to run here.
#[derive(Clone, Debug)]
pub struct GroupSpec {
    pub group: RaftGroupId,
    pub replica: ReplicaId,
    /// The group's first members, immutable for its life (SAFETY B6).
    pub initial: Vec<(ReplicaId, BrokerId)>,
}

/// Who leads a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    pub term: Term,
    pub replica: ReplicaId,
    pub broker: BrokerId,
}

/// What this replica knows of its group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub term: Term,
    pub leader: Option<Leader>,
    /// This replica leads in `term`.
    pub leads: bool,
    /// This replica is leader-ready in `term` (SAFETY M1): its state holds all that may be committed.
    pub ready: bool,
    /// The group stopped because of a failure or a shutdown.
    pub stopped: bool,
}

/// A proposal that reached the Raft core. Resolves once its outcome is known; dropping it does not
/// withdraw the proposal.
pub struct Pending(());

impl Future for Pending {
    type Output = Result<(EntryPosition, Bytes), ProposalEnd>;
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        unimplemented!()
    }
}

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

#[derive(Clone, Debug, thiserror::Error)]
pub enum TransferError {
    #[error("not the leader")]
    NotLeader,
    #[error("broker {0} holds no voter of this group")]
    NoSuchVoter(BrokerId),
    #[error("no other voter is alive and caught up")]
    NoCandidate,
    #[error("no new leader within {0:?}")]
    TimedOut(Duration),
}

/// Handle to one running replica. Clones share it.
pub struct Group<S>(PhantomData<S>);

impl<S: Replicated> Group<S> {
    pub fn id(&self) -> RaftGroupId {
        unimplemented!()
    }
    pub fn replica(&self) -> ReplicaId {
        unimplemented!()
    }
    pub fn status(&self) -> watch::Receiver<Status> {
        unimplemented!()
    }
    /// The index of the last entry applied here; changes after each batch of applies.
    pub fn applied(&self) -> watch::Receiver<Option<LogIndex>> {
        unimplemented!()
    }
    /// Reads the applied state. `f` runs under a lock that applying needs: keep it short.
    pub fn read<T>(&self, _f: impl FnOnce(&S) -> T) -> T {
        unimplemented!()
    }
    /// The replica's log, for reads of applied entries.
    pub fn log(&self) -> &crate::storage::GroupLog {
        unimplemented!()
    }
    /// Hands a command to the Raft core, to be appended only if this replica still leads in `term`.
    /// Returns once the core has it in its queue, so that awaited calls keep their order; whether it
    /// was appended or refused, `Pending` tells.
    pub async fn propose(&self, _term: Term, _command: Bytes) -> Pending {
        unimplemented!()
    }
    /// Confirms leadership with a majority and waits until everything committed before the call is
    /// applied here (Raft thesis 6.4, ReadIndex).
    pub async fn read_index(&self) -> Result<LogIndex, ReadError> {
        unimplemented!()
    }
    /// Brokers whose fsynced log covers `index`, as this leader knows it, in id order.
    pub fn durable_on(&self, _index: LogIndex) -> Vec<BrokerId> {
        unimplemented!()
    }
    pub fn voters(&self) -> Vec<(ReplicaId, BrokerId)> {
        unimplemented!()
    }
    pub fn members(&self) -> Vec<(ReplicaId, BrokerId)> {
        unimplemented!()
    }
    /// Voters whose acknowledged log is behind this leader's last entry by more than `entries`.
    pub fn lagging(&self, _entries: u64) -> Vec<BrokerId> {
        unimplemented!()
    }
    /// Starts a group with its immutable first members. A no-op on a replica that has any state.
    pub async fn initialize(&self) -> Result<(), OpenError> {
        unimplemented!()
    }
    pub async fn add_learner(&self, _replica: ReplicaId, _broker: BrokerId) -> Result<(), ReadError> {
        unimplemented!()
    }
    /// Moves leadership, watched and repeated (SAFETY B2). None: the best caught-up other voter.
    /// Stop proposing first.
    pub async fn transfer_leader(&self, _to: Option<BrokerId>, _within: Duration) -> Result<Leader, TransferError> {
        unimplemented!()
    }
}

impl<S> Clone for Group<S> {
    fn clone(&self) -> Self {
        unimplemented!()
    }
}
