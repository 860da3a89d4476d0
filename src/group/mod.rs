//! Consumer groups as the metadata group agrees on them: members, assignments, committed offsets.
//!
//! Pure: no clock, no randomness, no I/O; module `metadata` holds and applies it.

mod command;
mod groups;
pub mod limits;
mod offsets;
mod outcome;
mod state;
mod types;

pub use command::{
    Commit, CommitOffset, CompleteClassic, Expire, ExpireCause, GroupCommand, Join, JoinClassic, Leave, LeavingMember,
    Report, ResolvePattern, SyncClassic,
};
pub use groups::{Groups, PartitionCounts};
pub use offsets::CommittedOffset;
pub use outcome::{ClassicJoinEnd, CommitResult, GroupOutcome, GroupRefusal, OffsetRefusal};
pub use state::{
    ClassicMember, ClassicMembers, ClassicPhase, Group, Held, Members, Revoking, ServerMember, ServerMembers,
};
pub use types::{Assignor, GroupPhase, PartitionSet, Subscription};
