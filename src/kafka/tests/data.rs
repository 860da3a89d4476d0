//! What a producer and a reader without a group ask, at every version that is served.

use bytes::Bytes;
use kafka_wire_core::StrBytes;

use super::{
    super::{apis::ROUTES, codes::Code, wire::*},
    harness::Alone,
};
use crate::{
    broker::OffsetAt,
    record::{BatchBuilder, Codec, Producer, Record, decode_records},
    types::{Offset, ProducerEpoch, ProducerId, Sequence, TopicId, WallMs},
};

/// A batch of these values, each a millisecond later than the one before.
pub fn batch(values: &[&str]) -> Bytes {
    batch_of(values, None)
}

pub fn batch_of(values: &[&str], producer: Option<(i64, i32)>) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    if let Some((id, base)) = producer {
        builder.producer(Producer { id: ProducerId(id), epoch: ProducerEpoch(0), base_sequence: Sequence(base) });
    }
    for (index, value) in values.iter().enumerate() {
        let timestamp = WallMs(1_000 + index as i64);
        let value = Some(Bytes::copy_from_slice(value.as_bytes()));
        builder.push(&Record { value, timestamp, ..Record::default() }).unwrap();
    }
    builder.build().unwrap()
}

/// To partition 0 of a topic, by its name or by its id, as the version wants it.
pub fn produce(version: i16, topic: &str, id: TopicId, acks: i16, batch: Bytes) -> ProduceRequest {
    let partition = message!(produce_request::PartitionProduceData { index: 0, records: Some(batch) });
    let mut data = message!(produce_request::TopicProduceData { partition_data: vec![partition] });
    match version >= 13 {
        true => data.topic_id = uuid(id),
        false => data.name = topic.into(),
    }
    message!(ProduceRequest { acks: acks, timeout_ms: 20_000, topic_data: vec![data] })
}

/// From partition 0 of a topic.
pub fn fetch(version: i16, topic: &str, id: TopicId, offset: i64, max_wait_ms: i32) -> FetchRequest {
    let partition =
        message!(fetch_request::FetchPartition { partition: 0, fetch_offset: offset, partition_max_bytes: 1 << 20 });
    let mut wanted = message!(fetch_request::FetchTopic { partitions: vec![partition] });
    match version >= 13 {
        true => wanted.topic_id = uuid(id),
        false => wanted.topic = topic.into(),
    }
    let mut request =
        message!(FetchRequest { max_wait_ms: max_wait_ms, min_bytes: 1, max_bytes: 1 << 20, topics: vec![wanted] });
    if version >= 7 {
        request.session_epoch = -1;
    }
    request
}

/// The values of a batch or several.
pub fn values(mut records: Bytes) -> Vec<(i64, String)> {
    let mut values = Vec::new();
    while !records.is_empty() {
        let length = 12 + i32::from_be_bytes(records[8..12].try_into().unwrap()) as usize;
        for (offset, record) in decode_records(&records.split_to(length), 1 << 20).unwrap() {
            values.push((offset.0, String::from_utf8(record.value.unwrap().to_vec()).unwrap()));
        }
    }
    values
}

pub fn versions(key: i16) -> std::ops::RangeInclusive<i16> {
    let route = ROUTES.iter().find(|route| route.key == key).expect("it is served");
    route.min..=route.max
}

async fn topic(alone: &Alone, name: &str) -> TopicId {
    alone.cluster.create_on(name, 1, 1).await;
    alone.cluster.led_by(name).await;
    alone.broker().topic_id(name).expect("it was just made")
}

#[tokio::test]
async fn what_is_produced_in_any_version_is_fetched_in_every_version() {
    let alone = Alone::start(1_201).await;
    let (id, mut wire) = (topic(&alone, "t").await, alone.face.connect());
    let mut written = Vec::new();
    for version in versions(0) {
        let value = format!("v{version}");
        let request = produce(version, "t", id, -1, batch(&[&value, "again"]));
        let answer = wire.ask(version, &request).await;
        let said = &answer.responses[0].partition_responses[0];
        assert_eq!((said.error_code, said.base_offset), (0, written.len() as i64), "version {version}");
        written.push((written.len() as i64, value));
        written.push((written.len() as i64, "again".into()));
    }
    for version in versions(1) {
        let answer = wire.ask(version, &fetch(version, "t", id, 0, 1_000)).await;
        let said = &answer.responses[0].partitions[0];
        assert_eq!((said.error_code, said.high_watermark), (0, written.len() as i64), "version {version}");
        assert_eq!(said.last_stable_offset, said.high_watermark);
        assert_eq!(values(said.records.clone().unwrap()), written, "version {version}");
    }
}

