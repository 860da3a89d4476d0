//! Ends a process that makes no progress (SAFETY M14): whose disk has been busy with one commit for too
//! long, whose runtime runs no tasks, or that was told to stop and does not.
//!
//! A thread of its own looks several times a second, since whatever hangs may be what would have noticed.
//! It counts its looks and no time: a process that was stopped, or a machine that slept, is not hung.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use crate::storage::{STORE_FAILED_EXIT_CODE, WriterProbe};

const LOOK_EVERY: Duration = Duration::from_millis(250);

/// One commit, fsync and all. A disk that takes longer is as good as lost, and others have led for long
/// what this broker led: it hands over after 2 s.
const COMMIT_LOOKS_MAX: u32 = looks(Duration::from_secs(15));

/// How many looks the runtime may let pass without having run a task.
const RUNTIME_LOOKS_MAX: u32 = looks(Duration::from_secs(15));

/// How many looks a shutdown may take from the signal on: above everything that a clean one waits for, one after the
/// other.
const STOPPING_LOOKS_MAX: u32 = looks(Duration::from_secs(28));

/// How long the message may take: the log may lie on the disk that hangs.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);

const fn looks(within: Duration) -> u32 {
    (within.as_millis() / LOOK_EVERY.as_millis()) as u32
}

/// What the watchdog looks at. Whoever owns the process says through it that the process was told to stop; until then
/// it lives and ends with its server.
#[derive(Clone, Default)]
pub struct LifeSigns {
    /// Counted up by a task.
    beats: Arc<AtomicU64>,
    stopping: Arc<AtomicBool>,
    /// The runtime is gone: there are no more beats.
    is_over: Arc<AtomicBool>,
}

impl LifeSigns {
    /// The process was told to stop.
    pub fn stopping(&self) {
        self.stopping.store(true, Relaxed);
    }

    /// Shows that the runtime runs tasks, until it is gone: also where that is before the first of them ran.
    pub fn beat(self) -> impl Future<Output = ()> + Send + 'static {
        let ending = Ending(self.is_over.clone());
        async move {
            let _ending = ending;
            loop {
                self.beats.fetch_add(1, Relaxed);
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }
}

/// Says so when the task is dropped with its runtime.
struct Ending(Arc<AtomicBool>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Starts the thread. It ends with the runtime, or with a process that was told to stop.
pub fn start(signs: LifeSigns, writer: WriterProbe) -> std::io::Result<()> {
    let look = move || {
        let mut watch = Watch::default();
        loop {
            thread::sleep(LOOK_EVERY);
            let commits = writer.counters().commits.load(Relaxed);
            let seen = Seen {
                commit: writer.commit_running().map(|_| commits),
                beats: signs.beats.load(Relaxed),
                is_stopping: signs.stopping.load(Relaxed),
            };
            match watch.look(seen) {
                Some(hung) => end(hung),
                None if signs.is_over.load(Relaxed) && !seen.is_stopping => return,
                None => {}
            }
        }
    };
    thread::Builder::new().name("flotilla-watch".into()).spawn(look).map(drop)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Number of the commit under way.
    commit: Option<u64>,
    beats: u64,
    is_stopping: bool,
}

/// What keeps the process from getting on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hung {
    Disk,
    Runtime,
    Shutdown,
}

/// What was seen last, and how many looks it has been so.
#[derive(Debug, Default)]
struct Watch {
    last: Seen,
    commit_looks: u32,
    beat_looks: u32,
    stopping_looks: u32,
}

impl Watch {
    fn look(&mut self, seen: Seen) -> Option<Hung> {
        // While it stops there are no beats in the end, and that has a bound of its own.
        let is_beating = seen.beats != self.last.beats || seen.is_stopping;
        let same = |is_same: bool, looks: u32| if is_same { looks + 1 } else { 0 };
        self.commit_looks = same(seen.commit.is_some() && seen.commit == self.last.commit, self.commit_looks);
        self.beat_looks = same(!is_beating, self.beat_looks);
        self.stopping_looks = same(seen.is_stopping, self.stopping_looks);
        self.last = seen;
        if self.commit_looks >= COMMIT_LOOKS_MAX {
            Some(Hung::Disk)
        } else if self.beat_looks >= RUNTIME_LOOKS_MAX {
            Some(Hung::Runtime)
        } else if self.stopping_looks >= STOPPING_LOOKS_MAX {
            Some(Hung::Shutdown)
        } else {
            None
        }
    }
}

impl Hung {
    fn message(self) -> &'static str {
        match self {
            Hung::Disk => {
                "the disk has not finished one write for 15 s: this broker ends, and what it led is led by others; \
                 check the disk (kernel log, SMART, the volume's provider) before it is started again"
            }
            Hung::Runtime => {
                "no task has run for 15 s: this broker ends, and what it led is led by others; \
                 please report this with the log"
            }
            Hung::Shutdown => {
                "stopping takes longer than 28 s, the disk may hang: ended at once; \
                 what was not finished was not acknowledged either"
            }
        }
    }
}

/// Ends the process whatever hangs: what runs at an orderly exit may hang too.
fn end(hung: Hung) -> ! {
    let (said, wait) = std::sync::mpsc::sync_channel(1);
    let last_words = move || {
        tracing::error!("{}", hung.message());
        let _ = said.send(());
    };
    // Without a thread there are no last words.
    let _ = thread::Builder::new().spawn(last_words);
    let _ = wait.recv_timeout(LAST_WORDS_MAX);
    let insist = || {
        thread::sleep(LAST_WORDS_MAX);
        std::process::abort();
    };
    if thread::Builder::new().spawn(insist).is_err() {
        std::process::abort();
    }
    std::process::exit(STORE_FAILED_EXIT_CODE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks until something is found hung; none after far more looks than any limit.
    fn found(mut seen: impl FnMut(u32) -> Seen) -> Option<(u32, Hung)> {
        let mut watch = Watch::default();
        (1..1_000).find_map(|look| watch.look(seen(look)).map(|hung| (look, hung)))
    }

    #[test]
    fn progress_of_any_size_is_progress() {
        let busy =
            |look: u32| Seen { commit: Some(u64::from(look / 50)), beats: u64::from(look / 50), is_stopping: false };
        assert_eq!(found(busy), None, "commits of 12 s, one after the other");
        let idle = |look: u32| Seen { commit: None, beats: u64::from(look), is_stopping: false };
        assert_eq!(found(idle), None);
    }

    #[test]
    fn one_commit_may_take_fifteen_seconds() {
        let hung = |look: u32| Seen { commit: Some(7), beats: u64::from(look), is_stopping: false };
        let (look, hung) = found(hung).expect("it is noticed");
        assert_eq!(hung, Hung::Disk);
        assert_eq!(LOOK_EVERY * (look - 1), Duration::from_secs(15));
    }

    #[test]
    fn a_runtime_that_runs_nothing_is_noticed() {
        let (look, hung) = found(|_| Seen { commit: None, beats: 1, is_stopping: false }).expect("it is noticed");
        assert_eq!((LOOK_EVERY * (look - 1), hung), (Duration::from_secs(15), Hung::Runtime));
    }

    #[test]
    fn stopping_has_a_bound_of_its_own() {
        let (look, hung) =
            found(|look| Seen { commit: None, beats: u64::from(look), is_stopping: true }).expect("ends");
        assert_eq!((LOOK_EVERY * look, hung), (Duration::from_secs(28), Hung::Shutdown));
    }
}
