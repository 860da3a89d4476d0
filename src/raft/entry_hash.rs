//! The hash of one entry, of which the rolling hash of a replica is the sum.

use bytes::Bytes;
use openraft::{EntryPayload, StoredMembership};

use super::types::{Command, Peer, encode_membership};
use crate::{replicated::Replicated, rolling::Mixer, storage::EntryKind, types::EntryPosition};

/// The hash of an entry that is about to be applied.
pub(super) fn hash_of_entry<S: Replicated>(at: EntryPosition, payload: &EntryPayload<Command, u64, Peer>) -> u128 {
    match payload {
        EntryPayload::Blank => hash::<S>(at, EntryKind::Blank, &Bytes::new()),
        EntryPayload::Normal(command) => hash::<S>(at, EntryKind::Normal, &command.0),
        EntryPayload::Membership(membership) => {
            // As it lies in the log.
            let stored = encode_membership(&StoredMembership::new(None, membership.clone()));
            hash::<S>(at, EntryKind::Membership, &stored)
        }
    }
}

/// The hash of an entry as it lies in the log.
pub(super) fn hash<S: Replicated>(at: EntryPosition, kind: EntryKind, payload: &Bytes) -> u128 {
    let mut mixer = Mixer::default();
    mixer.word(at.index.0);
    mixer.word(at.term.0);
    mixer.word(kind as u64);
    match kind {
        EntryKind::Normal => {
            mixer.word(payload.len() as u64);
            S::mix(payload, &mut mixer);
        }
        EntryKind::Blank | EntryKind::Membership => mixer.bytes(payload),
    }
    mixer.finish()
}
