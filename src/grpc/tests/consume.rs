use tonic::{Code, Streaming};

use super::{fake::TOPIC, *};
use crate::proto::v1::{ErrorCode, consume_client::ConsumeClient, consume_request::Start, consume_response::Data};

async fn consume(
    server: &Server,
    request: v1::ConsumeRequest,
) -> Result<Streaming<v1::ConsumeResponse>, tonic::Status> {
    let mut client = ConsumeClient::new(server.channel().await).max_decoding_message_size(64 << 20);
    Ok(soon("the stream opens", client.consume(request)).await?.into_inner())
}

fn from(start: Start) -> v1::ConsumeRequest {
    v1::ConsumeRequest { topic: TOPIC.into(), start: Some(start), stop_at_end: true, ..Default::default() }
}

/// Every record until the stream ends, and the last next_offset.
async fn all(server: &Server, request: v1::ConsumeRequest) -> Result<(Vec<(i64, String)>, i64), tonic::Status> {
    let mut stream = consume(server, request).await?;
    let (mut records, mut next) = (Vec::new(), -1);
    while let Some(answer) = soon("an answer or the end", stream.message()).await? {
        assert!(answer.next_offset > next, "each answer moves on");
        next = answer.next_offset;
        match answer.data.expect("data") {
            Data::Records(found) => records.extend(
                found
                    .records
                    .into_iter()
                    .map(|record| (record.offset, String::from_utf8(record.value.expect("a value").to_vec()).unwrap())),
            ),
            Data::Batches(bytes) => {
                for batch in crate::record::walk(&bytes) {
                    let (_, range) = batch.unwrap();
                    let decoded = crate::record::decode_records(&bytes.slice(range), 1 << 20).unwrap();
                    records.extend(decoded.into_iter().map(|(offset, record)| {
                        (offset.0, String::from_utf8(record.value.expect("a value").to_vec()).unwrap())
                    }));
                }
            }
        }
    }
    Ok((records, next))
}

/// Starts a server that has the offsets 0..9 with the values "0".."8", in batches of three, each differently
/// compressed.
async fn nine() -> Server {
    let fake = Fake::new();
    fake.append(&batch(Codec::None, &["0", "1", "2"]));
    fake.append(&batch(Codec::Zstd, &["3", "4", "5"]));
    fake.append(&batch(Codec::Lz4, &["6", "7", "8"]));
    Server::start(fake).await
}

fn expected(range: std::ops::Range<i64>) -> Vec<(i64, String)> {
    range.map(|offset| (offset, offset.to_string())).collect()
}

