//! Committed offsets: where reading begins, and what is committed without being asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Core, Due, Held, Now, Retry, Stage};
use crate::{
    client::error::{ClientError, ErrorCode},
    types::{Offset, TopicPartition},
};

impl<P> Core<P> {
    /// Lists the partitions whose committed offset is to be asked for now, by holding.
    pub fn unknown(&self, now: Now) -> Vec<(u64, TopicPartition)> {
        if self.fetches.next > now {
            return Vec::new();
        }
        let unknown = self.held.iter().filter(|(_, held)| held.stage == Stage::Unknown);
        unknown.map(|(at, held)| (held.hold, at.clone())).collect()
    }

    /// When to ask for offsets again after a failure. None: there is nothing to ask for (any more).
    pub fn fetch_retry(&self) -> Option<Now> {
        let is_unknown = self.held.values().any(|held| held.stage == Stage::Unknown);
        self.fetches.failing_since.filter(|_| is_unknown).map(|_| self.fetches.next)
    }

    /// Which topics the coordinator meant when it answered: those are read, and no others that get their names.
    pub fn identify(&mut self, asked: &[(u64, TopicPartition)], topic_ids: &BTreeMap<String, String>) {
        for (hold, at) in asked {
            let Some(held) = self.held.get_mut(at) else { continue };
            if held.hold == *hold && held.stage == Stage::Unknown {
                held.topic_id = topic_ids.get(&at.topic).cloned().unwrap_or_default();
            }
        }
    }

    pub fn on_offsets(&mut self, asked: &[(u64, TopicPartition)], found: &BTreeMap<TopicPartition, Offset>) {
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
        let Some(interval) = self.rules.auto_commit else { return Vec::new() };
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

    /// When `due` may have something. Never, while this is no member: joining wakes by itself.
    pub fn next_due(&self) -> Option<Now> {
        self.rules.auto_commit.filter(|_| !self.member.is_empty())?;
        let is_releasing = self.held.values().any(|held| held.stage == Stage::Releasing);
        let next = if is_releasing { Duration::ZERO } else { self.next_commit };
        Some(next.max(self.commits.next))
    }

    /// Notes that these were committed, but for the refused ones.
    pub fn on_committed(&mut self, dues: &[Due], refused: &BTreeSet<TopicPartition>) {
        self.commits = Retry::default();
        for Due { hold, offset, .. } in dues.iter().filter(|due| !refused.contains(&due.offset.at)) {
            if let Some(held) = self.held.get_mut(&offset.at).filter(|held| held.hold == *hold) {
                held.committed = Some(offset.offset);
            }
        }
        self.release(|held, at| !held.is_dirty() || refused.contains(at));
    }

    pub(super) fn release(&mut self, may_go: impl Fn(&Held, &TopicPartition) -> bool) {
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
        match error.code() {
            Some(ErrorCode::UnknownMember) => {
                self.expel();
                return None;
            }
            // Another process has this one's instance id: to join again would throw that one out.
            Some(ErrorCode::FencedInstance) => {
                self.expel();
                self.fatal = Some(error.clone());
                return None;
            }
            Some(_) | None => {}
        }
        // At once again, not at the next interval; but what goes does not wait for what is hopeless.
        self.next_commit = Duration::ZERO;
        if !error.is_retriable() {
            self.release(|_, _| true);
        }
        self.commits.failed(error.clone(), now, jitter, patience)
    }
}
