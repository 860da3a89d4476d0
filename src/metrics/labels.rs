//! What labels say: an enum each, so that no value is sent that is not listed here with its meaning.

use prometheus_client::encoding::EncodeLabelSet;

/// Why something was refused or closed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReasonLabel {
    pub reason: &'static str,
}

pub(super) const UNPOISONED: &str = "no code that holds this lock panics";

/// What asking another replica to lead came to (`flotilla_raft_transfers_total`, label `result`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferResult {
    /// The other one leads.
    Moved,
    /// It did not within the time: this one leads on, or somebody else does.
    Failed,
}

impl TransferResult {
    pub fn name(self) -> &'static str {
        match self {
            TransferResult::Moved => "moved",
            TransferResult::Failed => "failed",
        }
    }
}

/// Why a peer's frame was not acted on (`flotilla_raft_frames_refused_total`, label `reason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameRefusal {
    /// No peer of ours sends such bytes: the stream ends.
    Malformed,
    /// A leader was announced that cannot be one.
    Announcement,
    /// The replica that the frame is for is not here.
    NoSuchReplica,
    /// The term that the frame names cannot be.
    Term,
    /// This node's disk takes no partition entries.
    DiskFull,
    /// Too many bytes of peers wait for this node's disk.
    Memory,
    /// The replica answers none of too many append exchanges.
    Exchanges,
    /// The peer is sending too many snapshots at once.
    Snapshots,
    /// Too many votes, transfers or snapshots of the peer are worked on.
    Requests,
}

impl FrameRefusal {
    pub fn name(self) -> &'static str {
        match self {
            FrameRefusal::Malformed => "malformed",
            FrameRefusal::Announcement => "announcement",
            FrameRefusal::NoSuchReplica => "no_such_replica",
            FrameRefusal::Term => "term",
            FrameRefusal::DiskFull => "disk_full",
            FrameRefusal::Memory => "memory",
            FrameRefusal::Exchanges => "exchanges",
            FrameRefusal::Snapshots => "snapshots",
            FrameRefusal::Requests => "requests",
        }
    }
}
