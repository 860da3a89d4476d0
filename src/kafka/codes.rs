//! From the broker's errors to Kafka's codes: one exhaustive table for each enum.
//!
//! A code decides what a client does next: those that Kafka's clients call retriable are tried again, after asking
//! anew who leads, all others end the operation. So whatever passes by itself (no leader, no majority, no room) has a
//! retriable code, and an unknown outcome has REQUEST_TIMED_OUT, after which an idempotent producer sends the same
//! batch again.

use std::fmt::Display;

use super::{limits, sessions::SessionRefusal, wire::StrBytes};
use crate::{
    broker::{AdminError, Effect, FetchError, ProduceError, groups::GroupError},
    group::OffsetRefusal,
    metadata::Refusal,
    raft::TransferError,
    record::BatchError,
};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal),* $(,)?) => {
        /// Kafka's error codes, by Kafka's names (`org.apache.kafka.common.protocol.Errors`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(i16)]
        pub(super) enum Code {
            $($(#[$doc])* $name = $code,)*
        }

        impl Code {
            #[cfg(test)]
            pub const ALL: &[Code] = &[$(Code::$name),*];
        }
    };
}

codes! {
    UnknownServerError = -1,
    None = 0,
    OffsetOutOfRange = 1,
    CorruptMessage = 2,
    UnknownTopicOrPartition = 3,
    LeaderNotAvailable = 5,
    NotLeaderOrFollower = 6,
    RequestTimedOut = 7,
    MessageTooLarge = 10,
    OffsetMetadataTooLarge = 12,
    CoordinatorLoadInProgress = 14,
    CoordinatorNotAvailable = 15,
    NotCoordinator = 16,
    InvalidTopicException = 17,
    NotEnoughReplicas = 19,
    InvalidRequiredAcks = 21,
    IllegalGeneration = 22,
    InconsistentGroupProtocol = 23,
    InvalidGroupId = 24,
    UnknownMemberId = 25,
    InvalidSessionTimeout = 26,
    RebalanceInProgress = 27,
    InvalidCommitOffsetSize = 28,
    InvalidTimestamp = 32,
    UnsupportedVersion = 35,
    TopicAlreadyExists = 36,
    InvalidPartitions = 37,
    InvalidReplicationFactor = 38,
    InvalidReplicaAssignment = 39,
    InvalidConfig = 40,
    NotController = 41,
    InvalidRequest = 42,
    UnsupportedForMessageFormat = 43,
    PolicyViolation = 44,
    OutOfOrderSequenceNumber = 45,
    InvalidProducerEpoch = 47,
    TransactionalIdAuthorizationFailed = 53,
    KafkaStorageError = 56,
    UnknownProducerId = 59,
    NonEmptyGroup = 68,
    GroupIdNotFound = 69,
    FetchSessionIdNotFound = 70,
    InvalidFetchSessionEpoch = 71,
    FencedLeaderEpoch = 74,
    UnknownLeaderEpoch = 75,
    UnsupportedCompressionType = 76,
    MemberIdRequired = 79,
    PreferredLeaderNotAvailable = 80,
    GroupMaxSizeReached = 81,
    FencedInstanceId = 82,
    EligibleLeadersNotAvailable = 83,
    GroupSubscribedToTopic = 86,
    ElectionNotNeeded = 84,
    NoReassignmentInProgress = 85,
    InvalidRecord = 87,
    UnknownTopicId = 100,
    FetchSessionTopicIdError = 106,
    MismatchedEndpointType = 114,
    UnsupportedEndpointType = 115,
}

impl Code {
    pub fn value(self) -> i16 {
        self as i16
    }
}

/// `by_id`: the client named the topic by its id.
pub(super) fn of_produce(error: &ProduceError, by_id: bool) -> Code {
    match error {
        ProduceError::UnknownTopic { .. } if by_id => Code::UnknownTopicId,
        ProduceError::UnknownTopic { .. } | ProduceError::UnknownPartition { .. } => Code::UnknownTopicOrPartition,
        ProduceError::NotLeader { .. } => Code::NotLeaderOrFollower,
        ProduceError::NotEnoughReplicas { .. } => Code::NotEnoughReplicas,
        ProduceError::TimedOut { .. } | ProduceError::OutcomeUnknown { .. } => Code::RequestTimedOut,
        ProduceError::InvalidBatch(error) => of_batch(error),
        ProduceError::BatchTooLarge { .. } => Code::MessageTooLarge,
        ProduceError::InvalidTimestamp { .. } | ProduceError::TimestampTooOld { .. } => Code::InvalidTimestamp,
        ProduceError::OutOfOrderSequence { .. } => Code::OutOfOrderSequenceNumber,
        ProduceError::FencedProducer { .. } => Code::InvalidProducerEpoch,
        ProduceError::UnknownProducer { .. } => Code::UnknownProducerId,
        // Nobody can ask for an offset through this face.
        ProduceError::WrongOffset { .. } => Code::InvalidRequest,
        // Both pass, and a client that asks who leads now loses nothing.
        ProduceError::Unavailable { .. } => Code::NotEnoughReplicas,
        ProduceError::DiskFull { .. } => Code::KafkaStorageError,
    }
}

fn of_batch(error: &BatchError) -> Code {
    match error {
        BatchError::Short { .. }
        | BatchError::LengthTooSmall { .. }
        | BatchError::LengthMismatch { .. }
        | BatchError::Crc { .. } => Code::CorruptMessage,
        BatchError::Magic { .. } => Code::UnsupportedForMessageFormat,
        BatchError::TooLarge { .. } => Code::MessageTooLarge,
        BatchError::Codec { .. } => Code::UnsupportedCompressionType,
        BatchError::NoRecords { .. }
        | BatchError::CountMismatch { .. }
        | BatchError::TooManyRecords { .. }
        | BatchError::Control { .. }
        | BatchError::Transactional { .. }
        | BatchError::LogAppendTime { .. }
        | BatchError::Producer { .. } => Code::InvalidRecord,
    }
}

/// `by_id`: as above.
pub(super) fn of_fetch(error: &FetchError, by_id: bool) -> Code {
    match error {
        FetchError::UnknownTopic { .. } | FetchError::TopicReplaced { .. } if by_id => Code::UnknownTopicId,
        FetchError::UnknownTopic { .. } | FetchError::TopicReplaced { .. } | FetchError::UnknownPartition { .. } => {
            Code::UnknownTopicOrPartition
        }
        FetchError::NotLeader { .. } => Code::NotLeaderOrFollower,
        FetchError::OffsetOutOfRange { .. } => Code::OffsetOutOfRange,
        FetchError::InvalidRequest { .. } => Code::InvalidRequest,
        // What cannot be confirmed now may be readable elsewhere.
        FetchError::Unavailable { .. } => Code::NotLeaderOrFollower,
        FetchError::FencedLeaderEpoch { .. } => Code::FencedLeaderEpoch,
        FetchError::UnknownLeaderEpoch { .. } => Code::UnknownLeaderEpoch,
    }
}

pub(super) fn of_session(refusal: SessionRefusal) -> Code {
    match refusal {
        SessionRefusal::UnknownSession => Code::FetchSessionIdNotFound,
        SessionRefusal::WrongEpoch => Code::InvalidFetchSessionEpoch,
        SessionRefusal::OtherNames => Code::FetchSessionTopicIdError,
    }
}

pub(super) fn of_admin(error: &AdminError) -> Code {
    match error {
        AdminError::InvalidRequest { .. } => Code::InvalidRequest,
        AdminError::UnknownTopic { .. } | AdminError::UnknownPartition { .. } => Code::UnknownTopicOrPartition,
        AdminError::TopicExists { .. } => Code::TopicAlreadyExists,
        AdminError::Refused(refusal) => of_refusal(refusal),
        AdminError::OffsetOutOfRange { .. } => Code::OffsetOutOfRange,
        AdminError::NotLeader { .. } => Code::NotLeaderOrFollower,
        AdminError::NoMetadataLeader { effect: Effect::None, .. } => Code::NotController,
        AdminError::NoMetadataLeader { effect: Effect::Unknown, .. }
        | AdminError::OutcomeUnknown { .. }
        | AdminError::RefusedAfterUnknown { .. } => Code::RequestTimedOut,
        AdminError::NotEnoughReplicas => Code::NotEnoughReplicas,
        AdminError::Unavailable { .. } => Code::NotController,
        AdminError::TransferFailed { .. } => Code::EligibleLeadersNotAvailable,
        AdminError::TransferRefused(error) => match error {
            TransferError::NotLeader => Code::NotLeaderOrFollower,
            TransferError::NoCandidate => Code::EligibleLeadersNotAvailable,
            TransferError::NoSuchVoter(_) => Code::PreferredLeaderNotAvailable,
            TransferError::TimedOut(_) => Code::RequestTimedOut,
        },
        AdminError::Internal { .. } => Code::UnknownServerError,
        AdminError::DiskFull { .. } => Code::KafkaStorageError,
    }
}

fn of_refusal(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::TopicExists { .. } => Code::TopicAlreadyExists,
        Refusal::UnknownTopic { .. } => Code::UnknownTopicOrPartition,
        Refusal::InvalidName { .. } => Code::InvalidTopicException,
        Refusal::InvalidConfig { .. } => Code::InvalidConfig,
        Refusal::InvalidPartitions { .. } | Refusal::PartitionsNotMore { .. } => Code::InvalidPartitions,
        Refusal::InvalidReplicationFactor { .. } | Refusal::TooFewBrokers { .. } => Code::InvalidReplicationFactor,
        Refusal::TooManyPartitions { .. } | Refusal::TooManyTopics { .. } => Code::PolicyViolation,
        Refusal::NotFounded | Refusal::UnknownBroker { .. } | Refusal::Malformed { .. } | Refusal::IdsExhausted => {
            Code::NotController
        }
        Refusal::AboveLevel { .. } => Code::UnsupportedVersion,
        Refusal::AlreadyFounded { .. }
        | Refusal::InvalidFounders { .. }
        | Refusal::StorageIdMismatch { .. }
        | Refusal::InvalidBroker { .. }
        | Refusal::StorageIdTaken { .. }
        | Refusal::TooManyBrokers { .. }
        | Refusal::BrokersBehind { .. }
        | Refusal::LevelLowered { .. }
        | Refusal::Group(_) => Code::InvalidRequest,
    }
}

