//! Consumer groups: what faces may ask of them, and the coordinator behind it.
//!
//! The metadata group holds the groups (module `group`); its leader coordinates: it decides who is expired
//! and when a round is complete, and collects commits. Any broker takes any request: what changes a
//! group goes to the coordinator (`forward`, `answer`, in one term: `tenure`), what reads one is read here
//! (`reads`), what waits for a rebalance waits here (`classic`).
//!
//! Promises: SAFETY M9; every wait is bounded or kept alive by the coordinator; nothing but the outcome of an
//! entry acknowledges a change.

mod beyond;
mod classic;
mod classic_commit;
mod classic_rules;
pub(super) mod coordinator;
#[cfg(test)]
mod fixture;
mod forward;
pub(super) mod lag;
pub(super) mod lag_table;
pub(super) mod limits;
mod namesakes;
pub(super) mod part;
mod reads;
mod refusals;
mod turns;

use std::time::Duration;

use crate::types::{GroupName, TopicPartition};
use part::Groups;
use refusals::Subject;

pub use limits::OFFSETS_PER_REQUEST_MAX;

pub use super::peers::group_calls::PartitionLag;
pub use super::peers::group_calls::{GroupAttempt, GroupCall, GroupReply};
pub use super::requests::groups::{
    ClassicBeat, ClassicJoin, ClassicJoined, ClassicSync, ClassicSynced, CommitRequest, CommittedOffset,
    CommittedOffsets, GroupDescription, GroupError, GroupMember, GroupPartition, GroupSummary, HeartbeatAnswer,
    HeartbeatRequest, Leaver, OffsetToCommit,
};

impl Groups {
    /// One beat of a member with assignment on the server; without a member id it joins.
    pub async fn heartbeat(&self, beat: HeartbeatRequest) -> Result<HeartbeatAnswer, GroupError> {
        if beat.member.is_empty() {
            return self.join(beat).await;
        }
        self.beat(beat, false).await
    }

    /// The first beat of a member. Its id is the client's, so that repeating this is the same join; drawn if empty.
    pub async fn join(&self, mut beat: HeartbeatRequest) -> Result<HeartbeatAnswer, GroupError> {
        beat.session_timeout = given_or(beat.session_timeout, limits::SESSION_DEFAULT);
        beat.rebalance_timeout = given_or(beat.rebalance_timeout, limits::REBALANCE_DEFAULT);
        classic_rules::session(beat.session_timeout, limits::SESSION_MIN)?;
        if beat.member.is_empty() {
            beat.member = self.draw_member_id(beat.instance.as_deref().unwrap_or(&beat.client_id));
        }
        self.beat(beat, true).await
    }

    async fn beat(&self, beat: HeartbeatRequest, is_new: bool) -> Result<HeartbeatAnswer, GroupError> {
        match self.ask_coordinator(GroupCall::Beat { beat, is_new }).await? {
            GroupReply::Beat(answer) => Ok(answer),
            other => Err(strange("a heartbeat", &other)),
        }
    }

    /// Members of either protocol leave at once; per member, why it could not.
    pub async fn leave(
        &self,
        group: &GroupName,
        leavers: Vec<Leaver>,
    ) -> Result<Vec<(Leaver, Option<GroupError>)>, GroupError> {
        match self.ask_coordinator(GroupCall::Leave { group: group.clone(), leavers }).await? {
            GroupReply::Left(left) => Ok(left),
            other => Err(strange("leaving", &other)),
        }
    }

    /// Answered when the offsets are fsynced on a majority. The refused ones; all others are committed.
    ///
    /// A client that gives up before [`GroupError::OutcomeUnknown`] or another answer comes (5 s at most)
    /// must not commit again at once: its first commit may be applied after the second.
    pub async fn commit_offsets(&self, commit: CommitRequest) -> Result<Vec<(TopicPartition, GroupError)>, GroupError> {
        self.commit(commit, true).await
    }

    /// `is_passed_on`: to the coordinator, if that is another broker.
    async fn commit(
        &self,
        commit: CommitRequest,
        is_passed_on: bool,
    ) -> Result<Vec<(TopicPartition, GroupError)>, GroupError> {
        reads::check_count(commit.offsets.len())?;
        let (group, member) = (commit.group.clone(), commit.member.clone());
        let places: Vec<TopicPartition> = commit.offsets.iter().map(|offset| offset.at.clone()).collect();
        let call = GroupCall::Commit(commit);
        let reply = if is_passed_on { self.ask_coordinator(call).await? } else { self.ask_here(call).await? };
        match reply {
            GroupReply::Refused(refused) => {
                Ok(refusals::named(refused, &places, Subject { group: &group, member: &member }))
            }
            other => Err(strange("a commit", &other)),
        }
    }

    /// Only without members.
    pub async fn delete(&self, group: &GroupName, dry_run: bool) -> Result<(), GroupError> {
        if dry_run {
            return self.check_group_deletion(group).await;
        }
        self.ask_coordinator(GroupCall::Delete { group: group.clone() }).await.map(|_| ())
    }

    /// Forgets committed offsets of partitions that no member holds. The refused ones.
    pub async fn delete_offsets(
        &self,
        group: &GroupName,
        at: Vec<TopicPartition>,
    ) -> Result<Vec<(TopicPartition, GroupError)>, GroupError> {
        reads::check_count(at.len())?;
        let call = GroupCall::DeleteOffsets { group: group.clone(), at: at.clone() };
        match self.ask_coordinator(call).await? {
            GroupReply::Refused(refused) => Ok(refusals::named(refused, &at, Subject::of_group(group))),
            other => Err(strange("deleting offsets", &other)),
        }
    }

    /// Kafka's JoinGroup: answered when the rebalance that it belongs to is complete.
    pub async fn classic_join(&self, join: ClassicJoin) -> Result<ClassicJoined, GroupError> {
        self.join_classic(classic_rules::join(join)?).await
    }

    /// Answers Kafka's Heartbeat.
    pub async fn classic_heartbeat(&self, beat: ClassicBeat) -> Result<(), GroupError> {
        classic_rules::group_name(&beat.group)?;
        self.ask_coordinator(GroupCall::BeatClassic(beat)).await.map(|_| ())
    }
}

fn given_or(asked: Duration, default: Duration) -> Duration {
    if asked.is_zero() { default } else { asked }
}

/// Only a coordinator of another version could do that.
fn strange(what: &str, reply: &GroupReply) -> GroupError {
    tracing::error!(?reply, "{what} was answered as something else");
    GroupError::OutcomeUnknown { what: what.to_string(), waited_ms: 0 }
}
