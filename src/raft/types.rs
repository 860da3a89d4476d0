//! How openraft's types stand to ours: conversions, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use bytes::Bytes;
use openraft::{
    Entry, EntryPayload, LogId, Membership, OptionalSend, RaftTypeConfig, StoredMembership, Vote,
    impls::{InlineBatch, leader_id_std::LeaderId},
    raft::responder::Responder,
    vote::RaftLeaderId,
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::{
    storage::{EntryKind, LogEntry},
    types::{BrokerId, EntryPosition, LogIndex, TERM_MAX, Term},
};

/// openraft's random numbers come from the seed of the task that asks, so that a simulation draws
/// the same election timeouts again. Production seeds it from the node's generator.
pub(super) type Runtime = openraft_rt::deterministic_rng::DeterministicRng<openraft_rt_tokio::TokioRuntime>;

/// The types of every group of a node. Written out rather than declared by openraft's macro, which
/// has no place for a responder of our own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Types;

impl RaftTypeConfig for Types {
    type D = Command;
    type R = Answer;
    type NodeId = u64;
    type Node = Peer;
    type Term = u64;
    type LeaderId = LeaderId<u64, u64>;
    type Vote = Vote<Self::LeaderId>;
    type Payload = EntryPayload<Command, u64, Peer>;
    type Entry = Entry<CommittedLeaderId, Self::Payload>;
    type AsyncRuntime = Runtime;
    type Responder<T>
        = Reply<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = openraft::AnyError;
}

type CommittedLeaderId = <LeaderId<u64, u64> as RaftLeaderId>::Committed;
pub(super) type RaftLogId = LogId<CommittedLeaderId>;
pub(super) type RaftVote = Vote<LeaderId<u64, u64>>;
pub(super) type RaftEntry = openraft::alias::EntryOf<Types>;
pub(super) type RaftMembership = Membership<u64, Peer>;
pub(super) type RaftStoredMembership = StoredMembership<CommittedLeaderId, u64, Peer>;

/// Takes the outcome of a write. Silent when nobody waits for it any more.
pub(super) struct Reply<T>(pub oneshot::Sender<T>);

impl<T: OptionalSend + 'static> Responder<Types, T> for Reply<T> {
    fn on_complete(self, result: T) {
        let _ = self.0.send(result);
    }
}

/// What a normal entry carries; its bytes mean something to the state machine alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Command(pub Bytes);

/// What applying an entry answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer(pub Bytes);

/// The broker that a replica lives on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    pub broker: BrokerId,
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

pub(super) fn log_id(at: EntryPosition) -> RaftLogId {
    LogId { leader_id: at.term.0.into(), index: at.index.0 }
}

pub(super) fn position(id: &RaftLogId) -> EntryPosition {
    EntryPosition { term: Term(*id.leader_id), index: LogIndex(id.index) }
}

/// Votes on disk and on the wire: term, voted for, committed.
pub(super) fn vote_parts(vote: &RaftVote) -> (u64, u64, bool) {
    let leader = vote.leader_id();
    (leader.term(), *leader.node_id(), vote.is_committed())
}

pub(super) fn vote_from_parts((term, node, committed): (u64, u64, bool)) -> RaftVote {
    if committed { Vote::new_committed(term, node) } else { Vote::new(term, node) }
}

const VOTE_VERSION: u8 = 1;

pub(super) fn encode_vote(vote: &RaftVote) -> Bytes {
    let (term, node, committed) = vote_parts(vote);
    let mut bytes = Vec::with_capacity(18);
    bytes.push(VOTE_VERSION);
    bytes.extend_from_slice(&term.to_be_bytes());
    bytes.extend_from_slice(&node.to_be_bytes());
    bytes.push(committed.into());
    bytes.into()
}

pub(super) fn decode_vote(bytes: &[u8]) -> Result<RaftVote, Malformed> {
    let malformed = || Malformed(format!("vote {bytes:02x?}"));
    let bytes: &[u8; 18] = bytes.try_into().map_err(|_| malformed())?;
    let number = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes of eighteen"));
    if bytes[0] != VOTE_VERSION || bytes[17] > 1 || number(1) > TERM_MAX {
        return Err(malformed());
    }
    Ok(vote_from_parts((number(1), number(9), bytes[17] == 1)))
}

/// Bytes of ours that make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub struct Malformed(pub String);

#[derive(Serialize, Deserialize)]
struct StoredForm {
    at: Option<EntryPosition>,
    configs: Vec<BTreeSet<u64>>,
    nodes: BTreeMap<u64, Peer>,
}

/// A membership with the position of its entry, as it lies on disk and travels in snapshots.
pub(super) fn encode_membership(membership: &RaftStoredMembership) -> Bytes {
    let form = StoredForm {
        at: membership.log_id().as_ref().map(position),
        configs: membership.get_joint_config().clone(),
        nodes: membership.nodes().map(|(id, peer)| (*id, *peer)).collect(),
    };
    postcard::to_stdvec(&form).expect("plain data encodes").into()
}

