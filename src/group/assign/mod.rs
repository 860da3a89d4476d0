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

use super::types::Assignor;

/// Which subscriptions include a topic: bit i stands for `Deal::subscriptions[i]`.
pub(super) type Readers = u64;

/// What is to be dealt out. Members are numbers from 0; ties go to the lower one.
#[derive(Clone, Debug, Default)]
pub(super) struct Deal {
    pub members: usize,
    /// Members by equal subscriptions, each member once, rising. As many as [`Readers`] has bits at most.
    pub subscriptions: Vec<Vec<usize>>,
    /// The topics, in the order in which they are dealt.
    pub topics: Vec<TopicToDeal>,
}

#[derive(Clone, Debug)]
pub(super) struct TopicToDeal {
    pub readers: Readers,
    /// Per partition: who has it now.
    pub owners: Vec<Option<usize>>,
}

impl Deal {
    /// Per topic and partition, the owner it shall have. None exactly where a topic has no readers.
    pub fn owners(&self, assignor: Assignor) -> Vec<Vec<Option<usize>>> {
        match assignor {
            Assignor::Sticky => sticky::owners(self),
            Assignor::Range => range::owners(self),
            Assignor::RoundRobin => round_robin::owners(self),
        }
    }

    /// The members whose subscriptions are among `readers`, in rising order.
    fn readers_of(&self, readers: Readers) -> Vec<usize> {
        let read = self.subscriptions.iter().enumerate().filter(|(i, _)| includes(readers, *i));
        let mut members: Vec<usize> = read.flat_map(|(_, members)| members.iter().copied()).collect();
        members.sort_unstable();
        members
    }

    /// Which subscription each member has.
    pub fn subscription_by_member(&self) -> Vec<usize> {
        let mut by_member = vec![0; self.members];
        for (i, members) in self.subscriptions.iter().enumerate() {
            for member in members {
                by_member[*member] = i;
            }
        }
        by_member
    }
}

pub(super) fn includes(readers: Readers, subscription: usize) -> bool {
    readers >> subscription & 1 == 1
}
