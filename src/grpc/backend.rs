//! What the services need of a broker. Two implementations: [`Broker`], and the tests' script of one.

use std::{future::Future, sync::Arc};

use crate::{
    broker::{
        AddPartitionsRequest, AdminError, AlterTopicRequest, Broker, Caller, ClusterView, CreateTopicRequest,
        DeleteTopicRequest, FeatureLevelRaised, FetchError, FetchRequest, Fetched, FoundOffset, HashReplicaRequest,
        HealthReport, LeaderNow, OffsetAt, PartitionRead, ProduceBudget, ProduceError, ProduceRequest,
        ProducerIdentity, RaiseFeatureLevelRequest, Readiness, Receipt, ReplicaHash, TopicDescription, TopicSummary,
        TopicsWanted, TransferLeaderRequest, TrimRequest, Waiting,
        groups::{
            CommitRequest, CommittedOffsets, GroupDescription, GroupError, GroupSummary, HeartbeatAnswer,
            HeartbeatRequest, Leaver,
        },
        held::HeldBytes,
    },
    seam::CpuTurns,
    types::{BrokerId, GroupName, Offset, PartitionId, TopicId, TopicPartition, WallMs},
};

/// Who asks through this listener: its clients are not told apart yet.
pub(super) const CALLER: Caller = Caller::ANONYMOUS;

/// The methods mean what [`Broker`]'s of the same name mean.
pub trait Backend: Clone + Send + Sync + Unpin + 'static {
    type Budget: Send + 'static;
    type Waiting: Future<Output = Result<Receipt, ProduceError>> + Send + Unpin + 'static;

    fn answer_room(&self) -> Arc<HeldBytes>;
    fn reserve_produce(&self, bytes: usize) -> impl Future<Output = Self::Budget> + Send;
    fn produce(
        &self,
        caller: &Caller,
        request: ProduceRequest,
        budget: Self::Budget,
    ) -> Result<Self::Waiting, ProduceError>;
    fn fetch(&self, caller: &Caller, request: FetchRequest)
    -> impl Future<Output = Result<Fetched, FetchError>> + Send;
    fn fetch_kept(
        &self,
        caller: &Caller,
        request: FetchRequest,
    ) -> impl Future<Output = Result<(Offset, Fetched), FetchError>> + Send;
    fn topic_id(&self, topic: &str) -> Option<TopicId>;
    /// Where clients of this face reach a broker; empty if that is not known here.
    fn client_address(&self, of: BrokerId) -> String;
    fn find_offset(
        &self,
        caller: &Caller,
        topic: &str,
        topic_id: Option<TopicId>,
        partition: PartitionId,
        at: OffsetAt,
    ) -> impl Future<Output = Result<FoundOffset, FetchError>> + Send;
    fn create_topic(
        &self,
        caller: &Caller,
        request: CreateTopicRequest,
    ) -> impl Future<Output = Result<TopicDescription, AdminError>> + Send;
    fn list_topics(&self, caller: &Caller) -> impl Future<Output = Result<Vec<TopicSummary>, AdminError>> + Send;
    fn describe_topic(
        &self,
        caller: &Caller,
        name: &str,
    ) -> impl Future<Output = Result<TopicDescription, AdminError>> + Send;
    fn alter_topic(
        &self,
        caller: &Caller,
        request: AlterTopicRequest,
    ) -> impl Future<Output = Result<TopicDescription, AdminError>> + Send;
    fn add_partitions(
        &self,
        caller: &Caller,
        request: AddPartitionsRequest,
    ) -> impl Future<Output = Result<TopicDescription, AdminError>> + Send;
    fn trim_partition(
        &self,
        caller: &Caller,
        request: TrimRequest,
    ) -> impl Future<Output = Result<Offset, AdminError>> + Send;
    fn delete_topic(
        &self,
        caller: &Caller,
        request: DeleteTopicRequest,
    ) -> impl Future<Output = Result<TopicSummary, AdminError>> + Send;
    fn init_producer_id(&self, caller: &Caller) -> impl Future<Output = Result<ProducerIdentity, AdminError>> + Send;
    fn cluster_view(&self, caller: &Caller, topics: TopicsWanted) -> impl Future<Output = ClusterView> + Send;
    fn health(&self, caller: &Caller) -> impl Future<Output = HealthReport> + Send;
    fn raise_feature_level(
        &self,
        caller: &Caller,
        request: RaiseFeatureLevelRequest,
    ) -> impl Future<Output = Result<FeatureLevelRaised, AdminError>> + Send;
    fn hash_replica(
        &self,
        caller: &Caller,
        request: HashReplicaRequest,
    ) -> impl Future<Output = Result<ReplicaHash, AdminError>> + Send;
    fn transfer_leader(
        &self,
        caller: &Caller,
        request: TransferLeaderRequest,
    ) -> impl Future<Output = Result<LeaderNow, AdminError>> + Send;
    fn group_join(
        &self,
        caller: &Caller,
        request: HeartbeatRequest,
    ) -> impl Future<Output = Result<HeartbeatAnswer, GroupError>> + Send;
    fn group_heartbeat(
        &self,
        caller: &Caller,
        request: HeartbeatRequest,
    ) -> impl Future<Output = Result<HeartbeatAnswer, GroupError>> + Send;
    fn group_leave(
        &self,
        caller: &Caller,
        group: &GroupName,
        leavers: Vec<Leaver>,
    ) -> impl Future<Output = Result<Vec<(Leaver, Option<GroupError>)>, GroupError>> + Send;
    fn commit_offsets(
        &self,
        caller: &Caller,
        request: CommitRequest,
    ) -> impl Future<Output = Result<Vec<(TopicPartition, GroupError)>, GroupError>> + Send;
    fn fetch_offsets(
        &self,
        caller: &Caller,
        group: &GroupName,
        at: Option<Vec<TopicPartition>>,
    ) -> impl Future<Output = Result<CommittedOffsets, GroupError>> + Send;
    fn list_groups(&self, caller: &Caller) -> impl Future<Output = Result<Vec<GroupSummary>, GroupError>> + Send;
    fn describe_group(
        &self,
        caller: &Caller,
        group: &GroupName,
    ) -> impl Future<Output = Result<GroupDescription, GroupError>> + Send;
    fn delete_group(
        &self,
        caller: &Caller,
        group: &GroupName,
        dry_run: bool,
    ) -> impl Future<Output = Result<(), GroupError>> + Send;
    fn delete_offsets(
        &self,
        caller: &Caller,
        group: &GroupName,
        at: Vec<TopicPartition>,
    ) -> impl Future<Output = Result<Vec<(TopicPartition, GroupError)>, GroupError>> + Send;
    fn readiness(&self) -> Readiness;
    fn now(&self) -> WallMs;
    fn cpu_turns(&self) -> CpuTurns;
}

