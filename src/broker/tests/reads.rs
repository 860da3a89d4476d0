//! Records of many partitions in one answer, offsets by time, and the epochs that readers know.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::{
    intake::{batch, produce_to},
    rig::{Cluster, PATIENCE, read, try_produce_to, until},
    rules::lead,
};
use crate::{
    broker::{
        Broker, Caller, CreateTopicRequest, FetchError, FetchManyRequest, Fetched, OffsetAt, PartitionFetch,
        PartitionRead, TrimRequest, limits, upkeep::retention,
    },
    partition::EpochEnd,
    record::{BatchBuilder, Codec, Record},
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
    let rooms = [(1, [0, 1, 0]), (batch * 2, [0, 2, 0]), (batch * 3 + 1, [0, 3, 0]), (batch * 4 + 1, [0, 3, 1])];
    for (room, expected) in rooms {
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
    let nothing = broker.fetch_many(&Caller::ANONYMOUS, many(&all[1..], 0, 0, LONG));
    assert_eq!(counts(&timeout(PATIENCE, nothing).await.expect("nor where nothing is there")), [0, 0]);
    let batch = first[0].as_ref().unwrap().batches[0].len();

    let waiting = broker.fetch_many(&Caller::ANONYMOUS, many(&all, batch * 3, 0, LONG));
    tokio::pin!(waiting);
    for partition in [2, 1] {
        assert!(
            timeout(Duration::from_millis(300), &mut waiting).await.is_err(),
            "a part of it is no reason to answer"
        );
        produce(&broker, partition, 0).await;
    }
    assert_eq!(counts(&timeout(PATIENCE, waiting).await.expect("enough is there")), [1, 1, 1]);

    let began = Instant::now();
    let short = broker.fetch_many(&Caller::ANONYMOUS, many(&all, batch * 4, 0, Duration::from_millis(200)));
    let short = timeout(PATIENCE, short).await.expect("its time is over");
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
    assert_eq!(counts(&short), [1, 1, 1], "what is there when the time is over");
}

#[tokio::test]
async fn a_leadership_that_is_lost_before_the_wait_ends_it() {
    let cluster = Cluster::start(3, 6_415).await;
    cluster.create("t", 1).await;
    let first = cluster.led_by("t").await;
    let broker = cluster.broker(first);
    let mut open = broker.open_fetch(&Caller::ANONYMOUS, many(&[at(0, 0)], 1, 0, LONG)).await;
    lead(&cluster, first % 3 + 1).await;
    until("it knows that it leads no more", || async { !broker.parts.replicas.hosted()[0].status().leads }).await;
    timeout(PATIENCE, broker.wait_fetch(&Caller::ANONYMOUS, &mut open)).await.expect("there is nothing to wait for");
    let answers = broker.read_fetch(&Caller::ANONYMOUS, &open, 0).await;
    assert!(matches!(answers[0], Err(FetchError::NotLeader { .. })), "{answers:?}");
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

    let of =
        async |time| broker.find_offset(&Caller::ANONYMOUS, read(None), OffsetAt::Time(WallMs(time))).await.unwrap();
    let found = [of(1_001).await, of(1_002).await, of(9_999).await].map(|found| (found.offset.0, found.epoch));
    assert_eq!(found, [(1, old), (2, now), (3, now)], "a record is told with the epoch that it was appended in");

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

/// Turns are taken by others, so that each partition would wait for its own as long as it may.
#[tokio::test]
async fn reading_takes_an_answer_no_longer_however_many_partitions_it_is_of() {
    let cluster = Cluster::start(1, 6_450).await;
    cluster.create_on("t", 5, 1).await;
    let broker = cluster.broker(1);
    for partition in 0..4 {
        produce(&broker, partition, 0).await;
    }
    let all = [at(0, 0), at(1, 0), at(2, 0), at(3, 0), at(4, 0)];
    let turns = &broker.parts.fetches.reads;
    let others = turns.acquire_many(limits::FETCH_READS_MAX as u32 - 1).await.unwrap();
    let last = turns.acquire().await.unwrap();
    // Whoever waits here waits for nobody outside of this test, and the broker beats by this clock too.
    tokio::time::pause();
    let node = std::sync::Arc::clone(&broker.parts.node);
    let beating = tokio::spawn(async move { node.awake.run().await });
    let limit = limits::FETCH_READ_WITHIN + Duration::from_millis(100);
    let began = Instant::now();
    let answers = broker.fetch_many(&Caller::ANONYMOUS, many(&all, 1, 0, LONG)).await;
    assert!(began.elapsed() <= limit, "{:?}", began.elapsed());
    for answer in &answers[..4] {
        let error = answer.as_ref().expect_err("nothing could be read");
        assert!(matches!(error, FetchError::Unavailable { .. }) && error.is_retriable(), "{error}");
    }
    assert_eq!(answers[4].as_ref().expect("it has nothing that would be read").high_watermark, Offset(0));

    let began = Instant::now();
    let fetching = broker.fetch_many(&Caller::ANONYMOUS, many(&all, 1, 0, LONG));
    let lending = async {
        let mut lent = last;
        loop {
            tokio::time::sleep(limits::FETCH_READ_WITHIN * 4 / 5).await;
            drop(lent);
            lent = turns.acquire().await.unwrap();
        }
    };
    let answers = tokio::select! {
        biased;
        answers = fetching => answers,
        () = lending => unreachable!("it does not end"),
    };
    assert!(began.elapsed() <= limit, "{:?}", began.elapsed());
    assert_eq!(counts(&answers), [1, 0, 0, 0, 0], "what was read in time, and no errors beside it");
    let left = answers[1].as_ref().unwrap();
    assert_eq!((left.next_offset, left.high_watermark), (Offset(0), Offset(1)), "it can be asked for again");
    beating.abort();
    drop(others);
}

#[tokio::test]
async fn a_list_of_look_ups_has_one_limit_and_one_time() {
    let cluster = Cluster::start(1, 6_460).await;
    cluster.create_on("t", 1, 1).await;
    let broker = cluster.broker(1);
    produce(&broker, 0, 0).await;
    let none = PartitionRead { partition: PartitionId(9), ..read(None) };
    let found = broker.find_offsets(&Caller::ANONYMOUS, vec![(none, OffsetAt::Latest); limits::LOOK_UPS_MAX + 2]).await;
    let beyond = |answer: &_| matches!(answer, Err(FetchError::InvalidRequest { .. }));
    assert_eq!(found.iter().position(beyond), Some(limits::LOOK_UPS_MAX));
    assert_eq!(found.iter().filter(|answer| beyond(answer)).count(), 2);

    let turns = broker.parts.fetches.look_ups.turns.acquire_many(limits::FIND_TIMES_MAX as u32).await.unwrap();
    let finding = broker.find_offsets(&Caller::ANONYMOUS, vec![(read(None), OffsetAt::Time(WallMs(0))); 1_000]);
    tokio::pin!(finding);
    assert!(timeout(Duration::from_millis(300), &mut finding).await.is_err(), "there is no turn for them");
    // From here on each confirmation takes as long as it may, too: nobody outside of this test is waited for.
    tokio::time::pause();
    let began = Instant::now();
    let found = finding.await;
    assert!(began.elapsed() <= limits::LOOK_UPS_WITHIN, "{:?}", began.elapsed());
    assert_eq!(found.len(), 1_000);
    assert!(found.iter().all(|answer| answer.as_ref().is_err_and(FetchError::is_retriable)), "{:?}", found.last());
    drop(turns);
}

/// The batches of one segment are not alike: what one has is not known from what all have.
#[tokio::test]
async fn a_wait_counts_the_bytes_of_the_batches_that_would_be_read() {
    let cluster = Cluster::start(1, 6_470).await;
    cluster.create_on("t", 2, 1).await;
    let broker = cluster.broker(1);
    let (tiny, large) = (batch(1, 7), batch(100_000, 7));
    let fetch = |partition, offset, bytes_min| {
        broker.fetch_many(&Caller::ANONYMOUS, many(&[at(partition, offset)], bytes_min, 0, LONG))
    };

    produce_to(&broker, 0, large.clone()).await.unwrap();
    for _ in 0..9 {
        produce_to(&broker, 0, tiny.clone()).await.unwrap();
    }
    let both = tiny.len() * 2;
    let waiting = async {
        let waiting = fetch(0, 9, both);
        tokio::pin!(waiting);
        let early = timeout(Duration::from_millis(300), &mut waiting).await;
        assert!(early.is_err(), "a large batch before it is none of its bytes");
        produce_to(&broker, 0, tiny.clone()).await.unwrap();
        timeout(PATIENCE, waiting).await.expect("the last byte that was missing has come")
    };
    assert_eq!(counts(&waiting.await), [2]);
    let waiting = fetch(0, 11, both + 1);
    tokio::pin!(waiting);
    for _ in 0..2 {
        assert!(timeout(Duration::from_millis(300), &mut waiting).await.is_err(), "one byte is missing at least");
        produce_to(&broker, 0, tiny.clone()).await.unwrap();
    }
    assert!(timeout(Duration::from_millis(300), &mut waiting).await.is_err(), "one byte is missing");
    produce_to(&broker, 0, tiny.clone()).await.unwrap();
    assert_eq!(counts(&timeout(PATIENCE, waiting).await.expect("more than enough is there")), [3]);

    for _ in 0..10 {
        produce_to(&broker, 1, tiny.clone()).await.unwrap();
    }
    let waiting = fetch(1, 10, large.len());
    tokio::pin!(waiting);
    assert!(timeout(Duration::from_millis(300), &mut waiting).await.is_err(), "nothing is there");
    produce_to(&broker, 1, large.clone()).await.unwrap();
    assert_eq!(counts(&timeout(PATIENCE, waiting).await.expect("all is there that it waited for")), [1]);
    let there = timeout(PATIENCE, fetch(1, 9, large.len() + tiny.len())).await.expect("it was there before");
    assert_eq!(counts(&there), [2]);
}

#[tokio::test]
async fn the_record_with_the_largest_timestamp_is_found_among_those_that_are_kept() {
    let cluster = Cluster::start(1, 6_480).await;
    let broker = cluster.broker(1);
    let configs = [("retention.ms", "-1"), ("segment.bytes", "1048576")];
    let request = CreateTopicRequest {
        name: "t".into(),
        partitions: Some(1),
        replication_factor: Some(1),
        wait: true,
        configs: configs.map(|(key, value)| (key.to_string(), value.to_string())).into(),
        ..CreateTopicRequest::default()
    };
    broker.create_topic(&Caller::ANONYMOUS, request).await.unwrap();
    let largest = async || {
        let found = broker.find_offset(&Caller::ANONYMOUS, read(None), OffsetAt::MaxTimestamp).await.unwrap();
        (found.offset.0, found.timestamp.map(|at| at.0))
    };
    let trim = async |before| {
        let (topic, partition) = ("t".to_string(), PartitionId(0));
        let request = TrimRequest { topic, partition, before: Some(Offset(before)), dry_run: false };
        broker.trim_partition(&Caller::ANONYMOUS, request).await.unwrap();
    };
    assert_eq!(largest().await, (0, None), "there is no record");
    produce_to(&broker, 0, batch(1, -1)).await.unwrap();
    assert_eq!(largest().await, (1, None), "the only record has no time");
    for timestamp in [500, 900, 900, 300, 200] {
        produce_to(&broker, 0, batch(1, timestamp)).await.unwrap();
    }
    assert_eq!(largest().await, (2, Some(900)), "the first of two");
    let hosted = broker.parts.replicas.hosted().remove(0);
    until("its segments are short", || async {
        retention::round(&broker.parts.retention).await;
        hosted.group.read(|state| state.segment_limits().bytes) == 1 << 20
    })
    .await;
    for timestamp in [700, 600, 100, 650] {
        produce_to(&broker, 0, batch(600_000, timestamp)).await.unwrap();
    }
    produce_to(&broker, 0, timed(&[50, 640, 650, 60, 60])).await.unwrap();
    let segments = hosted.group.read(|state| state.kept_segments());
    assert!(segments.len() >= 3, "{segments:?}");
    assert_eq!(largest().await, (2, Some(900)));
    for (before, expected) in [
        (3, (3, Some(900))),
        (4, (6, Some(700))),
        (7, (9, Some(650))),
        (10, (12, Some(650))),
        (13, (13, Some(60))),
        (15, (15, None)),
    ] {
        trim(before).await;
        assert_eq!(largest().await, expected, "trimmed before {before}");
    }
    for timestamp in [500, 400] {
        produce_to(&broker, 0, batch(1, timestamp)).await.unwrap();
        produce_to(&broker, 0, batch(600_000, 100)).await.unwrap();
        produce_to(&broker, 0, batch(600_000, 100)).await.unwrap();
    }
    produce_to(&broker, 0, batch(1, 550)).await.unwrap();
    assert_eq!(largest().await, (21, Some(550)), "behind segments with one before it and with none");
}

/// One batch.
fn timed(timestamps: &[i64]) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    for timestamp in timestamps {
        builder.push(&Record { timestamp: WallMs(*timestamp), ..Record::default() }).unwrap();
    }
    builder.build().unwrap()
}
