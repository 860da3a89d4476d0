//! Who leads which group, as leaders announced it (SAFETY M10).

use std::{collections::BTreeMap, sync::RwLock};

use tokio::sync::watch;

use super::{Leader, wire::Announced};
use crate::types::{BrokerId, RaftGroupId};

/// The highest term heard of for each group. One entry a group of the cluster.
pub(super) struct Leaders {
    known: RwLock<BTreeMap<RaftGroupId, Leader>>,
    changes: watch::Sender<u64>,
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
        Leaders { known: RwLock::default(), changes: watch::Sender::new(0) }
    }

    pub fn hear(&self, from: BrokerId, said: Announced) -> Heard {
        let leader = Leader { term: said.term, replica: said.replica, broker: from };
        let mut known = self.known.write().expect("no panic under this lock");
        match known.get(&said.group) {
            Some(old) if old.term > leader.term || *old == leader => return Heard::Known,
            Some(old) if old.term == leader.term => return Heard::Contradiction(*old),
            Some(_) | None => known.insert(said.group, leader),
        };
        drop(known);
        self.changes.send_modify(|count| *count += 1);
        Heard::News
    }

    pub fn of(&self, group: RaftGroupId) -> Option<Leader> {
        self.known.read().expect("no panic under this lock").get(&group).copied()
    }

    /// Keeps only what `broker` itself said.
    pub fn forget_others(&self, broker: BrokerId) {
        self.known.write().expect("no panic under this lock").retain(|_, leader| leader.broker == broker);
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
    fn two_leaders_of_one_term_are_a_contradiction() {
        let leaders = Leaders::new();
        leaders.hear(BrokerId(1), said(5, 1));
        assert!(matches!(leaders.hear(BrokerId(2), said(5, 2)), Heard::Contradiction(_)));
        assert_eq!(leaders.of(RaftGroupId(1)).unwrap().broker, BrokerId(1), "the first stays");
    }
}
