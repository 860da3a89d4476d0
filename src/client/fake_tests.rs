//! Producer and consumer against fake brokers over real sockets.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    Acks, ClientError, Cluster, ConsumeOptions, Consumer, Deliveries, Effect, Offset, Outcome, PartitionId,
    Partitioner, Producer, ProducerOptions, Start, TopicPartition, World,
    fake::{Fake, Faults},
    partition_of_key,
};
use crate::{
    proto::v1,
    record::{Codec, DECODED_BYTES_MAX_DEFAULT, Record, decode_records},
};

const PATIENCE: Duration = Duration::from_secs(60);

fn cluster(fake: &Fake) -> Cluster {
    Cluster::new(fake.lock().addresses.clone()).expect("addresses are good")
}

fn record(n: u64) -> Record {
    Record {
        key: Some(Bytes::from(format!("key-{}", n % 50))),
        value: Some(Bytes::from(n.to_string())),
        ..Default::default()
    }
}

/// Returns the values in a partition's log, in order.
fn log(fake: &Fake, partition: usize) -> Vec<u64> {
    let batches: Vec<Bytes> = fake.lock().partitions[partition].batches.iter().map(|b| b.1.clone()).collect();
    let mut values = vec![];
    for batch in batches {
        for (offset, record) in decode_records(&batch, DECODED_BYTES_MAX_DEFAULT).expect("it was validated") {
            assert_eq!(offset.0 as usize, values.len(), "offsets are dense");
            let value = record.value.expect("ours have values");
            values.push(String::from_utf8_lossy(&value).parse().expect("a number"));
        }
    }
    values
}

async fn produce(fake: &Fake, records: u64, options: ProducerOptions) -> Vec<(u64, i32, Outcome)> {
    produce_on(&cluster(fake), records, options).await
}

async fn produce_on(cluster: &Cluster, records: u64, options: ProducerOptions) -> Vec<(u64, i32, Outcome)> {
    let (producer, mut deliveries) = Producer::open(cluster, options).await.expect("opens");
    let topic = producer.topic("t", PATIENCE).await.expect("known");
    let send = async move {
        for n in 0..records {
            producer.send(topic, None, &record(n), n).await.expect("taken");
        }
    };
    let receive = async {
        let mut outcomes = vec![];
        while let Some(delivery) = deliveries.recv().await {
            for (i, tag) in delivery.tags.iter().enumerate() {
                let mut outcome = delivery.outcome.clone();
                if let Outcome::Acked(receipt) = &mut outcome {
                    receipt.base_offset.0 += i as i64;
                }
                let partition = delivery.partition.expect("acks are wanted").0;
                outcomes.push((*tag, partition, outcome));
            }
        }
        outcomes
    };
    let ((), outcomes) = tokio::time::timeout(PATIENCE, async { tokio::join!(send, receive) }).await.expect("in time");
    outcomes
}

/// Everything acknowledged, at the offset its receipt says, once and in order.
fn check(fake: &Fake, outcomes: &[(u64, i32, Outcome)], records: u64, partitions: usize) {
    assert_eq!(outcomes.len() as u64, records);
    let logs: Vec<Vec<u64>> = (0..partitions).map(|p| log(fake, p)).collect();
    assert_eq!(logs.iter().map(Vec::len).sum::<usize>() as u64, records, "nothing twice");
    for values in &logs {
        assert!(values.windows(2).all(|pair| pair[0] < pair[1]), "in the order sent");
    }
    for (tag, partition, outcome) in outcomes {
        let Outcome::Acked(receipt) = outcome else { panic!("{tag}: {outcome:?}") };
        assert_eq!(logs[*partition as usize][receipt.base_offset.0 as usize], *tag);
    }
}

#[tokio::test]
async fn all_records_arrive_once_and_in_order_without_faults() {
    for compression in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let fake = Fake::start(3, 6, 1).await;
        let options = ProducerOptions { compression, batch_bytes: 2000, ..Default::default() };
        let outcomes = produce(&fake, 5000, options).await;
        check(&fake, &outcomes, 5000, 6);
    }
}

#[tokio::test]
async fn faults_of_every_kind_neither_lose_nor_duplicate_nor_reorder() {
    for seed in 0..6 {
        println!("seed {seed}");
        let fake = Fake::start(3, 4, seed).await;
        fake.lock().faults = Faults {
            break_after: 40,
            break_before: 60,
            move_leader: 30,
            unknown: 40,
            unavailable: 30,
            break_consume: 0,
        };
        fake.lock().hide_hints = seed % 2 == 1;
        let options = ProducerOptions {
            batch_bytes: 600,
            linger: Duration::from_millis(1),
            partitioner: Partitioner::RoundRobin,
            ..Default::default()
        };
        let outcomes = produce(&fake, 3000, options).await;
        assert!(fake.lock().injected > 10, "the run met faults");
        check(&fake, &outcomes, 3000, 4);
    }
}

