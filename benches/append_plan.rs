//! What does a leader's appender spend on an entry before Raft has it? It validates each batch as it comes, plans
//! an entry of those that wait, and builds it.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use flotilla::{
    broker::LedPartition,
    record::{BatchLimits, Codec, validate_batch},
};

#[path = "common/batches.rs"]
mod batches;
use batches::{WALL, batch};

/// Batches that wait, and records of 1 KiB in each: one producer that fills its batches, and many that do not.
const SHAPES: [(usize, usize); 3] = [(1, 100), (16, 16), (512, 1)];

fn append_plan(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append_plan");
    for (count, records) in SHAPES {
        let shape = format!("{count}x{records}");
        let one = batch(records, 1_024, Codec::None);
        let queue = vec![one; count];
        group.throughput(Throughput::Bytes(queue.iter().map(|(batch, _)| batch.len() as u64).sum()));
        group.bench_with_input(BenchmarkId::new("validate", &shape), &queue, |bencher, queue| {
            let limits = BatchLimits::default();
            bencher.iter(|| {
                for (batch, _) in queue {
                    black_box(validate_batch(black_box(batch), &limits).expect("it is sound"));
                }
            });
        });
        group.bench_with_input(BenchmarkId::new("plan", &shape), &queue, |bencher, queue| {
            let led = || LedPartition::with_queue(queue);
            bencher.iter_batched(led, |mut led| (led.plan(WALL).batches(), led), BatchSize::SmallInput);
        });
        let planned = LedPartition::with_queue(&queue).plan(WALL);
        assert_eq!(planned.batches(), count, "the shape fits one entry");
        group.bench_function(BenchmarkId::new("build", &shape), |bencher| bencher.iter(|| planned.build()));
    }
    group.finish();
}

criterion_group!(benches, append_plan);
criterion_main!(benches);
