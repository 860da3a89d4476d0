//! What can go wrong for a client, and what each failure did to the log. Callers ask methods
//! ([`ClientError::effect`], [`ClientError::is_retriable`]), never strings.

use std::time::Duration;

use crate::proto::v1;
pub use crate::proto::v1::ErrorCode;

/// The gRPC trailer in which a broker puts its encoded [`v1::Error`].
pub const ERROR_TRAILER: &str = "flotilla-error-bin";

/// What a failed write did to the log. The chaos checker holds us to this answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It never was and never will be appended.
    Nothing,
    /// It is in the log, or will be, or never: nobody can tell.
    Unknown,
}

impl Effect {
    /// Unknown only if both are.
    pub(super) fn and(self, other: Effect) -> Effect {
        match (self, other) {
            (Effect::Unknown, Effect::Unknown) => Effect::Unknown,
            (Effect::Nothing, Effect::Nothing | Effect::Unknown) | (Effect::Unknown, Effect::Nothing) => {
                Effect::Nothing
            }
        }
    }
}

/// An error that a broker put into words.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokerError {
    pub code: ErrorCode,
    pub message: String,
    pub effect: Effect,
    pub retriable: bool,
    pub leader: Option<v1::LeaderHint>,
    pub actual_offset: Option<i64>,
    pub log_start: Option<i64>,
    pub high_watermark: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ClientError {
    #[error("{}: {}", .0.code.as_str_name(), .0.message)]
    Broker(Box<BrokerError>),
    #[error("cannot connect to {address}: {detail}")]
    Connect { address: String, detail: String },
    #[error("lost the connection to {address}: {detail}")]
    Lost { address: String, detail: String },
    #[error("no broker answered ({what}); tried {tried}; last: {last}")]
    NoBroker { what: &'static str, tried: String, last: String },
    #[error("{what} took longer than {}: {last}", humanly(*.waited))]
    Deadline { what: String, waited: Duration, effect: Effect, last: String },
    #[error("topic {topic:?} does not exist")]
    NoTopic { topic: String },
    #[error("topic {topic:?} has no partition {partition}: it has {count}, numbered from 0")]
    NoPartition { topic: String, partition: i32, count: i32 },
    #[error("a batch before this one failed, and compare-and-append allows no gap")]
    EarlierFailed,
    #[error("a record of {bytes} bytes is larger than the limit of {max} bytes")]
    RecordTooLarge { bytes: usize, max: usize },
    /// `offset`: where the batch begins. `next`: where one can read on, if that can be told.
    #[error("the batch of {partition} at offset {offset} cannot be read: {detail}{}", read_on(.next))]
    BadBatch { partition: String, offset: i64, next: Option<i64>, detail: String },
    #[error("an answer made no sense: {detail}")]
    BadAnswer { detail: String },
    #[error("{partition} is not assigned to this member of the group")]
    NotAssigned { partition: String },
    #[error("this member is not in its group (any more); its partitions may be read by others")]
    NotAMember,
    #[error("the group has no committed offset of {partition}, and is not to begin anywhere else: seek")]
    NoOffset { partition: String },
    #[error("the commit of {partition} was refused (and of {others} others): {error}")]
    CommitRefused { partition: String, others: usize, error: Box<ClientError> },
    #[error("it was closed")]
    Closed,
    #[error("{detail}")]
    Invalid { detail: String },
}

fn read_on(next: &Option<i64>) -> String {
    next.map(|next| format!("; one can read on from offset {next}")).unwrap_or_default()
}

fn humanly(d: Duration) -> String {
    if d.subsec_millis() == 0 { format!("{} s", d.as_secs()) } else { format!("{} ms", d.as_millis()) }
}

impl ClientError {
    /// From an error inside a stream's answer.
    pub fn from_wire(error: v1::Error) -> ClientError {
        let effect = match error.effect() {
            v1::Effect::None => Effect::Nothing,
            v1::Effect::Unknown => Effect::Unknown,
        };
        ClientError::Broker(Box::new(BrokerError {
            code: error.code(),
            effect,
            retriable: error.retriable,
            leader: error.leader,
            actual_offset: error.actual_offset,
            log_start: error.log_start,
            high_watermark: error.high_watermark,
            message: error.message,
        }))
    }

    /// From the status that ended a call to `address`. Without the trailer it is the transport's
    /// word, and only a connection that never was proves that nothing happened.
    pub fn from_status(status: &tonic::Status, address: &str) -> ClientError {
        let trailer = status.metadata().get_bin(ERROR_TRAILER).and_then(|v| v.to_bytes().ok());
        if let Some(error) = trailer.and_then(|bytes| <v1::Error as prost::Message>::decode(bytes).ok()) {
            return ClientError::from_wire(error);
        }
        let address = address.to_string();
        let detail = describe(status);
        let mut source = std::error::Error::source(status);
        while let Some(error) = source {
            if error.downcast_ref::<tonic::ConnectError>().is_some() {
                return ClientError::Connect { address, detail };
            }
            source = error.source();
        }
        match status.code() {
            tonic::Code::Unimplemented => {
                ClientError::Invalid { detail: format!("the broker at {address} does not know this call: {detail}") }
            }
            tonic::Code::InvalidArgument | tonic::Code::OutOfRange => ClientError::Invalid { detail },
            tonic::Code::Ok
            | tonic::Code::Cancelled
            | tonic::Code::Unknown
            | tonic::Code::DeadlineExceeded
            | tonic::Code::NotFound
            | tonic::Code::AlreadyExists
            | tonic::Code::PermissionDenied
            | tonic::Code::ResourceExhausted
            | tonic::Code::FailedPrecondition
            | tonic::Code::Aborted
            | tonic::Code::Internal
            | tonic::Code::Unavailable
            | tonic::Code::DataLoss
            | tonic::Code::Unauthenticated => ClientError::Lost { address, detail },
        }
    }

    /// The broker's code, if a broker said it.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Broker(error) => Some(error.code),
            ClientError::CommitRefused { error, .. } => error.code(),
            ClientError::Connect { .. }
            | ClientError::Lost { .. }
            | ClientError::NoBroker { .. }
            | ClientError::Deadline { .. }
            | ClientError::NoTopic { .. }
            | ClientError::NoPartition { .. }
            | ClientError::EarlierFailed
            | ClientError::RecordTooLarge { .. }
            | ClientError::BadBatch { .. }
            | ClientError::BadAnswer { .. }
            | ClientError::NotAssigned { .. }
            | ClientError::NotAMember
            | ClientError::NoOffset { .. }
            | ClientError::Closed
            | ClientError::Invalid { .. } => None,
        }
    }

    /// What the failed write did to the log (for a read: always nothing of interest).
    pub fn effect(&self) -> Effect {
        match self {
            ClientError::Broker(error) => error.effect,
            ClientError::Deadline { effect, .. } => *effect,
            ClientError::CommitRefused { error, .. } => error.effect(),
            // The request was handed over; whether it was read, nobody tells us.
            ClientError::Lost { .. } | ClientError::BadAnswer { .. } => Effect::Unknown,
            ClientError::Connect { .. }
            | ClientError::NoBroker { .. }
            | ClientError::NoTopic { .. }
            | ClientError::NoPartition { .. }
            | ClientError::EarlierFailed
            | ClientError::RecordTooLarge { .. }
            | ClientError::BadBatch { .. }
            | ClientError::NotAssigned { .. }
            | ClientError::NotAMember
            | ClientError::NoOffset { .. }
            | ClientError::Closed
            | ClientError::Invalid { .. } => Effect::Nothing,
        }
    }

    /// May the same thing succeed a little later, or at another broker?
    pub fn is_retriable(&self) -> bool {
        match self {
            ClientError::Broker(error) => {
                error.retriable
                    || matches!(
                        error.code,
                        ErrorCode::NotLeader
                            | ErrorCode::NotEnoughReplicas
                            | ErrorCode::Unavailable
                            | ErrorCode::NoMetadataLeader
                    )
            }
            ClientError::CommitRefused { error, .. } => error.is_retriable(),
            ClientError::Connect { .. } | ClientError::Lost { .. } | ClientError::NoBroker { .. } => true,
            ClientError::Deadline { .. }
            | ClientError::NoTopic { .. }
            | ClientError::NoPartition { .. }
            | ClientError::EarlierFailed
            | ClientError::RecordTooLarge { .. }
            | ClientError::BadBatch { .. }
            | ClientError::BadAnswer { .. }
            | ClientError::NotAssigned { .. }
            | ClientError::NotAMember
            | ClientError::NoOffset { .. }
            | ClientError::Closed
            | ClientError::Invalid { .. } => false,
        }
    }

    /// Is it about something that is not there? (The CLI's exit code 4.)
    pub fn is_not_found(&self) -> bool {
        matches!(self, ClientError::NoTopic { .. } | ClientError::NoPartition { .. })
            || matches!(
                self.code(),
                Some(
                    ErrorCode::UnknownTopic
                        | ErrorCode::UnknownPartition
                        | ErrorCode::UnknownGroup
                        | ErrorCode::TopicReplaced
                )
            )
    }
}

