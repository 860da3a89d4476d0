//! The log writer: the one task through which every write of a node goes to its disk, in the order
//! in which the writes were queued (SAFETY B1), many of them in one commit with one fsync.
//!
//! Promises:
//! - A write is completed exactly once, in queue order, after its commit returned: a synced one is
//!   then durable, and so is every write queued before it (SAFETY M6). Only if the runtime is shut
//!   down under the writer, as in a simulated crash, is a write dropped without completion.
//! - Unsynced writes cause no fsync. They go to disk with the next synced one, or alone after
//!   [`UNSYNCED_DELAY_MAX`].
//! - After a failed commit nothing is written any more: the failure is reported once, then every
//!   write that waits, and every later one, is completed with it.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use super::{Family, Kv, ScanLimit, StoreFailed, WriteBatch, WriteOp, WriterProbe, keys};
use crate::{
    seam::plant::{self, Plant},
    types::{Offset, RaftGroupId},
};

/// The bytes of one commit. Larger ones gained no throughput when measured, and they delay those behind them.
const COMMIT_BYTES_MAX: usize = 4 << 20;

/// How long an unsynced write waits for a synced one to ride with.
pub(super) const UNSYNCED_DELAY_MAX: Duration = Duration::from_secs(1);

/// What a queued write costs besides its bytes.
const WRITE_OVERHEAD: usize = 128;

/// Called exactly once, by the writer's task or within the call that it was given to: it must be
/// quick and must not wait. Dropped without a call only when the runtime is shut down.
pub type Done = Box<dyn FnOnce(Result<(), StoreFailed>) + Send>;

/// Called once, when a write failed or damaged data was read, before anyone hears of it. In
/// production it does not return; in tests it records.
pub type OnFailure = Arc<dyn Fn(&StoreFailed) + Send + Sync>;

pub(super) struct Write {
    pub batch: WriteBatch,
    pub is_synced: bool,
    /// Whether it holds nothing that peers need to hear of, see [`Writer::loud_commit_no`].
    pub is_quiet: bool,
    /// Points of the sparse index to drop, see [`drop_points`]. Takes effect with the batch.
    pub drop_points: Option<(RaftGroupId, Offset)>,
    pub done: Option<Done>,
}

impl Write {
    pub fn synced(batch: WriteBatch, done: Done) -> Write {
        Write { batch, is_synced: true, is_quiet: false, drop_points: None, done: Some(done) }
    }

    pub fn unsynced(batch: WriteBatch) -> Write {
        Write { batch, is_synced: false, is_quiet: false, drop_points: None, done: None }
    }

    pub fn quiet(self) -> Write {
        Write { is_quiet: true, ..self }
    }

    pub fn with_done(self, done: Done) -> Write {
        Write { done: Some(done), ..self }
    }

    fn complete(self, result: Result<(), StoreFailed>) {
        if let Some(done) = self.done {
            done(result);
        }
    }
}

/// A write that was not queued. Complete it once no lock is held: completions take locks.
#[must_use]
pub(super) struct Refused {
    write: Write,
    because: StoreFailed,
}

impl Refused {
    pub fn new(write: Write, because: StoreFailed) -> Refused {
        Refused { write, because }
    }

    /// Completes the write and returns why it was refused.
    pub fn because(self) -> StoreFailed {
        let because = self.because.clone();
        self.complete();
        because
    }

    pub fn complete(self) {
        self.write.complete(Err(self.because));
    }
}

struct Waiting {
    write: Write,
    bytes: usize,
    since: Instant,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// The bytes of what waits and of what is being committed.
    bytes: usize,
    synced: usize,
    is_committing: bool,
    is_closed: bool,
    failed: Option<StoreFailed>,
}

/// When the writer has something to do.
#[derive(Debug, PartialEq)]
enum Due {
    Now,
    At(Instant),
    /// Nothing is due before a write is queued.
    Never,
    /// The queue is closed and empty: the writer ends.
    End,
}

impl Queue {
    fn due(&self) -> Due {
        let Some(oldest) = self.waiting.front() else {
            return if self.is_closed { Due::End } else { Due::Never };
        };
        if self.synced > 0 || self.is_closed || self.bytes >= COMMIT_BYTES_MAX {
            Due::Now
        } else {
            Due::At(oldest.since + UNSYNCED_DELAY_MAX)
        }
    }

    /// The writes of the next commit: all that wait, as far as they fit.
    fn take(&mut self) -> Vec<Waiting> {
        if plant::on(Plant::StateBeforeLog) && self.synced > 0 && self.synced < self.waiting.len() {
            return self.take_unsynced();
        }
        let mut taken = vec![];
        let mut bytes = 0;
        while let Some(next) = self.waiting.front()
            && (taken.is_empty() || bytes + next.bytes <= COMMIT_BYTES_MAX)
        {
            bytes += next.bytes;
            self.synced -= usize::from(next.write.is_synced);
            taken.extend(self.waiting.pop_front());
        }
        self.is_committing = !taken.is_empty();
        taken
    }