#[tokio::test]
async fn a_hung_leader_is_left_for_its_successor() {
    let fake = Fake::start(2, 1, 1).await;
    fake.lock().hung = Some(1);
    let moved = async {
        // The request reaches the hung leader; then an election makes 2 the leader.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut s = fake.lock();
        (s.partitions[0].leader, s.partitions[0].epoch) = (2, 2);
    };
    let options = ProducerOptions { linger: Duration::ZERO, ..Default::default() };
    let (outcomes, ()) = tokio::join!(produce(&fake, 100, options), moved);
    check(&fake, &outcomes, 100, 1);
}

#[tokio::test]
async fn no_answer_is_unknown_and_a_refusal_is_no_effect() {
    let options = ProducerOptions { delivery_timeout: Duration::from_millis(400), ..Default::default() };
    let fake = Fake::start(1, 1, 1).await;
    fake.lock().hung = Some(1);
    let outcomes = produce(&fake, 10, options.clone()).await;
    assert!(outcomes.iter().all(|(.., o)| matches!(o, Outcome::Unknown(e) if e.effect() == Effect::Unknown)));

    let fake = Fake::start(1, 1, 1).await;
    fake.lock().refuse = Some(v1::ErrorCode::NotEnoughReplicas);
    let outcomes = produce(&fake, 10, options).await;
    assert_eq!(outcomes.len(), 10);
    for (.., outcome) in outcomes {
        let Outcome::Failed(error) = outcome else { panic!("{outcome:?}") };
        assert_eq!(error.effect(), Effect::Nothing);
        assert!(error.to_string().contains("NOT_ENOUGH_REPLICAS"), "{error}");
    }
}

#[tokio::test]
async fn nobody_there_is_no_effect() {
    let gone = Cluster::new(vec!["127.0.0.1:1".into()]).expect("an address");
    let options = ProducerOptions { delivery_timeout: Duration::from_millis(300), ..Default::default() };
    let error = Producer::open(&gone, options).await.err().expect("nobody listens on port 1");
    assert_eq!(error.effect(), Effect::Nothing, "{error}");
}

#[tokio::test]
async fn acks_none_promises_nothing_and_sends() {
    let fake = Fake::start(2, 2, 1).await;
    let outcomes = produce(&fake, 500, ProducerOptions { acks: Acks::None, ..Default::default() }).await;
    assert_eq!(outcomes.len(), 500);
    assert!(outcomes.iter().all(|(.., o)| *o == Outcome::Sent));
}

#[tokio::test]
async fn compare_and_append_takes_the_right_offset_only() {
    let fake = Fake::start(1, 1, 1).await;
    let append = async |expected: i64| {
        let (producer, mut deliveries): (Producer, Deliveries) =
            Producer::open(&cluster(&fake), ProducerOptions { batch_bytes: 200, ..Default::default() })
                .await
                .expect("opens");
        let topic = producer.topic("t", PATIENCE).await.expect("known");
        producer.expect_offset(topic, PartitionId(0), Offset(expected)).expect("there is a partition 0");
        for n in 0..20 {
            producer.send(topic, Some(PartitionId(0)), &record(n), n).await.expect("taken");
        }
        drop(producer);
        let mut counts: HashMap<&str, usize> = HashMap::new();
        while let Some(d) = deliveries.recv().await {
            let kind = match d.outcome {
                Outcome::Acked(_) => "acked",
                Outcome::Failed(_) => "failed",
                Outcome::Sent | Outcome::Unknown(_) | Outcome::Dropped(_) => "other",
            };
            *counts.entry(kind).or_default() += d.tags.len();
        }
        counts
    };
    assert_eq!(append(0).await, HashMap::from([("acked", 20)]));
    assert_eq!(append(5).await, HashMap::from([("failed", 20)]));
    assert_eq!(append(20).await, HashMap::from([("acked", 20)]));
    assert_eq!(log(&fake, 0).len(), 40);
}

const SPREAD: u64 = 60_000;

