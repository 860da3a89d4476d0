//! A wait of the forming of a cluster, told to whoever operates it: every wait names whom it waits for and why, and
//! becomes a warning that says what to do when it lasts.

use std::sync::Arc;

use tokio::time::{Duration, Instant};

use crate::broker::node::{Node, Stage};

/// A warning is repeated, twice as seldom each time, up to this.
const WARN_AGAIN_MAX: Duration = Duration::from_secs(600);

pub struct Waiting {
    node: Arc<Node>,
    stage: fn(String) -> Stage,
    log: WaitLog,
}

impl Waiting {
    /// `stage` is what readiness shows with the reason.
    pub fn new(node: &Arc<Node>, stage: fn(String) -> Stage) -> Waiting {
        Waiting { node: Arc::clone(node), stage, log: WaitLog::new(Instant::now(), node.settings.warn_after) }
    }

    /// The wait goes on, and why. `to_do` is for whoever reads the warning.
    pub fn goes_on(&mut self, why: &str, to_do: &str) {
        let (log, waited) = self.log.goes_on(why, Instant::now());
        match log {
            Log::Nothing => {}
            Log::News => tracing::info!(why, "waiting"),
            Log::Warning => tracing::warn!(why, waited_s = waited.as_secs(), "still waiting: {to_do}"),
        }
        let news = (self.stage)(why.to_string());
        self.node.stage.send_if_modified(|stage| {
            let is_waiting = matches!(stage, Stage::Forming(_) | Stage::Joining(_));
            let changed = is_waiting && *stage != news;
            if changed {
                *stage = news;
            }
            changed
        });
    }
}

/// Decides when a wait is news, and when it is a warning.
pub struct WaitLog {
    since: Instant,
    why: String,
    /// How long the wait may take until it is a warning.
    warn_after: Duration,
    warn_at: Instant,
    warn_again: Duration,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Log {
    Nothing,
    News,
    Warning,
}

impl WaitLog {
    pub fn new(now: Instant, warn_after: Duration) -> WaitLog {
        let (warn_at, warn_again) = (now + warn_after, warn_after);
        WaitLog { since: now, why: String::new(), warn_after, warn_at, warn_again }
    }

    /// The warning's time runs from the wait's begin, not from its last reason: reasons may flicker.
    pub fn goes_on(&mut self, why: &str, now: Instant) -> (Log, Duration) {
        let is_news = self.why != why;
        if is_news {
            self.why = why.to_string();
        }
        let waited = now.duration_since(self.since);
        if now >= self.warn_at {
            self.warn_again = (self.warn_again * 2).min(WARN_AGAIN_MAX);
            self.warn_at = now + self.warn_again;
            return (Log::Warning, waited);
        }
        // Afterwards only warnings: a reason that flickers must not fill the log.
        let tells = is_news && waited < self.warn_after;
        (if tells { Log::News } else { Log::Nothing }, waited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::BrokerSettings;

    #[test]
    fn s3_a_wait_is_news_once_and_a_warning_after_thirty_seconds() {
        let begun = Instant::now();
        let mut log = WaitLog::new(begun, BrokerSettings::WARN_AFTER);
        let mut at = |ms: u64, why: &str| log.goes_on(why, begun + Duration::from_millis(ms)).0;
        assert_eq!(at(0, "broker 2"), Log::News);
        assert_eq!(at(200, "broker 2"), Log::Nothing);
        assert_eq!(at(400, "broker 3"), Log::News);
        assert_eq!(at(29_999, "broker 3"), Log::Nothing);
        assert_eq!(at(30_000, "broker 3"), Log::Warning);
        assert_eq!(at(30_200, "broker 2"), Log::Nothing);
        assert_eq!(at(89_999, "broker 3"), Log::Nothing);
        assert_eq!(at(90_000, "broker 3"), Log::Warning);
        let warnings = (90..10_000).filter(|s| at(s * 1_000, "broker 3") == Log::Warning).count();
        assert!((10..25).contains(&warnings), "{warnings}");
    }
}
