//! What a member holds, reads, has handed out and may commit: a pure state machine. No I/O, no clock, no bytes.
//!
//! A partition's way: the coordinator assigns it (`Unknown`: where to begin is not known), a reader is started
//! (`Reading`), the coordinator wants it back (`Revoking`), the application was told (`Told`), its next call lets it
//! go (`Releasing` until its last offset is committed), it is gone. From any of these it may be lost at once.
//! Each holding and each reader has a number of its own, so that late news of an earlier one finds nothing.

mod commits;
mod membership;
mod readers;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{GroupEvent, GroupRecords, OffsetJump, OffsetReset};
use crate::{
    client::{commit::OffsetToCommit, consumer::ConsumedRecord, error::ClientError},
    types::{LeaderEpoch, Offset, TopicPartition},
};

/// Time since the consumer was opened.
pub(super) type Now = Duration;

/// Beats come no faster than this, whatever the coordinator says, and thrice a session at least.
const BEAT_MIN: Duration = Duration::from_millis(50);
const BEATS_PER_SESSION: u32 = 3;
/// How long the first pause lasts after a beat or a commit that failed. An election takes a second or so.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// Errors that wait for the application. More say nothing new.
pub(super) const ERRORS_MAX: usize = 16;
/// The number that no holding has: they count from 1.
pub(super) const NO_HOLD: u64 = 0;

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    Offset(Offset),
    /// The group has no committed offset here.
    Reset,
}

/// A reader to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub reader: u64,
    pub at: TopicPartition,
    /// The topic to read; empty: not known, the reader finds out.
    pub topic_id: String,
    pub from: From,
}

/// Records that a reader brought. `P` is what they hold of the memory budget.
#[derive(Debug)]
pub(super) struct Brought<P> {
    pub records: Vec<ConsumedRecord>,
    pub high_watermark: Offset,
    /// The leader epoch of the last record.
    pub leader_epoch: LeaderEpoch,
    pub permits: P,
}

/// One offset to commit, and which holding it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub hold: u64,
    /// The topic that was read; empty: not known.
    pub topic_id: String,
    pub offset: OffsetToCommit,
}

/// What the coordinator answered to a beat.
pub(super) struct Beat {
    pub member: String,
    pub epoch: i32,
    pub assigned: Vec<TopicPartition>,
    pub next_beat: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its committed offset is not known yet.
    Unknown,
    /// It is read. There is no `reader` while it is paused, or after its reader failed.
    Reading {
        reader: Option<u64>,
    },
    Revoking,
    Told,
    Releasing,
}

#[derive(Debug)]
struct Held {
    hold: u64,
    /// The topic that is read; empty: not known yet.
    topic_id: String,
    stage: Stage,
    /// The application knows that it is ours.
    told: bool,
    paused: bool,
    /// The next to be handed out; None: not known.
    position: Option<Offset>,
    /// Everything below was processed. Never above `position` but after a seek.
    processed: Option<Offset>,
    leader_epoch: Option<LeaderEpoch>,
    committed: Option<Offset>,
}

#[derive(Debug)]
struct Chunk<P> {
    at: TopicPartition,
    what: Piece<P>,
}

/// What a reader found, to be handed out in this order.
#[derive(Debug)]
enum Piece<P> {
    Records {
        records: std::vec::IntoIter<ConsumedRecord>,
        high_watermark: Offset,
        leader_epoch: LeaderEpoch,
        _permits: P,
    },
    /// The place was not there (any more).
    Jump { from: Offset, to: Offset },
    /// The reader could go no further.
    Failed(ClientError),
}

/// What the application has in its hands: processed once it calls again.
#[derive(Debug)]
struct InHand {
    at: TopicPartition,
    hold: u64,
    leader_epoch: Option<LeaderEpoch>,
}

/// How often something failed since it last worked, when to try again, and since when it has not worked.
#[derive(Debug, Default)]
struct Retry {
    failures: u32,
    next: Now,
    failing_since: Option<Now>,
}

/// What of the options decides something here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub session_timeout: Duration,
    pub poll_interval_max: Duration,
    pub auto_commit: Option<Duration>,
    pub offset_reset: OffsetReset,
}

