//! Reads one assigned partition for as long as it is held, and hands what it reads to the core within the budget.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{
    OffsetReset, Shared,
    core::{Brought, From, Start},
};
use crate::client::{
    admin::OffsetAt,
    consumer::{Chunk, Consumer},
    error::{ClientError, ErrorCode},
    net::Cluster,
};
use crate::types::Offset;

/// How long to wait after an error that was reported: the next try will hardly fare better at once.
const PAUSE: Duration = Duration::from_millis(500);

/// What buffered records hold of the budgets.
pub(super) type Permits = [OwnedSemaphorePermit; 2];

/// A semaphore's size for a budget: at least one permit, and no more than one call can take.
pub(super) fn budget(most: usize) -> usize {
    most.clamp(1, u32::MAX as usize >> 1)
}

/// What a reader needs to know beside its `Start`.
pub(super) struct Reader {
    pub cluster: Cluster,
    pub shared: Arc<Shared>,
    pub offset_reset: OffsetReset,
    pub patience: Duration,
    pub buffer_bytes_max: usize,
    pub buffer_records_max: usize,
}

impl Reader {
    /// Reads until it is aborted, or meets an error that no try will mend.
    pub async fn run(self, start: Start) {
        let Start { at, from, .. } = &start;
        let topic_id = self.topic_id(&start).await;
        let mut consumer = Consumer::at(&self.cluster, at.clone(), topic_id, Offset(0), self.patience);
        // Whether the stream that ended was worth opening, and since when nothing has worked.
        let (mut is_fresh, mut failing_since) = (false, None);
        // Whether to find out where to begin, and the place that this is instead of.
        let (mut reset, mut instead_of) = match from {
            From::Offset(offset) => {
                consumer.set_position(*offset);
                (false, None)
            }
            From::Reset => (true, None),
        };
        loop {
            // Nothing more is decoded while what was read fills the budget.
            drop(self.shared.buffer_bytes.acquire().await.expect("the semaphore is never closed"));
            let step = match reset {
                true => self.reset(&mut consumer, &start, instead_of).await.map(|()| None),
                false => consumer.try_next().await,
            };
            match step {
                Ok(None) if reset => (reset, failing_since) = (false, None),
                // Its broker stops, and answered nothing? The next may do the same.
                Ok(None) if is_fresh => {
                    consumer.reopen();
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(None) => {
                    consumer.reopen();
                    is_fresh = true;
                }
                Ok(Some(chunk)) => {
                    (is_fresh, failing_since) = (false, None);
                    if !chunk.records.is_empty() {
                        self.bring(&start, chunk).await;
                    }
                }
                Err(error) if error.code() == Some(ErrorCode::OffsetOutOfRange) => {
                    if self.offset_reset == OffsetReset::Fail {
                        return self.fail(&start, error, true);
                    }
                    tracing::warn!(partition = %at, %error, reset = ?self.offset_reset, "no such offset, beginning anew");
                    instead_of = Some(consumer.position());
                    consumer.reopen();
                    reset = true;
                }
                Err(error) if error.code() == Some(ErrorCode::TopicReplaced) => {
                    tracing::info!(partition = %at, %error, "the topic was replaced, beginning the new one");
                    self.shared.lock().on_topic_gone(start.reader, at);
                    self.shared.ready.notify_one();
                    self.shared.work.notify_one();
                    return;
                }
                // A topic may be unknown to a broker for a moment, or about to be taken from us.
                Err(error) if error.is_retriable() || error.is_not_found() => {
                    let since = *failing_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= self.patience {
                        failing_since = None;
                        self.fail(&start, error.clone(), false);
                        tokio::time::sleep(PAUSE).await;
                    }
                    consumer.recover(&error).await;
                }
                Err(error) => return self.fail(&start, error, true),
            }
        }
    }

    /// The topic that is read. The coordinator has said it, unless the application sought its place before that.
    async fn topic_id(&self, start: &Start) -> String {
        if !start.topic_id.is_empty() {
            return start.topic_id.clone();
        }
        // If nobody answers, the first read says why.
        let _ = self.cluster.refresh(std::slice::from_ref(&start.at.topic)).await;
        let topic_id = self.cluster.look(|m| m.topic_id(&start.at.topic).to_string());
        self.shared.lock().on_identified(start.reader, &start.at, &topic_id);
        topic_id
    }

    /// Finds out where to begin.
    async fn reset(
        &self,
        consumer: &mut Consumer,
        start: &Start,
        instead_of: Option<Offset>,
    ) -> Result<(), ClientError> {
        let at = match self.offset_reset {
            OffsetReset::Earliest => OffsetAt::Earliest,
            OffsetReset::Latest => OffsetAt::Latest,
            OffsetReset::Fail => unreachable!("the core starts no reader without an offset then"),
        };
        let offset = consumer.ask_offset(at).await?;
        consumer.set_position(offset);
        self.shared.lock().on_positioned(start.reader, &start.at, instead_of, offset);
        self.shared.ready.notify_one();
        Ok(())
    }

    /// Waits for room, then hands over. Only one answer beyond the budget is in memory for a partition.
    async fn bring(&self, start: &Start, chunk: Chunk) {
        let bytes = chunk.bytes();
        let permits = [
            take(&self.shared.buffer_bytes, bytes, self.buffer_bytes_max).await,
            take(&self.shared.buffer_records, chunk.records.len(), self.buffer_records_max).await,
        ];
        let Chunk { records, high_watermark, leader_epoch, log_start: _, notice: _ } = chunk;
        let brought = Brought { records, high_watermark, leader_epoch, permits };
        self.shared.lock().on_brought(start.reader, &start.at, brought);
        self.shared.ready.notify_one();
    }

    fn fail(&self, start: &Start, error: ClientError, is_end: bool) {
        self.shared.lock().on_read_failed(start.reader, &start.at, error, is_end);
        self.shared.ready.notify_one();
    }
}

/// Takes from a budget. One answer larger than the whole budget takes the whole budget. The order (bytes, then records)
/// is the same for all, and who holds both waits for nobody: no deadlock.
async fn take(budget_of: &Arc<Semaphore>, want: usize, most: usize) -> OwnedSemaphorePermit {
    let want = want.clamp(1, budget(most)) as u32;
    budget_of.clone().acquire_many_owned(want).await.expect("the semaphore is never closed")
}
