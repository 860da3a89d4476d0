//! The one task behind a member: it beats, asks for committed offsets, commits, starts and stops readers, and reads
//! the clock. What follows from an answer, `core` says.
//!
//! Promises: one beat, one commit and one question for offsets at a time, so that answers come in the order of what
//! they answer; a commit by hand is answered within the patience. At its end all its tasks end.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    task::{AbortHandle, JoinError, JoinSet},
    time::{Instant, sleep_until, timeout},
};

use super::{
    COMMANDS_MAX, Shared,
    calls::{Calls, Committed, Identity},
    core::{Beat, Due, NO_HOLD, Now},
    reader::Reader,
};
use crate::{
    client::{
        commit::{OffsetToCommit, RefusedOffset},
        error::{ClientError, Effect, ErrorCode},
    },
    types::TopicPartition,
};

/// Without anything to wait for it looks this often.
const IDLE: Duration = Duration::from_secs(1);
/// Between two tries of the last commit.
const PAUSE: Duration = Duration::from_millis(200);
/// What a join under way may take at the end. An election is not waited for.
const SETTLE: Duration = Duration::from_secs(1);

pub(super) type Reply = oneshot::Sender<Result<(), ClientError>>;

pub(super) enum Command {
    Commit { offsets: Vec<OffsetToCommit>, reply: Reply },
    Close { reply: Reply },
}

/// A commit that the application waits for.
struct ByHand {
    dues: Vec<Due>,
    reply: Reply,
    began: Now,
    effect: Effect,
    last: Option<ClientError>,
    /// Not before.
    next: Now,
    past: Option<Past>,
}

/// A first try was refused for an epoch that may have passed. The second is not before a beat that was sent later is
/// answered; if it never comes to that, the refusal stands, since the rest of the offsets is committed.
struct Past {
    since: Now,
    refused: Vec<RefusedOffset>,
}

/// The id under which this member joins. A join whose answer was lost is repeated with the same one, so that no second
/// member comes of it.
struct JoinAs {
    id: String,
    /// An id serves one membership: the coordinator relies on that one that is gone does not come back.
    membership: u64,
    since: Now,
    /// A try may have been done although its answer never came: there may be a member of this id.
    is_unsure: bool,
}

enum Event {
    /// A membership was given up.
    Left,
    Beat {
        membership: u64,
        sent: Now,
        result: Result<Beat, ClientError>,
    },
    Offsets {
        asked: Vec<(u64, TopicPartition)>,
        result: Result<Committed, ClientError>,
    },
    Committed {
        membership: u64,
        dues: Vec<Due>,
        result: Result<Vec<RefusedOffset>, ClientError>,
    },
}

pub(super) struct Driver {
    calls: Calls,
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    running: JoinSet<Event>,
    readers: JoinSet<()>,
    by_number: HashMap<u64, AbortHandle>,
    is_beating: bool,
    is_asking: bool,
    is_committing: bool,
    /// The first is the one under way, if `is_by_hand`.
    by_hand: VecDeque<ByHand>,
    is_by_hand: bool,
    join_as: Option<JoinAs>,
}

impl Driver {
    pub fn new(calls: Calls, shared: Arc<Shared>, commands: mpsc::Receiver<Command>) -> Driver {
        Driver {
            calls,
            shared,
            commands,
            running: JoinSet::new(),
            readers: JoinSet::new(),
            by_number: HashMap::new(),
            is_beating: false,
            is_asking: false,
            is_committing: false,
            by_hand: VecDeque::new(),
            is_by_hand: false,
            join_as: None,
        }
    }

