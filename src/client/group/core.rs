//! What a member holds, reads, has handed out and may commit: a pure state machine. No I/O, no clock, no bytes.
//!
//! A partition's way: the coordinator assigns it (`Unknown`: where to begin is not known), a reader is started
//! (`Reading`), the coordinator wants it back (`Revoking`), the application was told (`Told`), its next call lets it
//! go (`Releasing` until its last offset is committed), it is gone. From any of these it may be lost at once.
//! Each holding and each reader has a number of its own, so that late news of an earlier one finds nothing.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use super::{GroupEvent, GroupRecords, OffsetReset, OffsetToCommit};
use crate::{
    client::{
        consumer::ConsumedRecord,
        error::{ClientError, ErrorCode},
    },
    proto::v1,
    types::{PartitionId, TopicPartition},
};

/// Time since the consumer was opened.
pub(super) type Now = Duration;

/// Beats come no faster than this, whatever the coordinator says, and thrice a session at least.
const BEAT_MIN: Duration = Duration::from_millis(50);
const BEATS_PER_SESSION: u32 = 3;
/// Pauses after a beat or a commit that failed: the first, and the longest. An election takes a second or so.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// Errors that wait for the application. More say nothing new.
const ERRORS_MAX: usize = 16;

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    Offset(i64),
    /// The group has no committed offset here.
    Reset,
}

/// A reader to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub reader: u64,
    pub at: TopicPartition,
    pub from: From,
}

/// Records that a reader brought. `P` is what they hold of the memory budget.
#[derive(Debug)]
pub(super) struct Brought<P> {
    pub records: Vec<ConsumedRecord>,
    pub high_watermark: i64,
    /// Of the last record.
    pub leader_epoch: i32,
    pub permits: P,
}

/// One offset to commit, and which holding it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub hold: u64,
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
    /// `reader`: None while it is paused, or after its reader failed.
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
    stage: Stage,
    /// The application knows that it is ours.
    told: bool,
    paused: bool,
    /// The next to be handed out; None: not known.
    position: Option<i64>,
    /// Everything below was processed. Never above `position` but after a seek.
    processed: Option<i64>,
    leader_epoch: Option<i32>,
    committed: Option<i64>,
}

#[derive(Debug)]
struct Chunk<P> {
    at: TopicPartition,
    reader: u64,
    records: std::vec::IntoIter<ConsumedRecord>,
    high_watermark: i64,
    leader_epoch: i32,
    _permits: P,
}

/// What the application has in its hands: processed once it calls again.
#[derive(Debug)]
struct InHand {
    at: TopicPartition,
    hold: u64,
    leader_epoch: Option<i32>,
}

/// Retries: how often it failed since it last worked, when to try again, and since when it has not worked.
#[derive(Debug, Default)]
struct Retry {
    failures: u32,
    next: Now,
    failing_since: Option<Now>,
}

#[derive(Debug)]
pub(super) struct Core<P> {
    session_timeout: Duration,
    auto_commit: Option<Duration>,
    offset_reset: OffsetReset,
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
    errors: VecDeque<ClientError>,
    fatal: Option<ClientError>,
    starts: Vec<Start>,
    stops: Vec<u64>,
    beats: Retry,
    commits: Retry,
    fetches: Retry,
    next_commit: Now,
    next_number: u64,
}

