//! The end of a member: what it commits last, and how it leaves.

use tokio::time::{Instant, timeout};

use super::{
    Driver, Event, PAUSE, Reply, SETTLE,
    commits::{either, given_up, is_of_a_past_epoch, refusal},
    identity, unless_panicked,
};
use crate::client::{
    error::{ClientError, Effect},
    group::{calls::Identity, core::Due},
};

impl Driver {
    /// Commits for the last time, and says goodbye.
    pub(super) async fn close(mut self, reply: Reply) {
        self.readers.abort_all();
        self.settle_join().await;
        self.running.abort_all();
        let options = &self.calls.options;
        let last = match options.auto_commit {
            Some(_) => timeout(options.patience, self.last_commit()).await.unwrap_or_else(|_| {
                let (what, waited) = ("the last commit".to_string(), options.patience);
                let last = "no coordinator took it".to_string();
                Err(ClientError::Deadline { what, waited, effect: Effect::Unknown, last })
            }),
            None => Ok(()),
        };
        self.leave().await;
        let _ = reply.send(last); // The caller may have given up waiting.
    }

    async fn last_commit(&self) -> Result<(), ClientError> {
        let (began, mut has_beaten, mut effect) = (Instant::now(), false, Effect::Nothing);
        loop {
            let (who, dues) = self.last_dues().map_err(|error| given_up(effect, error, began.elapsed()))?;
            if dues.is_empty() {
                return Ok(());
            }
            match self.calls.commit(&who, &dues).await {
                Ok(refused) if !has_beaten && is_of_a_past_epoch(&refused, &dues) => {
                    (has_beaten, effect) = (true, Effect::Nothing);
                    if self.last_beat(who).await.is_err() {
                        return refusal(refused);
                    }
                }
                Ok(refused) => return refusal(refused),
                Err(error) if error.is_retriable() => {
                    effect = either(effect, error.effect());
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(given_up(effect, error, began.elapsed())),
            }
        }
    }

    fn last_dues(&self) -> Result<(Identity, Vec<Due>), ClientError> {
        let mut core = self.shared.lock();
        core.expire(self.shared.now());
        if core.has_lost() {
            return Err(ClientError::NotAMember);
        }
        let offsets = core.commit_all();
        Ok((identity(&core), core.dues(offsets)))
    }

    /// Learns the member's epoch. What the coordinator wants besides no longer matters.
    async fn last_beat(&self, who: Identity) -> Result<(), ClientError> {
        let (membership, owns) = {
            let core = self.shared.lock();
            (core.membership(), core.owns())
        };
        loop {
            let sent = self.shared.now();
            match self.calls.beat(who.clone(), owns.clone()).await {
                Ok(beat) => {
                    self.shared.lock().on_beat(membership, sent, beat);
                    return Ok(());
                }
                Err(error) if error.is_retriable() => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) async fn abandon(mut self) {
        self.readers.abort_all();
        self.settle_join().await;
        self.running.abort_all();
        self.leave().await;
    }

    /// A join under way is waited for a moment: who leaves before it is done is a member afterwards, of whom nobody
    /// knows, until its session is over.
    async fn settle_join(&mut self) {
        let is_joining = self.is_beating && self.shared.lock().member().is_empty();
        if !is_joining {
            return;
        }
        let joined = async {
            while self.is_beating {
                match self.running.join_next().await.and_then(unless_panicked) {
                    Some(event @ Event::Beat { .. }) => self.on_event(event),
                    Some(Event::Left | Event::Offsets { .. } | Event::Committed { .. }) => {}
                    None => return,
                }
            }
        };
        let is_answered = timeout(SETTLE, joined).await.is_ok();
        if let Some(join) = &mut self.join_as {
            join.is_unsure |= !is_answered;
        }
    }

    /// Says goodbye, also for a member that may have come of a join without an answer.
    async fn leave(&self) {
        let member = self.shared.lock().member().to_string();
        let unsure = self.join_as.as_ref().filter(|join| join.is_unsure).map(|join| join.id.clone());
        match (member.is_empty(), unsure) {
            (false, _) => self.calls.leave(member).await,
            (true, Some(unsure)) => self.calls.leave(unsure).await,
            (true, None) => {}
        }
    }
}
