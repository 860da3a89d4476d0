//! The stream from this node to one other: requests out, their replies in. All groups share it.
//!
//! It reconnects for ever. Whatever was asked and not answered when a stream breaks fails at once,
//! so nobody waits on a dead connection; every request has a deadline of its own besides.
//!
//! A stream is given up when nothing at all comes back, and a peer counts as dead then, or when it says
//! itself that it is: that it stops, or that its disk stalls.

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
    sync::{Notify, Semaphore, mpsc, oneshot, watch},
    time::{Instant, timeout},
};
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};

use super::{
    Room,
    addresses::Addresses,
    greeter::{Greeter, told_address},
    ground::Ground,
    lanes::Lanes,
    leaders::Leaders,
    reads::{Held, link_room},
    wire::{Address, FRAME_BYTES_MAX, Frame, Hello, Kind, Ping, decode_control, encode_control},
};
use crate::{
    proto::internal::{self, node_client::NodeClient},
    types::{BrokerId, ClusterId},
};

/// Unacknowledged appends of one group: two to four gave 94 to 97 % of an in-process channel, and
/// unlimited pipelining less, since its appends carry fewer entries each.
pub(super) const APPEND_WINDOW: usize = 4;
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
const PING_EVERY: Duration = Duration::from_millis(200);
/// A peer of whom nothing was heard for this long counts as dead; its stream is given up.
pub(super) const SILENT_MAX: Duration = Duration::from_secs(1);
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

/// Why a peer is not linked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Where it was last looked for, and what came of it.
    pub reason: String,
    /// Addresses that were tried since the link was last up.
    pub tries: u32,
}

#[derive(Default)]
struct State {
    addresses: Addresses,
    trouble: Option<Trouble>,
    /// How often the link was up.
    sessions: u64,
    sender: Option<Lanes<internal::Frame>>,
    waiters: BTreeMap<u64, Waiter>,
    /// When the last frame came, of whatever kind.
    heard: Option<Instant>,
    /// It said instead of a pong that its disk stalls (SAFETY M14). Until its next pong.
    is_stalled: bool,
    /// It said goodbye (SAFETY M13). Until the next stream.
    has_left: bool,
    /// On the peer's disk, as its last pong said.
    room: Room,
}

impl State {
    fn alive(&self) -> bool {
        !self.is_stalled && !self.has_left && self.is_heard()
    }

    fn is_heard(&self) -> bool {
        self.heard.is_some_and(|at| at.elapsed() < SILENT_MAX)
    }
}

/// What a link needs of its node.
#[derive(Clone)]
pub(super) struct LinkDeps {
    pub ground: Arc<Ground>,
    pub greeter: Arc<Greeter>,
    /// What its digests say.
    pub leaders: Arc<Leaders>,
}

