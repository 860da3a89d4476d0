//! What a client may ask for, and what happens beyond: each limit here is one that a stranger meets.

use std::time::Duration;

use crate::seam::Silence;

/// How large one `ProduceRequest` on the wire may be: twice the largest batch, since plain records may shrink when the
/// broker builds the batch. Beyond it the stream ends with BATCH_TOO_LARGE.
pub const PRODUCE_MESSAGE_BYTES_MAX: usize = 16 << 20;

/// How large any other request may be: these hold names and configs. Beyond it the call ends with OUT_OF_RANGE.
pub const REQUEST_BYTES_MAX: usize = 1 << 20;

/// A message of at most this length is a small one. Messages that arrive whole within one HTTP/2 frame are not
/// counted at all; what both kinds hold while they arrive in pieces is bounded apart, so that large ones which
/// stand still cannot keep small ones out.
pub const SMALL_MESSAGE_BYTES: usize = 256 << 10;
/// How many bytes of small messages may have begun to arrive, on the whole node.
pub const SMALL_RECEIVE_BYTES_MAX: usize = 24 << 20;
/// How many bytes of larger messages may have begun to arrive, on the whole node: a few of the largest.
pub const LARGE_RECEIVE_BYTES_MAX: usize = 48 << 20;
/// How many messages of one kind may wait for room: each leaves up to [`STREAM_WINDOW_BYTES`] with the transport
/// meanwhile. One more ends its call with UNAVAILABLE.
pub const RECEIVE_WAITING_MAX: usize = 32;
/// How long one waits for room before its call ends with UNAVAILABLE.
pub const RECEIVE_WAIT_MAX: Duration = Duration::from_secs(5);
/// While others wait, a message may take this long to arrive, and a second more for each so many bytes that
/// did: else its connection is closed.
pub const RECEIVE_GRACE: Duration = Duration::from_secs(1);
pub const RECEIVE_BYTES_PER_SECOND: usize = 1 << 20;
/// The one request of a call must have arrived within this time, whether others wait or not; else the call ends with
/// UNAVAILABLE.
pub const RECEIVE_WITHIN: Duration = Duration::from_secs(30);

/// How many calls with one request are worked on at once, on the whole node; one more ends with UNAVAILABLE. Each may
/// hold a request of [`SMALL_MESSAGE_BYTES`] that was counted nowhere.
pub const CALLS_MAX: usize = 4_096;

/// How long answers may take to be taken, and how many wait for room: what the broker grants readers of all faces.
pub use crate::broker::{ANSWER_BYTES_PER_SECOND, ANSWER_GRACE, ANSWER_WAIT_MAX, ANSWERS_WAITING_MAX};

/// How many bytes decompressed batches that are being sent to their readers may have, on the whole node: two of the
/// largest.
pub const DECODED_HELD_BYTES_MAX: usize = 2 * DECODED_BYTES_MAX;
/// What is decompressed or compressed up to this size is so on the thread that serves the stream.
pub use crate::broker::COMPUTED_INLINE_BYTES;

/// How many unanswered requests one Produce stream may have; with so many the broker does not read further.
pub const PRODUCE_IN_FLIGHT_MAX: usize = 1_024;

/// How many batch bytes the unanswered requests of one Produce stream may have, so that one stream cannot hold the
/// whole produce budget of the node. With so many the broker does not read further.
pub const PRODUCE_STREAM_BYTES_MAX: usize = 32 << 20;

/// How long outcomes of requests with acks=0 are waited for after the client has ended a stream, so that a refusal is
/// told. In a healthy cluster they take milliseconds.
pub const SILENT_OUTCOMES_WAIT: Duration = Duration::from_millis(500);

/// How many Produce streams the whole node has: each may hold one partly received message. One more ends with
/// UNAVAILABLE.
pub const PRODUCE_STREAMS_MAX: usize = 4_096;

/// How many Consume streams the whole node has. One more ends with UNAVAILABLE.
pub const CONSUME_STREAMS_MAX: usize = 16_384;

