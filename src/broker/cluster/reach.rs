//! Whether this broker is in touch with its cluster. One that is not goes on answering, since a client may reach
//! nobody else, but says that its routes are stale and keeps nobody waiting for what it cannot do.

use crate::{broker::node::Node, types::BrokerId};

impl Node {
    /// This broker hears from no majority of the brokers, or knows of no metadata leader: leaders may have moved, and
    /// topics may have been made, without its knowing. False is no proof of the contrary: a cut takes a second to
    /// be noticed, and news of a leader may be on its way.
    pub fn is_cut_off(&self) -> bool {
        let Some(metadata) = self.metadata() else { return true };
        let brokers: Vec<BrokerId> = metadata.read(|state| state.brokers().map(|broker| broker.id).collect());
        let alive = brokers.iter().filter(|broker| self.is_alive(**broker)).count();
        // A voter that hears nothing stands for election, and knows of no leader while it does.
        !is_majority(alive, brokers.len()) || metadata.status().borrow().leader.is_none()
    }
}

/// More than half of `brokers`.
fn is_majority(alive: usize, brokers: usize) -> bool {
    alive > brokers / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_more_than_half() {
        let majorities =
            |brokers: usize| (0..=brokers).filter(|alive| is_majority(*alive, brokers)).collect::<Vec<_>>();
        assert_eq!(majorities(0), [0usize; 0], "who knows no broker, not even itself, knows nothing");
        assert_eq!(majorities(1), [1]);
        assert_eq!(majorities(2), [2]);
        assert_eq!(majorities(3), [2, 3]);
        assert_eq!(majorities(4), [3, 4]);
    }
}
