//! Bodies of the Raft messages.

use bytes::{BufMut, Bytes, BytesMut};
use openraft::raft::{AppendEntriesRequest, StreamAppendError, TransferLeaderRequest, VoteRequest, VoteResponse};

use super::{
    super::types::{
        Malformed, RaftLogId, RaftStoredMembership, RaftVote, Types, decode_membership, encode_membership,
        from_log_entry, position, to_log_entry, vote_parts,
    },
    reader::Reader,
};
use crate::storage::{EntryKind, LogEntry};

fn put_vote(out: &mut BytesMut, vote: &RaftVote) {
    let (term, node, committed) = vote_parts(vote);
    out.put_u64(term);
    out.put_u64(node);
    out.put_u8(committed.into());
}

fn put_position(out: &mut BytesMut, id: &RaftLogId) {
    let at = position(id);
    out.put_u64(at.term.0);
    out.put_u64(at.index.0);
}

fn put_log_id(out: &mut BytesMut, id: Option<&RaftLogId>) {
    out.put_u8(id.is_some().into());
    if let Some(id) = id {
        put_position(out, id);
    }
}

const ENTRY_HEAD_BYTES: usize = 21;
const APPEND_HEAD_BYTES: usize = 64;

pub fn encode_append(request: AppendEntriesRequest<Types>) -> Bytes {
    let entries: Vec<LogEntry> = request.entries.into_iter().map(to_log_entry).collect();
    let bytes: usize = entries.iter().map(|entry| ENTRY_HEAD_BYTES + entry.payload.len()).sum();
    let mut out = BytesMut::with_capacity(APPEND_HEAD_BYTES + bytes);
    put_vote(&mut out, &request.vote);
    put_log_id(&mut out, request.prev_log_id.as_ref());
    put_log_id(&mut out, request.leader_commit.as_ref());
    out.put_u32(entries.len() as u32);
    for entry in entries {
        out.put_u64(entry.position.term.0);
        out.put_u64(entry.position.index.0);
        out.put_u8(entry.kind as u8);
        out.put_u32(entry.payload.len() as u32);
        out.put_slice(&entry.payload);
    }
    out.freeze()
}

pub fn decode_append(body: Bytes) -> Result<AppendEntriesRequest<Types>, Malformed> {
    let mut from = Reader(body);
    let (vote, prev_log_id, leader_commit) = (from.vote()?, from.log_id()?, from.log_id()?);
    let count = from.u32()? as usize;
    let mut entries = Vec::with_capacity(count.min(from.0.len() / ENTRY_HEAD_BYTES));
    for _ in 0..count {
        let position = from.position()?;
        let kind = from.u8()?;
        let kind = EntryKind::from_byte(kind).ok_or_else(|| Malformed(format!("entry kind {kind}")))?;
        let length = from.u32()? as usize;
        let payload = from.bytes(length)?;
        entries.push(from_log_entry(LogEntry { position, kind, payload })?);
    }
    from.end()?;
    Ok(AppendEntriesRequest { vote, prev_log_id, leader_commit, entries })
}

pub type AppendReply = Result<Option<RaftLogId>, StreamAppendError<Types>>;

pub fn encode_append_reply(reply: &AppendReply) -> Bytes {
    let mut out = BytesMut::with_capacity(32);
    match reply {
        Ok(matched) => {
            out.put_u8(0);
            put_log_id(&mut out, matched.as_ref());
        }
        Err(StreamAppendError::Conflict(at)) => {
            out.put_u8(1);
            put_position(&mut out, at);
        }
        Err(StreamAppendError::HigherVote(vote)) => {
            out.put_u8(2);
            put_vote(&mut out, vote);
        }
    }
    out.freeze()
}

pub fn decode_append_reply(body: Bytes) -> Result<AppendReply, Malformed> {
    let mut from = Reader(body);
    let reply = match from.u8()? {
        0 => Ok(from.log_id()?),
        1 => Err(StreamAppendError::Conflict(super::super::types::log_id(from.position()?))),
        2 => Err(StreamAppendError::HigherVote(from.vote()?)),
        other => return Err(Malformed(format!("append reply of kind {other}"))),
    };
    from.end()?;
    Ok(reply)
}

