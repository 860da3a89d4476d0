//! Whether this broker's wall clock can be believed (SAFETY M4): compared with those of the other brokers, and
//! said in log, health and metrics when it cannot.

use std::fmt;

use futures_util::future::join_all;

use crate::{
    broker::{
        limits,
        node::Node,
        peers::calls::{Answer, Call},
    },
    types::WallMs,
};
use tokio::sync::watch;

/// Our wall clock beside the median of the cluster's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClockView {
    /// Fewer than a majority told their clocks: nobody can say.
    #[default]
    Unknown,
    /// Ours is ahead of the median by this many milliseconds, or behind it if negative.
    Ahead(i64),
}

impl ClockView {
    /// Near enough to decide by time for the whole cluster.
    pub fn agrees(self) -> bool {
        match self {
            ClockView::Unknown => false,
            ClockView::Ahead(ms) => u128::from(ms.unsigned_abs()) <= limits::CLOCK_SKEW_MAX.as_millis(),
        }
    }

    /// The median is known, and ours is far from it.
    pub fn is_off(self) -> bool {
        self != ClockView::Unknown && !self.agrees()
    }
}

impl fmt::Display for ClockView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClockView::Unknown => write!(f, "not known: too few brokers told theirs"),
            ClockView::Ahead(ms) => {
                let side = if *ms < 0 { "behind" } else { "ahead of" };
                write!(f, "{} s {side} the median of the cluster's", ms.unsigned_abs() / 1_000)
            }
        }
    }
}

/// Asks the others, publishes what came of it, and says when it changed for the worse or the better.
pub async fn look(node: &Node, seen: &watch::Sender<ClockView>) -> bool {
    let Some(metadata) = node.metadata() else { return false };
    let others: Vec<_> = metadata.read(|state| state.brokers().map(|b| b.id).filter(|id| *id != node.me()).collect());
    let asked = others.iter().map(|other| node.call(*other, &Call::Clock, limits::CALL_WITHIN));
    let answers = join_all(asked).await;
    let own = node.clock.wall();
    let mut clocks = vec![own];
    for answer in answers {
        if let Ok(Answer::Clock(wall)) = answer {
            clocks.push(wall);
        }
    }
    let view = compare(own, clocks, others.len() + 1);
    let before = seen.send_replace(view);
    if view.is_off() && !before.is_off() {
        tracing::error!(clock = %view, "this broker's clock is wrong, or the others' are: time retention stops here");
    } else if view == ClockView::Unknown && before.agrees() {
        // It goes on by itself when they are back.
        tracing::info!("too few brokers tell their clocks: time retention waits for them");
    } else if before.is_off() && view.agrees() {
        tracing::info!(clock = %view, "this broker's clock agrees with the others' again");
    }
    view.agrees()
}

/// Of `brokers` in the cluster, `heard` told their clocks, ours among them: more than half must have. Of an
/// even number both in the middle count, and the farther one is taken: of two clocks that disagree nobody
/// knows which one is wrong.
fn compare(own: WallMs, mut heard: Vec<WallMs>, brokers: usize) -> ClockView {
    heard.sort_unstable();
    if heard.len() <= brokers / 2 {
        return ClockView::Unknown;
    }
    let middle = heard.get((heard.len().saturating_sub(1)) / 2..=heard.len() / 2).unwrap_or_default();
    let ahead = middle.iter().map(|clock| own.0.saturating_sub(clock.0));
    ahead.max_by_key(|ms| ms.unsigned_abs()).map_or(ClockView::Unknown, ClockView::Ahead)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    const NOW: i64 = 1_700_000_000_000;

    fn seen(own: i64, others: &[i64], brokers: usize) -> ClockView {
        let heard = std::iter::once(own).chain(others.iter().copied()).map(WallMs).collect();
        compare(WallMs(own), heard, brokers)
    }

    fn may_trim(own: i64, others: &[i64], brokers: usize) -> bool {
        seen(own, others, brokers).agrees()
    }

    /// Seen once: that nobody was up was an ERROR about the clock.
    #[test]
    fn a_clock_that_is_off_says_by_how_much_and_an_unknown_one_is_not_off() {
        let eight_days = 8 * 24 * HOUR;
        let off = seen(NOW + eight_days, &[NOW, NOW + 5], 3);
        assert!(off.is_off() && !off.agrees(), "{off:?}");
        assert_eq!(off.to_string(), "691199 s ahead of the median of the cluster's");
        assert_eq!(seen(NOW - HOUR, &[NOW, NOW], 3).to_string(), "3600 s behind the median of the cluster's");
        assert_eq!(seen(NOW, &[], 3), ClockView::Unknown);
        assert!(!ClockView::Unknown.is_off() && !ClockView::Unknown.agrees());
    }

    #[test]
    fn m4_a_clock_far_from_the_median_may_not_trim_by_time() {
        let peers = [NOW, NOW + 500];
        assert!(may_trim(NOW + 200, &peers, 3) && may_trim(NOW - 50_000, &peers, 3));
        assert!(may_trim(NOW + 60_000, &[NOW, NOW], 3) && !may_trim(NOW + 60_001, &[NOW, NOW], 3));
        assert!(!may_trim(NOW + HOUR, &peers, 3) && !may_trim(0, &peers, 3) && !may_trim(i64::MAX, &peers, 3));
        // A peer that jumped stops nobody but itself.
        assert!(may_trim(NOW, &[NOW + HOUR, NOW + 1], 3) && may_trim(NOW, &[NOW - HOUR, NOW + 1], 3));
    }

    #[test]
    fn m4_of_two_clocks_that_disagree_neither_may() {
        assert!(may_trim(NOW, &[NOW + 1], 3));
        assert!(!may_trim(NOW + HOUR, &[NOW], 3) && !may_trim(NOW, &[NOW + HOUR], 3));
        assert!(!may_trim(NOW + HOUR, &[NOW, NOW, NOW + HOUR], 4));
        assert!(may_trim(NOW, &[NOW + HOUR, NOW, NOW], 4));
    }

    #[test]
    fn m4_a_clock_that_no_majority_is_heard_of_may_not() {
        assert!(may_trim(NOW, &[], 1), "a cluster of one has no other clock");
        assert!(!may_trim(NOW, &[], 2) && !may_trim(NOW, &[], 3) && !may_trim(NOW, &[NOW], 4));
        assert!(may_trim(NOW, &[NOW], 3) && may_trim(NOW, &[NOW, NOW], 5));
    }
}
