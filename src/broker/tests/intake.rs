//! What clients and operators ask of a broker costs it what it should, and ends.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::rig::{Cluster, read, until};
use crate::{
    broker::{
        Acks, AlterTopicRequest, Broker, Caller, CreateTopicRequest, FetchError, FetchRequest, OffsetAt, ProduceError,
        ProduceRequest, Receipt, TransferLeaderRequest, TrimRequest,
        groups::{CommitRequest, OffsetToCommit},
        limits,
        upkeep::retention,
    },
    record::{BatchBuilder, BatchHeader, Codec, Record},
    types::{BrokerId, Offset, PartitionId, TopicPartition, WallMs},
};

const DAY_MS: i64 = 24 * 3_600_000;

pub(super) async fn produce_to(broker: &Broker, partition: i32, batch: Bytes) -> Result<Receipt, ProduceError> {
    let request = ProduceRequest {
        topic: "t".into(),
        topic_id: None,
        partition: PartitionId(partition),
        acks: Acks::All,
        timeout: Duration::from_secs(10),
        batch,
        expected_offset: None,
    };
    let budget = broker.reserve_produce(request.batch.len()).await;
    broker.produce(&Caller::ANONYMOUS, request, budget)?.await
}

pub(super) fn batch(value_bytes: usize, timestamp: i64) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    let value = Some(vec![b'v'; value_bytes].into());
    builder.push(&Record { value, timestamp: WallMs(timestamp), ..Record::default() }).unwrap();
    builder.build().unwrap()
}

/// Thousands of partitions are not looked at for every offset that somebody commits.
#[tokio::test]
async fn commits_of_groups_do_not_make_a_broker_look_at_all_that_it_hosts() {
    let cluster = Cluster::start(1, 2_100).await;
    cluster.create_on("t", 1, 1).await;
    let broker = cluster.any();
    let (began, before) = (Instant::now(), broker.parts.replicas.reconciled.load(Relaxed));
    for offset in 0..200 {
        let at = TopicPartition { topic: "t".into(), partition: PartitionId(0) };
        let offset =
            OffsetToCommit { at, topic_id: None, offset: Offset(offset), leader_epoch: None, metadata: String::new() };
        let request = CommitRequest { group: "g".into(), offsets: vec![offset], ..CommitRequest::default() };
        broker.commit_offsets(&Caller::ANONYMOUS, request).await.unwrap();
    }
    let passes = broker.parts.replicas.reconciled.load(Relaxed) - before;
    // It looks again each second for what failed.
    assert!(passes <= 3 + began.elapsed().as_secs(), "{passes} passes in {:?}", began.elapsed());
}

#[tokio::test]
async fn an_altered_rule_holds_once_the_alteration_is_answered() {
    let cluster = Cluster::start(3, 2_200).await;
    cluster.create("t", 1).await;
    let leader = cluster.led_by("t").await;
    let other = cluster.broker(leader % 3 + 1);
    for round in 0..20 {
        let bytes_max = if round % 2 == 0 { 1_000 } else { 10_000 };
        let set = [("max.message.bytes".to_string(), bytes_max.to_string())].into();
        let request = AlterTopicRequest { name: "t".into(), set, ..AlterTopicRequest::default() };
        other.alter_topic(&Caller::ANONYMOUS, request).await.unwrap();
        let answer = produce_to(&cluster.broker(leader), 0, batch(5_000, 1)).await;
        match (bytes_max, answer) {
            (1_000, Err(ProduceError::BatchTooLarge { .. })) | (10_000, Ok(_)) => {}
            (_, answer) => panic!("round {round}: {answer:?}"),
        }
    }
}

/// What Kafka's answer to a produce says beside the offset.
#[tokio::test]
async fn a_receipt_tells_the_stamp_of_its_records_and_where_the_log_begins() {
    let cluster = Cluster::start(1, 2_250).await;
    cluster.create_on("t", 1, 1).await;
    let broker = cluster.any();
    let own = produce_to(&broker, 0, batch(1, 7)).await.unwrap();
    assert_eq!((own.log_append_time, own.log_start), (None, Offset(0)), "its own time, and all is kept");
    let (topic, partition) = ("t".to_string(), PartitionId(0));
    broker
        .trim_partition(&Caller::ANONYMOUS, TrimRequest { topic, partition, before: None, dry_run: false })
        .await
        .unwrap();
    let set = [("message.timestamp.type".to_string(), "LogAppendTime".to_string())].into();
    broker
        .alter_topic(&Caller::ANONYMOUS, AlterTopicRequest { name: "t".into(), set, ..AlterTopicRequest::default() })
        .await
        .unwrap();
    let stamped = produce_to(&broker, 0, batch(1, 7)).await.unwrap();
    assert_eq!(stamped.log_start, Offset(1));
    let fetch = FetchRequest {
        topic: "t".into(),
        topic_id: None,
        partition,
        offset: stamped.base_offset,
        bytes_max: 0,
        wait: Duration::ZERO,
    };
    let stored = BatchHeader::parse(&broker.fetch(&Caller::ANONYMOUS, fetch).await.unwrap().batches[0]).unwrap();
    assert_eq!(stamped.log_append_time, Some(stored.max_timestamp), "as it is in the log");
}

