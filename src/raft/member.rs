//! A running replica as the transport sees it: requests in, answers out, no state machine type.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, future::BoxFuture};
use openraft::raft::{AppendEntriesRequest, StreamAppendResult, TransferLeaderRequest, VoteRequest, VoteResponse};

use super::{
    types::{RaftVote, Types},
    wire::SnapshotHead,
};
use crate::types::{BrokerId, EntryPosition, ReplicaId, Term};

pub(super) type AppendStream = Pin<Box<dyn Stream<Item = AppendEntriesRequest<Types>> + Send>>;
pub(super) type AppendReplies = Pin<Box<dyn Stream<Item = Result<StreamAppendResult<Types>, String>> + Send>>;

pub(super) trait Member: Send + Sync {
    fn vote(&self, request: VoteRequest<Types>, pre: bool) -> BoxFuture<'_, Result<VoteResponse<Types>, String>>;
    fn appends(&self, requests: AppendStream) -> BoxFuture<'_, AppendReplies>;
    fn install(&self, head: SnapshotHead, state: Bytes) -> BoxFuture<'_, Result<RaftVote, String>>;
    fn transfer(&self, request: TransferLeaderRequest<Types>) -> BoxFuture<'_, Result<(), String>>;
    /// Whether this replica's last vote is for `leader` in `term`, at some moment of the call.
    fn follows(&self, term: Term, leader: ReplicaId) -> BoxFuture<'_, Result<bool, String>>;
    fn stop(&self) -> BoxFuture<'_, ()>;
    /// The highest term that this replica has seen.
    fn term(&self) -> u64;
    /// Whether the replica on this broker belongs to the group. None: no members are known here yet.
    fn has_member(&self, replica: ReplicaId, broker: BrokerId) -> Option<bool>;
    /// Looks whether a majority still answers this leader, and publishes it (SAFETY M7).
    fn check_quorum(&self);
    /// The group's leader is dead for certain: it need not be waited for.
    fn leader_left(&self, broker: BrokerId);
    /// Up to where the log is purged.
    fn purged(&self) -> Option<EntryPosition> {
        None
    }
    /// Another replica purged its log up to there.
    fn release(&self, _upto: EntryPosition) {}
    /// Whether the replica campaigns when it hears of no leader.
    fn set_campaign(&self, _may: bool) {}
}
