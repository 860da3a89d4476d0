//! Looking at a data directory leaves it exactly as it was.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::super::{Family, Kv, ReadOnlyKv, RocksKv, RocksOptions, StoreError, WriteBatch};

/// All that `stat` tells of each file and directory and that reading must not change, and its bytes.
type Picture = BTreeMap<PathBuf, (u32, u32, u32, u64, (i64, i64), (i64, i64), Vec<u8>)>;

fn picture(directory: &Path) -> Picture {
    let mut picture = Picture::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(path) = open.pop() {
        let meta = fs::symlink_metadata(&path).expect("stat");
        let bytes = if meta.is_dir() {
            open.extend(fs::read_dir(&path).expect("list").map(|file| file.expect("an entry").path()));
            vec![]
        } else {
            fs::read(&path).expect("read")
        };
        let (modified, changed) = ((meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()));
        picture.insert(path, (meta.mode(), meta.uid(), meta.gid(), meta.ino(), modified, changed, bytes));
    }
    picture
}

async fn put(kv: &RocksKv, key: &[u8], value: &[u8]) {
    let mut batch = WriteBatch::default();
    batch.put(Family::Log, key, value.to_vec());
    kv.commit(batch, true).await.expect("commit");
}

/// The last writes lie in write-ahead logs only, as a stopped or killed broker leaves them.
#[tokio::test]
async fn reading_changes_no_byte_no_time_and_no_owner_and_creates_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for round in 0..3u8 {
        let kv = RocksKv::open(dir.path(), RocksOptions::default()).await.expect("open");
        put(&kv, &[round], &vec![round; 2_000]).await;
        drop(kv);
        let before = picture(dir.path());
        for _ in 0..2 {
            let kv = ReadOnlyKv::open(dir.path()).await.expect("open for reading");
            for written in 0..=round {
                let value = kv.get(Family::Log, &[written]).await.expect("get").expect("it was written");
                assert_eq!(value, vec![written; 2_000]);
            }
            let refused = kv.commit(WriteBatch::default(), true).await.expect_err("nothing is written");
            assert!(refused.to_string().contains("reading only"), "{refused}");
            // Two may look at once; a broker may not start meanwhile.
            let second = ReadOnlyKv::open(dir.path()).await.expect("open for reading, twice");
            drop((kv, second));
            assert!(picture(dir.path()) == before, "round {round}: the directory has changed");
        }
    }
    let kv = RocksKv::open(dir.path(), RocksOptions::default()).await.expect("it is as good as before");
    assert_eq!(kv.get(Family::Log, &[2]).await.expect("get").expect("it was written"), vec![2; 2_000]);
}

#[tokio::test]
async fn a_damaged_directory_is_refused_and_not_marked() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for _ in 0..2 {
        let kv = RocksKv::open(dir.path(), RocksOptions::default()).await.expect("open");
        put(&kv, b"key", b"value").await;
    }
    // All write-ahead logs are lost: FLOOR knows of commits that the database does not have.
    for file in fs::read_dir(dir.path().join("db")).expect("list") {
        let path = file.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "log") {
            fs::write(&path, b"").expect("truncate");
        }
    }
    let before = picture(dir.path());
    let Err(error) = ReadOnlyKv::open(dir.path()).await else { panic!("not refused") };
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(picture(dir.path()) == before, "the directory has changed");
}
