//! Stores to measure, and their logs.

use std::sync::Arc;

use bytes::Bytes;
use flotilla::{
    storage::{EntryKind, Kv, LogEntry, ReplicaLog, RocksKv, RocksOptions, Store, StoreOptions, WriterProbe},
    types::{EntryPosition, LogIndex, RaftGroupId, ReplicaId, Term},
};
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::oneshot};

/// On the disk that is built on: `/tmp` may be memory.
pub fn directory() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("cargo has made it")
}

pub async fn rocks(dir: &TempDir) -> Arc<dyn Kv> {
    Arc::new(RocksKv::open(dir.path(), RocksOptions::default()).await.expect("a new directory, or our own"))
}

/// Entries up to `tail_bytes_max` are kept in memory.
pub async fn store(kv: Arc<dyn Kv>, tail_bytes_max: usize) -> Store {
    let options = StoreOptions { tail_bytes_max, ..StoreOptions::default() };
    let on_failure = Arc::new(|failed: &_| panic!("the disk failed: {failed:?}"));
    Store::open(kv, options, WriterProbe::default(), on_failure).await.expect("a sound directory")
}

pub async fn log(store: &Store, group: u64) -> ReplicaLog {
    store.open_log(RaftGroupId(group), ReplicaId(group)).await.expect("a sound log")
}

/// Appends one entry. The answer comes when it is durable.
pub fn append(log: &ReplicaLog, index: u64, payload: Bytes) -> oneshot::Receiver<()> {
    let (done, durable) = oneshot::channel();
    let position = EntryPosition { term: Term(1), index: LogIndex(index) };
    let entry = LogEntry { position, kind: EntryKind::Normal, payload };
    let told = move |result: Result<(), _>| {
        result.expect("the disk works");
        let _ = done.send(()); // Who waits only for the last one is not there for this one.
    };
    log.append(vec![entry], Box::new(told));
    durable
}

/// As a broker on this machine has it.
pub fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().expect("a runtime")
}