/// How 60,000 records spread over six partitions, and the sizes in bytes of each partition's batches.
async fn spread(partitioner: Partitioner) -> ([u64; 6], Vec<Vec<usize>>, Vec<(u64, i32, Outcome)>) {
    let fake = Fake::start(1, 6, 1).await;
    let options = ProducerOptions {
        partitioner,
        batch_bytes: BATCH_BYTES,
        linger: Duration::from_secs(1),
        buffer_bytes_max: 256 << 20,
        ..Default::default()
    };
    let outcomes = produce(&fake, SPREAD, options).await;
    check(&fake, &outcomes, SPREAD, 6);
    let mut counts = [0; 6];
    outcomes.iter().for_each(|(_, partition, _)| counts[*partition as usize] += 1);
    let s = fake.lock();
    let sizes = s.partitions.iter().map(|p| p.batches.iter().map(|(_, bytes)| bytes.len()).collect());
    (counts, sizes.collect(), outcomes)
}

const BATCH_BYTES: usize = 8_192;

#[tokio::test]
async fn round_robin_differs_by_at_most_one_batch() {
    let (counts, ..) = spread(Partitioner::RoundRobin).await;
    // Record by record, so the difference is even less: one record.
    assert_eq!(counts, [SPREAD / 6; 6]);
}

/// The chi-square statistic of counts that should be equal.
fn chi_square(counts: &[u64]) -> f64 {
    let expected = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
    counts.iter().map(|count| (*count as f64 - expected).powi(2) / expected).sum()
}

/// With five degrees of freedom a fair draw exceeds it once in a million times (p = 0.000001).
const CHI_SQUARE_MAX: f64 = 35.888;

#[tokio::test]
async fn random_is_even_within_chance() {
    // Another seed every run; printed, to run it again.
    let seed = crate::seam::Rng::from_system().u64();
    println!("seed {seed}");
    let fake = Fake::start(1, 6, 1).await;
    let world = World { rng: Arc::new(crate::seam::Rng::seeded(seed)), ..World::system() };
    let cluster = Cluster::with_world(fake.lock().addresses.clone(), world).expect("addresses are good");
    let options =
        ProducerOptions { partitioner: Partitioner::Random, buffer_bytes_max: 256 << 20, ..Default::default() };
    let outcomes = produce_on(&cluster, SPREAD, options).await;
    let mut counts = [0; 6];
    outcomes.iter().for_each(|(_, partition, _)| counts[*partition as usize] += 1);
    let chi_square = chi_square(&counts);
    println!("{counts:?}: chi square {chi_square:.2}");
    assert!(chi_square < CHI_SQUARE_MAX, "seed {seed}: {counts:?}: {chi_square}");
    assert!(counts.iter().any(|count| *count != SPREAD / 6), "round robin is not random: {counts:?}");
}

#[test]
fn a_lopsided_draw_fails_the_test_of_chance() {
    assert!(chi_square(&[10_000; 6]) < CHI_SQUARE_MAX);
    assert!(chi_square(&[10_100, 9_900, 10_080, 9_920, 10_000, 10_000]) < CHI_SQUARE_MAX);
    assert!(chi_square(&[10_600, 9_880, 9_880, 9_880, 9_880, 9_880]) > CHI_SQUARE_MAX, "six per cent more in one");
}

#[tokio::test]
async fn equal_keys_share_the_partition_that_java_gives_them() {
    let (counts, _, outcomes) = spread(Partitioner::Key).await;
    for (tag, partition, _) in outcomes {
        let key = record(tag).key.expect("ours have keys");
        assert_eq!(PartitionId(partition), partition_of_key(&key, 6), "{key:?}");
    }
    assert!(counts.iter().all(|count| *count > 0), "fifty keys reach all partitions: {counts:?}");
}

#[tokio::test]
async fn sticky_fills_its_batches() {
    let (counts, sizes, _) = spread(Partitioner::Sticky).await;
    assert!(counts.iter().all(|count| *count > SPREAD / 12), "in the long run it reaches all: {counts:?}");
    let batches: usize = sizes.iter().map(Vec::len).sum();
    let small = sizes.iter().flatten().filter(|bytes| **bytes < BATCH_BYTES / 4).count();
    // A record counts more while it waits than it takes in its batch, which here is a third of the size.
    println!("{batches} batches, {small} small ones");
    assert!(small <= 1, "all but the last are full: {small} of {batches} are small");
}

#[tokio::test]
async fn an_explicit_partition_gets_all() {
    let fake = Fake::start(1, 6, 1).await;
    let options = ProducerOptions { partitioner: Partitioner::RoundRobin, ..Default::default() };
    let (producer, mut deliveries) = Producer::open(&cluster(&fake), options).await.expect("opens");
    let topic = producer.topic("t", PATIENCE).await.expect("known");
    let send = async move {
        for n in 0..SPREAD {
            producer.send(topic, Some(PartitionId(4)), &record(n), n).await.expect("taken");
        }
    };
    let receive = async {
        while let Some(delivery) = deliveries.recv().await {
            assert!(matches!(delivery.outcome, Outcome::Acked(_)), "{:?}", delivery.outcome);
        }
    };
    tokio::time::timeout(PATIENCE, async { tokio::join!(send, receive) }).await.expect("in time");
    let ends: Vec<i64> = fake.lock().partitions.iter().map(|p| p.next_offset).collect();
    assert_eq!(ends, [0, 0, 0, 0, SPREAD as i64, 0]);
}

