//! Every error a request can end with, one enum per operation. Each variant carries what the wire
//! needs, and each enum answers the questions a face asks: what happened to the log (`effect`),
//! whether trying again can help (`is_retriable`), and who leads (`leader`): by id, for each face has addresses of its own.
//!
//! What a layer below refused is kept whole (`InvalidBatch`, `Refused`, `TransferRefused`): each face has one table
//! from it to its own codes, and makes the text where it answers. No face parses text.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::requests::LeaderNow;
use crate::{
    metadata::Refusal,
    raft::TransferError,
    record::BatchError,
    types::{
        BrokerId, ClusterId, LeaderEpoch, Offset, PartitionId, ProducerEpoch, ProducerId, Sequence, StorageId, TopicId,
        WallMs,
    },
};

/// What a failed write did to the log. The chaos checker holds us to this answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    None,
    /// It may have happened, or may still happen.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    #[error("unknown topic {topic:?}")]
    UnknownTopic { topic: String },
    #[error("topic {topic:?} has no partition {partition}")]
    UnknownPartition { topic: String, partition: PartitionId },
    #[error("this broker does not lead {topic}-{partition}{}", hint_text(.leader))]
    NotLeader { topic: String, partition: PartitionId, leader: Option<LeaderNow> },
    #[error("the leader of {topic}-{partition} reached no majority for {} ms; nothing was appended", .waited.as_millis())]
    NotEnoughReplicas { topic: String, partition: PartitionId, waited: Duration },
    /// Kafka's REQUEST_TIMED_OUT, for a batch that was never proposed.
    #[error(
        "the batch for {topic}-{partition} had no turn within {} ms: its leader has more to do than it gets done; \
         nothing was appended",
        .waited.as_millis()
    )]
    TimedOut { topic: String, partition: PartitionId, waited: Duration },
    /// Accepted, but its outcome did not come in time (or its leader lost the term).
    #[error("outcome unknown after {} ms: the batch for {topic}-{partition} may yet appear", .waited.as_millis())]
    OutcomeUnknown { topic: String, partition: PartitionId, waited: Duration },
    /// The batch breaks a rule of the format, or was damaged on its way.
    #[error("{}", batch_text(.0))]
    InvalidBatch(BatchError),
    #[error("batch of {bytes} bytes exceeds max.message.bytes = {bytes_max} of topic {topic:?}")]
    BatchTooLarge { topic: String, bytes: usize, bytes_max: usize },
    #[error("timestamp {timestamp} is more than {} ms ahead of the broker's clock", .ahead_max.as_millis())]
    InvalidTimestamp { timestamp: WallMs, ahead_max: Duration },
    #[error(
        "timestamp {timestamp} is more than message.timestamp.before.max.ms = {} behind the broker's clock",
        .behind_max.as_millis()
    )]
    TimestampTooOld { timestamp: WallMs, behind_max: Duration },
    #[error("producer {producer}: sequence {got} arrived where {expected} was expected")]
    OutOfOrderSequence { producer: ProducerId, expected: Sequence, got: Sequence },
    #[error("producer {producer}: epoch {epoch} is older than {current}; a newer instance exists")]
    FencedProducer { producer: ProducerId, epoch: ProducerEpoch, current: ProducerEpoch },
    #[error("producer {producer} is not known here any more (expired or evicted); start a new one")]
    UnknownProducer { producer: ProducerId },
    #[error("expected next offset {expected}, it is {actual}; nothing was appended")]
    WrongOffset { expected: Offset, actual: Offset },
    #[error("temporarily unavailable: {reason}; nothing was appended")]
    Unavailable { reason: String },
    /// Its leader's disk, or those of too many followers.
    #[error(
        "disk of broker {broker} nearly full: {free_bytes} bytes free, disk_reserve_bytes keeps {reserve_bytes} back; \
         free space or trim topics"
    )]
    DiskFull { broker: BrokerId, free_bytes: u64, reserve_bytes: u64 },
}

