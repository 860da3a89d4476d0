//! The envelope of every node-to-node message, and the small control messages.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::super::types::Malformed;
use crate::types::{BrokerId, ClusterId, RaftGroupId, ReplicaId, Term, WallMs};

/// A frame holds at most one entry batch of 1 MiB, or one entry of 8 MiB, and its head.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 40;

/// The group of a replica's frames, the replica that sends them and the one that they are for.
pub type Address = (RaftGroupId, ReplicaId, ReplicaId);

/// What a frame is. Persisted nowhere, but spoken between versions: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// First on every stream, in both directions.
    Hello = 1,
    Ping = 2,
    Pong = 3,
    /// The sender stops: suspect it at once (SAFETY M13).
    Goodbye = 4,
    /// The sender leads these groups (SAFETY M10).
    Announce = 5,
    /// Instead of a pong: the sender's disk stalls, so it must not lead (SAFETY M14).
    Stalled = 6,
    Append = 10,
    AppendReply = 11,
    /// No more appends on this id: the reply stream may end.
    AppendEnd = 12,
    Vote = 13,
    PreVote = 14,
    VoteReply = 15,
    Transfer = 16,
    TransferReply = 17,
    /// Vote, position and membership of a snapshot; its state follows in parts on the same id.
    SnapshotHead = 20,
    SnapshotPart = 21,
    SnapshotEnd = 22,
    SnapshotReply = 23,
    /// Up to where the sender's replica purged its log, which a committed trim allowed it: one whose disk is
    /// full may as well, although the trim lies behind entries that it has no room for.
    Purged = 24,
    /// An opaque request of the layers above.
    Call = 30,
    CallReply = 31,
    /// The request on this id failed; the body says why, for a log.
    Failed = 40,
    /// The request on this id was not begun: the receiver works on too many.
    Busy = 41,
    /// Whether the addressed replica still follows the asker in a term: a leader confirms a read (SAFETY M17).
    Confirm = 50,
    ConfirmReply = 51,
    // 52 to 59 are kept for fast failover and quiescence.
}

impl Kind {
    const ALL: [Kind; 25] = [
        Kind::Hello,
        Kind::Ping,
        Kind::Pong,
        Kind::Goodbye,
        Kind::Announce,
        Kind::Stalled,
        Kind::Append,
        Kind::AppendReply,
        Kind::AppendEnd,
        Kind::Vote,
        Kind::PreVote,
        Kind::VoteReply,
        Kind::Transfer,
        Kind::TransferReply,
        Kind::SnapshotHead,
        Kind::SnapshotPart,
        Kind::SnapshotEnd,
        Kind::SnapshotReply,
        Kind::Purged,
        Kind::Call,
        Kind::CallReply,
        Kind::Failed,
        Kind::Busy,
        Kind::Confirm,
        Kind::ConfirmReply,
    ];

    fn from_byte(byte: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// One message between two nodes. Fields that a kind has no use for are zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: Kind,
    /// Pairs replies with requests; chosen by the requester, unique on its stream.
    pub id: u64,
    pub group: RaftGroupId,
    /// Replicas, so that nothing reaches the successor of the one it was meant for (SAFETY B5).
    pub from: ReplicaId,
    pub to: ReplicaId,
    pub body: Bytes,
}

impl Frame {
    pub fn control(kind: Kind, id: u64, body: Bytes) -> Frame {
        Frame { kind, id, group: RaftGroupId(0), from: ReplicaId(0), to: ReplicaId(0), body }
    }

