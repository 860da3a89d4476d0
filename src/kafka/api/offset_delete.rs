//! OffsetDelete: a group forgets what it has committed where none of its members reads (KIP-496).

use std::collections::{BTreeMap, BTreeSet};

use super::super::{
    call::KafkaApi,
    client::{Asked, CALLER},
    codes::{self, Code, GroupAsk},
    group_views,
    wire::{
        OffsetDeleteRequest, OffsetDeleteResponse, message,
        offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic},
    },
};
use crate::{
    broker::{TopicsWanted, groups::OFFSETS_PER_REQUEST_MAX},
    group::consumer_protocol,
    types::{GroupName, PartitionId, TOPIC_NAME_BYTES_MAX, TopicPartition},
};

pub struct OffsetDelete;

impl KafkaApi for OffsetDelete {
    type Request = OffsetDeleteRequest;
    const VERSIONS: (i16, i16) = (0, 0);

    fn partitions(request: &OffsetDeleteRequest) -> usize {
        request.topics.iter().map(|topic| topic.partitions.len()).sum()
    }

    async fn answer(asked: &Asked, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
        let broker = &asked.client.shared.broker;
        let mut refused: BTreeMap<TopicPartition, Code> = BTreeMap::new();
        let known = known(asked, &request).await;
        let places = places(&request, &known);
        let group = request.group_id.to_string().into();
        // A group is looked for even where nothing is named.
        let pieces = places.chunks(OFFSETS_PER_REQUEST_MAX).map(<[TopicPartition]>::to_vec);
        for piece in pieces.chain(places.is_empty().then(Vec::new)) {
            match broker.delete_offsets(&CALLER, &group, piece).await {
                Ok(more) => {
                    refused.extend(more.into_iter().map(|(at, error)| (at, codes::of_group(&error, GroupAsk::Admin))));
                }
                // What went before stays deleted, which does no harm to who asks again.
                Err(error) => return refused_whole(codes::of_group(&error, GroupAsk::Admin)),
            }
        }
        let is_read = refused.values().any(|code| *code == Code::GroupSubscribedToTopic);
        if is_read && reads_unknown(asked, &group).await {
            return refused_whole(Code::NonEmptyGroup);
        }
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                let index = partition.partition_index;
                let code = match is_known(&known, &topic.name, index) {
                    true => refused.get(&place(&topic.name, index)).copied().unwrap_or(Code::None),
                    false => Code::UnknownTopicOrPartition,
                };
                message!(OffsetDeleteResponsePartition { partition_index: index, error_code: code.value() })
            });
            message!(OffsetDeleteResponseTopic { partitions: partitions.collect(), name: topic.name })
        });
        message!(OffsetDeleteResponse { topics: topics.collect() })
    }
}

fn refused_whole(code: Code) -> OffsetDeleteResponse {
    message!(OffsetDeleteResponse { error_code: code.value() })
}

/// Whether members are there of whom nobody knows what they read: Kafka refuses all then, and not each partition.
async fn reads_unknown(asked: &Asked, group: &GroupName) -> bool {
    let described = asked.client.shared.broker.describe_group(&CALLER, group).await;
    described.is_ok_and(|group| {
        let summary = &group.summary;
        !group_views::is_server_assigned(summary) && summary.protocol != consumer_protocol::CONSUMER
    })
}

/// How many partitions each topic has that is asked about and exists.
async fn known(asked: &Asked, request: &OffsetDeleteRequest) -> BTreeMap<String, usize> {
    let possible = request.topics.iter().filter(|topic| topic.name.len() <= TOPIC_NAME_BYTES_MAX);
    let names: BTreeSet<String> = possible.map(|topic| topic.name.to_string()).collect();
    if names.is_empty() {
        return BTreeMap::new();
    }
    let wanted = TopicsWanted::Named(names.into_iter().collect());
    let view = asked.client.shared.broker.cluster_view(&CALLER, wanted).await;
    let known = view.topics.into_iter().filter(|topic| topic.id.is_some());
    known.map(|topic| (topic.name, topic.partitions.len())).collect()
}

fn is_known(known: &BTreeMap<String, usize>, topic: &str, partition: i32) -> bool {
    let count = known.get(topic).copied().unwrap_or(0);
    usize::try_from(partition).is_ok_and(|partition| partition < count)
}

fn places(request: &OffsetDeleteRequest, known: &BTreeMap<String, usize>) -> Vec<TopicPartition> {
    let places = request.topics.iter().flat_map(|topic| {
        let numbers = topic.partitions.iter().map(|partition| partition.partition_index);
        let numbers = numbers.filter(|partition| is_known(known, &topic.name, *partition));
        numbers.map(|partition| place(&topic.name, partition))
    });
    places.collect()
}

fn place(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic.to_string(), partition: PartitionId(partition) }
}
