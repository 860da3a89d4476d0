//! How partitions change hands in a group with assignment on the server.
//!
//! Promises: a partition is assigned only while nobody else holds it; what a member keeps is not
//! touched; a member's epoch grows exactly when its assigned partitions change (or it is new). Who
//! shall have what is module `assign`'s decision.

use std::collections::BTreeMap;

use super::assign::{Deal, Readers, TopicToDeal, includes};
use super::limits::SUBSCRIPTIONS_PER_GROUP_MAX;
use super::state::{Revoking, ServerMember, ServerMembers};
use super::types::PartitionCounts;
use super::types::{Assignor, PartitionSet};
use crate::types::{MemberId, PartitionId};

/// One partition while it is dealt.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Who holds it, and since when; `asked` if it has been asked to let go.
    holder: Option<Holder>,
    /// Who was to have it when this began.
    heir: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Holder {
    member: usize,
    since: i32,
    asked: Option<i32>,
}

#[derive(Clone, Debug, Default)]
struct TopicSlots {
    readers: Readers,
    slots: Vec<Slot>,
}

impl ServerMembers {
    /// Deals everything out again. Members whose assigned partitions change get `epoch`, which must be
    /// larger than any before. Whether there were such.
    pub(super) fn deal(&mut self, epoch: i32, counts: PartitionCounts<'_>) -> bool {
        let ids = self.in_order();
        let mut table = self.table(&ids, counts);
        let owners = self.plan(&ids, &table).owners(self.assignor());
        let mut changed = vec![false; ids.len()];
        let mut members: Vec<ServerMember> = Vec::with_capacity(ids.len());
        for id in &ids {
            let mut member = self.members.remove(id).expect("ids were taken from there");
            (member.assigned, member.revoking, member.awaiting) = Default::default();
            members.push(member);
        }
        for ((topic, slots), owners) in table.iter_mut().zip(owners) {
            for (p, (slot, owner)) in (0..).map(PartitionId).zip(slots.slots.iter().zip(owners)) {
                place(&mut members, &mut changed, topic, p, *slot, owner, epoch);
            }
        }
        for (member, _) in members.iter_mut().zip(&changed).filter(|(_, changed)| **changed) {
            member.epoch = epoch;
        }
        self.members = ids.into_iter().zip(members).collect();
        changed.contains(&true)
    }

    /// Takes what a member has let go of away from it and gives it to whoever awaits it. `told` is the
    /// epoch of the answer that the member had: what it was asked later it cannot have answered yet.
    /// Whether anyone was given anything.
    pub(super) fn release(&mut self, member: &MemberId, released: &PartitionSet, told: i32, epoch: i32) -> bool {
        let mut given = false;
        for (topic, partitions) in released {
            for partition in partitions {
                let holder = self.members.get_mut(member).expect("the caller has found it");
                if !holder.let_go(topic, *partition, told) {
                    continue;
                }
                if let Some(heir) = self.members.values_mut().find_map(|m| m.stop_awaiting(topic, *partition)) {
                    heir.assigned.entry(topic.clone()).or_default().insert(*partition, epoch);
                    heir.epoch = epoch;
                    given = true;
                }
            }
        }
        given
    }

    /// Nobody has or gets anything of this topic any more. Members that had get `epoch`.
    pub(super) fn drop_topic(&mut self, topic: &str, epoch: i32) -> bool {
        let mut changed = false;
        for member in self.members.values_mut() {
            if member.assigned.remove(topic).is_some() {
                member.epoch = epoch;
                changed = true;
            }
            member.revoking.remove(topic);
            member.awaiting.remove(topic);
        }
        for topics in self.patterns.values_mut() {
            topics.retain(|t| t != topic);
        }
        changed
    }

    /// Whether some member reads the topic, or holds a partition of it.
    pub(super) fn knows(&self, topic: &str) -> bool {
        let names = |topics: &[String]| topics.binary_search_by(|t| t.as_str().cmp(topic)).is_ok();
        let holds = |m: &ServerMember| m.assigned.contains_key(topic) || m.revoking.contains_key(topic);
        self.patterns.values().any(|topics| names(topics))
            || self.members.values().any(|m| names(&m.subscription.topics) || holds(m))
    }

