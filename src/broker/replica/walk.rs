//! Reading a partition's records out of its Raft log by repeating apply's rule from an applied place:
//! an entry is live iff it begins at the offset expected (SAFETY M3). Never beyond what is applied.

use bytes::Bytes;

use super::{PartitionReplica, cursors::Cursor, planted::end_for_readers};
use crate::{
    partition::{AppendView, CommandError},
    record::{BatchHeader, walk},
    storage::{EntryKind, LogEntry},
    types::{LogIndex, Offset},
};

/// A live entry of the log, and the records that it appended.
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
    hosted: &'a PartitionReplica,
    at: Cursor,
    /// Fixed at the start, after the reader saw the partition's bounds: it sees one committed prefix, which holds
    /// all that lies within them.
    end: LogIndex,
}

impl<'a> Walker<'a> {
    /// Begins at the known place that is at or before `offset` and nearest to it.
    pub async fn to_offset(hosted: &'a PartitionReplica, offset: Offset) -> Result<Walker<'a>, WalkError> {
        let end = end_for_readers(&hosted.group);
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

    /// Begins at the last known place before the first record with a timestamp of `time` or later.
    pub async fn from_point(
        hosted: &'a PartitionReplica,
        point: Option<(Offset, LogIndex)>,
        log_start: Offset,
    ) -> Walker<'a> {
        let end = end_for_readers(&hosted.group);
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
            let live = take_live(&mut self.at, entries)?;
            if !live.is_empty() {
                return Ok(live);
            }
        }
        Ok(Vec::new())
    }
}

/// Apply's rule, repeated: of entries that begin at `at`, those that begin where the next offset is
/// expected are live. Moves `at` behind them all.
fn take_live(at: &mut Cursor, entries: Vec<LogEntry>) -> Result<Vec<Live>, WalkError> {
    let mut live = Vec::new();
    for entry in entries {
        let index = entry.position.index;
        at.index = LogIndex(index.0 + 1);
        match entry.kind {
            EntryKind::Blank | EntryKind::Membership => continue,
            EntryKind::Normal => {}
        }
        match AppendView::parse(&entry.payload) {
            Ok(append) if append.base_offset == at.expect => {
                at.expect = append.end_offset();
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

/// The last checkpoint at or before `offset`: what is left to start from after a purge.
fn from_checkpoint(hosted: &PartitionReplica, offset: Offset) -> Cursor {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        partition::{AppendBuilder, encode_trim},
        record::{BatchBuilder, BatchHeader, Codec, Record},
        types::{EntryPosition, LeaderEpoch, Term, WallMs},
    };

    fn entry(index: u64, kind: EntryKind, payload: Bytes) -> LogEntry {
        LogEntry { position: EntryPosition { term: Term(1), index: LogIndex(index) }, kind, payload }
    }

    /// An entry of `records` records whose leader believed that they begin at `base`.
    fn append(index: u64, base: i64, records: usize) -> LogEntry {
        let mut batch = BatchBuilder::new(Codec::None);
        for _ in 0..records {
            let record =
                Record { key: None, value: Some(Bytes::from_static(b"v")), headers: vec![], timestamp: WallMs(1) };
            batch.push(&record).unwrap();
        }
        let batch = batch.build().unwrap();
        let header = BatchHeader::parse(&batch).unwrap();
        let mut command = AppendBuilder::new(Offset(base), LeaderEpoch(1), WallMs(1), batch.len());
        command.push(&batch, &header, None);
        entry(index, EntryKind::Normal, command.finish())
    }

    fn offsets(live: &[Live]) -> Vec<(u64, i64)> {
        live.iter().map(|live| (live.index.0, live.append.base_offset.0)).collect()
    }

    /// SAFETY M3: offsets stay dense although the log holds entries that have none.
    #[test]
    fn m3_only_entries_that_begin_at_the_expected_offset_are_live() {
        let mut at = Cursor { index: LogIndex(4), expect: Offset(10) };
        let entries = vec![
            entry(4, EntryKind::Blank, Bytes::new()),
            append(5, 10, 2),
            append(6, 15, 1), // Dead: computed after a proposal that was refused.
            entry(7, EntryKind::Normal, encode_trim(WallMs(1), Offset(3))),
            append(8, 12, 3),
            append(9, 12, 3), // Dead: a second proposal for the same place.
            append(10, 15, 1),
        ];
        let live = take_live(&mut at, entries).unwrap();
        assert_eq!(offsets(&live), [(5, 10), (8, 12), (10, 15)]);
        assert_eq!((at.index, at.expect), (LogIndex(11), Offset(16)));
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_an_error_not_a_gap() {
        let mut at = Cursor { index: LogIndex(4), expect: Offset(10) };
        let cut = append(4, 10, 2).payload.slice(..5);
        assert!(take_live(&mut at, vec![entry(4, EntryKind::Normal, cut)]).is_err());
    }

    /// SAFETY M3: after a purge, points below it lead nowhere; the checkpoint at the log start does.
    #[test]
    fn m3_the_later_of_point_and_checkpoint_is_where_reading_begins() {
        let checkpoint = Cursor { index: LogIndex(50), expect: Offset(500) };
        let point = |index, offset| Some((Offset(offset), LogIndex(index)));
        let begins = |point| {
            let at = nearest(point, checkpoint);
            (at.index.0, at.expect.0)
        };
        assert_eq!(begins(point(40, 400)), (50, 500));
        assert_eq!(begins(point(60, 600)), (60, 600));
        assert_eq!(begins(None), (50, 500));
    }
}
