//! What clients send, checked value by value before the broker hears of it.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;

use super::{RequestError, limits};
use crate::{
    broker::{Acks, OffsetAt, ProduceRequest},
    proto::v1,
    record::{BatchBuilder, Codec, Record},
    types::{Offset, PartitionId, TopicId, WallMs},
};

pub(super) fn topic_name(name: &str) -> Result<(), RequestError> {
    let length = name.len();
    if length == 0 {
        return Err(RequestError::invalid("the topic name is empty"));
    }
    if length > limits::TOPIC_NAME_BYTES_MAX {
        let detail = format!("a topic name of {length} bytes; at most {} are allowed", limits::TOPIC_NAME_BYTES_MAX);
        return Err(RequestError::Invalid { detail });
    }
    Ok(())
}

/// Reads a topic's id as `TopicDescription.id` has it; an empty one means whichever topic has the name.
pub(super) fn topic_id(id: &str) -> Result<Option<TopicId>, RequestError> {
    if id.is_empty() {
        return Ok(None);
    }
    let is_hex = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    match u128::from_str_radix(id, 16) {
        Ok(number) if is_hex => Ok(Some(TopicId(number))),
        Ok(_) | Err(_) => Err(RequestError::invalid(format!("topic_id is {id:.40?}; it is 32 hexadecimal digits"))),
    }
}

pub(super) fn partition(partition: i32) -> Result<PartitionId, RequestError> {
    if partition < 0 {
        return Err(RequestError::invalid(format!("partition is {partition}; partitions count from 0")));
    }
    Ok(PartitionId(partition))
}

pub(super) fn offset(field: &str, offset: i64) -> Result<Offset, RequestError> {
    if offset < 0 {
        return Err(RequestError::invalid(format!("{field} is {offset}; offsets count from 0")));
    }
    Ok(Offset(offset))
}

/// Reads a record's time. Kafka's clients say -1 and -2 for "latest" and "earliest": here these are fields of their
/// own, and a time before 1970 is no record's.
pub(super) fn timestamp(timestamp_ms: i64) -> Result<WallMs, RequestError> {
    if timestamp_ms < 0 {
        return Err(RequestError::invalid(format!("timestamp_ms is {timestamp_ms}; milliseconds count from 1970")));
    }
    Ok(WallMs(timestamp_ms))
}

/// Reads the epoch of an assignment.
pub(super) fn epoch(epoch: i32) -> Result<i32, RequestError> {
    if epoch < 0 {
        return Err(RequestError::invalid(format!("epoch is {epoch}; epochs count from 0")));
    }
    Ok(epoch)
}

/// Reads a number of which 0 means `default`, and more than `max` is not to be had.
fn or_default(field: &str, asked: u32, default: u64, max: u64) -> Result<u64, RequestError> {
    match u64::from(asked) {
        0 => Ok(default),
        asked if asked > max => Err(RequestError::invalid(format!("{field} is {asked}; at most {max} is allowed"))),
        asked => Ok(asked),
    }
}

/// Reads a timeout. Zero stays zero: the broker knows each call's default.
pub(super) fn timeout(timeout_ms: u32) -> Result<Duration, RequestError> {
    if timeout_ms > limits::TIMEOUT_MS_MAX {
        let detail = format!("timeout_ms is {timeout_ms}; at most {} is allowed", limits::TIMEOUT_MS_MAX);
        return Err(RequestError::Invalid { detail });
    }
    Ok(Duration::from_millis(timeout_ms.into()))
}

/// Reads how long a call may take, where absent means the call's default, which the broker knows as zero.
pub(super) fn call_timeout(timeout_ms: Option<u32>) -> Result<Duration, RequestError> {
    match timeout_ms {
        None => Ok(Duration::ZERO),
        Some(0) => Err(RequestError::invalid("timeout_ms is 0; leave it out for the default")),
        Some(timeout_ms) => timeout(timeout_ms),
    }
}

