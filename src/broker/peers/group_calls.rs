//! What a broker asks the coordinator on a client's behalf. Persisted nowhere, but brokers of one cluster
//! may run different versions: no struct changes, and variants are only added. Every request can be answered at once; what
//! waits for a rebalance waits on the broker that was asked (see `classic`).

use serde::{Deserialize, Serialize};

use crate::{
    broker::requests::groups::{
        ClassicBeat, ClassicJoin, ClassicSync, CommitRequest, GroupError, HeartbeatAnswer, HeartbeatRequest, Leaver,
    },
    group::OffsetRefusal,
    types::{GroupName, LogIndex, MemberId, Offset, TopicPartition},
};

/// One partition as its leader sees it, for a reader that has come to some offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionLag {
    pub log_start: Offset,
    pub high_watermark: Offset,
    /// What of the partition is unread. None: the group has no committed offset there.
    pub unread: Option<Unread>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    pub records: i64,
    /// Age of the first of them by its timestamp; 0 if there are none. None: not known.
    pub age_ms: Option<u64>,
    pub retention_threatens: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum GroupCall {
    /// `is_new`: it joins; the member id was drawn for that, here or by the client.
    Beat {
        beat: HeartbeatRequest,
        is_new: bool,
    },
    Leave {
        group: GroupName,
        leavers: Vec<Leaver>,
    },
    Commit(CommitRequest),
    Delete {
        group: GroupName,
    },
    DeleteOffsets {
        group: GroupName,
        at: Vec<TopicPartition>,
    },
    /// `is_new`: as above. Otherwise the id is the member's own, or was promised (KIP-394).
    JoinClassic {
        join: ClassicJoin,
        is_new: bool,
    },
    /// A drawn member id that will join, as MEMBER_ID_REQUIRED wants it.
    Promise {
        group: GroupName,
        member: MemberId,
    },
    SyncClassic(ClassicSync),
    BeatClassic(ClassicBeat),
    /// The member waits for a rebalance at the asking broker.
    KeepAlive {
        group: GroupName,
        member: MemberId,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum GroupReply {
    Beat(HeartbeatAnswer),
    /// One for each member that was to leave, in the order asked.
    Left(Vec<(Leaver, Option<GroupError>)>),
    /// The refused ones, of a commit or of a deletion, by their places in the request. Not by name: ten thousand
    /// names of groups, members and topics are more than one answer may hold.
    Refused(Vec<(u32, RefusedOffset)>),
    /// The join or sync is known to the metadata at this index; how it ends is read there.
    AppliedAt(LogIndex),
    Done,
}

/// Why one offset was not committed, or not deleted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RefusedOffset {
    ByState(OffsetRefusal),
    /// It is of a topic that is gone, and another one has its name.
    OtherTopic,
}

/// One try to ask the coordinator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum GroupAttempt {
    Answered(Result<GroupReply, GroupError>),
    /// The broker is not the coordinator, or could not decide: nothing was done.
    NotDone,
    Unknown,
}

impl GroupCall {
    /// Whether it may be repeated while the outcome of an earlier try is unknown. Not a commit: its
    /// repetition could be applied after a later commit of the same member, and take it back.
    pub fn is_repeatable(&self) -> bool {
        match self {
            GroupCall::Commit(_) => false,
            GroupCall::Beat { .. }
            | GroupCall::Leave { .. }
            | GroupCall::Delete { .. }
            | GroupCall::DeleteOffsets { .. }
            | GroupCall::JoinClassic { .. }
            | GroupCall::Promise { .. }
            | GroupCall::SyncClassic(_)
            | GroupCall::BeatClassic(_)
            | GroupCall::KeepAlive { .. } => true,
        }
    }

    /// What may yet happen, for an unknown outcome.
    pub fn what(&self) -> String {
        match self {
            GroupCall::Beat { beat, is_new: true } => format!("joining group {:?}", beat.group),
            GroupCall::Beat { beat, is_new: false } => format!("the heartbeat in group {:?}", beat.group),
            GroupCall::Leave { group, .. } => format!("leaving group {group:?}"),
            GroupCall::Commit(commit) => format!("the commit of group {:?}", commit.group),
            GroupCall::Delete { group } => format!("deleting group {group:?}"),
            GroupCall::DeleteOffsets { group, .. } => format!("deleting offsets of group {group:?}"),
            GroupCall::JoinClassic { join, .. } => format!("joining group {:?}", join.group),
            GroupCall::Promise { group, .. } => format!("a member id of group {group:?}"),
            GroupCall::SyncClassic(sync) => format!("the sync in group {:?}", sync.group),
            GroupCall::BeatClassic(beat) => format!("the heartbeat in group {:?}", beat.group),
            GroupCall::KeepAlive { group, .. } => format!("the wait in group {group:?}"),
        }
    }

    /// What a repetition was answered, if an earlier try whose outcome is unknown may have succeeded: that there is
    /// nothing left to do is then no failure.
    pub fn after_unknown(&self, answered: Result<GroupReply, GroupError>) -> Result<GroupReply, GroupError> {
        match (self, answered) {
            (GroupCall::Delete { .. }, Err(GroupError::UnknownGroup { .. })) => Ok(GroupReply::Done),
            (GroupCall::DeleteOffsets { .. }, Err(GroupError::UnknownGroup { .. })) => {
                Ok(GroupReply::Refused(Vec::new()))
            }
            (GroupCall::Leave { .. }, Ok(GroupReply::Left(left))) => {
                let has_left = |error: &GroupError| matches!(error, GroupError::UnknownMember { .. });
                let settled = left.into_iter().map(|(leaver, error)| (leaver, error.filter(|e| !has_left(e))));
                Ok(GroupReply::Left(settled.collect()))
            }
            (
                GroupCall::Beat { .. }
                | GroupCall::Leave { .. }
                | GroupCall::Commit(_)
                | GroupCall::Delete { .. }
                | GroupCall::DeleteOffsets { .. }
                | GroupCall::JoinClassic { .. }
                | GroupCall::Promise { .. }
                | GroupCall::SyncClassic(_)
                | GroupCall::BeatClassic(_)
                | GroupCall::KeepAlive { .. },
                answered,
            ) => answered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first try left the group and its answer was lost; the second finds nobody.
    #[test]
    fn leaving_twice_because_the_first_answer_was_lost_is_having_left() {
        let leaver = |member: &str| Leaver { member: member.into(), instance: None };
        let unknown = |member: &str| GroupError::UnknownMember { group: "g".into(), member: member.into() };
        let fenced = GroupError::FencedInstance { group: "g".into(), instance: "i".into() };
        let call = GroupCall::Leave { group: "g".into(), leavers: vec![leaver("a"), leaver("b")] };
        let left = vec![(leaver("a"), Some(unknown("a"))), (leaver("b"), Some(fenced.clone()))];
        let settled = call.after_unknown(Ok(GroupReply::Left(left)));
        assert_eq!(settled, Ok(GroupReply::Left(vec![(leaver("a"), None), (leaver("b"), Some(fenced))])));
        let delete = GroupCall::Delete { group: "g".into() };
        let gone = GroupError::UnknownGroup { group: "g".into() };
        assert_eq!(delete.after_unknown(Err(gone.clone())), Ok(GroupReply::Done));
        assert_eq!(call.after_unknown(Err(gone.clone())), Err(gone));
    }
}
