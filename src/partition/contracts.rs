//! The contracts of a partition's records, on the way in (B8, M2, M4), on the way out (B7, M3) and at their
//! end (M5). What a contract is, and where the others are: `src/storage/contracts.rs`.
//!
//! This module holds the pure half of them; the other half is the appender and the reader in `broker`.
//!
//! ## B7: an offset beyond the high watermark is out of range only when a majority confirmed it
//!
//! A fetch below the log start is out of range. A fetch below the high watermark is served by any leader,
//! also by one that is deposed and does not know it: committed records stay what they are. *At* the high
//! watermark a leader that is ready waits for what comes; one that is not ready, or that no majority answers,
//! says that it does not lead. *Beyond* the high watermark nobody says "out of range" from what he knows
//! himself: the leader asks its majority, waits until all that was committed before is applied, and looks
//! again. Without a confirmation the answer is "not the leader". Look-ups of the end and by time are
//! confirmed likewise. And a process that has slept for as long as others wait before they choose another leader
//! serves nothing of a partition before a majority confirmed that it still leads it.
//!
//! **Why.** The high watermark that a node knows lags: at a new leader until the first entry of its term is
//! applied, at a deposed one for ever. Clients answer "out of range" by starting over at the beginning or at
//! the end. So a wrong one, at any failover, delivers a whole partition twice or skips to its end. One that woke after
//! 8 s of SIGSTOP answered a fetch in its socket with the high watermark 537 where 4,539 records had been acknowledged: clients
//! that stop at the end of a partition (`kcat -e`) take that for the end.
//!
//! **Kept by** `src/broker/fetch.rs`, `src/broker/awake.rs` (which names its limit).
//!
//! **Fails without it:** `b7_beyond_the_high_watermark_is_out_of_range_only_when_confirmed`,
//! `b7_a_leader_that_is_cut_off_calls_no_offset_out_of_range`, `a_leader_that_slept_takes_no_old_end_for_the_end`.
//!
//! ## B8: a produce is answered after commit and apply, never before
//!
//! `acks=all` and `acks=1` are both answered when the entry is committed and applied, with the offset that
//! `apply` gave it; `acks=0` gets no answer. `min.insync.replicas` is kept for who sets it and changes nothing of
//! this: above the majority it could only make acknowledged records wait. Refused for a second because no majority
//! answers, a batch is answered "not enough replicas", which promises that it had no effect; accepted and
//! not committed in time, "outcome unknown".
//!
//! **Why.** Proposals are in flight together. Let the second be refused for want of a lease and the third be
//! accepted: the third is fsynced with its offset, but `apply` finds that it does not follow on the first,
//! and makes it dead. Had its fsync been acknowledged, an acknowledged record would vanish and its offset
//! would go to another one, with every node healthy. The refusal and the fsync reach the appender by
//! different ways, so it cannot tell in time.
//!
//! **Kept by** `src/broker/replica/appender/core.rs` (the only place that answers),
//! `src/broker/replica/appender/mod.rs` (`answer`, and the receipt).
//!
//! **Fails without it:** `b8_without_quorum_unknown_within_the_lease_then_not_enough_replicas`,
//! `b8_no_lease_for_a_second_is_not_enough_replicas_without_effect`,
//! `b8_accepted_without_quorum_is_unknown_and_what_comes_later_has_no_effect`,
//! `b8_one_that_arrives_during_the_stall_is_tried_some_times_before_it_is_refused`,
//! `acknowledged_records_survive_the_leaders_crash_once_and_in_order`,
//! `without_a_majority_a_produce_ends_unknown_within_the_lease_and_refused_after_it`.
//!
//! ## M2: one task proposes, in order and in its term, and re-proposes what had no effect
//!
//! One task a partition, the appender, gives out offsets. It hands each proposal to the Raft core, fenced by
//! the term in which it became ready (M1), and waits until the core has taken it before it hands over the
//! next. An outcome is one of three: never appended (any refusal), applied (live or dead), unknown (the core
//! ended, or a snapshot took the entry's place). After the first that is not live, the appender proposes
//! nothing until every flight of this term has an outcome. Then it begins again from the applied state, and
//! what had no effect goes back to the front of its queue in its old order. A change of term ends all of it:
//! what was never appended is answered so, everything else is unknown. A retry of a batch that is in flight
//! attaches to it and gets its outcome; a batch leaves the overlay by its outcome only.
//!
//! On every replica `apply` takes an entry only if it begins at the partition's next offset. Anything else is
//! a **dead entry**: it has an index in the log, no offset, and changes nothing.
//!
//! **Why.** That comparison makes the pipeline safe: once one proposal is lost, all that were built on it are
//! dead on every replica alike, so that there is no gap, no repetition and no other order, whatever the
//! leader believed. It only holds with one proposer that keeps its order, and a second writer with a term of
//! its own is kept out by the fence. Whether a batch "had no effect" is a promise to its client, who will
//! send it again; so nothing whose fate is open may be called so.
//!
//! **Kept by** `src/broker/replica/appender/core.rs` (pure: who is told what),
//! `src/broker/replica/appender/mod.rs` (one admission at a time), `src/partition/overlay.rs`,
//! `src/partition/state.rs` (the comparison), `src/raft/replica.rs` (`propose`, and what an end means).
//!
//! **Fails without it:** `m2_refused_and_dead_batches_are_proposed_again_in_their_old_order`,
//! `m2_a_late_outcome_holds_the_resync_back`, `m2_acknowledged_offsets_are_in_arrival_order`,
//! `m2_a_retry_of_a_pending_batch_attaches_even_after_its_first_waiter_gave_up`,
//! `m2_a_refused_idempotent_batch_keeps_its_sequence_when_proposed_again`,
//! `m2_the_end_of_the_term_tells_what_was_never_appended_from_what_may_be`,
//! `no_refusal_or_leader_change_appends_a_batch_twice`,
//! `f4_a_replica_that_is_closed_refuses_what_it_can_no_longer_append`.
//!
//! ## M3: a reader walks the log by apply's own rule, from a live point
//!
//! Entries lie by index, records by offset, and dead entries have no offset; so no arithmetic leads from one
//! to the other. A *point* is the index of a live entry with the offset at which it begins. `apply` makes it,
//! of applied entries only, and it is saved behind the state that it rests on. A reader starts at the last
//! point at or before its offset, or after a purge at the checkpoint of the log start, and expects the offset
//! that the point names; it takes an entry if it begins where it is expected, passes over it if not, and
//! never goes beyond what is applied.
//!
//! **Why.** The reader repeats what `apply` did, from a place where both agreed, so that it needs no record
//! of which entries were dead. From a point in the unapplied tail, which a later leader may replace, it would
//! hand out records that never were.
//!
//! **Kept by** `src/broker/replica/walk.rs`, `src/broker/replica/cursors.rs`, `src/storage/saved.rs`,
//! `src/partition/state.rs`.
//!
//! **Fails without it:** `m3_only_entries_that_begin_at_the_expected_offset_are_live`,
//! `m3_the_later_of_point_and_checkpoint_is_where_reading_begins`, `points_are_found_by_offset_and_by_time`.
//!
//! ## M4: state knows one clock, which comes with the entries and never goes back
//!
//! Every entry carries its leader's wall clock; `apply` takes the larger of that and what it had. Expiry of
//! producers (24 h) and their eviction (at 100,000, the longest silent first) go by nothing else, so that all
//! replicas forget the same. One entry ages a producer by a quarter of its time at most. Retention by time is
//! a decision of the leader, made as an entry that moves the log start; it makes one only while its own clock
//! is within a minute of the median of those that a majority of the brokers tell.
//!
//! **Why.** Record times are the clients'. By them one producer of the year 2099 would make a partition forget
//! everybody else, and retries would be appended twice. And a leader whose clock jumped ahead by a year would
//! delete a year of records on all replicas.
//!
//! **Kept by** `src/partition/state.rs` (`advance_clock`), `src/partition/producers.rs`,
//! `src/broker/upkeep/clock.rs`, `src/broker/upkeep/retention.rs`.
//!
//! **Fails without it:** `producer_expiry_and_eviction`,
//! `d11_a_leader_whose_clock_is_a_day_ahead_takes_no_retry_twice_and_leaves_no_mark`,
//! `m4_a_clock_far_from_the_median_may_not_trim_by_time`, `m4_of_two_clocks_that_disagree_neither_may`,
//! `m4_a_clock_that_no_majority_is_heard_of_may_not`, `m4_a_leader_whose_clock_jumps_an_hour_trims_nothing`,
//! `m4_a_lagging_replica_that_leads_with_a_jumped_clock_wipes_nothing`.
//!
//! ## M5: trim, checkpoint, snapshot, purge, in this order
//!
//! A partition's log is its data, so it is purged by a replicated command only. Applying the trim moves the
//! log start and queues the state that knows of it. The newest checkpoint at or below the log start is the
//! purge point and the Raft snapshot. A task of its own (never `apply`, which must not call into the core
//! that calls it) then asks openraft for the snapshot, waits until it is there, and purges up to it. The
//! snapshot never goes back and is never below what was purged. A checkpoint holds all that decides later
//! applies: next offset, producers, epochs, clock, membership, and the byte count that places the next
//! checkpoint, so that a replica that began from a snapshot takes its checkpoints at the same entries as the
//! others.
//!
//! A follower whose disk is full takes no bulk, so it cannot reach the trim that would free it. It is told
//! how far others have purged, and may purge up to that checkpoint before the trim reaches it: that one of
//! them did proves the trim committed.
//!
//! **Why.** A snapshot at the last applied entry, which is the usual one, would make a follower that lags skip
//! records that are still retained, and lose them the day it leads. A purge before the snapshot leaves a log
//! that begins after a hole. A call from `apply` into the core waits on a bounded channel that is emptied by
//! whoever waits for `apply`.
//!
//! **Kept by** `src/partition/state.rs` (`purge_point`, `checkpoint_due`), `src/raft/driver.rs`
//! (`offer_purge_point`), `src/raft/watcher.rs` (`purge_as_allowed`), `src/raft/room.rs` (who is full).
//!
//! **Fails without it:**
//! `m5_a_node_behind_the_purge_starts_from_the_checkpoint_and_leads_with_all_that_is_retained`,
//! `d8_a_full_follower_frees_what_others_purged_before_the_trim_reaches_it`, `trims_and_checkpoints`,
//! `replicas_agree_from_wherever_they_begin`,
//! `a_node_that_slept_through_a_trim_serves_all_retained_records_as_leader`.
