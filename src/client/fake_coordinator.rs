//! The coordinator of the fake brokers: one in memory for all of them, with the rules of the API
//! (proto/flotilla/v1) that a member can tell, and faults that a test switches on.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

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
    /// The partitions that were asked back, with the epoch of the answer that says so.
    pub revoking: Holdings,
    session: Duration,
    seen: Instant,
    /// The sequence that the member's last commit had.
    committed: u64,
}

#[derive(Debug, Default)]
pub struct Coordinator {
    pub members: BTreeMap<String, Member>,
    pub offsets: BTreeMap<TopicPartition, i64>,
    /// Every commit that was accepted, in order.
    pub commits: Vec<(String, TopicPartition, i64)>,
    pub metadata: BTreeMap<TopicPartition, String>,
    /// No broker answers anything about groups.
    pub is_hung: bool,
    /// Every call about groups is refused with this.
    pub refuse: Option<ErrorCode>,
    /// So many commits are yet to be accepted and not answered.
    pub drop_answers: u32,
    /// Commits wait before anything is done.
    pub holds_commits: bool,
    /// How many of them wait.
    pub held_commits: u32,
    /// Where partitions begin is read, and told once this is over.
    pub holds_offsets: bool,
    /// How many have read it so.
    pub held_offsets: u32,
    /// So many joins are yet to be done and not answered.
    pub drop_joins: u32,
    /// Nothing is answered any more once a commit was fenced.
    pub hang_when_fenced: bool,
    /// Another process has this instance id.
    pub fenced: Option<String>,
    /// The ids that left, in order.
    pub left: Vec<String>,
    /// A member that leaves is not heard: it looks killed.
    pub ignore_leaves: bool,
    /// How many heartbeats have come.
    pub beats: u64,
    /// What the list of groups takes, besides.
    pub list_bytes: usize,
    next_member: u64,
}

pub fn error(code: ErrorCode) -> v1::Error {
    let retriable = matches!(code, ErrorCode::Unavailable | ErrorCode::NoMetadataLeader | ErrorCode::OutcomeUnknown);
    let effect = if code == ErrorCode::OutcomeUnknown { v1::Effect::Unknown } else { v1::Effect::None };
    v1::Error { code: code.into(), message: "fake".into(), retriable, effect: effect.into(), ..Default::default() }
}

impl Coordinator {
    pub fn beat(
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

    /// Spreads partitions evenly among the members (the tests' members all subscribe alike), moving as few as possible.
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

    /// Commits offsets. `topic_id` holds the present topic's id for each name.
    pub fn commit(
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

    /// Makes all that a member holds its own since a later epoch than it knows of.
    pub fn assign_anew(&mut self, member: &str) {
        let member = self.members.get_mut(member).expect("it is a member");
        member.epoch += 1;
        member.assigned.values_mut().for_each(|since| *since = member.epoch);
    }

    /// Has heard of every member just now, as a new coordinator has it.
    pub fn start_sessions_anew(&mut self) {
        self.members.values_mut().for_each(|member| member.seen = Instant::now());
    }

    /// Forgets a member, as at the end of its session.
    pub fn expire(&mut self, member: &str) {
        self.members.remove(member);
    }
}

fn one(at: &TopicPartition) -> v1::PartitionSet {
    v1::PartitionSet { topic: at.topic.clone(), partitions: vec![at.partition.0] }
}

pub fn partitions(sets: &[v1::PartitionSet]) -> impl Iterator<Item = TopicPartition> {
    let of = |set: &v1::PartitionSet| {
        let topic = set.topic.clone();
        let at = move |p: &i32| TopicPartition { topic: topic.clone(), partition: PartitionId(*p) };
        set.partitions.iter().map(at).collect::<Vec<_>>()
    };
    sets.iter().flat_map(of)
}