impl ProduceError {
    pub fn effect(&self) -> Effect {
        match self {
            Self::UnknownTopic { .. }
            | Self::UnknownPartition { .. }
            | Self::NotLeader { .. }
            | Self::NotEnoughReplicas { .. }
            | Self::TimedOut { .. }
            | Self::InvalidBatch(_)
            | Self::BatchTooLarge { .. }
            | Self::InvalidTimestamp { .. }
            | Self::TimestampTooOld { .. }
            | Self::FencedProducer { .. }
            | Self::UnknownProducer { .. }
            | Self::WrongOffset { .. }
            | Self::Unavailable { .. }
            | Self::DiskFull { .. } => Effect::None,
            // An older sequence than the next one is that of a batch which was taken long ago, as far as can be
            // told: more of them are not remembered.
            Self::OutOfOrderSequence { expected, got, .. } => match got.is_before(*expected) {
                true => Effect::Unknown,
                false => Effect::None,
            },
            // Admitted by Raft and not refused: it may commit after we stop waiting (SAFETY M2).
            Self::OutcomeUnknown { .. } => Effect::Unknown,
        }
    }

    pub fn is_retriable(&self) -> bool {
        match self {
            Self::UnknownTopic { .. }
            | Self::UnknownPartition { .. }
            | Self::NotLeader { .. }
            | Self::NotEnoughReplicas { .. }
            | Self::TimedOut { .. }
            // Only an idempotent producer may retry this one without risking a duplicate.
            | Self::OutcomeUnknown { .. }
            | Self::Unavailable { .. }
            | Self::DiskFull { .. } => true,
            Self::InvalidBatch(_)
            | Self::BatchTooLarge { .. }
            | Self::InvalidTimestamp { .. }
            | Self::TimestampTooOld { .. }
            | Self::OutOfOrderSequence { .. }
            | Self::FencedProducer { .. }
            | Self::UnknownProducer { .. }
            | Self::WrongOffset { .. } => false,
        }
    }

    pub fn leader(&self) -> Option<&LeaderNow> {
        let Self::NotLeader { leader, .. } = self else { return None };
        leader.as_ref()
    }
}

/// Fetch and offset look-ups. None of these changes anything. Travels between brokers for the console.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum FetchError {
    #[error("unknown topic {topic:?}")]
    UnknownTopic { topic: String },
    #[error("topic {topic:?} has no partition {partition}")]
    UnknownPartition { topic: String, partition: PartitionId },
    #[error("this broker does not lead {topic}-{partition}{}", hint_text(.leader))]
    NotLeader { topic: String, partition: PartitionId, leader: Option<LeaderNow> },
    #[error("offset {offset} of {topic}-{partition} is outside {log_start}..{high_watermark}")]
    OffsetOutOfRange {
        topic: String,
        partition: PartitionId,
        offset: Offset,
        log_start: Offset,
        high_watermark: Offset,
    },
    #[error("invalid request: {detail}")]
    InvalidRequest { detail: String },
    #[error("temporarily unavailable: {reason}")]
    Unavailable { reason: String },
    /// SAFETY M11. Said only of confirmed metadata: a broker that is late does not take its own past for news.
    #[error("topic {topic:?} of id {meant} was deleted, and another one has its name ({now})")]
    TopicReplaced { topic: String, meant: TopicId, now: TopicId },
    /// The reader has not heard of the present leader (KIP-320): what it has read may not be what is here.
    #[error("{topic}-{partition} is in epoch {now}, and epoch {asked} was asked for: ask who leads it now")]
    FencedLeaderEpoch { topic: String, partition: PartitionId, asked: LeaderEpoch, now: LeaderEpoch },
    /// This broker has not heard of the leader that the reader knows (KIP-320).
    #[error("{topic}-{partition} is in epoch {now} as far as this broker knows, and epoch {asked} was asked for")]
    UnknownLeaderEpoch { topic: String, partition: PartitionId, asked: LeaderEpoch, now: LeaderEpoch },
}

impl FetchError {
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::UnknownTopic { .. }
            | Self::UnknownPartition { .. }
            | Self::NotLeader { .. }
            | Self::FencedLeaderEpoch { .. }
            | Self::UnknownLeaderEpoch { .. }
            | Self::Unavailable { .. } => true,
            Self::OffsetOutOfRange { .. } | Self::InvalidRequest { .. } | Self::TopicReplaced { .. } => false,
        }
    }

    pub fn leader(&self) -> Option<&LeaderNow> {
        let Self::NotLeader { leader, .. } = self else { return None };
        leader.as_ref()
    }
}

