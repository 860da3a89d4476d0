//! The client's errors as histories have them: Kafka's code where there is one, else a code of the client's own.

use flotilla::client::{ClientError, Effect, ErrorCode};
use logcheck::rules::errors::{CLIENT_ERRORS, NOT_SENT};

/// The broker refused it, and says that it had no effect.
pub const REFUSED: i16 = CLIENT_ERRORS + 1;
/// Kafka's KAFKA_STORAGE_ERROR: the broker refuses what would fill its disk, before it appends.
pub const DISK_FULL: i16 = 56;
const CONNECTION: i16 = CLIENT_ERRORS + 2;
const DEADLINE: i16 = CLIENT_ERRORS + 3;
/// The broker is starting, stopping, or cannot reach others.
const UNAVAILABLE: i16 = CLIENT_ERRORS + 4;
const OTHER: i16 = CLIENT_ERRORS + 5;
/// Whatever librdkafka says by itself: that it waited in vain, that it has no connection.
pub const KAFKA_CLIENT: i16 = CLIENT_ERRORS + 6;
/// Kafka's: the server has a fault. Nothing explains it.
const UNKNOWN_SERVER_ERROR: i16 = -1;

/// The code of what went wrong, whatever effect it had.
pub fn code(error: &ClientError) -> i16 {
    if let Some(code) = error.code() {
        return of_broker(code);
    }
    match error {
        ClientError::Deadline { .. } => DEADLINE,
        ClientError::Connect { .. } | ClientError::Lost { .. } | ClientError::NoBroker { .. } => CONNECTION,
        ClientError::NoTopic { .. } | ClientError::NoPartition { .. } => 3,
        ClientError::BadBatch { .. } => 2,
        ClientError::BadAnswer { .. } => UNKNOWN_SERVER_ERROR,
        ClientError::NotAMember | ClientError::NotAssigned { .. } => 25,
        _ => OTHER,
    }
}

/// The code of a send that surely had no effect.
pub fn sure_failure(error: &ClientError) -> i16 {
    debug_assert_eq!(error.effect(), Effect::Nothing);
    match error.code() {
        Some(ErrorCode::NotLeader) => 6,
        Some(ErrorCode::NotEnoughReplicas) => 19,
        // What no fault explains is told by its name.
        Some(code) if of_broker(code) < CLIENT_ERRORS => of_broker(code),
        Some(_) => REFUSED,
        None => NOT_SENT,
    }
}

fn of_broker(code: ErrorCode) -> i16 {
    match code {
        ErrorCode::InvalidRequest => 42,
        ErrorCode::UnknownTopic | ErrorCode::UnknownPartition => 3,
        ErrorCode::NotLeader => 6,
        ErrorCode::NotEnoughReplicas => 19,
        ErrorCode::OutcomeUnknown => 20,
        ErrorCode::CorruptBatch => 2,
        ErrorCode::BatchTooLarge => 10,
        ErrorCode::OutOfOrderSequence => 45,
        ErrorCode::FencedProducer => 47,
        ErrorCode::UnknownProducer => 59,
        ErrorCode::OffsetOutOfRange => 1,
        ErrorCode::TopicExists => 36,
        ErrorCode::InvalidConfig => 40,
        ErrorCode::InvalidTimestamp => 32,
        ErrorCode::DiskFull => DISK_FULL,
        ErrorCode::UnknownGroup => 69,
        ErrorCode::UnknownMember => 25,
        ErrorCode::FencedMember => 110,
        ErrorCode::FencedInstance => 82,
        ErrorCode::GroupNotEmpty => 68,
        ErrorCode::LimitReached => 44,
        ErrorCode::TopicReplaced => 100,
        ErrorCode::Unavailable | ErrorCode::NoMetadataLeader => UNAVAILABLE,
        ErrorCode::DecompressionFailed
        | ErrorCode::WrongOffset
        | ErrorCode::GroupProtocolMismatch
        | ErrorCode::Internal
        | ErrorCode::Unspecified => UNKNOWN_SERVER_ERROR,
        // Codes of later versions.
        _ => UNKNOWN_SERVER_ERROR,
    }
}
