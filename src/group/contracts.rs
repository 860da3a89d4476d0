//! The contract of consumer groups: M9. What a contract is, and where the others are:
//! `src/storage/contracts.rs`.
//!
//! ## M9: a coordinator acts in its own term only, and nothing that it says is older than what was acknowledged
//!
//! The coordinator of all groups is the leader of the metadata group, once it is ready (M1). It keeps
//! sessions and timers in memory, for one term; a new term begins with every session in full. Whatever it
//! decides (a member's time is over, a round is complete) and whatever it accepts (a join, a commit) is
//! proposed in that term and in no other, names what it was decided on (the member, the epoch or the
//! generation), and is **decided again in `apply`**, which refuses what has become void meanwhile. A commit
//! carries its member's own number, so that a copy that was held up on the way takes nothing back.
//!
//! What is answered without a proposal was confirmed: a majority said, in a round that began after the
//! question, that it still follows this leader (M17). Reads of groups and of committed offsets are served
//! by the broker that was asked, from its own metadata, after it has reached the confirmed index. Reads
//! that may be old, such as the list of topics, wait up to half a second for that index and then go on.
//!
//! **Why.** A coordinator that was deposed does not know it. One that was frozen for a minute finds all its
//! timers due when it goes on, and would expire every member of every group; one that answered from memory
//! would hand out offsets that are older than those its successor has acknowledged, and records would be
//! processed twice. In `apply` all replicas decide alike, at one place in the log, so it does not matter who
//! asked or how late.
//!
//! **Kept by** `src/broker/groups/coordinator/tenure.rs` (one term), `src/broker/groups/coordinator/proposer.rs`
//! (its term and no other), `src/group/draft.rs` and `src/group/commit.rs` (decided again in `apply`),
//! `src/broker/metadata_group/rounds.rs` (shared confirmations), `src/broker/groups/reads.rs`.
//!
//! **Fails without it:** `m9_a_decision_of_an_old_term_is_refused`,
//! `m9_a_deposed_coordinator_hands_out_nothing_old`, `m9_all_sessions_start_in_full_in_a_new_term`,
//! `m9_commits_survive_transfer_and_crash_of_the_coordinator_and_none_goes_back`,
//! `m9_a_late_copy_of_a_commit_takes_nothing_back`,
//! `m9_who_asks_during_a_round_is_served_by_the_next_one`, `partitions_have_one_reader`,
//! `late_and_lost_heartbeats`, `commits_survive_the_kill_of_the_metadata_leader`.
