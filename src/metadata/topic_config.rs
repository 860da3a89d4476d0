//! Topic configs: the keys we know, their rules and defaults.
//!
//! What is stored is what the user set, as text under Kafka's names; [`TopicConfig`] is what it means.

use std::collections::BTreeMap;

use super::response::Refusal;

/// What a topic's configs mean, defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// Records older than this may be trimmed. None: never.
    pub retention_ms: Option<u64>,
    /// Of one partition. None: no bound.
    pub retention_bytes: Option<u64>,
    /// The largest record batch accepted.
    pub max_message_bytes: u32,
    /// The longest time between two checkpoints.
    pub segment_ms: u64,
    pub timestamp_type: TimestampType,
    /// How far a client's timestamp may lie ahead of the leader's clock.
    pub timestamp_after_max_ms: u64,
    /// At most the majority of the replicas; an acknowledged record is always on a majority anyway (SAFETY B8).
    pub min_insync_replicas: u32,
}

/// Whose time a record carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// One line of a topic's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    pub key: &'static str,
    pub value: String,
    pub is_default: bool,
}

impl TopicConfig {
    /// Reads what the metadata holds (or a user offers). `replication_factor` bounds `min.insync.replicas`.
    pub fn parse(configs: &BTreeMap<String, String>, replication_factor: i32) -> Result<TopicConfig, Refusal> {
        todo!("{configs:?} {replication_factor}")
    }

    /// Every known key with its value, in key order.
    pub fn entries(configs: &BTreeMap<String, String>) -> Vec<ConfigEntry> {
        todo!("{configs:?}")
    }
}

impl Default for TopicConfig {
    fn default() -> TopicConfig {
        todo!()
    }
}
