//! Confirmations shared by those who wait for one: whoever asks while a round is under way is served by
//! the next. So a thousand reads cost a leader one ReadIndex, and none is answered from before it asked.

use std::{future::Future, pin::Pin};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{broker::groups::limits, types::LogIndex};

/// A round that ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// Covers everything committed before the round began.
    pub index: LogIndex,
    /// The moment at which the round began.
    pub began: Instant,
}

type Round = Pin<Box<dyn Future<Output = Option<LogIndex>> + Send>>;
type Waiter = oneshot::Sender<Option<Confirmed>>;

/// Handle to the task that runs the rounds; the task ends with the last handle.
#[derive(Clone)]
pub struct Rounds(mpsc::Sender<Waiter>);

impl Rounds {
    /// `round` asks once; None if nobody confirmed.
    pub fn start(round: impl Fn() -> Round + Send + 'static) -> Rounds {
        let (sender, waiting) = mpsc::channel(limits::READERS_MAX);
        tokio::spawn(run(waiting, round));
        Rounds(sender)
    }

    /// A round that began after this call. None: it failed.
    pub async fn next(&self) -> Option<Confirmed> {
        let (waiter, answer) = oneshot::channel();
        self.0.send(waiter).await.ok()?;
        answer.await.ok()?
    }
}

async fn run(mut waiting: mpsc::Receiver<Waiter>, round: impl Fn() -> Round) {
    while let Some(first) = waiting.recv().await {
        let mut waiters = vec![first];
        while waiters.len() < limits::READERS_MAX
            && let Ok(more) = waiting.try_recv()
        {
            waiters.push(more);
        }
        // Everybody here has asked by now: what was committed before they did is covered.
        let began = Instant::now();
        let confirmed = round().await.map(|index| Confirmed { index, began });
        for waiter in waiters {
            // Whoever asked may have given up.
            let _ = waiter.send(confirmed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use tokio::sync::Semaphore;

    use super::*;

    /// Two rounds serve everybody who came during the first, and nobody is served by a round that had
    /// begun before he asked.
    #[tokio::test]
    async fn m9_who_asks_during_a_round_is_served_by_the_next_one() {
        let (rounds_run, gate) = (Arc::new(AtomicU64::new(0)), Arc::new(Semaphore::new(0)));
        let rounds = Rounds::start({
            let (rounds_run, gate) = (Arc::clone(&rounds_run), Arc::clone(&gate));
            move || {
                let (rounds_run, gate) = (Arc::clone(&rounds_run), Arc::clone(&gate));
                Box::pin(async move {
                    let number = rounds_run.fetch_add(1, Ordering::SeqCst) + 1;
                    gate.acquire().await.unwrap().forget();
                    Some(LogIndex(number))
                })
            }
        });
        let first = tokio::spawn({
            let rounds = rounds.clone();
            async move { rounds.next().await.unwrap().index }
        });
        while rounds_run.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let late: Vec<_> = (0..100)
            .map(|_| {
                let rounds = rounds.clone();
                tokio::spawn(async move { rounds.next().await.unwrap().index })
            })
            .collect();
        while rounds.0.capacity() > limits::READERS_MAX - 100 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(100);
        assert_eq!(first.await.unwrap(), LogIndex(1));
        for reader in late {
            assert_eq!(reader.await.unwrap(), LogIndex(2));
        }
        assert_eq!(rounds_run.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_round_serves_no_more_readers_than_its_limit() {
        let (rounds_run, gate) = (Arc::new(AtomicU64::new(0)), Arc::new(Semaphore::new(0)));
        let (run, open) = (Arc::clone(&rounds_run), Arc::clone(&gate));
        let rounds = Rounds::start(move || {
            let (run, open) = (Arc::clone(&run), Arc::clone(&open));
            Box::pin(async move {
                let number = run.fetch_add(1, Ordering::SeqCst) + 1;
                open.acquire().await.unwrap().forget();
                Some(LogIndex(number))
            })
        });
        let first = tokio::spawn({
            let rounds = rounds.clone();
            async move { rounds.next().await }
        });
        while rounds_run.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let readers: Vec<_> = (0..=limits::READERS_MAX)
            .map(|_| {
                let rounds = rounds.clone();
                tokio::spawn(async move { rounds.next().await.unwrap().index })
            })
            .collect();
        while rounds.0.capacity() > 0 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(3);
        let mut served = Vec::new();
        for reader in readers {
            served.push(reader.await.unwrap());
        }
        assert_eq!(first.await.unwrap().unwrap().index, LogIndex(1));
        let by = |round| served.iter().filter(|served| **served == LogIndex(round)).count();
        assert_eq!((by(2), by(3)), (limits::READERS_MAX, 1));
    }

    #[tokio::test]
    async fn a_failed_round_confirms_nothing() {
        let rounds = Rounds::start(|| Box::pin(async { None }));
        assert_eq!(rounds.next().await, None);
    }
}
