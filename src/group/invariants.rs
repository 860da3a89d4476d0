//! What later code relies on, looked at again whenever a state is decoded: bytes that lie are refused
//! here instead of panicking, or giving one partition to two members, there. After each change of ours the
//! same is asserted: what is cheap to see always, all of it in debug builds while there is little.

use std::collections::BTreeMap;

use super::classic::common_protocols;
use super::groups::Groups;
use super::limits::SUBSCRIPTIONS_PER_GROUP_MAX;
use super::state::{ClassicMembers, ClassicPhase, Group, Members, ServerMember, ServerMembers, slots};
use super::types::PartitionCounts;
use super::usage::{GROUP_BYTES, Usage};
use super::validate;
use crate::types::{GroupName, MemberId, PartitionId};

impl Groups {
    /// Builds what is derived and checks the invariants.
    pub fn index(&mut self, counts: PartitionCounts<'_>) -> Result<(), String> {
        let mut total = Usage::default();
        let keeps_empty = self.keeps_empty;
        for (name, group) in &mut self.by_name {
            validate::group_name(name).map_err(|refusal| format!("group {name:?}: {refusal}"))?;
            require(keeps_empty || !group.is_nothing(), || format!("group {name:?}: it holds nothing"))?;
            check_group(group, counts).map_err(|broken| format!("group {name:?}: {broken}"))?;
            group.offsets.count();
            let members = Usage::of_members(&group.members, counts);
            group.usage = Usage::of_group(name).plus(group.offsets.usage()).plus(members);
            total = total.plus(group.usage);
        }
        self.usage = total;
        Ok(())
    }

    /// At the end of every change.
    ///
    /// # Panics
    /// If an invariant is broken: a command that was applied has done that, whoever proposed it.
    pub(super) fn check(&self, counts: PartitionCounts<'_>) {
        let (groups, usage) = (self.by_name.len(), self.usage);
        assert!(usage.bytes >= groups * GROUP_BYTES, "{groups} groups count for {usage:?}");
        if cfg!(debug_assertions) && groups + usage.members + usage.assigned + usage.offsets <= WALKED_MAX {
            let mut again = self.clone();
            again.index(counts).expect("a change keeps the invariants of groups");
            assert_eq!(again, *self, "what is derived of groups is not what they hold");
        }
    }

    /// At the end of every change of one group, which may have removed it.
    pub(super) fn check_group(&self, name: &GroupName) {
        let Some(group) = self.by_name.get(name) else { return };
        let (members, offsets, epoch) = (group.member_count(), group.offsets.len(), group.epoch);
        assert!(self.keeps_empty || members + offsets > 0, "group {name:?} holds nothing and was kept");
        let since = group.empty_since;
        assert!((members == 0) == since.is_some(), "group {name:?} has {members} members, and none since {since:?}");
        assert!(epoch >= 0, "group {name:?} is at epoch {epoch}");
        let usage = group.usage;
        let is_counted = usage.members == members && usage.offsets == offsets;
        assert!(is_counted, "group {name:?} has {members} members and {offsets} offsets, and counts for {usage:?}");
    }
}

/// Members, partitions and offsets of all groups that a debug build walks over with each change; with more it
/// would take quadratic time.
const WALKED_MAX: usize = 64;

fn check_group(group: &Group, counts: PartitionCounts<'_>) -> Result<(), String> {
    require(group.epoch >= 0, || format!("its epoch is {}", group.epoch))?;
    let is_empty = matches!(group.members, Members::None);
    require(is_empty == group.empty_since.is_some(), || format!("empty since {:?}", group.empty_since))?;
    for (topic, partitions) in group.offsets.by_topic() {
        require(!partitions.is_empty(), || format!("topic {topic:?} has no committed offset"))?;
        check_exist(topic, partitions.keys(), counts)?;
        let negative = partitions.iter().find(|(_, committed)| committed.offset.0 < 0);
        require(negative.is_none(), || format!("a negative offset is committed: {negative:?}"))?;
    }
    match &group.members {
        Members::None => Ok(()),
        Members::Server(server) => check_server(group.epoch, server, counts),
        Members::Classic(classic) => check_classic(classic),
    }
}