#[derive(Debug)]
pub(super) struct Core<P> {
    rules: Rules,
    member: String,
    epoch: i32,
    /// Counts memberships: an answer to a beat of an earlier one means nothing.
    membership: u64,
    /// When the coordinator may regard this member as gone; None while it is no member.
    session_ends: Option<Now>,
    held: BTreeMap<TopicPartition, Held>,
    chunks: VecDeque<Chunk<P>>,
    in_hand: Option<InHand>,
    lost: Vec<TopicPartition>,
    /// Partitions of topics that are gone, while others have their names.
    replaced: Vec<TopicPartition>,
    errors: VecDeque<ClientError>,
    fatal: Option<ClientError>,
    starts: Vec<Start>,
    stops: Vec<u64>,
    beats: Retry,
    /// When the last answered beat was sent.
    heard: Now,
    /// There must be a beat later than this.
    beat_after: Option<Now>,
    commits: Retry,
    fetches: Retry,
    next_commit: Now,
    next_number: u64,
    /// When the application was last seen in a call of `next`.
    polled: Now,
    /// It was not for too long: this member has left, and joins again when it calls.
    is_absent: bool,
    /// A membership to end, by the member's id.
    leaving: Option<String>,
}

impl<P> Core<P> {
    pub fn new(rules: Rules) -> Core<P> {
        Core {
            rules,
            member: String::new(),
            epoch: 0,
            membership: 0,
            session_ends: None,
            held: BTreeMap::new(),
            chunks: VecDeque::new(),
            in_hand: None,
            lost: Vec::new(),
            replaced: Vec::new(),
            errors: VecDeque::new(),
            fatal: None,
            starts: Vec::new(),
            stops: Vec::new(),
            beats: Retry::default(),
            heard: Duration::ZERO,
            beat_after: None,
            commits: Retry::default(),
            fetches: Retry::default(),
            next_commit: Duration::ZERO,
            next_number: 0,
            polled: Duration::ZERO,
            is_absent: false,
            leaving: None,
        }
    }

    pub fn member(&self) -> &str {
        &self.member
    }

    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    pub fn membership(&self) -> u64 {
        self.membership
    }

    pub fn fatal(&self) -> Option<ClientError> {
        self.fatal.clone()
    }

    pub fn assignment(&self) -> Vec<TopicPartition> {
        let is_ours = |(_, held): &(_, &Held)| held.told && held.is_active();
        self.held.iter().filter(is_ours).map(|(at, _)| at.clone()).collect()
    }

    pub fn position(&self, at: &TopicPartition) -> Option<Offset> {
        self.held.get(at).filter(|held| held.told && held.is_active()).and_then(|held| held.position)
    }

    // The application's side.

    /// The application comes back: what it was given is processed, what it was told to let go of goes.
    pub fn begin_next(&mut self, now: Now) {
        self.come_back(now);
        self.settle_hand();
        let is_auto = self.rules.auto_commit.is_some();
        let mut released = false;
        self.held.retain(|_, held| {
            if held.stage != Stage::Told {
                return true;
            }
            let keep = is_auto && held.is_dirty();
            released |= !keep;
            held.stage = Stage::Releasing;
            keep
        });
        if released {
            self.beats.next = Duration::ZERO;
        }
    }

    fn settle_hand(&mut self) {
        let Some(hand) = self.in_hand.take() else { return };
        if let Some(held) = self.held.get_mut(&hand.at).filter(|held| held.hold == hand.hold) {
            held.processed = held.position;
            held.leader_epoch = hand.leader_epoch;
        }
    }

