//! RocksDB below the `Kv` seam: the only code that names it.
//!
//! One OS thread writes, one commit at a time; reads run on tokio's blocking threads, a bounded
//! number of them. A synced commit also puts its number, `commit_no`, and raises FLOOR to it before
//! it returns; [`RocksKv::open`] compares the two (SAFETY B9). A read that meets damaged data marks
//! the directory, which is then refused for ever.
//!
//! `disableWAL`, `unordered_write` and `enable_blob_direct_write` stay off: each breaks a promise of
//! [`Kv`].

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use rocksdb::{
    BlockBasedOptions, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, ErrorKind, Options, ReadOptions,
    WriteOptions,
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::{Instant, sleep},
};

use crate::{
    durable,
    seam::plant::{self, Plant},
};

use super::{
    Family, KeyRange, Kv, KvError, KvFuture, OnFailure, ScanLimit, StoreError, StoreFailed, WriteBatch, WriteOp,
    directory::{Directory, io, write_damaged_mark},
    floor::Floor,
    formats, keys,
    rocks_space::SpaceKeeper,
    space::SpaceProbe,
    warm_up::warm_up,
};

/// How long a directory may still be held by a process that was killed a moment ago: its threads end
/// one by one, and the last of them lets go.
pub(super) const LOCK_WITHIN: Duration = Duration::from_secs(3);
pub(super) const LOCK_RETRY: Duration = Duration::from_millis(50);

/// How long closing waits for the commit under way.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// Reads on blocking threads at once: enough to keep a disk busy, few enough to leave tokio's pool to
/// others.
const READERS_MAX: usize = 16;

/// What an operation takes in a batch besides its value: its key, and how long both are.
const OP_BYTES: usize = 64;

/// Values from this size on go to blob files, so that compaction does not rewrite them.
const BLOB_BYTES_MIN: u64 = 512;
/// What collecting garbage reads at a time.
const BLOB_READAHEAD_BYTES: u64 = 1 << 20;

/// Write buffers that fit the write-ahead logs: that many may wait to be flushed before writes stall.
const WRITE_BUFFERS: u64 = 4;
/// Larger ones gained nothing when measured, ...
const WRITE_BUFFER_BYTES_MAX: u64 = 64 << 20;
/// ... smaller ones are flushed all the time.
const WRITE_BUFFER_BYTES_MIN: u64 = 4 << 20;
/// The most that a blob file holds, and that the write buffers hold together: what a small disk can spare at a time.
const BLOB_FILE_BYTES_MAX: u64 = 256 << 20;
/// The write-ahead logs' part of a disk too small for the usual size of them.
const WAL_DISK_PART: u64 = 16;

/// What of RocksDB's settings depends on the disk, and what a test changes.
#[derive(Clone, Debug)]
pub struct RocksOptions {
    /// The size of a write buffer of the log family; those of the others are an eighth of it.
    pub write_buffer_bytes: usize,
    /// A family that is seldom written keeps old write-ahead logs alive; beyond this it is flushed,
    /// and their files are recycled. About as much again is kept for recycling.
    pub wal_bytes_max: u64,
    /// What should stay free on the disk: below twice that, giving space back goes before latency.
    pub reserve_bytes: u64,
    /// Data files kept open, and as many blob files. None: all there are.
    pub open_files_max: Option<u32>,
}

impl Default for RocksOptions {
    fn default() -> Self {
        RocksOptions::new(None, None)
    }
}

impl RocksOptions {
    /// The options for a disk of this size, as far as it is known. `wal_bytes_max`: None: 256 MiB, or a sixteenth of
    /// a disk of less than 4 GiB.
    pub fn new(disk_bytes: Option<u64>, wal_bytes_max: Option<u64>) -> RocksOptions {
        let usual = WRITE_BUFFERS * WRITE_BUFFER_BYTES_MAX;
        let smallest = WRITE_BUFFERS * WRITE_BUFFER_BYTES_MIN;
        let by_disk = disk_bytes.map_or(usual, |bytes| (bytes / WAL_DISK_PART).clamp(smallest, usual));
        let wal_bytes_max = wal_bytes_max.unwrap_or(by_disk).max(smallest);
        let write_buffer_bytes = (wal_bytes_max / WRITE_BUFFERS).min(WRITE_BUFFER_BYTES_MAX);
        RocksOptions {
            write_buffer_bytes: write_buffer_bytes as usize,
            wal_bytes_max,
            reserve_bytes: 0,
            open_files_max: None,
        }
    }
}

