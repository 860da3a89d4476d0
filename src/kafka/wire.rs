//! Kafka's messages as bytes: the only file that names the codec. Everything that a stranger may have written is
//! decoded here, within limits.

use bytes::{Bytes, BytesMut};
use kafka_wire_core::{ApiVersion, DecodeError, DecodeLimits, Decoder, EncodeError, KafkaDecode, KafkaEncode};

pub(super) use kafka_wire::*;
pub(super) use kafka_wire_core::{StrBytes, Uuid};

use super::limits;
use crate::types::{PartitionId, TOPIC_NAME_BYTES_MAX, TopicId};

/// A message of the codec with some of its fields set: its structs cannot be written out, since later ones have more.
macro_rules! message {
    ($type:ty { $($field:ident: $value:expr),* $(,)? }) => {{
        #[allow(unused_mut, reason = "one without fields is left as it is")]
        let mut message = <$type>::default();
        $(message.$field = $value;)*
        message
    }};
}
pub(super) use message;

/// Before each message: its length.
pub(super) const LENGTH_BYTES: usize = 4;

/// Holds for every request, whatever its length.
fn limits_of(bytes: usize) -> DecodeLimits {
    let mut limits = DecodeLimits::default();
    limits.max_frame_bytes = bytes;
    limits.max_string_bytes = bytes;
    limits.max_bytes_bytes = bytes;
    // Each element takes a byte at least.
    limits.max_array_elements = limits::ELEMENTS_MAX.min(bytes);
    limits.max_tagged_fields = 64;
    limits.max_tag_bytes = limits::REQUEST_BYTES_MAX.min(bytes);
    limits.max_total_tag_bytes = limits::REQUEST_BYTES_MAX.min(bytes);
    limits
}

/// A request's header, and what follows it.
pub(super) fn decode_header<R: KafkaRequest>(
    frame: Bytes,
    version: i16,
) -> Result<(RequestHeader, Decoder), DecodeError> {
    let limits = limits_of(frame.len());
    let mut decoder = Decoder::new(frame, limits)?;
    let version = ApiVersion::new(version);
    let header = RequestHeader::decode(&mut decoder, ApiVersion::new(request_header_version(R::is_flexible(version))))?;
    Ok((header, decoder))
}

/// The body of a request, all of what follows its header.
pub(super) fn decode_body<R: KafkaRequest>(mut decoder: Decoder, version: i16) -> Result<R, DecodeError> {
    let request = R::decode(&mut decoder, ApiVersion::new(version))?;
    decoder.finish()?;
    Ok(request)
}

/// A whole answer: length, header, body.
pub(super) fn encode<M: KafkaResponse>(correlation: i32, version: i16, response: &M) -> Result<Bytes, EncodeError> {
    let mut bytes = BytesMut::new();
    begin_answer::<M>(&mut bytes, correlation, version)?;
    response.encode_into(&mut bytes, ApiVersion::new(version))?;
    let length = bytes.len() - LENGTH_BYTES;
    set_length(&mut bytes, length)?;
    Ok(bytes.freeze())
}

/// Room for the length, and the header of an answer.
pub(super) fn begin_answer<M: KafkaResponse>(
    bytes: &mut BytesMut,
    correlation: i32,
    version: i16,
) -> Result<(), EncodeError> {
    let version = ApiVersion::new(version);
    let header_version = response_header_version(M::API_KEY, version, M::is_flexible(version));
    bytes.extend_from_slice(&[0; LENGTH_BYTES]);
    message!(ResponseHeader { correlation_id: correlation }).encode_into(bytes, ApiVersion::new(header_version))?;
    Ok(())
}

/// Writes how long a message is that was begun with [`begin_answer`].
pub(super) fn set_length(bytes: &mut BytesMut, length: usize) -> Result<(), EncodeError> {
    let prefix = i32::try_from(length).map_err(|_| EncodeError::FrameTooLarge { bytes: length })?;
    bytes[..LENGTH_BYTES].copy_from_slice(&prefix.to_be_bytes());
    Ok(())
}

/// A topic's name as somebody wrote it. Of one that is too long to be any topic's only the beginning is kept, which is
/// none either: a request may name it a hundred thousand times.
pub(super) fn topic_name(name: &str) -> String {
    name[..name.floor_char_boundary(TOPIC_NAME_BYTES_MAX + 1)].to_string()
}

/// A topic's id as Kafka writes it.
pub(super) fn uuid(id: TopicId) -> Uuid {
    Uuid::from_bytes(id.0.to_be_bytes())
}

/// None: all zeros, which stands for no id.
pub(super) fn topic_id(uuid: Uuid) -> Option<TopicId> {
    (!uuid.is_zero()).then(|| TopicId(u128::from_be_bytes(uuid.to_bytes())))
}

/// What a consumer says that it reads, in the bytes of the consumers' protocol.
pub(super) fn consumer_subscription(topics: &[String]) -> Bytes {
    let topics = topics.iter().map(|topic| topic.as_str().into()).collect();
    let subscription = message!(ConsumerProtocolSubscription { topics: topics });
    of_consumers(|bytes, version| encode_consumer_protocol_subscription(bytes, &subscription, version))
}

/// The partitions of a consumer, in the same bytes.
pub(super) fn consumer_assignment<'a>(assigned: impl Iterator<Item = (&'a str, &'a [PartitionId])>) -> Bytes {
    let assigned = assigned.map(|(topic, numbers)| {
        let partitions = numbers.iter().map(|number| number.0).collect();
        message!(consumer_protocol_assignment::TopicPartition { topic: topic.into(), partitions: partitions })
    });
    let assignment = message!(ConsumerProtocolAssignment { assigned_partitions: assigned.collect() });
    of_consumers(|bytes, version| encode_consumer_protocol_assignment(bytes, &assignment, version))
}

/// Empty if it cannot be written, as what is not known.
fn of_consumers(encode: impl Fn(&mut BytesMut, ApiVersion) -> Result<usize, EncodeError>) -> Bytes {
    let mut bytes = BytesMut::new();
    // What it writes before it fails it takes back.
    let _ = encode(&mut bytes, ApiVersion::new(0));
    bytes.freeze()
}
