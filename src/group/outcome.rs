//! What a group command came to. Travels between brokers and is frozen like commands.
//!
//! A refusal changed nothing, always; a batch of commits is never refused as a whole.

use serde::{Deserialize, Serialize};

use crate::types::PartitionId;

/// What was done: the answer to a command that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupOutcome {
    /// The member is in the group, at this epoch.
    Joined {
        epoch: i32,
    },
    /// A heartbeat was taken: the member's epoch afterwards.
    Reported {
        epoch: i32,
    },
    /// Members left. One result for each of them, in their order: None where it left.
    Left {
        refused: Vec<Option<GroupRefusal>>,
    },
    /// How many were there to be expired.
    Expired {
        members: u32,
    },
    PatternResolved,
    JoinedClassic(ClassicJoinEnd),
    /// The new generation; None: nobody is left in the group.
    CompletedClassic {
        generation: Option<i32>,
    },
    SyncedClassic,
    /// Offsets were committed. One result for each commit, in their order: those that were refused by their place in
    /// `offsets`, or why all were.
    Committed {
        results: Vec<CommitResult>,
    },
    GroupDeleted,
    /// Offsets were deleted. What is listed, by topic and partition, stayed; the others are gone.
    OffsetsDeleted {
        refused: Vec<(String, PartitionId, OffsetRefusal)>,
    },
    OffsetsExpired {
        offsets: u32,
        groups: u32,
    },
}

/// Per commit: an empty list means that all is committed.
pub type CommitResult = Result<Vec<(u32, OffsetRefusal)>, GroupRefusal>;

/// How a classic join goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClassicJoinEnd {
    /// It waits for the join phase to end.
    Waits,
    /// The present generation stays, and is its answer.
    Current,
}

/// Why a command was refused. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum GroupRefusal {
    #[error("invalid request: {detail}")]
    InvalidRequest { detail: String },
    #[error("the group does not exist")]
    UnknownGroup,
    #[error("the group does not know the member (any more)")]
    UnknownMember,
    /// Classic: another generation. Server-assigned: an epoch that was never given out.
    #[error("it says epoch {found}, the group is at {current}")]
    WrongEpoch { found: i32, current: i32 },
    #[error("instance {instance:?} is another member now")]
    FencedInstance { instance: String },
    /// Classic: join again, or wait.
    #[error("the group is rebalancing")]
    Rebalancing,
    #[error("the group has {members} members")]
    NotEmpty { members: u32 },
    #[error("the group uses another protocol: {detail}")]
    ProtocolMismatch { detail: String },
    /// A decision of the coordinator that what happened in between has made void.
    #[error("the decision is void: {detail}")]
    Void { detail: String },
    #[error("limit reached: {detail}")]
    LimitReached { detail: String },
    /// Server-assigned: the member has sent a later commit, which was applied.
    #[error("commit {sequence} comes after commit {last}")]
    OldCommit { sequence: u64, last: u64 },
}

/// Why one offset was not committed, or not deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum OffsetRefusal {
    #[error("the topic does not exist")]
    UnknownTopic,
    #[error("the topic has no such partition")]
    UnknownPartition,
    /// Server-assigned: it belongs to another member, or to nobody.
    #[error("the member does not hold the partition")]
    NotHeld,
    /// Server-assigned: the member holds it, but only since a later epoch than it says.
    #[error("the member holds the partition since epoch {since}, later than it says")]
    OldEpoch { since: i32 },
    /// Deleting: a member of the group reads the partition or its topic.
    #[error("a member of the group reads it")]
    InUse,
    #[error("the offset is negative")]
    NegativeOffset,
    #[error("its metadata has {bytes} bytes, {max} are allowed")]
    MetadataTooLarge { bytes: u32, max: u32 },
    #[error("limit reached: {detail}")]
    LimitReached { detail: String },
}
