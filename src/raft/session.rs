//! One incoming stream: takes requests of one peer, hands them to the replica they name, and sends the
//! replies back.
//!
//! Nothing that takes long holds up what follows it: the session waits for nobody but the peer itself, to
//! take its replies. Where there is no room for a request it is refused. Whatever a peer sends that no
//! peer could mean ends the stream; nothing that it sends reaches an assert.

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Status, Streaming};

use super::{
    RoomLevel,
    checks::{check_append, check_term},
    exchange::{self, Incoming, Replies, send},
    greeter::Greeter,
    ground::Ground,
    hosted::{Hosted, HostedReplicas},
    leaders::Leaders,
    link::{APPEND_WINDOW, becomes_another, next},
    links::Links,
    room::is_bulk,
    wire::{
        Announced, Frame, Hello, Kind, SnapshotHead, decode_append, decode_control, decode_snapshot_head,
        decode_transfer, decode_vote_request, encode_control, encode_vote_reply, encode_vote_request,
    },
};
use crate::{
    metrics::FrameRefusal,
    proto::internal,
    types::{BrokerId, ClusterId, EntryPosition, TERM_MAX, Term},
};

/// Append exchanges of one peer at once: one a group and a few in transition.
const EXCHANGES_MAX: usize = 65_536;
/// Votes, transfers and snapshots of one peer worked on at once; more are refused. A broker that dies leaves all
/// that it led, and each of these groups asks at once; whoever is refused waits for another election timeout.
const REQUESTS_MAX: usize = 16_384;
/// Requests of the layers above that one peer has here at once; more are refused. Apart from those of
/// Raft, which must not wait for them.
const CALLS_MAX: usize = 256;
/// State of one snapshot. Partition state is bounded by its producers, metadata by its limits.
const SNAPSHOT_BYTES_MAX: usize = 256 << 20;
/// Snapshots that one peer is sending at once.
const SNAPSHOTS_MAX: usize = 16;
/// Bytes of appends and snapshots that all peers sent and that no replica here has answered yet: a slow
/// disk must not fill the memory. Two snapshots at their largest, or 512 appends.
pub(super) const INCOMING_BYTES_MAX: usize = 512 << 20;
/// An append up to this size costs nothing worth counting: a heartbeat is never refused.
const APPEND_COUNTED_MIN: usize = 4 << 10;

/// How long a request is worked on at most (SAFETY M15). The peer has given up before.
const VOTE_WITHIN: Duration = Duration::from_secs(2);
const TRANSFER_WITHIN: Duration = Duration::from_secs(30);
const INSTALL_WITHIN: Duration = Duration::from_secs(60);
const CALL_WITHIN: Duration = Duration::from_secs(90);

/// A snapshot whose end has not come yet.
struct Arriving {
    head: Frame,
    state: BytesMut,
    room: Option<OwnedSemaphorePermit>,
}

/// Requests of one exchange on their way to its task, which ends with this.
struct Exchange {
    requests: mpsc::Sender<Incoming>,
    _task: DropGuard,
}

/// Answers opaque requests of other nodes.
pub type CallHandler = Arc<dyn Fn(BrokerId, Bytes) -> Pin<Box<dyn Future<Output = Bytes> + Send>> + Send + Sync>;

/// What a session needs of its node.
#[derive(Clone)]
pub(super) struct SessionDeps {
    pub ground: Arc<Ground>,
    pub greeter: Arc<Greeter>,
    pub links: Arc<Links>,
    pub leaders: Arc<Leaders>,
    pub hosted: Arc<HostedReplicas>,
    pub on_call: CallHandler,
    /// Bytes of appends and snapshots that peers sent and no replica has answered yet.
    pub incoming: Arc<Semaphore>,
}

pub(super) struct Session {
    deps: SessionDeps,
    peer: BrokerId,
    /// The cluster that the peer named.
    cluster: Option<ClusterId>,
    replies: Replies,
    appends: BTreeMap<u64, Exchange>,
    snapshots: BTreeMap<u64, Arriving>,
    requests: Arc<Semaphore>,
    calls: Arc<Semaphore>,
}

impl Session {
    pub fn new(deps: SessionDeps, hello: &Hello, replies: Replies) -> Session {
        Session {
            deps,
            peer: hello.from,
            cluster: hello.cluster,
            replies,
            appends: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            requests: Arc::new(Semaphore::new(REQUESTS_MAX)),
            calls: Arc::new(Semaphore::new(CALLS_MAX)),
        }
    }

