//! Which leaderships to move so that the preferred brokers lead again. Pure.

use crate::proto::v1;

/// A leadership that should be where the topic's plan has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderMove {
    pub topic: String,
    pub partition: i32,
    /// The broker that leads now; 0: none known.
    pub from: u64,
    /// The preferred broker: the first of the partition's replicas.
    pub to: u64,
}

/// The moves that bring every partition's leadership to its preferred broker, where that is alive.
pub fn preferred_moves(view: &v1::GetMetadataResponse) -> Vec<LeaderMove> {
    let is_alive = |id: u64| view.brokers.iter().any(|broker| broker.id == id && broker.alive);
    let mut moves = Vec::new();
    for topic in &view.topics {
        for partition in &topic.partitions {
            let Some(&to) = partition.replicas.first() else { continue };
            if partition.leader != to && is_alive(to) {
                let (topic, from) = (topic.name.clone(), partition.leader);
                moves.push(LeaderMove { topic, partition: partition.partition, from, to });
            }
        }
    }
    moves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_live_preferred_broker_does_not_lead_is_moved() {
        let broker = |id, alive| v1::BrokerInfo { id, alive, ..Default::default() };
        let partition = |partition, leader, replicas: &[u64]| v1::PartitionRouting {
            partition,
            leader,
            replicas: replicas.to_vec(),
            ..Default::default()
        };
        let partitions = vec![
            partition(0, 1, &[1, 2, 3]),
            partition(1, 1, &[2, 1, 3]),
            partition(2, 1, &[3, 1, 2]),
            partition(3, 0, &[2, 3, 1]),
            partition(4, 0, &[]),
        ];
        let view = v1::GetMetadataResponse {
            brokers: vec![broker(1, true), broker(2, true), broker(3, false)],
            topics: vec![v1::TopicRouting { name: "t".into(), partitions, ..Default::default() }],
            ..Default::default()
        };
        let moved = |partition, from| LeaderMove { topic: "t".into(), partition, from, to: 2 };
        assert_eq!(preferred_moves(&view), [moved(1, 1), moved(3, 0)]);
    }
}
