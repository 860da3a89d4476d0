//! Changes of a group's members, made on a copy: a refusal half-way changes nothing, and limits are
//! looked at before the copy takes the group's place.

use super::command::{Expire, ExpireCause, Leave, LeavingMember};
use super::outcome::{GroupOutcome, GroupRefusal};
use super::state::{ClassicPhase, Group, Members, ServerMember};
use super::types::PartitionCounts;
use crate::types::MemberId;

/// The epoch from which on nobody may join: what happens to the members that are there must still find epochs.
pub(super) const EPOCH_MAX: i32 = i32::MAX - 1_000_000;

/// A group without its offsets.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    pub epoch: i32,
    pub members: Members,
}

impl Draft {
    pub fn of(group: Option<&Group>) -> Draft {
        group.map(|group| Draft { epoch: group.epoch, members: group.members.clone() }).unwrap_or_default()
    }

    /// The epoch of the next change, not taken yet.
    pub fn next_epoch(&self) -> i32 {
        self.epoch.saturating_add(1)
    }

    pub fn check_epochs_left(&self) -> Result<(), GroupRefusal> {
        if self.epoch >= EPOCH_MAX {
            let detail = "the group's epochs are used up: stop its members, delete it and begin anew".to_string();
            return Err(GroupRefusal::LimitReached { detail });
        }
        Ok(())
    }

    pub fn leave(&mut self, wish: Leave, counts: PartitionCounts<'_>) -> GroupOutcome {
        let mut leaving = Vec::new();
        let mut refused = Vec::new();
        for leaver in &wish.leavers {
            match self.leaver(leaver) {
                Ok(member) => {
                    leaving.push(member);
                    refused.push(None);
                }
                Err(refusal) => refused.push(Some(refusal)),
            }
        }
        self.remove(&leaving, counts);
        GroupOutcome::Left { refused }
    }

    pub fn expire(&mut self, wish: Expire, counts: PartitionCounts<'_>) -> GroupOutcome {
        let mut leaving = wish.members;
        leaving.retain(|member| self.may_expire(member, wish.because));
        leaving.sort_unstable();
        leaving.dedup();
        self.remove(&leaving, counts);
        // Members are limited, and only members are left in the list.
        GroupOutcome::Expired { members: leaving.len() as u32 }
    }

    fn leaver(&self, leaver: &LeavingMember) -> Result<MemberId, GroupRefusal> {
        let holder = leaver.instance.as_deref().and_then(|i| self.members.of_instance(i));
        match (&leaver.instance, holder) {
            (Some(_), Some(holder)) if leaver.member.is_empty() || leaver.member == *holder => Ok(holder.clone()),
            (Some(instance), Some(_)) => Err(GroupRefusal::FencedInstance { instance: instance.clone() }),
            (Some(_), None) => Err(GroupRefusal::UnknownMember),
            (None, _) if self.members.contains(&leaver.member) => Ok(leaver.member.clone()),
            (None, _) => Err(self.members.unknown(&leaver.member)),
        }
    }

    /// The reason must still hold: what the coordinator saw may be over (SAFETY M9).
    fn may_expire(&self, member: &MemberId, because: ExpireCause) -> bool {
        match (&self.members, because) {
            (Members::None, _) => false,
            (Members::Server(_) | Members::Classic(_), ExpireCause::Session) => self.members.contains(member),
            (Members::Server(server), ExpireCause::Revocation { epoch }) => {
                let asked = |member: &ServerMember| {
                    member.revoking.values().flat_map(|p| p.values()).any(|revoking| revoking.asked <= epoch)
                };
                server.members.get(member).is_some_and(asked)
            }
            // In the next join phase nobody owes a sync any more.
            (Members::Classic(classic), ExpireCause::Sync { generation }) => {
                self.epoch == generation && classic.phase != ClassicPhase::Joining && self.members.contains(member)
            }
            (Members::Server(_), ExpireCause::Sync { .. }) | (Members::Classic(_), ExpireCause::Revocation { .. }) => {
                false
            }
        }
    }

    /// Members that are there. Their partitions are free at once.
    fn remove(&mut self, members: &[MemberId], counts: PartitionCounts<'_>) {
        if members.is_empty() {
            return;
        }
        let epoch = self.next_epoch();
        match &mut self.members {
            Members::None => {}
            Members::Server(server) => {
                server.members.retain(|id, _| !members.contains(id));
                if server.members.is_empty() {
                    (self.members, self.epoch) = (Members::None, epoch);
                } else {
                    server.forget_patterns();
                    if server.deal(epoch, counts) {
                        self.epoch = epoch;
                    }
                }
            }
            Members::Classic(classic) => {
                classic.members.retain(|id, _| !members.contains(id));
                if classic.members.is_empty() {
                    (self.members, self.epoch) = (Members::None, epoch);
                } else {
                    classic.begin_join();
                }
            }
        }
    }
}
