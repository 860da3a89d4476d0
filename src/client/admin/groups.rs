//! Requests about consumer groups, and what brokers say of them.

use std::fmt;

use super::{
    Admin, nothing_said,
    topics::{known_broker, known_offset},
};
use crate::{
    client::{
        commit::{OffsetToCommit, RefusedOffset, partition_sets, partitions_of},
        error::ClientError,
        net::groups_client,
    },
    proto::v1,
    types::{BrokerId, LeaderEpoch, Offset, PartitionId, TopicPartition, WallMs},
};

impl Admin {
    /// Lists all groups, in no particular order.
    pub async fn list_groups(&self) -> Result<Vec<GroupSummary>, ClientError> {
        let call = |channel, request| async move { groups_client(channel).list_groups(request).await };
        let answer = self.ask("list_groups", v1::ListGroupsRequest {}, call).await?;
        Ok(answer.groups.into_iter().map(GroupSummary::of).collect())
    }

    /// Describes one group: its members, their partitions, what it has committed, and how far behind it is.
    pub async fn describe_group(&self, group: &str) -> Result<GroupDescription, ClientError> {
        let request = v1::DescribeGroupRequest { group: group.into() };
        let call = |channel, request| async move { groups_client(channel).describe_group(request).await };
        GroupDescription::of(self.ask("describe_group", request, call).await?)
    }

    /// Returns all that a group has committed: never older than a commit that was acknowledged before the call.
    pub async fn committed_offsets(&self, group: &str) -> Result<Vec<CommittedOffset>, ClientError> {
        let request = v1::FetchOffsetsRequest { group: group.into(), partitions: Vec::new() };
        let call = |channel, request| async move { groups_client(channel).fetch_offsets(request).await };
        let answer = self.ask("fetch_offsets", request, call).await?;
        Ok(answer.offsets.into_iter().map(CommittedOffset::of).collect())
    }

    /// Sets where a group without members goes on. Repeating it changes nothing more. Returns those that were refused;
    /// all others are committed.
    pub async fn commit_offsets(
        &self,
        group: &str,
        offsets: &[OffsetToCommit],
    ) -> Result<Vec<RefusedOffset>, ClientError> {
        let offset = |offset: &OffsetToCommit| offset.wire(String::new());
        let request = v1::CommitOffsetsRequest {
            group: group.into(),
            offsets: offsets.iter().map(offset).collect(),
            ..Default::default()
        };
        let call = |channel, request| async move { groups_client(channel).commit_offsets(request).await };
        let answer = self.change("commit_offsets", request, call).await?;
        Ok(answer.refused.into_iter().map(RefusedOffset::of).collect())
    }

    /// Forgets what a group has committed of partitions that no member holds. Returns those that were refused; all
    /// others are forgotten.
    pub async fn delete_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<Vec<RefusedOffset>, ClientError> {
        let request = v1::DeleteOffsetsRequest { group: group.into(), partitions: partition_sets(partitions.iter()) };
        let call = |channel, request| async move { groups_client(channel).delete_offsets(request).await };
        let answer = self.change("delete_offsets", request, call).await?;
        Ok(answer.refused.into_iter().map(RefusedOffset::of).collect())
    }

    /// A request that takes a member out of its group: its partitions go to the others. One that still runs joins
    /// again. Name it by its id, its instance id, or both.
    pub fn remove_member(&self, group: impl Into<String>) -> RemoveMember<'_> {
        RemoveMember { admin: self, request: v1::GroupLeaveRequest { group: group.into(), ..Default::default() } }
    }

    /// A request that deletes a group without members, and what it has committed.
    pub fn delete_group(&self, group: impl Into<String>) -> DeleteGroup<'_> {
        DeleteGroup { admin: self, request: v1::DeleteGroupRequest { group: group.into(), dry_run: false } }
    }
}

/// A member that shall leave its group: see [`Admin::remove_member`].
#[must_use = "nothing is asked for before `send`"]
pub struct RemoveMember<'a> {
    admin: &'a Admin,
    request: v1::GroupLeaveRequest,
}

