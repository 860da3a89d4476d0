//! The producer where routes are old, batches too large, partitions added, and answers not wanted.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Acks, Cluster, Deliveries, Delivery, ErrorCode, Outcome, PartitionId, Partitioner, Producer, ProducerOptions,
    TopicHandle, fake::Fake,
};
use crate::record::{Codec, Record, decode_records};

const PATIENCE: Duration = Duration::from_secs(60);

fn cluster(fake: &Fake) -> Cluster {
    Cluster::new(fake.lock().addresses.clone()).expect("addresses are good")
}

async fn open(fake: &Fake, options: ProducerOptions) -> (Producer, TopicHandle, Deliveries) {
    let (producer, deliveries) = Producer::open(&cluster(fake), options).await.expect("opens");
    let topic = producer.topic("t", PATIENCE).await.expect("known");
    (producer, topic, deliveries)
}

/// A record of about so many bytes that does not compress.
fn record(tag: u64, bytes: usize) -> Record {
    let rng = crate::seam::Rng::seeded(tag);
    let value: Vec<u8> = (0..bytes).map(|_| rng.below(256) as u8).collect();
    Record { value: Some(Bytes::from(value)), ..Default::default() }
}

/// What is left to come.
async fn rest(mut deliveries: Deliveries) -> Vec<Delivery> {
    let all = async {
        let mut all = vec![];
        while let Some(delivery) = deliveries.recv().await {
            all.push(delivery);
        }
        all
    };
    tokio::time::timeout(PATIENCE, all).await.expect("in time")
}

fn records_in(fake: &Fake, partition: usize) -> usize {
    fake.lock().partitions[partition].next_offset as usize
}

