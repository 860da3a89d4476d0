//! Consumer groups as Kafka's clients use them.

mod admin;
mod faces;
mod members;
mod offsets;
mod refused;

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;

use super::{
    super::{
        codes::Code,
        wire::{
            self, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, OffsetCommitRequest, OffsetFetchRequest,
            SyncGroupRequest, Uuid,
            join_group_request::JoinGroupRequestProtocol,
            leave_group_request::MemberIdentity,
            message,
            offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
            offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics},
            sync_group_request::SyncGroupRequestAssignment,
        },
    },
    harness::{Alone, Face, Wire},
};
use crate::broker::tests::rig::Cluster;

/// The versions in which a client speaks.
#[derive(Clone, Copy, Debug)]
struct Versions {
    join: i16,
    sync: i16,
    heartbeat: i16,
    leave: i16,
    commit: i16,
    fetch: i16,
}

impl Versions {
    /// The client of a time: the lowest versions first, then each one later, as far as it goes.
    fn of_age(age: i16) -> Versions {
        Versions {
            join: age.min(9),
            sync: age.min(5),
            heartbeat: age.min(4),
            leave: age.min(5),
            commit: age.clamp(2, 10),
            fetch: age.clamp(1, 10),
        }
    }

    fn newest() -> Versions {
        Versions::of_age(10)
    }
}

/// One consumer on its connection.
struct Consumer {
    wire: Wire,
    versions: Versions,
    group: String,
    instance: Option<String>,
    session_ms: i32,
    member: String,
    generation: i32,
    /// All members, if it leads.
    members: Vec<String>,
    skips_assignment: bool,
    assignment: Bytes,
}

impl Consumer {
    fn of(face: &Face, group: &str, versions: Versions) -> Consumer {
        Consumer {
            wire: face.connect(),
            versions,
            group: group.into(),
            instance: None,
            session_ms: 6_000,
            member: String::new(),
            generation: -1,
            members: Vec::new(),
            skips_assignment: false,
            assignment: Bytes::new(),
        }
    }

    fn join_request(&self) -> JoinGroupRequest {
        let subscription = wire::consumer_subscription(&["t".to_string()]);
        message!(JoinGroupRequest {
            group_id: self.group.as_str().into(),
            session_timeout_ms: self.session_ms,
            rebalance_timeout_ms: 60_000,
            member_id: self.member.as_str().into(),
            group_instance_id: self.instance.as_deref().map(Into::into),
            protocol_type: "consumer".into(),
            protocols: vec![message!(JoinGroupRequestProtocol { name: "range".into(), metadata: subscription })],
        })
    }

    /// Joins as clients do, which come again with the id that they are told.
    async fn join(&mut self) {
        let mut answer = self.wire.ask(self.versions.join, &self.join_request()).await;
        if answer.error_code == Code::MemberIdRequired.value() {
            self.member = answer.member_id.to_string();
            answer = self.wire.ask(self.versions.join, &self.join_request()).await;
        }
        assert_eq!(answer.error_code, 0, "{answer:?}");
        assert_eq!(answer.protocol_name.as_deref(), Some("range"));
        assert_eq!(answer.protocol_type.as_deref(), (self.versions.join >= 7).then_some("consumer"));
        self.member = answer.member_id.to_string();
        self.generation = answer.generation_id;
        self.skips_assignment = answer.skip_assignment;
        assert_eq!(answer.leader == answer.member_id, !answer.members.is_empty(), "{answer:?}");
        self.members = answer.members.iter().map(|member| member.member_id.to_string()).collect();
    }

    /// The group leader gives each member its own name.
    async fn sync(&mut self) {
        let assignments = self.members.iter().map(|member| {
            message!(SyncGroupRequestAssignment {
                member_id: member.as_str().into(),
                assignment: Bytes::from(member.clone().into_bytes()),
            })
        });
        let request = message!(SyncGroupRequest {
            group_id: self.group.as_str().into(),
            generation_id: self.generation,
            member_id: self.member.as_str().into(),
            group_instance_id: self.instance.as_deref().map(Into::into),
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            assignments: if self.skips_assignment { Vec::new() } else { assignments.collect() },
        });
        let answer = self.wire.ask(self.versions.sync, &request).await;
        assert_eq!(answer.error_code, 0, "{answer:?}");
        assert_eq!(answer.protocol_name.as_deref(), (self.versions.sync >= 5).then_some("range"));
        self.assignment = answer.assignment;
    }

    async fn heartbeat(&mut self) -> i16 {
        let request = message!(HeartbeatRequest {
            group_id: self.group.as_str().into(),
            generation_id: self.generation,
            member_id: self.member.as_str().into(),
            group_instance_id: self.instance.as_deref().map(Into::into),
        });
        self.wire.ask(self.versions.heartbeat, &request).await.error_code
    }

    fn leave_request(&self) -> LeaveGroupRequest {
        let mut request = message!(LeaveGroupRequest { group_id: self.group.as_str().into() });
        match self.versions.leave >= 3 {
            true => request.members = vec![message!(MemberIdentity { member_id: self.member.as_str().into() })],
            false => request.member_id = self.member.as_str().into(),
        }
        request
    }

