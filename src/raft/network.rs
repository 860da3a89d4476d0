//! openraft's network on top of [`Link`]: one object per group and target.

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use openraft::{
    OptionalSend, RaftNetworkFactory,
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::{Backoff, RPCOption, v2::RaftNetworkV2},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
        VoteRequest, VoteResponse,
    },
};
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    RoomLevel,
    core::Core,
    driver::RaftSnapshot,
    link::{APPEND_WINDOW, Exchange, Link, LinkError},
    room::{FULL_RETRY_EVERY, is_bulk},
    server::Address,
    types::{Peer, RaftLogId, RaftVote, Types},
    wire::{
        Frame, Kind, SnapshotHead, decode_append_reply, decode_vote_reply, decode_vote_request, encode_append,
        encode_snapshot_head, encode_transfer, encode_vote_request,
    },
};
use crate::types::{LogIndex, RaftGroupId, ReplicaId, Term};

type RpcResult<T> = Result<T, RPCError<Types>>;
type AppendReplies<'s> = Pin<Box<dyn Stream<Item = RpcResult<StreamAppendResult<Types>>> + Send + 's>>;

/// An append exchange without a reply for this long is given up: openraft would wait for ever, and
/// a hung follower would pin the log against purging (SAFETY M5, M15). Long enough for a slow disk.
const APPEND_STALLED: Duration = Duration::from_secs(3);
/// How long the news of a commit waits for entries to travel with.
const COMMIT_HELD: Duration = Duration::from_millis(1);
/// Commits that one append stands for; reached only if none is followed by entries.
const SUPERSEDED_MAX: usize = 16;
const VOTE_WITHIN: Duration = Duration::from_millis(500);
const TRANSFER_WITHIN: Duration = Duration::from_millis(500);
const SNAPSHOT_PART_BYTES: usize = 1 << 20;
/// How long openraft waits before it tries an unreachable peer again.
const RETRY_EVERY: Duration = Duration::from_millis(50);

/// What followers acknowledged to this replica, which they do only for fsynced entries. Kept beside
/// openraft's own count so that a receipt can name them at the moment of commit.
#[derive(Default)]
pub(super) struct Matches(Mutex<BTreeMap<ReplicaId, (Term, LogIndex)>>);

impl Matches {
    fn note(&self, from: ReplicaId, term: Term, matched: LogIndex) {
        let mut matches = self.0.lock().expect("no panic under this lock");
        let known = matches.entry(from).or_insert((term, matched));
        *known = (*known).max((term, matched));
    }

    /// Replicas that acknowledged `index` to the leader of `term`.
    pub fn covering(&self, term: Term, index: LogIndex) -> Vec<ReplicaId> {
        let matches = self.0.lock().expect("no panic under this lock");
        let covering = matches.iter().filter(|(_, (t, matched))| *t == term && *matched >= index);
        covering.map(|(replica, _)| *replica).collect()
    }
}

#[derive(Clone)]
pub(super) struct Factory {
    pub core: Arc<Core>,
    pub group: RaftGroupId,
    pub replica: ReplicaId,
    pub matches: Arc<Matches>,
}

impl Factory {
    fn network(&self, target: u64, node: &Peer, heartbeat: bool) -> Network {
        let link = self.core.link(node.broker).unwrap_or_else(|| {
            // Named in a membership before its address was: no link yet, unreachable until then.
            Link::new(node.broker)
        });
        Network {
            core: self.core.clone(),
            peer: *node,
            link,
            address: (self.group, self.replica, ReplicaId(target)),
            matches: (!heartbeat).then(|| self.matches.clone()),
        }
    }
}

impl RaftNetworkFactory<Types> for Factory {
    type Network = Network;

    async fn new_client(&mut self, target: u64, node: &Peer) -> Network {
        self.network(target, node, false)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Peer) -> Network {
        self.network(target, node, true)
    }
}

pub(super) struct Network {
    core: Arc<Core>,
    peer: Peer,
    link: Arc<Link>,
    address: Address,
    /// None for heartbeats, whose replies do not speak of flushed entries.
    matches: Option<Arc<Matches>>,
}

fn unreachable(reason: impl ToString) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::from_string(reason))
}

fn broken(reason: impl ToString) -> RPCError<Types> {
    RPCError::Network(NetworkError::from_string(reason))
}

fn failed(error: LinkError) -> RPCError<Types> {
    match error {
        LinkError::NotSent => unreachable("no link"),
        LinkError::NoAnswer => broken("no answer"),
    }
}

/// The reply of the kind asked for, or what went wrong.
fn expect(frame: Frame, kind: Kind) -> RpcResult<Bytes> {
    if frame.kind == kind {
        return Ok(frame.body);
    }
    Err(unreachable(format!("{:?}: {}", frame.kind, String::from_utf8_lossy(&frame.body))))
}

