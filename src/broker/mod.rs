//! What a request means: produce, fetch, topics, consumer groups, the cluster. Faces decode, call [`Broker`], encode.
//!
//! Promises: nothing is acknowledged before a majority of the voters fsynced it; every failed write
//! says whether it had an effect; every wait has a deadline, every queue a bound (`limits`).
//! Leaves out: wire formats, membership changes of partitions.

mod active_producers;
mod answer;
mod awake;
mod budget;
mod caller;
mod cluster;
mod console;
mod disk;
mod errors;
mod fetch;
mod fetch_many;
mod find_offsets;
pub mod groups;
pub mod held;
#[cfg(feature = "internals")]
mod inspect;
mod limits;
mod metadata_group;
mod node;
mod notes;
mod parts;
mod peers;
mod produce;
mod replica;
mod replicas;
mod requests;
mod serving;
mod start;
mod stop;
mod tasks;
#[cfg(test)]
pub(crate) mod tests;
mod topics;
mod upkeep;
mod verify;

use std::sync::Arc;

use crate::{
    metadata::ConfigEntry,
    metrics::KafkaClients,
    partition::EpochEnd,
    seam::CpuTurns,
    types::{BrokerId, GroupName, LeaderEpoch, Offset, TopicId, TopicPartition, WallMs},
};
use groups::{
    ClassicBeat, ClassicJoin, ClassicJoined, ClassicSync, ClassicSynced, CommitRequest, CommittedOffsets,
    GroupDescription, GroupError, GroupSummary, HeartbeatAnswer, HeartbeatRequest, Leaver,
};
use held::HeldBytes;
use parts::Parts;

pub use budget::{ProduceBudget, answer_room};
pub use caller::Caller;
pub use disk::FreeBytes;
pub use errors::{AdminError, BrokerFailed, Effect, FetchError, ProduceError};
pub use fetch_many::OpenFetch;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub use inspect::{GroupLook, Inspector};
pub use limits::{
    ANSWER_BYTES_PER_SECOND, ANSWER_GRACE, ANSWER_SMALL_BYTES, ANSWER_WAIT_MAX, ANSWERS_WAITING_MAX,
    COMPUTED_INLINE_BYTES, FETCH_BYTES_DEFAULT, FETCH_BYTES_MAX, FETCH_PARTITIONS_MAX, FETCH_WAIT_MAX,
    PRODUCE_TIMEOUT_DEFAULT,
};
pub use node::{BrokerSettings, GroupSettings};
pub use peers::console_calls::{BrowseFrom, BrowseRequest, Browsed, NodeFigures};
pub use produce::Waiting;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub use replica::appender::benched::{LedPartition, PlannedEntry};
pub use requests::here::{ActiveProducer, DirectoryView, HashReplicaRequest, ReplicaHash, ReplicaSize, RereadHash};
pub use requests::reads::{
    FetchManyRequest, FetchRequest, Fetched, FoundOffset, OffsetAt, PartitionFetch, PartitionRead,
};
pub use requests::{
    Acks, AddPartitionsRequest, AlterTopicRequest, BrokerView, ClusterView, CreateTopicRequest, DeleteTopicRequest,
    FeatureLevelRaised, HealthReport, LeaderNow, PartitionDescription, PartitionStats, PartitionView, ProduceRequest,
    ProducerIdentity, RaiseFeatureLevelRequest, Readiness, Receipt, TopicDescription, TopicSummary, TopicView,
    TopicsWanted, TransferLeaderRequest, TrimRequest,
};
pub use start::BrokerDeps;

/// One node's whole behaviour behind its listeners. Cheap to clone.
///
/// This is the door: what a client wishes takes the [`Caller`] that wishes it. What takes none is the face's own.
#[derive(Clone)]
pub struct Broker {
    parts: Arc<Parts>,
}

impl Broker {
    /// Waits until the node-wide produce budget has room for a batch of this size: the back-pressure
    /// of a produce stream, which must not read on meanwhile. Larger than the budget: all of it.
    pub async fn reserve_produce(&self, bytes: usize) -> ProduceBudget {
        self.parts.budget.reserve(bytes).await
    }

    /// Room for batches on their way to readers, which all faces share: what an answer holds until its client has
    /// taken it.
    pub fn answer_room(&self) -> Arc<HeldBytes> {
        Arc::clone(&self.parts.answers)
    }

