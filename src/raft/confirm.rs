//! A leader's own confirmation of a read (SAFETY M17; Raft thesis 6.4).
//!
//! A leader that was deposed while it was frozen may serve what is no longer the last word. So a read asks a
//! majority of the voters, *after it began*, whether they still follow this leader in its term, and only answers
//! given to that very question count. A voter that answers yes had not yet voted in a later term when the read
//! had begun; with a majority of such voters no later leader was elected before then, so nothing was committed
//! that this leader does not hold.
//!
//! openraft counts its own round by acknowledged log positions, so that the answer to an append sent *before*
//! the read may confirm it. It stays in use beside this one, for the index to read at.

use std::time::Duration;

use futures_util::{StreamExt, stream::FuturesUnordered};
use openraft::{Raft, errors::Fatal};

use super::{
    driver::Driver,
    errors::ReadError,
    running::RunningReplica,
    types::{Types, vote_parts},
    wire::{Kind, decode_control, encode_control},
};
use crate::{
    replicated::Replicated,
    types::{BrokerId, ReplicaId, Term},
};

/// A majority that does not confirm a read for this long is not there.
pub(super) const READ_INDEX_WITHIN: Duration = Duration::from_secs(2);

/// Whether the replica's last vote is for `leader` in `term`. Asked of the Raft core itself: its published
/// metrics may be older than a vote that it has given.
pub(super) async fn follows<S: Replicated>(
    raft: &Raft<Types, Driver<S>>,
    term: Term,
    leader: ReplicaId,
) -> Result<bool, Fatal<Types>> {
    let (voted_in, voted_for, _) = raft.with_raft_state(|state| vote_parts(state.vote_ref())).await?;
    Ok((voted_in, voted_for) == (term.0, leader.0))
}

/// Ends well once a majority of the voters, this replica among them, answered after the call began that it
/// follows this replica in its present term.
pub(super) async fn majority_follows<S: Replicated>(group: &RunningReplica<S>) -> Result<(), ReadError> {
    let (term, leads) = {
        let status = group.status.borrow();
        (status.term, status.leads)
    };
    let own = group.spec.replica;
    if !leads || !follows(&group.raft, term, own).await.map_err(|_| ReadError::NotLeader)? {
        return Err(ReadError::NotLeader);
    }
    let voters = voters(group);
    let needed = voters.len() / 2 + 1;
    let mut following = usize::from(voters.iter().any(|(replica, _)| *replica == own));
    let others = voters.into_iter().filter(|(replica, _)| *replica != own);
    let mut answers: FuturesUnordered<_> = others.map(|(replica, broker)| ask(group, term, replica, broker)).collect();
    while following < needed {
        match answers.next().await {
            Some(follows) => following += usize::from(follows),
            None => return Err(ReadError::NoQuorum),
        }
    }
    Ok(())
}

/// False also when there is no answer.
async fn ask<S: Replicated>(group: &RunningReplica<S>, term: Term, replica: ReplicaId, broker: BrokerId) -> bool {
    let Some(link) = group.links.link(broker) else { return false };
    let address = (group.spec.group, group.spec.replica, replica);
    match link.request(Kind::Confirm, address, encode_control(&term), READ_INDEX_WITHIN).await {
        Ok(frame) if frame.kind == Kind::ConfirmReply => decode_control(&frame.body).unwrap_or(false),
        Ok(_) | Err(_) => false,
    }
}

fn voters<S: Replicated>(group: &RunningReplica<S>) -> Vec<(ReplicaId, BrokerId)> {
    let metrics = group.raft.server_metrics();
    let metrics = openraft::async_runtime::WatchReceiver::borrow_watched(&metrics);
    let membership = metrics.membership_config.membership();
    let voters = membership.voter_ids();
    voters.filter_map(|id| membership.get_node(&id).map(|peer| (ReplicaId(id), peer.broker))).collect()
}
