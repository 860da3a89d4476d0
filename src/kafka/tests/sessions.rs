//! Fetch sessions (KIP-227) through the listener: its rules are tested beside `sessions`.

use super::{
    super::{codes::Code, wire::*},
    data::{batch, fetch, produce, values, versions},
    harness::{Alone, Wire},
};
use crate::{broker::tests::rig::until, types::TopicId};

async fn with_topic(seed: u64, partitions: u32) -> (Alone, TopicId) {
    let alone = Alone::start(seed).await;
    alone.cluster.create_on("t", partitions, 1).await;
    alone.cluster.led_by("t").await;
    let id = alone.broker().topic_id("t").expect("it was just made");
    (alone, id)
}

/// A request of partition 0, as one of a session.
fn of_session(version: i16, id: TopicId, (session, epoch): (i32, i32), offset: i64, wait_ms: i32) -> FetchRequest {
    let mut request = fetch(version, "t", id, offset, wait_ms);
    (request.session_id, request.session_epoch) = (session, epoch);
    request
}

/// One that names nothing.
fn next(session: i32, epoch: i32, wait_ms: i32) -> FetchRequest {
    next_of(12, session, epoch, wait_ms)
}

fn next_of(version: i16, session: i32, epoch: i32, wait_ms: i32) -> FetchRequest {
    let mut request = of_session(version, TopicId(0), (session, epoch), 0, wait_ms);
    request.topics.clear();
    request
}

fn forgetting(version: i16, id: TopicId, mut request: FetchRequest) -> FetchRequest {
    let mut forgotten = message!(fetch_request::ForgottenTopic { partitions: vec![0] });
    match version >= 13 {
        true => forgotten.topic_id = uuid(id),
        false => forgotten.topic = "t".into(),
    }
    request.forgotten_topics_data = vec![forgotten];
    request
}

/// Each partition that an answer tells, and its records.
fn told(answer: &FetchResponse) -> Vec<(i32, Vec<String>)> {
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    let values = |records: &Option<bytes::Bytes>| values(records.clone().unwrap()).into_iter().map(|(_, value)| value);
    partitions.map(|said| (said.partition_index, values(&said.records).collect())).collect()
}

async fn write(wire: &mut Wire, id: TopicId, partition: i32, value: &str) {
    let mut request = produce(9, "t", id, -1, batch(&[value]));
    request.topic_data[0].partition_data[0].index = partition;
    let answer = wire.ask(9, &request).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
}

#[tokio::test]
async fn a_session_tells_what_is_new_in_every_version_that_has_them() {
    let (alone, id) = with_topic(1_230, 1).await;
    let mut wire = alone.face.connect();
    let mut offset = 0;
    for version in versions(1).filter(|version| *version >= 7) {
        let first = wire.ask(version, &of_session(version, id, (0, 0), offset, 0)).await;
        assert_eq!((first.error_code, told(&first)), (0, vec![(0, vec![])]), "version {version}: all is told at first");
        let session = first.session_id;
        assert!(session > 0, "version {version}");
        let of_none = |epoch, wait| next_of(version, session, epoch, wait);
        let nothing = wire.ask(version, &of_none(1, 10)).await;
        assert_eq!((nothing.error_code, nothing.session_id, told(&nothing)), (0, session, vec![]), "version {version}");

        // It waits for what the session knows, and nobody names.
        let waiting = wire.send(version, &of_none(2, 600_000)).await;
        write(&mut alone.face.connect(), id, 0, "new").await;
        let new = wire.receive::<FetchRequest>(version, waiting).await;
        assert_eq!(told(&new), [(0, vec!["new".to_string()])], "version {version}");
        let again = wire.ask(version, &of_none(3, 0)).await;
        assert_eq!(told(&again).len(), 1, "the client did not say that it went on");
        offset += 1;
        let moved = wire.ask(version, &of_session(version, id, (session, 4), offset, 0)).await;
        assert_eq!(told(&moved), [], "version {version}");

        let forgets = forgetting(version, id, of_none(5, 600_000));
        let last = wire.ask(version, &forgets).await;
        assert_eq!((last.error_code, last.session_id, told(&last)), (0, 0, vec![]), "of nothing, it is over");
        let gone = wire.ask(version, &of_none(6, 0)).await;
        assert_eq!(gone.error_code, Code::FetchSessionIdNotFound.value(), "version {version}");
    }
}

