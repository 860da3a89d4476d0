//! Random work on a simulated disk, and what is left of it after a crash at any moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::poll;

use super::bed::{Failures, G, R, at, entries, open, open_with, paused, saved};
use crate::{
    seam::Rng,
    storage::{
        CrashTail, Family, Kv, ReplicaLog, SimDisk, SimFault, Store, StoreFailed, StoreOptions, WriteBatch, formats,
        keys,
    },
    types::{EntryPosition, LogIndex, Offset, RaftGroupId, Term, WallMs},
};

const GROUPS: u64 = 2;

/// What this group was told is durable, less what it gave up since.
#[derive(Default)]
struct Told {
    entries: BTreeMap<u64, Term>,
    vote: u64,
}

struct Worker {
    log: ReplicaLog,
    told: Arc<Mutex<Told>>,
    term: u64,
    votes: u64,
    applied: Option<EntryPosition>,
    checkpoint: Option<EntryPosition>,
}

impl Worker {
    async fn start(store: &Store, group: u64) -> Worker {
        let log = store.open_log(RaftGroupId(G.0 + group), R).await.expect("open");
        Worker { log, told: Arc::default(), term: 1, votes: 0, applied: None, checkpoint: None }
    }

    fn next(&self) -> u64 {
        self.log.last().map_or(0, |last| last.index.0 + 1)
    }

    fn append(&self, count: u64) {
        let new = entries(self.term, self.next()..self.next() + count);
        let positions: Vec<_> = new.iter().map(|entry| entry.position).collect();
        let (told, log) = (self.told.clone(), self.log.clone());
        let done = move |result: Result<(), StoreFailed>| {
            // Those still in the log: others were truncated, and perhaps replaced, meanwhile.
            let state = log.0.lock();
            let mut told = told.lock().expect("lock");
            for at in positions.iter().filter(|_| result.is_ok()) {
                let is_here = state.tail.get(at.index).is_none_or(|entry| entry.position == *at);
                if is_here && state.first <= at.index && state.last.is_some_and(|last| last.index >= at.index) {
                    told.entries.insert(at.index.0, at.term);
                }
            }
        };
        self.log.append(new, Box::new(done));
    }

    /// A position of the log between two.
    async fn pick(
        &self,
        rng: &Rng,
        after: Option<EntryPosition>,
        upto: Option<EntryPosition>,
    ) -> Option<EntryPosition> {
        let from = after.map_or(0, |after| after.index.0 + 1);
        let to = upto?.index.0 + 1;
        let index = LogIndex(from + rng.below(to.checked_sub(from).filter(|count| *count > 0)?));
        let found = self.log.read(index, LogIndex(index.0 + 1), 0).await.ok()?;
        found.first().map(|entry| entry.position)
    }

    async fn step(&mut self, rng: &Rng) {
        let (last, committed) = (self.log.last(), self.log.committed());
        match rng.below(14) {
            0..5 => self.append(1 + rng.below(4)),
            5 => {
                if let Some(committed) = self.pick(rng, committed.max(self.log.purged()), last).await {
                    self.log.save_committed(Some(committed));
                }
            }
            6 => {
                if let Some(applied) = self.pick(rng, self.applied, committed).await {
                    self.applied = Some(applied);
                    self.log.save_applied(saved(applied, "applied"), bytes::Bytes::new());
                }
            }
            7 => {
                // Ahead of the applied state that was saved last.
                if let Some(checkpoint) = self.pick(rng, self.applied.max(self.checkpoint), committed).await {
                    (self.applied, self.checkpoint) = (Some(checkpoint), Some(checkpoint));
                    self.log.save_checkpoint(saved(checkpoint, "checkpoint"));
                }
            }
            8 => {
                if let Some(upto) = self.pick(rng, self.log.purged(), self.checkpoint).await {
                    self.told.lock().expect("lock").entries.retain(|index, _| *index > upto.index.0);
                    self.log.purge(upto).await.ok();
                    self.log.delete_checkpoints_below(upto.index);
                }
            }
            9 => self.truncate(rng).await,
            10 => self.vote(),
            11 => self.log.put_index_point(Offset(rng.below(1_000) as i64), LogIndex(0), WallMs(0)),
            12 if rng.below(4) == 0 => {
                self.term += 1;
                let position = at(self.term, self.next() + rng.below(3));
                self.told.lock().expect("lock").entries.clear();
                (self.applied, self.checkpoint) = (Some(position), Some(position));
                if self.log.install(saved(position, "installed")).await.is_ok() {
                    // Those that completed before it was queued.
                    self.told.lock().expect("lock").entries.clear();
                    self.log.save_committed(Some(position));
                }
            }
            _ => tokio::time::sleep(Duration::from_micros(rng.below(2_000))).await,
        }
    }

