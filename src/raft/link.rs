//! The stream from this node to one other: requests out, their replies in. All groups share it.
//!
//! It reconnects for ever. Whatever was asked and not answered when a stream breaks fails at once,
//! so nobody waits on a dead connection; every request has a deadline of its own besides.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};

use super::{
    Room,
    core::Core,
    wire::{FRAME_BYTES_MAX, Frame, Hello, Kind, Ping, decode_control, encode_control},
};
use crate::{
    proto::internal::{self, node_client::NodeClient},
    types::{BrokerId, RaftGroupId, ReplicaId},
};

/// Frames queued to one peer before senders wait. Each append window is at most
/// [`APPEND_WINDOW`] frames a group, so this bounds what a slow peer can pin.
const QUEUE_FRAMES_MAX: usize = 64;
/// Unacknowledged appends of one group: two to four gave 94 to 97 % of an in-process channel, and
/// unlimited pipelining less, since its appends carry fewer entries each.
pub(super) const APPEND_WINDOW: usize = 4;
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
const PING_EVERY: Duration = Duration::from_millis(200);
/// A peer that answered no ping for this long counts as dead; its stream is given up.
const SILENT_MAX: Duration = Duration::from_secs(1);
pub(super) const DIGEST_EVERY: Duration = Duration::from_secs(5);
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_millis(500);
const STREAM_WINDOW_BYTES: u32 = 8 << 20;

/// Why a request has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkError {
    /// Not sent: no effect.
    NotSent,
    /// Sent, and the stream broke or the deadline passed.
    NoAnswer,
}

enum Waiter {
    Once(oneshot::Sender<Frame>),
    Many(mpsc::Sender<Frame>),
}

#[derive(Default)]
struct State {
    address: Option<String>,
    sender: Option<mpsc::Sender<internal::Frame>>,
    waiters: BTreeMap<u64, Waiter>,
    heard: Option<Instant>,
    /// On the peer's disk, as its last pong said.
    room: Room,
}

pub(super) struct Link {
    peer: BrokerId,
    next_id: AtomicU64,
    state: Mutex<State>,
}

/// Replies to a request of many frames.
pub(super) struct Exchange {
    link: Arc<Link>,
    id: u64,
    pub replies: mpsc::Receiver<Frame>,
    open: bool,
}

impl Link {
    pub fn new(peer: BrokerId) -> Arc<Link> {
        Arc::new(Link { peer, next_id: AtomicU64::new(1), state: Mutex::default() })
    }

    /// A link whose peer is the test: what it is sent, with [`Link::dispatch`] for its answers.
    #[cfg(test)]
    pub fn to_a_test() -> (Arc<Link>, mpsc::Receiver<internal::Frame>) {
        let link = Link::new(BrokerId(2));
        let (sender, sent) = mpsc::channel(QUEUE_FRAMES_MAX);
        link.lock().sender = Some(sender);
        (link, sent)
    }

    pub fn set_address(&self, address: String) {
        self.lock().address = Some(address);
    }

    pub fn alive(&self) -> bool {
        self.lock().heard.is_some_and(|at| at.elapsed() < SILENT_MAX)
    }

    /// None: the peer does not answer.
    pub fn room(&self) -> Option<Room> {
        let state = self.lock();
        state.heard.filter(|at| at.elapsed() < SILENT_MAX).map(|_| state.room)
    }