    /// The answer to this frame, back to where it came from.
    pub fn reply(&self, kind: Kind, body: Bytes) -> Frame {
        Frame { kind, id: self.id, group: self.group, from: self.to, to: self.from, body }
    }

    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HEAD_BYTES + self.body.len());
        out.put_u8(VERSION);
        out.put_u8(self.kind as u8);
        out.put_u16(0);
        out.put_u64(self.id);
        out.put_u64(self.group.0);
        out.put_u64(self.from.0);
        out.put_u64(self.to.0);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&out), &self.body);
        out.put_u32(crc);
        out.put_slice(&self.body);
        out.freeze()
    }

    pub fn decode(bytes: Bytes) -> Result<Frame, Malformed> {
        if bytes.len() < HEAD_BYTES || bytes.len() > FRAME_BYTES_MAX {
            return Err(Malformed(format!("frame of {} bytes", bytes.len())));
        }
        let number = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("within the head"));
        let stated = u32::from_be_bytes(bytes[36..40].try_into().expect("within the head"));
        let actual = crc32c::crc32c_append(crc32c::crc32c(&bytes[..36]), &bytes[HEAD_BYTES..]);
        if stated != actual {
            return Err(Malformed(format!("frame: CRC {actual:08x} where {stated:08x} is stated")));
        }
        if bytes[0] != VERSION {
            return Err(Malformed(format!("frame of version {}, this broker speaks {VERSION}", bytes[0])));
        }
        let kind = Kind::from_byte(bytes[1]).ok_or_else(|| Malformed(format!("frame of kind {}", bytes[1])))?;
        Ok(Frame {
            kind,
            id: number(4),
            group: RaftGroupId(number(12)),
            from: ReplicaId(number(20)),
            to: ReplicaId(number(28)),
            body: bytes.slice(HEAD_BYTES..),
        })
    }
}

/// Who speaks, and to whom it believes it speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The cluster that the speaker belongs to. None until it is founded.
    pub cluster: Option<ClusterId>,
    pub from: BrokerId,
    pub to: BrokerId,
    /// Drawn at each start of a process: a new one means that the old process is dead.
    pub incarnation: u64,
    /// Where the speaker can be dialled, host:port; empty if it does not say.
    pub address: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// The sender's wall clock, for the bound on retention's clock (SAFETY M4).
    pub wall: WallMs,
}

/// A leader that is ready in its term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    pub group: RaftGroupId,
    pub term: Term,
    pub replica: ReplicaId,
}

pub fn encode_control(message: &impl Serialize) -> Bytes {
    postcard::to_stdvec(message).expect("plain data encodes").into()
}

pub fn decode_control<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    postcard::from_bytes(bytes).map_err(|e| Malformed(format!("control message: {e}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::formats::frozen;

    fn sample() -> Frame {
        Frame {
            kind: Kind::Append,
            id: 2,
            group: RaftGroupId(3),
            from: ReplicaId(4),
            to: ReplicaId(5),
            body: Bytes::from_static(b"body"),
        }
    }

    #[test]
    fn frame_bytes_are_frozen() {
        let bytes = sample().encode();
        let head = b"\x01\x0a\0\0\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x05";
        assert_eq!(&bytes[..36], head);
        assert_eq!(&bytes[40..], b"body");
        assert_eq!(Frame::decode(bytes.clone()), Ok(sample()));
        let reads = |_: &str, bytes: &[u8]| {
            Frame::decode(Bytes::copy_from_slice(bytes)).map(drop).map_err(|error| format!("{error:?}"))
        };
        frozen::check(include_str!("frames.frozen"), [("frame", bytes)], reads);
    }

    #[test]
    fn kinds_are_listed_once_each() {
        for (i, kind) in Kind::ALL.iter().enumerate() {
            assert_eq!(Kind::from_byte(*kind as u8), Some(*kind));
            assert!(!Kind::ALL[..i].contains(kind), "{kind:?} twice");
        }
    }

    proptest! {
        /// SAFETY M15.
        #[test]
        fn any_flipped_bit_is_noticed(bit in 0usize..44 * 8) {
            let mut bytes = sample().encode().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Frame::decode(bytes.into()).is_err());
        }

        #[test]
        fn hostile_frames_are_errors(bytes: Vec<u8>) {
            prop_assert!(Frame::decode(bytes.into()).is_err());
        }
    }
}
