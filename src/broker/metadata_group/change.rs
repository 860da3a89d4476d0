//! Changes of metadata, from any broker: found the leader, propose there, and know whether a failure
//! had an effect. Every change is safe to repeat (ids are drawn by the asker), so it is retried
//! until its deadline even when one try's outcome is unknown.

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join_all;
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    broker::{
        AdminError, Effect,
        inner::Inner,
        limits,
        peers::calls::{Answer, Attempt, Call, NoAnswer},
    },
    metadata::{Change, Command, Outcome, Refusal, decode_response},
    raft::ProposalEnd,
    types::{BrokerId, LogIndex, METADATA_GROUP, RaftGroupId, ms_u32, ms_u64},
};

/// What a change came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    pub index: LogIndex,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ChangeFailed {
    Refused {
        refusal: Refusal,
        /// An earlier try may have been the one that succeeded.
        after_unknown: bool,
    },
    /// No leader took it in time.
    NoLeader {
        waited: Duration,
    },
    Unknown {
        waited: Duration,
    },
}

impl Inner {
    /// Tries until applied, refused, or out of time. On success the change is applied on this broker
    /// too, if it runs the metadata group and time allows.
    pub async fn change(&self, change: Change, within: Duration) -> Result<Changed, ChangeFailed> {
        let started = Instant::now();
        let deadline = started + within;
        let mut after_unknown = false;
        loop {
            match self.change_once(&change, deadline).await {
                Attempt::Applied { index, response: Ok(outcome) } => {
                    self.wait_metadata(index, deadline).await;
                    return Ok(Changed { index, outcome });
                }
                // A leader's registration of the cluster is moments away.
                Attempt::Applied { response: Err(Refusal::NotFounded), .. } | Attempt::NoEffect => {}
                Attempt::Applied { index, response: Err(refusal) } => {
                    self.wait_metadata(index, deadline).await;
                    return Err(ChangeFailed::Refused { refusal, after_unknown });
                }
                Attempt::Unknown => after_unknown = true,
            }
            let waited = started.elapsed();
            if !after_unknown && waited >= limits::CUT_OFF_PATIENCE && self.is_cut_off() {
                return Err(ChangeFailed::NoLeader { waited });
            }
            if Instant::now() + limits::CHANGE_RETRY >= deadline {
                return Err(match after_unknown {
                    true => ChangeFailed::Unknown { waited },
                    false => ChangeFailed::NoLeader { waited },
                });
            }
            self.wait_retry().await;
        }
    }

    /// A moment, or sooner if leadership moved.
    pub async fn wait_retry(&self) {
        let mut leaders = self.raft.leaders_changed();
        leaders.borrow_and_update();
        let _ = timeout(limits::CHANGE_RETRY, leaders.changed()).await;
    }

    async fn change_once(&self, change: &Change, deadline: Instant) -> Attempt {
        let left = deadline.saturating_duration_since(Instant::now());
        let Some(leader) = self.raft.leader_of(METADATA_GROUP) else { return Attempt::NoEffect };
        if leader.broker == self.me() {
            return self.change_here(change.clone(), left).await;
        }
        // One try gets a part of the time: a leader that fell silent must not use up all of it.
        let within = left.min(limits::CALL_WITHIN);
        let within_ms = ms_u32(within);
        let call = Call::Change { change: change.clone(), within_ms };
        match self.call(leader.broker, &call, within).await {
            Ok(Answer::Change(attempt)) => attempt,
            Ok(_) | Err(NoAnswer::Unknown) => Attempt::Unknown,
            Err(NoAnswer::NotDone) => Attempt::NoEffect,
        }
    }

