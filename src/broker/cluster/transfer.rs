//! Leadership transfers that somebody asked for.
//!
//! Promises: one by name ends well only if that broker says itself that it leads, and a majority bears it out. What the
//! asked broker has heard may be old: of a leader that is frozen, or was deposed a moment ago.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use crate::{
    broker::{
        errors::AdminError,
        limits,
        metadata_group::MetadataGroup,
        node::Node,
        peers::calls::{Answer, Call, NoAnswer},
        replicas::Replicas,
        requests::{LeaderNow, TransferLeaderRequest, or_default},
    },
    raft::{Leader, Replica, TransferError},
    replicated::Replicated,
    types::{BrokerId, LeaderEpoch, METADATA_GROUP, PartitionId, RaftGroupId, ms_u32, ms_u64},
};

/// A broker's part in moving leaderships.
pub struct Transfers {
    pub node: Arc<Node>,
    metadata: Arc<MetadataGroup>,
    pub replicas: Arc<Replicas>,
}

impl Transfers {
    pub fn new(metadata: Arc<MetadataGroup>, replicas: Arc<Replicas>) -> Transfers {
        Transfers { node: Arc::clone(&metadata.node), metadata, replicas }
    }

    /// Moves the leadership of a partition, or of the metadata group, from whichever broker was asked.
    pub async fn transfer(&self, request: TransferLeaderRequest) -> Result<LeaderNow, AdminError> {
        let TransferLeaderRequest { partition, to, timeout: asked } = request;
        let within = or_default(asked, limits::TRANSFER_TIMEOUT);
        let (group, voters) = self.transferable(&partition).await?;
        if let Some(to) = to
            && !voters.contains(&to)
        {
            let holders: Vec<String> = voters.iter().map(BrokerId::to_string).collect();
            let detail = format!("broker {to} holds no voter of it; brokers {} do", holders.join(", "));
            return Err(AdminError::InvalidRequest { detail });
        }
        let Some(leader) = self.node.raft.leader_of(group) else {
            return Err(AdminError::TransferFailed { reason: "no leader is known".into() });
        };
        if to == Some(leader.broker) {
            let heard = LeaderNow { broker: leader.broker, epoch: leader.term.epoch() };
            return match self.node.is_alive(leader.broker) {
                true => self.confirm(group, heard).await,
                // It led when it was last heard.
                false => Err(silent_target(leader.broker)),
            };
        }
        let moved = self.transfer_at(leader.broker, group, to, within).await?;
        match to {
            // It was asked for by name: that another one leads is no success.
            Some(to) if moved.broker != to => {
                let reason = format!("broker {} leads now, not broker {to}", moved.broker);
                Err(AdminError::TransferFailed { reason })
            }
            Some(_) => self.confirm(group, moved).await,
            None => Ok(moved),
        }
    }

    /// The Raft group of a partition, or of the metadata, and the brokers that may lead it.
    async fn transferable(
        &self,
        partition: &Option<(String, PartitionId)>,
    ) -> Result<(RaftGroupId, Vec<BrokerId>), AdminError> {
        let Some((topic, number)) = partition else {
            let metadata =
                self.node.metadata().ok_or(AdminError::Unavailable { reason: "not in a cluster yet".into() })?;
            return Ok((METADATA_GROUP, metadata.voters().into_iter().map(|(_, broker)| broker).collect()));
        };
        let info = self.metadata.partition(topic, *number).await?;
        Ok((info.group, info.replicas.iter().map(|(_, broker)| *broker).collect()))
    }

    async fn transfer_at(
        &self,
        leader: BrokerId,
        group: RaftGroupId,
        to: Option<BrokerId>,
        within: Duration,
    ) -> Result<LeaderNow, AdminError> {
        if leader == self.node.me() {
            return self.transfer_here(group, to, within).await;
        }
        let silent = || AdminError::TransferFailed { reason: format!("its leader, broker {leader}, does not answer") };
        if !self.node.is_alive(leader) {
            return Err(silent());
        }
        let call = Call::Transfer { group, to, within_ms: ms_u32(within) };
        // The other side's answer at its deadline must still reach us.
        match self.node.call(leader, &call, within + limits::CALL_WITHIN).await {
            Ok(Answer::Transfer(moved)) => moved,
            Ok(_) | Err(NoAnswer::Unknown) => {
                Err(AdminError::OutcomeUnknown { what: "the transfer".into(), waited_ms: ms_u64(within) })
            }
            Err(NoAnswer::NotDone) => Err(silent()),
        }
    }

