//! Accepting connections from anybody: at most so many at once, and none that holds its place
//! without saying anything. What a connection says is for the layers above.
//!
//! At the limit a new connection is accepted and closed at once: a caller that waits in the
//! backlog would see a hang where a refusal is the truth. An accept that fails (no file
//! descriptors, for example) is retried, since a listener that stops is worse.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep},
};

use super::{Listener, Stream};

/// Between two tries of an accept that failed: descriptors need a moment to come free.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What a listener grants a stranger.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// At once, on this listener.
    pub connections_max: usize,
    /// Rule for silence.
    pub silence: Silence,
}

/// When a connection that says nothing is closed.
#[derive(Clone, Copy, Debug)]
pub enum Silence {
    /// The first `bytes` must have come within this time; afterwards the protocol keeps watch itself.
    Opening { bytes: usize, within: Duration },
    /// Never longer than this without a byte in either direction.
    Always(Duration),
}

/// A listener under [`ConnectionLimits`].
pub struct GuardedListener {
    listener: Box<dyn Listener>,
    /// For the log.
    name: &'static str,
    limits: ConnectionLimits,
    slots: Arc<Semaphore>,
    /// Refusing was logged and no slot has been free since.
    full: bool,
}

impl GuardedListener {
    pub fn new(listener: Box<dyn Listener>, name: &'static str, limits: ConnectionLimits) -> GuardedListener {
        let slots = Arc::new(Semaphore::new(limits.connections_max));
        GuardedListener { listener, name, limits, slots, full: false }
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The next connection within the limits. Cancelling loses none that was returned.
    pub async fn accept(&mut self) -> (GuardedStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, from)) => {
                    if let Some(slot) = self.slot(from) {
                        return (GuardedStream::new(stream, self.limits.silence, slot), from);
                    }
                }
                Err(error) => {
                    tracing::warn!(listener = self.name, %error, "accept failed, trying again");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    fn slot(&mut self, from: SocketAddr) -> Option<OwnedSemaphorePermit> {
        let slot = self.slots.clone().try_acquire_owned().ok();
        if slot.is_none() && !self.full {
            let connections_max = self.limits.connections_max;
            tracing::warn!(listener = self.name, %from, connections_max, "connection limit reached, refusing");
        }
        self.full = slot.is_none();
        slot
    }
}

/// A connection that holds one place of its listener until it is dropped.
pub struct GuardedStream {
    stream: Box<dyn Stream>,
    silence: Silence,
    /// None once the rule for silence is fulfilled for good.
    deadline: Option<Pin<Box<Sleep>>>,
    bytes_read: usize,
    _slot: OwnedSemaphorePermit,
}

impl GuardedStream {
    fn new(stream: Box<dyn Stream>, silence: Silence, slot: OwnedSemaphorePermit) -> GuardedStream {
        let within = match silence {
            Silence::Opening { within, .. } | Silence::Always(within) => within,
        };
        let deadline = Some(Box::pin(tokio::time::sleep(within)));
        GuardedStream { stream, silence, deadline, bytes_read: 0, _slot: slot }
    }

    /// Bytes went through, `read` of them inwards.
    fn progress(&mut self, read: usize) {
        self.bytes_read = self.bytes_read.saturating_add(read);
        match self.silence {
            Silence::Opening { bytes, .. } => {
                if self.bytes_read >= bytes {
                    self.deadline = None;
                }
            }
            Silence::Always(within) => {
                if let Some(deadline) = &mut self.deadline {
                    deadline.as_mut().reset(Instant::now() + within);
                }
            }
        }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        match &mut self.deadline {
            Some(deadline) => {
                ready!(deadline.as_mut().poll(cx));
                Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the peer was silent for too long"))
            }
            None => Poll::Pending,
        }
    }
}

impl AsyncRead for GuardedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(result) => {
                this.progress(buf.filled().len() - before);
                Poll::Ready(result)
            }
            // Readers of both protocols are polled while the connection lives, so this is where
            // silence is noticed.
            Poll::Pending => this.poll_deadline(cx).map(Err),
        }
    }
}

