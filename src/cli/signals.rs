//! SIGINT, SIGTERM and SIGHUP as something to wait for, so that a command ends cleanly.

use std::{fs, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};

use super::exit::Failure;

/// A signal counts as another one only so long after the one before: `timeout` signals a process and its
/// group, a terminal that closes sends SIGHUP and SIGTERM, and one wish must not be taken for two.
const APART: Duration = Duration::from_secs(1);

/// The signals that mean "stop". From `listen` on they end nothing by themselves.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// The signal for a hang-up; `None` if whoever started us asked that it be ignored (`nohup`).
    hang_up: Option<Signal>,
    /// When the last one that counted came.
    last: Option<Instant>,
}

impl Signals {
    pub fn listen() -> Result<Signals, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")));
        let is_ignored = fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hang_up(&status));
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: if is_ignored { None } else { Some(listen(SignalKind::hangup())?) },
            last: None,
        })
    }

    /// Waits for the next signal, and returns its name.
    pub async fn next(&mut self) -> &'static str {
        loop {
            let name = self.next_of_any().await;
            if is_another(&mut self.last, Instant::now()) {
                return name;
            }
        }
    }

    async fn next_of_any(&mut self) -> &'static str {
        let Signals { terminate, interrupt, hang_up, last: _ } = self;
        let hang_up = async {
            match hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            _ = hang_up => "SIGHUP",
        }
    }
}

/// Whether a signal that comes `now` is a wish of its own.
fn is_another(last: &mut Option<Instant>, now: Instant) -> bool {
    let is_another = last.is_none_or(|last| now.duration_since(last) >= APART);
    if is_another {
        *last = Some(now);
    }
    is_another
}

/// Whether a process is told to ignore SIGHUP, by its `/proc/PID/status`: signal 1 is the lowest bit.
fn ignores_hang_up(status: &str) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).is_some_and(|bits| bits & 1 != 0)
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[test]
    fn nohup_is_seen() {
        assert!(ignores_hang_up("Name:\tx\nSigBlk:\t0\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"));
        assert!(!ignores_hang_up("Name:\tx\nSigIgn:\t0000000000001000\n") && !ignores_hang_up(""));
    }

    /// Seen once: one `timeout` was taken for two wishes.
    #[test]
    fn what_follows_at_once_is_the_same_wish() {
        let (mut last, start) = (None, Instant::now());
        let mut at = |ms: u64| is_another(&mut last, start + Duration::from_millis(ms));
        assert!(at(5) && !at(5) && !at(900) && at(1_005) && !at(1_900) && at(60_000));
    }

    /// Seen once: a hang-up killed a server at once.
    #[tokio::test]
    async fn a_hang_up_is_a_wish_to_stop() {
        let mut signals = Signals::listen().expect("it listens");
        if signals.hang_up.is_some() {
            kill_process(getpid(), Signal::HUP).expect("we may signal ourselves");
            assert_eq!(signals.next().await, "SIGHUP");
        }
    }
}
