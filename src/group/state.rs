//! One group's state and the ways to read it. Serialized field by field in this order: frozen.
//!
//! A coordinator that has just been elected finds here all that it needs to go on; only timers,
//! waiting answers and unsent batches are its own.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::command::{CommitOffset, Report};
use super::consumer_protocol;
use super::offsets::{Offsets, StoredOffset};
use super::outcome::{GroupRefusal, OffsetRefusal};
use super::types::{GroupPhase, PartitionSet, Subscription};
use super::usage::Usage;
use crate::types::{MemberId, PartitionId, TopicPartition, WallMs};

/// A consumer group.
///
/// Invariants, checked again whenever a state is decoded:
/// - it has a member or a committed offset, or, from feature level 4 on, had one: what holds nothing goes after a while;
/// - `empty_since` is set exactly while it has no members: the time when the last one went, or, if it holds no offset
///   either, when it came to hold nothing;
/// - `epoch` never decreases while the group exists, and no member's epoch is above it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Server-assigned: the largest epoch given to any member. Classic: the generation. One number,
    /// so that it goes on when an empty group changes its protocol.
    pub(super) epoch: i32,
    pub(super) empty_since: Option<WallMs>,
    pub(super) members: Members,
    pub(super) offsets: Offsets,
    /// Derived: what it counts for against the limits.
    #[serde(skip)]
    pub(super) usage: Usage,
}

/// Who is in a group, by the protocol they use. An empty group may change it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Members {
    /// Nobody: the group has only committed offsets.
    #[default]
    None,
    Server(ServerMembers),
    Classic(ClassicMembers),
}

/// Members with assignment on the server. At least one.
///
/// Invariants: no partition is held (assigned or revoking) by two members; every awaited partition is
/// awaited by one member and held by another; every held or awaited one exists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerMembers {
    /// The members, by member id.
    pub members: BTreeMap<MemberId, ServerMember>,
    /// Patterns of the subscriptions and the topics they match, sorted.
    pub patterns: BTreeMap<String, Vec<String>>,
}

/// What a member holds and since which epoch, by topic.
pub type Held<T> = BTreeMap<String, BTreeMap<PartitionId, T>>;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerMember {
    pub instance: Option<String>,
    /// The id that this member took over from by its instance id; that one is fenced.
    pub replaced: Option<MemberId>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: u32,
    pub rebalance_timeout_ms: u32,
    pub subscription: Subscription,
    /// Grows when what the member must be told changes.
    pub epoch: i32,
    /// What it shall read, with the epoch since which it holds it.
    pub assigned: Held<i32>,
    /// What it has been asked to let go of. Nobody else gets it before it has.
    pub revoking: Held<Revoking>,
    /// What it will be assigned as soon as the member that holds it has let go.
    pub awaiting: PartitionSet,
    /// The sequence of its last numbered commit. Never decreases.
    pub committed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoking {
    /// The epoch since which the member holds it.
    pub since: i32,
    /// The epoch at which it was asked to let go: a report from before does not know of it.
    pub asked: i32,
}

/// Members of Kafka's classic protocol. At least one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassicMembers {
    pub protocol_type: String,
    /// Chosen by the members' votes when a join phase ends; empty before the first has.
    pub protocol: String,
    /// The group leader: the first member to join. Empty before the first join phase has ended.
    pub leader: MemberId,
    pub phase: ClassicPhase,
    /// The members, by member id.
    pub members: BTreeMap<MemberId, ClassicMember>,
    /// Order of the next new member.
    pub next_order: u64,
}

