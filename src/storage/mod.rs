//! Everything on disk. The only module that says `rocksdb`.

mod error;
mod kv;
mod log;
mod probe;
mod store;

pub use error::{OpenLogError, StoreError, StoreFailed};
pub use kv::{Family, KeyRange, Kv, KvError, KvFuture, ScanLimit, WriteBatch, WriteOp};
pub use log::{Done, EntryKind, GroupLog, LogEntry, SavedState};
pub use probe::WriterProbe;
pub use store::{Identity, OnFailure, Store, StoreOptions};
