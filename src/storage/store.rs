//! One store per data directory: opens the logs of Raft groups, and owns what they share, which is
//! the disk, the writer in front of it and the budget of entries in memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Duration,
};

use bytes::Bytes;

use super::{
    Family, Identity, KeyRange, Kv, OpenLogError, ReplicaLog, SEEN_MAX, ScanLimit, Seen, StartId, Starts, StoreError,
    StoreFailed, WriteBatch, WriterProbe,
    budget::Budget,
    formats, keys,
    log::{Handle, OpenLog, State},
    open::{Loader, REPLACE_REPLICA},
    writer::{OnFailure, Write, Writer, wait_done, waiter},
};
use crate::types::{BrokerId, LogIndex, RaftGroupId, ReplicaId};

/// Groups read from disk at once while they are listed.
const GROUPS_PER_SCAN: usize = 1_000;

/// Writes that wait for the disk, unless options say otherwise: half a second's of a good disk.
pub const QUEUE_BYTES_MAX_DEFAULT: usize = 64 << 20;

#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The bytes of recent entries that are kept in memory, all groups together.
    pub tail_bytes_max: usize,
    /// The bytes of writes that may wait for the disk; above it `ReplicaLog::reserve` waits.
    pub queue_bytes_max: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions { tail_bytes_max: 256 << 20, queue_bytes_max: QUEUE_BYTES_MAX_DEFAULT }
    }
}

/// All groups' logs on one disk. When the last handle of it and of its logs is gone, the writer
/// writes what is queued and lets go of the disk.
#[derive(Clone)]
pub struct Store(pub(super) Arc<Shared>);

/// What the logs of all groups share: the writer, the disk, the memory.
pub(super) struct Shared {
    kv: Arc<dyn Kv>,
    pub writer: Arc<Writer>,
    pub budget: Budget,
    /// The groups whose logs are open now.
    open: Mutex<BTreeMap<RaftGroupId, Open>>,
}

struct Open {
    group: Weak<OpenLog>,
    handle: Weak<Handle>,
}

impl Open {
    fn is_open(&self) -> bool {
        self.handle.strong_count() > 0
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.writer.close();
    }
}

impl Shared {
    pub async fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreFailed> {
        self.check()?;
        self.kv.get(family, key).await.map_err(|error| self.failed(error.into()))
    }