    async fn truncate(&mut self, rng: &Rng) {
        let keep = self.applied.max(self.log.committed()).max(self.log.purged());
        let Some(last) = self.pick(rng, keep, self.log.last()).await else { return };
        self.told.lock().expect("lock").entries.retain(|index, _| *index <= last.index.0);
        self.term += 1;
        let log = self.log.clone();
        // Queued at the first poll; what follows is queued behind it.
        let mut truncated = Box::pin(async move { log.truncate_after(Some(last)).await });
        if poll!(&mut truncated).is_pending() {
            tokio::spawn(truncated);
        }
    }

    fn vote(&mut self) {
        self.votes += 1;
        let (vote, log, told) = (self.votes, self.log.clone(), self.told.clone());
        tokio::spawn(async move {
            if log.save_vote(Bytes::copy_from_slice(&vote.to_be_bytes())).await.is_ok() {
                let mut told = told.lock().expect("lock");
                told.vote = told.vote.max(vote);
            }
        });
    }
}

/// Works for a while, crashes, and says what is missing of what was told durable.
async fn crash(seed: u64, fault: Option<SimFault>) -> Vec<String> {
    let rng = Rng::seeded(seed);
    let disk = SimDisk::new(seed);
    let options = StoreOptions { tail_bytes_max: 4_000, ..StoreOptions::default() };
    let store = open_with(Arc::new(disk.open()), options, &Failures::default()).await;
    let mut workers = vec![];
    for group in 0..GROUPS {
        workers.push(Worker::start(&store, group).await);
    }
    fault.into_iter().for_each(|fault| disk.plant(fault));
    for _ in 0..rng.below(150) {
        workers[rng.below(GROUPS) as usize].step(&rng).await;
    }
    let told: Vec<_> = workers.iter().map(|worker| (worker.log.flushed(), worker.told.clone())).collect();
    let told: Vec<_> =
        told.into_iter().map(|(flushed, told)| (flushed, std::mem::take(&mut *told.lock().expect("lock")))).collect();
    disk.crash(seed);
    disk.heal();
    drop((workers, store));

    let store = open(Arc::new(disk.open())).await;
    let mut missing = vec![];
    for (group, (flushed, told)) in (0..GROUPS).zip(told) {
        let log = match store.open_log(RaftGroupId(G.0 + group), R).await {
            Ok(log) => log,
            Err(error) => {
                missing.push(error.to_string());
                continue;
            }
        };
        if log.last().map(|last| last.index) < flushed {
            missing.push(format!("flushed up to {flushed:?}, the log ends at {:?}", log.last()));
        }
        let here = super::bed::all(&log).await;
        let here: BTreeMap<_, _> = here.iter().map(|entry| (entry.position.index.0, entry.position.term)).collect();
        for (index, term) in told.entries {
            if here.get(&index) != Some(&term) {
                missing.push(format!("entry {index} of term {term} is {:?}", here.get(&index)));
            }
        }
        let vote = log.vote().map_or(0, |vote| u64::from_be_bytes(vote[..].try_into().expect("eight bytes")));
        if vote < told.vote {
            missing.push(format!("vote {} is {vote}", told.vote));
        }
    }
    missing
}

/// SAFETY M6: a completion is never before its write, and every earlier one, is durable.
#[test]
fn what_was_completed_survives_a_crash_at_any_moment() {
    for seed in 0..150 {
        assert_eq!(paused(crash(seed, None)), [""; 0], "seed {seed}");
    }
}