    /// Checks the batch and queues it for the partition's appender. Batches of one partition are
    /// appended in call order. An error here had no effect.
    pub fn produce(&self, _: &Caller, request: ProduceRequest, budget: ProduceBudget) -> Result<Waiting, ProduceError> {
        self.parts.produces.enqueue(request, budget)
    }

    /// Whole batches from an offset; waits for the first record at the high watermark. SAFETY B7 holds.
    pub async fn fetch(&self, _: &Caller, request: FetchRequest) -> Result<Fetched, FetchError> {
        self.parts.fetches.fetch(request).await
    }

    /// As [`Broker::fetch`], of all that is kept from an offset on: where retention has overtaken it, from the log
    /// start on. For who looked up where to begin. Also the offset at which it begins, which may lie within the first
    /// batch: what that holds before it is not kept.
    pub async fn fetch_kept(&self, _: &Caller, request: FetchRequest) -> Result<(Offset, Fetched), FetchError> {
        self.parts.fetches.fetch_kept(request).await
    }

    /// The topic that has this name, as far as this broker heard: what a reader that names no id begins with.
    pub fn topic_id(&self, topic: &str) -> Option<TopicId> {
        self.parts.replicas.id_of(topic)
    }

    /// The name of the topic that has this id, as far as this broker heard.
    pub fn topic_name(&self, id: TopicId) -> Option<String> {
        self.parts.replicas.name_of(id)
    }

    /// Records of many partitions, with one wait and one room for all; one answer for each, in that order.
    pub async fn fetch_many(&self, _: &Caller, request: FetchManyRequest) -> Vec<Result<Fetched, FetchError>> {
        self.parts.fetches.fetch_many(request).await
    }

    /// The first step of [`Broker::fetch_many`]. For who has to find room before anything is read, and may read twice.
    pub async fn open_fetch(&self, _: &Caller, request: FetchManyRequest) -> OpenFetch {
        self.parts.fetches.open_many(request).await
    }

    /// The second step, which may be left out.
    pub async fn wait_fetch(&self, _: &Caller, open: &mut OpenFetch) {
        self.parts.fetches.wait_many(open).await;
    }

    /// The last step.
    pub async fn read_fetch(&self, _: &Caller, open: &OpenFetch, bytes_max: usize) -> Vec<Result<Fetched, FetchError>> {
        self.parts.fetches.read_many(open, bytes_max).await
    }

    /// Earliest, latest or by time, confirmed with a majority. Leader only.
    pub async fn find_offset(&self, _: &Caller, at: PartitionRead, place: OffsetAt) -> Result<FoundOffset, FetchError> {
        self.parts.fetches.find_offset(&at, place).await
    }

    /// As [`Broker::find_offset`], of many partitions at once; one answer for each, in that order.
    pub async fn find_offsets(
        &self,
        _: &Caller,
        places: Vec<(PartitionRead, OffsetAt)>,
    ) -> Vec<Result<FoundOffset, FetchError>> {
        self.parts.fetches.find_offsets(places).await
    }

    /// Where the records of a leader epoch end, or of the last epoch before it (KIP-101); confirmed with a majority.
    /// None: there are none, or the partition has not come to this epoch.
    pub async fn epoch_end(
        &self,
        _: &Caller,
        at: PartitionRead,
        epoch: LeaderEpoch,
    ) -> Result<Option<EpochEnd>, FetchError> {
        self.parts.fetches.epoch_end(&at, epoch).await
    }

    pub async fn create_topic(&self, _: &Caller, request: CreateTopicRequest) -> Result<TopicDescription, AdminError> {
        self.parts.topics.create(request).await
    }

    pub async fn list_topics(&self, _: &Caller) -> Result<Vec<TopicSummary>, AdminError> {
        self.parts.topics.list().await
    }

    pub async fn describe_topic(&self, _: &Caller, name: &str) -> Result<TopicDescription, AdminError> {
        self.parts.topics.describe(name).await
    }

    pub async fn alter_topic(&self, _: &Caller, request: AlterTopicRequest) -> Result<TopicDescription, AdminError> {
        self.parts.topics.alter(request).await
    }

    pub async fn add_partitions(
        &self,
        _: &Caller,
        request: AddPartitionsRequest,
    ) -> Result<TopicDescription, AdminError> {
        self.parts.topics.add(request).await
    }

