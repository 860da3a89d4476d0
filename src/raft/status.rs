//! What a replica publishes of its group: who leads, and how far it can be relied on.

use std::sync::Arc;

use crate::types::{BrokerId, ReplicaId, Term};

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
    /// It leads, and for longer than a lease no majority has answered: what it knows may be old, and others
    /// may lead (SAFETY M7). Looked at a few times a second.
    pub without_quorum: bool,
    /// The group stopped because of a failure or a shutdown.
    pub stopped: bool,
    /// Why it stopped, if nobody had asked it to.
    pub failure: Option<Arc<str>>,
}
