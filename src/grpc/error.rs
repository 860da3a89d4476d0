//! The one table from what went wrong to what the wire says.
//!
//! Every error of the broker and of these services becomes a [`v1::Error`]; a call that ends with it
//! carries it whole in the trailer [`ERROR_TRAILER`]. The broker names leaders by their ids; where this face reaches
//! them is looked up here. No arm is a wildcard: a new error does not
//! compile until it has its place here.

use std::time::Duration;

use prost::Message;
use tonic::{Code, Status, metadata::MetadataValue};

use super::limits::MESSAGE_BYTES_MAX;
use crate::{
    broker::{AdminError, Effect, FetchError, LeaderNow, ProduceError, groups::GroupError, held::Crowded},
    group::{GroupRefusal, OffsetRefusal},
    metadata::Refusal,
    proto::v1::{self, ErrorCode},
    raft::TransferError,
    record::{BatchError, DecodeError, EncodeError},
    types::{BrokerId, Offset, PartitionId},
};

/// The trailer that holds the encoded [`v1::Error`].
pub const ERROR_TRAILER: &str = "flotilla-error-bin";

/// What these services themselves refuse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("invalid request: {detail}")]
    Invalid { detail: String },
    /// The message is beyond the limit or not decodable; `detail` holds gRPC's own words for it.
    #[error("the stream ends here: {detail}")]
    TooLarge { detail: String },
    #[error("the stream ends here, the last message could not be read: {detail}")]
    Unreadable { detail: String },
    /// No batch can be made of the records.
    #[error("{}", encode_text(.0))]
    Records(EncodeError),
    #[error("the batch at offset {offset} cannot be decoded: {error}; read it raw, or from {next} on")]
    Decompression { offset: Offset, next: Offset, error: DecodeError },
    #[error("the stored batch at offset {offset} is malformed: {error}")]
    StoredBatch { offset: Offset, error: BatchError },
    #[error("this broker serves {streams_max} {what} streams already; use another broker or retry later")]
    TooManyStreams { what: &'static str, streams_max: usize },
    #[error(transparent)]
    Crowded(#[from] Crowded),
    #[error("this broker works on {calls_max} calls already; nothing was done, use another broker or retry later")]
    TooManyCalls { calls_max: usize },
    #[error("the request did not arrive whole within {} s; nothing was done", .within.as_secs())]
    ReceivedLate { within: Duration },
    #[error("this broker is stopping; use another one")]
    Stopping,
}

impl RequestError {
    pub fn invalid(detail: impl Into<String>) -> RequestError {
        RequestError::Invalid { detail: detail.into() }
    }
}

/// What a call ended with, before it is told in the wire's words.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum CallFailure {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Produce(#[from] ProduceError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Group(#[from] GroupError),
}

impl CallFailure {
    /// Tells the failure in the wire's words. `address_of` says where this face reaches a broker; it is empty if its
    /// registration has not come here yet.
    pub fn wire(self, address_of: impl Fn(BrokerId) -> String) -> v1::Error {
        let hint = |leader: &LeaderNow| v1::LeaderHint {
            broker: leader.broker.0,
            address: clip(address_of(leader.broker)),
            epoch: leader.epoch.0,
        };
        match self {
            CallFailure::Request(error) => error.into(),
            CallFailure::Produce(error) => {
                let leader = error.leader().map(hint);
                produce_failed(error, leader)
            }
            CallFailure::Fetch(error) => {
                let leader = error.leader().map(hint);
                fetch_failed(error, leader)
            }
            CallFailure::Admin(error) => {
                let leader = error.leader().map(hint);
                v1::Error { leader, ..admin_failed(error) }
            }
            CallFailure::Group(error) => error.into(),
        }
    }
}

impl From<RequestError> for v1::Error {
    fn from(error: RequestError) -> v1::Error {
        let (code, retriable) = match &error {
            RequestError::Invalid { .. }
            | RequestError::Unreadable { .. }
            | RequestError::Records(EncodeError::Empty) => (ErrorCode::InvalidRequest, false),
            RequestError::TooLarge { .. } | RequestError::Records(EncodeError::TooLarge { .. }) => {
                (ErrorCode::BatchTooLarge, false)
            }
            RequestError::Decompression { .. } => (ErrorCode::DecompressionFailed, false),
            RequestError::StoredBatch { .. } | RequestError::Records(EncodeError::Compress { .. }) => {
                (ErrorCode::Internal, false)
            }
            RequestError::TooManyStreams { .. }
            | RequestError::TooManyCalls { .. }
            | RequestError::Crowded(_)
            | RequestError::ReceivedLate { .. }
            | RequestError::Stopping => (ErrorCode::Unavailable, true),
        };
        // Refused before the broker heard of it, or a read: nothing was appended.
        wire(code, &error, Effect::None, retriable)
    }
}

