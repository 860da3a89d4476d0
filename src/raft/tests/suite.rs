//! openraft's own conformance suite for log stores and state machines, on ours.

use std::sync::Arc;

use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};

use super::Journal;
use crate::{
    metrics::Metrics,
    raft::{driver::Driver, log_store::LogStore, reads::ReadRoom, types::Types},
    storage::{Store, StoreOptions, WriterProbe, sim::SimDisk},
    types::{RaftGroupId, ReplicaId},
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
    super::super::types::Runtime::scope(7, Suite::test_all(Builder)).await.expect("the suite passes");
}
