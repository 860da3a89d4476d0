//! A history as the rules read it: operations with both of their ends, in dense arrays, and each key's order of values.
//!
//! Values, keys, polls and records are numbers into these arrays; no rule looks anything up by hash for each record.

pub mod build;
pub mod order;
pub mod parts;
pub mod values;

use std::collections::{BTreeMap, HashMap};

pub use order::Order;
pub use parts::*;

use crate::event::Phase;

/// The return time of what did not return.
pub const NEVER: u64 = u64::MAX;
/// No offset, or none known.
pub const NOWHERE: i64 = i64::MIN;
/// A record whose value nobody sent.
pub const STRANGER: u32 = u32::MAX;

/// Everything that the rules ask of a history.
#[derive(Debug, Default)]
pub struct Facts {
    pub keys: usize,
    pub sends: Vec<SendOp>,
    /// Pairs of sends that carry one value: a fault of the harness.
    pub resent: Vec<(u32, u32)>,
    /// (producer id, producer epoch) by [`SendOp::producer`].
    pub producers: Vec<(i64, i16)>,
    pub polls: Vec<PollOp>,
    /// What was polled, as ranges without holes, by poll and in its order.
    pub runs: Vec<RunOp>,
    /// The send of each polled record, or [`STRANGER`]; [`RunOp`] says which are whose.
    pub records: Vec<u32>,
    /// Records that nobody sent: their place in `records`, and what was read.
    pub strangers: Vec<(u32, u64)>,
    pub marks: Vec<Mark>,
    /// What processes did, in their own order.
    pub steps: Vec<Step>,
    pub changes: Vec<Change>,
    pub commits: Vec<CommitOp>,
    pub commit_reads: Vec<CommitRead>,
    pub heartbeats: Vec<Heartbeat>,
    pub listed: Vec<Listed>,
    pub epoch_ends: Vec<EpochEnd>,
    pub inits: Vec<Init>,
    pub admins: Vec<AdminOp>,
    pub entries: Vec<EntryOp>,
    /// The sends of each entry's records.
    pub entry_records: Vec<u32>,
    pub replicas: Vec<ReplicaEnd>,
    /// How often an operation of a kind met an error, and the first that did.
    pub errors: BTreeMap<(Kind, i16), Errors>,
    /// Sends that ended as certain failures, by their error.
    pub failed_sends: BTreeMap<i16, u64>,
    /// How many operations of a kind were ok.
    pub ok: BTreeMap<(Phase, Kind), u64>,
    /// Workers that did not finish, with how many bytes of a last frame they left.
    pub unfinished: Vec<(String, u64)>,
    pub events: u64,
    pub last_at: u64,

    // Derived, in `build`.
    /// Each key's values by offset, from everything that shows one.
    pub orders: Vec<Order>,
    /// Offsets that show two values: (key, offset, first value seen, another).
    pub conflicts: Vec<(u32, i64, u32, u32)>,
    /// Where each value stands: its lowest offset.
    pub position: Vec<i64>,
    /// All offsets of values that stand at several, ascending.
    pub spread: HashMap<u32, Vec<i64>>,
    /// Sends that were acknowledged at an offset at which they were not seen, though they were seen elsewhere.
    pub moved: Vec<u32>,
    /// How many ok polls of its key returned each value, up to 255.
    pub read: Vec<u8>,
    /// The highest log start that was seen of each key.
    pub log_starts: Vec<i64>,
}

impl Facts {
    /// The records of a run: sends, or [`STRANGER`].
    pub fn records_of(&self, run: &RunOp) -> &[u32] {
        &self.records[run.first as usize..][..run.count as usize]
    }

    pub fn runs_of(&self, poll: &PollOp) -> &[RunOp] {
        &self.runs[poll.runs.0 as usize..poll.runs.1 as usize]
    }

    pub fn marks_of(&self, poll: &PollOp) -> &[Mark] {
        &self.marks[poll.marks.0 as usize..poll.marks.1 as usize]
    }

    /// All offsets of a value, ascending.
    pub fn offsets_of(&self, send: u32) -> Vec<i64> {
        match (self.spread.get(&send), self.position[send as usize]) {
            (Some(offsets), _) => offsets.clone(),
            (None, NOWHERE) => vec![],
            (None, offset) => vec![offset],
        }
    }

    /// The highest offset of a value.
    pub fn last_offset(&self, send: u32) -> i64 {
        self.spread.get(&send).and_then(|offsets| offsets.last()).copied().unwrap_or(self.position[send as usize])
    }

    pub fn was_read(&self, send: u32) -> bool {
        self.read[send as usize] > 0
    }

    /// The sends of a key's order are those that certainly or visibly took effect; this asks for their promise:
    /// acknowledged, by somebody who promised something.
    pub fn is_promised(&self, send: &SendOp) -> bool {
        send.outcome == crate::event::Outcome::Ok && send.acks != 0
    }

    /// Whether the log may have let go of what stood at `offset`.
    pub fn is_trimmed(&self, key: u32, offset: i64, retention: bool) -> bool {
        retention && offset < self.log_starts[key as usize]
    }

    /// The value of a send, or what a record of nobody's is.
    pub fn value(&self, send: u32) -> u64 {
        self.sends.get(send as usize).map_or(u64::MAX, |send| send.value)
    }

    /// Entries of replicas that the replica knew to be committed.
    pub fn committed_entries(&self) -> impl Iterator<Item = &EntryOp> {
        let ends: HashMap<(u8, u32), u64> =
            self.replicas.iter().map(|end| ((end.node, end.key), end.committed_index)).collect();
        let is_committed = move |entry: &&EntryOp| {
            ends.get(&(entry.node, entry.key)).is_some_and(|committed| entry.index <= *committed)
        };
        self.entries.iter().filter(is_committed)
    }

    pub fn poll_of(&self, run: &RunOp) -> &PollOp {
        &self.polls[run.poll as usize]
    }

    /// Whether a value that nobody is known to have sent may be one whose invocation was lost with its worker.
    pub fn may_lack_invocations(&self) -> bool {
        !self.unfinished.is_empty()
    }
}