fn produce_failed(error: ProduceError, leader: Option<v1::LeaderHint>) -> v1::Error {
    use ProduceError as E;
    let code = match &error {
        E::UnknownTopic { .. } => ErrorCode::UnknownTopic,
        E::UnknownPartition { .. } => ErrorCode::UnknownPartition,
        E::NotLeader { .. } => ErrorCode::NotLeader,
        E::NotEnoughReplicas { .. } => ErrorCode::NotEnoughReplicas,
        E::OutcomeUnknown { .. } => ErrorCode::OutcomeUnknown,
        E::InvalidBatch(error) => batch_code(error),
        E::BatchTooLarge { .. } => ErrorCode::BatchTooLarge,
        E::InvalidTimestamp { .. } | E::TimestampTooOld { .. } => ErrorCode::InvalidTimestamp,
        E::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequence,
        E::FencedProducer { .. } => ErrorCode::FencedProducer,
        E::UnknownProducer { .. } => ErrorCode::UnknownProducer,
        E::WrongOffset { .. } => ErrorCode::WrongOffset,
        E::Unavailable { .. } | E::TimedOut { .. } => ErrorCode::Unavailable,
        E::DiskFull { .. } => ErrorCode::DiskFull,
    };
    let mut wire = wire(code, &error, error.effect(), error.is_retriable());
    if let (E::NotLeader { topic, partition, .. }, Some(leader)) = (&error, &leader) {
        wire.message = not_leader_text(topic, *partition, leader);
    }
    wire.leader = leader;
    if let E::WrongOffset { actual, .. } = &error {
        wire.actual_offset = Some(actual.0);
    }
    wire
}

fn fetch_failed(error: FetchError, leader: Option<v1::LeaderHint>) -> v1::Error {
    use FetchError as E;
    let code = match &error {
        E::UnknownTopic { .. } => ErrorCode::UnknownTopic,
        E::UnknownPartition { .. } => ErrorCode::UnknownPartition,
        E::NotLeader { .. } => ErrorCode::NotLeader,
        E::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        E::InvalidRequest { .. } => ErrorCode::InvalidRequest,
        E::Unavailable { .. } => ErrorCode::Unavailable,
        E::TopicReplaced { .. } => ErrorCode::TopicReplaced,
        // Its requests name no epoch. Whoever meets this has to ask who leads.
        E::FencedLeaderEpoch { .. } | E::UnknownLeaderEpoch { .. } => ErrorCode::NotLeader,
    };
    let mut wire = wire(code, &error, Effect::None, error.is_retriable());
    if let (E::NotLeader { topic, partition, .. }, Some(leader)) = (&error, &leader) {
        wire.message = not_leader_text(topic, *partition, leader);
    }
    wire.leader = leader;
    if let E::OffsetOutOfRange { log_start, high_watermark, .. } = &error {
        wire.log_start = Some(log_start.0);
        wire.high_watermark = Some(high_watermark.0);
    }
    wire
}

fn admin_failed(error: AdminError) -> v1::Error {
    use AdminError as E;
    let code = match &error {
        E::InvalidRequest { .. } => ErrorCode::InvalidRequest,
        E::UnknownTopic { .. } => ErrorCode::UnknownTopic,
        E::UnknownPartition { .. } => ErrorCode::UnknownPartition,
        E::TopicExists { .. } => ErrorCode::TopicExists,
        E::Refused(refusal) => refusal_code(refusal),
        E::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        E::NotLeader { .. } => ErrorCode::NotLeader,
        E::NoMetadataLeader { .. } => ErrorCode::NoMetadataLeader,
        E::NotEnoughReplicas => ErrorCode::NotEnoughReplicas,
        E::OutcomeUnknown { .. } | E::RefusedAfterUnknown { .. } => ErrorCode::OutcomeUnknown,
        E::Unavailable { .. } | E::TransferFailed { .. } | E::DiskFull { .. } => ErrorCode::Unavailable,
        E::TransferRefused(error) => transfer_code(error),
        E::Internal { .. } => ErrorCode::Internal,
    };
    let mut wire = wire(code, &error, error.effect(), error.is_retriable());
    if let E::OffsetOutOfRange { log_start, high_watermark, .. } = &error {
        wire.log_start = Some(log_start.0);
        wire.high_watermark = Some(high_watermark.0);
    }
    wire
}