/// A data directory that is open.
pub struct RocksKv {
    inner: Arc<Inner>,
    commits: Option<mpsc::Sender<Commit>>,
    writer: Option<JoinHandle<()>>,
    keeper: Option<SpaceKeeper>,
    readers: Arc<Semaphore>,
    space: SpaceProbe,
}

pub(super) struct Inner {
    /// First, so that it is closed before the directory is unlocked.
    pub db: DB,
    pub directory: Directory,
    pub has_failed: AtomicBool,
    /// Ranges of the log family deleted since the start: space that may be given back.
    pub deletions: AtomicU64,
    /// The number of the last synced commit that is durable.
    pub commit_no: AtomicU64,
}

struct Commit {
    batch: WriteBatch,
    sync: bool,
    done: oneshot::Sender<Result<(), KvError>>,
}

impl RocksKv {
    /// Opens or creates a data directory, and checks that no synced commit is missing from it.
    pub async fn open(path: impl Into<PathBuf>, options: RocksOptions) -> Result<RocksKv, StoreError> {
        let path = path.into();
        let deadline = Instant::now() + LOCK_WITHIN;
        let mut is_waiting = false;
        loop {
            let (path, options) = (path.clone(), options.clone());
            let opened = tokio::task::spawn_blocking(move || RocksKv::open_blocking(&path, &options)).await;
            let opened = opened.unwrap_or_else(|error| {
                Err(StoreError::Io { doing: "opening the data directory".into(), cause: error.to_string() })
            });
            match opened {
                Err(StoreError::InUse { directory }) if Instant::now() < deadline => {
                    if !std::mem::replace(&mut is_waiting, true) {
                        let within = LOCK_WITHIN;
                        tracing::info!(directory, ?within, "another process holds the data directory: waiting for it");
                    }
                    sleep(LOCK_RETRY).await;
                }
                opened => return opened,
            }
        }
    }

    fn open_blocking(path: &Path, options: &RocksOptions) -> Result<RocksKv, StoreError> {
        let directory = Directory::open(path)?;
        if !directory.has_db() && !directory.floor().exists() {
            // Before the database, so that there is never one without.
            Floor::create(&directory.floor()).map_err(io("creating FLOOR in", path))?;
        }
        let floor = match Floor::read(&directory.floor()) {
            Ok(floor) => floor,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(io("reading FLOOR in", path)(error)),
        };
        directory.link_wals().map_err(io("linking the write-ahead logs in", path))?;
        // RocksDB would make it, and sync no name above those of its own files: a power cut would take all of them.
        durable::create_directories(&directory.db()).map_err(io("creating the database's directory in", path))?;
        let db = open_db(&directory, options)?;
        let commit_no = read_commit_no(&db, &directory)?;
        check_floor(&directory, commit_no, floor)?;
        if floor.is_none() {
            Floor::create(&directory.floor()).map_err(io("creating FLOOR in", path))?;
        }
        directory.unlink_wals().map_err(io("unlinking old write-ahead logs in", path))?;
        let floor = Floor::open(&directory.floor()).map_err(io("opening FLOOR in", path))?;
        if commit_no.is_none() {
            warm_up(&db, options.write_buffer_bytes).map_err(|e| StoreError::Io {
                doing: format!("warming up {}", path.display()),
                cause: e.to_string(),
            })?;
        }
        let (has_failed, deletions) = (AtomicBool::new(false), AtomicU64::new(0));
        let commit_no = commit_no.unwrap_or(0);
        let inner = Arc::new(Inner { db, directory, has_failed, deletions, commit_no: AtomicU64::new(commit_no) });
        RocksKv::start(inner, floor, commit_no, options.reserve_bytes).map_err(io("starting the threads of", path))
    }