#[tokio::test]
async fn what_clients_begin_anew_after_is_told_as_kafka_tells_it() {
    let (alone, id) = with_topic(1_231, 1).await;
    let mut wire = alone.face.connect();
    let session = wire.ask(12, &of_session(12, id, (0, 0), 0, 0)).await.session_id;
    let told = async |wire: &mut Wire, version, request: FetchRequest| {
        let answer = wire.ask(version, &request).await;
        assert_eq!(answer.session_id, 0);
        assert!(answer.responses.is_empty());
        answer.error_code
    };
    for (epoch, code) in [(2, Code::InvalidFetchSessionEpoch), (i32::MAX, Code::InvalidFetchSessionEpoch)] {
        assert_eq!(told(&mut wire, 12, next(session, epoch, 600_000)).await, code.value());
    }
    assert_eq!(told(&mut wire, 12, next(session + 1, 1, 600_000)).await, Code::FetchSessionIdNotFound.value());
    let by_id = of_session(13, id, (session, 1), 0, 600_000);
    assert_eq!(told(&mut wire, 13, by_id).await, Code::FetchSessionTopicIdError.value());
    let mut other = alone.face.connect();
    assert_eq!(told(&mut other, 12, next(session, 1, 600_000)).await, Code::FetchSessionIdNotFound.value());
    let goes_on = wire.ask(12, &next(session, 1, 0)).await;
    assert_eq!((goes_on.error_code, goes_on.session_id), (0, session), "none of them changed anything");
    // Ended by name, and another one begun.
    let anew = wire.ask(12, &of_session(12, id, (session, 0), 0, 0)).await;
    assert!(anew.session_id > 0 && anew.session_id != session);
    assert_eq!(told(&mut wire, 12, next(session, 2, 0)).await, Code::FetchSessionIdNotFound.value());
}

#[tokio::test]
async fn a_request_that_ends_its_session_waits_for_nothing() {
    let (alone, id) = with_topic(1_232, 1).await;
    let mut wire = alone.face.connect();
    let session = wire.ask(12, &of_session(12, id, (0, 0), 0, 0)).await.session_id;
    // As Java's client says goodbye.
    let answer = wire.ask(12, &next(session, -1, 600_000)).await;
    assert_eq!((answer.error_code, answer.session_id, answer.responses.len()), (0, 0, 0));
}

#[tokio::test]
async fn sessions_end_with_their_connection_and_are_counted() {
    let (alone, id) = with_topic(1_233, 2).await;
    let metric = |name: &str| {
        let text = alone.cluster.nodes[&1].metrics.encode();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("flotilla_kafka_fetch_{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in:\n{text}")).to_string()
    };
    let mut wire = alone.face.connect();
    let mut request = of_session(12, id, (0, 0), 0, 0);
    let mut second = request.topics[0].partitions[0].clone();
    second.partition = 1;
    request.topics[0].partitions.push(second);
    let session = wire.ask(12, &request).await.session_id;
    assert_eq!((metric("sessions"), metric("session_partitions")), ("1".to_string(), "2".to_string()));
    // Also where a request of it waits.
    wire.send(12, &next(session, 1, 600_000)).await;
    drop(wire);
    until("nothing is left of it", async || metric("sessions") == "0" && metric("session_partitions") == "0").await;
    // One more than a connection may have: that client goes on without.
    let mut wire = alone.face.connect();
    for number in 0..=super::super::limits::FETCH_SESSIONS_PER_CONNECTION_MAX {
        let answer = wire.ask(12, &of_session(12, id, (0, 0), 0, 0)).await;
        let has_one = number < super::super::limits::FETCH_SESSIONS_PER_CONNECTION_MAX;
        assert_eq!((answer.session_id > 0, told(&answer).len()), (has_one, 1), "{number}");
    }
    assert_eq!((metric("sessions_refused_total"), metric("sessions_evicted_total")), ("1".into(), "0".into()));
}

#[tokio::test]
async fn of_many_partitions_an_answer_holds_the_one_that_has_records() {
    const PARTITIONS: i32 = 100;
    let (alone, id) = with_topic(1_234, PARTITIONS as u32).await;
    let mut wire = alone.face.connect();
    let mut all = of_session(12, id, (0, 0), 0, 0);
    let one = all.topics[0].partitions[0].clone();
    all.topics[0].partitions = vec![one; PARTITIONS as usize];
    for (partition, wanted) in (0..).zip(&mut all.topics[0].partitions) {
        wanted.partition = partition;
    }
    let mut of_none = all.clone();
    of_none.session_epoch = -1;
    until("all have a leader", async || {
        let answer = alone.face.connect().ask(12, &of_none).await;
        answer.responses[0].partitions.iter().all(|said| said.error_code == 0)
    })
    .await;
    let first = wire.ask(12, &all).await;
    let session = first.session_id;
    assert_eq!(told(&first).len(), PARTITIONS as usize);
    write(&mut alone.face.connect(), id, 77, "new").await;
    let asked = wire.send(12, &next(session, 1, 600_000)).await;
    let bytes = wire.frame().await.expect("an answer");
    assert!(bytes.len() < 160, "{} bytes", bytes.len());
    let mut decoder = kafka_wire_core::Decoder::new(bytes, kafka_wire_core::DecodeLimits::default()).unwrap();
    let header = kafka_wire_core::KafkaDecode::decode(&mut decoder, kafka_wire_core::ApiVersion::new(1));
    let header: ResponseHeader = header.unwrap();
    let answer: FetchResponse =
        kafka_wire_core::KafkaDecode::decode(&mut decoder, kafka_wire_core::ApiVersion::new(12)).unwrap();
    assert_eq!((header.correlation_id, answer.session_id), (asked, session));
    assert_eq!(told(&answer), [(77, vec!["new".to_string()])]);
}
