//! Commits of all groups, collected into few entries (SAFETY M8): whatever came within a few milliseconds,
//! or while the entry before was under way, goes together. One entry at a time, so that commits apply in
//! the order they came even when a proposal must be repeated.
//!
//! Promises: an answer is given when its entry is applied, hence fsynced on a majority; what waits is
//! bounded in number and bytes, and who finds no room waits. Leaves out: whether a commit is allowed,
//! which `apply` decides offset by offset (SAFETY M9).

use std::sync::Arc;

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::proposer::{Applied, NotApplied, Proposer};
use crate::{
    broker::groups::limits,
    group::{Commit, CommitResult, GroupCommand, GroupOutcome},
    metrics::GroupProbe,
    seam::plant::{self, Plant},
};

/// A commit on its way into an entry.
struct Waiting {
    commit: Commit,
    bytes: usize,
    arrived: Instant,
    deadline: Instant,
    answer: oneshot::Sender<Result<CommitResult, NotApplied>>,
    room: OwnedSemaphorePermit,
}

/// Where the commits of a tenure wait.
pub struct CommitQueue {
    sender: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
    over: CancellationToken,
}

/// The other end, for [`run`].
pub struct Queue {
    receiver: mpsc::Receiver<Waiting>,
    over: CancellationToken,
    /// The first that did not fit the last entry.
    next: Option<Waiting>,
}

pub fn queue() -> (CommitQueue, Queue) {
    let (sender, receiver) = mpsc::channel(limits::COMMITS_MAX);
    let room = Arc::new(Semaphore::new(limits::COMMIT_BYTES_MAX));
    let over = CancellationToken::new();
    (CommitQueue { sender, room, over: over.clone() }, Queue { receiver, over, next: None })
}

impl CommitQueue {
    /// Waits for the commit's entry to be applied. `NotDone`: it was never proposed.
    pub async fn commit(&self, commit: Commit, deadline: Instant) -> Result<CommitResult, NotApplied> {
        let arrived = Instant::now();
        let bytes = encoded_bytes(&commit);
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = timeout_at(deadline, Arc::clone(&self.room).acquire_many_owned(permits)).await;
        let Ok(Ok(room)) = room else { return Err(NotApplied::NotDone) };
        let (answer, wait) = oneshot::channel();
        let waiting = Waiting { commit, bytes, arrived, deadline, answer, room };
        match timeout_at(deadline, self.sender.send(waiting)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Err(NotApplied::NotDone),
        }
        match timeout_at(deadline, wait).await {
            Ok(Ok(result)) => result,
            // Dropped unanswered, or late: it may have been proposed.
            Ok(Err(_)) | Err(_) => Err(NotApplied::Unknown),
        }
    }

    /// The term is over: what still waits for an entry is refused without effect.
    pub fn close(&self) {
        self.over.cancel();
    }
}

/// Collects and proposes until the term is over, then refuses what is left.
pub async fn run(proposer: Proposer, probe: GroupProbe, mut queue: Queue) {
    while let Some(first) = queue.first().await {
        let entry = queue.fill(first).await;
        if !entry.is_empty() {
            propose(&proposer, &probe, entry).await;
        }
    }
    queue.receiver.close();
    if let Some(waiting) = queue.next.take() {
        let _ = waiting.answer.send(Err(NotApplied::NotDone));
    }
    while let Some(waiting) = queue.receiver.recv().await {
        let _ = waiting.answer.send(Err(NotApplied::NotDone));
    }
}

