//! Wall time. Only leaders read it, and what they read travels in entries.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::types::WallMs;

pub trait Clock: Send + Sync + 'static {
    fn wall(&self) -> WallMs;
}

/// The machine's clock.
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall(&self) -> WallMs {
        // A clock before 1970 reads as 0: append time is clamped to be non-decreasing anyway.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallMs(since.as_millis() as i64)
    }
}
