//! Bytes that strangers make this node hold: messages half received, answers not taken. Faces hold them here.
//!
//! Promises: no more than a named number of bytes is held at once; whoever wants more waits, in order and
//! not for ever, and only so many wait. As long as nobody waits a slow peer may be slow; once somebody does,
//! the connections of those that are too slow are closed. So a peer that only pretends to send, or to read,
//! costs others a moment and not the service.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::Waker,
    time::Duration,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout},
};

use crate::metrics::{HeldUp, IntakeProbe, Limit};

/// How often whoever waits looks for holders that are too slow.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// There is no room, and too many wait for it or one has waited too long.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this broker holds {bytes_max} bytes of {} already; nothing was done, use another broker or retry later",
    .what.name()
)]
pub struct Crowded {
    pub what: HeldUp,
    pub bytes_max: usize,
}

/// Closes one connection from outside, whatever its streams wait for.
#[derive(Debug, Default)]
pub struct Closer {
    closed: AtomicBool,
    reader: AtomicWaker,
}

impl Closer {
    /// True: it was open until now.
    pub fn close(&self) -> bool {
        let was_open = !self.closed.swap(true, Relaxed);
        self.reader.wake();
        was_open
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    /// Whoever reads the connection is woken when it is to be closed.
    pub fn wake_at_close(&self, reader: &Waker) {
        self.reader.register(reader);
    }
}

/// The numbers of one [`HeldBytes`].
#[derive(Clone, Copy, Debug)]
pub struct HeldLimits {
    /// For messages to clients and the metric of connections that are closed.
    pub what: HeldUp,
    /// For the metric of refusals.
    pub limit: Limit,
    pub bytes_max: usize,
    /// One more that would have to wait is refused.
    pub waiting_max: usize,
    /// After so long whoever waits is refused.
    pub wait_max: Duration,
    /// A peer that holds bytes up, while others wait, has this long, ...
    pub grace: Duration,
    /// ... and a second more for as many bytes as this.
    pub bytes_per_second: usize,
}

/// See the module's head.
pub struct HeldBytes {
    limits: HeldLimits,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    holders: Mutex<Holders>,
    probe: IntakeProbe,
}

#[derive(Default)]
struct Holders {
    next: u64,
    by_id: BTreeMap<u64, Holder>,
    /// When somebody looked for slow ones: those that wait need not all do it.
    looked: Option<Instant>,
}

struct Holder {
    closer: Arc<Closer>,
    /// Since when the peer is waited for, and the bytes that it has moved or has to move. None: it is our turn.
    waits: Option<(Instant, usize)>,
}

impl HeldBytes {
    pub fn new(limits: HeldLimits, probe: IntakeProbe) -> Arc<HeldBytes> {
        let bytes_max = limits.bytes_max.clamp(1, u32::MAX as usize);
        let limits = HeldLimits { bytes_max, ..limits };
        let permits = Arc::new(Semaphore::new(bytes_max));
        Arc::new(HeldBytes { limits, permits, waiting: AtomicUsize::new(0), holders: Mutex::default(), probe })
    }

    pub fn bytes_in_use(&self) -> usize {
        self.limits.bytes_max - self.permits.available_permits()
    }

    /// If there is room now.
    pub fn try_hold(self: &Arc<Self>, bytes: usize, closer: &Arc<Closer>) -> Option<Held> {
        let permits = u32::try_from(bytes.max(1)).ok()?;
        let permit = Arc::clone(&self.permits).try_acquire_many_owned(permits).ok()?;
        Some(self.held(permit, closer))
    }

    /// Waits for room. More than all there is counts as all. The error says that nothing was done.
    pub async fn hold(self: &Arc<Self>, bytes: usize, closer: &Arc<Closer>) -> Result<Held, Crowded> {
        self.hold_within(self.limits.wait_max, bytes, closer).await
    }

    /// As [`HeldBytes::hold`], for who will not wait as long as others may.
    pub async fn hold_within(
        self: &Arc<Self>,
        wait: Duration,
        bytes: usize,
        closer: &Arc<Closer>,
    ) -> Result<Held, Crowded> {
        if let Some(held) = self.try_hold(bytes, closer) {
            return Ok(held);
        }
        let Some(_place) = Place::take(self) else { return Err(self.crowded()) };
        let acquired = timeout(wait.min(self.limits.wait_max), self.acquire(bytes)).await;
        match acquired {
            Ok(Some(permit)) => Ok(self.held(permit, closer)),
            Ok(None) | Err(_) => Err(self.crowded()),
        }
    }

