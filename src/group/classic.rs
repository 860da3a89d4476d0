//! Kafka's classic protocol: members offer protocols with opaque subscriptions, a join phase gathers
//! them, the group leader assigns, a sync hands its assignments out. Each round is a generation.
//!
//! Follows Kafka's `ClassicGroup` where a client could tell the difference. Ends of join phases and
//! sessions are the coordinator's decisions; here it is decided whether they (still) hold.

use std::collections::{BTreeMap, BTreeSet};

use super::command::{CompleteClassic, JoinClassic, SyncClassic};
use super::draft::Draft;
use super::limits::{CLASSIC_GROUP_BYTES_MAX, CLASSIC_MEMBER_BYTES_MAX, MEMBERS_PER_GROUP_MAX};
use super::outcome::{ClassicJoinEnd, GroupOutcome, GroupRefusal};
use super::state::{ClassicMember, ClassicMembers, ClassicPhase, Members};
use super::validate;
use crate::types::MemberId;

impl Draft {
    pub fn join_classic(&mut self, wish: JoinClassic) -> Result<GroupOutcome, GroupRefusal> {
        validate::join_classic(&wish)?;
        self.check_epochs_left()?;
        let unknown = self.members.unknown(&wish.member);
        if let Members::None = self.members {
            if !wish.is_new {
                return Err(unknown);
            }
            self.members = Members::Classic(ClassicMembers::new(&wish.protocol_type));
        }
        let classic = self.classic()?;
        if classic.protocol_type != wish.protocol_type {
            let detail = format!("its protocol type is {:?}, not {:?}", classic.protocol_type, wish.protocol_type);
            return Err(GroupRefusal::ProtocolMismatch { detail });
        }
        let who = classic.who(&wish, unknown)?;
        let end = match who {
            Who::New => {
                classic.check_protocols(&wish, None)?;
                classic.add(wish)
            }
            Who::Known => {
                classic.check_protocols(&wish, Some(&wish.member))?;
                classic.join_again(wish)
            }
            Who::Replaces(old) => {
                classic.check_protocols(&wish, Some(&old))?;
                classic.replace(&old, wish)
            }
        };
        classic.check_limits()?;
        Ok(GroupOutcome::JoinedClassic(end))
    }

    pub fn complete_classic(&mut self, wish: &CompleteClassic) -> Result<GroupOutcome, GroupRefusal> {
        let void = |detail: &str| Err(GroupRefusal::Void { detail: detail.to_string() });
        let (current, next) = (self.epoch, self.next_epoch());
        let Ok(classic) = self.classic() else { return void("the group has no classic members any more") };
        if current != wish.generation || classic.phase != ClassicPhase::Joining {
            return void("the join phase is over");
        }
        if !wish.timed_out && !classic.all_joined() {
            return void("somebody has yet to join");
        }
        // Static members stay until their session ends: they are expected back.
        classic.members.retain(|_, m| m.joined || m.instance.is_some());
        if classic.members.is_empty() {
            (self.members, self.epoch) = (Members::None, next);
            return Ok(GroupOutcome::CompletedClassic { generation: None });
        }
        if !classic.members.values().any(|m| m.joined) {
            return void("nobody has joined");
        }
        classic.begin_sync();
        self.epoch = next;
        Ok(GroupOutcome::CompletedClassic { generation: Some(next) })
    }

    pub fn sync_classic(&mut self, wish: SyncClassic) -> Result<GroupOutcome, GroupRefusal> {
        if !self.members.contains(&wish.member) {
            return Err(self.members.unknown(&wish.member));
        }
        let current = self.epoch;
        let classic = self.classic()?;
        if wish.generation != current {
            return Err(GroupRefusal::WrongEpoch { found: wish.generation, current });
        }
        match classic.phase {
            ClassicPhase::Joining => return Err(GroupRefusal::Rebalancing),
            // A repetition: the assignments of a generation are handed out once.
            ClassicPhase::Stable => return Ok(GroupOutcome::SyncedClassic),
            ClassicPhase::Syncing => {}
        }
        if wish.member != classic.leader {
            let detail = format!("only the group leader {:?} assigns", classic.leader);
            return Err(GroupRefusal::InvalidRequest { detail });
        }
        for (member, assignment) in wish.assignments {
            if let Some(member) = classic.members.get_mut(&member) {
                member.assignment = assignment;
            }
        }
        classic.phase = ClassicPhase::Stable;
        classic.check_limits()?;
        Ok(GroupOutcome::SyncedClassic)
    }

