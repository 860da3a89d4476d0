//! What the faces ask about consumer groups and what they are told: plain data, no wire types.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    broker::errors::Effect,
    group::{GroupPhase, GroupRefusal, OffsetRefusal, PartitionSet, Subscription},
    types::{BrokerId, GroupName, LeaderEpoch, MemberId, Offset, PartitionId, TopicId, TopicPartition, WallMs},
};

/// One beat of a member with assignment on the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatRequest {
    pub group: GroupName,
    /// The member. Empty: it joins.
    pub member: MemberId,
    /// The epoch of the last answer that the member had.
    pub epoch: i32,
    pub subscription: Option<Subscription>,
    pub owns: PartitionSet,
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    /// How long the member may be silent. Zero: the default.
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatAnswer {
    pub member: MemberId,
    pub epoch: i32,
    pub assigned: PartitionSet,
    pub next_beat: Duration,
    pub rebalancing: bool,
}

/// Kafka's classic protocol, JoinGroup: answered when the rebalance it belongs to is complete.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassicJoin {
    pub group: GroupName,
    /// The member. Empty: a new one.
    pub member: MemberId,
    /// Whether a new dynamic member is first given its id, as JoinGroup has it since v4 (KIP-394).
    pub require_member_id: bool,
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    pub protocol_type: String,
    /// The protocols that the member speaks, the preferred ones first: name and opaque subscription.
    pub protocols: Vec<(String, Vec<u8>)>,
    /// Whether the member understands `skip_assignment` in the answer, as JoinGroup has it since v9 (KIP-814). Looked
    /// at where it waits, and told to nobody.
    #[serde(skip)]
    pub skips_assignment: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicJoined {
    pub generation: i32,
    pub member: MemberId,
    pub protocol_type: String,
    pub protocol: String,
    pub leader: MemberId,
    /// Every member with its instance id and subscription, for the group leader. Empty for the others.
    pub members: Vec<(MemberId, Option<String>, Vec<u8>)>,
    /// It leads and has nothing to assign: the generation that it came back into has its assignments (KIP-814).
    pub skip_assignment: bool,
}

/// SyncGroup: answered when the leader has sent its assignments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassicSync {
    pub group: GroupName,
    pub generation: i32,
    pub member: MemberId,
    pub instance: Option<String>,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    /// The leader's; empty from the others.
    pub assignments: Vec<(MemberId, Vec<u8>)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassicSynced {
    pub protocol_type: String,
    pub protocol: String,
    pub assignment: Vec<u8>,
}

/// Who asks to commit or to beat, in Kafka's words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassicBeat {
    pub group: GroupName,
    pub generation: i32,
    pub member: MemberId,
    pub instance: Option<String>,
}

