//! A replica that runs here: its core, its log and its state, and what its node lends it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize},
};

use openraft::Raft;
use tokio::sync::watch;

use super::{
    driver::{Driver, Shared},
    ground::Ground,
    leaders::Leaders,
    links::Links,
    matches::Matches,
    status::Status,
    types::Types,
};
use crate::{
    replicated::Replicated,
    storage::ReplicaLog,
    types::{BrokerId, RaftGroupId, ReplicaId},
};

/// Which replica of which group to run here.
#[derive(Clone, Debug)]
pub struct ReplicaSpec {
    pub group: RaftGroupId,
    pub replica: ReplicaId,
    /// The group's first members, immutable for its life (SAFETY B6).
    pub initial: Vec<(ReplicaId, BrokerId)>,
}

/// What the files about one replica share. The door to it is [`Replica`](super::Replica).
pub(super) struct RunningReplica<S: Replicated> {
    pub ground: Arc<Ground>,
    pub links: Arc<Links>,
    pub leaders: Arc<Leaders>,
    pub spec: ReplicaSpec,
    pub raft: Raft<Types, Driver<S>>,
    pub log: ReplicaLog,
    pub shared: Arc<Shared<S>>,
    pub status: watch::Sender<Status>,
    pub matches: Arc<Matches>,
    /// Transfers that are being prepared: while there are any, proposals are refused before they reach
    /// the core (SAFETY B2). Counted by guards (SAFETY M18).
    pub paused: AtomicUsize,
    /// A transfer that missed its deadline is still repeated.
    pub rescuing: AtomicBool,
    /// It was told to stop.
    pub closing: AtomicBool,
}