impl Backend for Broker {
    type Budget = ProduceBudget;
    type Waiting = Waiting;

    fn answer_room(&self) -> Arc<HeldBytes> {
        Broker::answer_room(self)
    }

    async fn reserve_produce(&self, bytes: usize) -> ProduceBudget {
        Broker::reserve_produce(self, bytes).await
    }

    fn produce(
        &self,
        caller: &Caller,
        request: ProduceRequest,
        budget: ProduceBudget,
    ) -> Result<Waiting, ProduceError> {
        Broker::produce(self, caller, request, budget)
    }

    async fn fetch(&self, caller: &Caller, request: FetchRequest) -> Result<Fetched, FetchError> {
        Broker::fetch(self, caller, request).await
    }

    async fn fetch_kept(&self, caller: &Caller, request: FetchRequest) -> Result<(Offset, Fetched), FetchError> {
        Broker::fetch_kept(self, caller, request).await
    }

    fn client_address(&self, of: BrokerId) -> String {
        Broker::broker(self, of).map(|broker| broker.client_address).unwrap_or_default()
    }

    fn topic_id(&self, topic: &str) -> Option<TopicId> {
        Broker::topic_id(self, topic)
    }

    async fn find_offset(
        &self,
        caller: &Caller,
        topic: &str,
        topic_id: Option<TopicId>,
        partition: PartitionId,
        at: OffsetAt,
    ) -> Result<FoundOffset, FetchError> {
        let read = PartitionRead { topic: topic.into(), topic_id, partition, leader_epoch: None };
        Broker::find_offset(self, caller, read, at).await
    }

    async fn create_topic(&self, caller: &Caller, request: CreateTopicRequest) -> Result<TopicDescription, AdminError> {
        Broker::create_topic(self, caller, request).await
    }

    async fn list_topics(&self, caller: &Caller) -> Result<Vec<TopicSummary>, AdminError> {
        Broker::list_topics(self, caller).await
    }

