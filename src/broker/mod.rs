//! What a request means: produce, fetch, topics, consumer groups, the cluster. Faces decode, call [`Broker`], encode.
//!
//! Promises: nothing is acknowledged before a majority of the voters fsynced it; every failed write
//! says whether it had an effect; every wait has a deadline, every queue a bound (`limits`).
//! Leaves out: wire formats, membership changes of partitions.

mod answer;
mod budget;
mod cluster;
mod console;
mod disk;
mod errors;
mod fetch;
pub mod groups;
mod inner;
mod limits;
mod metadata_group;
mod node;
mod notes;
mod pages;
mod peers;
mod produce;
mod replica;
mod requests;
mod routes;
mod serving;
mod start;
mod tasks;
#[cfg(test)]
pub(crate) mod tests;
mod topics;
mod upkeep;

use std::sync::Arc;

use crate::{
    seam::CpuTurns,
    types::{Offset, PartitionId, TopicId, WallMs},
};

pub use budget::ProduceBudget;
pub use disk::FreeBytes;
pub use errors::{AdminError, BrokerFailed, Effect, FetchError, LeaderHint, ProduceError};
pub use limits::FETCH_WAIT_MAX;
pub use node::{BrokerSettings, GroupSettings};
pub use peers::console_calls::{BrowseFrom, BrowseRequest, Browsed, NodeFigures};
pub use produce::Waiting;
pub use requests::{
    Acks, AddPartitionsRequest, AlterTopicRequest, BrokerView, ClusterView, CreateTopicRequest, DeleteTopicRequest,
    FetchRequest, Fetched, FoundOffset, HealthReport, LeaderNow, OffsetAt, PartitionDescription, PartitionStats,
    PartitionView, ProduceRequest, ProducerIdentity, Readiness, Receipt, TopicDescription, TopicSummary, TopicView,
    TopicsWanted, TransferLeaderRequest, TrimRequest,
};
pub use start::BrokerDeps;

/// One node's whole behaviour behind its listeners. Cheap to clone.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<inner::Inner>,
}

impl Broker {
    /// Waits until the node-wide produce budget has room for a batch of this size: the back-pressure
    /// of a produce stream, which must not read on meanwhile. Larger than the budget: all of it.
    pub async fn reserve_produce(&self, bytes: usize) -> ProduceBudget {
        self.inner.budget.reserve(bytes).await
    }

    /// Checks the batch and queues it for the partition's appender. Batches of one partition are
    /// appended in call order. An error here had no effect.
    pub fn produce(&self, request: ProduceRequest, budget: ProduceBudget) -> Result<Waiting, ProduceError> {
        self.enqueue(request, budget)
    }

    /// Whole batches from an offset; waits for the first record at the high watermark. SAFETY B7 holds.
    pub async fn fetch(&self, request: FetchRequest) -> Result<Fetched, FetchError> {
        self.fetch_batches(request).await
    }

    /// Earliest, latest or by time, confirmed with a majority. Leader only.
    /// `topic_id`: the topic that is meant; None: whichever has the name.
    pub async fn find_offset(
        &self,
        topic: &str,
        topic_id: Option<TopicId>,
        partition: PartitionId,
        at: OffsetAt,
    ) -> Result<FoundOffset, FetchError> {
        self.look_up(topic, topic_id, partition, at).await
    }

    pub async fn create_topic(&self, request: CreateTopicRequest) -> Result<TopicDescription, AdminError> {
        self.create(request).await
    }

    pub async fn list_topics(&self) -> Result<Vec<TopicSummary>, AdminError> {
        self.list().await
    }

    pub async fn describe_topic(&self, name: &str) -> Result<TopicDescription, AdminError> {
        self.describe(name).await
    }

    pub async fn alter_topic(&self, request: AlterTopicRequest) -> Result<TopicDescription, AdminError> {
        self.alter(request).await
    }

    pub async fn add_partitions(&self, request: AddPartitionsRequest) -> Result<TopicDescription, AdminError> {
        self.add(request).await
    }

    /// The new log start offset.
    pub async fn trim_partition(&self, request: TrimRequest) -> Result<Offset, AdminError> {
        self.trim(request).await
    }

    pub async fn delete_topic(&self, request: DeleteTopicRequest) -> Result<TopicSummary, AdminError> {
        self.delete(request).await
    }

    /// A producer id that was never given out before.
    pub async fn init_producer_id(&self) -> Result<ProducerIdentity, AdminError> {
        self.next_producer_id().await
    }

    /// Waits up to 500 ms when a named topic is unknown here (SAFETY M9).
    pub async fn cluster_view(&self, topics: TopicsWanted) -> ClusterView {
        self.view(topics).await
    }

    pub async fn health(&self) -> HealthReport {
        self.health_report().await
    }

    pub async fn transfer_leader(&self, request: TransferLeaderRequest) -> Result<LeaderNow, AdminError> {
        self.transfer(request).await
    }

    pub fn readiness(&self) -> Readiness {
        self.inner.readiness()
    }

    /// The node's turns at long computations: what a face decompresses or compresses waits for them too.
    pub fn cpu_turns(&self) -> CpuTurns {
        self.inner.cpu.clone()
    }

    /// This broker's wall clock, for records without a timestamp.
    pub fn now(&self) -> WallMs {
        self.inner.clock.wall()
    }

    /// Resolves when the broker must not go on; the process prints why and exits.
    pub async fn failed(&self) -> BrokerFailed {
        let mut failed = self.inner.failed.subscribe();
        let first = failed.wait_for(Option::is_some).await.map(|failed| failed.clone());
        match first {
            Ok(Some(failed)) => failed,
            // The sender lives as long as `self`.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// SAFETY M13, bounded. Afterwards the process may exit.
    pub async fn shutdown(&self) {
        self.stop().await
    }
}