#[tokio::test]
async fn what_is_refused_is_told_in_every_version() {
    let alone = Alone::start(1_202).await;
    let (id, mut wire) = (topic(&alone, "t").await, alone.face.connect());
    let nobody = TopicId(7);
    for version in versions(0) {
        let unknown = if version >= 13 { Code::UnknownTopicId } else { Code::UnknownTopicOrPartition };
        let mut damaged = batch(&["x"]).to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        let refused = [
            (produce(version, "none", nobody, -1, batch(&["x"])), unknown),
            (produce(version, "t", id, 7, batch(&["x"])), Code::InvalidRequiredAcks),
            (produce(version, "t", id, -1, damaged.into()), Code::CorruptMessage),
            (produce(version, "t", id, -1, Bytes::new()), Code::CorruptMessage),
        ];
        for (request, code) in refused {
            let answer = wire.ask(version, &request).await;
            let said = &answer.responses[0].partition_responses[0];
            assert_eq!(said.error_code, code.value(), "version {version}: {:?}", said.error_message);
            assert_eq!(said.error_message.is_some(), version >= 8);
        }
    }
    for version in versions(1) {
        let unknown = if version >= 13 { Code::UnknownTopicId } else { Code::UnknownTopicOrPartition };
        for (request, code) in [
            (fetch(version, "none", nobody, 0, 1_000), unknown),
            (fetch(version, "t", id, 5, 1_000), Code::OffsetOutOfRange),
        ] {
            let answer = wire.ask(version, &request).await;
            let said = &answer.responses[0].partitions[0];
            assert_eq!(said.error_code, code.value(), "version {version}");
            assert_eq!(said.records.as_deref(), Some(&[][..]), "clients want records, if none");
        }
    }
    assert!(alone.cluster.read_all("t").await.is_empty(), "nothing of it was appended");
}

#[tokio::test]
async fn zstd_is_refused_from_clients_of_a_time_before_it() {
    let alone = Alone::start(1_203).await;
    let (id, mut wire) = (topic(&alone, "t").await, alone.face.connect());
    let mut builder = BatchBuilder::new(Codec::Zstd);
    builder.push(&Record { value: Some(Bytes::from_static(b"x")), ..Record::default() }).unwrap();
    let zstd = builder.build().unwrap();
    for (version, code) in [(6, Code::UnsupportedCompressionType), (7, Code::None)] {
        let answer = wire.ask(version, &produce(version, "t", id, -1, zstd.clone())).await;
        assert_eq!(answer.responses[0].partition_responses[0].error_code, code.value(), "version {version}");
    }
}

#[tokio::test]
async fn a_batch_that_is_sent_again_has_its_first_place() {
    let alone = Alone::start(1_204).await;
    let (id, mut wire) = (topic(&alone, "t").await, alone.face.connect());
    let given = wire.ask(4, &message!(InitProducerIdRequest { transactional_id: None })).await;
    assert_eq!((given.error_code, given.producer_epoch), (0, 0));
    let sent = |base| produce(9, "t", id, -1, batch_of(&["a", "b"], Some((given.producer_id, base))));
    for (base, code, offset) in [(0, 0, 0), (2, 0, 2), (0, 0, 0), (2, 0, 2), (9, 45, -1)] {
        let answer = wire.ask(9, &sent(base)).await;
        let said = &answer.responses[0].partition_responses[0];
        assert_eq!((said.error_code, said.base_offset), (code, offset), "sequence {base}");
    }
}