    pub async fn scan(
        &self,
        family: Family,
        range: KeyRange,
        limit: ScanLimit,
        reverse: bool,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreFailed> {
        self.check()?;
        self.kv.scan(family, range, limit, reverse).await.map_err(|error| self.failed(error.into()))
    }

    /// As [`Shared::scan`], forwards, and leaves what an error means to the caller.
    pub async fn look(
        &self,
        family: Family,
        range: KeyRange,
        limit: ScanLimit,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreFailed> {
        self.check()?;
        self.kv.scan(family, range, limit, false).await.map_err(StoreFailed::from)
    }

    /// Refuses whatever is asked of a store that has failed (SAFETY B9).
    fn check(&self) -> Result<(), StoreFailed> {
        self.writer.failure().map_or(Ok(()), Err)
    }

    fn failed(&self, failed: StoreFailed) -> StoreFailed {
        self.writer.fail(failed.clone());
        failed
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<RaftGroupId, Open>> {
        self.open.lock().expect("nothing panics while it holds this lock")
    }
}

impl Store {
    /// Starts the log writer, a task of the current tokio runtime, on a disk that has passed its own
    /// checks (`RocksKv::open`: lock, damaged mark, FLOOR). Whose the directory is, `identity` tells.
    pub async fn open(
        kv: Arc<dyn Kv>,
        options: StoreOptions,
        probe: WriterProbe,
        on_failure: OnFailure,
    ) -> Result<Store, StoreError> {
        let writer = Writer::start(kv.clone(), options.queue_bytes_max, probe.clone(), on_failure);
        let budget = Budget::new(options.tail_bytes_max, probe);
        let store = Store(Arc::new(Shared { kv, writer, budget, open: Mutex::default() }));
        // A directory that cannot say whose it is must not be used at all.
        store.identity().await?;
        Ok(store)
    }

    /// Opens the log of a group, or begins it. Refuses a log that breaks a rule of SAFETY B1.
    pub async fn open_log(&self, group: RaftGroupId, replica: ReplicaId) -> Result<ReplicaLog, OpenLogError> {
        self.open_with(group, replica, true).await
    }

    /// A log without a state machine, for suites that test a log alone: SAFETY B1's rules about
    /// applied state and checkpoints are not held, the first entry may have any index, and a purge
    /// may go beyond the last entry. Never for a replica of a cluster.
    #[doc(hidden)]
    #[cfg(test)]
    pub async fn open_log_alone(&self, group: RaftGroupId, replica: ReplicaId) -> Result<ReplicaLog, OpenLogError> {
        self.open_with(group, replica, false).await
    }

    async fn open_with(
        &self,
        group: RaftGroupId,
        replica: ReplicaId,
        is_strict: bool,
    ) -> Result<ReplicaLog, OpenLogError> {
        if self.is_open(group) {
            return Err(OpenLogError::AlreadyOpen { group });
        }
        // The group's last handle may just have gone, with writes still queued that must be seen.
        if !self.0.writer.is_idle() {
            self.0.writer.write(WriteBatch::default(), true).await?;
        }
        if self.0.get(Family::State, &keys::tombstone(group)).await?.is_some() {
            return Err(OpenLogError::Tombstoned { group });
        }
        let loader = Loader { store: &self.0, group, replica };
        let registered = loader.registered().await?;
        if let Some(here) = registered
            && here != replica
        {
            return Err(OpenLogError::WrongReplica { group, here, asked: replica });
        }
        let state = loader.load(is_strict).await?;
        if registered.is_none() {
            let is_empty = state.last.is_none() && state.vote.is_none() && state.applied.is_none();
            if !is_empty {
                return Err(loader.damaged("it has a log but no replica id".into()));
            }
            let mut batch = WriteBatch::default();
            batch.put(Family::State, keys::replica(group), formats::replica(replica));
            self.0.writer.write(batch, true).await?;
        }
        self.register(OpenLog::new(group, replica, self.0.clone(), is_strict, state))
    }

    fn is_open(&self, group: RaftGroupId) -> bool {
        self.0.open().get(&group).is_some_and(Open::is_open)
    }

    fn register(&self, group: OpenLog) -> Result<ReplicaLog, OpenLogError> {
        let id = group.id;
        let group = Arc::new(group);
        let mut open = self.0.open();
        // Opened by someone else while we read: two handles would each have half of the log. Ours is
        // dropped after the lock.
        if open.get(&id).is_some_and(Open::is_open) {
            drop(open);
            return Err(OpenLogError::AlreadyOpen { group: id });
        }
        open.retain(|_, open| open.is_open());
        let handle = Arc::new(Handle);
        open.insert(id, Open { group: Arc::downgrade(&group), handle: Arc::downgrade(&handle) });
        Ok(ReplicaLog(group, handle))
    }

    /// Groups with any state here, in order of their ids.
    pub async fn groups(&self) -> Result<Vec<(RaftGroupId, ReplicaId)>, StoreError> {
        let limit = ScanLimit { pairs: GROUPS_PER_SCAN, bytes: usize::MAX };
        let mut groups: Vec<(RaftGroupId, ReplicaId)> = vec![];
        let mut from = Some(RaftGroupId(0));
        while let Some(first) = from {
            let found = self.0.scan(Family::State, keys::replicas(first), limit, false).await?;
            let is_last = found.len() < GROUPS_PER_SCAN;
            for (key, value) in found {
                let group = keys::read_replica(&key);
                let group = group.ok_or_else(|| damaged("a replica id has a malformed key".into()))?;
                let replica = formats::read_replica(value).map_err(|error| {
                    damaged(format!("the replica id of raft group {group} cannot be read: {error}"))
                })?;
                groups.push((group, replica));
            }
            let next = groups.last().and_then(|(last, _)| last.0.checked_add(1)).map(RaftGroupId);
            from = next.filter(|_| !is_last);
        }
        Ok(groups)
    }

    /// Deletes all of a group in one synced batch and leaves a tombstone, so that it is not opened
    /// again until the metadata log has passed its deletion, which is the entry at `deleted_at` there
    /// (SAFETY M11). A log of it that is still open writes nothing more.
    pub async fn delete_group(&self, group: RaftGroupId, deleted_at: LogIndex) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        batch.delete_range(Family::Log, keys::entries(group, LogIndex(0), None));
        batch.delete_range(Family::Applied, keys::checkpoints(group, LogIndex(0), None));
        batch.delete_range(Family::Applied, keys::points(group, None));
        batch.delete(Family::Applied, keys::applied(group));
        batch.delete(Family::Applied, keys::rolling(group));
        for key in [keys::replica(group), keys::vote(group), keys::purged(group), keys::saved_commit(group)] {
            batch.delete(Family::State, key);
        }
        batch.put(Family::State, keys::tombstone(group), formats::tombstone(deleted_at));
        let (done, wait) = waiter();
        let open = self.0.open().get(&group).and_then(|open| open.group.upgrade());
        let refused = {
            // Held so that no write of the group is queued behind the deletion.
            let mut state = open.as_ref().map(|open| open.lock());
            if let Some(state) = &mut state {
                self.0.budget.freed(state.tail.bytes());
                **state = State { is_deleted: true, ..State::default() };
            }
            self.0.writer.queue(Write::synced(batch, done)).err()
        };
        if let Some(refused) = refused {
            refused.complete();
        }
        Ok(wait_done(wait).await?)
    }

    /// Ends this store: what was read from it is not what was written (SAFETY B9).
    pub fn fail(&self, failed: StoreFailed) {
        self.0.writer.fail(failed);
    }

    /// How long the commit under way has taken, if one is (SAFETY M14).
    pub fn commit_running(&self) -> Option<Duration> {
        self.0.writer.probe.commit_running()
    }

    /// A barrier: everything queued before is durable when it returns.
    pub async fn flush(&self) -> Result<(), StoreFailed> {
        self.0.writer.write(WriteBatch::default(), true).await
    }

    /// Flushes, then ends the writer: every later write is refused, and the disk is free once the
    /// last handle of this store and its logs is gone.
    pub async fn close(&self) -> Result<(), StoreFailed> {
        let result = self.flush().await;
        self.0.writer.close();
        self.0.writer.wait_ended().await;
        result
    }

    /// Whose directory this is. None: it is new, or was emptied; which of the two, only the cluster knows.
    pub async fn identity(&self) -> Result<Option<Identity>, StoreError> {
        let value = self.0.get(Family::State, keys::IDENTITY).await?;
        let identity = value.map(formats::read_identity).transpose();
        identity.map_err(|error| damaged(format!("its identity cannot be read: {error}")))
    }

    /// Begins a life of this broker: its id is added to those of the starts before it, and is durable when
    /// this returns. To be called once a process, before anything is told to another broker.
    pub async fn begin_start(&self, id: StartId) -> Result<Starts, StoreError> {
        let value = self.0.get(Family::State, keys::STARTS).await?;
        let before = value.map(formats::read_starts).transpose();
        let before = before.map_err(|error| damaged(format!("its starts cannot be read: {error}")))?;
        let starts = Starts::after(before, id, self.0.kv.commit_no());
        let mut batch = WriteBatch::default();
        batch.put(Family::State, keys::STARTS, formats::starts(&starts));
        self.0.writer.write(batch, true).await?;
        Ok(starts)
    }

    /// The number of the last synced commit that others need to hear of. No power cut takes it back.
    pub fn commit_no(&self) -> u64 {
        self.0.writer.loud_commit_no()
    }

    /// Marks this directory as one that must never be used again (SAFETY B5).
    pub fn condemn(&self, why: &str) {
        self.0.kv.condemn(why);
    }

    /// What this broker has seen of others.
    pub async fn all_seen(&self) -> Result<BTreeMap<BrokerId, Seen>, StoreError> {
        let limit = ScanLimit { pairs: SEEN_MAX, bytes: usize::MAX };
        let found = self.0.scan(Family::State, keys::all_seen(), limit, false).await?;
        let pairs = found.into_iter().map(|(key, value)| {
            let broker = keys::read_seen(&key).ok_or_else(|| damaged("what was seen has a malformed key".into()))?;
            let seen = formats::read_seen(value)
                .map_err(|error| damaged(format!("what was seen of broker {broker} cannot be read: {error}")))?;
            Ok((broker, seen))
        });
        pairs.collect()
    }

    /// Keeps what was seen of a broker. Durable when it returns.
    pub async fn save_seen(&self, broker: BrokerId, seen: &Seen) -> Result<(), StoreError> {
        let (done, wait) = waiter();
        if let Err(refused) = self.0.writer.queue(Write::synced(seen_batch(broker, seen), done).quiet()) {
            refused.complete();
        }
        Ok(wait_done(wait).await?)
    }

    /// Keeps what was seen of a broker with the next write that is synced anyway, so that it costs no fsync of its own.
    /// [`Store::sync_seen`] with what this returns makes it durable if no such write comes.
    pub fn queue_seen(&self, broker: BrokerId, seen: &Seen) -> u64 {
        if let Err(refused) = self.0.writer.queue(Write::unsynced(seen_batch(broker, seen)).quiet()) {
            refused.complete();
        }
        // The next commit may have begun before; the one after it has not.
        self.0.kv.commit_no() + 2
    }

    pub async fn sync_seen(&self, queued: u64) -> Result<(), StoreError> {
        if self.0.kv.commit_no() >= queued {
            return Ok(());
        }
        let (done, wait) = waiter();
        if let Err(refused) = self.0.writer.queue(Write::synced(WriteBatch::default(), done).quiet()) {
            refused.complete();
        }
        Ok(wait_done(wait).await?)
    }

    /// Returns once it is durable.
    pub async fn save_identity(&self, identity: Identity) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        batch.put(Family::State, keys::IDENTITY, formats::identity(&identity));
        Ok(self.0.writer.write(batch, true).await?)
    }
}

fn seen_batch(broker: BrokerId, seen: &Seen) -> WriteBatch {
    let mut batch = WriteBatch::default();
    batch.put(Family::State, keys::seen(broker), formats::seen(seen));
    batch
}

pub(super) fn damaged(what: String) -> StoreError {
    StoreError::Damaged { what, to_do: REPLACE_REPLICA.into() }
}
