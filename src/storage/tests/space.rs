//! Space that purged entries held is given back, on a real disk.

use std::{path::Path, sync::atomic::Ordering::Relaxed, time::Duration};

use bytes::Bytes;

use crate::{
    storage::{Family, Kv, RocksKv, RocksOptions, ScanLimit, SpaceProbe, WriteBatch, keys},
    types::{LogIndex, RaftGroupId},
};

const MB: u64 = 1 << 20;
const VALUE_BYTES: usize = 64 << 10;
const ALL: ScanLimit = ScanLimit { pairs: usize::MAX, bytes: usize::MAX };
const PATIENCE: Duration = Duration::from_secs(60);

/// As on a disk that is nearly full, so that nothing waits for its turn.
async fn pressed(path: &Path) -> RocksKv {
    let options = RocksOptions { reserve_bytes: u64::MAX, ..RocksOptions::new(None, Some(16 * MB)) };
    RocksKv::open(path, options).await.expect("open")
}

/// Another one for each entry. Blobs are not compressed.
fn value(group: u64, index: u64) -> Bytes {
    let mut value = vec![group as u8; VALUE_BYTES];
    value[..8].copy_from_slice(&index.to_be_bytes());
    value.into()
}

/// Entries `from..to` of each group, side by side as partitions that are written at once.
async fn append(kv: &RocksKv, groups: std::ops::Range<u64>, indexes: std::ops::Range<u64>) {
    for index in indexes {
        let mut batch = WriteBatch::default();
        for group in groups.clone() {
            batch.put(Family::Log, keys::entry(RaftGroupId(group), LogIndex(index)), value(group, index));
        }
        kv.commit(batch, false).await.expect("commit");
    }
}

async fn purge(kv: &RocksKv, groups: std::ops::Range<u64>, to: u64) {
    let mut batch = WriteBatch::default();
    for group in groups {
        batch.delete_range(Family::Log, keys::entries(RaftGroupId(group), LogIndex(0), Some(LogIndex(to))));
    }
    kv.commit(batch, true).await.expect("commit");
}

async fn until(what: &str, probe: &SpaceProbe, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "not within {PATIENCE:?}: {what}: {probe:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn disk_usage(path: &Path) -> u64 {
    let files = std::fs::read_dir(path.join("db")).expect("a database");
    let blobs = files.map(|file| file.expect("a file")).filter(|file| file.path().extension() == Some("blob".as_ref()));
    blobs.map(|file| file.metadata().map_or(0, |metadata| metadata.len())).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn purged_entries_leave_the_disk_and_the_others_stay() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let kv = pressed(dir.path()).await;
    let (probe, space) = (kv.space(), kv.space());
    let now = move || space.counters().blob_bytes.load(Relaxed);
    append(&kv, 1..5, 0..256).await;
    until("most of 64 MiB is in blob files", &probe, || now() > 40 * MB).await;
    purge(&kv, 1..5, 240).await;
    // 4 MiB are kept, and 16 MiB of garbage is not worth a pass.
    until("the purged entries are gone", &probe, || now() < 21 * MB).await;
    assert!(disk_usage(dir.path()) < 21 * MB, "{} bytes of files", disk_usage(dir.path()));
    drop(kv);

    let kv = pressed(dir.path()).await;
    for group in 1..5 {
        let kept = kv.scan(Family::Log, keys::entries(RaftGroupId(group), LogIndex(0), None), ALL, false).await;
        let kept: Vec<Bytes> = kept.expect("scan").into_iter().map(|(_, value)| value).collect();
        assert_eq!(kept, (240..256).map(|index| value(group, index)).collect::<Vec<_>>());
    }
}

/// The hazard of mixed retention: every blob file holds something of the group that is kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_never_purged_pins_little_of_its_neighbours() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let kv = pressed(dir.path()).await;
    let probe = kv.space();
    let counters = probe.counters();
    // A fifth of it is kept: 51 of 256 MiB.
    for round in 0..8 {
        append(&kv, 1..6, round * 102..(round + 1) * 102).await;
        purge(&kv, 1..5, (round + 1) * 102).await;
    }
    let kept = 8 * 102 * VALUE_BYTES as u64;
    // What is still in the memtable is in no blob file.
    let is_small = || {
        let (bytes, garbage) = (counters.blob_bytes.load(Relaxed), counters.garbage_bytes.load(Relaxed));
        bytes > kept - 5 * MB && garbage * 100 <= bytes * 30 && !counters.is_collecting.load(Relaxed)
    };
    until("no more than 30 % is garbage", &probe, is_small).await;
    assert!(disk_usage(dir.path()) < kept * 10 / 7 + MB, "{} bytes, {probe:?}", disk_usage(dir.path()));
    let (moved, freed) = (counters.moved_bytes.load(Relaxed), counters.freed_bytes.load(Relaxed));
    println!("moved {} MiB to free {} MiB in {:?} passes", moved / MB, freed / MB, counters.passes);
    assert!(counters.passes.load(Relaxed) > 0, "{probe:?}");
    assert!(moved <= freed * 7 / 3, "more was moved than 30 % of garbage is worth: {probe:?}");
    drop(kv);

    let kv = pressed(dir.path()).await;
    for index in 0..8 * 102 {
        let read = kv.get(Family::Log, &keys::entry(RaftGroupId(5), LogIndex(index))).await.expect("get");
        assert_eq!(read, Some(value(5, index)), "entry {index}");
    }
}

#[test]
fn a_small_disk_gets_small_logs() {
    let of = |disk_bytes, wal_bytes_max| {
        let RocksOptions { write_buffer_bytes, wal_bytes_max, .. } = RocksOptions::new(disk_bytes, wal_bytes_max);
        (write_buffer_bytes as u64 / MB, wal_bytes_max / MB)
    };
    assert_eq!(of(None, None), (64, 256));
    assert_eq!(of(Some(100 << 30), None), (64, 256));
    assert_eq!(of(Some(1 << 30), None), (16, 64));
    assert_eq!(of(Some(1 << 20), None), (4, 16));
    assert_eq!(of(Some(1 << 30), Some(128 * MB)), (32, 128));
    assert_eq!(of(None, Some(1 << 30)), (64, 1_024));
    assert_eq!(of(None, Some(1)), (4, 16));
}
