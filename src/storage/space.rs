//! When to give disk space back, and how much at a time: decided from what the database says of its
//! files. Pure; `rocks_space.rs` measures and acts.
//!
//! Purged entries leave the disk in two steps. A *settle* flushes and compacts the range deletions, so
//! that they meet what they delete: blob files without a living value go at once, and of all others it
//! is known then how much is garbage. If that is more than [`GARBAGE_PERCENT_MAX`] of all, *collecting*
//! moves what lives in the oldest files to new ones and drops the old, until less than
//! [`GARBAGE_PERCENT_LOW`] is garbage: otherwise one partition that is never trimmed would pin every
//! file that its neighbours once shared with it.
//!
//! Cost: moving out of files of which 30 % is garbage writes 2.3 bytes for each byte that it frees, at
//! worst; with garbage where it usually is, in the oldest files, far less. Below that nothing moves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Collecting begins when more than this much of all blob bytes is garbage, ...
pub(super) const GARBAGE_PERCENT_MAX: u64 = 30;
/// ... and ends when less is. Apart, so that it does not begin again at once.
pub(super) const GARBAGE_PERCENT_LOW: u64 = 20;
/// Less garbage than this is not worth a pass, whatever its share.
const GARBAGE_BYTES_MIN: u64 = 16 << 20;
/// A settle flushes the memtable. Retention trims every ten seconds at most.
const SETTLE_EVERY: Duration = Duration::from_secs(10);
/// Alive bytes moved by one pass: half a second of disk time, between which others have their turn.
const PASS_BYTES_MAX: u64 = 256 << 20;
/// A pass is followed by a rest of so many times its own length: fsyncs of the log come first.
const RESTS: u32 = 3;
/// The same, while more than [`GARBAGE_PERCENT_HIGH`] is garbage.
const RESTS_HIGH: u32 = 1;
const GARBAGE_PERCENT_HIGH: u64 = 50;

/// A blob file, as far as the decision needs to know it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BlobFile {
    pub bytes: u64,
    /// The bytes of values that nothing refers to any more.
    pub garbage_bytes: u64,
}

impl BlobFile {
    fn live_bytes(self) -> u64 {
        self.bytes.saturating_sub(self.garbage_bytes)
    }
}

/// What the keeper of space sees.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// All blob files together, garbage included.
    pub blobs: BlobFile,
    /// How long the oldest deletion waits that was not settled; None: there is none.
    pub deleted_for: Option<Duration>,
    /// The time since the last settling or pass ended.
    pub rested: Duration,
    /// How long that settling or pass took.
    pub took: Duration,
    pub is_collecting: bool,
    /// The disk is nearly full: space goes before latency.
    pub is_pressed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Rest,
    /// Flush, and let deletions meet what they delete.
    Settle,
    /// Move what lives in the oldest blob files, and drop these.
    Collect,
}

pub(super) fn next_step(view: &View) -> Step {
    let rests = if garbage_exceeds(view.blobs, GARBAGE_PERCENT_HIGH) { RESTS_HIGH } else { RESTS };
    if !view.is_pressed && view.rested < view.took.saturating_mul(rests) {
        return Step::Rest;
    }
    // First, since it tells how much is garbage.
    let settle_after = if view.is_pressed { Duration::ZERO } else { SETTLE_EVERY };
    if view.deleted_for.is_some_and(|waited| waited >= settle_after) {
        return Step::Settle;
    }
    let begins_at = if view.is_collecting { GARBAGE_PERCENT_LOW } else { GARBAGE_PERCENT_MAX };
    if view.blobs.garbage_bytes >= GARBAGE_BYTES_MIN && garbage_exceeds(view.blobs, begins_at) {
        return Step::Collect;
    }
    Step::Rest
}

fn garbage_exceeds(blobs: BlobFile, percent: u64) -> bool {
    u128::from(blobs.garbage_bytes) * 100 > u128::from(blobs.bytes) * u128::from(percent)
}

/// How many of the oldest files one pass should empty: as few as bring garbage down to
/// [`GARBAGE_PERCENT_LOW`], and no more than can be moved in one pass with `free_bytes` left, but one at
/// least. RocksDB can only take the oldest ones, so files without garbage before those with are moved too.
pub(super) fn files_to_empty(oldest_first: &[BlobFile], free_bytes: Option<u64>) -> usize {
    // What is moved is there twice until the pass ends.
    let moved_max = PASS_BYTES_MAX.min(free_bytes.unwrap_or(u64::MAX) / 4);
    let mut rest = BlobFile::default();
    for file in oldest_first {
        rest.bytes += file.bytes;
        rest.garbage_bytes += file.garbage_bytes;
    }
    let mut moved = 0;
    for (n, file) in oldest_first.iter().enumerate() {
        moved += file.live_bytes();
        if n > 0 && (moved > moved_max || !garbage_exceeds(rest, GARBAGE_PERCENT_LOW)) {
            return n;
        }
        rest.bytes -= file.garbage_bytes;
        rest.garbage_bytes -= file.garbage_bytes;
    }
    oldest_first.len()
}

/// What keeping space has seen and done; cheap to clone, read by whoever publishes metrics.
#[derive(Clone, Debug, Default)]
pub struct SpaceProbe(Arc<SpaceCounters>);

