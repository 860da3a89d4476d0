//! Changes of metadata, from any broker: found the leader, propose there, and know whether a failure
//! had an effect. Every change is safe to repeat (ids are drawn by the asker), so it is retried
//! until its deadline even when one try's outcome is unknown.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::access::MetadataGroup;
use crate::{
    broker::{
        errors::{AdminError, Effect},
        limits,
        peers::calls::{Answer, Attempt, Call, NoAnswer},
    },
    metadata::{Change, Outcome, Refusal, decode_response},
    raft::ProposalEnd,
    types::{LogIndex, METADATA_GROUP, ms_u32, ms_u64},
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

impl MetadataGroup {
    /// Tries until applied, refused, or out of time. On success the change is applied on this broker
    /// too, if it runs the metadata group and time allows.
    pub async fn change(&self, change: Change, within: Duration) -> Result<Changed, ChangeFailed> {
        let started = Instant::now();
        let deadline = started + within;
        let mut after_unknown = false;
        loop {
            match self.change_once(&change, deadline).await {
                Attempt::Applied { index, response: Ok(outcome) } => {
                    self.wait_applied(index, deadline).await;
                    return Ok(Changed { index, outcome });
                }
                // A leader's registration of the cluster is moments away.
                Attempt::Applied { response: Err(Refusal::NotFounded), .. } | Attempt::NoEffect => {}
                Attempt::Applied { index, response: Err(refusal) } => {
                    self.wait_applied(index, deadline).await;
                    return Err(ChangeFailed::Refused { refusal, after_unknown });
                }
                Attempt::Unknown => after_unknown = true,
            }
            let waited = started.elapsed();
            if !after_unknown && waited >= limits::CUT_OFF_PATIENCE && self.node.is_cut_off() {
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

    async fn change_once(&self, change: &Change, deadline: Instant) -> Attempt {
        let left = deadline.saturating_duration_since(Instant::now());
        let Some(leader) = self.node.raft.leader_of(METADATA_GROUP) else { return Attempt::NoEffect };
        if leader.broker == self.node.me() {
            return self.change_here(change.clone(), left).await;
        }
        // One try gets a part of the time: a leader that fell silent must not use up all of it.
        let within = left.min(limits::CALL_WITHIN);
        let within_ms = ms_u32(within);
        let call = Call::Change { change: change.clone(), within_ms };
        match self.node.call(leader.broker, &call, within).await {
            Ok(Answer::Change(attempt)) => attempt,
            Ok(_) | Err(NoAnswer::Unknown) => Attempt::Unknown,
            Err(NoAnswer::NotDone) => Attempt::NoEffect,
        }
    }

    /// Proposes on this broker, if it leads the metadata group.
    pub async fn change_here(&self, change: Change, within: Duration) -> Attempt {
        let Some(metadata) = self.node.metadata() else { return Attempt::NoEffect };
        let status = metadata.status().borrow().clone();
        if !status.leads || !status.ready {
            return Attempt::NoEffect;
        }
        let deadline = Instant::now() + within;
        let change = change.on_live(self.node.dead_brokers());
        let asked = change.clone();
        let now = self.node.clock.wall();
        let command = match metadata.read(|state| state.write(now, change)) {
            Ok(command) => command,
            // Refused as if it had been applied: this leader has applied all that it had when its term began.
            Err(refusal) => {
                let index = metadata.applied().borrow().unwrap_or_default();
                return Attempt::Applied { index, response: Err(refusal) };
            }
        };
        // Not bounded by the deadline: a proposal dropped on its way in would be neither here nor there.
        let pending = metadata.propose(status.term, command).await;
        match timeout_at(deadline, pending).await {
            Ok(Ok((position, response))) => match decode_response(&response) {
                Ok(Err(refusal)) if metadata.read(|state| state.was_written_lower(&asked, &refusal)) => {
                    Attempt::NoEffect
                }
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
}

impl ChangeFailed {
    /// The error of an admin request; `what` names the change.
    pub fn into_admin(self, what: &str) -> AdminError {
        match self {
            // The last try had no effect; an earlier one may have been what made it be refused.
            ChangeFailed::Refused { refusal, after_unknown: true } if may_follow_a_success(&refusal) => {
                AdminError::RefusedAfterUnknown { what: what.to_string(), refusal }
            }
            ChangeFailed::Refused { refusal, after_unknown: _ } => refusal.into(),
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
        | Refusal::LevelLowered { .. }
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
        | Refusal::InvalidReplicationFactor { .. }
        | Refusal::BrokersBehind { .. }
        | Refusal::AboveLevel { .. } => false,
    }
}

impl From<Refusal> for AdminError {
    fn from(refusal: Refusal) -> AdminError {
        match refusal {
            Refusal::TopicExists { name } => AdminError::TopicExists { topic: name },
            Refusal::UnknownTopic { name } => AdminError::UnknownTopic { topic: name },
            refusal => AdminError::Refused(refusal),
        }
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
