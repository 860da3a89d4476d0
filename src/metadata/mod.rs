//! The metadata group's state machine: the cluster's identity, brokers, topics with their configs
//! and placement, tombstones of deleted groups, producer-id blocks, consumer groups.
//!
//! Promises: pure and deterministic; a refusal changes nothing; replica, group and producer ids are
//! never handed out twice, not even after deletes (SAFETY B5); a group's `initial` list never changes
//! (SAFETY B6). Consumer groups are module `group`'s; what happens to topics happens to them in the
//! same apply. What the cluster may write at which feature level is decided here ([`Metadata::write`]), by the rule of
//! [`formats`](crate::formats). Leaves out: leadership (announced by leaders, SAFETY M10), liveness, timers.

mod apply;
mod codec;
mod command;
mod config_keys;
pub mod contracts;
#[cfg(test)]
mod fuzz;
mod invariants;
mod levels;
mod limits;
mod placement;
mod response;
mod state;
mod topic_config;

pub use codec::MalformedBytes;
pub use command::{
    AddPartitions, AllocateProducerIds, AlterTopic, COMMAND_VERSION, Change, Command, CreateTopic, DeleteTopic,
    ForgetDeleted, Found, RaiseFeatureLevel, RegisterBroker,
};
pub use config_keys::{ConfigAbout, ConfigKind};
pub use levels::KAFKA_ADDRESS_LEVEL;
pub use limits::{
    BROKERS_MAX, DELETED_GROUPS_MAX, MAX_MESSAGE_BYTES_MAX, PARTITIONS_MAX, PARTITIONS_PER_TOPIC_MAX,
    PRODUCER_ID_BLOCK, REPLICATION_FACTOR_DEFAULT, REPLICATION_FACTOR_MAX, TOPICS_MAX, check_topic_name,
};
pub use response::{Outcome, RESPONSE_VERSION, Refusal, Response, decode_response};
pub use state::{
    Broker, DeletedGroup, DeletedPlacement, Metadata, PartitionInfo, PartitionPlacement, STATE_VERSION, Topic,
};
pub use topic_config::{ConfigEntry, TimestampType, TopicConfig};

#[cfg(test)]
mod tests;
