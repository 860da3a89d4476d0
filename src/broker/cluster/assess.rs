//! A health report out of what was gathered. Pure: it asks nobody.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    broker::{HealthReport, limits, peers::calls::NodeHealth},
    types::{BrokerId, RaftGroupId, TopicPartition},
};

/// A partition's Raft group, its name, and the brokers of its replicas, the preferred leader first.
pub type PartitionPlaces = (RaftGroupId, TopicPartition, Vec<BrokerId>);

/// One problem for each cause, however many partitions suffer from it; these are in the details.
pub fn assess(
    brokers: &[BrokerId],
    alive: &BTreeSet<BrokerId>,
    partitions: &[PartitionPlaces],
    is_leaderless: impl Fn(&RaftGroupId) -> bool,
    metadata_led: bool,
    nodes: &[(BrokerId, Option<NodeHealth>)],
) -> HealthReport {
    let mut problems = Vec::new();
    if !metadata_led {
        problems.push("the metadata group has no live leader: topics cannot be changed".to_string());
    }
    let dead = brokers.iter().filter(|broker| !alive.contains(broker));
    problems.extend(dead.map(|broker| format!("broker {broker} does not answer")));
    for (broker, health) in nodes {
        match health {
            // Several may have the same to say of another broker.
            Some(health) => {
                let news = health.problems.iter().filter(|problem| !problems.contains(problem)).cloned();
                problems.extend(news.collect::<Vec<_>>());
            }
            None => problems.push(format!("broker {broker} is up but did not report its health")),
        }
    }
    let lagging = lagging(nodes);
    let mut causes = Causes::default();
    for (group, name, replicas) in partitions {
        causes.look(name, is_leaderless(group), replicas, alive, lagging.get(group));
    }
    let (without_leader, under_replicated) = (causes.without_leader.len(), causes.under_replicated);
    let details = causes.tell(&mut problems);
    let healthy = problems.is_empty();
    HealthReport {
        healthy,
        problems: cut(problems, limits::PROBLEMS_MAX, "problems"),
        details: cut(details, limits::DETAILS_MAX, "lines"),
        notes: Vec::new(),
        feature_level: 0,
        feature_level_supported: 0,
        brokers_alive: count(alive.len()),
        brokers: count(brokers.len()),
        partitions: count(partitions.len()),
        partitions_without_leader: count(without_leader),
        partitions_under_replicated: count(under_replicated),
    }
}

/// Brokers whose replica is far behind, for each Raft group that has one.
fn lagging(nodes: &[(BrokerId, Option<NodeHealth>)]) -> BTreeMap<RaftGroupId, BTreeSet<BrokerId>> {
    let mut lagging: BTreeMap<RaftGroupId, BTreeSet<BrokerId>> = BTreeMap::new();
    for (group, brokers) in nodes.iter().filter_map(|(_, health)| health.as_ref()).flat_map(|health| &health.lagging) {
        lagging.entry(*group).or_default().extend(brokers);
    }
    lagging
}

/// Partitions by what is wrong with them.
#[derive(Default)]
struct Causes {
    without_leader: Vec<String>,
    /// Partitions that lack a replica, by the broker that does not answer.
    missing: BTreeMap<BrokerId, Vec<String>>,
    /// Partitions with a replica that is far behind, by its broker.
    behind: BTreeMap<BrokerId, Vec<String>>,
    /// A partition counts once, however many replicas it misses.
    under_replicated: usize,
}

impl Causes {
    fn look(
        &mut self,
        name: &TopicPartition,
        is_leaderless: bool,
        replicas: &[BrokerId],
        alive: &BTreeSet<BrokerId>,
        lagging: Option<&BTreeSet<BrokerId>>,
    ) {
        if is_leaderless {
            self.without_leader.push(name.to_string());
        }
        let mut is_short = false;
        for broker in replicas {
            let causes = if !alive.contains(broker) {
                &mut self.missing
            } else if lagging.is_some_and(|lagging| lagging.contains(broker)) {
                &mut self.behind
            } else {
                continue;
            };
            causes.entry(*broker).or_default().push(name.to_string());
            is_short = true;
        }
        self.under_replicated += usize::from(is_short);
    }

    /// Adds a problem for each cause; returns a line for each partition and cause.
    fn tell(self, problems: &mut Vec<String>) -> Vec<String> {
        let mut details = Vec::new();
        let mut tell = |names: Vec<String>, one: String, many: String| {
            let some: Vec<&str> = names.iter().take(limits::NAMES_IN_PROBLEM).map(String::as_str).collect();
            let some = some.join(", ");
            match names.len() {
                0 => {}
                1 => problems.push(format!("{some} {one}")),
                n if n <= limits::NAMES_IN_PROBLEM => problems.push(format!("{n} partitions {many}: {some}")),
                n => problems.push(format!("{n} partitions {many}: {some} and {} more", n - limits::NAMES_IN_PROBLEM)),
            }
            details.extend(names.into_iter().map(|name| format!("{name} {one}")));
        };
        tell(self.without_leader, "has no live leader".into(), "have no live leader".into());
        for (broker, names) in self.missing {
            let replica = format!("replica on broker {broker}, which does not answer");
            tell(names, format!("misses its {replica}"), format!("miss their {replica}"));
        }
        for (broker, names) in self.behind {
            let replica = format!("a replica on broker {broker} that is far behind");
            tell(names, format!("has {replica}"), format!("have {replica}"));
        }
        details
    }
}

