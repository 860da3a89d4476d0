//! Kafka's RecordBatch v2 as bytes: header, checks, patches, and records for our own clients.
//!
//! Promises: pure and synchronous; bytes from anywhere (a client, a disk) become an error with the
//! offending value in it, never a panic, and nothing is allocated from a length they claim beyond
//! what the caller allows. The broker's path (`header`) reads 61 bytes a batch, checks the CRC, and
//! never looks at a record; only our own clients and the plain-record API use `records`.
//!
//! Leaves out: message formats before v2, the wire protocol around batches, partitioners.

mod batch;
mod compress;
#[cfg(test)]
mod fuzz;
mod header;
mod records;
#[cfg(test)]
mod tests;
mod varint;
mod walk;

pub use batch::{BatchBuilder, EncodeError, Producer};
pub use compress::{Codec, DECODED_BYTES_MAX_DEFAULT, DecompressError};
pub use header::{
    BATCH_BYTES_MAX, BATCH_BYTES_MAX_DEFAULT, BATCH_HEADER_BYTES, BATCH_RECORDS_MAX, BatchError, BatchHeader,
    BatchLimits, NO_PRODUCER, append_patched, append_stamped, check_crc, validate_batch,
};
pub use records::{DecodeError, Record, RecordIter, decode_records, iter_records};
pub use walk::{Walk, walk};
