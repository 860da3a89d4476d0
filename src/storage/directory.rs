//! A data directory: who has it open, whether it is marked damaged, and the links to write-ahead logs
//! that keep a damaged tail for examination (SAFETY B9).
//!
//! ```text
//! LOCK         held while a process uses the directory
//! DAMAGED      why the directory must not be used again; written once, never removed by us
//! FLOOR        see floor.rs
//! db/          RocksDB
//! wal-aside/   links to the write-ahead logs as they were before RocksDB opened them
//! ```

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};

use super::{StoreError, open::REPLACE_REPLICA};
use crate::durable;

pub(super) const DAMAGED: &str = "DAMAGED";
pub(super) const LOCK: &str = "LOCK";

/// What may lie in a directory before its database does: what was begun and not ended, and what a file system
/// puts into its root.
const OURS: [&str; 6] = [LOCK, DAMAGED, "FLOOR", "db", "wal-aside", "lost+found"];

/// Where what lies in a data directory. Looks, and changes nothing.
pub(super) struct Files<'a>(pub &'a Path);

impl Files<'_> {
    pub fn db(&self) -> PathBuf {
        self.0.join("db")
    }

    pub fn floor(&self) -> PathBuf {
        self.0.join("FLOOR")
    }

    /// Whether a database was ever completely created here.
    pub fn has_db(&self) -> bool {
        self.db().join("CURRENT").exists()
    }

    /// Something that is not ours in a directory that never had a database: somebody else's directory.
    fn stranger(&self) -> io::Result<Option<String>> {
        if has_database(self.0) {
            return Ok(None);
        }
        for file in fs::read_dir(self.0)? {
            let name = file?.file_name().to_string_lossy().into_owned();
            if !OURS.contains(&durable::meant(&name)) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Why the directory must not be used, if it must not.
    pub fn damaged_mark(&self) -> io::Result<Option<String>> {
        match fs::read_to_string(self.0.join(DAMAGED)) {
            Ok(what) => Ok(Some(what.trim_end().to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

pub(super) struct Directory {
    path: PathBuf,
    /// Locked while it is open.
    _lock: File,
}

impl Directory {
    /// Creates the directory if it is missing. Refuses one that is in use, marked damaged, or somebody else's.
    pub fn open(path: &Path) -> Result<Directory, StoreError> {
        if path.exists() && !path.is_dir() {
            return Err(StoreError::NotADirectory { path: path.display().to_string() });
        }
        durable::create_directories(path).map_err(io("creating the data directory", path))?;
        if let Some(found) = Files(path).stranger().map_err(io("listing", path))? {
            return Err(StoreError::NotEmpty { directory: path.display().to_string(), found });
        }
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join(LOCK));
        let lock = lock.map_err(io("opening LOCK in", path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::InUse { directory: path.display().to_string() });
            }
            Err(TryLockError::Error(error)) => return Err(io("locking", path)(error)),
        }
        let directory = Directory { path: path.into(), _lock: lock };
        match directory.files().damaged_mark().map_err(io("reading DAMAGED in", path))? {
            Some(what) => {
                let what = format!("{} was marked damaged: {what}", path.display());
                Err(StoreError::Damaged { what, to_do: REPLACE_REPLICA.into() })
            }
            None => Ok(directory),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn files(&self) -> Files<'_> {
        Files(&self.path)
    }

    pub fn db(&self) -> PathBuf {
        self.files().db()
    }

    pub fn floor(&self) -> PathBuf {
        self.files().floor()
    }

    fn wal_aside(&self) -> PathBuf {
        self.path.join("wal-aside")
    }

    /// Whether a database was ever completely created here.
    pub fn has_db(&self) -> bool {
        self.files().has_db()
    }

    /// Links the write-ahead logs aside: opening may drop what it cannot read of them, and recycles
    /// their files later. Links left by an open that did not end stay, they are the older evidence.
    pub fn link_wals(&self) -> io::Result<()> {
        if !self.db().exists() {
            return Ok(());
        }
        durable::create_directories(&self.wal_aside())?;
        for file in fs::read_dir(self.db())? {
            let file = file?;
            if file.path().extension().is_none_or(|extension| extension != "log") {
                continue;
            }
            match fs::hard_link(file.path(), self.wal_aside().join(file.file_name())) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The database was found complete: the links would only hold their space.
    pub fn unlink_wals(&self) -> io::Result<()> {
        match fs::remove_dir_all(self.wal_aside()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Marks the directory as damaged, for ever. The first mark stays. Returns the error to report.
    pub fn mark_damaged(&self, what: &str) -> StoreError {
        let what_here = format!("{}: {what}", self.path.display());
        if let Err(error) = write_damaged_mark(&self.path, what) {
            tracing::error!(directory = %self.path.display(), %error, "cannot mark the damaged data directory");
        }
        StoreError::Damaged { what: what_here, to_do: REPLACE_REPLICA.into() }
    }

    /// tmpfs of older kernels, and some network file systems, refuse direct I/O.
    pub fn has_direct_io(&self) -> bool {
        let probe = self.path.join(LOCK);
        rustix::fs::open(probe, OFlags::RDWR | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty()).is_ok()
    }
}

/// Persists that the directory must not be used again. The first reason stays.
pub(super) fn write_damaged_mark(directory: &Path, what: &str) -> io::Result<()> {
    let mark = directory.join(DAMAGED);
    if mark.exists() {
        return Ok(());
    }
    durable::write_whole(&mark, format!("{what}\n").as_bytes())
}

/// Whether a broker's data lies in a directory, or has begun to. Nothing is created.
pub fn has_database(directory: &Path) -> bool {
    let files = Files(directory);
    files.has_db() || files.floor().exists()
}

/// Space that this process may still use on the file system of a directory.
pub fn free_bytes(directory: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(directory)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// The size of the file system of a directory, or of the nearest one above it that exists.
pub fn disk_bytes(directory: &Path) -> io::Result<u64> {
    // Of a relative path the last ancestor is empty.
    let there = directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let stat = rustix::fs::statvfs(there)?;
    Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
}

/// An error that names what was done, where.
pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let doing = format!("{doing} {}", path.display());
    move |error| StoreError::Io { doing, cause: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_in_use_is_refused_until_it_is_free() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let first = Directory::open(dir.path()).expect("open");
        assert!(matches!(Directory::open(dir.path()), Err(StoreError::InUse { .. })));
        drop(first);
        Directory::open(dir.path()).expect("open");
    }

    /// SAFETY B9: the mark is persisted, and the first reason stays.
    #[test]
    fn a_marked_directory_is_refused_and_says_why() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let directory = Directory::open(dir.path()).expect("open");
        directory.mark_damaged("block 7 is torn");
        directory.mark_damaged("something else");
        drop(directory);
        let Err(StoreError::Damaged { what, to_do }) = Directory::open(dir.path()) else { panic!("not refused") };
        assert!(what.contains("block 7 is torn") && !what.contains("else"), "{what}");
        assert!(to_do.contains("another replica"), "{to_do}");
    }

    /// Seen once: a directory with foreign files was taken, and a file was "File exists".
    #[test]
    fn what_is_somebody_elses_is_refused_and_stays_as_it_is() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(dir.path().join("lost+found")).expect("create");
        fs::write(dir.path().join("thesis.tex"), "x").expect("write");
        let Err(StoreError::NotEmpty { found, .. }) = Directory::open(dir.path()) else { panic!("not refused") };
        assert_eq!(found, "thesis.tex");
        assert!(!dir.path().join(LOCK).exists(), "nothing was created");
        let Err(error) = Directory::open(&dir.path().join("thesis.tex")) else { panic!("not refused") };
        assert!(matches!(error, StoreError::NotADirectory { .. }), "{error}");
        fs::remove_file(dir.path().join("thesis.tex")).expect("remove");
        Directory::open(dir.path()).expect("a root of a file system is as good as empty");
    }

    #[test]
    fn free_space_is_told() {
        let free = free_bytes(Path::new("/")).expect("statvfs");
        assert!(free > 0);
        for directory in ["/", "/no/such/directory", "no-such-directory"] {
            assert!(disk_bytes(Path::new(directory)).expect("statvfs") > 0, "{directory}");
        }
    }
}
