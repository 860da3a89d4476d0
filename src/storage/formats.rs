//! Every value this broker writes: a version byte, then fields, integers big-endian. Values come
//! back from a disk: whatever the bytes are, decoding returns an error rather than panics, and
//! allocates nothing that the value does not hold itself.
//!
//! What an entry's payload, a vote, a membership and a state mean is not known here.

use bytes::{BufMut, Bytes, BytesMut};

use super::{EntryKind, Identity, LogEntry, SavedState, Seen, Start, StartId, Starts, starts::Begun};
use crate::types::{BrokerId, ClusterId, EntryPosition, LogIndex, ReplicaId, StorageId, Term, WallMs};

/// The format version that every value begins with. A value of a format that changes gets its own.
const VERSION: u8 = 1;
/// Its first version said nothing.
const TOMBSTONE_VERSION: u8 = 2;

/// The bytes before an entry's payload: version, kind and term.
pub(super) const ENTRY_HEADER_LEN: usize = 10;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FormatError {
    #[error("value has format version {found}, this broker reads up to {VERSION}: use a newer broker")]
    Version { found: u8 },
    #[error("value is malformed: {0}")]
    Malformed(&'static str),
}

/// Takes fields off the front of a value.
struct Reader(Bytes);

impl Reader {
    /// Begins to read a value whose version is one that this broker knows.
    fn new(value: Bytes) -> Result<Reader, FormatError> {
        let mut reader = Reader(value);
        match reader.array::<1>()? {
            [VERSION] => Ok(reader),
            [found] => Err(FormatError::Version { found }),
        }
    }

    fn bytes(&mut self, len: usize) -> Result<Bytes, FormatError> {
        if len > self.0.len() {
            return Err(FormatError::Malformed("it is too short"));
        }
        Ok(self.0.split_to(len))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let bytes = self.bytes(N)?;
        Ok(bytes[..].try_into().expect("bytes returns as many as it was asked for"))
    }

    fn u64(&mut self) -> Result<u64, FormatError> {
        self.array().map(u64::from_be_bytes)
    }

    fn flag(&mut self) -> Result<bool, FormatError> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [_] => Err(FormatError::Malformed("a flag is neither 0 nor 1")),
        }
    }

    fn position(&mut self) -> Result<EntryPosition, FormatError> {
        possible(EntryPosition { term: Term(self.u64()?), index: LogIndex(self.u64()?) })
    }

    fn end(self) -> Result<(), FormatError> {
        if self.0.is_empty() { Ok(()) } else { Err(FormatError::Malformed("it is too long")) }
    }
}

/// What follows it is computed without another look.
fn possible(position: EntryPosition) -> Result<EntryPosition, FormatError> {
    match position.is_possible() {
        true => Ok(position),
        false => Err(FormatError::Malformed("no entry can have that term and index")),
    }
}

fn put_position(out: &mut BytesMut, position: EntryPosition) {
    out.put_u64(position.term.0);
    out.put_u64(position.index.0);
}

/// Header and payload; the index is in the key. The payload is not copied.
pub(super) fn entry(entry: &LogEntry) -> [Bytes; 2] {
    let mut header = BytesMut::with_capacity(ENTRY_HEADER_LEN);
    header.put_u8(VERSION);
    header.put_u8(entry.kind as u8);
    header.put_u64(entry.position.term.0);
    [header.freeze(), entry.payload.clone()]
}

pub(super) fn read_entry(index: LogIndex, value: Bytes) -> Result<LogEntry, FormatError> {
    let mut value = Reader::new(value)?;
    let kind = match value.array()? {
        [0] => EntryKind::Blank,
        [1] => EntryKind::Normal,
        [2] => EntryKind::Membership,
        [_] => return Err(FormatError::Malformed("the kind of the entry is unknown")),
    };
    let position = possible(EntryPosition { term: Term(value.u64()?), index })?;
    Ok(LogEntry { position, kind, payload: value.0 })
}

/// Purge points and saved commits.
pub(super) fn position(position: EntryPosition) -> Bytes {
    let mut out = BytesMut::with_capacity(17);
    out.put_u8(VERSION);
    put_position(&mut out, position);
    out.freeze()
}

pub(super) fn read_position(value: Bytes) -> Result<EntryPosition, FormatError> {
    let mut value = Reader::new(value)?;
    let position = value.position()?;
    value.end()?;
    Ok(position)
}

/// Votes: opaque bytes.
pub(super) fn opaque(bytes: Bytes) -> [Bytes; 2] {
    [Bytes::from_static(&[VERSION]), bytes]
}

pub(super) fn read_opaque(value: Bytes) -> Result<Bytes, FormatError> {
    Reader::new(value).map(|value| value.0)
}

