//! OffsetForLeaderEpoch: where the records of a leader ended, by which a reader finds what it has read and is gone
//! (KIP-101, KIP-320).

use futures_util::{StreamExt, stream};

use super::{
    super::{
        call::KafkaApi,
        client::{Asked, CALLER, Lane},
        codes,
        wire::{
            self, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, message,
            offset_for_leader_epoch_request::OffsetForLeaderPartition,
            offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult},
        },
    },
    list_offsets::epoch,
};
use crate::{
    broker::PartitionRead,
    types::{LeaderEpoch, PartitionId},
};

/// Partitions of one request that are looked at at once.
const AT_ONCE: usize = 64;

pub struct OffsetForLeaderEpoch;

impl KafkaApi for OffsetForLeaderEpoch {
    type Request = OffsetForLeaderEpochRequest;
    const VERSIONS: (i16, i16) = (2, 4);
    const LANE: Lane = Lane::Free;

    fn partitions(request: &OffsetForLeaderEpochRequest) -> usize {
        request.topics.iter().map(|topic| topic.partitions.len()).sum()
    }

    async fn answer(asked: &Asked, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in request.topics {
            let name = wire::topic_name(&topic.topic);
            let partitions = topic.partitions.into_iter().map(|partition| end(asked, name.clone(), partition));
            let partitions = stream::iter(partitions).buffered(AT_ONCE).collect().await;
            topics.push(message!(OffsetForLeaderTopicResult { topic: topic.topic, partitions: partitions }));
        }
        message!(OffsetForLeaderEpochResponse { topics: topics })
    }
}

async fn end(asked: &Asked, topic: String, partition: OffsetForLeaderPartition) -> EpochEndOffset {
    let at = PartitionRead {
        topic,
        topic_id: None,
        partition: PartitionId(partition.partition),
        leader_epoch: epoch(partition.current_leader_epoch),
    };
    let ended = asked.client.shared.broker.epoch_end(&CALLER, at, LeaderEpoch(partition.leader_epoch)).await;
    let mut answer = message!(EpochEndOffset { partition: partition.partition });
    match ended {
        Ok(Some(end)) => {
            answer.leader_epoch = end.epoch.0;
            answer.end_offset = end.end_offset.0;
        }
        // Both stay -1: nothing is known of such an epoch.
        Ok(None) => {}
        Err(error) => answer.error_code = codes::of_fetch(&error, false).value(),
    }
    answer
}