    /// Distinct sets of topics that members read: by what they name and their pattern.
    pub(super) fn subscription_count(&self) -> usize {
        self.subscriptions().len()
    }

    /// The commonest choice; a tie goes to the smaller.
    pub fn assignor(&self) -> Assignor {
        let mut votes = BTreeMap::<Assignor, usize>::new();
        for member in self.members.values() {
            *votes.entry(member.subscription.assignor).or_default() += 1;
        }
        let most = votes.values().copied().max().unwrap_or(0);
        votes.into_iter().find(|(_, count)| *count == most).map(|(assignor, _)| assignor).unwrap_or_default()
    }

    /// Member ids in the order in which assignors count them: by instance id first, so that a restarted
    /// static member has its predecessor's place.
    fn in_order(&self) -> Vec<MemberId> {
        let mut ids: Vec<(bool, &str, &MemberId)> = Vec::with_capacity(self.members.len());
        for (id, member) in &self.members {
            ids.push((member.instance.is_none(), member.instance.as_deref().unwrap_or(&id.0), id));
        }
        ids.sort_unstable();
        ids.into_iter().map(|(_, _, id)| id.clone()).collect()
    }

    fn subscriptions(&self) -> BTreeMap<(&[String], Option<&str>), Vec<&MemberId>> {
        let mut subscriptions = BTreeMap::<_, Vec<&MemberId>>::new();
        for (id, member) in &self.members {
            let key = (member.subscription.topics.as_slice(), member.subscription.pattern.as_deref());
            subscriptions.entry(key).or_default().push(id);
        }
        subscriptions
    }

    /// Who reads which topic, by the order of `subscriptions`. A pattern that many have is looked through
    /// once: it may match every topic there is.
    fn readers(&self) -> BTreeMap<&str, Readers> {
        let subscriptions = self.subscriptions();
        // Joins are refused beyond it, and states that hold more are not decoded.
        let have = subscriptions.len();
        assert!(have <= SUBSCRIPTIONS_PER_GROUP_MAX, "{have} distinct subscriptions in one group");
        let mut readers = BTreeMap::<&str, Readers>::new();
        let mut by_pattern = BTreeMap::<&str, Readers>::new();
        for (i, (topics, pattern)) in subscriptions.into_keys().enumerate() {
            for topic in topics {
                *readers.entry(topic).or_default() |= 1 << i;
            }
            if let Some(pattern) = pattern {
                *by_pattern.entry(pattern).or_default() |= 1 << i;
            }
        }
        for (pattern, bits) in by_pattern {
            for topic in self.patterns.get(pattern).into_iter().flatten() {
                *readers.entry(topic).or_default() |= bits;
            }
        }
        readers
    }

    /// Every partition that someone reads or holds.
    fn table(&self, ids: &[MemberId], counts: PartitionCounts<'_>) -> BTreeMap<String, TopicSlots> {
        let mut table = BTreeMap::<String, TopicSlots>::new();
        for (topic, readers) in self.readers() {
            if let Some(count) = counts(topic) {
                let slots = vec![Slot::default(); count as usize];
                table.insert(topic.to_string(), TopicSlots { readers, slots });
            }
        }
        for (m, id) in ids.iter().enumerate() {
            let member = &self.members[id];
            for (topic, partitions) in &member.assigned {
                let slots = table.entry(topic.clone()).or_default();
                for (p, since) in partitions {
                    let slot = slots.slot(*p);
                    (slot.holder, slot.heir) = (Some(Holder { member: m, since: *since, asked: None }), Some(m));
                }
            }
            for (topic, partitions) in &member.revoking {
                let slots = table.entry(topic.clone()).or_default();
                for (p, Revoking { since, asked }) in partitions {
                    slots.slot(*p).holder = Some(Holder { member: m, since: *since, asked: Some(*asked) });
                }
            }
            for (topic, partitions) in &member.awaiting {
                let slots = table.entry(topic.clone()).or_default();
                partitions.iter().for_each(|p| slots.slot(*p).heir = Some(m));
            }
        }
        table
    }