    /// Asks once.
    pub async fn request(
        &self,
        kind: Kind,
        at: (RaftGroupId, ReplicaId, ReplicaId),
        body: Bytes,
        within: Duration,
    ) -> Result<Frame, LinkError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (reply, answered) = oneshot::channel();
        let sender = self.register(id, Waiter::Once(reply))?;
        let frame = Frame { kind, id, group: at.0, from: at.1, to: at.2, body };
        let asked = async {
            let encoded = internal::Frame { data: frame.encode() };
            sender.send(encoded).await.map_err(|_| LinkError::NotSent)?;
            answered.await.map_err(|_| LinkError::NoAnswer)
        };
        let answer = timeout(within, asked).await.unwrap_or(Err(LinkError::NoAnswer));
        self.lock().waiters.remove(&id);
        answer
    }

    /// Begins a request of many frames with up to `replies_max` outstanding replies.
    pub fn open(self: &Arc<Self>, replies_max: usize) -> Result<Exchange, LinkError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, replies) = mpsc::channel(replies_max);
        self.register(id, Waiter::Many(sender))?;
        Ok(Exchange { link: self.clone(), id, replies, open: false })
    }

    /// Sends a message that nobody answers, if there is room for it.
    pub fn tell(&self, kind: Kind, body: Bytes) {
        if let Some(sender) = self.lock().sender.clone() {
            // A full queue or a broken stream: digests repeat what matters.
            let _ = sender.try_send(internal::Frame { data: Frame::control(kind, 0, body).encode() });
        }
    }

    fn register(&self, id: u64, waiter: Waiter) -> Result<mpsc::Sender<internal::Frame>, LinkError> {
        let mut state = self.lock();
        let sender = state.sender.clone().ok_or(LinkError::NotSent)?;
        state.waiters.insert(id, waiter);
        Ok(sender)
    }

    /// Keeps a stream to the peer until the task is aborted.
    pub async fn run(self: Arc<Self>, core: Arc<Core>) {
        let mut wait = RETRY_MIN;
        loop {
            let began = Instant::now();
            let reason = match self.connect(&core).await {
                Ok(connection) => self.serve(&core, connection).await,
                Err(reason) => reason,
            };
            let was_up = self.take_down();
            if was_up {
                core.probe.link_down();
                tracing::info!(peer = %self.peer, reason, "link down");
            } else {
                tracing::debug!(peer = %self.peer, reason, "cannot link");
            }
            wait = if began.elapsed() > SILENT_MAX * 2 { RETRY_MIN } else { (wait * 2).min(RETRY_MAX) };
            let jitter = Duration::from_millis(core.rng.below(wait.as_millis() as u64 / 2 + 1));
            tokio::time::sleep(wait / 2 + jitter).await;
        }
    }

    async fn connect(&self, core: &Arc<Core>) -> Result<Connection, String> {
        let address = self.lock().address.clone().ok_or("no address known")?;
        let channel = timeout(CONNECT_WITHIN, dial(core, address.clone())).await;
        let channel = channel.map_err(|_| format!("{address} did not accept in time"))??;
        let limit = FRAME_BYTES_MAX + 64;
        let mut client = NodeClient::new(channel).max_decoding_message_size(limit).max_encoding_message_size(limit);
        let (sender, outgoing) = mpsc::channel(QUEUE_FRAMES_MAX);
        let hello =
            Hello { cluster: core.cluster(), from: core.settings.broker, to: self.peer, incarnation: core.incarnation };
        let first = Frame::control(Kind::Hello, 0, encode_control(&hello)).encode();
        sender.try_send(internal::Frame { data: first }).expect("the channel is new");
        let opened = timeout(CONNECT_WITHIN, client.link(ReceiverStream::new(outgoing))).await;
        let mut incoming = opened.map_err(|_| "no stream in time")?.map_err(|e| e.to_string())?.into_inner();
        let first = timeout(CONNECT_WITHIN, next(&mut incoming)).await.map_err(|_| "no hello in time")??;
        let theirs: Hello = decode_control(&first.body).map_err(|e| e.to_string())?;
        core.check_hello(&theirs, Some(self.peer))?;
        Ok(Connection { sender, incoming })
    }

    async fn serve(&self, core: &Arc<Core>, connection: Connection) -> String {
        let Connection { sender, mut incoming } = connection;
        {
            let mut state = self.lock();
            state.sender = Some(sender);
            state.heard = Some(Instant::now());
        }
        tracing::info!(peer = %self.peer, "link up");
        core.probe.link_up();
        self.tell_digest(core);
        let mut pings = tokio::time::interval(PING_EVERY);
        let mut digests = tokio::time::interval(DIGEST_EVERY);
        digests.reset();
        loop {
            tokio::select! {
                biased;
                frame = next(&mut incoming) => match frame {
                    Ok(frame) => self.dispatch(frame),
                    Err(reason) => return reason,
                },
                _ = pings.tick() => {
                    if !self.alive() {
                        return format!("no answer for {SILENT_MAX:?}");
                    }
                    self.tell(Kind::Ping, encode_control(&Ping { wall: core.clock.wall() }));
                }
                _ = digests.tick() => self.tell_digest(core),
            }
        }
    }

    /// All that this node leads: after a reconnect, and every few seconds in case one was missed.
    fn tell_digest(&self, core: &Core) {
        const PER_FRAME: usize = 1_000;
        for some in core.leaders.led_by(core.settings.broker).chunks(PER_FRAME) {
            self.tell(Kind::Announce, encode_control(&some));
        }
    }

    pub(super) fn dispatch(&self, frame: Frame) {
        let mut state = self.lock();
        if frame.kind == Kind::Pong {
            state.heard = Some(Instant::now());
            // An older version says nothing.
            state.room = decode_control(&frame.body).unwrap_or_default();
            return;
        }
        match state.waiters.get(&frame.id) {
            Some(Waiter::Many(replies)) => {
                let taken = replies.try_send(frame.clone()).is_ok();
                // More replies than were asked for is the peer's fault; the exchange ends.
                if !taken {
                    state.waiters.remove(&frame.id);
                }
            }
            Some(Waiter::Once(_)) => {
                if let Some(Waiter::Once(reply)) = state.waiters.remove(&frame.id) {
                    let _ = reply.send(frame);
                }
            }
            None => {} // Answered too late.
        }
    }

    /// Fails everything outstanding. True if the stream had been up.
    fn take_down(&self) -> bool {
        let mut state = self.lock();
        state.heard = None;
        state.room = Room::default();
        state.waiters.clear();
        state.sender.take().is_some()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }
}

