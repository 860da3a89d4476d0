//! What is worth knowing about where new partitions stand. Pure.

use std::collections::BTreeMap;

use crate::{metadata::PartitionInfo, types::BrokerId};

/// What a partition needs to go on without one of its replicas.
const REPLICAS_THAT_OUTLIVE_ONE: i32 = 3;

/// One sentence each, about partitions that were just placed (or would be) in a cluster of `brokers`.
pub fn notes(new: &[PartitionInfo], replication_factor: i32, dead: &[BrokerId], brokers: usize) -> Vec<String> {
    let mut notes = Vec::new();
    let mut on_dead: BTreeMap<BrokerId, usize> = BTreeMap::new();
    for (_, broker) in new.iter().flat_map(|partition| &partition.replicas) {
        if dead.contains(broker) {
            *on_dead.entry(*broker).or_default() += 1;
        }
    }
    for (broker, replicas) in on_dead {
        let what = if replicas == 1 { "a new replica stands".into() } else { format!("{replicas} new replicas stand") };
        notes.push(format!("{what} on broker {broker}, which does not answer: there are too few live brokers"));
    }
    if replication_factor < REPLICAS_THAT_OUTLIVE_ONE {
        let loss = match replication_factor {
            1 => "with 1 replica, losing its broker stops reads and writes, and losing its disk loses the records",
            _ => "with 2 replicas, losing one broker stops writes",
        };
        notes.push(match brokers {
            3.. => format!("{loss}; 3 replicas outlive one broker"),
            1 => format!("{loss}; this cluster has no other broker"),
            few => format!("{loss}; 3 replicas, which outlive one broker, need 3 brokers, and there are {few}"),
        });
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{RaftGroupId, ReplicaId};

    fn placed(replicas: &[u64]) -> PartitionInfo {
        let replicas: Vec<_> = replicas.iter().map(|broker| (ReplicaId(70_000 + broker), BrokerId(*broker))).collect();
        PartitionInfo { group: RaftGroupId(1), initial: replicas.clone(), replicas }
    }

    #[test]
    fn replicas_on_dead_brokers_are_counted_by_broker() {
        let new = [placed(&[1, 2, 3]), placed(&[2, 1, 3])];
        assert_eq!(notes(&new, 3, &[], 3), Vec::<String>::new());
        let said = notes(&new, 3, &[BrokerId(3), BrokerId(9)], 3);
        assert_eq!(said, ["2 new replicas stand on broker 3, which does not answer: there are too few live brokers"]);
    }

    /// Seen once: three replicas were advised on a cluster of one broker.
    #[test]
    fn what_is_advised_can_be_done() {
        for (factor, brokers, advice) in [
            (1, 1, "has no other broker"),
            (1, 2, "need 3 brokers, and there are 2"),
            (2, 2, "need 3 brokers, and there are 2"),
            (2, 5, "3 replicas outlive one broker"),
        ] {
            let said = notes(&[placed(&[1])], factor, &[], brokers);
            assert!(said.len() == 1 && said[0].ends_with(advice), "{factor} of {brokers}: {said:?}");
        }
    }
}
