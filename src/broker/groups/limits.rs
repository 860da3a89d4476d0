//! Bounds of the coordinator, each with its reason. What the replicated state may hold is bounded in
//! module `group`.

use std::time::Duration;

use crate::group;

/// How long commits are collected into one entry (SAFETY M8). An fsync takes as long on a slow disk.
pub const COMMIT_EVERY: Duration = Duration::from_millis(5);
/// The bytes of one entry of commits: well below a frame between nodes, and applied within a heartbeat.
pub const COMMIT_ENTRY_BYTES_MAX: usize = 1024 * 1024;
/// The bytes of all commits that wait on the coordinator; more wait for room, until their time is over.
pub const COMMIT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Commits waiting for the next entry.
pub const COMMITS_MAX: usize = 16_384;
/// Offsets named by one request: every partition that a topic may have.
pub const OFFSETS_PER_REQUEST_MAX: usize = 10_000;
/// Bytes of one commit: it must fit one entry.
pub const COMMIT_REQUEST_BYTES_MAX: usize = COMMIT_ENTRY_BYTES_MAX;

/// Bytes of offsets that one piece of a larger commit holds: with its names it fits a request.
pub const COMMIT_PIECE_BYTES_MAX: usize = COMMIT_REQUEST_BYTES_MAX / 2;
/// Commits of classic members that wait for those before them at one broker, or whose fate is not known yet: as many
/// as may wait at the coordinator.
pub const COMMIT_TURNS_MAX: usize = COMMITS_MAX;

/// A group request is answered within this time, unless it waits for a rebalance. Clients wait longer,
/// so that a request of theirs never lives on beside its repetition.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// One forwarded try: a coordinator that fell silent must not use up all of the time.
pub const TRY_WITHIN: Duration = Duration::from_secs(2);
/// Group requests on their way to the coordinator from this broker. A peer works on 256 requests of
/// another before it stops reading that one's stream, and votes travel there too.
pub const FORWARDED_MAX: usize = 128;
/// Readers that share the next confirmation of an index.
pub const READERS_MAX: usize = 16_384;

/// A refusal because the lease ran out or leadership moves is repeated this soon, and for this long.
pub const REFUSED_RETRY: Duration = Duration::from_millis(20);
pub const REFUSED_MAX: Duration = Duration::from_secs(1);
/// Decisions of the coordinator (expiries, rounds) proposed at once.
pub const DECISIONS_MAX: usize = 64;
/// A decision that failed is made again after this.
pub const DECISION_RETRY: Duration = Duration::from_millis(200);
/// How often all groups are looked at: topics came or went, patterns match more, offsets are old.
pub const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Topic names tested against patterns by one sweep: some 20 ms.
pub const PATTERN_TESTS_PER_SWEEP_MAX: usize = 200_000;
/// Groups whose offsets are expired by one sweep.
pub const EXPIRIES_PER_SWEEP_MAX: usize = 64;

/// A heartbeat is answered by a leader that a majority confirmed this lately. Shorter than any session:
/// a successor gives every member a full one, so the two never contradict each other.
pub const CONFIRMED_FOR: Duration = Duration::from_millis(500);
/// Sessions of members that name none. Their bounds are the state machine's.
pub const SESSION_DEFAULT: Duration = Duration::from_secs(10);
pub const SESSION_MIN: Duration = Duration::from_millis(group::limits::SESSION_TIMEOUT_MS_MIN as u64);
pub const SESSION_MAX: Duration = Duration::from_millis(group::limits::SESSION_TIMEOUT_MS_MAX as u64);
/// Kafka's lower bound of a classic member's session.
pub const CLASSIC_SESSION_MIN: Duration = Duration::from_secs(6);
/// The longest that a join phase waits for a member: who names more is given this.
pub const REBALANCE_MAX: Duration = Duration::from_millis(group::limits::REBALANCE_TIMEOUT_MS_MAX as u64);
/// How long a member may take to let go of a partition, if it names nothing.
pub const REBALANCE_DEFAULT: Duration = Duration::from_secs(60);
/// Between two beats of a member that has all it should have, and of one that waits for partitions.
pub const BEAT_MAX: Duration = Duration::from_secs(1);
pub const BEAT_REBALANCING: Duration = Duration::from_millis(100);
/// Beats a second of all members together: some 100 us each, so half a core at worst.
pub const BEATS_PER_SECOND_MAX: u32 = 5_000;
/// Beats a second of one group's waiting members together.
pub const WAITING_BEATS_PER_SECOND_MAX: u32 = 500;

/// Member ids handed out (KIP-394) that have not joined yet; the oldest are forgotten.
pub const PROMISED_IDS_MAX: usize = 10_000;
/// A waiting join or sync looks at the metadata no more often than this, however fast that changes.
pub const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Looks a second of all joins and syncs that wait at a broker: a microsecond each, so some hundredths of a core.
pub const LOOKS_PER_SECOND_MAX: u32 = 20_000;
/// Joins and syncs that wait at one broker: half of all members that a cluster may have.
pub const WAITING_MAX: usize = 10_000;
/// How often a waiting join joins the next round by itself, having seen nothing of the one before. More says
/// that this broker is far behind: the client is told to join again.
pub const REJOINS_MAX: usize = 16;
/// The bytes of the readable part of a drawn member id; the rest is random.
pub const MEMBER_PREFIX_BYTES_MAX: usize = 200;

/// The bytes of a compiled pattern: generous for names, hostile to explosions.
pub const PATTERN_COMPILED_BYTES_MAX: usize = 1024 * 1024;

/// How often lag is computed for metrics.
pub const LAG_EVERY: Duration = Duration::from_secs(2);
/// Series of one broker: about 1 MB of text a scrape.
pub const LAG_SERIES_MAX: usize = 10_000;
/// First unread records looked up in one round of lag; the others keep their last timestamp.
pub const LAG_READS_MAX: usize = 256;
/// Partitions asked about in one call between brokers.
pub const LAG_CALL_MAX: usize = 10_000;
/// Unread data older, or larger, than this part of what retention keeps is in danger.
pub const THREAT_PERCENT: u64 = 80;
/// Notes about groups in a health report; the rest is counted.
pub const NOTES_MAX: usize = 20;
/// Partitions that such a note names; the rest is counted.
pub const NOTE_PARTITIONS_MAX: usize = 20;
