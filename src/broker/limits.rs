//! Every bound of this module, with its reason. What a user may set lies in `config`.

use std::time::Duration;

/// Batches waiting for one partition's appender, in its channel and again in its own queue. Sixteen
/// entries of 1 KiB batches; more would only wait longer. Full: UNAVAILABLE.
pub const QUEUE_BATCHES_MAX: usize = 16_384;

/// Proposals of one partition without an outcome. Small, so that under load the next entry grows
/// while these are under way: cost is per entry. Enough to keep the replication window of 2 to 4 full.
pub const PROPOSALS_MAX: usize = 4;

/// Batches checked and put into one entry: bounds how long the partition's lock is held.
pub const ENTRY_BATCHES_MAX: usize = 4_096;

/// Waiters on one batch: the first and retries that attached. A client has five requests in flight.
pub const WAITERS_PER_BATCH_MAX: usize = 64;

/// Producers per partition whose next sequence is remembered after one of their batches went without
/// effect. More at once than have batches in one stalled queue only in theory.
pub const OWED_MAX: usize = 1_000;

/// How long after a refusal by the lease the next proposal is made: a heartbeat round renews the lease.
pub const REFUSED_RETRY: Duration = Duration::from_millis(20);

/// Refused for this long without an entry getting through: NOT_ENOUGH_REPLICAS (SAFETY B8).
pub const LEASE_EXPIRED_MAX: Duration = Duration::from_secs(1);
/// What arrives when the lease is gone for that long already is tried for this long before it hears the same: ten
/// tries, and its client loses little time before it looks for the leader elsewhere.
pub const LEASE_GONE_WAIT: Duration = Duration::from_millis(200);

/// The longest deadline of a request, and the one of a produce that names none.
pub use crate::types::REQUEST_TIMEOUT_MAX;
pub const PRODUCE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// Bytes of one fetch answer; a larger wish is cut to it. The largest batch fits.
pub const FETCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A fetch that names no size.
pub const FETCH_BYTES_DEFAULT: usize = 1024 * 1024;
/// Partitions that one fetch answers: Kafka's clients ask for all that they read from a broker at once.
pub const FETCH_PARTITIONS_MAX: usize = 10_000;
/// The longest long poll: clients behind dead links must not hold state for ever.
pub const FETCH_WAIT_MAX: Duration = Duration::from_secs(60);
/// Answers with batches that wait for room on their way to readers, of all faces; each holds nothing meanwhile.
pub const ANSWERS_WAITING_MAX: usize = 16_384;
/// How long one waits before its reader hears UNAVAILABLE. Longer than slow readers are granted.
pub const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);
/// While others wait, an answer may take this long to be taken, and a second more for each so many bytes of
/// it: else its connection is closed.
pub const ANSWER_GRACE: Duration = Duration::from_secs(3);
pub const ANSWER_BYTES_PER_SECOND: usize = 512 << 10;
/// An answer while there is no room for one of the size asked for: small instead of late. One batch is sent whole even
/// if it is larger, once there is room for it.
pub const ANSWER_SMALL_BYTES: usize = 64 << 10;
/// Fetches reading at once on this node: each holds at most one read of FETCH_BYTES_MAX beside its answer.
pub const FETCH_READS_MAX: usize = 32;
/// How long one fetch waits for its confirmations, and a console or a look for lag for its turn, before it says
/// UNAVAILABLE.
pub const FETCH_CONFIRM_MAX: Duration = Duration::from_secs(5);
/// How long one answer may take to read what it tells once its wait is over, turns included, whatever number of
/// partitions it is of. What was not read by then is left to the next fetch; if nothing was, it says UNAVAILABLE.
pub const FETCH_READ_WITHIN: Duration = Duration::from_secs(5);
/// How often a reader of all that is kept begins again at a log start that has moved meanwhile.
pub const LOG_START_TRIES: usize = 5;
/// Remembered reading positions per partition: more sequential readers than this re-seek.
pub const CURSORS_MAX: usize = 64;
/// Bytes read at a time while looking for a timestamp.
pub const FIND_TIME_READ_BYTES: usize = 1024 * 1024;
/// Look-ups by time that a purge overtook, one after the other, before one says UNAVAILABLE.
pub const FIND_TIME_TRIES: usize = 5;
/// Look-ups by time at once on this node, those for lag included: each holds one such read, and a batch that it
/// decompresses. Fewer than fetches, whose reads they must not hold up.
pub const FIND_TIMES_MAX: usize = 4;
/// How long a look-up by time waits for its turn, and then takes at most, before it says UNAVAILABLE.
pub const FIND_TIME_WITHIN: Duration = Duration::from_secs(10);
/// Offsets that one request looks up at the same time; each waits for a confirmation.
pub const LOOK_UPS_AT_ONCE: usize = 64;
/// Offsets that one request may ask for: of all partitions that a cluster can have, since one node may lead them.
pub const LOOK_UPS_MAX: usize = 100_000;
/// How long one request's look-ups may take in all: a look-up by time that waited for its turn as long as it may is
/// not cut short, and clients, who give a request up after 30 s, still hear of those that were found.
pub const LOOK_UPS_WITHIN: Duration = Duration::from_secs(20);
/// How far it looks beyond the place that the index names. An honest log has the record within the first read;
/// a batch whose header promises a time that none of its records has makes it go on.
pub const FIND_TIME_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What is decompressed or compressed and cannot come to more than this is so on the spot, well below a millisecond;
/// more takes a turn on a thread of its own.
pub const COMPUTED_INLINE_BYTES: usize = 256 * 1024;

