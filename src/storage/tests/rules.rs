//! SAFETY B1: which logs are refused, and which calls.

use std::sync::Arc;

use bytes::Bytes;

use super::bed::{Failures, G, R, append, at, entries, open, open_with, paused, saved, start_append};
use crate::{
    storage::{
        Family, Kv, OpenLogError, ReplicaLog, SimDisk, StoreFailed, StoreOptions, WriteBatch, formats, keys,
        log::tests::entry,
    },
    types::{EntryPosition, LogIndex},
};

/// What a broken writer, or a disk that lost writes, could leave.
#[derive(Clone, Default)]
struct Prefix {
    entries: std::ops::Range<u64>,
    purged: Option<EntryPosition>,
    checkpoint: Option<EntryPosition>,
    applied: Option<EntryPosition>,
    committed: Option<EntryPosition>,
    is_nameless: bool,
}

fn batch(prefix: &Prefix) -> WriteBatch {
    let mut batch = WriteBatch::default();
    if !prefix.is_nameless {
        batch.put(Family::State, keys::replica(G), formats::replica(R));
    }
    for index in prefix.entries.clone() {
        let entry = entry(1, index, 10);
        batch.put_parts(Family::Log, keys::entry(G, LogIndex(index)), formats::entry(&entry));
    }
    for (key, position) in [(keys::purged(G), prefix.purged), (keys::saved_commit(G), prefix.committed)] {
        if let Some(position) = position {
            batch.put(Family::State, key, formats::position(position));
        }
    }
    if let Some(checkpoint) = prefix.checkpoint {
        let key = keys::checkpoint(G, checkpoint.index);
        batch.put_parts(Family::Applied, key, formats::saved_state(&saved(checkpoint, "checkpoint")));
    }
    if let Some(applied) = prefix.applied {
        batch.put_parts(Family::Applied, keys::applied(G), formats::saved_state(&saved(applied, "applied")));
    }
    batch
}

async fn open_batch(batch: WriteBatch) -> Result<ReplicaLog, OpenLogError> {
    let kv = Arc::new(SimDisk::new(1).open());
    kv.commit(batch, true).await.expect("commit");
    open(kv).await.open_log(G, R).await
}

fn refusal(prefix: &Prefix) -> Option<String> {
    match paused(open_batch(batch(prefix))) {
        Ok(_) => None,
        Err(OpenLogError::Damaged { what, to_do, .. }) => {
            assert!(to_do.contains("another replica"), "{to_do}");
            Some(what)
        }
        Err(other) => panic!("{other}"),
    }
}

/// SAFETY B1: each would make openraft purge the log, or never start.
#[test]
fn a_log_that_breaks_the_chain_is_refused_as_damaged() {
    let good = Prefix {
        entries: 10..20,
        purged: Some(at(1, 9)),
        checkpoint: Some(at(1, 9)),
        applied: Some(at(1, 15)),
        committed: Some(at(1, 17)),
        is_nameless: false,
    };
    assert_eq!(refusal(&good), None);
    assert_eq!(refusal(&Prefix::default()), None);
    assert_eq!(refusal(&Prefix { entries: 0..3, ..Prefix::default() }), None);
    let broken = [
        ("applied state T1-20 is beyond its last", Prefix { applied: Some(at(1, 20)), ..good.clone() }),
        ("checkpoint T1-16 is beyond its applied", Prefix { checkpoint: Some(at(1, 16)), ..good.clone() }),
        ("checkpoint T1-9 is beyond its applied", Prefix { applied: None, ..good.clone() }),
        ("purge point T1-9 is beyond its newest", Prefix { checkpoint: Some(at(1, 8)), ..good.clone() }),
        ("purge point T1-9 is beyond its newest", Prefix { checkpoint: None, ..good.clone() }),
        ("log begins at T1-11", Prefix { entries: 11..20, ..good.clone() }),
        ("log begins at T1-9", Prefix { entries: 9..20, ..good.clone() }),
        ("log begins at T1-10", Prefix { purged: None, ..good.clone() }),
        ("applied T2-15 where its log has T1-15", Prefix { applied: Some(at(2, 15)), ..good.clone() }),
        ("applied state T1-15 is beyond its last", Prefix { entries: 0..0, ..good.clone() }),
        ("no replica id", Prefix { is_nameless: true, ..good.clone() }),
    ];
    for (expected, prefix) in broken {
        let what = refusal(&prefix).unwrap_or_default();
        assert!(what.contains(expected), "expected {expected:?}, got {what:?}");
    }
}