    async fn leave(&mut self) -> i16 {
        let request = self.leave_request();
        let answer = self.wire.ask(self.versions.leave, &request).await;
        let of_member = answer.members.first().map_or(0, |member| member.error_code);
        if answer.error_code == 0 { of_member } else { answer.error_code }
    }

    fn commit_request(&self, id: Uuid, offsets: &[(i32, i64, &str)]) -> OffsetCommitRequest {
        let mut request = commit_request(&self.group, id, offsets);
        request.generation_id_or_member_epoch = self.generation;
        request.member_id = self.member.as_str().into();
        request
    }

    /// The codes of the partitions.
    async fn commit(&mut self, id: Uuid, offsets: &[(i32, i64, &str)]) -> Vec<i16> {
        let request = self.commit_request(id, offsets);
        let answer = self.wire.ask(self.versions.commit, &request).await;
        let [topic] = &answer.topics[..] else { panic!("{answer:?}") };
        topic.partitions.iter().map(|partition| partition.error_code).collect()
    }

    async fn committed(&mut self, id: Uuid, partitions: &[i32]) -> Vec<(i32, i64, i16, String)> {
        let (version, group) = (self.versions.fetch, self.group.clone());
        committed(&mut self.wire, version, &group, id, Some(partitions)).await
    }
}

/// Offsets of topic `t`, on behalf of nobody.
fn commit_request(group: &str, id: Uuid, offsets: &[(i32, i64, &str)]) -> OffsetCommitRequest {
    let partitions = offsets.iter().map(|(partition, offset, metadata)| {
        message!(OffsetCommitRequestPartition {
            partition_index: *partition,
            committed_offset: *offset,
            committed_metadata: Some((*metadata).into()),
        })
    });
    let topic = message!(OffsetCommitRequestTopic { name: "t".into(), topic_id: id, partitions: partitions.collect() });
    message!(OffsetCommitRequest { group_id: group.into(), topics: vec![topic] })
}

/// Partition, offset, code and metadata of what is committed in topic `t`. None: of all topics.
async fn committed(
    wire: &mut Wire,
    version: i16,
    group: &str,
    id: Uuid,
    partitions: Option<&[i32]>,
) -> Vec<(i32, i64, i16, String)> {
    let mut request = message!(OffsetFetchRequest {});
    if version >= 8 {
        let topic = |partitions: &[i32]| {
            message!(OffsetFetchRequestTopics {
                name: "t".into(),
                topic_id: id,
                partition_indexes: partitions.to_vec(),
            })
        };
        request.groups = vec![message!(OffsetFetchRequestGroup {
            group_id: group.into(),
            topics: partitions.map(|partitions| vec![topic(partitions)]),
        })];
    } else {
        let topic = |partitions: &[i32]| {
            message!(OffsetFetchRequestTopic { name: "t".into(), partition_indexes: partitions.to_vec() })
        };
        request.group_id = group.into();
        request.topics = partitions.map(|partitions| vec![topic(partitions)]);
    }
    let answer = wire.ask(version, &request).await;
    assert_eq!(answer.error_code, 0, "{answer:?}");
    let mut found = Vec::new();
    for group in answer.groups {
        assert_eq!(group.error_code, 0, "{group:?}");
        for topic in group.topics {
            assert!(if version >= 10 { topic.topic_id == id } else { &*topic.name == "t" }, "{topic:?}");
            found.extend(topic.partitions.into_iter().map(|at| {
                let metadata = at.metadata.as_deref().unwrap_or_default().to_string();
                (at.partition_index, at.committed_offset, at.error_code, metadata)
            }));
        }
    }
    for topic in answer.topics {
        found.extend(topic.partitions.into_iter().map(|at| {
            let metadata = at.metadata.as_deref().unwrap_or_default().to_string();
            (at.partition_index, at.committed_offset, at.error_code, metadata)
        }));
    }
    found
}

/// All of them join one round, and have their assignments.
async fn round(consumers: &mut [Consumer]) {
    join_all(consumers.iter_mut().map(Consumer::join)).await;
    assert!(consumers.iter().all(|consumer| consumer.generation == consumers[0].generation));
    assert_eq!(consumers.iter().filter(|consumer| !consumer.members.is_empty()).count(), 1, "one leads");
    join_all(consumers.iter_mut().map(Consumer::sync)).await;
    for consumer in consumers {
        assert_eq!(consumer.assignment, consumer.member.as_bytes());
    }
}

/// A broker with topic `t` of two partitions, and the topic's id.
async fn with_topic(seed: u64) -> (Alone, Uuid) {
    println!("seed {seed}");
    let mut cluster = Cluster::unstarted(1, seed).await;
    // All members of a first round come within it, however busy the machine is.
    cluster.groups.initial_rebalance_delay = Duration::from_secs(1);
    cluster.run_all().await;
    cluster.create_on("t", 2, 1).await;
    let node = &cluster.nodes[&1];
    let face = Face::of(&node.broker, node.metrics.clone());
    let alone = Alone { cluster, face };
    let id = alone.broker().topic_id("t").expect("it was made");
    (alone, wire::uuid(id))
}
