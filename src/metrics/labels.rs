//! What labels say: an enum each, so that no value is sent that is not listed here with its meaning.

use prometheus_client::encoding::EncodeLabelSet;

use crate::proto::v1;

/// Why something was refused or closed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReasonLabel {
    pub reason: &'static str,
}

pub(super) const UNPOISONED: &str = "no code that holds this lock panics";

/// What asking another replica to lead came to (`flotilla_raft_transfers_total`, label `result`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferResult {
    /// The other one leads.
    Moved,
    /// It did not within the time: this one leads on, or somebody else does.
    Failed,
}

impl TransferResult {
    pub fn name(self) -> &'static str {
        match self {
            TransferResult::Moved => "moved",
            TransferResult::Failed => "failed",
        }
    }
}

/// Why a peer's frame was not acted on (`flotilla_raft_frames_refused_total`, label `reason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameRefusal {
    /// No peer of ours sends such bytes: the stream ends.
    Malformed,
    /// A leader was announced that cannot be one.
    Announcement,
    /// The replica that the frame is for is not here.
    NoSuchReplica,
    /// The term that the frame names cannot be.
    Term,
    /// This node's disk takes no partition entries.
    DiskFull,
    /// Too many bytes of peers wait for this node's disk.
    Memory,
    /// The replica answers none of too many append exchanges.
    Exchanges,
    /// The peer is sending too many snapshots at once.
    Snapshots,
    /// Too many votes, transfers or snapshots of the peer are worked on.
    Requests,
}

impl FrameRefusal {
    pub fn name(self) -> &'static str {
        match self {
            FrameRefusal::Malformed => "malformed",
            FrameRefusal::Announcement => "announcement",
            FrameRefusal::NoSuchReplica => "no_such_replica",
            FrameRefusal::Term => "term",
            FrameRefusal::DiskFull => "disk_full",
            FrameRefusal::Memory => "memory",
            FrameRefusal::Exchanges => "exchanges",
            FrameRefusal::Snapshots => "snapshots",
            FrameRefusal::Requests => "requests",
        }
    }
}

/// Why a connection was closed as soon as it was accepted, or was not accepted (`flotilla_connections_refused_total`,
/// label `reason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionRefusal {
    /// The listener has as many connections as its limit allows.
    Limit,
    /// The listener has as many connections as the process has descriptors for.
    Descriptors,
    /// The operating system hands out no connection: accepting one failed.
    Accept,
}

impl ConnectionRefusal {
    pub fn name(self) -> &'static str {
        match self {
            ConnectionRefusal::Limit => "limit",
            ConnectionRefusal::Descriptors => "descriptors",
            ConnectionRefusal::Accept => "accept",
        }
    }
}

/// What a peer was holding up when its connection was closed for others that waited
/// (`flotilla_slow_peers_closed_total`, label `reason`). Clients read the same words in a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldUp {
    SmallMessages,
    LargeMessages,
    /// The peer does not take the answers that it asked for.
    Answers,
    /// The peer does not take answers for which batches were decompressed.
    Decoded,
    /// The peer sends a Produce request in Kafka's protocol bit by bit.
    KafkaProduces,
    /// The peer sends some other request in Kafka's protocol bit by bit.
    KafkaRequests,
}

impl HeldUp {
    pub fn name(self) -> &'static str {
        match self {
            HeldUp::SmallMessages => "small messages that arrive",
            HeldUp::LargeMessages => "large messages that arrive",
            HeldUp::Answers => "answers that are not taken",
            HeldUp::Decoded => "decompressed batches",
            HeldUp::KafkaProduces => "Kafka produce requests that arrive",
            HeldUp::KafkaRequests => "Kafka requests",
        }
    }
}

/// What a client asked for (`flotilla_requests_total`, label `api`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    Produce,
    Consume,
    GetMetadata,
    Health,
    TransferLeader,
    RaiseFeatureLevel,
    HashReplica,
    InitProducerId,
    GroupHeartbeat,
    GroupLeave,
    CommitOffsets,
    FetchOffsets,
    ListGroups,
    DescribeGroup,
    DeleteGroup,
    DeleteOffsets,
    CreateTopic,
    ListTopics,
    DescribeTopic,
    AlterTopic,
    AddPartitions,
    TrimPartition,
    DeleteTopic,
    ListOffset,
}

impl Api {
    pub fn name(self) -> &'static str {
        match self {
            Api::Produce => "produce",
            Api::Consume => "consume",
            Api::GetMetadata => "get_metadata",
            Api::Health => "health",
            Api::TransferLeader => "transfer_leader",
            Api::RaiseFeatureLevel => "raise_feature_level",
            Api::HashReplica => "hash_replica",
            Api::InitProducerId => "init_producer_id",
            Api::GroupHeartbeat => "group_heartbeat",
            Api::GroupLeave => "group_leave",
            Api::CommitOffsets => "commit_offsets",
            Api::FetchOffsets => "fetch_offsets",
            Api::ListGroups => "list_groups",
            Api::DescribeGroup => "describe_group",
            Api::DeleteGroup => "delete_group",
            Api::DeleteOffsets => "delete_offsets",
            Api::CreateTopic => "create_topic",
            Api::ListTopics => "list_topics",
            Api::DescribeTopic => "describe_topic",
            Api::AlterTopic => "alter_topic",
            Api::AddPartitions => "add_partitions",
            Api::TrimPartition => "trim_partition",
            Api::DeleteTopic => "delete_topic",
            Api::ListOffset => "list_offset",
        }
    }
}

/// How a request ended (`flotilla_requests_total`, label `result`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestResult {
    Ok,
    /// The client was told this error.
    Failed(v1::ErrorCode),
}

impl RequestResult {
    /// The protocol's own name, for an error.
    pub fn name(self) -> &'static str {
        match self {
            RequestResult::Ok => "ok",
            RequestResult::Failed(code) => code.as_str_name(),
        }
    }
}
