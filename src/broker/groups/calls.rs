//! What a broker asks the coordinator on a client's behalf. Persisted nowhere, but brokers of one cluster
//! may run different versions: variants are only added. Every request can be answered at once; what
//! waits for a rebalance waits on the broker that was asked (see `classic`).

use serde::{Deserialize, Serialize};

use super::requests::{
    ClassicBeat, ClassicJoin, ClassicSync, CommitRequest, GroupError, HeartbeatAnswer, HeartbeatRequest, Leaver,
};
use crate::types::{LogIndex, TopicPartition};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum GroupCall {
    /// `is_new`: the member id was drawn for this request.
    Beat {
        beat: HeartbeatRequest,
        is_new: bool,
    },
    Leave {
        group: String,
        leavers: Vec<Leaver>,
    },
    Commit(CommitRequest),
    Delete {
        group: String,
    },
    DeleteOffsets {
        group: String,
        at: Vec<TopicPartition>,
    },
    /// `is_new`: as above. Otherwise the id is the member's own, or was promised (KIP-394).
    JoinClassic {
        join: ClassicJoin,
        is_new: bool,
    },
    /// For MEMBER_ID_REQUIRED: this drawn id will join.
    Promise {
        group: String,
        member: String,
    },
    SyncClassic(ClassicSync),
    BeatClassic(ClassicBeat),
    /// The member waits for a rebalance at the asking broker.
    KeepAlive {
        group: String,
        member: String,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum GroupReply {
    Beat(HeartbeatAnswer),
    /// In the order asked.
    Left(Vec<(Leaver, Option<GroupError>)>),
    /// The refused ones, of a commit or of a deletion.
    Refused(Vec<(TopicPartition, GroupError)>),
    /// The join or sync is known to the metadata at this index; how it ends is read there.
    AppliedAt(LogIndex),
    Done,
}

/// One try to ask the coordinator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum GroupAttempt {
    Answered(Result<GroupReply, GroupError>),
    /// Not the coordinator, or it could not decide: nothing was done.
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

    /// The answer that a repetition gets if an earlier try with an unknown outcome had succeeded.
    pub fn done_before(&self, error: &GroupError) -> Option<GroupReply> {
        match (self, error) {
            (GroupCall::Delete { .. }, GroupError::UnknownGroup { .. }) => Some(GroupReply::Done),
            (GroupCall::Leave { leavers, .. }, GroupError::UnknownGroup { .. }) => {
                Some(GroupReply::Left(leavers.iter().map(|leaver| (leaver.clone(), None)).collect()))
            }
            (GroupCall::DeleteOffsets { .. }, GroupError::UnknownGroup { .. }) => Some(GroupReply::Refused(Vec::new())),
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
                _,
            ) => None,
        }
    }
}