    /// The next event, if there is one.
    pub fn take(&mut self, now: Now, records_max: usize) -> Option<Result<GroupEvent, ClientError>> {
        // The application may have slept through the end of its session, and the driver with it.
        self.expire(now);
        self.come_back(now);
        if !self.lost.is_empty() {
            return Some(Ok(GroupEvent::Lost(std::mem::take(&mut self.lost))));
        }
        if !self.replaced.is_empty() {
            return Some(Ok(GroupEvent::Replaced(std::mem::take(&mut self.replaced))));
        }
        let revoked = self.tell(|held| held.stage == Stage::Revoking, |held| held.stage = Stage::Told);
        if !revoked.is_empty() {
            return Some(Ok(GroupEvent::Revoked(revoked)));
        }
        let assigned = self.tell(|held| !held.told && held.is_active(), |held| held.told = true);
        if !assigned.is_empty() {
            return Some(Ok(GroupEvent::Assigned(assigned)));
        }
        if let Some(error) = self.fatal.clone().or_else(|| self.errors.pop_front()) {
            return Some(Err(error));
        }
        self.take_chunk(records_max)
    }

    fn tell(&mut self, which: impl Fn(&Held) -> bool, mark: impl Fn(&mut Held)) -> Vec<TopicPartition> {
        let found = self.held.iter_mut().filter(|(_, held)| which(held));
        found.map(|(at, held)| (at.clone(), mark(held)).0).collect()
    }

    fn take_chunk(&mut self, records_max: usize) -> Option<Result<GroupEvent, ClientError>> {
        let chunk = self.chunks.front_mut()?;
        let at = chunk.at.clone();
        let held = self.held.get_mut(&at).expect("the chunks of what is not held were dropped with it");
        let (event, is_whole) = match &mut chunk.what {
            Piece::Records { records, high_watermark, leader_epoch, _permits: _ } => {
                let taken: Vec<_> = records.by_ref().take(records_max).collect();
                let is_whole = records.len() == 0;
                let last = taken.last().expect("no empty chunk is kept");
                held.position = Some(Offset(last.offset.0 + 1));
                let leader_epoch = if is_whole { Some(*leader_epoch) } else { held.leader_epoch };
                self.in_hand = Some(InHand { at: at.clone(), hold: held.hold, leader_epoch });
                let records = GroupRecords { at, records: taken, high_watermark: *high_watermark };
                (Ok(GroupEvent::Records(records)), is_whole)
            }
            Piece::Jump { from, to } => {
                // Also without a record, so that the place is the same after a restart.
                (held.position, held.processed) = (Some(*to), Some(*to));
                (Ok(GroupEvent::Jumped(OffsetJump { at, from: *from, to: *to })), true)
            }
            Piece::Failed(error) => (Err(error.clone()), true),
        };
        if is_whole {
            self.chunks.pop_front();
        }
        Some(event)
    }

    /// Everything handed out, as processed: what a commit by hand commits.
    pub fn commit_all(&mut self) -> Vec<OffsetToCommit> {
        self.settle_hand();
        let dirty = self.held.iter().filter(|(_, held)| held.is_dirty());
        dirty.filter_map(|(at, held)| held.due(at)).map(|due| due.offset).collect()
    }

    /// Returns what [`Core::commit_all`] returns, if this is a member and has been one ever since the application last
    /// heard what is its own. Otherwise nothing of what was handed out is left to commit, which is not the same as
    /// committed.
    pub fn commit_all_as_member(&mut self, now: Now) -> Result<Vec<OffsetToCommit>, ClientError> {
        // The application may have worked through the end of its session, and the driver slept.
        self.expire(now);
        if self.session_ends.is_none() || self.has_lost() {
            return Err(self.fatal.clone().unwrap_or(ClientError::NotAMember));
        }
        Ok(self.commit_all())
    }

    /// Whether what these offsets are of is held as it was when they were queued. A holding that was lost and came
    /// back may have been read further by others in between.
    pub fn are_held_still(&self, dues: &[Due]) -> bool {
        let is_same = |due: &Due| self.held.get(&due.offset.at).is_some_and(|held| held.hold == due.hold);
        dues.iter().all(|due| due.hold == NO_HOLD || is_same(due))
    }

    /// The holdings that these offsets are of, [`NO_HOLD`] where there is none (the coordinator will refuse it).
    pub fn dues(&self, offsets: Vec<OffsetToCommit>) -> Vec<Due> {
        let due = |offset: OffsetToCommit| {
            let held = self.held.get(&offset.at);
            let hold = held.map_or(NO_HOLD, |held| held.hold);
            Due { hold, topic_id: held.map(|held| held.topic_id.clone()).unwrap_or_default(), offset }
        };
        offsets.into_iter().map(due).collect()
    }