/// The test above is one: a disk that completes early is found out.
#[test]
fn a_disk_that_syncs_nothing_is_found_out() {
    let found = (0..20).filter(|seed| !paused(crash(*seed, Some(SimFault::SyncsNothing))).is_empty()).count();
    assert!(found > 10, "only {found} of 20 seeds found it");
}

/// What a crash leaves of commits that were not synced: all, none, or the first few; and what was kept once may still be
/// lost by a later power cut.
#[tokio::test(start_paused = true)]
async fn a_crash_leaves_as_much_as_its_tail_says() {
    let left = |tail: CrashTail, seed: u64| async move {
        let disk = SimDisk::new(1);
        let kv = disk.open();
        for key in [&b"a"[..], b"b", b"c"] {
            let mut batch = WriteBatch::default();
            batch.put(Family::State, key, Bytes::from_static(b"1"));
            kv.commit(batch, key == b"a").await.expect("a disk without faults");
        }
        let lost = disk.crash_leaving(tail, seed);
        let kv = disk.open();
        let mut here = 0;
        for key in [&b"a"[..], b"b", b"c"] {
            here += usize::from(kv.get(Family::State, key).await.expect("a disk without faults").is_some());
        }
        (lost, here, disk)
    };
    let (lost, here, disk) = left(CrashTail::Kept, 1).await;
    assert_eq!((lost, here), (0, 3));
    assert_eq!(disk.crash_leaving(CrashTail::Dropped, 1), 2);
    let (lost, here, _) = left(CrashTail::Dropped, 1).await;
    assert_eq!((lost, here), (2, 1));
    let mut kept = BTreeSet::new();
    for seed in 0..20 {
        let (lost, here, _) = left(CrashTail::Torn, seed).await;
        assert_eq!(lost + here, 3, "seed {seed}");
        kept.insert(here);
    }
    assert_eq!(kept, BTreeSet::from([1, 2, 3]));
}

/// SAFETY B1: `purged <= checkpoint <= applied <= last` and `saved commit <= last`, whatever prefix of
/// the write-ahead log a crash leaves.
#[test]
fn every_prefix_of_the_log_of_writes_satisfies_the_chain() {
    for seed in 0..40 {
        let (disk, prefixes) = paused(work(seed));
        for count in 0..=prefixes {
            paused(check_prefix(seed, disk.at_prefix(count), count));
        }
    }
}

async fn work(seed: u64) -> (SimDisk, usize) {
    let rng = Rng::seeded(seed);
    let disk = SimDisk::new(seed);
    disk.record_history();
    let store = open(Arc::new(disk.open())).await;
    let mut workers = vec![];
    for group in 0..GROUPS {
        workers.push(Worker::start(&store, group).await);
    }
    for _ in 0..120 {
        workers[rng.below(GROUPS) as usize].step(&rng).await;
    }
    store.flush().await.expect("flushed");
    let prefixes = disk.history_len();
    assert!(prefixes > 5, "seed {seed} wrote only {prefixes} batches");
    (disk, prefixes)
}

async fn check_prefix(seed: u64, disk: SimDisk, count: usize) {
    let kv = Arc::new(disk.open());
    let store = open(kv.clone()).await;
    for (group, replica) in store.groups().await.expect("groups") {
        let opened = store.open_log(group, replica).await;
        let log = opened.unwrap_or_else(|error| panic!("seed {seed}, prefix {count}: {error}"));
        let value = kv.get(Family::State, &keys::saved_commit(group)).await.expect("get");
        let committed = value.map(|value| formats::read_position(value).expect("a position"));
        assert!(
            committed.map(|at| at.index) <= log.last().map(|at| at.index),
            "seed {seed}, prefix {count}: committed {committed:?} is beyond {:?}",
            log.last()
        );
    }
}

/// SAFETY M6: a read that races truncations sees one log, never a mixture.
#[test]
fn a_read_that_races_truncation_never_mixes_two_logs() {
    for seed in 0..30 {
        paused(race_truncations(seed));
    }
}

