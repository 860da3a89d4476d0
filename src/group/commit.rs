//! Committing offsets. Each partition is judged by itself: one that the member does not hold any more
//! must not fail those that it does.

use super::command::{Commit, CommitOffset};
use super::groups::Groups;
use super::limits::OFFSET_METADATA_BYTES_MAX;
use super::offsets::StoredOffset;
use super::outcome::{CommitResult, GroupRefusal, OffsetRefusal};
use super::state::{ClassicPhase, Group, Members};
use super::types::PartitionCounts;
use super::usage::Usage;
use super::validate;
use crate::seam::plant::{self, Plant};
use crate::types::{MemberId, WallMs};

impl Groups {
    pub(super) fn commit(&mut self, now: WallMs, commit: Commit, counts: PartitionCounts<'_>) -> CommitResult {
        let name = &commit.group;
        let is_new = !self.by_name.contains_key(name);
        match self.by_name.get(name) {
            Some(group) => check_committer(group, &commit)?,
            // A group that is gone knows its members no more.
            None if !commit.member.is_empty() => return Err(GroupRefusal::UnknownMember),
            None => {
                validate::group_name(name)?;
                self.check_room_for_a_group()?;
                let usage = Usage::of_group(name);
                self.usage.check_growth(self.usage.plus(usage))?;
                self.usage = self.usage.plus(usage);
                self.by_name.insert(name.clone(), Group::without_members(now, usage));
            }
        }
        let (total, mine) = (self.usage, self.by_name[name].usage);
        let refused = self.with(now, name, |group| {
            let others = total.minus(mine);
            let rest = mine.minus(group.offsets.usage());
            group.number_commit(&commit.member, commit.sequence);
            let mut refused = Vec::new();
            for (i, offset) in (0..).zip(commit.offsets) {
                let judged = judge(group, &commit.member, commit.epoch, &offset, counts)
                    .and_then(|()| group.check_room(&offset, rest, others));
                match judged {
                    Ok(()) => group.put_offset(now, offset),
                    Err(refusal) => refused.push((i, refusal)),
                }
            }
            refused
        });
        // A commit that is refused makes no group.
        if is_new && self.by_name.get(name).is_some_and(Group::is_nothing) {
            self.remove(name);
        }
        Ok(refused)
    }
}

/// Whether the member may commit for this group at all.
fn check_committer(group: &Group, commit: &Commit) -> Result<(), GroupRefusal> {
    let member = &commit.member;
    if member.is_empty() {
        return match group.member_count() {
            0 => Ok(()),
            // Limited to far fewer.
            members => Err(GroupRefusal::NotEmpty { members: members as u32 }),
        };
    }
    group.check_member(member, commit.instance.as_deref())?;
    match &group.members {
        Members::None => Err(GroupRefusal::UnknownMember),
        Members::Server(server) => {
            let (current, last) = server.members.get(member).map_or((0, 0), |m| (m.epoch, m.committed));
            if commit.epoch > current {
                return Err(GroupRefusal::WrongEpoch { found: commit.epoch, current });
            }
            // Numbered and below the last: a copy that was held up while the member went on. The last itself may
            // come again, by a retry on the way here.
            match commit.sequence {
                sequence if sequence == 0 || sequence >= last => Ok(()),
                sequence => Err(GroupRefusal::OldCommit { sequence, last }),
            }
        }
        Members::Classic(_) if commit.epoch != group.epoch => {
            Err(GroupRefusal::WrongEpoch { found: commit.epoch, current: group.epoch })
        }
        Members::Classic(classic) => match classic.phase {
            // The member has joined the next generation and has no partitions yet.
            ClassicPhase::Syncing => Err(GroupRefusal::Rebalancing),
            // As in Kafka: until it joins again a member may commit what it has read.
            ClassicPhase::Joining | ClassicPhase::Stable => Ok(()),
        },
    }
}

/// Whether the member may commit this partition.
fn judge(
    group: &Group,
    member: &MemberId,
    epoch: i32,
    wish: &CommitOffset,
    counts: PartitionCounts<'_>,
) -> Result<(), OffsetRefusal> {
    let count = counts(&wish.topic).ok_or(OffsetRefusal::UnknownTopic)?;
    if !(0..count).contains(&wish.partition.0) {
        return Err(OffsetRefusal::UnknownPartition);
    }
    if let Some(server) = group.server() {
        let member = server.members.get(member).ok_or(OffsetRefusal::NotHeld)?;
        let since = member.held_since(&wish.topic, wish.partition).ok_or(OffsetRefusal::NotHeld)?;
        if epoch < since && !plant::on(Plant::CommitOfOldEpoch) {
            return Err(OffsetRefusal::OldEpoch { since });
        }
    }
    if wish.offset.0 < 0 {
        return Err(OffsetRefusal::NegativeOffset);
    }
    if wish.metadata.len() > OFFSET_METADATA_BYTES_MAX {
        let bytes = u32::try_from(wish.metadata.len()).unwrap_or(u32::MAX);
        return Err(OffsetRefusal::MetadataTooLarge { bytes, max: OFFSET_METADATA_BYTES_MAX as u32 });
    }
    Ok(())
}

impl Group {
    fn without_members(now: WallMs, usage: Usage) -> Group {
        Group { empty_since: Some(now), usage, ..Group::default() }
    }

    /// Whether the group has neither members nor offsets.
    pub(super) fn is_nothing(&self) -> bool {
        self.member_count() == 0 && self.offsets.is_empty()
    }

    fn number_commit(&mut self, member: &MemberId, sequence: u64) {
        if let Members::Server(server) = &mut self.members
            && let Some(member) = server.members.get_mut(member)
        {
            member.committed = member.committed.max(sequence);
        }
    }

    pub(super) fn put_offset(&mut self, now: WallMs, wish: CommitOffset) {
        let CommitOffset { topic, partition, offset, leader_epoch, metadata } = wish;
        self.offsets.put(topic, partition, StoredOffset { offset, leader_epoch, metadata, committed_at: now });
    }
}
