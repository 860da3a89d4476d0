//! The metadata group's state machine: the cluster's identity, brokers, topics with their configs
//! and placement, tombstones of deleted groups, producer-id blocks.
//!
//! Promises: pure and deterministic; a refusal changes nothing; replica, group and producer ids are
//! never handed out twice, not even after deletes (SAFETY B5); a group's `initial` list never changes
//! (SAFETY B6). Leaves out: leadership (announced by leaders, SAFETY M10), liveness, consumer groups
//! and offsets (later versions of the state).

mod codec;
mod command;
mod response;
mod state;
mod topic_config;

pub use codec::MalformedBytes;
pub use command::{
    AddPartitions, AllocateProducerIds, AlterTopic, COMMAND_VERSION, Change, Command, CreateTopic, DeleteTopic,
    ForgetDeleted, Found, RegisterBroker,
};
pub use response::{Outcome, RESPONSE_VERSION, Refusal, Response, decode_response};
pub use state::{Broker, DeletedGroup, DeletedPlacement, Metadata, PartitionInfo, PartitionPlacement, Topic};
pub use topic_config::{ConfigEntry, TimestampType, TopicConfig};
