//! Accepted byte streams as tonic wants them.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{Stream, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

use crate::{
    broker::held::Closer,
    metrics::RequestProbe,
    seam::{GuardedListener, GuardedStream},
};

/// Accepts connections for ever.
pub(super) fn incoming(
    listener: GuardedListener,
    probe: RequestProbe,
) -> impl Stream<Item = Result<Connection, Infallible>> + Send {
    stream::unfold((listener, probe), |(mut listener, probe)| async move {
        let (stream, from) = listener.accept().await;
        probe.connection_opened();
        let connection = Connection { stream, caller: Origin { from, closer: Arc::default() }, probe: probe.clone() };
        Some((Ok(connection), (listener, probe)))
    })
}

/// What each request knows of its connection.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// Where the client is.
    pub from: SocketAddr,
    pub closer: Arc<Closer>,
}

/// A client's connection.
pub(super) struct Connection {
    stream: GuardedStream,
    caller: Origin,
    probe: RequestProbe,
}

impl Connection {
    /// Fails if the connection is to be closed. HTTP/2 reads while a connection lives, so that this is noticed.
    fn check_open(&self, cx: &Context<'_>) -> io::Result<()> {
        self.caller.closer.wake_at_close(cx.waker());
        match self.caller.closer.is_closed() {
            true => Err(io::Error::new(io::ErrorKind::TimedOut, "others waited for what this peer held up")),
            false => Ok(()),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.probe.connection_closed();
    }
}

impl Connected for Connection {
    type ConnectInfo = Origin;

    fn connect_info(&self) -> Origin {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check_open(cx)?;
        Pin::new(&mut this.stream).poll_read(cx, buf)
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