    fn start(inner: Arc<Inner>, floor: Floor, commit_no: u64, reserve_bytes: u64) -> std::io::Result<RocksKv> {
        // One commit at a time is under way.
        let (commits, queue) = mpsc::channel(1);
        let writer = std::thread::Builder::new().name("flotilla-log".into()).spawn({
            let inner = inner.clone();
            move || write_loop(&inner, &floor, commit_no, queue)
        })?;
        let space = SpaceProbe::default();
        let keeper = SpaceKeeper::start(inner.clone(), space.clone(), reserve_bytes)?;
        let readers = Arc::new(Semaphore::new(READERS_MAX));
        Ok(RocksKv { inner, commits: Some(commits), writer: Some(writer), keeper: Some(keeper), readers, space })
    }

    /// What blob files hold and what collecting their garbage does.
    pub fn space(&self) -> SpaceProbe {
        self.space.clone()
    }

    /// Runs a read where it may block. Marks the directory if it meets damaged data.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&DB) -> Result<T, KvError> + Send + 'static,
    ) -> Result<T, KvError> {
        let permit = self.readers.clone().acquire_owned().await.expect("the semaphore is never closed");
        let inner = self.inner.clone();
        let result = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            if inner.has_failed.load(SeqCst) {
                return Err(KvError::Io("an earlier access failed".into()));
            }
            read(&inner.db).inspect_err(|error| inner.failed(error))
        });
        ended(result).await
    }
}

/// What a read came to.
pub(super) async fn ended<T>(read: tokio::task::JoinHandle<Result<T, KvError>>) -> Result<T, KvError> {
    match read.await {
        Ok(result) => result,
        // Only while the runtime ends, and with it whoever waits here. The disk has not failed.
        Err(error) if error.is_cancelled() => std::future::pending().await,
        Err(error) => Err(KvError::Io(format!("a read did not end: {error}"))),
    }
}

impl Drop for RocksKv {
    /// Waits for the commit under way, so that the directory is free afterwards; for a while only, since a disk
    /// that hangs must not keep the process from ending.
    fn drop(&mut self) {
        drop(self.commits.take());
        let (writer, keeper) = (self.writer.take(), self.keeper.take());
        let (closed, wait) = std::sync::mpsc::channel();
        let close = move || {
            if let Some(writer) = writer {
                // If it panicked the process is already told that the store has failed.
                let _ = writer.join();
            }
            drop(keeper);
            let _ = closed.send(());
        };
        // Without a thread nobody waits: both end by themselves, now that nothing more is asked of them.
        if std::thread::Builder::new().name("flotilla-close".into()).spawn(close).is_ok()
            && wait.recv_timeout(CLOSE_MAX).is_err()
        {
            tracing::warn!(within = ?CLOSE_MAX, "the disk did not finish its last commit in time");
        }
    }
}

impl Inner {
    fn failed(&self, error: &KvError) {
        self.has_failed.store(true, SeqCst);
        match error {
            KvError::Damaged { .. } => drop(self.directory.mark_damaged(&error.to_string())),
            KvError::Io(_) => {}
        }
    }
}

/// What production does when its store fails: says why, marks the directory if data was damaged,
/// and ends the process, since the outcome of what is under way is unknown: a retry would build on a guess.
pub fn fail_stop(path: impl Into<PathBuf>) -> OnFailure {
    let path = path.into();
    Arc::new(move |failed: &StoreFailed| {
        tracing::error!(directory = %path.display(), reason = failed.reason(), "the store has failed, stopping");
        // RocksKv has marked what it met itself; a value that does not decode is met above it.
        if failed.is_damaged()
            && let Err(error) = write_damaged_mark(&path, failed.reason())
        {
            tracing::error!(directory = %path.display(), %error, "cannot mark the damaged data directory");
        }
        std::process::exit(STORE_FAILED_EXIT_CODE)
    })
}

