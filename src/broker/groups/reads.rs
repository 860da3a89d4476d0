//! Reading groups, on the broker that was asked: an index that covers everything committed before the
//! request is confirmed with the metadata leader (one confirmation for all who wait), then this broker's
//! own metadata is read. So nothing answered is older than what was acknowledged before (SAFETY M9),
//! and no broker is busier than another.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    limits,
    part::Groups,
    refusals::{Subject, refused},
};
use crate::{
    broker::{
        metadata_group::NotConfirmed,
        requests::groups::{
            CommittedOffset, CommittedOffsets, GroupDescription, GroupError, GroupMember, GroupPartition, GroupSummary,
        },
    },
    group::{
        self, Assignor, ClassicMembers, Group, Members, PartitionCounts, PartitionSet, Subscription, consumer_protocol,
    },
    metadata::Topic,
    seam::plant::{self, Plant},
    types::{GroupName, METADATA_GROUP, MemberId, TopicPartition, ms_u64},
};

impl Groups {
    pub async fn committed_offsets(
        &self,
        group: &GroupName,
        at: Option<Vec<TopicPartition>>,
    ) -> Result<CommittedOffsets, GroupError> {
        check_count(at.as_ref().map_or(0, Vec::len))?;
        let unconfirmed = self.node.metadata().filter(|_| plant::on(Plant::OffsetsUnconfirmed));
        let metadata = match unconfirmed {
            Some(metadata) => metadata,
            None => self.metadata.confirmed(limits::ANSWER_WITHIN).await?,
        };
        Ok(metadata.read(|state| {
            let names: BTreeSet<&str> = at.iter().flatten().map(|at| at.topic.as_str()).collect();
            let topics = names.into_iter().filter_map(|name| Some((name.to_string(), state.topic(name)?.id))).collect();
            // Who never committed has no offsets, whether the group exists or not.
            let offsets = match (state.group(group), at) {
                (None, _) => Vec::new(),
                (Some(group), None) => group.offsets().map(|(at, found)| committed(at, found)).collect(),
                (Some(group), Some(wanted)) => {
                    let found = wanted.into_iter().filter_map(|at| {
                        let found = group.offset(&at.topic, at.partition)?;
                        Some(committed(at, found))
                    });
                    found.collect()
                }
            };
            CommittedOffsets { offsets, topics }
        }))
    }

    pub async fn list(&self) -> Result<Vec<GroupSummary>, GroupError> {
        let metadata = self.metadata.confirmed(limits::ANSWER_WITHIN).await?;
        Ok(metadata.read(|state| state.groups().iter().map(|(name, group)| summary(name, group)).collect()))
    }

    pub async fn describe(&self, name: &GroupName) -> Result<GroupDescription, GroupError> {
        let metadata = self.metadata.confirmed(limits::ANSWER_WITHIN).await?;
        let mut description = metadata
            .read(|state| {
                let counts = |topic: &str| state.topic(topic).map(Topic::partition_count);
                state.group(name).map(|group| describe(name, group, &counts))
            })
            .ok_or_else(|| GroupError::UnknownGroup { group: name.clone() })?;
        description.coordinator = self.node.raft.leader_of(METADATA_GROUP).map(|leader| leader.broker);
        self.lag.fill_in(&mut description.partitions).await;
        Ok(description)
    }

    /// Whether a group could be deleted now.
    pub async fn check_group_deletion(&self, name: &GroupName) -> Result<(), GroupError> {
        let metadata = self.metadata.confirmed(limits::ANSWER_WITHIN).await?;
        let checked = metadata.read(|state| state.groups().check_delete(name));
        checked.map_err(|refusal| refused(refusal, Subject::of_group(name)))
    }
}

impl From<NotConfirmed> for GroupError {
    fn from(NotConfirmed { waited }: NotConfirmed) -> GroupError {
        GroupError::NoCoordinator { waited_ms: ms_u64(waited) }
    }
}

/// A request names a bounded number of partitions.
pub fn check_count(partitions: usize) -> Result<(), GroupError> {
    let max = limits::OFFSETS_PER_REQUEST_MAX;
    match partitions > max {
        true => {
            Err(GroupError::LimitReached { detail: format!("{partitions} partitions in one request, at most {max}") })
        }
        false => Ok(()),
    }
}

