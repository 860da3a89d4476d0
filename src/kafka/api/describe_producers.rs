//! DescribeProducers: the idempotent producers that a partition remembers, asked of its leader (KIP-664).

use std::collections::BTreeSet;

use super::{
    super::{
        call::KafkaApi,
        client::{Asked, CALLER, Lane},
        codes, limits,
        wire::{
            DescribeProducersRequest, DescribeProducersResponse, StrBytes,
            describe_producers_response::{PartitionResponse, ProducerState, TopicResponse},
            message,
        },
    },
    admin::{self, NotDone},
};
use crate::{
    broker::{ActiveProducer, PartitionRead},
    types::PartitionId,
};

/// There are no transactions: nobody coordinates one, and none is open.
const NO_COORDINATOR: i32 = -1;
const NO_TRANSACTION: i64 = -1;

pub struct DescribeProducers;

impl KafkaApi for DescribeProducers {
    type Request = DescribeProducersRequest;
    const VERSIONS: (i16, i16) = (0, 0);
    const LANE: Lane = Lane::Free;

    async fn answer(asked: &Asked, request: DescribeProducersRequest) -> DescribeProducersResponse {
        let mut room = limits::DESCRIBED_PRODUCERS_MAX;
        let (mut told, mut topics) = (BTreeSet::new(), Vec::new());
        for topic in request.topics {
            let mut partitions = Vec::new();
            for number in topic.partition_indexes {
                // Each once: an answer must not grow by how often a partition is named.
                let found = match told.insert((topic.name.to_string(), number)) {
                    true => producers(asked, &topic.name, number, room).await,
                    false => Err(NotDone::twice(&format!("{}-{number}", topic.name))),
                };
                room -= found.as_ref().map_or(0, Vec::len);
                partitions.push(answered(number, found));
            }
            topics.push(message!(TopicResponse { name: topic.name, partitions: partitions }));
        }
        message!(DescribeProducersResponse { topics: topics })
    }
}

async fn producers(asked: &Asked, topic: &StrBytes, number: i32, room: usize) -> Result<Vec<ActiveProducer>, NotDone> {
    let at =
        PartitionRead { topic: topic.to_string(), topic_id: None, partition: PartitionId(number), leader_epoch: None };
    let found = asked.client.shared.broker.producers(&CALLER, at, room).await;
    found.map_err(|error| NotDone { code: codes::of_fetch(&error, false), words: codes::words(&error) })
}

fn answered(number: i32, found: Result<Vec<ActiveProducer>, NotDone>) -> PartitionResponse {
    let (error_code, error_message) = admin::said(&found);
    let producers = found.unwrap_or_default().into_iter().map(|producer| {
        message!(ProducerState {
            producer_id: producer.id.0,
            producer_epoch: producer.epoch.0.into(),
            last_sequence: producer.last_sequence.0,
            last_timestamp: producer.last_append.0,
            coordinator_epoch: NO_COORDINATOR,
            current_txn_start_offset: NO_TRANSACTION,
        })
    });
    message!(PartitionResponse {
        partition_index: number,
        error_code: error_code,
        error_message: error_message,
        active_producers: producers.collect(),
    })
}
