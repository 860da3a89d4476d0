//! What the metadata group's entries say. A version byte, then postcard of [`Command`].
//!
//! A command is a wish, decided in `apply` on every replica alike. Whatever must be drawn or read
//! from the world (ids, the clock) is drawn by the proposer and travels in it. Persisted: no struct here ever
//! changes; what must change becomes a new variant behind a feature level ([`formats`](crate::formats)).

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::codec::{self, MalformedBytes};
use crate::group::GroupCommand;
use crate::types::{BrokerId, ClusterId, RaftGroupId, StorageId, TopicId, WallMs};

/// Version byte of encoded commands.
pub const COMMAND_VERSION: u8 = 1;

/// One entry of the metadata group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The proposing leader's wall clock: the only "now" that `apply` sees.
    pub now: WallMs,
    pub change: Change,
}

/// What to change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// The first command of a cluster's life (SAFETY B6). Repeating it is harmless.
    Found(Found),
    /// A broker reports itself at each start, and after a change of address.
    RegisterBroker(RegisterBroker),
    CreateTopic(CreateTopic),
    AddPartitions(AddPartitions),
    AlterTopic(AlterTopic),
    DeleteTopic(DeleteTopic),
    AllocateProducerIds(AllocateProducerIds),
    /// A broker has deleted its data of these deleted groups, durably: their tombstones may go.
    ForgetDeleted(ForgetDeleted),
    /// Consumer groups and their committed offsets.
    Group(GroupCommand),
    /// Does what `CreateTopic` does, and says who is dead. Only the metadata leader proposes it: out of a
    /// `CreateTopic`.
    CreateTopicOnLive {
        wish: CreateTopic,
        dead: Vec<BrokerId>,
    },
    /// Does what `AddPartitions` does, and says who is dead.
    AddPartitionsOnLive {
        wish: AddPartitions,
        dead: Vec<BrokerId>,
    },
    /// As `Found`, at a feature level. Level 2, like those below.
    FoundAt {
        wish: Found,
        feature_level: u32,
    },
    /// As `RegisterBroker`, and says which feature level the broker supports.
    RegisterBrokerAt {
        wish: RegisterBroker,
        feature_level: u32,
    },
    RaiseFeatureLevel(RaiseFeatureLevel),
    /// As `RegisterBrokerAt`, and says where Kafka clients reach the broker. Level 3.
    RegisterBrokerWithKafka {
        wish: RegisterBroker,
        feature_level: u32,
        /// The advertised address, host:port. Empty: the broker has no listener for Kafka clients.
        kafka_address: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Drawn by the founder.
    pub cluster_id: ClusterId,
    /// The first voters of the metadata group; their replica ids in it are their broker ids.
    pub founders: Vec<BrokerId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterBroker {
    pub id: BrokerId,
    /// The random identity of the broker's data directory (SAFETY B5).
    pub storage_id: StorageId,
    /// Advertised addresses, host:port.
    pub client_address: String,
    pub peer_address: String,
    pub http_address: String,
    pub rack: Option<String>,
    /// The version of the broker's software.
    pub version: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateTopic {
    pub name: String,
    /// Drawn by the proposer. A repetition with the same id answers as the first did.
    pub topic_id: TopicId,
    /// How many partitions the topic gets. 0: one.
    pub partitions: i32,
    /// 0: three, or all brokers if there are fewer (founders that have yet to register included).
    pub replication_factor: i32,
    pub configs: BTreeMap<String, String>,
}

/// Topics are named by name *and* id, so that a late command cannot reach a namesake (SAFETY M11).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddPartitions {
    pub name: String,
    pub topic_id: TopicId,
    /// The new total.
    pub partitions: i32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlterTopic {
    pub name: String,
    pub topic_id: TopicId,
    pub set: BTreeMap<String, String>,
    /// Back to the default. Taken before `set`.
    pub unset: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteTopic {
    pub name: String,
    pub topic_id: TopicId,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocateProducerIds {
    pub broker: BrokerId,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgetDeleted {
    pub broker: BrokerId,
    pub groups: Vec<RaftGroupId>,
}

/// From here on the cluster may write at a higher feature level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaiseFeatureLevel {
    /// The new level. What the cluster is at already changes nothing.
    pub to: u32,
    /// What brokers said that they support when they were just asked. Counts before what they registered with, which
    /// may be older, and which registrations of level 1 do not say.
    pub heard: Vec<(BrokerId, u32)>,
}

impl Change {
    /// The feature level that this variant came with: whoever supports it can read it.
    pub fn level(&self) -> u32 {
        match self {
            Change::Found(_)
            | Change::RegisterBroker(_)
            | Change::CreateTopic(_)
            | Change::AddPartitions(_)
            | Change::AlterTopic(_)
            | Change::DeleteTopic(_)
            | Change::AllocateProducerIds(_)
            | Change::ForgetDeleted(_)
            | Change::CreateTopicOnLive { .. }
            | Change::AddPartitionsOnLive { .. } => 1,
            Change::Group(command) => command.level(),
            Change::FoundAt { .. } | Change::RegisterBrokerAt { .. } | Change::RaiseFeatureLevel(_) => 2,
            Change::RegisterBrokerWithKafka { .. } => 3,
        }
    }

    /// The same, with new replicas on brokers that are not dead as far as there are enough. Others are no
    /// matter of placement.
    pub fn on_live(self, dead: Vec<BrokerId>) -> Change {
        match self {
            Change::CreateTopic(wish) => Change::CreateTopicOnLive { wish, dead },
            Change::AddPartitions(wish) => Change::AddPartitionsOnLive { wish, dead },
            other @ (Change::Found(_)
            | Change::RegisterBroker(_)
            | Change::AlterTopic(_)
            | Change::DeleteTopic(_)
            | Change::AllocateProducerIds(_)
            | Change::ForgetDeleted(_)
            | Change::Group(_)
            | Change::CreateTopicOnLive { .. }
            | Change::AddPartitionsOnLive { .. }
            | Change::FoundAt { .. }
            | Change::RegisterBrokerAt { .. }
            | Change::RaiseFeatureLevel(_)
            | Change::RegisterBrokerWithKafka { .. }) => other,
        }
    }
}

impl Command {
    pub fn new(now: WallMs, change: Change) -> Command {
        Command { now, change }
    }

    /// For [`Metadata::write`](super::Metadata::write), which looks at the cluster's level first.
    pub(super) fn encode(&self) -> Bytes {
        codec::encode(COMMAND_VERSION, self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Command, MalformedBytes> {
        codec::decode(COMMAND_VERSION, bytes)
    }
}