impl RemoveMember<'_> {
    /// Names the member by its id.
    pub fn member_id(mut self, id: impl Into<String>) -> Self {
        self.request.member_id = id.into();
        self
    }

    /// The member that has this instance id now.
    pub fn instance_id(mut self, id: impl Into<String>) -> Self {
        self.request.instance_id = Some(id.into());
        self
    }

    /// Takes the member out of the group.
    pub async fn send(self) -> Result<(), ClientError> {
        let call = |channel, request| async move { groups_client(channel).leave(request).await };
        self.admin.change("leave_group", self.request, call).await.map(drop)
    }
}

/// A group that shall go: see [`Admin::delete_group`].
#[must_use = "nothing is asked for before `send`"]
pub struct DeleteGroup<'a> {
    admin: &'a Admin,
    request: v1::DeleteGroupRequest,
}

impl DeleteGroup<'_> {
    /// Whether it is only checked.
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.request.dry_run = dry_run;
        self
    }

    /// Deletes the group.
    pub async fn send(self) -> Result<(), ClientError> {
        let call = |channel, request| async move { groups_client(channel).delete_group(request).await };
        self.admin.change("delete_group", self.request, call).await.map(drop)
    }
}

/// What a group is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupState {
    /// It has no members.
    #[default]
    Empty,
    /// Every partition that it reads is with a member.
    Stable,
    /// Partitions are on their way from one member to another.
    Rebalancing,
    /// A newer broker has this word for something else.
    Other(String),
}

impl GroupState {
    fn of(word: String) -> GroupState {
        match word.as_str() {
            "empty" => GroupState::Empty,
            "stable" => GroupState::Stable,
            "rebalancing" => GroupState::Rebalancing,
            _ => GroupState::Other(word),
        }
    }

    /// The state as brokers write it.
    pub fn as_str(&self) -> &str {
        match self {
            GroupState::Empty => "empty",
            GroupState::Stable => "stable",
            GroupState::Rebalancing => "rebalancing",
            GroupState::Other(word) => word,
        }
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How the members of a group speak with its coordinator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupProtocol {
    /// Nobody speaks with it: the group only holds offsets.
    #[default]
    None,
    /// The members speak as those of this library do.
    Flotilla,
    /// The members speak as Kafka's clients do (the classic protocol).
    Classic,
    /// A newer broker has this word for something else.
    Other(String),
}

impl GroupProtocol {
    fn of(word: String) -> GroupProtocol {
        match word.as_str() {
            "" => GroupProtocol::None,
            "flotilla" => GroupProtocol::Flotilla,
            "consumer" => GroupProtocol::Classic,
            _ => GroupProtocol::Other(word),
        }
    }

    /// The protocol as brokers write it; empty if there is none.
    pub fn as_str(&self) -> &str {
        match self {
            GroupProtocol::None => "",
            GroupProtocol::Flotilla => "flotilla",
            GroupProtocol::Classic => "consumer",
            GroupProtocol::Other(word) => word,
        }
    }
}

impl fmt::Display for GroupProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A group in a list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupSummary {
    /// The name of the group.
    pub group: String,
    /// What it is doing.
    pub state: GroupState,
    /// How the group's members speak with the coordinator.
    pub protocol: GroupProtocol,
    /// How many members it has.
    pub members: i32,
}

impl GroupSummary {
    fn of(group: v1::GroupSummary) -> GroupSummary {
        let v1::GroupSummary { group, state, protocol, members } = group;
        GroupSummary { group, state: GroupState::of(state), protocol: GroupProtocol::of(protocol), members }
    }
}

/// A group, who is in it, and how far it has read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupDescription {
    /// What a list of groups says of it.
    pub summary: GroupSummary,
    /// How often its partitions were dealt out.
    pub epoch: i32,
    /// How they are dealt out; `None` where nothing was yet.
    pub assignor: Option<String>,
    /// The broker that coordinates it, if one is known.
    pub coordinator: Option<BrokerId>,
    /// The members of the group.
    pub members: Vec<GroupMember>,
    /// Every partition that is committed or assigned.
    pub partitions: Vec<GroupPartition>,
}

impl GroupDescription {
    pub(in crate::client) fn of(answer: v1::DescribeGroupResponse) -> Result<GroupDescription, ClientError> {
        let summary = answer.summary.ok_or_else(|| nothing_said("the group"))?;
        Ok(GroupDescription {
            summary: GroupSummary::of(summary),
            epoch: answer.epoch,
            assignor: unless_empty(answer.assignor),
            coordinator: known_broker(answer.coordinator),
            members: answer.members.into_iter().map(GroupMember::of).collect(),
            partitions: answer.partitions.into_iter().map(GroupPartition::of).collect(),
        })
    }
}

/// A member of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupMember {
    /// The id of this membership.
    pub member_id: String,
    /// The id that it keeps over restarts, if it has one.
    pub instance_id: Option<String>,
    /// What the member's application calls itself; may be empty.
    pub client_id: String,
    /// Where the member connects from.
    pub client_host: String,
    /// The topics that the member subscribed to by name.
    pub topics: Vec<String>,
    /// The regular expression of the topics that it subscribed to besides.
    pub pattern: Option<String>,
    /// The partitions that it reads, or is about to.
    pub assigned: Vec<TopicPartition>,
    /// The partitions that it has been asked to let go of.
    pub revoking: Vec<TopicPartition>,
}