#[tokio::test]
async fn offsets_are_found_by_place_and_time_in_every_version() {
    let alone = Alone::start(1_205).await;
    let (id, mut wire) = (topic(&alone, "t").await, alone.face.connect());
    wire.ask(9, &produce(9, "t", id, -1, batch(&["a", "b", "c"]))).await;
    let broker = alone.broker();
    let at = crate::broker::tests::rig::read(None);
    let epoch = broker.find_offset(&super::super::client::CALLER, at, OffsetAt::Latest).await.unwrap().epoch;
    for version in versions(2) {
        for (time, offset, timestamp) in
            [(-1, 3, -1), (-2, 0, -1), (-3, 2, 1_002), (-4, 0, -1), (1_001, 1, 1_001), (0, 0, 1_000), (9_999, -1, -1)]
        {
            let partition =
                message!(list_offsets_request::ListOffsetsPartition { partition_index: 0, timestamp: time });
            let wanted =
                message!(list_offsets_request::ListOffsetsTopic { name: "t".into(), partitions: vec![partition] });
            let answer = wire.ask(version, &message!(ListOffsetsRequest { topics: vec![wanted] })).await;
            let said = &answer.topics[0].partitions[0];
            assert_eq!((said.error_code, said.offset, said.timestamp), (0, offset, timestamp), "{version}: {time}");
            let is_told = version >= 4 && offset >= 0;
            assert_eq!(said.leader_epoch, if is_told { epoch.0 } else { -1 }, "version {version}, time {time}");
        }
    }
    for version in versions(23) {
        for (asked, end) in [(epoch.0, 3), (epoch.0 + 1, -1)] {
            let partition = message!(offset_for_leader_epoch_request::OffsetForLeaderPartition {
                partition: 0,
                leader_epoch: asked,
            });
            let wanted = message!(offset_for_leader_epoch_request::OffsetForLeaderTopic {
                topic: "t".into(),
                partitions: vec![partition],
            });
            let answer = wire.ask(version, &message!(OffsetForLeaderEpochRequest { topics: vec![wanted] })).await;
            let said = &answer.topics[0].partitions[0];
            assert_eq!((said.error_code, said.end_offset), (0, end), "version {version}, epoch {asked}");
        }
    }
}

#[tokio::test]
async fn a_reader_of_another_epoch_is_told_so() {
    let alone = Alone::start(1_206).await;
    let (id, mut wire) = (topic(&alone, "t").await, alone.face.connect());
    for (epoch, code) in [(0, Code::FencedLeaderEpoch), (1_000, Code::UnknownLeaderEpoch)] {
        let mut request = fetch(12, "t", id, 0, 0);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        let answer = wire.ask(12, &request).await;
        assert_eq!(answer.responses[0].partitions[0].error_code, code.value(), "epoch {epoch}");
    }
}

#[tokio::test]
async fn metadata_tells_brokers_and_topics_in_every_version() {
    let alone = Alone::start(1_207).await;
    let (id, mut wire) = (topic(&alone, "t").await, alone.face.connect());
    for version in versions(3) {
        let named = message!(metadata_request::MetadataRequestTopic { name: Some(StrBytes::from("t")) });
        let mut request = message!(MetadataRequest { topics: Some(vec![named]) });
        if version >= 4 {
            request.allow_auto_topic_creation = false;
        }
        let answer = wire.ask(version, &request).await;
        let broker = &answer.brokers[0];
        assert_eq!((broker.node_id, broker.host.as_str(), broker.port), (1, "kafka-1", 9092), "version {version}");
        let said = &answer.topics[0];
        assert_eq!((said.error_code, said.name.as_deref()), (0, Some("t")));
        let partition = &said.partitions[0];
        assert_eq!(
            (partition.leader_id, &partition.replica_nodes[..], &partition.isr_nodes[..]),
            (1, &[1][..], &[1][..])
        );
        if version >= 1 {
            assert_eq!(answer.controller_id, 1);
        }
        if version >= 10 {
            assert_eq!(said.topic_id, uuid(id));
        }
        if version >= 12 {
            for (asked, code) in [(id, Code::None), (TopicId(7), Code::UnknownTopicId)] {
                let by_id = message!(metadata_request::MetadataRequestTopic { topic_id: uuid(asked), name: None });
                let answer = wire.ask(version, &message!(MetadataRequest { topics: Some(vec![by_id]) })).await;
                assert_eq!(answer.topics[0].error_code, code.value(), "version {version}");
            }
        }
    }
    let none = wire.ask(9, &message!(MetadataRequest { topics: Some(vec![]) })).await;
    assert!(none.topics.is_empty());
    assert_eq!(wire.ask(9, &message!(MetadataRequest { topics: None })).await.topics.len(), 1);
    assert_eq!(wire.ask(0, &message!(MetadataRequest { topics: Some(vec![]) })).await.topics.len(), 1);
}

