//! How much room the disks of nodes have, as nodes tell one another: every pong carries it.
//!
//! A leader that knows it can refuse a write that its followers could not take. A follower whose disk is
//! all but full takes no more bulk, rather than die of a failed write: to its leader it looks
//! unreachable, and it catches up once it has room. So that it gets some, it is told what the others have
//! purged: the trim that says so may stand behind entries that it has no room for (`Kind::Purged`). What a
//! group needs to go on (votes, blank and membership entries, trims, all of the metadata group) is taken
//! always; the reserve is there for it.

use std::time::Duration;

use openraft::{EntryPayload, raft::AppendEntriesRequest};
use serde::{Deserialize, Serialize};

use super::types::Types;
use crate::types::{METADATA_GROUP, RaftGroupId};

/// A partition's other commands are a few dozen bytes; an append, with the smallest batch, is 91 or more.
const SMALL_COMMAND_BYTES: usize = 64;

/// How long openraft waits before it tries a peer again whose disk is full.
pub(super) const FULL_RETRY_EVERY: Duration = Duration::from_secs(1);

/// Appended only: it travels between versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RoomLevel {
    #[default]
    Enough,
    /// Below the reserve: nothing new should be begun.
    Short,
    /// Below half of it: no more bulk is taken.
    Full,
}

/// What a node says of its disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    pub level: RoomLevel,
    pub free_bytes: u64,
    pub reserve_bytes: u64,
}

/// Whether a follower without room does not take this request.
pub(super) fn is_bulk(group: RaftGroupId, request: &AppendEntriesRequest<Types>) -> bool {
    let is_large = |payload: &EntryPayload<_, _, _>| match payload {
        EntryPayload::Normal(super::types::Command(command)) => command.len() > SMALL_COMMAND_BYTES,
        EntryPayload::Blank | EntryPayload::Membership(_) => false,
    };
    group != METADATA_GROUP && request.entries.iter().any(|entry| is_large(&entry.payload))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use openraft::Vote;

    use super::*;
    use crate::{
        formats::frozen,
        partition::encode_trim,
        raft::{
            types::{Command, RaftEntry, log_id},
            wire::{decode_control, encode_control},
        },
        types::{EntryPosition, LogIndex, Offset, Term, WallMs},
    };

    fn request(payloads: Vec<EntryPayload<Command, u64, super::super::types::Peer>>) -> AppendEntriesRequest<Types> {
        let at = |index| log_id(EntryPosition { term: Term(1), index: LogIndex(index) });
        let entries = payloads.into_iter().zip(5..).map(|(payload, index)| RaftEntry { log_id: at(index), payload });
        let entries = entries.collect();
        AppendEntriesRequest { vote: Vote::new_committed(1, 2), prev_log_id: None, entries, leader_commit: None }
    }

    #[test]
    fn only_appends_of_partitions_are_bulk() {
        let group = RaftGroupId(70_000);
        let normal = |len| EntryPayload::Normal(Command(Bytes::from(vec![0; len])));
        let trim = EntryPayload::Normal(Command(encode_trim(WallMs(i64::MAX), Offset(i64::MAX))));
        assert!(!is_bulk(group, &request(vec![])), "a heartbeat");
        assert!(!is_bulk(group, &request(vec![EntryPayload::Blank, trim, normal(64)])));
        assert!(is_bulk(group, &request(vec![EntryPayload::Blank, normal(65)])));
        assert!(!is_bulk(METADATA_GROUP, &request(vec![normal(1 << 20)])));
    }

    #[test]
    fn room_bytes_are_frozen() {
        let room = Room { level: RoomLevel::Full, free_bytes: 5, reserve_bytes: 300 };
        let bytes = encode_control(&room);
        assert_eq!(&bytes[..], b"\x02\x05\xac\x02");
        assert_eq!(decode_control(&bytes), Ok(room));
        let reads =
            |_: &str, bytes: &[u8]| decode_control::<Room>(bytes).map(drop).map_err(|error| format!("{error:?}"));
        frozen::check(include_str!("control.frozen"), [("room", bytes)], reads);
    }
}
