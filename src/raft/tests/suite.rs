//! openraft's own conformance suite for log stores and state machines, on ours.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use openraft::{
    RaftLogReader, StorageError,
    storage::{IOFlushed, RaftLogStorage},
    testing::log::{StoreBuilder, Suite},
};

use super::Journal;
use crate::{
    metrics::Metrics,
    raft::{
        driver::Driver,
        log_store::LogStore,
        reads::ReadRoom,
        types::{Runtime, Types, from_log_entry},
    },
    storage::{EntryKind, LogEntry, Store, StoreOptions, WriterProbe, sim::SimDisk},
    types::{EntryPosition, LogIndex, RaftGroupId, ReplicaId, Term},
};

struct Builder;

impl StoreBuilder<Types, LogStore, Driver<Journal>, SimDisk> for Builder {
    async fn build(&self) -> Result<(SimDisk, LogStore, Driver<Journal>), StorageError<Types>> {
        let disk = SimDisk::new(1);
        let fail = Arc::new(|e: &_| eprintln!("the disk failed, as when it was crashed: {e:?}"));
        let store = Store::open(Arc::new(disk.open()), StoreOptions::default(), WriterProbe::default(), fail);
        let store = store.await.expect("an empty disk opens");
        // Alone: the suite drives the log without the state machine that it would belong to.
        let log = store.open_log_alone(RaftGroupId(1), ReplicaId(0)).await.expect("an empty log opens");
        let (driver, _) = Driver::load(log.clone(), Journal::default()).await.expect("an empty state loads");
        let room = Arc::new(ReadRoom::new(Metrics::new().raft()));
        Ok((disk, LogStore { log, room }, driver))
    }
}

#[tokio::test(start_paused = true)]
async fn our_store_passes_the_suite_of_openraft() {
    Runtime::scope(7, Suite::test_all(Builder)).await.expect("the suite passes");
}

/// What is applied is read there, and what does not come is taken for applied.
#[tokio::test(start_paused = true)]
async fn entries_of_a_deleted_log_are_not_taken_for_none() {
    Runtime::scope(7, async {
        let (disk, group) = (SimDisk::new(1), RaftGroupId(1));
        let fail = Arc::new(|e: &_| panic!("{e:?}"));
        let store = Store::open(Arc::new(disk.open()), StoreOptions::default(), WriterProbe::default(), fail);
        let store = store.await.expect("an empty disk opens");
        let log = store.open_log_alone(group, ReplicaId(0)).await.expect("an empty log opens");
        let mut log_store = LogStore { log, room: Arc::new(ReadRoom::new(Metrics::new().raft())) };
        let blank = |index| {
            let position = EntryPosition { term: Term(1), index: LogIndex(index) };
            from_log_entry(LogEntry { position, kind: EntryKind::Blank, payload: Bytes::new() }).expect("well formed")
        };
        log_store.append((0..3).map(blank), IOFlushed::noop()).await.expect("appended");
        let mut read = async || log_store.entries_stream(0..3).await.collect::<Vec<_>>().await;
        assert!(matches!(read().await[..], [Ok(_), Ok(_), Ok(_)]));
        store.delete_group(group, LogIndex(7)).await.expect("deleted");
        assert!(matches!(read().await[..], [Err(_)]));
    })
    .await;
}
