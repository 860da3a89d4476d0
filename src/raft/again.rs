//! A candidate that nobody elected campaigns again (Raft, section 5.2: after another random timeout).
//!
//! openraft does so by itself, but one that saw a longer log waits for two of the longest election timeouts more, so
//! that whoever has that log goes first. When the longer log is that of a leader that can answer and not ask, nobody
//! else has it, and after a split vote the group would be without a leader for all that time.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::timeout;

use super::{Replica, ground::Ground};
use crate::{replicated::Replicated, types::METADATA_GROUP};

/// How long a candidate gives its election before the next one: as random as the first.
pub(super) fn election_timeout(ground: &Ground) -> Duration {
    let (min, max) = (ground.settings.election_min, ground.settings.election_max);
    let span = max.saturating_sub(min).as_micros() as u64;
    min + Duration::from_micros(ground.rng.below(span.max(1)))
}

impl<S: Replicated> Replica<S> {
    /// Asks for pre-votes first: a candidate whose log is too short for a majority, or that has a live leader, is
    /// refused and uses up no term. Does nothing where this node must not campaign.
    pub(super) async fn campaign_again(&self) {
        let ground = &self.0.ground;
        if self.0.closing.load(Ordering::Acquire) {
            return;
        }
        if self.id() != METADATA_GROUP && !ground.may_campaign.load(Ordering::SeqCst) {
            return;
        }
        tracing::debug!(group = %self.id(), "campaigns again: nobody was elected");
        let campaign = ground.seeds.scope(async { self.0.raft.trigger().elect(true).await });
        // A core that has ended says so to the watcher; one that hangs is asked again.
        let _ = timeout(ground.settings.election_min, campaign).await;
    }
}
