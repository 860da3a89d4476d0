//! A member's calls to the coordinator, one try each: `driver` decides what becomes of a failure.
//!
//! A beat of a member is hedged: asking twice changes nothing, since releases are fenced by the epoch. A join is
//! not: a late copy of it would bring back a member that has left; nor is a commit. Commits are numbered: a late copy
//! does not undo the next one.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tonic::transport::Channel;

use super::{
    GroupOptions,
    core::{Beat, Due},
};
use crate::{
    client::{
        commit::{RefusedOffset, partition_sets, partitions_of},
        error::ClientError,
        net::{Cluster, groups_client, unary_within},
    },
    proto::v1,
    types::{Offset, PartitionId, TopicPartition, ms_u32},
};

/// A broker ends a call about groups after 5 s at the latest.
const CALL_TIMEOUT: Duration = Duration::from_secs(7);
/// How many offsets one commit, or one question for offsets, carries: brokers take 10,000 offsets and 1 MiB, and an
/// answer carries metadata of up to 4 KiB for each.
const OFFSETS_PER_CALL_MAX: usize = 2_000;
const BYTES_PER_CALL_MAX: usize = 512 * 1024;
/// How long the readable part of a drawn member id may be: as long as in those that brokers draw.
const MEMBER_PREFIX_BYTES_MAX: usize = 200;
/// How long leaving may take. It is a courtesy: without it the others wait for the session timeout.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Who this member is at the moment.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub member: String,
    pub epoch: i32,
}

/// What the coordinator knows of partitions' places.
#[derive(Debug, Default)]
pub(super) struct Committed {
    pub offsets: BTreeMap<TopicPartition, Offset>,
    /// The ids of the topics that the offsets are of, by name.
    pub topic_ids: BTreeMap<String, String>,
}

#[derive(Clone)]
pub(super) struct Calls {
    pub cluster: Cluster,
    pub options: GroupOptions,
    /// The sequence of the last commit. Each try has its own, so that one that was given up never follows its
    /// successor.
    sequence: Arc<AtomicU64>,
}

impl Calls {
    pub fn new(cluster: Cluster, options: GroupOptions) -> Calls {
        Calls { cluster, options, sequence: Arc::default() }
    }

    /// Draws an id of a readable part and 128 random bits: nobody had it before.
    pub fn draw_member_id(&self) -> String {
        let prefix = self.options.instance_id.as_deref().unwrap_or(&self.options.client_id);
        let prefix = if prefix.is_empty() { "member" } else { prefix };
        let fits = |end: &usize| *end <= MEMBER_PREFIX_BYTES_MAX && prefix.is_char_boundary(*end);
        let end = (0..=prefix.len()).rev().find(fits).unwrap_or(0);
        format!("{}-{:032x}", &prefix[..end], self.cluster.world().rng.u128())
    }

    /// Joins as the member of this id. Repeating it joins no second time.
    pub async fn join(&self, id: String) -> Result<Beat, ClientError> {
        let options = &self.options;
        let subscription = v1::GroupSubscription {
            topics: options.topics.clone(),
            pattern: options.pattern.clone().unwrap_or_default(),
            assignor: options.assignor.wire().into(),
        };
        let request = v1::GroupHeartbeatRequest {
            subscription: Some(subscription),
            join_as: id,
            ..self.heartbeat(Identity { member: String::new(), epoch: 0 }, Vec::new())
        };
        let call = |address: String, channel| {
            let request = request.clone();
            async move { unary_within(&address, CALL_TIMEOUT, groups_client(channel).heartbeat(request)).await }
        };
        told(self.cluster.change_once(call).await?)
    }

    pub async fn beat(&self, who: Identity, owns: Vec<v1::PartitionSet>) -> Result<Beat, ClientError> {
        let request = self.heartbeat(who, owns);
        let call = |address: String, channel| {
            let request = request.clone();
            async move { unary_within(&address, CALL_TIMEOUT, groups_client(channel).heartbeat(request)).await }
        };
        told(self.hedged(call).await?)
    }

    fn heartbeat(&self, who: Identity, owns: Vec<v1::PartitionSet>) -> v1::GroupHeartbeatRequest {
        let options = &self.options;
        v1::GroupHeartbeatRequest {
            group: options.group.clone(),
            member_id: who.member,
            epoch: who.epoch,
            subscription: None,
            owns,
            instance_id: options.instance_id.clone(),
            client_id: options.client_id.clone(),
            session_timeout_ms: ms_u32(options.session_timeout),
            rebalance_timeout_ms: ms_u32(options.rebalance_timeout),
            join_as: String::new(),
        }
    }

    /// Commits offsets, and returns the refused ones. After an error some may be committed.
    pub async fn commit(&self, who: &Identity, dues: &[Due]) -> Result<Vec<RefusedOffset>, ClientError> {
        let mut refused = Vec::new();
        for part in split(dues.iter().map(|due| due.offset.wire(due.topic_id.clone()))) {
            refused.extend(self.commit_some(who.clone(), part).await?);
        }
        Ok(refused)
    }