fn committed(at: TopicPartition, found: &group::StoredOffset) -> CommittedOffset {
    let group::StoredOffset { offset, leader_epoch, metadata, committed_at } = found.clone();
    CommittedOffset { at, offset, leader_epoch, metadata, committed_at }
}

fn summary(name: &GroupName, group: &Group) -> GroupSummary {
    GroupSummary {
        group: name.clone(),
        phase: group.phase(),
        protocol: group.protocol().to_string(),
        members: u32::try_from(group.member_count()).unwrap_or(u32::MAX),
    }
}

/// Describes a group without its lag and its coordinator, which the state does not know.
fn describe(name: &GroupName, group: &Group, counts: PartitionCounts<'_>) -> GroupDescription {
    let mut partitions: BTreeMap<TopicPartition, GroupPartition> = BTreeMap::new();
    for (at, found) in group.offsets() {
        let partition = GroupPartition {
            committed: Some(found.offset),
            metadata: found.metadata.clone(),
            ..GroupPartition::unread(at.clone())
        };
        partitions.insert(at, partition);
    }
    let (assignor, members) = match group.members() {
        Members::None => (String::new(), Vec::new()),
        Members::Server(server) => {
            for (id, member) in &server.members {
                own(&mut partitions, id, &member.assigned_set());
                own(&mut partitions, id, &member.revoking_set());
            }
            (assignor_name(server.assignor()).to_string(), server.members.iter().map(server_member).collect())
        }
        Members::Classic(classic) => {
            let members: Vec<GroupMember> =
                classic.members.iter().map(|of| classic_member(classic, of, counts)).collect();
            members.iter().for_each(|member| own(&mut partitions, &member.member, &member.assigned));
            (classic.protocol.clone(), members)
        }
    };
    GroupDescription {
        summary: summary(name, group),
        epoch: group.epoch(),
        assignor,
        coordinator: None,
        members,
        partitions: partitions.into_values().collect(),
    }
}

fn server_member((id, member): (&MemberId, &group::ServerMember)) -> GroupMember {
    GroupMember {
        member: id.clone(),
        instance: member.instance.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        subscription: member.subscription.clone(),
        assigned: member.assigned_set(),
        revoking: member.revoking_set(),
        classic: None,
    }
}

/// What a consumer says in the bytes of its protocol, as far as it can be true; of other types only the bytes.
fn classic_member(
    classic: &ClassicMembers,
    (id, member): (&MemberId, &group::ClassicMember),
    counts: PartitionCounts<'_>,
) -> GroupMember {
    let bytes = classic.subscription_of(member);
    let (mut subscription, mut assigned) = (Subscription::default(), PartitionSet::new());
    if classic.protocol_type == consumer_protocol::CONSUMER {
        let topics = consumer_protocol::subscribed_topics(bytes).unwrap_or_default();
        subscription.topics = topics.into_iter().map(str::to_string).collect();
        assigned = consumer_protocol::assigned_partitions(&member.assignment).unwrap_or_default();
        assigned.retain(|topic, numbers| {
            let count = counts(topic).unwrap_or(0);
            numbers.retain(|partition| partition.0 < count);
            !numbers.is_empty()
        });
    }
    GroupMember {
        member: id.clone(),
        instance: member.instance.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        subscription: subscription.normal(),
        assigned,
        revoking: PartitionSet::new(),
        classic: Some((bytes.to_vec(), member.assignment.clone())),
    }
}

/// A member reads these.
fn own(partitions: &mut BTreeMap<TopicPartition, GroupPartition>, member: &MemberId, held: &PartitionSet) {
    for (topic, numbers) in held {
        for partition in numbers {
            let at = TopicPartition { topic: topic.clone(), partition: *partition };
            let entry = partitions.entry(at.clone()).or_insert_with(|| GroupPartition::unread(at));
            entry.member = Some(member.clone());
        }
    }
}

fn assignor_name(assignor: Assignor) -> &'static str {
    match assignor {
        Assignor::Sticky => "sticky",
        Assignor::Range => "range",
        Assignor::RoundRobin => "round-robin",
    }
}
