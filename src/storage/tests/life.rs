//! The life of groups, on both disks.

use bytes::Bytes;

use super::bed::{Bed, Failures, G, R, all, append, at, entries, on_both, open_with, paused, saved, start_append};
use crate::{
    storage::{
        Family, Identity, Kv, OpenLogError, ReplicaLog, RocksKv, RocksOptions, SavedState, SimDisk, StoreOptions,
    },
    types::{BrokerId, ClusterId, LogIndex, Offset, RaftGroupId, ReplicaId, StorageId, WallMs},
};

#[test]
fn entries_votes_and_positions_are_there_after_opening_again() {
    on_both(|bed| async move {
        let store = bed.store().await;
        let log = store.open_log(G, R).await.expect("open");
        assert_eq!((log.last(), log.flushed(), log.vote(), log.committed()), (None, None, None, None));
        append(&log, entries(1, 0..5)).await;
        append(&log, entries(2, 5..8)).await;
        log.save_vote(Bytes::from_static(b"vote")).await.expect("saved");
        log.save_committed(Some(at(2, 6)));
        log.save_applied(saved(at(2, 5), "applied"), bytes::Bytes::new());
        log.save_checkpoint(saved(at(1, 2), "checkpoint"));
        log.purge(at(1, 2)).await.expect("purged");
        log.truncate_after(Some(at(2, 6))).await.expect("truncated");
        check(&log, "before it is written").await;
        store.close().await.expect("closed");
        drop((store, log));
        let store = bed.store().await;
        check(&store.open_log(G, R).await.expect("open again"), "after opening again").await;
    });
}

async fn check(log: &ReplicaLog, when: &str) {
    assert_eq!(all(log).await, [entries(1, 3..5), entries(2, 5..7)].concat(), "{when}");
    assert_eq!((log.purged(), log.last(), log.flushed()), (Some(at(1, 2)), Some(at(2, 6)), Some(LogIndex(6))));
    assert_eq!((log.vote(), log.committed()), (Some(Bytes::from_static(b"vote")), Some(at(2, 6))), "{when}");
    assert_eq!(log.load_applied().await.expect("load"), Some(saved(at(2, 5), "applied")), "{when}");
    assert_eq!(log.load_checkpoint(LogIndex(2)).await.expect("load"), Some(saved(at(1, 2), "checkpoint")));
    assert_eq!(log.load_checkpoint(LogIndex(3)).await.expect("load"), None, "{when}");
}

#[test]
fn an_entry_can_be_read_when_append_returns_and_is_flushed_when_it_completes() {
    on_both(|bed| async move {
        let store = bed.store().await;
        let log = store.open_log(G, R).await.expect("open");
        let done = start_append(&log, entries(1, 0..3));
        assert_eq!(log.last(), Some(at(1, 2)));
        assert_eq!(all(&log).await, entries(1, 0..3));
        done.await.expect("completed").expect("durable");
        assert_eq!(log.flushed(), Some(LogIndex(2)));
    });
}

#[test]
fn reads_below_the_tail_come_from_disk_and_join_it() {
    on_both(|bed| async move {
        // Room for two entries in memory.
        let options = StoreOptions { tail_bytes_max: 400, ..StoreOptions::default() };
        let store = open_with(bed.kv().await, options, &Failures::default()).await;
        let log = store.open_log(G, R).await.expect("open");
        for index in 0..40 {
            append(&log, entries(1, index..index + 1)).await;
        }
        assert_eq!(log.0.lock().tail.first(), Some(LogIndex(38)));
        assert_eq!(all(&log).await, entries(1, 0..40));
        let read = |from, to, bytes| log.read(LogIndex(from), LogIndex(to), bytes);
        assert_eq!(read(3, 7, usize::MAX).await.expect("read"), entries(1, 3..7));
        assert_eq!(read(36, 40, usize::MAX).await.expect("read"), entries(1, 36..40));
        assert_eq!(read(3, 7, 0).await.expect("read"), entries(1, 3..4));
        assert_eq!(read(38, 40, 0).await.expect("read"), entries(1, 38..39));
        // Past the end, below the purge point, nothing at all: never an error (SAFETY M6).
        assert_eq!(read(40, 50, usize::MAX).await.expect("read"), []);
        assert_eq!(read(7, 3, usize::MAX).await.expect("read"), []);
        log.save_checkpoint(saved(at(1, 9), "checkpoint"));
        log.purge(at(1, 9)).await.expect("purged");
        assert_eq!(read(3, 12, usize::MAX).await.expect("read"), entries(1, 10..12));
        assert_eq!(read(3, 9, usize::MAX).await.expect("read"), []);
    });
}

