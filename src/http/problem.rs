//! Why a request was not answered, for people and for programs.

use axum::http::StatusCode;

use crate::{
    broker::{AdminError, FetchError, groups::GroupError},
    group::OffsetRefusal,
};

/// A status and a sentence. The sentence may hold what a user typed: it is escaped where it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub status: StatusCode,
    pub message: String,
}

impl Problem {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Problem {
        Problem { status, message: message.into() }
    }

    /// The request itself is wrong.
    pub fn bad(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, message)
    }
}

impl From<AdminError> for Problem {
    fn from(error: AdminError) -> Problem {
        let status = match &error {
            AdminError::UnknownTopic { .. } | AdminError::UnknownPartition { .. } => StatusCode::NOT_FOUND,
            AdminError::InvalidRequest { .. }
            | AdminError::TopicExists { .. }
            | AdminError::OffsetOutOfRange { .. } => StatusCode::BAD_REQUEST,
            AdminError::NotLeader { .. }
            | AdminError::NoMetadataLeader { .. }
            | AdminError::NotEnoughReplicas
            | AdminError::OutcomeUnknown { .. }
            | AdminError::RefusedAfterUnknown { .. }
            | AdminError::Unavailable { .. }
            | AdminError::DiskFull { .. }
            | AdminError::TransferFailed { .. } => StatusCode::SERVICE_UNAVAILABLE,
            // A read meets none of these; whatever else comes is told as it is.
            AdminError::Refused(_) | AdminError::TransferRefused(_) if error.is_retriable() => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            AdminError::Refused(_) | AdminError::TransferRefused(_) => StatusCode::BAD_REQUEST,
            AdminError::Internal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Problem::new(status, error.to_string())
    }
}

impl From<FetchError> for Problem {
    fn from(error: FetchError) -> Problem {
        let status = match &error {
            FetchError::UnknownTopic { .. } | FetchError::UnknownPartition { .. } => StatusCode::NOT_FOUND,
            FetchError::OffsetOutOfRange { .. } | FetchError::InvalidRequest { .. } => StatusCode::BAD_REQUEST,
            FetchError::NotLeader { .. }
            | FetchError::FencedLeaderEpoch { .. }
            | FetchError::UnknownLeaderEpoch { .. }
            | FetchError::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            FetchError::TopicReplaced { .. } => StatusCode::CONFLICT,
        };
        Problem::new(status, error.to_string())
    }
}

impl From<GroupError> for Problem {
    fn from(error: GroupError) -> Problem {
        let status = match &error {
            GroupError::UnknownGroup { .. } | GroupError::UnknownTopic { .. } | GroupError::UnknownPartition { .. } => {
                StatusCode::NOT_FOUND
            }
            // A read meets only the last few; whatever else comes is told as it is.
            GroupError::InvalidRequest { .. }
            | GroupError::InvalidGroupName { .. }
            | GroupError::UnknownMember { .. }
            | GroupError::MemberIdRequired { .. }
            | GroupError::Refused { .. }
            | GroupError::FencedInstance { .. }
            | GroupError::Rebalancing { .. }
            | GroupError::NotEmpty { .. }
            | GroupError::ProtocolMismatch { .. }
            | GroupError::InvalidSessionTimeout { .. }
            | GroupError::TopicReplaced { .. } => StatusCode::BAD_REQUEST,
            GroupError::OffsetRefused { refusal, .. } => offset_status(refusal),
            GroupError::LimitReached { .. }
            | GroupError::GroupFull { .. }
            | GroupError::Crowded { .. }
            | GroupError::NoCoordinator { .. }
            | GroupError::OutcomeUnknown { .. } => StatusCode::SERVICE_UNAVAILABLE,
        };
        Problem::new(status, error.to_string())
    }
}

fn offset_status(refusal: &OffsetRefusal) -> StatusCode {
    match refusal {
        OffsetRefusal::UnknownTopic | OffsetRefusal::UnknownPartition => StatusCode::NOT_FOUND,
        OffsetRefusal::NotHeld
        | OffsetRefusal::OldEpoch { .. }
        | OffsetRefusal::InUse
        | OffsetRefusal::NegativeOffset
        | OffsetRefusal::MetadataTooLarge { .. } => StatusCode::BAD_REQUEST,
        OffsetRefusal::LimitReached { .. } => StatusCode::SERVICE_UNAVAILABLE,
    }
}
