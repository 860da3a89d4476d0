//! A data directory that is only looked at: whatever is read, nothing in it changes, not a byte, not a
//! time of change, not an owner, and nothing is created there.
//!
//! RocksDB sees a directory of links in the system's directory for temporary files, which is ours and is
//! removed afterwards: what it may create or delete there is ours too. Opened read-only it replays the
//! write-ahead logs into memory and writes to none of the files behind the links. LOCK is taken shared, so
//! that no broker starts meanwhile, and a running one is not disturbed.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, symlink},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use rocksdb::DB;
use tokio::time::{Instant, sleep};

use super::{
    Family, KeyRange, Kv, KvError, KvFuture, ScanLimit, StoreError, StoreFailed, WriteBatch,
    directory::{self, DAMAGED, io},
    floor::Floor,
    open::REPLACE_REPLICA,
    rocks,
};

/// Directories of links that this process has made: no two have one name.
static VIEWS: AtomicU64 = AtomicU64::new(0);

/// A data directory open for reading. Commits are refused.
pub struct ReadOnlyKv {
    /// First, so that it is closed before its links and the lock go.
    db: Arc<DB>,
    _view: View,
    /// The lock of the directory. None: it has no LOCK file, so nobody has it open.
    _lock: Option<File>,
}

impl ReadOnlyKv {
    /// Opens what is there. Refuses what is no data directory, one that a broker has open, and one that is
    /// damaged.
    pub async fn open(path: impl Into<PathBuf>) -> Result<ReadOnlyKv, StoreError> {
        let path = path.into();
        let deadline = Instant::now() + rocks::LOCK_WITHIN;
        loop {
            let path = path.clone();
            let opened = tokio::task::spawn_blocking(move || ReadOnlyKv::open_blocking(&path)).await;
            let opened = opened.unwrap_or_else(|error| {
                Err(StoreError::Io { doing: "opening the data directory".into(), cause: error.to_string() })
            });
            match opened {
                Err(StoreError::InUse { .. }) if Instant::now() < deadline => sleep(rocks::LOCK_RETRY).await,
                opened => return opened,
            }
        }
    }

    fn open_blocking(path: &Path) -> Result<ReadOnlyKv, StoreError> {
        let files = directory::Files(path);
        if !files.has_db() || !files.floor().exists() {
            return Err(StoreError::NoDataDirectory { directory: path.display().to_string() });
        }
        let lock = lock_shared(path)?;
        if let Some(what) = files.damaged_mark().map_err(io("reading DAMAGED in", path))? {
            let what = format!("{} is marked damaged (file {DAMAGED}): {what}", path.display());
            return Err(StoreError::Damaged { what, to_do: REPLACE_REPLICA.into() });
        }
        let view = View::of(&files.db()).map_err(io("linking for reading", path))?;
        let db = rocks::open_db_read_only(&view.0)?;
        let floor = Floor::read(&files.floor()).map_err(io("reading FLOOR in", path))?;
        let commit_no = rocks::commit_no(&db).map_err(StoreFailed::from)?;
        match rocks::missing_commits(commit_no, floor) {
            None => Ok(ReadOnlyKv { db: Arc::new(db), _view: view, _lock: lock }),
            Some(what) => {
                Err(StoreError::Damaged { what: format!("{}: {what}", path.display()), to_do: REPLACE_REPLICA.into() })
            }
        }
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&DB) -> Result<T, KvError> + Send + 'static,
    ) -> Result<T, KvError> {
        let db = Arc::clone(&self.db);
        let result = tokio::task::spawn_blocking(move || read(&db));
        rocks::ended(result).await
    }
}

impl Kv for ReadOnlyKv {
    fn get<'a>(&'a self, family: Family, key: &'a [u8]) -> KvFuture<'a, Option<Bytes>> {
        let key = key.to_vec();
        Box::pin(self.read(move |db| rocks::get(db, family, &key)))
    }

    fn scan<'a>(
        &'a self,
        family: Family,
        range: KeyRange,
        limit: ScanLimit,
        reverse: bool,
    ) -> KvFuture<'a, Vec<(Bytes, Bytes)>> {
        Box::pin(self.read(move |db| rocks::scan(db, family, range, limit, reverse)))
    }

    fn commit(&self, _: WriteBatch, _: bool) -> KvFuture<'_, ()> {
        Box::pin(async { Err(KvError::Io("the data directory is open for reading only".into())) })
    }

    /// Nothing is committed here.
    fn commit_no(&self) -> u64 {
        0
    }

    /// Whoever looks only changes nothing.
    fn condemn(&self, _: &str) {}
}

/// Taken on a descriptor that cannot write: LOCK keeps its times.
fn lock_shared(path: &Path) -> Result<Option<File>, StoreError> {
    let file = match File::open(path.join(directory::LOCK)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io("opening LOCK in", path)(error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { directory: path.display().to_string() }),
        Err(TryLockError::Error(error)) => Err(io("locking", path)(error)),
    }
}

/// Links to the files of a database, in a directory that nobody else may enter. Removed when dropped.
struct View(PathBuf);

impl View {
    fn of(db: &Path) -> io::Result<View> {
        let db = fs::canonicalize(db)?;
        let number = VIEWS.fetch_add(1, Relaxed);
        let path = std::env::temp_dir().join(format!("flotilla-view-{}-{number}", std::process::id()));
        // Fails if somebody has made it before us: nothing of theirs is used, or removed.
        DirBuilder::new().mode(0o700).create(&path)?;
        let view = View(path);
        for file in fs::read_dir(&db)? {
            let name = file?.file_name();
            symlink(db.join(&name), view.0.join(&name))?;
        }
        Ok(view)
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // Links only; what cannot be removed is for whoever cleans the directory of temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}
