//! What a broker keeps for groups.

use std::sync::{Arc, OnceLock};

use tokio::sync::{Semaphore, watch};

use super::{coordinator::tenure::Tenure, lag_table::LagTable, limits};
use crate::{broker::metadata_group::rounds::Rounds, metrics::GroupProbe};

/// A broker's part in groups.
pub struct GroupHandles {
    /// Set while this broker coordinates.
    pub tenure: watch::Sender<Option<Arc<Tenure>>>,
    /// Set at the start.
    pub reads: OnceLock<Rounds>,
    /// Turns of requests on their way to the coordinator.
    pub forwarded: Semaphore,
    pub lag: LagTable,
    pub probe: GroupProbe,
}

impl GroupHandles {
    pub fn new(probe: GroupProbe) -> GroupHandles {
        GroupHandles {
            tenure: watch::Sender::new(None),
            reads: OnceLock::new(),
            forwarded: Semaphore::new(limits::FORWARDED_MAX),
            lag: LagTable::default(),
            probe,
        }
    }
}
