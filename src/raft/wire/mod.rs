//! Node-to-node frames: bytes and their meaning, without I/O.
//!
//! A frame is checked by its CRC32C before anything in it is believed: a flipped term would be
//! (SAFETY M15). Nothing is allocated from a length that was not first held against what is there.

mod body;
mod frame;
#[cfg(test)]
mod fuzz;
mod reader;

pub(super) use body::{
    SnapshotHead, decode_append, decode_append_reply, decode_snapshot_head, decode_transfer, decode_vote_reply,
    decode_vote_request, encode_append, encode_append_reply, encode_snapshot_head, encode_transfer, encode_vote_reply,
    encode_vote_request,
};
pub(super) use frame::{Address, Announced, FRAME_BYTES_MAX, Frame, Hello, Kind, Ping, decode_control, encode_control};