/// The exit code of a process whose store failed. It is none of the codes of the command line.
pub const STORE_FAILED_EXIT_CODE: i32 = 74;

fn name(family: Family) -> &'static str {
    match family {
        Family::Log => "log",
        Family::State => "state",
        Family::Applied => "applied",
    }
}

pub(super) fn cf(db: &DB, family: Family) -> &rocksdb::ColumnFamily {
    db.cf_handle(name(family)).expect("every family is opened with the database")
}

fn open_db(directory: &Directory, options: &RocksOptions) -> Result<DB, StoreError> {
    let path = directory.db();
    let has_direct_io = directory.has_direct_io();
    if !has_direct_io {
        tracing::warn!(directory = %path.display(), "no direct io here: flushes go through the page cache");
    }
    let opened = DB::open_cf_descriptors(&db_options(has_direct_io, options), &path, families(options));
    opened.map_err(|error| open_failed(&path, &error))
}

/// Opens the database of a directory in which nothing may change; see `rocks_read_only`.
pub(super) fn open_db_read_only(path: &Path) -> Result<DB, StoreError> {
    let given = RocksOptions::default();
    let mut options = db_options(false, &given);
    options.create_if_missing(false);
    options.create_missing_column_families(false);
    // Replayed into memory: a broker that was killed leaves its last writes only there.
    let opened = DB::open_cf_descriptors_read_only(&options, path, families(&given), false);
    opened.map_err(|error| open_failed(path, &error))
}

fn families(options: &RocksOptions) -> [ColumnFamilyDescriptor; 3] {
    Family::ALL.map(|family| ColumnFamilyDescriptor::new(name(family), family_options(family, options)))
}

fn open_failed(path: &Path, error: &rocksdb::Error) -> StoreError {
    match error.kind() {
        ErrorKind::Corruption => {
            let what = format!("{}: RocksDB refuses to open it: {error}", path.display());
            StoreError::Damaged { what, to_do: super::open::REPLACE_REPLICA.into() }
        }
        _ if error.as_ref().contains("LOCK") => StoreError::InUse { directory: path.display().to_string() },
        _ => StoreError::Io { doing: format!("opening {}", path.display()), cause: error.to_string() },
    }
}

/// Each was measured with one fsync a commit and values in blob files; what is not set here made no difference.
fn db_options(has_direct_io: bool, given: &RocksOptions) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_max_open_files(given.open_files_max.map_or(-1, |files| i32::try_from(files).unwrap_or(i32::MAX)));
    options.set_recycle_log_file_num(4);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_max_total_wal_size(given.wal_bytes_max);
    options.set_bytes_per_sync(1 << 20);
    options.set_max_background_jobs(2);
    options.set_advise_random_on_open(false);
    options.set_stats_dump_period_sec(0);
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(8 << 20);
    options.set_use_direct_io_for_flush_and_compaction(has_direct_io);
    options
}

fn family_options(family: Family, given: &RocksOptions) -> Options {
    let mut options = Options::default();
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_target_file_size_base(8 << 20);
    options.set_max_bytes_for_level_base(64 << 20);
    let mut table = BlockBasedOptions::default();
    table.set_format_version(5);
    options.set_block_based_table_factory(&table);
    match family {
        Family::Log => {
            options.set_write_buffer_size(given.write_buffer_bytes);
            options.set_max_write_buffer_number(4);
            options.set_enable_blob_files(true);
            options.set_min_blob_size(BLOB_BYTES_MIN);
            options.set_blob_file_size((WRITE_BUFFERS * given.write_buffer_bytes as u64).min(BLOB_FILE_BYTES_MAX));
            // Producers compress.
            options.set_blob_compression_type(DBCompressionType::None);
            // Off: it rewrites live data. `rocks_space` switches it on by need.
            options.set_enable_blob_gc(false);
            options.set_blob_compaction_readahead_size(BLOB_READAHEAD_BYTES);
        }
        Family::State | Family::Applied => options.set_write_buffer_size(given.write_buffer_bytes / 8),
    }
    options
}

