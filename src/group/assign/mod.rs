//! Who shall read which partition: pure functions of who reads which topics and who has what now.
//!
//! Promises, held by `tests`: every partition of a topic with readers goes to exactly one of them;
//! sticky leaves members with equal subscriptions at most one partition apart and moves no partition
//! that it need not move for that; round-robin evens out if all members read the same; range evens
//! out within each topic only.
//! Leaves out: how partitions change hands (module `deal`). Part of the replicated decision: any
//! change of a result is a feature level.

mod range;
mod round_robin;
mod sticky;
#[cfg(test)]
mod tests;
mod to_deal;

use super::types::Assignor;

pub(super) use to_deal::{Deal, Readers, TopicToDeal, includes};

impl Deal {
    /// Per topic and partition, the owner it shall have. None exactly where a topic has no readers.
    pub fn owners(&self, assignor: Assignor) -> Vec<Vec<Option<usize>>> {
        match assignor {
            Assignor::Sticky => sticky::owners(self),
            Assignor::Range => range::owners(self),
            Assignor::RoundRobin => round_robin::owners(self),
        }
    }
}
