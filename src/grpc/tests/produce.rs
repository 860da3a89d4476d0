use std::collections::BTreeMap;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use super::{fake::TOPIC, *};
use crate::{
    broker::Acks,
    proto::v1::{
        ErrorCode, produce_client::ProduceClient, produce_request::Payload, produce_response::Result as Outcome,
    },
    types::Offset,
};

struct Stream {
    requests: mpsc::Sender<v1::ProduceRequest>,
    answers: Streaming<v1::ProduceResponse>,
}

impl Stream {
    async fn open(server: &Server) -> Stream {
        let (requests, rx) = mpsc::channel(16);
        let mut client = ProduceClient::new(server.channel().await);
        let answers = client.produce(ReceiverStream::new(rx)).await.unwrap().into_inner();
        Stream { requests, answers }
    }

    async fn send(&self, request: v1::ProduceRequest) {
        self.requests.send(request).await.unwrap();
    }

    async fn answer(&mut self) -> v1::ProduceResponse {
        soon("an answer", self.answers.message()).await.unwrap().expect("the stream goes on")
    }

    async fn error(&mut self) -> (u64, v1::Error) {
        let answer = self.answer().await;
        match answer.result {
            Some(Outcome::Error(error)) => (answer.correlation_id, error),
            other => panic!("no error: {other:?}"),
        }
    }

    async fn receipt(&mut self) -> (u64, v1::Receipt) {
        let answer = self.answer().await;
        match answer.result {
            Some(Outcome::Receipt(receipt)) => (answer.correlation_id, receipt),
            other => panic!("no receipt: {other:?}"),
        }
    }
}

fn request(correlation_id: u64, batch: Bytes) -> v1::ProduceRequest {
    let payload = Some(Payload::Batch(batch));
    v1::ProduceRequest { correlation_id, topic: TOPIC.into(), payload, ..v1::ProduceRequest::default() }
}

