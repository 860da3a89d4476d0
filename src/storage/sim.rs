//! A simulated disk, for tests and simulation: what RocksDB promises of a [`Kv`], and no more. A
//! commit takes a seeded time of tokio's clock, which a simulation pauses; a crash keeps what was
//! synced and a seeded part of the rest, in order. Faults can be planted, so that a test of a rule
//! can be shown to fail without it.
//!
//! A commit is never torn: it is one record of the write-ahead log, whose checksum covers all of it, so that a power
//! cut leaves it whole or not at all. What [`CrashTail::Torn`] tears is the row of them.
//!
//! Left out: FLOOR and everything else about files, and damage of what was synced except as a read
//! that says so.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;

use super::{Family, KeyRange, Kv, KvError, KvFuture, LogEntry, ScanLimit, WriteBatch, WriteOp, formats, keys};
use crate::{
    seam::Rng,
    types::{EntryPosition, LogIndex, RaftGroupId},
};

/// A synced commit takes up to this long, as an fsync of a busy disk does.
const SYNC_US_MAX: u64 = 3_000;

/// An unsynced one, or a read.
const QUICK_US_MAX: u64 = 50;

/// How often a stalled commit looks whether the disk is back.
const STALL_STEP: Duration = Duration::from_millis(5);

/// What a disk can be made to do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimFault {
    /// Synced commits return as ever, and nothing is synced.
    SyncsNothing,
    /// The next commit returns an error; whether it took effect shows after a crash.
    FailsNextCommit,
    /// Commits never return.
    HangsOnCommit,
    /// Commits return once it is healed, as those of a disk that stalls for a while.
    StallsCommits,
    /// Synced commits take up to so many microseconds more.
    SlowSyncs(u64),
    /// So many commits of the disk's life return, and no more.
    HangsAfterCommits(u64),
    /// Reads say that the data is damaged.
    ReadsDamaged,
}

/// What a crash leaves of the commits that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashTail {
    /// All of them: the process died, and the operating system still has what it wrote.
    Kept,
    /// None: the power went, and the disk had begun none of them.
    Dropped,
    /// A seeded part, in order: the power went while the disk wrote them.
    Torn,
}

type Table = BTreeMap<Vec<u8>, Bytes>;

#[derive(Clone, Debug, Default)]
struct Tables {
    families: BTreeMap<Family, Table>,
    /// The number of synced commits that the disk holds.
    commit_no: u64,
}

/// A batch, and whether it was to be synced.
type Committed = (WriteBatch, bool);

impl Tables {
    fn apply(&mut self, (batch, is_synced): &Committed) {
        self.commit_no += u64::from(*is_synced);
        for op in &batch.ops {
            match op {
                WriteOp::Put { family, key, value } => {
                    self.families.entry(*family).or_default().insert(key.clone(), value.concat().into());
                }
                WriteOp::Delete { family, key } => {
                    self.families.entry(*family).or_default().remove(key);
                }
                WriteOp::DeleteRange { family, range } => {
                    if range.from < range.to {
                        let table = self.families.entry(*family).or_default();
                        table.retain(|key, _| !(&range.from..&range.to).contains(&key));
                    }
                }
            }
        }
    }

    fn entry(&self, group: RaftGroupId, index: LogIndex) -> Option<LogEntry> {
        let value = self.families.get(&Family::Log)?.get(&keys::entry(group, index))?.clone();
        Some(formats::read_entry(index, value).expect("written by this program"))
    }

    fn scan(&self, family: Family, range: &KeyRange, limit: ScanLimit, reverse: bool) -> Vec<(Bytes, Bytes)> {
        let Some(table) = self.families.get(&family) else { return vec![] };
        if range.from >= range.to {
            return vec![];
        }
        let pairs = table.range::<[u8], _>((Bound::Included(&range.from[..]), Bound::Excluded(&range.to[..])));
        let pairs: Box<dyn Iterator<Item = _>> = if reverse { Box::new(pairs.rev()) } else { Box::new(pairs) };
        let mut found = vec![];
        let mut bytes = 0usize;
        for (key, value) in pairs {
            bytes = bytes.saturating_add(value.len());
            if !found.is_empty() && (found.len() >= limit.pairs || bytes > limit.bytes) {
                break;
            }
            found.push((Bytes::copy_from_slice(key), value.clone()));
        }
        found
    }
}

#[derive(Debug)]
struct Disk {
    /// What a crash leaves at least.
    durable: Tables,
    /// Commits begun since, in order.
    unsynced: Vec<Committed>,
    /// What reads see: all commits that returned.
    live: Tables,
    /// Handles of an older generation are dead: they belong to a process that is gone.
    generation: u64,
    has_failed: bool,
    is_committing: bool,
    faults: Vec<SimFault>,
    commits: u64,
    syncs: u64,
    history: Option<Vec<Committed>>,
    /// Why it must not be used again.
    condemned: Option<String>,
}

impl Disk {
    fn kill_handles(&mut self) {
        self.generation += 1;
        self.has_failed = false;
        self.is_committing = false;
    }

