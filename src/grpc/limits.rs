//! What a client may ask for, and what happens beyond: each limit here is one that a stranger meets.

use std::time::Duration;

use crate::seam::Silence;

/// One `ProduceRequest` on the wire. Twice the largest batch: plain records may shrink when the broker builds
/// the batch. Beyond it the stream ends with BATCH_TOO_LARGE.
pub const PRODUCE_MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Any other request: names and configs. Beyond it the call ends with OUT_OF_RANGE.
pub const REQUEST_BYTES_MAX: usize = 1 << 20;

/// A message of at most this length is a small one. Messages that arrive whole within one HTTP/2 frame are not
/// counted at all; what both kinds hold while they arrive in pieces is bounded apart, so that large ones which
/// stand still cannot keep small ones out.
pub const SMALL_MESSAGE_BYTES: usize = 256 << 10;
/// Bytes of small messages that have begun to arrive, of the whole node.
pub const SMALL_RECEIVE_BYTES_MAX: usize = 24 << 20;
/// The same of larger ones: a few of the largest.
pub const LARGE_RECEIVE_BYTES_MAX: usize = 48 << 20;
/// Messages of one kind that wait for room: each leaves up to [`STREAM_WINDOW_BYTES`] with the transport
/// meanwhile. One more ends its call with UNAVAILABLE.
pub const RECEIVE_WAITING_MAX: usize = 32;
/// How long one waits for room before its call ends with UNAVAILABLE.
pub const RECEIVE_WAIT_MAX: Duration = Duration::from_secs(5);
/// While others wait, a message may take this long to arrive, and a second more for each so many bytes that
/// did: else its connection is closed.
pub const RECEIVE_GRACE: Duration = Duration::from_secs(1);
pub const RECEIVE_BYTES_PER_SECOND: usize = 1 << 20;
/// The one request of a call must have arrived by then, whether others wait or not: UNAVAILABLE.
pub const RECEIVE_WITHIN: Duration = Duration::from_secs(30);

/// Calls with one request that are worked on at once, on the whole node: UNAVAILABLE beyond it. Each may hold a
/// request of [`SMALL_MESSAGE_BYTES`] that was counted nowhere.
pub const CALLS_MAX: usize = 4_096;

/// How long answers may take to be taken, and how many wait for room: what the broker grants readers of all faces.
pub use crate::broker::{ANSWER_BYTES_PER_SECOND, ANSWER_GRACE, ANSWER_WAIT_MAX, ANSWERS_WAITING_MAX};

/// Decompressed batches that are being sent to their readers, of the whole node: two of the largest.
pub const DECODED_HELD_BYTES_MAX: usize = 2 * DECODED_BYTES_MAX;
/// What is decompressed or compressed up to this size is so on the thread that serves the stream.
pub use crate::broker::COMPUTED_INLINE_BYTES;

/// Unanswered requests of one Produce stream; the broker does not read further.
pub const PRODUCE_IN_FLIGHT_MAX: usize = 1_024;

/// Batch bytes of unanswered requests of one Produce stream: so that one stream cannot hold the whole produce
/// budget of the node. The broker does not read further.
pub const PRODUCE_STREAM_BYTES_MAX: usize = 32 << 20;

/// After the client has ended a stream: how long outcomes of requests with acks=0 are waited for, so that a refusal is
/// told. In a healthy cluster they take milliseconds.
pub const SILENT_OUTCOMES_WAIT: Duration = Duration::from_millis(500);

/// Produce streams of the whole node: each may hold one partly received message. Beyond it UNAVAILABLE.
pub const PRODUCE_STREAMS_MAX: usize = 4_096;

/// Consume streams of the whole node. Beyond it UNAVAILABLE.
pub const CONSUME_STREAMS_MAX: usize = 16_384;

/// An answer while the node's fetch budget (`fetch_bytes_max`) has no room for one of the size asked for: small
/// instead of late. One batch is sent whole even if it is larger, once there is room for it.
pub const CONSUME_SMALL_BYTES: usize = 64 << 10;

/// `bytes_max` of a Consume: when 0, and at most; more is refused.
pub use crate::broker::{FETCH_BYTES_DEFAULT as CONSUME_BYTES_DEFAULT, FETCH_BYTES_MAX as CONSUME_BYTES_MAX};

/// What the records of one batch may decode to: a compressed bomb ends in DECOMPRESSION_FAILED.
pub const DECODED_BYTES_MAX: usize = crate::record::DECODED_BYTES_MAX_DEFAULT;

/// `wait_ms_max` of a Consume: when 0, and at most; more is refused.
pub const CONSUME_WAIT_DEFAULT: Duration = Duration::from_secs(5);
pub use crate::broker::FETCH_WAIT_MAX as CONSUME_WAIT_MAX;

/// `timeout_ms`: when 0 (produce), and at most (everywhere).
pub use crate::broker::PRODUCE_TIMEOUT_DEFAULT as TIMEOUT_DEFAULT;
pub const TIMEOUT_MS_MAX: u32 = crate::types::REQUEST_TIMEOUT_MAX.as_millis() as u32;

/// Names are checked here, so that no error message carries a megabyte of somebody's name.
pub use crate::group::limits::{
    GROUP_NAME_BYTES_MAX, LABEL_BYTES_MAX, MEMBER_ID_BYTES_MAX, OFFSET_METADATA_BYTES_MAX, OFFSETS_PER_GROUP_MAX,
    PATTERN_BYTES_MAX, REBALANCE_TIMEOUT_MS_MAX, SESSION_TIMEOUT_MS_MAX, SESSION_TIMEOUT_MS_MIN, SUBSCRIBED_TOPICS_MAX,
};
pub use crate::types::TOPIC_NAME_BYTES_MAX;

/// Topics named in one GetMetadata; more want `all_topics`.
pub const TOPICS_NAMED_MAX: usize = 10_000;

/// Configs in one request; there are a few dozen.
pub const CONFIGS_MAX: usize = 256;

/// One request to the Groups service: what a member owns, or commits. It must fit a call between brokers (4 MiB).
pub const GROUPS_REQUEST_BYTES_MAX: usize = 3 << 20;

/// Offsets in one commit, fetch or delete.
pub use crate::broker::groups::OFFSETS_PER_REQUEST_MAX as GROUP_OFFSETS_MAX;

/// Error messages: they travel in trailers.
pub const MESSAGE_BYTES_MAX: usize = 1_024;

/// Within this a new connection must have said something.
pub const SILENCE_MAX: Duration = Duration::from_secs(10);
/// A connection must show the HTTP/2 preface and the head of its SETTINGS frame soon; afterwards HTTP/2 pings
/// watch it. (Connections beyond `connections_max` are closed at once.)
pub const SILENCE: Silence = Silence::Opening { bytes: 24 + 9, within: SILENCE_MAX };

/// Calls of one connection at once; HTTP/2 makes the client wait. A consumer of many partitions has a stream each.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 1_024;

/// A peer that answers no ping for this long after an idle interval is gone: its streams end.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Request headers: names and a few tens of bytes of metadata.
pub const HEADERS_BYTES_MAX: u32 = 16 << 10;

/// Flow control: what a client may send ahead of our reading. Enough for 1 GB/s at a millisecond.
pub const STREAM_WINDOW_BYTES: u32 = 1 << 20;
pub const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Fewer, larger frames than HTTP/2's 16 KiB: batches are large.
pub const FRAME_BYTES_MAX: u32 = 256 << 10;

/// How often the health service looks at the broker's readiness.
pub const HEALTH_INTERVAL: Duration = Duration::from_millis(200);