impl Network {
    /// The link may have been made after this object was.
    fn link(&mut self) -> Arc<Link> {
        if let Some(link) = self.core.link(self.peer.broker) {
            self.link = link;
        }
        self.link.clone()
    }

    fn peer_is_full(&self) -> bool {
        self.link.room().is_some_and(|room| room.level == RoomLevel::Full)
    }

    async fn ask(&mut self, kind: Kind, body: Bytes, within: Duration) -> RpcResult<Frame> {
        let (link, address) = (self.link(), self.address);
        link.request(kind, address, body, within).await.map_err(failed)
    }

    async fn ask_vote(&mut self, kind: Kind, request: VoteRequest<Types>) -> RpcResult<VoteResponse<Types>> {
        let frame = self.ask(kind, encode_vote_request(&request), VOTE_WITHIN).await?;
        decode_vote_reply(expect(frame, Kind::VoteReply)?).map_err(broken)
    }

    async fn send_snapshot(&mut self, vote: RaftVote, snapshot: RaftSnapshot, within: Duration) -> RpcResult<RaftVote> {
        let head = SnapshotHead {
            vote,
            last_log_id: snapshot.meta.last_log_id,
            membership: snapshot.meta.last_membership.clone(),
        };
        let mut exchange = self.link().open(1).map_err(failed)?;
        let sent = async {
            exchange.send(Kind::SnapshotHead, self.address, encode_snapshot_head(&head)).await?;
            let mut state = snapshot.snapshot;
            while state.len() > SNAPSHOT_PART_BYTES {
                exchange.send(Kind::SnapshotPart, self.address, state.split_to(SNAPSHOT_PART_BYTES)).await?;
            }
            exchange.send(Kind::SnapshotEnd, self.address, state).await?;
            exchange.replies.recv().await.ok_or(LinkError::NoAnswer)
        };
        let frame = timeout(within, sent).await.map_err(|_| broken("snapshot not taken in time"))?.map_err(failed)?;
        let reply = decode_vote_request(expect(frame, Kind::SnapshotReply)?).map_err(broken)?;
        Ok(reply.vote)
    }
}

impl RaftNetworkV2<Types> for Network {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> RpcResult<AppendEntriesResponse<Types>> {
        let mut replies = self.stream_append(stream::iter([request]), option).await?;
        match replies.next().await {
            Some(reply) => Ok(reply?.into()),
            None => Err(broken("no reply")),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        _option: RPCOption,
    ) -> Pin<Box<dyn Future<Output = RpcResult<AppendReplies<'s>>> + Send + 's>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            // Polled even if there is no link: openraft's backoff lives inside this stream, and
            // without it a dead peer would be retried in a hot loop.
            let Some(first) = input.next().await else {
                return Ok(Box::pin(stream::empty()) as AppendReplies<'s>);
            };
            if self.peer_is_full() && is_bulk(self.address.0, &first) {
                return Err(unreachable("its disk is full"));
            }
            let exchange = self.link().open(APPEND_WINDOW).map_err(failed)?;
            let appends = Appends {
                exchange,
                address: self.address,
                matches: self.matches.clone(),
                input,
                next: Some(first),
                ended: false,
                held: None,
                superseded: Vec::new(),
                outstanding: VecDeque::with_capacity(APPEND_WINDOW),
                ready: VecDeque::new(),
                agreed: None,
            };
            Ok(Box::pin(stream::unfold(Some(appends), Appends::step)) as AppendReplies<'s>)
        })
    }

    async fn vote(&mut self, request: VoteRequest<Types>, _option: RPCOption) -> RpcResult<VoteResponse<Types>> {
        self.ask_vote(Kind::Vote, request).await
    }

    async fn pre_vote(&mut self, request: VoteRequest<Types>, _option: RPCOption) -> RpcResult<VoteResponse<Types>> {
        self.ask_vote(Kind::PreVote, request).await
    }

    async fn full_snapshot(
        &mut self,
        vote: RaftVote,
        snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, snapshot, option.soft_ttl()) => Ok(SnapshotResponse::new(sent?)),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        _option: RPCOption,
    ) -> RpcResult<openraft::raft::TransferLeaderResponse<Types>> {
        let frame = self.ask(Kind::Transfer, encode_transfer(&request), TRANSFER_WITHIN).await?;
        expect(frame, Kind::TransferReply).map(|_| Ok(()))
    }

    fn backoff(&self) -> Option<Backoff> {
        let every = if self.peer_is_full() { FULL_RETRY_EVERY } else { RETRY_EVERY };
        Some(Backoff::new(std::iter::repeat(every)))
    }
}