    /// A planted bug: what needs no fsync goes first.
    fn take_unsynced(&mut self) -> Vec<Waiting> {
        let (synced, unsynced): (VecDeque<_>, VecDeque<_>) =
            self.waiting.drain(..).partition(|waiting| waiting.write.is_synced);
        self.waiting = synced;
        self.is_committing = true;
        unsynced.into()
    }
}

/// The queue in front of the writer; shared by all logs of a store.
pub(super) struct Writer {
    queue: Mutex<Queue>,
    bytes_max: usize,
    /// Wakes the writer's task.
    work: Notify,
    /// Wakes those who wait for room.
    room: Notify,
    /// Wakes those who wait for the task's end.
    ended: Notify,
    on_failure: OnFailure,
    pub probe: WriterProbe,
    loud_commit_no: AtomicU64,
}

impl Writer {
    /// Starts the task. It ends when it is closed, or with the runtime.
    pub fn start(kv: Arc<dyn Kv>, bytes_max: usize, probe: WriterProbe, on_failure: OnFailure) -> Arc<Writer> {
        let writer = Arc::new(Writer {
            queue: Mutex::default(),
            bytes_max,
            work: Notify::new(),
            room: Notify::new(),
            ended: Notify::new(),
            on_failure,
            probe,
            loud_commit_no: AtomicU64::new(kv.commit_no()),
        });
        tokio::spawn(run(writer.clone(), kv));
        writer
    }

    /// Queues a write. Never waits: the bound is kept by those who call [`Writer::reserve`] before
    /// they append; what else is written is small and follows from what was appended.
    pub fn queue(&self, write: Write) -> Result<(), Refused> {
        let bytes = write.batch.value_bytes + WRITE_OVERHEAD;
        let is_synced = write.is_synced;
        let mut queue = self.lock();
        if let Some(because) = refusal(&queue) {
            return Err(Refused::new(write, because));
        }
        let was_idle = queue.waiting.is_empty();
        queue.bytes += bytes;
        queue.synced += usize::from(is_synced);
        queue.waiting.push_back(Waiting { write, bytes, since: Instant::now() });
        self.probe.queue_bytes(queue.bytes);
        let wake = is_synced || was_idle || queue.bytes >= COMMIT_BYTES_MAX;
        drop(queue);
        if wake {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Queues a write and waits until it is done.
    pub async fn write(&self, batch: WriteBatch, is_synced: bool) -> Result<(), StoreFailed> {
        let (done, wait) = waiter();
        if let Err(refused) =
            self.queue(Write { batch, is_synced, is_quiet: false, drop_points: None, done: Some(done) })
        {
            refused.complete();
        }
        wait_done(wait).await
    }

    /// Waits while the queue is over its bound. Does not reserve anything: as many may pass as wait,
    /// each for one append, so the bound is exceeded by one append a group at most.
    pub async fn reserve(&self) {
        loop {
            let room = self.room.notified();
            {
                let queue = self.lock();
                if queue.bytes <= self.bytes_max || refusal(&queue).is_some() {
                    return;
                }
            }
            room.await;
        }
    }

    /// Whether nothing waits and nothing is being written.
    pub fn is_idle(&self) -> bool {
        let queue = self.lock();
        queue.waiting.is_empty() && !queue.is_committing
    }

    /// The number of the last synced commit that held more than quiet writes. What a broker keeps of others is
    /// quiet: if they were told of it, two idle brokers would sync for ever what the other one just synced.
    pub fn loud_commit_no(&self) -> u64 {
        self.loud_commit_no.load(Ordering::Acquire)
    }

    pub fn failure(&self) -> Option<StoreFailed> {
        self.lock().failed.clone()
    }

    /// What waits is still written; everything later is refused.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.work.notify_one();
        self.room.notify_waiters();
    }

    /// Waits until the task has ended, and with it the writer's hold on the disk.
    pub async fn wait_ended(&self) {
        self.ended.notified().await;
        // For the next who asks: there is no second end.
        self.ended.notify_one();
    }

    /// The end of this store: reported once, before anyone hears of it. A failed read ends it too.
    pub fn fail(&self, failed: StoreFailed) {
        let waiting = {
            let mut queue = self.lock();
            if queue.failed.is_some() {
                return;
            }
            queue.failed = Some(failed.clone());
            queue.synced = 0;
            queue.bytes = 0;
            std::mem::take(&mut queue.waiting)
        };
        (self.on_failure)(&failed);
        for waiting in waiting {
            waiting.write.complete(Err(failed.clone()));
        }
        self.room.notify_waiters();
        self.work.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("nothing panics while it holds this lock")
    }
}

fn refusal(queue: &Queue) -> Option<StoreFailed> {
    let closed = || StoreFailed::io("it was closed");
    queue.failed.clone().or_else(|| queue.is_closed.then(closed))
}

pub(super) fn waiter() -> (Done, oneshot::Receiver<Result<(), StoreFailed>>) {
    let (tx, rx) = oneshot::channel();
    // The caller may have given up; the write stands.
    (Box::new(move |result| drop(tx.send(result))), rx)
}

pub(super) async fn wait_done(wait: oneshot::Receiver<Result<(), StoreFailed>>) -> Result<(), StoreFailed> {
    wait.await.unwrap_or_else(|_| Err(StoreFailed::io("the log writer was stopped")))
}

/// Marks the writer as ended however the task ends: also if it panics, or its runtime is shut down.
struct Ending(Arc<Writer>);

impl Drop for Ending {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(StoreFailed::io("the log writer panicked"));
        }
        // What still waits holds logs that hold this writer: without this nothing would be freed.
        let waiting = {
            let mut queue = self.0.lock();
            queue.is_closed = true;
            queue.synced = 0;
            std::mem::take(&mut queue.waiting)
        };
        drop(waiting);
        self.0.ended.notify_one();
    }
}

