//! Every key this broker writes. No other module builds or reads key bytes.
//!
//! ```text
//! family   key                                      value
//! log      'e' | group u64 | index u64              entry
//! state    'b' | broker u64                         what this broker has seen of another one
//! state    'c'                                      number of the last synced commit
//! state    'h'                                      starts of this broker, the last ones
//! state    'i'                                      identity of the directory
//! state    'r' | group u64                          replica of the group that lives here
//! state    'v' | group u64                          vote, opaque
//! state    'p' | group u64                          position of the last purged entry
//! state    'k' | group u64                          saved commit
//! state    't' | group u64                          tombstone of a deleted group
//! applied  'a' | group u64                          applied state
//! applied  's' | group u64 | index u64              checkpoint
//! applied  'o' | group u64 | offset i64             point of the sparse index
//! applied  'x' | group u64                          rolling hash at the applied state
//! ```
//! Integers are big-endian, so that byte order is numeric order and a scan comes out in log order;
//! an offset has its sign bit flipped for the same reason.

use super::KeyRange;
use crate::types::{BrokerId, LogIndex, Offset, RaftGroupId};

/// First byte of a key. Persisted: never renumber, never reuse a retired letter.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Kind {
    Applied = b'a',
    Seen = b'b',
    CommitNo = b'c',
    Entry = b'e',
    Starts = b'h',
    Identity = b'i',
    SavedCommit = b'k',
    Point = b'o',
    Purged = b'p',
    Replica = b'r',
    Checkpoint = b's',
    Tombstone = b't',
    Vote = b'v',
    WarmUp = b'w',
    Rolling = b'x',
}

pub(super) const COMMIT_NO: &[u8] = &[Kind::CommitNo as u8];
/// Written and deleted before a new database is used.
pub(super) const WARM_UP: &[u8] = &[Kind::WarmUp as u8];
pub(super) const IDENTITY: &[u8] = &[Kind::Identity as u8];
pub(super) const STARTS: &[u8] = &[Kind::Starts as u8];

const SIGN: u64 = 1 << 63;

fn of_group(kind: Kind, group: RaftGroupId) -> Vec<u8> {
    let mut key = Vec::with_capacity(9);
    key.push(kind as u8);
    key.extend_from_slice(&group.0.to_be_bytes());
    key
}

