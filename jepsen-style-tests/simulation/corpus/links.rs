//! The network's faults: which links are cut, held or slow, and until when. Each link has one loss at a time, since
//! turmoil keeps one state for each.

use std::{collections::BTreeMap, time::Duration};

use turmoil::Sim;

use super::schedule::{Shape, Target};
use crate::node::name;

/// What happens to what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Lost in both directions.
    Both,
    /// Lost from the first to the second.
    OneWay,
    /// Kept, and delivered when it is over.
    Held,
}

pub struct Links {
    nodes: u64,
    latency_max_ms: u64,
    /// By pair, the smaller first: from, to, what, until when.
    lost: BTreeMap<(u64, u64), (u64, u64, Loss, u64)>,
    /// Nodes whose links are slow.
    slow: BTreeMap<u64, u64>,
}

impl Shape {
    pub fn target(&self) -> Target {
        match *self {
            Shape::Isolate(of)
            | Shape::Halves(of)
            | Shape::Bridge(of)
            | Shape::Deaf(of)
            | Shape::Mute(of)
            | Shape::OneWay { from: of, .. } => of,
        }
    }
}

impl Links {
    pub fn new(nodes: u64, latency_max_ms: u64) -> Links {
        Links { nodes, latency_max_ms, lost: BTreeMap::new(), slow: BTreeMap::new() }
    }

    pub fn all_of(&self, of: u64) -> Vec<(u64, u64)> {
        (1..=self.nodes).filter(|other| *other != of).map(|other| (of, other)).collect()
    }

    /// Which links a shape cuts, and how, if this node is its target.
    pub fn pairs(&self, shape: Shape, of: u64) -> Vec<(u64, u64, Loss)> {
        let both = |pairs: Vec<(u64, u64)>| pairs.into_iter().map(|(a, b)| (a, b, Loss::Both)).collect();
        // The nodes in a circle that begins with the target.
        let circle: Vec<u64> = (0..self.nodes).map(|i| (of - 1 + i) % self.nodes + 1).collect();
        match shape {
            Shape::Isolate(_) => both(self.all_of(of)),
            Shape::Halves(_) => {
                let (few, many) = circle.split_at(circle.len() / 2);
                both(few.iter().flat_map(|a| many.iter().map(|b| (*a, *b))).collect())
            }
            Shape::Bridge(_) => {
                let others = &circle[1..];
                let (left, right) = others.split_at(others.len() / 2);
                both(left.iter().flat_map(|a| right.iter().map(|b| (*a, *b))).collect())
            }
            Shape::Deaf(_) => self.all_of(of).into_iter().map(|(of, other)| (other, of, Loss::OneWay)).collect(),
            Shape::Mute(_) => self.all_of(of).into_iter().map(|(of, other)| (of, other, Loss::OneWay)).collect(),
            Shape::OneWay { to, .. } if to == of => vec![(of, of % self.nodes + 1, Loss::OneWay)],
            Shape::OneWay { to, .. } => vec![(of, to, Loss::OneWay)],
        }
    }

    /// Those of the links that have no loss yet have it now. False: all of them have one.
    pub fn lose(&mut self, pairs: Vec<(u64, u64, Loss)>, until_ms: u64, sim: &Sim<'_>) -> bool {
        let mut any = false;
        for (from, to, loss) in pairs {
            let pair = (from.min(to), from.max(to));
            if self.lost.contains_key(&pair) {
                continue;
            }
            match loss {
                Loss::Both => sim.partition(name(from), name(to)),
                Loss::OneWay => sim.partition_oneway(name(from), name(to)),
                Loss::Held => sim.hold(name(from), name(to)),
            }
            self.lost.insert(pair, (from, to, loss, until_ms));
            any = true;
        }
        any
    }

    pub fn delay(&mut self, of: u64, max_ms: u64, until_ms: u64, sim: &Sim<'_>) -> bool {
        if self.slow.contains_key(&of) {
            return false;
        }
        self.slow.insert(of, until_ms);
        self.set_latency(of, max_ms, sim);
        true
    }

    /// Ends what is over, and says what.
    pub fn end(&mut self, sim: &Sim<'_>, at_ms: u64) -> Vec<String> {
        let mut ended = vec![];
        let over = |until: u64| until <= at_ms;
        for (_, (from, to, loss, _)) in self.lost.extract_if(.., |_, (_, _, _, until)| over(*until)) {
            match loss {
                Loss::Both => sim.repair(name(from), name(to)),
                Loss::OneWay => sim.repair_oneway(name(from), name(to)),
                Loss::Held => sim.release(name(from), name(to)),
            }
            ended.push(format!("the link between n{from} and n{to} is whole"));
        }
        let slow: Vec<u64> = self.slow.extract_if(.., |_, until| over(*until)).map(|(of, _)| of).collect();
        for of in slow {
            self.set_latency(of, self.latency_max_ms, sim);
            ended.push(format!("the links of n{of} are fast"));
        }
        ended
    }

    fn set_latency(&self, of: u64, max_ms: u64, sim: &Sim<'_>) {
        for (of, other) in self.all_of(of) {
            sim.set_link_max_message_latency(name(of), name(other), Duration::from_millis(max_ms));
        }
    }
}

/// Which links each shape takes of five nodes.
pub fn shapes_cut_what_they_say() {
    let links = Links::new(5, 1);
    let at = Target::Node(4);
    let ends = |shape| links.pairs(shape, 4).into_iter().map(|(a, b, _)| (a, b)).collect::<Vec<_>>();
    assert_eq!(ends(Shape::Isolate(at)), [(4, 1), (4, 2), (4, 3), (4, 5)]);
    assert_eq!(ends(Shape::Halves(at)), [(4, 1), (4, 2), (4, 3), (5, 1), (5, 2), (5, 3)]);
    assert_eq!(ends(Shape::Bridge(at)), [(5, 2), (5, 3), (1, 2), (1, 3)]);
    assert_eq!(ends(Shape::Deaf(at)), [(1, 4), (2, 4), (3, 4), (5, 4)]);
    assert_eq!(ends(Shape::Mute(at)), [(4, 1), (4, 2), (4, 3), (4, 5)]);
    assert_eq!(ends(Shape::OneWay { from: at, to: 2 }), [(4, 2)]);
    assert_eq!(ends(Shape::OneWay { from: at, to: 4 }), [(4, 5)]);
    let three = Links::new(3, 1);
    assert_eq!(three.pairs(Shape::Bridge(Target::Node(1)), 1), [(2, 3, Loss::Both)]);
}
