//! openraft's network on top of [`Link`]: one object per group and target.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use openraft::{
    OptionalSend, RaftNetworkFactory,
    errors::{ReplicationClosed, StreamingError},
    network::{Backoff, RPCOption, v2::RaftNetworkV2},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
        VoteRequest, VoteResponse,
    },
};
use tokio::time::timeout;

use super::{
    RoomLevel,
    appends::{Appends, Books},
    checks::check_term,
    driver::RaftSnapshot,
    hosted::HostedReplicas,
    link::{APPEND_WINDOW, Link, LinkError},
    links::Links,
    matches::Matches,
    reads::Reads,
    room::{FULL_RETRY_EVERY, is_bulk},
    rpc::{Refusals, RpcResult, broken, expect, failed, unreachable},
    types::{Peer, RaftVote, Types},
    wire::{
        Address, Frame, Kind, SnapshotHead, decode_vote_reply, decode_vote_request, encode_control,
        encode_snapshot_head, encode_transfer, encode_vote_request,
    },
};
use crate::types::{RaftGroupId, ReplicaId};

type AppendReplies<'s> = Pin<Box<dyn Stream<Item = RpcResult<StreamAppendResult<Types>>> + Send + 's>>;

const VOTE_WITHIN: Duration = Duration::from_millis(500);
const TRANSFER_WITHIN: Duration = Duration::from_millis(500);
const SNAPSHOT_PART_BYTES: usize = 1 << 20;
/// How long openraft waits before it tries an unreachable peer again.
const RETRY_EVERY: Duration = Duration::from_millis(50);
/// A peer that refuses again and again is asked less and less often, down to this: each try costs a read
/// of up to a mebibyte, and a frame on a link that others need.
const REFUSED_RETRY_MAX: Duration = Duration::from_secs(1);
/// How long a stream waits for its link before it fails. openraft reads the entries before it hands over a
/// request, so it is asked for none that could not be sent.
const LINK_WITHIN: Duration = Duration::from_millis(500);

#[derive(Clone)]
pub(super) struct Factory {
    pub links: Arc<Links>,
    pub hosted: Arc<HostedReplicas>,
    pub group: RaftGroupId,
    pub replica: ReplicaId,
    pub matches: Arc<Matches>,
}

impl Factory {
    fn network(&self, target: u64, node: &Peer, heartbeat: bool) -> Network {
        let link = self.links.link(node.broker).unwrap_or_else(|| {
            // Named in a membership before its address was: no link yet, unreachable until then.
            Link::new(node.broker)
        });
        Network {
            links: self.links.clone(),
            hosted: self.hosted.clone(),
            peer: *node,
            link,
            address: (self.group, self.replica, ReplicaId(target)),
            matches: self.matches.clone(),
            heartbeat,
            refusals: Arc::default(),
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
    links: Arc<Links>,
    hosted: Arc<HostedReplicas>,
    peer: Peer,
    link: Arc<Link>,
    address: Address,
    matches: Arc<Matches>,
    /// Its replies do not speak of flushed entries.
    heartbeat: bool,
    /// How often in a row the peer refused an append of this replica.
    refusals: Refusals,
}

impl Network {
    /// The link may have been made after this object was.
    fn link(&mut self) -> Arc<Link> {
        if let Some(link) = self.links.link(self.peer.broker) {
            self.link = link;
        }
        self.link.clone()
    }

    fn books(&self) -> Books {
        Books { matches: self.matches.clone(), notes: !self.heartbeat, refusals: self.refusals.clone() }
    }

    /// How long a peer that refused is left alone. A heartbeat costs nothing, and has its own intervals.
    fn pause(&self) -> Option<Duration> {
        let refusals = self.refusals.load(Ordering::Relaxed).min(10);
        let pause = (RETRY_EVERY * (1 << refusals)).min(REFUSED_RETRY_MAX) - RETRY_EVERY;
        (refusals > 0 && !self.heartbeat).then_some(pause)
    }

    fn peer_is_full(&self) -> bool {
        self.link.room().is_some_and(|room| room.level == RoomLevel::Full)
    }

    /// What the peer may free before it can follow again.
    fn tell_purged(&self) {
        let (group, from, to) = self.address;
        if let Some(upto) = self.hosted.get(group).and_then(|hosted| hosted.member.purged()) {
            self.link.tell_frame(Frame { kind: Kind::Purged, id: 0, group, from, to, body: encode_control(&upto) });
        }
    }

    async fn ask(&mut self, kind: Kind, body: Bytes, within: Duration) -> RpcResult<Frame> {
        let (link, address) = (self.link(), self.address);
        link.request(kind, address, body, within).await.map_err(failed)
    }

    async fn ask_vote(&mut self, kind: Kind, request: VoteRequest<Types>) -> RpcResult<VoteResponse<Types>> {
        let frame = self.ask(kind, encode_vote_request(&request), VOTE_WITHIN).await?;
        let reply = decode_vote_reply(expect(frame, Kind::VoteReply)?).map_err(broken)?;
        check_term(reply.vote.leader_id().term, request.vote.leader_id().term).map_err(broken)?;
        Ok(reply)
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
        check_term(reply.vote.leader_id().term, vote.leader_id().term).map_err(broken)?;
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
            if !self.link().wait_up(LINK_WITHIN).await {
                return Err(unreachable("no link"));
            }
            if let Some(pause) = self.pause() {
                // Before its entries are read: they would take memory meanwhile.
                tokio::time::sleep(pause).await;
            }
            // Polled before anything can fail: openraft's backoff lives inside this stream, and without
            // it a peer that refuses would be retried in a hot loop.
            let reads = Reads::through(self.link().reads.clone());
            let Some(first) = reads.during(input.next()).await else {
                return Ok(Box::pin(stream::empty()) as AppendReplies<'s>);
            };
            if self.peer_is_full() && is_bulk(self.address.0, &first) {
                self.tell_purged();
                return Err(unreachable("its disk is full"));
            }
            let exchange = self.link().open(APPEND_WINDOW).map_err(failed)?;
            let appends = Appends::new(exchange, self.address, self.books(), (input, reads), first);
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