pub fn encode_vote_request(request: &VoteRequest<Types>) -> Bytes {
    let mut out = BytesMut::with_capacity(APPEND_HEAD_BYTES);
    put_vote(&mut out, &request.vote);
    put_log_id(&mut out, request.last_log_id.as_ref());
    out.put_u8(request.leadership_transfer.into());
    out.freeze()
}

pub fn decode_vote_request(body: Bytes) -> Result<VoteRequest<Types>, Malformed> {
    let mut from = Reader(body);
    let request = VoteRequest { vote: from.vote()?, last_log_id: from.log_id()?, leadership_transfer: from.flag()? };
    from.end()?;
    Ok(request)
}

pub fn encode_vote_reply(reply: &VoteResponse<Types>) -> Bytes {
    let mut out = BytesMut::with_capacity(APPEND_HEAD_BYTES);
    put_vote(&mut out, &reply.vote);
    put_log_id(&mut out, reply.last_log_id.as_ref());
    out.put_u8(reply.vote_granted.into());
    out.freeze()
}

pub fn decode_vote_reply(body: Bytes) -> Result<VoteResponse<Types>, Malformed> {
    let mut from = Reader(body);
    let reply = VoteResponse { vote: from.vote()?, last_log_id: from.log_id()?, vote_granted: from.flag()? };
    from.end()?;
    Ok(reply)
}

pub fn encode_transfer(request: &TransferLeaderRequest<Types>) -> Bytes {
    let mut out = BytesMut::with_capacity(APPEND_HEAD_BYTES);
    put_vote(&mut out, request.from_leader());
    out.put_u64(*request.to_node_id());
    put_log_id(&mut out, request.last_log_id());
    out.freeze()
}

pub fn decode_transfer(body: Bytes) -> Result<TransferLeaderRequest<Types>, Malformed> {
    let mut from = Reader(body);
    let (vote, to, last) = (from.vote()?, from.u64()?, from.log_id()?);
    from.end()?;
    Ok(TransferLeaderRequest::new(vote, to, last))
}

/// Everything of a snapshot but its state.
pub struct SnapshotHead {
    pub vote: RaftVote,
    pub last_log_id: Option<RaftLogId>,
    pub membership: RaftStoredMembership,
}

pub fn encode_snapshot_head(head: &SnapshotHead) -> Bytes {
    let mut out = BytesMut::new();
    put_vote(&mut out, &head.vote);
    put_log_id(&mut out, head.last_log_id.as_ref());
    out.put_slice(&encode_membership(&head.membership));
    out.freeze()
}

pub fn decode_snapshot_head(body: Bytes) -> Result<SnapshotHead, Malformed> {
    let mut from = Reader(body);
    let (vote, last_log_id) = (from.vote()?, from.log_id()?);
    Ok(SnapshotHead { vote, last_log_id, membership: decode_membership(&from.0)? })
}

