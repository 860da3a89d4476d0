//! Fetch: batches of many partitions in one answer, as they are stored.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use kafka_wire_core::Decoder;

use super::{
    super::{
        call::{check_partitions, decode},
        client::{Asked, Begun, CALLER, Closing, Lane},
        codes::{self, Code},
        limits,
        segments::Segments,
        views::{Endpoint, leader_endpoint},
        wire::{self, FetchRequest, KafkaMessage, StrBytes, Uuid, fetch_request::FetchTopic},
    },
    fetch_answer::{FetchAnswer, Leads, PartitionAnswer},
    list_offsets::epoch,
};
use crate::{
    broker::{FETCH_BYTES_MAX, FetchError, FetchManyRequest, Fetched, PartitionFetch, PartitionRead, held::Held},
    types::{Offset, PartitionId},
};

pub const VERSIONS: (i16, i16) = (4, 17);

/// From this version on topics are named by their ids (KIP-516).
const BY_ID: i16 = 13;
/// From this version on an answer says who leads instead (KIP-951).
const SAYS_WHO_LEADS: i16 = 16;

/// A request as the broker takes it, and how to name its topics in the answer.
struct Wanted {
    topics: Vec<WantedTopic>,
    bytes_min: usize,
    bytes_max: usize,
    wait: Duration,
}

struct WantedTopic {
    name: StrBytes,
    id: Uuid,
    partitions: Vec<WantedPartition>,
}

struct WantedPartition {
    index: i32,
    /// None: nobody has this topic's id.
    fetch: Option<PartitionFetch>,
}

pub fn begin(asked: Asked, decoder: Decoder, held: Held) -> BoxFuture<'static, Result<Begun, Closing>> {
    let request = decode::<FetchRequest>(decoder, asked.version).and_then(|request| {
        let partitions = request.topics.iter().map(|topic| topic.partitions.len()).sum();
        check_partitions(FetchRequest::NAME, partitions).map(|()| request)
    });
    let begun = request.map(|request| {
        let gone = asked.client.gone.clone();
        let answering = async move {
            let answer = gone.run_until_cancelled(answer(asked, request)).await.unwrap_or(Err(Closing::Gone));
            drop(held);
            answer
        };
        Begun { lane: Lane::Free, answering: answering.boxed() }
    });
    std::future::ready(begun).boxed()
}

async fn answer(asked: Asked, request: FetchRequest) -> Result<Option<Segments>, Closing> {
    if request.session_id != 0 {
        // Sessions are not given out: a client goes on with whole requests.
        return FetchAnswer::of_error(&asked, Code::FetchSessionIdNotFound).map(Some);
    }
    let wanted = wanted(&asked, request);
    let (fetched, held) = fetch(&asked, &wanted).await?;
    let mut fetched = fetched.into_iter();
    let mut answer = FetchAnswer::begin(&asked, wanted.topics.len())?;
    let mut endpoints = Vec::new();
    for topic in wanted.topics {
        answer.topic(&topic.name, topic.id, topic.partitions.len());
        for partition in topic.partitions {
            let fetched = partition.fetch.and_then(|_| fetched.next());
            let (said, batches) = said(&asked, partition.index, fetched, &mut endpoints);
            answer.partition(&said, batches);
        }
        answer.end_topic();
    }
    answer.end(endpoints, held).map(Some)
}

fn wanted(asked: &Asked, request: FetchRequest) -> Wanted {
    let topics = request.topics.into_iter().map(|topic| wanted_topic(asked, topic)).collect();
    let size = |bytes: i32| usize::try_from(bytes).unwrap_or(0);
    Wanted {
        topics,
        bytes_min: size(request.min_bytes),
        bytes_max: size(request.max_bytes).clamp(1, FETCH_BYTES_MAX),
        wait: Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)),
    }
}

fn wanted_topic(asked: &Asked, topic: FetchTopic) -> WantedTopic {
    let id = wire::topic_id(topic.topic_id);
    let name = match asked.version >= BY_ID {
        true => id.and_then(|id| asked.client.shared.broker.topic_name(id)),
        false => Some(wire::topic_name(&topic.topic)),
    };
    let partitions = topic.partitions.into_iter().map(|partition| WantedPartition {
        index: partition.partition,
        fetch: name.clone().map(|topic| PartitionFetch {
            at: PartitionRead {
                topic,
                topic_id: id,
                partition: PartitionId(partition.partition),
                leader_epoch: epoch(partition.current_leader_epoch),
            },
            offset: Offset(partition.fetch_offset),
            bytes_max: usize::try_from(partition.partition_max_bytes).unwrap_or(0).max(1),
        }),
    });
    WantedTopic { partitions: partitions.collect(), name: topic.topic, id: topic.topic_id }
}

