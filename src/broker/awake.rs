//! Whether the process has slept: was stopped, or waited for a processor, for as long as others take to choose another
//! leader. What it believes of its leaderships then is of the past, and when it goes on, requests in its sockets
//! may be answered before its timers and its peers say so (etcd #20418).
//!
//! Limit: it is told by the monotonic clock. Where that stands still too (a suspended machine, a frozen virtual one)
//! nobody here can know; what is read below an old high watermark is true all the same.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep};

/// Beats in the time that others wait before they choose another leader.
const BEATS: u32 = 4;

#[derive(Debug)]
pub struct Awake {
    began: Instant,
    /// The last beat, in milliseconds since then.
    beat_ms: AtomicU64,
    sleeps: AtomicU64,
    patience_ms: u64,
}

impl Awake {
    /// `patience`: how long others wait at least before they choose another leader.
    pub fn new(patience: Duration) -> Awake {
        let patience_ms = ms(patience).max(1);
        Awake { began: Instant::now(), beat_ms: AtomicU64::new(0), sleeps: AtomicU64::new(0), patience_ms }
    }

    /// How often it has slept so far. None: it wakes just now.
    pub fn sleeps(&self) -> Option<u64> {
        self.sleeps_at(ms(self.began.elapsed()))
    }

    /// Beats for ever: for one task.
    pub async fn run(&self) {
        loop {
            self.beat_at(ms(self.began.elapsed()));
            sleep(Duration::from_millis(self.patience_ms) / BEATS).await;
        }
    }

    /// The beat is read before the count, and was written after it: whoever sees the beat behind a sleep counts the sleep.
    fn sleeps_at(&self, now_ms: u64) -> Option<u64> {
        let beat_ms = self.beat_ms.load(Ordering::Acquire);
        let is_awake = now_ms.saturating_sub(beat_ms) < self.patience_ms;
        is_awake.then(|| self.sleeps.load(Ordering::Acquire))
    }

    fn beat_at(&self, now_ms: u64) {
        if self.sleeps_at(now_ms).is_none() {
            self.sleeps.fetch_add(1, Ordering::Release);
        }
        // Never back: in tests the clock of whoever asks may be ahead.
        self.beat_ms.fetch_max(now_ms, Ordering::AcqRel);
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleep_is_seen_before_the_first_beat_behind_it_and_counted_after_it() {
        let awake = Awake::new(Duration::from_millis(500));
        assert_eq!(awake.sleeps_at(499), Some(0), "a beat that is a little late is none");
        assert_eq!(awake.sleeps_at(500), None);
        awake.beat_at(500);
        assert_eq!(awake.sleeps_at(500), Some(1));
        awake.beat_at(900);
        assert_eq!(awake.sleeps_at(1_399), Some(1));
        assert_eq!(awake.sleeps_at(30_000), None);
        awake.beat_at(30_000);
        assert_eq!(awake.sleeps_at(30_001), Some(2));
    }
}
