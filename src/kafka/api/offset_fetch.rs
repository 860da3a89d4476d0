//! OffsetFetch: what groups have committed. Where nothing is committed the answer is -1, and that is no error.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream};

use super::{
    super::{
        call::KafkaApi,
        client::{Asked, CALLER},
        codes::{self, Code, GroupAsk},
        group_views::AnswerRoom,
        wire::{
            self, OffsetFetchRequest, OffsetFetchResponse, StrBytes, message,
            offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics},
            offset_fetch_response::{
                OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
                OffsetFetchResponseTopic, OffsetFetchResponseTopics,
            },
        },
    },
    offset_commit::{BY_ID, named},
};
use crate::{
    broker::groups::{CommittedOffset, CommittedOffsets, GroupError, OFFSETS_PER_REQUEST_MAX},
    types::{PartitionId, TopicId, TopicPartition},
};

/// From this version on there is one error for the whole group.
const ONE_ERROR: i16 = 2;
/// From this version on one request asks about many groups (KIP-709).
const MANY_GROUPS: i16 = 8;
/// Groups of one request that are looked at at once.
const AT_ONCE: usize = 8;
/// Of a partition in which nothing is committed.
const NONE: i64 = -1;
/// An upper bound of what the numbers of one partition take in an answer.
const PARTITION_BYTES: usize = 64;

pub struct OffsetFetch;

/// A topic of a request: what the broker calls it.
struct FetchTopic {
    asked: OffsetFetchRequestTopics,
    known: Result<(String, Option<TopicId>), Code>,
}

impl KafkaApi for OffsetFetch {
    type Request = OffsetFetchRequest;
    const VERSIONS: (i16, i16) = (1, 10);

    fn partitions(request: &OffsetFetchRequest) -> usize {
        let one = request.topics.iter().flatten().map(|topic| topic.partition_indexes.len());
        let many = request.groups.iter().flat_map(|group| group.topics.iter().flatten());
        one.chain(many.map(|topic| topic.partition_indexes.len())).sum()
    }

    async fn answer(asked: &Asked, request: OffsetFetchRequest) -> OffsetFetchResponse {
        let mut room = AnswerRoom::new();
        if asked.version < MANY_GROUPS {
            let group = message!(OffsetFetchRequestGroup {
                topics: request.topics.map(|topics| topics.into_iter().map(by_name).collect()),
                group_id: request.group_id,
            });
            return alone(asked.version, fetch(asked, group).await, &mut room);
        }
        let mut groups = Vec::with_capacity(request.groups.len());
        let mut fetched = stream::iter(request.groups).map(|group| fetch(asked, group)).buffered(AT_ONCE);
        while let Some(group) = fetched.next().await {
            groups.push(group.answer(&mut room));
        }
        message!(OffsetFetchResponse { groups: groups })
    }
}

fn by_name(topic: OffsetFetchRequestTopic) -> OffsetFetchRequestTopics {
    message!(OffsetFetchRequestTopics { name: topic.name, partition_indexes: topic.partition_indexes })
}

/// What is known of one group of a request.
struct FetchedGroup {
    group: StrBytes,
    /// None: all of them.
    topics: Option<Vec<FetchTopic>>,
    found: Result<CommittedOffsets, GroupError>,
    /// The ids of topics that were not named, where the answer has ids.
    ids: Option<BTreeMap<String, TopicId>>,
}

async fn fetch(asked: &Asked, group: OffsetFetchRequestGroup) -> FetchedGroup {
    let OffsetFetchRequestGroup { group_id: group, topics, .. } = group;
    let broker = &asked.client.shared.broker;
    let name = group.to_string().into();
    let Some(topics) = topics else {
        let found = broker.fetch_offsets(&CALLER, &name, None).await;
        let has_ids = asked.version >= BY_ID;
        let ids = found.iter().filter(|_| has_ids).flat_map(|found| &found.offsets).filter_map(|offset| {
            let topic = &offset.at.topic;
            Some((topic.clone(), broker.topic_id(topic)?))
        });
        let ids = has_ids.then(|| ids.collect());
        return FetchedGroup { group, topics: None, found, ids };
    };
    let topics: Vec<FetchTopic> = topics
        .into_iter()
        .map(|topic| FetchTopic { known: named(asked, &topic.name, topic.topic_id), asked: topic })
        .collect();
    let places: BTreeSet<TopicPartition> = topics
        .iter()
        .filter_map(|topic| Some((topic.known.as_ref().ok()?, &topic.asked.partition_indexes)))
        .flat_map(|((name, _), partitions)| partitions.iter().map(move |partition| place(name, *partition)))
        .collect();
    let places: Vec<TopicPartition> = places.into_iter().collect();
    let mut all = CommittedOffsets::default();
    for places in places.chunks(OFFSETS_PER_REQUEST_MAX) {
        match broker.fetch_offsets(&CALLER, &name, Some(places.to_vec())).await {
            Ok(found) => {
                all.offsets.extend(found.offsets);
                all.topics.extend(found.topics);
            }
            Err(error) => return FetchedGroup { group, topics: Some(topics), found: Err(error), ids: None },
        }
    }
    FetchedGroup { group, topics: Some(topics), found: Ok(all), ids: None }
}

fn place(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic.to_string(), partition: PartitionId(partition) }
}