impl<P> Core<P> {
    pub fn new(session_timeout: Duration, auto_commit: Option<Duration>, offset_reset: OffsetReset) -> Core<P> {
        Core {
            session_timeout,
            auto_commit,
            offset_reset,
            member: String::new(),
            epoch: 0,
            membership: 0,
            session_ends: None,
            held: BTreeMap::new(),
            chunks: VecDeque::new(),
            in_hand: None,
            lost: Vec::new(),
            errors: VecDeque::new(),
            fatal: None,
            starts: Vec::new(),
            stops: Vec::new(),
            beats: Retry::default(),
            commits: Retry::default(),
            fetches: Retry::default(),
            next_commit: Duration::ZERO,
            next_number: 0,
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

    pub fn position(&self, at: &TopicPartition) -> Option<i64> {
        self.held.get(at).filter(|held| held.told && held.is_active()).and_then(|held| held.position)
    }

    // The application's side.

    /// The application comes back: what it was given is processed, what it was told to let go of goes.
    pub fn begin_next(&mut self) {
        self.settle_hand();
        let is_auto = self.auto_commit.is_some();
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
        if !self.lost.is_empty() {
            return Some(Ok(GroupEvent::Lost(std::mem::take(&mut self.lost))));
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
        self.take_records(records_max).map(|records| Ok(GroupEvent::Records(records)))
    }

    fn tell(&mut self, which: impl Fn(&Held) -> bool, mark: impl Fn(&mut Held)) -> Vec<TopicPartition> {
        let found = self.held.iter_mut().filter(|(_, held)| which(held));
        found.map(|(at, held)| (at.clone(), mark(held)).0).collect()
    }

    fn take_records(&mut self, records_max: usize) -> Option<GroupRecords> {
        let chunk = self.chunks.front_mut()?;
        let records: Vec<_> = chunk.records.by_ref().take(records_max).collect();
        let is_whole = chunk.records.len() == 0;
        let (at, high_watermark) = (chunk.at.clone(), chunk.high_watermark);
        let held = self.held.get_mut(&at).expect("the chunks of what is not held were dropped with it");
        let last = records.last().expect("no empty chunk is kept");
        held.position = Some(last.offset + 1);
        let leader_epoch = if is_whole { Some(chunk.leader_epoch) } else { held.leader_epoch };
        self.in_hand = Some(InHand { at: at.clone(), hold: held.hold, leader_epoch });
        if is_whole {
            self.chunks.pop_front();
        }
        Some(GroupRecords { at, records, high_watermark })
    }

    /// Everything handed out, as processed: what a commit by hand commits.
    pub fn commit_all(&mut self) -> Vec<OffsetToCommit> {
        self.settle_hand();
        let dirty = self.held.iter().filter(|(_, held)| held.is_dirty());
        dirty.filter_map(|(at, held)| held.due(at)).map(|due| due.offset).collect()
    }

    /// The holdings that these offsets are of; 0 where there is none (the coordinator will refuse it).
    pub fn dues(&self, offsets: Vec<OffsetToCommit>) -> Vec<Due> {
        let hold = |at: &TopicPartition| self.held.get(at).map_or(0, |held| held.hold);
        offsets.into_iter().map(|offset| Due { hold: hold(&offset.at), offset }).collect()
    }

    pub fn seek(&mut self, at: &TopicPartition, offset: i64) -> Result<(), ClientError> {
        if offset < 0 {
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
        held.ok_or_else(|| ClientError::NotAssigned { partition: at.to_string() })
    }

    // Heartbeats.

    pub fn next_beat(&self) -> Now {
        self.beats.next
    }

    /// All that this member reads, or has not let go of.
    pub fn owns(&self) -> Vec<v1::PartitionSet> {
        partition_sets(self.held.keys())
    }

    /// The coordinator's answer to a beat sent at `sent`.
    pub fn on_beat(&mut self, membership: u64, sent: Now, beat: Beat) {
        if membership != self.membership {
            return;
        }
        (self.member, self.epoch) = (beat.member, beat.epoch);
        self.session_ends = Some(sent + self.session_timeout);
        let most = self.session_timeout / BEATS_PER_SESSION;
        let next = sent + beat.next_beat.clamp(BEAT_MIN.min(most), most);
        self.beats = Retry { next, ..Retry::default() };
        let assigned: BTreeSet<_> = beat.assigned.into_iter().collect();
        let gone: Vec<_> = self.held.iter().filter(|(at, held)| held.is_active() && !assigned.contains(at)).collect();
        for at in gone.into_iter().map(|(at, _)| at.clone()).collect::<Vec<_>>() {
            self.revoke(&at);
        }
        for at in assigned {
            if !self.held.contains_key(&at) {
                let hold = self.number();
                self.held.insert(at, Held::new(hold));
            }
        }
    }

    fn revoke(&mut self, at: &TopicPartition) {
        self.stop_reader(at);
        let held = self.held.get_mut(at).expect("the caller found it");
        if held.told {
            held.stage = Stage::Revoking;
        } else {
            // The application never heard of it.
            self.held.remove(at);
            self.beats.next = Duration::ZERO;
        }
    }

    /// A beat failed: try again, or join anew, or give up for good.
    pub fn on_beat_failed(&mut self, membership: u64, error: ClientError, now: Now, jitter: u32, patience: Duration) {
        if membership != self.membership {
            return;
        }
        match error.code() {
            Some(ErrorCode::UnknownMember | ErrorCode::FencedMember) if !self.member.is_empty() => self.expel(),
            _ if error.is_retriable() => {
                if let Some(error) = self.beats.failed(error, now, jitter, patience) {
                    self.report(error);
                }
            }
            _ => {
                self.expel();
                self.fatal = Some(error);
            }
        }
    }

    /// The group does not know this member any more: nothing is ours, join anew.
    fn expel(&mut self) {
        self.lose_all();
        self.member.clear();
        self.epoch = 0;
        self.membership += 1;
        self.session_ends = None;
        self.beats = Retry::default();
    }

    pub fn session_ends(&self) -> Option<Now> {
        self.session_ends
    }

    /// The session may be over for the coordinator: stop, as if it had said so. It may know us still (a new
    /// coordinator starts all sessions anew): so go on as the same member, owning nothing.
    pub fn expire(&mut self, now: Now) {
        if self.session_ends.is_some_and(|end| end <= now) {
            self.session_ends = None;
            self.lose_all();
        }
    }

    fn lose_all(&mut self) {
        for at in self.held.keys().cloned().collect::<Vec<_>>() {
            self.stop_reader(&at);
        }
        self.in_hand = None;
        let told = std::mem::take(&mut self.held).into_iter().filter(|(_, held)| held.told);
        self.lost.extend(told.map(|(at, _)| at));
        self.beats.next = Duration::ZERO;
    }

    /// Something was lost that the application does not know of.
    pub fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    // Committed offsets.

    /// Partitions whose committed offset is to be asked for now, by holding.
    pub fn unknown(&self, now: Now) -> Vec<(u64, TopicPartition)> {
        if self.fetches.next > now {
            return Vec::new();
        }
        let unknown = self.held.iter().filter(|(_, held)| held.stage == Stage::Unknown);
        unknown.map(|(at, held)| (held.hold, at.clone())).collect()
    }

    /// When to ask for offsets again after a failure.
    pub fn fetch_retry(&self) -> Option<Now> {
        self.fetches.failing_since.map(|_| self.fetches.next)
    }

    pub fn on_offsets(&mut self, asked: &[(u64, TopicPartition)], found: &BTreeMap<TopicPartition, i64>) {
        self.fetches = Retry::default();
        for (hold, at) in asked {
            let Some(held) = self.held.get_mut(at) else { continue };
            if held.hold != *hold || held.stage != Stage::Unknown {
                continue; // Gone, or the application has sought its own place.
            }
            held.stage = Stage::Reading { reader: None };
            let committed = found.get(at).copied();
            (held.position, held.processed, held.committed) = (committed, committed, committed);
            self.start_reader(at);
        }
    }

    pub fn on_offsets_failed(&mut self, error: ClientError, now: Now, jitter: u32, patience: Duration) {
        if let Some(error) = self.fetches.failed(error, now, jitter, patience) {
            self.report(error);
        }
    }

    /// What to commit now without being asked: at revocations at once, else every interval.
    pub fn due(&mut self, now: Now) -> Vec<Due> {
        let Some(interval) = self.auto_commit else { return Vec::new() };
        if self.commits.next > now || self.member.is_empty() {
            return Vec::new();
        }
        let is_time = self.next_commit <= now;
        if is_time {
            self.next_commit = now + interval;
        }
        let is_due = |held: &Held| held.is_dirty() && (is_time || held.stage == Stage::Releasing);
        let due = self.held.iter().filter(|(_, held)| is_due(held));
        due.filter_map(|(at, held)| held.due(at)).collect()
    }

    /// When `due` may have something.
    pub fn next_due(&self) -> Option<Now> {
        self.auto_commit?;
        let is_releasing = self.held.values().any(|held| held.stage == Stage::Releasing);
        let next = if is_releasing { Duration::ZERO } else { self.next_commit };
        Some(next.max(self.commits.next))
    }

    /// These were committed, but for the refused ones.
    pub fn on_committed(&mut self, dues: &[Due], refused: &BTreeSet<TopicPartition>) {
        self.commits = Retry::default();
        for Due { hold, offset } in dues.iter().filter(|due| !refused.contains(&due.offset.at)) {
            if let Some(held) = self.held.get_mut(&offset.at).filter(|held| held.hold == *hold) {
                held.committed = Some(offset.offset);
            }
        }
        self.release(|held, at| !held.is_dirty() || refused.contains(at));
    }

    fn release(&mut self, may_go: impl Fn(&Held, &TopicPartition) -> bool) {
        let before = self.held.len();
        self.held.retain(|at, held| held.stage != Stage::Releasing || !may_go(held, at));
        if self.held.len() < before {
            self.beats.next = Duration::ZERO;
        }
    }

    /// A commit failed as a whole. Returns the error if that has lasted.
    pub fn on_commit_failed(
        &mut self,
        membership: u64,
        error: &ClientError,
        now: Now,
        jitter: u32,
        patience: Duration,
    ) -> Option<ClientError> {
        if membership != self.membership {
            return None;
        }
        if error.code() == Some(ErrorCode::UnknownMember) {
            self.expel();
            return None;
        }
        // At once again, not at the next interval; but what goes does not wait for what is hopeless.
        self.next_commit = Duration::ZERO;
        if !error.is_retriable() {
            self.release(|_, _| true);
        }
        self.commits.failed(error.clone(), now, jitter, patience)
    }

    // Readers.

    pub fn take_starts(&mut self) -> Vec<Start> {
        std::mem::take(&mut self.starts)
    }

    pub fn take_stops(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.stops)
    }

    fn start_reader(&mut self, at: &TopicPartition) {
        let reader = self.number();
        let offset_reset = self.offset_reset;
        let Some(held) = self.held.get_mut(at) else { return };
        if held.paused || held.stage != (Stage::Reading { reader: None }) {
            return;
        }
        let from = match (held.position, offset_reset) {
            (Some(offset), _) => From::Offset(offset),
            (None, OffsetReset::Earliest | OffsetReset::Latest) => From::Reset,
            (None, OffsetReset::Fail) => return self.report(ClientError::NoOffset { partition: at.to_string() }),
        };
        held.stage = Stage::Reading { reader: Some(reader) };
        self.starts.push(Start { reader, at: at.clone(), from });
    }

    /// Ends the reader, and forgets what it brought that was not handed out: it will be read again.
    fn stop_reader(&mut self, at: &TopicPartition) {
        let Some(held) = self.held.get_mut(at) else { return };
        self.chunks.retain(|chunk| chunk.at != *at);
        if let Stage::Reading { reader } = &mut held.stage
            && let Some(reader) = reader.take()
        {
            self.starts.retain(|start| start.reader != reader);
            self.stops.push(reader);
        }
    }

    fn read_by(&mut self, reader: u64, at: &TopicPartition) -> Option<&mut Held> {
        self.held.get_mut(at).filter(|held| held.stage == Stage::Reading { reader: Some(reader) })
    }

    /// A reader found out where it begins.
    pub fn on_positioned(&mut self, reader: u64, at: &TopicPartition, offset: i64) {
        // What it brought before retention overtook it is still to be handed out.
        let is_between = self.chunks.iter().any(|chunk| chunk.reader == reader);
        if let Some(held) = self.read_by(reader, at).filter(|_| !is_between) {
            // Also without a record, so that the place is the same after a restart.
            (held.position, held.processed) = (Some(offset), Some(offset));
        }
    }

    pub fn on_brought(&mut self, reader: u64, at: &TopicPartition, brought: Brought<P>) {
        if self.read_by(reader, at).is_none() || brought.records.is_empty() {
            return;
        }
        let Brought { records, high_watermark, leader_epoch, permits } = brought;
        let records = records.into_iter();
        let at = at.clone();
        self.chunks.push_back(Chunk { at, reader, records, high_watermark, leader_epoch, _permits: permits });
    }

    /// A reader met an error. `is_end`: it has ended, and the partition waits for a seek.
    pub fn on_read_failed(&mut self, reader: u64, at: &TopicPartition, error: ClientError, is_end: bool) {
        let Some(held) = self.read_by(reader, at) else { return };
        if is_end {
            held.stage = Stage::Reading { reader: None };
            self.stops.push(reader);
        }
        self.report(error);
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
        self.chunks.iter().map(|chunk| chunk.records.len()).sum()
    }

    /// Every chunk is of a running reader of a partition that is held.
    #[cfg(test)]
    pub fn check(&self) {
        for chunk in &self.chunks {
            let stage = self.held.get(&chunk.at).map(|held| held.stage);
            assert_eq!(stage, Some(Stage::Reading { reader: Some(chunk.reader) }), "{}", chunk.at);
        }
    }
}

impl Held {
    fn new(hold: u64) -> Held {
        Held {
            hold,
            stage: Stage::Unknown,
            told: false,
            paused: false,
            position: None,
            processed: None,
            leader_epoch: None,
            committed: None,
        }
    }

    /// To be read, not on its way out.
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
        Some(Due { hold: self.hold, offset })
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

/// Partitions by topic, as the wire has them; `of` is sorted.
pub(super) fn partition_sets<'a>(of: impl Iterator<Item = &'a TopicPartition>) -> Vec<v1::PartitionSet> {
    let mut sets: Vec<v1::PartitionSet> = Vec::new();
    for at in of {
        match sets.last_mut() {
            Some(set) if set.topic == at.topic => set.partitions.push(at.partition.0),
            Some(_) | None => {
                sets.push(v1::PartitionSet { topic: at.topic.clone(), partitions: vec![at.partition.0] });
            }
        }
    }
    sets
}

/// The other way. A negative number is no partition.
pub(super) fn partitions_of(sets: Vec<v1::PartitionSet>) -> Vec<TopicPartition> {
    let named = |set: v1::PartitionSet| {
        let topic = set.topic;
        let good = set.partitions.into_iter().filter(|partition| *partition >= 0);
        good.map(move |partition| TopicPartition { topic: topic.clone(), partition: PartitionId(partition) })
    };
    sets.into_iter().flat_map(named).collect()
}
