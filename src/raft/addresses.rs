//! Where a peer may be found. Several sources name an address (the configuration, the cluster's metadata,
//! the peer itself when it links here, other brokers), and after a move some of them are old. All are
//! tried in turn: a wrong one does no harm, since a link is made only to a node that says it is the peer.

/// Addresses kept of one peer: the sources, and one more for a move under way.
const ADDRESSES_MAX: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Addresses {
    /// Distinct; the latest heard of first.
    known: Vec<String>,
    /// The one to dial next.
    next: usize,
}

impl Addresses {
    /// True if it is news: then it is tried first.
    pub fn offer(&mut self, address: &str) -> bool {
        if self.known.iter().any(|known| known == address) {
            return false;
        }
        self.known.insert(0, address.to_string());
        self.known.truncate(ADDRESSES_MAX);
        self.next = 0;
        true
    }

    pub fn current(&self) -> Option<&str> {
        self.known.get(self.next).map(String::as_str)
    }

    /// The current one does not lead to the peer. True if that was the last one of a round.
    pub fn failed(&mut self) -> bool {
        self.next = (self.next + 1) % self.known.len().max(1);
        self.next == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_are_tried_first_and_all_in_turn() {
        let mut addresses = Addresses::default();
        assert_eq!(addresses.current(), None);
        assert!(addresses.failed(), "nothing to try is a whole round");
        assert!(addresses.offer("seed") && addresses.offer("registered") && !addresses.offer("seed"));
        assert_eq!(addresses.current(), Some("registered"));
        assert!(!addresses.failed());
        assert_eq!(addresses.current(), Some("seed"));
        assert!(!addresses.offer("registered"), "an old one again does not end the turn of another");
        assert_eq!(addresses.current(), Some("seed"));
        assert!(addresses.failed());
        assert_eq!(addresses.current(), Some("registered"));
        addresses.failed();
        assert!(addresses.offer("told"));
        assert_eq!(addresses.current(), Some("told"));
    }

    #[test]
    fn a_peer_that_moves_again_and_again_is_followed() {
        let mut addresses = Addresses::default();
        for n in 0..20 {
            addresses.offer(&format!("h:{n}"));
        }
        assert_eq!((addresses.known.len(), addresses.current()), (ADDRESSES_MAX, Some("h:19")));
    }
}
