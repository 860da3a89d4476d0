//! Reading a log from disk although memory has it, to learn whether the disk still does.

use super::{LogEntry, ReplicaLog, StoreFailed};
use crate::types::LogIndex;

impl ReplicaLog {
    /// Entries `from..to` as the disk has them, as far as they are durable and fit, contiguous; at least one if there is
    /// any. The database verifies the checksums of what it reads. An error must end the store, as that of any other
    /// read does (SAFETY B9); the caller does it, once it has said what it met. Nothing if the log was purged beyond
    /// `to`; where it was purged meanwhile, what is left begins later.
    pub async fn reread(&self, from: LogIndex, to: LogIndex, bytes_max: usize) -> Result<Vec<LogEntry>, StoreFailed> {
        let (from, to, truncations) = {
            let state = self.0.lock();
            let durable = state.flushed().map_or(0, |flushed| flushed.0 + 1);
            (from.max(state.first), to.min(LogIndex(durable)), state.truncations)
        };
        if from >= to {
            return Ok(vec![]);
        }
        let entries = self.0.look(from, to, bytes_max).await?;
        let state = self.0.lock();
        // Another log than the one that was asked about.
        if state.is_deleted || state.truncations != truncations || state.installing.is_some() {
            return Ok(vec![]);
        }
        let expected = from.max(state.first);
        drop(state);
        match entries.first().map(|entry| entry.position.index) {
            // Purged while it was read.
            None if expected >= to => Ok(vec![]),
            Some(found) if found <= expected => Ok(entries),
            found => Err(self.0.damage(&format!("entry {expected} is missing on disk: found {found:?}"))),
        }
    }
}
