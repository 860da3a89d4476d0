//! What may be asked of consumer groups in an entry of the metadata group. Persisted as part of the
//! metadata's commands: no struct here ever changes; what must change becomes a new variant behind a feature
//! level ([`formats`](crate::formats)).
//!
//! Every decision of the coordinator names what it was decided on (member, epoch or generation), and
//! is decided again in `apply` (SAFETY M9): the coordinator may have been deposed, or late.

use serde::{Deserialize, Serialize};

use super::types::{PartitionSet, Subscription};
use crate::types::{GroupName, LeaderEpoch, MemberId, Offset, PartitionId};

/// One change of consumer groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupCommand {
    /// A new member with assignment on the server.
    Join(Join),
    /// A heartbeat that changes something: see [`Group::report_changes`](super::Group::report_changes).
    Report(Report),
    /// Members leave by themselves. Both protocols.
    Leave(Leave),
    /// The coordinator gives members up. Both protocols.
    Expire(Expire),
    /// The topics that a pattern matches have changed.
    ResolvePattern(ResolvePattern),
    /// Classic: a member joins, or joins again.
    JoinClassic(JoinClassic),
    /// Classic: the join phase is over.
    CompleteClassic(CompleteClassic),
    /// Classic: the group leader's assignments.
    SyncClassic(SyncClassic),
    /// Offsets of many groups at once, each judged by itself.
    Commit(Vec<Commit>),
    DeleteGroup {
        group: GroupName,
    },
    /// Forgets offsets of partitions that no member holds.
    DeleteOffsets {
        group: GroupName,
        partitions: PartitionSet,
    },
    /// Drops what has been without members for longer than `retention_ms`.
    ExpireOffsets {
        groups: Vec<GroupName>,
        retention_ms: u64,
    },
    /// As `DeleteOffsets`; of classic consumers' groups those of topics to which no member subscribes. Level 3.
    DeleteUnreadOffsets {
        group: GroupName,
        partitions: PartitionSet,
    },
}

impl GroupCommand {
    /// The feature level that this variant came with: whoever supports it can read it.
    pub fn level(&self) -> u32 {
        match self {
            GroupCommand::Join(_)
            | GroupCommand::Report(_)
            | GroupCommand::Leave(_)
            | GroupCommand::Expire(_)
            | GroupCommand::ResolvePattern(_)
            | GroupCommand::JoinClassic(_)
            | GroupCommand::CompleteClassic(_)
            | GroupCommand::SyncClassic(_)
            | GroupCommand::Commit(_)
            | GroupCommand::DeleteGroup { .. }
            | GroupCommand::DeleteOffsets { .. }
            | GroupCommand::ExpireOffsets { .. } => 1,
            GroupCommand::DeleteUnreadOffsets { .. } => 3,
        }
    }
}

/// Repeating it (its outcome was not learnt) is harmless.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    pub group: GroupName,
    /// Drawn by the coordinator, never used before.
    pub member: MemberId,
    /// A member with the same instance id is replaced by this one.
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: u32,
    pub rebalance_timeout_ms: u32,
    pub subscription: Subscription,
    /// The topics that the subscription's pattern matches, as the coordinator sees it. Empty without one.
    pub resolved: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub group: GroupName,
    pub member: MemberId,
    /// The epoch of the last answer that the member had.
    pub epoch: i32,
    /// Partitions that it has let go of: [`ServerMember::released_by`](super::ServerMember::released_by).
    pub released: PartitionSet,
    /// The member's new subscription. None: it is the same as before.
    pub subscription: Option<Subscription>,
    /// The topics that the pattern matches, as in [`Join`]. Looked at only with a new subscription.
    pub resolved: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leave {
    pub group: GroupName,
    pub leavers: Vec<LeavingMember>,
}

/// Named by its id, its instance id, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeavingMember {
    /// Empty: whoever has the instance id.
    pub member: MemberId,
    pub instance: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expire {
    pub group: GroupName,
    /// Those who are not there (any more) are passed over.
    pub members: Vec<MemberId>,
    pub because: ExpireCause,
}

/// Why the coordinator gives a member up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExpireCause {
    /// No heartbeat within its session timeout.
    Session,
    /// Server-assigned: asked at this epoch or before to let go of a partition, it still has not.
    Revocation { epoch: i32 },
    /// Classic: it joined this generation and has not synced within its rebalance timeout.
    Sync { generation: i32 },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvePattern {
    pub group: GroupName,
    pub pattern: String,
    /// Sorted or not, twice or not: apply sorts.
    pub topics: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinClassic {
    pub group: GroupName,
    /// The member's own id, or one that the coordinator has drawn.
    pub member: MemberId,
    /// `member` was drawn for this join (or handed out before by MEMBER_ID_REQUIRED): it need not be known.
    pub is_new: bool,
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: u32,
    pub rebalance_timeout_ms: u32,
    pub protocol_type: String,
    /// The protocols that the member speaks, the preferred ones first: name and opaque subscription.
    pub protocols: Vec<(String, Vec<u8>)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompleteClassic {
    pub group: GroupName,
    /// The generation that is ending.
    pub generation: i32,
    /// The time to join is over: dynamic members that have not joined are out. False: everybody has joined.
    pub timed_out: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncClassic {
    pub group: GroupName,
    pub generation: i32,
    /// Must be the group leader.
    pub member: MemberId,
    /// Members left out get an empty assignment; strangers are passed over.
    pub assignments: Vec<(MemberId, Vec<u8>)>,
}

/// The offsets that one request commits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    pub group: GroupName,
    /// Empty: on behalf of nobody, only while the group has no members.
    pub member: MemberId,
    pub instance: Option<String>,
    /// The member's epoch or the classic generation.
    pub epoch: i32,
    pub offsets: Vec<CommitOffset>,
    /// Server-assigned: larger than in the member's commit before, so that a late copy of an earlier one takes
    /// nothing back. 0: not numbered.
    pub sequence: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitOffset {
    pub topic: String,
    pub partition: PartitionId,
    /// The next offset to read.
    pub offset: Offset,
    pub leader_epoch: Option<LeaderEpoch>,
    pub metadata: String,
}
