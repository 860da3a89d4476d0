//! The operations of a history, each with both of its ends.

use serde::Serialize;

use crate::event::{AdminCall, AdminResult, Outcome, Phase, Protocol, Seek, Stored, Which};

/// Kinds of operations, as guards and errors name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Send,
    Poll,
    Commit,
    FetchCommit,
    Heartbeat,
    ListOffsets,
    EpochEnd,
    InitProducer,
    Admin,
}

impl Kind {
    pub const ALL: [Kind; 9] = [
        Kind::Send,
        Kind::Poll,
        Kind::Commit,
        Kind::FetchCommit,
        Kind::Heartbeat,
        Kind::ListOffsets,
        Kind::EpochEnd,
        Kind::InitProducer,
        Kind::Admin,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Send => "send",
            Kind::Poll => "poll",
            Kind::Commit => "commit",
            Kind::FetchCommit => "fetch_commit",
            Kind::Heartbeat => "heartbeat",
            Kind::ListOffsets => "list_offsets",
            Kind::EpochEnd => "epoch_end",
            Kind::InitProducer => "init_producer",
            Kind::Admin => "admin",
        }
    }
}

/// A send that belongs to no idempotent producer.
pub const PLAIN: u32 = u32::MAX;
/// A send that belongs to no batch.
pub const ALONE: u32 = u32::MAX;

/// One send. Times are of the run's clock, in nanoseconds.
#[derive(Clone, Debug)]
pub struct SendOp {
    pub value: u64,
    pub invoked: u64,
    pub returned: u64,
    /// Where it was acknowledged; [`super::NOWHERE`] if the answer did not say.
    pub offset: i64,
    pub key: u32,
    pub process: u32,
    pub producer: u32,
    pub sequence: i32,
    pub batch: u32,
    /// Below 0 if the answer did not say.
    pub leader_epoch: i32,
    pub outcome: Outcome,
    pub acks: i8,
    pub attempts: u8,
    pub node: u8,
}

/// Where a poll read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Fetch { key: u32, position: i64 },
    Assigned,
    Group,
}

/// One poll that returned.
#[derive(Clone, Debug)]
pub struct PollOp {
    pub op: u64,
    pub invoked: u64,
    pub returned: u64,
    pub process: u32,
    pub source: Source,
    pub outcome: Outcome,
    pub error: i16,
    pub node: u8,
    pub phase: Phase,
    /// From and up to which number of `runs`.
    pub runs: (u32, u32),
    /// From and up to which number of `marks`.
    pub marks: (u32, u32),
}

/// Records without a hole between them that one poll returned of one key.
#[derive(Clone, Debug)]
pub struct RunOp {
    pub base: i64,
    pub poll: u32,
    pub key: u32,
    /// Its first record in `records`.
    pub first: u32,
    pub count: u32,
    /// Below 0 if the answer did not say.
    pub epoch: i32,
}

impl RunOp {
    /// The offset after its last record.
    pub fn end(&self) -> i64 {
        self.base.saturating_add(i64::from(self.count))
    }
}

/// What a poll's answer said of a key's ends; [`super::NOWHERE`] where it did not say.
#[derive(Clone, Debug)]
pub struct Mark {
    pub poll: u32,
    pub key: u32,
    pub high_watermark: i64,
    pub log_start: i64,
}

/// What a process did next, in its own order: a poll that returned, or a change of what it reads.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Poll(u32),
    Change(u32),
}

#[derive(Clone, Debug)]
pub struct Change {
    pub at: u64,
    pub process: u32,
    pub what: Changed,
}

#[derive(Clone, Debug)]
pub enum Changed {
    Assign { keys: Vec<u32>, seek: Seek },
    Subscribe { group: u32, keys: Vec<u32> },
    Rebalance { group: u32, protocol: Protocol, generation: i32, member: u32, revoked: Vec<u32>, assigned: Vec<u32> },
    Leave { group: u32, member: u32 },
    Crash,
}

#[derive(Clone, Debug)]
pub struct CommitOp {
    pub invoked: u64,
    pub returned: u64,
    pub op: u64,
    pub process: u32,
    pub group: u32,
    pub key: u32,
    pub offset: i64,
    pub generation: i32,
    pub member: u32,
    pub id: u64,
    pub outcome: Outcome,
}

/// A look at what a group has committed, that was answered.
#[derive(Clone, Debug)]
pub struct CommitRead {
    pub invoked: u64,
    pub returned: u64,
    pub op: u64,
    pub process: u32,
    pub group: u32,
    pub key: u32,
    pub stored: Option<Stored>,
}

/// A heartbeat that was accepted.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    pub invoked: u64,
    pub op: u64,
    pub process: u32,
    pub group: u32,
    pub generation: i32,
    pub member: u32,
}

/// An offset that was asked for and given.
#[derive(Clone, Debug)]
pub struct Listed {
    pub invoked: u64,
    pub returned: u64,
    pub op: u64,
    pub process: u32,
    pub key: u32,
    pub which: Which,
    pub offset: i64,
}

/// Where an epoch ends, as somebody was told.
#[derive(Clone, Debug)]
pub struct EpochEnd {
    pub invoked: u64,
    pub returned: u64,
    pub op: u64,
    pub process: u32,
    pub key: u32,
    pub epoch: i32,
    pub end: i64,
}

/// A producer id that was handed out.
#[derive(Clone, Debug)]
pub struct Init {
    pub op: u64,
    pub process: u32,
    pub at: u64,
    pub producer_id: i64,
    pub producer_epoch: i16,
}

#[derive(Clone, Debug)]
pub struct AdminOp {
    pub invoked: u64,
    pub returned: u64,
    pub op: u64,
    pub process: u32,
    pub topic: u32,
    pub call: AdminCall,
    pub result: AdminResult,
}

/// One committed entry of one replica.
#[derive(Clone, Debug)]
pub struct EntryOp {
    pub index: u64,
    pub term: u64,
    pub hash: u64,
    pub base: i64,
    pub key: u32,
    /// Its first record in `entry_records`.
    pub first: u32,
    pub count: u32,
    pub node: u8,
}

/// Where a replica's committed log ends.
#[derive(Clone, Debug)]
pub struct ReplicaEnd {
    pub key: u32,
    pub node: u8,
    pub committed_index: u64,
    pub log_start: i64,
    pub state_hash: Option<u64>,
}

/// How often an error was met, and by whom first.
#[derive(Clone, Debug)]
pub struct Errors {
    pub count: u64,
    pub at: u64,
    pub process: u32,
    pub op: u64,
}
