//! OffsetDelete: a group forgets what it has committed where none of its members reads (KIP-496).

use std::collections::BTreeMap;

use super::super::{
    call::KafkaApi,
    client::{Asked, CALLER},
    codes::{self, Code, GroupAsk},
    wire::{
        OffsetDeleteRequest, OffsetDeleteResponse, message,
        offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic},
    },
};
use crate::{
    broker::groups::OFFSETS_PER_REQUEST_MAX,
    types::{PartitionId, TOPIC_NAME_BYTES_MAX, TopicPartition},
};

pub struct OffsetDelete;

impl KafkaApi for OffsetDelete {
    type Request = OffsetDeleteRequest;
    const VERSIONS: (i16, i16) = (0, 0);

    fn partitions(request: &OffsetDeleteRequest) -> usize {
        request.topics.iter().map(|topic| topic.partitions.len()).sum()
    }

    async fn answer(asked: &Asked, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
        let mut refused: BTreeMap<TopicPartition, Code> = BTreeMap::new();
        let places = places(&request);
        let group = request.group_id.to_string().into();
        // A group is looked for even where nothing is named.
        let pieces = places.chunks(OFFSETS_PER_REQUEST_MAX).map(<[TopicPartition]>::to_vec);
        for piece in pieces.chain(places.is_empty().then(Vec::new)) {
            match asked.client.shared.broker.delete_offsets(&CALLER, &group, piece).await {
                Ok(more) => {
                    refused.extend(more.into_iter().map(|(at, error)| (at, codes::of_group(&error, GroupAsk::Admin))));
                }
                // What went before stays deleted, which does no harm to who asks again.
                Err(error) => {
                    let code = codes::of_group(&error, GroupAsk::Admin);
                    return message!(OffsetDeleteResponse { error_code: code.value() });
                }
            }
        }
        let topics = request.topics.into_iter().map(|topic| {
            let is_possible = topic.name.len() <= TOPIC_NAME_BYTES_MAX;
            let partitions = topic.partitions.iter().map(|partition| {
                let index = partition.partition_index;
                let code = match is_possible {
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

/// Those that any group may have committed.
fn places(request: &OffsetDeleteRequest) -> Vec<TopicPartition> {
    let possible = request.topics.iter().filter(|topic| topic.name.len() <= TOPIC_NAME_BYTES_MAX);
    let places = possible
        .flat_map(|topic| topic.partitions.iter().map(|partition| place(&topic.name, partition.partition_index)));
    places.collect()
}

fn place(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic.to_string(), partition: PartitionId(partition) }
}
