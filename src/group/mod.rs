//! Consumer groups as the metadata group agrees on them: members, assignments, committed offsets.
//!
//! Pure: no clock, no randomness, no I/O; module `metadata` holds and applies it.

mod types;

pub use types::{Assignor, GroupPhase, PartitionSet, Subscription};