#[derive(Debug, Default)]
pub struct SpaceCounters {
    /// The bytes of all blob files, now.
    pub blob_bytes: AtomicU64,
    /// The part of `blob_bytes` that nothing refers to any more, as far as compaction has found out.
    pub garbage_bytes: AtomicU64,
    /// Blob files of versions that readers still hold are in this and not in `blob_bytes`.
    pub held_bytes: AtomicU64,
    pub is_collecting: AtomicBool,
    pub settles: AtomicU64,
    pub passes: AtomicU64,
    /// The live bytes that passes have moved.
    pub moved_bytes: AtomicU64,
    /// The bytes of garbage that passes have dropped.
    pub freed_bytes: AtomicU64,
    /// Spent in settles and passes.
    pub busy_us: AtomicU64,
}

impl SpaceProbe {
    pub fn counters(&self) -> &SpaceCounters {
        &self.0
    }

    pub(super) fn saw(&self, blobs: BlobFile, held_bytes: u64, is_collecting: bool) {
        self.0.blob_bytes.store(blobs.bytes, Relaxed);
        self.0.garbage_bytes.store(blobs.garbage_bytes, Relaxed);
        self.0.held_bytes.store(held_bytes, Relaxed);
        self.0.is_collecting.store(is_collecting, Relaxed);
    }

    pub(super) fn settled(&self, took: Duration) {
        self.0.settles.fetch_add(1, Relaxed);
        self.0.busy_us.fetch_add(took.as_micros() as u64, Relaxed);
    }

    pub(super) fn passed(&self, emptied: &[BlobFile], took: Duration) {
        self.0.passes.fetch_add(1, Relaxed);
        self.0.moved_bytes.fetch_add(emptied.iter().map(|file| file.live_bytes()).sum(), Relaxed);
        self.0.freed_bytes.fetch_add(emptied.iter().map(|file| file.garbage_bytes).sum(), Relaxed);
        self.0.busy_us.fetch_add(took.as_micros() as u64, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;
    const SECOND: Duration = Duration::from_secs(1);

    fn file(bytes: u64, garbage_bytes: u64) -> BlobFile {
        BlobFile { bytes: bytes * MB, garbage_bytes: garbage_bytes * MB }
    }

    fn view(bytes: u64, garbage_bytes: u64) -> View {
        View {
            blobs: file(bytes, garbage_bytes),
            deleted_for: None,
            rested: SECOND,
            took: Duration::ZERO,
            is_collecting: false,
            is_pressed: false,
        }
    }

    #[test]
    fn collecting_begins_above_30_percent_and_goes_on_down_to_20() {
        for (garbage, is_collecting, step) in [
            (0, false, Step::Rest),
            (300, false, Step::Rest),
            (301, false, Step::Collect),
            (300, true, Step::Collect),
            (201, true, Step::Collect),
            (200, true, Step::Rest),
        ] {
            assert_eq!(next_step(&View { is_collecting, ..view(1_000, garbage) }), step, "{garbage} {is_collecting}");
        }
        assert_eq!(next_step(&view(15, 15)), Step::Rest, "too little to care");
        assert_eq!(next_step(&view(16, 16)), Step::Collect);
        assert_eq!(next_step(&View { blobs: file(u64::MAX / MB, u64::MAX / MB), ..view(0, 0) }), Step::Collect);
    }

    #[test]
    fn a_deletion_settles_after_a_while_or_at_once_when_space_is_short() {
        let deleted = |secs, is_pressed| {
            let deleted_for = Some(Duration::from_secs(secs));
            next_step(&View { deleted_for, is_pressed, ..view(1_000, 0) })
        };
        assert_eq!(deleted(9, false), Step::Rest);
        assert_eq!(deleted(10, false), Step::Settle);
        assert_eq!(deleted(0, true), Step::Settle);
        // Before anything is collected: it says what is garbage.
        let both = View { deleted_for: Some(10 * SECOND), ..view(1_000, 500) };
        assert_eq!(next_step(&both), Step::Settle);
    }

    #[test]
    fn work_is_followed_by_rest_unless_space_is_short() {
        let after = |rested, garbage, is_pressed| {
            next_step(&View { took: SECOND, rested: SECOND * rested, is_pressed, ..view(1_000, garbage) })
        };
        assert_eq!((after(2, 400, false), after(3, 400, false)), (Step::Rest, Step::Collect));
        assert_eq!((after(0, 501, false), after(1, 501, false)), (Step::Rest, Step::Collect));
        assert_eq!(after(0, 400, true), Step::Collect);
    }

    #[test]
    fn a_pass_empties_as_few_of_the_oldest_files_as_will_do() {
        let files = [file(100, 90), file(100, 60), file(100, 0), file(100, 0)];
        // 150 of 400; without the first file 60 of 310, which is below 20 %.
        assert_eq!(files_to_empty(&files, None), 1);
        assert_eq!(files_to_empty(&[file(100, 0), file(100, 0), file(100, 90)], None), 3, "clean ones first");
        assert_eq!(files_to_empty(&[file(100, 100)], None), 1);
        assert_eq!(files_to_empty(&[], None), 0);
    }

    #[test]
    fn a_pass_moves_no_more_than_fits() {
        let files = [file(200, 80); 10];
        assert_eq!(files_to_empty(&files, None), 2, "2 x 120 MiB of at most 256");
        assert_eq!(files_to_empty(&files, Some(500 * MB)), 1, "120 MiB of at most 125");
        // One at least: with nothing moved nothing would ever be freed.
        assert_eq!(files_to_empty(&files, Some(0)), 1);
        assert_eq!(files_to_empty(&[file(1_000, 400); 2], None), 1);
    }
}