/// A reader of all that is kept looks up where the log begins, and a trim is quicker than its first fetch.
#[tokio::test]
async fn a_reader_of_what_is_kept_begins_where_the_log_begins_by_then() {
    let cluster = Cluster::start(1, 2_270).await;
    cluster.create_on("t", 1, 1).await;
    let broker = cluster.any();
    for timestamp in 0..5 {
        produce_to(&broker, 0, batch(1, timestamp)).await.unwrap();
    }
    let (topic, partition) = ("t".to_string(), PartitionId(0));
    broker
        .trim_partition(&Caller::ANONYMOUS, TrimRequest { topic, partition, before: Some(Offset(3)), dry_run: false })
        .await
        .unwrap();
    let at = |offset| FetchRequest {
        topic: "t".into(),
        topic_id: None,
        partition,
        offset: Offset(offset),
        bytes_max: 0,
        wait: Duration::ZERO,
    };
    let gone = broker.fetch(&Caller::ANONYMOUS, at(0)).await;
    assert!(matches!(gone, Err(FetchError::OffsetOutOfRange { .. })), "who names an offset is told: {gone:?}");
    let (begins, kept) = broker.fetch_kept(&Caller::ANONYMOUS, at(0)).await.unwrap();
    assert_eq!(begins, Offset(3));
    assert_eq!(BatchHeader::parse(&kept.batches[0]).unwrap().base_offset, Offset(3));
    let beyond = broker.fetch_kept(&Caller::ANONYMOUS, at(9)).await;
    assert!(matches!(beyond, Err(FetchError::OffsetOutOfRange { .. })), "beyond the end is beyond it: {beyond:?}");
}

/// A newer broker's entry, for example. The replica stops; its broker, and what else it serves, go on.
#[tokio::test]
async fn an_entry_that_cannot_be_applied_stops_its_replica_and_not_the_process() {
    let cluster = Cluster::start(1, 2_300).await;
    cluster.create_on("t", 2, 1).await;
    let broker = cluster.any();
    let hosted = broker.parts.replicas.hosted();
    let poisoned = hosted.iter().find(|hosted| hosted.name.partition == PartitionId(0)).unwrap();
    produce_to(&broker, 0, batch(1, 1)).await.unwrap();
    let command = Bytes::from_static(&[1, 9, 0, 0]);
    let pending = poisoned.group.propose(poisoned.status().term, command).await;
    assert!(pending.await.is_err(), "nothing was applied");
    until("the replica has stopped", || async { poisoned.status().stopped }).await;
    assert_eq!(poisoned.bounds().high_watermark, Offset(1), "what came before it is there");
    produce_to(&broker, 1, batch(1, 1)).await.unwrap();
}

/// A leader whose clock is a day ahead must not forget who sent what: the retry would be appended twice.
#[tokio::test]
async fn d11_a_leader_whose_clock_is_a_day_ahead_takes_no_retry_twice_and_leaves_no_mark() {
    let cluster = Cluster::start(3, 2_400).await;
    cluster.create("t", 1).await;
    for sequence in 0..3 {
        cluster.produce("t", sequence).await;
    }
    let good = cluster.led_by("t").await;
    let ahead = good % 3 + 1;
    cluster.worlds[&ahead].ahead_ms.store(DAY_MS + DAY_MS / 24, Relaxed);
    lead(&cluster, ahead).await;
    let retry = cluster.produce("t", 2).await;
    assert!(retry.duplicate && retry.base_offset == Offset(2), "{retry:?}");
    cluster.produce("t", 3).await;
    let retry = cluster.produce("t", 2).await;
    assert!(retry.duplicate && retry.base_offset == Offset(2), "{retry:?}");
    // Under a leader whose clock is right again, times of tomorrow are refused as ever.
    let broker = lead(&cluster, good).await;
    retention::round(&broker.parts.retention).await;
    assert!(broker.parts.views.clock_view.borrow().agrees());
    let tomorrow = broker.now().0 + DAY_MS / 2;
    let refused = produce_to(&broker, 0, batch(1, tomorrow)).await;
    assert!(matches!(refused, Err(ProduceError::InvalidTimestamp { .. })), "{refused:?}");
    assert_eq!(cluster.read_all("t").await.len(), 4);
}

async fn lead(cluster: &Cluster, to: u64) -> Broker {
    let partition = Some(("t".to_string(), PartitionId(0)));
    let request = TransferLeaderRequest { partition, to: Some(BrokerId(to)), timeout: Duration::from_secs(5) };
    until(&format!("{to} leads"), || async {
        let _ = cluster.any().transfer_leader(&Caller::ANONYMOUS, request.clone()).await;
        cluster.leader("t").await == Some(to) && cluster.broker(to).parts.replicas.hosted()[0].is_ready()
    })
    .await;
    cluster.broker(to)
}

