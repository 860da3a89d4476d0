//! Beats and what their answers say: being a member, what is assigned and taken away, and the end of it.

use std::{collections::BTreeSet, time::Duration};

use super::{BEAT_MIN, BEATS_PER_SESSION, Beat, Core, Held, Now, Retry, Stage};
use crate::{
    client::{
        commit::partition_sets,
        error::{ClientError, ErrorCode},
    },
    proto::v1,
    types::TopicPartition,
};

impl<P> Core<P> {
    /// When to beat, or to join. Not at all while the application is absent.
    pub fn next_beat(&self) -> Now {
        if self.is_absent { Now::MAX } else { self.beats.next }
    }

    /// When the last beat was sent that was answered.
    pub fn heard(&self) -> Now {
        self.heard
    }

    /// Beats at once: one that is under way may have been answered as of before.
    pub fn beat_after(&mut self, now: Now) {
        (self.beat_after, self.beats.next) = (Some(now), Duration::ZERO);
    }

    /// Lists all that this member reads, or has not let go of.
    pub fn owns(&self) -> Vec<v1::PartitionSet> {
        partition_sets(self.held.keys())
    }

    /// The coordinator's answer to a beat sent at `sent`.
    pub fn on_beat(&mut self, membership: u64, sent: Now, beat: Beat) {
        if membership != self.membership {
            return;
        }
        (self.member, self.epoch) = (beat.member, beat.epoch);
        self.heard = sent;
        self.session_ends = Some(sent + self.rules.session_timeout);
        let most = self.rules.session_timeout / BEATS_PER_SESSION;
        self.beat_after = self.beat_after.filter(|after| sent <= *after);
        let next = match self.beat_after {
            Some(_) => Duration::ZERO,
            None => sent + beat.next_beat.clamp(BEAT_MIN.min(most), most),
        };
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

    /// Decides what follows a beat that failed: another try, joining anew, or giving up for good.
    pub fn on_beat_failed(&mut self, membership: u64, error: ClientError, now: Now, jitter: u32, patience: Duration) {
        if membership != self.membership {
            return;
        }
        match error.code() {
            Some(ErrorCode::UnknownMember | ErrorCode::FencedMember) if !self.member.is_empty() => self.expel(),
            // It was a member, and was no more when its join was answered: join again.
            Some(ErrorCode::UnknownMember | ErrorCode::FencedMember) => {
                self.membership += 1;
                if let Some(error) = self.beats.failed(error, now, jitter, patience) {
                    self.report(error);
                }
            }
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
    pub(super) fn expel(&mut self) {
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

    /// An application that takes longer than its interval holds up the group: it may be stuck for good, while its
    /// beats go on. It leaves, so that others read on. Also when it never called.
    pub fn leave_if_stuck(&mut self, now: Now) {
        if self.is_absent || now.saturating_sub(self.polled) < self.rules.poll_interval_max {
            return;
        }
        let member = self.member.clone();
        self.expel();
        self.is_absent = true;
        if !member.is_empty() {
            tracing::warn!(member, "the application has not asked for records for too long, leaving the group");
            self.leaving = Some(member);
        }
    }

    /// The application is here.
    pub(super) fn come_back(&mut self, now: Now) {
        self.polled = now;
        self.is_absent = false;
    }

    /// A membership that this member gives up, to be said to the coordinator.
    pub fn take_leaving(&mut self) -> Option<String> {
        self.leaving.take()
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
}
