//! Produce: batches go to the broker as they came, in the order in which they came.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use kafka_wire_core::Decoder;

use super::super::{
    call::{decode, encode},
    client::{Asked, Begun, CALLER, Closing, Lane, ProduceRefused},
    codes::{self, Code},
    limits,
    views::{Endpoint, leader_endpoint},
    wire::{
        self, ProduceRequest, ProduceResponse, StrBytes, Uuid, message,
        produce_request::{PartitionProduceData, TopicProduceData},
        produce_response::{LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse},
    },
};
use crate::{
    broker::{self, Acks, LeaderNow, ProduceBudget, Receipt, held::Held},
    types::{PartitionId, WallMs},
};

pub const VERSIONS: (i16, i16) = (3, 13);

/// From this version on an answer says in words why a batch was refused (KIP-467).
const SAYS_WHY: i16 = 8;
/// From this version on an answer says who leads instead (KIP-951).
const SAYS_WHO_LEADS: i16 = 10;
/// From this version on topics are named by their ids.
const BY_ID: i16 = 13;
/// zstd came with this version (KIP-110): clients of earlier ones cannot know it.
const KNOWS_ZSTD: i16 = 7;

/// What became of one partition's batch.
enum Outcome {
    Waiting(broker::Waiting),
    Refused(ProduceRefused),
}

/// One topic of the request, and what became of its batches.
struct TopicOutcome {
    name: StrBytes,
    id: Uuid,
    partitions: Vec<(i32, Outcome)>,
}

/// Hands all batches to the broker before anything behind them on the connection is looked at.
pub fn begin(asked: Asked, decoder: Decoder, held: Held) -> BoxFuture<'static, Result<Begun, Closing>> {
    async move {
        let request: ProduceRequest = decode(decoder, asked.version)?;
        let acks = acks(request.acks);
        let partitions: usize = request.topic_data.iter().map(|topic| topic.partition_data.len()).sum();
        if partitions > limits::PARTITIONS_MAX {
            let max = limits::PARTITIONS_MAX;
            return Err(Closing::TooManyPartitions { api: "Produce", partitions, max });
        }
        let outcomes = hand_over(&asked, request, acks).await;
        // What the batches hold now is the produce budget's.
        drop(held);
        Ok(Begun { lane: Lane::Free, answering: answer(asked, acks, outcomes).boxed() })
    }
    .boxed()
}

fn acks(acks: i16) -> Option<Acks> {
    match acks {
        -1 => Some(Acks::All),
        1 => Some(Acks::Leader),
        0 => Some(Acks::None),
        _ => None,
    }
}

async fn hand_over(asked: &Asked, request: ProduceRequest, acks: Option<Acks>) -> Vec<TopicOutcome> {
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let is_transactional = request.transactional_id.is_some();
    let mut topics = Vec::with_capacity(request.topic_data.len());
    for TopicProduceData { name, topic_id, partition_data, .. } in request.topic_data {
        let topic = match asked.version >= BY_ID {
            true => wire::topic_id(topic_id).and_then(|id| asked.client.shared.broker.topic_name(id)),
            false => Some(wire::topic_name(&name)),
        };
        let mut partitions = Vec::with_capacity(partition_data.len());
        for PartitionProduceData { index, records, .. } in partition_data {
            let checked = match (&topic, acks, is_transactional) {
                (_, None, _) => Err(ProduceRefused::Acks),
                (_, _, true) => Err(ProduceRefused::Transactional),
                (None, _, _) => Err(ProduceRefused::UnknownId),
                (Some(topic), Some(acks), false) => batch(records, asked.version).map(|batch| broker::ProduceRequest {
                    topic: topic.clone(),
                    topic_id: wire::topic_id(topic_id),
                    partition: PartitionId(index),
                    acks,
                    timeout,
                    batch,
                    expected_offset: None,
                }),
            };
            let outcome = match checked {
                Ok(request) => produce(asked, request).await,
                Err(refused) => Outcome::Refused(refused),
            };
            partitions.push((index, outcome));
        }
        topics.push(TopicOutcome { name, id: topic_id, partitions });
    }
    topics
}

/// What a partition's records must be before the broker looks at them.
fn batch(records: Option<Bytes>, version: i16) -> Result<Bytes, ProduceRefused> {
    const ATTRIBUTES: usize = 22;
    const CODEC: u8 = 0b111;
    const ZSTD: u8 = 4;
    let batch = records.unwrap_or_default();
    let is_zstd = batch.get(ATTRIBUTES).is_some_and(|attributes| attributes & CODEC == ZSTD);
    if is_zstd && version < KNOWS_ZSTD {
        return Err(ProduceRefused::Zstd { since: KNOWS_ZSTD, version });
    }
    Ok(batch)
}