#[test]
fn a_deleted_group_leaves_a_tombstone_and_nothing_else() {
    on_both(|bed| async move {
        let store = bed.store().await;
        let other = store.open_log(RaftGroupId(G.0 + 1), R).await.expect("open");
        append(&other, entries(1, 0..2)).await;
        let log = store.open_log(G, R).await.expect("open");
        append(&log, entries(1, 0..9)).await;
        log.save_vote(Bytes::from_static(b"vote")).await.expect("saved");
        log.save_checkpoint(saved(at(1, 4), "checkpoint"));
        log.put_index_point(Offset(0), LogIndex(1), WallMs(0));
        log.purge(at(1, 4)).await.expect("purged");
        store.flush().await.expect("flushed");
        assert_eq!(store.groups().await.expect("groups").len(), 2);
        store.delete_group(G, LogIndex(9)).await.expect("deleted");
        // A log that is still open writes nothing more (SAFETY M11).
        assert!(start_append(&log, entries(1, 0..1)).await.expect("completed").is_err());
        log.save_committed(Some(at(1, 0)));
        store.flush().await.expect("flushed");
        drop(log);
        assert_eq!(store.groups().await.expect("groups"), [(RaftGroupId(G.0 + 1), R)]);
        assert!(store.tombstoned(G).await.expect("told"));
        assert!(matches!(store.open_log(G, R).await, Err(OpenLogError::Tombstoned { .. })));
        assert_eq!(store.tombstones(RaftGroupId(0), 9).await.expect("read"), [(G, Some(LogIndex(9)))]);
        store.settle_tombstones(&[G], &[]).await.expect("cleared");
        let log = store.open_log(G, ReplicaId(R.0 + 1)).await.expect("open");
        assert_eq!((log.last(), log.purged(), log.vote(), log.committed()), (None, None, None, None));
        assert_eq!(log.load_applied().await.expect("load"), None);
        assert_eq!(log.find_point(Offset(9)).await.expect("find"), None);
        assert_eq!(all(&other).await, entries(1, 0..2), "other groups keep theirs");
    });
}

/// SAFETY B1, last sentence.
#[test]
fn an_install_replaces_everything_of_the_group_but_later_entries() {
    on_both(|bed| async move {
        let store = bed.store().await;
        let log = store.open_log(G, R).await.expect("open");
        append(&log, entries(1, 0..20)).await;
        log.save_checkpoint(saved(at(1, 3), "old"));
        log.put_index_point(Offset(5), LogIndex(3), WallMs(7));
        log.install(saved(at(1, 9), "new")).await.expect("installed");
        assert_eq!((log.purged(), log.last(), log.flushed()), (Some(at(1, 9)), Some(at(1, 19)), Some(LogIndex(19))));
        assert_eq!(all(&log).await, entries(1, 10..20));
        // Beyond the log's end.
        log.install(saved(at(3, 50), "newer")).await.expect("installed");
        append(&log, entries(3, 51..53)).await;
        // Another entry stands where the snapshot ends: what follows it is of another log.
        append(&log, entries(4, 53..60)).await;
        log.install(saved(at(5, 55), "newest")).await.expect("installed");
        store.close().await.expect("closed");
        drop((store, log));
        let store = bed.store().await;
        let log = store.open_log(G, R).await.expect("open");
        assert_eq!((log.purged(), log.last()), (Some(at(5, 55)), Some(at(5, 55))));
        assert_eq!(all(&log).await, []);
        let newest = Some(saved(at(5, 55), "newest"));
        assert_eq!(log.load_applied().await.expect("load"), newest);
        assert_eq!(log.load_checkpoint(LogIndex(55)).await.expect("load"), newest);
        for old in [3, 9, 50] {
            assert_eq!(log.load_checkpoint(LogIndex(old)).await.expect("load"), None);
        }
        assert_eq!(log.find_point(Offset(i64::MAX)).await.expect("find"), None);
        append(&log, entries(6, 56..57)).await;
        assert_eq!(all(&log).await, entries(6, 56..57));
    });
}

