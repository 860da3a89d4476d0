use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{
    Code,
    client::Grpc,
    codec::{BufferSettings, Codec, DecodeBuf, EncodeBuf, Encoder},
};

use super::*;
use crate::proto::{GROUP_ELEMENTS_MAX, PRODUCE_ELEMENTS_MAX, v1::topics_client::TopicsClient};

async fn works(server: &Server) {
    let mut topics = TopicsClient::new(server.channel().await);
    assert_eq!(topics.list_topics(v1::ListTopicsRequest {}).await.unwrap().into_inner().topics.len(), 1);
}

#[tokio::test]
async fn garbage_bytes_do_not_kill_the_listener() {
    let server = Server::start(Fake::new()).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let with = |rest: &[u8]| [&preface[..], rest].concat();
    for garbage in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xff; 100_000],
        // A frame that claims 16 MiB, a SETTINGS frame cut short, a HEADERS frame of junk.
        with(&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1, 1, 2, 3]),
        with(&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0]),
        with(&[&[0, 0, 0, 4, 0, 0, 0, 0, 0][..], &[0, 0, 40, 1, 4, 0, 0, 0, 1], &[0xfe; 40]].concat()),
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        // The server may close while we write.
        stream.write_all(&garbage).await.ok();
        stream.shutdown().await.ok();
        let mut answer = Vec::new();
        soon("the server closes", stream.read_to_end(&mut answer)).await.ok();
    }
    works(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn connection_over_the_limit_is_closed_and_one_that_leaves_makes_room() {
    let server = Server::with_options(Fake::new(), 2, 0).await;
    let (first, _second) = (server.channel().await, server.channel().await);
    let mut topics = TopicsClient::new(first.clone());
    topics.list_topics(v1::ListTopicsRequest {}).await.unwrap();
    let mut refused = TcpStream::connect(server.address).await.unwrap();
    let mut byte = [0];
    let read = soon("the refusal", refused.read(&mut byte)).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    drop((topics, first));
    soon("room again", async {
        loop {
            let channel = Channel::from_shared(format!("http://{}", server.address)).unwrap().connect_lazy();
            if TopicsClient::new(channel).list_topics(v1::ListTopicsRequest {}).await.is_ok() {
                break;
            }
        }
    })
    .await;
}

/// Sends bytes as they are where a message is due.
#[derive(Clone, Default)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = ();
    type Encoder = RawCodec;
    type Decoder = RawCodec;
    fn encoder(&mut self) -> RawCodec {
        RawCodec
    }
    fn decoder(&mut self) -> RawCodec {
        RawCodec
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = tonic::Status;
    fn encode(&mut self, item: Bytes, buf: &mut EncodeBuf<'_>) -> Result<(), tonic::Status> {
        bytes::BufMut::put(buf, item);
        Ok(())
    }
    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl tonic::codec::Decoder for RawCodec {
    type Item = ();
    type Error = tonic::Status;
    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<()>, tonic::Status> {
        bytes::Buf::advance(buf, bytes::Buf::remaining(buf));
        Ok(Some(()))
    }
    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

async fn raw_call(server: &Server, path: &'static str, message: Bytes) -> tonic::Status {
    let mut grpc = Grpc::new(server.channel().await);
    grpc.ready().await.unwrap();
    let requests = tonic::Request::new(tokio_stream::iter([message]));
    let path = http::uri::PathAndQuery::from_static(path);
    let result = soon("an end", async {
        let mut answers = grpc.streaming(requests, path, RawCodec).await?.into_inner();
        while answers.message().await?.is_some() {}
        Ok::<_, tonic::Status>(())
    });
    result.await.unwrap_err()
}

/// The beginning of a message, and then nothing.
struct Half(Option<Bytes>);

impl http_body::Body for Half {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, tonic::Status>>> {
        match self.0.take() {
            Some(bytes) => std::task::Poll::Ready(Some(Ok(http_body::Frame::data(bytes)))),
            None => std::task::Poll::Pending,
        }
    }
}

/// Calls that claim 3 MiB each and send a half: the node holds few of them, ends all, and serves the others.
#[tokio::test]
async fn half_sent_messages_hold_little_and_keep_nobody_out() {
    use futures_util::{StreamExt, stream::FuturesUnordered};
    use tower::Service;

    let server = Server::start(Fake::new()).await;
    let bytes = limits::GROUPS_REQUEST_BYTES_MAX;
    let mut half = vec![0];
    half.extend((bytes as u32).to_be_bytes());
    half.resize(bytes / 2, 7);
    let mut calls = FuturesUnordered::new();
    const CALLS: usize = 80;
    for _ in 0..CALLS / 8 {
        let mut channel = server.channel().await;
        for _ in 0..8 {
            let request = http::Request::post(format!("http://{}/flotilla.v1.Groups/Heartbeat", server.address))
                .header("content-type", "application/grpc")
                .body(tonic::body::Body::new(Half(Some(half.clone().into()))));
            std::future::poll_fn(|cx| channel.poll_ready(cx)).await.unwrap();
            calls.push(channel.call(request.unwrap()));
        }
    }
    let mut ended = 0;
    // The last ones, for whose room nobody waits, end with the deadline of their call.
    let within = limits::RECEIVE_WITHIN + PATIENCE;
    while let Some(answer) = tokio::time::timeout(within, calls.next()).await.expect("every half call ends") {
        ended += 1;
        if let Ok(answer) = answer {
            let status = tonic::Status::from_header_map(answer.headers()).expect("refused");
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        }
        let text = server.metrics.encode();
        let held = text.lines().find_map(|line| line.strip_prefix("flotilla_receive_in_flight_bytes "));
        let held: usize = held.expect("a gauge").parse().unwrap();
        assert!(held <= limits::LARGE_RECEIVE_BYTES_MAX + limits::SMALL_RECEIVE_BYTES_MAX, "{held}");
        works(&server).await;
    }
    assert_eq!(ended, CALLS);
    server.stop().await;
}

/// Readers that never read hold what the budget allows, until others want it.
#[tokio::test]
async fn consumers_that_take_no_answers_do_not_keep_others_from_reading() {
    let fake = Fake::new();
    fake.append(&batch(crate::record::Codec::None, &[&"x".repeat(900_000)]));
    let server = Server::with_options(fake, 64, 2 << 20).await;
    let request = || v1::ConsumeRequest {
        topic: fake::TOPIC.into(),
        raw: true,
        stop_at_end: true,
        start: Some(v1::consume_request::Start::Earliest(true)),
        ..v1::ConsumeRequest::default()
    };
    let mut stuck = Vec::new();
    for _ in 0..4 {
        // A window so small that no answer fits.
        let endpoint = Channel::from_shared(format!("http://{}", server.address)).unwrap();
        let channel = endpoint.initial_stream_window_size(1_024).initial_connection_window_size(65_535);
        let mut client = v1::consume_client::ConsumeClient::new(channel.connect().await.unwrap());
        stuck.push(client.consume(request()).await.unwrap().into_inner());
    }
    let mut client = v1::consume_client::ConsumeClient::new(server.channel().await).max_decoding_message_size(4 << 20);
    let mut answers = client.consume(request()).await.unwrap().into_inner();
    let answer = tokio::time::timeout(2 * PATIENCE, answers.message()).await.expect("its turn comes").unwrap();
    assert_eq!(answer.unwrap().next_offset, 1);
    let text = server.metrics.encode();
    assert!(text.contains("flotilla_slow_peers_closed_total{reason=\"answers that are not taken\"}"), "{text}");
    server.stop().await;
}

#[tokio::test]
async fn undecodable_messages_end_their_call_only() {
    let server = Server::start(Fake::new()).await;
    for path in [
        "/flotilla.v1.Topics/CreateTopic",
        "/flotilla.v1.Consume/Consume",
        "/flotilla.v1.Produce/Produce",
        "/flotilla.v1.Groups/Heartbeat",
        "/flotilla.v1.Groups/CommitOffsets",
    ] {
        for garbage in [&[0xff; 50][..], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f], &[0x0a, 0x02, 0xc3, 0x28]] {
            let status = raw_call(&server, path, Bytes::copy_from_slice(garbage)).await;
            assert!(matches!(status.code(), Code::Internal | Code::InvalidArgument), "{path}: {status:?}");
        }
    }
    let large = raw_call(&server, "/flotilla.v1.Topics/CreateTopic", vec![0; limits::REQUEST_BYTES_MAX + 1].into());
    assert_eq!(large.await.code(), Code::OutOfRange);
    let large = vec![0; limits::GROUPS_REQUEST_BYTES_MAX + 1].into();
    assert_eq!(raw_call(&server, "/flotilla.v1.Groups/Heartbeat", large).await.code(), Code::OutOfRange);
    assert_eq!(raw_call(&server, "/flotilla.v1.Topics/Nothing", Bytes::new()).await.code(), Code::Unimplemented);
    works(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn flood_of_empty_records_is_refused_before_it_is_decoded() {
    let server = Server::start(Fake::new()).await;
    // Field 7, then records of two bytes each.
    let records = [0x0a, 0x00].repeat(PRODUCE_ELEMENTS_MAX + 1);
    let mut message = vec![0x3a];
    prost::encoding::encode_varint(records.len() as u64, &mut message);
    message.extend(records);
    let status = raw_call(&server, "/flotilla.v1.Produce/Produce", message.into()).await;
    assert_eq!(error_of(&status).code(), v1::ErrorCode::BatchTooLarge, "{status:?}");
    server.stop().await;
}

#[tokio::test]
async fn flood_of_empty_sets_is_refused_before_it_is_decoded() {
    let server = Server::start(Fake::new()).await;
    for (path, field) in [
        ("/flotilla.v1.Groups/Heartbeat", 5),
        ("/flotilla.v1.Groups/CommitOffsets", 4),
        ("/flotilla.v1.Groups/FetchOffsets", 2),
        ("/flotilla.v1.Groups/DeleteOffsets", 2),
    ] {
        let message = [(field << 3) | 2, 0].repeat(GROUP_ELEMENTS_MAX + 1);
        let status = raw_call(&server, path, message.into()).await;
        assert_eq!(status.code(), Code::ResourceExhausted, "{path}: {status:?}");
        let message = [(field << 3) | 2, 0].repeat(GROUP_ELEMENTS_MAX);
        let status = raw_call(&server, path, message.into()).await;
        assert_eq!(status.code(), Code::InvalidArgument, "decoded, and refused for what it says: {path}: {status:?}");
    }
    works(&server).await;
    server.stop().await;
}