#[test]
fn a_saved_commit_beyond_the_log_counts_only_up_to_its_end() {
    let committed = |entries, committed| {
        let prefix = Prefix { entries, committed, ..Prefix::default() };
        paused(open_batch(batch(&prefix))).expect("open").committed()
    };
    assert_eq!(committed(0..5, Some(at(1, 9))), Some(at(1, 4)));
    assert_eq!(committed(0..5, Some(at(1, 3))), Some(at(1, 3)));
    assert_eq!(committed(0..0, Some(at(1, 3))), None);
}

#[test]
fn values_that_cannot_be_read_are_damage() {
    for (family, key) in [
        (Family::State, keys::vote(G)),
        (Family::State, keys::purged(G)),
        (Family::State, keys::saved_commit(G)),
        (Family::State, keys::replica(G)),
        (Family::Applied, keys::applied(G)),
        (Family::Applied, keys::checkpoint(G, LogIndex(3))),
        (Family::Log, keys::entry(G, LogIndex(3))),
    ] {
        let mut bad = batch(&Prefix { entries: 0..3, ..Prefix::default() });
        bad.put(family, key.clone(), Bytes::from_static(b"\xff\xff"));
        let opened = paused(open_batch(bad));
        assert!(matches!(opened, Err(OpenLogError::Damaged { .. })), "{family} {key:?}");
    }
}

/// A hole inside of a log is found by the read that meets it.
#[test]
fn a_missing_entry_ends_the_store() {
    paused(async {
        let kv = Arc::new(SimDisk::new(1).open());
        let mut hole = batch(&Prefix { entries: 0..9, ..Prefix::default() });
        hole.delete(Family::Log, keys::entry(G, LogIndex(4)));
        kv.commit(hole, true).await.expect("commit");
        let failures = Failures::default();
        let log = open_with(kv, StoreOptions::default(), &failures).await.open_log(G, R).await.expect("open");
        let read = log.read(LogIndex(2), LogIndex(9), usize::MAX).await;
        assert!(read.expect_err("damaged").is_damaged());
        assert_eq!(failures.get().len(), 1);
    });
}

/// A checkpoint becomes the applied state when that is older: it is never ahead of it on disk.
#[test]
fn a_checkpoint_carries_the_applied_state_with_it() {
    paused(async {
        let store = open(Arc::new(SimDisk::new(1).open())).await;
        let log = store.open_log(G, R).await.expect("open");
        append(&log, entries(1, 0..9)).await;
        log.save_checkpoint(saved(at(1, 5), "five"));
        assert_eq!(log.load_applied().await.expect("load"), Some(saved(at(1, 5), "five")));
        log.save_applied(saved(at(1, 7), "seven"), bytes::Bytes::new());
        log.save_checkpoint(saved(at(1, 6), "six"));
        assert_eq!(log.load_applied().await.expect("load"), Some(saved(at(1, 7), "seven")));
    });
}

/// A log of ten entries, committed up to 5 and applied up to 3.
async fn ten_entries(failures: &Failures) -> ReplicaLog {
    let store = open_with(Arc::new(SimDisk::new(1).open()), StoreOptions::default(), failures).await;
    let log = store.open_log(G, R).await.expect("open");
    append(&log, entries(2, 0..10)).await;
    log.save_committed(Some(at(2, 5)));
    log.save_applied(saved(at(2, 3), "applied"), bytes::Bytes::new());
    log.save_checkpoint(saved(at(2, 2), "checkpoint"));
    log
}