/// What is there now, and else what comes within the wait, which holds no room meanwhile. What comes is counted before
/// it is handed on; where there is no room for all that may come, it is a small answer instead of a late one, so that
/// clients which do not take theirs keep nobody else from reading.
async fn fetch(asked: &Asked, wanted: &Wanted) -> Result<(Vec<Result<Fetched, FetchError>>, Option<Held>), Closing> {
    let broker = &asked.client.shared.broker;
    let partitions: Vec<_> =
        wanted.topics.iter().flat_map(|topic| &topic.partitions).filter_map(|known| known.fetch.clone()).collect();
    let has_unknown = wanted.topics.iter().flat_map(|topic| &topic.partitions).any(|known| known.fetch.is_none());
    let Wanted { bytes_min, bytes_max, wait, .. } = *wanted;
    let wait = if has_unknown { Duration::ZERO } else { wait };
    let read = async |bytes_max, wait| {
        let request = FetchManyRequest { partitions: partitions.clone(), bytes_min, bytes_max, wait };
        broker.fetch_many(&CALLER, request).await
    };
    let (room, closer) = (broker.answer_room(), &asked.client.closer);
    let mut held = room.try_hold(bytes_max, closer);
    let small = bytes_max.min(limits::FETCH_SMALL_BYTES);
    let most = if held.is_some() { bytes_max } else { small };
    let mut fetched = read(most, Duration::ZERO).await;
    let is_enough = bytes_of(&fetched) >= bytes_min.min(most) || fetched.iter().any(Result::is_err);
    if !is_enough && !wait.is_zero() {
        held = None;
        fetched = read(bytes_max, wait).await;
    }
    // One batch comes whole, however large. Twice at most: the second time the room is there.
    loop {
        let bytes = bytes_of(&fetched);
        if bytes == 0 {
            return Ok((fetched, None));
        }
        if let Some(mut held) = held.take().filter(|held| held.is_enough_for(bytes)) {
            held.shrink(bytes);
            return Ok((fetched, Some(held)));
        }
        held = room.try_hold(bytes, closer);
        if held.is_none() {
            // Whoever waits holds nothing meanwhile, and reads again: as much as there is room for soon.
            let largest = fetched.iter().flatten().flat_map(|fetched| &fetched.batches).map(Bytes::len).max();
            let again = small.max(largest.unwrap_or(0)).min(bytes);
            drop(fetched);
            held = Some(room.hold(again, closer).await.map_err(Closing::Crowded)?);
            fetched = read(again, Duration::ZERO).await;
        }
    }
}

fn bytes_of(fetched: &[Result<Fetched, FetchError>]) -> usize {
    fetched.iter().flatten().flat_map(|fetched| &fetched.batches).map(Bytes::len).sum()
}

/// What the answer says of a partition, and its batches. A leader that it names is added to `endpoints`.
fn said(
    asked: &Asked,
    index: i32,
    fetched: Option<Result<Fetched, FetchError>>,
    endpoints: &mut Vec<Endpoint>,
) -> (PartitionAnswer, Vec<Bytes>) {
    let by_id = asked.version >= BY_ID;
    let error = match fetched {
        Some(Ok(fetched)) => {
            let Fetched { batches, high_watermark, log_start, .. } = fetched;
            let code = Code::None;
            return (PartitionAnswer { index, code, high_watermark, log_start, leads: None }, batches);
        }
        Some(Err(error)) => Some(error),
        None => None,
    };
    let code = error.as_ref().map_or(Code::UnknownTopicId, |error| codes::of_fetch(error, by_id));
    let mut answer = PartitionAnswer::refused(index, code);
    if let Some(FetchError::OffsetOutOfRange { log_start, high_watermark, .. }) = &error {
        (answer.log_start, answer.high_watermark) = (*log_start, *high_watermark);
    }
    let broker = &asked.client.shared.broker;
    let leader = error.as_ref().and_then(|error| leader_endpoint(broker, error.leader()));
    if let Some((leader, endpoint)) = leader.filter(|_| asked.version >= SAYS_WHO_LEADS) {
        answer.leads = Some(Leads { id: endpoint.id, epoch: leader.epoch.0 });
        if !endpoints.contains(&endpoint) {
            endpoints.push(endpoint);
        }
    }
    (answer, Vec::new())
}