    /// The configs of topics, as they were at least when this was called; one answer for each name, in that order.
    pub async fn topic_configs(&self, _: &Caller, names: &[String]) -> Vec<Result<Vec<ConfigEntry>, AdminError>> {
        self.parts.topics.configs(names).await
    }

    /// The idempotent producers that a partition remembers, refused if they are more than `max`. Leader only.
    pub async fn producers(
        &self,
        _: &Caller,
        at: PartitionRead,
        max: usize,
    ) -> Result<Vec<ActiveProducer>, FetchError> {
        self.parts.fetches.producers(&at, max).await
    }

    /// What the replicas on this broker keep.
    pub fn directory(&self) -> DirectoryView {
        self.parts.topics.directory()
    }

    /// What this broker's own replica is compared by with those of others.
    pub async fn hash_replica(&self, _: &Caller, request: HashReplicaRequest) -> Result<ReplicaHash, AdminError> {
        self.parts.verifies.hash(request).await
    }

    /// How this broker was set up.
    pub fn settings(&self) -> &BrokerSettings {
        &self.parts.node.settings
    }

    /// The new log start offset.
    pub async fn trim_partition(&self, _: &Caller, request: TrimRequest) -> Result<Offset, AdminError> {
        self.parts.topics.trim(request).await
    }

    pub async fn delete_topic(&self, _: &Caller, request: DeleteTopicRequest) -> Result<TopicSummary, AdminError> {
        self.parts.topics.delete(request).await
    }

    /// A producer id that was never given out before.
    pub async fn init_producer_id(&self, _: &Caller) -> Result<ProducerIdentity, AdminError> {
        self.parts.producer_ids.next().await
    }

    /// Waits up to 500 ms when a named topic is unknown here (SAFETY M9).
    pub async fn cluster_view(&self, _: &Caller, topics: TopicsWanted) -> ClusterView {
        self.parts.views.view(topics).await
    }

    /// A broker as this one knows it: where it listens for each face, for one.
    pub fn broker(&self, of: BrokerId) -> Option<BrokerView> {
        self.parts.views.broker(of)
    }

    pub async fn health(&self, _: &Caller) -> HealthReport {
        self.parts.views.health().await
    }

    /// Raises the cluster's feature level. Refused with the names of the brokers that do not support the new one;
    /// doing it again changes nothing.
    pub async fn raise_feature_level(
        &self,
        _: &Caller,
        request: RaiseFeatureLevelRequest,
    ) -> Result<FeatureLevelRaised, AdminError> {
        self.parts.metadata.raise_feature_level(request).await
    }

    pub async fn transfer_leader(&self, _: &Caller, request: TransferLeaderRequest) -> Result<LeaderNow, AdminError> {
        self.parts.transfers.transfer(request).await
    }

    pub fn readiness(&self) -> Readiness {
        self.parts.node.readiness()
    }

    /// The node's turns at long computations: what a face decompresses or compresses waits for them too.
    pub fn cpu_turns(&self) -> CpuTurns {
        self.parts.fetches.cpu_turns()
    }

    /// This broker's wall clock, for records without a timestamp.
    pub fn now(&self) -> WallMs {
        self.parts.node.clock.wall()
    }

