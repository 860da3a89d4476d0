//! Wall time. Only leaders read it, and what they read travels in entries.

use std::{
    fs,
    path::PathBuf,
    sync::Mutex,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

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

/// How old what a [`FileClock`] knows of its file may be.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The machine's clock, made wrong by a file, for tests. It holds milliseconds to add, which may be negative and may
/// change at any time, or the word `stopped`: time stands still while it is there. Whatever else it holds, or if it is
/// not there, the clock is right.
pub struct FileClock {
    path: PathBuf,
    known: Mutex<Known>,
}

struct Known {
    looked: Instant,
    skew: Skew,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Skew {
    Ms(i64),
    StoppedAt(WallMs),
}

impl FileClock {
    pub fn new(path: PathBuf) -> FileClock {
        let skew = look(&path, Skew::Ms(0));
        FileClock { path, known: Mutex::new(Known { looked: Instant::now(), skew }) }
    }
}

impl Clock for FileClock {
    fn wall(&self) -> WallMs {
        let mut known = self.known.lock().expect("no holder panics");
        if known.looked.elapsed() >= LOOK_EVERY {
            *known = Known { looked: Instant::now(), skew: look(&self.path, known.skew) };
        }
        known.skew.of(SystemClock.wall())
    }
}

impl Skew {
    fn of(self, now: WallMs) -> WallMs {
        match self {
            Skew::Ms(ms) => WallMs(now.0.saturating_add(ms)),
            Skew::StoppedAt(at) => at,
        }
    }
}

fn look(path: &PathBuf, before: Skew) -> Skew {
    let text = fs::read_to_string(path).unwrap_or_default();
    match (text.trim(), before) {
        ("stopped", Skew::StoppedAt(_)) => before,
        ("stopped", Skew::Ms(_)) => Skew::StoppedAt(before.of(SystemClock.wall())),
        (ms, _) => Skew::Ms(ms.parse().unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_makes_the_clock_wrong_stops_it_and_makes_it_right() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("clock");
        let off = |skew: Skew| skew.of(SystemClock.wall()).0 - SystemClock.wall().0;
        let about = |skew: Skew, ms: i64| (off(skew) - ms).abs() < 1_000;
        assert!(about(look(&path, Skew::Ms(7)), 0), "there is no file");
        for (text, ms) in [("-86400000\n", -86_400_000), ("691200000", 691_200_000), ("nonsense", 0)] {
            fs::write(&path, text).expect("write");
            assert!(about(look(&path, Skew::Ms(0)), ms), "{text}");
        }
        fs::write(&path, "stopped").expect("write");
        let stopped = look(&path, Skew::Ms(-3_600_000));
        assert!(about(stopped, -3_600_000) && look(&path, stopped) == stopped, "{stopped:?}");
        let clock = FileClock::new(path);
        assert_eq!(clock.wall(), clock.wall());
    }
}
