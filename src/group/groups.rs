//! All groups of the cluster: which one a command is for, what topics mean to them, and the limits
//! that they share.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use serde::{Deserialize, Serialize};

use super::command::{CommitOffset, GroupCommand};
use super::draft::Draft;
use super::limits::{EMPTY_GROUP_KEPT_MS, GROUPS_MAX};
use super::outcome::{GroupOutcome, GroupRefusal, OffsetRefusal};
use super::state::{ClassicMembers, Group, Members, ServerMembers};
use super::types::{PartitionCounts, PartitionSet};
use super::usage::Usage;
use crate::types::{GroupName, PartitionId, WallMs};

/// Every consumer group, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Groups {
    pub(super) by_name: BTreeMap<GroupName, Group>,
    /// Derived: of all groups together.
    #[serde(skip)]
    pub(super) usage: Usage,
    /// Derived of the cluster's feature level: a group that holds nothing any more stays for a while.
    #[serde(skip)]
    pub(super) keeps_empty: bool,
}

impl Groups {
    pub fn get(&self, name: &GroupName) -> Option<&Group> {
        self.by_name.get(name)
    }

    /// All groups, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&GroupName, &Group)> {
        self.by_name.iter()
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Whether a group that holds nothing any more stays until it expires or is deleted, or goes at once.
    pub fn keep_empty(&mut self, keeps: bool) {
        self.keeps_empty = keeps;
    }

    /// Patterns in use: group, pattern and the topics it is known to match.
    pub fn patterns(&self) -> impl Iterator<Item = (&GroupName, &str, &[String])> {
        self.by_name.iter().filter_map(|(name, group)| Some((name, group.server()?))).flat_map(|(name, server)| {
            server.patterns.iter().map(move |(pattern, topics)| (name, &**pattern, &**topics))
        })
    }

    /// Groups of which [`GroupCommand::ExpireOffsets`] would drop something at `now`.
    pub fn expirable(&self, now: WallMs, retention_ms: u64) -> Vec<GroupName> {
        // The time without members first: of a group that runs no offset is looked at.
        let may_expire = |group: &&Group| {
            let kept_ms = if group.is_nothing() { retention_ms.min(EMPTY_GROUP_KEPT_MS) } else { retention_ms };
            group.empty_since.is_some_and(|since| is_over(since, kept_ms, now))
        };
        let has_expired = |group: &&Group| {
            if group.is_nothing() {
                return true;
            }
            let mut offsets = group.offsets.by_topic().values().flat_map(BTreeMap::values);
            offsets.any(|committed| is_over(committed.committed_at, retention_ms, now))
        };
        let expired = self.by_name.iter().filter(|(_, group)| may_expire(group) && has_expired(group));
        expired.map(|(name, _)| name.clone()).collect()
    }

    /// What deleting the group would be refused for.
    pub fn check_delete(&self, name: &GroupName) -> Result<(), GroupRefusal> {
        match self.by_name.get(name) {
            None => Err(GroupRefusal::UnknownGroup),
            // Members are limited to far fewer.
            Some(group) if group.member_count() > 0 => {
                Err(GroupRefusal::NotEmpty { members: group.member_count() as u32 })
            }
            Some(_) => Ok(()),
        }
    }

    /// Decides and changes. `now` is the metadata's clock.
    pub fn apply(
        &mut self,
        now: WallMs,
        command: GroupCommand,
        counts: PartitionCounts<'_>,
    ) -> Result<GroupOutcome, GroupRefusal> {
        let outcome = self.change(now, command, counts);
        self.check(counts);
        outcome
    }

