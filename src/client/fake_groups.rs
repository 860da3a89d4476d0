//! The Groups service of the fake brokers.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::sleep;
use tonic::{Request, Response, Status};

use super::{
    fake::{Fake, status},
    fake_coordinator::{error, partitions},
};
use crate::proto::v1::{self, ErrorCode};

impl Fake {
    /// Whether this call is answered at all.
    async fn admit(&self) -> Result<(), Status> {
        let (is_hung, refuse) = {
            let s = self.lock();
            (s.groups.is_hung || s.hung == Some(self.id), s.groups.refuse)
        };
        if is_hung {
            std::future::pending::<()>().await;
        }
        refuse.map_or(Ok(()), |code| Err(status(error(code))))
    }
}

fn answer<T>(result: Result<T, ErrorCode>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|code| status(error(code)))
}

#[tonic::async_trait]
impl v1::groups_server::Groups for Fake {
    async fn heartbeat(
        &self,
        request: Request<v1::GroupHeartbeatRequest>,
    ) -> Result<Response<v1::GroupHeartbeatResponse>, Status> {
        self.admit().await?;
        let mut s = self.lock();
        let topics = s.topics.clone();
        let request = request.into_inner();
        let is_join = request.member_id.is_empty();
        let done = s.groups.beat(request, &topics);
        if is_join && s.groups.drop_joins > 0 {
            s.groups.drop_joins -= 1;
            return Err(status(error(ErrorCode::OutcomeUnknown)));
        }
        answer(done)
    }

    async fn leave(&self, request: Request<v1::GroupLeaveRequest>) -> Result<Response<v1::GroupLeaveResponse>, Status> {
        self.admit().await?;
        let mut s = self.lock();
        if !s.groups.ignore_leaves {
            let member = request.into_inner().member_id;
            s.groups.left.push(member.clone());
            s.groups.members.remove(&member).ok_or_else(|| status(error(ErrorCode::UnknownMember)))?;
        }
        Ok(Response::new(v1::GroupLeaveResponse {}))
    }

    async fn commit_offsets(
        &self,
        request: Request<v1::CommitOffsetsRequest>,
    ) -> Result<Response<v1::CommitOffsetsResponse>, Status> {
        self.admit().await?;
        self.lock().groups.held_commits += 1;
        while self.lock().groups.holds_commits {
            sleep(Duration::from_millis(1)).await;
        }
        self.lock().groups.held_commits -= 1;
        let mut s = self.lock();
        let ids: BTreeMap<_, _> = s.topics.keys().map(|name| (name.clone(), s.topic_id(name))).collect();
        let topic_id = |name: &str| ids.get(name).cloned().unwrap_or_default();
        let done = s.groups.commit(request.into_inner(), topic_id);
        if s.groups.drop_answers > 0 {
            s.groups.drop_answers -= 1;
            return Err(status(error(ErrorCode::OutcomeUnknown)));
        }
        answer(done)
    }

    async fn fetch_offsets(
        &self,
        request: Request<v1::FetchOffsetsRequest>,
    ) -> Result<Response<v1::FetchOffsetsResponse>, Status> {
        self.admit().await?;
        let request = request.into_inner();
        let wanted: BTreeSet<_> = partitions(&request.partitions).collect();
        let told = {
            let s = self.lock();
            let found = s.groups.offsets.iter().filter(|(at, _)| wanted.is_empty() || wanted.contains(at));
            let found = found.map(|(at, offset)| v1::CommittedOffset {
                topic: at.topic.clone(),
                partition: at.partition.0,
                offset: *offset,
                metadata: s.groups.metadata.get(at).cloned().unwrap_or_default(),
                ..Default::default()
            });
            let names: BTreeSet<_> = wanted.iter().map(|at| &at.topic).collect();
            let topics = names.into_iter().map(|name| v1::TopicIdentity { name: name.clone(), id: s.topic_id(name) });
            v1::FetchOffsetsResponse { offsets: found.collect(), topics: topics.collect() }
        };
        self.lock().groups.held_offsets += 1;
        while self.lock().groups.holds_offsets {
            sleep(Duration::from_millis(1)).await;
        }
        Ok(Response::new(told))
    }

    async fn list_groups(&self, _: Request<v1::ListGroupsRequest>) -> Result<Response<v1::ListGroupsResponse>, Status> {
        let (members, bytes) = {
            let s = self.lock();
            (s.groups.members.len() as i32, s.groups.list_bytes)
        };
        let group = v1::GroupSummary { group: "g".repeat(1 + bytes), members, ..Default::default() };
        Ok(Response::new(v1::ListGroupsResponse { groups: vec![group] }))
    }

    async fn describe_group(
        &self,
        _: Request<v1::DescribeGroupRequest>,
    ) -> Result<Response<v1::DescribeGroupResponse>, Status> {
        Err(status(error(ErrorCode::UnknownGroup)))
    }

    async fn delete_group(
        &self,
        _: Request<v1::DeleteGroupRequest>,
    ) -> Result<Response<v1::DeleteGroupResponse>, Status> {
        match self.lock().groups.members.is_empty() {
            true => Ok(Response::new(v1::DeleteGroupResponse {})),
            false => Err(status(error(ErrorCode::GroupNotEmpty))),
        }
    }

    async fn delete_offsets(
        &self,
        request: Request<v1::DeleteOffsetsRequest>,
    ) -> Result<Response<v1::DeleteOffsetsResponse>, Status> {
        let mut s = self.lock();
        for at in partitions(&request.into_inner().partitions) {
            s.groups.offsets.remove(&at);
        }
        Ok(Response::new(v1::DeleteOffsetsResponse::default()))
    }
}
