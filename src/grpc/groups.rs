//! The Groups service.

use tonic::{Request, Response, Status};

use super::{
    Backend, RequestError, Services, connection::Origin, convert, decode::epoch, decode_groups as decode,
    error::CallFailure,
};
use crate::{
    broker::groups::{CommitRequest, CommittedOffsets, GroupError, HeartbeatRequest, Leaver},
    grpc::backend::CALLER,
    metrics::Api,
    proto::v1::{self, groups_server::Groups},
    types::TopicPartition,
};

#[tonic::async_trait]
impl<B: Backend> Groups for Services<B> {
    async fn heartbeat(
        &self,
        request: Request<v1::GroupHeartbeatRequest>,
    ) -> Result<Response<v1::GroupHeartbeatResponse>, Status> {
        // What our listener says of every connection (`connection`).
        let from = request.extensions().get::<Origin>().map(|origin| origin.from.ip().to_string()).unwrap_or_default();
        self.answer(Api::GroupHeartbeat, self.beat(request.into_inner(), from).await)
    }

    async fn leave(&self, request: Request<v1::GroupLeaveRequest>) -> Result<Response<v1::GroupLeaveResponse>, Status> {
        self.answer(Api::GroupLeave, self.part(request.into_inner()).await)
    }

    async fn commit_offsets(
        &self,
        request: Request<v1::CommitOffsetsRequest>,
    ) -> Result<Response<v1::CommitOffsetsResponse>, Status> {
        self.answer(Api::CommitOffsets, self.commit(request.into_inner()).await)
    }

    async fn fetch_offsets(
        &self,
        request: Request<v1::FetchOffsetsRequest>,
    ) -> Result<Response<v1::FetchOffsetsResponse>, Status> {
        self.answer(Api::FetchOffsets, self.committed(request.into_inner()).await)
    }

    async fn list_groups(&self, _: Request<v1::ListGroupsRequest>) -> Result<Response<v1::ListGroupsResponse>, Status> {
        let groups = self.backend.list_groups(&CALLER).await;
        let groups = groups.map(|groups| groups.into_iter().map(convert::group_summary).collect());
        self.answer(Api::ListGroups, groups.map(|groups| v1::ListGroupsResponse { groups }))
    }

    async fn describe_group(
        &self,
        request: Request<v1::DescribeGroupRequest>,
    ) -> Result<Response<v1::DescribeGroupResponse>, Status> {
        self.answer(Api::DescribeGroup, self.look_at(request.into_inner()).await)
    }

    async fn delete_group(
        &self,
        request: Request<v1::DeleteGroupRequest>,
    ) -> Result<Response<v1::DeleteGroupResponse>, Status> {
        self.answer(Api::DeleteGroup, self.remove(request.into_inner()).await)
    }

    async fn delete_offsets(
        &self,
        request: Request<v1::DeleteOffsetsRequest>,
    ) -> Result<Response<v1::DeleteOffsetsResponse>, Status> {
        self.answer(Api::DeleteOffsets, self.forget(request.into_inner()).await)
    }
}

impl<B: Backend> Services<B> {
    async fn beat(
        &self,
        request: v1::GroupHeartbeatRequest,
        client_host: String,
    ) -> Result<v1::GroupHeartbeatResponse, CallFailure> {
        let group = decode::group_name(request.group)?;
        let member = decode::member_id("member_id", request.member_id)?;
        let join_as = decode::member_id("join_as", request.join_as)?;
        decode::label("client_id", &request.client_id)?;
        decode::instance_id(request.instance_id.as_deref())?;
        let is_join = member.is_empty();
        if !is_join && !join_as.is_empty() {
            return Err(RequestError::invalid("join_as beside a member_id; only a member that joins draws one").into());
        }
        let beat = HeartbeatRequest {
            subscription: request.subscription.map(decode::subscription).transpose()?,
            owns: decode::partition_sets("owns", request.owns)?,
            session_timeout: decode::session_timeout(request.session_timeout_ms)?,
            rebalance_timeout: decode::rebalance_timeout(request.rebalance_timeout_ms)?,
            group,
            member: if is_join { join_as } else { member },
            epoch: epoch(request.epoch)?,
            instance: request.instance_id,
            client_id: request.client_id,
            client_host,
        };
        let answer = match is_join {
            true => self.backend.group_join(&CALLER, beat).await?,
            false => self.backend.group_heartbeat(&CALLER, beat).await?,
        };
        Ok(convert::heartbeat(answer))
    }