    fn change(
        &mut self,
        now: WallMs,
        command: GroupCommand,
        counts: PartitionCounts<'_>,
    ) -> Result<GroupOutcome, GroupRefusal> {
        match command {
            GroupCommand::Join(wish) => {
                let (name, pattern) = (wish.group.clone(), wish.subscription.pattern.clone());
                self.edit_pattern(now, (&name, pattern.as_deref()), counts, |draft| draft.join(wish, counts))
            }
            GroupCommand::Report(wish) => {
                let (name, pattern) = (wish.group.clone(), wish.subscription.as_ref().and_then(|s| s.pattern.clone()));
                self.edit_pattern(now, (&name, pattern.as_deref()), counts, |draft| draft.report(wish, counts))
            }
            GroupCommand::Leave(wish) => {
                let name = wish.group.clone();
                self.edit(now, &name, counts, |draft| Ok(draft.leave(wish, counts)))
            }
            GroupCommand::Expire(wish) => {
                let name = wish.group.clone();
                self.edit(now, &name, counts, |draft| Ok(draft.expire(wish, counts)))
            }
            GroupCommand::ResolvePattern(wish) => {
                let (name, pattern) = (wish.group.clone(), wish.pattern.clone());
                self.edit_pattern(now, (&name, Some(&pattern)), counts, |draft| draft.resolve_pattern(wish, counts))
            }
            GroupCommand::JoinClassic(wish) => {
                let name = wish.group.clone();
                self.edit(now, &name, counts, |draft| draft.join_classic(wish))
            }
            GroupCommand::CompleteClassic(wish) => {
                self.edit(now, &wish.group, counts, |draft| draft.complete_classic(&wish))
            }
            GroupCommand::SyncClassic(wish) => {
                let name = wish.group.clone();
                self.edit(now, &name, counts, |draft| draft.sync_classic(wish))
            }
            GroupCommand::Commit(commits) => {
                let results = commits.into_iter().map(|commit| self.commit(now, commit, counts)).collect();
                Ok(GroupOutcome::Committed { results })
            }
            GroupCommand::DeleteGroup { group } => {
                self.check_delete(&group)?;
                self.remove(&group);
                Ok(GroupOutcome::GroupDeleted)
            }
            GroupCommand::DeleteOffsets { group, partitions } => {
                self.delete_offsets(now, &group, &partitions, |_| None)
            }
            GroupCommand::DeleteUnreadOffsets { group, partitions } => {
                self.delete_offsets(now, &group, &partitions, ClassicMembers::subscribed_topics)
            }
            GroupCommand::ExpireOffsets { groups, retention_ms } => Ok(self.expire_offsets(now, &groups, retention_ms)),
        }
    }

    /// Whether the limits allow a topic to have so many partitions more (or its first ones), which
    /// groups that subscribe to it will deal out.
    pub fn check_topic_growth(&self, topic: &str, old: i32, new: i32) -> Result<(), GroupRefusal> {
        let mut grown = self.usage;
        let readers = self.by_name.values().filter_map(Group::server).filter(|server| server.knows(topic));
        for server in readers {
            let members = server.members.len();
            let of = |partitions: i32| Usage::of_topic(topic, partitions as usize, members);
            grown = grown.plus(of(new)).minus(if old > 0 { of(old) } else { Usage::default() });
        }
        self.usage.check_growth(grown)
    }