    /// That a broker leads, in its own words. `heard`: what was heard of it.
    async fn confirm(&self, group: RaftGroupId, heard: LeaderNow) -> Result<LeaderNow, AdminError> {
        let LeaderNow { broker, epoch } = heard;
        let within = limits::CALL_WITHIN;
        let said = if broker == self.node.me() {
            self.leads_here(group, within).await
        } else {
            match self.node.call(broker, &Call::Leads { group, within_ms: ms_u32(within) }, within).await {
                Ok(Answer::Leads(said)) => said,
                Ok(_) | Err(_) => {
                    let reason = format!("broker {broker} led when it was last heard, and does not answer");
                    return Err(AdminError::TransferFailed { reason });
                }
            }
        };
        said.filter(|said| said.epoch >= epoch).ok_or_else(|| {
            let reason = format!("broker {broker} led, and does not say so itself any more");
            AdminError::TransferFailed { reason }
        })
    }

    /// Whether this broker leads a group, as a majority confirms. One that was elected a moment ago is waited for.
    pub async fn leads_here(&self, group: RaftGroupId, within: Duration) -> Option<LeaderNow> {
        let epoch = match group {
            METADATA_GROUP => leads(&self.node.metadata()?, within).await?,
            _ => leads(&self.replicas.hosted_group(group)?.group, within).await?,
        };
        Some(LeaderNow { broker: self.node.me(), epoch })
    }

    /// Moves leadership of a group that this broker leads.
    pub async fn transfer_here(
        &self,
        group: RaftGroupId,
        to: Option<BrokerId>,
        within: Duration,
    ) -> Result<LeaderNow, AdminError> {
        if let Some(to) = to
            && !self.node.is_alive(to)
        {
            // Known here, where the transfer would begin: nobody needs to wait for it to fail.
            return Err(silent_target(to));
        }
        let started = Instant::now();
        let result = if group == METADATA_GROUP {
            let metadata =
                self.node.metadata().ok_or(AdminError::Unavailable { reason: "not in a cluster yet".into() })?;
            metadata.transfer_leader(to, within).await
        } else {
            let Some(hosted) = self.replicas.hosted_group(group) else {
                return Err(AdminError::TransferFailed {
                    reason: format!("broker {} does not hold it", self.node.me()),
                });
            };
            // Nothing may be in flight when leadership moves (SAFETY B2); what arrives meanwhile waits.
            let _paused = hosted.appender.pause().await;
            let left = within.saturating_sub(started.elapsed());
            hosted.group.transfer_leader(to, left).await
        };
        match result {
            Ok(Leader { term, broker, replica: _ }) => Ok(LeaderNow { broker, epoch: term.epoch() }),
            Err(error @ (TransferError::NoSuchVoter(_) | TransferError::NotLeader | TransferError::NoCandidate)) => {
                Err(AdminError::TransferRefused(error))
            }
            // The request went out: leadership may still move.
            Err(TransferError::TimedOut(_)) => {
                Err(AdminError::OutcomeUnknown { what: "the transfer".into(), waited_ms: ms_u64(started.elapsed()) })
            }
        }
    }
}

async fn leads<S: Replicated>(group: &Replica<S>, within: Duration) -> Option<LeaderEpoch> {
    let deadline = Instant::now() + within;
    let mut status = group.status();
    let settled = timeout_at(deadline, status.wait_for(|now| now.stopped || !now.leads || now.ready)).await;
    let term = settled.ok()?.ok().filter(|now| now.leads && now.ready && !now.stopped)?.term;
    timeout_at(deadline, group.read_index()).await.ok()?.ok()?;
    Some(term.epoch())
}

fn silent_target(to: BrokerId) -> AdminError {
    AdminError::InvalidRequest { detail: format!("broker {to} does not answer, so leadership cannot move to it") }
}
