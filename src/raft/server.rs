//! The node listener: the other ends of [`Link`](super::link::Link)s. Each stream that says hello gets a
//! [`Session`].

use std::{pin::Pin, task, time::Duration};

use futures_util::Stream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::timeout,
};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::Connected},
};

use super::{
    lanes::Lanes,
    link::next,
    session::{Session, SessionDeps},
    wire::{FRAME_BYTES_MAX, Frame, Hello, Kind, decode_control, encode_control},
};
use crate::{
    proto::internal::{
        self,
        node_server::{Node, NodeServer},
    },
    seam::{ConnectionLimits, GuardedListener, GuardedStream, Listener, Silence},
};

/// Nodes that may link here, twice, since an old connection may linger beside its successor.
const CONNECTIONS_MAX: usize = 2_048;
/// Peers ping five times a second: who says nothing for this long is none.
const SILENT_MAX: Duration = Duration::from_secs(10);
/// A peer needs one; the rest is for a reconnect that overtakes the end of the last.
const STREAMS_MAX: u32 = 8;
const HEADERS_BYTES_MAX: u32 = 16 << 10;
const HELLO_WITHIN: Duration = Duration::from_secs(2);
const STREAM_WINDOW_BYTES: u32 = 8 << 20;

/// Serves the node listener until the task is aborted.
pub(super) async fn serve(deps: SessionDeps, listener: Box<dyn Listener>) {
    let limits = ConnectionLimits { connections_max: CONNECTIONS_MAX, silence: Silence::Always(SILENT_MAX) };
    let listener = GuardedListener::new(listener, "peer", limits);
    let incoming = futures_util::stream::unfold(listener, |mut listener| async move {
        let (stream, _) = listener.accept().await;
        Some((Ok::<_, std::io::Error>(Io(stream)), listener))
    });
    let limit = FRAME_BYTES_MAX + 64;
    let node = NodeServer::new(Service(deps)).max_decoding_message_size(limit).max_encoding_message_size(limit);
    let server = Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEADERS_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(STREAM_WINDOW_BYTES)
        .add_service(node);
    if let Err(e) = server.serve_with_incoming(incoming).await {
        tracing::error!(error = %e, "node listener stopped");
    }
}

struct Io(GuardedStream);

impl Connected for Io {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &[u8],
    ) -> task::Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

struct Service(SessionDeps);

#[tonic::async_trait]
impl Node for Service {
    type LinkStream = Pin<Box<dyn Stream<Item = Result<internal::Frame, Status>> + Send>>;

    async fn link(&self, request: Request<Streaming<internal::Frame>>) -> Result<Response<Self::LinkStream>, Status> {
        let mut incoming = request.into_inner();
        let first = timeout(HELLO_WITHIN, next(&mut incoming)).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no hello"))?.map_err(Status::invalid_argument)?;
        let hello: Hello = decode_control(&first.body).map_err(|e| Status::invalid_argument(e.to_string()))?;
        if first.kind != Kind::Hello {
            return Err(Status::invalid_argument("the first frame must be a hello"));
        }
        // From before the answer, so that no change after it is missed.
        let cluster = self.0.ground.cluster.subscribe();
        self.0.greeter.check(&hello, None).map_err(Status::failed_precondition)?;
        let (replies, outgoing) = Lanes::new();
        self.0.links.learn(&hello);
        let ours = Frame::control(Kind::Hello, 0, encode_control(&self.0.greeter.hello_to(hello.from))).encode();
        replies.send_first(Ok(internal::Frame { data: ours }));
        let session = Session::new(self.0.clone(), &hello, replies);
        let stopping = self.0.ground.stopping.clone();
        tokio::spawn(async move { stopping.run_until_cancelled(session.run(incoming, cluster)).await });
        Ok(Response::new(Box::pin(outgoing)))
    }
}
