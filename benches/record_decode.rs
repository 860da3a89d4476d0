//! What does a consumer spend on the records of a batch? It checks the batch, decompresses it, and reads each record.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use flotilla::record::{Codec, DECODED_BYTES_MAX_DEFAULT, iter_records};

#[path = "common/batches.rs"]
mod batches;
use batches::batch;

const BATCH_BYTES: usize = 128 * 1_024;
const VALUE_BYTES: [usize; 2] = [100, 1_024];
const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

fn record_decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record_decode");
    for value_bytes in VALUE_BYTES {
        let records = BATCH_BYTES / value_bytes;
        // Of values, whatever the codec makes of them.
        group.throughput(Throughput::Bytes((records * value_bytes) as u64));
        for codec in CODECS {
            let (batch, _) = batch(records, value_bytes, codec);
            let id = BenchmarkId::new(format!("{codec:?}").to_lowercase(), format!("{value_bytes}B"));
            group.bench_with_input(id, &batch, |bencher, batch| {
                bencher.iter(|| {
                    let all = iter_records(batch, DECODED_BYTES_MAX_DEFAULT).expect("a sound batch");
                    all.map(|record| record.expect("a sound record").1.value.map_or(0, |v| v.len())).sum::<usize>()
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, record_decode);
criterion_main!(benches);
