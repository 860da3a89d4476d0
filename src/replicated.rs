//! What a Raft group replicates: a pure state machine, driven by module `raft`.
//!
//! The driver promises that entries come once each, in log order, on every replica; the state
//! machine promises that equal entries make equal states: no I/O, no clock, no randomness, no
//! iteration over unordered maps. A refusal is a replicated result like any other; only an entry that
//! this version cannot understand, or that contradicts the state, cannot be applied: that replica stops.

use bytes::Bytes;

use crate::formats::FEATURE_LEVEL;
use crate::rolling::Mixer;
use crate::types::{EntryPosition, Offset, WallMs};

/// Where a group's Raft snapshot is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotAt {
    /// The log is the data (partitions): the snapshot is the checkpoint at the purge point, so that
    /// a lagging follower still gets every retained record from the log (SAFETY M5).
    PurgePoint,
    /// The state is the data (metadata): the full state at the last applied entry (SAFETY M8).
    LastApplied,
}

/// A deterministic state machine. See the module's head for both sides' promises.
pub trait Replicated: Send + Sync + Sized + 'static {
    const SNAPSHOT_AT: SnapshotAt;

    /// Applies one command. Blank and membership entries never come here. After an error the state is as it was,
    /// and nothing more is applied to it: a replica that went on would differ from the others.
    fn apply(&mut self, at: EntryPosition, command: &Bytes) -> Result<Applied, CannotApply>;

    /// Whether the state *before* `command` must be kept as a checkpoint. Asked before each apply;
    /// must depend on nothing but the state and the command. Always false for `LastApplied`.
    fn checkpoint_due(&self, command: &Bytes) -> bool;

    /// A checkpoint of the state is about to be written; `at` is the last entry applied.
    /// Called before [`Replicated::encode`], so that the checkpoint knows of itself.
    fn checkpoint_taken(&mut self, at: EntryPosition);

    /// The newest checkpoint at or below the log start: entries up to and including it may be
    /// purged, and the Raft snapshot is that checkpoint. Never goes back. None: purge nothing.
    fn purge_point(&self) -> Option<EntryPosition>;

    /// Whether a checkpoint was taken at this entry and may still be asked for. Never for `LastApplied`.
    fn has_checkpoint(&self, _at: EntryPosition) -> bool {
        false
    }

    /// Sparse index points below this offset are of no more use (the last one at or below it is kept).
    fn index_floor(&self) -> Offset {
        Offset(0)
    }

    /// Whether this can be the state after the entry at `at`, as whoever handed both over says: it knows of no later one.
    fn can_be_after(&self, _at: Option<EntryPosition>) -> bool {
        true
    }

    /// Reads a state that is said to be the one after the entry at `at`. Bytes from a disk or a peer: never panics.
    fn decode_after(bytes: &[u8], at: Option<EntryPosition>) -> Result<Self, StateDecodeError> {
        let state = Self::decode(bytes)?;
        if !state.can_be_after(at) {
            let said = at.map_or("no entry".to_string(), |at| at.to_string());
            return Err(StateDecodeError::Malformed(format!("it is said to be of {said}, and knows of later ones")));
        }
        Ok(state)
    }

    /// Mixes a command into the hash by which replicas are compared. Asked for each entry that is applied, so what is
    /// large and has a checksum of its own stands there by its checksum; of what has none every byte counts.
    fn mix(command: &Bytes, mixer: &mut Mixer) {
        mixer.bytes(command);
    }

    /// What `mix` took on trust, for a command that was read from disk: says what is wrong with it.
    fn check_checksums(_command: &Bytes) -> Result<(), String> {
        Ok(())
    }

    /// The complete state, with a format version in front.
    fn encode(&self) -> Bytes;

    /// The inverse of `encode`. Bytes from a disk or a peer: never panics.
    fn decode(bytes: &[u8]) -> Result<Self, StateDecodeError>;
}

/// Why an entry can never be applied here: it is of a newer version, or some replica is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CannotApply(pub String);

/// What lies above the feature level that this version supports (`formats`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("needs feature level {needed}, version {} of the broker supports up to {FEATURE_LEVEL}", env!("CARGO_PKG_VERSION"))]
pub struct NeedsLevel {
    pub needed: u32,
}

/// What applying one command came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// For whoever proposed it; the state machine's own encoding.
    pub response: Bytes,
    /// A point for the sparse index, if one is due at this entry.
    pub index_point: Option<IndexPoint>,
}

/// A point of the sparse index: the entry that was just applied begins at this offset (SAFETY M3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexPoint {
    pub offset: Offset,
    /// The largest client timestamp of all records before this entry.
    pub max_timestamp_before: WallMs,
}

/// Encoded state that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StateDecodeError {
    #[error("state has format version {found}, this broker reads up to {known}: use a newer broker")]
    Version { found: u8, known: u8 },
    #[error("state is malformed: {0}")]
    Malformed(String),
    #[error("state {0}: use a newer broker")]
    FeatureLevel(NeedsLevel),
}