/// Where a classic group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClassicPhase {
    /// Kafka's PreparingRebalance: waits for members to join (again).
    /// Heartbeat: rebalance in progress. All joined, or time is over: to `Syncing`.
    Joining,
    /// Kafka's CompletingRebalance: waits for the group leader's assignments.
    /// Heartbeat: rebalance in progress. The leader's sync: to `Stable`.
    Syncing,
    /// Members have their assignments. A join or a member that goes: to `Joining`.
    Stable,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassicMember {
    pub instance: Option<String>,
    /// The id that this member took over from by its instance id; that one is fenced.
    pub replaced: Option<MemberId>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: u32,
    pub rebalance_timeout_ms: u32,
    /// The protocols that the member speaks, the preferred ones first: name and opaque subscription.
    pub protocols: Vec<(String, Vec<u8>)>,
    /// Opaque, from the group leader; empty until it has synced.
    pub assignment: Vec<u8>,
    /// While joining: it has joined since the phase began. False in other phases.
    pub joined: bool,
    /// Members came in this order; the lowest is the group leader.
    pub order: u64,
}

impl Group {
    /// Whether an offset fits. `rest`: the group without its offsets. `others`: all other groups.
    pub(super) fn check_room(&self, wish: &CommitOffset, rest: Usage, others: Usage) -> Result<(), OffsetRefusal> {
        let old = rest.plus(self.offsets.usage());
        let new = rest.plus(self.offsets.usage_with(&wish.topic, wish.partition, &wish.metadata));
        let checked = old.check_group_growth(new).and_then(|()| others.plus(old).check_growth(others.plus(new)));
        checked.map_err(|refusal| OffsetRefusal::LimitReached { detail: refusal.to_string() })
    }

    /// Server-assigned: the largest epoch of any member. Classic: the generation.
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// When the last member went. None while there are any.
    #[cfg(test)]
    pub fn empty_since(&self) -> Option<WallMs> {
        self.empty_since
    }

    pub fn members(&self) -> &Members {
        &self.members
    }

    pub fn server(&self) -> Option<&ServerMembers> {
        match &self.members {
            Members::Server(members) => Some(members),
            Members::None | Members::Classic(_) => None,
        }
    }

    pub fn classic(&self) -> Option<&ClassicMembers> {
        match &self.members {
            Members::Classic(members) => Some(members),
            Members::None | Members::Server(_) => None,
        }
    }

    pub fn member_count(&self) -> usize {
        self.members.count()
    }

    /// "flotilla", the classic protocol type, or empty while there are no members.
    pub fn protocol(&self) -> &str {
        match &self.members {
            Members::None => "",
            Members::Server(_) => "flotilla",
            Members::Classic(classic) => &classic.protocol_type,
        }
    }

    pub fn phase(&self) -> GroupPhase {
        match &self.members {
            Members::None => GroupPhase::Empty,
            Members::Server(server) if server.is_rebalancing() => GroupPhase::Rebalancing,
            Members::Server(_) => GroupPhase::Stable,
            Members::Classic(classic) => match classic.phase {
                ClassicPhase::Joining => GroupPhase::Joining,
                ClassicPhase::Syncing => GroupPhase::Syncing,
                ClassicPhase::Stable => GroupPhase::Stable,
            },
        }
    }

    /// Whether a heartbeat is one of a member that may go on: `epoch` is that of its last answer, or
    /// its classic generation.
    pub fn check_beat(&self, member: &MemberId, instance: Option<&str>, epoch: i32) -> Result<(), GroupRefusal> {
        self.check_member(member, instance)?;
        match &self.members {
            Members::None => Err(GroupRefusal::UnknownMember),
            Members::Server(server) => {
                let current = server.members.get(member).map_or(0, |m| m.epoch);
                match (0..=current).contains(&epoch) {
                    true => Ok(()),
                    false => Err(GroupRefusal::WrongEpoch { found: epoch, current }),
                }
            }
            Members::Classic(_) if epoch != self.epoch => {
                Err(GroupRefusal::WrongEpoch { found: epoch, current: self.epoch })
            }
            Members::Classic(classic) => match classic.phase {
                ClassicPhase::Joining | ClassicPhase::Syncing => Err(GroupRefusal::Rebalancing),
                ClassicPhase::Stable => Ok(()),
            },
        }
    }

