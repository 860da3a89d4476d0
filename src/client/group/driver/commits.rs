//! Commits of a member, those by hand and those that are due by the clock: when one goes, and what its answer means.

use std::{collections::BTreeSet, time::Duration};

use super::{ByHand, Driver, Event, PAUSE, Past, Reply, identity};
use crate::{
    client::{
        commit::{OffsetToCommit, RefusedOffset},
        error::{ClientError, Effect, ErrorCode},
        group::{
            Permits,
            calls::Identity,
            core::{Core, Due, NO_HOLD, Now},
        },
    },
    types::TopicPartition,
};

impl Driver {
    /// Starts a commit if one is due. Returns when one will be.
    pub(super) fn step_commits(&mut self, core: &mut Core<Permits>, now: Now) -> Option<Now> {
        if self.committing.is_some() {
            return None;
        }
        let who = identity(core);
        if let Some(first) = self.by_hand.front() {
            let is_ours = !who.member.is_empty() && core.are_held_still(&first.dues);
            let end = first.began + self.calls.options.patience;
            if !is_ours || first.past.is_some() && now >= end {
                let first = self.by_hand.pop_front().expect("just seen");
                first.give_up(ClientError::NotAMember, now);
                return Some(now);
            }
            if first.past.as_ref().is_some_and(|past| core.heard() <= past.since) {
                return Some(end);
            }
            if first.next > now {
                return Some(first.next);
            }
            self.is_by_hand = true;
            let dues = first.dues.clone();
            self.commit(core.membership(), who, dues);
            return None;
        }
        let dues = core.due(now);
        if dues.is_empty() {
            return core.next_due();
        }
        self.is_by_hand = false;
        self.commit(core.membership(), who, dues);
        None
    }

    fn commit(&mut self, membership: u64, who: Identity, dues: Vec<Due>) {
        let calls = self.calls.clone();
        let of: BTreeSet<_> = dues.iter().map(|due| due.offset.at.clone()).collect();
        if let Some(asking) = &mut self.asking {
            asking.retain(|at| !of.contains(at));
        }
        self.committing = Some(of);
        self.running
            .spawn(async move { Event::Committed { membership, result: calls.commit(&who, &dues).await, dues } });
    }

    pub(super) fn queue(&mut self, offsets: Vec<OffsetToCommit>, reply: Reply) {
        let began = self.shared.now();
        let dues = self.shared.lock().dues(offsets);
        self.by_hand.push_back(ByHand {
            dues,
            reply,
            began,
            effect: Effect::Nothing,
            last: None,
            next: began,
            past: None,
        });
    }

    pub(super) fn on_committed(
        &mut self,
        membership: u64,
        dues: &[Due],
        result: Result<Vec<RefusedOffset>, ClientError>,
        now: Now,
        jitter: u32,
    ) {
        let shared = self.shared.clone();
        match &result {
            Ok(refused) => {
                let which: BTreeSet<_> = refused.iter().map(|refused| refused.at.clone()).collect();
                let mut core = shared.lock();
                core.on_committed(dues, &which);
                let is_gone = |error: &ClientError| error.code() == Some(ErrorCode::TopicReplaced);
                refused.iter().filter(|it| is_gone(&it.error)).for_each(|it| core.on_replaced(dues, &it.at));
                drop(core);
                if !self.is_by_hand {
                    for RefusedOffset { at, error } in refused {
                        tracing::debug!(partition = %at, %error, "the commit was refused");
                    }
                }
            }
            Err(error) => {
                let patience = self.calls.options.patience;
                let lasting = shared.lock().on_commit_failed(membership, error, now, jitter, patience);
                if let Some(error) = lasting.filter(|_| !self.is_by_hand) {
                    let group = &self.calls.options.group;
                    tracing::warn!(group, %error, "automatic commits fail, trying on");
                }
            }
        }
        if self.is_by_hand {
            self.on_committed_by_hand(result, now);
        }
    }

    fn on_committed_by_hand(&mut self, result: Result<Vec<RefusedOffset>, ClientError>, now: Now) {
        let mut first = self.by_hand.pop_front().expect("the one under way is the first");
        match result {
            Ok(refused) if first.past.is_none() && is_of_a_past_epoch(&refused, &first.dues) => {
                // Whatever became of earlier tries, this answer says how it stands.
                (first.past, first.effect) = (Some(Past { since: now, refused }), Effect::Nothing);
                self.shared.lock().beat_after(now);
                self.by_hand.push_front(first);
            }
            Ok(refused) => first.end(refusal(refused)),
            Err(error) if error.code() == Some(ErrorCode::UnknownMember) => {
                first.give_up(ClientError::NotAMember, now);
            }
            Err(error) if error.is_retriable() => {
                // Asking again is right whatever became of it: the same offsets again are the same commit.
                first.effect = either(first.effect, error.effect());
                let waited = now.saturating_sub(first.began);
                if waited >= self.calls.options.patience {
                    let (what, last) = ("commit".to_string(), error.to_string());
                    let effect = first.effect;
                    return first.end(Err(ClientError::Deadline { what, waited, effect, last }));
                }
                (first.last, first.next) = (Some(error), now + PAUSE);
                self.by_hand.push_front(first);
            }
            Err(error) => first.give_up(error, now),
        }
    }
}