#[tokio::test]
async fn decoded_records_begin_and_end_exactly() {
    let server = nine().await;
    let offset = |at| from(Start::Offset(at));
    for (request, range) in [
        (from(Start::Earliest(true)), 0..9),
        (offset(4), 4..9),
        (offset(9), 9..9),
        (from(Start::Latest(true)), 9..9),
        (v1::ConsumeRequest { end_offset: Some(7), ..offset(4) }, 4..7),
        (v1::ConsumeRequest { end_offset: Some(700), ..offset(4) }, 4..9),
        (v1::ConsumeRequest { end_offset: Some(3), ..offset(4) }, 4..4),
        (v1::ConsumeRequest { records_max: 4, ..offset(2) }, 2..6),
        (v1::ConsumeRequest { records_max: 4, end_offset: Some(3), ..offset(2) }, 2..3),
        (v1::ConsumeRequest { bytes_max: 1, ..offset(2) }, 2..9),
        // Each batch's records are at 1000, 1001, 1002: the first at or after 1001 is offset 1.
        (from(Start::TimestampMs(1_001)), 1..9),
        (from(Start::TimestampMs(5_000)), 9..9),
    ] {
        let (records, _) = all(&server, request.clone()).await.unwrap();
        assert_eq!(records, expected(range), "{request:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn raw_answers_are_whole_batches_that_cover_what_was_asked() {
    let server = nine().await;
    let offset = |at| v1::ConsumeRequest { raw: true, ..from(Start::Offset(at)) };
    for (request, range) in [
        (offset(0), 0..9),
        (offset(4), 3..9),
        (offset(9), 9..9),
        (v1::ConsumeRequest { end_offset: Some(5), ..offset(1) }, 0..6),
        (v1::ConsumeRequest { records_max: 2, ..offset(1) }, 0..3),
        (v1::ConsumeRequest { records_max: 3, ..offset(1) }, 0..6),
        (v1::ConsumeRequest { bytes_max: 1, ..offset(0) }, 0..9),
    ] {
        let (records, _) = all(&server, request.clone()).await.unwrap();
        assert_eq!(records, expected(range), "{request:?}");
    }
    server.stop().await;
}

/// SAFETY M11 holds also for a reader that names no topic id: offsets of one topic mean nothing in another.
#[tokio::test]
async fn m11_a_stream_does_not_go_on_in_a_namesake_of_the_topic_that_it_began_with() {
    let server = nine().await;
    let request = v1::ConsumeRequest { stop_at_end: false, wait_ms_max: 1, ..from(Start::Offset(0)) };
    let mut stream = consume(&server, request).await.unwrap();
    assert!(soon("the first answer", stream.message()).await.unwrap().is_some());
    server.fake.replace_topic();
    let error = loop {
        match soon("an answer, or the end", stream.message()).await {
            Ok(answer) => assert!(answer.is_some(), "it ends with an error"),
            Err(error) => break error,
        }
    };
    assert_eq!((error.code(), error_of(&error).code()), (Code::FailedPrecondition, ErrorCode::TopicReplaced));
    server.stop().await;
}

#[tokio::test]
async fn answers_without_budget_are_small_and_complete() {
    let fake = Fake::new();
    let value = "x".repeat(10_000);
    for _ in 0..30 {
        fake.append(&batch(Codec::None, &[&value]));
    }
    // No budget at all.
    let server = Server::with_options(fake, 8, 0).await;
    let (records, next) = all(&server, from(Start::Earliest(true))).await.unwrap();
    assert_eq!((records.len(), next), (30, 30));
    let asked = server.fake.fetch_bytes_max();
    assert!(asked.iter().all(|bytes| *bytes <= limits::CONSUME_SMALL_BYTES), "{asked:?}");
    server.stop().await;
}

#[tokio::test]
async fn large_batch_is_decoded_over_several_answers() {
    let values: Vec<String> = (0..500).map(|i| format!("{i:01000}")).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    for fetch_bytes_max in [0, 1 << 30] {
        let fake = Fake::new();
        fake.append(&batch(Codec::Zstd, &values));
        let server = Server::with_options(fake, 8, fetch_bytes_max).await;
        let request = v1::ConsumeRequest { bytes_max: 100_000, ..from(Start::Earliest(true)) };
        let mut stream = consume(&server, request).await.unwrap();
        let (mut answers, mut next) = (0, 0);
        while let Some(answer) = soon("an answer", stream.message()).await.unwrap() {
            let Some(Data::Records(found)) = answer.data else { panic!("records were asked for") };
            for record in found.records {
                assert_eq!(record.offset, next);
                next += 1;
            }
            answers += 1;
        }
        assert_eq!(next, 500);
        assert!((5..8).contains(&answers), "{answers} answers");
        let fetches = server.fake.fetch_bytes_max().len();
        // Decoded once; where there was no room for it at first, it was read again once there was.
        assert_eq!(fetches, if fetch_bytes_max == 0 { 2 } else { 1 });
        server.stop().await;
    }
}

#[tokio::test]
async fn waiting_stream_tells_the_watermark_and_wakes_on_the_first_record() {
    let server = nine().await;
    let request = v1::ConsumeRequest { stop_at_end: false, wait_ms_max: 1, ..from(Start::Latest(true)) };
    let mut stream = consume(&server, request).await.unwrap();
    let answer = soon("an empty answer", stream.message()).await.unwrap().unwrap();
    assert_eq!((answer.high_watermark, answer.next_offset), (9, 9));
    assert!(super::answer::is_empty(&answer));
    server.fake.append(&batch(Codec::None, &["9"]));
    loop {
        let answer = soon("the record", stream.message()).await.unwrap().unwrap();
        if let Some(Data::Records(found)) = answer.data
            && !found.records.is_empty()
        {
            assert_eq!((found.records.len(), found.records[0].offset, answer.next_offset), (1, 9, 10));
            break;
        }
    }
    drop(stream);
    server.stop().await;
}

#[tokio::test]
async fn earliest_follows_a_log_start_that_moves_under_it() {
    let server = nine().await;
    server.fake.trim_at_next_fetch(6);
    let (records, _) = all(&server, from(Start::Earliest(true))).await.unwrap();
    assert_eq!(records, expected(6..9));
    // So does a time: the first record of it that is kept.
    server.fake.trim_at_next_fetch(7);
    let (records, _) = all(&server, from(Start::TimestampMs(0))).await.unwrap();
    assert_eq!(records, expected(7..9));
    // An offset does not: the client must hear of it.
    let status = all(&server, from(Start::Offset(2))).await.unwrap_err();
    let error = error_of(&status);
    assert_eq!((status.code(), error.code()), (Code::OutOfRange, ErrorCode::OffsetOutOfRange));
    assert_eq!((error.log_start, error.high_watermark), (Some(7), Some(9)));
    let status = all(&server, from(Start::Offset(10))).await.unwrap_err();
    assert_eq!(error_of(&status).code(), ErrorCode::OffsetOutOfRange, "beyond the end, even with stop_at_end");
    server.stop().await;
}

#[tokio::test]
async fn calls_that_make_no_sense_are_refused() {
    let server = nine().await;
    for (request, code, text) in [
        (v1::ConsumeRequest { start: None, ..from(Start::Offset(0)) }, ErrorCode::InvalidRequest, "none of offset"),
        (from(Start::Offset(-1)), ErrorCode::InvalidRequest, "offset is -1"),
        (from(Start::Earliest(false)), ErrorCode::InvalidRequest, "false"),
        (v1::ConsumeRequest { topic: "x".into(), ..from(Start::Latest(true)) }, ErrorCode::UnknownTopic, "\"x\""),
        (v1::ConsumeRequest { partition: 4, ..from(Start::Latest(true)) }, ErrorCode::UnknownPartition, "4"),
        (v1::ConsumeRequest { end_offset: Some(-5), ..from(Start::Offset(0)) }, ErrorCode::InvalidRequest, "-5"),
        (v1::ConsumeRequest { topic_id: "xy".into(), ..from(Start::Offset(0)) }, ErrorCode::InvalidRequest, "\"xy\""),
        (v1::ConsumeRequest { topic_id: "0".repeat(32), ..from(Start::Offset(0)) }, ErrorCode::TopicReplaced, "orders"),
    ] {
        let status = all(&server, request).await.unwrap_err();
        let error = error_of(&status);
        assert_eq!(error.code(), code, "{error:?}");
        assert!(error.message.contains(text), "{:?} lacks {text:?}", error.message);
    }
    server.stop().await;
}

#[tokio::test]
async fn batch_that_cannot_be_decoded_ends_the_stream_after_what_lies_before_it() {
    let fake = Fake::new();
    fake.append(&batch(Codec::None, &["0"]));
    let mut bad = batch(Codec::Zstd, &["1"; 100]).to_vec();
    let end = bad.len() - 1;
    bad[end] ^= 0xff;
    fake.append(&bad);
    fake.append(&batch(Codec::None, &["101"]));
    let server = Server::start(fake).await;
    let mut stream = consume(&server, from(Start::Earliest(true))).await.unwrap();
    assert_eq!(soon("what lies before", stream.message()).await.unwrap().unwrap().next_offset, 1);
    let status = soon("the end", stream.message()).await.unwrap_err();
    let error = error_of(&status);
    assert_eq!(error.code(), ErrorCode::DecompressionFailed);
    assert!(error.message.contains("from 101 on"), "{}", error.message);
    let (records, _) = all(&server, from(Start::Offset(101))).await.unwrap();
    assert_eq!(records, [(101, "101".to_string())]);
    server.stop().await;
}

#[tokio::test]
async fn stopping_ends_a_waiting_stream() {
    let server = nine().await;
    let request = v1::ConsumeRequest { stop_at_end: false, wait_ms_max: 60_000, ..from(Start::Latest(true)) };
    let mut stream = consume(&server, request).await.unwrap();
    server.stop.cancel();
    let status = soon("the end", stream.message()).await.unwrap_err();
    assert_eq!((status.code(), error_of(&status).code()), (Code::Unavailable, ErrorCode::Unavailable));
    drop(stream);
    server.stop().await;
}
