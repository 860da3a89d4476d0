//! The contracts of everything on disk: B1, B9, M6.
//!
//! A contract is a promise that other code rests on without looking. Each has its reason, where it is kept,
//! and the tests that fail when the lines that keep it are taken out. Elsewhere it is cited as `SAFETY B1`;
//! the house rules see to it that each citation has a heading here or on a sister page, and that each test
//! named exists. The sister pages are `src/raft/contracts.rs` (B2, M1, M7, M8, M10, M12 to M18, N5),
//! `src/partition/contracts.rs` (B7, B8, M2 to M5), `src/metadata/contracts.rs` (B5, B6, M11) and
//! `src/group/contracts.rs` (M9). B stands for what would lose records or stop a cluster at once, M for what
//! must be exact besides, N for a note on cost. Numbers are never used again; those that are missing are kept
//! for what is not built yet (end of the raft page).
//!
//! ## B1: no prefix of the write-ahead log holds state that is ahead of its log
//!
//! Every write of a node goes through one writer, in the order in which it was queued. A crash leaves some
//! prefix of that order on the disk, and in *every* prefix these hold for each Raft group:
//!
//! ```text
//! purged <= newest checkpoint <= applied state <= last entry
//! saved commit <= last entry
//! ```
//!
//! Applied state, checkpoints, points of the sparse index and the saved commit are therefore only queued,
//! never written past the queue, and ride unsynced with the next synced write. Nothing is purged that no
//! checkpoint covers. A snapshot is installed as one synced batch: the checkpoint, the applied state and the
//! purge point begin together, and everything older of the group goes with them. Where a log on disk breaks
//! the chain, the replica is damaged, and openraft is not started on it.
//!
//! **Why.** openraft applies entries as soon as they are *handed over* for appending, not when they are
//! durable. So an `apply` that wrote to RocksDB by itself could put the state of an entry into the
//! write-ahead log before the entry. After a crash in between, openraft finds state ahead of the log and
//! closes that hole by purging: the whole log of a partition, which is its data, is gone, and the replica
//! takes itself for one that has everything. (Tried: a log of 20 entries with state 3 ahead opened without
//! an error and without an entry.) A saved commit ahead of the log, or a purge ahead of the state, leaves a
//! group that never starts again.
//!
//! **Kept by** `src/storage/writer.rs` (one queue, one task), `src/storage/log.rs` and `src/storage/saved.rs`
//! (each call queues under the lock that also changes memory, and asserts its part of the chain),
//! `src/storage/open.rs` (the check at start) and `src/raft/driver.rs` (saves before it checkpoints).
//!
//! **Fails without it:** `every_prefix_of_the_log_of_writes_satisfies_the_chain`,
//! `a_log_that_breaks_the_chain_is_refused_as_damaged`, `applied_state_ahead_of_the_log_is_refused`,
//! `purging_what_no_checkpoint_covers_is_refused`, `a_saved_commit_beyond_the_log_counts_only_up_to_its_end`,
//! `a_checkpoint_carries_the_applied_state_with_it`, `an_install_is_all_or_nothing`.
//!
//! ## B9: fsynced data that is missing is noticed at start
//!
//! Every synced commit has a number, which its own batch also puts under a key. When its fsync has returned,
//! and before anybody hears that the commit is durable, the number goes to a file of its own, `FLOOR`. A
//! database whose number is below its floor, or that has a number and no valid floor, has lost commits that
//! were fsynced: its directory is marked damaged for good (B5). Damage that opening does not see, such as a
//! flipped bit in a table, is met by a read: that read serves nothing, the store stops, and the directory is
//! marked.
//!
//! **Why.** RocksDB ends its recovery at the first record of the write-ahead log that it cannot read, and
//! takes it for the torn end of a crash. With recycled logs every recovery mode does so, and without
//! recycling a log that was cut short still opens: records that were acknowledged are gone without a word.
//! (Tried: six kinds of damage, in each mode that opened the log. The floor found all of them, and nothing else.)
//! `FLOOR` holds three slots in blocks of their own, each with a checksum. The current one is written with
//! every commit and synced every 50 ms, after which the next one is written, so that a power cut can tear a
//! slot but never the one that was synced last. **Not seen:** a power cut *and* damage to the media within
//! the last 50 ms.
//!
//! **Kept by** `src/storage/floor.rs`, `src/storage/rocks.rs` (raised in `write`, compared in `check_floor`),
//! `src/storage/directory.rs` (the mark, and the logs that are kept aside for examination).
//!
//! **Fails without it:** `damage_to_fsynced_writes_in_the_live_log_is_always_found_at_open`,
//! `a_missing_floor_or_database_is_damage_and_an_unfinished_creation_is_not`,
//! `the_floor_is_raised_before_a_synced_commit_returns_and_not_by_others`,
//! `the_floor_survives_the_loss_of_the_slot_being_written`,
//! `a_read_of_a_damaged_file_serves_nothing_and_marks_the_directory`, `a_damaged_read_ends_the_store`.
//!
//! ## M6: a completion is a watermark
//!
//! An append, a vote, a truncation or an install is reported as done only when it *and everything that its
//! group queued before it* is durable. A report may be late; it is never early, and it comes exactly once:
//! without one the group would wait for ever. After a failed commit no report says that anything was
//! written. What is not written yet stays in memory whatever the budget of the tail says. A truncation and a
//! purge take entries out of memory before they return. A read that finds nothing, because it lies past the
//! end, below the purge point or across a truncation, returns what there is, possibly nothing: an error
//! would stop the group's core. It never mixes entries of the log before a truncation with those after it.
//!
//! **Why.** openraft keeps one mark a group: told that append 7 is done it takes 1 to 6 for durable too, and
//! counts this replica towards their commitment. A completion that overtook an earlier write would
//! acknowledge records that a power cut takes away.
//!
//! **Kept by** `src/storage/writer.rs` (completes in queue order, after the fsync), `src/storage/tail.rs`
//! (pins what is not written), `src/storage/log.rs` (reads, truncations).
//!
//! **Fails without it:** `what_was_completed_survives_a_crash_at_any_moment`,
//! `a_disk_that_syncs_nothing_is_found_out`, `appends_complete_in_the_order_in_which_they_were_queued`,
//! `a_read_that_races_truncation_never_mixes_two_logs`,
//! `the_tail_is_its_model_and_never_evicts_what_is_not_written`,
//! `a_failed_commit_is_reported_once_before_anyone_hears_and_ends_the_store`.