fn check_server(epoch: i32, server: &ServerMembers, counts: PartitionCounts<'_>) -> Result<(), String> {
    require(!server.members.is_empty(), || "it has members and none".to_string())?;
    let subscriptions = server.subscription_count();
    require(subscriptions <= SUBSCRIPTIONS_PER_GROUP_MAX, || format!("{subscriptions} distinct subscriptions"))?;
    let mut holders = BTreeMap::<(&str, PartitionId), &MemberId>::new();
    for (id, member) in &server.members {
        check_member(epoch, id, member, server, counts)?;
        let assigned = slots(&member.assigned);
        for slot in assigned.chain(slots(&member.revoking)) {
            let other = holders.insert(slot, id);
            require(other.is_none(), || format!("{slot:?} is held by {id:?} and {other:?}"))?;
        }
    }
    let mut heirs = BTreeMap::<(&str, PartitionId), &MemberId>::new();
    for (id, member) in &server.members {
        for (topic, partitions) in &member.awaiting {
            for partition in partitions {
                let slot = (topic.as_str(), *partition);
                let holder = holders.get(&slot).copied();
                let is_held = holder.is_some_and(|h| h != id && server.members[h].is_revoking(topic, *partition));
                require(is_held, || format!("{slot:?} is awaited by {id:?} and held by {holder:?}"))?;
                require(heirs.insert(slot, id).is_none(), || format!("{slot:?} is awaited twice"))?;
            }
        }
    }
    for (pattern, topics) in &server.patterns {
        let used = server.members.values().any(|m| m.subscription.pattern.as_ref() == Some(pattern));
        require(used, || format!("nobody has the pattern {pattern:?}"))?;
        require(is_rising(topics), || format!("topics of {pattern:?} are out of order"))?;
        let missing = topics.iter().find(|topic| counts(topic).is_none());
        require(missing.is_none(), || format!("pattern {pattern:?} matches {missing:?}, which does not exist"))?;
    }
    check_instances(server.members.values().map(|m| &m.instance))
}

fn check_member(
    epoch: i32,
    id: &MemberId,
    member: &ServerMember,
    server: &ServerMembers,
    counts: PartitionCounts<'_>,
) -> Result<(), String> {
    let is_past = |e: i32| (1..=member.epoch).contains(&e);
    require(is_past(member.epoch) && member.epoch <= epoch, || format!("{id:?} is at epoch {}", member.epoch))?;
    let asked = member.revoking.values().flat_map(BTreeMap::values);
    let mut epochs = member.assigned.values().flat_map(BTreeMap::values).copied();
    let revoking_is_past = asked.map(|r| (r.since, r.asked)).all(|(since, asked)| is_past(since) && is_past(asked));
    require(epochs.all(is_past) && revoking_is_past, || format!("{id:?} holds something since later than now"))?;
    require(is_rising(&member.subscription.topics), || format!("topics of {id:?} are out of order"))?;
    let pattern = &member.subscription.pattern;
    let resolved = pattern.as_ref().is_none_or(|pattern| server.patterns.contains_key(pattern));
    require(resolved, || format!("the pattern of {id:?} is unknown"))?;
    for (topic, partitions) in &member.assigned {
        check_exist(topic, partitions.keys(), counts)?;
    }
    for (topic, partitions) in &member.revoking {
        check_exist(topic, partitions.keys(), counts)?;
    }
    for (topic, partitions) in &member.awaiting {
        require(is_rising(partitions), || format!("{id:?} awaits {topic:?} out of order"))?;
        check_exist(topic, partitions.iter(), counts)?;
    }
    Ok(())
}

fn check_classic(classic: &ClassicMembers) -> Result<(), String> {
    require(!classic.members.is_empty(), || "it has members and none".to_string())?;
    let common = common_protocols(classic.members.values().map(|m| &m.protocols));
    require(!common.is_empty(), || "its members have no protocol in common".to_string())?;
    let is_joining = classic.phase == ClassicPhase::Joining;
    let leader = &classic.leader;
    require(is_joining || classic.members.contains_key(leader), || format!("its leader {leader:?} is unknown"))?;
    let mut orders: Vec<u64> = classic.members.values().map(|m| m.order).collect();
    orders.sort_unstable();
    let is_past = orders.last().is_some_and(|last| *last < classic.next_order);
    require(is_rising(&orders) && is_past, || format!("its members came in the order {orders:?}"))?;
    check_instances(classic.members.values().map(|m| &m.instance))
}

fn check_instances<'a>(instances: impl Iterator<Item = &'a Option<String>>) -> Result<(), String> {
    let mut instances: Vec<&String> = instances.flatten().collect();
    instances.sort_unstable();
    require(is_rising(&instances), || "an instance id is there twice".to_string())
}

fn check_exist<'a>(
    topic: &str,
    mut partitions: impl ExactSizeIterator<Item = &'a PartitionId>,
    counts: PartitionCounts<'_>,
) -> Result<(), String> {
    require(partitions.len() > 0, || format!("no partition of topic {topic:?} is listed"))?;
    let count = counts(topic).ok_or_else(|| format!("topic {topic:?} does not exist"))?;
    let bad = partitions.find(|partition| !(0..count).contains(&partition.0));
    require(bad.is_none(), || format!("topic {topic:?} has no partition {bad:?}"))
}

fn is_rising<T: PartialOrd>(values: &[T]) -> bool {
    values.windows(2).all(|pair| pair[0] < pair[1])
}

fn require(holds: bool, broken: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(broken()) }
}
