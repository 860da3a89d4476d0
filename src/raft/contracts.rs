//! The contracts of consensus: B2, M1, M7, M8, M10, M12 to M18 and N5. What a contract is, and where the
//! others are: `src/storage/contracts.rs`. How an election, an append, a snapshot and a transfer go, step by
//! step, is told in [`story`](super::story).
//!
//! ## B2: a leadership transfer is prepared, watched and repeated
//!
//! A transfer begins only when nothing is in flight and the target is alive and has acknowledged all of the
//! log. Then the request goes out and the old leader watches for a leader of a *higher term*. After 300 ms
//! without one it asks the next candidate. At its deadline the caller is told that the outcome is unknown,
//! and a task of its own goes on, for half a minute, with whatever voter is alive.
//!
//! **Why.** openraft marks the leader as transferring and never takes that back: from then on it refuses
//! writes and sends no heartbeat, and it cannot campaign, since it leads. The request itself is sent once.
//! So one lost frame leaves a leader that leads nothing. (Tried: a target that could not be reached for 50 ms
//! cost 4.4 s of writes; with the election timer off, no leader came at all.) Asking again is harmless, and
//! marks the leader for another target.
//!
//! **Kept by** `src/raft/transfer.rs`, `src/broker/cluster/transfer.rs` (pauses the appender first).
//!
//! **Fails without it:** `a_transfer_whose_request_is_lost_is_repeated`,
//! `b2_the_next_candidate_is_asked_when_the_first_hears_nothing`,
//! `b2_any_voter_is_asked_in_the_end_when_the_one_asked_for_hears_nothing`,
//! `leadership_moves_to_the_voter_asked_for`, `transfers_under_a_pipelined_load_lose_and_duplicate_nothing`.
//!
//! ## M1: a leader serves only once an entry of its own term is applied
//!
//! A replica is **leader-ready** in term T when openraft says that it leads, its vote is of T, and everything
//! up to its own blank entry of T is applied. One round of ReadIndex in T proves all of it. Before that
//! nobody proposes here, nothing is announced, and whatever needs the end of the log waits. A change of term
//! ends readiness at once. A restarted leader does not resume its term.
//!
//! **Why.** A new leader's log ends in entries of older terms that are committed without its knowing it, and
//! others that may never be. Its next offset is right only when all of them are decided, which the first
//! entry of its own term decides. Nor is every answer to "do I lead?" of use: openraft's `as_leader()` looks
//! at the vote on disk, and said yes on a leader that was restarted alone.
//!
//! **Kept by** `src/raft/watcher.rs` (`become_ready`), `src/broker/replica/appender/mod.rs` (`follow`),
//! `src/raft/node.rs` (`enable_leader_restore` is off).
//!
//! **Fails without it:** `m1_a_leader_is_ready_only_with_a_majority`,
//! `m1_a_fresh_leader_is_not_ready_before_an_entry_of_its_term_is_committed`.
//!
//! ## M7: a leader without a majority knows it, and says nothing that may be old
//!
//! A leader that no majority has answered for one lease (the longest election timeout) says so: its proposals
//! are refused for want of a lease, its long polls end with "not the leader", listings name no leader that
//! cannot write, and health counts its groups. It also stops calling itself leader as soon as another one is
//! announced in a later term.
//!
//! **Why.** openraft does not step down by itself. It refuses proposals and goes on with its heartbeats,
//! which renew its followers' patience where they still arrive. Whoever asks a leader that is cut off would
//! be told for minutes that there is nothing new, while others lead and take records.
//!
//! **Kept by** `src/raft/raft_member.rs` (`check_quorum`), `src/raft/watcher.rs` (`watch_quorums`),
//! `src/broker/serving.rs`, `src/broker/upkeep/majorities.rs`. That peers take such a leader's own word for a
//! suspicion is not built yet.
//!
//! **Fails without it:** `a_leader_that_no_majority_answers_knows_it`,
//! `m7_a_broker_without_a_majority_says_so_everywhere`,
//! `a_leader_that_is_cut_off_does_not_go_on_saying_that_there_is_nothing_new`.
//!
//! ## M8: a group whose state is its data snapshots all of it
//!
//! The metadata group keeps a snapshot of its whole state at the last applied entry, every 10,000 entries, and
//! 1,000 entries below it. Committed offsets of a few milliseconds share one entry.
//!
//! **Why.** For a partition the log is the data, and is never compacted by itself (M5). For metadata it is
//! the opposite: without a snapshot its log would grow for ever, and a new broker would replay all of it.
//!
//! **Kept by** `src/raft/node.rs` (`config`), `src/raft/driver.rs` (`get_snapshot_builder`),
//! `src/broker/groups/coordinator/commits.rs`.
//!
//! **Fails without it:** `m8_state_is_snapshotted_and_a_late_node_starts_from_it`,
//! `a_decoded_state_goes_on_like_the_original`, `commits_of_a_moment_share_an_entry_up_to_its_bytes`.
//!
//! ## M10: of two announced leaders the one of the higher term counts
//!
//! Leaders announce themselves once they are ready: to everybody at once, in full to whoever connects, and
//! every 5 s as a digest. A node keeps the highest term that it heard of for each group. Two leaders of one
//! term are an alarm. Where the group runs here, an announcement is believed of its members only.
//!
//! **Why.** Announcements cross on their way and arrive in any order; the term orders them.
//!
//! **Kept by** `src/raft/leaders.rs`, `src/raft/session.rs` (`hear`), `src/raft/link.rs` (digests).
//!
//! **Fails without it:** `the_highest_term_wins_in_any_order`, `two_leaders_of_one_term_are_a_contradiction`,
//! `m10_a_node_that_comes_later_hears_who_leads`,
//! `announcements_are_believed_only_of_members_and_of_possible_terms`.
//!
//! ## M12: an impossible term is refused, whatever names it
//!
//! Terms are epochs for clients, which are 31 bits wide. A vote, an append, a snapshot, a transfer, an
//! announcement or an answer that names a term above that, or more than 2^20 above the receiver's own, is
//! refused before openraft sees it. Nothing that a peer sends reaches an assert, here or in openraft: entries
//! must follow one another, answers must fit their questions. A partition remembers at which offset each term
//! began, so that a client can ask where an epoch ended.
//!
//! **Why.** A term is taken over from whoever names a higher one. One flipped bit, or one foreign process,
//! would use all of them up, after which no leader can be elected.
//!
//! **Kept by** `src/raft/checks.rs`, `src/raft/appends.rs`
//! (`Outstanding::check`), `src/raft/session.rs` (`hear`), `src/partition/state.rs` (epochs).
//!
//! **Fails without it:** `votes_with_impossible_terms_are_refused`,
//! `m12_a_vote_with_an_impossible_term_changes_nothing`, `terms_that_leap_are_refused_whatever_names_them`,
//! `appends_that_no_leader_sends_end_the_stream_and_nothing_else`,
//! `snapshots_that_cannot_be_are_refused_and_stop_nothing`,
//! `announcements_are_believed_only_of_members_and_of_possible_terms`.
//!
//! ## M13: who is told to stop hands over first, and a goodbye is certain
//!
//! On SIGTERM a broker is not ready any more; it hands its leaderships over, several at once and the metadata
//! group last, within 5 s; it says goodbye to its peers, stops its groups, by which whatever still waits is
//! answered, and writes out what is queued. For whoever hears the goodbye it is dead from then on, and the
//! followers of what it still led campaign at once, one after the other.
//!
//! **Why.** An election by timeout costs seconds of writes for each partition; a planned stop need not.
//!
//! **Kept by** `src/broker/stop.rs`, `src/raft/departed.rs`, `src/raft/node.rs` (`shutdown`), `src/raft/session.rs` (`hear_goodbye`).
//!
//! **Fails without it:** `m13_a_stopping_broker_hands_its_leaderships_over`,
//! `m13_a_stopped_broker_was_replaced_before_it_ended`, `who_says_goodbye_is_replaced_at_once`,
//! `sigterm_of_each_node_in_turn_fails_no_produce`.
//!
//! ## M14: who has a disk that stalls does not lead, and ends if it hangs
//!
//! The queue of the log writer is bounded in bytes; a full one holds the groups that append to it, and nobody
//! else. A commit that has run for 2 s makes the broker answer "my disk stalls" instead of a pong, which
//! counts as dead, and hand its leaderships over. After 15 s a thread ends the process.
//!
//! **Why.** Entries commit on the followers' disks. A leader whose own disk hangs would go on to lead, with a
//! queue that grows, and with nobody who notices.
//!
//! **Kept by** `src/storage/writer.rs` (the bound), `src/raft/ground.rs` (`is_stalled`),
//! `src/broker/upkeep/stall.rs`, `src/server/watchdog.rs`.
//!
//! **Fails without it:** `reserve_waits_while_the_queue_is_over_its_bound`,
//! `a_disk_that_hangs_shows_and_evicts_nothing_that_is_not_written`,
//! `a_node_whose_disk_stalls_counts_as_dead_until_it_is_back`,
//! `a_broker_whose_disk_stalls_gives_all_its_leaderships_away_and_comes_back`,
//! `one_commit_may_take_fifteen_seconds`,
//! `a_leader_of_64_partitions_whose_disk_hangs_is_replaced_ends_and_comes_back`.
//!
//! ## M15: every frame carries a checksum, and every request of a peer a deadline
//!
//! A frame between nodes has a CRC32C over its head and body, checked before anything is decoded; one that
//! does not fit ends the stream. Frames of one group in one direction keep their order. Each request has a
//! deadline on both sides: who asks gives up, and who is asked stops working on it.
//!
//! **Why.** TCP's checksum lets one damaged packet of some millions through, and the frame that it spoils may
//! say a term or an offset, which is then believed and replicated. A request without an end holds what it was
//! given: a follower that hangs would keep the leader's log from being purged.
//!
//! **Kept by** `src/raft/wire/frame.rs`, `src/raft/session.rs` (`within`), `src/raft/network.rs`,
//! `src/raft/appends.rs` (`APPEND_STALLED`).
//!
//! **Fails without it:** `any_flipped_bit_is_noticed`, `hostile_frames_are_errors`,
//! `calls_that_hang_hold_up_nothing_else_of_their_peer`.
//!
//! ## M16: no stall of a disk fills a core's own queue, and every wait on a core ends
//!
//! The queue in which a core hears that its writes are done is so long that no stall short of M14's end fills
//! it. Whoever waits for a core (to close a replica, to vote, to transfer) waits for a bounded time.
//!
//! **Why.** The core is the only reader of that queue, and also writes to it. One that finds it full waits for
//! itself for ever. (Tried: with 1,024 places a disk that stalled for 2 s, at a heartbeat of 10 ms, left the
//! core dead.)
//!
//! **Kept by** `src/raft/node.rs` (`CORE_NEWS`, `CLOSE_WITHIN`), `src/raft/session.rs`.
//!
//! **Fails without it:** `a_follower_whose_disk_stalls_through_an_election_goes_on_afterwards`,
//! `a_leader_whose_disk_stalls_follows_others_afterwards`,
//! `a_replica_is_closed_in_bounded_time_although_its_disk_stalls`.
//!
//! ## M17: a read is confirmed by a round that began after it
//!
//! A leader confirms a read by asking the voters, after the read has begun, whether their last vote is still
//! for it in its term. Answers to that very question count, and nothing else. Then it waits until all that
//! was committed before is applied.
//!
//! **Why.** openraft confirms by acknowledged log positions. The answer to an append from before the read may
//! so confirm it, at a leader that was deposed while it was frozen: what it then says is no longer the last
//! word.
//!
//! **Kept by** `src/raft/confirm.rs`, `src/raft/replica.rs` (`read_index`).
//!
//! **Fails without it:** `m17_answers_from_before_a_read_do_not_confirm_it`.
//!
//! ## M18: what is paused is let go when the future that paused it is dropped
//!
//! While a transfer is prepared the replica refuses proposals and the appender sends none. Both are held by a
//! guard, and several may hold at once. Once the request is out it cannot be taken back, so the rest of the
//! transfer runs in a task of its own.
//!
//! **Why.** A handler is dropped at any await when its client hangs up. A flag that is set there and cleared
//! at the end would stay set: a partition that refuses all writes for good.
//!
//! **Kept by** `src/raft/transfer.rs` (`Paused`), `src/broker/replica/appender/mod.rs` (`Paused`).
//!
//! **Fails without it:** `transfers_that_are_cancelled_leave_partitions_and_metadata_writable`,
//! `a_transfer_that_is_cancelled_leaves_the_group_writable`,
//! `one_of_two_transfers_that_ends_does_not_end_the_pause_of_the_other`,
//! `a_transfer_that_is_cancelled_after_its_request_went_out_is_still_watched`.
//!
//! ## N5: a start applies again what it must, a little at a time
//!
//! What was committed and not applied when a replica stopped is applied before openraft starts, a mebibyte at
//! a time and within the memory that all reads share. Groups are opened side by side, so many at once, and
//! applied state is saved every second while entries come.
//!
//! **Why.** openraft does it too, 64 entries at once whatever their size, and a broker opens thousands of
//! groups.
//!
//! **Kept by** `src/raft/driver.rs` (`catch_up`), `src/broker/limits.rs` (`OPENING_MAX`).
//!
//! **Fails without it:** `a_start_applies_again_what_it_reads_a_little_at_a_time`.
//!
//! # What we rely on
//!
//! Read in openraft 0.10.0-alpha.37 and to be read again when it changes:
//! - One channel leads into the core, and what is merged on the way has one expected leader. So awaited
//!   proposals keep their order, and the check of the term comes just before the append.
//! - A vote is answered once it is durable. It goes through our one writer, behind all earlier appends.
//! - A purge waits for its snapshot, so that on a follower an install precedes it. An install at or below what
//!   is committed is skipped: applied state never goes back.
//! - Reads by lease are not used anywhere: a vote with `leadership_transfer` passes over leases.
//!
//! # Not built yet
//!
//! Two numbers of contracts and the frames 52 to 59 are kept for them.
//! - *Fast failover.* One suspicion must change nothing: a majority of the voters suspects, and the best
//!   log campaigns. Where every survivor campaigns at once they duel (tried: 1.6 to 2.8 s instead of 8 ms);
//!   where the shorter log goes first it burns the term (3 s); where one link is cut, the one behind it deposes
//!   a healthy leader again and again.
//! - *Quiescence.* Idle groups that stop their timers need a handshake, and the leader wakes first.
//!   (Tried: waking one follower deposed the leader in 10 of 10 groups.)
