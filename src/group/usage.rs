//! What groups count for against their limits. Bytes are an upper bound of what a snapshot holds of a
//! group, made of counts and lengths, so that it can be told before something is dealt out.

use super::limits::{ASSIGNED_MAX, GROUPS_BYTES_MAX, MEMBERS_MAX, OFFSETS_MAX, OFFSETS_PER_GROUP_MAX};
use super::outcome::GroupRefusal;
use crate::types::GroupName;

/// A group's epoch, time, tags and lengths.
pub(super) const GROUP_BYTES: usize = 40;
/// A partition with its two epochs, and once more for whoever awaits it.
const PARTITION_BYTES: usize = 20;
/// A string's or a list's length, and an optional string's tag.
pub(super) const LENGTH_BYTES: usize = 6;
/// A committed offset without its metadata: partition, offset, epoch, time, tag and length.
pub(super) const OFFSET_BYTES: usize = 36;

/// What one group takes of the limits, or what all groups do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub members: usize,
    /// The partitions of topics that members with assignment on the server read or hold.
    pub assigned: usize,
    pub offsets: usize,
    pub bytes: usize,
}

impl Usage {
    pub fn of_group(name: &GroupName) -> Usage {
        Usage { bytes: GROUP_BYTES + name.0.len(), ..Usage::default() }
    }

    /// What reading a topic costs a group with so many members: its name stands in up to three of a
    /// member's lists, and in no more lists than hold a partition of it.
    pub fn of_topic(topic: &str, partitions: usize, members: usize) -> Usage {
        let lists = (2 * partitions).min(3 * members);
        let bytes = partitions * PARTITION_BYTES + lists * text(topic);
        Usage { assigned: partitions, bytes, ..Usage::default() }
    }

    pub fn of_offsets(count: usize, bytes: usize) -> Usage {
        Usage { offsets: count, bytes, ..Usage::default() }
    }

    pub fn plus(self, more: Usage) -> Usage {
        Usage {
            members: self.members + more.members,
            assigned: self.assigned + more.assigned,
            offsets: self.offsets + more.offsets,
            bytes: self.bytes + more.bytes,
        }
    }

    /// # Panics
    /// If `less` is no part of it.
    pub fn minus(self, less: Usage) -> Usage {
        let sub = |a: usize, b: usize| a.checked_sub(b).expect("totals hold the sum of their parts");
        Usage {
            members: sub(self.members, less.members),
            assigned: sub(self.assigned, less.assigned),
            offsets: sub(self.offsets, less.offsets),
            bytes: sub(self.bytes, less.bytes),
        }
    }

    /// Whether `self` in all may become `new` in all. What does not grow is never refused, so that
    /// members can leave at any limit.
    pub fn check_growth(self, new: Usage) -> Result<(), GroupRefusal> {
        for (old, new, max, what) in [
            (self.members, new.members, MEMBERS_MAX, "members of consumer groups"),
            (self.assigned, new.assigned, ASSIGNED_MAX, "partitions of topics that consumer groups subscribe to"),
            (self.offsets, new.offsets, OFFSETS_MAX, "committed offsets"),
            (self.bytes, new.bytes, GROUPS_BYTES_MAX, "bytes of consumer groups"),
        ] {
            if new > old && new > max {
                let detail = format!("the cluster would have {new} {what}, its limit is {max}");
                return Err(GroupRefusal::LimitReached { detail });
            }
        }
        Ok(())
    }

    /// The same for one group.
    pub fn check_group_growth(self, new: Usage) -> Result<(), GroupRefusal> {
        if new.offsets > self.offsets && new.offsets > OFFSETS_PER_GROUP_MAX {
            let detail = format!("a group has at most {OFFSETS_PER_GROUP_MAX} committed offsets");
            return Err(GroupRefusal::LimitReached { detail });
        }
        Ok(())
    }
}

pub(super) fn text(text: &str) -> usize {
    text.len() + LENGTH_BYTES
}