pub(super) struct Link {
    peer: BrokerId,
    next_id: AtomicU64,
    state: Mutex<State>,
    /// Whether there is a stream.
    up: watch::Sender<bool>,
    /// Ends a wait between two tries.
    new_address: Notify,
    /// For what is read for this peer.
    pub reads: Arc<Semaphore>,
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
        Arc::new(Link {
            peer,
            next_id: AtomicU64::new(1),
            state: Mutex::default(),
            up: watch::Sender::new(false),
            new_address: Notify::new(),
            reads: link_room(),
        })
    }

    /// A link whose peer is the test: what it is sent, with [`Link::dispatch`] for its answers.
    #[cfg(test)]
    pub fn to_a_test() -> (Arc<Link>, super::lanes::Outgoing<internal::Frame>) {
        let link = Link::new(BrokerId(2));
        let (sender, sent) = Lanes::new();
        link.put_up(sender);
        (link, sent)
    }

    /// One more address where the peer may be. A link that is up stays.
    pub fn offer(&self, address: &str) {
        if self.lock().addresses.offer(address) {
            self.new_address.notify_one();
        }
    }

    /// The address of a link that is up.
    pub fn address(&self) -> Option<String> {
        let state = self.lock();
        state.sender.as_ref().and_then(|_| state.addresses.current().map(str::to_string))
    }

    /// Why the link is not up. None: it is, or was not tried yet.
    pub fn trouble(&self) -> Option<Trouble> {
        self.lock().trouble.clone()
    }

    /// Which of its lives the link is in. None: it is not up.
    pub fn session(&self) -> Option<u64> {
        let state = self.lock();
        state.sender.as_ref().map(|_| state.sessions)
    }

    pub fn alive(&self) -> bool {
        self.lock().alive()
    }

    /// None: the peer does not answer.
    pub fn room(&self) -> Option<Room> {
        let state = self.lock();
        state.alive().then_some(state.room)
    }

    /// It said goodbye.
    pub fn has_left(&self) {
        self.lock().has_left = true;
    }

    /// Whether there is a stream, or will be one in time.
    pub async fn wait_up(&self, within: Duration) -> bool {
        timeout(within, self.up.subscribe().wait_for(|up| *up)).await.is_ok()
    }

    /// Asks once.
    pub async fn request(&self, kind: Kind, at: Address, body: Bytes, within: Duration) -> Result<Frame, LinkError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (reply, answered) = oneshot::channel();
        let sender = self.register(id, Waiter::Once(reply))?;
        let frame = Frame { kind, id, group: at.0, from: at.1, to: at.2, body };
        let asked = async {
            if !sender.send(internal::Frame { data: frame.encode() }).await {
                return Err(LinkError::NotSent);
            }
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

    /// Sends a message that nobody answers before all that waits, if there is room for it.
    pub fn tell(&self, kind: Kind, body: Bytes) {
        self.tell_frame(Frame::control(kind, 0, body));
    }

    /// As [`Link::tell`], to the replica that the frame names.
    pub fn tell_frame(&self, frame: Frame) {
        if let Some(sender) = self.lock().sender.clone() {
            // A full lane or a broken stream: digests repeat what matters.
            let _ = sender.send_first(internal::Frame { data: frame.encode() });
        }
    }

    fn register(&self, id: u64, waiter: Waiter) -> Result<Lanes<internal::Frame>, LinkError> {
        let mut state = self.lock();
        let sender = state.sender.clone().ok_or(LinkError::NotSent)?;
        state.waiters.insert(id, waiter);
        Ok(sender)
    }

    /// Keeps a stream to the peer until the task is aborted.
    pub async fn run(self: Arc<Self>, deps: LinkDeps) {
        let mut wait = RETRY_MIN;
        loop {
            let began = Instant::now();
            let mut waits = true;
            let reason = match self.connect(&deps).await {
                Ok(connection) => self.serve(&deps, connection).await,
                Err(reason) => {
                    waits = self.not_reached(&reason);
                    reason
                }
            };
            let was_up = self.take_down();
            if was_up {
                deps.ground.probe.link_down();
                tracing::info!(peer = %self.peer, reason, "link down");
            } else {
                tracing::debug!(peer = %self.peer, reason, "cannot link");
            }
            if !waits {
                continue; // The peer's next address, at once.
            }
            wait = if began.elapsed() > SILENT_MAX * 2 { RETRY_MIN } else { (wait * 2).min(RETRY_MAX) };
            let jitter = Duration::from_millis(deps.ground.rng.below(wait.as_millis() as u64 / 2 + 1));
            let _ = timeout(wait / 2 + jitter, self.new_address.notified()).await;
        }
    }

    /// Goes to the peer's next address. True once all were tried.
    fn not_reached(&self, reason: &str) -> bool {
        let mut state = self.lock();
        let reason = match state.addresses.current() {
            Some(address) => format!("{address}: {reason}"),
            None => reason.to_string(),
        };
        let tries = state.trouble.as_ref().map_or(0, |trouble| trouble.tries).saturating_add(1);
        state.trouble = Some(Trouble { reason, tries });
        state.addresses.failed()
    }

    async fn connect(&self, deps: &LinkDeps) -> Result<Connection, String> {
        let address = self.lock().addresses.current().map(str::to_string).ok_or("no address known")?;
        let channel = timeout(CONNECT_WITHIN, dial(&deps.ground, address)).await;
        let channel = channel.map_err(|_| "it did not accept in time")??;
        let limit = FRAME_BYTES_MAX + 64;
        let mut client = NodeClient::new(channel).max_decoding_message_size(limit).max_encoding_message_size(limit);
        let (sender, outgoing) = Lanes::new();
        // From before the hello, so that no change after it is missed.
        let ours = deps.ground.cluster.subscribe();
        let first = Frame::control(Kind::Hello, 0, encode_control(&deps.greeter.hello_to(self.peer))).encode();
        sender.send_first(internal::Frame { data: first });
        let opened = timeout(CONNECT_WITHIN, client.link(outgoing)).await;
        let mut incoming = opened.map_err(|_| "no stream in time")?.map_err(|e| e.message().to_string())?.into_inner();
        let first = timeout(CONNECT_WITHIN, next(&mut incoming)).await.map_err(|_| "no hello in time")??;
        let theirs: Hello = decode_control(&first.body).map_err(|e| e.to_string())?;
        deps.greeter.check(&theirs, Some(self.peer))?;
        if let Some(address) = told_address(&theirs) {
            self.offer(deps.ground.dialled(self.peer, address));
        }
        Ok(Connection { sender, incoming, ours, theirs: theirs.cluster })
    }

    fn put_up(&self, sender: Lanes<internal::Frame>) {
        let mut state = self.lock();
        (state.sender, state.heard, state.trouble) = (Some(sender), Some(Instant::now()), None);
        (state.is_stalled, state.has_left) = (false, false);
        state.sessions += 1;
        drop(state);
        self.up.send_replace(true);
    }

    async fn serve(&self, deps: &LinkDeps, connection: Connection) -> String {
        let Connection { sender, mut incoming, mut ours, theirs } = connection;
        self.put_up(sender);
        tracing::info!(peer = %self.peer, "link up");
        deps.ground.probe.link_up();
        self.tell_digest(deps);
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
                    if !self.lock().is_heard() {
                        return format!("no answer for {SILENT_MAX:?}");
                    }
                    self.tell(Kind::Ping, encode_control(&Ping { wall: deps.ground.clock.wall() }));
                }
                _ = digests.tick() => self.tell_digest(deps),
                is_other = becomes_another(&mut ours, theirs) => if is_other {
                    return "our cluster is known now, and the peer did not name it".into();
                }
            }
        }
    }

    /// All that this node leads: after a reconnect, and every few seconds in case one was missed.
    fn tell_digest(&self, deps: &LinkDeps) {
        const PER_FRAME: usize = 1_000;
        for some in deps.leaders.led_by(deps.ground.settings.broker).chunks(PER_FRAME) {
            self.tell(Kind::Announce, encode_control(&some));
        }
    }

    pub(super) fn dispatch(&self, frame: Frame) {
        let mut state = self.lock();
        state.heard = Some(Instant::now());
        if let Kind::Pong | Kind::Stalled = frame.kind {
            state.is_stalled = frame.kind == Kind::Stalled;
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
        self.up.send_replace(false);
        state.sender.take().is_some()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }
}

