//! What a Kafka client may ask for, and what happens beyond: each limit here is one that a stranger meets.

use std::time::Duration;

use crate::seam::Silence;

/// One Produce request on the wire: clients put the batches of all partitions that a broker leads into one. Beyond it
/// the connection is closed. Kafka's `socket.request.max.bytes`.
pub const PRODUCE_BYTES_MAX: usize = 100 << 20;
/// Any other request: names, offsets, configs. Beyond it the connection is closed.
pub const REQUEST_BYTES_MAX: usize = 3 << 20;

/// Bytes of Produce requests that have begun to arrive, of the whole node. Once they are here they count against the
/// produce budget instead.
pub const PRODUCE_ARRIVING_BYTES_MAX: usize = 112 << 20;
/// The same of all other requests, until they are answered, at [`DECODED_PER_BYTE`] for each of their bytes; those that
/// wait for their group, at what they have become.
pub const REQUESTS_BYTES_MAX: usize = 72 << 20;
/// What a byte on the wire may become in memory: an element of an array takes a few bytes there, and some eighty here.
pub const DECODED_PER_BYTE: usize = 16;
/// Requests of one kind that wait for room, and how long: then their connection is closed.
pub const ARRIVING_WAITING_MAX: usize = 1_024;
pub const ARRIVING_WAIT_MAX: Duration = Duration::from_secs(5);
/// While others wait, a request may take this long to arrive, and a second more for each so many bytes that did: else
/// its connection is closed.
pub const ARRIVING_GRACE: Duration = Duration::from_secs(1);
pub const ARRIVING_BYTES_PER_SECOND: usize = 1 << 20;

/// What an idle connection keeps to read into.
pub const READ_BYTES: usize = 4 << 10;

/// Requests of one connection that are not answered yet; nothing more is read from it meanwhile. More than librdkafka
/// keeps under way to one broker.
pub const IN_FLIGHT_MAX: usize = 256;

/// Answers that are ready leave in one write, up to so many bytes and pieces.
pub const WRITE_BYTES: usize = 1 << 20;
pub const WRITE_PIECES: usize = 1_024;

/// An answer that is larger than this counts with all that are not taken: a connection has at most [`IN_FLIGHT_MAX`] that
/// do not. A Fetch's always counts; those of Produce and OffsetCommit, which are shorter than what they answer, never do.
pub const ANSWER_UNCOUNTED_BYTES: usize = 4 << 10;

/// A Fetch answer while the node has no room for one of the size asked for.
pub use crate::broker::ANSWER_SMALL_BYTES as FETCH_SMALL_BYTES;
/// How long a Fetch waits for room: then its answer has no records, and its client asks again.
pub const FETCH_ROOM_WAIT: Duration = Duration::from_secs(1);

/// Fetch sessions of the node (Kafka's `max.incremental.fetch.session.cache.slots`), and of one connection: a client
/// that forgets one of its own without a word finds place for the next. Partitions in all of them together. At each of
/// these a client goes on without a session, as at [`PARTITIONS_MAX`] in one of them.
pub const FETCH_SESSIONS_MAX: usize = 1_000;
pub const FETCH_SESSIONS_PER_CONNECTION_MAX: usize = 8;
pub const FETCH_SESSION_PARTITIONS_MAX: usize = 50_000;
/// Bytes of all sessions, at so many for each partition beside its topic's name: what is remembered of it, and what it
/// takes while a request is worked on, which may be a small one about many.
pub const FETCH_SESSION_BYTES_MAX: usize = 56 << 20;
pub const FETCH_SESSION_PARTITION_BYTES: usize = 1 << 10;
/// A session that was used since keeps its room (Kafka's `min.incremental.fetch.session.eviction.ms`). Longer than a
/// request may wait.
pub const FETCH_SESSION_EVICTED_AFTER: Duration = Duration::from_secs(120);

/// Elements of one array in a request. A client that has more to ask asks twice.
pub const ELEMENTS_MAX: usize = 100_000;
/// Partitions in one Produce request, and in one Fetch.
pub use crate::broker::FETCH_PARTITIONS_MAX as PARTITIONS_MAX;

/// Bytes that one answer about groups holds, roughly: all that every group together may hold. A group may be named many
/// times in a request; those beyond are refused.
pub use crate::group::limits::GROUPS_BYTES_MAX as GROUPS_ANSWER_BYTES_MAX;
/// Partitions in one request about committed offsets: all that a group may have committed. Beyond it the connection is
/// closed.
pub use crate::group::limits::OFFSETS_PER_GROUP_MAX as NAMED_PARTITIONS_MAX;
/// Partitions in one answer of DescribeTopicPartitions (Kafka's `max.request.partition.size.limit`).
pub const DESCRIBED_PARTITIONS_MAX: usize = 2_000;

/// Producers in one answer of DescribeProducers: as many as one partition remembers.
pub const DESCRIBED_PRODUCERS_MAX: usize = 100_000;

/// Topics, configs or partitions of one request that are worked on at once.
pub const ADMIN_AT_ONCE: usize = 16;
/// Names and values of the configs that one topic is given: what is refused later is written down until then.
pub const CONFIGS_BYTES_MAX: usize = 16 << 10;
/// How long a request of an operator may take that does not say, and the most that it may.
pub const ADMIN_WAIT_DEFAULT: Duration = Duration::from_secs(30);
pub const ADMIN_WAIT_MAX: Duration = Duration::from_secs(300);

/// A connection without a byte in either direction for so long is closed (Kafka's `connections.max.idle.ms`).
pub const SILENCE: Silence = Silence::Always(IDLE_MAX);
pub const IDLE_MAX: Duration = Duration::from_secs(600);

/// After a client has closed its side: how long what it asked for last is still worked on.
pub const LEAVING_WAIT: Duration = Duration::from_secs(10);

/// What an answer says in words of an error.
pub const WORDS_BYTES_MAX: usize = 1_024;
