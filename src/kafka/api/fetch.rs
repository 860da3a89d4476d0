//! Fetch: batches of many partitions in one answer, as they are stored.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

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
        sessions::{PartitionSeen, PartitionWanted, SessionAsk, SessionTurn, TopicKey},
        views::{Endpoint, leader_endpoint},
        wire::{self, FetchRequest, KafkaMessage, StrBytes, Uuid},
    },
    fetch_answer::{FetchAnswer, Leads, PartitionAnswer},
    list_offsets::epoch,
};
use crate::{
    broker::{
        FETCH_BYTES_MAX, FetchError, FetchManyRequest, Fetched, OpenFetch, PartitionFetch, PartitionRead, held::Held,
    },
    types::{Offset, PartitionId, TopicId},
};

pub const VERSIONS: (i16, i16) = (4, 17);

/// From this version on requests may be of a session (KIP-227).
const HAS_SESSION: i16 = 7;
/// From this version on topics are named by their ids (KIP-516).
const BY_ID: i16 = 13;
/// From this version on an answer says who leads instead (KIP-951).
const SAYS_WHO_LEADS: i16 = 16;
/// The epoch of a request that is of no session, and wants none.
const NO_EPOCH: i32 = -1;

/// How much a client takes, and how long it waits for it.
#[derive(Clone, Copy)]
struct Terms {
    bytes_min: usize,
    bytes_max: usize,
    wait: Duration,
}

/// What was read of one partition. None: nobody has its topic's id.
type Read = Option<Result<Fetched, FetchError>>;

pub fn begin(asked: Asked, decoder: Decoder, held: Held) -> BoxFuture<'static, Result<Begun, Closing>> {
    let request = decode::<FetchRequest>(decoder, asked.version).and_then(|request| {
        let partitions = request.topics.iter().map(|topic| topic.partitions.len()).sum();
        check_partitions(FetchRequest::NAME, partitions).map(|()| request)
    });
    let begun = request.map(|request| {
        let gone = asked.client.gone.clone();
        let size = |bytes: i32| usize::try_from(bytes).unwrap_or(0);
        let terms = Terms {
            bytes_min: size(request.min_bytes),
            bytes_max: size(request.max_bytes).clamp(1, FETCH_BYTES_MAX),
            wait: Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)),
        };
        // Here and not when it is answered: what a session remembers goes by the order in which requests came.
        let planned = asked.client.sessions.begin(session_ask(asked.version, request));
        let answering = async move {
            let answering = async {
                match planned {
                    Ok((turn, wanted)) => answer(&asked, terms, turn, wanted).await,
                    Err(refusal) => FetchAnswer::of_error(&asked, codes::of_session(refusal)),
                }
            };
            let answer = gone.run_until_cancelled(answering).await.unwrap_or(Err(Closing::Gone));
            drop(held);
            answer.map(Some)
        };
        Begun { lane: Lane::Free, answering: answering.boxed() }
    });
    std::future::ready(begun).boxed()
}

fn session_ask(version: i16, request: FetchRequest) -> SessionAsk {
    let by_id = version >= BY_ID;
    let key = |name: &StrBytes, id: Uuid| match by_id {
        true => TopicKey::Id(wire::topic_id(id).unwrap_or_default()),
        false => TopicKey::Name(Arc::from(name.as_str())),
    };
    let mut wanted = Vec::new();
    for topic in &request.topics {
        let key = key(&topic.topic, topic.topic_id);
        wanted.extend(topic.partitions.iter().map(|partition| PartitionWanted {
            topic: key.clone(),
            partition: partition.partition,
            offset: Offset(partition.fetch_offset),
            bytes_max: partition.partition_max_bytes,
            epoch: epoch(partition.current_leader_epoch),
        }));
    }
    let mut forgotten = Vec::new();
    for topic in &request.forgotten_topics_data {
        let key = key(&topic.topic, topic.topic_id);
        forgotten.extend(topic.partitions.iter().map(|partition| (key.clone(), *partition)));
    }
    let (session, epoch) = match version >= HAS_SESSION {
        true => (request.session_id, request.session_epoch),
        false => (0, NO_EPOCH),
    };
    SessionAsk { session, epoch, by_id, wanted, forgotten }
}

async fn answer(
    asked: &Asked,
    terms: Terms,
    turn: SessionTurn,
    wanted: Vec<PartitionWanted>,
) -> Result<Segments, Closing> {
    let (read, held) = read(asked, terms, &wanted).await?;
    let mut endpoints = Vec::new();
    let said: Vec<_> =
        wanted.iter().zip(read).map(|(wanted, read)| said(asked, wanted.partition, read, &mut endpoints)).collect();
    let seen: Vec<_> = said.iter().map(|(said, batches)| seen(said, batches)).collect();
    let (session, told) = match turn.answer(&seen) {
        Ok(told) => told,
        Err(refusal) => return FetchAnswer::of_error(asked, codes::of_session(refusal)),
    };
    let is_told = |place: usize| told.as_ref().is_none_or(|told| told[place]);
    let rest: Vec<_> =
        wanted.into_iter().zip(said).enumerate().filter(|(place, _)| is_told(*place)).map(|(_, told)| told).collect();
    // Those of one topic that follow one another are told together. A session's turns may part them: as with Kafka, a
    // topic is named again then.
    let topics: Vec<_> = rest.chunk_by(|(a, _), (b, _)| a.topic == b.topic).map(<[_]>::len).collect();
    let mut rest = rest.into_iter();
    let mut answer = FetchAnswer::begin(asked, session, topics.len())?;
    for partitions in topics {
        for (place, (wanted, (said, batches))) in rest.by_ref().take(partitions).enumerate() {
            if place == 0 {
                answer.topic(&wanted.topic, partitions);
            }
            answer.partition(&said, batches);
        }
        answer.end_topic();
    }
    answer.end(endpoints, held)
}