/// An answer while the node's fetch budget (`fetch_bytes_max`) has no room for one of the size asked for.
pub use crate::broker::ANSWER_SMALL_BYTES as CONSUME_SMALL_BYTES;

/// What `bytes_max` of a Consume means when it is 0, and how much it may be; more is refused.
pub use crate::broker::{FETCH_BYTES_DEFAULT as CONSUME_BYTES_DEFAULT, FETCH_BYTES_MAX as CONSUME_BYTES_MAX};

/// What the records of one batch may decode to: a compressed bomb ends in DECOMPRESSION_FAILED.
pub const DECODED_BYTES_MAX: usize = crate::record::DECODED_BYTES_MAX_DEFAULT;

/// What `wait_ms_max` of a Consume means when it is 0, and how much it may be; more is refused.
pub const CONSUME_WAIT_DEFAULT: Duration = Duration::from_secs(5);
pub use crate::broker::FETCH_WAIT_MAX as CONSUME_WAIT_MAX;

/// What `timeout_ms` means when it is 0 (produce), and how much it may be (everywhere).
pub use crate::broker::PRODUCE_TIMEOUT_DEFAULT as TIMEOUT_DEFAULT;
pub const TIMEOUT_MS_MAX: u32 = crate::types::REQUEST_TIMEOUT_MAX.as_millis() as u32;

/// Names are checked here, so that no error message carries a megabyte of somebody's name.
pub use crate::group::limits::{
    GROUP_NAME_BYTES_MAX, LABEL_BYTES_MAX, MEMBER_ID_BYTES_MAX, OFFSET_METADATA_BYTES_MAX, OFFSETS_PER_GROUP_MAX,
    PATTERN_BYTES_MAX, REBALANCE_TIMEOUT_MS_MAX, SESSION_TIMEOUT_MS_MAX, SESSION_TIMEOUT_MS_MIN, SUBSCRIBED_TOPICS_MAX,
};
pub use crate::types::TOPIC_NAME_BYTES_MAX;

/// How many topics one GetMetadata may name; who wants more asks for `all_topics`.
pub const TOPICS_NAMED_MAX: usize = 10_000;

/// How many configs one request may have; there are a few dozen.
pub const CONFIGS_MAX: usize = 256;

/// How large one request to the Groups service may be: it holds what a member owns, or commits, and must fit a call
/// between brokers (4 MiB).
pub const GROUPS_REQUEST_BYTES_MAX: usize = 3 << 20;

/// How many offsets one commit, fetch or delete may have.
pub use crate::broker::groups::OFFSETS_PER_REQUEST_MAX as GROUP_OFFSETS_MAX;

/// How long error messages may be: they travel in trailers.
pub const MESSAGE_BYTES_MAX: usize = 1_024;

/// Within this a new connection must have said something.
pub const SILENCE_MAX: Duration = Duration::from_secs(10);
/// A connection must show the HTTP/2 preface and the head of its SETTINGS frame soon; afterwards HTTP/2 pings
/// watch it. (Connections beyond `connections_max` are closed at once.)
pub const SILENCE: Silence = Silence::Opening { bytes: 24 + 9, within: SILENCE_MAX };

/// How many calls one connection may have at once; HTTP/2 makes the client wait with more. A consumer of many
/// partitions has a stream each.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 1_024;

/// A peer that answers no ping for this long after an idle interval is gone: its streams end.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// How large request headers may be: they hold names and a few tens of bytes of metadata.
pub const HEADERS_BYTES_MAX: u32 = 16 << 10;

/// What a client may send ahead of our reading, by HTTP/2's flow control. This is enough for 1 GB/s at a millisecond.
pub const STREAM_WINDOW_BYTES: u32 = 1 << 20;
pub const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// How large a frame may be: batches are large, so that fewer, larger frames than HTTP/2's 16 KiB are better.
pub const FRAME_BYTES_MAX: u32 = 256 << 10;

/// How often the health service looks at the broker's readiness.
pub const HEALTH_INTERVAL: Duration = Duration::from_millis(200);
