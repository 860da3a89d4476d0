//! The alarm of Raft's own promises: a leader holds every committed entry, and a term has one leader. Who breaks
//! one of them proves that votes or committed entries were lost somewhere, as when a voter's directory was set
//! back to an older copy. openraft compares nothing at or below what is committed and would write the leader's
//! later entries behind ours; so it is compared here, before openraft hears of the request.
//!
//! A leader of an old term is not believed: its entries may rightly have been replaced. Not seen: two histories
//! whose entries have the same terms at all indexes that are compared.

use openraft::{Raft, async_runtime::WatchReceiver, raft::AppendEntriesRequest};

use super::{
    driver::Driver,
    types::{RaftLogId, RaftVote, Types, decode_vote, position, vote_parts},
};
use crate::{
    replicated::Replicated,
    storage::ReplicaLog,
    types::{BrokerId, EntryPosition, LogIndex, RaftGroupId, Term},
};

/// A leader and this replica cannot both be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contradiction {
    pub group: RaftGroupId,
    /// The broker of that leader. None: it is no member that this replica knows.
    pub leader: Option<BrokerId>,
    /// The term in which it leads.
    pub leads_in: Term,
    pub differs: Differs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Differs {
    /// The entry that is committed here has another term there.
    Entry { index: LogIndex, here: Term, there: Term },
    /// Another one was elected in the same term; None: no member that this replica knows.
    Leader { here: Option<BrokerId> },
}

/// The last position that a request names at or below `kept`. If it is as here then so is all before it
/// (Raft's log matching).
fn last_overlap(request: &AppendEntriesRequest<Types>, kept: LogIndex) -> Option<EntryPosition> {
    let named = request.prev_log_id.iter().chain(request.entries.iter().map(|entry| &entry.log_id));
    named.map(position).take_while(|at| at.index <= kept).last()
}

pub(super) struct Witness<S: Replicated> {
    pub raft: Raft<Types, Driver<S>>,
    pub log: ReplicaLog,
}

impl<S: Replicated> Witness<S> {
    /// What an append request contradicts here. Costs two short locks and a few comparisons unless the request
    /// reaches back before the last committed entry, which only the first of an exchange does.
    pub async fn against_append(&self, request: &AppendEntriesRequest<Types>) -> Option<Contradiction> {
        let named = |kept| last_overlap(request, kept);
        self.against(&request.vote, named).await
    }

    pub async fn against_snapshot(&self, last: Option<&RaftLogId>, vote: &RaftVote) -> Option<Contradiction> {
        self.against(vote, |kept| last.map(position).filter(|at| at.index <= kept)).await
    }

    async fn against(
        &self,
        vote: &RaftVote,
        named: impl FnOnce(LogIndex) -> Option<EntryPosition>,
    ) -> Option<Contradiction> {
        let (leads_in, leader, _) = vote_parts(vote);
        let ours = self.log.vote().and_then(|vote| decode_vote(&vote).ok()).map(|vote| vote_parts(&vote));
        let found = |differs| {
            Some(Contradiction {
                group: self.log.group(),
                leader: self.broker(leader),
                leads_in: Term(leads_in),
                differs,
            })
        };
        if let Some((term, elected, true)) = ours
            && term == leads_in
            && elected != leader
        {
            return found(Differs::Leader { here: self.broker(elected) });
        }
        let kept = self.log.kept()?;
        let named = named(kept.index).filter(|named| *named != kept)?;
        if leads_in < ours.map_or(0, |ours| ours.0).max(kept.term.0) {
            return None;
        }
        let here = if named.index == kept.index { kept.term } else { self.log.term_at(named.index).await? };
        let there = named.term;
        (here != there).then(|| found(Differs::Entry { index: named.index, here, there })).flatten()
    }

    fn broker(&self, replica: u64) -> Option<BrokerId> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.membership().get_node(&replica).map(|peer| peer.broker)
    }
}

#[cfg(test)]
mod tests {
    use openraft::{EntryPayload, Vote};

    use super::*;
    use crate::raft::types::{RaftEntry, log_id};

    fn at(term: u64, index: u64) -> EntryPosition {
        EntryPosition { term: Term(term), index: LogIndex(index) }
    }

    #[test]
    fn only_what_is_committed_here_is_compared() {
        let request = |prev: Option<EntryPosition>, entries: &[EntryPosition]| AppendEntriesRequest::<Types> {
            vote: Vote::new_committed(9, 1),
            prev_log_id: prev.map(log_id),
            leader_commit: None,
            entries: entries.iter().map(|at| RaftEntry { log_id: log_id(*at), payload: EntryPayload::Blank }).collect(),
        };
        let overlap = |prev, entries: &[_]| last_overlap(&request(prev, entries), LogIndex(5));
        assert_eq!(overlap(Some(at(2, 6)), &[at(2, 7)]), None, "the usual append is behind it");
        assert_eq!(overlap(Some(at(2, 5)), &[at(2, 6)]), Some(at(2, 5)));
        assert_eq!(overlap(Some(at(1, 3)), &[at(1, 4), at(2, 5), at(2, 6)]), Some(at(2, 5)));
        assert_eq!(overlap(None, &[at(1, 0)]), Some(at(1, 0)));
        assert_eq!(overlap(None, &[]), None);
    }
}
