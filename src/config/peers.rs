//! The list of peers and who founds a cluster.

use std::{fmt, str::FromStr};

use super::address::host_port;
use crate::types::BrokerId;

/// Voters of the metadata group at founding, from five peers on; three (or all) below that.
pub const FOUNDERS_MAX: usize = 5;

/// One line of the peers list: `id@host:port`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    pub id: BrokerId,
    /// The address of the peer's listener for other brokers.
    pub address: String,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.address)
    }
}

/// The first voters of the metadata group: the lowest three ids, five from five peers on.
pub fn founders(peers: &[Peer]) -> Vec<BrokerId> {
    let mut ids: Vec<BrokerId> = peers.iter().map(|p| p.id).collect();
    ids.sort_unstable();
    let voters = if ids.len() >= FOUNDERS_MAX { FOUNDERS_MAX } else { 3 };
    ids.truncate(voters);
    ids
}

/// Equal lists have equal hashes; the order in which peers were written does not matter. Only against
/// mistakes, not against attackers: FNV-1a over the lines `id@host:port\n` in id order. Goes over the
/// wire between brokers of different versions, so it never changes.
pub fn peers_hash(peers: &[Peer]) -> u64 {
    let mut lines: Vec<&Peer> = peers.iter().collect();
    lines.sort_unstable();
    let text: String = lines.iter().map(|p| format!("{p}\n")).collect();
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Why a list that names only the broker itself founds no cluster, and what to do.
pub fn alone(peers: &[Peer]) -> String {
    format!(
        "`peers` names no broker but this one ({}), and a cluster founded by one broker can never be merged with \
         another: list the others, or set `single = \"on\"` (--single) to found a cluster of one",
        peers_text(peers)
    )
}

/// The list of peers, for people.
pub fn peers_text(peers: &[Peer]) -> String {
    peers.iter().map(Peer::to_string).collect::<Vec<_>>().join(", ")
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Peer, String> {
        let (id, address) = text.split_once('@').ok_or("write id@host:port, for example 2@10.0.0.2:7071")?;
        let id = id.parse().map(BrokerId).map_err(|_| format!("{id:?} before the @ is not a number"))?;
        host_port(address)?;
        Ok(Peer { id, address: address.to_string() })
    }
}
