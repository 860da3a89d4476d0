//! Records of many partitions in one answer, offsets by time, and the epochs that readers know.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{
    rig::{Cluster, PATIENCE, read, try_produce_to},
    rules::lead,
};
use crate::{
    broker::{Broker, Caller, FetchError, FetchManyRequest, Fetched, OffsetAt, PartitionFetch, PartitionRead},
    partition::EpochEnd,
    types::{LeaderEpoch, Offset, PartitionId, WallMs},
};

const LONG: Duration = Duration::from_secs(60);

fn at(partition: i32, offset: i64) -> PartitionFetch {
    let at = PartitionRead { partition: PartitionId(partition), ..read(None) };
    PartitionFetch { at, offset: Offset(offset), bytes_max: 0 }
}

fn many(partitions: &[PartitionFetch], bytes_min: usize, bytes_max: usize, wait: Duration) -> FetchManyRequest {
    FetchManyRequest { partitions: partitions.to_vec(), bytes_min, bytes_max, wait }
}

async fn produce(broker: &Broker, partition: i32, sequence: i32) {
    try_produce_to(broker, "t", PartitionId(partition), sequence).await.expect("taken");
}

/// Batches of each answer.
fn counts(answers: &[Result<Fetched, FetchError>]) -> Vec<usize> {
    answers.iter().map(|answer| answer.as_ref().expect("no error").batches.len()).collect()
}

#[tokio::test]
async fn the_first_batch_comes_whole_and_later_ones_only_where_they_fit() {
    let cluster = Cluster::start(1, 6_400).await;
    cluster.create_on("t", 3, 1).await;
    let broker = cluster.broker(1);
    for partition in [1, 2] {
        for sequence in 0..3 {
            produce(&broker, partition, sequence).await;
        }
    }
    let all = [at(0, 0), at(1, 0), at(2, 0)];
    let answers = broker.fetch_many(&Caller::ANONYMOUS, many(&all, 1, 0, LONG)).await;
    assert_eq!(counts(&answers), [0, 3, 3]);
    let batch = answers[1].as_ref().unwrap().batches[0].len();
    for (room, expected) in [(1, [0, 1, 0]), (batch * 2, [0, 2, 0]), (batch * 4 + 1, [0, 3, 1])] {
        assert_eq!(
            counts(&broker.fetch_many(&Caller::ANONYMOUS, many(&all, 1, room, LONG)).await),
            expected,
            "room for {room} bytes"
        );
    }
    let own = [PartitionFetch { bytes_max: batch, ..at(1, 0) }, PartitionFetch { bytes_max: batch * 2, ..at(2, 1) }];
    let answers = broker.fetch_many(&Caller::ANONYMOUS, many(&own, 1, 0, LONG)).await;
    assert_eq!(counts(&answers), [1, 2], "each has a bound of its own too");
    assert_eq!(answers[1].as_ref().unwrap().next_offset, Offset(3));
    assert_eq!(
        broker.fetch_many(&Caller::ANONYMOUS, many(&[], 1, 0, Duration::ZERO)).await,
        [],
        "nothing was asked for"
    );
}

#[tokio::test]
async fn one_wait_ends_when_all_partitions_together_have_enough_or_its_time_is_over() {
    let cluster = Cluster::start(1, 6_410).await;
    cluster.create_on("t", 3, 1).await;
    let broker = cluster.broker(1);
    let all = [at(0, 0), at(1, 0), at(2, 0)];
    produce(&broker, 0, 0).await;
    let first = broker.fetch_many(&Caller::ANONYMOUS, many(&all, 0, 0, LONG)).await;
    assert_eq!(counts(&first), [1, 0, 0], "it was told not to wait");
    let batch = first[0].as_ref().unwrap().batches[0].len();

    let waiting = broker.fetch_many(&Caller::ANONYMOUS, many(&all, batch * 2, 0, LONG));
    tokio::pin!(waiting);
    assert!(timeout(Duration::from_millis(300), &mut waiting).await.is_err(), "half of it is no reason to answer");
    produce(&broker, 2, 0).await;
    assert_eq!(counts(&timeout(PATIENCE, waiting).await.expect("enough is there")), [1, 0, 1]);

    let began = Instant::now();
    let short = broker.fetch_many(&Caller::ANONYMOUS, many(&all, batch * 3, 0, Duration::from_millis(200))).await;
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
    assert_eq!(counts(&short), [1, 0, 1], "what is there when the time is over");
}