/// Topics, cluster and producer ids. Travels between brokers when a request was forwarded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum AdminError {
    #[error("invalid request: {detail}")]
    InvalidRequest { detail: String },
    #[error("unknown topic {topic:?}")]
    UnknownTopic { topic: String },
    #[error("topic {topic:?} has no partition {partition}")]
    UnknownPartition { topic: String, partition: PartitionId },
    #[error("topic {topic:?} already exists")]
    TopicExists { topic: String },
    /// The cluster's metadata does not take the change. Topics that are there or missing have variants of their own.
    #[error("{}", refusal_text(.0))]
    Refused(Refusal),
    /// Trim beyond the high watermark.
    #[error("offset {offset} of {topic}-{partition} is outside {log_start}..={high_watermark}")]
    OffsetOutOfRange {
        topic: String,
        partition: PartitionId,
        offset: Offset,
        log_start: Offset,
        high_watermark: Offset,
    },
    #[error("no leader of {topic}-{partition} could be reached; nothing was changed")]
    NotLeader { topic: String, partition: PartitionId, leader: Option<LeaderNow> },
    #[error("no metadata leader could be reached within {waited_ms} ms{}", effect_text(.effect))]
    NoMetadataLeader { waited_ms: u64, effect: Effect },
    #[error("the leader reaches no majority; nothing was changed")]
    NotEnoughReplicas,
    #[error("outcome unknown after {waited_ms} ms: {what} may yet happen; look before you repeat it")]
    OutcomeUnknown { what: String, waited_ms: u64 },
    #[error("temporarily unavailable: {reason}; nothing was changed")]
    Unavailable { reason: String },
    /// A leadership transfer that did not come about; the old leader goes on.
    #[error("leadership was not transferred: {reason}")]
    TransferFailed { reason: String },
    #[error("internal error: {detail}")]
    Internal { detail: String },
    /// The leader itself does not begin the transfer; it goes on leading.
    #[error("{}", transfer_text(.0))]
    TransferRefused(TransferError),
    /// This broker's disk, which a new topic would need.
    #[error(
        "temporarily unavailable: disk of broker {broker} nearly full: {free_bytes} bytes free, disk_reserve_bytes keeps \
         {reserve_bytes} back; free space or trim topics; nothing was changed"
    )]
    DiskFull { broker: BrokerId, free_bytes: u64, reserve_bytes: u64 },
    /// The last try was refused in a way that an earlier try, which had no answer, may have brought about.
    #[error(
        "outcome unknown after 0 ms: {what} (refused in the end: {refusal}; but an earlier try of it had no answer) may \
         yet happen; look before you repeat it"
    )]
    RefusedAfterUnknown { what: String, refusal: Refusal },
}

impl AdminError {
    pub fn effect(&self) -> Effect {
        match self {
            Self::InvalidRequest { .. }
            | Self::UnknownTopic { .. }
            | Self::UnknownPartition { .. }
            | Self::TopicExists { .. }
            | Self::Refused(_)
            | Self::OffsetOutOfRange { .. }
            | Self::NotLeader { .. }
            | Self::NotEnoughReplicas
            | Self::Unavailable { .. }
            | Self::DiskFull { .. }
            | Self::TransferFailed { .. } => Effect::None,
            Self::NoMetadataLeader { effect, .. } => *effect,
            Self::TransferRefused(error) => match error {
                TransferError::NotLeader | TransferError::NoSuchVoter(_) | TransferError::NoCandidate => Effect::None,
                // The request went out: leadership may still move.
                TransferError::TimedOut(_) => Effect::Unknown,
            },
            Self::OutcomeUnknown { .. } | Self::RefusedAfterUnknown { .. } | Self::Internal { .. } => Effect::Unknown,
        }
    }

    pub fn is_retriable(&self) -> bool {
        match self {
            Self::NotLeader { .. }
            | Self::NotEnoughReplicas
            | Self::Unavailable { .. }
            | Self::DiskFull { .. }
            | Self::TransferFailed { .. } => true,
            Self::NoMetadataLeader { effect, .. } => *effect == Effect::None,
            Self::Refused(refusal) => is_passing(refusal),
            Self::TransferRefused(error) => match error {
                TransferError::NotLeader | TransferError::NoCandidate => true,
                TransferError::NoSuchVoter(_) | TransferError::TimedOut(_) => false,
            },
            // Said only after the metadata leader has confirmed it: see `MetadataGroup::topic`.
            Self::UnknownTopic { .. }
            | Self::UnknownPartition { .. }
            | Self::InvalidRequest { .. }
            | Self::TopicExists { .. }
            | Self::OffsetOutOfRange { .. }
            | Self::OutcomeUnknown { .. }
            | Self::RefusedAfterUnknown { .. }
            | Self::Internal { .. } => false,
        }
    }

