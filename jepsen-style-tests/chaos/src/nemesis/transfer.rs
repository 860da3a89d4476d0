//! Leaderships that are handed over, again and again: what an operator does before an upgrade, and what needs no hand on any
//! broker.

use std::time::Duration;

use flotilla::client::{BrokerId, PartitionId, TopicPartition};
use tokio::time::{Instant, sleep_until};

use super::{Hit, Nemesis};

/// A round of transfers begins so often.
const EVERY: Duration = Duration::from_secs(1);

impl Nemesis {
    /// Hands everything that a node leads to others, until the fault is over. Whoever gets it is hit next.
    pub(super) async fn transfer(&self, hit: &Hit, until: Instant, random: &mut fastrand::Rng) {
        let mut from = hit.targets.clone();
        while Instant::now() < until {
            let next = Instant::now() + EVERY;
            let others: Vec<u8> = self.cluster.ids().into_iter().filter(|id| !from.contains(id)).collect();
            let Some(to) = random.choice(&others).copied() else { return };
            for id in &from {
                self.hand_over(*id, to).await;
            }
            from = vec![to];
            sleep_until(next.min(until)).await;
        }
    }

    /// What cannot be handed over stays: the other may be behind, and the next round comes.
    async fn hand_over(&self, from: u8, to: u8) {
        let (leaders, admin, to_broker) = (self.leaders.now(), self.cluster.admin(), BrokerId(to.into()));
        for partition in leaders.partitions_of(&[from]) {
            let at = TopicPartition::new(&*self.topic, PartitionId(partition as i32));
            if admin.transfer_leader(at).to(to_broker).send().await.is_ok() {
                self.leaders.moved(partition, to);
            }
        }
        // It coordinates all groups, those of others too.
        if self.cluster.is_own() && leaders.metadata == Some(from) {
            let _ = admin.transfer_metadata_leader().to(to_broker).send().await;
        }
    }
}
