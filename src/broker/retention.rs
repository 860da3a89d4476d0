//! Retention: a leader's decision, made from its clock and size bounds, carried out by a replicated
//! trim (SAFETY M4). Never local, never by a follower. The same rounds carry a topic's `segment.*`
//! configs to its partitions, as entries, so that every replica closes its segments at the same place.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

use super::{
    calls::{Answer, Call},
    hosted::Hosted,
    inner::Inner,
    limits,
};
use crate::{
    partition::{encode_resize, encode_trim},
    types::WallMs,
};

pub async fn run(inner: Arc<Inner>) {
    loop {
        sleep(limits::RETENTION_EVERY).await;
        if inner.is_stopping() {
            return;
        }
        round(&inner).await;
    }
}

/// Looks once at all that this broker leads.
pub async fn round(inner: &Inner) {
    let clocks = ask_clocks(inner).await;
    let agrees = clocks == Clocks::Agree;
    if inner.clock_agrees.send_replace(agrees) && !agrees {
        match clocks {
            Clocks::Agree => {}
            Clocks::Differ => {
                tracing::error!("this broker's clock is not within a minute of its peers': time retention stops");
            }
            // It goes on by itself when they are back.
            Clocks::Unheard => tracing::info!("too few peers tell their clocks: time retention waits for them"),
        }
    }
    for hosted in inner.routes.hosted() {
        if hosted.is_ready() {
            resize_segments(inner, &hosted).await;
            trim_expired(inner, &hosted, agrees).await;
        }
    }
}

async fn resize_segments(inner: &Inner, hosted: &Hosted) {
    let wanted = hosted.rules().segment;
    let now = inner.clock.wall();
    let command = hosted
        .group
        .read(|state| (state.segment_limits() != wanted).then(|| encode_resize(state.append_time(now), wanted)));
    if let Some(command) = command
        && propose(hosted, command).await
    {
        tracing::info!(partition = %hosted.name, ?wanted, "segments have other limits now");
    }
}

async fn trim_expired(inner: &Inner, hosted: &Hosted, clock_agrees: bool) {
    let rules = hosted.rules();
    let retention_ms = rules.retention_ms.filter(|_| clock_agrees);
    let now = inner.clock.wall();
    let found = hosted.group.read(|state| {
        let before = state.retention_offset(now, retention_ms, rules.retention_bytes);
        before.filter(|before| *before > state.log_start()).map(|before| (before, state.append_time(now)))
    });
    let Some((before, append_time)) = found else { return };
    if propose(hosted, encode_trim(append_time, before)).await {
        tracing::info!(partition = %hosted.name, %before, "retention moved the log start");
    }
}

/// Whether it was applied in time. Whatever becomes of it: the next round looks again.
async fn propose(hosted: &Hosted, command: Bytes) -> bool {
    let pending = hosted.group.propose(hosted.status().term, command).await;
    match timeout(limits::CALL_WITHIN, pending).await {
        Ok(Ok(_)) => return true,
        Ok(Err(error)) => tracing::debug!(partition = %hosted.name, %error, "retention's entry not applied"),
        Err(_) => tracing::debug!(partition = %hosted.name, "retention's entry takes long"),
    }
    false
}

/// How our clock stands to those of the cluster's brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clocks {
    Agree,
    Differ,
    /// No majority told theirs.
    Unheard,
}

async fn ask_clocks(inner: &Inner) -> Clocks {
    let Some(metadata) = inner.metadata() else { return Clocks::Unheard };
    let others: Vec<_> = metadata.read(|state| state.brokers().map(|b| b.id).filter(|id| *id != inner.me()).collect());
    let asked = others.iter().map(|other| inner.call(*other, &Call::Clock, limits::CALL_WITHIN));
    let answers = join_all(asked).await;
    let own = inner.clock.wall();
    let mut clocks = vec![own];
    for answer in answers {
        if let Ok(Answer::Clock(wall)) = answer {
            clocks.push(wall);
        }
    }
    compare(own, clocks, others.len() + 1)
}

/// Of `brokers` in the cluster, `heard` told their clocks, ours among them: more than half must have, and
/// ours must be near their median. Of an even number that is both in the middle: of two clocks that
/// disagree nobody knows which one is wrong.
fn compare(own: WallMs, mut heard: Vec<WallMs>, brokers: usize) -> Clocks {
    if heard.len() <= brokers / 2 {
        return Clocks::Unheard;
    }
    heard.sort_unstable();
    let near = |clock: &WallMs| u128::from(own.0.abs_diff(clock.0)) <= limits::CLOCK_SKEW_MAX.as_millis();
    let middle = heard.get((heard.len().saturating_sub(1)) / 2..=heard.len() / 2);
    match middle.is_some_and(|middle| middle.iter().all(near)) {
        true => Clocks::Agree,
        false => Clocks::Differ,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    const NOW: i64 = 1_700_000_000_000;

    fn may_trim(own: i64, others: &[i64], brokers: usize) -> bool {
        let heard = std::iter::once(own).chain(others.iter().copied()).map(WallMs).collect();
        compare(WallMs(own), heard, brokers) == Clocks::Agree
    }

    /// Operator's review S10: that nobody was up was an ERROR about the clock.
    #[test]
    fn peers_that_are_away_are_no_clocks_that_differ() {
        let of = |others: &[i64]| {
            compare(WallMs(NOW), std::iter::once(NOW).chain(others.iter().copied()).map(WallMs).collect(), 3)
        };
        assert_eq!([of(&[]), of(&[NOW]), of(&[NOW + HOUR])], [Clocks::Unheard, Clocks::Agree, Clocks::Differ]);
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
