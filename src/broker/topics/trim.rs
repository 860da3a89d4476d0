//! Trimming a partition: asked of its leader, from any broker.

use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::Topics;
use crate::{
    broker::{
        errors::AdminError,
        limits,
        peers::calls::{Answer, Call, NoAnswer},
        requests::TrimRequest,
    },
    partition::{PartitionResponse, encode_trim},
    raft::ProposalEnd,
    types::{Offset, PartitionId, RaftGroupId, TopicPartition, ms_u32, ms_u64},
};

impl Topics {
    /// The new log start offset.
    pub async fn trim(&self, request: TrimRequest) -> Result<Offset, AdminError> {
        let TrimRequest { topic, partition, before, dry_run } = request;
        let info = self.metadata.partition(&topic, partition).await?;
        let within = limits::TRANSFER_TIMEOUT;
        let call = Call::Trim { group: info.group, before, dry_run, within_ms: ms_u32(within) };
        let Some(leader) = self.node.raft.leader_of(info.group) else {
            return Err(AdminError::NotLeader { topic, partition, leader: None });
        };
        if leader.broker == self.node.me() {
            return self.trim_here(info.group, before, dry_run, within).await;
        }
        match self.node.call(leader.broker, &call, within).await {
            Ok(Answer::Trim(trimmed)) => trimmed,
            Ok(_) | Err(NoAnswer::Unknown) => {
                let what = format!("the trim of {topic}-{partition}");
                Err(AdminError::OutcomeUnknown { what, waited_ms: ms_u64(within) })
            }
            Err(NoAnswer::NotDone) => {
                let leader = self.node.leader_now(info.group);
                Err(AdminError::NotLeader { topic, partition, leader })
            }
        }
    }

    /// Trims a partition that this broker leads. The purge follows by itself (SAFETY M5).
    pub async fn trim_here(
        &self,
        group: RaftGroupId,
        before: Option<Offset>,
        dry_run: bool,
        within: Duration,
    ) -> Result<Offset, AdminError> {
        let started = Instant::now();
        let Some(hosted) = self.replicas.hosted_group(group) else {
            let reason = format!("raft group {group} does not run on broker {}", self.node.me());
            return Err(AdminError::Unavailable { reason });
        };
        let TopicPartition { topic, partition } = hosted.name.clone();
        let not_leader = || AdminError::NotLeader {
            topic: hosted.name.topic.clone(),
            partition,
            leader: self.node.leader_now(group),
        };
        let status = hosted.status();
        if !status.leads || !status.ready {
            return Err(not_leader());
        }
        match timeout(within, hosted.group.read_index()).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return Err(AdminError::NotEnoughReplicas),
        }
        let bounds = hosted.bounds();
        let before = before.unwrap_or(bounds.high_watermark);
        if before.0 < 0 || before > bounds.high_watermark {
            return Err(out_of_range(topic, partition, before, bounds.log_start, bounds.high_watermark));
        }
        if dry_run || before <= bounds.log_start {
            return Ok(before.max(bounds.log_start));
        }
        let append_time = hosted.group.read(|state| state.append_time(self.node.clock.wall()));
        let pending = hosted.group.propose(status.term, encode_trim(append_time, before)).await;
        let unknown = || AdminError::OutcomeUnknown {
            what: format!("the trim of {}", hosted.name),
            waited_ms: ms_u64(started.elapsed()),
        };
        match timeout_at(started + within, pending).await {
            Ok(Ok((_, response))) => match PartitionResponse::decode(&response) {
                Ok(PartitionResponse::LogStart { log_start }) => Ok(log_start),
                Ok(PartitionResponse::TrimOutOfRange { before, next_offset }) => {
                    Err(out_of_range(topic, partition, before, bounds.log_start, next_offset))
                }
                Ok(PartitionResponse::Appended { .. } | PartitionResponse::Dead | PartitionResponse::Resized)
                | Err(_) => Err(AdminError::Internal { detail: "a trim was answered as something else".into() }),
            },
            Ok(Err(ProposalEnd::Refused(_))) => Err(not_leader()),
            Ok(Err(ProposalEnd::Unknown)) | Err(_) => Err(unknown()),
        }
    }
}

fn out_of_range(
    topic: String,
    partition: PartitionId,
    offset: Offset,
    log_start: Offset,
    high_watermark: Offset,
) -> AdminError {
    AdminError::OffsetOutOfRange { topic, partition, offset, log_start, high_watermark }
}
