//! A connection's answers: each is worked on until it is there, and they leave in the order of their requests.

use std::{collections::VecDeque, future::Future};

use futures_util::{FutureExt, StreamExt, stream::FuturesOrdered};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::mpsc,
};

use super::{
    client::{Answering, Closing},
    limits,
    segments::Segments,
};

type Answer = Result<Option<Segments>, Closing>;

/// Writes answers in the order of their requests, as many at once as are there. Once a client is gone, what waited for
/// something to happen has no answer, and none may follow it: the rest is worked on and not told.
pub(super) async fn write_answers<W: AsyncWrite + Unpin>(
    mut to: W,
    begun: mpsc::Receiver<Answering>,
) -> Result<(), Closing> {
    let (mut answers, mut is_told) = (Answers::new(begun), true);
    while let Some(answer) = answers.next().await {
        let mut out = Segments::default();
        let failed = gather(answer, &mut answers, &mut out);
        if is_told {
            let writing = async {
                to.write_all_buf(&mut out).await?;
                to.flush().await
            };
            answers.work_until(writing).await?;
        }
        match failed {
            Some(Closing::Gone) => is_told = false,
            Some(failed) => return Err(failed),
            None => {}
        }
    }
    Ok(())
}

/// This answer, and those that are ready behind it. Also why the connection ends after them.
fn gather(first: Answer, answers: &mut Answers, out: &mut Segments) -> Option<Closing> {
    let mut next = Some(first);
    while let Some(answer) = next {
        match answer {
            Ok(answer) => out.append(answer.unwrap_or_default()),
            Err(closing) => return Some(closing),
        }
        let is_full = out.len() >= limits::WRITE_BYTES || out.pieces() >= limits::WRITE_PIECES;
        next = if is_full { None } else { answers.ready() };
    }
    None
}

/// The answers of one connection that are not written yet, [`limits::IN_FLIGHT_MAX`] at most.
struct Answers {
    begun: mpsc::Receiver<Answering>,
    under_way: FuturesOrdered<Answering>,
    /// Of requests before all of those under way.
    ready: VecDeque<Answer>,
}

impl Answers {
    fn new(begun: mpsc::Receiver<Answering>) -> Answers {
        Answers { begun, under_way: FuturesOrdered::new(), ready: VecDeque::new() }
    }

    /// None: all are answered, and no request will come any more.
    async fn next(&mut self) -> Option<Answer> {
        if let Some(answer) = self.ready.pop_front() {
            return Some(answer);
        }
        loop {
            tokio::select! {
                biased;
                Some(answering) = self.begun.recv(), if self.has_place() => self.under_way.push_back(answering),
                answer = self.under_way.next(), if !self.under_way.is_empty() => return answer,
                else => return None,
            }
        }
    }

    /// The next one, if it is there.
    fn ready(&mut self) -> Option<Answer> {
        self.ready.pop_front().or_else(|| self.under_way.next().now_or_never().flatten())
    }

    /// Works on answers meanwhile. What is not polled keeps all that it has: a turn at reading the disk, a place among
    /// the commits of a group. A client that takes no answers must not hold those up.
    async fn work_until<T>(&mut self, other: impl Future<Output = T>) -> T {
        let mut other = std::pin::pin!(other);
        loop {
            tokio::select! {
                biased;
                ended = &mut other => return ended,
                Some(answering) = self.begun.recv(), if self.has_place() => self.under_way.push_back(answering),
                Some(answer) = self.under_way.next(), if !self.under_way.is_empty() => self.ready.push_back(answer),
            }
        }
    }

    fn has_place(&self) -> bool {
        self.under_way.len() + self.ready.len() < limits::IN_FLIGHT_MAX
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering::Relaxed},
        },
        time::Duration,
    };

    use bytes::Bytes;
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn what_lies_behind_a_wait_that_was_given_up_is_done_and_not_told() {
        let (begun, to_answer) = mpsc::channel(2);
        let done = Arc::new(AtomicBool::new(false));
        let does = Arc::clone(&done);
        let waited: Answering = async { Err(Closing::Gone) }.boxed();
        let behind: Answering = async move {
            tokio::task::yield_now().await;
            does.store(true, Relaxed);
            Ok(Some(Segments::from(Bytes::from_static(b"late"))))
        }
        .boxed();
        for answering in [waited, behind] {
            begun.send(answering).await.expect("there is room");
        }
        drop(begun);
        let mut written = Vec::new();
        write_answers(&mut written, to_answer).await.expect("nothing failed");
        assert!(done.load(Relaxed), "the client had asked for it");
        assert!(written.is_empty(), "it would be taken for the answer before it");
    }

    #[tokio::test]
    async fn answers_behind_one_that_is_not_taken_are_worked_on() {
        let (begun, to_answer) = mpsc::channel(2);
        let turns = Arc::new(Semaphore::new(1));
        let mine = Arc::clone(&turns);
        let untaken: Answering = async { Ok(Some(Segments::from(Bytes::from_static(&[0; 64])))) }.boxed();
        let behind: Answering = async move {
            let _turn = mine.acquire().await;
            tokio::task::yield_now().await;
            Ok(None)
        }
        .boxed();
        let (client, broker) = tokio::io::duplex(16);
        let writing = tokio::spawn(write_answers(broker, to_answer));
        begun.send(untaken).await.expect("there is room");
        begun.send(behind).await.expect("there is room");
        let begun_again: Answering = async { Ok(None) }.boxed();
        // It is taken from the channel once the one before it was.
        begun.send(begun_again).await.expect("there is room");
        let turn = tokio::time::timeout(Duration::from_secs(10), turns.acquire()).await;
        assert!(turn.is_ok(), "whoever takes no answers keeps the turn");
        assert!(!writing.is_finished(), "the first answer is larger than what the client has room for");
        drop(client);
    }
}
