//! The bytes of a history file.
//!
//! ```text
//! file  = magic[8] | run u32 LE | frame* | end
//! frame = length varint | event | crc32c of the event u32 LE
//! event = kind u8 | phase u8 | time - time before varint | process varint | op - op before zigzag | body
//! end   = 0 u8 | crc32c of the magic u32 LE
//! ```
//! Numbers are LEB128, signed ones zigzag. A time is never less than the one before it in its file. A file without an
//! end is of a worker that did not finish.

pub mod decode;
pub mod encode;
pub mod varint;

/// The first bytes of a history file; the last one is the version of the format.
pub const MAGIC: [u8; 8] = *b"LOGCHEK\x01";
pub const HEADER_BYTES: usize = 12;

/// What stands at the end of a file whose worker finished: nothing that zeros could be taken for.
pub fn end() -> [u8; 5] {
    let [a, b, c, d] = crc32c::crc32c(&MAGIC).to_le_bytes();
    [0, a, b, c, d]
}

/// No event is longer: a poll of a million records has a few megabytes.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

/// What each event is called in a file. A number that was used is never used for anything else.
pub(crate) mod kind {
    pub const SEND: u8 = 1;
    pub const SENT: u8 = 2;
    pub const POLL: u8 = 3;
    pub const POLLED: u8 = 4;
    pub const ASSIGN: u8 = 5;
    pub const SUBSCRIBE: u8 = 6;
    pub const REBALANCE: u8 = 7;
    pub const LEAVE: u8 = 8;
    pub const CRASH: u8 = 9;
    pub const COMMIT: u8 = 10;
    pub const COMMITTED: u8 = 11;
    pub const FETCH_COMMIT: u8 = 12;
    pub const FETCHED_COMMIT: u8 = 13;
    pub const HEARTBEAT: u8 = 14;
    pub const BEATEN: u8 = 15;
    pub const LIST_OFFSETS: u8 = 16;
    pub const LISTED: u8 = 17;
    pub const EPOCH_END: u8 = 18;
    pub const EPOCH_ENDED: u8 = 19;
    pub const INIT_PRODUCER: u8 = 20;
    pub const INITED_PRODUCER: u8 = 21;
    pub const ADMIN: u8 = 22;
    pub const ADMINISTERED: u8 = 23;
    pub const ENTRY: u8 = 24;
    pub const REPLICA: u8 = 25;
}