pub(super) fn decode_membership(bytes: &[u8]) -> Result<RaftStoredMembership, Malformed> {
    if bytes.is_empty() {
        return Ok(StoredMembership::default());
    }
    let form: StoredForm = postcard::from_bytes(bytes).map_err(|e| Malformed(format!("membership: {e}")))?;
    if let Some(at) = form.at.filter(|at| !at.is_possible()) {
        return Err(Malformed(format!("membership: no entry stands at {at}")));
    }
    let membership = membership_from(form.configs, form.nodes)?;
    Ok(StoredMembership::new(form.at.map(log_id), membership))
}

fn membership_from(configs: Vec<BTreeSet<u64>>, nodes: BTreeMap<u64, Peer>) -> Result<RaftMembership, Malformed> {
    if configs.is_empty() && nodes.is_empty() {
        return Ok(RaftMembership::default());
    }
    Membership::new(configs, nodes).map_err(|e| Malformed(format!("membership: {e}")))
}

pub(super) fn to_log_entry(entry: RaftEntry) -> LogEntry {
    let at = position(&entry.log_id);
    let (kind, payload) = match entry.payload {
        EntryPayload::Blank => (EntryKind::Blank, Bytes::new()),
        EntryPayload::Normal(command) => (EntryKind::Normal, command.0),
        EntryPayload::Membership(membership) => {
            (EntryKind::Membership, encode_membership(&StoredMembership::new(None, membership)))
        }
    };
    LogEntry { position: at, kind, payload }
}

pub(super) fn from_log_entry(entry: LogEntry) -> Result<RaftEntry, Malformed> {
    let payload = match entry.kind {
        EntryKind::Blank => EntryPayload::Blank,
        EntryKind::Normal => EntryPayload::Normal(Command(entry.payload)),
        EntryKind::Membership => EntryPayload::Membership(decode_membership(&entry.payload)?.membership().clone()),
    };
    Ok(RaftEntry { log_id: log_id(entry.position), payload })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::frozen;

    const STORED: &str = include_str!("stored.frozen");

    fn reads(name: &str, bytes: &[u8]) -> Result<(), String> {
        let read = match name.starts_with("vote") {
            true => decode_vote(bytes).map(drop),
            false => decode_membership(bytes).map(drop),
        };
        read.map_err(|error| error.to_string())
    }

    #[test]
    fn vote_bytes_are_frozen() {
        let bytes = encode_vote(&Vote::new_committed(7, 9));
        assert_eq!(&bytes[..], b"\x01\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\x09\x01");
        assert_eq!(decode_vote(&bytes), Ok(Vote::new_committed(7, 9)));
        assert_eq!(decode_vote(&encode_vote(&Vote::new(7, 9))), Ok(Vote::new(7, 9)));
        frozen::check(STORED, [("vote", bytes), ("vote-of-candidate", encode_vote(&Vote::new(7, 9)))], reads);
    }

    #[test]
    fn hostile_votes_are_errors() {
        let late = encode_vote(&Vote::new(TERM_MAX + 1, 9));
        for bytes in [&b""[..], &[0; 18], &[1; 17], &[1; 19], &late] {
            assert!(decode_vote(bytes).is_err(), "{bytes:02x?}");
        }
        assert!(decode_vote(&encode_vote(&Vote::new(TERM_MAX, 9))).is_ok());
    }

    #[test]
    fn membership_bytes_are_frozen() {
        let nodes = BTreeMap::from([(1, Peer { broker: BrokerId(1) }), (2, Peer { broker: BrokerId(300) })]);
        let membership = Membership::new(vec![BTreeSet::from([1, 2])], nodes).unwrap();
        let at = EntryPosition { term: Term(3), index: LogIndex(4) };
        let stored = StoredMembership::new(Some(log_id(at)), membership);
        let bytes = encode_membership(&stored);
        assert_eq!(&bytes[..], b"\x01\x03\x04\x01\x02\x01\x02\x02\x01\x01\x02\xac\x02");
        assert_eq!(decode_membership(&bytes), Ok(stored.clone()));
        frozen::check(STORED, [("membership", &bytes)], reads);
        for cut in 1..bytes.len() {
            assert!(decode_membership(&bytes[..cut]).is_err());
        }
        for at in [(TERM_MAX + 1, 4), (3, u64::MAX)] {
            let at = EntryPosition { term: Term(at.0), index: LogIndex(at.1) };
            let stored = StoredMembership::new(Some(log_id(at)), stored.membership().clone());
            assert!(decode_membership(&encode_membership(&stored)).is_err(), "{at}");
        }
    }
}