async fn produce(asked: &Asked, request: broker::ProduceRequest) -> Outcome {
    let broker = &asked.client.shared.broker;
    let budget: ProduceBudget = broker.reserve_produce(request.batch.len()).await;
    match broker.produce(&CALLER, request, budget) {
        Ok(waiting) => Outcome::Waiting(waiting),
        Err(error) => Outcome::Refused(ProduceRefused::ByBroker(error)),
    }
}

async fn answer(
    asked: Asked,
    acks: Option<Acks>,
    topics: Vec<TopicOutcome>,
) -> Result<Option<super::super::segments::Segments>, Closing> {
    let mut answers = Answers { asked: &asked, endpoints: Vec::new(), told: BTreeSet::new() };
    let mut responses = Vec::with_capacity(topics.len());
    for TopicOutcome { name, id, partitions } in topics {
        let ended = join_all(partitions.into_iter().map(|(index, outcome)| async move {
            let ended = match outcome {
                Outcome::Waiting(waiting) => waiting.await.map_err(ProduceRefused::ByBroker),
                Outcome::Refused(refused) => Err(refused),
            };
            (index, ended)
        }))
        .await;
        if acks == Some(Acks::None) {
            // Kafka closes the connection too: nobody hears of the refusal otherwise, and goes on sending.
            let refused = ended.into_iter().find_map(|(_, ended)| ended.err());
            match refused {
                Some(refused) => return Err(Closing::Unanswered(refused)),
                None => continue,
            }
        }
        let mut response = message!(TopicProduceResponse {
            partition_responses: ended.into_iter().map(|(index, ended)| answers.partition(index, ended)).collect(),
        });
        match asked.version >= BY_ID {
            true => response.topic_id = id,
            false => response.name = name,
        }
        responses.push(response);
    }
    if acks == Some(Acks::None) {
        return Ok(None);
    }
    let endpoints = answers.endpoints;
    encode(&asked, &message!(ProduceResponse { responses: responses, node_endpoints: endpoints })).map(Some)
}

/// Makes the answers of one request.
struct Answers<'a> {
    asked: &'a Asked,
    /// Of the leaders that are named in it, each once.
    endpoints: Vec<NodeEndpoint>,
    told: BTreeSet<i32>,
}

impl Answers<'_> {
    fn partition(&mut self, index: i32, ended: Result<Receipt, ProduceRefused>) -> PartitionProduceResponse {
        let version = self.asked.version;
        match ended {
            Ok(receipt) => message!(PartitionProduceResponse {
                index: index,
                base_offset: receipt.base_offset.0,
                log_append_time_ms: receipt.log_append_time.map_or(-1, |WallMs(ms)| ms),
                log_start_offset: receipt.log_start.0,
            }),
            Err(refused) => {
                let (code, leader) = self.meaning(&refused);
                let mut response = message!(PartitionProduceResponse {
                    index: index,
                    error_code: code.value(),
                    base_offset: -1,
                    log_append_time_ms: -1,
                    log_start_offset: -1,
                });
                if version >= SAYS_WHY {
                    response.error_message = Some(codes::words(&refused));
                }
                if version >= SAYS_WHO_LEADS
                    && let Some((leader, endpoint)) = leader_endpoint(&self.asked.client.shared.broker, leader)
                {
                    response.current_leader =
                        message!(LeaderIdAndEpoch { leader_id: endpoint.id, leader_epoch: leader.epoch.0 });
                    self.tell(endpoint);
                }
                response
            }
        }
    }

    fn meaning<'a>(&self, refused: &'a ProduceRefused) -> (Code, Option<&'a LeaderNow>) {
        match refused {
            ProduceRefused::Acks => (Code::InvalidRequiredAcks, None),
            ProduceRefused::Transactional => (Code::TransactionalIdAuthorizationFailed, None),
            ProduceRefused::UnknownId => (Code::UnknownTopicId, None),
            ProduceRefused::Zstd { .. } => (Code::UnsupportedCompressionType, None),
            ProduceRefused::ByBroker(error) => (codes::of_produce(error, self.asked.version >= BY_ID), error.leader()),
        }
    }

    fn tell(&mut self, endpoint: Endpoint) {
        let Endpoint { id, host, port, rack } = endpoint;
        if self.told.insert(id) {
            self.endpoints.push(message!(NodeEndpoint { node_id: id, host: host, port: port, rack: rack }));
        }
    }
}
