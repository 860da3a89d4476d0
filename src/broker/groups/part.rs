//! A broker's part in groups: what its files share.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use super::{coordinator::tenure::Tenure, lag::Lag, limits, turns::Turns};
use crate::{
    broker::{metadata_group::MetadataGroup, node::Node},
    metrics::GroupProbe,
};

/// A broker's part in groups.
pub struct Groups {
    pub(super) node: Arc<Node>,
    pub(super) metadata: Arc<MetadataGroup>,
    pub lag: Arc<Lag>,
    /// Set while this broker coordinates.
    pub tenure: watch::Sender<Option<Arc<Tenure>>>,
    /// Turns of requests on their way to the coordinator.
    pub(super) forwarded: Semaphore,
    /// Turns of commits that carry no number.
    pub turns: Arc<Turns>,
    /// Room for joins and syncs that wait for a rebalance.
    pub waiting: Semaphore,
    pub probe: GroupProbe,
}

impl Groups {
    pub fn new(metadata: Arc<MetadataGroup>, lag: Arc<Lag>, probe: GroupProbe) -> Groups {
        Groups {
            node: Arc::clone(&metadata.node),
            metadata,
            lag,
            tenure: watch::Sender::new(None),
            forwarded: Semaphore::new(limits::FORWARDED_MAX),
            turns: Arc::default(),
            waiting: Semaphore::new(limits::WAITING_MAX),
            probe,
        }
    }
}