/// Reads a count of which absent means "the default".
pub(super) fn count(field: &str, count: Option<i32>) -> Result<Option<u32>, RequestError> {
    let Some(count) = count else { return Ok(None) };
    match u32::try_from(count) {
        Ok(0) => Err(RequestError::invalid(format!("{field} is 0; it is at least 1"))),
        Ok(count) => Ok(Some(count)),
        Err(_) => Err(RequestError::invalid(format!("{field} is {count}; it is at least 1"))),
    }
}

pub(super) fn configs(
    configs: impl IntoIterator<Item = (String, String)>,
) -> Result<BTreeMap<String, String>, RequestError> {
    let configs: BTreeMap<String, String> = configs.into_iter().collect();
    config_names(configs.len())?;
    Ok(configs)
}

pub(super) fn config_names(count: usize) -> Result<(), RequestError> {
    if count > limits::CONFIGS_MAX {
        let detail = format!("{count} configs in one request; at most {} are allowed", limits::CONFIGS_MAX);
        return Err(RequestError::Invalid { detail });
    }
    Ok(())
}

pub(super) fn offset_at(at: Option<v1::list_offset_request::At>) -> Result<OffsetAt, RequestError> {
    use v1::list_offset_request::At;
    match at {
        Some(At::Earliest(true)) => Ok(OffsetAt::Earliest),
        Some(At::Latest(true)) => Ok(OffsetAt::Latest),
        Some(At::TimestampMs(timestamp_ms)) => Ok(OffsetAt::Time(timestamp(timestamp_ms)?)),
        Some(At::Earliest(false) | At::Latest(false)) => {
            Err(RequestError::invalid("earliest or latest is false; leave out what is not asked for"))
        }
        None => Err(RequestError::invalid("none of earliest, latest and timestamp_ms is set")),
    }
}

pub(super) fn acks(acks: i32) -> Result<Acks, RequestError> {
    match v1::Acks::try_from(acks) {
        Ok(v1::Acks::All) => Ok(Acks::All),
        Ok(v1::Acks::Leader) => Ok(Acks::Leader),
        Ok(v1::Acks::None) => Ok(Acks::None),
        Err(_) => Err(RequestError::invalid(format!("acks is {acks}; it is 0 (all), 1 (leader) or 2 (none)"))),
    }
}

/// A Produce request whose batch may have to be built yet.
pub(super) struct Produce {
    /// Its batch is empty until [`Payload::into_batch`] made it.
    pub request: ProduceRequest,
    pub payload: Payload,
}

/// What a Produce request carries.
pub(super) enum Payload {
    Batch(Bytes),
    /// Plain records were sent; with them stands how they shall be compressed, and the time of those that carry none.
    Records(Vec<v1::Record>, Codec, WallMs),
}

/// Reads a Produce request. `now` stamps plain records that carry no timestamp.
pub(super) fn produce(request: v1::ProduceRequest, acks: Acks, now: WallMs) -> Result<Produce, RequestError> {
    topic_name(&request.topic)?;
    let timeout = match request.timeout_ms {
        0 => limits::TIMEOUT_DEFAULT,
        timeout_ms => timeout(timeout_ms)?,
    };
    let payload = match request.payload {
        Some(v1::produce_request::Payload::Batch(batch)) => Payload::Batch(batch),
        Some(v1::produce_request::Payload::Records(records)) => {
            let stamps = records.records.iter().filter_map(|record| record.timestamp_ms);
            stamps.into_iter().try_for_each(|stamp| timestamp(stamp).map(drop))?;
            Payload::Records(records.records, codec(records.compression)?, now)
        }
        None => return Err(RequestError::invalid("neither batch nor records is set")),
    };
    let request = ProduceRequest {
        topic: request.topic,
        topic_id: None,
        partition: partition(request.partition)?,
        acks,
        timeout,
        batch: Bytes::new(),
        expected_offset: request.expected_offset.map(|at| offset("expected_offset", at)).transpose()?,
    };
    Ok(Produce { request, payload })
}

impl Payload {
    /// Whether making a batch of it takes longer than a stream's thread may be kept.
    pub fn is_long_work(&self) -> bool {
        match self {
            Payload::Batch(_) => false,
            Payload::Records(records, _, _) => {
                let part = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
                let headers = |record: &v1::Record| {
                    record.headers.iter().map(|header| header.key.len() + part(&header.value)).sum::<usize>()
                };
                let sizes = records
                    .iter()
                    .map(|record| part(&record.key) + part(&record.value) + headers(record) + size_of::<v1::Record>());
                sizes.sum::<usize>() > limits::COMPUTED_INLINE_BYTES
            }
        }
    }

