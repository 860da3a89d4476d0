//! Reads numbers from bytes that a peer sent, never past their end.

use bytes::{Buf, Bytes};

use super::super::types::{Malformed, RaftLogId, RaftVote, log_id, vote_from_parts};
use crate::types::{EntryPosition, LOG_INDEX_MAX, LogIndex, TERM_MAX, Term};

pub(super) struct Reader(pub Bytes);

impl Reader {
    fn need(&self, bytes: usize) -> Result<(), Malformed> {
        if self.0.len() < bytes {
            return Err(Malformed(format!("body: {bytes} bytes wanted, {} left", self.0.len())));
        }
        Ok(())
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.need(1)?;
        Ok(self.0.get_u8())
    }

    pub fn flag(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Malformed(format!("flag {other}"))),
        }
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.need(4)?;
        Ok(self.0.get_u32())
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.need(8)?;
        Ok(self.0.get_u64())
    }

    /// Reads so many bytes, which share the frame's buffer.
    pub fn bytes(&mut self, count: usize) -> Result<Bytes, Malformed> {
        self.need(count)?;
        Ok(self.0.split_to(count))
    }

    pub fn position(&mut self) -> Result<EntryPosition, Malformed> {
        let (term, index) = (self.term()?, self.u64()?);
        if index > LOG_INDEX_MAX {
            return Err(Malformed(format!("index {index}")));
        }
        Ok(EntryPosition { term: Term(term), index: LogIndex(index) })
    }

    /// Terms become leader epochs, which cannot hold more (SAFETY M12).
    fn term(&mut self) -> Result<u64, Malformed> {
        let term = self.u64()?;
        if term > TERM_MAX { Err(Malformed(format!("term {term}"))) } else { Ok(term) }
    }

    pub fn log_id(&mut self) -> Result<Option<RaftLogId>, Malformed> {
        Ok(if self.flag()? { Some(log_id(self.position()?)) } else { None })
    }

    pub fn vote(&mut self) -> Result<RaftVote, Malformed> {
        Ok(vote_from_parts((self.term()?, self.u64()?, self.flag()?)))
    }

    pub fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed(format!("body: {} bytes too many", self.0.len()))) }
    }
}
