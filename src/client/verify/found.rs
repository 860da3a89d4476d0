//! What a comparison found.

use super::compare::Difference;
use crate::types::{BrokerId, TopicPartition};

/// What a comparison says of one partition. The worst of several is the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// All replicas were asked and nothing differs.
    Valid,
    /// Nothing differs as far as it is known; something is not known.
    Unknown,
    /// Replicas hold different things, or one's disk does not hold what was written to it.
    Differs,
}

impl Verdict {
    /// The word for it, which is an interface.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Valid => "valid",
            Verdict::Unknown => "unknown",
            Verdict::Differs => "differs",
        }
    }
}

/// What was found about one partition, or about the metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedGroup {
    /// The partition; `None`: the metadata.
    pub partition: Option<TopicPartition>,
    /// The Raft group's number, as brokers' logs have it; 0 if nobody answered.
    pub group: u64,
    /// The brokers that should hold a replica.
    pub replicas: Vec<BrokerId>,
    /// The entries by which at least two replicas were compared, from the first index up to and without the second.
    pub compared: Option<(u64, u64)>,
    /// Whether also their states were, which is possible only if they stand still for a moment.
    pub is_state_compared: bool,
    /// Entries that differ between replicas, by what each applied.
    pub differences: Vec<Difference>,
    /// The replicas' states differ: who agrees with whom, the most first.
    pub states: Vec<Vec<BrokerId>>,
    /// What is not known, one sentence each: who does not answer, who is behind.
    pub unknown: Vec<String>,
    /// What reading the disks again found; `None`: they were not read.
    pub disks: Option<VerifiedDisks>,
}

/// What reading the disks of a partition's replicas again found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedDisks {
    /// The entries that were read, from the first index up to and without the second.
    pub entries: Option<(u64, u64)>,
    /// What was read on all disks together.
    pub bytes: u64,
    /// Entries that differ between disks, or between a disk and what was applied.
    pub differences: Vec<Difference>,
    /// What is wrong with single disks, one sentence each.
    pub damage: Vec<String>,
}

impl VerifiedGroup {
    /// What it comes to.
    pub fn verdict(&self) -> Verdict {
        let disks = self.disks.as_ref();
        let is_damaged = disks.is_some_and(|disks| !disks.differences.is_empty() || !disks.damage.is_empty());
        match () {
            () if is_damaged || !self.differences.is_empty() || !self.states.is_empty() => Verdict::Differs,
            () if !self.unknown.is_empty() => Verdict::Unknown,
            () => Verdict::Valid,
        }
    }

    /// The partition's name, or `metadata`.
    pub fn name(&self) -> String {
        self.partition.as_ref().map_or_else(|| "metadata".to_string(), ToString::to_string)
    }
}
