//! The writer: group commit, order, back-pressure, failure.

use std::{
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::Duration,
};

use super::bed::{Failures, G, R, all, append, at, entries, open, open_with, paused, start_append};
use crate::{
    storage::{
        ReplicaLog, SimDisk, SimFault, Store, StoreOptions, WriterProbe, log::tests::entry, writer::UNSYNCED_DELAY_MAX,
    },
    types::{LogIndex, RaftGroupId},
};

async fn open_groups(store: &Store, count: u64) -> Vec<ReplicaLog> {
    let mut logs = vec![];
    for group in 0..count {
        logs.push(store.open_log(RaftGroupId(group), R).await.expect("open"));
    }
    logs
}

#[test]
fn groups_that_wait_together_share_one_fsync() {
    paused(async {
        let disk = SimDisk::new(1);
        let probe = WriterProbe::default();
        let kv = Arc::new(disk.open());
        let store = Store::open(kv, StoreOptions::default(), probe.clone(), Failures::default().callback()).await;
        let logs = open_groups(&store.expect("open"), 100).await;
        let (_, before) = disk.commits();
        let all: Vec<_> = logs.iter().map(|log| start_append(log, entries(1, 0..2))).collect();
        for done in all {
            done.await.expect("completed").expect("durable");
        }
        assert_eq!(disk.commits().1 - before, 1);
        assert_eq!(probe.counters().entries.load(Relaxed), 200);
        assert_eq!(probe.counters().queue_bytes.load(Relaxed), 0);
        assert_eq!(probe.counters().writes_per_commit.counts()[7], 1);
    });
}

#[test]
fn a_commit_is_bounded_in_bytes_and_a_larger_write_goes_alone() {
    paused(async {
        let disk = SimDisk::new(1);
        let logs = open_groups(&open(Arc::new(disk.open())).await, 6).await;
        let (before, _) = disk.commits();
        let sizes = [1 << 20, 3 << 20, 6 << 20, 2 << 20, 1 << 20, 1 << 19];
        let all: Vec<_> =
            logs.iter().zip(sizes).map(|(log, size)| start_append(log, vec![entry(1, 0, size)])).collect();
        for done in all {
            done.await.expect("completed").expect("durable");
        }
        // 1; 3; 6; 2 + 1 + 0.5, for keys and headers are counted too.
        assert_eq!(disk.commits().0 - before, 4);
    });
}

#[test]
fn unsynced_writes_cause_no_fsync_and_wait_for_one_a_bounded_time() {
    paused(async {
        let disk = SimDisk::new(1);
        let store = open(Arc::new(disk.open())).await;
        let log = store.open_log(G, R).await.expect("open");
        append(&log, entries(1, 0..9)).await;
        let (commits, syncs) = disk.commits();
        log.save_committed(Some(at(1, 3)));
        log.save_applied(saved_at(2), bytes::Bytes::new());
        tokio::time::sleep(UNSYNCED_DELAY_MAX - Duration::from_millis(10)).await;
        assert_eq!(disk.commits(), (commits, syncs), "they wait");
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(disk.commits(), (commits + 1, syncs), "they were written alone, without a sync");
        log.save_committed(Some(at(1, 5)));
        append(&log, entries(1, 9..10)).await;
        assert_eq!(disk.commits(), (commits + 2, syncs + 1), "they ride with a synced write");
        // An idle store does nothing.
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(disk.commits(), (commits + 2, syncs + 1));
    });
}

fn saved_at(index: u64) -> crate::storage::SavedState {
    super::bed::saved(at(1, index), "state")
}

/// SAFETY M6: a watermark must not run ahead.
#[test]
fn appends_complete_in_the_order_in_which_they_were_queued() {
    paused(async {
        let store = open(Arc::new(SimDisk::new(1).open())).await;
        let logs = open_groups(&store, 3).await;
        let order = Arc::new(Mutex::new(vec![]));
        for i in 0..300u64 {
            let order = order.clone();
            let done = Box::new(move |result: Result<(), _>| {
                result.expect("durable");
                order.lock().expect("lock").push(i);
            });
            logs[(i % 3) as usize].append(entries(1, i / 3..i / 3 + 1), done);
            if i % 7 == 0 {
                tokio::time::sleep(Duration::from_micros(i * 11 % 900)).await;
            }
        }
        store.flush().await.expect("flushed");
        assert_eq!(*order.lock().expect("lock"), (0..300).collect::<Vec<_>>());
    });
}

/// SAFETY M14: the queue is bounded in bytes.
#[test]
fn reserve_waits_while_the_queue_is_over_its_bound() {
    paused(async {
        let disk = SimDisk::new(1);
        let options = StoreOptions { queue_bytes_max: 10_000, ..StoreOptions::default() };
        let store = open_with(Arc::new(disk.open()), options, &Failures::default()).await;
        let log = store.open_log(G, R).await.expect("open");
        log.reserve().await;
        let done = start_append(&log, vec![entry(1, 0, 20_000)]);
        let mut reserve = Box::pin(log.reserve());
        assert!(futures_util::poll!(&mut reserve).is_pending());
        done.await.expect("completed").expect("durable");
        reserve.await;
    });
}