    /// Proposes on this broker, if it leads the metadata group.
    pub async fn change_here(&self, change: Change, within: Duration) -> Attempt {
        let Some(metadata) = self.metadata() else { return Attempt::NoEffect };
        let status = metadata.status().borrow().clone();
        if !status.leads || !status.ready {
            return Attempt::NoEffect;
        }
        let deadline = Instant::now() + within;
        let change = change.on_live(self.dead_brokers());
        let command = Command::new(self.clock.wall(), change).encode();
        // Not bounded by the deadline: a proposal dropped on its way in would be neither here nor there.
        let pending = metadata.propose(status.term, command).await;
        match timeout_at(deadline, pending).await {
            Ok(Ok((position, response))) => match decode_response(&response) {
                Ok(response) => Attempt::Applied { index: position.index, response },
                Err(error) => {
                    tracing::error!(%error, "a metadata response cannot be read");
                    Attempt::Unknown
                }
            },
            Ok(Err(ProposalEnd::Refused(_))) => Attempt::NoEffect,
            Ok(Err(ProposalEnd::Unknown)) | Err(_) => Attempt::Unknown,
        }
    }

    /// Until the metadata applied here reaches `index`, or `deadline`. Whether it did.
    pub async fn wait_metadata(&self, index: LogIndex, deadline: Instant) -> bool {
        let Some(metadata) = self.metadata() else { return false };
        let mut applied = metadata.applied();
        let reached = applied.wait_for(|applied| applied.is_some_and(|applied| applied >= index));
        matches!(timeout_at(deadline, reached).await, Ok(Ok(_)))
    }

    /// Until what this broker does goes by the metadata up to `index`. Whether it does in time.
    pub async fn uses_layout(&self, index: LogIndex, within: Duration) -> bool {
        let mut in_use = self.layout_in_use.subscribe();
        let reached = in_use.wait_for(|used| used.is_some_and(|used| used >= index));
        matches!(timeout(within, reached).await, Ok(Ok(_)))
    }

    /// Until the leaders of a topic's partitions go by the metadata up to `index`, for a bounded time.
    pub async fn wait_in_use(&self, topic: &str, groups: Vec<RaftGroupId>, index: LogIndex) {
        let leaders = groups.into_iter().filter_map(|group| self.raft.leader_of(group));
        let leaders: BTreeSet<BrokerId> = leaders.map(|leader| leader.broker).collect();
        let asked = leaders.into_iter().map(|leader| async move {
            let within = limits::CALL_WITHIN;
            if leader == self.me() {
                return (leader, self.uses_layout(index, within).await);
            }
            let within_ms = ms_u32(within);
            let answer = self.call(leader, &Call::LayoutInUse { index, within_ms }, within).await;
            (leader, matches!(answer, Ok(Answer::LayoutInUse(true))))
        });
        let silent: Vec<BrokerId> =
            join_all(asked).await.into_iter().filter(|(_, uses)| !uses).map(|(leader, _)| leader).collect();
        if !silent.is_empty() {
            // It is decided, and holds as soon as they hear of it: whoever leads in their place may already know.
            tracing::warn!(topic, ?silent, "leaders that did not say in time that they go by the new rules");
        }
    }

    /// As metadata leader: an index that covers every change committed before now.
    pub async fn confirmed_index(&self) -> Option<LogIndex> {
        let metadata = self.metadata()?;
        timeout(limits::CALL_WITHIN, metadata.read_index()).await.ok()?.ok()
    }

    /// Brings the local metadata up to what was committed before now, within the bound of SAFETY M9.
    /// False: it goes on with what is there, which may be old.
    pub async fn refresh_metadata(&self) -> bool {
        let deadline = Instant::now() + limits::STALE_WAIT;
        let ask = async {
            let leader = self.raft.leader_of(METADATA_GROUP)?;
            if leader.broker == self.me() {
                return self.confirmed_index().await;
            }
            match self.call(leader.broker, &Call::MetadataIndex, limits::STALE_WAIT).await {
                Ok(Answer::MetadataIndex(index)) => index,
                Ok(_) | Err(_) => None,
            }
        };
        match timeout_at(deadline, ask).await {
            Ok(Some(index)) => self.wait_metadata(index, deadline).await,
            Ok(None) | Err(_) => false,
        }
    }
}