async fn race_truncations(seed: u64) {
    const TERMS: u64 = 60;
    let rng = Rng::seeded(seed);
    let options = StoreOptions { tail_bytes_max: 2_000, ..StoreOptions::default() };
    let store = open_with(Arc::new(SimDisk::new(seed).open()), options, &Failures::default()).await;
    let log = store.open_log(G, R).await.expect("open");
    log.append(entries(1, 0..60), Box::new(drop));
    store.flush().await.expect("flushed");
    // Where each term's entries begin: in a log that has one of them, all from there on are as new.
    let begins: Arc<Mutex<BTreeMap<Term, u64>>> = Arc::default();
    let reader = tokio::spawn(read_meanwhile(log.clone(), begins.clone(), Term(TERMS)));
    for term in 2..=TERMS {
        let last = LogIndex(10 + rng.below(40));
        let kept = log.read(last, LogIndex(last.0 + 1), 0).await.expect("read");
        let kept = kept.first().expect("the log is that long").position;
        begins.lock().expect("lock").insert(Term(term), last.0 + 1);
        let mut truncated = Box::pin(log.truncate_after(Some(kept)));
        assert!(poll!(&mut truncated).is_pending());
        log.append(entries(term, last.0 + 1..60), Box::new(drop));
        truncated.await.expect("truncated");
        tokio::time::sleep(Duration::from_micros(rng.below(300))).await;
    }
    assert!(reader.await.expect("the reader ends") > 10);
}

async fn read_meanwhile(log: ReplicaLog, begins: Arc<Mutex<BTreeMap<Term, u64>>>, until: Term) -> usize {
    let mut reads = 0;
    while log.last().map(|last| last.term) < Some(until) {
        let read = log.read(LogIndex(5), LogIndex(u64::MAX), usize::MAX).await.expect("read");
        assert_eq!(read.first().map(|entry| entry.position.index), Some(LogIndex(5)));
        for pair in read.windows(2) {
            assert_eq!(pair[0].position.index.0 + 1, pair[1].position.index.0);
        }
        let begins = begins.lock().expect("lock").clone();
        let newest = read.last().map(|entry| entry.position.term).unwrap_or_default();
        let begin = begins.get(&newest).copied().unwrap_or(0);
        let older = read.iter().find(|entry| entry.position.index.0 >= begin && entry.position.term < newest);
        assert_eq!(older, None, "an entry of a truncated log in one of {newest:?}, which begins at {begin}");
        reads += 1;
        tokio::task::yield_now().await;
    }
    reads
}

/// An install is one batch: after a crash it happened, or did not.
#[test]
fn an_install_is_all_or_nothing() {
    let (disk, before) = paused(async {
        let disk = SimDisk::new(1);
        disk.record_history();
        let store = open(Arc::new(disk.open())).await;
        let log = store.open_log(G, R).await.expect("open");
        super::bed::append(&log, entries(1, 0..9)).await;
        log.save_checkpoint(saved(at(1, 3), "old"));
        store.flush().await.expect("flushed");
        let before = disk.history_len();
        log.install(saved(at(2, 20), "new")).await.expect("installed");
        assert_eq!(disk.history_len(), before + 1);
        (disk, before)
    });
    for (count, last, state) in [(before, at(1, 8), "old"), (before + 1, at(2, 20), "new")] {
        paused(async {
            let store = open(Arc::new(disk.at_prefix(count).open())).await;
            let log = store.open_log(G, R).await.expect("open");
            assert_eq!(log.last(), Some(last));
            assert_eq!(
                log.load_applied().await.expect("load").map(|saved| saved.state),
                Some(Bytes::from_static(state.as_bytes()))
            );
        });
    }
}

#[test]
fn a_handle_from_before_a_crash_is_dead() {
    paused(async {
        let disk = SimDisk::new(1);
        let failures = Failures::default();
        let store = open_with(Arc::new(disk.open()), StoreOptions::default(), &failures).await;
        let log = store.open_log(G, R).await.expect("open");
        disk.crash(7);
        let done = super::bed::start_append(&log, entries(1, 0..1));
        assert!(done.await.expect("completed").is_err());
        assert_eq!(failures.get().len(), 1);
    });
}