/// Applied states and checkpoints: position, membership with its length, state. The state, which
/// may be large, is not copied.
pub(super) fn saved_state(saved: &SavedState) -> [Bytes; 2] {
    let mut header = BytesMut::with_capacity(22 + saved.membership.len());
    header.put_u8(VERSION);
    header.put_u8(saved.position.is_some().into());
    put_position(&mut header, saved.position.unwrap_or_default());
    header.put_u32(saved.membership.len().try_into().expect("a membership is a few hundred bytes"));
    header.put_slice(&saved.membership);
    [header.freeze(), saved.state.clone()]
}

pub(super) fn read_saved_state(value: Bytes) -> Result<SavedState, FormatError> {
    let mut value = Reader::new(value)?;
    let is_positioned = value.flag()?;
    let position = value.position()?;
    let membership_len = u32::from_be_bytes(value.array()?);
    let membership = value.bytes(membership_len as usize)?;
    Ok(SavedState { position: is_positioned.then_some(position), membership, state: value.0 })
}

pub(super) fn replica(replica: ReplicaId) -> Bytes {
    let mut out = BytesMut::with_capacity(9);
    out.put_u8(VERSION);
    out.put_u64(replica.0);
    out.freeze()
}

pub(super) fn read_replica(value: Bytes) -> Result<ReplicaId, FormatError> {
    let mut value = Reader::new(value)?;
    let replica = ReplicaId(value.u64()?);
    value.end()?;
    Ok(replica)
}

pub(super) fn identity(identity: &Identity) -> Bytes {
    let mut out = BytesMut::with_capacity(42);
    out.put_u8(VERSION);
    out.put_u64(identity.broker.0);
    out.put_u128(identity.storage_id.0);
    out.put_u8(identity.cluster_id.is_some().into());
    out.put_u128(identity.cluster_id.unwrap_or_default().0);
    out.freeze()
}

pub(super) fn read_identity(value: Bytes) -> Result<Identity, FormatError> {
    let mut value = Reader::new(value)?;
    let broker = BrokerId(value.u64()?);
    let storage_id = StorageId(u128::from_be_bytes(value.array()?));
    let has_cluster = value.flag()?;
    let cluster_id = ClusterId(u128::from_be_bytes(value.array()?));
    value.end()?;
    Ok(Identity { broker, storage_id, cluster_id: has_cluster.then_some(cluster_id) })
}

/// The number of the oldest, then id and first commit of each, the oldest first.
pub(super) fn starts(starts: &Starts) -> Bytes {
    let begun = starts.begun();
    let mut out = BytesMut::with_capacity(13 + begun.len() * 24);
    out.put_u8(VERSION);
    out.put_u64(starts.oldest());
    out.put_u32(begun.len().try_into().expect("they are bounded"));
    for start in begun {
        out.put_u128(start.id.0);
        out.put_u64(start.commit_no);
    }
    out.freeze()
}

pub(super) fn read_starts(value: Bytes) -> Result<Starts, FormatError> {
    let mut value = Reader::new(value)?;
    let oldest = value.u64()?;
    let count = u32::from_be_bytes(value.array()?) as usize;
    let mut begun = Vec::with_capacity(count.min(value.0.len() / 24));
    for _ in 0..count {
        begun.push(Begun { id: StartId(u128::from_be_bytes(value.array()?)), commit_no: value.u64()? });
    }
    value.end()?;
    Starts::from_parts(oldest, begun).ok_or(FormatError::Malformed("it has no starts, or impossible ones"))
}

/// What is known of another broker; its id is in the key.
pub(super) fn seen(seen: &Seen) -> Bytes {
    let mut out = BytesMut::with_capacity(49 + seen.alarm.len());
    out.put_u8(VERSION);
    out.put_u128(seen.storage_id.0);
    out.put_u64(seen.start.number);
    out.put_u128(seen.start.id.0);
    out.put_u64(seen.commit_no);
    out.put_slice(seen.alarm.as_bytes());
    out.freeze()
}

pub(super) fn read_seen(value: Bytes) -> Result<Seen, FormatError> {
    let mut value = Reader::new(value)?;
    let storage_id = StorageId(u128::from_be_bytes(value.array()?));
    let start = Start { number: value.u64()?, id: StartId(u128::from_be_bytes(value.array()?)) };
    let commit_no = value.u64()?;
    let alarm = String::from_utf8(value.0.to_vec()).map_err(|_| FormatError::Malformed("its text is not UTF-8"))?;
    Ok(Seen { storage_id, start, commit_no, alarm })
}