#[test]
fn a_disk_that_hangs_shows_and_evicts_nothing_that_is_not_written() {
    paused(async {
        let disk = SimDisk::new(1);
        let probe = WriterProbe::default();
        let options = StoreOptions { tail_bytes_max: 1, ..StoreOptions::default() };
        let store = Store::open(Arc::new(disk.open()), options, probe.clone(), Failures::default().callback()).await;
        let log = store.expect("open").open_log(G, R).await.expect("open");
        append(&log, entries(1, 0..3)).await;
        assert_eq!(log.0.lock().tail.first(), None, "what is written is evicted");
        disk.plant(SimFault::HangsOnCommit);
        let mut done = start_append(&log, entries(1, 3..90));
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(done.try_recv().is_err());
        assert_eq!(log.0.lock().tail.first(), Some(LogIndex(3)));
        assert_eq!(all(&log).await, entries(1, 0..90));
        assert_eq!(log.flushed(), Some(LogIndex(2)));
        assert!(probe.commit_running().expect("running") > Duration::from_secs(19));
    });
}

#[test]
fn the_budget_of_the_node_evicts_what_was_appended_first_by_whom_it_may_be() {
    paused(async {
        let options = StoreOptions { tail_bytes_max: 2_000, ..StoreOptions::default() };
        let store = open_with(Arc::new(SimDisk::new(1).open()), options, &Failures::default()).await;
        let logs = open_groups(&store, 2).await;
        append(&logs[0], entries(1, 0..8)).await;
        assert_eq!(logs[0].0.lock().tail.first(), Some(LogIndex(0)));
        append(&logs[1], entries(1, 0..4)).await;
        assert_eq!(logs[0].0.lock().tail.first(), None, "the idle group gives way");
        assert_eq!(logs[1].0.lock().tail.first(), Some(LogIndex(0)));
        assert_eq!(all(&logs[0]).await, entries(1, 0..8));
    });
}

/// There is no life after a failed write: what became of it is unknown.
#[test]
fn a_failed_commit_is_reported_once_before_anyone_hears_and_ends_the_store() {
    paused(async {
        let disk = SimDisk::new(1);
        let failures = Failures::default();
        let store = open_with(Arc::new(disk.open()), StoreOptions::default(), &failures).await;
        let logs = open_groups(&store, 3).await;
        append(&logs[0], entries(1, 0..1)).await;
        let before = disk.commits();
        disk.plant(SimFault::FailsNextCommit);
        let heard = Arc::new(Mutex::new(vec![]));
        for (i, log) in logs.iter().enumerate() {
            let (heard, failures) = (heard.clone(), failures.clone());
            let next = log.last().map_or(0, |last| last.index.0 + 1);
            let done = Box::new(move |result: Result<(), _>| {
                result.expect_err("the commit failed");
                heard.lock().expect("lock").push((i, failures.get().len()));
            });
            log.append(entries(1, next..next + 1), done);
        }
        store.flush().await.expect_err("failed");
        assert_eq!(*heard.lock().expect("lock"), [(0, 1), (1, 1), (2, 1)], "in order, after the report");
        assert_eq!(logs[0].flushed(), Some(LogIndex(0)), "nothing more is durable");
        let late = start_append(&logs[1], entries(1, 1..2)).await.expect("completed");
        assert_eq!(late.expect_err("refused"), failures.get()[0]);
        assert!(logs[1].save_vote(bytes::Bytes::new()).await.is_err());
        assert!(logs[0].load_applied().await.is_err(), "nothing is served any more");
        logs[0].reserve().await;
        assert_eq!(disk.commits(), before);
        assert_eq!(failures.get().len(), 1);
        assert!(!failures.get()[0].is_damaged());
    });
}

/// SAFETY B9: nothing of a read that met damaged data is served, and the store ends.
#[test]
fn a_damaged_read_ends_the_store() {
    paused(async {
        let disk = SimDisk::new(1);
        let failures = Failures::default();
        let options = StoreOptions { tail_bytes_max: 1, ..StoreOptions::default() };
        let store = open_with(Arc::new(disk.open()), options, &failures).await;
        let log = store.open_log(G, R).await.expect("open");
        append(&log, entries(1, 0..9)).await;
        disk.plant(SimFault::ReadsDamaged);
        assert!(log.read(LogIndex(0), LogIndex(9), 1_000).await.expect_err("damaged").is_damaged());
        disk.heal();
        assert!(log.read(LogIndex(0), LogIndex(9), 1_000).await.is_err());
        assert!(start_append(&log, entries(1, 9..10)).await.expect("completed").is_err());
        assert_eq!(failures.get().len(), 1);
    });
}
