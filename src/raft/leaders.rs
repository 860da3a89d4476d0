//! Who leads which group, as leaders announced it (SAFETY M10).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::RwLock,
};

use tokio::sync::watch;

use super::{status::Leader, wire::Announced};
use crate::types::{BrokerId, METADATA_GROUP, RaftGroupId};

/// The highest term heard of for each group. One entry a group of the cluster, and of groups that are newer
/// than what this node knows of, at most [`NEWER_MAX`].
pub(super) struct Leaders {
    known: RwLock<BTreeMap<RaftGroupId, Leader>>,
    groups: RwLock<Groups>,
    changes: watch::Sender<u64>,
}

/// Groups that were made and that this node's metadata does not know yet: a node that has just started, or
/// lags, hears of many at once.
const NEWER_MAX: usize = 100_000;

/// Which groups there are. Ids are never used twice, so one below `below` that is not among them was deleted.
#[derive(Default)]
struct Groups {
    existing: BTreeSet<RaftGroupId>,
    below: RaftGroupId,
}

impl Groups {
    fn is_deleted(&self, group: RaftGroupId) -> bool {
        group != METADATA_GROUP && group < self.below && !self.existing.contains(&group)
    }
}

/// What hearing an announcement came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    News,
    Known,
    /// Two leaders of one term: consensus is broken, or somebody lies.
    Contradiction(Leader),
}

impl Leaders {
    pub fn new() -> Leaders {
        Leaders { known: RwLock::default(), groups: RwLock::default(), changes: watch::Sender::new(0) }
    }

    pub fn hear(&self, from: BrokerId, said: Announced) -> Heard {
        let leader = Leader { term: said.term, replica: said.replica, broker: from };
        let (is_deleted, existing) = {
            let groups = self.groups.read().expect("no panic under this lock");
            (groups.is_deleted(said.group), groups.existing.len())
        };
        let mut known = self.known.write().expect("no panic under this lock");
        match known.get(&said.group) {
            _ if is_deleted => return Heard::Known,
            None if known.len() >= existing + NEWER_MAX => return Heard::Known,
            Some(old) if old.term > leader.term || *old == leader => return Heard::Known,
            Some(old) if old.term == leader.term => return Heard::Contradiction(*old),
            Some(_) | None => known.insert(said.group, leader),
        };
        drop(known);
        self.changes.send_modify(|count| *count += 1);
        Heard::News
    }

    /// As [`Leaders::hear`]; who contradicts what is known is written to the log.
    pub fn hear_or_warn(&self, from: BrokerId, said: Announced) {
        if let Heard::Contradiction(other) = self.hear(from, said) {
            tracing::error!(group = %said.group, term = %said.term, %from, other = %other.broker, "two leaders of one term");
        }
    }

    pub fn of(&self, group: RaftGroupId) -> Option<Leader> {
        self.known.read().expect("no panic under this lock").get(&group).copied()
    }

    /// The groups that exist, of those with an id below `below`: who leads others is forgotten, however often
    /// a peer that has not heard of their deletion says it.
    pub fn keep(&self, existing: BTreeSet<RaftGroupId>, below: RaftGroupId) {
        let mut groups = self.groups.write().expect("no panic under this lock");
        *groups = Groups { existing, below };
        self.known.write().expect("no panic under this lock").retain(|group, _| !groups.is_deleted(*group));
    }

    /// What `broker` said of itself counts no more.
    pub fn forget_said_by(&self, broker: BrokerId) {
        self.known.write().expect("no panic under this lock").retain(|_, leader| leader.broker != broker);
        self.changes.send_modify(|count| *count += 1);
    }

    pub fn forget(&self, group: RaftGroupId) {
        self.known.write().expect("no panic under this lock").remove(&group);
    }

    /// What `broker` leads, for a digest.
    pub fn led_by(&self, broker: BrokerId) -> Vec<Announced> {
        let known = self.known.read().expect("no panic under this lock");
        let led = known.iter().filter(|(_, leader)| leader.broker == broker);
        led.map(|(group, leader)| Announced { group: *group, term: leader.term, replica: leader.replica }).collect()
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ReplicaId, Term};

    fn said(term: u64, replica: u64) -> Announced {
        Announced { group: RaftGroupId(1), term: Term(term), replica: ReplicaId(replica) }
    }

    /// SAFETY M10: a higher term wins, whatever order announcements arrive in.
    #[test]
    fn the_highest_term_wins_in_any_order() {
        let leaders = Leaders::new();
        assert_eq!(leaders.hear(BrokerId(1), said(5, 1)), Heard::News);
        assert_eq!(leaders.hear(BrokerId(2), said(4, 2)), Heard::Known);
        assert_eq!(leaders.of(RaftGroupId(1)).unwrap().broker, BrokerId(1));
        assert_eq!(leaders.hear(BrokerId(2), said(6, 2)), Heard::News);
        assert_eq!(leaders.hear(BrokerId(2), said(6, 2)), Heard::Known);
        assert_eq!(leaders.of(RaftGroupId(1)).unwrap().broker, BrokerId(2));
        assert_eq!(leaders.led_by(BrokerId(1)), []);
        assert_eq!(leaders.led_by(BrokerId(2)), [said(6, 2)]);
    }

    #[test]
    fn deleted_groups_are_forgotten_and_newer_ones_are_not() {
        let leaders = Leaders::new();
        let says = |group, term| {
            let said = Announced { group: RaftGroupId(group), term: Term(term), replica: ReplicaId(1) };
            leaders.hear(BrokerId(1), said)
        };
        for group in [0, 1, 2, 3, 9] {
            says(group, 5);
        }
        leaders.keep(BTreeSet::from([RaftGroupId(1), RaftGroupId(3)]), RaftGroupId(4));
        let led = |group| leaders.of(RaftGroupId(group)).is_some();
        assert_eq!([0, 1, 2, 3, 9].map(led), [true, true, false, true, true]);
        assert_eq!(says(2, 6), Heard::Known, "a peer that has not heard of it says it again");
        assert!(!led(2));
        assert_eq!(says(4, 1), Heard::News, "this one is being made");
    }

    #[test]
    fn two_leaders_of_one_term_are_a_contradiction() {
        let leaders = Leaders::new();
        leaders.hear(BrokerId(1), said(5, 1));
        assert!(matches!(leaders.hear(BrokerId(2), said(5, 2)), Heard::Contradiction(_)));
        assert_eq!(leaders.of(RaftGroupId(1)).unwrap().broker, BrokerId(1), "the first stays");
    }
}
