//! What the coordinator looks for now and then: topics that a pattern has come to match, or matches no
//! longer, and offsets that nobody used for too long.
//!
//! Promises: one sweep tests a bounded number of names, and none while the topics are the same; the next goes on where
//! it stopped. What the lock on the metadata is held for copies nothing but what has changed.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
};

use regex::Regex;

use super::patterns;
use crate::{
    broker::groups::limits,
    group::{GroupCommand, ResolvePattern},
    metadata::Metadata,
    raft::Replica,
    types::{GroupName, WallMs},
};

#[derive(Default)]
pub struct Sweeper {
    /// All topics as the last sweep saw them, in order.
    names: Vec<String>,
    /// The patterns that groups use, and what they matched.
    patterns: BTreeMap<String, Matched>,
    /// Where the next sweep begins to test patterns: the last one tested by a sweep that stopped early.
    after: Option<String>,
}

/// A pattern of any groups, and what it matches of `Sweeper::names`.
struct Matched {
    /// Compiled when it is first tested. None: it cannot be; it came from another version, and is left alone.
    regex: OnceCell<Option<Regex>>,
    /// Sorted. None: not tested yet since the topics changed.
    topics: Option<Vec<String>>,
}

/// A pattern of a group and the topics it is known to match there: (group, pattern, topics).
type InUse<'a> = (&'a GroupName, &'a str, &'a [String]);

impl Sweeper {
    /// Commands that are due. `now`: None while this broker's clock is not to be trusted.
    pub fn sweep(&mut self, metadata: &Replica<Metadata>, now: Option<WallMs>, retention_ms: u64) -> Vec<GroupCommand> {
        metadata.read(|state| {
            self.see_patterns(state.groups().patterns().map(|(_, pattern, _)| pattern));
            if !self.patterns.is_empty() {
                self.see_topics(|| state.topics().map(|topic| topic.name.as_str()));
            }
        });
        // The long part, while nobody waits for it.
        self.test_patterns();
        metadata.read(|state| {
            let mut commands = self.resolve(state.groups().patterns());
            let old = now.map(|now| state.groups().expirable(now, retention_ms)).unwrap_or_default();
            commands.extend(expire(old, retention_ms));
            commands
        })
    }

    /// Patterns in use, whatever their order and number: those that are used no more are forgotten.
    fn see_patterns<'a>(&mut self, in_use: impl Iterator<Item = &'a str>) {
        let used: BTreeSet<&str> = in_use.collect();
        self.patterns.retain(|pattern, _| used.contains(pattern.as_str()));
        for pattern in used {
            if !self.patterns.contains_key(pattern) {
                self.patterns.insert(pattern.to_string(), Matched { regex: OnceCell::new(), topics: None });
            }
        }
    }

    /// All topics, in order. Nothing is copied or to be tested again while they are the same.
    fn see_topics<'a, I: Iterator<Item = &'a str>>(&mut self, names: impl Fn() -> I) {
        if names().eq(self.names.iter().map(String::as_str)) {
            return;
        }
        self.names = names().map(str::to_string).collect();
        self.patterns.values_mut().for_each(|pattern| pattern.topics = None);
    }

    /// Patterns whose matches are not known, in turn, as many as one sweep may.
    fn test_patterns(&mut self) {
        let is_bad = |pattern: &Matched| pattern.regex.get().is_some_and(Option::is_none);
        let unknown = self.patterns.iter().filter(|(_, pattern)| pattern.topics.is_none() && !is_bad(pattern));
        let mut unknown: Vec<String> = unknown.map(|(pattern, _)| pattern.clone()).collect();
        if let Some(after) = self.after.take() {
            let first = unknown.iter().position(|pattern| *pattern > after);
            unknown.rotate_left(first.unwrap_or(0));
        }
        let mut tests = 0;
        for pattern in unknown {
            if tests >= limits::PATTERN_TESTS_PER_SWEEP_MAX {
                return;
            }
            let Some(Matched { regex, topics }) = self.patterns.get_mut(&pattern) else { continue };
            if let Some(regex) = regex.get_or_init(|| patterns::compile(&pattern).ok()) {
                tests += self.names.len();
                *topics = Some(patterns::matching(regex, self.names.iter().map(String::as_str)));
            }
            self.after = Some(pattern);
        }
        self.after = None;
    }

    /// What groups have to be told, as much as one sweep may.
    fn resolve<'a>(&self, in_use: impl Iterator<Item = InUse<'a>>) -> Vec<GroupCommand> {
        let changed = in_use.filter_map(|(group, pattern, known)| {
            let topics = self.patterns.get(pattern)?.topics.as_ref().filter(|topics| **topics != known)?;
            let (group, pattern, topics) = (group.clone(), pattern.to_string(), topics.clone());
            Some(GroupCommand::ResolvePattern(ResolvePattern { group, pattern, topics }))
        });
        changed.take(limits::DECISIONS_MAX).collect()
    }
}