#[tokio::test]
async fn a_topic_that_is_asked_for_is_made_if_the_client_and_the_broker_want_it() {
    let alone = Alone::start(1_208).await;
    let mut wire = alone.face.connect();
    let asks = |name: &str, creates| {
        let named = message!(metadata_request::MetadataRequestTopic { name: Some(name.into()) });
        message!(MetadataRequest { topics: Some(vec![named]), allow_auto_topic_creation: creates })
    };
    let code_of = |answer: MetadataResponse| answer.topics[0].error_code;
    assert_eq!(code_of(wire.ask(9, &asks("new", false)).await), Code::UnknownTopicOrPartition.value());
    assert_eq!(code_of(wire.ask(9, &asks("bad name", true)).await), Code::InvalidTopicException.value());
    let made = wire.ask(9, &asks("new", true)).await;
    assert_eq!((made.topics[0].error_code, made.topics[0].partitions.len()), (0, 1));
    let node = &alone.cluster.nodes[&1];
    let never = super::harness::Face::with(&node.broker, node.metrics.clone(), None);
    let answer = never.connect().ask(9, &asks("other", true)).await;
    assert_eq!(code_of(answer), Code::UnknownTopicOrPartition.value());
}

#[tokio::test]
async fn the_coordinator_is_named_in_every_version_and_transactions_have_none() {
    let alone = Alone::start(1_209).await;
    let mut wire = alone.face.connect();
    for version in versions(10) {
        for (key_type, code) in [(0, Code::None), (1, Code::TransactionalIdAuthorizationFailed)] {
            if version == 0 && key_type == 1 {
                continue;
            }
            let mut request = FindCoordinatorRequest::default();
            match version >= 4 {
                true => request.coordinator_keys = vec!["g".into()],
                false => request.key = "g".into(),
            }
            if version >= 1 {
                request.key_type = key_type;
            }
            let answer = wire.ask(version, &request).await;
            let (said, node) = match answer.coordinators.first() {
                Some(one) => (one.error_code, one.node_id),
                None => (answer.error_code, answer.node_id),
            };
            assert_eq!((said, node), (code.value(), if code == Code::None { 1 } else { -1 }), "version {version}");
        }
    }
    for version in versions(22) {
        let transactional = message!(InitProducerIdRequest { transactional_id: Some("t".into()) });
        for (request, code) in [
            (message!(InitProducerIdRequest { transactional_id: None }), Code::None),
            (transactional, Code::TransactionalIdAuthorizationFailed),
        ] {
            let answer = wire.ask(version, &request).await;
            assert_eq!(answer.error_code, code.value(), "version {version}");
            assert_eq!(answer.producer_id >= 0, code == Code::None);
        }
    }
}

#[tokio::test]
async fn an_answer_holds_whole_batches_as_they_were_sent() {
    let alone = Alone::start(1_210).await;
    let (id, mut wire) = (topic(&alone, "t").await, alone.face.connect());
    let large = "x".repeat(3_000);
    let sent = [batch(&[&large]), batch(&["small"]), batch(&[&large])];
    for batch in &sent {
        wire.ask(9, &produce(9, "t", id, -1, batch.clone())).await;
    }
    let mut request = fetch(12, "t", id, 1, 0);
    request.topics[0].partitions[0].partition_max_bytes = 1;
    let answer = wire.ask(12, &request).await;
    assert_eq!(values(answer.responses[0].partitions[0].records.clone().unwrap()), [(1, "small".to_string())]);
    let answer = wire.ask(12, &fetch(12, "t", id, 0, 0)).await;
    let mut records = answer.responses[0].partitions[0].records.clone().unwrap();
    for (offset, batch) in sent.iter().enumerate() {
        let stored = records.split_to(batch.len());
        // The offset, and the epoch at 12..16, are the broker's; all else is what the client made.
        assert_eq!(stored[..8], Offset(offset as i64).0.to_be_bytes());
        assert_eq!((&stored[8..12], &stored[16..]), (&batch[8..12], &batch[16..]));
    }
    assert!(records.is_empty());
}
