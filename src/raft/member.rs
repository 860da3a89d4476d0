//! A running replica as the transport sees it: requests in, answers out, no state machine type.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, future::BoxFuture};
use openraft::{
    Raft, Snapshot, SnapshotMeta,
    raft::{AppendEntriesRequest, StreamAppendResult, TransferLeaderRequest, VoteRequest, VoteResponse},
};

use super::{
    confirm,
    driver::Driver,
    seeded::Seeds,
    types::{RaftVote, Types},
    wire::SnapshotHead,
};
use crate::{
    replicated::Replicated,
    types::{ReplicaId, TERM_MAX, Term},
};

pub(super) type AppendStream = Pin<Box<dyn Stream<Item = AppendEntriesRequest<Types>> + Send>>;
pub(super) type AppendReplies = Pin<Box<dyn Stream<Item = Result<StreamAppendResult<Types>, String>> + Send>>;

/// A vote this far above our own term is a fault, not an election (SAFETY M12).
const TERM_JUMP_MAX: u64 = 1 << 20;

pub(super) trait Member: Send + Sync {
    fn vote(&self, request: VoteRequest<Types>, pre: bool) -> BoxFuture<'_, Result<VoteResponse<Types>, String>>;
    fn appends(&self, requests: AppendStream) -> BoxFuture<'_, AppendReplies>;
    fn install(&self, head: SnapshotHead, state: Bytes) -> BoxFuture<'_, Result<RaftVote, String>>;
    fn transfer(&self, request: TransferLeaderRequest<Types>) -> BoxFuture<'_, Result<(), String>>;
    /// Whether this replica's last vote is for `leader` in `term`, at some moment of the call.
    fn follows(&self, term: Term, leader: ReplicaId) -> BoxFuture<'_, Result<bool, String>>;
    fn stop(&self) -> BoxFuture<'_, ()>;
}

pub(super) struct RaftMember<S: Replicated> {
    pub raft: Raft<Types, Driver<S>>,
    pub seeds: Arc<Seeds>,
}

impl<S: Replicated> Member for RaftMember<S> {
    fn vote(&self, request: VoteRequest<Types>, pre: bool) -> BoxFuture<'_, Result<VoteResponse<Types>, String>> {
        Box::pin(async move {
            let own = openraft::async_runtime::WatchReceiver::borrow_watched(&self.raft.metrics()).current_term;
            check_term(request.vote.leader_id().term, own)?;
            let answer = if pre { self.raft.pre_vote(request).await } else { self.raft.vote(request).await };
            answer.map_err(|e| e.to_string())
        })
    }

    fn appends(&self, requests: AppendStream) -> BoxFuture<'_, AppendReplies> {
        Box::pin(async move {
            let replies = self.seeds.scope(async { self.raft.stream_append(requests) }).await;
            Box::pin(replies.map(|reply| reply.map_err(|e| e.to_string()))) as AppendReplies
        })
    }

    fn install(&self, head: SnapshotHead, state: Bytes) -> BoxFuture<'_, Result<RaftVote, String>> {
        Box::pin(async move {
            let meta = SnapshotMeta { last_log_id: head.last_log_id, last_membership: head.membership };
            let snapshot = Snapshot { meta, snapshot: state };
            let answer = self.raft.install_full_snapshot(head.vote, snapshot).await;
            answer.map(|response| response.vote).map_err(|e| e.to_string())
        })
    }

    fn transfer(&self, request: TransferLeaderRequest<Types>) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            match self.raft.handle_transfer_leader(request).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(e)) => Err(e.to_string()),
                Err(e) => Err(e.to_string()),
            }
        })
    }

    fn follows(&self, term: Term, leader: ReplicaId) -> BoxFuture<'_, Result<bool, String>> {
        Box::pin(async move { confirm::follows(&self.raft, term, leader).await.map_err(|e| e.to_string()) })
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Err(e) = self.raft.shutdown().await {
                tracing::warn!(error = %e, "raft core did not stop cleanly");
            }
        })
    }
}

fn check_term(asked: u64, own: u64) -> Result<(), String> {
    if asked > TERM_MAX || asked > own.saturating_add(TERM_JUMP_MAX) {
        tracing::error!(asked, own, "vote with an impossible term refused");
        return Err(format!("term {asked} is too far above {own}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SAFETY M12.
    #[test]
    fn votes_with_impossible_terms_are_refused() {
        assert!(check_term(5, 4).is_ok());
        assert!(check_term(4, 5).is_ok());
        assert!(check_term(4 + TERM_JUMP_MAX, 4).is_ok());
        assert!(check_term(5 + TERM_JUMP_MAX, 4).is_err());
        assert!(check_term(TERM_MAX + 1, TERM_MAX).is_err());
    }
}
