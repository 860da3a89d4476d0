//! The Cluster service.

use tonic::{Request, Response, Status};

use super::{Backend, RequestError, Services, convert, decode, error::CallFailure, limits};
use crate::{
    broker::{RaiseFeatureLevelRequest, TopicsWanted, TransferLeaderRequest},
    grpc::backend::CALLER,
    metrics::Api,
    proto::v1::{self, cluster_server::Cluster},
    types::BrokerId,
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
        let partition = if request.topic.is_empty() {
            if request.partition != 0 {
                let detail = format!("partition is {} and topic is empty: the metadata has none", request.partition);
                return Err(RequestError::invalid(detail).into());
            }
            None
        } else {
            decode::topic_name(&request.topic)?;
            Some((request.topic, decode::partition(request.partition)?))
        };
        if request.to_broker == Some(0) {
            return Err(RequestError::invalid("to_broker is 0; brokers count from 1").into());
        }
        let to = request.to_broker.map(BrokerId);
        let timeout = decode::call_timeout(request.timeout_ms)?;
        let now = self.backend.transfer_leader(&CALLER, TransferLeaderRequest { partition, to, timeout }).await?;
        Ok(v1::TransferLeaderResponse { leader: now.broker.0, epoch: now.epoch.0 })
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
