//! What a fake broker says of its cluster, and of where a partition begins and ends.

use std::collections::HashMap;

use tonic::{Request, Response, Status};

use super::fake::Fake;
use crate::proto::v1;

#[tonic::async_trait]
impl v1::cluster_server::Cluster for Fake {
    async fn get_metadata(
        &self,
        request: Request<v1::GetMetadataRequest>,
    ) -> Result<Response<v1::GetMetadataResponse>, Status> {
        let mut s = self.lock();
        s.asked.push(self.id);
        let cut_off = s.cut_off.clone().filter(|cut_off| cut_off.broker == self.id);
        let brokers = s.addresses.iter().zip(1..).map(|(address, id)| v1::BrokerInfo {
            id,
            client_address: address.clone(),
            alive: match &s.cut_off {
                Some(cut_off) => (cut_off.broker == id) == (cut_off.broker == self.id),
                None => true,
            },
            ..Default::default()
        });
        let partitions = |name: &str| {
            let slots = s.topics.get(name).into_iter().flatten().zip(0..);
            // What was made since it was cut off it does not know.
            let known = slots.filter(|(slot, _)| cut_off.as_ref().is_none_or(|cut_off| **slot < cut_off.leaders.len()));
            let routing = known.map(|(slot, partition)| {
                let p = &s.partitions[*slot];
                let (leader, epoch) = cut_off.as_ref().map_or((p.leader, p.epoch), |cut_off| cut_off.leaders[*slot]);
                v1::PartitionRouting { partition, leader, epoch, replicas: vec![] }
            });
            routing.collect()
        };
        let configs = HashMap::from([("max.message.bytes".to_string(), s.batch_bytes_max.to_string())]);
        let topics = request.into_inner().topics.into_iter().map(|name| v1::TopicRouting {
            partitions: partitions(&name),
            id: s.topic_id(&name),
            name,
            configs: if s.hides_configs { HashMap::new() } else { configs.clone() },
        });
        Ok(Response::new(v1::GetMetadataResponse {
            cluster_id: "fake".into(),
            metadata_leader: 1,
            brokers: brokers.collect(),
            topics: topics.collect(),
            routes_stale: cut_off.as_ref().is_some_and(|cut_off| cut_off.says_so),
            ..Default::default()
        }))
    }

    async fn init_producer_id(
        &self,
        _: Request<v1::InitProducerIdRequest>,
    ) -> Result<Response<v1::InitProducerIdResponse>, Status> {
        let mut s = self.lock();
        s.next_producer += 1;
        Ok(Response::new(v1::InitProducerIdResponse { producer_id: s.next_producer, producer_epoch: 0 }))
    }

    async fn health(&self, _: Request<v1::HealthRequest>) -> Result<Response<v1::HealthResponse>, Status> {
        Err(Status::unimplemented("fake"))
    }

    async fn hash_replica(
        &self,
        _: Request<v1::HashReplicaRequest>,
    ) -> Result<Response<v1::HashReplicaResponse>, Status> {
        Err(Status::unimplemented("fake"))
    }

    async fn raise_feature_level(
        &self,
        _: Request<v1::RaiseFeatureLevelRequest>,
    ) -> Result<Response<v1::RaiseFeatureLevelResponse>, Status> {
        Err(Status::unimplemented("fake"))
    }

    async fn transfer_leader(
        &self,
        _: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderResponse>, Status> {
        Err(Status::unimplemented("fake"))
    }
}

macro_rules! unimplemented_calls {
    ($($name:ident: $request:ty => $response:ty),+ $(,)?) => {
        #[tonic::async_trait]
        impl v1::topics_server::Topics for Fake {
            async fn list_offset(
                &self,
                request: Request<v1::ListOffsetRequest>,
            ) -> Result<Response<v1::ListOffsetResponse>, Status> {
                let request = request.into_inner();
                let s = self.lock();
                s.check_id(&request.topic, &request.topic_id)?;
                let slot = s.slot(&request.topic, request.partition);
                let p = &s.partitions[slot.ok_or_else(|| Status::not_found("no such partition"))?];
                let offset = match request.at {
                    Some(v1::list_offset_request::At::Latest(_)) => p.next_offset,
                    Some(v1::list_offset_request::At::Earliest(_)) => p.log_start,
                    Some(v1::list_offset_request::At::TimestampMs(_)) | None => 0,
                };
                Ok(Response::new(v1::ListOffsetResponse { offset, epoch: 1 }))
            }
            $(async fn $name(&self, _: Request<$request>) -> Result<Response<$response>, Status> {
                Err(Status::unimplemented("fake"))
            })+
        }
    };
}

unimplemented_calls! {
    create_topic: v1::CreateTopicRequest => v1::CreateTopicResponse,
    list_topics: v1::ListTopicsRequest => v1::ListTopicsResponse,
    describe_topic: v1::DescribeTopicRequest => v1::DescribeTopicResponse,
    alter_topic: v1::AlterTopicRequest => v1::AlterTopicResponse,
    add_partitions: v1::AddPartitionsRequest => v1::AddPartitionsResponse,
    trim_partition: v1::TrimPartitionRequest => v1::TrimPartitionResponse,
    delete_topic: v1::DeleteTopicRequest => v1::DeleteTopicResponse,
}
