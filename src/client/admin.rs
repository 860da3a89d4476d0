//! Admin calls: topics, groups and the cluster. Any broker takes them and forwards.

use std::{collections::HashMap, time::Duration};

use super::{
    error::ClientError,
    net::{Cluster, cluster_client, groups_client, topics_client, unary, unary_within},
};
use crate::proto::v1;

/// What a broker may take beyond the time it was given, for the way there and back.
const GRACE: Duration = Duration::from_millis(500);

/// Calls that create, change and describe. Reads are repeated over all brokers until the deadline;
/// changes only while they surely had no effect.
#[derive(Clone)]
pub struct Admin {
    cluster: Cluster,
    deadline: Duration,
}

/// Which offset of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetAt {
    Earliest,
    /// The high watermark.
    Latest,
    /// The first record with this timestamp (ms since the epoch) or a later one.
    Timestamp(i64),
}

impl OffsetAt {
    pub(super) fn wire(self) -> v1::list_offset_request::At {
        match self {
            OffsetAt::Earliest => v1::list_offset_request::At::Earliest(true),
            OffsetAt::Latest => v1::list_offset_request::At::Latest(true),
            OffsetAt::Timestamp(ms) => v1::list_offset_request::At::TimestampMs(ms),
        }
    }
}

macro_rules! change {
    ($(#[$doc:meta])* $name:ident, $client:ident, $request:ty => $response:ty) => {
        change! { $(#[$doc])* $name, $client.$name, $request => $response }
    };
    // The call has another name than ours.
    ($(#[$doc:meta])* $name:ident, $client:ident.$call:ident, $request:ty => $response:ty) => {
        $(#[$doc])*
        pub async fn $name(&self, request: $request) -> Result<$response, ClientError> {
            let limit = self.deadline + GRACE;
            let call = |address: String, channel| {
                let request = request.clone();
                async move { unary_within(&address, limit, $client(channel).$call(request)).await }
            };
            self.cluster.change(stringify!($name), self.deadline + GRACE, call).await
        }
    };
}

macro_rules! ask {
    ($(#[$doc:meta])* $name:ident, $client:ident, $request:ty => $response:ty) => {
        $(#[$doc])*
        pub async fn $name(&self, request: $request) -> Result<$response, ClientError> {
            let call = |address: String, channel| {
                let request = request.clone();
                async move { unary(&address, $client(channel).$name(request)).await }
            };
            self.cluster.ask(stringify!($name), self.deadline, call).await
        }
    };
}

impl Admin {
    pub fn new(cluster: Cluster, deadline: Duration) -> Admin {
        Admin { cluster, deadline }
    }

    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    change! {
        /// Creates a topic; `timeout_ms` of the request should be the deadline.
        create_topic, topics_client, v1::CreateTopicRequest => v1::CreateTopicResponse
    }
    change! {
        /// Sets and unsets configs.
        alter_topic, topics_client, v1::AlterTopicRequest => v1::AlterTopicResponse
    }
    change! {
        /// More partitions; there is no fewer.
        add_partitions, topics_client, v1::AddPartitionsRequest => v1::AddPartitionsResponse
    }
    change! {
        /// Deletes a topic and its records.
        delete_topic, topics_client, v1::DeleteTopicRequest => v1::DeleteTopicResponse
    }
    change! {
        /// Moves a log start offset. Repeating it changes nothing more.
        trim_partition, topics_client, v1::TrimPartitionRequest => v1::TrimPartitionResponse
    }
    /// Moves a leadership. Any broker passes it on to the leader; the one that shall lead is asked last, for if it
    /// hangs, that is what the others have to say.
    pub async fn transfer_leader(
        &self,
        request: v1::TransferLeaderRequest,
    ) -> Result<v1::TransferLeaderResponse, ClientError> {
        let limit = self.deadline + GRACE;
        let call = |address: String, channel| {
            let request = request.clone();
            async move { unary_within(&address, limit, cluster_client(channel).transfer_leader(request)).await }
        };
        self.cluster.change_avoiding("transfer_leader", limit, request.to_broker, call).await
    }

    change! {
        /// Deletes a group without members, and its committed offsets.
        delete_group, groups_client, v1::DeleteGroupRequest => v1::DeleteGroupResponse
    }
    change! {
        /// Commits offsets. With `member_id` empty, on behalf of nobody: it sets where a group without members
        /// begins (seek, reset). Repeating it changes nothing more.
        commit_offsets, groups_client, v1::CommitOffsetsRequest => v1::CommitOffsetsResponse
    }
    change! {
        /// Forgets committed offsets of partitions that no member holds.
        delete_offsets, groups_client, v1::DeleteOffsetsRequest => v1::DeleteOffsetsResponse
    }
    change! {
        /// Takes a member out of its group, by its id or its instance id: its partitions go to the others. One that
        /// still runs joins again.
        leave_group, groups_client.leave, v1::GroupLeaveRequest => v1::GroupLeaveResponse
    }
    ask! {
        /// All groups.
        list_groups, groups_client, v1::ListGroupsRequest => v1::ListGroupsResponse
    }
    ask! {
        /// One group: members, their partitions, committed offsets and lag.
        describe_group, groups_client, v1::DescribeGroupRequest => v1::DescribeGroupResponse
    }
    ask! {
        /// What a group has committed.
        fetch_offsets, groups_client, v1::FetchOffsetsRequest => v1::FetchOffsetsResponse
    }
    ask! {
        /// All topics.
        list_topics, topics_client, v1::ListTopicsRequest => v1::ListTopicsResponse
    }
    ask! {
        /// One topic, with offsets and sizes of its partitions.
        describe_topic, topics_client, v1::DescribeTopicRequest => v1::DescribeTopicResponse
    }
    ask! {
        /// Whether all is well, and what is not.
        health, cluster_client, v1::HealthRequest => v1::HealthResponse
    }
    ask! {
        /// Brokers, and leaders of topics.
        get_metadata, cluster_client, v1::GetMetadataRequest => v1::GetMetadataResponse
    }

    /// What one broker says, and no other.
    pub async fn metadata_of(&self, address: &str) -> Result<v1::GetMetadataResponse, ClientError> {
        let channel = self.cluster.channel(address)?;
        let request = v1::GetMetadataRequest::default();
        unary_within(address, self.deadline, cluster_client(channel).get_metadata(request)).await
    }

    /// How many partitions a topic has.
    pub async fn partition_count(&self, topic: &str) -> Result<usize, ClientError> {
        partition_count(&self.cluster, topic, self.deadline).await
    }

    /// An offset of a partition, from its leader.
    pub async fn list_offset(&self, topic: &str, partition: i32, at: OffsetAt) -> Result<i64, ClientError> {
        self.list_offset_of(topic, "", partition, at).await
    }

    /// As [`Admin::list_offset`], of the topic of this id and no other that has its name (empty: whichever has it).
    pub async fn list_offset_of(
        &self,
        topic: &str,
        topic_id: &str,
        partition: i32,
        at: OffsetAt,
    ) -> Result<i64, ClientError> {
        let (topic, topic_id, at) = (topic.into(), topic_id.into(), Some(at.wire()));
        let request = v1::ListOffsetRequest { topic, topic_id, partition, at };
        // Every broker is asked until the leader is among them: cheaper than being clever for one call.
        let call = |address: String, channel| {
            let request = request.clone();
            async move { unary(&address, topics_client(channel).list_offset(request)).await }
        };
        Ok(self.cluster.ask_leader("list offset", self.deadline, call).await?.offset)
    }

    /// The configs a topic was given.
    pub async fn topic_configs(&self, topic: &str) -> Result<HashMap<String, String>, ClientError> {
        let request = v1::DescribeTopicRequest { name: topic.into() };
        Ok(self.describe_topic(request).await?.topic.map(|t| t.configs).unwrap_or_default())
    }
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