/// One windowed append exchange.
///
/// openraft tells a follower of each commit with an append of its own, without entries. Such a
/// request is held back a moment: if one with entries follows, which carries the newer commit, only
/// that is sent, and its reply answers both. That halves the frames of a steady load; a follower
/// applies at most [`COMMIT_HELD`] later, and nobody reads from it.
struct Appends<S> {
    exchange: Exchange,
    address: Address,
    matches: Option<Arc<Matches>>,
    input: S,
    next: Option<AppendEntriesRequest<Types>>,
    ended: bool,
    held: Option<(AppendEntriesRequest<Types>, Instant)>,
    /// What to answer to requests that were held back for good, until the next frame is sent.
    superseded: Vec<Option<RaftLogId>>,
    /// Frames without a reply, oldest first.
    outstanding: VecDeque<Outstanding>,
    /// Answers that a reply brought besides its own.
    ready: VecDeque<StreamAppendResult<Types>>,
    /// The follower's log is known to agree with ours up to here.
    agreed: Option<RaftLogId>,
}

struct Outstanding {
    term: Term,
    superseded: Vec<Option<RaftLogId>>,
}

type Step<S> = Option<(RpcResult<StreamAppendResult<Types>>, Option<Appends<S>>)>;

impl<S: Stream<Item = AppendEntriesRequest<Types>> + Unpin> Appends<S> {
    /// Yields the next reply, sending requests as the window allows. The stream ends when its input
    /// did and every reply came, or with the first error.
    async fn step(this: Option<Appends<S>>) -> Step<S> {
        let mut this = this?;
        loop {
            if let Some(answer) = this.ready.pop_front() {
                let goes_on = answer.is_ok();
                return Some((Ok(answer), goes_on.then_some(this)));
            }
            if let Some(request) = this.next.take() {
                if let Err(error) = this.take_request(request).await {
                    return Some((Err(error), None));
                }
                continue;
            }
            let may_send = !this.ended && this.outstanding.len() < APPEND_WINDOW;
            let waits = !this.outstanding.is_empty();
            let held_until = this.held.as_ref().map(|(_, until)| *until);
            if !may_send && !waits && held_until.is_none() {
                return None;
            }
            tokio::select! {
                biased;
                reply = timeout(APPEND_STALLED, this.exchange.replies.recv()), if waits => {
                    let taken = match reply {
                        Ok(Some(frame)) => this.take_reply(frame),
                        Ok(None) => Err(broken("link lost")),
                        Err(_) => Err(broken("appends stalled")),
                    };
                    if let Err(error) = taken {
                        return Some((Err(error), None));
                    }
                }
                request = this.input.next(), if may_send => match request {
                    Some(request) => this.next = Some(request),
                    None => {
                        this.ended = true;
                        if let Err(error) = this.send_held().await {
                            return Some((Err(error), None));
                        }
                    }
                },
                () = sleep_until(held_until.unwrap_or_else(Instant::now)), if held_until.is_some() => {
                    if let Err(error) = this.send_held().await {
                        return Some((Err(error), None));
                    }
                }
            }
        }
    }

    async fn take_request(&mut self, request: AppendEntriesRequest<Types>) -> RpcResult<()> {
        let may_wait = request.entries.is_empty() && request.prev_log_id <= self.agreed && self.agreed.is_some();
        if let Some((older, _)) = self.held.take() {
            self.superseded.push(older.prev_log_id);
        }
        if may_wait && self.superseded.len() < SUPERSEDED_MAX {
            self.held = Some((request, Instant::now() + COMMIT_HELD));
            return Ok(());
        }
        self.send(request).await
    }

    async fn send_held(&mut self) -> RpcResult<()> {
        match self.held.take() {
            Some((request, _)) => self.send(request).await,
            None => Ok(()),
        }
    }

    async fn send(&mut self, request: AppendEntriesRequest<Types>) -> RpcResult<()> {
        let term = Term(request.vote.leader_id().term);
        let superseded = std::mem::take(&mut self.superseded);
        self.outstanding.push_back(Outstanding { term, superseded });
        self.exchange.send(Kind::Append, self.address, encode_append(request)).await.map_err(failed)
    }

    fn take_reply(&mut self, frame: Frame) -> RpcResult<()> {
        let sent = self.outstanding.pop_front().expect("a reply is awaited only while one is outstanding");
        let reply = decode_append_reply(expect(frame, Kind::AppendReply)?).map_err(broken)?;
        if let Ok(Some(matched)) = &reply {
            // A refusal ends the stream, so what was superseded needs no answer then.
            self.ready.extend(sent.superseded.into_iter().map(Ok));
            self.agreed = self.agreed.max(Some(*matched));
            if let Some(matches) = &self.matches {
                matches.note(self.address.2, sent.term, LogIndex(matched.index));
            }
        }
        self.ready.push_back(reply);
        Ok(())
    }
}
