//! Tests of the state machine as a whole. Each file says what it proves.

pub(super) mod frozen;
pub(super) mod groups;
mod levels;
mod many;
mod placement;
mod properties;
mod script;

use std::collections::BTreeMap;

use super::*;
use crate::replicated::{CannotApply, Replicated};
use crate::types::{BrokerId, ClusterId, EntryPosition, LogIndex, StorageId, Term, TopicId, WallMs};

/// A metadata group without Raft: applies one command after another.
#[derive(Clone, Debug, Default)]
pub(super) struct Cluster {
    pub state: Metadata,
    index: u64,
}

impl Cluster {
    /// Founded, with brokers 1 to `brokers`; broker i in rack `rack(i)`.
    pub fn founded(brokers: u64, rack: impl Fn(u64) -> Option<String>) -> Cluster {
        let mut cluster = Cluster::default();
        let founders = (1..=brokers.min(3)).map(BrokerId).collect();
        cluster.apply(Change::Found(Found { cluster_id: ClusterId(0xC0FFEE), founders })).expect("first founding");
        for id in 1..=brokers {
            let mut broker = registration(id);
            broker.rack = rack(id);
            cluster.apply(Change::RegisterBroker(broker)).expect("a valid registration");
        }
        cluster
    }

    pub fn apply(&mut self, change: Change) -> Response {
        let bytes = Command::new(WallMs(1_000 * self.index as i64), change).encode();
        self.apply_bytes(&bytes)
    }

    pub fn apply_bytes(&mut self, bytes: &bytes::Bytes) -> Response {
        self.try_apply(bytes).expect("a command of ours, in order")
    }

    /// Err: the replica would stop.
    pub fn try_apply(&mut self, bytes: &bytes::Bytes) -> Result<Response, CannotApply> {
        self.index += 1;
        let at = EntryPosition { term: Term(1), index: LogIndex(self.index) };
        let applied = self.state.apply(at, bytes)?;
        Ok(decode_response(&applied.response).expect("apply encodes what decode reads"))
    }
}

pub(super) fn registration(id: u64) -> RegisterBroker {
    RegisterBroker {
        id: BrokerId(id),
        storage_id: StorageId(0x5000 + u128::from(id)),
        client_address: format!("10.0.0.{id}:7070"),
        peer_address: format!("10.0.0.{id}:7071"),
        http_address: format!("10.0.0.{id}:7080"),
        rack: None,
        version: "0.1.0".to_string(),
    }
}

pub(super) fn creation(name: &str, partitions: i32, replication_factor: i32) -> CreateTopic {
    let topic_id = TopicId(name.bytes().fold(7, |id, byte| id * 257 + u128::from(byte)));
    CreateTopic { name: name.to_string(), topic_id, partitions, replication_factor, configs: BTreeMap::new() }
}
