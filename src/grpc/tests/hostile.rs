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