/// Headers are claims: a topic full of batches that promise a time which none of their records has must not
/// make each question read and decode the whole of it.
#[tokio::test]
async fn a_look_up_by_time_is_bounded_whatever_headers_promise() {
    let cluster = Cluster::start(1, 2_500).await;
    cluster.create_on("t", 1, 1).await;
    let broker = cluster.any();
    let promised = 2_000_000_000_000;
    let mut lying = batch(1_000_000, 1_000).to_vec();
    lying[35..43].copy_from_slice(&i64::to_be_bytes(broker.now().0));
    let crc = crc32c::crc32c(&lying[21..]);
    lying[17..21].copy_from_slice(&crc.to_be_bytes());
    let lying = Bytes::from(lying);
    let at = OffsetAt::Time(WallMs(promised / 2));
    for _ in 0..3 {
        produce_to(&broker, 0, lying.clone()).await.unwrap();
    }
    produce_to(&broker, 0, batch(1, promised / 2 + 5)).await.unwrap();
    assert_eq!(
        broker.find_offset(&Caller::ANONYMOUS, read(None), at).await.unwrap().offset,
        Offset(3),
        "a few are looked through"
    );
    let copies = limits::FIND_TIME_BYTES_MAX / lying.len() + 2;
    for _ in 0..copies {
        produce_to(&broker, 0, lying.clone()).await.unwrap();
    }
    let later = OffsetAt::Time(WallMs(promised / 2 + 6));
    match broker.find_offset(&Caller::ANONYMOUS, read(None), later).await {
        Err(FetchError::Unavailable { reason }) => assert!(reason.contains("have none"), "{reason}"),
        other => panic!("{other:?}"),
    }
    let beyond = OffsetAt::Time(WallMs(i64::MAX));
    let end = broker.find_offset(&Caller::ANONYMOUS, read(None), beyond).await.unwrap().offset;
    assert_eq!(end.0, copies as i64 + 4, "what nobody promises is found to be nowhere at once");
}

/// A client's clock counts seconds instead of milliseconds, or is off by decades.
#[tokio::test]
async fn p21_records_that_retention_treats_unlike_what_was_meant_are_told_of_in_health_and_description() {
    let cluster = Cluster::start(1, 2_600).await;
    let configs = [("retention.ms", "3600000"), ("message.timestamp.after.max.ms", "9223372036854775807")];
    let configs = configs.map(|(key, value)| (key.to_string(), value.to_string())).into();
    let request = CreateTopicRequest {
        name: "t".into(),
        partitions: Some(1),
        replication_factor: Some(1),
        configs,
        wait: true,
        ..CreateTopicRequest::default()
    };
    cluster.any().create_topic(&Caller::ANONYMOUS, request).await.unwrap();
    let broker = cluster.any();
    cluster.create_on("quiet", 1, 1).await;
    produce_to(&broker, 0, batch(1, broker.now().0)).await.unwrap();
    assert_eq!(broker.health(&Caller::ANONYMOUS).await.notes, Vec::<String>::new());
    assert_eq!(broker.describe_topic(&Caller::ANONYMOUS, "t").await.unwrap().notes, Vec::<String>::new());
    produce_to(&broker, 0, batch(1, broker.now().0 / 1_000)).await.unwrap();
    let notes = broker.health(&Caller::ANONYMOUS).await.notes;
    assert!(notes.len() == 1 && notes[0].contains("1 records came to t-0"), "{notes:?}");
    const IN_2099: i64 = 4_070_908_800_000;
    produce_to(&broker, 0, batch(1, IN_2099)).await.unwrap();
    let notes = broker.health(&Caller::ANONYMOUS).await.notes;
    assert!(notes.len() == 2 && notes[1].contains("4070908800000"), "{notes:?}");
    assert_eq!(broker.describe_topic(&Caller::ANONYMOUS, "t").await.unwrap().notes, notes);
    assert!(
        broker.describe_topic(&Caller::ANONYMOUS, "quiet").await.unwrap().notes.is_empty(),
        "they are about the other topic"
    );
}

/// Whoever is asked, the leaders know.
#[tokio::test]
async fn p21_any_broker_describes_a_topic_with_its_leaders_notes() {
    let cluster = Cluster::start(3, 2_650).await;
    let configs = [("retention.ms".to_string(), "3600000".to_string())].into();
    let request = CreateTopicRequest {
        name: "t".into(),
        partitions: Some(1),
        replication_factor: Some(3),
        configs,
        wait: true,
        ..CreateTopicRequest::default()
    };
    cluster.any().create_topic(&Caller::ANONYMOUS, request).await.unwrap();
    // From 1970.
    cluster.produce("t", 0).await;
    for node in cluster.nodes.values() {
        let notes = node.broker.describe_topic(&Caller::ANONYMOUS, "t").await.unwrap().notes;
        assert!(notes.len() == 1 && notes[0].contains("came to t-0"), "{notes:?}");
    }
}