#[tokio::test]
async fn receipts_come_for_one_and_all_and_nothing_is_waited_for_with_none() {
    for acks in [Acks::Leader, Acks::All] {
        let fake = Fake::start(1, 1, 1).await;
        let outcomes = produce(&fake, 100, ProducerOptions { acks, ..Default::default() }).await;
        check(&fake, &outcomes, 100, 1);
    }
    // A broker that reads and never answers holds up nobody who asked for no answer.
    let fake = Fake::start(1, 1, 1).await;
    fake.lock().hung = Some(1);
    let began = tokio::time::Instant::now();
    let outcomes = produce(&fake, 100, ProducerOptions { acks: Acks::None, ..Default::default() }).await;
    assert!(outcomes.iter().all(|(.., o)| *o == Outcome::Sent));
    assert!(began.elapsed() < ProducerOptions::default().delivery_timeout / 2, "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_unknown_topic_is_not_found() {
    let fake = Fake::start(1, 1, 1).await;
    let (producer, _deliveries) = Producer::open(&cluster(&fake), ProducerOptions::default()).await.expect("opens");
    let error = producer.topic("nope", PATIENCE).await.expect_err("there is no such topic");
    assert_eq!(error, ClientError::NoTopic { topic: "nope".into() });
    let topic = producer.topic("t", PATIENCE).await.expect("known");
    let error = producer.send(topic, Some(PartitionId(9)), &record(1), 0).await.expect_err("one partition");
    assert!(error.is_not_found());
}

#[tokio::test]
async fn a_consumer_reads_each_record_once_whatever_breaks() {
    let fake = Fake::start(2, 1, 3).await;
    let options = ProducerOptions { batch_bytes: 600, compression: Codec::Lz4, ..Default::default() };
    produce(&fake, 1000, options).await;
    fake.lock().faults.break_consume = 3;
    for (start, end, want) in [
        (Start::Earliest, None, 0..1000u64),
        (Start::Offset(Offset(17)), Some(Offset(900)), 17..900),
        (Start::BeforeEnd(5), None, 995..1000),
        (Start::Latest, None, 1000..1000),
    ] {
        let options =
            ConsumeOptions { start, end_offset: end, stop_at_end: true, patience: PATIENCE, ..Default::default() };
        let mut consumer =
            Consumer::open(&cluster(&fake), TopicPartition::new("t", PartitionId(0)), options).await.expect("opens");
        let mut offsets = vec![];
        while let Some(chunk) = consumer.next().await.expect("reads on") {
            offsets.extend(chunk.records.iter().map(|r| r.offset.0 as u64));
        }
        assert_eq!(offsets, want.collect::<Vec<_>>());
    }
    assert!(fake.lock().injected > 0, "the run met faults");
}

/// What the client costs: `cargo test --release client_throughput -- --ignored --nocapture`. Includes
/// the fake broker's half (HTTP/2 and CRC), in the same process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn client_throughput() {
    const RECORDS: u64 = 1_000_000;
    let fake = Fake::start(3, 16, 1).await;
    fake.lock().forget = true;
    let options = ProducerOptions {
        partitioner: Partitioner::RoundRobin,
        batch_bytes: 128 * 1024,
        buffer_bytes_max: 64 << 20,
        ..Default::default()
    };
    let (producer, mut deliveries) = Producer::open(&cluster(&fake), options).await.expect("opens");
    let topic = producer.topic("t", PATIENCE).await.expect("known");
    let record = Record { value: Some(Bytes::from(vec![7; 1024])), ..Default::default() };
    let began = tokio::time::Instant::now();
    let (mut sent, mut done) = (0, 0);
    while done < RECORDS {
        while sent < RECORDS && sent - done < 8192 {
            producer.try_send(topic, None, &record, sent).expect("there is memory");
            sent += 1;
        }
        let mut next = deliveries.recv().await;
        while let Some(delivery) = next {
            assert!(matches!(delivery.outcome, Outcome::Acked(_)), "{:?}", delivery.outcome);
            done += delivery.tags.len() as u64;
            next = deliveries.try_recv();
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{:.0} records/s", RECORDS as f64 / seconds);
}
