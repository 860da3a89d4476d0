//! What the coordinator looks for now and then: topics that a pattern has come to match, or matches no
//! longer, and offsets that nobody used for too long.
//!
//! Promises: one sweep tests a bounded number of names; the next goes on where it stopped.

use std::collections::BTreeMap;

use regex::Regex;

use super::{limits, patterns};
use crate::{
    group::{GroupCommand, ResolvePattern},
    metadata::Metadata,
    raft::Group,
    types::WallMs,
};

#[derive(Default)]
pub struct Sweeper {
    /// Patterns in use, compiled. One that cannot be compiled came from another version: it is left alone.
    compiled: BTreeMap<String, Option<Regex>>,
    /// Where the next sweep begins: the last group and pattern of one that stopped early.
    after: Option<(String, String)>,
}

/// A pattern of a group and the topics it is known to match.
#[derive(Clone, Debug)]
struct InUse {
    group: String,
    pattern: String,
    known: Vec<String>,
}

impl Sweeper {
    /// Commands that are due. `now`: None while this broker's clock is not to be trusted.
    pub fn sweep(&mut self, metadata: &Group<Metadata>, now: Option<WallMs>, retention_ms: u64) -> Vec<GroupCommand> {
        let (names, in_use, old) = metadata.read(|state| {
            let in_use: Vec<InUse> = state
                .groups()
                .patterns()
                .map(|(group, pattern, known)| InUse {
                    group: group.to_string(),
                    pattern: pattern.to_string(),
                    known: known.to_vec(),
                })
                .collect();
            let names: Vec<String> = match in_use.is_empty() {
                true => Vec::new(),
                false => state.topics().map(|topic| topic.name.clone()).collect(),
            };
            let old = now.map(|now| state.groups().expirable(now, retention_ms)).unwrap_or_default();
            (names, in_use, old)
        });
        let mut commands = self.resolve(&names, in_use);
        commands.extend(expire(old, retention_ms));
        commands
    }

    fn resolve(&mut self, names: &[String], mut in_use: Vec<InUse>) -> Vec<GroupCommand> {
        self.compiled.retain(|pattern, _| in_use.iter().any(|used| used.pattern == *pattern));
        if let Some(after) = self.after.take() {
            let first = in_use.iter().position(|used| (&used.group, &used.pattern) > (&after.0, &after.1));
            in_use.rotate_left(first.unwrap_or(0));
        }
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut tests = 0;
        let mut commands = Vec::new();
        let mut last = None;
        for InUse { group, pattern, known } in in_use {
            let is_found = found.contains_key(&pattern);
            if commands.len() >= limits::DECISIONS_MAX || (!is_found && tests >= limits::PATTERN_TESTS_PER_SWEEP_MAX) {
                self.after = last;
                break;
            }
            if !is_found {
                let regex = self.compiled.entry(pattern.clone()).or_insert_with(|| patterns::compile(&pattern).ok());
                let Some(regex) = regex else { continue };
                tests += names.len();
                found.insert(pattern.clone(), patterns::matching(regex, names.iter().map(String::as_str)));
            }
            last = Some((group.clone(), pattern.clone()));
            let topics = &found[&pattern];
            // Both are sorted: names come in the order of metadata's map.
            if *topics != known {
                let topics = topics.clone();
                commands.push(GroupCommand::ResolvePattern(ResolvePattern { group, pattern, topics }));
            }
        }
        commands
    }
}

