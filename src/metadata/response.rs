//! What applying a command came to: an [`Outcome`] or a [`Refusal`]. A version byte, then postcard.
//!
//! A refusal changed nothing, always.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::codec::{self, MalformedBytes};
use crate::group::{GroupOutcome, GroupRefusal};
use crate::types::{BrokerId, ClusterId, ProducerId, ReplicaId, StorageId, TopicId};

/// Version byte of encoded responses. They travel between brokers of different versions.
pub const RESPONSE_VERSION: u8 = 1;

/// The answer to a command.
pub type Response = Result<Outcome, Refusal>;

/// What was done: the answer to a change that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Founded {
        cluster_id: ClusterId,
    },
    BrokerRegistered {
        /// The broker's own replica of the metadata group.
        metadata_replica: ReplicaId,
    },
    TopicCreated {
        topic_id: TopicId,
    },
    PartitionsAdded {
        /// The new total.
        partitions: i32,
    },
    TopicAltered,
    TopicDeleted {
        partitions: i32,
        replication_factor: i32,
    },
    /// `first..first + count` belong to the asking broker for good.
    ProducerIds {
        first: ProducerId,
        count: i64,
    },
    DeletedForgotten,
    Group(GroupOutcome),
    /// Equal levels: the cluster was there already.
    FeatureLevelRaised {
        from: u32,
        to: u32,
    },
}

/// Why a change was refused. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Said by earlier versions only: what cannot be read stops the replica now.
    #[error("the metadata command cannot be read: {detail}")]
    Malformed { detail: String },
    #[error("the cluster is not founded yet")]
    NotFounded,
    #[error("this cluster was founded as {cluster_id} and cannot be founded again")]
    AlreadyFounded { cluster_id: ClusterId },
    #[error("founders: {rule}")]
    InvalidFounders { rule: String },
    #[error(
        "broker {broker} is registered with storage id {registered}, but its data directory has {offered}: \
         the directory was emptied or belongs to another broker. Give it back its directory, or start it under a new id"
    )]
    StorageIdMismatch { broker: BrokerId, registered: StorageId, offered: StorageId },
    #[error("broker {broker}: {field} is {value:?}, {rule}")]
    InvalidBroker { broker: BrokerId, field: String, value: String, rule: String },
    #[error("storage id {storage_id} of broker {broker} belongs to broker {owner}: a copied data directory")]
    StorageIdTaken { broker: BrokerId, owner: BrokerId, storage_id: StorageId },
    #[error("broker {broker} is not registered")]
    UnknownBroker { broker: BrokerId },
    #[error("{have} brokers are registered, no more are allowed")]
    TooManyBrokers { have: usize },
    #[error("topic {name:?} exists already")]
    TopicExists { name: String },
    #[error("topic {name:?} does not exist")]
    UnknownTopic { name: String },
    #[error("{name:?} is not a topic name: {rule}")]
    InvalidName { name: String, rule: String },
    #[error("topic config {key}={value:?}: {rule}")]
    InvalidConfig { key: String, value: String, rule: String },
    #[error("{asked} partitions asked for: {rule}")]
    InvalidPartitions { asked: i32, rule: String },
    #[error("replication factor {asked}: {rule}")]
    InvalidReplicationFactor { asked: i32, rule: String },
    #[error("replication factor {asked} needs as many brokers, {have} are registered")]
    TooFewBrokers { asked: i32, have: usize },
    #[error("the cluster has {have} partitions and {asked} more would pass its limit of {max}")]
    TooManyPartitions { asked: usize, have: usize, max: usize },
    #[error("the cluster has {have} topics, no more are allowed")]
    TooManyTopics { have: usize },
    #[error("topic {name:?} has {have} partitions and cannot be changed to {asked}: partitions can only be added")]
    PartitionsNotMore { name: String, have: i32, asked: i32 },
    #[error("ids of this kind are used up")]
    IdsExhausted,
    #[error("consumer group: {0}")]
    Group(GroupRefusal),
    #[error("feature level {asked} needs every broker to support it: {}", behind_text(.behind))]
    BrokersBehind {
        asked: u32,
        /// What they support, if they ever said so.
        behind: Vec<(BrokerId, Option<u32>)>,
    },
    #[error("the cluster is at feature level {level} and cannot go back to {asked}: levels only rise")]
    LevelLowered { asked: u32, level: u32 },
    #[error(
        "this needs feature level {needed} and the cluster is at {level}: `flotilla cluster upgrade` raises it once every \
         broker supports more"
    )]
    AboveLevel { needed: u32, level: u32 },
}

fn behind_text(behind: &[(BrokerId, Option<u32>)]) -> String {
    let one = |(broker, supports): &(BrokerId, Option<u32>)| match supports {
        Some(level) => format!("broker {broker} supports up to {level}"),
        None => {
            format!("broker {broker} does not say that it supports more than 1 (an older version, or it does not run)")
        }
    };
    behind.iter().map(one).collect::<Vec<_>>().join(", ")
}

pub(super) fn encode(response: &Response) -> Bytes {
    codec::encode(RESPONSE_VERSION, response)
}

/// The inverse of what `apply` put into `Applied.response`.
pub fn decode_response(bytes: &[u8]) -> Result<Response, MalformedBytes> {
    codec::decode(RESPONSE_VERSION, bytes)
}
