//! What a peer sends: frames, the bodies of Raft's messages, control messages; and what of both lies on disk.

use std::collections::BTreeMap;

use bytes::Bytes;
use openraft::{
    EntryPayload, Membership, StoredMembership, Vote,
    raft::{AppendEntriesRequest, StreamAppendError, TransferLeaderRequest, VoteRequest, VoteResponse},
};

use super::{
    super::{
        Room,
        checks::{check_append, check_snapshot},
        types::{
            Command, Peer, RaftEntry, RaftLogId, RaftStoredMembership, decode_membership, decode_vote,
            encode_membership, encode_vote, log_id,
        },
    },
    *,
};
use crate::{
    formats::{
        frozen::literals,
        fuzz::{bounded, fuzz, linear},
    },
    types::{BrokerId, ClusterId, EntryPosition, LogIndex, RaftGroupId, ReplicaId, Term, WallMs},
};

/// An entry is 21 bytes on the wire; a membership's voter is one, and then a node of a set, cloned once. An announced
/// leader is three bytes at least.
const PER_BYTE: usize = 128;

fn id(term: u64, index: u64) -> RaftLogId {
    log_id(EntryPosition { term: Term(term), index: LogIndex(index) })
}

fn membership() -> RaftStoredMembership {
    let nodes: BTreeMap<_, _> = (1..=4).map(|id| (id, Peer { broker: BrokerId(id) })).collect();
    let joint = vec![[1, 2, 3].into(), [2, 3, 4].into()];
    StoredMembership::new(Some(id(2, 3)), Membership::new(joint, nodes).expect("all voters are named"))
}

fn append() -> AppendEntriesRequest<super::super::types::Types> {
    let entry = |index, payload| RaftEntry { log_id: id(5, index), payload };
    AppendEntriesRequest {
        vote: Vote::new_committed(5, 6),
        prev_log_id: Some(id(4, 8)),
        leader_commit: Some(id(4, 8)),
        entries: vec![
            entry(9, EntryPayload::Blank),
            entry(10, EntryPayload::Normal(Command(Bytes::from_static(b"payload")))),
            entry(11, EntryPayload::Membership(membership().membership().clone())),
        ],
    }
}

/// Bodies, each behind the byte that says how it is read.
fn bodies() -> Vec<Vec<u8>> {
    let vote = Vote::new(3, 4);
    let head = SnapshotHead { vote: Vote::new_committed(5, 6), last_log_id: Some(id(5, 9)), membership: membership() };
    let vote_request = VoteRequest { vote, last_log_id: Some(id(2, 9)), leadership_transfer: true };
    let vote_reply = VoteResponse { vote, last_log_id: None, vote_granted: true };
    let announced = [Announced { group: RaftGroupId(1), term: Term(2), replica: ReplicaId(3) }; 3];
    let hello = Hello {
        cluster: Some(ClusterId(1)),
        from: BrokerId(1),
        to: BrokerId(2),
        incarnation: 300,
        address: "h:1".into(),
    };
    let at = EntryPosition { term: Term(2), index: LogIndex(3) };
    let voterless = RaftEntry { log_id: id(5, 9), payload: EntryPayload::Membership(Default::default()) };
    let written = [
        (0, encode_append(append())),
        (0, encode_append(AppendEntriesRequest { entries: vec![voterless], ..append() })),
        (1, encode_append_reply(&Ok(Some(id(1, 2))))),
        (1, encode_append_reply(&Err(StreamAppendError::Conflict(id(1, 2))))),
        (1, encode_append_reply(&Err(StreamAppendError::HigherVote(vote)))),
        (2, encode_vote_request(&vote_request)),
        (3, encode_vote_reply(&vote_reply)),
        (4, encode_transfer(&TransferLeaderRequest::new(vote, 7, Some(id(2, 9))))),
        (5, encode_snapshot_head(&head)),
        (6, encode_membership(&membership())),
        (7, encode_vote(&vote)),
        (8, encode_control(&hello)),
        (9, encode_control(&announced.as_slice())),
        (10, encode_control(&Ping { wall: WallMs(-1) })),
        (11, encode_control(&at)),
        (12, encode_control(&Term(300))),
        (13, encode_control(&Room::default())),
        (14, encode_control(&true)),
    ];
    let literals = literals(include_str!("../stored.frozen")).into_iter();
    let stored = literals.map(|(name, bytes)| (if name.starts_with("vote") { 7 } else { 6 }, Bytes::from(bytes)));
    written.into_iter().chain(stored).map(|(kind, body)| [&[kind], &body[..]].concat()).collect()
}

