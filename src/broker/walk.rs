//! Reading a partition's records out of its Raft log by repeating apply's rule from an applied place:
//! an entry is live iff it begins at the offset expected (SAFETY M3). Never beyond what is applied.

use bytes::Bytes;

use super::{cursors::Cursor, hosted::Hosted};
use crate::{
    partition::{AppendView, CommandError},
    record::{BatchHeader, walk},
    storage::{EntryKind, LogEntry},
    types::{LogIndex, Offset},
};

/// A live entry.
pub struct Live {
    pub index: LogIndex,
    pub append: AppendView,
}

/// Why reading stopped short.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalkError {
    /// The place is gone: look for another one.
    #[error("the log was purged meanwhile")]
    Purged,
    #[error("{0}")]
    Failed(String),
}

/// Walks live entries forward.
pub struct Walker<'a> {
    hosted: &'a Hosted,
    at: Cursor,
    /// Fixed at the start: the reader sees one committed prefix.
    end: LogIndex,
}

impl<'a> Walker<'a> {
    /// From the place known to be at or before `offset` and nearest to it.
    pub async fn to_offset(hosted: &'a Hosted, offset: Offset) -> Result<Walker<'a>, WalkError> {
        let end = applied_end(hosted);
        let at = match hosted.cursors.get(offset) {
            Some(cursor) => cursor,
            None => {
                let point =
                    hosted.group.log().find_point(offset).await.map_err(|e| WalkError::Failed(e.to_string()))?;
                nearest(point, from_checkpoint(hosted, offset))
            }
        };
        Ok(Walker { hosted, at, end })
    }

    /// From the last known place before the first record with a timestamp of `time` or later.
    pub async fn from_point(hosted: &'a Hosted, point: Option<(Offset, LogIndex)>, log_start: Offset) -> Walker<'a> {
        let end = applied_end(hosted);
        Walker { hosted, at: nearest(point, from_checkpoint(hosted, log_start)), end }
    }

    /// Where the next live entry begins.
    pub fn cursor(&self) -> Cursor {
        self.at
    }

    /// Some live entries in order, of about `bytes` in all; empty at the end of what is applied.
    pub async fn next(&mut self, bytes: usize) -> Result<Vec<Live>, WalkError> {
        while self.at.index < self.end {
            let log = self.hosted.group.log();
            let entries = log.read(self.at.index, self.end, bytes.max(1)).await;
            let entries = entries.map_err(|e| WalkError::Failed(e.to_string()))?;
            let first = entries.first().map(|entry| entry.position.index);
            if first != Some(self.at.index) {
                return Err(WalkError::Purged);
            }
            let live = self.take_live(entries)?;
            if !live.is_empty() {
                return Ok(live);
            }
        }
        Ok(Vec::new())
    }

    fn take_live(&mut self, entries: Vec<LogEntry>) -> Result<Vec<Live>, WalkError> {
        let mut live = Vec::new();
        for entry in entries {
            let index = entry.position.index;
            self.at.index = LogIndex(index.0 + 1);
            match entry.kind {
                EntryKind::Blank | EntryKind::Membership => continue,
                EntryKind::Normal => {}
            }
            match AppendView::parse(&entry.payload) {
                Ok(append) if append.base_offset == self.at.expect => {
                    self.at.expect = append.end_offset();
                    live.push(Live { index, append });
                }
                // Dead: it came after a proposal that was never appended.
                Ok(_) => {}
                // A trim.
                Err(CommandError::Kind { .. }) => {}
                Err(error) => return Err(WalkError::Failed(format!("entry {index}: {error}"))),
            }
        }
        Ok(live)
    }
}

fn applied_end(hosted: &Hosted) -> LogIndex {
    LogIndex(hosted.group.applied().borrow().map_or(0, |index| index.0 + 1))
}

/// The last checkpoint at or before `offset`: what is left to start from after a purge.
fn from_checkpoint(hosted: &Hosted, offset: Offset) -> Cursor {
    let found = hosted.group.read(|state| {
        let checkpoints = state.checkpoints().iter().rev();
        let mut before = checkpoints.skip_while(|checkpoint| checkpoint.next_offset > offset);
        before.next().map(|c| Cursor { index: LogIndex(c.position.index.0 + 1), expect: c.next_offset })
    });
    found.unwrap_or(Cursor { index: LogIndex(0), expect: Offset(0) })
}

fn nearest(point: Option<(Offset, LogIndex)>, checkpoint: Cursor) -> Cursor {
    match point {
        Some((expect, index)) if index > checkpoint.index => Cursor { index, expect },
        Some(_) | None => checkpoint,
    }
}

/// The batches of a live entry, with their headers. They were checked before they were proposed.
pub fn batches_of(append: &AppendView) -> impl Iterator<Item = Result<(BatchHeader, Bytes), WalkError>> + '_ {
    walk(&append.batches).map(|found| match found {
        Ok((header, range)) => Ok((header, append.batches.slice(range))),
        Err(error) => Err(WalkError::Failed(format!("entry at offset {}: {error}", append.base_offset))),
    })
}
