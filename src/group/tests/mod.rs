//! Tests of consumer groups as a whole. Each file says what it proves.

mod empty;
mod invariants;
mod limits;
mod properties;
mod script;
mod subscribed;

use std::collections::BTreeMap;

use super::*;
use crate::types::{GroupName, MemberId, Offset, PartitionId, WallMs};

/// Groups beside topics, without a metadata group.
#[derive(Clone, Debug, Default)]
pub(super) struct World {
    pub groups: Groups,
    pub topics: BTreeMap<String, i32>,
    pub now: WallMs,
}

impl World {
    pub fn with_topics(topics: &[(&str, i32)]) -> World {
        let mut world = World::default();
        topics.iter().for_each(|(name, partitions)| world.set_topic(name, *partitions));
        world
    }

    pub fn apply(&mut self, command: GroupCommand) -> Result<GroupOutcome, GroupRefusal> {
        self.with(|groups, now, counts| groups.apply(now, command, counts))
    }

    /// Creates it, or gives it more partitions.
    pub fn set_topic(&mut self, name: &str, partitions: i32) {
        let old = self.topics.insert(name.to_string(), partitions).unwrap_or(0);
        self.with(|groups, now, counts| groups.topic_grew(now, name, old, counts));
    }

    pub fn delete_topic(&mut self, name: &str) {
        self.topics.remove(name);
        self.with(|groups, now, counts| groups.topic_deleted(now, name, counts));
    }

    pub fn with<T>(&mut self, change: impl FnOnce(&mut Groups, WallMs, PartitionCounts<'_>) -> T) -> T {
        let World { groups, topics, now } = self;
        change(groups, *now, &|name| topics.get(name).copied())
    }

    pub fn member(&self, group: &str, member: &str) -> Option<&ServerMember> {
        self.groups.get(&group.into())?.server()?.members.get(member)
    }

    /// What the coordinator does with a heartbeat: an entry only if it changes something.
    pub fn beat(&mut self, group: &str, member: &str, epoch: i32, owns: &PartitionSet) -> Result<(), GroupRefusal> {
        self.groups.get(&group.into()).ok_or(GroupRefusal::UnknownMember)?.check_beat(&member.into(), None, epoch)?;
        let known = self.member(group, member);
        let released = known.map(|m| m.released_by(epoch, owns)).unwrap_or_default();
        let (group, member) = (group.into(), member.into());
        let report = Report { group, member, epoch, released, ..Report::default() };
        if self.groups.get(&report.group).is_some_and(|group| group.report_changes(&report)) {
            self.apply(GroupCommand::Report(report))?;
        }
        Ok(())
    }
}

pub(super) fn joining(group: &str, member: &str, topics: &[&str]) -> Join {
    let topics = topics.iter().map(|topic| topic.to_string()).collect();
    Join {
        group: group.into(),
        member: member.into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        subscription: Subscription { topics, ..Subscription::default() },
        ..Join::default()
    }
}

pub(super) fn joining_classic(group: &str, member: &str) -> JoinClassic {
    JoinClassic {
        group: group.into(),
        member: member.into(),
        is_new: true,
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".to_string(),
        protocols: vec![("range".to_string(), b"r".to_vec())],
        ..JoinClassic::default()
    }
}

pub(super) fn commit_of(group: &str, member: &str, epoch: i32, offsets: &[(&str, i32, i64)]) -> Commit {
    let one = |(topic, partition, offset): &(&str, i32, i64)| CommitOffset {
        topic: topic.to_string(),
        partition: PartitionId(*partition),
        offset: Offset(*offset),
        ..CommitOffset::default()
    };
    Commit {
        group: group.into(),
        member: member.into(),
        epoch,
        offsets: offsets.iter().map(one).collect(),
        ..Commit::default()
    }
}

/// Only what a member was told of, and does not own any more.
#[test]
fn a_heartbeat_lets_go_of_what_it_was_asked_for() {
    let mut world = World::with_topics(&[("t", 4)]);
    for member in ["a", "b"] {
        world.apply(GroupCommand::Join(joining("g", member, &["t"]))).expect("a valid join");
    }
    let released = |epoch: i32, owns: &[i32]| {
        let owns = owns.iter().copied().map(PartitionId).collect();
        let member = world.member("g", "a").expect("it has joined");
        let released = member.released_by(epoch, &BTreeMap::from([("t".to_string(), owns)]));
        released.into_values().flatten().map(|p| p.0).collect::<Vec<_>>()
    };
    assert_eq!(released(2, &[0, 1]), [2, 3]);
    // In any order, and with what it never had.
    assert_eq!(released(2, &[9, 3, 1]), [2]);
    assert_eq!(released(1, &[]), [0; 0]);
}