#[test]
fn checkpoints_below_an_index_go_but_the_newest_stays() {
    on_both(|bed| async move {
        let store = bed.store().await;
        let log = store.open_log(G, R).await.expect("open");
        append(&log, entries(1, 0..20)).await;
        for index in [3, 6, 9] {
            log.save_checkpoint(saved(at(1, index), "checkpoint"));
        }
        let found = async || {
            let mut found = vec![];
            for index in 0..20 {
                let checkpoint = log.load_checkpoint(LogIndex(index)).await.expect("load");
                found.extend(checkpoint.and_then(|saved| saved.position).map(|at| at.index.0));
            }
            found
        };
        assert_eq!(found().await, [3, 6, 9], "before they are written");
        log.delete_checkpoints_below(LogIndex(6));
        store.flush().await.expect("flushed");
        assert_eq!(found().await, [6, 9]);
        log.delete_checkpoints_below(LogIndex(15));
        store.flush().await.expect("flushed");
        assert_eq!(found().await, [9]);
    });
}

/// SAFETY M3: the same from memory, where points wait to be written, and from disk.
#[test]
fn points_are_found_by_offset_and_by_time() {
    on_both(|bed| async move {
        let store = bed.store().await;
        let log = store.open_log(G, R).await.expect("open");
        append(&log, entries(1, 0..100)).await;
        // Offsets 0, 10, 20, .. at indexes 1, 3, 5, ..; times 0, 100, 100, 300, 300, ..
        for i in 0..30u64 {
            let max_ts = WallMs((i.div_ceil(2) * 200).saturating_sub(100) as i64);
            log.put_index_point(Offset(i as i64 * 10), LogIndex(i * 2 + 1), max_ts);
        }
        for round in 0..3 {
            let offset = |offset| log.find_point(Offset(offset));
            assert_eq!(offset(-1).await.expect("find"), None, "round {round}");
            assert_eq!(offset(0).await.expect("find"), Some((Offset(0), LogIndex(1))));
            assert_eq!(offset(109).await.expect("find"), Some((Offset(100), LogIndex(21))));
            assert_eq!(offset(110).await.expect("find"), Some((Offset(110), LogIndex(23))));
            assert_eq!(offset(i64::MAX).await.expect("find"), Some((Offset(290), LogIndex(59))));
            for ts in [-5, 0, 1, 99, 100, 101, 300, 301, 2_899, 5_000] {
                let mut times = (0..30i64).map(|i| (i, ((i + 1) / 2 * 200 - 100).max(0)));
                let expected = times.rfind(|(_, max_ts)| *max_ts < ts);
                let expected = expected.map(|(i, _)| (Offset(i * 10), LogIndex(i as u64 * 2 + 1)));
                assert_eq!(log.find_time(WallMs(ts)).await.expect("find"), expected, "round {round}, time {ts}");
            }
            store.flush().await.expect("flushed");
        }
        log.delete_points_below(Offset(105));
        store.flush().await.expect("flushed");
        assert_eq!(log.find_point(Offset(99)).await.expect("find"), None);
        assert_eq!(log.find_point(Offset(105)).await.expect("find"), Some((Offset(100), LogIndex(21))));
        assert_eq!(log.find_time(WallMs(1_000)).await.expect("find"), Some((Offset(100), LogIndex(21))));
        assert_eq!(log.find_time(WallMs(900)).await.expect("find"), None);
    });
}

