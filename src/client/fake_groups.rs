//! The Groups service of the fake brokers: one coordinator in memory for all of them, with the rules of the API
//! (proto/flotilla/v1) that a member can tell, and faults that a test switches on.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::fake::{Fake, status};
use crate::{
    proto::v1::{self, ErrorCode},
    types::{PartitionId, TopicPartition},
};

/// A holding, and the member's epoch since which it is one (or, when revoked, at which that was said).
type Holdings = BTreeMap<TopicPartition, i32>;

#[derive(Debug)]
pub struct Member {
    subscription: v1::GroupSubscription,
    pub epoch: i32,
    pub assigned: Holdings,
    /// Asked back, with the epoch of the answer that says so.
    pub revoking: Holdings,
    session: Duration,
    seen: Instant,
    /// The sequence of its last commit.
    committed: u64,
}

#[derive(Debug, Default)]
pub struct Coordinator {
    pub members: BTreeMap<String, Member>,
    pub offsets: BTreeMap<TopicPartition, i64>,
    /// Every accepted commit, in order.
    pub commits: Vec<(String, TopicPartition, i64)>,
    pub metadata: BTreeMap<TopicPartition, String>,
    /// No broker answers anything about groups.
    pub is_hung: bool,
    /// Every call about groups is refused with this.
    pub refuse: Option<ErrorCode>,
    /// So many commits are accepted, and not answered.
    pub drop_answers: u32,
    /// So many joins are done, and not answered.
    pub drop_joins: u32,
    /// Nothing is answered any more once a commit was fenced.
    pub hang_when_fenced: bool,
    /// Another process has this instance id.
    pub fenced: Option<String>,
    /// Ids that left, in order.
    pub left: Vec<String>,
    /// A member that leaves is not heard: it looks killed.
    pub ignore_leaves: bool,
    /// Counted as they come.
    pub beats: u64,
    /// What the list of groups takes, besides.
    pub list_bytes: usize,
    next_member: u64,
}

fn error(code: ErrorCode) -> v1::Error {
    let retriable = matches!(code, ErrorCode::Unavailable | ErrorCode::NoMetadataLeader | ErrorCode::OutcomeUnknown);
    let effect = if code == ErrorCode::OutcomeUnknown { v1::Effect::Unknown } else { v1::Effect::None };
    v1::Error { code: code.into(), message: "fake".into(), retriable, effect: effect.into(), ..Default::default() }
}

impl Coordinator {
    fn beat(
        &mut self,
        request: v1::GroupHeartbeatRequest,
        topics: &BTreeMap<String, Vec<usize>>,
    ) -> Result<v1::GroupHeartbeatResponse, ErrorCode> {
        self.beats += 1;
        let now = Instant::now();
        self.members.retain(|_, member| member.seen + member.session > now);
        let mut id = request.member_id;
        let is_join = id.is_empty();
        if is_join {
            self.next_member += 1;
            id = match request.join_as {
                drawn if drawn.is_empty() => format!("m-{}", self.next_member),
                drawn => drawn,
            };
        }
        if is_join && !self.members.contains_key(&id) {
            let subscription = request.subscription.clone().ok_or(ErrorCode::InvalidRequest)?;
            let session = Duration::from_millis(request.session_timeout_ms.into());
            let (assigned, revoking) = (Holdings::new(), Holdings::new());
            let member = Member { subscription, epoch: 0, assigned, revoking, session, seen: now, committed: 0 };
            self.members.insert(id.clone(), member);
        }
        let member = self.members.get_mut(&id).ok_or(ErrorCode::UnknownMember)?;
        member.seen = now;
        let owns: BTreeSet<_> = partitions(&request.owns).collect();
        member.revoking.retain(|at, told| owns.contains(at) || request.epoch < *told);
        self.rebalance(topics);
        let member = &self.members[&id];
        Ok(v1::GroupHeartbeatResponse {
            member_id: id.clone(),
            epoch: member.epoch,
            assigned: member.assigned.keys().map(one).collect(),
            heartbeat_ms: 100,
            rebalancing: false,
        })
    }