/// What was asked of a group: clients know other codes of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GroupAsk {
    Join,
    /// What a member says after it has joined: sync, heartbeat, leaving.
    Member,
    /// `by_id`: the client named the topics by their ids.
    Commit {
        by_id: bool,
    },
    FetchOffsets,
    Admin,
}

/// Whatever may pass by itself has a code after which the clients of this request try again; Java's take any other for
/// a bug, and tell their application so.
pub(super) fn of_group(error: &GroupError, ask: GroupAsk) -> Code {
    match error {
        GroupError::InvalidGroupName { .. } => Code::InvalidGroupId,
        GroupError::UnknownMember { .. } => Code::UnknownMemberId,
        GroupError::MemberIdRequired { .. } => Code::MemberIdRequired,
        GroupError::FencedInstance { .. } => Code::FencedInstanceId,
        GroupError::Refused { .. } => Code::IllegalGeneration,
        GroupError::Rebalancing { .. } => Code::RebalanceInProgress,
        GroupError::ProtocolMismatch { .. } => Code::InconsistentGroupProtocol,
        GroupError::InvalidSessionTimeout { .. } => Code::InvalidSessionTimeout,
        GroupError::GroupFull { .. } => Code::GroupMaxSizeReached,
        GroupError::LimitReached { .. } => match ask {
            GroupAsk::Join => Code::GroupMaxSizeReached,
            GroupAsk::Commit { .. } => Code::InvalidCommitOffsetSize,
            GroupAsk::Member | GroupAsk::FetchOffsets | GroupAsk::Admin => Code::InvalidRequest,
        },
        GroupError::InvalidRequest { .. } => Code::InvalidRequest,
        GroupError::NotEmpty { .. } => Code::NonEmptyGroup,
        GroupError::UnknownGroup { .. } => match ask {
            GroupAsk::Join | GroupAsk::Member | GroupAsk::Commit { .. } => Code::UnknownMemberId,
            GroupAsk::FetchOffsets | GroupAsk::Admin => Code::GroupIdNotFound,
        },
        GroupError::NoCoordinator { .. } => match ask {
            GroupAsk::FetchOffsets => Code::NotCoordinator,
            GroupAsk::Join | GroupAsk::Member | GroupAsk::Commit { .. } | GroupAsk::Admin => {
                Code::CoordinatorNotAvailable
            }
        },
        GroupError::Crowded { .. } => match ask {
            GroupAsk::Join | GroupAsk::Commit { .. } | GroupAsk::FetchOffsets => Code::CoordinatorLoadInProgress,
            GroupAsk::Member | GroupAsk::Admin => Code::CoordinatorNotAvailable,
        },
        GroupError::OutcomeUnknown { .. } => match ask {
            GroupAsk::Commit { .. } => Code::RequestTimedOut,
            GroupAsk::Join | GroupAsk::Member | GroupAsk::FetchOffsets | GroupAsk::Admin => Code::NotCoordinator,
        },
        GroupError::UnknownTopic { .. } => match ask {
            GroupAsk::Commit { by_id: true } => Code::UnknownTopicId,
            GroupAsk::Commit { by_id: false }
            | GroupAsk::Join
            | GroupAsk::Member
            | GroupAsk::FetchOffsets
            | GroupAsk::Admin => Code::UnknownTopicOrPartition,
        },
        GroupError::UnknownPartition { .. } => Code::UnknownTopicOrPartition,
        GroupError::TopicReplaced { .. } => Code::UnknownTopicId,
        GroupError::OffsetRefused { refusal, .. } => of_offset(refusal),
    }
}

fn of_offset(refusal: &OffsetRefusal) -> Code {
    match refusal {
        OffsetRefusal::UnknownTopic | OffsetRefusal::UnknownPartition => Code::UnknownTopicOrPartition,
        // Of members whose partitions the server assigns.
        OffsetRefusal::NotHeld | OffsetRefusal::OldEpoch { .. } => Code::IllegalGeneration,
        OffsetRefusal::InUse => Code::GroupSubscribedToTopic,
        OffsetRefusal::NegativeOffset => Code::InvalidRequest,
        OffsetRefusal::MetadataTooLarge { .. } => Code::OffsetMetadataTooLarge,
        OffsetRefusal::LimitReached { .. } => Code::InvalidCommitOffsetSize,
    }
}

/// An error as clients read it, cut to what a log line takes.
pub(super) fn words(error: &impl Display) -> StrBytes {
    let mut words = error.to_string();
    words.truncate(words.floor_char_boundary(limits::WORDS_BYTES_MAX));
    StrBytes::from(words)
}
