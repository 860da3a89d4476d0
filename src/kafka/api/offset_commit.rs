//! OffsetCommit: what a group has read. Handed over when it is read from the connection, so that a member's commits are
//! applied in the order in which they were sent.

use std::collections::BTreeMap;

use futures_util::{FutureExt, future::BoxFuture};
use kafka_wire_core::Decoder;

use super::{
    super::{
        call::{check_partitions, decode, encode},
        client::{Asked, Begun, CALLER, Closing, Lane},
        codes::{self, Code, GroupAsk},
        group_views::may_be_member,
        wire::{
            self, OffsetCommitRequest, OffsetCommitResponse, StrBytes, Uuid, message,
            offset_commit_request::OffsetCommitRequestPartition,
            offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
        },
    },
    list_offsets::epoch,
};
use crate::{
    broker::{
        groups::{CommitRequest, GroupError, OffsetToCommit},
        held::Held,
    },
    types::{Offset, PartitionId, TOPIC_NAME_BYTES_MAX, TopicId, TopicPartition},
};

pub const VERSIONS: (i16, i16) = (2, 10);

/// From this version on topics are named by their ids.
pub const BY_ID: i16 = 10;

/// A topic of a request: how the client named it, and what the broker calls it.
struct CommitTopic {
    name: StrBytes,
    id: Uuid,
    /// Its name here. Or why there is no such topic.
    known: Result<String, Code>,
    partitions: Vec<i32>,
}

type Committed = Result<Vec<(TopicPartition, GroupError)>, GroupError>;

pub fn begin(asked: Asked, decoder: Decoder, held: Held) -> BoxFuture<'static, Result<Begun, Closing>> {
    std::future::ready(hand_over(asked, decoder, held)).boxed()
}

fn hand_over(asked: Asked, decoder: Decoder, held: Held) -> Result<Begun, Closing> {
    let request: OffsetCommitRequest = decode(decoder, asked.version)?;
    check_partitions("OffsetCommit", request.topics.iter().map(|topic| topic.partitions.len()).sum())?;
    let (topics, commit) = wish(&asked, request);
    let committing = match may_be_member(&commit.member.0, commit.instance.as_deref()) {
        true => Some(asked.client.shared.broker.classic_commit(&CALLER, commit)),
        false => None,
    };
    let answering = async move {
        let by_id = asked.version >= BY_ID;
        let response = match committing {
            Some(committing) => response(by_id, topics, committing.await),
            None => refused(topics, Code::UnknownMemberId),
        };
        let answer = encode(&asked, &response);
        drop(held);
        answer.map(Some)
    };
    Ok(Begun { lane: Lane::Early, answering: answering.boxed() })
}

fn wish(asked: &Asked, request: OffsetCommitRequest) -> (Vec<CommitTopic>, CommitRequest) {
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut offsets = Vec::new();
    for topic in request.topics {
        let (known, id) = match named(asked, &topic.name, topic.topic_id) {
            Ok((name, id)) => (Ok(name), id),
            Err(code) => (Err(code), None),
        };
        if let Ok(name) = &known {
            offsets.extend(topic.partitions.iter().map(|partition| offset(name, id, partition)));
        }
        let partitions = topic.partitions.iter().map(|partition| partition.partition_index).collect();
        topics.push(CommitTopic { name: topic.name, id: topic.topic_id, known, partitions });
    }
    let commit = CommitRequest {
        group: request.group_id.to_string().into(),
        member: request.member_id.to_string().into(),
        instance: request.group_instance_id.map(|instance| instance.to_string()),
        epoch: request.generation_id_or_member_epoch,
        offsets,
        sequence: 0,
    };
    (topics, commit)
}

fn offset(topic: &str, topic_id: Option<TopicId>, partition: &OffsetCommitRequestPartition) -> OffsetToCommit {
    OffsetToCommit {
        at: TopicPartition { topic: topic.to_string(), partition: PartitionId(partition.partition_index) },
        topic_id,
        offset: Offset(partition.committed_offset),
        leader_epoch: epoch(partition.committed_leader_epoch),
        metadata: partition.committed_metadata.as_deref().unwrap_or_default().to_string(),
    }
}

/// The topic that a request about committed offsets names. Err: there is none.
pub fn named(asked: &Asked, name: &StrBytes, id: Uuid) -> Result<(String, Option<TopicId>), Code> {
    if asked.version >= BY_ID {
        let id = wire::topic_id(id).ok_or(Code::UnknownTopicId)?;
        let name = asked.client.shared.broker.topic_name(id).ok_or(Code::UnknownTopicId)?;
        return Ok((name, Some(id)));
    }
    // A name is kept once for each partition: one that no topic can have is not.
    let is_possible = name.len() <= TOPIC_NAME_BYTES_MAX;
    is_possible.then(|| (name.to_string(), None)).ok_or(Code::UnknownTopicOrPartition)
}

fn response(by_id: bool, topics: Vec<CommitTopic>, committed: Committed) -> OffsetCommitResponse {
    let code = |error: &GroupError| codes::of_group(error, GroupAsk::Commit { by_id });
    let list = match committed {
        Ok(refused) => refused,
        Err(error) => return refused(topics, code(&error)),
    };
    let list: BTreeMap<(&str, i32), Code> =
        list.iter().map(|(at, error)| ((at.topic.as_str(), at.partition.0), code(error))).collect();
    respond(topics, |topic, partition| list.get(&(topic, partition)).copied().unwrap_or(Code::None))
}

/// No offset was committed, for one reason.
fn refused(topics: Vec<CommitTopic>, code: Code) -> OffsetCommitResponse {
    respond(topics, |_, _| code)
}

fn respond(topics: Vec<CommitTopic>, code: impl Fn(&str, i32) -> Code) -> OffsetCommitResponse {
    let topics = topics.into_iter().map(|CommitTopic { name, id, known, partitions }| {
        let partitions = partitions.into_iter().map(|partition| {
            let code = match &known {
                Ok(topic) => code(topic, partition),
                Err(unknown) => *unknown,
            };
            message!(OffsetCommitResponsePartition { partition_index: partition, error_code: code.value() })
        });
        message!(OffsetCommitResponseTopic { partitions: partitions.collect(), name: name, topic_id: id })
    });
    message!(OffsetCommitResponse { topics: topics.collect() })
}