    /// Evenly among the members (the tests' members all subscribe alike), moving as little as possible.
    fn rebalance(&mut self, topics: &BTreeMap<String, Vec<usize>>) {
        let Some(first) = self.members.values().next() else { return };
        let wanted = |name: &&String| {
            let prefix = first.subscription.pattern.strip_suffix(".*");
            first.subscription.topics.contains(name) || prefix.is_some_and(|prefix| name.starts_with(prefix))
        };
        let each = |name: &String| {
            let of = |p| TopicPartition { topic: name.clone(), partition: PartitionId(p as i32) };
            (0..topics[name].len()).map(of).collect::<Vec<_>>()
        };
        let all: BTreeSet<TopicPartition> = topics.keys().filter(wanted).flat_map(each).collect();
        let held: BTreeSet<_> =
            self.members.values().flat_map(|m| m.assigned.keys().chain(m.revoking.keys())).cloned().collect();
        let mut free: Vec<_> = all.difference(&held).cloned().collect();
        let (least, extra) = (all.len() / self.members.len(), all.len() % self.members.len());
        for (i, member) in self.members.values_mut().enumerate() {
            let quota = least + usize::from(i < extra);
            let before = (member.assigned.len(), member.revoking.len());
            let epoch = member.epoch + 1;
            while member.assigned.len() > quota {
                let (at, _) = member.assigned.pop_last().expect("it has more than none");
                member.revoking.insert(at, epoch);
            }
            while member.assigned.len() < quota {
                let Some(at) = free.pop() else { break };
                member.assigned.insert(at, epoch);
            }
            if before != (member.assigned.len(), member.revoking.len()) {
                member.epoch = epoch;
            }
        }
    }

    /// `topic_id`: by name.
    fn commit(
        &mut self,
        request: v1::CommitOffsetsRequest,
        topic_id: impl Fn(&str) -> String,
    ) -> Result<v1::CommitOffsetsResponse, ErrorCode> {
        if request.instance_id.is_some() && request.instance_id == self.fenced {
            return Err(ErrorCode::FencedInstance);
        }
        if !request.member_id.is_empty() && !self.members.contains_key(&request.member_id) {
            return Err(ErrorCode::UnknownMember);
        }
        if request.member_id.is_empty() && !self.members.is_empty() {
            return Err(ErrorCode::GroupNotEmpty);
        }
        if let Some(member) = self.members.get_mut(&request.member_id) {
            if request.sequence <= member.committed {
                return Err(ErrorCode::FencedMember);
            }
            member.committed = request.sequence;
        }
        let mut refused = vec![];
        for offset in request.offsets {
            if !offset.topic_id.is_empty() && offset.topic_id != topic_id(&offset.topic) {
                let (error, partition) = (Some(error(ErrorCode::TopicReplaced)), offset.partition);
                refused.push(v1::RefusedCommit { topic: offset.topic, partition, error });
                continue;
            }
            let at = TopicPartition { topic: offset.topic, partition: PartitionId(offset.partition) };
            let is_held = self.members.get(&request.member_id).is_none_or(|member| {
                let since = member.assigned.get(&at).copied();
                since.is_some_and(|since| request.epoch >= since) || member.revoking.contains_key(&at)
            });
            if is_held {
                self.commits.push((request.member_id.clone(), at.clone(), offset.offset));
                self.metadata.insert(at.clone(), offset.metadata);
                self.offsets.insert(at, offset.offset);
            } else {
                let error = Some(error(ErrorCode::FencedMember));
                refused.push(v1::RefusedCommit { topic: at.topic, partition: at.partition.0, error });
            }
        }
        self.is_hung |= self.hang_when_fenced && !refused.is_empty();
        Ok(v1::CommitOffsetsResponse { refused })
    }

    /// All that a member holds is its own since a later epoch than it knows of.
    pub fn assign_anew(&mut self, member: &str) {
        let member = self.members.get_mut(member).expect("it is a member");
        member.epoch += 1;
        member.assigned.values_mut().for_each(|since| *since = member.epoch);
    }

    /// Forgets a member, as at the end of its session.
    pub fn expire(&mut self, member: &str) {
        self.members.remove(member);
    }
}

fn one(at: &TopicPartition) -> v1::PartitionSet {
    v1::PartitionSet { topic: at.topic.clone(), partitions: vec![at.partition.0] }
}

fn partitions(sets: &[v1::PartitionSet]) -> impl Iterator<Item = TopicPartition> {
    let of = |set: &v1::PartitionSet| {
        let topic = set.topic.clone();
        let at = move |p: &i32| TopicPartition { topic: topic.clone(), partition: PartitionId(*p) };
        set.partitions.iter().map(at).collect::<Vec<_>>()
    };
    sets.iter().flat_map(of)
}

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
        Ok(Response::new(v1::FetchOffsetsResponse { offsets: found.collect(), topics: topics.collect() }))
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