/// Groups opened at the same time after a start: bound by disk reads, not by CPU (SAFETY N5).
pub const OPENING_MAX: usize = 16;
/// A replica that stopped by itself is opened again after this long: what stopped it may do so again.
pub const REOPEN_AFTER: Duration = Duration::from_secs(2);
/// A group without an announced leader: after this its next initial member initialises it (SAFETY B6).
pub const INITIALIZE_AFTER: Duration = Duration::from_secs(2);
/// How often reconciling looks again when nothing changed: retries of what failed.
pub const RECONCILE_EVERY: Duration = Duration::from_secs(1);

/// One round of asking peers while the cluster is formed, and between retries of registration.
pub const FORMING_EVERY: Duration = Duration::from_millis(200);
/// How often a broker looks whether majorities answer the groups it leads, to say when they do not.
pub const MAJORITY_CHECK_EVERY: Duration = Duration::from_secs(1);
/// How long one try to register may take, before the reason of the wait is looked at again.
pub const REGISTER_WITHIN: Duration = Duration::from_secs(1);
/// How often the metadata leader asks a broker again for its registration while their link stays up.
pub const REGISTRATION_AGAIN: Duration = Duration::from_secs(30);
/// Addresses of other brokers in one answer: a cluster's.
pub const ADDRESSES_TOLD_MAX: usize = 1_000;
/// How long a start waits for peers that might know that its directory was set back. Only for those that neither
/// answer nor refuse: who is away refuses at once.
pub const ASK_PEERS_WITHIN: Duration = Duration::from_secs(2);
pub const ASK_AGAIN: Duration = Duration::from_millis(20);
/// Tries to link to a peer after which it counts as away at start.
pub const AWAY_AFTER_TRIES: u32 = 3;
/// Tries to link to a peer after which a link that works one way is no matter of a start or a stop.
pub const ONE_WAY_AFTER_TRIES: u32 = 8;
/// How often a broker looks whether a link came up to a peer that may know more of it than it does.
pub const LOOK_FOR_LINKS_EVERY: Duration = Duration::from_millis(100);
/// How often peers are told of new commits: what they cannot prove of a directory that was set back.
pub const TELL_EVERY: Duration = Duration::from_millis(250);
pub const TELL_WITHIN: Duration = Duration::from_millis(500);
/// How long a broker that stops for good may take to say why.
pub const LAST_WORDS_WITHIN: Duration = Duration::from_millis(300);
/// One node-to-node call, unless its request has a deadline of its own.
pub const CALL_WITHIN: Duration = Duration::from_secs(2);
/// A broker that is cut off gives a change of metadata up after this long, if surely nothing of it happened: whoever
/// asked finds a better broker sooner than this one finds a leader.
pub const CUT_OFF_PATIENCE: Duration = Duration::from_secs(2);
/// Between two tries of a forwarded change that had no effect.
pub const CHANGE_RETRY: Duration = Duration::from_millis(50);
/// Admin requests that name no deadline.
pub const ADMIN_TIMEOUT: Duration = Duration::from_secs(30);
/// A topic that is deleted and made anew while somebody changes it by its name is looked up so often.
pub const NAMESAKES_TRIED_MAX: u32 = 3;
/// A producer id when none is at hand: a client that waited longer would rather ask another broker.
pub const PRODUCER_IDS_WITHIN: Duration = Duration::from_secs(5);
/// Leadership transfers that name no deadline.
pub const TRANSFER_TIMEOUT: Duration = Duration::from_secs(10);
/// Reads that may be stale wait this long for the metadata leader's index (SAFETY M9).
pub const STALE_WAIT: Duration = Duration::from_millis(500);
/// A decoded node-to-node request: forwarded configs and lists of groups fit many times over.
pub const CALL_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Groups named in one node-to-node question or answer.
pub const CALL_GROUPS_MAX: usize = 10_000;
/// Forwarded requests worked on at once: beyond it the caller hears UNAVAILABLE.
pub const CALLS_MAX: usize = 1_024;

