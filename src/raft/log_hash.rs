//! What replicas of a group are compared by, as each of them says it: the rolling hash kept while entries are applied,
//! a hash of the state that they made, and the same of entries that are read again from disk.

use super::{entry_hash::hash, replica::Replica};
use crate::{
    replicated::Replicated,
    rolling::{Mark, Mixer},
    seam::aside,
    storage::{EntryKind, LogEntry, StoreFailed},
    types::LogIndex,
};

/// Entries with wrong checksums that one reading names; of more it only says that there are.
const WRONG_NAMED_MAX: usize = 16;

/// What a replica says of what it applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogHash {
    /// The first entry that its log holds, had or to come.
    pub first: LogIndex,
    /// The sums that it remembers, ascending; the last is where it is.
    pub marks: Vec<Mark>,
    /// The hash of its state there, if that was asked for.
    pub state: Option<u128>,
}

/// Entries that were read again from disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reread {
    /// They are `from..next`, all of them. Nothing was there to be read if the two are equal.
    pub from: LogIndex,
    pub next: LogIndex,
    /// The sum over them.
    pub sum: u128,
    pub bytes: u64,
    /// Those whose records are not what their checksum says, and how; the first few.
    pub wrong: Vec<(LogIndex, String)>,
}

impl<S: Replicated> Replica<S> {
    /// `with_state`: encodes the whole state, which may take a while.
    pub async fn log_hash(&self, with_state: bool) -> LogHash {
        let shared = self.0.shared.clone();
        let (marks, state) = match with_state {
            false => (shared.read_hashed(|_, rolling| rolling.marks()), None),
            // Readers go on meanwhile, and entries wait to be applied.
            true => {
                aside(move || {
                    let (marks, state) = shared.read_hashed(|state, rolling| (rolling.marks(), state.encode()));
                    let mut mixer = Mixer::default();
                    mixer.bytes(&state);
                    (marks, Some(mixer.finish()))
                })
                .await
            }
        };
        let first = LogIndex(self.log().purged().map_or(0, |purged| purged.index.0 + 1));
        LogHash { first, marks, state }
    }

    /// Reads entries `from..to` from disk again, as many as fit, and computes of what was read all that is compared.
    /// An error: the disk cannot be read, or has something else than was written to it; the caller must end the store.
    pub async fn reread(&self, from: LogIndex, to: LogIndex, bytes_max: usize) -> Result<Reread, StoreFailed> {
        // What is not applied may still be another entry.
        let to = to.min(self.state_next());
        let entries = self.log().reread(from, to, bytes_max).await?;
        let Some(first) = entries.first() else { return Ok(Reread { from, next: from, ..Reread::default() }) };
        let from = first.position.index;
        Ok(aside(move || {
            let mut reread = Reread { from, next: from, ..Reread::default() };
            for entry in entries {
                reread.add::<S>(&entry);
            }
            reread
        })
        .await)
    }
}

impl Reread {
    fn add<S: Replicated>(&mut self, entry: &LogEntry) {
        let index = entry.position.index;
        self.next = LogIndex(index.0 + 1);
        self.sum = self.sum.wrapping_add(hash::<S>(entry.position, entry.kind, &entry.payload));
        self.bytes += entry.payload.len() as u64;
        if entry.kind == EntryKind::Normal
            && let Err(what) = S::check_checksums(&entry.payload)
            && self.wrong.len() < WRONG_NAMED_MAX
        {
            self.wrong.push((index, what));
        }
    }
}