impl FetchedGroup {
    fn answer(self, room: &mut AnswerRoom) -> OffsetFetchResponseGroup {
        let FetchedGroup { group, topics, found, ids } = self;
        let found = match found {
            Ok(found) => found,
            Err(error) => return refused(group, codes::of_group(&error, GroupAsk::FetchOffsets)),
        };
        let topics = match topics {
            Some(topics) => named_topics(topics, found),
            None => all_topics(found, ids),
        };
        match room.take(topics.iter().map(bytes).sum()) {
            true => message!(OffsetFetchResponseGroup { group_id: group, topics: topics }),
            false => refused(group, Code::InvalidRequest),
        }
    }
}

fn refused(group: StrBytes, code: Code) -> OffsetFetchResponseGroup {
    message!(OffsetFetchResponseGroup { group_id: group, error_code: code.value() })
}

fn bytes(topic: &OffsetFetchResponseTopics) -> usize {
    let partition = |partition: &OffsetFetchResponsePartitions| {
        PARTITION_BYTES + partition.metadata.as_ref().map_or(0, |metadata| metadata.len())
    };
    topic.name.len() + PARTITION_BYTES + topic.partitions.iter().map(partition).sum::<usize>()
}

/// What is committed in the partitions that were named.
fn named_topics(topics: Vec<FetchTopic>, found: CommittedOffsets) -> Vec<OffsetFetchResponseTopics> {
    let ids: BTreeMap<String, TopicId> = found.topics.into_iter().collect();
    let found: BTreeMap<TopicPartition, OffsetFetchResponsePartitions> =
        found.offsets.into_iter().map(|offset| (offset.at.clone(), committed(offset))).collect();
    let topics = topics.into_iter().map(|FetchTopic { asked, known }| {
        // Another topic may have got the name meanwhile.
        let known = known.and_then(|(name, id)| match id.is_none() || ids.get(&name).copied() == id {
            true => Ok(name),
            false => Err(Code::UnknownTopicId),
        });
        let partitions = asked.partition_indexes.into_iter().map(|partition| match &known {
            Ok(name) => found.get(&place(name, partition)).cloned().unwrap_or_else(|| nothing(partition, Code::None)),
            Err(Code::UnknownTopicId) => nothing(partition, Code::UnknownTopicId),
            Err(_) => nothing(partition, Code::None),
        });
        message!(OffsetFetchResponseTopics {
            partitions: partitions.collect(),
            name: asked.name,
            topic_id: asked.topic_id,
        })
    });
    topics.collect()
}

/// All that is committed. `ids`: only of these topics, which the answer names by their ids.
fn all_topics(found: CommittedOffsets, ids: Option<BTreeMap<String, TopicId>>) -> Vec<OffsetFetchResponseTopics> {
    let mut topics: BTreeMap<String, Vec<OffsetFetchResponsePartitions>> = BTreeMap::new();
    for offset in found.offsets {
        topics.entry(offset.at.topic.clone()).or_default().push(committed(offset));
    }
    let topics = topics.into_iter().filter_map(|(name, partitions)| {
        let mut topic = message!(OffsetFetchResponseTopics { partitions: partitions });
        match &ids {
            Some(ids) => topic.topic_id = wire::uuid(*ids.get(&name)?),
            None => topic.name = name.into(),
        }
        Some(topic)
    });
    topics.collect()
}

fn committed(found: CommittedOffset) -> OffsetFetchResponsePartitions {
    message!(OffsetFetchResponsePartitions {
        partition_index: found.at.partition.0,
        committed_offset: found.offset.0,
        committed_leader_epoch: found.leader_epoch.map_or(-1, |epoch| epoch.0),
        metadata: Some(found.metadata.into()),
    })
}

fn nothing(partition: i32, code: Code) -> OffsetFetchResponsePartitions {
    message!(OffsetFetchResponsePartitions {
        partition_index: partition,
        committed_offset: NONE,
        error_code: code.value(),
    })
}

/// The answer of a version that knows one group.
fn alone(version: i16, fetched: FetchedGroup, room: &mut AnswerRoom) -> OffsetFetchResponse {
    let asked: Vec<(StrBytes, Vec<i32>)> = match version < ONE_ERROR {
        true => {
            let topics = fetched.topics.iter().flatten();
            topics.map(|topic| (topic.asked.name.clone(), topic.asked.partition_indexes.clone())).collect()
        }
        false => Vec::new(),
    };
    let OffsetFetchResponseGroup { topics, error_code, .. } = fetched.answer(room);
    if error_code != Code::None.value() && version < ONE_ERROR {
        let topics = asked.into_iter().map(|(name, partitions)| {
            let partitions = partitions.into_iter().map(|partition| {
                message!(OffsetFetchResponsePartition {
                    partition_index: partition,
                    committed_offset: NONE,
                    error_code: error_code,
                })
            });
            message!(OffsetFetchResponseTopic { name: name, partitions: partitions.collect() })
        });
        return message!(OffsetFetchResponse { topics: topics.collect() });
    }
    let topics = topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|partition| {
            message!(OffsetFetchResponsePartition {
                partition_index: partition.partition_index,
                committed_offset: partition.committed_offset,
                committed_leader_epoch: partition.committed_leader_epoch,
                metadata: partition.metadata,
                error_code: partition.error_code,
            })
        });
        message!(OffsetFetchResponseTopic { name: topic.name, partitions: partitions.collect() })
    });
    message!(OffsetFetchResponse { topics: topics.collect(), error_code: error_code })
}
