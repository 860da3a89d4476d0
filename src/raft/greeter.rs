//! Who may link to whom: what two nodes say of themselves before anything else, and what is made of it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use super::{ground::Ground, wire::Hello};
use crate::types::{BrokerId, ClusterId};

/// The longest host name and a port.
const ADDRESS_BYTES_MAX: usize = 260;

pub(super) struct Greeter {
    ground: Arc<Ground>,
    /// Peers that said that they belong to another cluster, and to which.
    foreign: Mutex<BTreeMap<BrokerId, ClusterId>>,
}

impl Greeter {
    pub fn new(ground: Arc<Ground>) -> Greeter {
        Greeter { ground, foreign: Mutex::default() }
    }

    /// What this node says to a peer of itself.
    pub fn hello_to(&self, peer: BrokerId) -> Hello {
        Hello {
            cluster: self.ground.cluster(),
            from: self.ground.settings.broker,
            to: peer,
            incarnation: self.ground.incarnation,
            address: self.ground.settings.advertised.clone(),
        }
    }

    /// Nodes of different clusters never talk, and an address that leads to another node than it
    /// should is refused.
    pub fn check(&self, hello: &Hello, expected: Option<BrokerId>) -> Result<(), String> {
        let own = self.ground.settings.broker;
        if hello.to != own {
            return Err(format!("it looks for broker {}, this is {own}", hello.to));
        }
        if expected.is_some_and(|peer| peer != hello.from) {
            return Err(format!("broker {} answers there", hello.from));
        }
        let mut foreign = self.foreign.lock().expect("no panic under this lock");
        match (self.ground.cluster(), hello.cluster) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                // Once: it comes back twice a second.
                if foreign.insert(hello.from, theirs) != Some(theirs) {
                    tracing::error!(peer = %hello.from, "peer belongs to another cluster: {theirs}, ours is {ours}");
                }
                Err(format!("broker {} belongs to cluster {theirs}, broker {} to {ours}", hello.from, hello.to))
            }
            _ => {
                foreign.remove(&hello.from);
                Ok(())
            }
        }
    }

    /// Peers that belong to other clusters, as far as they said lately.
    pub fn foreign(&self) -> BTreeMap<BrokerId, ClusterId> {
        self.foreign.lock().expect("no panic under this lock").clone()
    }
}

/// Where a peer says that it can be dialled: after a move that is the address that works.
pub(super) fn told_address(hello: &Hello) -> Option<&str> {
    let address = hello.address.as_str();
    (!address.is_empty() && address.len() <= ADDRESS_BYTES_MAX).then_some(address)
}