    pub fn leader(&self) -> Option<&LeaderNow> {
        let Self::NotLeader { leader, .. } = self else { return None };
        leader.as_ref()
    }
}

/// The broker cannot start, or cannot go on. The process prints it and exits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokerFailed {
    /// SAFETY B5: its replicas are dead; it must answer nothing for them.
    #[error(
        "broker {broker} is registered with another data directory (storage id {registered}, this one is {found}): \
         put the directory back that it had last (an older copy is refused), or give this machine a new broker id and \
         the address of any running broker in `peers`; the replicas of broker {broker} stay missing meanwhile, since \
         replicas cannot be moved yet"
    )]
    StorageIdMismatch { broker: BrokerId, registered: StorageId, found: StorageId },
    /// SAFETY B5: the directory is marked, and its replicas are dead.
    #[error(
        "this data directory was set back to an older copy; broker {peer} knows better: {proof}. It has forgotten votes and \
         acknowledged records, so it is marked and never used again: put the directory back that this broker had last, or \
         give this machine a new broker id and an empty data directory"
    )]
    SetBack { peer: BrokerId, proof: String },
    /// Some other directory has lost committed entries, and this one has them.
    #[error(
        "{what}. Committed records were lost elsewhere, most likely because the data directory of another broker was set \
         back to an older copy. This broker stops rather than mix two histories, and its directory is untouched: keep it, \
         it may be the only one with those records, and stop the broker whose directory was restored"
    )]
    Contradicted { what: String },
    #[error(
        "this directory belongs to cluster {found}, the cluster reached is {expected}; check `peers` and the data directory"
    )]
    WrongCluster { found: ClusterId, expected: ClusterId },
    #[error("invalid setting: {detail}")]
    InvalidSetting { detail: String },
    /// The metadata does not take this broker as it is set up.
    #[error("invalid setting: {0}")]
    RegistrationRefused(Refusal),
    #[error("storage: {detail}")]
    Storage { detail: String },
    #[error("raft: {detail}")]
    Raft { detail: String },
}

/// Whether the same change may be taken later, without anybody asking for something else.
fn is_passing(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::NotFounded | Refusal::UnknownBroker { .. } | Refusal::Malformed { .. } | Refusal::IdsExhausted => true,
        Refusal::AlreadyFounded { .. }
        | Refusal::InvalidFounders { .. }
        | Refusal::StorageIdMismatch { .. }
        | Refusal::InvalidBroker { .. }
        | Refusal::StorageIdTaken { .. }
        | Refusal::TooManyBrokers { .. }
        | Refusal::TopicExists { .. }
        | Refusal::UnknownTopic { .. }
        | Refusal::InvalidName { .. }
        | Refusal::InvalidConfig { .. }
        | Refusal::InvalidPartitions { .. }
        | Refusal::InvalidReplicationFactor { .. }
        | Refusal::TooFewBrokers { .. }
        | Refusal::TooManyPartitions { .. }
        | Refusal::TooManyTopics { .. }
        | Refusal::PartitionsNotMore { .. }
        | Refusal::BrokersBehind { .. }
        | Refusal::LevelLowered { .. }
        | Refusal::AboveLevel { .. }
        | Refusal::Group(_) => false,
    }
}

fn refusal_text(refusal: &Refusal) -> String {
    if is_passing(refusal) {
        return format!("temporarily unavailable: {refusal}; nothing was changed");
    }
    let is_config = matches!(refusal, Refusal::InvalidConfig { .. });
    format!("invalid {}: {refusal}", if is_config { "config" } else { "request" })
}

fn transfer_text(error: &TransferError) -> String {
    match error {
        TransferError::NoSuchVoter(_) => format!("invalid request: {error}"),
        TransferError::NotLeader | TransferError::NoCandidate | TransferError::TimedOut(_) => {
            format!("leadership was not transferred: {error}")
        }
    }
}

fn batch_text(error: &BatchError) -> String {
    format!("{}: {error}", if error.is_corrupt() { "corrupt batch" } else { "invalid request" })
}

fn hint_text(leader: &Option<LeaderNow>) -> String {
    match leader {
        Some(hint) => format!("; broker {} does (epoch {})", hint.broker, hint.epoch),
        None => "; no leader is known".into(),
    }
}

fn effect_text(effect: &Effect) -> &'static str {
    match effect {
        Effect::None => "; nothing was changed",
        Effect::Unknown => "; the change may yet happen",
    }
}