    pub async fn run(mut self, mut incoming: Streaming<internal::Frame>, mut ours: watch::Receiver<Option<ClusterId>>) {
        let reason = loop {
            let frame = tokio::select! {
                biased;
                is_other = becomes_another(&mut ours, self.cluster) => match is_other {
                    true => {
                        // If it is of ours, it says so again in its next stream (SAFETY B5).
                        self.deps.leaders.forget_said_by(self.peer);
                        break "our cluster is known now, and it was not named".into();
                    }
                    false => continue,
                },
                frame = next(&mut incoming) => frame,
            };
            let taken = match frame {
                Ok(frame) => {
                    let taken = self.take(frame).await;
                    taken.inspect_err(|reason| {
                        self.deps.ground.probe.frame_refused(FrameRefusal::Malformed);
                        tracing::warn!(peer = %self.peer, reason, "a peer sent what no peer may: its stream ends");
                    })
                }
                Err(reason) => Err(reason),
            };
            if let Err(reason) = taken {
                break reason;
            }
        };
        tracing::debug!(peer = %self.peer, reason, "incoming stream ended");
        let _ = self.replies.send_first(Err(Status::aborted(reason)));
    }

    /// An error ends the stream: the peer broke the protocol.
    async fn take(&mut self, frame: Frame) -> Result<(), String> {
        match frame.kind {
            Kind::Ping => {
                self.deps.links.heard_from(self.peer);
                self.pong(&frame);
            }
            Kind::Goodbye => self.hear_goodbye(),
            Kind::Announce => {
                let said: Vec<Announced> = decode_control(&frame.body).map_err(|e| e.to_string())?;
                if let Some(one) = said.iter().find(|one| one.term.0 > TERM_MAX) {
                    return Err(format!("a leader of the impossible term {} is announced", one.term));
                }
                for one in said {
                    self.hear(one);
                }
            }
            Kind::Purged => self.release(&frame)?,
            Kind::Append => self.append(frame).await?,
            Kind::AppendEnd => {
                self.appends.remove(&frame.id);
                self.snapshots.remove(&frame.id);
            }
            Kind::SnapshotHead | Kind::SnapshotPart | Kind::SnapshotEnd => self.snapshot(frame).await?,
            Kind::Vote | Kind::PreVote | Kind::Transfer | Kind::Confirm => {
                self.spawn(self.requests.clone(), frame, None).await
            }
            Kind::Call => self.spawn(self.calls.clone(), frame, None).await,
            Kind::Hello
            | Kind::Pong
            | Kind::Stalled
            | Kind::AppendReply
            | Kind::VoteReply
            | Kind::TransferReply
            | Kind::SnapshotReply
            | Kind::CallReply
            | Kind::ConfirmReply
            | Kind::Failed
            | Kind::Busy => return Err(format!("{:?} is not a request", frame.kind)),
        }
        Ok(())
    }

    /// What the peer says of itself. Believed only as far as it can be (SAFETY M10, M12): a leader of a
    /// group that runs here is one of its members, and no term leaps.
    fn hear(&self, said: Announced) {
        let (deps, from) = (&self.deps, self.peer);
        let member = deps.hosted.get(said.group).map(|hosted| hosted.member);
        let known = deps.leaders.of(said.group).map(|leader| leader.term.0);
        let term = member.as_ref().map(|member| member.term()).max(known);
        let is_member = member.is_none_or(|member| member.has_member(said.replica, from) != Some(false));
        if !is_member || check_term(said.term.0, term.unwrap_or_default()).is_err() {
            deps.ground.probe.frame_refused(FrameRefusal::Announcement);
            tracing::warn!(group = %said.group, term = %said.term, replica = %said.replica, %from, "announcement refused");
            return;
        }
        deps.leaders.hear_or_warn(from, said);
    }

    /// The peer stops: it is dead from now on, and whom it leads need another leader (SAFETY M13).
    fn hear_goodbye(&self) {
        tracing::info!(peer = %self.peer, "peer says goodbye");
        if let Some(link) = self.deps.links.link(self.peer) {
            link.has_left();
        }
        for member in self.deps.hosted.members() {
            member.leader_left(self.peer);
        }
    }

    /// A peer's replica purged its log. Of no matter while there is room: the trim comes by itself.
    fn release(&self, frame: &Frame) -> Result<(), String> {
        let upto: EntryPosition = decode_control(&frame.body).map_err(|e| e.to_string())?;
        if self.deps.ground.room().level == RoomLevel::Full
            && let Some(hosted) = addressee(&self.deps.hosted, frame)
        {
            hosted.member.release(upto);
        }
        Ok(())
    }

