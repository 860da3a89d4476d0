//! What lies on disk: keys, values, FLOOR; and logs that are loaded from it, one part of which is not what was written.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, LazyLock},
};

use bytes::Bytes;

use super::{
    floor,
    formats::*,
    keys,
    tests::bed::{Failures, G, R, at, saved},
    *,
};
use crate::{
    formats::{
        frozen::literals,
        fuzz::{Case, bounded, fuzz, linear},
    },
    types::{BrokerId, EntryPosition, LogIndex, Offset},
};

/// What a value names it holds itself: starts are as large in memory, a text is copied once.
const PER_BYTE: usize = 4;

#[test]
fn fuzz_keys() {
    let seeds = literals(include_str!("keys.frozen")).into_iter().map(|(_, key)| key);
    fuzz!(seeds, |key| {
        let read = bounded(key.len(), 0, || {
            let numbers = (keys::read_entry(key), keys::read_point(key));
            (numbers, keys::read_replica(key), keys::read_seen(key), keys::read_tombstone(key))
        });
        let ((entry, point), replica, seen, tombstone) = read;
        let written = [
            entry.map(|(group, index)| keys::entry(group, index)),
            point.map(|(group, offset)| keys::point(group, offset)),
            replica.map(keys::replica),
            seen.map(keys::seen),
            tombstone.map(keys::tombstone),
        ];
        // A key is of one kind, and one key only is read as this.
        assert!(written.iter().flatten().count() <= 1);
        assert!(written.iter().flatten().all(|written| written == key));
    });
}

/// Reads a value of one kind. What was read, written again, reads the same. False: it cannot be read.
fn check_value(kind: &str, value: &Bytes) -> bool {
    fn again<T: PartialEq + std::fmt::Debug, E: std::fmt::Debug>(
        read: impl Fn(Bytes) -> Result<T, E>,
        value: &Bytes,
        write: impl Fn(&T) -> Bytes,
    ) -> bool {
        let Ok(found) = bounded(value.len(), PER_BYTE, || read(value.clone())) else { return false };
        assert_eq!(read(write(&found)).as_ref().ok(), Some(&found));
        true
    }
    match kind {
        "entry-blank" | "entry-normal" | "entry-membership" => {
            again(|value| read_entry(LogIndex(9), value), value, |found| entry(found).concat().into())
        }
        "position" => again(read_position, value, |found| position(*found)),
        "opaque" => again(read_opaque, value, |found| opaque(found.clone()).concat().into()),
        "saved-state" | "saved-state-empty" => {
            again(read_saved_state, value, |found| saved_state(found).concat().into())
        }
        "replica" => again(read_replica, value, |found| replica(*found)),
        "identity" => again(read_identity, value, identity),
        "starts" => again(read_starts, value, starts),
        "seen" => again(read_seen, value, seen),
        "point" => again(read_point, value, |(index, time)| point(*index, *time)),
        "tombstone" | "tombstone-version-1" => again(read_tombstone, value, |found| match found {
            Some(deleted_at) => tombstone(*deleted_at),
            None => Bytes::from_static(&[1]),
        }),
        "commit-no" => again(read_commit_no, value, |found| commit_no(*found)),
        other => panic!("nobody reads {other:?}"),
    }
}

static VALUES: LazyLock<Vec<(&str, Vec<u8>)>> = LazyLock::new(|| literals(include_str!("values.frozen")));

#[test]
fn fuzz_values() {
    let seeds = VALUES.iter().zip(0u8..).map(|((_, value), number)| [&[number], &value[..]].concat());
    for (kind, value) in &*VALUES {
        assert!(check_value(kind, &Bytes::copy_from_slice(value)), "{kind}");
    }
    fuzz!(seeds, |bytes| {
        let Some((number, value)) = bytes.split_first() else { return };
        let (kind, _) = &VALUES[usize::from(*number) % VALUES.len()];
        check_value(kind, &Bytes::copy_from_slice(value));
    });
    // More starts than are kept are refused, after they were read.
    let many = |bytes: usize| {
        let count = u32::try_from(bytes / 24).expect("it is short");
        [&[1], &1u64.to_be_bytes()[..], &count.to_be_bytes(), &vec![7; bytes / 24 * 24]].concat()
    };
    linear(many, |value| assert!(!check_value("starts", &value)));
}

#[test]
fn fuzz_the_starts_of_a_directory() {
    let seeds = VALUES.iter().filter(|(kind, _)| ["starts", "seen"].contains(kind)).map(|(_, value)| value.clone());
    fuzz!(seeds, |value| {
        let value = Bytes::copy_from_slice(value);
        let Ok(starts) = read_starts(value) else { return };
        let current = starts.current();
        let seen = |start| Seen { storage_id: Default::default(), start, commit_no: u64::MAX, alarm: String::new() };
        assert_eq!(starts.check(Default::default(), &seen(current)), Ok(()));
        let next = Starts::after(Some(starts.clone()), StartId(1), 7);
        assert_eq!((next.current().number, next.current().id), (current.number + 1, StartId(1)));
        let later = next.current();
        assert!(starts.check(Default::default(), &seen(later)).is_err(), "it does not know of that start");
    });
}

