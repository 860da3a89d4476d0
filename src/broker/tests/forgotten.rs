//! Producers that partitions forget because they have too many, and the metric that says how many.

use std::ops::Range;

use bytes::Bytes;

use super::rig::Cluster;
use crate::{
    broker::replica::PartitionReplica,
    partition::{AppendBuilder, EntryFill, PartitionLimits},
    record::{BatchBuilder, BatchHeader, Codec, Producer, Record},
    types::{ProducerEpoch, ProducerId, Sequence, WallMs},
};

const WALL: WallMs = WallMs(1_700_000_000_000);

fn first_batch_of(producer: u64) -> (Bytes, BatchHeader) {
    let id = ProducerId(i64::try_from(producer).unwrap());
    let mut builder = BatchBuilder::new(Codec::None);
    builder.producer(Producer { id, epoch: ProducerEpoch(0), base_sequence: Sequence(0) });
    builder.push(&Record { timestamp: WALL, ..Record::default() }).unwrap();
    let batch = builder.build().unwrap();
    let header = BatchHeader::parse(&batch).unwrap();
    (batch, header)
}

/// Appends a batch of each of these producers, in entries that are as full as the appender's may be.
async fn append_from(partition: &PartitionReplica, producers: Range<u64>) {
    let mut batches = producers.map(first_batch_of).peekable();
    while batches.peek().is_some() {
        let (term, next) = (partition.status().term, partition.group.read(|state| state.next_offset()));
        let mut fill = EntryFill::default();
        let mut entry = AppendBuilder::new(next, term.epoch(), WALL, 1 << 20);
        while let Some((batch, header)) = batches.next_if(|(_, header)| fill.fits(header)) {
            fill.add(&header);
            entry.push(&batch, &header, None);
        }
        partition.group.propose(term, entry.finish()).await.await.expect("it is applied");
    }
}

#[tokio::test]
async fn m4_the_metric_counts_what_all_partitions_here_have_forgotten() {
    let cluster = Cluster::start(1, 2_600).await;
    cluster.create_on("t", 2, 1).await;
    let evicted = || {
        let text = cluster.nodes[&1].metrics.encode();
        text.lines().find_map(|line| line.strip_prefix("flotilla_producers_evicted ")?.parse().ok())
    };
    let hosted = cluster.any().parts.replicas.hosted();
    let [one, two] = hosted.as_slice() else { panic!("{} partitions", hosted.len()) };
    let max = PartitionLimits::default().producers_max;
    append_from(one, 0..max).await;
    assert_eq!(evicted(), Some(0), "as many as may be are remembered");
    append_from(two, 0..max + 3).await;
    assert_eq!(evicted(), Some(3));
    append_from(one, max..max + 2).await;
    assert_eq!(evicted(), Some(5), "of both partitions together");
}