#[tokio::test]
async fn batch_is_answered_with_its_receipt() {
    let server = Server::start(Fake::new()).await;
    let mut stream = Stream::open(&server).await;
    stream.send(request(41, batch(Codec::None, &["a", "b"]))).await;
    stream.send(request(42, batch(Codec::None, &["c"]))).await;
    let (first, second) = (stream.receipt().await, stream.receipt().await);
    let receipt = |base_offset: i64, count| v1::Receipt {
        topic: TOPIC.into(),
        partition: 0,
        base_offset,
        count,
        epoch: 3,
        index: base_offset as u64 + 10,
        durable_on: vec![1, 2],
        duplicate: false,
    };
    assert_eq!(BTreeMap::from([first, second]), BTreeMap::from([(41, receipt(0, 2)), (42, receipt(2, 1))]));
    let asked = &server.fake.requests()[0];
    assert_eq!((asked.acks, asked.timeout), (Acks::All, Duration::from_secs(30)));
    assert!(server.metrics.encode().contains(r#"api="produce",result="ok"} 2"#), "{}", server.metrics.encode());
    drop(stream);
    server.stop().await;
}

#[tokio::test]
async fn requests_reach_the_broker_in_the_order_sent() {
    let server = Server::start(Fake::new()).await;
    let Stream { requests, mut answers } = Stream::open(&server).await;
    const COUNT: u64 = 3_000;
    let sending = tokio::spawn(async move {
        for id in 0..COUNT {
            requests.send(request(id, batch(Codec::None, &[&id.to_string()]))).await.unwrap();
        }
    });
    let mut offsets = BTreeMap::new();
    while let Some(answer) = soon("an answer", answers.message()).await.unwrap() {
        let Some(Outcome::Receipt(receipt)) = answer.result else { panic!("{answer:?}") };
        offsets.insert(answer.correlation_id, receipt.base_offset as u64);
    }
    sending.await.unwrap();
    assert_eq!(offsets, (0..COUNT).map(|id| (id, id)).collect());
    server.stop().await;
}

#[tokio::test]
async fn full_stream_is_not_read_until_an_answer_leaves() {
    let server = Server::start(Fake::holding()).await;
    let Stream { requests, mut answers } = Stream::open(&server).await;
    let mut submitted = server.fake.submitted.subscribe();
    const COUNT: usize = 2 * limits::PRODUCE_IN_FLIGHT_MAX;
    tokio::spawn(async move {
        let batch = batch(Codec::None, &["a"]);
        for id in 0..COUNT {
            requests.send(request(id as u64, batch.clone())).await.unwrap();
        }
    });
    for answered in 0..50 {
        let full = limits::PRODUCE_IN_FLIGHT_MAX + answered;
        soon("the stream is filled again", submitted.wait_for(|count| *count == full)).await.unwrap();
        server.fake.answers.add_permits(1);
        soon("an answer", answers.message()).await.unwrap().expect("an answer");
    }
    server.fake.answers.add_permits(COUNT);
    while soon("an answer", answers.message()).await.unwrap().is_some() {}
    assert_eq!(*submitted.borrow(), COUNT);
    assert_eq!(server.fake.in_flight_max(), limits::PRODUCE_IN_FLIGHT_MAX, "never more");
    server.stop().await;
}

/// Otherwise one stream that wants no answers could hold the produce budget of the whole node.
#[tokio::test]
async fn requests_without_acknowledgement_count_against_their_stream_too() {
    let server = Server::start(Fake::holding()).await;
    let Stream { requests, answers } = Stream::open(&server).await;
    let mut submitted = server.fake.submitted.subscribe();
    let batch = batch(Codec::None, &["a"]);
    tokio::spawn(async move {
        for id in 0..2 * limits::PRODUCE_IN_FLIGHT_MAX as u64 {
            let request = v1::ProduceRequest { acks: v1::Acks::None.into(), ..request(id, batch.clone()) };
            if requests.send(request).await.is_err() {
                return;
            }
        }
    });
    let full = limits::PRODUCE_IN_FLIGHT_MAX;
    soon("the stream is filled", submitted.wait_for(|count| *count == full)).await.unwrap();
    for answered in 1..20 {
        server.fake.answers.add_permits(1);
        soon("one more is read", submitted.wait_for(|count| *count == full + answered)).await.unwrap();
    }
    assert_eq!(server.fake.in_flight_max(), full);
    drop(answers);
    server.stop().await;
}

#[tokio::test]
async fn used_up_budget_holds_the_stream_back_and_answers_still_leave() {
    let fake = Fake::holding();
    let one = batch(Codec::None, &["a"]);
    // Room for two batches.
    fake.budget.forget_permits((1 << 30) - 2 * one.len());
    let server = Server::start(fake).await;
    let mut stream = Stream::open(&server).await;
    let mut submitted = server.fake.submitted.subscribe();
    for id in 0..4 {
        stream.send(request(id, one.clone())).await;
    }
    soon("two are admitted", submitted.wait_for(|count| *count == 2)).await.unwrap();
    for answered in 0..4_u64 {
        assert!(server.fake.in_flight_max() <= 2);
        server.fake.answers.add_permits(1);
        assert_eq!(stream.receipt().await.1.base_offset as u64, answered);
    }
    server.stop().await;
}

#[tokio::test]
async fn refusals_name_the_value_and_the_stream_goes_on() {
    let server = Server::start(Fake::new()).await;
    let mut stream = Stream::open(&server).await;
    let good = request(0, batch(Codec::None, &["a"]));
    let with = |change: fn(&mut v1::ProduceRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    type Row = (v1::ProduceRequest, ErrorCode, &'static str);
    let table: Vec<Row> = vec![
        (with(|r| r.topic = "none".into()), ErrorCode::UnknownTopic, "\"none\""),
        (with(|r| r.topic = String::new()), ErrorCode::InvalidRequest, "empty"),
        (with(|r| r.topic = "x".repeat(300)), ErrorCode::InvalidRequest, "300 bytes"),
        (with(|r| r.partition = -7), ErrorCode::InvalidRequest, "-7"),
        (with(|r| r.partition = 1), ErrorCode::NotLeader, "two:7070"),
        (with(|r| r.acks = 9), ErrorCode::InvalidRequest, "acks is 9"),
        (with(|r| r.timeout_ms = 300_001), ErrorCode::InvalidRequest, "300001"),
        (with(|r| r.payload = None), ErrorCode::InvalidRequest, "neither batch nor records"),
        (with(|r| r.expected_offset = Some(-2)), ErrorCode::InvalidRequest, "-2"),
        (with(|r| r.expected_offset = Some(5)), ErrorCode::WrongOffset, "expected next offset 5, it is 0"),
        (with(|r| r.payload = Some(Payload::Batch(Bytes::from_static(b"junk")))), ErrorCode::CorruptBatch, "4 bytes"),
        (
            with(|r| r.payload = Some(Payload::Records(v1::Records::default()))),
            ErrorCode::InvalidRequest,
            "at least one record",
        ),
        (
            with(|r| r.payload = Some(Payload::Records(v1::Records { compression: 5, ..Default::default() }))),
            ErrorCode::InvalidRequest,
            "compression is 5",
        ),
    ];
    for (id, (mut request, code, text)) in table.into_iter().enumerate() {
        request.correlation_id = id as u64;
        stream.send(request).await;
        let (answered, error) = stream.error().await;
        assert_eq!((answered, error.code()), (id as u64, code), "{error:?}");
        assert!(error.message.contains(text), "{:?} lacks {text:?}", error.message);
        assert_eq!(error.effect(), v1::Effect::None);
    }
    stream.send(good).await;
    assert_eq!(stream.receipt().await.1.base_offset, 0, "nothing was appended before");
    server.stop().await;
}

fn silent(correlation_id: u64, partition: i32) -> v1::ProduceRequest {
    let batch = batch(Codec::None, &[&correlation_id.to_string()]);
    v1::ProduceRequest { acks: v1::Acks::None.into(), partition, ..request(correlation_id, batch) }
}

#[tokio::test]
async fn acks_none_is_never_answered() {
    let server = Server::start(Fake::new()).await;
    let mut stream = Stream::open(&server).await;
    stream.send(silent(1, 0)).await;
    stream.send(request(3, batch(Codec::None, &["c"]))).await;
    let (id, receipt) = stream.receipt().await;
    assert_eq!((id, receipt.base_offset), (3, 1));
    server.stop().await;
}

#[tokio::test]
async fn the_first_refusal_with_acks_none_ends_the_stream_and_says_why() {
    // Refused at once, and refused after a while.
    for later in [false, true] {
        let server = Server::start(Fake::holding()).await;
        let mut stream = Stream::open(&server).await;
        stream.send(request(1, batch(Codec::None, &["answered first"]))).await;
        stream.send(silent(2, if later { Fake::FAILS_LATER } else { 1 })).await;
        stream.send(silent(3, 0)).await;
        let mut submitted = server.fake.submitted.subscribe();
        soon("all before it", submitted.wait_for(|count| *count > usize::from(later))).await.unwrap();
        server.fake.answers.add_permits(1);
        if later {
            server.fake.answers.add_permits(10);
        }
        assert_eq!(stream.receipt().await.0, 1, "what is answered is answered before");
        let status = soon("the end", stream.answers.message()).await.expect_err("an error ends it");
        let error = error_of(&status);
        assert_eq!(error.code(), ErrorCode::NotLeader, "{error:?}");
        assert_eq!(error.leader.map(|leader| leader.broker), Some(2));
        server.stop().await;
    }
}

#[tokio::test]
async fn the_end_of_a_stream_with_acks_none_comes_once_everything_has_its_outcome_or_soon() {
    let server = Server::start(Fake::holding()).await;
    let Stream { requests, mut answers } = Stream::open(&server).await;
    let mut submitted = server.fake.submitted.subscribe();
    for id in 0..3 {
        requests.send(silent(id, 0)).await.unwrap();
    }
    drop(requests);
    soon("all three", submitted.wait_for(|count| *count == 3)).await.unwrap();
    server.fake.answers.add_permits(2);
    let began = tokio::time::Instant::now();
    assert!(soon("the end", answers.message()).await.unwrap().is_none());
    assert!(began.elapsed() > limits::SILENT_OUTCOMES_WAIT / 2, "one has no outcome: {:?}", began.elapsed());
    // A refusal that comes meanwhile is told.
    let Stream { requests, mut answers } = Stream::open(&server).await;
    requests.send(silent(4, Fake::FAILS_LATER)).await.unwrap();
    drop(requests);
    soon("it is there", submitted.wait_for(|count| *count == 4)).await.unwrap();
    server.fake.answers.add_permits(2);
    let status = soon("the end", answers.message()).await.expect_err("refused");
    assert_eq!(error_of(&status).code(), ErrorCode::NotLeader);
    server.stop().await;
}

#[tokio::test]
async fn requests_with_acks_none_count_against_the_streams_share() {
    let server = Server::start(Fake::holding()).await;
    let Stream { requests, answers: _answers } = Stream::open(&server).await;
    let mut submitted = server.fake.submitted.subscribe();
    tokio::spawn(async move {
        for id in 0..2 * limits::PRODUCE_IN_FLIGHT_MAX as u64 {
            requests.send(silent(id, 0)).await.unwrap();
        }
        std::future::pending::<()>().await;
    });
    let full = limits::PRODUCE_IN_FLIGHT_MAX;
    soon("the stream is full", submitted.wait_for(|count| *count == full)).await.unwrap();
    server.fake.answers.add_permits(1);
    soon("one more", submitted.wait_for(|count| *count == full + 1)).await.unwrap();
    assert_eq!(server.fake.in_flight_max(), full, "never more");
    server.fake.answers.add_permits(limits::PRODUCE_IN_FLIGHT_MAX * 2);
    server.stop().await;
}

#[tokio::test]
async fn plain_records_become_one_batch_with_the_compression_asked_for() {
    let server = Server::start(Fake::new()).await;
    let mut stream = Stream::open(&server).await;
    let plain = |value: &'static str, timestamp_ms| v1::Record {
        key: Some(Bytes::from_static(b"k")),
        value: Some(Bytes::from_static(value.as_bytes())),
        headers: vec![v1::Header { key: "h".into(), value: None }],
        timestamp_ms,
        offset: 99,
    };
    let records =
        v1::Records { records: vec![plain("a", Some(5)), plain("b", None)], compression: v1::Compression::Zstd.into() };
    stream.send(v1::ProduceRequest { payload: Some(Payload::Records(records)), ..request(1, Bytes::new()) }).await;
    assert_eq!(stream.receipt().await.1.count, 2);
    let sent = server.fake.requests()[0].batch.clone();
    assert_eq!(crate::record::BatchHeader::parse(&sent).unwrap().codec().unwrap(), Codec::Zstd);
    let decoded = crate::record::decode_records(&sent, 1 << 20).unwrap();
    let record = |value: &'static str, timestamp| Record {
        key: Some(Bytes::from_static(b"k")),
        value: Some(Bytes::from_static(value.as_bytes())),
        headers: vec![("h".into(), None)],
        timestamp: WallMs(timestamp),
    };
    // The broker's clock stands in where the client names no time.
    assert_eq!(decoded, [(Offset(0), record("a", 5)), (Offset(1), record("b", 1_000))]);
    server.stop().await;
}

#[tokio::test]
async fn oversized_message_ends_the_stream_after_what_was_pending() {
    let server = Server::start(Fake::holding()).await;
    let mut stream = Stream::open(&server).await;
    stream.send(request(1, batch(Codec::None, &["a"]))).await;
    stream.send(request(2, vec![0; limits::PRODUCE_MESSAGE_BYTES_MAX].into())).await;
    let mut submitted = server.fake.submitted.subscribe();
    soon("the first is with the broker", submitted.wait_for(|count| *count == 1)).await.unwrap();
    server.fake.answers.add_permits(1);
    assert_eq!(stream.receipt().await.0, 1);
    let status = soon("the end", stream.answers.message()).await.unwrap_err();
    assert_eq!((status.code(), error_of(&status).code()), (Code::InvalidArgument, ErrorCode::BatchTooLarge));
    server.stop().await;
}

#[tokio::test]
async fn stopping_answers_what_is_pending_and_then_says_so() {
    let server = Server::start(Fake::holding()).await;
    let mut stream = Stream::open(&server).await;
    stream.send(request(1, batch(Codec::None, &["a"]))).await;
    let mut submitted = server.fake.submitted.subscribe();
    soon("it is with the broker", submitted.wait_for(|count| *count == 1)).await.unwrap();
    server.stop.cancel();
    server.fake.answers.add_permits(1);
    assert_eq!(stream.receipt().await.0, 1);
    let status = soon("the end", stream.answers.message()).await.unwrap_err();
    assert_eq!(error_of(&status).code(), ErrorCode::Unavailable);
    drop(stream);
    server.stop().await;
}
