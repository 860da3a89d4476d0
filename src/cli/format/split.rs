//! Cutting a byte stream into records.
//!
//! Promises: every record comes out once and in order, wherever the input was cut when it arrived, and also the last
//! one when the input ends without its end. No input panics, and none takes more memory than one record may have.

use bytes::{Bytes, BytesMut};

use super::{
    read::{ReadFormat, find},
    values::ReadRecord,
};

/// An input without an end of record within this is not what the format says.
const RECORD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Cuts a byte stream into records.
#[derive(Debug)]
pub struct Splitter {
    format: ReadFormat,
    buffer: BytesMut,
    /// Whole records with their ends, which were cut off the buffer.
    whole: Bytes,
    /// How many bytes of `buffer` are known to hold no end.
    searched: usize,
    count: u64,
}

impl Splitter {
    pub fn new(format: ReadFormat) -> Splitter {
        Splitter { format, buffer: BytesMut::new(), whole: Bytes::new(), searched: 0, count: 0 }
    }

    /// Returns where to read input into. Call this only when `next_record` returned `None`.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Returns the next record, or `None` until more input is there. `is_over` says that no more will come, so that
    /// what is left is the last record, and `None` the end.
    pub fn next_record(&mut self, is_over: bool) -> Option<Result<ReadRecord, String>> {
        loop {
            if self.whole.is_empty() {
                self.cut_whole();
            }
            let (line, is_ended) = match self.next_line() {
                Some(line) => (line, true),
                None if self.buffer.len() > RECORD_BYTES_MAX => {
                    self.count += 1;
                    return Some(Err(self.complain("no end of record within 8 MiB")));
                }
                None if is_over && !self.buffer.is_empty() => {
                    self.searched = 0;
                    (self.buffer.split().freeze(), false)
                }
                None => return None,
            };
            self.count += 1;
            if !self.format.is_blank(&line) {
                let line = self.format.trim(line, is_ended);
                return Some(self.format.read_one(line).map_err(|error| self.complain(&error)));
            }
        }
    }

    /// A complaint about the record that came out last.
    pub fn complain(&self, what: &str) -> String {
        format!("record {} of the input: {what}", self.count)
    }

    /// Moves whole records from the buffer to `whole`, if there are any.
    fn cut_whole(&mut self) {
        let end = self.format.end();
        let from = self.searched.saturating_sub(end.len() - 1);
        // One byte cannot overlap itself, so all records up to the last one come off at once;
        // longer ends are looked for from the front, one at a time.
        let found = match end {
            [byte] => self.buffer[from..].iter().rposition(|b| b == byte),
            _ => find(&self.buffer[from..], end),
        };
        match found {
            Some(at) => {
                self.whole = self.buffer.split_to(from + at + end.len()).freeze();
                self.searched = 0;
            }
            None => self.searched = self.buffer.len(),
        }
    }

    /// The next of the whole records, without its end.
    fn next_line(&mut self) -> Option<Bytes> {
        let end = self.format.end();
        let at = find(&self.whole, end)?;
        let line = self.whole.split_to(at);
        self.whole = self.whole.slice(end.len()..);
        Some(line)
    }
}
