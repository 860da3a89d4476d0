//! Accepting connections from anybody: at most so many at once, and none that holds its place
//! without saying anything. What a connection says is for the layers above.
//!
//! At the limit a new connection is accepted and closed at once: a caller that waits in the
//! backlog would see a hang where a refusal is the truth. Or, where connections are cheap to make anew,
//! it takes the place of the one that has been silent for longest, so that idle ones keep nobody out.
//! An accept that fails (no file descriptors, for example) is retried, since a listener that stops is
//! worse. Both are counted, and logged at a bounded rate.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use super::{Listener, NetFuture, Stream};
use crate::metrics::{ConnectionRefusal, IntakeProbe};

/// Between two tries of an accept that failed: descriptors need a moment to come free.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Refusals and failures are logged once in so long, with their number: they may come by the thousand.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// What a listener grants a stranger.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// How many connections there may be at once, on this listener.
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

/// What happens to a connection beyond the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtLimit {
    /// It is closed at once.
    Refuse,
    /// It takes the place of the connection that has been silent for longest.
    CloseMostSilent,
}

/// A listener under [`ConnectionLimits`].
pub struct GuardedListener {
    listener: Box<dyn Listener>,
    /// What the log calls the listener's clients.
    name: &'static str,
    limits: ConnectionLimits,
    at_limit: AtLimit,
    /// Why there are no more, for the metric.
    reason: ConnectionRefusal,
    probe: IntakeProbe,
    places: Arc<Places>,
    refused: Seldom,
    failed: Seldom,
}

impl GuardedListener {
    pub fn new(listener: Box<dyn Listener>, name: &'static str, limits: ConnectionLimits) -> GuardedListener {
        GuardedListener {
            listener,
            name,
            limits,
            at_limit: AtLimit::Refuse,
            reason: ConnectionRefusal::Limit,
            probe: IntakeProbe::default(),
            places: Arc::default(),
            refused: Seldom::default(),
            failed: Seldom::default(),
        }
    }

    /// Counts what it refuses; `reason`: what the limit comes from.
    pub fn reporting(self, probe: IntakeProbe, reason: ConnectionRefusal) -> GuardedListener {
        GuardedListener { probe, reason, ..self }
    }

    pub fn at_limit(self, at_limit: AtLimit) -> GuardedListener {
        GuardedListener { at_limit, ..self }
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The next connection within the limits. Cancelling loses none that was returned.
    pub async fn accept(&mut self) -> (GuardedStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, from)) => {
                    if let Some(place) = self.place(from) {
                        return (GuardedStream::new(stream, self.limits.silence, place), from);
                    }
                }
                Err(error) => {
                    self.probe.connection_refused(ConnectionRefusal::Accept);
                    if let Some(times) = self.failed.now() {
                        tracing::warn!(listener = self.name, %error, times, "accept failed, trying again");
                    }
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    fn place(&mut self, from: SocketAddr) -> Option<Place> {
        let place = Places::take(&self.places, self.limits.connections_max, self.at_limit);
        if place.is_none() {
            self.probe.connection_refused(self.reason);
            if let Some(times) = self.refused.now() {
                let (connections_max, reason) = (self.limits.connections_max, self.reason.name());
                let listener = self.name;
                tracing::warn!(listener, %from, connections_max, reason, times, "connection limit reached, refusing");
            }
        }
        place
    }
}

/// A guarded listener is a listener, so that one which guards itself can be given an outer limit.
impl Listener for GuardedListener {
    fn accept(&mut self) -> NetFuture<'_, (Box<dyn Stream>, SocketAddr)> {
        Box::pin(async move {
            let (stream, from) = GuardedListener::accept(self).await;
            Ok((Box::new(stream) as Box<dyn Stream>, from))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        GuardedListener::local_addr(self)
    }
}

/// Says when something that happens often is worth a line.
#[derive(Default)]
struct Seldom {
    last: Option<Instant>,
    since: u64,
}

impl Seldom {
    /// It happened. How often since the last line, if one is due.
    fn now(&mut self) -> Option<u64> {
        self.since += 1;
        if self.last.is_some_and(|last| last.elapsed() < LOG_EVERY) {
            return None;
        }
        self.last = Some(Instant::now());
        Some(std::mem::take(&mut self.since))
    }
}

/// The connections of one listener.
#[derive(Default)]
struct Places(Mutex<Taken>);

#[derive(Default)]
struct Taken {
    next: u64,
    by_id: BTreeMap<u64, Holder>,
}

/// A connection that is open.
struct Holder {
    /// When a byte last went through.
    last: Instant,
    /// The waker of whoever reads; woken when the connection is to end.
    reader: Option<Waker>,
}

impl Places {
    fn take(places: &Arc<Places>, max: usize, at_limit: AtLimit) -> Option<Place> {
        let mut taken = places.0.lock().expect("no holder panics");
        if taken.by_id.len() >= max {
            match at_limit {
                AtLimit::Refuse => return None,
                AtLimit::CloseMostSilent => {
                    let most_silent = taken.by_id.iter().min_by_key(|(_, holder)| holder.last).map(|(id, _)| *id);
                    // Its stream finds that it has no place any more, and ends.
                    let closed = taken.by_id.remove(&most_silent?)?;
                    closed.reader.into_iter().for_each(Waker::wake);
                }
            }
        }
        let id = taken.next;
        taken.next += 1;
        taken.by_id.insert(id, Holder { last: Instant::now(), reader: None });
        Some(Place { places: Arc::clone(places), id })
    }
}

/// A connection's place, until it is dropped.
struct Place {
    places: Arc<Places>,
    id: u64,
}

impl Place {
    /// A byte went through.
    fn used(&self) {
        if let Some(holder) = self.places.0.lock().expect("no holder panics").by_id.get_mut(&self.id) {
            holder.last = Instant::now();
        }
    }