#[test]
fn a_group_is_opened_once_and_only_as_its_own_replica() {
    on_both(|bed| async move {
        let store = bed.store().await;
        let log = store.open_log(G, R).await.expect("open");
        assert!(matches!(store.open_log(G, R).await, Err(OpenLogError::AlreadyOpen { .. })));
        let done = start_append(&log, entries(1, 0..3));
        log.save_applied(saved(at(1, 2), "applied"), bytes::Bytes::new());
        drop(log);
        // What was queued is seen although nobody waited for it.
        let other = ReplicaId(R.0 + 1);
        done.await.expect("completed").expect("durable");
        // SAFETY B5: a replica id is never another's.
        let refused = store.open_log(G, other).await;
        assert!(matches!(refused, Err(OpenLogError::WrongReplica { here: R, asked, .. }) if asked == other));
        let log = store.open_log(G, R).await.expect("open");
        assert_eq!(log.load_applied().await.expect("load"), Some(saved(at(1, 2), "applied")));
        assert_eq!(store.groups().await.expect("groups"), [(G, R)]);
    });
}

#[test]
fn an_identity_is_kept_and_a_foreign_one_refused() {
    on_both(|bed| async move {
        let store = bed.store().await;
        assert_eq!(store.identity().await.expect("told"), None);
        let mine = Identity { broker: BrokerId(1), cluster_id: Some(ClusterId(7)), storage_id: StorageId(9) };
        store.save_identity(mine).await.expect("saved");
        store.close().await.expect("closed");
        drop(store);
        let store = bed.store().await;
        assert_eq!(store.identity().await.expect("told"), Some(mine));
    });
}

#[test]
fn a_closed_store_refuses_writes_and_says_why() {
    on_both(|bed| async move {
        let store = bed.store().await;
        let log = store.open_log(G, R).await.expect("open");
        let done = start_append(&log, entries(1, 0..3));
        store.close().await.expect("closed");
        done.await.expect("completed").expect("what was queued before is durable");
        let refused = start_append(&log, entries(1, 3..4)).await.expect("completed");
        assert_eq!(refused.expect_err("refused").reason(), "it was closed");
        log.reserve().await;
    });
}

/// openraft's suite does all this to a log, without a state machine.
#[test]
fn a_log_alone_may_begin_anywhere_and_be_purged_beyond_its_end() {
    paused(async {
        let store = Bed::Sim(SimDisk::new(1)).store().await;
        let log = store.open_log_alone(G, R).await.expect("open");
        append(&log, entries(1, 2..6)).await;
        assert_eq!(all(&log).await, entries(1, 2..6));
        log.purge(at(1, 1)).await.expect("purged");
        assert_eq!((log.purged(), log.last()), (Some(at(1, 1)), Some(at(1, 5))));
        assert_eq!(all(&log).await, entries(1, 2..6));
        log.truncate_after(Some(at(1, 11))).await.expect("nothing to do");
        log.purge(at(1, 20)).await.expect("purged");
        assert_eq!((log.purged(), log.last()), (Some(at(1, 20)), Some(at(1, 20))));
        append(&log, entries(1, 21..22)).await;
        assert_eq!(all(&log).await, entries(1, 21..22));
        log.save_applied(SavedState { position: Some(at(9, 99)), ..saved(at(9, 99), "") }, bytes::Bytes::new());
        store.flush().await.expect("flushed");
        drop(log);
        store.open_log_alone(G, R).await.expect("open");
    });
}

/// A broker that had stopped with a message, code 1, ended with 74 as if its disk had failed: reads that begin while
/// a runtime ends are cancelled, and nothing is wrong with them.
#[test]
fn a_read_that_the_end_of_the_runtime_cancels_is_no_failure_of_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (lasting, ending) = (runtime(), runtime());
    let kv = lasting.block_on(RocksKv::open(dir.path(), RocksOptions::default())).unwrap();
    let gone = ending.handle().clone();
    ending.shutdown_background();
    let mut read = kv.get(Family::Log, b"key");
    {
        let _inside = gone.enter();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(read.as_mut().poll(&mut context).is_pending());
    }
    let after = lasting.block_on(async { tokio::time::timeout(std::time::Duration::from_millis(300), read).await });
    assert!(after.is_err(), "{after:?}");
    assert!(matches!(lasting.block_on(kv.get(Family::Log, b"key")), Ok(None)), "the disk serves on");
}
