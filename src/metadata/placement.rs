//! Where a new partition's replicas go.
//!
//! Promises: a pure function of the state, so every replica of the metadata group computes the same;
//! no two replicas of a partition on one broker, nor in one rack while there are enough racks; beyond
//! that, replicas are spread by load, and so are preferred leaders. A broker that the proposer named dead
//! gets a replica only if there are too few others, and is then no preferred leader. Leaves out: moving what
//! is placed, and whether a broker is alive (which is no part of the state, so it travels in the command).

use std::{cmp::Ordering, collections::BTreeMap};

use super::state::{Metadata, PartitionInfo};
use crate::types::{BrokerId, RaftGroupId};

/// What every broker carries, kept up to date with the topics: placing a partition must not cost a walk
/// over all partitions there are. Brokers that carry nothing are not listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Loads(BTreeMap<BrokerId, Load>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    replicas: u64,
    /// Partitions whose first replica it has.
    leaders: u64,
}

impl Loads {
    pub(super) fn add(&mut self, partitions: &[PartitionInfo]) {
        for (i, broker) in replicas(partitions) {
            let load = self.0.entry(broker).or_default();
            load.replicas += 1;
            load.leaders += u64::from(i == 0);
        }
    }

    /// Partitions that were added before.
    pub(super) fn remove(&mut self, partitions: &[PartitionInfo]) {
        for (i, broker) in replicas(partitions) {
            let load = self.0.get_mut(&broker).expect("its replicas were added");
            load.replicas -= 1;
            load.leaders -= u64::from(i == 0);
            if load.replicas == 0 {
                self.0.remove(&broker);
            }
        }
    }

    fn of(&self, broker: BrokerId) -> Load {
        self.0.get(&broker).copied().unwrap_or_default()
    }
}

/// Each replica's place among those of its partition, and its broker.
fn replicas(partitions: &[PartitionInfo]) -> impl Iterator<Item = (usize, BrokerId)> {
    partitions.iter().flat_map(|p| p.replicas.iter().enumerate().map(|(i, (_, broker))| (i, *broker)))
}

/// Loads of all brokers, kept up to date while partitions are placed one after another.
pub(super) struct Placer {
    /// A broker without a rack is a rack of its own.
    racks: Vec<Rack>,
}

struct Rack {
    nodes: Vec<Node>,
    /// Sums over `nodes`.
    replicas: u64,
    leaders: u64,
    /// Replicas of the partition that is being placed.
    taken: u64,
}

struct Node {
    id: BrokerId,
    /// Whether the broker was dead, as the proposer of the command saw it.
    is_dead: bool,
    replicas: u64,
    /// Partitions whose first replica it has.
    leaders: u64,
    taken: bool,
}

/// One broker: which rack, which of its nodes.
type Slot = (usize, usize);

impl Placer {
    /// Looks at the brokers, to place partitions of `count` replicas each.
    pub(super) fn new(state: &Metadata, count: usize, dead: &[BrokerId]) -> Placer {
        let is_dead = |broker: BrokerId| dead.contains(&broker);
        let has_enough = state.brokers().filter(|broker| !is_dead(broker.id)).count() >= count;
        // Keys: a rack's name, or the broker's id where it has none. Ordered, so deterministic.
        let mut racks: BTreeMap<(Option<&str>, BrokerId), Vec<Node>> = BTreeMap::new();
        for broker in state.brokers().filter(|broker| !(has_enough && is_dead(broker.id))) {
            let Load { replicas, leaders } = state.loads.of(broker.id);
            let node = Node { id: broker.id, is_dead: is_dead(broker.id), replicas, leaders, taken: false };
            let own = if broker.rack.is_some() { BrokerId(0) } else { broker.id };
            racks.entry((broker.rack.as_deref(), own)).or_default().push(node);
        }
        Placer { racks: racks.into_values().map(Rack::new).collect() }
    }

    /// Brokers for one partition, the preferred leader first. There must be `count` brokers.
    pub(super) fn place(&mut self, group: RaftGroupId, count: usize) -> Vec<BrokerId> {
        let mut slots: Vec<Slot> = (0..count).map(|_| self.take_one(group)).collect();
        // The one that leads least leads; ties fall differently for each group, so that the leaders
        // a dead broker leaves behind go to many others and not all to its neighbour.
        slots.sort_by_key(|slot| {
            let node = self.node(*slot);
            (node.is_dead, node.leaders, mix(group.0, node.id.0))
        });
        for (i, (rack, node)) in slots.iter().copied().enumerate() {
            let rack = &mut self.racks[rack];
            let is_leader = u64::from(i == 0);
            rack.taken = 0;
            rack.leaders += is_leader;
            rack.nodes[node].leaders += is_leader;
            rack.nodes[node].taken = false;
        }
        slots.iter().map(|slot| self.node(*slot).id).collect()
    }

    /// First the rack, by its load per broker, then the broker in it: choosing the least loaded broker
    /// at once would leave one rack's brokers behind whenever two of them are the least loaded.
    fn take_one(&mut self, group: RaftGroupId) -> Slot {
        let open = self.racks.iter().enumerate().filter(|(_, rack)| rack.nodes.iter().any(|n| !n.taken));
        let (i, _) = open
            .min_by(|(_, a), (_, b)| a.compare(b, group))
            .expect("the replication factor was checked against the number of brokers");
        let rack = &mut self.racks[i];
        let free = rack.nodes.iter_mut().enumerate().filter(|(_, n)| !n.taken);
        let (j, node) = free
            .min_by_key(|(_, n)| (n.is_dead, n.replicas, n.leaders, mix(group.0, n.id.0)))
            .expect("only racks with a free broker were looked at");
        node.taken = true;
        node.replicas += 1;
        rack.replicas += 1;
        rack.taken += 1;
        (i, j)
    }

    fn node(&self, (rack, node): Slot) -> &Node {
        &self.racks[rack].nodes[node]
    }
}

impl Rack {
    fn new(nodes: Vec<Node>) -> Rack {
        let replicas = nodes.iter().map(|n| n.replicas).sum();
        let leaders = nodes.iter().map(|n| n.leaders).sum();
        Rack { nodes, replicas, leaders, taken: 0 }
    }

    /// Less: should take the next replica of `group`.
    fn compare(&self, other: &Rack, group: RaftGroupId) -> Ordering {
        // a / m < b / n without fractions. Both are far below 2^32.
        let (m, n) = (self.nodes.len() as u64, other.nodes.len() as u64);
        let by_load = |a: u64, b: u64| (a * n).cmp(&(b * m));
        let tie = |rack: &Rack| mix(group.0, rack.nodes[0].id.0);
        let is_dead = |rack: &Rack| rack.nodes.iter().all(|node| node.taken || node.is_dead);
        is_dead(self)
            .cmp(&is_dead(other))
            .then(self.taken.cmp(&other.taken))
            .then(by_load(self.replicas, other.replicas))
            .then(by_load(self.leaders, other.leaders))
            .then_with(|| tie(self).cmp(&tie(other)))
    }
}

/// Scatters (splitmix64's finish). Part of the replicated decision: changing it is a feature level.
fn mix(group: u64, broker: u64) -> u64 {
    let mut x = group.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ broker.wrapping_mul(0xd1b5_4a32_d192_ed03);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
