//! Long computations, away from the threads that serve consensus.
//!
//! A node's async threads are few (one on two cores), and every heartbeat passes through them: decompressing
//! 64 MiB there is an election. So such work runs on threads of its own, a few at a time; the others wait
//! their turn, and what they wait with is bounded by whoever asks.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use tokio::sync::Semaphore;

/// Turns at computing. Clones share them.
#[derive(Clone, Debug)]
pub struct CpuTurns(Arc<Semaphore>);

impl Default for CpuTurns {
    /// Half the cores, one at least: the other half runs async tasks.
    fn default() -> CpuTurns {
        let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
        CpuTurns::new((cores / 2).max(1))
    }
}

impl CpuTurns {
    /// Lets so many computations run at once.
    pub fn new(at_once: usize) -> CpuTurns {
        CpuTurns(Arc::new(Semaphore::new(at_once)))
    }

    /// Waits for a turn and computes, on a thread that may block. Whoever stops waiting gives the place in the
    /// queue back; what has begun is finished, and keeps its turn until then.
    ///
    /// # Panics
    /// If `work` panics.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        // Never closed; computing without a turn is better than a panic.
        let turn = Arc::clone(&self.0).acquire_owned().await.ok();
        aside(move || {
            let computed = work();
            drop(turn);
            computed
        })
        .await
    }
}

/// Works on a thread that may block, without a turn: for what others already wait for, one at a time.
///
/// # Panics
/// If `work` panics.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(worked) => worked,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Blocking work is cancelled only while the runtime ends, and with it whoever waits here.
            Err(_) => std::future::pending().await,
        },
    }
}

/// A value that a thread of its own reads every so often, for reads that may hang (a network disk's free space):
/// then the last value stands. The first is read at once. The thread ends with the last handle.
pub fn refreshed<T: Copy + Send + Sync + 'static>(
    every: Duration,
    mut read: impl FnMut() -> T + Send + 'static,
) -> Arc<dyn Fn() -> T + Send + Sync> {
    let latest = Arc::new(Mutex::new(read()));
    let (weak, own) = (Arc::downgrade(&latest), latest);
    let refresh = move || {
        loop {
            thread::sleep(every);
            if weak.strong_count() == 0 {
                return;
            }
            let value = read();
            let Some(latest) = weak.upgrade() else { return };
            *latest.lock().expect("no holder panics") = value;
        }
    };
    // Without a thread the first value stands: as if every later read hung.
    if let Err(error) = thread::Builder::new().name("flotilla-look".into()).spawn(refresh) {
        tracing::error!(%error, "no thread to look at the disk: its free space is not followed");
    }
    Arc::new(move || *own.lock().expect("no holder panics"))
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        time::Duration,
    };

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn only_so_many_compute_at_once() {
        let (turns, running, most) = (CpuTurns::new(2), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let computed = join_all((0..20).map(|i| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            turns.run(move || {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::yield_now();
                running.fetch_sub(1, Ordering::SeqCst);
                i
            })
        }));
        assert_eq!(computed.await, (0..20).collect::<Vec<_>>());
        assert!(most.load(Ordering::SeqCst) <= 2);
    }

    #[test]
    fn a_read_that_hangs_leaves_the_last_value() {
        let (go, wait) = mpsc::channel::<()>();
        let mut reads = 0;
        let value = refreshed(Duration::from_millis(1), move || {
            reads += 1;
            if reads == 3 {
                let _ = wait.recv();
            }
            reads
        });
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        let reaches = |wanted| {
            while value() < wanted {
                assert!(std::time::Instant::now() < deadline, "{} instead of at least {wanted}", value());
                thread::yield_now();
            }
        };
        reaches(2);
        assert_eq!(value(), 2, "the third hangs");
        go.send(()).expect("it waits");
        reaches(5);
    }

    #[tokio::test]
    async fn async_tasks_go_on_meanwhile_and_a_waiter_that_leaves_takes_no_turn() {
        let turns = CpuTurns::new(1);
        let (go, wait) = mpsc::channel::<()>();
        let (begun, begins) = tokio::sync::oneshot::channel();
        let first = turns.clone();
        let first = tokio::spawn(async move {
            first
                .run(move || {
                    let _ = begun.send(());
                    wait.recv().expect("the test sends it")
                })
                .await
        });
        // This thread, the only one of the runtime, is free.
        begins.await.expect("the work begins");
        let second = tokio::time::timeout(Duration::from_millis(1), turns.run(|| ()));
        assert!(second.await.is_err(), "the turn is taken");
        go.send(()).expect("the work waits for it");
        first.await.expect("it ends");
        turns.run(|| ()).await;
    }
}
