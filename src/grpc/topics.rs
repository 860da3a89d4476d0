//! The Topics service.

use tonic::{Request, Response, Status};

use super::{Backend, RequestError, Services, convert, decode, error::CallFailure};
use crate::{
    broker::{AddPartitionsRequest, AlterTopicRequest, CreateTopicRequest, DeleteTopicRequest, TrimRequest},
    grpc::backend::CALLER,
    metrics::Api,
    proto::v1::{self, topics_server::Topics},
};

/// What `before_offset` is for "everything up to the high watermark".
const TRIM_ALL: i64 = -1;

#[tonic::async_trait]
impl<B: Backend> Topics for Services<B> {
    async fn create_topic(
        &self,
        request: Request<v1::CreateTopicRequest>,
    ) -> Result<Response<v1::CreateTopicResponse>, Status> {
        self.answer(Api::CreateTopic, self.create(request.into_inner()).await)
    }

    async fn list_topics(&self, _: Request<v1::ListTopicsRequest>) -> Result<Response<v1::ListTopicsResponse>, Status> {
        let topics = self.backend.list_topics(&CALLER).await;
        let topics = topics.map(|topics| topics.into_iter().map(convert::summary).collect());
        self.answer(Api::ListTopics, topics.map(|topics| v1::ListTopicsResponse { topics }))
    }

    async fn describe_topic(
        &self,
        request: Request<v1::DescribeTopicRequest>,
    ) -> Result<Response<v1::DescribeTopicResponse>, Status> {
        self.answer(Api::DescribeTopic, self.describe(request.into_inner()).await)
    }

    async fn alter_topic(
        &self,
        request: Request<v1::AlterTopicRequest>,
    ) -> Result<Response<v1::AlterTopicResponse>, Status> {
        self.answer(Api::AlterTopic, self.alter(request.into_inner()).await)
    }

    async fn add_partitions(
        &self,
        request: Request<v1::AddPartitionsRequest>,
    ) -> Result<Response<v1::AddPartitionsResponse>, Status> {
        self.answer(Api::AddPartitions, self.add(request.into_inner()).await)
    }

    async fn trim_partition(
        &self,
        request: Request<v1::TrimPartitionRequest>,
    ) -> Result<Response<v1::TrimPartitionResponse>, Status> {
        self.answer(Api::TrimPartition, self.trim(request.into_inner()).await)
    }

    async fn delete_topic(
        &self,
        request: Request<v1::DeleteTopicRequest>,
    ) -> Result<Response<v1::DeleteTopicResponse>, Status> {
        self.answer(Api::DeleteTopic, self.delete(request.into_inner()).await)
    }

    async fn list_offset(
        &self,
        request: Request<v1::ListOffsetRequest>,
    ) -> Result<Response<v1::ListOffsetResponse>, Status> {
        self.answer(Api::ListOffset, self.offset(request.into_inner()).await)
    }
}

impl<B: Backend> Services<B> {
    async fn create(&self, request: v1::CreateTopicRequest) -> Result<v1::CreateTopicResponse, CallFailure> {
        decode::topic_name(&request.name)?;
        let request = CreateTopicRequest {
            name: request.name,
            partitions: decode::count("partitions", request.partitions)?,
            replication_factor: decode::count("replication_factor", request.replication_factor)?,
            configs: decode::configs(request.configs)?,
            dry_run: request.dry_run,
            wait: request.wait,
            timeout: decode::call_timeout(request.timeout_ms)?,
        };
        let topic = self.backend.create_topic(&CALLER, request).await?;
        Ok(v1::CreateTopicResponse { topic: Some(convert::topic(topic)) })
    }

    async fn describe(&self, request: v1::DescribeTopicRequest) -> Result<v1::DescribeTopicResponse, CallFailure> {
        decode::topic_name(&request.name)?;
        let topic = self.backend.describe_topic(&CALLER, &request.name).await?;
        Ok(v1::DescribeTopicResponse { topic: Some(convert::topic(topic)) })
    }

    async fn alter(&self, request: v1::AlterTopicRequest) -> Result<v1::AlterTopicResponse, CallFailure> {
        decode::topic_name(&request.name)?;
        decode::config_names(request.unset.len())?;
        let request = AlterTopicRequest {
            name: request.name,
            set: decode::configs(request.set)?,
            unset: request.unset,
            replaces: false,
            dry_run: request.dry_run,
        };
        let topic = self.backend.alter_topic(&CALLER, request).await?;
        Ok(v1::AlterTopicResponse { topic: Some(convert::topic(topic)) })
    }

    async fn add(&self, request: v1::AddPartitionsRequest) -> Result<v1::AddPartitionsResponse, CallFailure> {
        decode::topic_name(&request.name)?;
        let partitions = decode::count("partitions", Some(request.partitions))?
            .ok_or_else(|| RequestError::invalid("partitions is absent; it is the new total"))?;
        let request = AddPartitionsRequest { name: request.name, partitions, dry_run: request.dry_run };
        let topic = self.backend.add_partitions(&CALLER, request).await?;
        Ok(v1::AddPartitionsResponse { topic: Some(convert::topic(topic)) })
    }

    async fn trim(&self, request: v1::TrimPartitionRequest) -> Result<v1::TrimPartitionResponse, CallFailure> {
        decode::topic_name(&request.topic)?;
        let before = match request.before_offset {
            TRIM_ALL => None,
            before => Some(decode::offset("before_offset", before)?),
        };
        let partition = decode::partition(request.partition)?;
        let request = TrimRequest { topic: request.topic, partition, before, dry_run: request.dry_run };
        let log_start = self.backend.trim_partition(&CALLER, request).await?;
        Ok(v1::TrimPartitionResponse { log_start: log_start.0 })
    }

    async fn delete(&self, request: v1::DeleteTopicRequest) -> Result<v1::DeleteTopicResponse, CallFailure> {
        decode::topic_name(&request.name)?;
        let request = DeleteTopicRequest { name: request.name, topic_id: None, dry_run: request.dry_run };
        let topic = self.backend.delete_topic(&CALLER, request).await?;
        Ok(v1::DeleteTopicResponse { topic: Some(convert::summary(topic)) })
    }

    async fn offset(&self, request: v1::ListOffsetRequest) -> Result<v1::ListOffsetResponse, CallFailure> {
        decode::topic_name(&request.topic)?;
        let partition = decode::partition(request.partition)?;
        let at = decode::offset_at(request.at)?;
        let topic_id = decode::topic_id(&request.topic_id)?;
        let found = self.backend.find_offset(&CALLER, &request.topic, topic_id, partition, at).await?;
        Ok(v1::ListOffsetResponse { offset: found.offset.0, epoch: found.epoch.0 })
    }
}