impl GroupMember {
    fn of(member: v1::GroupMember) -> GroupMember {
        GroupMember {
            member_id: member.member_id,
            instance_id: unless_empty(member.instance_id),
            client_id: member.client_id,
            client_host: member.client_host,
            topics: member.topics,
            pattern: unless_empty(member.pattern),
            assigned: partitions_of(member.assigned),
            revoking: partitions_of(member.revoking),
        }
    }
}

/// How far a group has read one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupPartition {
    /// The partition that this is about.
    pub at: TopicPartition,
    /// The member that holds it, if one does.
    pub member_id: Option<String>,
    /// The next offset to be read, if one was committed.
    pub committed: Option<Offset>,
    /// What the application wrote beside the commit.
    pub metadata: String,
    /// The first offset that is kept; `None` where the leader could not be asked.
    pub log_start: Option<Offset>,
    /// The offset of the next record to be committed; `None` where the leader could not be asked.
    pub high_watermark: Option<Offset>,
    /// How many records are kept and not read; `None`: not known.
    pub lag: Option<i64>,
    /// How old the first of them is by its timestamp, in milliseconds; 0 without any; `None`: not known.
    pub lag_ms: Option<i64>,
    /// Whether retention is about to delete records that were not read.
    pub retention_threatens: bool,
}

impl GroupPartition {
    fn of(p: v1::GroupPartition) -> GroupPartition {
        let known = |n: i64| Some(n).filter(|n| *n >= 0);
        GroupPartition {
            at: TopicPartition { topic: p.topic, partition: PartitionId(p.partition) },
            member_id: unless_empty(p.member_id),
            committed: p.committed.map(Offset),
            metadata: p.metadata,
            log_start: known_offset(p.log_start),
            high_watermark: known_offset(p.high_watermark),
            lag: known(p.lag),
            lag_ms: known(p.lag_ms),
            retention_threatens: p.retention_threatens,
        }
    }
}

/// What a group has committed of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommittedOffset {
    /// The partition that this is about.
    pub at: TopicPartition,
    /// The next offset to be read.
    pub offset: Offset,
    /// The leader epoch of the last record that was read, if it is known.
    pub leader_epoch: Option<LeaderEpoch>,
    /// What the application wrote beside the commit.
    pub metadata: String,
    /// When it was committed.
    pub committed_at: WallMs,
}

impl CommittedOffset {
    fn of(offset: v1::CommittedOffset) -> CommittedOffset {
        CommittedOffset {
            at: TopicPartition { topic: offset.topic, partition: PartitionId(offset.partition) },
            offset: Offset(offset.offset),
            leader_epoch: offset.leader_epoch.map(LeaderEpoch),
            metadata: offset.metadata,
            committed_at: WallMs(offset.committed_at_ms),
        }
    }
}

fn unless_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}
