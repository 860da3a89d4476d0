//! What the console needs of a broker. Two implementations: [`Broker`], and the tests' fake.

use std::future::Future;

use crate::{
    broker::{
        AdminError, Broker, BrowseRequest, Browsed, ClusterView, FetchError, HealthReport, NodeFigures, Readiness,
        TopicDescription, TopicSummary, TopicsWanted,
        groups::{GroupDescription, GroupError, GroupSummary},
    },
    seam::CpuTurns,
    types::{BrokerId, WallMs},
};

/// The methods mean what [`Broker`]'s of the same name mean.
pub trait Backend: Clone + Send + Sync + 'static {
    fn id(&self) -> BrokerId;
    fn readiness(&self) -> Readiness;
    fn now(&self) -> WallMs;
    fn cpu_turns(&self) -> CpuTurns;
    fn health(&self) -> impl Future<Output = HealthReport> + Send;
    fn cluster_view(&self, topics: TopicsWanted) -> impl Future<Output = ClusterView> + Send;
    fn figures(&self, of: BrokerId, history: bool) -> impl Future<Output = Option<NodeFigures>> + Send;
    fn list_topics(&self) -> impl Future<Output = Result<Vec<TopicSummary>, AdminError>> + Send;
    fn describe_topic(&self, name: &str) -> impl Future<Output = Result<TopicDescription, AdminError>> + Send;
    fn browse(&self, request: BrowseRequest) -> impl Future<Output = Result<Browsed, FetchError>> + Send;
    fn list_groups(&self) -> impl Future<Output = Result<Vec<GroupSummary>, GroupError>> + Send;
    fn describe_group(&self, group: &str) -> impl Future<Output = Result<GroupDescription, GroupError>> + Send;
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

    async fn health(&self) -> HealthReport {
        Broker::health(self).await
    }

    async fn cluster_view(&self, topics: TopicsWanted) -> ClusterView {
        Broker::cluster_view(self, topics).await
    }

    async fn figures(&self, of: BrokerId, history: bool) -> Option<NodeFigures> {
        Broker::figures(self, of, history).await
    }

    async fn list_topics(&self) -> Result<Vec<TopicSummary>, AdminError> {
        Broker::list_topics(self).await
    }

    async fn describe_topic(&self, name: &str) -> Result<TopicDescription, AdminError> {
        Broker::describe_topic(self, name).await
    }

    async fn browse(&self, request: BrowseRequest) -> Result<Browsed, FetchError> {
        Broker::browse(self, request).await
    }

    async fn list_groups(&self) -> Result<Vec<GroupSummary>, GroupError> {
        Broker::list_groups(self).await
    }

    async fn describe_group(&self, group: &str) -> Result<GroupDescription, GroupError> {
        Broker::describe_group(self, group).await
    }
}
