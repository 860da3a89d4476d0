//! Commands about groups, proposed in one term and in no other (SAFETY M9), so that nothing is done on the knowledge of a
//! term that is over.

use std::sync::Arc;

use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    broker::groups::limits,
    group::{GroupCommand, GroupOutcome, GroupRefusal},
    metadata::{Change, Metadata, Outcome, Refusal as MetadataRefusal, decode_response},
    raft::{ProposalEnd, Refusal, Replica},
    seam::Clock,
    types::{LogIndex, Term},
};

/// Proposes in one term and in no other: see the module's head.
#[derive(Clone)]
pub struct Proposer {
    metadata: Replica<Metadata>,
    term: Term,
    clock: Arc<dyn Clock>,
}

/// A command that was applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    pub index: LogIndex,
    pub result: Result<GroupOutcome, GroupRefusal>,
}

/// Why a command was not, or not as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotApplied {
    /// The command was never appended, so it had no effect.
    NotDone,
    Unknown,
}

impl Proposer {
    pub fn new(metadata: Replica<Metadata>, term: Term, clock: Arc<dyn Clock>) -> Proposer {
        Proposer { metadata, term, clock }
    }

    /// Proposes in this tenure's term and no other. Refusals that a moment cures are waited out, since
    /// they had no effect; the wait is bounded (SAFETY B8).
    pub async fn propose(&self, command: GroupCommand, deadline: Instant) -> Result<Applied, NotApplied> {
        let patience = deadline.min(Instant::now() + limits::REFUSED_MAX);
        let now = self.clock.wall();
        let written = self.metadata.read(|state| state.write(now, Change::Group(command)));
        let command = written.map_err(|refusal| {
            // Whoever decides on a group asks for nothing above the cluster's level.
            tracing::error!(%refusal, "a group's command cannot be written");
            NotApplied::NotDone
        })?;
        loop {
            // Not bounded by the deadline: a proposal dropped on its way in would be neither here nor there.
            let pending = self.metadata.propose(self.term, command.clone()).await;
            match timeout_at(deadline, pending).await {
                Ok(Ok((position, response))) => return read_response(position.index, &response),
                Ok(Err(ProposalEnd::Refused(Refusal::NotLeader))) => return Err(NotApplied::NotDone),
                Ok(Err(ProposalEnd::Refused(Refusal::LeaseExpired | Refusal::Transferring))) => {
                    if Instant::now() + limits::REFUSED_RETRY >= patience {
                        return Err(NotApplied::NotDone);
                    }
                    sleep(limits::REFUSED_RETRY).await;
                }
                Ok(Err(ProposalEnd::Unknown)) | Err(_) => return Err(NotApplied::Unknown),
            }
        }
    }
}

fn read_response(index: LogIndex, response: &[u8]) -> Result<Applied, NotApplied> {
    match decode_response(response) {
        Ok(Ok(Outcome::Group(outcome))) => Ok(Applied { index, result: Ok(outcome) }),
        Ok(Err(MetadataRefusal::Group(refusal))) => Ok(Applied { index, result: Err(refusal) }),
        // Nothing else answers a group's command, save for one that this version cannot read.
        other => {
            tracing::error!(?other, "a group's command was answered as something else");
            Err(NotApplied::Unknown)
        }
    }
}