    /// Whether it is a member, and the one with that instance id if it says one.
    pub(super) fn check_member(&self, member: &MemberId, instance: Option<&str>) -> Result<(), GroupRefusal> {
        let holder = instance.and_then(|instance| self.members.of_instance(instance));
        match (instance, holder) {
            (Some(instance), Some(holder)) if holder != member => {
                Err(GroupRefusal::FencedInstance { instance: instance.to_string() })
            }
            (Some(_) | None, _) if self.members.contains(member) => Ok(()),
            (Some(_) | None, _) => Err(self.members.unknown(member)),
        }
    }

    /// Whether applying the report would change anything: if not, the heartbeat is no entry.
    pub fn report_changes(&self, report: &Report) -> bool {
        let member = self.server().and_then(|server| server.members.get(&report.member));
        let is_new = |s: &Subscription| member.is_none_or(|m| m.subscription != s.normal());
        member.is_none() || report.subscription.as_ref().is_some_and(is_new) || !report.released.is_empty()
    }

    /// All committed offsets, by topic and partition.
    pub fn offsets(&self) -> impl Iterator<Item = (TopicPartition, &StoredOffset)> {
        self.offsets.iter()
    }

    #[cfg(test)]
    pub fn offset_count(&self) -> usize {
        self.offsets.len()
    }

    pub fn offset(&self, topic: &str, partition: PartitionId) -> Option<&StoredOffset> {
        self.offsets.get(topic, partition)
    }

    /// Who has this instance id now.
    pub fn member_of_instance(&self, instance: &str) -> Option<&MemberId> {
        self.members.of_instance(instance)
    }

    /// The instance id that a member with this id had and another member has taken over.
    pub fn fenced_instance(&self, member: &MemberId) -> Option<&str> {
        self.members.replaced_by(member)
    }
}

impl Members {
    pub fn count(&self) -> usize {
        match self {
            Members::None => 0,
            Members::Server(server) => server.members.len(),
            Members::Classic(classic) => classic.members.len(),
        }
    }

    pub fn contains(&self, member: &MemberId) -> bool {
        match self {
            Members::None => false,
            Members::Server(server) => server.members.contains_key(member),
            Members::Classic(classic) => classic.members.contains_key(member),
        }
    }

    pub(super) fn of_instance(&self, instance: &str) -> Option<&MemberId> {
        let is_it = |theirs: &Option<String>| theirs.as_deref() == Some(instance);
        match self {
            Members::None => None,
            Members::Server(server) => server.members.iter().find(|(_, m)| is_it(&m.instance)).map(|(id, _)| id),
            Members::Classic(classic) => classic.members.iter().find(|(_, m)| is_it(&m.instance)).map(|(id, _)| id),
        }
    }

    pub(super) fn replaced_by(&self, member: &MemberId) -> Option<&str> {
        let was_it = |replaced: &Option<MemberId>| !member.is_empty() && replaced.as_ref() == Some(member);
        match self {
            Members::None => None,
            Members::Server(server) => server.members.values().find(|m| was_it(&m.replaced))?.instance.as_deref(),
            Members::Classic(classic) => classic.members.values().find(|m| was_it(&m.replaced))?.instance.as_deref(),
        }
    }

    /// Why this id is none of a member.
    pub(super) fn unknown(&self, member: &MemberId) -> GroupRefusal {
        match self.replaced_by(member) {
            Some(instance) => GroupRefusal::FencedInstance { instance: instance.to_string() },
            None => GroupRefusal::UnknownMember,
        }
    }
}

impl ServerMembers {
    /// Someone has yet to let go of something.
    pub fn is_rebalancing(&self) -> bool {
        self.members.values().any(|m| !m.revoking.is_empty())
    }

    /// The topics that the member reads: named or matched, sorted, each once, existing or not.
    #[cfg(test)]
    pub fn topics_of<'a>(&'a self, member: &'a ServerMember) -> Vec<&'a str> {
        let matched = member.subscription.pattern.as_ref().and_then(|p| self.patterns.get(p));
        let mut topics: Vec<&str> =
            member.subscription.topics.iter().chain(matched.into_iter().flatten()).map(|t| &**t).collect();
        topics.sort_unstable();
        topics.dedup();
        topics
    }

