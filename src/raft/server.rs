//! The other end of a [`Link`](super::link::Link): takes requests of one peer, hands them to the
//! replica they name, and sends the replies back.

use std::{collections::BTreeMap, pin::Pin, sync::Arc, task, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use openraft::raft::AppendEntriesRequest;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::Connected},
};

use super::{
    RoomLevel,
    core::{Core, Hosted},
    link::{APPEND_WINDOW, next},
    room::is_bulk,
    types::Types,
    wire::{
        Announced, FRAME_BYTES_MAX, Frame, Hello, Kind, SnapshotHead, decode_append, decode_control,
        decode_snapshot_head, decode_transfer, decode_vote_request, encode_append_reply, encode_control,
        encode_vote_reply, encode_vote_request,
    },
};
use crate::{
    proto::internal::{
        self,
        node_server::{Node, NodeServer},
    },
    seam::{ConnectionLimits, GuardedListener, GuardedStream, Listener, Silence},
    types::{BrokerId, RaftGroupId, ReplicaId, Term},
};

/// Replies queued to one peer before their makers wait.
const QUEUE_FRAMES_MAX: usize = 64;
/// Append exchanges of one peer at once: one a group and a few in transition.
const EXCHANGES_MAX: usize = 65_536;
/// Other requests of one peer worked on at once; more wait in its stream.
const REQUESTS_MAX: usize = 256;
/// State of one snapshot. Partition state is bounded by its producers, metadata by its limits.
const SNAPSHOT_BYTES_MAX: usize = 256 << 20;
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
pub(super) async fn serve(core: Arc<Core>, listener: Box<dyn Listener>) {
    let limits = ConnectionLimits { connections_max: CONNECTIONS_MAX, silence: Silence::Always(SILENT_MAX) };
    let listener = GuardedListener::new(listener, "peer", limits);
    let incoming = futures_util::stream::unfold(listener, |mut listener| async move {
        let (stream, _) = listener.accept().await;
        Some((Ok::<_, std::io::Error>(Io(stream)), listener))
    });
    let limit = FRAME_BYTES_MAX + 64;
    let node = NodeServer::new(Service(core)).max_decoding_message_size(limit).max_encoding_message_size(limit);
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

struct Service(Arc<Core>);

type Replies = mpsc::Sender<Result<internal::Frame, Status>>;

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
        self.0.check_hello(&hello, None).map_err(Status::failed_precondition)?;
        let (replies, outgoing) = mpsc::channel(QUEUE_FRAMES_MAX);
        let ours = Hello {
            cluster: self.0.cluster(),
            from: self.0.settings.broker,
            to: hello.from,
            incarnation: self.0.incarnation,
        };
        let ours = Frame::control(Kind::Hello, 0, encode_control(&ours)).encode();
        replies.try_send(Ok(internal::Frame { data: ours })).expect("the channel is new");
        let session = Session {
            core: self.0.clone(),
            peer: hello.from,
            replies,
            appends: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            requests: Arc::new(Semaphore::new(REQUESTS_MAX)),
        };
        let stopping = self.0.stopping.clone();
        tokio::spawn(async move { stopping.run_until_cancelled(session.run(incoming)).await });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

/// One incoming stream.
struct Session {
    core: Arc<Core>,
    peer: BrokerId,
    replies: Replies,
    appends: BTreeMap<u64, mpsc::Sender<AppendEntriesRequest<Types>>>,
    snapshots: BTreeMap<u64, (Frame, BytesMut)>,
    requests: Arc<Semaphore>,
}

impl Session {
    async fn run(mut self, mut incoming: Streaming<internal::Frame>) {
        loop {
            let reason = match next(&mut incoming).await {
                Ok(frame) => match self.take(frame).await {
                    Ok(()) => continue,
                    Err(reason) => {
                        self.core.probe.frame_refused("malformed");
                        reason
                    }
                },
                Err(reason) => reason,
            };
            tracing::debug!(peer = %self.peer, reason, "incoming stream ended");
            let _ = self.replies.try_send(Err(Status::aborted(reason)));
            return;
        }
    }

    /// An error ends the stream: the peer broke the protocol.
    async fn take(&mut self, frame: Frame) -> Result<(), String> {
        match frame.kind {
            Kind::Ping => self.reply(frame.reply(Kind::Pong, encode_control(&self.core.room()))).await,
            Kind::Goodbye => tracing::info!(peer = %self.peer, "peer says goodbye"),
            Kind::Announce => {
                let said: Vec<Announced> = decode_control(&frame.body).map_err(|e| e.to_string())?;
                for one in said {
                    self.core.hear(self.peer, one);
                }
            }
            Kind::Append => self.append(frame).await?,
            Kind::AppendEnd => {
                self.appends.remove(&frame.id);
                self.snapshots.remove(&frame.id);
            }
            Kind::SnapshotHead | Kind::SnapshotPart | Kind::SnapshotEnd => self.snapshot(frame).await?,
            Kind::Vote | Kind::PreVote | Kind::Transfer | Kind::Confirm | Kind::Call => self.spawn(frame, None).await,
            Kind::Hello
            | Kind::Pong
            | Kind::AppendReply
            | Kind::VoteReply
            | Kind::TransferReply
            | Kind::SnapshotReply
            | Kind::CallReply
            | Kind::ConfirmReply
            | Kind::Failed => return Err(format!("{:?} is not a request", frame.kind)),
        }
        Ok(())
    }

    async fn reply(&self, frame: Frame) {
        send(&self.replies, frame).await;
    }

    async fn append(&mut self, frame: Frame) -> Result<(), String> {
        let Some(hosted) = addressee(&self.core, &frame) else {
            self.core.probe.frame_refused("no_such_replica");
            self.reply(frame.reply(Kind::Failed, no_such_replica(&frame))).await;
            return Ok(());
        };
        let request = decode_append(frame.body.clone()).map_err(|e| e.to_string())?;
        if self.core.room().level == RoomLevel::Full && is_bulk(frame.group, &request) {
            self.core.probe.frame_refused("disk_full");
            self.reply(frame.reply(Kind::Failed, Bytes::from_static(b"the disk is full"))).await;
            return Ok(());
        }
        let exchange = match self.appends.get(&frame.id) {
            Some(exchange) if !exchange.is_closed() => exchange.clone(),
            Some(_) | None => self.begin_appends(hosted, &frame)?,
        };
        // The window bounds what a peer may have outstanding, so a full channel is its fault.
        match exchange.try_send(request) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err("more appends than the window allows".into()),
            Err(mpsc::error::TrySendError::Closed(_)) => {
                self.appends.remove(&frame.id);
                Ok(())
            }
        }
    }

    fn begin_appends(
        &mut self,
        hosted: Hosted,
        frame: &Frame,
    ) -> Result<mpsc::Sender<AppendEntriesRequest<Types>>, String> {
        self.appends.retain(|_, exchange| !exchange.is_closed());
        if self.appends.len() >= EXCHANGES_MAX {
            return Err(format!("more than {EXCHANGES_MAX} append exchanges at once"));
        }
        let (sender, requests) = mpsc::channel(APPEND_WINDOW + 1);
        self.appends.insert(frame.id, sender.clone());
        let (replies, head) = (self.replies.clone(), Frame { body: Bytes::new(), ..frame.clone() });
        tokio::spawn(async move {
            let mut answers = hosted.member.appends(Box::pin(ReceiverStream::new(requests))).await;
            while let Some(answer) = answers.next().await {
                let frame = match answer {
                    Ok(answer) => head.reply(Kind::AppendReply, encode_append_reply(&answer)),
                    Err(reason) => head.reply(Kind::Failed, reason.into()),
                };
                send(&replies, frame).await;
            }
        });
        Ok(sender)
    }

    async fn snapshot(&mut self, frame: Frame) -> Result<(), String> {
        if frame.kind == Kind::SnapshotHead {
            self.snapshots.insert(frame.id, (frame, BytesMut::new()));
            return Ok(());
        }
        let id = frame.id;
        let Some((_, state)) = self.snapshots.get_mut(&id) else {
            return Err("part of a snapshot that was not begun".into());
        };
        if state.len() + frame.body.len() > SNAPSHOT_BYTES_MAX {
            return Err(format!("snapshot of more than {SNAPSHOT_BYTES_MAX} bytes"));
        }
        state.extend_from_slice(&frame.body);
        if frame.kind == Kind::SnapshotEnd {
            let (head, state) = self.snapshots.remove(&id).expect("looked up above");
            self.spawn(head, Some(state.freeze())).await;
        }
        Ok(())
    }

    /// Works on a request beside the stream, so that a slow one holds up no other.
    async fn spawn(&self, frame: Frame, state: Option<Bytes>) {
        let permit = self.requests.clone().acquire_owned().await.expect("never closed");
        let (core, replies, peer) = (self.core.clone(), self.replies.clone(), self.peer);
        tokio::spawn(async move {
            let answer = answer(&core, peer, &frame, state).await;
            let reply = match answer {
                Ok((kind, body)) => frame.reply(kind, body),
                Err(reason) => frame.reply(Kind::Failed, reason.into()),
            };
            send(&replies, reply).await;
            drop(permit);
        });
    }
}

async fn send(replies: &Replies, frame: Frame) {
    // A peer that is gone needs no reply.
    let _ = replies.send(Ok(internal::Frame { data: frame.encode() })).await;
}

/// The replica a frame names, if it runs here. Its former self or its successor is not it (SAFETY B5).
fn addressee(core: &Core, frame: &Frame) -> Option<Hosted> {
    core.hosted(frame.group).filter(|hosted| hosted.replica == frame.to)
}

fn no_such_replica(frame: &Frame) -> Bytes {
    format!("no such replica: group {}, replica {}", frame.group, frame.to).into()
}

async fn answer(core: &Core, peer: BrokerId, frame: &Frame, state: Option<Bytes>) -> Result<(Kind, Bytes), String> {
    let body = frame.body.clone();
    if frame.kind == Kind::Call {
        return Ok((Kind::CallReply, (core.on_call)(peer, body).await));
    }
    let hosted = addressee(core, frame).ok_or("no such replica")?;
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

/// The address of a replica's frames.
pub(super) type Address = (RaftGroupId, ReplicaId, ReplicaId);
