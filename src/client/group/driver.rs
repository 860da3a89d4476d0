//! The one task behind a member: it beats, asks for committed offsets, commits, starts and stops readers, and reads
//! the clock. What follows from an answer, `core` says.
//!
//! Promises: one beat, one commit and one question for offsets at a time, so that answers come in the order of what
//! they answer; where a partition begins is asked between two commits of it, not beside one; a commit by hand is answered
//! within the patience. At its end all its tasks end.

mod closing;
mod commits;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    task::{AbortHandle, JoinError, JoinSet},
    time::{Instant, sleep_until},
};

use super::{
    COMMANDS_MAX, Shared,
    calls::{Calls, Committed, Identity},
    core::{Beat, Due, Now},
    reader::Reader,
};
use crate::{
    client::{
        commit::{OffsetToCommit, RefusedOffset},
        error::{ClientError, Effect},
    },
    types::TopicPartition,
};

/// The driver looks this often if there is nothing to wait for.
const IDLE: Duration = Duration::from_secs(1);
/// How long to wait between two tries of a commit.
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
    /// The time before which it is not tried again.
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
    /// What the question under way is of, but for what a commit began of since: the answer may tell of the one before.
    asking: Option<BTreeSet<TopicPartition>>,
    /// What the commit under way is of.
    committing: Option<BTreeSet<TopicPartition>>,
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
            asking: None,
            committing: None,
            by_hand: VecDeque::new(),
            is_by_hand: false,
            join_as: None,
        }
    }

    /// Works until the handle is closed or dropped, or the group refuses this member for good.
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
        if self.asking.is_none() {
            // Not while a commit of it is under way: that may be done after the answer, and the answer tells of the one before.
            let is_committing =
                |at: &TopicPartition| self.committing.as_ref().is_some_and(|committing| committing.contains(at));
            let mut asked = core.unknown(now);
            asked.retain(|(_, at)| !is_committing(at));
            if !asked.is_empty() {
                let calls = self.calls.clone();
                let of: Vec<_> = asked.iter().map(|(_, at)| at.clone()).collect();
                self.asking = Some(of.iter().cloned().collect());
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
            Event::Offsets { mut asked, result } => {
                let asking = self.asking.take().unwrap_or_default();
                asked.retain(|(_, at)| asking.contains(at));
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
                self.committing = None;
                self.on_committed(membership, &dues, result, now, jitter);
            }
        }
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
