//! What a history is made of: one event for each thing that a client did, was told or noticed.
//!
//! An operation is two events of one worker with one number, `op`: its invocation and its completion. One that was
//! never completed is `Info` and stays open to the end of the run.
//!
//! Conventions that rules rely on, and that the loader or the guards enforce where they can:
//! - All workers of a run read one monotonic clock, so that times compare across workers.
//! - A value is sent once in a run. A key is one incarnation of one partition: a topic that is deleted and created
//!   again has new keys.
//! - A process belongs to one worker and has one consumer at a time. After a `Crash`, and after a poll that ended as
//!   `Info`, its position is not known.

use serde::Serialize;

/// One event of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Nanoseconds of the run's monotonic clock.
    pub at: u64,
    /// The client: what must happen in order, happens in order in one process.
    pub process: u32,
    /// Ties a completion to its invocation; unique among the operations of a worker that are open at once.
    pub op: u64,
    pub phase: Phase,
    #[serde(flatten)]
    pub body: Body,
}

/// Which part of a run an event belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    Warm,
    Main,
    /// Everything healed: readers read what is there until they have caught up.
    Final,
}

/// How an operation ended, as its client knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It took effect.
    Ok,
    /// It may have taken effect, or may do so later. What is not known to be one of the others is this one.
    #[default]
    Info,
    /// It certainly had no effect, in none of its attempts.
    Fail,
}

/// An idempotent producer's numbers of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sequence {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub sequence: i32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Send {
    pub key: u32,
    pub value: u64,
    /// 0 promises nothing, so what is lost of it is not missed.
    pub acks: i8,
    pub producer: Option<Sequence>,
    /// Sends that were handed to the client in one call, in order, have one number.
    pub batch: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sent {
    pub outcome: Outcome,
    pub offset: Option<i64>,
    /// The epoch in which whoever answered leads.
    pub leader_epoch: Option<i32>,
    /// Kafka's error code; 0 is none, from 10,000 on it is the client's own.
    pub error: i16,
    /// How often the client sent it, if it says so.
    pub attempts: u8,
    /// Who answered; 0 if nobody did.
    pub node: u8,
}

/// From where a poll reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum From {
    /// One partition, from an offset that the caller named.
    Fetch { key: u32, position: i64 },
    /// What the process has assigned itself, from where its consumer stands.
    Assigned,
    /// What its group gave it, from where its consumer stands.
    Group,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Poll {
    pub from: From,
    pub node: u8,
}

/// What one poll returned of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Run {
    pub key: u32,
    pub records: Vec<Record>,
    /// The end of what is committed, as the answer says.
    pub high_watermark: Option<i64>,
    pub log_start: Option<i64>,
    /// The leader epoch of these records' batches: records of two epochs are two runs.
    pub epoch: Option<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    pub offset: i64,
    /// What [`crate::payload`] read in it.
    pub value: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Polled {
    pub outcome: Outcome,
    pub error: i16,
    /// In the order in which the client handed the records over. A key may have several.
    pub runs: Vec<Run>,
}

/// Where a consumer goes on reading what it had assigned before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Seek {
    /// Where it stood, for keys that it had before.
    Keep,
    Beginning,
    /// Somewhere else: nothing is known of its position.
    Elsewhere,
}

/// How a group shares out partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// All members rejoin for a new generation: no member of an older one remains.
    Classic,
    /// Each member goes to a new epoch when it has let go of what moves (KIP-848).
    Consumer,
}

/// A member learned what it has from now on: its join (classic: the answer to its sync) is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rebalance {
    pub group: u32,
    pub protocol: Protocol,
    pub generation: i32,
    pub member: u32,
    /// What it had and has let go. Recorded before the broker is told.
    pub revoked: Vec<u32>,
    /// What it did not have, or had let go, and has now.
    pub assigned: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Commit {
    pub group: u32,
    pub key: u32,
    /// The next offset to read.
    pub offset: i64,
    /// Below 0 for a commit from outside the group.
    pub generation: i32,
    pub member: u32,
    /// Unique in the run; travels in the commit's metadata.
    pub id: u64,
}

/// A commit as the coordinator gave it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Stored {
    pub offset: i64,
    pub id: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Which {
    Earliest,
    Latest,
}

