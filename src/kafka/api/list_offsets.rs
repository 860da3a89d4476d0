//! ListOffsets: where a partition begins and ends, and where the records of a time begin.

use super::super::{
    call::KafkaApi,
    client::{Asked, CALLER, Lane},
    codes::{self, Code},
    wire::{
        self, ListOffsetsRequest, ListOffsetsResponse, StrBytes,
        list_offsets_request::ListOffsetsPartition,
        list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
        message,
    },
};
use crate::{
    broker::{FetchError, FoundOffset, OffsetAt, PartitionRead},
    types::{LeaderEpoch, PartitionId, WallMs},
};

/// Kafka's words for places, instead of a time.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
/// No record has such a time or a later one.
const NONE: i64 = -1;
/// From this version on an answer says of which leader epoch a record is (KIP-320).
const SAYS_EPOCH: i16 = 4;

pub struct ListOffsets;

impl KafkaApi for ListOffsets {
    type Request = ListOffsetsRequest;
    const VERSIONS: (i16, i16) = (1, 8);
    const LANE: Lane = Lane::Free;

    fn partitions(request: &ListOffsetsRequest) -> usize {
        request.topics.iter().map(|topic| topic.partitions.len()).sum()
    }

    async fn answer(asked: &Asked, request: ListOffsetsRequest) -> ListOffsetsResponse {
        let mut places = Vec::new();
        for topic in &request.topics {
            for partition in &topic.partitions {
                if let Some(place) = place(partition.timestamp) {
                    places.push((read(&topic.name, partition), place));
                }
            }
        }
        let mut found = asked.client.shared.broker.find_offsets(&CALLER, places).await.into_iter();
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| match place(partition.timestamp) {
                Some(place) => answered(asked.version, partition, place, found.next()),
                None => refused(partition.partition_index, Code::InvalidRequest),
            });
            message!(ListOffsetsTopicResponse { partitions: partitions.collect(), name: topic.name })
        });
        message!(ListOffsetsResponse { topics: topics.collect() })
    }
}

fn place(timestamp: i64) -> Option<OffsetAt> {
    match timestamp {
        LATEST => Some(OffsetAt::Latest),
        // Everything is on this broker's own disk.
        EARLIEST | EARLIEST_LOCAL => Some(OffsetAt::Earliest),
        MAX_TIMESTAMP => Some(OffsetAt::MaxTimestamp),
        time if time >= 0 => Some(OffsetAt::Time(WallMs(time))),
        _ => None,
    }
}

fn read(topic: &StrBytes, partition: &ListOffsetsPartition) -> PartitionRead {
    PartitionRead {
        topic: wire::topic_name(topic),
        topic_id: None,
        partition: PartitionId(partition.partition_index),
        leader_epoch: epoch(partition.current_leader_epoch),
    }
}

/// The epoch that a reader says it knows.
pub fn epoch(epoch: i32) -> Option<LeaderEpoch> {
    (epoch >= 0).then_some(LeaderEpoch(epoch))
}

fn answered(
    version: i16,
    partition: &ListOffsetsPartition,
    place: OffsetAt,
    found: Option<Result<FoundOffset, FetchError>>,
) -> ListOffsetsPartitionResponse {
    let index = partition.partition_index;
    let found = match found {
        Some(Ok(found)) => found,
        Some(Err(error)) => return refused(index, codes::of_fetch(&error, false)),
        None => return refused(index, Code::UnknownServerError),
    };
    let mut response = message!(ListOffsetsPartitionResponse { partition_index: index, timestamp: NONE, offset: NONE });
    let is_time = match place {
        OffsetAt::Earliest | OffsetAt::Latest => false,
        OffsetAt::Time(_) | OffsetAt::MaxTimestamp => true,
    };
    if is_time && found.timestamp.is_none() {
        return response;
    }
    response.offset = found.offset.0;
    response.timestamp = found.timestamp.map_or(NONE, |WallMs(ms)| ms);
    if version >= SAYS_EPOCH {
        response.leader_epoch = found.epoch.0;
    }
    response
}

fn refused(index: i32, code: Code) -> ListOffsetsPartitionResponse {
    message!(ListOffsetsPartitionResponse {
        partition_index: index,
        error_code: code.value(),
        timestamp: NONE,
        offset: NONE,
    })
}
