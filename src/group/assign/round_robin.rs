//! Kafka's round-robin: all partitions of all topics in a row, dealt to the members in turn; who does
//! not read a topic is passed over.

use std::collections::BTreeMap;

use super::to_deal::Deal;

pub(super) fn owners(deal: &Deal) -> Vec<Vec<Option<usize>>> {
    let mut readers = BTreeMap::new();
    // The first member that has not had its turn in this round.
    let mut next = 0;
    let mut result = Vec::with_capacity(deal.topics.len());
    for topic in &deal.topics {
        let members = readers.entry(topic.readers).or_insert_with(|| deal.readers_of(topic.readers));
        let mut owners = Vec::with_capacity(topic.owners.len());
        for _ in &topic.owners {
            let at = members.partition_point(|member| *member < next);
            let owner = members.get(at).or_else(|| members.first()).copied();
            next = owner.map_or(next, |owner| owner + 1);
            owners.push(owner);
        }
        result.push(owners);
    }
    result
}
