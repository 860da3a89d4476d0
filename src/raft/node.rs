//! The Raft side of a node: its groups, its links to other nodes, and what they announce.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{Group, GroupSpec, Leader, OpenError};
use crate::{
    replicated::Replicated,
    seam::{Clock, Net, Rng},
    storage::Store,
    types::{BrokerId, RaftGroupId},
};

#[derive(Clone, Debug)]
pub struct RaftSettings {
    pub broker: BrokerId,
    /// Checked in every hello: nodes of different clusters never talk. None until known.
    pub cluster: Option<u128>,
    pub heartbeat: Duration,
    pub election_min: Duration,
    pub election_max: Duration,
}

/// Answers opaque requests of other nodes.
pub type CallHandler = Arc<dyn Fn(BrokerId, Bytes) -> Pin<Box<dyn Future<Output = Bytes> + Send>> + Send + Sync>;

pub struct NodeDeps {
    pub store: Store,
    pub net: Arc<dyn Net>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<Rng>,
    pub settings: RaftSettings,
    /// Where this node listens for others.
    pub listen: Box<dyn crate::seam::Listener>,
    pub on_call: CallHandler,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// No link to that broker; the request was not sent.
    #[error("broker {0} is not reachable")]
    Unreachable(BrokerId),
    /// Sent, and not answered: it may have been executed.
    #[error("broker {broker} did not answer within {waited:?}")]
    NoAnswer { broker: BrokerId, waited: Duration },
}

#[derive(Clone)]
pub struct RaftNode;

impl RaftNode {
    pub async fn start(_deps: NodeDeps) -> RaftNode {
        unimplemented!()
    }
    /// Runs a replica. `fresh` is its state if it has none on disk.
    pub async fn open<S: Replicated>(&self, _spec: GroupSpec, _fresh: S) -> Result<Group<S>, OpenError> {
        unimplemented!()
    }
    /// Stops a replica; its data stays.
    pub async fn close(&self, _group: RaftGroupId) {
        unimplemented!()
    }
    /// Stops a replica, then deletes its data and leaves a tombstone (SAFETY M11).
    pub async fn delete(&self, _group: RaftGroupId) -> Result<(), OpenError> {
        unimplemented!()
    }
    /// Names a peer's address; a link to it is kept from then on.
    pub fn set_peer(&self, _broker: BrokerId, _address: String) {
        unimplemented!()
    }
    pub fn set_cluster(&self, _cluster: u128) {
        unimplemented!()
    }
    /// A round trip to it was made in the last second.
    pub fn peer_alive(&self, _broker: BrokerId) -> bool {
        unimplemented!()
    }
    /// The leader with the highest term announced for a group (SAFETY M10), hosted here or not.
    pub fn leader_of(&self, _group: RaftGroupId) -> Option<Leader> {
        unimplemented!()
    }
    /// Changes whenever any leader announcement was news.
    pub fn leaders_changed(&self) -> tokio::sync::watch::Receiver<u64> {
        unimplemented!()
    }
    /// Sends an opaque request to a broker's call handler. At most 8 MiB.
    pub async fn call(&self, _to: BrokerId, _request: Bytes, _within: Duration) -> Result<Bytes, CallError> {
        unimplemented!()
    }
    /// Says goodbye to all peers and stops every group. Transfer leaderships first (SAFETY M13).
    pub async fn shutdown(&self) {
        unimplemented!()
    }
}