#[tokio::test]
async fn an_error_of_one_partition_is_told_at_once_beside_the_records_of_others() {
    let cluster = Cluster::start(1, 6_420).await;
    cluster.create_on("t", 2, 1).await;
    let broker = cluster.broker(1);
    produce(&broker, 1, 0).await;
    let asked = many(&[at(0, 7), at(9, 0), at(1, 0), at(0, -1)], 1 << 20, 0, LONG);
    let answers = timeout(PATIENCE, broker.fetch_many(&Caller::ANONYMOUS, asked)).await.expect("it does not wait");
    assert!(matches!(answers[0], Err(FetchError::OffsetOutOfRange { .. })), "{:?}", answers[0]);
    assert!(matches!(answers[1], Err(FetchError::UnknownPartition { .. })), "{:?}", answers[1]);
    assert_eq!(answers[2].as_ref().unwrap().batches.len(), 1);
    assert!(matches!(answers[3], Err(FetchError::InvalidRequest { .. })), "{:?}", answers[3]);
}

#[tokio::test]
async fn a_time_that_no_record_has_is_told_apart_from_the_end() {
    let cluster = Cluster::start(1, 6_430).await;
    cluster.create_on("t", 2, 1).await;
    let broker = cluster.broker(1);
    for sequence in 0..3 {
        produce(&broker, 0, sequence).await;
    }
    let places = [WallMs(1_001), WallMs(1_003)].map(|time| (read(None), OffsetAt::Time(time)));
    let none = PartitionRead { partition: PartitionId(1), ..read(None) };
    let asked = [&places[..], &[(read(None), OffsetAt::Latest), (none, OffsetAt::Time(WallMs(0)))]].concat();
    let found = broker.find_offsets(&Caller::ANONYMOUS, asked).await;
    let found: Vec<_> = found.into_iter().map(|found| found.map(|found| (found.offset, found.timestamp))).collect();
    let expected = [(1, Some(WallMs(1_001))), (3, None), (3, None), (0, None)];
    assert_eq!(found, expected.map(|(offset, timestamp)| Ok((Offset(offset), timestamp))));
}

/// KIP-320, KIP-101.
#[tokio::test]
async fn readers_of_another_epoch_are_told_and_where_an_epoch_ended_is_known() {
    let cluster = Cluster::start(3, 6_440).await;
    cluster.create("t", 1).await;
    let first = cluster.led_by("t").await;
    cluster.produce("t", 0).await;
    cluster.produce("t", 1).await;
    let old = cluster.broker(first).find_offset(&Caller::ANONYMOUS, read(None), OffsetAt::Latest).await.unwrap().epoch;
    let next = first % 3 + 1;
    lead(&cluster, next).await;
    cluster.produce("t", 2).await;
    let broker = cluster.broker(next);
    let now = broker.find_offset(&Caller::ANONYMOUS, read(None), OffsetAt::Latest).await.unwrap().epoch;
    assert!(now > old);

    let fetch = async |epoch: LeaderEpoch| {
        let at = PartitionRead { leader_epoch: Some(epoch), ..read(None) };
        let one = PartitionFetch { at, offset: Offset(0), bytes_max: 0 };
        broker.fetch_many(&Caller::ANONYMOUS, many(&[one], 1, 0, LONG)).await.remove(0)
    };
    assert!(
        matches!(fetch(old).await, Err(FetchError::FencedLeaderEpoch { asked, now: at, .. }) if (asked, at) == (old, now))
    );
    let later = LeaderEpoch(now.0 + 1);
    assert!(
        matches!(fetch(later).await, Err(FetchError::UnknownLeaderEpoch { asked, now: at, .. }) if (asked, at) == (later, now))
    );
    assert_eq!(fetch(now).await.map(|fetched| fetched.batches.len()), Ok(3));

    let ends = |epoch| broker.epoch_end(&Caller::ANONYMOUS, read(None), epoch);
    assert_eq!(ends(old).await, Ok(Some(EpochEnd { epoch: old, end_offset: Offset(2) })));
    assert_eq!(ends(now).await, Ok(Some(EpochEnd { epoch: now, end_offset: Offset(3) })));
    assert_eq!(ends(later).await, Ok(None), "it has not come to it");
    let fenced = PartitionRead { leader_epoch: Some(old), ..read(None) };
    assert!(matches!(
        broker.epoch_end(&Caller::ANONYMOUS, fenced, old).await,
        Err(FetchError::FencedLeaderEpoch { .. })
    ));
}
