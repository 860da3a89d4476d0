//! From any broker to the coordinator and back: found, asked, and asked again while that cannot do harm.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{limits, part::Groups};
use crate::{
    broker::{
        limits::CHANGE_RETRY,
        peers::{
            calls::{Answer, Call, NoAnswer},
            group_calls::{GroupAttempt, GroupCall, GroupReply},
        },
        requests::groups::GroupError,
    },
    metadata::Metadata,
    types::{METADATA_GROUP, ms_u32, ms_u64},
};

impl Groups {
    /// Answered by the coordinator, or refused without effect, or of unknown outcome, in
    /// [`limits::ANSWER_WITHIN`].
    pub async fn ask_coordinator(&self, call: GroupCall) -> Result<GroupReply, GroupError> {
        let started = Instant::now();
        let deadline = started + limits::ANSWER_WITHIN;
        let mut after_unknown = false;
        loop {
            match self.try_coordinator(&call, deadline).await {
                GroupAttempt::Answered(answered) if after_unknown => return call.after_unknown(answered),
                GroupAttempt::Answered(answered) => return answered,
                GroupAttempt::NotDone => {}
                GroupAttempt::Unknown if !call.is_repeatable() => {
                    return Err(GroupError::OutcomeUnknown { what: call.what(), waited_ms: ms_u64(started.elapsed()) });
                }
                GroupAttempt::Unknown => after_unknown = true,
            }
            if Instant::now() + CHANGE_RETRY >= deadline {
                let waited_ms = ms_u64(started.elapsed());
                return Err(match after_unknown {
                    true => GroupError::OutcomeUnknown { what: call.what(), waited_ms },
                    false => GroupError::NoCoordinator { waited_ms },
                });
            }
            self.metadata.wait_retry().await;
        }
    }

    async fn try_coordinator(&self, call: &GroupCall, deadline: Instant) -> GroupAttempt {
        let Some(leader) = self.node.raft.leader_of(METADATA_GROUP) else { return GroupAttempt::NotDone };
        if leader.broker == self.node.me() {
            return self.coordinate(call.clone(), limits::TRY_WITHIN).await;
        }
        let turn = timeout_at(deadline, self.forwarded.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return GroupAttempt::NotDone };
        let left = deadline.saturating_duration_since(Instant::now());
        let within = left.min(limits::TRY_WITHIN);
        let call = Call::Group { call: Box::new(call.clone()), within_ms: ms_u32(within) };
        match self.node.call(leader.broker, &call, within).await {
            Ok(Answer::Group(attempt)) => attempt,
            Ok(_) | Err(NoAnswer::Unknown) => GroupAttempt::Unknown,
            Err(NoAnswer::NotDone) => GroupAttempt::NotDone,
        }
    }

    /// Answered if this broker coordinates now: not passed on, and tried once.
    pub async fn ask_here(&self, call: GroupCall) -> Result<GroupReply, GroupError> {
        let (started, what) = (Instant::now(), call.what());
        let waited_ms = || ms_u64(started.elapsed());
        match self.coordinate(call, limits::TRY_WITHIN).await {
            GroupAttempt::Answered(answered) => answered,
            GroupAttempt::NotDone => Err(GroupError::NoCoordinator { waited_ms: waited_ms() }),
            GroupAttempt::Unknown => Err(GroupError::OutcomeUnknown { what, waited_ms: waited_ms() }),
        }
    }

    /// Whether Kafka's clients find the coordinator themselves. While nobody is known to be it, they look for one.
    pub fn is_coordinator_found_by_kafka(&self) -> bool {
        let Some(leader) = self.node.raft.leader_of(METADATA_GROUP) else { return true };
        let address = |metadata: &Metadata| metadata.kafka_address(leader.broker).is_some();
        self.node.metadata().is_some_and(|metadata| metadata.read(address))
    }

    /// Answers as the coordinator, if this broker is it now.
    pub async fn coordinate(&self, call: GroupCall, within: Duration) -> GroupAttempt {
        let tenure = self.tenure.borrow().clone();
        match tenure {
            Some(tenure) => tenure.answer(call, Instant::now() + within).await,
            None => GroupAttempt::NotDone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{
        Caller,
        tests::rig::{Cluster, until},
    };

    #[tokio::test]
    async fn calls_on_their_way_to_the_coordinator_are_bounded_and_more_wait_their_turn() {
        let cluster = Cluster::start(3, 5_950).await;
        let coordinates = |id: &u64| cluster.broker(*id).parts.groups.tenure.borrow().is_some();
        until("somebody coordinates", || async { (1..=3).any(|id| coordinates(&id)) }).await;
        let broker = cluster.broker((1..=3).find(|id| !coordinates(id)).expect("one of three coordinates"));
        let unknown = Err(GroupError::UnknownGroup { group: "g".into() });
        let turns = &broker.parts.groups.forwarded;
        let all = turns.acquire_many(limits::FORWARDED_MAX as u32 - 1).await.expect("it is never closed");
        assert_eq!(broker.delete_group(&Caller::ANONYMOUS, &"g".into(), false).await, unknown, "one turn is left");
        let last = turns.try_acquire().expect("it is given back");
        assert!(turns.try_acquire().is_err(), "there are no more");
        let group = "g".into();
        let waiting = broker.delete_group(&Caller::ANONYMOUS, &group, false);
        tokio::pin!(waiting);
        assert!(tokio::time::timeout(Duration::from_millis(300), &mut waiting).await.is_err(), "it waits its turn");
        drop((all, last));
        assert_eq!(waiting.await, unknown);
    }
}