    async fn acquire(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let mut permit = std::pin::pin!(Arc::clone(&self.permits).acquire_many_owned(self.permits_for(bytes)));
        loop {
            self.close_the_slow(Instant::now());
            tokio::select! {
                biased;
                permit = &mut permit => return permit.ok(),
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Each connection that keeps others waiting for longer than its bytes explain.
    fn close_the_slow(&self, now: Instant) {
        let HeldLimits { what, grace, bytes_per_second, .. } = self.limits;
        let mut closed = 0;
        let mut holders = self.holders.lock().expect("no holder panics");
        if holders.looked.is_some_and(|looked| now.saturating_duration_since(looked) < LOOK_EVERY / 2) {
            return;
        }
        holders.looked = Some(now);
        for holder in holders.by_id.values() {
            let Some((since, bytes)) = holder.waits else { continue };
            let allowed = grace + Duration::from_secs_f64(bytes as f64 / bytes_per_second as f64);
            if now.saturating_duration_since(since) > allowed && holder.closer.close() {
                closed += 1;
            }
        }
        drop(holders);
        if closed > 0 {
            self.probe.slow_peers_closed(what, closed);
            let what = what.name();
            tracing::warn!(what, closed, "connections closed: others wait for what their peers hold up");
        }
    }

    fn held(self: &Arc<Self>, permit: OwnedSemaphorePermit, closer: &Arc<Closer>) -> Held {
        let mut holders = self.holders.lock().expect("no holder panics");
        let id = holders.next;
        holders.next += 1;
        holders.by_id.insert(id, Holder { closer: Arc::clone(closer), waits: None });
        Held { books: Arc::clone(self), id, permit }
    }

    fn permits_for(&self, bytes: usize) -> u32 {
        // Not even nothing is held in any number.
        bytes.clamp(1, self.limits.bytes_max) as u32
    }

    fn crowded(&self) -> Crowded {
        let HeldLimits { what, limit, bytes_max, .. } = self.limits;
        self.probe.refused_at(limit);
        Crowded { what, bytes_max }
    }
}

/// One of the places of those that wait.
struct Place<'a>(&'a HeldBytes);

impl<'a> Place<'a> {
    fn take(books: &'a HeldBytes) -> Option<Place<'a>> {
        let before = books.waiting.fetch_add(1, Relaxed);
        let place = Place(books);
        (before < books.limits.waiting_max).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

/// A part of a [`HeldBytes`], until it is dropped.
pub struct Held {
    books: Arc<HeldBytes>,
    id: u64,
    permit: OwnedSemaphorePermit,
}

impl Held {
    pub fn bytes(&self) -> usize {
        self.permit.num_permits()
    }

    /// Whether it is room for so many bytes, or all the room that there is.
    pub fn is_enough_for(&self, bytes: usize) -> bool {
        self.bytes() >= self.books.permits_for(bytes) as usize
    }

    /// Gives back what is beyond `bytes`.
    pub fn shrink(&mut self, bytes: usize) {
        let beyond = self.bytes().saturating_sub(bytes);
        drop(self.permit.split(beyond));
    }

    /// From now on the peer is waited for: it has to move so many bytes.
    pub fn wait_for_peer(&self, bytes: usize) {
        self.change(|waits| *waits = Some((Instant::now(), bytes)));
    }

    /// The peer has moved so many bytes more.
    pub fn moved(&self, bytes: usize) {
        self.change(|waits| {
            if let Some((_, moved)) = waits {
                *moved += bytes;
            }
        });
    }

    /// The peer has done its part.
    pub fn settle(&self) {
        self.change(|waits| *waits = None);
    }

    fn change(&self, change: impl FnOnce(&mut Option<(Instant, usize)>)) {
        if let Some(holder) = self.books.holders.lock().expect("no holder panics").by_id.get_mut(&self.id) {
            change(&mut holder.waits);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.books.holders.lock().expect("no holder panics").by_id.remove(&self.id);
    }
}

/// What an answer holds, on its way from whoever made it to the bytes that it becomes. HTTP/2 asks for the next
/// answer as soon as it has the bytes of one, and keeps those until the peer takes them: so what they hold must
/// stay with the bytes. Clones share it.
#[derive(Clone, Default)]
pub struct Leaving(Arc<Mutex<Vec<Held>>>);

impl Leaving {
    /// Goes with the next bytes. From now on the peer is waited for.
    pub fn put(&self, held: Held) {
        held.wait_for_peer(held.bytes());
        self.0.lock().expect("no holder panics").push(held);
    }

    /// These bytes, which keep all that was put until the last of them is dropped.
    pub fn attach(&self, bytes: Bytes) -> Bytes {
        let held = std::mem::take(&mut *self.0.lock().expect("no holder panics"));
        if held.is_empty() { bytes } else { Bytes::from_owner(Kept { bytes, _held: held }) }
    }
}

/// Bytes with what they hold.
struct Kept {
    bytes: Bytes,
    _held: Vec<Held>,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    const SECOND: Duration = Duration::from_secs(1);

    fn books() -> Arc<HeldBytes> {
        books_of(&Metrics::new())
    }

    fn books_of(metrics: &Metrics) -> Arc<HeldBytes> {
        let limits = HeldLimits {
            what: HeldUp::Answers,
            limit: Limit::Answers,
            bytes_max: 100,
            waiting_max: 2,
            wait_max: 10 * SECOND,
            grace: SECOND,
            bytes_per_second: 50,
        };
        HeldBytes::new(limits, metrics.intake())
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_may_be_slow_until_somebody_waits() {
        let (books, slow, quick) = (books(), Arc::default(), Arc::default());
        let held = books.try_hold(80, &slow).expect("there is room");
        held.wait_for_peer(0);
        tokio::time::advance(100 * SECOND).await;
        assert!(!slow.is_closed(), "nobody waits");
        assert!(books.try_hold(30, &quick).is_none());
        let closed = async {
            while !slow.is_closed() {
                tokio::task::yield_now().await;
            }
            drop(held);
        };
        let (second, ()) = tokio::join!(books.hold(30, &quick), closed);
        assert_eq!((second.ok().map(|held| held.bytes()), books.bytes_in_use()), (Some(30), 0));
        assert!(!quick.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_moves_its_bytes_is_waited_for() {
        let (books, steady, other) = (books(), Arc::default(), Arc::default());
        let held = books.try_hold(100, &steady).expect("there is room");
        held.wait_for_peer(0);
        let sending = async {
            for _ in 0..8 {
                tokio::time::sleep(SECOND / 2).await;
                held.moved(30);
            }
            held.settle();
            tokio::time::sleep(3 * SECOND).await;
            drop(held);
        };
        let (waited, ()) = tokio::join!(books.hold(1, &other), sending);
        assert!(waited.is_ok() && !steady.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_wait_and_not_for_ever() {
        let metrics = Metrics::new();
        let (books, holder, other) = (books_of(&metrics), Arc::default(), Arc::default());
        let held = books.hold(1_000, &holder).await.unwrap_or_else(|error| panic!("as much as there is: {error}"));
        let began = Instant::now();
        let (first, second, third) = tokio::join!(books.hold(1, &other), books.hold(1, &other), books.hold(1, &other));
        let refused = |held: Result<Held, Crowded>| matches!(held, Err(Crowded { .. }));
        assert!(refused(first) && refused(second) && refused(third));
        assert!(metrics.encode().contains("flotilla_limit_refusals_total{limit=\"answers\"} 3"), "and all are counted");
        assert!(began.elapsed() >= 10 * SECOND && !holder.is_closed(), "ours is the turn, not the peer's");
        let began = Instant::now();
        assert!(refused(books.hold_within(SECOND, 1, &other).await) && began.elapsed() < 2 * SECOND);
        assert!(metrics.encode().contains("flotilla_limit_refusals_total{limit=\"answers\"} 4"), "it is counted too");
        drop(held);
        assert!(books.hold(1, &other).await.is_ok(), "places were given back");
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_keep_what_they_hold_until_the_last_of_them_has_left() {
        let (books, peer) = (books(), Arc::default());
        let leaving = Leaving::default();
        leaving.put(books.try_hold(60, &peer).expect("there is room"));
        let mut bytes = leaving.attach(Bytes::from_static(b"answer"));
        let first = bytes.split_to(3);
        drop(bytes);
        assert_eq!((books.bytes_in_use(), &first[..]), (60, &b"ans"[..]));
        drop(first);
        assert_eq!(books.bytes_in_use(), 0);
        assert_eq!(leaving.attach(Bytes::from_static(b"x")), &b"x"[..]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_needed_is_given_back() {
        let (books, peer) = (books(), Arc::default());
        let mut held = books.try_hold(90, &peer).expect("there is room");
        held.shrink(20);
        assert_eq!((held.bytes(), books.bytes_in_use()), (20, 20));
        held.shrink(50);
        assert_eq!(held.bytes(), 20);
        drop(held);
        assert_eq!(books.bytes_in_use(), 0);
    }
}