impl Exchange {
    pub async fn send(&mut self, kind: Kind, at: Address, body: Bytes) -> Result<(), LinkError> {
        self.send_holding(kind, at, body, None).await
    }

    /// `held`: the room of what is sent. It is free again once the frame is on the wire.
    pub async fn send_holding(
        &mut self,
        kind: Kind,
        at: Address,
        body: Bytes,
        held: Option<Held>,
    ) -> Result<(), LinkError> {
        let sender = self.link.lock().sender.clone().ok_or(LinkError::NotSent)?;
        self.open = true;
        let frame = Frame { kind, id: self.id, group: at.0, from: at.1, to: at.2, body };
        let data = frame.encode();
        let data = match held {
            Some(held) => held.with(data),
            None => data,
        };
        match sender.send(internal::Frame { data }).await {
            true => Ok(()),
            false => Err(LinkError::NotSent),
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut state = self.link.lock();
        state.waiters.remove(&self.id);
        let (true, Some(sender)) = (self.open, state.sender.clone()) else { return };
        drop(state);
        // The peer keeps the exchange open until it hears of its end.
        sender.send_later(internal::Frame { data: Frame::control(Kind::AppendEnd, self.id, Bytes::new()).encode() });
    }
}

struct Connection {
    sender: Lanes<internal::Frame>,
    incoming: Streaming<internal::Frame>,
    ours: watch::Receiver<Option<ClusterId>>,
    /// The cluster that the peer named.
    theirs: Option<ClusterId>,
}

/// Whether our cluster, now that it is known or has changed, is another than the peer named.
pub(super) async fn becomes_another(ours: &mut watch::Receiver<Option<ClusterId>>, theirs: Option<ClusterId>) -> bool {
    if ours.changed().await.is_err() {
        // The node is gone, and with it this stream.
        std::future::pending::<()>().await;
    }
    let ours = *ours.borrow_and_update();
    ours.is_some() && ours != theirs
}

async fn dial(ground: &Ground, address: String) -> Result<Channel, String> {
    let net = ground.net.clone();
    let connector = tower::service_fn(move |_| {
        let (net, address) = (net.clone(), address.clone());
        async move { net.connect(&address).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://node")
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(STREAM_WINDOW_BYTES);
    endpoint.connect_with_connector(connector).await.map_err(|e| root_cause(&e))
}

/// What the system said; what lies around it only says that connecting failed.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

pub(super) async fn next(incoming: &mut Streaming<internal::Frame>) -> Result<Frame, String> {
    match incoming.message().await {
        Ok(Some(frame)) => Frame::decode(frame.data).map_err(|e| e.to_string()),
        Ok(None) => Err("the peer ended the stream".into()),
        Err(status) => Err(status.message().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whatever_comes_back_is_a_sign_of_life() {
        let (link, _sent) = Link::to_a_test();
        for kind in [Kind::AppendReply, Kind::CallReply, Kind::Failed, Kind::Pong] {
            tokio::time::advance(SILENT_MAX * 9 / 10).await;
            assert!(link.alive(), "before {kind:?}");
            link.dispatch(Frame::control(kind, 1, Bytes::new()));
        }
        tokio::time::advance(SILENT_MAX).await;
        assert!(!link.alive());
    }

    /// SAFETY M13, M14: who says that it must not lead is not alive, whatever else it sends.
    #[tokio::test(start_paused = true)]
    async fn who_stalls_or_leaves_is_not_alive_whatever_it_says_besides() {
        let (link, _sent) = Link::to_a_test();
        link.dispatch(Frame::control(Kind::Stalled, 0, encode_control(&Room::default())));
        link.dispatch(Frame::control(Kind::AppendReply, 1, Bytes::new()));
        assert!(!link.alive() && link.room().is_none());
        link.dispatch(Frame::control(Kind::Pong, 0, encode_control(&Room::default())));
        assert!(link.alive() && link.room().is_some());
        link.has_left();
        link.dispatch(Frame::control(Kind::Pong, 0, encode_control(&Room::default())));
        assert!(!link.alive());
        let (sender, _sent) = Lanes::new();
        link.put_up(sender);
        assert!(link.alive(), "its next process is another");
    }
}
