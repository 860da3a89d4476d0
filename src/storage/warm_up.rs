//! Gives a new database write-ahead logs to recycle. An append to a new log extends its file, so each
//! fsync waits for the file system's journal as well: 0.15 ms where overwriting a recycled log takes
//! 0.10 (4 KiB, one writer), and more when several brokers share a file system. Without this, a broker
//! would be slow until its first memtables were flushed.
//!
//! A crash in the middle leaves a database without a `commit_no`, which warms up again.

use rocksdb::{DB, WriteOptions};

use super::{Family, keys, rocks::cf};

/// The bytes of one write. Small, because the kernel caches a file in units as large as the writes that made it,
/// and writes whole units back: after writes of 256 KiB an fsync of 1 KiB wrote 80.
const PIECE_BYTES: usize = 3 << 10;
/// The first log becomes free to recycle when the second is begun, and is used for the third.
const LOGS: usize = 2;

/// Fills and retires logs of the size of a memtable.
pub(super) fn warm_up(db: &DB, write_buffer_bytes: usize) -> Result<(), rocksdb::Error> {
    let log = cf(db, Family::Log);
    let piece = vec![0; PIECE_BYTES.min(write_buffer_bytes / 4)];
    let unsynced = WriteOptions::default();
    for _ in 0..LOGS {
        // Well short of the size at which the memtable would be flushed by itself, which would begin
        // one more log, and leave the broker with that.
        for _ in 0..write_buffer_bytes / piece.len().max(1) * 3 / 4 {
            db.put_cf_opt(log, keys::WARM_UP, &piece, &unsynced)?;
        }
        db.delete_cf_opt(log, keys::WARM_UP, &unsynced)?;
        db.flush_wal(true)?;
        db.flush_cf(log)?;
    }
    Ok(())
}