    /// Makes the first of the unsynced commits durable.
    fn keep(&mut self, count: usize) {
        for batch in self.unsynced.drain(..count) {
            self.durable.apply(&batch);
        }
    }

    fn has(&self, fault: SimFault) -> bool {
        self.faults.contains(&fault)
    }

    /// Whether the commit that begins now never returns.
    fn hangs(&self) -> bool {
        self.faults.iter().any(|fault| match fault {
            SimFault::HangsOnCommit => true,
            SimFault::HangsAfterCommits(count) => self.commits >= *count,
            SimFault::SyncsNothing
            | SimFault::FailsNextCommit
            | SimFault::StallsCommits
            | SimFault::SlowSyncs(_)
            | SimFault::ReadsDamaged => false,
        })
    }

    /// The longest that a synced commit takes now, in microseconds.
    fn sync_us_max(&self) -> u64 {
        let slower = self.faults.iter().map(|fault| match fault {
            SimFault::SlowSyncs(us) => *us,
            SimFault::SyncsNothing
            | SimFault::FailsNextCommit
            | SimFault::HangsOnCommit
            | SimFault::StallsCommits
            | SimFault::HangsAfterCommits(_)
            | SimFault::ReadsDamaged => 0,
        });
        SYNC_US_MAX + slower.max().unwrap_or(0)
    }
}

/// The disk itself: it outlives the processes that use it. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    disk: Arc<Mutex<Disk>>,
    rng: Arc<Rng>,
}

impl SimDisk {
    /// The seed decides how long each commit and read takes.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk::with(seed, Tables::default())
    }

    fn with(seed: u64, tables: Tables) -> SimDisk {
        let disk = Disk {
            durable: tables.clone(),
            unsynced: vec![],
            live: tables,
            generation: 0,
            has_failed: false,
            is_committing: false,
            faults: vec![],
            commits: 0,
            syncs: 0,
            history: None,
            condemned: None,
        };
        SimDisk { disk: Arc::new(Mutex::new(disk)), rng: Arc::new(Rng::seeded(seed)) }
    }

    /// Remembers every commit from now on, for [`SimDisk::at_prefix`]. Grows without bound.
    pub fn record_history(&self) {
        self.lock().history = Some(vec![]);
    }

    /// How many commits were remembered.
    pub fn history_len(&self) -> usize {
        self.lock().history.as_ref().map_or(0, Vec::len)
    }

    /// Another disk, as a crash after the first `count` remembered commits would have left it.
    pub fn at_prefix(&self, count: usize) -> SimDisk {
        let mut tables = Tables::default();
        let disk = self.lock();
        for batch in disk.history.iter().flatten().take(count) {
            tables.apply(batch);
        }
        SimDisk::with(count as u64, tables)
    }

    /// Another disk with what is durable here now: a copy of a stopped directory, or, of one in use, what a
    /// snapshot of its volume would hold.
    pub fn copy(&self, seed: u64) -> SimDisk {
        SimDisk::with(seed, self.lock().durable.clone())
    }

    /// Why the disk must not be used again, if it was marked so.
    pub fn condemned(&self) -> Option<String> {
        self.lock().condemned.clone()
    }

    /// Starts to use the disk, as a new process would: handles opened before are dead, but nothing
    /// that they wrote is lost.
    pub fn open(&self) -> SimKv {
        let mut disk = self.lock();
        disk.kill_handles();
        disk.live = disk.durable.clone();
        for committed in std::mem::take(&mut disk.unsynced) {
            disk.live.apply(&committed);
            disk.unsynced.push(committed);
        }
        SimKv { disk: self.clone(), generation: disk.generation }
    }

    /// Power loss: keeps what was synced and a seeded part of the rest, in order. Handles opened
    /// before answer errors for ever. Returns how many commits were lost.
    pub fn crash(&self, seed: u64) -> usize {
        self.crash_leaving(CrashTail::Torn, seed)
    }

    /// A crash that leaves so much of what was not synced. Returns how many commits were lost.
    pub fn crash_leaving(&self, tail: CrashTail, seed: u64) -> usize {
        let mut disk = self.lock();
        disk.kill_handles();
        let count = disk.unsynced.len();
        let kept = match tail {
            // Still not synced, so a later power cut may take them.
            CrashTail::Kept => return 0,
            CrashTail::Dropped => 0,
            CrashTail::Torn => Rng::seeded(seed).below(count as u64 + 1) as usize,
        };
        disk.keep(kept);
        disk.unsynced.clear();
        disk.live = disk.durable.clone();
        count - kept
    }

    /// The fault lasts until it is healed; `FailsNextCommit` until it happened.
    pub fn plant(&self, fault: SimFault) {
        self.lock().faults.push(fault);
    }

    pub fn heal(&self) {
        self.lock().faults.clear();
    }

    /// Takes one planted fault back.
    pub fn lift(&self, fault: SimFault) {
        self.lock().faults.retain(|planted| *planted != fault);
    }

    /// The entry of a group's log that no crash can take any more. None: there is none.
    pub fn durable_entry(&self, group: RaftGroupId, index: LogIndex) -> Option<LogEntry> {
        self.lock().durable.entry(group, index)
    }

    /// The entry of a group's log as the process that uses the disk reads it.
    pub fn live_entry(&self, group: RaftGroupId, index: LogIndex) -> Option<LogEntry> {
        self.lock().live.entry(group, index)
    }

    /// Up to where a group's log is purged, and no crash can undo that.
    pub fn durable_purged(&self, group: RaftGroupId) -> Option<EntryPosition> {
        let disk = self.lock();
        let value = disk.durable.families.get(&Family::State)?.get(&keys::purged(group))?.clone();
        Some(formats::read_position(value).expect("written by this program"))
    }

    /// Whether a group was deleted here, and no crash can undo that.
    pub fn durably_deleted(&self, group: RaftGroupId) -> bool {
        let disk = self.lock();
        disk.durable.families.get(&Family::State).is_some_and(|state| state.contains_key(&keys::tombstone(group)))
    }

    /// Commits that a crash might lose now, one that is under way among them.
    pub fn unsynced(&self) -> usize {
        self.lock().unsynced.len()
    }

    /// Commits that returned, and how many of them were synced.
    pub fn commits(&self) -> (u64, u64) {
        let disk = self.lock();
        (disk.commits, disk.syncs)
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().expect("nothing panics while it holds this lock")
    }
}

