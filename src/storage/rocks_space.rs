//! Keeps the space of a RocksDB directory: the thread that measures, asks `space.rs` what to do, and
//! does it. Beside the log writer's thread, never in its way: it writes nothing itself, and what
//! RocksDB does for it runs in RocksDB's own background threads.

use std::{
    sync::{Arc, Condvar, Mutex, atomic::Ordering::SeqCst},
    thread::JoinHandle,
    time::Duration,
};

use rocksdb::{BottommostLevelCompaction, CompactOptions, DB, Error};
use tokio::time::Instant;

use super::{
    Family,
    directory::free_bytes,
    rocks::{Inner, cf},
    space::{BlobFile, SpaceProbe, Step, View, files_to_empty, next_step},
};

/// How often it looks. A look is a few counters of RocksDB and one statvfs.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Free space below this many reserves counts as short: there is time left to make some.
const PRESSED_RESERVES: u64 = 2;
/// Counted as the length of a step that failed or freed nothing, so that the next waits.
const FAILED_TOOK: Duration = Duration::from_secs(20);

/// The thread, which ends when this is dropped.
pub(super) struct SpaceKeeper {
    inner: Arc<Inner>,
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Stop {
    is_stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// True once stopped; waits for that, but no longer than this.
    fn wait(&self, within: Duration) -> bool {
        let stopped = self.is_stopped.lock().expect("no holder panics");
        let waited = self.changed.wait_timeout_while(stopped, within, |stopped| !*stopped);
        *waited.expect("no holder panics").0
    }
}

impl SpaceKeeper {
    /// `reserve_bytes`: what the disk should keep free.
    pub fn start(inner: Arc<Inner>, probe: SpaceProbe, reserve_bytes: u64) -> std::io::Result<SpaceKeeper> {
        let stop = Arc::new(Stop::default());
        let mut keeping = Keeping::new(inner.clone(), stop.clone(), probe, reserve_bytes);
        let thread = std::thread::Builder::new().name("flotilla-space".into()).spawn({
            let stop = stop.clone();
            move || {
                while !stop.wait(LOOK_EVERY) {
                    keeping.look();
                }
            }
        })?;
        Ok(SpaceKeeper { inner, stop, thread: Some(thread) })
    }
}

impl Drop for SpaceKeeper {
    fn drop(&mut self) {
        *self.stop.is_stopped.lock().expect("no holder panics") = true;
        self.stop.changed.notify_all();
        // Ends a compaction that is under way; the database is about to be closed.
        self.inner.db.cancel_all_background_work(false);
        if let Some(thread) = self.thread.take() {
            // If it panicked, nothing but space is lost.
            let _ = thread.join();
        }
    }
}

/// What the thread remembers from look to look.
struct Keeping {
    inner: Arc<Inner>,
    stop: Arc<Stop>,
    probe: SpaceProbe,
    reserve_bytes: u64,
    /// How many deletions the last settle covered.
    settled: u64,
    deleted_since: Option<Instant>,
    ended: Instant,
    took: Duration,
    is_collecting: bool,
}

impl Keeping {
    fn new(inner: Arc<Inner>, stop: Arc<Stop>, probe: SpaceProbe, reserve_bytes: u64) -> Keeping {
        let now = Instant::now();
        Keeping {
            inner,
            stop,
            probe,
            reserve_bytes,
            settled: 0,
            // Nobody remembers what was deleted before the process started.
            deleted_since: Some(now),
            ended: now,
            took: Duration::ZERO,
            is_collecting: false,
        }
    }

    fn look(&mut self) {
        if self.inner.has_failed.load(SeqCst) {
            return;
        }
        let view = self.view();
        match next_step(&view) {
            Step::Rest => {
                if self.is_collecting && view.rested >= self.took {
                    self.is_collecting = false;
                }
            }
            Step::Settle => self.timed(Keeping::settle),
            Step::Collect => {
                self.is_collecting = true;
                self.timed(Keeping::collect);
            }
        }
        let (blobs, held_bytes) = measure(&self.inner.db);
        self.probe.saw(blobs, held_bytes, self.is_collecting);
    }

    fn view(&mut self) -> View {
        if self.inner.deletions.load(SeqCst) > self.settled {
            self.deleted_since.get_or_insert_with(Instant::now);
        }
        let free_bytes = free_bytes(self.inner.directory.path()).ok();
        View {
            blobs: measure(&self.inner.db).0,
            deleted_for: self.deleted_since.map(|since| since.elapsed()),
            rested: self.ended.elapsed(),
            took: self.took,
            is_collecting: self.is_collecting,
            is_pressed: free_bytes.is_some_and(|free| free < self.reserve_bytes.saturating_mul(PRESSED_RESERVES)),
        }
    }

    fn timed(&mut self, step: fn(&mut Keeping) -> Result<bool, Error>) {
        let began = Instant::now();
        let result = step(self);
        self.ended = Instant::now();
        self.took = self.ended - began;
        match result {
            Ok(true) => {}
            // Cut short by the end.
            Ok(false) | Err(_) if self.stop.wait(Duration::ZERO) => {}
            Ok(false) => self.took = self.took.max(FAILED_TOOK),
            Err(error) => {
                // The log writer meets the same error, if it is one of the disk, and ends the process.
                tracing::warn!(%error, "space could not be given back, will be tried again");
                self.took = self.took.max(FAILED_TOOK);
            }
        }
    }