async fn run(writer: Arc<Writer>, kv: Arc<dyn Kv>) {
    let ending = Ending(writer.clone());
    loop {
        let due = writer.lock().due();
        match due {
            Due::Now => commit_next(&writer, &*kv).await,
            Due::At(time) => {
                tokio::select! {
                    () = writer.work.notified() => {}
                    // Written alone: no synced write came by.
                    () = tokio::time::sleep_until(time) => commit_next(&writer, &*kv).await,
                }
            }
            Due::Never => writer.work.notified().await,
            Due::End => break,
        }
    }
    // Before `ended` is heard of, so that whoever waits for it finds the disk free.
    drop(kv);
    drop(ending);
}

/// Writes what waits, up to a bound, and completes it in queue order.
async fn commit_next(writer: &Writer, kv: &dyn Kv) {
    let mut taken = writer.lock().take();
    if taken.is_empty() {
        return;
    }
    let result = commit(writer, kv, &mut taken).await;
    {
        let mut queue = writer.lock();
        queue.is_committing = false;
        // A failure has set it to zero.
        queue.bytes = queue.bytes.saturating_sub(taken.iter().map(|waiting| waiting.bytes).sum());
        writer.probe.queue_bytes(queue.bytes);
    }
    // Before any completion: the process must not live to tell of a write whose fate is unknown.
    if let Err(failed) = &result {
        writer.fail(failed.clone());
    }
    for waiting in taken {
        waiting.write.complete(result.clone());
    }
    writer.room.notify_waiters();
}

async fn commit(writer: &Writer, kv: &dyn Kv, taken: &mut [Waiting]) -> Result<(), StoreFailed> {
    if let Some(failed) = writer.failure() {
        return Err(failed);
    }
    // Before anything here may wait for the disk (SAFETY M14).
    writer.probe.commit_started();
    let mut batch = WriteBatch::default();
    let left_out = usize::from(plant::on(Plant::CommitLeavesOneOut) && taken.len() > 1);
    let written = taken.len() - left_out;
    for Waiting { write, .. } in &mut taken[..written] {
        batch.value_bytes += write.batch.value_bytes;
        batch.ops.append(&mut write.batch.ops);
        if let Some((group, offset)) = write.drop_points {
            drop_points(kv, &mut batch, group, offset).await?;
        }
    }
    let is_synced = taken.iter().any(|waiting| waiting.write.is_synced) && !plant::on(Plant::AckBeforeFsync);
    let bytes = batch.value_bytes + batch.ops.iter().map(key_bytes).sum::<usize>();
    let result = kv.commit(batch, is_synced).await;
    writer.probe.commit_done(taken.len(), bytes, is_synced);
    if result.is_ok() && is_synced && !taken.iter().all(|waiting| waiting.write.is_quiet) {
        writer.loud_commit_no.store(kv.commit_no(), Ordering::Release);
    }
    match result {
        Err(_) if plant::on(Plant::FailedCommitIgnored) => Ok(()),
        result => Ok(result?),
    }
}

/// Deletes the points below `offset` but the last one that is not above it, from which readers at
/// `offset` start. Found here, where nothing else can write meanwhile; points queued with this very
/// commit are not seen, so a few more may be kept.
async fn drop_points(
    kv: &dyn Kv,
    batch: &mut WriteBatch,
    group: RaftGroupId,
    offset: Offset,
) -> Result<(), StoreFailed> {
    let upto = keys::points(group, Some(Offset(offset.0.saturating_add(1))));
    let limit = ScanLimit { pairs: 1, bytes: usize::MAX };
    let found = kv.scan(Family::Applied, upto, limit, true).await?;
    if let Some((key, _)) = found.first() {
        let (_, keep) = keys::read_point(key).ok_or_else(|| StoreFailed::damaged("a point has a malformed key"))?;
        batch.delete_range(Family::Applied, keys::points(group, Some(keep)));
    }
    Ok(())
}

fn key_bytes(op: &WriteOp) -> usize {
    match op {
        WriteOp::Put { key, .. } | WriteOp::Delete { key, .. } => key.len(),
        WriteOp::DeleteRange { range, .. } => range.from.len() + range.to.len(),
    }
}