impl Exchange {
    pub async fn send(
        &mut self,
        kind: Kind,
        at: (RaftGroupId, ReplicaId, ReplicaId),
        body: Bytes,
    ) -> Result<(), LinkError> {
        let sender = self.link.lock().sender.clone().ok_or(LinkError::NotSent)?;
        self.open = true;
        let frame = Frame { kind, id: self.id, group: at.0, from: at.1, to: at.2, body };
        sender.send(internal::Frame { data: frame.encode() }).await.map_err(|_| LinkError::NotSent)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut state = self.link.lock();
        state.waiters.remove(&self.id);
        let (true, Some(sender)) = (self.open, state.sender.clone()) else { return };
        drop(state);
        let end = internal::Frame { data: Frame::control(Kind::AppendEnd, self.id, Bytes::new()).encode() };
        if let Err(mpsc::error::TrySendError::Full(end)) = sender.try_send(end) {
            // The peer keeps the exchange open until it hears of its end, so this one waits for room.
            tokio::spawn(async move { sender.send(end).await });
        }
    }
}

struct Connection {
    sender: mpsc::Sender<internal::Frame>,
    incoming: Streaming<internal::Frame>,
}

async fn dial(core: &Arc<Core>, address: String) -> Result<Channel, String> {
    let net = core.net.clone();
    let connector = tower::service_fn(move |_| {
        let (net, address) = (net.clone(), address.clone());
        async move { net.connect(&address).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://node")
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(STREAM_WINDOW_BYTES);
    endpoint.connect_with_connector(connector).await.map_err(|e| e.to_string())
}

pub(super) async fn next(incoming: &mut Streaming<internal::Frame>) -> Result<Frame, String> {
    match incoming.message().await {
        Ok(Some(frame)) => Frame::decode(frame.data).map_err(|e| e.to_string()),
        Ok(None) => Err("the peer ended the stream".into()),
        Err(status) => Err(status.message().to_owned()),
    }
}
