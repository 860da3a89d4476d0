//! Member ids that were handed out and have not joined yet (KIP-394). In memory only: after a failover
//! a client whose promise is forgotten is told that it is unknown, and begins anew.

use std::collections::{BTreeSet, VecDeque};

use crate::broker::groups::limits;

#[derive(Debug, Default)]
pub struct Promises {
    known: BTreeSet<(String, String)>,
    /// Oldest first, fulfilled ones too.
    order: VecDeque<(String, String)>,
}

impl Promises {
    pub fn make(&mut self, group: &str, member: &str) {
        let promise = (group.to_string(), member.to_string());
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
    pub fn fulfil(&mut self, group: &str, member: &str) {
        self.known.remove(&(group.to_string(), member.to_string()));
    }

    pub fn is_made(&self, group: &str, member: &str) -> bool {
        self.known.contains(&(group.to_string(), member.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_promises_are_forgotten_at_the_limit() {
        let mut promises = Promises::default();
        for n in 0..limits::PROMISED_IDS_MAX {
            promises.make("g", &n.to_string());
            promises.make("g", &n.to_string());
        }
        assert!(promises.is_made("g", "0") && !promises.is_made("h", "0"));
        promises.make("g", "one more");
        assert!(!promises.is_made("g", "0") && promises.is_made("g", "1") && promises.is_made("g", "one more"));
        assert_eq!(promises.known.len(), promises.order.len());
    }

    #[test]
    fn a_promise_is_fulfilled_once() {
        let mut promises = Promises::default();
        promises.make("g", "a");
        promises.fulfil("g", "a");
        assert!(!promises.is_made("g", "a"));
    }
}