    /// Resolves when the broker must not go on; the process prints why and exits.
    pub async fn failed(&self) -> BrokerFailed {
        let mut failed = self.parts.node.failed.subscribe();
        let first = failed.wait_for(Option::is_some).await.map(|failed| failed.clone());
        match first {
            Ok(Some(failed)) => failed,
            // The sender lives as long as `self`.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// SAFETY M13, bounded. Afterwards the process may exit.
    pub async fn shutdown(&self) {
        self.parts.stop().await
    }

    pub fn id(&self) -> BrokerId {
        self.parts.node.me()
    }

    /// A page of records, read by the partition's leader wherever that is.
    pub async fn browse(&self, _: &Caller, request: BrowseRequest) -> Result<Browsed, FetchError> {
        self.parts.consoles.browse(request).await
    }

    /// A node's figures, or None if it does not answer.
    pub async fn figures(&self, _: &Caller, of: BrokerId, history: bool) -> Option<NodeFigures> {
        self.parts.consoles.figures(of, history).await
    }

    /// A node's Kafka clients, or None if it does not answer.
    pub async fn kafka_clients(&self, _: &Caller, of: BrokerId) -> Option<KafkaClients> {
        self.parts.consoles.kafka_clients(of).await
    }
}

/// Consumer groups.
impl Broker {
    /// One beat of a member with assignment on the server; without a member id it joins.
    pub async fn group_heartbeat(&self, _: &Caller, beat: HeartbeatRequest) -> Result<HeartbeatAnswer, GroupError> {
        self.parts.groups.heartbeat(beat).await
    }

    /// The first beat of a member. Its id is the client's, so that repeating this is the same join; drawn if empty.
    pub async fn group_join(&self, _: &Caller, beat: HeartbeatRequest) -> Result<HeartbeatAnswer, GroupError> {
        self.parts.groups.join(beat).await
    }

    /// Members of either protocol leave at once; per member, why it could not.
    pub async fn group_leave(
        &self,
        _: &Caller,
        group: &GroupName,
        leavers: Vec<Leaver>,
    ) -> Result<Vec<(Leaver, Option<GroupError>)>, GroupError> {
        self.parts.groups.leave(group, leavers).await
    }

    /// Answered when the offsets are fsynced on a majority. The refused ones; all others are committed.
    ///
    /// A client that gives up before [`GroupError::OutcomeUnknown`] or another answer comes (5 s at most)
    /// must not commit again at once: its first commit may be applied after the second.
    pub async fn commit_offsets(
        &self,
        _: &Caller,
        commit: CommitRequest,
    ) -> Result<Vec<(TopicPartition, GroupError)>, GroupError> {
        self.parts.groups.commit_offsets(commit).await
    }

    /// Kafka's OffsetCommit, of any size: [`Broker::commit_offsets`] by Kafka's rules. A member's commits are applied in
    /// the order of these calls, whenever the futures are polled; who drops one has given it up.
    pub fn classic_commit(
        &self,
        _: &Caller,
        commit: CommitRequest,
    ) -> impl Future<Output = Result<Vec<(TopicPartition, GroupError)>, GroupError>> + Send + use<> {
        let parts = Arc::clone(&self.parts);
        let turn = parts.groups.turns.take(&commit.group, &commit.member);
        async move { parts.groups.classic_commit(commit, turn?).await }
    }

    /// Never older than any commit acknowledged before the call (SAFETY M9). None: of all partitions.
    pub async fn fetch_offsets(
        &self,
        _: &Caller,
        group: &GroupName,
        at: Option<Vec<TopicPartition>>,
    ) -> Result<CommittedOffsets, GroupError> {
        self.parts.groups.committed_offsets(group, at).await
    }

    pub async fn list_groups(&self, _: &Caller) -> Result<Vec<GroupSummary>, GroupError> {
        self.parts.groups.list().await
    }

    pub async fn describe_group(&self, _: &Caller, group: &GroupName) -> Result<GroupDescription, GroupError> {
        self.parts.groups.describe(group).await
    }

    /// Deletes a group that has no members.
    pub async fn delete_group(&self, _: &Caller, group: &GroupName, dry_run: bool) -> Result<(), GroupError> {
        self.parts.groups.delete(group, dry_run).await
    }

    /// Forgets committed offsets of partitions that no member holds. The refused ones.
    pub async fn delete_offsets(
        &self,
        _: &Caller,
        group: &GroupName,
        at: Vec<TopicPartition>,
    ) -> Result<Vec<(TopicPartition, GroupError)>, GroupError> {
        self.parts.groups.delete_offsets(group, at).await
    }

    /// Kafka's JoinGroup: answered when the rebalance that it belongs to is complete.
    pub async fn classic_join(&self, _: &Caller, join: ClassicJoin) -> Result<ClassicJoined, GroupError> {
        self.parts.groups.classic_join(join).await
    }

    /// Kafka's SyncGroup: answered when the group leader has sent its assignments.
    pub async fn classic_sync(&self, _: &Caller, sync: ClassicSync) -> Result<ClassicSynced, GroupError> {
        self.parts.groups.sync_classic(sync).await
    }

    /// Answers Kafka's Heartbeat.
    pub async fn classic_heartbeat(&self, _: &Caller, beat: ClassicBeat) -> Result<(), GroupError> {
        self.parts.groups.classic_heartbeat(beat).await
    }
}
