//! What was done to the cluster and when: `nemesis.jsonl` as windows of time. Pure.

use std::collections::{BTreeMap, HashMap};

use logcheck::nemesis::{Done, Fault, Line, Nemesis};

use super::family::Family;
use crate::run::{Recovery, Span};

/// From a fault's beginning to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Index of its kind.
    pub kind: usize,
    pub span: Span,
    pub targets: Vec<String>,
    /// What the targets led when it began.
    pub led: Vec<String>,
    pub certain: bool,
}

/// All faults of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    pub name: String,
    pub family: Family,
    pub installed: u64,
    pub hit_leader: u64,
    pub skipped: u64,
    /// Attempts of which nobody knows whether they did anything.
    pub indeterminate: u64,
    /// In milliseconds, in order of length.
    pub recoveries: Vec<u64>,
}

/// A node that ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFailure {
    pub at: u64,
    pub node: String,
    pub what: String,
    pub expected: bool,
}

/// What was done to the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// By family, then by name.
    pub kinds: Vec<Kind>,
    /// By beginning.
    pub windows: Vec<Window>,
    pub failures: Vec<NodeFailure>,
}

impl Faults {
    /// `end`: until when a fault lasts that nobody ended.
    pub fn of(nemesis: &Nemesis, recoveries: &[Recovery], end: u64) -> Faults {
        let mut faults = Faults { kinds: kinds(nemesis, recoveries), ..Faults::default() };
        let numbers: HashMap<String, usize> =
            faults.kinds.iter().enumerate().map(|(number, kind)| (kind.name.clone(), number)).collect();
        // Windows that nobody has ended yet, by kind.
        let mut open: HashMap<usize, Vec<usize>> = HashMap::new();
        let mut is_ended = vec![];
        let mut has_ends = vec![false; faults.kinds.len()];
        for line in &nemesis.lines {
            match line {
                Line::Start(Fault { outcome: Done::Skipped, .. }) => {}
                Line::Start(fault) => {
                    let Fault { at, targets, led, outcome, .. } = fault.clone();
                    let kind = numbers[&fault.fault];
                    open.entry(kind).or_default().push(faults.windows.len());
                    let (span, certain) = (Span { from: at, to: at }, outcome == Done::Installed);
                    faults.windows.push(Window { kind, span, targets, led, certain });
                    is_ended.push(false);
                }
                Line::Stop(fault) => {
                    let Some(kind) = numbers.get(&fault.fault) else { continue };
                    has_ends[*kind] = true;
                    let open = open.entry(*kind).or_default();
                    let same = open.iter().position(|window| faults.windows[*window].targets == fault.targets);
                    let Some(place) = same.or((!open.is_empty()).then_some(0)) else { continue };
                    let window = open.remove(place);
                    let span = &mut faults.windows[window].span;
                    span.to = fault.at.max(span.from);
                    is_ended[window] = true;
                }
                Line::NodeFailure { at, node, what, expected } => {
                    let (node, what) = (node.clone(), what.clone());
                    faults.failures.push(NodeFailure { at: *at, node, what, expected: *expected });
                }
            }
        }
        // A kind of which none is ever ended is over at once, as a restart is.
        for (window, is_ended) in faults.windows.iter_mut().zip(is_ended) {
            if !is_ended && has_ends[window.kind] {
                window.span.to = end.max(window.span.from);
            }
        }
        faults.windows.sort_by_key(|window| window.span.from);
        faults
    }

    /// The stretches of `within` in which there was one fault, of one node.
    pub fn of_one_node(&self, within: Span) -> Vec<Span> {
        let edges = self.windows.iter().enumerate();
        let mut edges: Vec<(u64, bool, usize)> =
            edges.flat_map(|(n, window)| [(window.span.from, true, n), (window.span.to, false, n)]).collect();
        edges.sort();
        let mut active: Vec<usize> = vec![];
        let mut spans = vec![];
        let mut since = within.from;
        for (at, begins, window) in edges {
            if let [only] = active[..] {
                let span = Span { from: since.max(within.from), to: at.min(within.to) };
                if self.windows[only].targets.len() == 1 && span.from < span.to {
                    spans.push(span);
                }
            }
            if begins {
                active.push(window);
            } else {
                active.retain(|open| *open != window);
            }
            since = at;
        }
        spans
    }
}

/// Every fault that was tried, by name, and what it came to.
fn kinds(nemesis: &Nemesis, recoveries: &[Recovery]) -> Vec<Kind> {
    let mut kinds: BTreeMap<&str, Kind> = BTreeMap::new();
    let new = |name: &str| Kind {
        name: name.into(),
        family: Family::of(name),
        installed: 0,
        hit_leader: 0,
        skipped: 0,
        indeterminate: 0,
        recoveries: vec![],
    };
    for line in &nemesis.lines {
        let Line::Start(fault) = line else { continue };
        let kind = kinds.entry(&fault.fault).or_insert_with(|| new(&fault.fault));
        match fault.outcome {
            Done::Installed => kind.installed += 1,
            Done::Skipped => kind.skipped += 1,
            Done::Indeterminate => kind.indeterminate += 1,
        }
        kind.hit_leader += u64::from(fault.outcome == Done::Installed && !fault.led.is_empty());
    }
    for recovery in recoveries {
        if let Some(kind) = kinds.get_mut(recovery.fault.as_str()) {
            kind.recoveries.push(recovery.took_ms);
        }
    }
    let mut kinds: Vec<Kind> = kinds.into_values().collect();
    kinds.iter_mut().for_each(|kind| kind.recoveries.sort());
    kinds.sort_by_key(|kind| kind.family);
    kinds
}

