//! SAFETY B9 on real files: no fsynced write is lost without being noticed.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use crate::storage::{
    Family, KeyRange, Kv, KvError, RocksKv, RocksOptions, ScanLimit, StoreError, WriteBatch, floor::Floor,
};

const VALUE_LEN: usize = 1_000;
const WRITES: u32 = 1_500;

/// Small enough that logs are recycled within a test.
fn small() -> RocksOptions {
    RocksOptions { write_buffer_bytes: 128 << 10, wal_bytes_max: 256 << 10, reserve_bytes: 0, open_files_max: Some(16) }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime").block_on(test)
}

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn key(number: u32) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

/// A value that is found in a file, and does not compress.
fn value(number: u32) -> Bytes {
    let mut value = format!("<{number:08}>").into_bytes();
    let mut noise = u64::from(number) + 1;
    while value.len() < VALUE_LEN {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        value.extend_from_slice(&noise.to_le_bytes());
    }
    value.into()
}

async fn write(kv: &RocksKv, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let mut batch = WriteBatch::default();
        batch.put(Family::Log, key(number), value(number));
        kv.commit(batch, true).await.expect("commit");
    }
}

async fn read_all(kv: &RocksKv) -> Result<usize, KvError> {
    let range = KeyRange { from: vec![0], to: vec![0xff; 8] };
    let limit = ScanLimit { pairs: usize::MAX, bytes: usize::MAX };
    Ok(kv.scan(Family::Log, range, limit, false).await?.len())
}

/// Everything below a directory, as a process that is killed leaves it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("create");
    for file in fs::read_dir(from).expect("list") {
        let file = file.expect("list");
        let to = to.join(file.file_name());
        if file.file_type().expect("type").is_dir() {
            copy(&file.path(), &to);
        } else {
            fs::copy(file.path(), to).expect("copy");
        }
    }
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(dir.join("db")).expect("list").map(|file| file.expect("list").path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    files.sort();
    files
}

/// Where each write's value lies in a file.
fn find(file: &Path) -> Vec<(u32, u64)> {
    let bytes = fs::read(file).expect("read");
    let marks = bytes.windows(10).enumerate().filter(|(_, window)| window[0] == b'<' && window[9] == b'>');
    let number = |window: &[u8]| std::str::from_utf8(&window[1..9]).ok()?.parse().ok();
    marks.filter_map(|(at, window)| Some((number(window)?, at as u64))).collect()
}

/// The live write-ahead log, with the places of an earlier write and of the last one.
fn live_wal(dir: &Path) -> (PathBuf, u64, u64) {
    let wal = files(dir, "log").pop().expect("a write-ahead log");
    let found = find(&wal);
    let place = |number| found.iter().find(|(found, _)| *found == number).map(|(_, at)| *at);
    let last = place(WRITES - 1).expect("the last write is in the live log");
    let earlier = (0..WRITES - 1).rev().map_while(place).last();
    (wal, earlier.expect("an earlier write is in the live log"), last)
}

fn overwrite(file: &Path, at: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(file).expect("open");
    file.write_all_at(bytes, at).expect("write");
}

fn cut(file: &Path, len: u64) {
    OpenOptions::new().write(true).open(file).expect("open").set_len(len).expect("cut");
}

fn flip(file: &Path, at: u64) {
    let byte = fs::read(file).expect("read")[at as usize];
    overwrite(file, at, &[byte ^ 0x10]);
}

#[test]
fn damage_to_fsynced_writes_in_the_live_log_is_always_found_at_open() {
    let original = temporary();
    let killed = temporary();
    run(async {
        let kv = RocksKv::open(original.path(), small()).await.expect("open");
        write(&kv, 0..WRITES).await;
        // Copied while it is open: as after a SIGKILL.
        copy(original.path(), killed.path());
    });
    let log = fs::read_to_string(original.path().join("db/LOG")).expect("read");
    assert!(log.contains("reusing log"), "write-ahead logs are recycled in this test");

    let undamaged = temporary();
    copy(killed.path(), undamaged.path());
    run(async {
        let kv = RocksKv::open(undamaged.path(), small()).await.expect("the undamaged control opens");
        assert_eq!(read_all(&kv).await.expect("read"), WRITES as usize);
    });
    assert!(!undamaged.path().join("wal-aside").exists());

    type Damage = fn(&Path, u64, u64);
    let damages: [(&str, Damage); 6] = [
        ("flip in the middle", |wal, middle, _| flip(wal, middle + 300)),
        ("flip in the last", |wal, _, last| flip(wal, last + 300)),
        ("cut 100 bytes", |wal, _, last| cut(wal, last + VALUE_LEN as u64 - 100)),
        ("zero 300", |wal, _, last| overwrite(wal, last + 200, &[0; 300])),
        ("garbage 300", |wal, _, last| overwrite(wal, last + 200, &[0xa5; 300])),
        ("cut to half", |wal, middle, last| cut(wal, (middle + last) / 2)),
    ];
    for (name, damage) in damages {
        let dir = temporary();
        copy(killed.path(), dir.path());
        let (wal, middle, last) = live_wal(dir.path());
        damage(&wal, middle, last);
        for round in 0..2 {
            let Err(error) = run(RocksKv::open(dir.path(), small())) else { panic!("{name}: opened") };
            assert!(matches!(error, StoreError::Damaged { .. }), "{name}, round {round}: {error}");
        }
        assert!(dir.path().join("wal-aside").read_dir().expect("list").count() > 0, "{name}: the log is kept");
    }
}

