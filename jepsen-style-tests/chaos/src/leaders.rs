//! Who leads what, as the cluster says: faults are aimed by it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use flotilla::client::Admin;

use crate::{cluster::Cluster, fault::Aim};

/// How often the cluster is asked.
const LOOK: Duration = Duration::from_millis(500);

/// Who leads what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leaders {
    /// Leaders of partitions of the main topic.
    pub partitions: BTreeMap<u32, u8>,
    pub metadata: Option<u8>,
    /// Groups in use: their coordinator is the metadata's leader.
    pub groups: Vec<String>,
}

impl Leaders {
    /// What these nodes lead, as histories name it.
    pub fn led_by(&self, nodes: &[u8], topic: &str) -> Vec<String> {
        let partitions = self.partitions.iter().filter(|(_, leader)| nodes.contains(leader));
        let mut led: Vec<String> = partitions.map(|(partition, _)| format!("{topic}-{partition}")).collect();
        if self.metadata.is_some_and(|leader| nodes.contains(&leader)) {
            led.push("metadata".into());
            led.extend(self.groups.iter().map(|group| format!("group {group}")));
        }
        led
    }

    /// The partitions that these nodes lead.
    pub fn partitions_of(&self, nodes: &[u8]) -> Vec<u32> {
        self.partitions.iter().filter(|(_, leader)| nodes.contains(leader)).map(|(partition, _)| *partition).collect()
    }

    /// Of all nodes but one, that which leads the most partitions.
    pub fn beside(&self, other: u8, nodes: &[u8]) -> u8 {
        let leads = |id: &u8| self.partitions.values().filter(|leader| *leader == id).count();
        nodes.iter().copied().filter(|id| *id != other).max_by_key(leads).unwrap_or(other)
    }

    /// The node that is aimed at; any, if nobody is known to be meant.
    pub fn aimed(&self, aim: Aim, nodes: &[u8], random: &mut fastrand::Rng) -> u8 {
        let most = || {
            let mut counts: BTreeMap<u8, usize> = BTreeMap::new();
            self.partitions.values().for_each(|leader| *counts.entry(*leader).or_default() += 1);
            counts.into_iter().max_by_key(|(_, count)| *count).map(|(leader, _)| leader)
        };
        let meant = match aim {
            Aim::PartitionLeader => most(),
            Aim::MetadataLeader | Aim::Coordinator => self.metadata,
            Aim::Anybody => None,
        };
        meant.or_else(|| random.choice(nodes).copied()).unwrap_or(0)
    }
}

/// Asks again and again, and remembers the last answer.
#[derive(Clone, Default)]
pub struct Watch(Arc<Mutex<Leaders>>);

impl Watch {
    pub fn now(&self) -> Leaders {
        self.0.lock().expect("nobody panics with the leaders").clone()
    }

    pub fn groups(&self, groups: Vec<String>) {
        self.0.lock().expect("nobody panics with the leaders").groups = groups;
    }

    /// Somebody was given a partition: the next look will tell the same.
    pub fn moved(&self, partition: u32, leader: u8) {
        self.0.lock().expect("nobody panics with the leaders").partitions.insert(partition, leader);
    }

    /// Runs until it is dropped.
    pub async fn run(self, cluster: Arc<Cluster>, topic: String) {
        let admin = cluster.admin();
        loop {
            self.look(&admin, &topic).await;
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn look(&self, admin: &Admin, topic: &str) {
        // What cannot be asked now is asked later; until then the last answer stands.
        let Ok(described) = admin.describe_cluster().topic(topic).send().await else { return };
        let routes = described.topics.into_iter().find(|routes| routes.name == topic);
        let mut known = self.0.lock().expect("nobody panics with the leaders");
        known.metadata = described.metadata_leader.and_then(|leader| u8::try_from(leader.0).ok()).filter(|id| *id != 0);
        for route in routes.into_iter().flat_map(|routes| routes.partitions) {
            let leader = route.leader.and_then(|leader| u8::try_from(leader.0).ok()).filter(|id| *id != 0);
            if let (Ok(partition), Some(leader)) = (u32::try_from(route.partition.0), leader) {
                known.partitions.insert(partition, leader);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_aimed_at_whoever_leads() {
        let partitions = [(0, 1), (1, 3), (2, 3), (3, 2)].into_iter().collect();
        let leaders = Leaders { partitions, metadata: Some(2), groups: vec!["g".into()] };
        let mut random = fastrand::Rng::with_seed(1);
        assert_eq!(leaders.aimed(Aim::PartitionLeader, &[1, 2, 3], &mut random), 3);
        assert_eq!(leaders.aimed(Aim::MetadataLeader, &[1, 2, 3], &mut random), 2);
        assert_eq!(leaders.aimed(Aim::Coordinator, &[1, 2, 3], &mut random), 2);
        assert!((1..=3).contains(&leaders.aimed(Aim::Anybody, &[1, 2, 3], &mut random)));
        assert!((1..=3).contains(&Leaders::default().aimed(Aim::PartitionLeader, &[1, 2, 3], &mut random)));
        assert_eq!(leaders.led_by(&[2, 3], "t"), ["t-1", "t-2", "t-3", "metadata", "group g"]);
        assert_eq!(leaders.partitions_of(&[1]), [0]);
        assert_eq!([leaders.beside(1, &[1, 2, 3]), leaders.beside(2, &[1, 2, 3])], [3, 3]);
        assert_ne!(leaders.beside(3, &[1, 2, 3]), 3);
    }
}