fn read_commit_no(db: &DB, directory: &Directory) -> Result<Option<u64>, StoreError> {
    commit_no(db).map_err(|error| match &error {
        KvError::Damaged { .. } => directory.mark_damaged(&error.to_string()),
        KvError::Io(cause) => StoreError::Io { doing: "reading commit_no".into(), cause: cause.clone() },
    })
}

/// The number of the last synced commit that the database holds.
pub(super) fn commit_no(db: &DB) -> Result<Option<u64>, KvError> {
    let value = db.get_cf(cf(db, Family::State), keys::COMMIT_NO).map_err(|error| kv_error(Family::State, &error))?;
    let number = value.map(|value| formats::read_commit_no(value.into())).transpose();
    number.map_err(|error| KvError::Damaged { family: Family::State, detail: format!("commit_no: {error}") })
}

/// SAFETY B9: a database below its floor has lost commits that were fsynced.
fn check_floor(directory: &Directory, commit_no: Option<u64>, floor: Option<u64>) -> Result<(), StoreError> {
    match missing_commits(commit_no, floor) {
        Some(_) if plant::on(Plant::FloorNotChecked) => Ok(()),
        None => Ok(()),
        Some(what) => Err(directory.mark_damaged(&what)),
    }
}

/// What a database that holds `commit_no` has lost of what FLOOR says was synced.
pub(super) fn missing_commits(commit_no: Option<u64>, floor: Option<u64>) -> Option<String> {
    match (commit_no, floor) {
        (None, None) => None,
        (Some(commit_no), None) => Some(format!("FLOOR is missing or torn, and the last commit is {commit_no}")),
        (commit_no, Some(floor)) if commit_no.unwrap_or(0) < floor => {
            let commit_no = commit_no.unwrap_or(0);
            Some(format!("commits {} to {floor} were fsynced and are missing", commit_no + 1))
        }
        (_, Some(_)) => None,
    }
}

fn kv_error(family: Family, error: &rocksdb::Error) -> KvError {
    let is_missing = error.as_ref().contains("No such file or directory");
    match error.kind() {
        ErrorKind::Corruption => KvError::Damaged { family, detail: error.to_string() },
        // A file of the database is gone.
        ErrorKind::IOError if is_missing => KvError::Damaged { family, detail: error.to_string() },
        _ => KvError::Io(error.to_string()),
    }
}

/// The writer's thread: ends when the handle is dropped.
fn write_loop(inner: &Inner, floor: &Floor, mut commit_no: u64, mut queue: mpsc::Receiver<Commit>) {
    let mut scratch = vec![];
    while let Some(Commit { batch, sync, done }) = queue.blocking_recv() {
        let result = if inner.has_failed.load(SeqCst) {
            Err(KvError::Io("an earlier access failed".into()))
        } else {
            commit_no += u64::from(sync);
            write(inner, floor, &batch, sync.then_some(commit_no), &mut scratch)
        };
        if let Err(error) = &result {
            inner.failed(error);
        }
        // The caller may have gone; the commit stands.
        let _ = done.send(result);
    }
}

