//! What clients send about groups, checked value by value before the broker hears of it.
//!
//! Names and lists are bounded here, so that no copy of a stranger's megabyte is made; what they mean (whether a
//! timeout is in its bounds, a member known, a pattern well formed) is the broker's to say.

use std::{ops::RangeInclusive, time::Duration};

use super::{RequestError, decode, limits};
use crate::{
    broker::groups::OffsetToCommit,
    group::{Assignor, PartitionSet, Subscription},
    proto::v1,
    types::{GroupName, LeaderEpoch, MemberId, PartitionId, TopicPartition},
};

pub(super) fn group_name(name: String) -> Result<GroupName, RequestError> {
    if name.is_empty() {
        return Err(RequestError::invalid("the group's name is empty"));
    }
    bounded("group", &name, limits::GROUP_NAME_BYTES_MAX)?;
    Ok(GroupName(name))
}

/// Checks the id of an instance or client.
pub(super) fn label(field: &str, label: &str) -> Result<(), RequestError> {
    bounded(field, label, limits::LABEL_BYTES_MAX)?;
    printable(field, label)
}

/// Checks the id of an instance, which is absent for a dynamic member.
pub(super) fn instance_id(instance: Option<&str>) -> Result<(), RequestError> {
    match instance {
        None => Ok(()),
        Some("") => Err(RequestError::invalid("instance_id is empty; leave it out for a dynamic member")),
        Some(instance) => label("instance_id", instance),
    }
}

/// Checks the id of a member, which is empty where that means nobody.
pub(super) fn member_id(field: &str, member: String) -> Result<MemberId, RequestError> {
    bounded(field, &member, limits::MEMBER_ID_BYTES_MAX)?;
    printable(field, &member)?;
    Ok(MemberId(member))
}

/// Refuses what cannot be printed: people see these names on their terminals, in logs and metrics.
fn printable(field: &str, value: &str) -> Result<(), RequestError> {
    match value.chars().find(|c| c.is_control()) {
        Some(c) => Err(RequestError::invalid(format!("{field} has the control character {c:?}"))),
        None => Ok(()),
    }
}

fn bounded(field: &str, value: &str, bytes_max: usize) -> Result<(), RequestError> {
    let bytes = value.len();
    if bytes > bytes_max {
        return Err(RequestError::invalid(format!("{field} has {bytes} bytes; at most {bytes_max} are allowed")));
    }
    Ok(())
}

fn few(field: &str, count: usize, count_max: usize) -> Result<(), RequestError> {
    if count > count_max {
        return Err(RequestError::invalid(format!("{count} {field} in one request; at most {count_max} are allowed")));
    }
    Ok(())
}

/// Reads a session timeout. Zero stays zero: the broker knows the defaults.
pub(super) fn session_timeout(ms: u32) -> Result<Duration, RequestError> {
    within("session_timeout_ms", ms, limits::SESSION_TIMEOUT_MS_MIN..=limits::SESSION_TIMEOUT_MS_MAX)
}

pub(super) fn rebalance_timeout(ms: u32) -> Result<Duration, RequestError> {
    within("rebalance_timeout_ms", ms, 1..=limits::REBALANCE_TIMEOUT_MS_MAX)
}

fn within(field: &str, ms: u32, range: RangeInclusive<u32>) -> Result<Duration, RequestError> {
    if ms != 0 && !range.contains(&ms) {
        let (min, max) = range.into_inner();
        return Err(RequestError::invalid(format!("{field} is {ms}; it is from {min} to {max}, or 0 for the default")));
    }
    Ok(Duration::from_millis(ms.into()))
}

pub(super) fn subscription(subscription: v1::GroupSubscription) -> Result<Subscription, RequestError> {
    let v1::GroupSubscription { topics, pattern, assignor } = subscription;
    few("subscribed topics", topics.len(), limits::SUBSCRIBED_TOPICS_MAX)?;
    topics.iter().try_for_each(|topic| decode::topic_name(topic))?;
    bounded("pattern", &pattern, limits::PATTERN_BYTES_MAX)?;
    let assignor = match v1::Assignor::try_from(assignor) {
        Ok(v1::Assignor::Sticky) => Assignor::Sticky,
        Ok(v1::Assignor::Range) => Assignor::Range,
        Ok(v1::Assignor::RoundRobin) => Assignor::RoundRobin,
        Err(_) => {
            let detail = format!("assignor is {assignor}; it is 0 (sticky), 1 (range) or 2 (round robin)");
            return Err(RequestError::Invalid { detail });
        }
    };
    Ok(Subscription { topics, pattern: (!pattern.is_empty()).then_some(pattern), assignor })
}

/// Returns partitions sorted and each once, whatever the client sent.
pub(super) fn partition_sets(field: &str, sets: Vec<v1::PartitionSet>) -> Result<PartitionSet, RequestError> {
    let count: usize = sets.iter().map(|set| set.partitions.len()).sum();
    few(&format!("partitions in {field}"), count, limits::OFFSETS_PER_GROUP_MAX)?;
    let mut sorted = PartitionSet::new();
    for set in sets {
        decode::topic_name(&set.topic)?;
        if set.partitions.is_empty() {
            continue;
        }
        let known = sorted.entry(set.topic).or_default();
        for partition in set.partitions {
            known.push(decode::partition(partition)?);
        }
    }
    for partitions in sorted.values_mut() {
        partitions.sort_unstable();
        partitions.dedup();
    }
    Ok(sorted)
}

pub(super) fn partitions(field: &str, sets: Vec<v1::PartitionSet>) -> Result<Vec<TopicPartition>, RequestError> {
    let sets = partition_sets(field, sets)?;
    let count = sets.values().map(Vec::len).sum();
    few(&format!("partitions in {field}"), count, limits::GROUP_OFFSETS_MAX)?;
    let at = |topic: &String, partition: PartitionId| TopicPartition { topic: topic.clone(), partition };
    let each = sets.iter().flat_map(|(topic, partitions)| partitions.iter().map(move |p| at(topic, *p)));
    let each: Vec<_> = each.collect();
    if each.is_empty() {
        return Err(RequestError::invalid(format!("{field} names no partition")));
    }
    Ok(each)
}

pub(super) fn offsets(offsets: Vec<v1::OffsetToCommit>) -> Result<Vec<OffsetToCommit>, RequestError> {
    few("offsets", offsets.len(), limits::GROUP_OFFSETS_MAX)?;
    offsets.into_iter().map(offset).collect()
}

fn offset(asked: v1::OffsetToCommit) -> Result<OffsetToCommit, RequestError> {
    decode::topic_name(&asked.topic)?;
    bounded("metadata", &asked.metadata, limits::OFFSET_METADATA_BYTES_MAX)?;
    Ok(OffsetToCommit {
        topic_id: decode::topic_id(&asked.topic_id)?,
        at: TopicPartition { topic: asked.topic, partition: decode::partition(asked.partition)? },
        offset: decode::offset("offset", asked.offset)?,
        leader_epoch: leader_epoch(asked.leader_epoch)?,
        metadata: asked.metadata,
    })
}

fn leader_epoch(epoch: Option<i32>) -> Result<Option<LeaderEpoch>, RequestError> {
    match epoch {
        // How Kafka's clients say "unknown".
        None | Some(-1) => Ok(None),
        Some(epoch) if epoch < 0 => Err(RequestError::invalid(format!(
            "leader_epoch is {epoch}; epochs count from 0, and -1 is an unknown one"
        ))),
        Some(epoch) => Ok(Some(LeaderEpoch(epoch))),
    }
}
