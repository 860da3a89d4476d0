//! Entries of a log and states beside it, as the rest sees them: what is in a payload, a membership or a state is
//! not known here.

use bytes::Bytes;

use crate::types::EntryPosition;

/// What an entry is to Raft. Persisted: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryKind {
    Blank = 0,
    Normal = 1,
    Membership = 2,
}

impl EntryKind {
    pub fn from_byte(byte: u8) -> Option<EntryKind> {
        [EntryKind::Blank, EntryKind::Normal, EntryKind::Membership].into_iter().find(|kind| *kind as u8 == byte)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    pub position: EntryPosition,
    pub kind: EntryKind,
    pub payload: Bytes,
}

/// A state machine's state after the entry at `position`, with the membership in force there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedState {
    /// The last entry that the state holds. None before the first entry.
    pub position: Option<EntryPosition>,
    pub membership: Bytes,
    pub state: Bytes,
}