async fn propose(proposer: &Proposer, probe: &GroupProbe, entry: Vec<Waiting>) {
    let deadline = entry.iter().map(|waiting| waiting.deadline).max().unwrap_or_else(Instant::now);
    let (commits, answers): (Vec<Commit>, Vec<_>) =
        entry.into_iter().map(|waiting| (waiting.commit, (waiting.answer, waiting.arrived, waiting.room))).unzip();
    probe.commits_proposed(commits.len() as u64);
    if plant::on(Plant::CommitAckedEarly) {
        for (answer, _, _) in answers {
            let _ = answer.send(Ok(Ok(Vec::new())));
        }
        let _ = proposer.propose(GroupCommand::Commit(commits), deadline).await;
        return;
    }
    let mut results = match proposer.propose(GroupCommand::Commit(commits), deadline).await {
        Ok(Applied { result: Ok(GroupOutcome::Committed { results }), .. }) => Ok(results.into_iter()),
        // A batch is never refused as a whole.
        Ok(other) => {
            tracing::error!(?other, "commits were answered as something else");
            Err(NotApplied::Unknown)
        }
        Err(error) => Err(error),
    };
    for (answer, arrived, _room) in answers {
        let result = match &mut results {
            Ok(results) => results.next().ok_or(NotApplied::Unknown),
            Err(error) => Err(*error),
        };
        if result.is_ok() {
            probe.commit_acknowledged(arrived.elapsed());
        }
        // Whoever asked may be gone; what happened stands.
        let _ = answer.send(result);
    }
}

impl Queue {
    /// The commit that begins the next entry. None: the term is over.
    async fn first(&mut self) -> Option<Waiting> {
        if self.over.is_cancelled() {
            return None;
        }
        if let Some(waiting) = self.next.take() {
            return Some(waiting);
        }
        tokio::select! {
            biased;
            () = self.over.cancelled() => None,
            first = self.receiver.recv() => first,
        }
    }

    /// What comes within [`limits::COMMIT_EVERY`] of the first, up to the bytes of an entry. What came
    /// while the last entry was under way has waited as long already, and goes at once.
    async fn fill(&mut self, first: Waiting) -> Vec<Waiting> {
        let until = first.arrived + limits::COMMIT_EVERY;
        let mut bytes = first.bytes;
        let mut entry = vec![first];
        loop {
            let more = match self.receiver.try_recv() {
                Ok(waiting) => waiting,
                Err(_) => match timeout_at(until, self.receiver.recv()).await {
                    Ok(Some(waiting)) => waiting,
                    Ok(None) | Err(_) => break,
                },
            };
            if bytes + more.bytes > limits::COMMIT_ENTRY_BYTES_MAX {
                self.next = Some(more);
                break;
            }
            bytes += more.bytes;
            entry.push(more);
        }
        // Whoever gave up on one may have committed something newer, which it must not follow.
        let now = Instant::now();
        entry.retain(|waiting| !waiting.answer.is_closed() && now < waiting.deadline);
        entry
    }
}

