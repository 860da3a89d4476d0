//! Faults of the links between nodes.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{Hit, Nemesis};
use crate::{
    fault::Fault,
    proxy::{Flow, Weather},
};

/// Between two resets, or two damaged chunks.
const AGAIN_MS: std::ops::Range<u64> = 200..800;
const NARROW_BYTES_PER_SECOND: u64 = 250_000;
const DELAY_MS: std::ops::Range<u64> = 50..200;
const JITTER_MS: u64 = 20;
const STALL_ONE_IN: u32 = 20;
const STALL_MS: std::ops::Range<u64> = 200..1_000;

/// Which flows a partition cuts, among `nodes` nodes: from whom to whom nothing passes.
fn is_cut(fault: Fault, nodes: u8, target: u8, from: u8, to: u8) -> bool {
    // Places count from the target, which has 0.
    let place = |id: u8| (id + nodes - target) % nodes;
    let (from, to) = (place(from), place(to));
    match fault {
        Fault::PartitionOne => from == 0 || to == 0,
        Fault::PartitionHalves => (from <= nodes / 2) != (to <= nodes / 2),
        Fault::PartitionBridge => from != 0 && to != 0 && (from <= nodes / 2) != (to <= nodes / 2),
        Fault::PartitionRing => ![1, nodes - 1].contains(&((to + nodes - from) % nodes)),
        Fault::CutOutgoing => from == 0,
        Fault::CutIncoming => to == 0,
        _ => false,
    }
}

impl Nemesis {
    pub(super) fn cut_links(&self, fault: Fault, aimed: u8, _: &mut fastrand::Rng) -> Hit {
        let nodes = self.cluster.size();
        let cut = self.cluster.links.pick(|from, to| is_cut(fault, nodes, aimed, from, to));
        cut.iter().for_each(|flow| flow.change(|weather| weather.is_cut = true));
        Hit::of(&[aimed])
    }

    pub(super) fn mend_cuts(&self) {
        self.cluster.links.pick(|_, _| true).iter().for_each(|flow| flow.change(|weather| weather.is_cut = false));
    }

    /// What the target sends and what it gets.
    fn flows_of(&self, target: u8) -> Vec<Arc<Flow>> {
        self.cluster.links.pick(|from, to| from == target || to == target)
    }

    pub(super) fn worsen_links(&self, fault: Fault, aimed: u8, random: &mut fastrand::Rng) -> Hit {
        let ms = |range: std::ops::Range<u64>, random: &mut fastrand::Rng| Duration::from_millis(random.u64(range));
        let (delay, stall) = (ms(DELAY_MS, random), ms(STALL_MS, random));
        let detail = match fault {
            Fault::Delay => format!("{} ms", delay.as_millis()),
            Fault::Stall => format!("{} ms", stall.as_millis()),
            _ => String::new(),
        };
        let worsen = |weather: &mut Weather| match fault {
            Fault::Delay => (weather.delay, weather.jitter) = (delay, Duration::from_millis(JITTER_MS)),
            Fault::Stall => weather.stall = Some((STALL_ONE_IN, stall)),
            _ => weather.bytes_per_second = Some(NARROW_BYTES_PER_SECOND),
        };
        self.flows_of(aimed).iter().for_each(|flow| flow.change(worsen));
        Hit::told(&[aimed], detail)
    }

    pub(super) fn mend_links(&self, fault: Fault, hit: &Hit) {
        let mend = |weather: &mut Weather| match fault {
            Fault::Delay => (weather.delay, weather.jitter) = (Duration::ZERO, Duration::ZERO),
            Fault::Stall => weather.stall = None,
            _ => weather.bytes_per_second = None,
        };
        for flow in hit.targets.iter().flat_map(|id| self.flows_of(*id)) {
            match fault {
                Fault::Corrupt => flow.spare(),
                _ => flow.change(mend),
            }
        }
    }

    pub(super) async fn reset_links(&self, hit: &Hit, until: Instant, random: &mut fastrand::Rng) {
        while Instant::now() < until {
            hit.targets.iter().flat_map(|id| self.flows_of(*id)).for_each(|flow| flow.reset());
            sleep(Duration::from_millis(random.u64(AGAIN_MS))).await;
        }
    }

    pub(super) async fn corrupt_links(&self, hit: &Hit, until: Instant, random: &mut fastrand::Rng) {
        while Instant::now() < until {
            for id in &hit.targets {
                let flows = self.flows_of(*id);
                flows[random.usize(..flows.len())].corrupt_next();
            }
            sleep(Duration::from_millis(random.u64(AGAIN_MS))).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whom each node hears, as digits.
    fn hears(fault: Fault, nodes: u8, target: u8) -> Vec<String> {
        let hears = |to: u8, from: u8| from != to && !is_cut(fault, nodes, target, from, to);
        (1..=nodes)
            .map(|to| (1..=nodes).filter(|from| hears(to, *from)).map(|from| from.to_string()).collect())
            .collect()
    }

    #[test]
    fn partitions_cut_what_they_say() {
        assert_eq!(hears(Fault::PartitionOne, 3, 2), ["3", "", "1"]);
        assert_eq!(hears(Fault::PartitionHalves, 3, 2), ["", "3", "2"]);
        assert_eq!(hears(Fault::PartitionHalves, 5, 1), ["23", "13", "12", "5", "4"]);
        assert_eq!(hears(Fault::PartitionBridge, 3, 2), ["2", "13", "2"]);
        assert_eq!(hears(Fault::PartitionBridge, 5, 1), ["2345", "13", "12", "15", "14"]);
        assert_eq!(hears(Fault::PartitionRing, 5, 3), ["25", "13", "24", "35", "14"]);
        assert_eq!(hears(Fault::CutOutgoing, 3, 1), ["23", "3", "2"]);
        assert_eq!(hears(Fault::CutIncoming, 3, 1), ["", "13", "12"]);
    }
}
