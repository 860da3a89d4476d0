//! The owner of what runs by itself in a broker: one set of tasks under one token. What answers through a handle (an
//! appender, confirmation rounds, a term's commits) ends with the last of them, which the broker holds: these tasks, which
//! hold the broker, must have ended for that.

use std::{future::Future, sync::Mutex};

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

const UNPOISONED: &str = "no code that holds this lock panics";

/// The tasks of a broker: see the module's head.
#[derive(Default)]
pub struct Tasks {
    running: Mutex<JoinSet<()>>,
    over: CancellationToken,
}

impl Tasks {
    /// Runs a task until it ends by itself or the broker has stopped; then it is dropped where it waits.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let over = self.over.clone();
        let mut running = self.running.lock().expect(UNPOISONED);
        while let Some(ended) = running.try_join_next() {
            report(ended);
        }
        running.spawn(async move {
            over.run_until_cancelled(task).await;
        });
    }

    /// Ends all of them, and waits until they have. What is spawned later ends at once.
    pub async fn stop(&self) {
        self.over.cancel();
        let mut running = std::mem::take(&mut *self.running.lock().expect(UNPOISONED));
        while let Some(ended) = running.join_next().await {
            report(ended);
        }
    }
}

/// A panic has been printed by its hook; here it is said whose it was.
fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a task of this broker has panicked: an error of ours");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::{Notify, oneshot};

    use super::*;

    #[tokio::test]
    async fn all_end_when_it_stops_and_what_comes_later_ends_at_once() {
        let tasks = Tasks::default();
        let (held, gone) = oneshot::channel::<()>();
        tasks.spawn(async move {
            let _held = held;
            std::future::pending().await
        });
        tasks.stop().await;
        gone.await.expect_err("it was dropped");
        let ran = Arc::new(Notify::new());
        let run = ran.clone();
        tasks.spawn(async move { run.notify_one() });
        tasks.stop().await;
        let is_late = tokio::time::timeout(std::time::Duration::ZERO, ran.notified()).await;
        assert!(is_late.is_err(), "it ran although the broker has stopped");
    }

    #[tokio::test]
    async fn those_that_have_ended_are_forgotten() {
        let tasks = Tasks::default();
        for _ in 0..100 {
            tasks.spawn(async {});
            tokio::task::yield_now().await;
        }
        assert!(tasks.running.lock().unwrap().len() < 10);
    }
}