#[cfg(test)]
mod tests {
    use openraft::{EntryPayload, Vote};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        formats::frozen,
        raft::types::{Command, RaftEntry, log_id},
        types::{EntryPosition, LogIndex, Term},
    };

    fn id(term: u64, index: u64) -> RaftLogId {
        log_id(EntryPosition { term: Term(term), index: LogIndex(index) })
    }

    fn append() -> AppendEntriesRequest<Types> {
        let normal = EntryPayload::Normal(Command(Bytes::from_static(b"payload")));
        AppendEntriesRequest {
            vote: Vote::new_committed(5, 6),
            prev_log_id: Some(id(4, 8)),
            leader_commit: None,
            entries: vec![
                RaftEntry { log_id: id(5, 9), payload: EntryPayload::Blank },
                RaftEntry { log_id: id(5, 10), payload: normal },
            ],
        }
    }

    #[test]
    fn append_bytes_are_frozen() {
        let bytes = encode_append(append());
        let expected = b"\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x06\x01\
            \x01\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x08\0\0\0\0\x02\
            \0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x09\0\0\0\0\0\
            \0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x0a\x01\0\0\0\x07payload";
        assert_eq!(&bytes[..], &expected[..]);
        let back = decode_append(bytes).unwrap();
        assert_eq!(
            (back.vote, back.prev_log_id, back.leader_commit),
            (Vote::new_committed(5, 6), Some(id(4, 8)), None)
        );
        assert_eq!(back.entries, append().entries);
    }

    /// Nodes of different versions talk.
    #[test]
    fn message_bytes_are_frozen() {
        let vote = Vote::new(3, 4);
        let request = VoteRequest { vote, last_log_id: Some(id(2, 9)), leadership_transfer: true };
        let reply = VoteResponse { vote, last_log_id: None, vote_granted: true };
        let transfer = TransferLeaderRequest::new(vote, 7, Some(id(2, 9)));
        let written = [
            ("append", encode_append(append())),
            ("append-reply", encode_append_reply(&Ok(Some(id(1, 2))))),
            ("append-reply-conflict", encode_append_reply(&Err(StreamAppendError::Conflict(id(1, 2))))),
            ("append-reply-higher-vote", encode_append_reply(&Err(StreamAppendError::HigherVote(vote)))),
            ("vote-request", encode_vote_request(&request)),
            ("vote-reply", encode_vote_reply(&reply)),
            ("transfer", encode_transfer(&transfer)),
        ];
        let reads = |name: &str, bytes: &[u8]| {
            let bytes = Bytes::copy_from_slice(bytes);
            let is_read = match name {
                "append" => decode_append(bytes).is_ok(),
                "vote-request" => decode_vote_request(bytes).is_ok(),
                "vote-reply" => decode_vote_reply(bytes).is_ok(),
                "transfer" => decode_transfer(bytes).is_ok(),
                name => name.starts_with("append-reply") && decode_append_reply(bytes).is_ok(),
            };
            is_read.then_some(()).ok_or_else(|| "malformed".to_string())
        };
        frozen::check(include_str!("bodies.frozen"), written, reads);
    }

    #[test]
    fn replies_and_votes_survive_the_trip() {
        let vote = Vote::new(3, 4);
        for reply in [
            Ok(None),
            Ok(Some(id(1, 2))),
            Err(StreamAppendError::Conflict(id(1, 2))),
            Err(StreamAppendError::HigherVote(vote)),
        ] {
            assert_eq!(decode_append_reply(encode_append_reply(&reply)).unwrap(), reply);
        }
        let request = VoteRequest { vote, last_log_id: Some(id(2, 9)), leadership_transfer: true };
        assert_eq!(decode_vote_request(encode_vote_request(&request)).unwrap(), request);
        let reply = VoteResponse { vote, last_log_id: None, vote_granted: true };
        assert_eq!(decode_vote_reply(encode_vote_reply(&reply)).unwrap(), reply);
        let transfer = TransferLeaderRequest::new(vote, 7, Some(id(2, 9)));
        assert_eq!(decode_transfer(encode_transfer(&transfer)).unwrap(), transfer);
    }

    proptest! {
        #[test]
        fn hostile_bodies_never_panic(bytes: Vec<u8>) {
            let bytes = Bytes::from(bytes);
            let _ = decode_append(bytes.clone());
            let _ = decode_append_reply(bytes.clone());
            let _ = decode_vote_request(bytes.clone());
            let _ = decode_vote_reply(bytes.clone());
            let _ = decode_transfer(bytes.clone());
            let _ = decode_snapshot_head(bytes);
        }

        #[test]
        fn a_cut_append_is_an_error(cut in 0usize..100) {
            let bytes = encode_append(append());
            prop_assume!(cut < bytes.len());
            prop_assert!(decode_append(bytes.slice(..cut)).is_err());
        }
    }
}