    /// Every partition that some member holds, assigned or revoking.
    pub(super) fn held(&self) -> impl Iterator<Item = (&str, PartitionId)> {
        self.members.values().flat_map(|m| slots(&m.assigned).chain(slots(&m.revoking)))
    }
}

impl ServerMember {
    pub fn assigned_set(&self) -> PartitionSet {
        names_only(&self.assigned)
    }

    pub fn revoking_set(&self) -> PartitionSet {
        names_only(&self.revoking)
    }

    /// More will be assigned when others have let go.
    pub fn is_waiting(&self) -> bool {
        !self.awaiting.is_empty()
    }

    pub(super) fn is_revoking(&self, topic: &str, partition: PartitionId) -> bool {
        self.revoking.get(topic).is_some_and(|partitions| partitions.contains_key(&partition))
    }

    /// The epoch since which it holds the partition, assigned or revoking.
    pub fn held_since(&self, topic: &str, partition: PartitionId) -> Option<i32> {
        let assigned = self.assigned.get(topic).and_then(|p| p.get(&partition)).copied();
        assigned.or_else(|| Some(self.revoking.get(topic)?.get(&partition)?.since))
    }

    /// The epoch at which it was asked to let go of what it holds although it was asked longest ago. A timer of
    /// its rebalance timeout starts when this becomes Some, and again when it grows: when that was answered. To be
    /// asked for more meanwhile gives nobody more time, or a stuck member would keep its heirs waiting for ever.
    pub fn revocation_epoch(&self) -> Option<i32> {
        self.revoking.values().flat_map(|p| p.values()).map(|r| r.asked).min()
    }

    /// What a heartbeat with the `epoch` of its last answer lets go of, when the member owns `owns`:
    /// only what it knows it must let go of.
    pub fn released_by(&self, epoch: i32, owns: &PartitionSet) -> PartitionSet {
        let mut released = PartitionSet::new();
        for (topic, partitions) in &self.revoking {
            let kept: BTreeSet<PartitionId> = owns.get(topic).into_iter().flatten().copied().collect();
            let gone = |(p, r): (&PartitionId, &Revoking)| (r.asked <= epoch && !kept.contains(p)).then_some(*p);
            let gone: Vec<PartitionId> = partitions.iter().filter_map(gone).collect();
            if !gone.is_empty() {
                released.insert(topic.clone(), gone);
            }
        }
        released
    }
}

impl ClassicMembers {
    /// Nothing but the coordinator's decision is missing for the join phase to end.
    pub fn all_joined(&self) -> bool {
        self.phase == ClassicPhase::Joining && self.members.values().all(|m| m.joined)
    }

    /// How long members are given to join: the longest of their rebalance timeouts.
    pub fn rebalance_timeout_ms(&self) -> u32 {
        self.members.values().map(|m| m.rebalance_timeout_ms).max().unwrap_or(0)
    }

    /// The topics to which members subscribe. None: they are no consumers, have no protocol yet, or one of them says
    /// nothing that can be read.
    pub(super) fn subscribed_topics(&self) -> Option<BTreeSet<&str>> {
        if self.protocol_type != consumer_protocol::CONSUMER || self.protocol.is_empty() {
            return None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(consumer_protocol::subscribed_topics(self.subscription_of(member))?);
        }
        Some(topics)
    }

    /// A member's subscription under the protocol chosen, for the group leader's eyes.
    pub fn subscription_of<'a>(&'a self, member: &'a ClassicMember) -> &'a [u8] {
        member.protocols.iter().find(|(name, _)| *name == self.protocol).map_or(&[], |(_, bytes)| bytes)
    }
}

fn names_only<T>(held: &Held<T>) -> PartitionSet {
    held.iter().map(|(topic, partitions)| (topic.clone(), partitions.keys().copied().collect())).collect()
}

pub(super) fn slots<T>(held: &Held<T>) -> impl Iterator<Item = (&str, PartitionId)> {
    held.iter().flat_map(|(topic, partitions)| partitions.keys().map(move |p| (topic.as_str(), *p)))
}