/// Whoever is cut off, whether it says so or not, whether it refuses or is silent, and wherever it stands in the
/// client's list.
#[tokio::test]
async fn a_broker_that_is_cut_off_holds_up_nobody_for_two_seconds() {
    for (first, says_so, is_silent) in
        [(1, true, true), (1, true, false), (1, false, true), (1, false, false), (2, false, true), (3, false, true)]
    {
        let fake = Fake::start(3, 3, 1).await;
        let mut addresses = fake.lock().addresses.clone();
        addresses.rotate_left(first - 1);
        let cluster = Cluster::new(addresses).expect("addresses are good");
        let (producer, mut deliveries) = Producer::open(&cluster, ProducerOptions::default()).await.expect("opens");
        let topic = producer.topic("t", PATIENCE).await.expect("known");
        let mut send = async |tag| {
            let began = Instant::now();
            for partition in 0..3 {
                producer.send(topic, Some(PartitionId(partition)), &record(tag, 10), tag).await.expect("taken");
            }
            for _ in 0..3 {
                let delivery = tokio::time::timeout(PATIENCE, deliveries.recv()).await.expect("in time");
                let outcome = delivery.expect("the producer lives").outcome;
                assert!(matches!(outcome, Outcome::Acked(_)), "{outcome:?}");
            }
            began.elapsed()
        };
        send(0).await;
        fake.cut_off(1, says_so, is_silent);
        let took = send(1).await;
        assert!(took < Duration::from_secs(2), "{first} {says_so} {is_silent}: {took:?}");
        // A client that begins now is misled no longer.
        let began = Instant::now();
        let (producer, topic, mut deliveries) = open(&fake, ProducerOptions::default()).await;
        producer.send(topic, Some(PartitionId(0)), &record(2, 10), 2).await.expect("taken");
        let delivery = tokio::time::timeout(PATIENCE, deliveries.recv()).await.expect("in time");
        assert!(matches!(delivery.expect("one").outcome, Outcome::Acked(_)));
        assert!(began.elapsed() < Duration::from_secs(2), "{says_so} {is_silent}: {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn each_refresh_asks_another_broker() {
    let fake = Fake::start(3, 1, 1).await;
    let cluster = cluster(&fake);
    for _ in 0..6 {
        cluster.refresh(&["t".into()]).await.expect("answered");
    }
    let asked = fake.lock().asked.clone();
    assert_eq!(asked[..3], asked[3..], "in turn: {asked:?}");
    let mut all = asked[..3].to_vec();
    all.sort_unstable();
    assert_eq!(all, [1, 2, 3]);
}

#[tokio::test]
async fn what_only_a_broker_denies_that_is_cut_off_is_no_denial() {
    let fake = Fake::start(3, 1, 1).await;
    fake.cut_off(1, true, true);
    // Made since: the broker that is cut off does not know it.
    let s = fake.lock().addresses.clone();
    fake.add_topic("new", 1);
    let lagging = Cluster::new(s).expect("addresses are good");
    let count = super::admin::partition_count(&lagging, "new", PATIENCE).await;
    assert_eq!(count.expect("the others know it"), 1);
}

#[tokio::test]
async fn batches_fit_what_the_topic_takes() {
    for (hides_configs, compression) in [(false, Codec::None), (false, Codec::Zstd), (true, Codec::None)] {
        let fake = Fake::start(1, 1, 1).await;
        (fake.lock().batch_bytes_max, fake.lock().hides_configs) = (10_000, hides_configs);
        let options = ProducerOptions { compression, ..Default::default() };
        let (producer, topic, deliveries) = open(&fake, options).await;
        for tag in 0..1_000 {
            producer.send(topic, None, &record(tag, 200), tag).await.expect("taken");
        }
        drop(producer);
        let ended = rest(deliveries).await;
        assert!(ended.iter().all(|d| matches!(d.outcome, Outcome::Acked(_)) && !d.after_failure), "{ended:?}");
        assert_eq!((ended.iter().map(|d| d.tags.len()).sum::<usize>(), records_in(&fake, 0)), (1_000, 1_000));
        let tags: Vec<u64> = ended.iter().flat_map(|d| d.tags.clone()).collect();
        assert!(tags.is_sorted(), "in the order sent");
        // Known beforehand, nothing is sent in vain: then batches are nearly full.
        assert!(hides_configs || ended.len() < 40, "{} batches", ended.len());
    }
}

/// The record stands among small ones, in one batch with them as far as the producer can tell.
#[tokio::test]
async fn a_record_that_is_too_large_fails_alone() {
    let fake = Fake::start(1, 1, 1).await;
    (fake.lock().batch_bytes_max, fake.lock().hides_configs) = (10_000, true);
    let (producer, topic, deliveries) = open(&fake, ProducerOptions::default()).await;
    for tag in 0..100 {
        let bytes = if tag == 50 { 12_000 } else { 100 };
        producer.send(topic, None, &record(tag, bytes), tag).await.expect("taken");
    }
    drop(producer);
    let ended = rest(deliveries).await;
    let failed: Vec<&Delivery> = ended.iter().filter(|d| !matches!(d.outcome, Outcome::Acked(_))).collect();
    assert_eq!(failed.iter().map(|d| &d.tags[..]).collect::<Vec<_>>(), [&[50][..]]);
    assert!(matches!(&failed[0].outcome, Outcome::Failed(error) if error.code() == Some(ErrorCode::BatchTooLarge)));
    assert_eq!(records_in(&fake, 0), 99);
    // Whoever resumes behind what was acknowledged has to know which of it stands behind the hole.
    for d in &ended {
        assert_eq!(d.after_failure, d.tags[0] > 50, "{d:?}");
    }
}

#[tokio::test]
async fn added_partitions_are_used() {
    let fake = Fake::start(1, 2, 1).await;
    let options = ProducerOptions {
        partitioner: Partitioner::RoundRobin,
        metadata_age_max: Duration::from_millis(300),
        ..Default::default()
    };
    let (producer, topic, mut deliveries) = open(&fake, options).await;
    fake.grow_topic("t", 4);
    let end = Instant::now() + PATIENCE;
    let mut tag = 0;
    // A healthy producer, that never meets an error.
    while records_in(&fake, 2) == 0 || records_in(&fake, 3) == 0 {
        producer.send(topic, None, &record(tag, 10), tag).await.expect("taken");
        tag += 1;
        let delivery = tokio::time::timeout(PATIENCE, deliveries.recv()).await.expect("in time");
        assert!(matches!(delivery.expect("one").outcome, Outcome::Acked(_)));
        assert!(Instant::now() < end, "partitions 2 and 3 are never used");
    }
}

/// What was read is on the wire before the producer ends.
#[tokio::test]
async fn everything_arrives_with_acks_none_before_the_producer_ends() {
    for records in [1, 20_000] {
        let fake = Fake::start(2, 2, 1).await;
        let options = ProducerOptions { acks: Acks::None, ..Default::default() };
        let (producer, topic, deliveries) = open(&fake, options).await;
        let send = async move {
            for tag in 0..records {
                producer.send(topic, None, &record(tag, 100), tag).await.expect("taken");
            }
        };
        let ((), ended) = tokio::join!(send, rest(deliveries));
        assert!(ended.iter().all(|d| d.outcome == Outcome::Sent), "{ended:?}");
        assert_eq!(records_in(&fake, 0) + records_in(&fake, 1), records as usize);
    }
}

/// A leader that moved refuses, and the producer says so and goes on at the new one.
#[tokio::test]
async fn a_refusal_with_acks_none_is_reported_and_the_new_leader_is_found() {
    let fake = Fake::start(2, 1, 1).await;
    let options = ProducerOptions { acks: Acks::None, linger: Duration::ZERO, ..Default::default() };
    let (producer, topic, mut deliveries) = open(&fake, options).await;
    let mut next = async |what: &str| {
        let next = tokio::time::timeout(PATIENCE, deliveries.recv()).await;
        next.unwrap_or_else(|_| panic!("in time: {what}")).expect("the producer lives").outcome
    };
    producer.send(topic, None, &record(0, 10), 0).await.expect("taken");
    assert_eq!(next("the first").await, Outcome::Sent);
    let arrived = async |records: usize| {
        let end = Instant::now() + PATIENCE;
        while records_in(&fake, 0) < records {
            assert!(Instant::now() < end, "record {records} never arrives");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    arrived(1).await;
    fake.move_leaders();
    producer.send(topic, None, &record(1, 10), 1).await.expect("taken");
    assert_eq!(next("the one that is lost").await, Outcome::Sent);
    let Outcome::Dropped(error) = next("the report").await else { panic!("not reported") };
    assert!(error.to_string().contains("NOT_LEADER"), "{error}");
    // Until the new leader is known another one may meet the same.
    let end = Instant::now() + PATIENCE;
    let mut tag = 2;
    while records_in(&fake, 0) < 2 {
        producer.send(topic, None, &record(tag, 10), tag).await.expect("taken");
        assert!(matches!(next("what follows").await, Outcome::Sent | Outcome::Dropped(_)));
        tag += 1;
        assert!(Instant::now() < end, "the new leader is never found");
    }
    let batches = fake.lock().partitions[0].batches.clone();
    let read: usize = batches.iter().map(|(_, batch)| decode_records(batch, 1 << 20).expect("ours").len()).sum();
    assert_eq!(read, records_in(&fake, 0));
}