impl AsyncWrite for GuardedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, buf))?;
        this.progress(0);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, bufs))?;
        this.progress(0);
        Poll::Ready(Ok(written))
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

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, future::pending};

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::seam::NetFuture;

    /// Hands out prepared connections, then waits for ever.
    struct Prepared(VecDeque<io::Result<DuplexStream>>);

    impl Listener for Prepared {
        fn accept(&mut self) -> NetFuture<'_, (Box<dyn Stream>, SocketAddr)> {
            let next = self.0.pop_front();
            Box::pin(async move {
                match next {
                    Some(next) => Ok((Box::new(next?) as Box<dyn Stream>, ([127, 0, 0, 1], 1).into())),
                    None => pending().await,
                }
            })
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(([127, 0, 0, 1], 2).into())
        }
    }

    fn guarded(
        connections: impl IntoIterator<Item = io::Result<DuplexStream>>,
        connections_max: usize,
        silence: Silence,
    ) -> GuardedListener {
        let listener = Box::new(Prepared(connections.into_iter().collect()));
        GuardedListener::new(listener, "test", ConnectionLimits { connections_max, silence })
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn connection_over_the_limit_is_closed_at_once() {
        let (mut far, near) = duplex(64);
        let (mut far_refused, near_refused) = duplex(64);
        let (_far_later, near_later) = duplex(64);
        let mut listener = guarded([Ok(near), Ok(near_refused)], 1, Silence::Always(SECOND));
        let (first, _) = listener.accept().await;
        // The second is refused inside this accept, which then waits for a third.
        assert!(tokio::time::timeout(SECOND, listener.accept()).await.is_err());
        assert_eq!(far_refused.read(&mut [0; 8]).await.unwrap(), 0, "closed");
        drop(first);
        assert_eq!(far.read(&mut [0; 8]).await.unwrap(), 0);
        listener.listener = Box::new(Prepared([Ok(near_later)].into()));
        listener.accept().await;
    }

    #[tokio::test(start_paused = true)]
    async fn accept_error_does_not_end_the_listener() {
        let (_far, near) = duplex(64);
        let failed = || Err(io::Error::other("too many open files"));
        let mut listener = guarded([failed(), failed(), Ok(near)], 1, Silence::Always(SECOND));
        listener.accept().await;
    }

    #[tokio::test(start_paused = true)]
    async fn connection_that_never_opens_is_dropped_and_an_opened_one_may_be_silent() {
        let (mut far, near) = duplex(64);
        let silence = Silence::Opening { bytes: 4, within: SECOND };
        let mut listener = guarded([Ok(near)], 1, silence);
        let (mut stream, _) = listener.accept().await;
        far.write_all(b"abc").await.unwrap();
        stream.read_exact(&mut [0; 3]).await.unwrap();
        let error = stream.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);

        let (mut far, near) = duplex(64);
        let mut listener = guarded([Ok(near)], 1, silence);
        let (mut stream, _) = listener.accept().await;
        far.write_all(b"abcd").await.unwrap();
        stream.read_exact(&mut [0; 4]).await.unwrap();
        assert!(tokio::time::timeout(100 * SECOND, stream.read(&mut [0; 1])).await.is_err(), "still open");
    }

    #[tokio::test(start_paused = true)]
    async fn idle_connection_is_dropped_although_it_spoke_before() {
        let (mut far, near) = duplex(64);
        let mut listener = guarded([Ok(near)], 1, Silence::Always(SECOND));
        let (mut stream, _) = listener.accept().await;
        for _ in 0..3 {
            tokio::time::advance(SECOND * 3 / 4).await;
            far.write_all(b"a").await.unwrap();
            stream.read_exact(&mut [0; 1]).await.unwrap();
        }
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
