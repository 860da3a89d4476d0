//! What does one answer to a consumer cost? A page of the log is read, from the recent entries in memory or from
//! RocksDB (which the kernel has in its cache), and its batches are found in it.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use flotilla::{
    partition::{AppendBuilder, AppendView},
    record::{Codec, walk},
    storage::ReplicaLog,
    types::{LeaderEpoch, LogIndex, Offset},
};
use tokio::runtime::Runtime;

#[path = "common/batches.rs"]
mod batches;
#[path = "common/disk.rs"]
mod disk;
use batches::{WALL, batch};
use disk::{append, directory, rocks, runtime, store};

/// What a fetch asks for unless it says otherwise.
const PAGE_BYTES: usize = 1 << 20;
/// Entries of the log; a page is read from the middle.
const ENTRIES: u64 = 1_000;
/// Records of 1 KiB in a batch, a batch in an entry: a busy partition, and a slow one.
const RECORDS: [usize; 2] = [16, 1];
/// All of it.
const TAIL_BYTES_MAX: usize = 1 << 30;

/// An entry as an appender builds it.
fn entry(records: usize, number: u64) -> Bytes {
    let (batch, header) = batch(records, 1_024, Codec::None);
    let base = Offset((number * records as u64) as i64);
    let mut builder = AppendBuilder::new(base, LeaderEpoch(1), WALL, batch.len());
    builder.push(&batch, &header, None);
    builder.finish()
}

async fn fill(log: &ReplicaLog, records: usize) {
    let mut last = None;
    for index in 0..ENTRIES {
        last = Some(append(log, index, entry(records, index)));
    }
    last.expect("there are entries").await.expect("it is durable");
}

/// The bytes of a page's batches.
async fn page(log: &ReplicaLog) -> usize {
    let entries = log.read(LogIndex(ENTRIES / 4), LogIndex(ENTRIES), PAGE_BYTES).await.expect("the disk works");
    let mut bytes = 0;
    for entry in &entries {
        let append = AppendView::parse(&entry.payload).expect("it is an append");
        for found in walk(&append.batches) {
            let (_, range) = found.expect("it is a batch");
            bytes += black_box(append.batches.slice(range)).len();
        }
    }
    bytes
}

fn bench(criterion: &mut Criterion, name: &str, records: usize, runtime: &Runtime, log: &ReplicaLog) {
    let mut group = criterion.benchmark_group("fetch_page");
    let bytes = runtime.block_on(page(log));
    assert!(bytes > PAGE_BYTES / 4, "a page of {bytes} bytes");
    group.throughput(Throughput::Bytes(bytes as u64));
    group.bench_function(BenchmarkId::new(name, format!("{records}x1KiB")), |bencher| {
        bencher.iter(|| runtime.block_on(page(log)));
    });
    group.finish();
}

fn fetch_page(criterion: &mut Criterion) {
    let runtime = runtime();
    for records in RECORDS {
        let dir = directory();
        let open = || async { store(rocks(&dir).await, TAIL_BYTES_MAX).await };
        let written = runtime.block_on(open());
        let log = runtime.block_on(disk::log(&written, 1));
        runtime.block_on(fill(&log, records));
        bench(criterion, "tail", records, &runtime, &log);
        drop(log);
        runtime.block_on(written.close()).expect("the disk works");
        drop(written);
        // Opened again it has nothing in memory.
        let read = runtime.block_on(open());
        bench(criterion, "disk", records, &runtime, &runtime.block_on(disk::log(&read, 1)));
    }
}

criterion_group!(benches, fetch_page);
criterion_main!(benches);