    /// Ready: another connection took the place.
    fn poll_lost(&self, cx: &Context<'_>) -> Poll<()> {
        match self.places.0.lock().expect("no holder panics").by_id.get_mut(&self.id) {
            Some(holder) => {
                holder.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.0.lock().expect("no holder panics").by_id.remove(&self.id);
    }
}

/// A connection that holds one place of its listener until it is dropped.
pub struct GuardedStream {
    stream: Box<dyn Stream>,
    silence: Silence,
    /// When the connection has been silent for too long. None once the rule for silence is fulfilled for good.
    deadline: Option<Pin<Box<Sleep>>>,
    bytes_read: usize,
    place: Place,
}

impl GuardedStream {
    fn new(stream: Box<dyn Stream>, silence: Silence, place: Place) -> GuardedStream {
        let within = match silence {
            Silence::Opening { within, .. } | Silence::Always(within) => within,
        };
        let deadline = Some(Box::pin(tokio::time::sleep(within)));
        GuardedStream { stream, silence, deadline, bytes_read: 0, place }
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
                self.place.used();
                if let Some(deadline) = &mut self.deadline {
                    deadline.as_mut().reset(Instant::now() + within);
                }
            }
        }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.place.poll_lost(cx).is_ready() {
            let why = "others wanted the place of a connection that was silent";
            return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, why));
        }
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

    /// Idle connections of browsers must not keep a supervisor's probe out.
    #[tokio::test(start_paused = true)]
    async fn at_the_limit_the_most_silent_connection_makes_room_where_that_is_the_rule() {
        let (mut far_idle, near_idle) = duplex(64);
        let (mut far_busy, near_busy) = duplex(64);
        let (_far_new, near_new) = duplex(64);
        let metrics = crate::metrics::Metrics::new();
        let listener = guarded([Ok(near_idle), Ok(near_busy), Ok(near_new)], 2, Silence::Always(100 * SECOND));
        let mut listener =
            listener.reporting(metrics.intake(), ConnectionRefusal::Limit).at_limit(AtLimit::CloseMostSilent);
        let (mut idle, _) = listener.accept().await;
        let (mut busy, _) = listener.accept().await;
        tokio::time::advance(SECOND).await;
        far_busy.write_all(b"a").await.unwrap();
        busy.read_exact(&mut [0; 1]).await.unwrap();
        let mut byte = [0];
        let waiting = tokio::spawn(async move { idle.read(&mut byte).await.map_err(|error| error.kind()) });
        tokio::task::yield_now().await;
        let (_new, _) = listener.accept().await;
        assert_eq!(waiting.await.unwrap(), Err(io::ErrorKind::TimedOut));
        assert_eq!(far_idle.read(&mut [0; 8]).await.unwrap(), 0, "closed");
        far_busy.write_all(b"b").await.unwrap();
        busy.read_exact(&mut [0; 1]).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_are_counted_and_seldom_logged() {
        let metrics = crate::metrics::Metrics::new();
        let (fars, nears): (Vec<_>, Vec<_>) = (0..50).map(|_| duplex(64)).unzip();
        let failed = (0..2).map(|_| Err(io::Error::other("too many open files")));
        let listener = guarded(nears.into_iter().map(Ok).chain(failed), 10, Silence::Always(SECOND));
        let mut listener = listener.reporting(metrics.intake(), ConnectionRefusal::Descriptors);
        let mut open = Vec::new();
        while let Ok((stream, _)) = tokio::time::timeout(SECOND, listener.accept()).await {
            open.push(stream);
        }
        assert_eq!((fars.len(), open.len()), (50, 10));
        let text = metrics.encode();
        for line in ["{reason=\"descriptors\"} 40", "{reason=\"accept\"} 2"] {
            assert!(text.contains(&format!("flotilla_connections_refused_total{line}")), "{text}");
        }
        let mut seldom = Seldom::default();
        assert_eq!((seldom.now(), seldom.now(), seldom.now()), (Some(1), None, None));
        tokio::time::advance(LOG_EVERY).await;
        assert_eq!(seldom.now(), Some(3));
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