/// Notes about brokers that lead less than half of what they are the preferred leaders of, as after a
/// rolling restart.
pub fn uneven_leaders(
    alive: &BTreeSet<BrokerId>,
    partitions: &[PartitionPlaces],
    leader_of: impl Fn(&RaftGroupId) -> Option<BrokerId>,
) -> Vec<String> {
    // What a broker is preferred for, and what it leads.
    let mut counts: BTreeMap<BrokerId, (usize, usize)> = BTreeMap::new();
    for (group, _, replicas) in partitions {
        if let Some(preferred) = replicas.first() {
            counts.entry(*preferred).or_default().0 += 1;
        }
        if let Some(leader) = leader_of(group) {
            counts.entry(leader).or_default().1 += 1;
        }
    }
    let short = counts.into_iter().filter(|(broker, (preferred, led))| {
        alive.contains(broker) && *preferred >= limits::PREFERRED_MIN && led * 2 < *preferred
    });
    let note = |(broker, (preferred, led)): (BrokerId, (usize, usize))| {
        format!(
            "broker {broker} leads {led} partitions and is the preferred leader of {preferred}: `flotilla cluster \
             balance` gives them back"
        )
    };
    cut(short.map(note).collect(), limits::PROBLEMS_MAX, "notes")
}

fn cut(mut lines: Vec<String>, lines_max: usize, what: &str) -> Vec<String> {
    let total = lines.len();
    lines.truncate(lines_max);
    if total > lines_max {
        lines.push(format!("and {} more {what}", total - lines_max));
    }
    lines
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::PartitionId;

    fn places(n: i32, replicas: [u64; 2]) -> PartitionPlaces {
        let name = TopicPartition { topic: "t".into(), partition: PartitionId(n) };
        (RaftGroupId(n as u64 + 1), name, replicas.map(BrokerId).to_vec())
    }

    /// Seen once: 17 partitions made 37 lines.
    #[test]
    fn a_cause_is_one_line_with_its_count_and_the_details_name_all() {
        let brokers = [1, 2, 3].map(BrokerId);
        let alive = BTreeSet::from([BrokerId(1), BrokerId(2)]);
        let partitions: Vec<_> = (0..150).map(|n| places(n, [1, 3])).collect();
        let behind = NodeHealth { lagging: vec![(RaftGroupId(7), vec![BrokerId(1)])], problems: vec![] };
        let nodes = [(BrokerId(1), Some(behind)), (BrokerId(2), None)];
        let report = assess(&brokers, &alive, &partitions, |group| group.0 == 1, true, &nodes);
        assert!(!report.healthy);
        assert_eq!((report.brokers_alive, report.partitions_without_leader), (2, 1));
        assert_eq!(report.partitions_under_replicated, 150);
        assert_eq!(
            report.problems,
            [
                "broker 3 does not answer",
                "broker 2 is up but did not report its health",
                "t-0 has no live leader",
                "150 partitions miss their replica on broker 3, which does not answer: t-0, t-1, t-2 and 147 more",
                "t-6 has a replica on broker 1 that is far behind",
            ]
        );
        assert_eq!(report.details.len(), 152);
        assert_eq!(report.details[1], "t-0 misses its replica on broker 3, which does not answer");

        let all = BTreeSet::from(brokers);
        let nodes = [(BrokerId(1), Some(NodeHealth::default()))];
        assert!(assess(&brokers, &all, &partitions, |_| false, true, &nodes).healthy);
    }

    #[test]
    fn details_and_problems_are_bounded_and_the_rest_is_counted() {
        let brokers: Vec<BrokerId> = (1..=limits::PROBLEMS_MAX as u64 + 8).map(BrokerId).collect();
        let partitions: Vec<_> = (0..limits::DETAILS_MAX as i32 + 5).map(|n| places(n, [1, 1])).collect();
        let report = assess(&brokers, &BTreeSet::from([BrokerId(1)]), &partitions, |_| true, true, &[]);
        assert_eq!(report.problems.len(), limits::PROBLEMS_MAX + 1);
        assert_eq!(report.details.len(), limits::DETAILS_MAX + 1);
        assert_eq!(report.details.last().expect("it is not empty"), "and 5 more lines");
    }

    /// Seen once: after a rolling restart leaders stood at 10, 2 and 0, and nothing said so.
    #[test]
    fn a_broker_that_leads_far_less_than_it_is_preferred_for_is_noted() {
        let alive = BTreeSet::from([1, 2].map(BrokerId));
        let partitions: Vec<_> = (0..4).map(|n| places(n, [2, 1])).chain((4..6).map(|n| places(n, [3, 1]))).collect();
        let notes = uneven_leaders(&alive, &partitions, |_| Some(BrokerId(1)));
        assert_eq!(notes.len(), 1, "a dead broker leads nothing, and that is no news: {notes:?}");
        assert!(notes[0].starts_with("broker 2 leads 0 partitions and is the preferred leader of 4"), "{notes:?}");
        let half = uneven_leaders(&alive, &partitions, |group| Some(BrokerId(if group.0 <= 2 { 2 } else { 1 })));
        assert_eq!(half, Vec::<String>::new());
    }
}