    /// While the disk stalls there is no pong: the peer counts this node as dead (SAFETY M14).
    fn pong(&self, ping: &Frame) {
        let kind = if self.deps.ground.is_stalled() { Kind::Stalled } else { Kind::Pong };
        let pong = ping.reply(kind, encode_control(&self.deps.ground.room())).encode();
        // No room: a peer that takes none of its replies needs no pong.
        let _ = self.replies.send_first(Ok(internal::Frame { data: pong }));
    }

    async fn refuse(&self, frame: &Frame, kind: Kind, why: FrameRefusal, reason: impl Into<Bytes>) {
        self.deps.ground.probe.frame_refused(why);
        send(&self.replies, frame.reply(kind, reason.into())).await;
    }

    async fn append(&mut self, frame: Frame) -> Result<(), String> {
        let Some(hosted) = addressee(&self.deps.hosted, &frame) else {
            self.refuse(&frame, Kind::Failed, FrameRefusal::NoSuchReplica, no_such_replica(&frame)).await;
            return Ok(());
        };
        let request = decode_append(frame.body.clone()).map_err(|e| e.to_string())?;
        check_append(&request)?;
        if let Err(reason) = check_term(request.vote.leader_id().term, hosted.member.term()) {
            self.refuse(&frame, Kind::Failed, FrameRefusal::Term, reason).await;
            return Ok(());
        }
        if self.deps.ground.room().level == RoomLevel::Full && is_bulk(frame.group, &request) {
            self.refuse(&frame, Kind::Failed, FrameRefusal::DiskFull, "the disk is full").await;
            return Ok(());
        }
        let Ok(room) = self.room_for(frame.body.len()) else {
            self.refuse(&frame, Kind::Busy, FrameRefusal::Memory, "too many bytes wait for the disk").await;
            return Ok(());
        };
        self.append_to(hosted, frame, Incoming { request, room }).await
    }

    /// Memory for so many bytes; none is needed for a few.
    fn room_for(&self, bytes: usize) -> Result<Option<OwnedSemaphorePermit>, ()> {
        if bytes < APPEND_COUNTED_MIN {
            return Ok(None);
        }
        let bytes = u32::try_from(bytes).map_err(drop)?;
        self.deps.incoming.clone().try_acquire_many_owned(bytes).map(Some).map_err(drop)
    }

    async fn append_to(&mut self, hosted: Hosted, frame: Frame, request: Incoming) -> Result<(), String> {
        let begun = self.appends.get(&frame.id).filter(|exchange| !exchange.requests.is_closed());
        let requests = match begun {
            Some(exchange) => exchange.requests.clone(),
            None => match self.begin_appends(hosted, &frame)? {
                Some(requests) => requests,
                None => {
                    self.refuse(&frame, Kind::Busy, FrameRefusal::Exchanges, "the replica answers none of its appends")
                        .await;
                    return Ok(());
                }
            },
        };
        // The window bounds what a peer may have outstanding, so a full channel is its fault.
        match requests.try_send(request) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err("more appends than the window allows".into()),
            Err(mpsc::error::TrySendError::Closed(_)) => {
                self.appends.remove(&frame.id);
                Ok(())
            }
        }
    }

    /// Begins an exchange of appends. None: too many with the replica have not ended.
    fn begin_appends(&mut self, hosted: Hosted, frame: &Frame) -> Result<Option<mpsc::Sender<Incoming>>, String> {
        self.appends.retain(|_, exchange| !exchange.requests.is_closed());
        if self.appends.len() >= EXCHANGES_MAX {
            return Err(format!("more than {EXCHANGES_MAX} append exchanges at once"));
        }
        let Ok(turn) = hosted.exchanges.clone().try_acquire_owned() else { return Ok(None) };
        let (requests, arriving) = mpsc::channel(APPEND_WINDOW + 1);
        let ended = CancellationToken::new();
        let head = Frame { body: Bytes::new(), ..frame.clone() };
        let work = exchange::run(hosted.member, head, arriving, turn, self.replies.clone());
        self.appends.insert(frame.id, Exchange { requests: requests.clone(), _task: ended.clone().drop_guard() });
        tokio::spawn(async move { ended.run_until_cancelled(work).await });
        Ok(Some(requests))
    }

    async fn snapshot(&mut self, frame: Frame) -> Result<(), String> {
        let id = frame.id;
        if frame.kind == Kind::SnapshotHead {
            if self.snapshots.len() >= SNAPSHOTS_MAX {
                self.refuse(&frame, Kind::Busy, FrameRefusal::Snapshots, "too many snapshots at once").await;
                return Ok(());
            }
            let arriving = Arriving { head: frame, state: BytesMut::new(), room: None };
            self.snapshots.insert(id, arriving);
            return Ok(());
        }
        // What follows a head that was refused.
        let Some(arriving) = self.snapshots.get(&id) else { return Ok(()) };
        if arriving.state.len() + frame.body.len() > SNAPSHOT_BYTES_MAX {
            return Err(format!("snapshot of more than {SNAPSHOT_BYTES_MAX} bytes"));
        }
        let Ok(room) = self.room_for(frame.body.len()) else {
            let arriving = self.snapshots.remove(&id).expect("looked up above");
            self.refuse(&arriving.head, Kind::Busy, FrameRefusal::Memory, "too many bytes wait for the disk").await;
            return Ok(());
        };
        let arriving = self.snapshots.get_mut(&id).expect("looked up above");
        arriving.state.extend_from_slice(&frame.body);
        match (&mut arriving.room, room) {
            (Some(all), Some(more)) => all.merge(more),
            (none, more @ Some(_)) => *none = more,
            (_, None) => {}
        }
        if frame.kind == Kind::SnapshotEnd {
            let Arriving { head, state, room } = self.snapshots.remove(&id).expect("looked up above");
            self.spawn(self.requests.clone(), head, Some((state.freeze(), room))).await;
        }
        Ok(())
    }

    /// Works on a request beside the stream, so that a slow one holds up no other; if there is a turn for it.
    async fn spawn(&self, turns: Arc<Semaphore>, frame: Frame, state: Option<(Bytes, Option<OwnedSemaphorePermit>)>) {
        let Ok(turn) = turns.try_acquire_owned() else {
            self.refuse(&frame, Kind::Busy, FrameRefusal::Requests, "too many requests at once").await;
            return;
        };
        let (deps, replies, peer) = (self.deps.clone(), self.replies.clone(), self.peer);
        let (state, room) = state.unzip();
        tokio::spawn(async move {
            let answer = timeout(within(frame.kind), answer(&deps, peer, &frame, state)).await;
            let reply = match answer.unwrap_or_else(|_| Err("it took too long".into())) {
                Ok((kind, body)) => frame.reply(kind, body),
                Err(reason) => frame.reply(Kind::Failed, reason.into()),
            };
            send(&replies, reply).await;
            drop((turn, room));
        });
    }
}

