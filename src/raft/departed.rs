//! What followers do when the broker of their leader says goodbye (SAFETY M13): they stop waiting for it.
//!
//! Nobody coordinates them. They take turns by replica id, so that not all campaign at once, and each asks
//! for pre-votes first: one whose log is short is refused without having used up a term.

use std::time::Duration;

use openraft::{Vote, raft::TransferLeaderRequest};
use tokio::time::timeout;

use super::{Replica, status::Leader};
use crate::{replicated::Replicated, types::ReplicaId};

/// How long each voter, and each try, is given before the next one campaigns: a few round trips and fsyncs.
const TURN: Duration = Duration::from_millis(150);
/// After so many rounds openraft's own timers go on alone.
const ROUNDS_MAX: u32 = 3;

impl<S: Replicated> Replica<S> {
    /// Campaigns in its turn until somebody leads in a later term than the one who left.
    pub(super) async fn replace(&self, left: Leader) {
        let vote = Vote::new_committed(left.term.0, left.replica.0);
        // For any other target than this replica it ends the lease of the leader, and does nothing else.
        let release = TransferLeaderRequest::new(vote, left.replica.0, None);
        if timeout(TURN, self.0.raft.handle_transfer_leader(release)).await.is_err() {
            return;
        }
        let mut survivors: Vec<ReplicaId> = self.voters().into_iter().map(|(replica, _)| replica).collect();
        survivors.retain(|replica| *replica != left.replica);
        survivors.sort_unstable();
        let Some(turn) = survivors.iter().position(|replica| *replica == self.replica()) else { return };
        let (turn, turns) = (turn as u32, survivors.len() as u32);
        let mut wait = TURN * turn;
        for _ in 0..ROUNDS_MAX {
            if timeout(wait, self.new_leader(left.term)).await.is_ok() || self.status().borrow().term > left.term {
                return;
            }
            tracing::info!(group = %self.id(), from = %left.broker, "campaigns: its leader has left");
            let campaign = self.0.ground.seeds.scope(async { self.0.raft.trigger().elect(true).await });
            if !matches!(timeout(TURN, campaign).await, Ok(Ok(_))) {
                return;
            }
            wait = TURN * turns;
        }
    }
}