/// One process's hold on a simulated disk.
#[derive(Clone, Debug)]
pub struct SimKv {
    disk: SimDisk,
    generation: u64,
}

impl SimKv {
    /// The disk, if this handle is still alive.
    fn alive(&self) -> Result<MutexGuard<'_, Disk>, KvError> {
        let disk = self.disk.lock();
        if disk.generation != self.generation {
            return Err(KvError::Io("the process of this handle has crashed".into()));
        }
        if disk.has_failed {
            return Err(KvError::Io("an earlier commit failed".into()));
        }
        Ok(disk)
    }

    async fn take_time(&self, us_max: u64) {
        let us = self.disk.rng.below(us_max);
        tokio::time::sleep(Duration::from_micros(us)).await;
    }

    async fn read<T>(&self, family: Family, read: impl FnOnce(&Tables) -> T) -> Result<T, KvError> {
        self.take_time(QUICK_US_MAX).await;
        let disk = self.alive()?;
        if disk.has(SimFault::ReadsDamaged) {
            return Err(KvError::Damaged { family, detail: "a planted fault".into() });
        }
        Ok(read(&disk.live))
    }
}

/// Ends a commit also when its future is dropped.
struct Committing<'a>(&'a SimKv);

impl Drop for Committing<'_> {
    fn drop(&mut self) {
        let mut disk = self.0.disk.lock();
        if disk.generation == self.0.generation {
            disk.is_committing = false;
        }
    }
}

impl Kv for SimKv {
    fn get<'a>(&'a self, family: Family, key: &'a [u8]) -> KvFuture<'a, Option<Bytes>> {
        Box::pin(
            self.read(family, move |tables| tables.families.get(&family).and_then(|table| table.get(key)).cloned()),
        )
    }

    fn scan<'a>(
        &'a self,
        family: Family,
        range: KeyRange,
        limit: ScanLimit,
        reverse: bool,
    ) -> KvFuture<'a, Vec<(Bytes, Bytes)>> {
        Box::pin(self.read(family, move |tables| tables.scan(family, &range, limit, reverse)))
    }

    fn commit(&self, batch: WriteBatch, sync: bool) -> KvFuture<'_, ()> {
        Box::pin(async move {
            let (hangs, upto) = {
                let mut disk = self.alive()?;
                assert!(!disk.is_committing, "one commit at a time");
                disk.is_committing = true;
                if let Some(history) = &mut disk.history {
                    history.push((batch.clone(), sync));
                }
                disk.unsynced.push((batch.clone(), sync));
                (disk.hangs(), disk.unsynced.len())
            };
            let committing = Committing(self);
            if hangs {
                std::future::pending::<()>().await;
            }
            let us_max = if sync { self.disk.lock().sync_us_max() } else { QUICK_US_MAX };
            self.take_time(us_max).await;
            while self.alive()?.has(SimFault::StallsCommits) {
                tokio::time::sleep(STALL_STEP).await;
            }
            let mut disk = self.alive()?;
            let fails = disk.faults.iter().position(|fault| *fault == SimFault::FailsNextCommit);
            if let Some(i) = fails {
                disk.faults.remove(i);
                disk.has_failed = true;
                drop(disk);
                drop(committing);
                return Err(KvError::Io("a planted fault".into()));
            }
            disk.live.apply(&(batch, sync));
            disk.commits += 1;
            if sync && !disk.has(SimFault::SyncsNothing) {
                disk.syncs += 1;
                disk.keep(upto);
            }
            drop(disk);
            drop(committing);
            Ok(())
        })
    }

    fn commit_no(&self) -> u64 {
        self.disk.lock().durable.commit_no
    }

    fn condemn(&self, why: &str) {
        self.disk.lock().condemned.get_or_insert_with(|| why.to_string());
    }
}