    fn plan(&self, ids: &[MemberId], table: &BTreeMap<String, TopicSlots>) -> Deal {
        let numbers: BTreeMap<&MemberId, usize> = ids.iter().zip(0..).collect();
        let rising = |members: Vec<&MemberId>| {
            let mut members: Vec<usize> = members.into_iter().map(|id| numbers[id]).collect();
            members.sort_unstable();
            members
        };
        let subscriptions = self.subscriptions().into_values().map(rising).collect();
        let mut deal = Deal { members: ids.len(), subscriptions, topics: Vec::with_capacity(table.len()) };
        let subscription = deal.subscription_by_member();
        for topic in table.values() {
            let may = |member: &usize| includes(topic.readers, subscription[*member]);
            // Whoever was to have it; where that one may not read it any more, whoever holds it.
            let owner = |s: &Slot| s.heir.filter(may).or(s.holder.map(|h| h.member)).filter(may);
            let owners = topic.slots.iter().map(owner).collect();
            deal.topics.push(TopicToDeal { readers: topic.readers, owners });
        }
        deal
    }
}

impl TopicSlots {
    fn grow(&mut self, count: usize) {
        if self.slots.len() < count {
            self.slots.resize(count, Slot::default());
        }
    }

    /// What members hold exists, and is below a topic's largest number of partitions.
    fn slot(&mut self, partition: PartitionId) -> &mut Slot {
        let i = partition.0 as usize;
        self.grow(i + 1);
        &mut self.slots[i]
    }
}

/// Puts one partition where it belongs now that `owner` shall have it.
fn place(
    members: &mut [ServerMember],
    changed: &mut [bool],
    topic: &str,
    partition: PartitionId,
    slot: Slot,
    owner: Option<usize>,
    epoch: i32,
) {
    let mut assign = |member: usize, since: i32| {
        members[member].assigned.entry(topic.to_string()).or_default().insert(partition, since);
    };
    match (slot.holder, owner) {
        (None, None) => {}
        (None, Some(owner)) => {
            assign(owner, epoch);
            changed[owner] = true;
        }
        (Some(holder), Some(owner)) if holder.member == owner => {
            // What it was asked to let go of is its own again: nobody had it in between, so commits
            // of the time before stay good.
            assign(owner, holder.since);
            changed[owner] |= holder.asked.is_some();
        }
        (Some(holder), owner) => {
            let asked = holder.asked.unwrap_or(epoch);
            changed[holder.member] |= holder.asked.is_none();
            let revoking = &mut members[holder.member].revoking;
            revoking.entry(topic.to_string()).or_default().insert(partition, Revoking { since: holder.since, asked });
            if let Some(owner) = owner {
                members[owner].awaiting.entry(topic.to_string()).or_default().push(partition);
            }
        }
    }
}

impl ServerMember {
    /// Whether it held the partition and was asked, at `told` or before, to let go of it.
    fn let_go(&mut self, topic: &str, partition: PartitionId, told: i32) -> bool {
        let Some(partitions) = self.revoking.get_mut(topic) else { return false };
        if partitions.get(&partition).is_none_or(|revoking| revoking.asked > told) {
            return false;
        }
        partitions.remove(&partition);
        if partitions.is_empty() {
            self.revoking.remove(topic);
        }
        true
    }

    /// Takes the partition from what the member awaits. Returns the member, if it awaited it.
    fn stop_awaiting(&mut self, topic: &str, partition: PartitionId) -> Option<&mut ServerMember> {
        let partitions = self.awaiting.get_mut(topic)?;
        let i = partitions.binary_search(&partition).ok()?;
        partitions.remove(i);
        if partitions.is_empty() {
            self.awaiting.remove(topic);
        }
        Some(self)
    }
}
