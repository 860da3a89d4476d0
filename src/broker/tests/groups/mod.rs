//! Consumer groups over three brokers: members that beat as clients do, and failovers under them.

mod classic;
mod classic_commits;
mod classic_waits;
mod failover;
mod load;
mod offsets;
mod refusals;
mod share;

use std::{collections::BTreeSet, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::rig::{Cluster, PATIENCE};
use crate::{
    broker::{
        Broker, Caller, TransferLeaderRequest,
        groups::{CommitRequest, GroupError, HeartbeatRequest, OffsetToCommit},
    },
    group::{PartitionSet, Subscription},
    types::{BrokerId, GroupName, MemberId, Offset, PartitionId, TopicPartition},
};

/// Short for a test, and long for a machine that is busy with other tests.
const SESSION: Duration = Duration::from_secs(3);

fn place(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic.into(), partition: PartitionId(partition) }
}

fn offset(at: TopicPartition, offset: i64) -> OffsetToCommit {
    OffsetToCommit { at, topic_id: None, offset: Offset(offset), leader_epoch: None, metadata: String::new() }
}

/// As [`TransferLeaderRequest`] of the metadata group to anybody else. Retried, since candidates may lag.
async fn move_coordinator(cluster: &Cluster, to: Option<u64>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let request = TransferLeaderRequest { partition: None, to: to.map(BrokerId), timeout: Duration::from_secs(3) };
        let moved = cluster.any().transfer_leader(&Caller::ANONYMOUS, request).await;
        if moved.is_ok() {
            return;
        }
        assert!(Instant::now() < deadline, "{moved:?}");
    }
}

/// The broker that coordinates now, as it says itself.
async fn coordinator(cluster: &Cluster) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = cluster.nodes.iter().find(|(_, node)| node.broker.parts.groups.tenure.borrow().is_some());
        if let Some((id, _)) = found {
            return *id;
        }
        assert!(Instant::now() < deadline, "nobody coordinates");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A member with assignment on the server, as a client library behaves.
struct Member {
    broker: Broker,
    group: GroupName,
    id: MemberId,
    instance: Option<String>,
    epoch: i32,
    owns: BTreeSet<TopicPartition>,
    /// What was taken from it since it was last cleared: its interruptions.
    lost: BTreeSet<TopicPartition>,
    lets_go: bool,
    next: Instant,
}

impl Member {
    async fn join(broker: Broker, group: &str, subscription: Subscription) -> Member {
        Member::join_as(broker, group, subscription, None, SESSION, Duration::from_secs(60)).await
    }

    async fn join_as(
        broker: Broker,
        group: &str,
        subscription: Subscription,
        instance: Option<&str>,
        session_timeout: Duration,
        rebalance_timeout: Duration,
    ) -> Member {
        let mut member = Member {
            broker,
            group: group.into(),
            id: MemberId::default(),
            instance: instance.map(str::to_string),
            epoch: 0,
            owns: BTreeSet::new(),
            lost: BTreeSet::new(),
            lets_go: true,
            next: Instant::now(),
        };
        let join = HeartbeatRequest {
            subscription: Some(subscription),
            client_id: "c".into(),
            session_timeout,
            rebalance_timeout,
            ..member.request()
        };
        member.send(join).await.unwrap();
        member
    }

    fn request(&self) -> HeartbeatRequest {
        let mut owns = PartitionSet::new();
        for TopicPartition { topic, partition } in self.owns.iter().cloned() {
            owns.entry(topic).or_default().push(partition);
        }
        HeartbeatRequest {
            group: self.group.clone(),
            member: self.id.clone(),
            instance: self.instance.clone(),
            epoch: self.epoch,
            owns,
            ..HeartbeatRequest::default()
        }
    }

    async fn beat(&mut self) -> Result<(), GroupError> {
        self.send(self.request()).await
    }

    /// Sends a beat, and takes and lets go of what the answer says.
    async fn send(&mut self, beat: HeartbeatRequest) -> Result<(), GroupError> {
        let answer = self.broker.group_heartbeat(&Caller::ANONYMOUS, beat).await?;
        (self.id, self.epoch) = (answer.member, answer.epoch);
        let assigned = answer.assigned.into_iter();
        let assigned: BTreeSet<TopicPartition> = assigned
            .flat_map(|(topic, numbers)| {
                numbers.into_iter().map(move |partition| TopicPartition { topic: topic.clone(), partition })
            })
            .collect();
        let taken: BTreeSet<TopicPartition> = self.owns.difference(&assigned).cloned().collect();
        self.next = Instant::now() + answer.next_beat;
        if self.lets_go {
            if !taken.is_empty() {
                self.next = Instant::now();
            }
            self.owns = assigned;
        } else {
            self.owns.extend(assigned);
        }
        self.lost.extend(taken);
        Ok(())
    }

    fn commit(&self, at: TopicPartition, next: i64) -> CommitRequest {
        CommitRequest {
            group: self.group.clone(),
            member: self.id.clone(),
            instance: None,
            epoch: self.epoch,
            offsets: vec![offset(at, next)],
            sequence: 0,
        }
    }
}

/// Lets all members beat when they are due, until a condition holds. At no time do two own a partition.
async fn beat_until(members: &mut [Member], what: &str, mut done: impl FnMut(&[Member]) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let all: Vec<&TopicPartition> = members.iter().flat_map(|member| &member.owns).collect();
        assert_eq!(all.len(), all.iter().collect::<BTreeSet<_>>().len(), "two members own one partition: {all:?}");
        if done(members) {
            return;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        let next = members.iter_mut().min_by_key(|member| member.next).expect("there are members");
        sleep_until(next.next).await;
        match next.beat().await {
            Ok(()) => {}
            Err(error) => {
                assert!(error.is_retriable(), "{what}: {error}");
                next.next = Instant::now() + Duration::from_millis(50);
            }
        }
    }
}

fn topics(names: &[&str]) -> Subscription {
    Subscription { topics: names.iter().map(|name| name.to_string()).collect(), ..Subscription::default() }
}

fn counts(members: &[Member]) -> Vec<usize> {
    members.iter().map(|member| member.owns.len()).collect()
}
