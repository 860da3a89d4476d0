//! One broker behind a listener in memory, and clients of it that speak the codec's other side.

use std::{
    io,
    net::SocketAddr,
    sync::atomic::{AtomicI32, Ordering::Relaxed},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use kafka_wire::{
    KafkaRequest, OutboundFrameLimits, RequestResponsePair, ResponseHeader, encode_request, response_header_version_for,
};
use kafka_wire_core::{ApiVersion, DecodeLimits, Decoder, KafkaDecode, KafkaEncode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::super::{KafkaOptions, serve};
use crate::{
    broker::{
        Broker,
        tests::rig::{Cluster, PATIENCE},
    },
    seam::{Listener, NetFuture, Stream},
};

/// What a connection in memory holds in each direction.
pub const PIPE_BYTES: usize = 64 << 10;
/// Connections that the listener has not accepted yet.
const OPENED_MAX: usize = 1_024;

/// Accepts what is put into it.
struct Pipes {
    opened: mpsc::Receiver<Box<dyn Stream>>,
}

impl Listener for Pipes {
    fn accept(&mut self) -> NetFuture<'_, (Box<dyn Stream>, SocketAddr)> {
        Box::pin(async move {
            match self.opened.recv().await {
                Some(stream) => Ok((stream, ([192, 0, 2, 1], 4321).into())),
                None => std::future::pending().await,
            }
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(([127, 0, 0, 1], 9092).into())
    }
}

/// Kafka's listener of one broker. It ends with this.
pub struct Face {
    open: mpsc::Sender<Box<dyn Stream>>,
    _stop: DropGuard,
}

impl Face {
    pub fn of(broker: &Broker, metrics: crate::metrics::Metrics) -> Face {
        Face::with(broker, metrics, Some(1))
    }

    pub fn with(broker: &Broker, metrics: crate::metrics::Metrics, auto_create: Option<u32>) -> Face {
        let (open, opened) = mpsc::channel(OPENED_MAX);
        let options = KafkaOptions {
            connections_max: 10_000,
            descriptors_max: usize::MAX,
            auto_create,
            log_dir: "/data".into(),
            metrics,
        };
        let stop = CancellationToken::new();
        tokio::spawn(serve(broker.clone(), Box::new(Pipes { opened }), options, stop.clone()));
        Face { open, _stop: stop.drop_guard() }
    }

    pub fn connect(&self) -> Wire {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        self.accept(Box::new(theirs));
        Wire::over(Box::new(ours))
    }

    /// Serves a stream, whatever it is made of.
    pub fn accept(&self, stream: Box<dyn Stream>) {
        self.open.try_send(stream).expect("the listener runs, and takes them");
    }
}

/// A cluster of one broker with Kafka's listener.
pub struct Alone {
    pub cluster: Cluster,
    pub face: Face,
}

impl Alone {
    pub async fn start(seed: u64) -> Alone {
        let cluster = Cluster::start(1, seed).await;
        let node = &cluster.nodes[&1];
        let face = Face::of(&node.broker, node.metrics.clone());
        Alone { cluster, face }
    }

    pub fn broker(&self) -> Broker {
        self.cluster.broker(1)
    }
}

/// One connection.
pub struct Wire {
    stream: Box<dyn Stream>,
    next: AtomicI32,
}

impl Wire {
    /// A client on its end of a stream.
    pub fn over(stream: Box<dyn Stream>) -> Wire {
        Wire { stream, next: AtomicI32::new(1) }
    }

    /// Asks, and waits for the answer.
    pub async fn ask<R: RequestResponsePair>(&mut self, version: i16, request: &R) -> R::Response {
        let asked = self.send(version, request).await;
        self.receive::<R>(version, asked).await
    }

    /// Sends a request, and does not wait. Its correlation id.
    pub async fn send<R: KafkaRequest + KafkaEncode>(&mut self, version: i16, request: &R) -> i32 {
        let correlation = self.next.fetch_add(1, Relaxed);
        let bytes = frame(correlation, version, request);
        self.write(&bytes).await;
        correlation
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        let written = async {
            self.stream.write_all(bytes).await?;
            // TLS keeps what the stream below did not take yet.
            self.stream.flush().await
        };
        timeout(PATIENCE, written).await.expect("it is taken").expect("it is open");
    }

    /// The next answer, which must be that of `asked`.
    pub async fn receive<R: RequestResponsePair>(&mut self, version: i16, asked: i32) -> R::Response {
        let frame = self.frame().await.expect("an answer comes");
        let limits = DecodeLimits::default();
        let mut decoder = Decoder::new(frame, limits).expect("it is within limits");
        let header = response_header_version_for::<R>(ApiVersion::new(version)).expect("the version exists");
        let header = ResponseHeader::decode(&mut decoder, ApiVersion::new(header)).expect("a header");
        assert_eq!(header.correlation_id, asked, "answers come in the order of their requests");
        let response = R::Response::decode(&mut decoder, ApiVersion::new(version)).expect("an answer of this version");
        decoder.finish().expect("nothing follows it");
        response
    }

    /// The next answer's bytes after its length. None: the connection was closed.
    pub async fn frame(&mut self) -> Option<Bytes> {
        let mut length = [0; 4];
        let read = timeout(PATIENCE, self.stream.read_exact(&mut length)).await.expect("an answer, or the end");
        read.ok()?;
        let length = usize::try_from((&length[..]).get_i32()).expect("lengths are positive");
        let mut frame = BytesMut::zeroed(length);
        timeout(PATIENCE, self.stream.read_exact(&mut frame)).await.expect("the rest").expect("the rest");
        Some(frame.freeze())
    }

    /// Nothing comes within a moment, and the connection stays open.
    pub async fn is_silent(&mut self) -> bool {
        let mut byte = [0];
        timeout(Duration::from_millis(200), self.stream.read(&mut byte)).await.is_err()
    }

    /// The broker closes the connection, without a word.
    pub async fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        matches!(timeout(PATIENCE, self.stream.read(&mut byte)).await, Ok(Ok(0) | Err(_)))
    }
}

/// A whole request as a client writes it.
pub fn frame<R: KafkaRequest + KafkaEncode>(correlation: i32, version: i16, request: &R) -> Bytes {
    let mut bytes = BytesMut::new();
    let limits = OutboundFrameLimits::new(1 << 30);
    encode_request(&mut bytes, correlation, Some("test".into()), request, ApiVersion::new(version), limits)
        .expect("the request can be written in this version");
    bytes.freeze()
}