    fn classic(&mut self) -> Result<&mut ClassicMembers, GroupRefusal> {
        match &mut self.members {
            Members::Classic(classic) => Ok(classic),
            Members::None => Err(GroupRefusal::UnknownMember),
            Members::Server(_) => {
                let detail = "its members are assigned by the server".to_string();
                Err(GroupRefusal::ProtocolMismatch { detail })
            }
        }
    }
}

/// The member that joins, as far as it is known.
enum Who {
    New,
    Known,
    /// The member with this id, by its instance id.
    Replaces(MemberId),
}

impl ClassicMembers {
    fn new(protocol_type: &str) -> ClassicMembers {
        ClassicMembers {
            protocol_type: protocol_type.to_string(),
            protocol: String::new(),
            leader: MemberId::default(),
            phase: ClassicPhase::Joining,
            members: BTreeMap::new(),
            next_order: 0,
        }
    }

    fn who(&self, wish: &JoinClassic, unknown: GroupRefusal) -> Result<Who, GroupRefusal> {
        let has_it = |m: &ClassicMember| wish.instance.is_some() && m.instance == wish.instance;
        let namesake = self.members.iter().find(|(_, m)| has_it(m)).map(|(id, _)| id);
        if let fenced @ GroupRefusal::FencedInstance { .. } = unknown {
            return Err(fenced);
        }
        match (namesake, &wish.instance) {
            (Some(id), _) if *id == wish.member => Ok(Who::Known),
            (Some(id), _) if wish.is_new => Ok(Who::Replaces(id.clone())),
            (Some(_), Some(instance)) => Err(GroupRefusal::FencedInstance { instance: instance.clone() }),
            (Some(_) | None, _) if self.members.contains_key(&wish.member) => Ok(Who::Known),
            (Some(_) | None, _) if wish.is_new => Ok(Who::New),
            (Some(_) | None, _) => Err(unknown),
        }
    }

    /// There must stay a protocol that everybody can speak. `except`: who is about to be replaced.
    fn check_protocols(&self, wish: &JoinClassic, except: Option<&MemberId>) -> Result<(), GroupRefusal> {
        let others = self.members.iter().filter(|(id, _)| except != Some(*id)).map(|(_, m)| &m.protocols);
        let common = common_protocols(others.chain([&wish.protocols]));
        if common.is_empty() {
            let offered: Vec<&str> = wish.protocols.iter().map(|(name, _)| name.as_str()).collect();
            let detail = format!("none of the protocols {offered:?} is spoken by all members");
            return Err(GroupRefusal::ProtocolMismatch { detail });
        }
        Ok(())
    }

    fn add(&mut self, wish: JoinClassic) -> ClassicJoinEnd {
        let mut member = ClassicMember { order: self.next_order, ..ClassicMember::default() };
        self.next_order += 1;
        let id = wish.member.clone();
        member.update(wish);
        self.members.insert(id.clone(), member);
        self.wait_with(&id)
    }

    fn join_again(&mut self, wish: JoinClassic) -> ClassicJoinEnd {
        let id = wish.member.clone();
        let is_leader = self.leader == id;
        let member = self.members.get_mut(&id).expect("looked at by who()");
        let unchanged = member.protocols == wish.protocols;
        member.update(wish);
        match self.phase {
            // Its first answer got lost.
            ClassicPhase::Syncing if unchanged => ClassicJoinEnd::Current,
            // A leader that joins again wants a rebalance: topics have changed, say.
            ClassicPhase::Stable if unchanged && !is_leader => ClassicJoinEnd::Current,
            ClassicPhase::Joining | ClassicPhase::Syncing | ClassicPhase::Stable => self.wait_with(&id),
        }
    }

    /// A restarted static member: its place, its assignment and its leadership stay.
    fn replace(&mut self, old: &MemberId, wish: JoinClassic) -> ClassicJoinEnd {
        let mut member = self.members.remove(old).expect("looked at by who()");
        let id = wish.member.clone();
        if self.leader == *old {
            self.leader = id.clone();
        }
        member.replaced = Some(old.clone());
        member.update(wish);
        self.members.insert(id.clone(), member);
        match self.phase {
            // As Kafka does: a restart alone is no rebalance, though its subscription may differ.
            ClassicPhase::Stable if self.vote() == self.protocol => ClassicJoinEnd::Current,
            ClassicPhase::Joining | ClassicPhase::Syncing | ClassicPhase::Stable => self.wait_with(&id),
        }
    }