fn within(kind: Kind) -> Duration {
    match kind {
        Kind::Transfer => TRANSFER_WITHIN,
        Kind::SnapshotHead => INSTALL_WITHIN,
        Kind::Call => CALL_WITHIN,
        _ => VOTE_WITHIN,
    }
}

/// The replica a frame names, if it runs here. Its former self or its successor is not it (SAFETY B5).
fn addressee(hosted: &HostedReplicas, frame: &Frame) -> Option<Hosted> {
    hosted.get(frame.group).filter(|hosted| hosted.replica == frame.to)
}

fn no_such_replica(frame: &Frame) -> String {
    format!("no such replica: group {}, replica {}", frame.group, frame.to)
}

async fn answer(
    deps: &SessionDeps,
    peer: BrokerId,
    frame: &Frame,
    state: Option<Bytes>,
) -> Result<(Kind, Bytes), String> {
    let body = frame.body.clone();
    if frame.kind == Kind::Call {
        return Ok((Kind::CallReply, (deps.on_call)(peer, body).await));
    }
    let hosted = addressee(&deps.hosted, frame).ok_or_else(|| no_such_replica(frame))?;
    let malformed = |e: super::types::Malformed| e.to_string();
    match frame.kind {
        Kind::Vote | Kind::PreVote => {
            let request = decode_vote_request(body).map_err(malformed)?;
            let reply = hosted.member.vote(request, frame.kind == Kind::PreVote).await?;
            Ok((Kind::VoteReply, encode_vote_reply(&reply)))
        }
        Kind::Transfer => {
            let request = decode_transfer(body).map_err(malformed)?;
            hosted.member.transfer(request).await?;
            Ok((Kind::TransferReply, Bytes::new()))
        }
        Kind::Confirm => {
            let term: Term = decode_control(&body).map_err(malformed)?;
            let follows = hosted.member.follows(term, frame.from).await?;
            Ok((Kind::ConfirmReply, encode_control(&follows)))
        }
        Kind::SnapshotHead => {
            let head: SnapshotHead = decode_snapshot_head(body).map_err(malformed)?;
            let vote = hosted.member.install(head, state.unwrap_or_default()).await?;
            let reply = openraft::raft::VoteRequest { vote, last_log_id: None, leadership_transfer: false };
            Ok((Kind::SnapshotReply, encode_vote_request(&reply)))
        }
        other => Err(format!("{other:?} is not a request")),
    }
}
