//! What no peer may say. openraft takes it for granted, so it is refused before openraft hears of it.

use openraft::{EntryPayload, raft::AppendEntriesRequest};

use super::{
    types::{RaftLogId, Types, position},
    wire::SnapshotHead,
};
use crate::types::{TERM_MAX, Term};

/// A term this far above our own is a fault, not an election (SAFETY M12).
const TERM_JUMP_MAX: u64 = 1 << 20;

/// SAFETY M12, for whatever names a term. `own` is 0 where no term is known yet.
pub(super) fn check_term(asked: u64, own: u64) -> Result<(), String> {
    if asked > TERM_MAX || (own > 0 && asked > own.saturating_add(TERM_JUMP_MAX)) {
        tracing::error!(asked, own, "an impossible term was refused");
        return Err(format!("term {asked} is too far above {own}"));
    }
    Ok(())
}

/// What openraft takes for granted of an append: its entries follow one another and the one before them,
/// none is of a later term than the leader, and somebody votes in each membership.
pub(super) fn check_append(request: &AppendEntriesRequest<Types>) -> Result<(), String> {
    if !request.vote.is_committed() {
        return Err("an append of one who was not elected".into());
    }
    let mut last = request.prev_log_id.as_ref().map(position);
    for entry in &request.entries {
        let at = position(&entry.log_id);
        let next = last.map_or(0, |last| last.index.0 + 1);
        if at.index.0 != next || last.is_some_and(|last| at.term < last.term) {
            return Err(format!("entry {at} cannot follow {last:?}"));
        }
        if let EntryPayload::Membership(membership) = &entry.payload
            && membership.voter_ids().next().is_none()
        {
            return Err(format!("a membership without voters at {at}"));
        }
        last = Some(at);
    }
    let leader = Term(request.vote.leader_id().term);
    match last.filter(|last| last.term > leader) {
        Some(last) => Err(format!("entry {last} is of a later term than its leader's {leader}")),
        None => Ok(()),
    }
}

/// What openraft asserts of a snapshot: it is no newer than its leader, and contradicts nothing that is committed.
pub(super) fn check_snapshot(head: &SnapshotHead, committed: Option<&RaftLogId>) -> Result<(), String> {
    let Some(last) = head.last_log_id.as_ref().map(position) else { return Ok(()) };
    let leader = Term(head.vote.leader_id().term);
    if !head.vote.is_committed() || last.term > leader {
        return Err(format!("a snapshot at {last} cannot be of the leader of term {leader}"));
    }
    if head.membership.membership().voter_ids().next().is_none() {
        return Err(format!("a snapshot at {last} without voters"));
    }
    match committed.map(position) {
        Some(committed) if last > committed && last.index <= committed.index => {
            Err(format!("a snapshot at {last} contradicts the entry {committed}, which is committed here"))
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::{
        raft::types::{Peer, RaftEntry, log_id},
        types::{BrokerId, EntryPosition, LogIndex},
    };

    /// SAFETY M12.
    #[test]
    fn votes_with_impossible_terms_are_refused() {
        assert!(check_term(5, 4).is_ok());
        assert!(check_term(4, 5).is_ok());
        assert!(check_term(4 + TERM_JUMP_MAX, 4).is_ok());
        assert!(check_term(5 + TERM_JUMP_MAX, 4).is_err());
        assert!(check_term(TERM_MAX + 1, TERM_MAX).is_err());
        assert!(check_term(TERM_MAX, 0).is_ok(), "a replica that has seen nothing yet joins a group of any age");
        assert!(check_term(TERM_MAX + 1, 0).is_err());
    }

    fn at(term: u64, index: u64) -> RaftLogId {
        log_id(EntryPosition { term: Term(term), index: LogIndex(index) })
    }

    fn append(leader: u64, prev: Option<(u64, u64)>, entries: &[(u64, u64)]) -> AppendEntriesRequest<Types> {
        let entry = |(term, index)| RaftEntry { log_id: at(term, index), payload: openraft::EntryPayload::Blank };
        AppendEntriesRequest {
            vote: openraft::Vote::new_committed(leader, 1),
            prev_log_id: prev.map(|(term, index)| at(term, index)),
            leader_commit: None,
            entries: entries.iter().copied().map(entry).collect(),
        }
    }

    #[test]
    fn appends_that_no_leader_sends_are_refused() {
        assert_eq!(check_append(&append(3, None, &[])), Ok(()));
        assert_eq!(check_append(&append(3, None, &[(0, 0), (1, 1)])), Ok(()));
        assert_eq!(check_append(&append(3, Some((2, 7)), &[(2, 8), (3, 9)])), Ok(()));
        for (request, why) in [
            (append(3, None, &[(1, 1)]), "does not begin at the beginning"),
            (append(3, Some((2, 7)), &[(2, 9)]), "a gap before"),
            (append(3, Some((2, 7)), &[(2, 7)]), "the one before again"),
            (append(3, Some((2, 7)), &[(2, 8), (2, 10)]), "a gap within"),
            (append(3, Some((2, 7)), &[(1, 8)]), "a term that goes back"),
            (append(3, Some((2, 7)), &[(3, 8), (2, 9)]), "a term that goes back within"),
            (append(3, Some((2, 7)), &[(4, 8)]), "a term above its leader's"),
            (append(3, Some((4, 7)), &[]), "a term before it above its leader's"),
            (AppendEntriesRequest { vote: openraft::Vote::new(3, 1), ..append(3, None, &[]) }, "of a candidate"),
        ] {
            assert!(check_append(&request).is_err(), "{why}");
        }
    }

    /// Nobody could ever lead the group again.
    #[test]
    fn a_membership_without_voters_is_refused() {
        let mut request = append(3, None, &[(0, 0)]);
        request.entries[0].payload = openraft::EntryPayload::Membership(Default::default());
        assert!(check_append(&request).is_err());
    }

    #[test]
    fn snapshots_that_contradict_what_is_committed_are_refused() {
        let nodes = BTreeMap::from([(1, Peer { broker: BrokerId(1) })]);
        let membership = openraft::Membership::new(vec![BTreeSet::from([1])], nodes).unwrap();
        let head = |leader, last: (u64, u64)| SnapshotHead {
            vote: openraft::Vote::new_committed(leader, 1),
            last_log_id: Some(at(last.0, last.1)),
            membership: openraft::StoredMembership::new(Some(at(0, 0)), membership.clone()),
        };
        let committed = at(3, 10);
        assert_eq!(check_snapshot(&head(4, (4, 11)), Some(&committed)), Ok(()));
        assert_eq!(check_snapshot(&head(4, (2, 9)), Some(&committed)), Ok(()), "an older one is skipped");
        assert_eq!(check_snapshot(&head(4, (4, 9)), None), Ok(()));
        assert!(check_snapshot(&head(4, (4, 10)), Some(&committed)).is_err());
        assert!(check_snapshot(&head(4, (4, 9)), Some(&committed)).is_err());
        assert!(check_snapshot(&head(4, (5, 20)), Some(&committed)).is_err(), "newer than its leader");
        let nobody = SnapshotHead { membership: Default::default(), ..head(4, (4, 11)) };
        assert!(check_snapshot(&nobody, Some(&committed)).is_err());
    }
}