fn expire(mut groups: Vec<GroupName>, retention_ms: u64) -> Option<GroupCommand> {
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

    /// A pattern of a group, and what it is known to match.
    type Used = (GroupName, String, Vec<String>);

    fn used(group: &str, pattern: &str, known: &[&str]) -> Used {
        (group.into(), pattern.into(), names(known))
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    fn sweep(sweeper: &mut Sweeper, topics: &[String], in_use: &[Used]) -> Vec<GroupCommand> {
        sweeper.see_patterns(in_use.iter().map(|(_, pattern, _)| pattern.as_str()));
        sweeper.see_topics(|| topics.iter().map(String::as_str));
        sweeper.test_patterns();
        sweeper.resolve(in_use.iter().map(|(group, pattern, known)| (group, pattern.as_str(), known.as_slice())))
    }

    fn resolved(commands: Vec<GroupCommand>) -> Vec<String> {
        let pattern = |command| match command {
            GroupCommand::ResolvePattern(resolve) => resolve.pattern,
            other => panic!("{other:?}"),
        };
        commands.into_iter().map(pattern).collect()
    }

    #[test]
    fn only_patterns_whose_topics_changed_are_resolved_anew() {
        let mut sweeper = Sweeper::default();
        let topics = names(&["a1", "a2", "b1"]);
        let in_use = [used("g", "a.*", &["a1"]), used("g", "b.*", &["b1"]), used("h", "(", &[])];
        let resolve = ResolvePattern { group: "g".into(), pattern: "a.*".into(), topics: names(&["a1", "a2"]) };
        assert_eq!(sweep(&mut sweeper, &topics, &in_use), [GroupCommand::ResolvePattern(resolve)]);
        let gone = sweep(&mut sweeper, &names(&["b1"]), &in_use);
        let resolve = ResolvePattern { group: "g".into(), pattern: "a.*".into(), topics: vec![] };
        assert_eq!(gone, [GroupCommand::ResolvePattern(resolve)]);
        assert_eq!(sweep(&mut sweeper, &topics, &[]), []);
        assert!(sweeper.patterns.is_empty(), "patterns that are not used are forgotten");
    }

    #[test]
    fn a_sweep_stops_at_its_limit_and_the_next_goes_on() {
        let mut sweeper = Sweeper::default();
        let topics: Vec<String> = (0..1_000).map(|n| format!("t{n:04}")).collect();
        let patterns = limits::PATTERN_TESTS_PER_SWEEP_MAX / topics.len() + 10;
        let mut in_use: Vec<Used> = (0..patterns).map(|n| used("g", &format!("t{n:04}"), &[])).collect();
        let mut all = BTreeSet::new();
        for _ in 0..patterns.div_ceil(limits::DECISIONS_MAX) + 3 {
            let commands = sweep(&mut sweeper, &topics, &in_use);
            assert!(commands.len() <= limits::DECISIONS_MAX, "{} commands in one sweep", commands.len());
            // What was resolved is known from then on.
            let now: BTreeSet<String> = resolved(commands).into_iter().collect();
            for (_, pattern, known) in in_use.iter_mut().filter(|(_, pattern, _)| now.contains(pattern)) {
                *known = vec![pattern.clone()];
            }
            all.extend(now);
        }
        let matching = in_use.iter().filter(|(_, pattern, _)| topics.contains(pattern)).count();
        assert_eq!(all.len(), matching);
    }

    #[test]
    fn a_sweep_tests_a_bounded_number_of_names_and_none_again_while_topics_stay() {
        let mut sweeper = Sweeper::default();
        let mut topics: Vec<String> = (0..limits::PATTERN_TESTS_PER_SWEEP_MAX).map(|n| format!("t{n:06}")).collect();
        let patterns = ["t000001", "t000002", "t000003"];
        let in_use = patterns.map(|pattern| used("g", pattern, &[]));
        for tested in 1..=3 {
            assert_eq!(
                resolved(sweep(&mut sweeper, &topics, &in_use)),
                patterns[..tested],
                "one more a sweep, in turn"
            );
        }
        let kept = sweeper.names.as_ptr();
        sweep(&mut sweeper, &topics, &in_use);
        assert_eq!(sweeper.names.as_ptr(), kept, "nothing is copied while topics are the same");
        *topics.last_mut().expect("many") = "t999999".into();
        assert_eq!(resolved(sweep(&mut sweeper, &topics, &in_use)).len(), 1, "all are tested anew");
    }

    #[test]
    fn a_sweep_expires_a_bounded_number_of_groups() {
        let groups = |count: usize| (0..count).map(|n| GroupName(format!("g{n}"))).collect::<Vec<_>>();
        let expired = |count| match expire(groups(count), 7) {
            Some(GroupCommand::ExpireOffsets { groups, retention_ms: 7 }) => groups.len(),
            None => 0,
            other => panic!("{other:?}"),
        };
        let max = limits::EXPIRIES_PER_SWEEP_MAX;
        assert_eq!([0, 1, max, max + 1].map(expired), [0, 1, max, max]);
    }
}