#[test]
fn a_missing_floor_or_database_is_damage_and_an_unfinished_creation_is_not() {
    let written = temporary();
    run(async {
        let kv = RocksKv::open(written.path(), small()).await.expect("open");
        write(&kv, 0..10).await;
    });
    let opened = |change: fn(&Path)| {
        let dir = temporary();
        copy(written.path(), dir.path());
        change(dir.path());
        run(RocksKv::open(dir.path(), small())).map(drop)
    };
    let is_damaged = |opened| matches!(opened, Err(StoreError::Damaged { .. }));
    opened(|_| {}).expect("the control opens");
    assert!(is_damaged(opened(|dir| fs::remove_file(dir.join("FLOOR")).expect("remove"))));
    assert!(is_damaged(opened(|dir| fs::write(dir.join("FLOOR"), [0; 12_288]).expect("write"))));
    assert!(is_damaged(opened(|dir| fs::remove_dir_all(dir.join("db")).expect("remove"))));
    // Killed while it was created: before RocksDB, and within FLOOR's own creation.
    let new = temporary();
    Floor::create(&new.path().join("FLOOR")).expect("create");
    run(RocksKv::open(new.path(), small())).map(drop).expect("open");
    let new = temporary();
    fs::write(new.path().join("FLOOR.new77"), b"half").expect("write");
    run(RocksKv::open(new.path(), small())).map(drop).expect("open");
}

/// The floor is above what was acknowledged, never below.
#[test]
fn the_floor_is_raised_before_a_synced_commit_returns_and_not_by_others() {
    let dir = temporary();
    run(async {
        let kv = RocksKv::open(dir.path(), small()).await.expect("open");
        let floor = || Floor::read(&dir.path().join("FLOOR")).expect("read").expect("valid");
        for number in 1..=20 {
            write(&kv, number..number + 1).await;
            assert_eq!(floor(), u64::from(number));
        }
        kv.commit(WriteBatch::default(), false).await.expect("commit");
        assert_eq!(floor(), 20);
        drop(kv);
        let kv = RocksKv::open(dir.path(), small()).await.expect("open");
        write(&kv, 0..1).await;
        assert_eq!(floor(), 21);
    });
}

/// "Damage that opening cannot see."
#[test]
fn a_read_of_a_damaged_file_serves_nothing_and_marks_the_directory() {
    let dir = temporary();
    run(async {
        let kv = RocksKv::open(dir.path(), small()).await.expect("open");
        write(&kv, 0..WRITES).await;
    });
    // Opening writes out what is left in the log.
    run(RocksKv::open(dir.path(), small())).map(drop).expect("open");
    let blobs = files(dir.path(), "blob");
    let (blob, at) = blobs.iter().find_map(|blob| Some((blob, find(blob).first()?.1))).expect("in a blob file");
    flip(blob, at + 500);
    run(async {
        let kv = RocksKv::open(dir.path(), small()).await.expect("opening does not see it");
        let found = read_all(&kv).await;
        assert!(matches!(found, Err(KvError::Damaged { family: Family::Log, .. })), "{found:?}");
        assert!(kv.get(Family::Log, &key(1_000)).await.is_err(), "nothing more is served");
        assert!(kv.commit(WriteBatch::default(), true).await.is_err());
    });
    let refused = run(RocksKv::open(dir.path(), small())).map(drop);
    assert!(matches!(refused, Err(StoreError::Damaged { .. })), "{refused:?}");
}

#[test]
fn a_directory_that_is_open_is_in_use() {
    let dir = temporary();
    run(async {
        let kv = RocksKv::open(dir.path(), small()).await.expect("open");
        let second = RocksKv::open(dir.path(), small()).await.map(drop);
        assert!(matches!(second, Err(StoreError::InUse { .. })), "{second:?}");
        drop(kv);
        RocksKv::open(dir.path(), small()).await.expect("free again");
    });
}

/// A process that was killed holds its directory until the last of its threads has ended.
#[test]
fn opening_waits_for_a_holder_that_is_about_to_end() {
    let dir = temporary();
    run(async {
        let kv = RocksKv::open(dir.path(), small()).await.expect("open");
        let mut second = Box::pin(RocksKv::open(dir.path(), small()));
        let early = tokio::time::timeout(std::time::Duration::from_millis(100), &mut second).await;
        assert!(early.is_err(), "it cannot have opened yet");
        drop(kv);
        second.await.expect("opens once it is free");
    });
}

/// Without it every record costs twenty times the checksum.
#[test]
fn rocksdb_was_built_with_fast_crc() {
    let dir = temporary();
    run(RocksKv::open(dir.path(), small())).map(drop).expect("open");
    let log = fs::read_to_string(dir.path().join("db/LOG")).expect("read");
    let line = log.lines().find(|line| line.contains("Fast CRC32 supported")).expect("it says so");
    assert!(line.contains("Fast CRC32 supported: Supported"), "{line}");
}