/// A point of the sparse index; its offset is in the key.
pub(super) fn point(index: LogIndex, max_ts_before: WallMs) -> Bytes {
    let mut out = BytesMut::with_capacity(17);
    out.put_u8(VERSION);
    out.put_u64(index.0);
    out.put_i64(max_ts_before.0);
    out.freeze()
}

pub(super) fn read_point(value: Bytes) -> Result<(LogIndex, WallMs), FormatError> {
    let mut value = Reader::new(value)?;
    let index = LogIndex(value.u64()?);
    let max_ts_before = WallMs(i64::from_be_bytes(value.array()?));
    value.end()?;
    Ok((index, max_ts_before))
}

/// Which entry of the metadata log deleted the group.
pub(super) fn tombstone(deleted_at: LogIndex) -> Bytes {
    let mut out = BytesMut::with_capacity(9);
    out.put_u8(TOMBSTONE_VERSION);
    out.put_u64(deleted_at.0);
    out.freeze()
}

/// The entry that deleted the group; None if an older version wrote the tombstone, which did not say.
pub(super) fn read_tombstone(value: Bytes) -> Result<Option<LogIndex>, FormatError> {
    if value.first() != Some(&TOMBSTONE_VERSION) {
        return Reader::new(value)?.end().map(|()| None);
    }
    let mut fields = Reader(value.slice(1..));
    let deleted_at = LogIndex(fields.u64()?);
    fields.end()?;
    Ok(Some(deleted_at))
}

/// The value of a commit number. FLOOR's numbers have the same format, and add a magic and a checksum.
pub(super) fn commit_no(number: u64) -> Bytes {
    let mut out = BytesMut::with_capacity(9);
    out.put_u8(VERSION);
    out.put_u64(number);
    out.freeze()
}