/// Those that one sweep can take; the next finds the others.
fn expire(mut groups: Vec<String>, retention_ms: u64) -> Option<GroupCommand> {
    groups.truncate(limits::EXPIRIES_PER_SWEEP_MAX);
    if groups.is_empty() {
        return None;
    }
    tracing::info!(groups = groups.len(), "offsets of groups without members expire");
    Some(GroupCommand::ExpireOffsets { groups, retention_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(group: &str, pattern: &str, known: &[&str]) -> InUse {
        let known = known.iter().map(|topic| topic.to_string()).collect();
        InUse { group: group.into(), pattern: pattern.into(), known }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn only_patterns_whose_topics_changed_are_resolved_anew() {
        let mut sweeper = Sweeper::default();
        let topics = names(&["a1", "a2", "b1"]);
        let in_use = vec![used("g", "a.*", &["a1"]), used("g", "b.*", &["b1"]), used("h", "(", &[])];
        let resolve = ResolvePattern { group: "g".into(), pattern: "a.*".into(), topics: names(&["a1", "a2"]) };
        assert_eq!(sweeper.resolve(&topics, in_use.clone()), [GroupCommand::ResolvePattern(resolve)]);
        let gone = sweeper.resolve(&names(&["b1"]), in_use);
        let resolve = ResolvePattern { group: "g".into(), pattern: "a.*".into(), topics: vec![] };
        assert_eq!(gone, [GroupCommand::ResolvePattern(resolve)]);
        assert_eq!(sweeper.resolve(&topics, vec![]), []);
        assert!(sweeper.compiled.is_empty(), "patterns that are not used are forgotten");
    }

    #[test]
    fn a_sweep_stops_at_its_limit_and_the_next_goes_on() {
        let mut sweeper = Sweeper::default();
        let topics: Vec<String> = (0..1_000).map(|n| format!("t{n:04}")).collect();
        let patterns = limits::PATTERN_TESTS_PER_SWEEP_MAX / topics.len() + 10;
        let in_use: Vec<InUse> = (0..patterns).map(|n| used("g", &format!("t{n:04}"), &[])).collect();
        let mut resolved = std::collections::BTreeSet::new();
        for _ in 0..patterns.div_ceil(limits::DECISIONS_MAX) + 3 {
            // What was resolved is known from then on.
            let left: Vec<InUse> = in_use
                .iter()
                .map(|used| match resolved.contains(&used.pattern) {
                    true => InUse { known: vec![used.pattern.clone()], ..used.clone() },
                    false => used.clone(),
                })
                .collect();
            let commands = sweeper.resolve(&topics, left);
            assert!(commands.len() <= limits::DECISIONS_MAX, "{} commands in one sweep", commands.len());
            for command in commands {
                let GroupCommand::ResolvePattern(resolve) = command else { panic!("{command:?}") };
                resolved.insert(resolve.pattern);
            }
        }
        let matching = in_use.iter().filter(|used| topics.contains(&used.pattern)).count();
        assert_eq!(resolved.len(), matching);
    }

    #[test]
    fn a_sweep_tests_a_bounded_number_of_names() {
        let mut sweeper = Sweeper::default();
        let topics: Vec<String> = (0..limits::PATTERN_TESTS_PER_SWEEP_MAX).map(|n| format!("t{n}")).collect();
        let in_use = || ["t1", "t2", "t3"].map(|pattern| used("g", pattern, &[])).to_vec();
        let swept: Vec<String> = (0..4)
            .flat_map(|_| sweeper.resolve(&topics, in_use()))
            .map(|command| match command {
                GroupCommand::ResolvePattern(resolve) => resolve.pattern,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(swept, ["t1", "t2", "t3", "t1"], "one pattern a sweep, in turn");
    }

    #[test]
    fn a_sweep_expires_a_bounded_number_of_groups() {
        let groups = |count: usize| (0..count).map(|n| format!("g{n}")).collect::<Vec<_>>();
        let expired = |count| match expire(groups(count), 7) {
            Some(GroupCommand::ExpireOffsets { groups, retention_ms: 7 }) => groups.len(),
            None => 0,
            other => panic!("{other:?}"),
        };
        let max = limits::EXPIRIES_PER_SWEEP_MAX;
        assert_eq!([0, 1, max, max + 1].map(expired), [0, 1, max, max]);
    }
}