impl From<GroupError> for v1::Error {
    fn from(error: GroupError) -> v1::Error {
        use GroupError as E;
        let code = match &error {
            E::InvalidRequest { .. } | E::InvalidSessionTimeout { .. } | E::InvalidGroupName { .. } => {
                ErrorCode::InvalidRequest
            }
            E::UnknownGroup { .. } => ErrorCode::UnknownGroup,
            // The classic protocol's, which is not spoken here: whatever the member thought it was, it is not.
            E::UnknownMember { .. } | E::MemberIdRequired { .. } => ErrorCode::UnknownMember,
            E::Refused { refusal, .. } => group_code(refusal),
            E::OffsetRefused { refusal, .. } => offset_code(refusal),
            E::FencedInstance { .. } => ErrorCode::FencedInstance,
            // The classic protocol's as well: it passes.
            E::Rebalancing { .. } | E::Crowded { .. } => ErrorCode::Unavailable,
            E::NotEmpty { .. } => ErrorCode::GroupNotEmpty,
            E::ProtocolMismatch { .. } => ErrorCode::GroupProtocolMismatch,
            E::UnknownTopic { .. } => ErrorCode::UnknownTopic,
            E::UnknownPartition { .. } => ErrorCode::UnknownPartition,
            E::LimitReached { .. } | E::GroupFull { .. } => ErrorCode::LimitReached,
            E::TopicReplaced { .. } => ErrorCode::TopicReplaced,
            E::NoCoordinator { .. } => ErrorCode::NoMetadataLeader,
            E::OutcomeUnknown { .. } => ErrorCode::OutcomeUnknown,
        };
        wire(code, &error, error.effect(), error.is_retriable())
    }
}

fn batch_code(error: &BatchError) -> ErrorCode {
    use BatchError as E;
    match error {
        E::Short { .. } | E::LengthTooSmall { .. } | E::LengthMismatch { .. } | E::Crc { .. } => {
            ErrorCode::CorruptBatch
        }
        E::TooLarge { .. } => ErrorCode::BatchTooLarge,
        E::Magic { .. }
        | E::NoRecords { .. }
        | E::CountMismatch { .. }
        | E::TooManyRecords { .. }
        | E::Control { .. }
        | E::Transactional { .. }
        | E::LogAppendTime { .. }
        | E::Codec { .. }
        | E::Producer { .. } => ErrorCode::InvalidRequest,
    }
}

fn refusal_code(refusal: &Refusal) -> ErrorCode {
    use Refusal as R;
    match refusal {
        R::TopicExists { .. } => ErrorCode::TopicExists,
        R::UnknownTopic { .. } => ErrorCode::UnknownTopic,
        R::InvalidConfig { .. } => ErrorCode::InvalidConfig,
        R::NotFounded | R::UnknownBroker { .. } | R::Malformed { .. } | R::IdsExhausted => ErrorCode::Unavailable,
        R::AlreadyFounded { .. }
        | R::InvalidFounders { .. }
        | R::StorageIdMismatch { .. }
        | R::InvalidBroker { .. }
        | R::StorageIdTaken { .. }
        | R::TooManyBrokers { .. }
        | R::InvalidName { .. }
        | R::InvalidPartitions { .. }
        | R::InvalidReplicationFactor { .. }
        | R::TooFewBrokers { .. }
        | R::TooManyPartitions { .. }
        | R::TooManyTopics { .. }
        | R::PartitionsNotMore { .. }
        | R::BrokersBehind { .. }
        | R::LevelLowered { .. }
        | R::AboveLevel { .. }
        | R::Group(_) => ErrorCode::InvalidRequest,
    }
}

fn transfer_code(error: &TransferError) -> ErrorCode {
    match error {
        TransferError::NoSuchVoter(_) => ErrorCode::InvalidRequest,
        TransferError::NotLeader | TransferError::NoCandidate => ErrorCode::Unavailable,
        TransferError::TimedOut(_) => ErrorCode::OutcomeUnknown,
    }
}

fn group_code(refusal: &GroupRefusal) -> ErrorCode {
    use GroupRefusal as R;
    match refusal {
        R::InvalidRequest { .. } => ErrorCode::InvalidRequest,
        R::UnknownGroup => ErrorCode::UnknownGroup,
        R::UnknownMember => ErrorCode::UnknownMember,
        R::WrongEpoch { .. } | R::OldCommit { .. } => ErrorCode::FencedMember,
        R::FencedInstance { .. } => ErrorCode::FencedInstance,
        R::Rebalancing | R::Void { .. } => ErrorCode::Unavailable,
        R::NotEmpty { .. } => ErrorCode::GroupNotEmpty,
        R::ProtocolMismatch { .. } => ErrorCode::GroupProtocolMismatch,
        R::LimitReached { .. } => ErrorCode::LimitReached,
    }
}

