//! openraft's log store on top of [`ReplicaLog`], which owns the entries. This file only translates.

use std::{
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    sync::Arc,
};

use futures_util::{Stream, stream};
use openraft::{
    LogState, OptionalSend, RaftLogReader,
    storage::{IOFlushed, RaftLogStorage},
};

use super::{
    reads::{FEW_BYTES, READ_BYTES_MAX, ReadRoom, bytes_of},
    types::{
        RaftEntry, RaftLogId, RaftVote, Types, decode_vote, encode_vote, from_log_entry, log_id, position, to_log_entry,
    },
};
use crate::{
    storage::{LogEntry, ReplicaLog},
    types::LogIndex,
};

#[derive(Clone)]
pub(super) struct LogStore {
    pub log: ReplicaLog,
    /// Memory for what is read for followers.
    pub room: Arc<ReadRoom>,
}

fn entries(found: Vec<LogEntry>) -> io::Result<Vec<RaftEntry>> {
    found.into_iter().map(|entry| from_log_entry(entry).map_err(io::Error::other)).collect()
}

/// Half-open bounds of a range; the end is capped where the log ends anyway.
fn bounds(range: &impl RangeBounds<u64>) -> (LogIndex, LogIndex) {
    let from = match range.start_bound() {
        Bound::Included(at) => *at,
        Bound::Excluded(at) => at + 1,
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(at) => at + 1,
        Bound::Excluded(at) => *at,
        Bound::Unbounded => u64::MAX,
    };
    (LogIndex(from), LogIndex(to))
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<RaftEntry>> {
        let (from, to) = bounds(&range);
        entries(self.log.read_all(from, to).await.map_err(io::Error::other)?)
    }

    /// What is committed and to be applied. openraft takes what comes for all there is, and what does not come for applied: of a
    /// log that was deleted, which reads as empty, comes an error.
    async fn entries_stream<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<RaftEntry>> + OptionalSend {
        let read = self.try_get_log_entries(range).await;
        // After the read: what was deleted before is not missed.
        let (entries, error) = match read {
            Ok(_) if self.log.is_deleted() => (vec![], Some(io::Error::other("the log was deleted"))),
            Ok(entries) => (entries, None),
            Err(error) => (vec![], Some(error)),
        };
        stream::iter(entries.into_iter().map(Ok).chain(error.map(Err)))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<RaftEntry>> {
        let (from, to) = (LogIndex(start), LogIndex(end));
        if let Some(recent) = self.log.read_recent(from, to, READ_BYTES_MAX)
            && bytes_of(&recent) <= FEW_BYTES
        {
            return entries(recent);
        }
        let held = self.room.take().await;
        let found = self.log.read(from, to, READ_BYTES_MAX).await.map_err(io::Error::other)?;
        held.leave(&found);
        entries(found)
    }

    async fn read_vote(&mut self) -> io::Result<Option<RaftVote>> {
        self.log.vote().map(|bytes| decode_vote(&bytes)).transpose().map_err(io::Error::other)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        Ok(LogState { last_purged_log_id: self.log.purged().map(log_id), last_log_id: self.log.last().map(log_id) })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> io::Result<()> {
        self.log.save_vote(encode_vote(vote)).await.map_err(io::Error::other)
    }

    async fn save_committed(&mut self, committed: Option<RaftLogId>) -> io::Result<()> {
        self.log.save_committed(committed.as_ref().map(position));
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<RaftLogId>> {
        Ok(self.log.committed().map(log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<LogEntry> = entries.into_iter().map(to_log_entry).collect();
        // Back-pressure: a full writer queue holds this group's core, and only that (SAFETY M14).
        self.log.reserve().await;
        self.log.append(entries, Box::new(move |result| callback.io_completed(result.map_err(io::Error::other))));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<RaftLogId>) -> io::Result<()> {
        self.log.truncate_after(last.as_ref().map(position)).await.map_err(io::Error::other)
    }

    async fn purge(&mut self, upto: RaftLogId) -> io::Result<()> {
        self.log.purge(position(&upto)).await.map_err(io::Error::other)
    }
}
