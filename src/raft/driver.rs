//! Drives a [`Replicated`] state machine for openraft: applies entries in order, keeps what a
//! restart needs, and serves the Raft snapshot.
//!
//! Nothing here waits for a disk: applied state and checkpoints are queued to the one log writer,
//! behind the entries they rest on, so that no prefix of the write-ahead log ever holds state that
//! runs ahead of its log (SAFETY B1).

use std::{
    io,
    sync::{
        Arc, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta,
    storage::{ApplyResponder, EntryResponder, RaftStateMachine},
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    entry_hash::hash_of_entry,
    reads::{READ_BYTES_MAX, ReadRoom},
    types::{
        Answer, RaftEntry, RaftLogId, RaftStoredMembership, Types, decode_membership, encode_membership,
        from_log_entry, log_id, position,
    },
};
use crate::{
    replicated::{CannotApply, Replicated, SnapshotAt},
    rolling::Rolling,
    seam::{
        aside,
        plant::{self, Plant},
    },
    storage::{ReplicaLog, SavedState},
    types::{EntryPosition, LogIndex},
};

/// Applied state is kept at least this often while entries come, so that a restart re-applies little.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// A state up to this size is encoded or decoded on the thread that serves the group: a millisecond at most.
const STATE_BYTES_INLINE: usize = 256 * 1024;

/// The parts of a replica that the driver writes and others read.
pub(super) struct Shared<S> {
    live: RwLock<Live<S>>,
    /// One more than the index of the last entry in `state`, and set under its lock: who reads it after the state
    /// is told of no less. `applied` follows only when a whole batch of entries is applied.
    state_next: AtomicU64,
    pub applied: watch::Sender<Option<LogIndex>>,
    /// Cancelled once the driver is gone: nothing is applied any more.
    pub ended: CancellationToken,
    /// The state machine's purge point, for the task that purges.
    pub purge_point: watch::Sender<Option<EntryPosition>>,
    /// A later checkpoint that the log may be purged up to although no trim that says so was applied here.
    /// Never goes back.
    released: watch::Sender<Option<EntryPosition>>,
}

/// The state machine, and the rolling hash of the entries that made it what it is.
struct Live<S> {
    state: S,
    rolling: Rolling,
}

impl<S: Replicated> Shared<S> {
    pub fn read<T>(&self, f: impl FnOnce(&S) -> T) -> T {
        self.read_hashed(|state, _| f(state))
    }

    /// The state and the hash after one and the same entry.
    pub fn read_hashed<T>(&self, f: impl FnOnce(&S, &Rolling) -> T) -> T {
        let live = self.live.read().expect("applying does not panic and leave the process alive");
        f(&live.state, &live.rolling)
    }

    /// One more than the index of the last entry that any state read before holds.
    pub fn state_next(&self) -> LogIndex {
        LogIndex(self.state_next.load(Ordering::Acquire))
    }

    /// Another replica has purged its log up to `upto`, so a trim that allows it is committed: this one may do the
    /// same before the trim comes. Whoever leads next has that trim, and applies it before it is ready, so nobody
    /// is served from a state that names what is gone. False if `upto` is no checkpoint here.
    pub fn release(&self, upto: EntryPosition) -> bool {
        // A checkpoint is at an entry that was applied, so it is the same entry as the other replica's.
        if !self.read(|state| state.has_checkpoint(upto)) {
            return false;
        }
        self.released.send_if_modified(|released| {
            let is_later = *released < Some(upto);
            *released = (*released).max(Some(upto));
            is_later
        });
        true
    }

    pub fn released(&self) -> watch::Receiver<Option<EntryPosition>> {
        self.released.subscribe()
    }

    /// What is no entry changes the state.
    fn write<T>(&self, f: impl FnOnce(&mut S) -> T) -> T {
        let mut live = self.live.write().expect("applying does not panic and leave the process alive");
        f(&mut live.state)
    }

    /// An entry is applied, by `f` if it changes the state.
    fn write_entry<T>(&self, at: EntryPosition, hash: u128, f: impl FnOnce(&mut S) -> T) -> T {
        let mut live = self.live.write().expect("applying does not panic and leave the process alive");
        self.state_next.store(at.index.0 + 1, Ordering::Release);
        live.rolling.push(at.index, hash);
        f(&mut live.state)
    }

    /// A snapshot is installed: what came before its last entry is not known.
    fn install(&self, at: Option<EntryPosition>, state: S) {
        let rolling = Rolling::new(after(at));
        let mut live = self.live.write().expect("applying does not panic and leave the process alive");
        self.state_next.store(rolling.head().next.0, Ordering::Release);
        *live = Live { state, rolling };
    }
}

pub(super) struct Driver<S: Replicated> {
    shared: Arc<Shared<S>>,
    log: ReplicaLog,
    applied: Option<EntryPosition>,
    membership: RaftStoredMembership,
    /// Position of the snapshot that `get_current_snapshot` gives. Never goes back (SAFETY M5).
    snapshot: Option<EntryPosition>,
    saved: Saved,
    _ended: DropGuard,
}

/// What was last queued as applied state.
struct Saved {
    at: Instant,
    position: Option<EntryPosition>,
    state_bytes: usize,
    /// Bytes of commands applied since.
    command_bytes: usize,
}

impl<S: Replicated> Driver<S> {
    /// Loads what the disk has of the state machine, or begins with `fresh`.
    pub async fn load(log: ReplicaLog, fresh: S) -> io::Result<(Driver<S>, Arc<Shared<S>>)> {
        let loaded = log.load_applied().await.map_err(io::Error::other)?;
        let (state, applied, membership, state_bytes) = match loaded {
            Some(saved) => {
                let state = decoded::<S>(saved.state.clone(), saved.position).await?;
                let membership = decode_membership(&saved.membership).map_err(io::Error::other)?;
                (state, saved.position, membership, saved.state.len())
            }
            None => (fresh, None, RaftStoredMembership::default(), 0),
        };
        let rolling = Rolling::resume(log.load_rolling().await.map_err(io::Error::other)?.as_ref(), after(applied));
        let snapshot = match S::SNAPSHOT_AT {
            // State from an installed snapshot, or of a replica whose disk was full, learns of its purge point
            // only with the next trim.
            SnapshotAt::PurgePoint => state.purge_point().max(log.purged()),
            SnapshotAt::LastApplied => log.checkpoint(),
        };
        if snapshot < log.purged() {
            return Err(io::Error::other(format!("snapshot {snapshot:?} is below the purge point {:?}", log.purged())));
        }
        let shared = Arc::new(Shared {
            state_next: AtomicU64::new(applied.map_or(0, |at| at.index.0 + 1)),
            applied: watch::Sender::new(applied.map(|at| at.index)),
            ended: CancellationToken::new(),
            purge_point: watch::Sender::new(state.purge_point()),
            released: watch::Sender::default(),
            live: RwLock::new(Live { state, rolling }),
        });
        let saved = Saved { at: Instant::now(), position: applied, state_bytes, command_bytes: 0 };
        let ended = shared.ended.clone().drop_guard();
        Ok((Driver { shared: shared.clone(), log, applied, membership, snapshot, saved, _ended: ended }, shared))
    }

    /// Applies what was committed and not yet applied when this replica stopped, a little at a time. openraft
    /// would do it when it starts, with 64 entries in memory at once, whatever their size (SAFETY N5).
    pub async fn catch_up(&mut self, room: &ReadRoom) -> io::Result<()> {
        let end = after(self.log.committed());
        while after(self.applied) < end {
            let from = after(self.applied);
            // Held while they are applied.
            let _held = room.take().await;
            let found = self.log.read(from, end, READ_BYTES_MAX).await.map_err(io::Error::other)?;
            if found.first().is_none_or(|entry| entry.position.index != from) {
                return Ok(()); // openraft misses it too, and says what it means.
            }
            let entries = found.into_iter().map(|entry| from_log_entry(entry).map(|entry| (entry, None)));
            self.apply(stream::iter(entries.map(|entry| entry.map_err(io::Error::other)))).await?;
        }
        Ok(())
    }

    async fn apply_one(&mut self, entry: RaftEntry, responder: Option<ApplyResponder<Types>>) -> io::Result<()> {
        let at = position(&entry.log_id);
        let mut answer = Answer::default();
        let hash = hash_of_entry::<S>(at, &entry.payload);
        match entry.payload {
            EntryPayload::Blank => self.shared.write_entry(at, hash, |_| ()),
            EntryPayload::Membership(membership) => {
                self.shared.write_entry(at, hash, |_| ());
                self.membership = RaftStoredMembership::new(Some(entry.log_id), membership);
            }
            EntryPayload::Normal(command) => {
                if self.shared.read(|state| state.checkpoint_due(&command.0)) {
                    self.checkpoint().await;
                }
                let (applied, purge_point) =
                    self.shared.write_entry(at, hash, |state| (state.apply(at, &command.0), state.purge_point()));
                let applied = applied.map_err(|error| self.cannot_apply(at, &error))?;
                if let Some(point) = applied.index_point {
                    self.log.put_index_point(point.offset, at.index, point.max_timestamp_before);
                }
                self.saved.command_bytes += command.0.len();
                answer = Answer(applied.response);
                self.applied = Some(at);
                self.offer_purge_point(purge_point).await;
            }
        }
        self.applied = Some(at);
        // A simulated seed must give the same lines at the same times, always.
        tracing::trace!(group = %self.log.group(), %at, "applied");
        if let Some(responder) = responder {
            responder.send(answer);
        }
        Ok(())
    }

    /// The replica stops here: what it would become is not what the others are. It has everything before the
    /// entry, so a broker that can apply it goes on from there.
    fn cannot_apply(&self, at: EntryPosition, error: &CannotApply) -> io::Error {
        let group = self.log.group();
        tracing::error!(%group, %at, %error, "an entry cannot be applied: this replica stops; use a newer broker");
        io::Error::other(format!("entry {at} of group {group} cannot be applied: {error}; use a newer broker"))
    }

    /// Keeps the state before the entry that is about to be applied.
    async fn checkpoint(&mut self) {
        let Some(at) = self.applied else { return };
        self.shared.write(|state| state.checkpoint_taken(at));
        let state = match plant::on(Plant::CheckpointBeforeState) {
            true => self.saved_state(self.shared.read(S::encode)),
            false => self.save().await,
        };
        self.log.save_checkpoint(state);
    }

    /// The purge that a new purge point allows must find applied state on disk that knows of it,
    /// or a restart would have a snapshot below what was purged. So that state is queued first.
    async fn offer_purge_point(&mut self, point: Option<EntryPosition>) {
        if S::SNAPSHOT_AT == SnapshotAt::PurgePoint && *self.shared.purge_point.borrow() != point {
            self.save().await;
            self.shared.purge_point.send_replace(point);
        }
    }

    /// A large state is encoded aside: its readers go on, and so do the other groups of this node. Nothing
    /// changes it meanwhile, since only this driver does.
    async fn save(&mut self) -> SavedState {
        let shared = Arc::clone(&self.shared);
        let state = match self.saved.state_bytes > STATE_BYTES_INLINE {
            true => aside(move || shared.read(S::encode)).await,
            false => shared.read(S::encode),
        };
        self.save_as(state)
    }

    fn saved_state(&self, state: Bytes) -> SavedState {
        SavedState { position: self.applied, membership: encode_membership(&self.membership), state }
    }

    fn save_as(&mut self, state: Bytes) -> SavedState {
        let saved = self.saved_state(state.clone());
        self.log.save_applied(saved.clone(), self.shared.read_hashed(|_, rolling| rolling.encode()));
        self.saved = Saved { at: Instant::now(), position: self.applied, state_bytes: state.len(), command_bytes: 0 };
        saved
    }

    /// Once a second, and no more bytes of state than of commands, so that a large state is not
    /// written for every few records.
    async fn save_if_due(&mut self) {
        let due = self.saved.at.elapsed() >= SAVE_EVERY && self.saved.command_bytes >= self.saved.state_bytes;
        if due && self.saved.position != self.applied {
            self.save().await;
        }
    }

    fn publish(&self) {
        self.shared.applied.send_replace(self.applied.map(|at| at.index));
    }

    async fn snapshot_at(&self, at: EntryPosition) -> io::Result<RaftSnapshot> {
        let saved = self.log.load_checkpoint(at.index).await.map_err(io::Error::other)?;
        let saved = saved.ok_or_else(|| io::Error::other(format!("checkpoint {at} is missing")))?;
        snapshot_of(saved)
    }
}

/// A replica that is closed keeps what it applied, so that its next start re-applies nothing.
impl<S: Replicated> Drop for Driver<S> {
    fn drop(&mut self) {
        if !std::thread::panicking() && self.saved.position != self.applied {
            let state = self.shared.read(S::encode);
            self.save_as(state);
        }
    }
}

/// The index after a position.
fn after(position: Option<EntryPosition>) -> LogIndex {
    LogIndex(position.map_or(0, |at| at.index.0 + 1))
}

/// Bytes of a disk or a peer, the state after `at`, read aside if they are many.
async fn decoded<S: Replicated>(bytes: Bytes, at: Option<EntryPosition>) -> io::Result<S> {
    let state = match bytes.len() > STATE_BYTES_INLINE {
        true => aside(move || S::decode_after(&bytes, at)).await,
        false => S::decode_after(&bytes, at),
    };
    state.map_err(io::Error::other)
}

pub(super) type RaftSnapshot = openraft::alias::SnapshotOf<Types, Bytes>;

fn snapshot_of(saved: SavedState) -> io::Result<RaftSnapshot> {
    let last_membership = decode_membership(&saved.membership).map_err(io::Error::other)?;
    let meta = SnapshotMeta { last_log_id: saved.position.map(log_id), last_membership };
    Ok(Snapshot { meta, snapshot: saved.state })
}

impl<S: Replicated> RaftStateMachine<Types> for Driver<S> {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<RaftLogId>, RaftStoredMembership)> {
        Ok((self.applied.map(log_id), self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            if let Err(error) = self.apply_one(entry, responder).await {
                self.publish();
                return Err(error);
            }
        }
        self.publish();
        self.save_if_due().await;
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Builder> {
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let saved = match S::SNAPSHOT_AT {
            SnapshotAt::LastApplied => {
                // Applied state goes first: a checkpoint must never be ahead of it (SAFETY B1).
                let saved = self.save().await;
                if let Some(at) = saved.position {
                    self.log.save_checkpoint(saved.clone());
                    self.log.delete_checkpoints_below(at.index);
                }
                Some(Source::Built(saved))
            }
            SnapshotAt::PurgePoint => {
                let may_purge = self.shared.read(S::purge_point).max(*self.shared.released.borrow());
                may_purge.max(self.snapshot).map(Source::Checkpoint)
            }
        };
        // It exists from here on, in the queue at least: what openraft is told later cannot be less.
        self.snapshot = self.snapshot.max(saved.as_ref().and_then(Source::position));
        Builder { log: self.log.clone(), source: saved }
    }

    async fn install_snapshot(
        &mut self,
        meta: &openraft::alias::SnapshotMetaOf<Types>,
        snapshot: Bytes,
    ) -> io::Result<()> {
        let at = meta.last_log_id.as_ref().map(position);
        let state = decoded::<S>(snapshot.clone(), at).await?;
        let saved = SavedState { position: at, membership: encode_membership(&meta.last_membership), state: snapshot };
        let state_bytes = saved.state.len();
        self.log.install(saved).await.map_err(io::Error::other)?;
        (self.applied, self.snapshot, self.membership) = (at, at, meta.last_membership.clone());
        self.saved = Saved { at: Instant::now(), position: at, state_bytes, command_bytes: 0 };
        let purge_point = state.purge_point();
        self.shared.install(at, state);
        self.shared.purge_point.send_replace(purge_point);
        self.publish();
        tracing::info!(group = %self.log.group(), ?at, state_bytes, "begins again from a snapshot");
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<RaftSnapshot>> {
        match self.snapshot {
            Some(at) => self.snapshot_at(at).await.map(Some),
            None => Ok(None),
        }
    }
}

/// What a snapshot is built from.
enum Source {
    Built(SavedState),
    Checkpoint(EntryPosition),
}

impl Source {
    fn position(&self) -> Option<EntryPosition> {
        match self {
            Source::Built(saved) => saved.position,
            Source::Checkpoint(at) => Some(*at),
        }
    }
}

pub(super) struct Builder {
    log: ReplicaLog,
    source: Option<Source>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> io::Result<RaftSnapshot> {
        match self.source.take() {
            None => Err(io::Error::other("a snapshot was asked for before anything could be purged")),
            Some(Source::Built(saved)) => snapshot_of(saved),
            Some(Source::Checkpoint(at)) => {
                let saved = self.log.load_checkpoint(at.index).await.map_err(io::Error::other)?;
                snapshot_of(saved.ok_or_else(|| io::Error::other(format!("checkpoint {at} is missing")))?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use openraft::storage::RaftStateMachine;

    use super::*;
    use crate::{
        raft::{tests::Journal, types::Command},
        storage::{SimDisk, Store, StoreOptions, WriterProbe},
        types::{RaftGroupId, ReplicaId, Term},
    };

    /// Somebody reads the state while a batch of entries is half applied: what is told of its place covers it,
    /// although the batch's end is not published yet.
    #[tokio::test]
    async fn the_place_of_the_state_is_never_behind_what_was_read_of_it() {
        let kv = Arc::new(SimDisk::new(5).open());
        let on_failure = Arc::new(|error: &_| panic!("{error:?}"));
        let store = Store::open(kv, StoreOptions::default(), WriterProbe::default(), on_failure).await.expect("opens");
        let log = store.open_log_alone(RaftGroupId(7), ReplicaId(70_000)).await.expect("opens");
        let (mut driver, shared) = Driver::load(log, Journal::default()).await.expect("loads");
        let entries = stream::iter(0..3u64).map(|index| {
            let numbers = shared.read(|state| state.numbers.len() as u64);
            assert_eq!((numbers, shared.state_next()), (index, LogIndex(index)));
            assert_eq!(*shared.applied.borrow(), None, "published when the batch is applied");
            let at = EntryPosition { term: Term(1), index: LogIndex(index) };
            let payload = EntryPayload::Normal(Command(Bytes::copy_from_slice(&index.to_be_bytes())));
            Ok((RaftEntry { log_id: log_id(at), payload }, None))
        });
        driver.apply(entries).await.expect("applies");
        assert_eq!((shared.state_next(), *shared.applied.borrow()), (LogIndex(3), Some(LogIndex(2))));
        let no_checkpoint = EntryPosition { term: Term(1), index: LogIndex(1) };
        assert!(!shared.release(no_checkpoint) && shared.released().borrow().is_none(), "whatever a peer says");
    }
}