/// A member that leaves, by its id or by its instance id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaver {
    /// Empty if only the instance is known.
    pub member: MemberId,
    pub instance: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetToCommit {
    pub at: TopicPartition,
    /// The topic that was read; None: whichever has the name.
    pub topic_id: Option<TopicId>,
    /// The next offset to read.
    pub offset: Offset,
    pub leader_epoch: Option<LeaderEpoch>,
    pub metadata: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRequest {
    pub group: GroupName,
    /// Empty: on behalf of nobody (`epoch` is not looked at), allowed while the group has no members.
    pub member: MemberId,
    pub instance: Option<String>,
    /// The member's epoch, or the generation of the classic protocol. Below zero, from Kafka's clients only: on behalf
    /// of nobody, whatever the member is, while the group has no members.
    pub epoch: i32,
    pub offsets: Vec<OffsetToCommit>,
    /// Larger than in the member's commit before; 0: not numbered. Fences late copies.
    pub sequence: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedOffset {
    pub at: TopicPartition,
    pub offset: Offset,
    pub leader_epoch: Option<LeaderEpoch>,
    pub metadata: String,
    pub committed_at: WallMs,
}

/// What a group has committed, and of which topics: both of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommittedOffsets {
    pub offsets: Vec<CommittedOffset>,
    /// The topics that were asked about by name and exist.
    pub topics: Vec<(String, TopicId)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSummary {
    pub group: GroupName,
    pub phase: GroupPhase,
    /// "flotilla", the classic protocol type, or empty if it only holds offsets.
    pub protocol: String,
    pub members: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    pub summary: GroupSummary,
    pub epoch: i32,
    pub assignor: String,
    pub coordinator: Option<BrokerId>,
    pub members: Vec<GroupMember>,
    /// Every partition that is committed or assigned.
    pub partitions: Vec<GroupPartition>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMember {
    pub member: MemberId,
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub subscription: Subscription,
    pub assigned: PartitionSet,
    /// It has been asked to let go of these.
    pub revoking: PartitionSet,
    /// The classic protocol's own bytes, opaque to us: subscription and assignment.
    pub classic: Option<(Vec<u8>, Vec<u8>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPartition {
    pub at: TopicPartition,
    pub member: Option<MemberId>,
    pub committed: Option<Offset>,
    pub metadata: String,
    /// Log start and high watermark. None where the leader could not be asked.
    pub bounds: Option<(Offset, Offset)>,
    /// Records from the committed offset (or the log start, if that is later) to the high watermark.
    pub lag: Option<i64>,
    /// Age of the first unread record by its timestamp; zero without lag.
    pub lag_time: Option<Duration>,
    /// Retention is about to delete records that were not read.
    pub retention_threatens: bool,
}

impl GroupPartition {
    /// One that nobody has read and nobody was asked about.
    pub fn unread(at: TopicPartition) -> GroupPartition {
        GroupPartition {
            at,
            member: None,
            committed: None,
            metadata: String::new(),
            bounds: None,
            lag: None,
            lag_time: None,
            retention_threatens: false,
        }
    }
}

/// Why a group request failed. Travels between brokers when it was forwarded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum GroupError {
    #[error("invalid request: {detail}")]
    InvalidRequest { detail: String },
    #[error("group {group:?} does not exist")]
    UnknownGroup { group: GroupName },
    #[error("group {group:?} does not know member {member:?} (any more): join anew")]
    UnknownMember { group: GroupName, member: MemberId },
    /// Kafka's MEMBER_ID_REQUIRED: join again with this id.
    #[error("join group {group:?} again as {member:?}")]
    MemberIdRequired { group: GroupName, member: MemberId },
    /// The member is fenced: it speaks of a generation that is not the group's, or sent a later commit already.
    #[error("member {member:?} of group {group:?} is fenced: {refusal}")]
    Refused { group: GroupName, member: MemberId, refusal: GroupRefusal },
    #[error("instance {instance:?} of group {group:?} is another member now")]
    FencedInstance { group: GroupName, instance: String },
    #[error("group {group:?} is rebalancing: join again")]
    Rebalancing { group: GroupName },
    #[error("group {group:?} has {members} members; stop them first")]
    NotEmpty { group: GroupName, members: usize },
    #[error("group {group:?} uses another protocol: {detail}")]
    ProtocolMismatch { group: GroupName, detail: String },
    #[error("session timeout {asked_ms} ms is outside {min_ms}..={max_ms} ms")]
    InvalidSessionTimeout { asked_ms: u64, min_ms: u64, max_ms: u64 },
    #[error("unknown topic {topic:?}")]
    UnknownTopic { topic: String },
    #[error("topic {topic:?} has no partition {partition}")]
    UnknownPartition { topic: String, partition: PartitionId },
    #[error("limit reached: {detail}")]
    LimitReached { detail: String },
    /// The coordinator moved, or is not ready: ask again.
    #[error("no coordinator could be reached within {waited_ms} ms; nothing was changed")]
    NoCoordinator { waited_ms: u64 },
    #[error("outcome unknown after {waited_ms} ms: {what} may yet happen")]
    OutcomeUnknown { what: String, waited_ms: u64 },
    /// The offset is one of a topic that is gone (SAFETY M11).
    #[error("the topic {topic:?} that was read was deleted, and another one has its name")]
    TopicReplaced { topic: String },
    /// One offset was not committed, or not deleted.
    #[error("{}", offset_text(.group, .member, .at, .refusal))]
    OffsetRefused { group: GroupName, member: MemberId, at: TopicPartition, refusal: OffsetRefusal },
    /// Told where it is asked, to who speaks Kafka's protocol.
    #[error("{refusal}")]
    InvalidGroupName { group: GroupName, refusal: GroupRefusal },
    /// The classic protocol's: others hear of a limit.
    #[error("group {group:?} has its {max} members, no more may join")]
    GroupFull { group: GroupName, max: usize },
    /// Told where it is asked, to who speaks Kafka's protocol: ask again.
    #[error("{max} {what} wait on this broker, no more may: ask again")]
    Crowded { what: String, max: usize },
}

impl GroupError {
    pub fn effect(&self) -> Effect {
        match self {
            Self::InvalidRequest { .. }
            | Self::InvalidGroupName { .. }
            | Self::Crowded { .. }
            | Self::GroupFull { .. }
            | Self::UnknownGroup { .. }
            | Self::UnknownMember { .. }
            | Self::MemberIdRequired { .. }
            | Self::Refused { .. }
            | Self::OffsetRefused { .. }
            | Self::FencedInstance { .. }
            | Self::Rebalancing { .. }
            | Self::NotEmpty { .. }
            | Self::ProtocolMismatch { .. }
            | Self::InvalidSessionTimeout { .. }
            | Self::UnknownTopic { .. }
            | Self::UnknownPartition { .. }
            | Self::LimitReached { .. }
            | Self::NoCoordinator { .. }
            | Self::TopicReplaced { .. } => Effect::None,
            Self::OutcomeUnknown { .. } => Effect::Unknown,
        }
    }

    /// Whether the same request may succeed later.
    pub fn is_retriable(&self) -> bool {
        match self {
            // Every group request may be repeated: it names its member, epoch or offset.
            Self::NoCoordinator { .. }
            | Self::OutcomeUnknown { .. }
            | Self::Rebalancing { .. }
            | Self::Crowded { .. } => true,
            Self::InvalidRequest { .. }
            | Self::InvalidGroupName { .. }
            | Self::GroupFull { .. }
            | Self::UnknownGroup { .. }
            | Self::UnknownMember { .. }
            | Self::MemberIdRequired { .. }
            | Self::Refused { .. }
            | Self::OffsetRefused { .. }
            | Self::FencedInstance { .. }
            | Self::NotEmpty { .. }
            | Self::ProtocolMismatch { .. }
            | Self::InvalidSessionTimeout { .. }
            | Self::UnknownTopic { .. }
            | Self::UnknownPartition { .. }
            | Self::LimitReached { .. }
            | Self::TopicReplaced { .. } => false,
        }
    }
}

fn offset_text(group: &GroupName, member: &MemberId, at: &TopicPartition, refusal: &OffsetRefusal) -> String {
    match refusal {
        OffsetRefusal::NotHeld | OffsetRefusal::OldEpoch { .. } | OffsetRefusal::InUse => {
            format!("member {member:?} of group {group:?} is fenced: {at}: {refusal}")
        }
        OffsetRefusal::NegativeOffset
        | OffsetRefusal::MetadataTooLarge { .. }
        | OffsetRefusal::UnknownTopic
        | OffsetRefusal::UnknownPartition => format!("invalid request: {at}: {refusal}"),
        OffsetRefusal::LimitReached { .. } => format!("limit reached: {at}: {refusal}"),
    }
}
