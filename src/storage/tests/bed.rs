//! What tests stand on: either disk under one store, and short ways to say what they write.

use std::{
    future::Future,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{
    storage::{
        Kv, LogEntry, OnFailure, ReplicaLog, RocksKv, RocksOptions, SavedState, SimDisk, Store, StoreFailed,
        StoreOptions, WriterProbe, log::tests::entry,
    },
    types::{EntryPosition, LogIndex, RaftGroupId, ReplicaId, Term},
};

/// A disk of either kind, that can be opened again.
pub enum Bed {
    Sim(SimDisk),
    Rocks(tempfile::TempDir),
}

impl Bed {
    pub async fn kv(&self) -> Arc<dyn Kv> {
        match self {
            Bed::Sim(disk) => Arc::new(disk.open()),
            Bed::Rocks(dir) => Arc::new(RocksKv::open(dir.path(), RocksOptions::default()).await.expect("open")),
        }
    }

    pub async fn store(&self) -> Store {
        open(self.kv().await).await
    }
}

/// Runs a test on both disks.
pub fn on_both<F: Future<Output = ()>>(test: impl Fn(Bed) -> F) {
    paused(test(Bed::Sim(SimDisk::new(1))));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(test(Bed::Rocks(tempfile::tempdir().expect("a temporary directory"))));
}

/// Runs a test on one thread whose clock moves only when nothing else does.
pub fn paused<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(test)
}

/// Remembers what failed instead of ending the process.
#[derive(Clone, Default)]
pub struct Failures(pub Arc<Mutex<Vec<StoreFailed>>>);

impl Failures {
    pub fn callback(&self) -> OnFailure {
        let failures = self.0.clone();
        Arc::new(move |failed| failures.lock().expect("lock").push(failed.clone()))
    }

    pub fn get(&self) -> Vec<StoreFailed> {
        self.0.lock().expect("lock").clone()
    }
}

pub async fn open(kv: Arc<dyn Kv>) -> Store {
    open_with(kv, StoreOptions::default(), &Failures::default()).await
}

pub async fn open_with(kv: Arc<dyn Kv>, options: StoreOptions, failures: &Failures) -> Store {
    let store = Store::open(kv, options, WriterProbe::default(), failures.callback()).await;
    store.expect("the store opens")
}

pub const G: RaftGroupId = RaftGroupId(70_000);
pub const R: ReplicaId = ReplicaId(80_000);

pub fn at(term: u64, index: u64) -> EntryPosition {
    EntryPosition { term: Term(term), index: LogIndex(index) }
}

pub fn entries(term: u64, indexes: std::ops::Range<u64>) -> Vec<LogEntry> {
    indexes.map(|index| entry(term, index, 100)).collect()
}

pub fn saved(position: EntryPosition, state: &str) -> SavedState {
    SavedState {
        position: Some(position),
        membership: Bytes::from_static(b"members"),
        state: Bytes::copy_from_slice(state.as_bytes()),
    }
}

/// Appends without waiting.
pub fn start_append(log: &ReplicaLog, entries: Vec<LogEntry>) -> oneshot::Receiver<Result<(), StoreFailed>> {
    let (tx, rx) = oneshot::channel();
    log.append(entries, Box::new(move |result| drop(tx.send(result))));
    rx
}

pub async fn append(log: &ReplicaLog, entries: Vec<LogEntry>) {
    start_append(log, entries).await.expect("completed").expect("durable");
}

pub async fn all(log: &ReplicaLog) -> Vec<LogEntry> {
    log.read_all(LogIndex(0), LogIndex(u64::MAX)).await.expect("read")
}