    fn settle(&mut self) -> Result<bool, Error> {
        let began = Instant::now();
        let covered = self.inner.deletions.load(SeqCst);
        let db = &self.inner.db;
        db.flush_cf(cf(db, Family::Log))?;
        // Down to the last level that holds what was deleted; that one is not rewritten on its own.
        compact(db, BottommostLevelCompaction::IfHaveCompactionFilter);
        self.settled = covered;
        self.deleted_since = None;
        self.probe.settled(began.elapsed());
        Ok(true)
    }

    /// False if it freed nothing.
    fn collect(&mut self) -> Result<bool, Error> {
        let began = Instant::now();
        let db = &self.inner.db;
        let files = blob_files(db)?;
        let oldest_first: Vec<BlobFile> = files.iter().map(|(_, file)| *file).collect();
        let count = files_to_empty(&oldest_first, free_bytes(self.inner.directory.path()).ok());
        let Some((last, _)) = count.checked_sub(1).and_then(|last| files.get(last)) else { return Ok(false) };
        // RocksDB empties the first files.len() x cutoff, rounded down.
        let cutoff = (count as f64 + 0.5) / files.len() as f64;
        let cutoff = format!("{:.9}", cutoff.min(1.0));
        let log = cf(db, Family::Log);
        db.set_options_cf(
            log,
            &[
                ("enable_blob_garbage_collection", "true"),
                ("blob_garbage_collection_age_cutoff", &cutoff),
                ("blob_garbage_collection_force_threshold", "1.0"),
            ],
        )?;
        compact(db, BottommostLevelCompaction::ForceOptimized);
        db.set_options_cf(log, &[("enable_blob_garbage_collection", "false")])?;
        if blob_files(db)?.first().is_some_and(|(oldest, _)| oldest <= last) {
            return Ok(false);
        }
        self.probe.passed(&oldest_first[..count], began.elapsed());
        tracing::debug!(files = count, of = files.len(), took = ?began.elapsed(), "collected garbage");
        Ok(true)
    }
}

/// All of the log family. Errors are RocksDB's own to report; the caller looks at what came of it.
fn compact(db: &DB, bottommost: BottommostLevelCompaction) {
    let mut options = CompactOptions::default();
    options.set_exclusive_manual_compaction(false);
    options.set_bottommost_level_compaction(bottommost);
    db.compact_range_cf_opt(cf(db, Family::Log), None::<&[u8]>, None::<&[u8]>, &options);
}

/// Blob bytes with their garbage, and what only readers still hold.
fn measure(db: &DB) -> (BlobFile, u64) {
    let log = cf(db, Family::Log);
    let read = |name: &str| db.property_int_value_cf(log, name).ok().flatten().unwrap_or(0);
    let bytes = read("rocksdb.live-blob-file-size");
    let garbage_bytes = read("rocksdb.live-blob-file-garbage-size");
    let held = read("rocksdb.total-blob-file-size").saturating_sub(bytes);
    (BlobFile { bytes, garbage_bytes }, held)
}

/// Numbers and sizes of the blob files, oldest first.
fn blob_files(db: &DB) -> Result<Vec<(u64, BlobFile)>, Error> {
    let text = db.property_value_cf(cf(db, Family::Log), "rocksdb.sstables")?;
    Ok(read_blob_files(&text.unwrap_or_default()))
}

/// Reads the only property that tells of single files, which is text for people; a test holds that this
/// version of RocksDB still writes it so. What is not understood is left out: less is collected then.
fn read_blob_files(text: &str) -> Vec<(u64, BlobFile)> {
    let file = |line: &str| {
        let number = |name: &str| -> Option<u64> {
            let (_, rest) = line.split_once(name)?;
            rest.trim_start().split(' ').next()?.parse().ok()
        };
        let (bytes, garbage_bytes) = (number(" total_blob_bytes:")?, number(" garbage_blob_bytes:")?);
        Some((number("blob_file_number:")?, BlobFile { bytes, garbage_bytes }))
    };
    text.lines().filter(|line| line.starts_with("blob_file_number:")).filter_map(file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blob_files_are_read_from_what_rocksdb_writes_for_people() {
        let text = "--- level 6 --- version# 9 ---\n 12:1089[1 .. 5]['6500' seq:1, type:17 .. '65'] blob_file:10(0)\n\
            --- blob files --- version# 9 ---\n\
            blob_file_number: 10 total_blob_count: 3 total_blob_bytes: 3000 checksum_method:  checksum_value:  \
            linked_ssts: { 12 } garbage_blob_count: 1 garbage_blob_bytes: 1000\n\
            blob_file_number: 11 total_blob_count: 1 total_blob_bytes: 7 linked_ssts: { } garbage_blob_count: 0\n\
            blob_file_number: 13 total_blob_count: 1 total_blob_bytes: 7 checksum_method: x checksum_value: 0 \
            linked_ssts: { } garbage_blob_count: 0 garbage_blob_bytes: 0\n";
        let file = |bytes, garbage_bytes| BlobFile { bytes, garbage_bytes };
        assert_eq!(read_blob_files(text), [(10, file(3_000, 1_000)), (13, file(7, 0))]);
        assert_eq!(read_blob_files(""), []);
    }
}