    async fn commit_some(
        &self,
        who: Identity,
        offsets: Vec<v1::OffsetToCommit>,
    ) -> Result<Vec<RefusedOffset>, ClientError> {
        let request = v1::CommitOffsetsRequest {
            group: self.options.group.clone(),
            member_id: who.member,
            epoch: who.epoch,
            offsets,
            sequence: self.sequence.fetch_add(1, Relaxed) + 1,
            instance_id: self.options.instance_id.clone(),
        };
        let call = |address: String, channel| {
            let request = request.clone();
            async move { unary_within(&address, CALL_TIMEOUT, groups_client(channel).commit_offsets(request)).await }
        };
        let answer = self.cluster.one_by_one(self.cluster.coordinators(), call).await;
        let answer = self.or_learn(answer).await?;
        Ok(answer.refused.into_iter().map(RefusedOffset::of).collect())
    }

    /// The committed offsets of those that have one, and which topics they are of.
    pub async fn committed(&self, of: &[TopicPartition]) -> Result<Committed, ClientError> {
        let mut found = Committed::default();
        for part in of.chunks(OFFSETS_PER_CALL_MAX) {
            let Committed { offsets, topic_ids } = self.committed_some(part).await?;
            found.offsets.extend(offsets);
            found.topic_ids.extend(topic_ids);
        }
        Ok(found)
    }

    async fn committed_some(&self, of: &[TopicPartition]) -> Result<Committed, ClientError> {
        let request =
            v1::FetchOffsetsRequest { group: self.options.group.clone(), partitions: partition_sets(of.iter()) };
        let call = |address: String, channel| {
            let request = request.clone();
            async move { unary_within(&address, CALL_TIMEOUT, groups_client(channel).fetch_offsets(request)).await }
        };
        let answer = self.hedged(call).await?;
        let named = |found: v1::CommittedOffset| {
            (TopicPartition { topic: found.topic, partition: PartitionId(found.partition) }, Offset(found.offset))
        };
        Ok(Committed {
            offsets: answer.offsets.into_iter().map(named).collect(),
            topic_ids: answer.topics.into_iter().map(|topic| (topic.name, topic.id)).collect(),
        })
    }

    async fn hedged<T, F>(&self, call: impl Fn(String, Channel) -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let answer = self.cluster.hedged(self.cluster.coordinators(), "group coordinator", call).await;
        self.or_learn(answer).await
    }

    /// Whoever could not do it is perhaps not the coordinator any more.
    async fn or_learn<T>(&self, answer: Result<T, ClientError>) -> Result<T, ClientError> {
        if answer.as_ref().is_err_and(ClientError::is_retriable) {
            let _ = self.cluster.refresh(&[]).await; // The next try says why, if this helps nothing.
        }
        answer
    }

    /// Whether it worked does not matter much.
    pub async fn leave(&self, member: String) {
        if member.is_empty() {
            return;
        }
        let group = self.options.group.clone();
        let request = v1::GroupLeaveRequest { group, member_id: member, instance_id: None };
        let call = |address: String, channel| {
            let request = request.clone();
            async move { unary_within(&address, LEAVE_TIMEOUT, groups_client(channel).leave(request)).await }
        };
        match tokio::time::timeout(LEAVE_TIMEOUT, self.hedged(call)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%error, "leaving the group failed, its session will end"),
            Err(_) => tracing::debug!("leaving the group took too long, its session will end"),
        }
    }
}

/// What a heartbeat's answer says.
pub(super) fn told(answer: v1::GroupHeartbeatResponse) -> Result<Beat, ClientError> {
    if answer.member_id.is_empty() {
        return Err(ClientError::BadAnswer { detail: "a heartbeat's answer names no member".into() });
    }
    Ok(Beat {
        member: answer.member_id,
        epoch: answer.epoch,
        assigned: partitions_of(answer.assigned),
        next_beat: Duration::from_millis(answer.heartbeat_ms.into()),
    })
}

/// Splits offsets into parts, in order, each within the bounds of one call.
fn split(offsets: impl Iterator<Item = v1::OffsetToCommit>) -> Vec<Vec<v1::OffsetToCommit>> {
    let mut parts: Vec<Vec<v1::OffsetToCommit>> = Vec::new();
    let mut bytes = 0;
    for offset in offsets {
        // The fields that are numbers take less than 40 bytes.
        let size = offset.topic.len() + offset.topic_id.len() + offset.metadata.len() + 40;
        match parts.last_mut() {
            Some(part) if part.len() < OFFSETS_PER_CALL_MAX && bytes + size <= BYTES_PER_CALL_MAX => {
                part.push(offset);
                bytes += size;
            }
            Some(_) | None => {
                parts.push(vec![offset]);
                bytes = size;
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_split_within_the_bounds_of_a_call() {
        let offset = |n: usize, metadata: usize| v1::OffsetToCommit {
            topic: "t".repeat(249),
            partition: n as i32,
            offset: n as i64,
            metadata: "m".repeat(metadata),
            ..Default::default()
        };
        for (count, metadata, parts) in [(0, 0, 0), (1, 4_096, 1), (1_000, 0, 1), (2_000, 0, 2), (1_000, 4_096, 9)] {
            let all: Vec<_> = (0..count).map(|n| offset(n, metadata)).collect();
            let split = split(all.iter().cloned());
            assert_eq!(split.len(), parts, "{count} with {metadata} bytes of metadata");
            for part in &split {
                let bytes: usize = part.iter().map(|o| o.topic.len() + o.metadata.len() + 40).sum();
                assert!(part.len() <= OFFSETS_PER_CALL_MAX && bytes <= BYTES_PER_CALL_MAX);
            }
            assert_eq!(split.concat(), all);
        }
    }
}