/// What somebody asked of a topic. `config` is one setting, written as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminCall {
    Create { partitions: u32, config: u64 },
    Delete,
    AlterConfig { config: u64 },
    AddPartitions { partitions: u32 },
    Describe,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminResult {
    Done,
    AlreadyExists,
    NotFound,
    Described {
        partitions: u32,
        config: u64,
    },
    /// It was so at some time before this answer: whoever gave it remembers, and may be behind.
    Remembered {
        partitions: u32,
        config: u64,
    },
    /// It had no effect, and says nothing about the topic.
    Refused,
    #[default]
    Info,
}

/// One entry of a replica's committed log, as the stopped node's directory has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    pub node: u8,
    pub key: u32,
    pub index: u64,
    pub term: u64,
    /// Of all bytes of the entry that must be the same everywhere.
    pub hash: u64,
    pub base_offset: i64,
    pub values: Vec<u64>,
}

/// Where a replica's committed log ends, and what it had made of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Replica {
    pub node: u8,
    pub key: u32,
    pub committed_index: u64,
    pub log_start: i64,
    /// Of the state at `committed_index`, if the node can tell.
    pub state_hash: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Body {
    Send(Send),
    Sent(Sent),
    Poll(Poll),
    Polled(Polled),
    Assign { keys: Vec<u32>, seek: Seek },
    Subscribe { group: u32, keys: Vec<u32> },
    Rebalance(Rebalance),
    Leave { group: u32, member: u32 },
    Crash,
    Commit(Commit),
    Committed { outcome: Outcome, error: i16 },
    FetchCommit { group: u32, key: u32 },
    FetchedCommit { outcome: Outcome, error: i16, stored: Option<Stored> },
    Heartbeat { group: u32, generation: i32, member: u32 },
    Beaten { outcome: Outcome, error: i16 },
    ListOffsets { key: u32, which: Which },
    Listed { outcome: Outcome, error: i16, offset: i64 },
    EpochEnd { key: u32, epoch: i32 },
    EpochEnded { outcome: Outcome, error: i16, end: i64 },
    InitProducer,
    InitedProducer { outcome: Outcome, error: i16, producer_id: i64, producer_epoch: i16 },
    Admin { topic: u32, call: AdminCall },
    Administered { result: AdminResult, error: i16 },
    Entry(Entry),
    Replica(Replica),
}

impl Body {
    /// Whether this event completes an operation that another began.
    pub fn is_completion(&self) -> bool {
        matches!(
            self,
            Body::Sent(_)
                | Body::Polled(_)
                | Body::Committed { .. }
                | Body::FetchedCommit { .. }
                | Body::Beaten { .. }
                | Body::Listed { .. }
                | Body::EpochEnded { .. }
                | Body::InitedProducer { .. }
                | Body::Administered { .. }
        )
    }

    /// Whether this event begins an operation.
    pub fn is_invocation(&self) -> bool {
        matches!(
            self,
            Body::Send(_)
                | Body::Poll(_)
                | Body::Commit(_)
                | Body::FetchCommit { .. }
                | Body::Heartbeat { .. }
                | Body::ListOffsets { .. }
                | Body::EpochEnd { .. }
                | Body::InitProducer
                | Body::Admin { .. }
        )
    }

    /// The keys that this event names.
    pub fn keys(&self) -> Vec<u32> {
        match self {
            Body::Send(send) => vec![send.key],
            Body::Poll(Poll { from: From::Fetch { key, .. }, .. }) => vec![*key],
            Body::Polled(polled) => polled.runs.iter().map(|run| run.key).collect(),
            Body::Assign { keys, .. } | Body::Subscribe { keys, .. } => keys.clone(),
            Body::Rebalance(rebalance) => [&rebalance.revoked[..], &rebalance.assigned[..]].concat(),
            Body::Commit(commit) => vec![commit.key],
            Body::FetchCommit { key, .. } | Body::ListOffsets { key, .. } | Body::EpochEnd { key, .. } => vec![*key],
            Body::Entry(entry) => vec![entry.key],
            Body::Replica(replica) => vec![replica.key],
            _ => vec![],
        }
    }
}