/// Runs a call that must panic.
fn refused(call: impl AsyncFnOnce(ReplicaLog)) {
    paused(async { call(ten_entries(&Failures::default()).await).await });
}

/// Runs a call that a peer could cause. It must end the store with a reason, and never panic: a lock that
/// is poisoned would take others down with it.
fn fails_the_store(reason: &str, call: impl AsyncFnOnce(&ReplicaLog) -> Result<(), StoreFailed>) {
    paused(async {
        let failures = Failures::default();
        let log = ten_entries(&failures).await;
        let failed = call(&log).await.expect_err("it is refused");
        assert!(failed.reason().contains(reason), "{failed}");
        assert!(!failed.is_damaged(), "who is damaged, this replica or its leader, cannot be told here");
        assert_eq!(failures.get(), std::slice::from_ref(&failed), "reported once");
        assert_eq!(log.last(), Some(at(2, 9)), "the log is as it was");
        let later = start_append(&log, entries(2, 10..11)).await.expect("completed");
        assert_eq!(later, Err(failed), "and nothing goes on");
    });
}

#[test]
fn an_append_with_a_gap_ends_the_store() {
    fails_the_store("leaves a gap or overwrites", async |log| {
        start_append(log, entries(2, 11..12)).await.expect("done")
    });
}

#[test]
fn an_append_that_overwrites_ends_the_store() {
    fails_the_store("leaves a gap or overwrites", async |log| {
        start_append(log, entries(2, 9..10)).await.expect("done")
    });
}

#[test]
fn an_append_of_an_older_term_ends_the_store() {
    fails_the_store("term went back", async |log| start_append(log, entries(1, 10..11)).await.expect("done"));
}

#[test]
fn truncating_committed_entries_ends_the_store() {
    fails_the_store("contradicts entries", async |log| log.truncate_after(Some(at(2, 4))).await);
}

#[test]
fn truncating_after_an_entry_that_is_another_ends_the_store() {
    fails_the_store("which is", async |log| log.truncate_after(Some(at(1, 7))).await);
}

#[test]
fn a_snapshot_below_the_applied_state_ends_the_store() {
    fails_the_store("under the applied", async |log| log.install(saved(at(2, 2), "old")).await);
}

/// SAFETY M11: the core of a group may outlive its deletion, busy with a stalled disk.
#[test]
fn a_deleted_group_takes_the_late_writes_of_its_core_as_nothing() {
    paused(async {
        let failures = Failures::default();
        let store = open_with(Arc::new(SimDisk::new(1).open()), StoreOptions::default(), &failures).await;
        let log = store.open_log(G, R).await.expect("open");
        append(&log, entries(2, 0..10)).await;
        store.delete_group(G, LogIndex(9)).await.expect("deleted");
        let late = start_append(&log, entries(2, 10..11)).await.expect("completed");
        assert!(late.expect_err("refused").reason().contains("was deleted"));
        log.truncate_after(Some(at(2, 4))).await.expect("there is nothing");
        log.purge(at(2, 3)).await.expect("there is nothing");
        assert!(log.install(saved(at(2, 20), "late")).await.is_err());
        assert!(failures.get().is_empty(), "the store goes on");
    });
}

#[test]
#[should_panic(expected = "ahead of the log")]
fn applied_state_ahead_of_the_log_is_refused() {
    refused(async |log| log.save_applied(saved(at(2, 10), "applied"), bytes::Bytes::new()));
}

#[test]
#[should_panic(expected = "beyond the checkpoint")]
fn purging_what_no_checkpoint_covers_is_refused() {
    refused(async |log| log.purge(at(2, 3)).await.expect("purged"));
}
