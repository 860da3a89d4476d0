//! From a produce request to the partition's queue: everything that can be refused at once.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    sync::{mpsc::error::TrySendError, oneshot},
    time::Instant,
};

use super::{
    budget::ProduceBudget,
    disk::DiskGuard,
    errors::ProduceError,
    limits,
    node::Node,
    replica::appender::{Produce, Reply},
    replicas::{Found, Replicas},
    requests::{ProduceRequest, Receipt},
};
use crate::{
    metrics::Limit,
    record::{BatchError, BatchLimits, validate_batch},
    types::PartitionId,
};

/// An enqueued produce. Resolves once, to the receipt or to why not; dropping it does not withdraw the batch.
#[derive(Debug)]
pub struct Waiting {
    answer: oneshot::Receiver<Result<Receipt, ProduceError>>,
    topic: String,
    partition: PartitionId,
    since: Instant,
}

impl Future for Waiting {
    type Output = Result<Receipt, ProduceError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(context));
        Poll::Ready(answer.unwrap_or_else(|_| {
            // The appender is gone without a word (shutdown): it may have proposed the batch.
            let (topic, partition, waited) = (self.topic.clone(), self.partition, self.since.elapsed());
            Err(ProduceError::OutcomeUnknown { topic, partition, waited })
        }))
    }
}

/// A broker's part in taking records: into partitions that it leads.
pub struct Produces {
    node: Arc<Node>,
    replicas: Arc<Replicas>,
    disk: Arc<DiskGuard>,
}

impl Produces {
    pub fn new(node: Arc<Node>, replicas: Arc<Replicas>, disk: Arc<DiskGuard>) -> Produces {
        Produces { node, replicas, disk }
    }

    /// Checks the batch and queues it for its partition's appender. An error here had no effect.
    pub fn enqueue(&self, request: ProduceRequest, budget: ProduceBudget) -> Result<Waiting, ProduceError> {
        let ProduceRequest { topic, topic_id, partition, acks: _, timeout, batch, expected_offset } = request;
        let hosted = match self.replicas.find(&topic, topic_id, partition) {
            Found::UnknownTopic | Found::OtherTopic(_) => return Err(ProduceError::UnknownTopic { topic }),
            Found::UnknownPartition => return Err(ProduceError::UnknownPartition { topic, partition }),
            Found::Elsewhere(group) => {
                let leader = self.node.leader_now(group);
                return Err(ProduceError::NotLeader { topic, partition, leader });
            }
            Found::Here(hosted) => hosted,
        };
        let rules = hosted.rules();
        let limits = BatchLimits { batch_bytes_max: rules.batch_bytes_max };
        let header = validate_batch(&batch, &limits).map_err(|error| refused(error, &topic))?;
        // One of an idempotent producer may be a copy of what is in the log already: its appender knows.
        if !header.is_idempotent()
            && let Some(shortage) = self.disk.shortage_for(&self.node.raft, &hosted.group)
        {
            return Err(shortage.into());
        }
        let latest = header.max_timestamp;
        if let Some(retention_ms) = rules.retention_ms.filter(|_| !rules.log_append_time && latest.0 >= 0)
            && latest.0 < self.node.clock.wall().0.saturating_sub(retention_ms)
        {
            hosted.note_outdated(u64::try_from(header.count).unwrap_or(0), latest);
        }
        let since = Instant::now();
        let (answer, wait) = oneshot::channel();
        let deadline = since + timeout_of(timeout);
        let reply = Reply { answer, arrived: since, bytes: batch.len(), _budget: budget };
        let sent = hosted.appender.enqueue(Produce { batch, header, expected_offset, deadline, reply });
        match sent {
            Ok(()) => Ok(Waiting { answer: wait, topic, partition, since }),
            Err(TrySendError::Full(_)) => {
                self.node.intake.refused_at(Limit::ProduceQueue);
                let reason = format!("{} batches of {topic}-{partition} wait already", limits::QUEUE_BATCHES_MAX);
                Err(ProduceError::Unavailable { reason })
            }
            Err(TrySendError::Closed(_)) => Err(ProduceError::NotLeader { topic, partition, leader: None }),
        }
    }
}

fn timeout_of(asked: Duration) -> Duration {
    if asked.is_zero() {
        return limits::PRODUCE_TIMEOUT_DEFAULT;
    }
    asked.min(limits::REQUEST_TIMEOUT_MAX)
}

fn refused(error: BatchError, topic: &str) -> ProduceError {
    match error {
        BatchError::TooLarge { got, max } => {
            ProduceError::BatchTooLarge { topic: topic.into(), bytes: got, bytes_max: max }
        }
        error => ProduceError::InvalidBatch(error),
    }
}
