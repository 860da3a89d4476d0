//! What is to be dealt out among the members of a group.

/// Which subscriptions include a topic: bit i stands for `Deal::subscriptions[i]`.
pub(in crate::group) type Readers = u64;

/// What is to be dealt out. Members are numbers from 0; ties go to the lower one.
#[derive(Clone, Debug, Default)]
pub(in crate::group) struct Deal {
    pub members: usize,
    /// Members by equal subscriptions, each member once, rising. As many as [`Readers`] has bits at most.
    pub subscriptions: Vec<Vec<usize>>,
    /// The topics, in the order in which they are dealt.
    pub topics: Vec<TopicToDeal>,
}

#[derive(Clone, Debug)]
pub(in crate::group) struct TopicToDeal {
    pub readers: Readers,
    /// Per partition: who has it now.
    pub owners: Vec<Option<usize>>,
}

impl Deal {
    /// The members whose subscriptions are among `readers`, in rising order.
    pub fn readers_of(&self, readers: Readers) -> Vec<usize> {
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

pub(in crate::group) fn includes(readers: Readers, subscription: usize) -> bool {
    readers >> subscription & 1 == 1
}
