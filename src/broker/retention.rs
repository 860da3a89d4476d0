//! Retention: a leader's decision, made from its clock and size bounds, carried out by a replicated
//! trim (SAFETY M4). Never local, never by a follower.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

use super::{
    calls::{Answer, Call},
    hosted::Hosted,
    inner::Inner,
    limits,
};
use crate::{partition::encode_trim, types::WallMs};

pub async fn run(inner: Arc<Inner>) {
    loop {
        sleep(limits::RETENTION_EVERY).await;
        if inner.is_stopping() {
            return;
        }
        let agrees = ask_clocks(&inner).await;
        if inner.clock_agrees.send_replace(agrees) && !agrees {
            tracing::error!("this broker's clock is more than a minute off its peers': time retention stops");
        }
        for hosted in inner.routes.hosted() {
            if hosted.is_ready() {
                trim_expired(&inner, &hosted, agrees).await;
            }
        }
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
    let pending = hosted.group.propose(hosted.status().term, encode_trim(append_time, before)).await;
    // Whatever becomes of it: the next round looks again.
    match timeout(limits::CALL_WITHIN, pending).await {
        Ok(Ok(_)) => tracing::info!(partition = %hosted.name, %before, "retention moved the log start"),
        Ok(Err(error)) => tracing::debug!(partition = %hosted.name, %error, "retention trim not applied"),
        Err(_) => tracing::debug!(partition = %hosted.name, "retention trim takes long"),
    }
}

/// Whether our clock is near the median of all that can be heard now, our own included.
async fn ask_clocks(inner: &Inner) -> bool {
    let Some(metadata) = inner.metadata() else { return false };
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
    near_median(own, clocks)
}

fn near_median(own: WallMs, mut clocks: Vec<WallMs>) -> bool {
    clocks.sort_unstable();
    let Some(median) = clocks.get(clocks.len() / 2) else { return false };
    u128::from(own.0.abs_diff(median.0)) <= limits::CLOCK_SKEW_MAX.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m4_a_clock_far_from_the_median_may_not_trim_by_time() {
        let clocks = |own: i64| near_median(WallMs(own), vec![WallMs(own), WallMs(1_000_000), WallMs(1_000_500)]);
        assert!(clocks(1_000_200) && clocks(950_000));
        assert!(!clocks(4_000_000_000_000) && !clocks(0));
    }
}
