//! The fourth seam: ordered keys on one disk. RocksDB (or a simulated disk) lies below it; the log
//! writer, the logs of groups, the sparse index and the checkpoints lie above it, the same code in both.

use std::{fmt, future::Future, pin::Pin};

use bytes::Bytes;

pub type KvFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, KvError>> + Send + 'a>>;

/// What a disk promises.
///
/// - A batch is atomic, and batches take effect in the order in which `commit` was called.
/// - After a crash a prefix of that order is left, which holds at least every batch whose own or any
///   later `commit(.., sync: true)` had returned: one write-ahead log orders everything.
/// - `get` and `scan` see every batch whose `commit` returned.
/// - After any error from `commit` the outcome of that batch is unknown and every later call fails;
///   the process must exit.
pub trait Kv: Send + Sync + 'static {
    fn get<'a>(&'a self, family: Family, key: &'a [u8]) -> KvFuture<'a, Option<Bytes>>;

    /// Pairs in key order (or from the end, if `reverse`), from a consistent view. Stops at a limit,
    /// after at least one pair.
    fn scan<'a>(
        &'a self,
        family: Family,
        range: KeyRange,
        limit: ScanLimit,
        reverse: bool,
    ) -> KvFuture<'a, Vec<(Bytes, Bytes)>>;

    /// One call at a time: the caller awaits each before the next.
    fn commit(&self, batch: WriteBatch, sync: bool) -> KvFuture<'_, ()>;

    /// The number of the last synced commit that has returned: durable, and one more with each. It lies
    /// beside the data, so a copy has the number of the moment at which it was taken.
    fn commit_no(&self) -> u64;

    /// Marks the data, for ever, as not to be used again, and says why (SAFETY B5). The first mark stays.
    fn condemn(&self, why: &str);
}

/// Column families. All share one write-ahead log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// The Raft entries of all logs, which are large values.
    Log,
    /// Small Raft state: votes, purge points, saved commits, identity, `commit_no`.
    State,
    /// Applied state, checkpoints, the sparse index.
    Applied,
}

impl Family {
    pub const ALL: [Family; 3] = [Family::Log, Family::State, Family::Applied];
}

/// All keys from `from` on, up to and without `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    pub from: Vec<u8>,
    pub to: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
pub struct ScanLimit {
    pub pairs: usize,
    /// The scan ends once the values that it returns hold so many bytes.
    pub bytes: usize,
}

/// Writes that take effect together. A value is kept in parts, so that a header and a payload need
/// no copy into one buffer.
#[derive(Clone, Debug, Default)]
pub struct WriteBatch {
    pub ops: Vec<WriteOp>,
    /// The bytes of all values in the batch.
    pub value_bytes: usize,
}

#[derive(Clone, Debug)]
pub enum WriteOp {
    Put { family: Family, key: Vec<u8>, value: [Bytes; 2] },
    Delete { family: Family, key: Vec<u8> },
    DeleteRange { family: Family, range: KeyRange },
}

impl WriteBatch {
    pub fn put(&mut self, family: Family, key: impl Into<Vec<u8>>, value: impl Into<Bytes>) {
        self.put_parts(family, key, [value.into(), Bytes::new()]);
    }

    pub fn put_parts(&mut self, family: Family, key: impl Into<Vec<u8>>, value: [Bytes; 2]) {
        self.value_bytes += value[0].len() + value[1].len();
        self.ops.push(WriteOp::Put { family, key: key.into(), value });
    }

    pub fn delete(&mut self, family: Family, key: impl Into<Vec<u8>>) {
        self.ops.push(WriteOp::Delete { family, key: key.into() });
    }

    pub fn delete_range(&mut self, family: Family, range: KeyRange) {
        self.ops.push(WriteOp::DeleteRange { family, range });
    }
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum KvError {
    /// Reading met damaged data: the broker stops and marks its directory (SAFETY B9).
    #[error("damaged data in {family:?}: {detail}")]
    Damaged { family: Family, detail: String },
    #[error("disk failed: {0}")]
    Io(String),
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Log => "log",
            Family::State => "state",
            Family::Applied => "applied",
        })
    }
}