#[test]
fn fuzz_the_floor() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("FLOOR");
    floor::Floor::create(&path).expect("created");
    let new = std::fs::read(&path).expect("just written");
    let mut raised = new.clone();
    let slot = literals(include_str!("floor.frozen")).swap_remove(0).1;
    raised[4096..4096 + slot.len()].copy_from_slice(&slot);
    let (dir, path) = (AssertUnwindSafe(dir), AssertUnwindSafe(path));
    fuzz!([new, raised, slot], |bytes| {
        let _ = &dir;
        std::fs::write(&*path, bytes).expect("written");
        let found = floor::Floor::read(&path).expect("a file that is there");
        // The highest of the slots that are what was written, and of nothing else.
        let slots = (0..3).filter_map(|slot| bytes.get(slot * 4096..slot * 4096 + 20));
        let written = slots.filter(|slot| {
            let number = u64::from_be_bytes(slot[8..16].try_into().expect("eight bytes"));
            let head = [&b"FLOR\x01\0\0\0"[..], &number.to_be_bytes()].concat();
            **slot == [&head[..], &crc32c::crc32c(&head).to_be_bytes()].concat()
        });
        assert_eq!(found, written.map(|slot| u64::from_be_bytes(slot[8..16].try_into().expect("eight bytes"))).max());
    });
}

/// Everything of a group that a node keeps, as it was written.
fn whole() -> Vec<(Family, Vec<u8>, Bytes)> {
    let mut pairs = vec![
        (Family::State, keys::replica(G), replica(R)),
        (Family::State, keys::vote(G), opaque(Bytes::from_static(b"vote")).concat().into()),
        (Family::State, keys::purged(G), position(at(1, 9))),
        (Family::State, keys::saved_commit(G), position(at(1, 17))),
        (
            Family::State,
            keys::seen(BrokerId(2)),
            Bytes::from(VALUES.iter().find(|v| v.0 == "seen").expect("it").1.clone()),
        ),
        (Family::State, keys::tombstone(crate::types::RaftGroupId(9)), tombstone(LogIndex(7))),
        (
            Family::Applied,
            keys::checkpoint(G, LogIndex(9)),
            saved_state(&saved(at(1, 9), "checkpoint")).concat().into(),
        ),
        (Family::Applied, keys::applied(G), saved_state(&saved(at(1, 15), "applied")).concat().into()),
    ];
    for index in 10..20 {
        let one = LogEntry { position: at(1, index), kind: EntryKind::Normal, payload: Bytes::from_static(b"payload") };
        pairs.push((Family::Log, keys::entry(G, LogIndex(index)), entry(&one).concat().into()));
        let offset = Offset(index as i64 * 5);
        let value = point(LogIndex(index), crate::types::WallMs(index as i64 * 100));
        pairs.push((Family::Applied, keys::point(G, offset), value));
    }
    pairs
}

/// Opens what is on a disk, and reads all of it. None: it was refused as damaged.
async fn load(pairs: Vec<(Family, Vec<u8>, Bytes)>) -> Option<()> {
    let kv = Arc::new(SimDisk::new(1).open());
    let mut batch = WriteBatch::default();
    pairs.into_iter().for_each(|(family, key, value)| batch.put(family, key, value));
    kv.commit(batch, true).await.expect("commit");
    let failures = Failures::default();
    let store = Store::open(kv, StoreOptions::default(), WriterProbe::default(), failures.callback()).await;
    let store = match store {
        Ok(store) => store,
        Err(StoreError::Damaged { .. }) => return None,
        Err(other) => panic!("{other}"),
    };
    store.groups().await.ok()?;
    store.identity().await.ok()?;
    store.all_seen().await.ok()?;
    store.tombstones(crate::types::RaftGroupId(0), 100).await.ok()?;
    let log = store.open_log(G, R).await.ok()?;
    let index = |position: Option<EntryPosition>| position.map(|position| position.index);
    // SAFETY B1, of whatever was taken.
    assert!(index(log.purged()) <= index(log.checkpoint()) && index(log.checkpoint()) <= index(log.last()));
    assert!(index(log.committed()) <= index(log.last()));
    let read = async {
        let entries = log.read_all(LogIndex(0), LogIndex(u64::MAX)).await.ok()?;
        assert!(entries.windows(2).all(|pair| pair[0].position.index.0 + 1 == pair[1].position.index.0));
        log.load_applied().await.ok()?;
        for at in [Some(LogIndex(9)), index(log.checkpoint())].into_iter().flatten() {
            log.load_checkpoint(at).await.ok()?;
        }
        for offset in [i64::MIN, 0, 60, i64::MAX] {
            log.find_point(Offset(offset)).await.ok()?;
            log.find_time(crate::types::WallMs(offset)).await.ok()?;
        }
        log.term_at(LogIndex(u64::MAX)).await;
        Some(())
    };
    let read = read.await;
    let failed = failures.get();
    // What cannot be read ends the store; it is never passed over.
    assert_eq!(read.is_none(), !failed.is_empty(), "{failed:?}");
    assert!(failed.iter().all(StoreFailed::is_damaged), "{failed:?}");
    read
}

#[test]
fn fuzz_logs_on_a_damaged_disk() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = AssertUnwindSafe(runtime.expect("a runtime"));
    assert_eq!(runtime.block_on(load(whole())), Some(()), "undamaged");
    let values: Vec<Vec<u8>> = whole().into_iter().map(|(_, _, value)| value.to_vec()).collect();
    let keys: Vec<Vec<u8>> = whole().into_iter().map(|(_, key, _)| key).collect();
    bolero::check!().with_test_time(crate::formats::fuzz::time()).with_type::<(u8, bool, Case)>().for_each(
        |(which, is_key, case)| {
            let mut pairs = whole();
            let which = usize::from(*which) % pairs.len();
            let own = std::slice::from_ref(if *is_key { &keys[which] } else { &values[which] });
            let changed = case.bytes(own);
            match is_key {
                true => pairs[which].1 = changed,
                false => pairs[which].2 = changed.into(),
            }
            let runtime = &runtime;
            runtime.0.block_on(load(pairs));
        },
    );
}
