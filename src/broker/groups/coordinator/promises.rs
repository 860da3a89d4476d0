//! Member ids that were handed out and have not joined yet (KIP-394). In memory only: after a failover
//! a client whose promise is forgotten is told that it is unknown, and begins anew.

use std::collections::{BTreeSet, VecDeque};

use crate::{
    broker::groups::limits,
    types::{GroupName, MemberId},
};

#[derive(Debug, Default)]
pub struct Promises {
    known: BTreeSet<(GroupName, MemberId)>,
    /// Oldest first, fulfilled ones too.
    order: VecDeque<(GroupName, MemberId)>,
}

impl Promises {
    pub fn make(&mut self, group: &GroupName, member: &MemberId) {
        let promise = (group.clone(), member.clone());
        if !self.known.insert(promise.clone()) {
            return;
        }
        self.order.push_back(promise);
        while self.order.len() > limits::PROMISED_IDS_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }

    /// Its member has joined: the id is not new again, should the member go.
    pub fn fulfil(&mut self, group: &GroupName, member: &MemberId) {
        self.known.remove(&(group.clone(), member.clone()));
    }

    pub fn is_made(&self, group: &GroupName, member: &MemberId) -> bool {
        self.known.contains(&(group.clone(), member.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_promises_are_forgotten_at_the_limit() {
        let mut promises = Promises::default();
        for n in 0..limits::PROMISED_IDS_MAX {
            promises.make(&"g".into(), &MemberId(n.to_string()));
            promises.make(&"g".into(), &MemberId(n.to_string()));
        }
        assert!(promises.is_made(&"g".into(), &"0".into()) && !promises.is_made(&"h".into(), &"0".into()));
        promises.make(&"g".into(), &"one more".into());
        assert!(
            !promises.is_made(&"g".into(), &"0".into())
                && promises.is_made(&"g".into(), &"1".into())
                && promises.is_made(&"g".into(), &"one more".into())
        );
        assert_eq!(promises.known.len(), promises.order.len());
    }

    #[test]
    fn a_promise_is_fulfilled_once() {
        let mut promises = Promises::default();
        promises.make(&"g".into(), &"a".into());
        promises.fulfil(&"g".into(), &"a".into());
        assert!(!promises.is_made(&"g".into(), &"a".into()));
    }
}