fn offset_code(refusal: &OffsetRefusal) -> ErrorCode {
    use OffsetRefusal as R;
    match refusal {
        R::UnknownTopic => ErrorCode::UnknownTopic,
        R::UnknownPartition => ErrorCode::UnknownPartition,
        R::NotHeld | R::OldEpoch { .. } | R::InUse => ErrorCode::FencedMember,
        R::NegativeOffset | R::MetadataTooLarge { .. } => ErrorCode::InvalidRequest,
        R::LimitReached { .. } => ErrorCode::LimitReached,
    }
}

fn encode_text(error: &EncodeError) -> String {
    let what = match error {
        EncodeError::Empty => "invalid request",
        EncodeError::TooLarge { .. } => "the records do not fit a batch",
        EncodeError::Compress { .. } => "the records could not be compressed",
    };
    format!("{what}: {error}")
}

/// Says it as the broker does, with the address by which this face reaches the leader.
fn not_leader_text(topic: &str, partition: PartitionId, leader: &v1::LeaderHint) -> String {
    let v1::LeaderHint { broker, address, epoch } = leader;
    clip(format!("this broker does not lead {topic}-{partition}; broker {broker} does ({address}, epoch {epoch})"))
}

fn wire(code: ErrorCode, error: &dyn std::error::Error, effect: Effect, retriable: bool) -> v1::Error {
    let effect = match effect {
        Effect::None => v1::Effect::None,
        Effect::Unknown => v1::Effect::Unknown,
    };
    v1::Error {
        code: code.into(),
        message: clip(error.to_string()),
        effect: effect.into(),
        retriable,
        leader: None,
        actual_offset: None,
        log_start: None,
        high_watermark: None,
    }
}

/// Cuts a message that is too long: messages quote what a client sent, and trailers are small.
fn clip(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        let cut = (0..=MESSAGE_BYTES_MAX).rev().find(|at| message.is_char_boundary(*at));
        message.truncate(cut.expect("0 is a boundary"));
        message.push('…');
    }
    message
}

/// The status that ends a call with this error.
pub fn status(error: impl Into<v1::Error>) -> Status {
    let error = error.into();
    let code = status_code(error.code(), error.effect());
    let mut status = Status::new(code, error.message.clone());
    status.metadata_mut().insert_bin(ERROR_TRAILER, MetadataValue::from_bytes(&error.encode_to_vec()));
    status
}

/// What tools that know only gRPC see. Generic clients retry UNAVAILABLE by themselves, so nothing
/// whose effect is unknown may become it.
fn status_code(code: ErrorCode, effect: v1::Effect) -> Code {
    match code {
        ErrorCode::Unspecified => Code::Unknown,
        ErrorCode::InvalidRequest
        | ErrorCode::CorruptBatch
        | ErrorCode::BatchTooLarge
        | ErrorCode::InvalidConfig
        | ErrorCode::InvalidTimestamp => Code::InvalidArgument,
        ErrorCode::UnknownTopic | ErrorCode::UnknownPartition | ErrorCode::UnknownGroup => Code::NotFound,
        // Not UNAVAILABLE: asking the same broker again does not help.
        ErrorCode::NotLeader
        | ErrorCode::OutOfOrderSequence
        | ErrorCode::FencedProducer
        | ErrorCode::UnknownProducer
        | ErrorCode::DecompressionFailed
        | ErrorCode::UnknownMember
        | ErrorCode::FencedMember
        | ErrorCode::FencedInstance
        | ErrorCode::GroupNotEmpty
        | ErrorCode::GroupProtocolMismatch
        | ErrorCode::TopicReplaced => Code::FailedPrecondition,
        ErrorCode::NotEnoughReplicas | ErrorCode::Unavailable | ErrorCode::NoMetadataLeader => match effect {
            v1::Effect::None => Code::Unavailable,
            v1::Effect::Unknown => Code::Unknown,
        },
        ErrorCode::OutcomeUnknown => Code::DeadlineExceeded,
        ErrorCode::WrongOffset => Code::Aborted,
        ErrorCode::OffsetOutOfRange => Code::OutOfRange,
        ErrorCode::TopicExists => Code::AlreadyExists,
        ErrorCode::DiskFull | ErrorCode::LimitReached => Code::ResourceExhausted,
        ErrorCode::Internal => Code::Internal,
    }
}

#[cfg(test)]
mod tests;
