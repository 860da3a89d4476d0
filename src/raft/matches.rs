//! What followers acknowledged, for receipts.

use std::{collections::BTreeMap, sync::Mutex};

use crate::types::{LogIndex, ReplicaId, Term};

/// What followers acknowledged to this replica, which they do only for fsynced entries. Kept beside
/// openraft's own count so that a receipt can name them at the moment of commit.
#[derive(Default)]
pub(super) struct Matches(Mutex<BTreeMap<ReplicaId, (Term, LogIndex)>>);

impl Matches {
    pub fn note(&self, from: ReplicaId, term: Term, matched: LogIndex) {
        let mut matches = self.0.lock().expect("no panic under this lock");
        let known = matches.entry(from).or_insert((term, matched));
        *known = (*known).max((term, matched));
    }

    /// Whether the replica acknowledged `index` to the leader of `term`.
    pub fn covers(&self, replica: ReplicaId, term: Term, index: LogIndex) -> bool {
        let matches = self.0.lock().expect("no panic under this lock");
        matches.get(&replica).is_some_and(|(t, matched)| *t == term && *matched >= index)
    }

    /// Replicas that acknowledged `index` to the leader of `term`.
    pub fn covering(&self, term: Term, index: LogIndex) -> Vec<ReplicaId> {
        let matches = self.0.lock().expect("no panic under this lock");
        let covering = matches.iter().filter(|(_, (t, matched))| *t == term && *matched >= index);
        covering.map(|(replica, _)| *replica).collect()
    }
}