/// A number makes it a synced commit.
fn write(
    inner: &Inner,
    floor: &Floor,
    batch: &WriteBatch,
    commit_no: Option<u64>,
    scratch: &mut Vec<u8>,
) -> Result<(), KvError> {
    let db = &inner.db;
    // All at once: a batch that grows copies what it has, again and again.
    let capacity = batch.value_bytes + batch.ops.len() * OP_BYTES;
    let mut out = rocksdb::WriteBatch::with_capacity_bytes(capacity);
    let mut deletions = 0;
    for op in &batch.ops {
        match op {
            WriteOp::Put { family, key, value: [value, rest] } if rest.is_empty() => {
                out.put_cf(cf(db, *family), key, value);
            }
            WriteOp::Put { family, key, value } => {
                // RocksDB's C interface takes a value in one piece.
                scratch.clear();
                value.iter().for_each(|part| scratch.extend_from_slice(part));
                out.put_cf(cf(db, *family), key, &scratch);
            }
            WriteOp::Delete { family, key } => out.delete_cf(cf(db, *family), key),
            // RocksDB fails a whole batch for a range that ends before it begins.
            WriteOp::DeleteRange { range, .. } if range.from >= range.to => {}
            WriteOp::DeleteRange { family, range } => {
                deletions += u64::from(*family == Family::Log);
                out.delete_range_cf(cf(db, *family), &range.from, &range.to);
            }
        }
    }
    if let Some(commit_no) = commit_no {
        out.put_cf(cf(db, Family::State), keys::COMMIT_NO, formats::commit_no(commit_no));
    }
    let mut options = WriteOptions::default();
    options.set_sync(commit_no.is_some());
    db.write_opt(out, &options).map_err(|error| kv_error(Family::Log, &error))?;
    inner.deletions.fetch_add(deletions, SeqCst);
    match commit_no {
        // After the fsync, before anyone is told (SAFETY B9).
        Some(commit_no) => {
            floor.raise(commit_no).map_err(|error| KvError::Io(format!("raising FLOOR to {commit_no}: {error}")))?;
            inner.commit_no.store(commit_no, SeqCst);
            Ok(())
        }
        None => Ok(()),
    }
}

pub(super) fn get(db: &DB, family: Family, key: &[u8]) -> Result<Option<Bytes>, KvError> {
    let value = db.get_cf(cf(db, family), key).map_err(|error| kv_error(family, &error))?;
    Ok(value.map(Bytes::from))
}

pub(super) fn scan(
    db: &DB,
    family: Family,
    range: KeyRange,
    limit: ScanLimit,
    reverse: bool,
) -> Result<Vec<(Bytes, Bytes)>, KvError> {
    if range.from >= range.to {
        return Ok(vec![]);
    }
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(range.from);
    options.set_iterate_upper_bound(range.to);
    let mut iter = db.raw_iterator_cf_opt(cf(db, family), options);
    if reverse {
        iter.seek_to_last()
    } else {
        iter.seek_to_first()
    }
    let mut found = vec![];
    let mut bytes = 0usize;
    while let Some((key, value)) = iter.item() {
        bytes = bytes.saturating_add(value.len());
        if !found.is_empty() && (found.len() >= limit.pairs || bytes > limit.bytes) {
            break;
        }
        found.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        if reverse { iter.prev() } else { iter.next() }
    }
    // An iterator that meets an error ends as if there were no more.
    iter.status().map_err(|error| kv_error(family, &error))?;
    Ok(found)
}

impl Kv for RocksKv {
    fn get<'a>(&'a self, family: Family, key: &'a [u8]) -> KvFuture<'a, Option<Bytes>> {
        let key = key.to_vec();
        Box::pin(self.read(move |db| get(db, family, &key)))
    }

    fn scan<'a>(
        &'a self,
        family: Family,
        range: KeyRange,
        limit: ScanLimit,
        reverse: bool,
    ) -> KvFuture<'a, Vec<(Bytes, Bytes)>> {
        Box::pin(self.read(move |db| scan(db, family, range, limit, reverse)))
    }

    fn commit(&self, batch: WriteBatch, sync: bool) -> KvFuture<'_, ()> {
        Box::pin(async move {
            let ended = |_| KvError::Io("the writer's thread has ended".into());
            let (done, wait) = oneshot::channel();
            let commits = self.commits.as_ref().expect("it is taken only by drop");
            commits.send(Commit { batch, sync, done }).await.map_err(|_| ended(()))?;
            wait.await.map_err(|_| ended(()))?
        })
    }

    fn commit_no(&self) -> u64 {
        self.inner.commit_no.load(SeqCst)
    }

    fn condemn(&self, why: &str) {
        drop(self.inner.directory.mark_damaged(why));
    }
}
