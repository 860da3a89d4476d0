//! Everything on disk. The only module that says `rocksdb`.

mod kv;

pub use kv::{Family, KeyRange, Kv, KvError, KvFuture, ScanLimit, WriteBatch, WriteOp};
