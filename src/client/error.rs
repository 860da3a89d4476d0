//! What can go wrong for a client, and what each failure did to the log. Callers ask methods
//! ([`ClientError::effect`], [`ClientError::is_retriable`]), never strings.

use std::time::Duration;

pub use super::error_code::ErrorCode;
use crate::{
    proto::v1,
    types::{BrokerId, LeaderEpoch, Offset, PartitionId, TopicPartition},
};

/// The gRPC trailer in which a broker puts its encoded [`v1::Error`].
pub(super) const ERROR_TRAILER: &str = "flotilla-error-bin";

/// What a failed write did to the log. The chaos checker holds us to this answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It never was and never will be appended.
    Nothing,
    /// It is in the log, or will be, or never: nobody can tell.
    Unknown,
}

impl Effect {
    /// Returns [`Effect::Unknown`] only if both are unknown.
    pub(super) fn and(self, other: Effect) -> Effect {
        match (self, other) {
            (Effect::Unknown, Effect::Unknown) => Effect::Unknown,
            (Effect::Nothing, Effect::Nothing | Effect::Unknown) | (Effect::Unknown, Effect::Nothing) => {
                Effect::Nothing
            }
        }
    }
}

/// Who leads a partition, in the words of a broker that does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderHint {
    /// The broker that leads; 0 says that none is known.
    pub broker: BrokerId,
    /// Where clients reach the leader, as host:port; may be empty.
    pub address: String,
    /// The epoch since which the leader leads.
    pub epoch: LeaderEpoch,
}

impl LeaderHint {
    fn of(hint: v1::LeaderHint) -> LeaderHint {
        LeaderHint { broker: BrokerId(hint.broker), address: hint.address, epoch: LeaderEpoch(hint.epoch) }
    }
}

/// An error that a broker put into words.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct BrokerError {
    /// The reason that programs go by.
    pub code: ErrorCode,
    /// A sentence with the value that was refused.
    pub message: String,
    /// What the request did to the log.
    pub effect: Effect,
    /// Whether the same may succeed a little later.
    pub retriable: bool,
    /// Who leads, if that is known: comes with [`ErrorCode::NotLeader`].
    pub leader: Option<LeaderHint>,
    /// The offset that the next record gets: comes with [`ErrorCode::WrongOffset`].
    pub actual_offset: Option<Offset>,
    /// The first offset that is kept: comes with [`ErrorCode::OffsetOutOfRange`].
    pub log_start: Option<Offset>,
    /// The offset of the next record to be committed: comes with [`ErrorCode::OffsetOutOfRange`].
    pub high_watermark: Option<Offset>,
}

/// What went wrong. [`ClientError::effect`] says what a failed write did, [`ClientError::is_retriable`] whether to try
/// again.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// A broker refused it.
    #[error("{}: {}", .0.code, .0.message)]
    Broker(Box<BrokerError>),
    /// No connection came about.
    #[error("cannot connect to {address}: {detail}")]
    Connect { address: String, detail: String },
    /// A connection broke, or nothing came over it in time.
    #[error("lost the connection to {address}: {detail}")]
    Lost { address: String, detail: String },
    /// All brokers were tried.
    #[error("no broker answered ({what}); tried {tried}; last: {last}")]
    NoBroker { what: &'static str, tried: String, last: String },
    /// The time that was given for it is over.
    #[error("{what} took longer than {}: {last}", humanly(*.waited))]
    Deadline { what: String, waited: Duration, effect: Effect, last: String },
    /// There is no such topic.
    #[error("topic {topic:?} does not exist")]
    NoTopic { topic: String },
    /// The topic has no such partition.
    #[error("topic {topic:?} has no partition {partition}: it has {count}, numbered from 0")]
    NoPartition { topic: String, partition: PartitionId, count: i32 },
    /// It was sent behind something that failed, and must not stand without it.
    #[error("a batch before this one failed, and compare-and-append allows no gap")]
    EarlierFailed,
    /// The record by itself is larger than its topic takes.
    #[error("a record of {bytes} bytes is larger than the limit of {max} bytes")]
    RecordTooLarge { bytes: usize, max: usize },
    /// A batch that was read is damaged. `offset`: where it begins. `next`: where one can read on, if that can be told.
    #[error("the batch of {partition} at offset {offset} cannot be read: {detail}{}", read_on(.next))]
    BadBatch { partition: TopicPartition, offset: Offset, next: Option<Offset>, detail: String },
    /// A broker's answer contradicts itself, or lacks something.
    #[error("an answer made no sense: {detail}")]
    BadAnswer { detail: String },
    /// The partition is another member's, or nobody's.
    #[error("{partition} is not assigned to this member of the group")]
    NotAssigned { partition: TopicPartition },
    /// The group has expelled this member.
    #[error("this member is not in its group (any more); its partitions may be read by others")]
    NotAMember,
    /// A partition has no committed offset to begin at, and its group's members use
    /// [`OffsetReset::Fail`](super::OffsetReset::Fail).
    #[error("the group has no committed offset of {partition}, and is not to begin anywhere else: seek")]
    NoOffset { partition: TopicPartition },
    /// The coordinator did not commit this partition's offset, and `others` besides.
    #[error("the commit of {partition} was refused (and of {others} others): {error}")]
    CommitRefused { partition: TopicPartition, others: usize, error: Box<ClientError> },
    /// The handle's other half is gone.
    #[error("it was closed")]
    Closed,
    /// It cannot be, whoever is asked.
    #[error("{detail}")]
    Invalid { detail: String },
}

fn read_on(next: &Option<Offset>) -> String {
    next.map(|next| format!("; one can read on from offset {next}")).unwrap_or_default()
}

fn humanly(d: Duration) -> String {
    if d.subsec_millis() == 0 { format!("{} s", d.as_secs()) } else { format!("{} ms", d.as_millis()) }
}

impl ClientError {
    /// Makes one of an error inside a stream's answer.
    pub(crate) fn from_wire(error: v1::Error) -> ClientError {
        let effect = match error.effect() {
            v1::Effect::None => Effect::Nothing,
            v1::Effect::Unknown => Effect::Unknown,
        };
        ClientError::Broker(Box::new(BrokerError {
            code: ErrorCode::of(error.code()),
            effect,
            retriable: error.retriable,
            leader: error.leader.map(LeaderHint::of),
            actual_offset: error.actual_offset.map(Offset),
            log_start: error.log_start.map(Offset),
            high_watermark: error.high_watermark.map(Offset),
            message: error.message,
        }))
    }

    /// Makes one of the status that ended a call to `address`. Without the trailer it is the transport's word, and only
    /// a connection that never was proves that nothing happened.
    pub(super) fn from_status(status: &tonic::Status, address: &str) -> ClientError {
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