pub(super) fn read_commit_no(value: Bytes) -> Result<u64, FormatError> {
    let mut value = Reader::new(value)?;
    let number = value.u64()?;
    value.end()?;
    Ok(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        formats::frozen,
        types::{LOG_INDEX_MAX, TERM_MAX},
    };

    fn at(term: u64, index: u64) -> EntryPosition {
        EntryPosition { term: Term(term), index: LogIndex(index) }
    }

    fn reads(name: &str, bytes: &[u8]) -> Result<(), String> {
        let value = Bytes::copy_from_slice(bytes);
        let read = match name {
            "entry-blank" | "entry-normal" | "entry-membership" => read_entry(LogIndex(9), value).map(drop),
            "position" => read_position(value).map(drop),
            "opaque" => read_opaque(value).map(drop),
            "saved-state" | "saved-state-empty" => read_saved_state(value).map(drop),
            "replica" => read_replica(value).map(drop),
            "identity" => read_identity(value).map(drop),
            "starts" => read_starts(value).map(drop),
            "seen" => read_seen(value).map(drop),
            "point" => read_point(value).map(drop),
            "tombstone" | "tombstone-version-1" => read_tombstone(value).map(drop),
            "commit-no" => read_commit_no(value).map(drop),
            other => return Err(format!("nobody reads {other:?}")),
        };
        read.map_err(|error| error.to_string())
    }

    #[test]
    fn value_bytes_are_frozen() {
        let data = Bytes::from_static(b"data");
        let of_kind = |kind| Bytes::from(entry(&LogEntry { position: at(5, 9), kind, payload: data.clone() }).concat());
        let saved = SavedState {
            position: Some(at(5, 9)),
            membership: Bytes::from_static(b"who"),
            state: Bytes::from_static(b"what"),
        };
        let empty = SavedState { position: None, ..saved.clone() };
        let whose = Identity { broker: BrokerId(5), cluster_id: Some(ClusterId(9)), storage_id: StorageId(5) };
        let begun = vec![Begun { id: StartId(5), commit_no: 9 }, Begun { id: StartId(9), commit_no: 5 }];
        let both = Starts::from_parts(9, begun).expect("possible");
        let start = Start { number: 9, id: StartId(5) };
        let other = Seen { storage_id: StorageId(9), start, commit_no: 5, alarm: "why".into() };
        let written = [
            ("entry-blank", of_kind(EntryKind::Blank)),
            ("entry-normal", of_kind(EntryKind::Normal)),
            ("entry-membership", of_kind(EntryKind::Membership)),
            ("position", position(at(5, 9))),
            ("opaque", opaque(Bytes::from_static(b"vote")).concat().into()),
            ("saved-state", saved_state(&saved).concat().into()),
            ("saved-state-empty", saved_state(&empty).concat().into()),
            ("replica", replica(ReplicaId(5))),
            ("identity", identity(&whose)),
            ("starts", starts(&both)),
            ("seen", seen(&other)),
            ("point", point(LogIndex(9), WallMs(5))),
            ("tombstone", tombstone(LogIndex(9))),
            ("commit-no", commit_no(5)),
        ];
        let literals = include_str!("values.frozen");
        frozen::check(literals, written, reads);
        let old = frozen::literal(literals, "tombstone-version-1");
        assert_eq!(read_tombstone(old.into()), Ok(None));
    }

    #[test]
    fn a_newer_version_is_named_in_the_error() {
        assert_eq!(read_position(Bytes::from_static(&[2; 17])), Err(FormatError::Version { found: 2 }));
        assert_eq!(read_entry(LogIndex(1), Bytes::from_static(&[7, 0])), Err(FormatError::Version { found: 7 }));
    }

    /// Seen once: what comes after such an entry overflowed, and its term fits no leader epoch.
    #[test]
    fn positions_where_no_entry_can_stand_are_errors() {
        for at in [at(1, u64::MAX), at(1 << 31, 1)] {
            let saved = SavedState { position: Some(at), membership: Bytes::new(), state: Bytes::new() };
            assert!(read_position(position(at)).is_err(), "{at}");
            assert!(read_saved_state(saved_state(&saved).concat().into()).is_err(), "{at}");
            let entry = entry(&LogEntry { position: at, kind: EntryKind::Blank, payload: Bytes::new() });
            assert!(read_entry(at.index, entry.concat().into()).is_err(), "{at}");
        }
    }

    #[test]
    fn a_length_beyond_the_value_is_an_error() {
        let value = [&[1u8, 1][..], &[0; 16], &u32::MAX.to_be_bytes(), b"who"].concat();
        assert_eq!(read_saved_state(value.into()), Err(FormatError::Malformed("it is too short")));
    }

    proptest! {
        #[test]
        fn values_read_back(term in 0..=TERM_MAX, index in 0..=LOG_INDEX_MAX, kind in 0..3u8, a: Vec<u8>, b: Vec<u8>, some: bool, wide: u128, ms: i64) {
            let kind = [EntryKind::Blank, EntryKind::Normal, EntryKind::Membership][usize::from(kind)];
            let one = LogEntry { position: at(term, index), kind, payload: a.clone().into() };
            prop_assert_eq!(read_entry(LogIndex(index), entry(&one).concat().into()), Ok(one));
            prop_assert_eq!(read_position(position(at(term, index))), Ok(at(term, index)));
            prop_assert_eq!(read_opaque(opaque(a.clone().into()).concat().into()), Ok(Bytes::from(a.clone())));
            let saved = SavedState { position: some.then_some(at(term, index)), membership: a.into(), state: b.into() };
            prop_assert_eq!(read_saved_state(saved_state(&saved).concat().into()), Ok(saved));
            prop_assert_eq!(read_replica(replica(ReplicaId(term))), Ok(ReplicaId(term)));
            let whose = Identity { broker: BrokerId(term), cluster_id: some.then_some(ClusterId(wide)), storage_id: StorageId(!wide) };
            prop_assert_eq!(read_identity(identity(&whose)), Ok(whose));
            let begun = vec![Begun { id: StartId(wide), commit_no: index }; 3];
            let three = Starts::from_parts(term >> 1, begun).expect("possible");
            prop_assert_eq!(read_starts(starts(&three)), Ok(three));
            let start = Start { number: term, id: StartId(wide) };
            let other = Seen { storage_id: StorageId(!wide), start, commit_no: index, alarm: format!("{ms}") };
            prop_assert_eq!(read_seen(seen(&other)), Ok(other));
            prop_assert_eq!(read_point(point(LogIndex(index), WallMs(ms))), Ok((LogIndex(index), WallMs(ms))));
            prop_assert_eq!(read_tombstone(tombstone(LogIndex(index))), Ok(Some(LogIndex(index))));
            prop_assert_eq!(read_commit_no(commit_no(term)), Ok(term));
        }

        #[test]
        fn hostile_values_never_panic(mut value: Vec<u8>, versioned: bool) {
            if versioned && let Some(version) = value.first_mut() {
                *version = VERSION;
            }
            let value = Bytes::from(value);
            let _ = read_entry(LogIndex(1), value.clone());
            let _ = read_position(value.clone());
            let _ = read_opaque(value.clone());
            let _ = read_saved_state(value.clone());
            let _ = read_replica(value.clone());
            let _ = read_identity(value.clone());
            let _ = read_point(value.clone());
            let _ = read_starts(value.clone());
            let _ = read_seen(value.clone());
            let _ = read_tombstone(value.clone());
            let _ = read_commit_no(value);
        }
    }
}
