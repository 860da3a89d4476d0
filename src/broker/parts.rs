//! What a broker is made of. Only who puts it together, its door and who answers other brokers know all of it: a part
//! knows the parts that it was given.

use std::sync::Arc;

use super::{
    budget::Budget,
    cluster::{forming::Forming, health::Views, past::Memory, transfer::Transfers},
    console::Consoles,
    disk::DiskGuard,
    fetch::Fetches,
    groups::part::Groups,
    held::HeldBytes,
    metadata_group::MetadataGroup,
    node::Node,
    notes::Notes,
    produce::Produces,
    replicas::Replicas,
    topics::{Topics, producer_ids::ProducerIds},
    upkeep::retention::Retention,
    verify::Verifies,
};

/// All parts of one broker.
pub struct Parts {
    pub node: Arc<Node>,
    pub metadata: Arc<MetadataGroup>,
    pub replicas: Arc<Replicas>,
    pub disk: Arc<DiskGuard>,
    pub memory: Arc<Memory>,
    pub notes: Arc<Notes>,
    pub forming: Arc<Forming>,
    pub transfers: Arc<Transfers>,
    pub retention: Arc<Retention>,
    pub budget: Budget,
    /// Batches on their way to readers.
    pub answers: Arc<HeldBytes>,
    pub produces: Produces,
    pub fetches: Arc<Fetches>,
    pub topics: Topics,
    pub producer_ids: Arc<ProducerIds>,
    pub groups: Arc<Groups>,
    pub views: Views,
    pub consoles: Arc<Consoles>,
    pub verifies: Verifies,
}
