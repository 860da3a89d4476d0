//! Records on standard output: written and flushed, or known to have no reader.

use crate::{
    cli::{
        exit::Failure,
        format::PrintFormat,
        output::{Reader, write_out},
    },
    client::ConsumedRecord,
};

/// How many bytes of memory are kept from one write to the next.
const OUT_BYTES_KEPT_MAX: usize = 4 * 1024 * 1024;

/// Prints records, as many as are wanted.
pub struct Printer {
    format: PrintFormat,
    left: u64,
    out: Vec<u8>,
}

/// What became of printed records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Printed {
    /// They are written and flushed.
    All,
    /// So many were asked for; those are written and flushed.
    Enough,
    /// Whoever read standard output has gone, perhaps without these.
    NoReader,
}

impl Printer {
    /// Prints at most `wanted` records; None: however many there are.
    pub fn new(format: PrintFormat, wanted: Option<u64>) -> Printer {
        Printer { format, left: wanted.unwrap_or(u64::MAX), out: Vec::new() }
    }

    /// How many records may still be printed.
    pub fn left(&self) -> usize {
        usize::try_from(self.left).unwrap_or(usize::MAX)
    }

    /// Writes the records and flushes. A slow reader holds up nothing else in this process meanwhile.
    pub async fn print(&mut self, topic: &str, partition: i32, records: &[ConsumedRecord]) -> Result<Printed, Failure> {
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        for record in &records[..records.len().min(self.left())] {
            self.format.print(&mut out, topic, partition, record);
            self.left -= 1;
        }
        let write = tokio::task::spawn_blocking(move || write_out(&out).map(|reader| (out, reader)));
        let (out, reader) = write.await.map_err(|error| Failure::failed(format!("cannot print: {error}")))??;
        // What one huge record took is not kept for the small ones after it.
        self.out = if out.capacity() > OUT_BYTES_KEPT_MAX { Vec::new() } else { out };
        Ok(match (reader, self.left) {
            (Reader::Gone, _) => Printed::NoReader,
            (Reader::Listening, 0) => Printed::Enough,
            (Reader::Listening, _) => Printed::All,
        })
    }
}