    /// Until the handle is closed or dropped, or the group refuses this member for good.
    pub async fn run(mut self) {
        loop {
            let wake = self.step();
            if self.shared.lock().fatal().is_some() {
                return;
            }
            let shared = self.shared.clone();
            let takes_commands = self.by_hand.len() < COMMANDS_MAX;
            tokio::select! {
                Some(ended) = self.running.join_next() => if let Some(event) = unless_panicked(ended) {
                    self.on_event(event);
                },
                Some(ended) = self.readers.join_next() => {
                    let _ = unless_panicked(ended);
                }
                command = self.commands.recv(), if takes_commands => match command {
                    Some(Command::Commit { offsets, reply }) => self.queue(offsets, reply),
                    Some(Command::Close { reply }) => return self.close(reply).await,
                    None => return self.abandon().await,
                },
                () = shared.work.notified() => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Starts what is due. Returns when to look again.
    fn step(&mut self) -> Instant {
        let shared = self.shared.clone();
        let mut core = shared.lock();
        let now = shared.now();
        core.expire(now);
        core.leave_if_stuck(now);
        // A waiting call is woken, and so seen, several times in the interval that it may not exceed.
        let mut wake = now + IDLE.min(self.calls.options.poll_interval_max / 4);
        if let Some(member) = core.take_leaving() {
            let calls = self.calls.clone();
            self.running.spawn(async move {
                calls.leave(member).await;
                Event::Left
            });
        }
        if !self.is_beating {
            if core.next_beat() <= now {
                self.is_beating = true;
                let (calls, membership) = (self.calls.clone(), core.membership());
                let (who, owns) = (identity(&core), core.owns());
                let join_as = who.member.is_empty().then(|| self.join_as(membership, now));
                self.running.spawn(async move {
                    let result = match join_as {
                        Some(id) => calls.join(id).await,
                        None => calls.beat(who, owns).await,
                    };
                    Event::Beat { membership, sent: now, result }
                });
            } else {
                wake = wake.min(core.next_beat());
            }
        }
        if !self.is_asking {
            let asked = core.unknown(now);
            if !asked.is_empty() {
                self.is_asking = true;
                let calls = self.calls.clone();
                let of: Vec<_> = asked.iter().map(|(_, at)| at.clone()).collect();
                self.running.spawn(async move { Event::Offsets { asked, result: calls.committed(&of).await } });
            } else if let Some(retry) = core.fetch_retry() {
                wake = wake.min(retry);
            }
        }
        wake = self.step_commits(&mut core, now).into_iter().fold(wake, Duration::min);
        wake = core.session_ends().into_iter().fold(wake, Duration::min);
        for reader in core.take_stops() {
            if let Some(task) = self.by_number.remove(&reader) {
                task.abort();
            }
        }
        let starts = core.take_starts();
        drop(core);
        for start in starts {
            let number = start.reader;
            let task = self.readers.spawn(self.reader().run(start));
            self.by_number.insert(number, task);
        }
        shared.ready.notify_one();
        shared.opened + wake
    }

    /// The id to join with: the last one while there may be a member of that id, or a new one.
    fn join_as(&mut self, membership: u64, now: Now) -> String {
        let session = self.calls.options.session_timeout;
        let is_good = |join: &JoinAs| join.membership == membership && now.saturating_sub(join.since) < session;
        let calls = &self.calls;
        let join = match self.join_as.take().filter(is_good) {
            Some(join) => join,
            None => JoinAs { id: calls.draw_member_id(), membership, since: now, is_unsure: false },
        };
        self.join_as.insert(join).id.clone()
    }

    fn reader(&self) -> Reader {
        let options = &self.calls.options;
        Reader {
            cluster: self.calls.cluster.clone(),
            shared: self.shared.clone(),
            offset_reset: options.offset_reset,
            patience: options.patience,
            buffer_bytes_max: options.buffer_bytes_max,
            buffer_records_max: options.buffer_records_max,
        }
    }

    /// Starts a commit if one is due. Returns when one will be.
    fn step_commits(&mut self, core: &mut super::Core<super::Permits>, now: Now) -> Option<Now> {
        if self.is_committing {
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
            (self.is_committing, self.is_by_hand) = (true, true);
            let dues = first.dues.clone();
            self.commit(core.membership(), who, dues);
            return None;
        }
        let dues = core.due(now);
        if dues.is_empty() {
            return core.next_due();
        }
        (self.is_committing, self.is_by_hand) = (true, false);
        self.commit(core.membership(), who, dues);
        None
    }

    fn commit(&mut self, membership: u64, who: Identity, dues: Vec<Due>) {
        let calls = self.calls.clone();
        self.running
            .spawn(async move { Event::Committed { membership, result: calls.commit(&who, &dues).await, dues } });
    }

    fn queue(&mut self, offsets: Vec<OffsetToCommit>, reply: Reply) {
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

    fn on_event(&mut self, event: Event) {
        let shared = self.shared.clone();
        let (now, jitter) = (shared.now(), self.calls.cluster.world().rng.below(1024) as u32);
        let patience = self.calls.options.patience;
        match event {
            Event::Left => {}
            Event::Beat { membership, sent, result } => {
                self.is_beating = false;
                let mut core = shared.lock();
                match result {
                    Ok(beat) => core.on_beat(membership, sent, beat),
                    Err(error) => {
                        tracing::debug!(group = self.calls.options.group, %error, "heartbeat failed");
                        if let Some(join) = &mut self.join_as {
                            join.is_unsure |= error.effect() == Effect::Unknown;
                        }
                        core.on_beat_failed(membership, error, now, jitter, patience);
                    }
                }
            }
            Event::Offsets { asked, result } => {
                self.is_asking = false;
                match result {
                    Ok(found) => {
                        let mut core = shared.lock();
                        core.identify(&asked, &found.topic_ids);
                        core.on_offsets(&asked, &found.offsets);
                    }
                    Err(error) => shared.lock().on_offsets_failed(error, now, jitter, patience),
                }
            }
            Event::Committed { membership, dues, result } => {
                self.is_committing = false;
                self.on_committed(membership, &dues, result, now, jitter);
            }
        }
    }

    fn on_committed(
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

    /// The last commit, and goodbye.
    async fn close(mut self, reply: Reply) {
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

    async fn abandon(mut self) {
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

fn identity(core: &super::Core<super::Permits>) -> Identity {
    Identity { member: core.member().to_string(), epoch: core.epoch() }
}

fn unless_panicked<T>(ended: Result<T, JoinError>) -> Option<T> {
    match ended.map_err(JoinError::try_into_panic) {
        Ok(value) => Some(value),
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // Aborted.
        Err(Err(_)) => None,
    }
}

/// Whether something was refused that is held here: it was assigned anew, as the same partition of a new topic is,
/// and this member says an epoch from before. The answer to a beat tells it the present one. Not where it is not known
/// which topic was read: the old epoch alone keeps an offset of the one from being committed for the other.
fn is_of_a_past_epoch(refused: &[RefusedOffset], dues: &[Due]) -> bool {
    let fenced = refused.iter().filter(|refused| refused.error.code() == Some(ErrorCode::FencedMember));
    let fenced: BTreeSet<&TopicPartition> = fenced.map(|refused| &refused.at).collect();
    let mut held = dues.iter().filter(|due| due.hold != NO_HOLD && fenced.contains(&due.offset.at)).peekable();
    held.peek().is_some() && held.all(|due| !due.topic_id.is_empty())
}

/// The outcome where nothing is tried again: `error`, unless an earlier try may have been done, unanswered.
fn given_up(effect: Effect, error: ClientError, waited: Duration) -> ClientError {
    match effect {
        Effect::Nothing => error,
        Effect::Unknown => {
            let (what, last) = ("commit".to_string(), error.to_string());
            ClientError::Deadline { what, waited, effect, last }
        }
    }
}

/// Of two tries of the same commit.
fn either(one: Effect, other: Effect) -> Effect {
    match (one, other) {
        (Effect::Nothing, Effect::Nothing) => Effect::Nothing,
        (Effect::Unknown, _) | (_, Effect::Unknown) => Effect::Unknown,
    }
}

fn refusal(refused: Vec<RefusedOffset>) -> Result<(), ClientError> {
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
