//! What a request means: produce, fetch, topics, the cluster. Faces decode, call [`Broker`], encode.
//!
//! Promises: nothing is acknowledged before a majority of the voters fsynced it; every failed write
//! says whether it had an effect; every wait has a deadline, every queue a bound (`limits`).
//! Leaves out: wire formats, consumer groups (their issue), membership changes of partitions.

mod errors;
mod requests;

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use crate::types::{PartitionId, WallMs};

pub use errors::{AdminError, BrokerFailed, Effect, FetchError, LeaderHint, ProduceError};
pub use requests::{
    Acks, AddPartitionsRequest, AlterTopicRequest, BrokerView, ClusterView, CreateTopicRequest, DeleteTopicRequest,
    FetchRequest, Fetched, FoundOffset, HealthReport, LeaderNow, OffsetAt, PartitionDescription, PartitionStats,
    PartitionView, ProduceRequest, ProducerIdentity, Readiness, Receipt, TopicDescription, TopicSummary, TopicView,
    TopicsWanted, TransferLeaderRequest, TrimRequest,
};

/// One node's whole behaviour behind its listeners. Cheap to clone.
#[derive(Clone)]
pub struct Broker {}

/// A part of the node-wide produce budget, held by a batch until it is answered.
#[derive(Debug)]
pub struct ProduceBudget {}

/// An enqueued produce. Resolves once, to the receipt or to why not; dropping it does not withdraw the batch.
pub struct Waiting {
    inner: Pin<Box<dyn Future<Output = Result<Receipt, ProduceError>> + Send>>,
}

impl Future for Waiting {
    type Output = Result<Receipt, ProduceError>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx)
    }
}

impl Broker {
    /// Waits until the node-wide produce budget has room for a batch of this size: the back-pressure
    /// of a produce stream, which must not read on meanwhile. Larger than the budget: all of it.
    pub async fn reserve_produce(&self, bytes: usize) -> ProduceBudget {
        let _ = bytes;
        unimplemented!()
    }

    /// Checks the batch and queues it for the partition's appender. Batches of one partition are
    /// appended in call order. An error here had no effect.
    pub fn produce(&self, request: ProduceRequest, budget: ProduceBudget) -> Result<Waiting, ProduceError> {
        let _ = (request, budget);
        unimplemented!()
    }

    /// Whole batches from an offset; waits for the first record at the high watermark. SAFETY B7 holds.
    pub async fn fetch(&self, request: FetchRequest) -> Result<Fetched, FetchError> {
        let _ = request;
        unimplemented!()
    }

    /// Earliest, latest or by time, confirmed with a majority. Leader only.
    pub async fn find_offset(
        &self,
        topic: &str,
        partition: PartitionId,
        at: OffsetAt,
    ) -> Result<FoundOffset, FetchError> {
        let _ = (topic, partition, at);
        unimplemented!()
    }

    pub async fn create_topic(&self, request: CreateTopicRequest) -> Result<TopicDescription, AdminError> {
        let _ = request;
        unimplemented!()
    }

    pub async fn list_topics(&self) -> Result<Vec<TopicSummary>, AdminError> {
        unimplemented!()
    }

    pub async fn describe_topic(&self, name: &str) -> Result<TopicDescription, AdminError> {
        let _ = name;
        unimplemented!()
    }

    pub async fn alter_topic(&self, request: AlterTopicRequest) -> Result<TopicDescription, AdminError> {
        let _ = request;
        unimplemented!()
    }

    pub async fn add_partitions(&self, request: AddPartitionsRequest) -> Result<TopicDescription, AdminError> {
        let _ = request;
        unimplemented!()
    }

    /// The new log start offset.
    pub async fn trim_partition(&self, request: TrimRequest) -> Result<crate::types::Offset, AdminError> {
        let _ = request;
        unimplemented!()
    }

    pub async fn delete_topic(&self, request: DeleteTopicRequest) -> Result<TopicSummary, AdminError> {
        let _ = request;
        unimplemented!()
    }

    /// A producer id that was never given out before.
    pub async fn init_producer_id(&self) -> Result<ProducerIdentity, AdminError> {
        unimplemented!()
    }

    /// Waits up to 500 ms when a named topic is unknown here (SAFETY M9).
    pub async fn cluster_view(&self, topics: TopicsWanted) -> ClusterView {
        let _ = topics;
        unimplemented!()
    }

    pub async fn health(&self) -> HealthReport {
        unimplemented!()
    }

    pub async fn transfer_leader(&self, request: TransferLeaderRequest) -> Result<LeaderNow, AdminError> {
        let _ = request;
        unimplemented!()
    }

    pub fn readiness(&self) -> Readiness {
        unimplemented!()
    }

    /// This broker's wall clock, for records without a timestamp.
    pub fn now(&self) -> WallMs {
        unimplemented!()
    }

    /// Resolves when the broker must not go on; the process prints why and exits.
    pub async fn failed(&self) -> BrokerFailed {
        unimplemented!()
    }

    /// SAFETY M13, bounded. Afterwards the process may exit.
    pub async fn shutdown(&self) {
        unimplemented!()
    }
}
