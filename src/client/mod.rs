//! The Rust client: producer, consumer, admin calls, over the public gRPC API and nothing else.
//!
//! Promises: what is sent resolves exactly once (`producer`); what is read is dense and in order
//! (`consumer`), and read by one member of a group at a time (`group`); every error says what it did
//! to the log ([`ClientError::effect`]); every wait has a deadline. Leaves out: TLS, and anything a
//! broker decides.

mod admin;
mod asking;
mod balance;
mod batches;
mod consumer;
mod error;
mod group;
mod metadata;
mod net;
mod partitioner;
mod producer;

pub use crate::types::{PartitionId, TopicPartition};
pub use admin::{Admin, OffsetAt};
pub use balance::{LeaderMove, carry_out, preferred_moves};
pub use consumer::{Chunk, ConsumeOptions, ConsumedRecord, Consumer, Gaps, Notice, Start};
pub use error::{BrokerError, ClientError, ERROR_TRAILER, Effect, ErrorCode};
pub use group::{
    GroupConsumer, GroupEvent, GroupOptions, GroupRecords, OffsetJump, OffsetReset, OffsetToCommit,
    POLL_INTERVAL_MAX_DEFAULT, POLL_INTERVAL_MAX_MIN,
};
pub use metadata::{Leader, Metadata};
pub use net::{Cluster, World};
pub use partitioner::{Partitioner, murmur2, partition_of_key};
pub use producer::{Acks, Deliveries, Delivery, Outcome, Producer, ProducerOptions, SendError, TopicHandle};

pub use crate::proto::v1;

#[cfg(test)]
mod asking_tests;
#[cfg(test)]
mod consumer_tests;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod fake_groups;
#[cfg(test)]
mod fake_tests;
#[cfg(test)]
mod group_tests;
#[cfg(test)]
mod producer_tests;
