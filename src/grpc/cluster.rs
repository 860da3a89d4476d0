//! The Cluster service.

use tonic::{Request, Response, Status};

use super::{Backend, RequestError, Services, convert, decode, error::CallFailure, limits};
use crate::{
    broker::{HashReplicaRequest, RaiseFeatureLevelRequest, TopicsWanted, TransferLeaderRequest},
    grpc::backend::CALLER,
    metrics::Api,
    proto::v1::{self, cluster_server::Cluster},
    types::{BrokerId, LogIndex, PartitionId},
};

#[tonic::async_trait]
impl<B: Backend> Cluster for Services<B> {
    async fn get_metadata(
        &self,
        request: Request<v1::GetMetadataRequest>,
    ) -> Result<Response<v1::GetMetadataResponse>, Status> {
        self.answer(Api::GetMetadata, self.metadata(request.into_inner()).await)
    }

    async fn health(&self, request: Request<v1::HealthRequest>) -> Result<Response<v1::HealthResponse>, Status> {
        let with_details = request.into_inner().details;
        let report = self.backend.health(&CALLER).await;
        self.answer(Api::Health, Ok::<_, RequestError>(convert::health(report, with_details)))
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderResponse>, Status> {
        self.answer(Api::TransferLeader, self.transfer(request.into_inner()).await)
    }

    async fn raise_feature_level(
        &self,
        request: Request<v1::RaiseFeatureLevelRequest>,
    ) -> Result<Response<v1::RaiseFeatureLevelResponse>, Status> {
        self.answer(Api::RaiseFeatureLevel, self.raise(request.into_inner()).await)
    }

    async fn hash_replica(
        &self,
        request: Request<v1::HashReplicaRequest>,
    ) -> Result<Response<v1::HashReplicaResponse>, Status> {
        self.answer(Api::HashReplica, self.hash(request.into_inner()).await)
    }

    async fn init_producer_id(
        &self,
        _: Request<v1::InitProducerIdRequest>,
    ) -> Result<Response<v1::InitProducerIdResponse>, Status> {
        let identity = self.backend.init_producer_id(&CALLER).await;
        let answer = identity.map(|identity| v1::InitProducerIdResponse {
            producer_id: identity.id.0,
            producer_epoch: identity.epoch.0.into(),
        });
        self.answer(Api::InitProducerId, answer)
    }
}

impl<B: Backend> Services<B> {
    async fn metadata(&self, request: v1::GetMetadataRequest) -> Result<v1::GetMetadataResponse, RequestError> {
        let named = request.topics.len();
        if named > limits::TOPICS_NAMED_MAX {
            let detail = format!("{named} topics are named; ask for all_topics beyond {}", limits::TOPICS_NAMED_MAX);
            return Err(RequestError::Invalid { detail });
        }
        let wanted = match (request.all_topics, named) {
            (true, _) => TopicsWanted::All,
            (false, 0) => TopicsWanted::None,
            (false, _) => {
                request.topics.iter().try_for_each(|name| decode::topic_name(name))?;
                TopicsWanted::Named(request.topics)
            }
        };
        Ok(convert::metadata(self.backend.cluster_view(&CALLER, wanted).await))
    }

    async fn transfer(&self, request: v1::TransferLeaderRequest) -> Result<v1::TransferLeaderResponse, CallFailure> {
        let partition = partition_or_metadata(request.topic, request.partition)?;
        if request.to_broker == Some(0) {
            return Err(RequestError::invalid("to_broker is 0; brokers count from 1").into());
        }
        let to = request.to_broker.map(BrokerId);
        let timeout = decode::call_timeout(request.timeout_ms)?;
        let now = self.backend.transfer_leader(&CALLER, TransferLeaderRequest { partition, to, timeout }).await?;
        Ok(v1::TransferLeaderResponse { leader: now.broker.0, epoch: now.epoch.0 })
    }

    async fn hash(&self, request: v1::HashReplicaRequest) -> Result<v1::HashReplicaResponse, CallFailure> {
        let v1::HashReplicaRequest { topic, partition, with_state, reread_from, reread_to } = request;
        let partition = partition_or_metadata(topic, partition)?;
        let reread = match (reread_from, reread_to) {
            (None, None) => None,
            (from, Some(to)) if from.unwrap_or(0) < to => Some((LogIndex(from.unwrap_or(0)), LogIndex(to))),
            (from, Some(to)) => {
                let from = from.unwrap_or(0);
                return Err(RequestError::invalid(format!("reread_to is {to}, not above reread_from, {from}")).into());
            }
            (Some(from), None) => {
                return Err(RequestError::invalid(format!("reread_from is {from}, without a reread_to")).into());
            }
        };
        let hash = self.backend.hash_replica(&CALLER, HashReplicaRequest { partition, with_state, reread }).await?;
        Ok(convert::replica_hash(hash))
    }

    async fn raise(&self, request: v1::RaiseFeatureLevelRequest) -> Result<v1::RaiseFeatureLevelResponse, CallFailure> {
        let v1::RaiseFeatureLevelRequest { to, dry_run, timeout_ms } = request;
        if to == Some(0) {
            return Err(RequestError::invalid("to is 0; feature levels count from 1").into());
        }
        let timeout = decode::call_timeout(timeout_ms)?;
        let raised =
            self.backend.raise_feature_level(&CALLER, RaiseFeatureLevelRequest { to, dry_run, timeout }).await?;
        Ok(v1::RaiseFeatureLevelResponse { from: raised.from, to: raised.to })
    }
}

/// A partition; without a topic the metadata group, which has none.
fn partition_or_metadata(topic: String, partition: i32) -> Result<Option<(String, PartitionId)>, RequestError> {
    if topic.is_empty() {
        return match partition {
            0 => Ok(None),
            _ => {
                let detail = format!("partition is {partition} and topic is empty: the metadata has none");
                Err(RequestError::invalid(detail))
            }
        };
    }
    decode::topic_name(&topic)?;
    Ok(Some((topic, decode::partition(partition)?)))
}
