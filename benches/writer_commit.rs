//! What does the log writer make of writes that come at once? So many replicas append an entry of 1 KiB each, and
//! wait until the last is durable: on RocksDB with its fsync, and on no disk at all, which leaves what is ours.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use flotilla::storage::{Family, KeyRange, Kv, KvFuture, ReplicaLog, ScanLimit, WriteBatch};
use tokio::runtime::Runtime;

#[path = "common/disk.rs"]
mod disk;
use disk::{append, directory, log, rocks, runtime, store};

/// At once: a quiet node, a busy one, and one with all it takes.
const WRITES: [usize; 3] = [1, 64, 1_024];
/// Replicas that they are spread over, at most.
const LOGS_MAX: usize = 64;
const ENTRY_BYTES: usize = 1_024;
/// Nothing is read here.
const TAIL_BYTES_MAX: usize = 16 << 20;

/// A disk that takes no time and keeps nothing.
#[derive(Default)]
struct NoDisk(AtomicU64);

impl Kv for NoDisk {
    fn get<'a>(&'a self, _: Family, _: &'a [u8]) -> KvFuture<'a, Option<Bytes>> {
        Box::pin(async { Ok(None) })
    }

    fn scan<'a>(&'a self, _: Family, _: KeyRange, _: ScanLimit, _: bool) -> KvFuture<'a, Vec<(Bytes, Bytes)>> {
        Box::pin(async { Ok(vec![]) })
    }

    fn commit(&self, _: WriteBatch, sync: bool) -> KvFuture<'_, ()> {
        self.0.fetch_add(u64::from(sync), Ordering::Relaxed);
        Box::pin(async { Ok(()) })
    }

    fn commit_no(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn condemn(&self, why: &str) {
        panic!("a bench condemns nothing: {why}");
    }
}

/// Logs, and where each ends.
struct Logs(Vec<(ReplicaLog, u64)>);

impl Logs {
    async fn open(kv: Arc<dyn Kv>, count: usize) -> Logs {
        let store = store(kv, TAIL_BYTES_MAX).await;
        let mut logs = Vec::with_capacity(count);
        for group in 1..=count as u64 {
            logs.push((log(&store, group).await, 0));
        }
        Logs(logs)
    }

    /// In turn to each; returns when all are durable, which they are in order.
    async fn append(&mut self, writes: usize, payload: &Bytes) {
        let mut last = None;
        let count = self.0.len();
        for write in 0..writes {
            let (log, index) = &mut self.0[write % count];
            last = Some(append(log, *index, payload.clone()));
            *index += 1;
        }
        last.expect("there are writes").await.expect("it is durable");
    }
}

fn bench(criterion: &mut Criterion, name: &str, writes: usize, runtime: &Runtime, kv: Arc<dyn Kv>) {
    let mut group = criterion.benchmark_group("writer_commit");
    let mut logs = runtime.block_on(Logs::open(kv, writes.min(LOGS_MAX)));
    let payload = Bytes::from(vec![7; ENTRY_BYTES]);
    group.sample_size(20).throughput(Throughput::Elements(writes as u64));
    group.bench_function(BenchmarkId::new(name, writes), |bencher| {
        bencher.iter(|| runtime.block_on(logs.append(writes, &payload)));
    });
    group.finish();
}

fn writer_commit(criterion: &mut Criterion) {
    let runtime = runtime();
    for writes in WRITES {
        bench(criterion, "no-disk", writes, &runtime, Arc::new(NoDisk::default()));
    }
    for writes in WRITES {
        let dir = directory();
        bench(criterion, "rocksdb", writes, &runtime, runtime.block_on(rocks(&dir)));
    }
}

criterion_group!(benches, writer_commit);
criterion_main!(benches);