    async fn part(&self, request: v1::GroupLeaveRequest) -> Result<v1::GroupLeaveResponse, CallFailure> {
        let group = decode::group_name(request.group)?;
        let member = decode::member_id("member_id", request.member_id)?;
        decode::instance_id(request.instance_id.as_deref())?;
        if member.is_empty() && request.instance_id.is_none() {
            return Err(RequestError::invalid("neither member_id nor instance_id; who is leaving?").into());
        }
        let leaver = Leaver { member, instance: request.instance_id };
        let left = self.backend.group_leave(&CALLER, &group, vec![leaver]).await?;
        match left.into_iter().find_map(|(_, error)| error) {
            Some(error) => Err(error.into()),
            None => Ok(v1::GroupLeaveResponse {}),
        }
    }

    async fn commit(&self, request: v1::CommitOffsetsRequest) -> Result<v1::CommitOffsetsResponse, CallFailure> {
        let group = decode::group_name(request.group)?;
        let member = decode::member_id("member_id", request.member_id)?;
        decode::instance_id(request.instance_id.as_deref())?;
        let commit = CommitRequest {
            offsets: decode::offsets(request.offsets)?,
            group,
            member,
            instance: request.instance_id,
            epoch: epoch(request.epoch)?,
            sequence: request.sequence,
        };
        let refused = self.backend.commit_offsets(&CALLER, commit).await?;
        Ok(v1::CommitOffsetsResponse { refused: self.refused(Api::CommitOffsets, refused) })
    }

    async fn committed(&self, request: v1::FetchOffsetsRequest) -> Result<v1::FetchOffsetsResponse, CallFailure> {
        let group = decode::group_name(request.group)?;
        let at = match request.partitions.is_empty() {
            true => None,
            false => Some(decode::partitions("partitions", request.partitions)?),
        };
        let CommittedOffsets { offsets, topics } = self.backend.fetch_offsets(&CALLER, &group, at).await?;
        let topics = topics.into_iter().map(|(name, id)| v1::TopicIdentity { name, id: id.to_string() });
        Ok(v1::FetchOffsetsResponse {
            offsets: offsets.into_iter().map(convert::committed).collect(),
            topics: topics.collect(),
        })
    }

    async fn look_at(&self, request: v1::DescribeGroupRequest) -> Result<v1::DescribeGroupResponse, CallFailure> {
        let group = decode::group_name(request.group)?;
        Ok(convert::group(self.backend.describe_group(&CALLER, &group).await?))
    }

    async fn remove(&self, request: v1::DeleteGroupRequest) -> Result<v1::DeleteGroupResponse, CallFailure> {
        let group = decode::group_name(request.group)?;
        self.backend.delete_group(&CALLER, &group, request.dry_run).await?;
        Ok(v1::DeleteGroupResponse {})
    }

    async fn forget(&self, request: v1::DeleteOffsetsRequest) -> Result<v1::DeleteOffsetsResponse, CallFailure> {
        let group = decode::group_name(request.group)?;
        let at = decode::partitions("partitions", request.partitions)?;
        let refused = self.backend.delete_offsets(&CALLER, &group, at).await?;
        Ok(v1::DeleteOffsetsResponse { refused: self.refused(Api::DeleteOffsets, refused) })
    }

    fn refused(&self, api: Api, refused: Vec<(TopicPartition, GroupError)>) -> Vec<v1::RefusedCommit> {
        let one = |(at, error): (TopicPartition, GroupError)| v1::RefusedCommit {
            topic: at.topic,
            partition: at.partition.0,
            error: Some(self.shared.counted(api, error)),
        };
        refused.into_iter().map(one).collect()
    }
}