/// Of a sorted list, what so many of a hundred do not exceed.
pub fn percentile(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(at: u64, fault: &str, targets: &[&str], led: &[&str], outcome: Done) -> Fault {
        let texts = |list: &[&str]| list.iter().map(|text| text.to_string()).collect();
        Fault { at, fault: fault.into(), targets: texts(targets), outcome, led: texts(led) }
    }

    fn start(at: u64, name: &str, targets: &[&str]) -> Line {
        Line::Start(fault(at, name, targets, &[], Done::Installed))
    }

    fn stop(at: u64, name: &str, targets: &[&str]) -> Line {
        Line::Stop(fault(at, name, targets, &[], Done::Installed))
    }

    fn faults(lines: Vec<Line>) -> Faults {
        Faults::of(&Nemesis { lines, torn: false }, &[], 100)
    }

    fn spans(faults: &Faults) -> Vec<(u64, u64)> {
        faults.windows.iter().map(|window| (window.span.from, window.span.to)).collect()
    }

    #[test]
    fn an_end_belongs_to_the_fault_of_its_name_and_targets() {
        let both = faults(vec![
            start(1, "kill", &["n1"]),
            start(2, "kill", &["n2"]),
            stop(5, "kill", &["n2"]),
            stop(9, "kill", &["n1"]),
            stop(9, "pause", &["n1"]),
        ]);
        assert_eq!(spans(&both), [(1, 9), (2, 5)]);
        let other = faults(vec![start(1, "kill", &["n1"]), stop(4, "kill", &[])]);
        assert_eq!(spans(&other), [(1, 4)]);
    }

    #[test]
    fn what_nobody_ended_lasts_to_the_end_or_was_over_at_once() {
        let open = faults(vec![start(1, "kill", &["n1"]), stop(2, "kill", &["n1"]), start(5, "kill", &["n2"])]);
        assert_eq!(spans(&open), [(1, 2), (5, 100)]);
        assert_eq!(spans(&faults(vec![start(7, "restart", &["n1"])])), [(7, 7)]);
        let back = faults(vec![start(7, "kill", &["n1"]), stop(3, "kill", &["n1"])]);
        assert_eq!(spans(&back), [(7, 7)], "time goes back in a damaged file");
    }

    #[test]
    fn kinds_are_counted_by_what_became_of_them() {
        let lines = vec![
            Line::Start(fault(1, "delay", &["n1"], &["orders/0"], Done::Installed)),
            Line::Start(fault(2, "delay", &["n1"], &[], Done::Installed)),
            Line::Start(fault(3, "delay", &["n1"], &["orders/0"], Done::Skipped)),
            Line::Start(fault(4, "kill", &["n1"], &["metadata"], Done::Indeterminate)),
            Line::NodeFailure { at: 5, node: "n1".into(), what: "exit 74".into(), expected: true },
        ];
        let recovery = |took_ms| Recovery { fault: "delay".into(), at: 2, took_ms };
        let nemesis = Nemesis { lines, torn: false };
        let faults = Faults::of(&nemesis, &[recovery(9), recovery(3)], 100);
        let [kill, delay] = &faults.kinds[..] else { panic!("{faults:?}") };
        assert_eq!((kill.family, kill.installed, kill.hit_leader, kill.indeterminate), (Family::Process, 0, 0, 1));
        assert_eq!((delay.family, delay.installed, delay.hit_leader, delay.skipped), (Family::Network, 2, 1, 1));
        assert_eq!(delay.recoveries, [3, 9]);
        assert_eq!((faults.windows.len(), faults.windows[2].certain, faults.failures.len()), (3, false, 1));
    }

    #[test]
    fn a_stretch_with_one_fault_of_one_node_is_told_from_others() {
        let faults = faults(vec![
            start(10, "kill", &["n1"]),
            start(20, "pause", &["n2"]),
            stop(30, "kill", &["n1"]),
            stop(40, "pause", &["n2"]),
            start(50, "partition", &["n1", "n2"]),
            stop(60, "partition", &["n1", "n2"]),
        ]);
        let span = |from, to| Span { from, to };
        assert_eq!(faults.of_one_node(span(0, 100)), [span(10, 20), span(30, 40)]);
        assert_eq!(faults.of_one_node(span(12, 35)), [span(12, 20), span(30, 35)]);
        assert_eq!(faults.of_one_node(span(60, 100)), []);
    }

    #[test]
    fn percentiles_of_a_list() {
        assert_eq!((percentile(&[], 50), percentile(&[7], 99)), (None, Some(7)));
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!([50, 99, 100].map(|p| percentile(&hundred, p)), [Some(50), Some(99), Some(100)]);
    }
}
