//! What the console needs of a broker. Two implementations: [`Broker`], and the tests' fake.

use std::future::Future;

use crate::{
    broker::{
        AdminError, Broker, BrowseRequest, Browsed, Caller, ClusterView, FetchError, HealthReport, NodeFigures,
        Readiness, TopicDescription, TopicSummary, TopicsWanted,
        groups::{GroupDescription, GroupError, GroupSummary},
    },
    metrics::KafkaClients,
    seam::CpuTurns,
    types::{BrokerId, GroupName, WallMs},
};

/// Who asks through this listener: its clients are not told apart yet.
pub(super) const CALLER: Caller = Caller::ANONYMOUS;

/// The methods mean what [`Broker`]'s of the same name mean.
pub trait Backend: Clone + Send + Sync + 'static {
    fn id(&self) -> BrokerId;
    fn readiness(&self) -> Readiness;
    fn now(&self) -> WallMs;
    fn cpu_turns(&self) -> CpuTurns;
    fn health(&self, caller: &Caller) -> impl Future<Output = HealthReport> + Send;
    fn cluster_view(&self, caller: &Caller, topics: TopicsWanted) -> impl Future<Output = ClusterView> + Send;
    fn figures(&self, caller: &Caller, of: BrokerId, history: bool)
    -> impl Future<Output = Option<NodeFigures>> + Send;
    fn kafka_clients(&self, caller: &Caller, of: BrokerId) -> impl Future<Output = Option<KafkaClients>> + Send;
    fn list_topics(&self, caller: &Caller) -> impl Future<Output = Result<Vec<TopicSummary>, AdminError>> + Send;
    fn describe_topic(
        &self,
        caller: &Caller,
        name: &str,
    ) -> impl Future<Output = Result<TopicDescription, AdminError>> + Send;
    fn browse(
        &self,
        caller: &Caller,
        request: BrowseRequest,
    ) -> impl Future<Output = Result<Browsed, FetchError>> + Send;
    fn list_groups(&self, caller: &Caller) -> impl Future<Output = Result<Vec<GroupSummary>, GroupError>> + Send;
    fn describe_group(
        &self,
        caller: &Caller,
        group: &GroupName,
    ) -> impl Future<Output = Result<GroupDescription, GroupError>> + Send;
}

impl Backend for Broker {
    fn id(&self) -> BrokerId {
        Broker::id(self)
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

    async fn health(&self, caller: &Caller) -> HealthReport {
        Broker::health(self, caller).await
    }

    async fn cluster_view(&self, caller: &Caller, topics: TopicsWanted) -> ClusterView {
        Broker::cluster_view(self, caller, topics).await
    }

    async fn figures(&self, caller: &Caller, of: BrokerId, history: bool) -> Option<NodeFigures> {
        Broker::figures(self, caller, of, history).await
    }

    async fn kafka_clients(&self, caller: &Caller, of: BrokerId) -> Option<KafkaClients> {
        Broker::kafka_clients(self, caller, of).await
    }

    async fn list_topics(&self, caller: &Caller) -> Result<Vec<TopicSummary>, AdminError> {
        Broker::list_topics(self, caller).await
    }

    async fn describe_topic(&self, caller: &Caller, name: &str) -> Result<TopicDescription, AdminError> {
        Broker::describe_topic(self, caller, name).await
    }

    async fn browse(&self, caller: &Caller, request: BrowseRequest) -> Result<Browsed, FetchError> {
        Broker::browse(self, caller, request).await
    }

    async fn list_groups(&self, caller: &Caller) -> Result<Vec<GroupSummary>, GroupError> {
        Broker::list_groups(self, caller).await
    }

    async fn describe_group(&self, caller: &Caller, group: &GroupName) -> Result<GroupDescription, GroupError> {
        Broker::describe_group(self, caller, group).await
    }
}