    /// A topic is new, or has more partitions than the `old` ones: groups that subscribe to it deal them out, and
    /// begin at their first record.
    pub fn topic_grew(&mut self, now: WallMs, topic: &str, old: i32, counts: PartitionCounts<'_>) {
        let readers = self.by_name.iter().filter(|(_, group)| group.server().is_some_and(|s| s.knows(topic)));
        for name in readers.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.redraft(now, &name, counts, |draft| draft.topic_grew(counts));
            self.begin_at_first(now, &name, topic, old..counts(topic).unwrap_or(old));
        }
        self.check(counts);
    }

    /// Partitions that appear while a group runs are read from their first record, whatever its members do where
    /// nothing is committed: that is about what was there before them. So that is committed here, for whoever gets
    /// them, and at whatever time. Where there is no room for it, the members decide after all.
    fn begin_at_first(&mut self, now: WallMs, name: &GroupName, topic: &str, partitions: Range<i32>) {
        let (total, mine) = (self.usage, self.by_name[name].usage);
        let others = total.minus(mine);
        self.with(now, name, |group| {
            let rest = mine.minus(group.offsets.usage());
            for partition in partitions.map(PartitionId) {
                let first = CommitOffset { topic: topic.to_string(), partition, ..CommitOffset::default() };
                if group.offset(topic, partition).is_none() && group.check_room(&first, rest, others).is_ok() {
                    group.put_offset(now, first);
                }
            }
        });
    }

    /// Does what [`Groups::edit`] does, for what may bring a pattern of the group up to date: topics that it has come
    /// to match were created while the group ran.
    fn edit_pattern(
        &mut self,
        now: WallMs,
        (name, pattern): (&GroupName, Option<&str>),
        counts: PartitionCounts<'_>,
        edit: impl FnOnce(&mut Draft) -> Result<GroupOutcome, GroupRefusal>,
    ) -> Result<GroupOutcome, GroupRefusal> {
        let before = pattern.and_then(|pattern| self.matched(name, pattern));
        let outcome = self.edit(now, name, counts, edit)?;
        if let (Some(pattern), Some(before)) = (pattern, before) {
            let after = self.matched(name, pattern).unwrap_or_default();
            for topic in after.iter().filter(|topic| before.binary_search(topic).is_err()) {
                self.begin_at_first(now, name, topic, 0..counts(topic).unwrap_or(0));
            }
        }
        Ok(outcome)
    }

    /// The topics that a pattern of the group is known to match. None: nobody had the pattern.
    fn matched(&self, name: &GroupName, pattern: &str) -> Option<Vec<String>> {
        self.by_name.get(name)?.server()?.patterns.get(pattern).cloned()
    }

    /// A topic is gone, and with it what was committed and assigned of it. `counts` knows it no more.
    pub fn topic_deleted(&mut self, now: WallMs, topic: &str, counts: PartitionCounts<'_>) {
        let concerned = self.by_name.iter().filter(|(_, group)| {
            group.offsets.by_topic().contains_key(topic) || group.server().is_some_and(|server| server.knows(topic))
        });
        for name in concerned.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.with(now, &name, |group| group.offsets.drop_topic(topic));
            if self.by_name.contains_key(&name) {
                self.redraft(now, &name, counts, |draft| draft.topic_deleted(topic, counts));
            }
        }
        self.check(counts);
    }

    /// Lets `edit` change a copy of the group's members; puts it in place if the limits allow.
    fn edit(
        &mut self,
        now: WallMs,
        name: &GroupName,
        counts: PartitionCounts<'_>,
        edit: impl FnOnce(&mut Draft) -> Result<GroupOutcome, GroupRefusal>,
    ) -> Result<GroupOutcome, GroupRefusal> {
        let old = self.by_name.get(name);
        let mut draft = Draft::of(old);
        let outcome = edit(&mut draft)?;
        if old.is_none() && draft.members.count() > 0 {
            self.check_room_for_a_group()?;
        }
        let offsets = old.map(|group| group.offsets.usage()).unwrap_or_default();
        let new = Usage::of_group(name).plus(offsets).plus(Usage::of_members(&draft.members, counts));
        let others = self.usage.minus(old.map(|group| group.usage).unwrap_or_default());
        self.usage.check_growth(others.plus(new))?;
        self.install(now, name, draft, new);
        Ok(outcome)
    }

    /// The same for what cannot be refused: [`Groups::check_topic_growth`] came before.
    fn redraft(&mut self, now: WallMs, name: &GroupName, counts: PartitionCounts<'_>, edit: impl FnOnce(&mut Draft)) {
        let group = &self.by_name[name];
        let mut draft = Draft::of(Some(group));
        edit(&mut draft);
        let members = Usage::of_members(&draft.members, counts);
        let new = Usage::of_group(name).plus(group.offsets.usage()).plus(members);
        self.install(now, name, draft, new);
    }

    fn install(&mut self, now: WallMs, name: &GroupName, draft: Draft, usage: Usage) {
        let had_members = self.by_name.get(name).is_some_and(|group| group.member_count() > 0);
        let has_members = draft.members.count() > 0;
        if !has_members && !self.by_name.contains_key(name) {
            return;
        }
        let group = self.by_name.entry(name.clone()).or_default();
        assert!(
            draft.epoch >= group.epoch,
            "the epoch of group {name:?} went back: {} to {}",
            group.epoch,
            draft.epoch
        );
        self.usage = self.usage.minus(group.usage).plus(usage);
        (group.epoch, group.members, group.usage) = (draft.epoch, draft.members, usage);
        match (had_members, has_members) {
            (_, true) => group.empty_since = None,
            (true, false) => group.empty_since = Some(now),
            (false, false) => {}
        }
        if group.is_nothing() && !self.keeps_empty {
            self.remove(name);
        }
        self.check_group(name);
    }

    /// Changes a group's offsets. What holds nothing afterwards is removed, or stays for a while from then on.
    pub(super) fn with<T>(&mut self, now: WallMs, name: &GroupName, change: impl FnOnce(&mut Group) -> T) -> T {
        let group = self.by_name.get_mut(name).expect("the caller has found it");
        let before = (group.usage, group.offsets.usage());
        let held_nothing = group.is_nothing();
        let result = change(group);
        group.usage = before.0.minus(before.1).plus(group.offsets.usage());
        self.usage = self.usage.minus(before.0).plus(group.usage);
        match group.is_nothing() {
            true if !self.keeps_empty => self.remove(name),
            true if !held_nothing => group.empty_since = Some(now),
            true | false => {}
        }
        self.check_group(name);
        result
    }

    pub(super) fn check_room_for_a_group(&self) -> Result<(), GroupRefusal> {
        if self.by_name.len() >= GROUPS_MAX {
            let detail = format!("the cluster has {GROUPS_MAX} consumer groups, no more are allowed");
            return Err(GroupRefusal::LimitReached { detail });
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &GroupName) {
        if let Some(group) = self.by_name.remove(name) {
            self.usage = self.usage.minus(group.usage);
        }
    }

    /// `subscribed`: the topics that classic members read. None: who knows.
    fn delete_offsets(
        &mut self,
        now: WallMs,
        name: &GroupName,
        partitions: &PartitionSet,
        subscribed: impl Fn(&ClassicMembers) -> Option<BTreeSet<&str>>,
    ) -> Result<GroupOutcome, GroupRefusal> {
        let group = self.by_name.get(name).ok_or(GroupRefusal::UnknownGroup)?;
        let held: BTreeSet<(&str, PartitionId)> = group.server().into_iter().flat_map(ServerMembers::held).collect();
        let subscribed = group.classic().and_then(subscribed);
        let in_use = |topic: &str, partition: PartitionId| match &group.members {
            Members::None => false,
            Members::Server(_) => held.contains(&(topic, partition)),
            Members::Classic(_) => subscribed.as_ref().is_none_or(|topics| topics.contains(topic)),
        };
        let mut refused = Vec::new();
        let mut doomed = PartitionSet::new();
        for (topic, partitions) in partitions {
            for partition in partitions {
                match in_use(topic, *partition) {
                    true => refused.push((topic.clone(), *partition, OffsetRefusal::InUse)),
                    false => doomed.entry(topic.clone()).or_default().push(*partition),
                }
            }
        }
        doomed.values_mut().for_each(|partitions| partitions.sort_unstable());
        let is_doomed = |topic: &str, p: PartitionId| doomed.get(topic).is_some_and(|d| d.binary_search(&p).is_ok());
        self.with(now, name, |group| group.offsets.retain(|topic, partition, _| !is_doomed(topic, partition)));
        Ok(GroupOutcome::OffsetsDeleted { refused })
    }

    /// The coordinator's list is only a hint: each offset's age is looked at here.
    fn expire_offsets(&mut self, now: WallMs, names: &[GroupName], retention_ms: u64) -> GroupOutcome {
        let before = self.by_name.len();
        let mut gone = 0;
        for name in names {
            let Some(empty_since) = self.by_name.get(name).and_then(|group| group.empty_since) else { continue };
            let kept_ms = retention_ms.min(EMPTY_GROUP_KEPT_MS);
            let is_over_empty = self.by_name[name].is_nothing() && is_over(empty_since, kept_ms, now);
            let dropped = self.with(now, name, |group| {
                group
                    .offsets
                    .retain(|_, _, committed| !is_over(empty_since.max(committed.committed_at), retention_ms, now))
            });
            gone += dropped;
            // With its last offset the group goes, as in Kafka.
            if is_over_empty || (dropped > 0 && self.by_name.get(name).is_some_and(Group::is_nothing)) {
                self.remove(name);
            }
        }
        // Both are limited to far less.
        GroupOutcome::OffsetsExpired { offsets: gone as u32, groups: (before - self.by_name.len()) as u32 }
    }
}

fn is_over(since: WallMs, retention_ms: u64, now: WallMs) -> bool {
    let retention = i64::try_from(retention_ms).unwrap_or(i64::MAX);
    since.0.saturating_add(retention) <= now.0
}
