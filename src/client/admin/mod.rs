//! Admin calls: topics, groups and the cluster. Any broker takes them and forwards.
//!
//! Promises: a call that only asks is repeated over all brokers until the deadline; one that changes something only
//! while it surely had no effect. Leaves out: what the requests and answers hold (`topics`, `groups`, `cluster`).

mod cluster;
mod groups;
mod topics;

use std::{future::Future, time::Duration};

use tonic::{Response, Status, transport::Channel};

pub use self::{
    cluster::{
        BrokerInfo, ClusterDescription, ClusterHealth, DescribeCluster, Health, PartitionRoute, RaiseFeatureLevel,
        RaisedLevel, TopicRoutes, TransferLeader,
    },
    groups::{
        CommittedOffset, DeleteGroup, GroupDescription, GroupMember, GroupPartition, GroupProtocol, GroupState,
        GroupSummary, RemoveMember,
    },
    topics::{
        AddPartitions, AlterTopic, CreateTopic, DeleteTopic, PartitionDescription, TopicDescription, TopicSummary,
        TrimPartition,
    },
};
use super::{
    error::ClientError,
    net::{Cluster, topics_client, unary, unary_within},
};
use crate::{
    proto::v1,
    types::{Offset, REQUEST_TIMEOUT_MAX, TopicPartition, WallMs, ms_u32},
};

/// What a broker may take beyond the time it was given, for the way there and back.
const GRACE: Duration = Duration::from_millis(500);

/// Creates, changes and describes topics, groups and the cluster.
///
/// What changes something, or can be asked in more than one way, is a request: it is sent by its `send()`, and has no
/// effect before that. A failed change says by [`ClientError::effect`] whether it had none or may have had one. Every
/// call ends within the deadline, and a moment for the way.
#[derive(Clone)]
pub struct Admin {
    cluster: Cluster,
    deadline: Duration,
}

/// A place in a partition whose offset can be asked for: see [`Admin::offset_at`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetAt {
    /// The first offset that is kept.
    Earliest,
    /// The high watermark: the offset that the next committed record gets.
    Latest,
    /// The first record with this timestamp or a later one; the high watermark if there is none.
    Timestamp(WallMs),
}

impl OffsetAt {
    pub(super) fn wire(self) -> v1::list_offset_request::At {
        match self {
            OffsetAt::Earliest => v1::list_offset_request::At::Earliest(true),
            OffsetAt::Latest => v1::list_offset_request::At::Latest(true),
            OffsetAt::Timestamp(ms) => v1::list_offset_request::At::TimestampMs(ms.0),
        }
    }
}

impl Admin {
    /// Makes calls to `cluster`, each of which may take as long as `deadline`.
    pub fn new(cluster: Cluster, deadline: Duration) -> Admin {
        Admin { cluster, deadline }
    }

    /// The cluster that is asked.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// How many partitions a topic has.
    pub async fn partition_count(&self, topic: &str) -> Result<usize, ClientError> {
        partition_count(&self.cluster, topic, self.deadline).await
    }

    /// The offset of a place in a partition, as its leader knows it.
    pub async fn offset_at(&self, partition: &TopicPartition, at: OffsetAt) -> Result<Offset, ClientError> {
        self.offset_of_topic_at(partition, "", at).await
    }

    /// Does what [`Admin::offset_at`] does, for the topic of this id and no other that has its name (if the id is
    /// empty, for whichever has it).
    pub(super) async fn offset_of_topic_at(
        &self,
        partition: &TopicPartition,
        topic_id: &str,
        at: OffsetAt,
    ) -> Result<Offset, ClientError> {
        let request = v1::ListOffsetRequest {
            topic: partition.topic.clone(),
            topic_id: topic_id.into(),
            partition: partition.partition.0,
            at: Some(at.wire()),
        };
        // Every broker is asked until the leader is among them: cheaper than being clever for one call.
        let call = |address: String, channel| {
            let request = request.clone();
            async move { unary(&address, topics_client(channel).list_offset(request)).await }
        };
        Ok(Offset(self.cluster.ask_leader("list offset", self.deadline, call).await?.offset))
    }

    /// How long a call may take.
    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// How long a broker may take for a request of this client.
    fn timeout_ms(&self) -> u32 {
        ms_u32(self.deadline.min(REQUEST_TIMEOUT_MAX)).max(1)
    }

    /// Asks brokers until one answers.
    async fn ask<Q, A, F>(
        &self,
        what: &'static str,
        request: Q,
        call: impl Fn(Channel, Q) -> F,
    ) -> Result<A, ClientError>
    where
        Q: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let one = |address: String, channel| {
            let asked = call(channel, request.clone());
            async move { unary(&address, asked).await }
        };
        self.cluster.ask(what, self.deadline, one).await
    }

    /// Asks for a change, again only while it surely had no effect.
    async fn change<Q, A, F>(
        &self,
        what: &'static str,
        request: Q,
        call: impl Fn(Channel, Q) -> F,
    ) -> Result<A, ClientError>
    where
        Q: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let limit = self.deadline + GRACE;
        let one = |address: String, channel| {
            let asked = call(channel, request.clone());
            async move { unary_within(&address, limit, asked).await }
        };
        self.cluster.change(what, limit, one).await
    }
}

/// An answer without what it is about.
fn nothing_said(of: &str) -> ClientError {
    ClientError::BadAnswer { detail: format!("it says nothing of {of}") }
}

/// A topic's partitions. A broker that just started may not know a topic that exists: so "no such
/// topic" is believed only when it is said again a moment later.
pub(super) async fn partition_count(cluster: &Cluster, topic: &str, deadline: Duration) -> Result<usize, ClientError> {
    const DENIALS: u32 = 3;
    let names = [topic.to_string()];
    let end = tokio::time::Instant::now() + deadline;
    let mut denials = 0;
    let mut last = ClientError::NoBroker {
        what: "metadata",
        tried: cluster.candidates().join(", "),
        last: "no answer came".into(),
    };
    loop {
        let result = match tokio::time::timeout_at(end, cluster.refresh_and_judge(&names)).await {
            Ok(result) => result,
            Err(_) => Err(last.clone()),
        };
        let count = cluster.look(|m| m.topic(topic).map_or(0, <[_]>::len));
        if count > 0 {
            return Ok(count);
        }
        // Who is cut off from the others may know nothing of it.
        denials += u32::from(matches!(result, Ok(true)));
        let is_late = tokio::time::Instant::now() >= end;
        match result {
            Ok(_) if denials >= DENIALS || is_late => return Err(ClientError::NoTopic { topic: topic.into() }),
            Err(error) if error.is_not_found() => return Err(ClientError::NoTopic { topic: topic.into() }),
            Err(error) if is_late || !error.is_retriable() => return Err(error),
            Err(error) => last = error,
            Ok(_) => {}
        }
    }
}