/// Entries a voter may be behind before health calls its partition under-replicated.
pub const LAG_ENTRIES_MAX: u64 = 1_000;
/// Problems named one by one in a health report; the rest is counted.
pub const PROBLEMS_MAX: usize = 100;
/// Lines of a health report's details, some 100 bytes each; the rest is counted.
pub const DETAILS_MAX: usize = 10_000;
/// Partitions that one problem names.
pub const NAMES_IN_PROBLEM: usize = 3;
/// A broker that is preferred for fewer partitions is in nobody's balance.
pub const PREFERRED_MIN: usize = 2;
/// What a description of a topic waits for leaders to tell their partitions' sizes: a topic that was just
/// created has them within a moment.
pub const STATS_WITHIN: Duration = Duration::from_secs(2);

/// Bytes of batches of one page of the console: more than a page shows of most topics.
pub const BROWSE_BYTES_MAX: usize = 1024 * 1024;
/// A page that another broker reads: it must fit an answer between brokers, with its envelope.
pub const BROWSE_FORWARDED_MAX: usize = CALL_BYTES_MAX - 64 * 1024;
/// Pages read at once on a broker, its own console's and those of others: people, not programs, and
/// neither Raft's links nor the disk may notice them.
pub const BROWSES_MAX: usize = 2;

/// How often free disk space is read. What is written meanwhile, 80 MB on a fast disk, comes out of the
/// reserve.
pub const DISK_CHECK_EVERY: Duration = Duration::from_millis(100);
/// A disk that was short has room again so much above the reserve, or a tenth of it: some entries' worth.
pub const ROOM_AGAIN_BYTES: u64 = 64 << 20;
/// A disk that is short for this long gives its leaderships away: a trim may be on its way.
pub const HAND_OVER_AFTER: Duration = Duration::from_secs(5);
/// How often a leader looks whether retention lets records go.
pub const RETENTION_EVERY: Duration = Duration::from_secs(10);
/// A shorter `segment.ms` counts as this: each segment costs a checkpoint of the partition's whole state.
pub const SEGMENT_MS_MIN: i64 = 1_000;
/// Notes of one broker about retention in a health report; the rest is counted.
pub const RETENTION_NOTES_MAX: usize = 20;
/// How often a partition says again that records come which are past their retention.
pub const OUTDATED_EVERY: Duration = Duration::from_secs(60);
/// A record dated so far ahead is worth a note if retention waits for it.
pub const PINNED_AHEAD: Duration = Duration::from_secs(24 * 3_600);
/// How far a leader's clock may be from the median of its peers' before time retention stops (SAFETY M4).
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(60);

/// All leadership transfers of a shutdown together (SAFETY M13).
pub const SHUTDOWN_TRANSFERS: Duration = Duration::from_secs(5);
/// Once Raft has stopped: for what runs by itself to end where it waits.
pub const SHUTDOWN_TASKS: Duration = Duration::from_secs(2);
/// The last flush of a shutdown: a disk that takes longer stalls.
pub const SHUTDOWN_FLUSH: Duration = Duration::from_secs(2);
/// How long the appender's proposals may take to settle before a transfer.
pub const SETTLE_MAX: Duration = Duration::from_secs(1);
/// How many leaderships a broker that stops hands over at once.
pub const TRANSFERS_AT_ONCE: usize = 8;

/// How often a broker looks whether its disk stalls.
pub const STALL_CHECK_EVERY: Duration = Duration::from_millis(100);
/// One hand-over because of it: three tries of the request. Then the next round tries again.
pub const STALL_TRANSFER_WITHIN: Duration = Duration::from_secs(1);
/// How many of these run at once. Many, since those whose core waits for the disk take all their time.
pub const STALL_TRANSFERS_MAX: usize = 256;

/// Bytes that one request reads again from disk to verify them, or one larger entry: a step that is soon done.
pub const REREAD_STEP_BYTES: usize = 1024 * 1024;
/// Bytes a second that a node reads again at most, for all who verify it: a part of what a disk can do, so that records
/// come and go meanwhile.
pub const REREAD_BYTES_PER_SECOND: u64 = 64 * 1024 * 1024;
/// How long a request waits while others verify this node, before it says UNAVAILABLE.
pub const VERIFY_TURN_WITHIN: Duration = Duration::from_secs(5);
/// What a broker that met damage while it was verified has to say so, before it stops.
pub const DAMAGE_TOLD_WITHIN: Duration = Duration::from_millis(500);
