//! The reasons that brokers give when they refuse something, each under the name that the protocol has for it.

use std::fmt;

use crate::proto::v1;

/// Why a broker refused something. The number is the protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// A reason that this version does not know; the message says it.
    Unspecified = 0,
    /// The request makes no sense.
    InvalidRequest = 1,
    /// There is no such topic.
    UnknownTopic = 2,
    /// The topic has no such partition.
    UnknownPartition = 3,
    /// Another broker leads the partition.
    NotLeader = 4,
    /// The leader cannot reach a majority.
    NotEnoughReplicas = 5,
    /// It was accepted, and is not known to be committed: it may yet appear.
    OutcomeUnknown = 6,
    /// The batch fails its checksum, or is malformed.
    CorruptBatch = 7,
    /// The batch is larger than the topic allows.
    BatchTooLarge = 8,
    /// A batch of this producer before this one is missing.
    OutOfOrderSequence = 9,
    /// A newer producer has the same id.
    FencedProducer = 10,
    /// What the partition knew of this producer is gone.
    UnknownProducer = 11,
    /// A compare-and-append named an offset that is not the next one.
    WrongOffset = 12,
    /// The offset is below the log start, or above the log's end.
    OffsetOutOfRange = 13,
    /// A topic has this name.
    TopicExists = 14,
    /// A config has no such value, or there is no such config.
    InvalidConfig = 15,
    /// A record's timestamp is too far from the broker's clock.
    InvalidTimestamp = 16,
    /// The broker is starting, stopping, or has too much to do.
    Unavailable = 17,
    /// No leader of the metadata group is known.
    NoMetadataLeader = 18,
    /// The broker's disk is nearly full.
    DiskFull = 19,
    /// The compressed records are invalid, or too large.
    DecompressionFailed = 20,
    /// The broker has a fault.
    Internal = 21,
    /// There is no such group.
    UnknownGroup = 22,
    /// The group does not know this member (any more).
    UnknownMember = 23,
    /// The member does not hold this partition, or held it before something changed.
    FencedMember = 24,
    /// Another member has taken this instance id over.
    FencedInstance = 25,
    /// The group has members.
    GroupNotEmpty = 26,
    /// The group is used with another protocol.
    GroupProtocolMismatch = 27,
    /// A limit of the cluster is reached; the message names it.
    LimitReached = 28,
    /// The topic was deleted, and another one has its name.
    TopicReplaced = 29,
}

impl ErrorCode {
    pub(super) fn of(code: v1::ErrorCode) -> ErrorCode {
        match code {
            v1::ErrorCode::Unspecified => ErrorCode::Unspecified,
            v1::ErrorCode::InvalidRequest => ErrorCode::InvalidRequest,
            v1::ErrorCode::UnknownTopic => ErrorCode::UnknownTopic,
            v1::ErrorCode::UnknownPartition => ErrorCode::UnknownPartition,
            v1::ErrorCode::NotLeader => ErrorCode::NotLeader,
            v1::ErrorCode::NotEnoughReplicas => ErrorCode::NotEnoughReplicas,
            v1::ErrorCode::OutcomeUnknown => ErrorCode::OutcomeUnknown,
            v1::ErrorCode::CorruptBatch => ErrorCode::CorruptBatch,
            v1::ErrorCode::BatchTooLarge => ErrorCode::BatchTooLarge,
            v1::ErrorCode::OutOfOrderSequence => ErrorCode::OutOfOrderSequence,
            v1::ErrorCode::FencedProducer => ErrorCode::FencedProducer,
            v1::ErrorCode::UnknownProducer => ErrorCode::UnknownProducer,
            v1::ErrorCode::WrongOffset => ErrorCode::WrongOffset,
            v1::ErrorCode::OffsetOutOfRange => ErrorCode::OffsetOutOfRange,
            v1::ErrorCode::TopicExists => ErrorCode::TopicExists,
            v1::ErrorCode::InvalidConfig => ErrorCode::InvalidConfig,
            v1::ErrorCode::InvalidTimestamp => ErrorCode::InvalidTimestamp,
            v1::ErrorCode::Unavailable => ErrorCode::Unavailable,
            v1::ErrorCode::NoMetadataLeader => ErrorCode::NoMetadataLeader,
            v1::ErrorCode::DiskFull => ErrorCode::DiskFull,
            v1::ErrorCode::DecompressionFailed => ErrorCode::DecompressionFailed,
            v1::ErrorCode::Internal => ErrorCode::Internal,
            v1::ErrorCode::UnknownGroup => ErrorCode::UnknownGroup,
            v1::ErrorCode::UnknownMember => ErrorCode::UnknownMember,
            v1::ErrorCode::FencedMember => ErrorCode::FencedMember,
            v1::ErrorCode::FencedInstance => ErrorCode::FencedInstance,
            v1::ErrorCode::GroupNotEmpty => ErrorCode::GroupNotEmpty,
            v1::ErrorCode::GroupProtocolMismatch => ErrorCode::GroupProtocolMismatch,
            v1::ErrorCode::LimitReached => ErrorCode::LimitReached,
            v1::ErrorCode::TopicReplaced => ErrorCode::TopicReplaced,
        }
    }
}

/// Writes the name that the protocol has for it: `NOT_LEADER`, for example.
impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wire = v1::ErrorCode::try_from(*self as i32).expect("the numbers are the protocol's: a test compares them");
        f.pad(wire.as_str_name())
    }
}

/// The number that fakes answer with.
#[cfg(test)]
impl From<ErrorCode> for i32 {
    fn from(code: ErrorCode) -> i32 {
        code as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_protocols() {
        let known: Vec<v1::ErrorCode> = (0..1_000).filter_map(|n| v1::ErrorCode::try_from(n).ok()).collect();
        assert!(known.len() >= 30);
        for code in known {
            assert_eq!(ErrorCode::of(code) as i32, code as i32, "{code:?}");
            assert_eq!(ErrorCode::of(code).to_string(), code.as_str_name());
        }
    }
}
