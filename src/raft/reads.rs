//! Memory for entries that were read to be sent to followers, or to bring a state machine up to date at a
//! start, until they are on the wire or applied.
//!
//! openraft reads a follower's next entries before it hands them over: a mebibyte, or one larger entry, for
//! each group and follower. A broker that comes back is behind in all its groups at once, and its one link
//! takes their entries in turn, so what waits for it could be gigabytes. Hence each read takes room first:
//! of its link, so that a slow peer does not hold what others need, and of the node. It takes enough for the
//! largest read, and gives back at once what it did not need: who holds room never waits for more.
//!
//! A few recent entries, which are in memory anyway, take none: a steady load waits behind no follower that
//! catches up. Nor do heartbeats, which carry nothing.
//!
//! A reader does not know for which follower it reads. The exchange with that follower does, and says so
//! while it asks openraft for the next request.

use std::{
    future::Future,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{metrics::RaftProbe, storage::LogEntry};

/// Bytes of entries that one read for replication returns at most (save one large entry): an
/// append frame must fit a node frame with room for its head.
pub(super) const READ_BYTES_MAX: usize = 1 << 20;
/// Of all links together, and of starts.
const NODE_BYTES_MAX: usize = 256 << 20;
/// What one peer's followers may have waiting for its link: a quarter of a second of a gigabit.
const LINK_BYTES_MAX: usize = 32 << 20;
/// The largest batch is 8 MiB; an entry of it has a head.
const LARGEST_READ: usize = 9 << 20;
/// Recent entries of up to this size take no room: for a thousand groups 64 MiB.
pub(super) const FEW_BYTES: usize = 64 << 10;

const _: () = assert!(READ_BYTES_MAX <= LARGEST_READ && LARGEST_READ <= LINK_BYTES_MAX);

tokio::task_local! {
    static READS: Arc<Reads>;
}

/// The room of a node.
pub(super) struct ReadRoom {
    node: Arc<Semaphore>,
    probe: RaftProbe,
}

/// The room that reads for one peer share.
pub(super) fn link_room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(LINK_BYTES_MAX))
}

/// The reads of one exchange with a follower.
pub(super) struct Reads {
    link: Arc<Semaphore>,
    /// Of the read that the next request comes from.
    held: Mutex<Option<Held>>,
}

/// Room for entries, until it is dropped.
pub(super) struct Held {
    link: Option<OwnedSemaphorePermit>,
    node: OwnedSemaphorePermit,
    probe: RaftProbe,
}

/// Bytes that hold their room.
struct Holding {
    bytes: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for Holding {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl ReadRoom {
    pub fn new(probe: RaftProbe) -> ReadRoom {
        ReadRoom { node: Arc::new(Semaphore::new(NODE_BYTES_MAX)), probe }
    }

    /// Waits for room for one read, whatever it finds.
    pub async fn take(&self) -> Held {
        let link = READS.try_with(|reads| reads.link.clone()).ok();
        // The link's first: who has room of the node waits for nothing else.
        let link = match link {
            Some(link) => Some(self.permits(link).await),
            None => None,
        };
        let node = self.permits(self.node.clone()).await;
        self.probe.read_bytes_held(LARGEST_READ as i64);
        Held { link, node, probe: self.probe.clone() }
    }

    async fn permits(&self, of: Arc<Semaphore>) -> OwnedSemaphorePermit {
        const BYTES: u32 = LARGEST_READ as u32;
        if let Ok(permit) = of.clone().try_acquire_many_owned(BYTES) {
            return permit;
        }
        self.probe.read_waited();
        of.acquire_many_owned(BYTES).await.expect("the semaphore is never closed")
    }
}

impl Held {
    /// Gives back all but what the entries take, and leaves that to the exchange that they are read for. At
    /// once, if they are read for none.
    pub fn leave(mut self, entries: &[LogEntry]) {
        let bytes = bytes_of(entries);
        let unused = self.node.num_permits().saturating_sub(bytes);
        drop(self.node.split(unused));
        if let Some(link) = &mut self.link {
            drop(link.split(unused));
        }
        self.probe.read_bytes_held(-(unused as i64));
        let _ = READS.try_with(|reads| *reads.lock() = Some(self));
    }

    /// The bytes, which hold this room as long as they live.
    pub fn with(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Holding { bytes, _held: self })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.probe.read_bytes_held(-(self.node.num_permits() as i64));
    }
}

impl Reads {
    pub fn through(link: Arc<Semaphore>) -> Arc<Reads> {
        Arc::new(Reads { link, held: Mutex::default() })
    }

    /// Runs what asks for the next request: what is read meanwhile is for this exchange.
    pub async fn during<T>(self: &Arc<Reads>, asks: impl Future<Output = T>) -> T {
        READS.scope(self.clone(), asks).await
    }

    /// The room of the request that has just come, if it needs any.
    pub fn held(&self) -> Option<Held> {
        self.lock().take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Held>> {
        self.held.lock().expect("no panic under this lock")
    }
}

pub(super) fn bytes_of(entries: &[LogEntry]) -> usize {
    entries.iter().map(|entry| entry.payload.len()).sum()
}