/// A status with its whole chain of causes: "transport error" alone helps nobody.
fn describe(status: &tonic::Status) -> String {
    let mut text = status.message().to_string();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let part = error.to_string();
        if !part.is_empty() && !text.contains(&part) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&part);
        }
        source = error.source();
    }
    if text.is_empty() { status.code().description().to_string() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trailer_outranks_the_status() {
        let error = v1::Error {
            code: v1::ErrorCode::OutcomeUnknown as i32,
            message: "waited 3 ms".into(),
            effect: v1::Effect::Unknown as i32,
            ..Default::default()
        };
        let mut status = tonic::Status::unavailable("x");
        let bytes = prost::Message::encode_to_vec(&error);
        status.metadata_mut().insert_bin(ERROR_TRAILER, tonic::metadata::MetadataValue::from_bytes(&bytes));
        let got = ClientError::from_status(&status, "a:1");
        assert_eq!(got.code(), Some(ErrorCode::OutcomeUnknown));
        assert_eq!(got.effect(), Effect::Unknown);
        assert_eq!(got.to_string(), "OUTCOME_UNKNOWN: waited 3 ms");
    }

    #[test]
    fn a_bare_status_leaves_the_outcome_unknown() {
        let got = ClientError::from_status(&tonic::Status::internal("stream reset"), "a:1");
        assert_eq!(got.effect(), Effect::Unknown);
        assert!(got.is_retriable());
    }
}
