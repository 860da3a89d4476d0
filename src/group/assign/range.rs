//! Kafka's range: each topic by itself is cut into as many ranges as it has readers; the first ones
//! get one partition more. So partition i of topics with as many partitions and the same readers goes
//! to one member, which may join them.

use std::collections::BTreeMap;

use super::to_deal::Deal;

pub(super) fn owners(deal: &Deal) -> Vec<Vec<Option<usize>>> {
    let mut readers = BTreeMap::new();
    let one = |topic: &super::to_deal::TopicToDeal| {
        let members = readers.entry(topic.readers).or_insert_with(|| deal.readers_of(topic.readers));
        let partitions = topic.owners.len();
        if members.is_empty() {
            return vec![None; partitions];
        }
        let (each, more) = (partitions / members.len(), partitions % members.len());
        let mut owners = Vec::with_capacity(partitions);
        for (i, member) in members.iter().enumerate() {
            let count = each + usize::from(i < more);
            owners.extend(std::iter::repeat_n(Some(*member), count));
        }
        owners
    };
    deal.topics.iter().map(one).collect()
}