impl ChangeFailed {
    /// For admin requests; `what` names the change.
    pub fn into_admin(self, what: &str) -> AdminError {
        match self {
            // The last try had no effect; an earlier one may have been what made it be refused.
            ChangeFailed::Refused { refusal, after_unknown: true } if may_follow_a_success(&refusal) => {
                let what = format!("{what} (refused in the end: {refusal}; but an earlier try of it had no answer)");
                AdminError::OutcomeUnknown { what, waited_ms: 0 }
            }
            ChangeFailed::Refused { refusal, after_unknown: _ } => refused(refusal),
            ChangeFailed::NoLeader { waited } => {
                AdminError::NoMetadataLeader { waited_ms: ms_u64(waited), effect: Effect::None }
            }
            ChangeFailed::Unknown { waited } => {
                AdminError::OutcomeUnknown { what: what.to_string(), waited_ms: ms_u64(waited) }
            }
        }
    }
}

/// Whether the same change may have been taken a moment before it was refused like this.
fn may_follow_a_success(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::TopicExists { .. }
        | Refusal::UnknownTopic { .. }
        | Refusal::UnknownBroker { .. }
        | Refusal::PartitionsNotMore { .. }
        | Refusal::TooFewBrokers { .. }
        | Refusal::TooManyPartitions { .. }
        | Refusal::TooManyTopics { .. }
        | Refusal::TooManyBrokers { .. }
        | Refusal::AlreadyFounded { .. }
        | Refusal::IdsExhausted
        | Refusal::Group(_) => true,
        // What it says itself is wrong, whenever it comes.
        Refusal::NotFounded
        | Refusal::Malformed { .. }
        | Refusal::InvalidConfig { .. }
        | Refusal::InvalidFounders { .. }
        | Refusal::StorageIdMismatch { .. }
        | Refusal::StorageIdTaken { .. }
        | Refusal::InvalidBroker { .. }
        | Refusal::InvalidName { .. }
        | Refusal::InvalidPartitions { .. }
        | Refusal::InvalidReplicationFactor { .. } => false,
    }
}

pub fn refused(refusal: Refusal) -> AdminError {
    let detail = refusal.to_string();
    match refusal {
        Refusal::TopicExists { name } => AdminError::TopicExists { topic: name },
        Refusal::UnknownTopic { name } => AdminError::UnknownTopic { topic: name },
        Refusal::InvalidConfig { .. } => AdminError::InvalidConfig { detail },
        Refusal::NotFounded | Refusal::UnknownBroker { .. } | Refusal::Malformed { .. } | Refusal::IdsExhausted => {
            AdminError::Unavailable { reason: detail }
        }

        Refusal::AlreadyFounded { .. }
        | Refusal::InvalidFounders { .. }
        | Refusal::StorageIdMismatch { .. }
        | Refusal::InvalidBroker { .. }
        | Refusal::StorageIdTaken { .. }
        | Refusal::TooManyBrokers { .. }
        | Refusal::InvalidName { .. }
        | Refusal::InvalidPartitions { .. }
        | Refusal::InvalidReplicationFactor { .. }
        | Refusal::TooFewBrokers { .. }
        | Refusal::TooManyPartitions { .. }
        | Refusal::TooManyTopics { .. }
        | Refusal::PartitionsNotMore { .. }
        | Refusal::Group(_) => AdminError::InvalidRequest { detail },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_after_a_try_without_an_answer_does_not_claim_that_nothing_happened() {
        let unknown = || Refusal::UnknownTopic { name: "t".into() };
        let failed = |refusal, after_unknown| ChangeFailed::Refused { refusal, after_unknown }.into_admin("the change");
        // The first try altered the topic, and somebody deleted it before the second.
        let error = failed(unknown(), true);
        assert_eq!(error.effect(), Effect::Unknown);
        assert!(error.to_string().contains("does not exist") && error.to_string().contains("the change"), "{error}");
        assert_eq!(failed(unknown(), false).effect(), Effect::None);
        let name = Refusal::InvalidName { name: "/".into(), rule: "it holds a slash".into() };
        assert_eq!(failed(name, true).effect(), Effect::None, "the first try was refused alike");
    }
}
