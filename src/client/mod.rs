//! The Rust client: producers, consumers, groups and admin calls, over the public gRPC API and nothing else.
//!
//! # Where to start
//!
//! A [`Cluster`] is what all others are opened on: it knows some brokers, and learns of the rest. It connects to
//! nothing before something is asked.
//!
//! ```
//! use std::time::Duration;
//! use flotilla::client::{Admin, Cluster};
//!
//! # fn open() -> Result<(), flotilla::client::ClientError> {
//! let cluster = Cluster::new(vec!["127.0.0.1:9092".into(), "127.0.0.1:9093".into()])?;
//! let admin = Admin::new(cluster.clone(), Duration::from_secs(30));
//! # Ok(())
//! # }
//! # open().expect("these are addresses");
//! ```
//!
//! | To | take |
//! |---|---|
//! | create and describe topics, look after groups and the cluster | [`Admin`] |
//! | append records | [`Producer`], and [`Deliveries`] that say how each ended |
//! | read a partition | [`Consumer`] |
//! | share the partitions of topics among processes, and go on where they stopped | [`GroupConsumer`] |
//!
//! # What it promises
//!
//! - A record that was sent resolves exactly once: acknowledged, surely not stored, or unknown ([`Outcome`]). Retries
//!   never duplicate or reorder records.
//! - What is read comes in order and without a gap; what could not be read is said. A partition is read by one member
//!   of a group at a time.
//! - Every wait has a deadline, and whatever waits in memory has a bound.
//!
//! Not promised, because not there: TLS, transactions, exactly-once processing.
//!
//! # Errors and effects
//!
//! Everything that fails does so with a [`ClientError`]. Ask it, rather than its text:
//!
//! - [`ClientError::effect`]: a failed write surely did [`Effect::Nothing`], or its effect is [`Effect::Unknown`]. The
//!   second is rare (a connection broke, or an answer did not come in time) and has to be reckoned with: sent again,
//!   the record may be there twice.
//! - [`ClientError::is_retriable`]: whether the same may succeed a little later. The client has then tried for as long
//!   as it was allowed to.
//! - [`ClientError::code`]: the broker's reason, if a broker gave one.
//! - [`ClientError::is_not_found`]: whether there is no such topic, partition or group.
//!
//! # Features
//!
//! `default-features = false, features = ["client"]` builds this module alone, without consensus, storage and the
//! command line.
//!
//! # Examples
//!
//! Each of them runs in this repository's tests, against a cluster of three brokers.
//!
//! ## Topics
//!
//! ```no_run
#![doc = include_str!("examples/admin.rs")]
//! ```
//!
//! ## Producing
//!
//! ```no_run
#![doc = include_str!("examples/produce.rs")]
//! ```
//!
//! ## Consuming
//!
//! ```no_run
#![doc = include_str!("examples/consume.rs")]
//! ```
//!
//! ## A group with commits by hand
//!
//! ```no_run
#![doc = include_str!("examples/group.rs")]
//! ```

mod admin;
mod asking;
mod balance;
mod batches;
mod commit;
mod consumer;
mod error;
mod error_code;
mod group;
mod metadata;
mod net;
mod partitioner;
mod producer;
mod verify;

pub use crate::record::{Codec, Record};
pub use crate::types::{
    BrokerId, LeaderEpoch, LogIndex, Offset, PartitionId, RaftGroupId, TopicId, TopicPartition, WallMs,
};
pub use admin::{
    AddPartitions, Admin, AlterTopic, BrokerInfo, ClusterDescription, ClusterHealth, CommittedOffset, CreateTopic,
    DeleteGroup, DeleteTopic, DescribeCluster, GroupDescription, GroupMember, GroupPartition, GroupProtocol,
    GroupState, GroupSummary, Health, OffsetAt, PartitionDescription, PartitionRoute, RaiseFeatureLevel, RaisedLevel,
    RemoveMember, TopicDescription, TopicRoutes, TopicSummary, TransferLeader, TrimPartition,
};
pub use balance::{LeaderMove, carry_out, preferred_moves};
pub use commit::{OffsetToCommit, RefusedOffset};
pub use consumer::{Chunk, ConsumeOptions, ConsumedRecord, Consumer, Gaps, Notice, Start};
pub use error::{BrokerError, ClientError, Effect, ErrorCode, LeaderHint};
pub use group::{
    Assignor, GroupConsumer, GroupEvent, GroupOptions, GroupRecords, OffsetJump, OffsetReset,
    POLL_INTERVAL_MAX_DEFAULT, POLL_INTERVAL_MAX_MIN,
};
pub use metadata::{Leader, Metadata};
pub use net::{Cluster, World};
pub use partitioner::{Partitioner, murmur2, partition_of_key};
pub use producer::{Acks, Deliveries, Delivery, Outcome, Producer, ProducerOptions, Receipt, SendError, TopicHandle};
pub use verify::{Difference, Verdict, VerifiedDisks, VerifiedGroup, Verify, VerifyProgress};

/// The generated messages and stubs of the protocol, for tools that speak it themselves. It changes with the protocol.
#[doc(hidden)]
pub use crate::proto::v1 as raw;

#[cfg(test)]
mod asking_tests;
#[cfg(test)]
mod consumer_tests;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod fake_cluster;
#[cfg(test)]
mod fake_coordinator;
#[cfg(test)]
mod fake_groups;
#[cfg(test)]
mod fake_tests;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod group_tests;
#[cfg(test)]
mod producer_tests;