impl ByHand {
    /// It is not tried again, because of `error`. What is known of earlier tries counts more.
    fn give_up(mut self, error: ClientError, now: Now) {
        let waited = now.saturating_sub(self.began);
        let result = match (self.effect, self.past.take()) {
            (Effect::Nothing, Some(past)) => refusal(past.refused),
            (effect, _) => Err(given_up(effect, error, waited)),
        };
        self.end(result);
    }

    fn end(self, result: Result<(), ClientError>) {
        let _ = self.reply.send(result); // The caller may have given up waiting.
    }
}

/// Whether something was refused that is held here: it was assigned anew, as the same partition of a new topic is,
/// and this member says an epoch from before. The answer to a beat tells it the present one. Not where it is not known
/// which topic was read: the old epoch alone keeps an offset of the one from being committed for the other.
pub(super) fn is_of_a_past_epoch(refused: &[RefusedOffset], dues: &[Due]) -> bool {
    let fenced = refused.iter().filter(|refused| refused.error.code() == Some(ErrorCode::FencedMember));
    let fenced: BTreeSet<&TopicPartition> = fenced.map(|refused| &refused.at).collect();
    let mut held = dues.iter().filter(|due| due.hold != NO_HOLD && fenced.contains(&due.offset.at)).peekable();
    held.peek().is_some() && held.all(|due| !due.topic_id.is_empty())
}

/// The outcome where nothing is tried again: `error`, unless an earlier try may have been done, unanswered.
pub(super) fn given_up(effect: Effect, error: ClientError, waited: Duration) -> ClientError {
    match effect {
        Effect::Nothing => error,
        Effect::Unknown => {
            let (what, last) = ("commit".to_string(), error.to_string());
            ClientError::Deadline { what, waited, effect, last }
        }
    }
}

/// Returns the effect of two tries of the same commit together.
pub(super) fn either(one: Effect, other: Effect) -> Effect {
    match (one, other) {
        (Effect::Nothing, Effect::Nothing) => Effect::Nothing,
        (Effect::Unknown, _) | (_, Effect::Unknown) => Effect::Unknown,
    }
}

pub(super) fn refusal(refused: Vec<RefusedOffset>) -> Result<(), ClientError> {
    let others = refused.len().saturating_sub(1);
    match refused.into_iter().next() {
        None => Ok(()),
        Some(RefusedOffset { at: partition, error }) => {
            let error = Box::new(error);
            Err(ClientError::CommitRefused { partition, others, error })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client::group::core_tests::broker_error,
        types::{Offset, PartitionId},
    };

    /// The coordinator takes an offset without a topic id for the topic of that name: only its old epoch keeps one of
    /// the old topic from being committed for the new one.
    #[test]
    fn p4_what_is_not_known_to_be_of_the_present_topic_is_not_committed_in_a_later_epoch() {
        let at = |partition| TopicPartition { topic: "t".into(), partition: PartitionId(partition) };
        let due = |partition, hold, topic_id: &str| Due {
            hold,
            topic_id: topic_id.into(),
            offset: OffsetToCommit::new(at(partition), Offset(1)),
        };
        let refused = |partition, code| vec![RefusedOffset { at: at(partition), error: broker_error(code, false) }];
        let dues = [due(0, 1, "id"), due(1, 2, ""), due(2, NO_HOLD, "")];
        assert!(is_of_a_past_epoch(&refused(0, ErrorCode::FencedMember), &dues));
        assert!(!is_of_a_past_epoch(&refused(1, ErrorCode::FencedMember), &dues), "which topic is not known");
        assert!(!is_of_a_past_epoch(&refused(2, ErrorCode::FencedMember), &dues), "it is not held");
        assert!(!is_of_a_past_epoch(&refused(0, ErrorCode::TopicReplaced), &dues), "another reason");
        let both = [refused(0, ErrorCode::FencedMember), refused(1, ErrorCode::FencedMember)].concat();
        assert!(!is_of_a_past_epoch(&both, &dues), "one of them may be of another topic");
    }
}