    pub fn into_batch(self) -> Result<Bytes, RequestError> {
        match self {
            Payload::Batch(batch) => Ok(batch),
            Payload::Records(records, codec, now) => build(records, codec, now),
        }
    }
}

fn build(records: Vec<v1::Record>, codec: Codec, now: WallMs) -> Result<Bytes, RequestError> {
    let mut builder = BatchBuilder::new(codec);
    for record in records {
        let record = Record {
            key: record.key,
            value: record.value,
            headers: record.headers.into_iter().map(|header| (header.key, header.value)).collect(),
            timestamp: record.timestamp_ms.map_or(now, WallMs),
        };
        builder.push(&record).map_err(RequestError::Records)?;
    }
    builder.build().map_err(RequestError::Records)
}

fn codec(compression: i32) -> Result<Codec, RequestError> {
    match v1::Compression::try_from(compression) {
        Ok(v1::Compression::None) => Ok(Codec::None),
        Ok(v1::Compression::Gzip) => Ok(Codec::Gzip),
        Ok(v1::Compression::Snappy) => Ok(Codec::Snappy),
        Ok(v1::Compression::Lz4) => Ok(Codec::Lz4),
        Ok(v1::Compression::Zstd) => Ok(Codec::Zstd),
        Err(_) => Err(RequestError::invalid(format!("compression is {compression}; it is 0 to 4"))),
    }
}

/// A Consume call that was checked.
#[derive(Clone, Debug)]
pub(super) struct Consume {
    pub topic: String,
    /// The topic that is meant; `None` says that it is whichever has the name at each moment.
    pub topic_id: Option<TopicId>,
    pub partition: PartitionId,
    pub start: Start,
    pub end_offset: Option<Offset>,
    /// How many records are wanted; `None` says that there is no limit.
    pub records_max: Option<u64>,
    pub stop_at_end: bool,
    pub raw: bool,
    pub wait: Duration,
    pub bytes_max: usize,
}

/// Where a Consume begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    Offset(Offset),
    Find(OffsetAt),
}

pub(super) fn consume(request: v1::ConsumeRequest) -> Result<Consume, RequestError> {
    use v1::consume_request::Start as Asked;
    topic_name(&request.topic)?;
    let start = match request.start {
        Some(Asked::Offset(at)) => Start::Offset(offset("offset", at)?),
        Some(Asked::Earliest(true)) => Start::Find(OffsetAt::Earliest),
        Some(Asked::Latest(true)) => Start::Find(OffsetAt::Latest),
        Some(Asked::TimestampMs(timestamp_ms)) => Start::Find(OffsetAt::Time(timestamp(timestamp_ms)?)),
        Some(Asked::Earliest(false) | Asked::Latest(false)) => {
            return Err(RequestError::invalid("earliest or latest is false; leave out what is not asked for"));
        }
        None => return Err(RequestError::invalid("none of offset, earliest, latest and timestamp_ms is set")),
    };
    let wait_max = limits::CONSUME_WAIT_MAX.as_millis() as u64;
    let wait_ms =
        or_default("wait_ms_max", request.wait_ms_max, limits::CONSUME_WAIT_DEFAULT.as_millis() as u64, wait_max)?;
    let bytes_max = or_default(
        "bytes_max",
        request.bytes_max,
        limits::CONSUME_BYTES_DEFAULT as u64,
        limits::CONSUME_BYTES_MAX as u64,
    )?;
    Ok(Consume {
        topic_id: topic_id(&request.topic_id)?,
        topic: request.topic,
        partition: partition(request.partition)?,
        start,
        end_offset: request.end_offset.map(|at| offset("end_offset", at)).transpose()?,
        records_max: (request.records_max > 0).then_some(request.records_max),
        stop_at_end: request.stop_at_end,
        raw: request.raw,
        wait: Duration::from_millis(wait_ms),
        bytes_max: bytes_max as usize,
    })
}
