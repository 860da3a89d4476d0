//! Accepted byte streams as tonic wants them.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{Stream, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

use crate::{
    metrics::RequestProbe,
    seam::{GuardedListener, GuardedStream},
};

/// Accepts for ever.
pub(super) fn incoming(
    listener: GuardedListener,
    probe: RequestProbe,
) -> impl Stream<Item = Result<Connection, Infallible>> + Send {
    stream::unfold((listener, probe), |(mut listener, probe)| async move {
        let (stream, from) = listener.accept().await;
        probe.connection_opened();
        let connection = Connection { stream, from, probe: probe.clone() };
        Some((Ok(connection), (listener, probe)))
    })
}

/// A client's connection.
pub(super) struct Connection {
    stream: GuardedStream,
    from: SocketAddr,
    probe: RequestProbe,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.probe.connection_closed();
    }
}

impl Connected for Connection {
    /// Where the client is.
    type ConnectInfo = SocketAddr;

    fn connect_info(&self) -> SocketAddr {
        self.from
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