/// What the broker is asked. None: nobody has the topic's id.
fn fetches(asked: &Asked, wanted: &[PartitionWanted]) -> Vec<Option<PartitionFetch>> {
    let broker = &asked.client.shared.broker;
    let mut names = BTreeMap::new();
    let mut fetch_of = |wanted: &PartitionWanted| {
        let name = match &wanted.topic {
            TopicKey::Name(name) => Some(wire::topic_name(name)),
            TopicKey::Id(id) => names.entry(*id).or_insert_with(|| broker.topic_name(*id)).clone(),
        };
        Some(PartitionFetch {
            at: PartitionRead {
                topic: name?,
                topic_id: id_of(&wanted.topic),
                partition: PartitionId(wanted.partition),
                leader_epoch: wanted.epoch,
            },
            offset: wanted.offset,
            bytes_max: usize::try_from(wanted.bytes_max).unwrap_or(0).max(1),
        })
    };
    wanted.iter().map(&mut fetch_of).collect()
}

fn id_of(topic: &TopicKey) -> Option<TopicId> {
    match topic {
        TopicKey::Name(_) => None,
        TopicKey::Id(id) => Some(*id),
    }
}

/// What is there now, and else what comes within the wait, which holds no room meanwhile. There is room before anything
/// is read: where there is none for all that may come, it is a small answer instead of a late one, so that clients which
/// do not take theirs keep nobody else from reading.
async fn read(asked: &Asked, terms: Terms, wanted: &[PartitionWanted]) -> Result<(Vec<Read>, Option<Held>), Closing> {
    let broker = &asked.client.shared.broker;
    let fetches = fetches(asked, wanted);
    let is_known: Vec<bool> = fetches.iter().map(Option::is_some).collect();
    let Terms { bytes_min, bytes_max, wait } = terms;
    let wait = if is_known.contains(&false) { Duration::ZERO } else { wait };
    let partitions = fetches.into_iter().flatten().collect();
    // Nothing is waited for that nobody asks for.
    let wait = if wanted.is_empty() { Duration::ZERO } else { wait };
    let mut open = broker.open_fetch(&CALLER, FetchManyRequest { partitions, bytes_min, bytes_max, wait }).await;
    let mut now = None;
    if wait.is_zero() || open.has_news() {
        let (fetched, held, most) = read_open(asked, &open, bytes_max).await?;
        let is_enough = bytes_of(&fetched) >= bytes_min.min(most) || fetched.iter().any(Result::is_err);
        now = (is_enough || wait.is_zero()).then_some((fetched, held));
    }
    let (fetched, held) = match now {
        Some(read) => read,
        None => {
            broker.wait_fetch(&CALLER, &mut open).await;
            let (fetched, held, _) = read_open(asked, &open, bytes_max).await?;
            (fetched, held)
        }
    };
    let mut fetched = fetched.into_iter();
    Ok((is_known.into_iter().map(|is_known| if is_known { fetched.next() } else { None }).collect(), held))
}

/// Reads what is there, the room that it takes, and how much it could have been. Where no room comes soon, nothing is
/// read: an answer without records asks for no room, and its client asks again. Were it to wait, it would stand behind
/// all those that nobody takes.
async fn read_open(
    asked: &Asked,
    open: &OpenFetch,
    bytes_max: usize,
) -> Result<(Vec<Result<Fetched, FetchError>>, Option<Held>, usize), Closing> {
    let broker = &asked.client.shared.broker;
    if !open.has_news() {
        return Ok((broker.read_fetch(&CALLER, open, bytes_max).await, None, bytes_max));
    }
    let (room, closer) = (broker.answer_room(), &asked.client.closer);
    let small = bytes_max.min(limits::FETCH_SMALL_BYTES);
    let mut held = room.try_hold(bytes_max, closer);
    let mut most = if held.is_some() { bytes_max } else { small };
    held = held.or_else(|| room.try_hold(small, closer));
    loop {
        let fetched = broker.read_fetch(&CALLER, open, most).await;
        let bytes = bytes_of(&fetched);
        if bytes == 0 {
            return Ok((fetched, None, most));
        }
        // One batch comes whole, however large; and what is little may still find room where `small` did not.
        let enough = held.take().filter(|held| held.is_enough_for(bytes));
        if let Some(mut held) = enough.or_else(|| room.try_hold(bytes, closer)) {
            held.shrink(bytes);
            return Ok((fetched, Some(held), most));
        }
        // Whoever waits holds nothing meanwhile, and reads again.
        drop(fetched);
        match room.hold_within(limits::FETCH_ROOM_WAIT, bytes, closer).await {
            Ok(found) => (held, most) = (Some(found), bytes),
            Err(_) => return Ok((open.without_records(), None, 0)),
        }
    }
}

fn bytes_of(fetched: &[Result<Fetched, FetchError>]) -> usize {
    fetched.iter().flatten().flat_map(|fetched| &fetched.batches).map(Bytes::len).sum()
}

/// What an answer has to say of a partition, as sessions see it.
fn seen(said: &PartitionAnswer, batches: &[Bytes]) -> PartitionSeen {
    let PartitionAnswer { code, high_watermark, log_start, .. } = *said;
    PartitionSeen { has_records: !batches.is_empty(), is_refused: code != Code::None, high_watermark, log_start }
}

/// What the answer says of a partition, and its batches. A leader that it names is added to `endpoints`.
fn said(asked: &Asked, index: i32, read: Read, endpoints: &mut Vec<Endpoint>) -> (PartitionAnswer, Vec<Bytes>) {
    let by_id = asked.version >= BY_ID;
    let error = match read {
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