    async fn describe_topic(&self, caller: &Caller, name: &str) -> Result<TopicDescription, AdminError> {
        Broker::describe_topic(self, caller, name).await
    }

    async fn alter_topic(&self, caller: &Caller, request: AlterTopicRequest) -> Result<TopicDescription, AdminError> {
        Broker::alter_topic(self, caller, request).await
    }

    async fn add_partitions(
        &self,
        caller: &Caller,
        request: AddPartitionsRequest,
    ) -> Result<TopicDescription, AdminError> {
        Broker::add_partitions(self, caller, request).await
    }

    async fn trim_partition(&self, caller: &Caller, request: TrimRequest) -> Result<Offset, AdminError> {
        Broker::trim_partition(self, caller, request).await
    }

    async fn delete_topic(&self, caller: &Caller, request: DeleteTopicRequest) -> Result<TopicSummary, AdminError> {
        Broker::delete_topic(self, caller, request).await
    }

    async fn init_producer_id(&self, caller: &Caller) -> Result<ProducerIdentity, AdminError> {
        Broker::init_producer_id(self, caller).await
    }

    async fn cluster_view(&self, caller: &Caller, topics: TopicsWanted) -> ClusterView {
        Broker::cluster_view(self, caller, topics).await
    }

    async fn health(&self, caller: &Caller) -> HealthReport {
        Broker::health(self, caller).await
    }

    async fn raise_feature_level(
        &self,
        caller: &Caller,
        request: RaiseFeatureLevelRequest,
    ) -> Result<FeatureLevelRaised, AdminError> {
        Broker::raise_feature_level(self, caller, request).await
    }

    async fn hash_replica(&self, caller: &Caller, request: HashReplicaRequest) -> Result<ReplicaHash, AdminError> {
        Broker::hash_replica(self, caller, request).await
    }

    async fn transfer_leader(&self, caller: &Caller, request: TransferLeaderRequest) -> Result<LeaderNow, AdminError> {
        Broker::transfer_leader(self, caller, request).await
    }

    async fn group_join(&self, caller: &Caller, request: HeartbeatRequest) -> Result<HeartbeatAnswer, GroupError> {
        Broker::group_join(self, caller, request).await
    }

    async fn group_heartbeat(&self, caller: &Caller, request: HeartbeatRequest) -> Result<HeartbeatAnswer, GroupError> {
        Broker::group_heartbeat(self, caller, request).await
    }

    async fn group_leave(
        &self,
        caller: &Caller,
        group: &GroupName,
        leavers: Vec<Leaver>,
    ) -> Result<Vec<(Leaver, Option<GroupError>)>, GroupError> {
        Broker::group_leave(self, caller, group, leavers).await
    }

    async fn commit_offsets(
        &self,
        caller: &Caller,
        request: CommitRequest,
    ) -> Result<Vec<(TopicPartition, GroupError)>, GroupError> {
        Broker::commit_offsets(self, caller, request).await
    }

    async fn fetch_offsets(
        &self,
        caller: &Caller,
        group: &GroupName,
        at: Option<Vec<TopicPartition>>,
    ) -> Result<CommittedOffsets, GroupError> {
        Broker::fetch_offsets(self, caller, group, at).await
    }

    async fn list_groups(&self, caller: &Caller) -> Result<Vec<GroupSummary>, GroupError> {
        Broker::list_groups(self, caller).await
    }

    async fn describe_group(&self, caller: &Caller, group: &GroupName) -> Result<GroupDescription, GroupError> {
        Broker::describe_group(self, caller, group).await
    }

    async fn delete_group(&self, caller: &Caller, group: &GroupName, dry_run: bool) -> Result<(), GroupError> {
        Broker::delete_group(self, caller, group, dry_run).await
    }

    async fn delete_offsets(
        &self,
        caller: &Caller,
        group: &GroupName,
        at: Vec<TopicPartition>,
    ) -> Result<Vec<(TopicPartition, GroupError)>, GroupError> {
        Broker::delete_offsets(self, caller, group, at).await
    }

    fn readiness(&self) -> Readiness {
        Broker::readiness(self)
    }

    fn now(&self) -> WallMs {
        Broker::now(self)
    }

    fn cpu_turns(&self) -> CpuTurns {
        Broker::cpu_turns(self)
    }
}