    pub fn seek(&mut self, at: &TopicPartition, offset: Offset) -> Result<(), ClientError> {
        if offset.0 < 0 {
            return Err(ClientError::Invalid { detail: format!("offset {offset}: offsets count from 0") });
        }
        self.active(at)?;
        if self.in_hand.as_ref().is_some_and(|hand| hand.at == *at) {
            self.in_hand = None;
        }
        self.stop_reader(at);
        let held = self.held.get_mut(at).expect("just found");
        (held.position, held.processed, held.leader_epoch) = (Some(offset), Some(offset), None);
        held.stage = Stage::Reading { reader: None };
        self.start_reader(at);
        Ok(())
    }

    pub fn set_paused(&mut self, at: &TopicPartition, paused: bool) -> Result<(), ClientError> {
        let held = self.active(at)?;
        let was = std::mem::replace(&mut held.paused, paused);
        match (was, paused) {
            (false, true) => self.stop_reader(at),
            (true, false) => self.start_reader(at),
            (true, true) | (false, false) => {}
        }
        Ok(())
    }

    /// What the application may speak of: told assigned. Before that it may mean an earlier holding, which was lost.
    fn active(&mut self, at: &TopicPartition) -> Result<&mut Held, ClientError> {
        let held = self.held.get_mut(at).filter(|held| held.told && held.is_active());
        held.ok_or_else(|| ClientError::NotAssigned { partition: at.clone() })
    }

    fn report(&mut self, error: ClientError) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push_back(error);
        }
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    #[cfg(test)]
    pub fn buffered(&self) -> usize {
        let records = |chunk: &Chunk<P>| match &chunk.what {
            Piece::Records { records, .. } => records.len(),
            Piece::Jump { .. } | Piece::Failed(_) => 0,
        };
        self.chunks.iter().map(records).sum()
    }

    /// Every chunk is of a partition that is read: by a reader that runs, or ended with the last of them.
    #[cfg(test)]
    pub fn check(&self) {
        for chunk in &self.chunks {
            let stage = self.held.get(&chunk.at).map(|held| held.stage);
            let is_last = matches!(chunk.what, Piece::Failed(_));
            let is_read = matches!(stage, Some(Stage::Reading { .. }));
            assert!(is_read && (!is_last || stage == Some(Stage::Reading { reader: None })), "{}: {stage:?}", chunk.at);
        }
    }
}

impl Held {
    fn new(hold: u64) -> Held {
        Held {
            hold,
            topic_id: String::new(),
            stage: Stage::Unknown,
            told: false,
            paused: false,
            position: None,
            processed: None,
            leader_epoch: None,
            committed: None,
        }
    }

    /// Whether it is to be read, and not on its way out.
    fn is_active(&self) -> bool {
        match self.stage {
            Stage::Unknown | Stage::Reading { .. } => true,
            Stage::Revoking | Stage::Told | Stage::Releasing => false,
        }
    }

    fn is_dirty(&self) -> bool {
        self.processed.is_some() && self.processed != self.committed
    }

    fn due(&self, at: &TopicPartition) -> Option<Due> {
        let offset = OffsetToCommit {
            at: at.clone(),
            offset: self.processed?,
            leader_epoch: self.leader_epoch,
            metadata: String::new(),
        };
        Some(Due { hold: self.hold, topic_id: self.topic_id.clone(), offset })
    }
}

impl Retry {
    /// Returns the error if it has lasted so long that the caller should hear of it.
    fn failed(&mut self, error: ClientError, now: Now, jitter: u32, patience: Duration) -> Option<ClientError> {
        let step = PAUSE_MIN.saturating_mul(1 << self.failures.min(8)).min(PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        self.next = now + step / 2 + step.mul_f64(f64::from(jitter % 1024) / 2048.0);
        let since = *self.failing_since.get_or_insert(now);
        if now.saturating_sub(since) < patience {
            return None;
        }
        self.failing_since = Some(now);
        Some(error)
    }
}