fn numbered(kind: Kind, group: RaftGroupId, number: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(17);
    key.push(kind as u8);
    key.extend_from_slice(&group.0.to_be_bytes());
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// Half-open in `to`; None is past the last number there is.
fn numbered_range(kind: Kind, group: RaftGroupId, from: u64, to: Option<u64>) -> KeyRange {
    let to = match to {
        Some(to) => numbered(kind, group, to),
        // The shortest key above every 17-byte key of the group: they all have a byte less than
        // this one where it ends, or share all 17 and are shorter.
        None => [numbered(kind, group, u64::MAX), vec![0]].concat(),
    };
    KeyRange { from: numbered(kind, group, from), to }
}

/// The number in a key that `numbered` made; None for any other bytes.
fn number(kind: Kind, key: &[u8]) -> Option<(RaftGroupId, u64)> {
    let key: &[u8; 17] = key.try_into().ok()?;
    let (group, number) = key[1..].split_at(8);
    let group = u64::from_be_bytes(group.try_into().ok()?);
    let number = u64::from_be_bytes(number.try_into().ok()?);
    (key[0] == kind as u8).then_some((RaftGroupId(group), number))
}

pub(super) fn entry(group: RaftGroupId, index: LogIndex) -> Vec<u8> {
    numbered(Kind::Entry, group, index.0)
}

/// Entries `from..to`; to the end of the log if `to` is None.
pub(super) fn entries(group: RaftGroupId, from: LogIndex, to: Option<LogIndex>) -> KeyRange {
    numbered_range(Kind::Entry, group, from.0, to.map(|to| to.0))
}

pub(super) fn read_entry(key: &[u8]) -> Option<(RaftGroupId, LogIndex)> {
    number(Kind::Entry, key).map(|(group, index)| (group, LogIndex(index)))
}

pub(super) fn replica(group: RaftGroupId) -> Vec<u8> {
    of_group(Kind::Replica, group)
}

/// Replica keys of all groups from `from` on.
pub(super) fn replicas(from: RaftGroupId) -> KeyRange {
    KeyRange { from: replica(from), to: vec![Kind::Replica as u8 + 1] }
}

pub(super) fn read_replica(key: &[u8]) -> Option<RaftGroupId> {
    let key: &[u8; 9] = key.try_into().ok()?;
    let group = u64::from_be_bytes(key[1..].try_into().ok()?);
    (key[0] == Kind::Replica as u8).then_some(RaftGroupId(group))
}

pub(super) fn seen(broker: BrokerId) -> Vec<u8> {
    of_group(Kind::Seen, RaftGroupId(broker.0))
}

/// What was seen of all brokers.
pub(super) fn all_seen() -> KeyRange {
    KeyRange { from: seen(BrokerId(0)), to: vec![Kind::Seen as u8 + 1] }
}

pub(super) fn read_seen(key: &[u8]) -> Option<BrokerId> {
    let key: &[u8; 9] = key.try_into().ok()?;
    let broker = u64::from_be_bytes(key[1..].try_into().ok()?);
    (key[0] == Kind::Seen as u8).then_some(BrokerId(broker))
}

pub(super) fn vote(group: RaftGroupId) -> Vec<u8> {
    of_group(Kind::Vote, group)
}

pub(super) fn purged(group: RaftGroupId) -> Vec<u8> {
    of_group(Kind::Purged, group)
}

pub(super) fn saved_commit(group: RaftGroupId) -> Vec<u8> {
    of_group(Kind::SavedCommit, group)
}

pub(super) fn tombstone(group: RaftGroupId) -> Vec<u8> {
    of_group(Kind::Tombstone, group)
}

/// Tombstones of all groups from `from` on.
pub(super) fn tombstones(from: RaftGroupId) -> KeyRange {
    KeyRange { from: tombstone(from), to: vec![Kind::Tombstone as u8 + 1] }
}

pub(super) fn read_tombstone(key: &[u8]) -> Option<RaftGroupId> {
    let key: &[u8; 9] = key.try_into().ok()?;
    let group = u64::from_be_bytes(key[1..].try_into().ok()?);
    (key[0] == Kind::Tombstone as u8).then_some(RaftGroupId(group))
}

pub(super) fn applied(group: RaftGroupId) -> Vec<u8> {
    of_group(Kind::Applied, group)
}

pub(super) fn rolling(group: RaftGroupId) -> Vec<u8> {
    of_group(Kind::Rolling, group)
}

pub(super) fn checkpoint(group: RaftGroupId, index: LogIndex) -> Vec<u8> {
    numbered(Kind::Checkpoint, group, index.0)
}

/// Checkpoints `from..to`; all from `from` on if `to` is None.
pub(super) fn checkpoints(group: RaftGroupId, from: LogIndex, to: Option<LogIndex>) -> KeyRange {
    numbered_range(Kind::Checkpoint, group, from.0, to.map(|to| to.0))
}

pub(super) fn point(group: RaftGroupId, offset: Offset) -> Vec<u8> {
    numbered(Kind::Point, group, offset.0 as u64 ^ SIGN)
}

/// Points below `to`; all of them if `to` is None.
pub(super) fn points(group: RaftGroupId, to: Option<Offset>) -> KeyRange {
    numbered_range(Kind::Point, group, 0, to.map(|to| to.0 as u64 ^ SIGN))
}

pub(super) fn read_point(key: &[u8]) -> Option<(RaftGroupId, Offset)> {
    number(Kind::Point, key).map(|(group, number)| (group, Offset((number ^ SIGN) as i64)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::formats::frozen;

    const G: RaftGroupId = RaftGroupId(0x0102);

    /// The on-disk format is a promise: these literals change only with a version.
    #[test]
    fn key_bytes_are_frozen() {
        let group = b"\0\0\0\0\0\0\x01\x02";
        let small = |tag: &[u8]| [tag, group].concat();
        let long = |tag: &[u8], number: &[u8]| [tag, group, number].concat();
        assert_eq!(COMMIT_NO, b"c");
        assert_eq!(IDENTITY, b"i");
        assert_eq!(STARTS, b"h");
        assert_eq!(seen(BrokerId(0x0102)), small(b"b"));
        assert_eq!(all_seen(), KeyRange { from: [&b"b"[..], &[0; 8]].concat(), to: b"c".to_vec() });
        assert_eq!(replica(G), small(b"r"));
        assert_eq!(vote(G), small(b"v"));
        assert_eq!(purged(G), small(b"p"));
        assert_eq!(saved_commit(G), small(b"k"));
        assert_eq!(tombstone(G), small(b"t"));
        assert_eq!(applied(G), small(b"a"));
        assert_eq!(rolling(G), small(b"x"));
        assert_eq!(entry(G, LogIndex(3)), long(b"e", b"\0\0\0\0\0\0\0\x03"));
        assert_eq!(checkpoint(G, LogIndex(3)), long(b"s", b"\0\0\0\0\0\0\0\x03"));
        assert_eq!(point(G, Offset(3)), long(b"o", b"\x80\0\0\0\0\0\0\x03"));
        assert_eq!(entries(G, LogIndex(0), None).to, long(b"e", b"\xff\xff\xff\xff\xff\xff\xff\xff\0"));
        assert_eq!(replicas(G), KeyRange { from: small(b"r"), to: b"s".to_vec() });
        let written = [
            ("commit-no", COMMIT_NO.to_vec()),
            ("identity", IDENTITY.to_vec()),
            ("starts", STARTS.to_vec()),
            ("seen", seen(BrokerId(0x0102))),
            ("replica", replica(G)),
            ("vote", vote(G)),
            ("purged", purged(G)),
            ("saved-commit", saved_commit(G)),
            ("tombstone", tombstone(G)),
            ("applied", applied(G)),
            ("rolling", rolling(G)),
            ("entry", entry(G, LogIndex(3))),
            ("checkpoint", checkpoint(G, LogIndex(3))),
            ("point", point(G, Offset(3))),
        ];
        // That no key is written any more that once was says nobody but this list.
        frozen::check(include_str!("keys.frozen"), written, |_, _| Ok(()));
    }

    #[test]
    fn an_open_range_holds_the_largest_index_and_no_other_group() {
        let range = entries(G, LogIndex(0), None);
        assert!(entry(G, LogIndex(u64::MAX)) < range.to);
        assert!(range.to <= entry(RaftGroupId(G.0 + 1), LogIndex(0)));
        let last = entries(RaftGroupId(u64::MAX), LogIndex(0), None);
        assert!(entry(RaftGroupId(u64::MAX), LogIndex(u64::MAX)) < last.to);
    }

    proptest! {
        #[test]
        fn keys_sort_like_their_fields(a: (u64, u64), b: (u64, u64), x: (u64, i64), y: (u64, i64)) {
            let key = |(group, index)| entry(RaftGroupId(group), LogIndex(index));
            prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
            let key = |(group, index)| checkpoint(RaftGroupId(group), LogIndex(index));
            prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
            let key = |(group, offset)| point(RaftGroupId(group), Offset(offset));
            prop_assert_eq!(key(x).cmp(&key(y)), x.cmp(&y));
            prop_assert_eq!(replica(RaftGroupId(a.0)).cmp(&replica(RaftGroupId(b.0))), a.0.cmp(&b.0));
        }

        #[test]
        fn keys_read_back(group: u64, index: u64, offset: i64) {
            let (group, index, offset) = (RaftGroupId(group), LogIndex(index), Offset(offset));
            prop_assert_eq!(read_entry(&entry(group, index)), Some((group, index)));
            prop_assert_eq!(read_point(&point(group, offset)), Some((group, offset)));
            prop_assert_eq!(read_replica(&replica(group)), Some(group));
            prop_assert_eq!(read_tombstone(&tombstone(group)), Some(group));
            prop_assert_eq!(read_seen(&seen(BrokerId(group.0))), Some(BrokerId(group.0)));
        }

        #[test]
        fn hostile_keys_are_no_keys(key: Vec<u8>) {
            if let Some((group, index)) = read_entry(&key) {
                prop_assert_eq!(entry(group, index), key.clone());
            }
            if let Some((group, offset)) = read_point(&key) {
                prop_assert_eq!(point(group, offset), key.clone());
            }
            if let Some(broker) = read_seen(&key) {
                prop_assert_eq!(seen(broker), key.clone());
            }
            if let Some(group) = read_tombstone(&key) {
                prop_assert_eq!(tombstone(group), key.clone());
            }
            if let Some(group) = read_replica(&key) {
                prop_assert_eq!(replica(group), key);
            }
        }
    }
}