/// An upper bound of what the commit takes in an entry.
pub fn encoded_bytes(commit: &Commit) -> usize {
    const NUMBERS: usize = 40;
    let names = commit.group.0.len() + commit.member.0.len() + commit.instance.as_ref().map_or(0, String::len);
    let offsets = commit.offsets.iter().map(|offset| offset.topic.len() + offset.metadata.len() + NUMBERS);
    names + NUMBERS + offsets.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::join_all;

    use super::*;
    use crate::{group::CommitOffset, types::Offset};

    const HOUR: Duration = Duration::from_secs(3_600);

    /// A commit of about so many bytes.
    fn commit(offset: i64, bytes: usize) -> Commit {
        let offsets = vec![CommitOffset { offset: Offset(offset), metadata: "x".repeat(bytes), ..Default::default() }];
        Commit { group: "g".into(), offsets, ..Commit::default() }
    }

    fn offsets(entry: &[Waiting]) -> Vec<i64> {
        entry.iter().map(|waiting| waiting.commit.offsets[0].offset.0).collect()
    }

    async fn entry(queue: &mut Queue) -> Vec<i64> {
        let first = queue.first().await.expect("the term goes on");
        offsets(&queue.fill(first).await)
    }

    /// Entries hold what came within 5 ms, in order, and no more bytes than they may.
    #[tokio::test(start_paused = true)]
    async fn commits_of_a_moment_share_an_entry_up_to_its_bytes() {
        let (commits, mut queue) = queue();
        let deadline = Instant::now() + HOUR;
        let half = limits::COMMIT_ENTRY_BYTES_MAX / 2;
        let sent =
            join_all([(1, 10), (2, half), (3, half), (4, 10)].map(|(n, b)| commits.commit(commit(n, b), deadline)));
        let taken = async {
            let (first, second) = (entry(&mut queue).await, entry(&mut queue).await);
            assert_eq!((first, second), (vec![1, 2], vec![3, 4]));
            let late = tokio::time::timeout(limits::COMMIT_EVERY * 2, queue.first()).await;
            assert!(late.is_err(), "nothing else came");
        };
        tokio::join!(async { assert_eq!(sent.await, vec![Err(NotApplied::Unknown); 4]) }, taken);
    }

    /// Whoever gave up may have committed something newer since, elsewhere.
    #[tokio::test(start_paused = true)]
    async fn a_commit_whose_asker_is_gone_or_whose_time_is_over_is_not_proposed() {
        let (commits, mut queue) = queue();
        let now = Instant::now();
        {
            let gone = commits.commit(commit(1, 10), now + HOUR);
            assert!(tokio::time::timeout(Duration::from_millis(1), gone).await.is_err());
        }
        let late = commits.commit(commit(2, 10), now + Duration::from_millis(3)).await;
        assert_eq!(late, Err(NotApplied::Unknown), "it was queued: nobody can tell");
        let (_, taken) = tokio::join!(
            tokio::time::timeout(Duration::from_millis(100), commits.commit(commit(3, 10), now + HOUR)),
            entry(&mut queue),
        );
        assert_eq!(taken, [3]);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_wait_are_bounded_and_who_finds_no_room_is_refused_without_effect() {
        let (commits, mut queue) = queue();
        let deadline = Instant::now() + Duration::from_secs(1);
        let mebibyte = 1024 * 1024 - encoded_bytes(&commit(0, 0));
        let full = limits::COMMIT_BYTES_MAX / (1024 * 1024);
        let sent = join_all((0..full as i64).map(|n| commits.commit(commit(n, mebibyte), deadline + HOUR)));
        let refused = async {
            assert_eq!(commits.commit(commit(99, 10), deadline).await, Err(NotApplied::NotDone));
            // One that leaves makes room.
            drop(queue.first().await);
            let more = commits.commit(commit(100, 10), Instant::now() + Duration::from_secs(1)).await;
            assert_eq!(more, Err(NotApplied::Unknown), "queued, and never proposed here");
        };
        tokio::select! {
            // First those that fill the room.
            biased;
            _ = sent => panic!("nobody proposes"),
            () = refused => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn commits_that_wait_are_bounded_in_number_too() {
        let (commits, mut queue) = queue();
        let deadline = Instant::now() + Duration::from_secs(1);
        let sent = join_all((0..limits::COMMITS_MAX as i64).map(|n| commits.commit(commit(n, 0), deadline + HOUR)));
        let refused = async {
            assert_eq!(commits.commit(commit(-1, 0), deadline).await, Err(NotApplied::NotDone));
            drop(queue.first().await);
            let more = commits.commit(commit(-2, 0), Instant::now() + Duration::from_secs(1)).await;
            assert_eq!(more, Err(NotApplied::Unknown), "queued, and never proposed here");
        };
        tokio::select! {
            biased;
            _ = sent => panic!("nobody proposes"),
            () = refused => {}
        }
    }

    #[tokio::test]
    async fn a_term_that_is_over_begins_no_entry() {
        let (commits, mut queue) = queue();
        commits.close();
        let deadline = Instant::now() + Duration::from_millis(10);
        let (_, first) = tokio::join!(commits.commit(commit(1, 10), deadline), queue.first());
        assert!(first.is_none());
    }
}