    /// This member has joined a join phase, the running or a new one.
    fn wait_with(&mut self, id: &MemberId) -> ClassicJoinEnd {
        self.begin_join();
        self.members.get_mut(id).expect("the caller has found or put it").joined = true;
        ClassicJoinEnd::Waits
    }

    /// Everybody has to join again, unless that is so already.
    pub(super) fn begin_join(&mut self) {
        if self.phase != ClassicPhase::Joining {
            self.phase = ClassicPhase::Joining;
            self.members.values_mut().for_each(|m| m.joined = false);
        }
    }

    /// The join phase is over; somebody has joined.
    fn begin_sync(&mut self) {
        let leads_on = self.members.get(&self.leader).is_some_and(|m| m.joined);
        if !leads_on {
            let joined = self.members.iter().filter(|(_, m)| m.joined);
            let first = joined.min_by_key(|(_, m)| m.order).map(|(id, _)| id.clone());
            self.leader = first.expect("the caller has seen one that has joined");
        }
        self.protocol = self.vote();
        self.phase = ClassicPhase::Syncing;
        for member in self.members.values_mut() {
            member.joined = false;
            member.assignment.clear();
        }
    }

    /// Every member votes for the first of its protocols that all can speak; a tie goes to the smaller
    /// name.
    fn vote(&self) -> String {
        let common = common_protocols(self.members.values().map(|m| &m.protocols));
        let mut votes = BTreeMap::<&str, usize>::new();
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| common.contains(name.as_str())) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max().unwrap_or(0);
        let elected = votes.into_iter().find(|(_, count)| *count == most);
        elected.map(|(name, _)| name.to_string()).expect("joins keep one protocol that all can speak")
    }

    fn check_limits(&self) -> Result<(), GroupRefusal> {
        let refuse = |detail: String| Err(GroupRefusal::LimitReached { detail });
        if self.members.len() > MEMBERS_PER_GROUP_MAX {
            return refuse(format!("a group has at most {MEMBERS_PER_GROUP_MAX} members"));
        }
        let largest = self.members.values().map(ClassicMember::opaque_bytes).max().unwrap_or(0);
        if largest > CLASSIC_MEMBER_BYTES_MAX {
            let max = CLASSIC_MEMBER_BYTES_MAX;
            return refuse(format!("a member's subscriptions and assignment have {largest} bytes, {max} are allowed"));
        }
        let all: usize = self.members.values().map(ClassicMember::opaque_bytes).sum();
        if all > CLASSIC_GROUP_BYTES_MAX {
            let max = CLASSIC_GROUP_BYTES_MAX;
            return refuse(format!("the members' subscriptions and assignments have {all} bytes, {max} are allowed"));
        }
        Ok(())
    }
}

impl ClassicMember {
    fn update(&mut self, wish: JoinClassic) {
        // A member that joined with an instance id keeps it.
        self.instance = wish.instance.or(self.instance.take());
        self.client_id = wish.client_id;
        self.client_host = wish.client_host;
        self.session_timeout_ms = wish.session_timeout_ms;
        self.rebalance_timeout_ms = wish.rebalance_timeout_ms;
        self.protocols = wish.protocols;
    }

    pub(super) fn opaque_bytes(&self) -> usize {
        self.assignment.len() + self.protocols.iter().map(|(_, bytes)| bytes.len()).sum::<usize>()
    }
}

/// The protocols that all members speak.
pub(super) fn common_protocols<'a>(mut offers: impl Iterator<Item = &'a Vec<(String, Vec<u8>)>>) -> BTreeSet<&'a str> {
    let names = |offer: &'a Vec<(String, Vec<u8>)>| offer.iter().map(|(name, _)| name.as_str());
    let mut common: BTreeSet<&str> = offers.next().map(|offer| names(offer).collect()).unwrap_or_default();
    for offer in offers {
        let names: BTreeSet<&str> = names(offer).collect();
        common.retain(|name| names.contains(name));
    }
    common
}
