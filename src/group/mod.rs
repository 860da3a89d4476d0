//! Consumer groups as the metadata group agrees on them: members, assignments, committed offsets.
//!
//! Pure: no clock, no randomness, no I/O; module `metadata` holds and applies it.

mod assign;
mod classic;
mod command;
mod commit;
pub mod consumer_protocol;
pub mod contracts;
mod deal;
mod draft;
#[cfg(test)]
mod fuzz;
mod groups;
mod invariants;
pub mod limits;
mod members_usage;
mod offsets;
mod outcome;
mod server;
mod state;
mod types;
mod usage;
mod validate;

pub use command::{
    Commit, CommitOffset, CompleteClassic, Expire, ExpireCause, GroupCommand, Join, JoinClassic, Leave, LeavingMember,
    Report, ResolvePattern, SyncClassic,
};
pub use groups::Groups;
pub use offsets::StoredOffset;
pub use outcome::{ClassicJoinEnd, CommitResult, GroupOutcome, GroupRefusal, OffsetRefusal};
#[cfg(test)]
use state::Revoking;
pub use state::{ClassicMember, ClassicMembers, ClassicPhase, Group, Members, ServerMember, ServerMembers};
pub use types::{Assignor, GroupPhase, PartitionCounts, PartitionSet, Subscription};
pub use validate::group_name as check_name;

#[cfg(test)]
mod tests;
