//! From what the state machine refuses to what the asker is told.

use crate::{
    broker::{peers::group_calls::RefusedOffset, requests::groups::GroupError},
    group::{Group, GroupRefusal, OffsetRefusal, limits::MEMBERS_PER_GROUP_MAX},
    types::{GroupName, MemberId, TopicPartition},
};

/// The group and the member that a refusal speaks of.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub group: &'a GroupName,
    /// The member. Empty: the refusal speaks of none.
    pub member: &'a MemberId,
}

static NOBODY: MemberId = MemberId(String::new());

impl<'a> Subject<'a> {
    /// A group, and no member of it.
    pub fn of_group(group: &'a GroupName) -> Subject<'a> {
        Subject { group, member: &NOBODY }
    }
}

pub fn refused(refusal: GroupRefusal, of: Subject<'_>) -> GroupError {
    let (group, member) = (of.group.clone(), of.member.clone());
    match refusal {
        GroupRefusal::InvalidRequest { detail } => GroupError::InvalidRequest { detail },
        GroupRefusal::UnknownGroup => GroupError::UnknownGroup { group },
        GroupRefusal::UnknownMember => GroupError::UnknownMember { group, member },
        GroupRefusal::WrongEpoch { .. } | GroupRefusal::OldCommit { .. } => {
            GroupError::Refused { group, member, refusal }
        }
        GroupRefusal::FencedInstance { instance } => GroupError::FencedInstance { group, instance },
        // A decision that was overtaken: by the time the member asks again, its reason is clear.
        GroupRefusal::Rebalancing | GroupRefusal::Void { .. } => GroupError::Rebalancing { group },
        GroupRefusal::NotEmpty { members } => {
            GroupError::NotEmpty { group, members: usize::try_from(members).unwrap_or(usize::MAX) }
        }
        GroupRefusal::ProtocolMismatch { detail } => GroupError::ProtocolMismatch { group, detail },
        GroupRefusal::LimitReached { detail } => GroupError::LimitReached { detail },
    }
}

/// A limit that a classic join met, told by a name of its own if it is that of the group's members.
pub fn no_room(error: GroupError, name: &GroupName, known: Option<&Group>) -> GroupError {
    let max = MEMBERS_PER_GROUP_MAX;
    match error {
        GroupError::LimitReached { .. } if known.is_some_and(|group| group.member_count() >= max) => {
            GroupError::GroupFull { group: name.clone(), max }
        }
        other => other,
    }
}

/// The refused ones of a request that named these places.
pub fn named(
    refused: Vec<(u32, RefusedOffset)>,
    places: &[TopicPartition],
    of: Subject<'_>,
) -> Vec<(TopicPartition, GroupError)> {
    let one = |(place, refusal): (u32, RefusedOffset)| {
        let at = places.get(usize::try_from(place).ok()?)?;
        let error = match refusal {
            RefusedOffset::ByState(refusal) => offset_refused(refusal, at, of),
            RefusedOffset::OtherTopic => GroupError::TopicReplaced { topic: at.topic.clone() },
        };
        Some((at.clone(), error))
    };
    refused.into_iter().filter_map(one).collect()
}

fn offset_refused(refusal: OffsetRefusal, at: &TopicPartition, of: Subject<'_>) -> GroupError {
    match refusal {
        OffsetRefusal::UnknownTopic => GroupError::UnknownTopic { topic: at.topic.clone() },
        OffsetRefusal::UnknownPartition => {
            GroupError::UnknownPartition { topic: at.topic.clone(), partition: at.partition }
        }
        OffsetRefusal::NotHeld
        | OffsetRefusal::OldEpoch { .. }
        | OffsetRefusal::InUse
        | OffsetRefusal::NegativeOffset
        | OffsetRefusal::MetadataTooLarge { .. }
        | OffsetRefusal::LimitReached { .. } => {
            GroupError::OffsetRefused { group: of.group.clone(), member: of.member.clone(), at: at.clone(), refusal }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::groups::fixture::{classic_wish, join_classic},
        group::{GroupCommand, Groups},
        types::WallMs,
    };

    #[test]
    fn a_member_that_finds_no_room_in_its_group_is_told_that() {
        let mut groups = Groups::default();
        let (group, member) = ("g".into(), "m".into());
        let told = |groups: &mut Groups, wish| {
            let refusal = groups.apply(WallMs(1), GroupCommand::JoinClassic(wish), &|_| None).expect_err("a limit");
            no_room(refused(refusal, Subject { group: &group, member: &member }), &group, groups.get(&group))
        };
        join_classic(&mut groups, "first", None, true);
        let mut huge = classic_wish("huge", None, true);
        huge.protocols[0].1 = vec![0; crate::group::limits::CLASSIC_MEMBER_BYTES_MAX + 1];
        let other = told(&mut groups, huge);
        assert!(matches!(other, GroupError::LimitReached { .. }), "{other}");
        for n in 1..MEMBERS_PER_GROUP_MAX {
            join_classic(&mut groups, &n.to_string(), None, true);
        }
        let full = told(&mut groups, classic_wish("one more", None, true));
        assert_eq!(full, GroupError::GroupFull { group: "g".into(), max: MEMBERS_PER_GROUP_MAX });
    }
}
