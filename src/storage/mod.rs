//! Everything on disk. The only module that says `rocksdb`.
//!
//! A [`Store`] lies on a [`Kv`], which is RocksDB ([`RocksKv`]) or a simulated disk ([`SimKv`]). Through
//! its one log writer go all writes of the node, in order, so that what a crash leaves of them is a
//! prefix of what was queued (SAFETY B1). Each Raft group has a [`ReplicaLog`]: its entries, recent ones
//! in memory, and what Raft and the state machine save beside them.
//!
//! Left out: Raft's rules, and what payloads, votes, memberships and states mean.

mod budget;
pub mod contracts;
mod directory;
mod entry;
mod error;
mod floor;
mod formats;
#[cfg(test)]
mod fuzz;
mod identity;
mod keys;
mod kv;
mod log;
mod open;
mod probe;
mod reread;
mod rocks;
mod rocks_read_only;
mod rocks_space;
mod saved;
#[cfg_attr(not(feature = "internals"), allow(dead_code, reason = "the disk of simulations"))]
pub mod sim;
mod space;
mod starts;
mod store;
mod tail;
#[cfg(test)]
mod tests;
mod tombstones;
mod warm_up;
mod writer;

pub use directory::{disk_bytes, free_bytes, has_database};
pub use entry::{EntryKind, LogEntry, SavedState};
pub use error::{OpenLogError, StoreError, StoreFailed};
pub use identity::Identity;
pub use kv::{Family, KeyRange, Kv, KvError, KvFuture, ScanLimit, WriteBatch, WriteOp};
pub use log::ReplicaLog;
pub use probe::{Histogram, WriterCounters, WriterProbe};
pub use rocks::{RocksKv, RocksOptions, STORE_FAILED_EXIT_CODE, fail_stop};
pub use rocks_read_only::ReadOnlyKv;
pub use sim::{CrashTail, SimDisk, SimFault, SimKv};
pub use space::{SpaceCounters, SpaceProbe};
pub use starts::{ALARM_BYTES_MAX, SEEN_MAX, Seen, SetBack, Start, StartId, Starts};
pub use store::{Store, StoreOptions};
pub use tombstones::Tombstone;
pub use writer::{Done, OnFailure};
