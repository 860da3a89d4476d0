//! What must hold after each command, whoever proposed it: a broker whose metadata lies must stop.

use super::state::Metadata;
use crate::types::ALLOCATED_REPLICA_MIN;

/// Topics, partitions and groups that a debug build walks over with each command; with more it would take
/// quadratic time.
const WALKED_MAX: usize = 64;

impl Metadata {
    /// What is cheap to see always; all that is checked of a state that is decoded in debug builds, while there is
    /// little.
    pub(super) fn check(&self) {
        let (topics, partitions) = (self.topics.len(), self.by_group.len());
        assert!(self.by_id.len() == topics, "{topics} topics have {} ids", self.by_id.len());
        assert!(partitions >= topics, "{topics} topics have {partitions} partitions");
        let highest = self.by_group.keys().next_back().max(self.deleted.keys().next_back());
        let next_group = self.next_group;
        assert!(
            highest.is_none_or(|group| group.0 < next_group),
            "group {highest:?} is there, {next_group} is the next"
        );
        let (replica, producer) = (self.next_replica, self.next_producer_id.0);
        assert!(replica >= ALLOCATED_REPLICA_MIN, "the next replica is {replica}");
        assert!(producer >= 0, "the next producer id is {producer}");
        if cfg!(debug_assertions) && partitions + self.deleted.len() + self.brokers.len() <= WALKED_MAX {
            let mut again = self.clone();
            again.index().expect("a command keeps the invariants of metadata");
            assert_eq!(again, *self, "what is derived of metadata is not what it holds");
        }
    }
}