/// Reads a body. What was read, written again, reads the same.
fn check_body(kind: u8, body: &Bytes) -> Result<(), String> {
    let text = |error: super::super::types::Malformed| error.to_string();
    match kind % 15 {
        0 => {
            let request = decode_append(body.clone()).map_err(text)?;
            let shown = format!("{request:?}");
            let is_taken = check_append(&request).is_ok();
            let voters = |entry: &RaftEntry| match &entry.payload {
                EntryPayload::Membership(membership) => membership.voter_ids().count(),
                EntryPayload::Blank | EntryPayload::Normal(_) => 1,
            };
            assert!(!is_taken || request.entries.iter().all(|entry| voters(entry) > 0), "{shown}");
            let again = decode_append(encode_append(request)).expect("our own bytes");
            assert_eq!((format!("{again:?}"), check_append(&again).is_ok()), (shown, is_taken));
        }
        1 => {
            let reply = decode_append_reply(body.clone()).map_err(text)?;
            assert_eq!(encode_append_reply(&reply), body);
        }
        2 => assert_eq!(encode_vote_request(&decode_vote_request(body.clone()).map_err(text)?), body),
        3 => assert_eq!(encode_vote_reply(&decode_vote_reply(body.clone()).map_err(text)?), body),
        4 => assert_eq!(encode_transfer(&decode_transfer(body.clone()).map_err(text)?), body),
        5 => {
            let head = decode_snapshot_head(body.clone()).map_err(text)?;
            let _ = check_snapshot(&head, Some(&id(2, 3)));
            let again = decode_snapshot_head(encode_snapshot_head(&head)).expect("our own bytes");
            assert_eq!((again.vote, again.last_log_id), (head.vote, head.last_log_id));
            assert_eq!(again.membership, head.membership);
        }
        6 => {
            let membership = decode_membership(body).map_err(text)?;
            assert_eq!(decode_membership(&encode_membership(&membership)), Ok(membership));
        }
        7 => assert_eq!(encode_vote(&decode_vote(body).map_err(text)?), body),
        8 => check_control::<Hello>(body)?,
        9 => check_control::<Vec<Announced>>(body)?,
        10 => check_control::<Ping>(body)?,
        11 => check_control::<EntryPosition>(body)?,
        12 => check_control::<Term>(body)?,
        13 => check_control::<Room>(body)?,
        _ => check_control::<bool>(body)?,
    }
    Ok(())
}

fn check_control<T>(body: &Bytes) -> Result<(), String>
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let message: T = decode_control(body).map_err(|error| error.to_string())?;
    assert_eq!(decode_control(&encode_control(&message)), Ok(message));
    Ok(())
}

#[test]
fn fuzz_bodies_of_messages() {
    for body in bodies() {
        assert_eq!(check_body(body[0], &Bytes::copy_from_slice(&body[1..])), Ok(()), "{body:?}");
    }
    fuzz!(bodies(), |bytes| {
        let Some((kind, body)) = bytes.split_first() else { return };
        let body = Bytes::copy_from_slice(body);
        let read = || check_body(*kind, &body);
        let _ = bounded(body.len(), 4 * PER_BYTE, read);
    });
    let blank = |count: u64| {
        let entries = (0..count).map(|index| RaftEntry { log_id: id(5, 9 + index), payload: EntryPayload::Blank });
        [&[0], &encode_append(AppendEntriesRequest { entries: entries.collect(), ..append() })[..]].concat()
    };
    linear(|bytes| blank(bytes as u64 / 21), |bytes| drop(check_body(0, &bytes.slice(1..))));
    let voters = |count: u64| {
        let nodes: BTreeMap<_, _> = (0..count).map(|id| (id, Peer { broker: BrokerId(id) })).collect();
        let membership = Membership::new(vec![(0..count).collect()], nodes).expect("all are named");
        encode_membership(&StoredMembership::new(None, membership)).to_vec()
    };
    linear(|bytes| voters(bytes as u64 / 9), |bytes| assert!(decode_membership(&bytes).is_ok()));
}

/// The checksum is right, so that what lies behind it must stand by itself.
fn sealed(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    let body = bytes.get(40..)?;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..36]), body);
    bytes[36..40].copy_from_slice(&crc.to_be_bytes());
    Some(bytes)
}

fn check_frame(bytes: &[u8]) {
    let frame = bounded(bytes.len(), 1, || Frame::decode(Bytes::copy_from_slice(bytes)));
    let Ok(frame) = frame else { return };
    assert_eq!(Frame::decode(frame.encode()).as_ref(), Ok(&frame));
    assert_eq!(frame.body, &bytes[40..]);
}

#[test]
fn fuzz_frames_of_nodes() {
    let frames = bodies().into_iter().zip((0..=u8::MAX).cycle()).map(|(body, id)| {
        let (group, from, to) = (RaftGroupId(1), ReplicaId(2), ReplicaId(3));
        let frame = Frame { kind: Kind::Append, id: id.into(), group, from, to, body: body.into() };
        let mut bytes = frame.encode().to_vec();
        // Kinds that there are and that there are not.
        bytes[1] = id;
        sealed(&bytes).expect("it is whole")
    });
    let frozen = literals(include_str!("frames.frozen")).into_iter().map(|(_, bytes)| bytes);
    let seeds: Vec<_> = frozen.chain(frames).collect();
    assert!(Frame::decode(seeds[0].clone().into()).is_ok());
    fuzz!(seeds, |bytes| {
        check_frame(bytes);
        sealed(bytes).iter().for_each(|bytes| check_frame(bytes));
    });
}
