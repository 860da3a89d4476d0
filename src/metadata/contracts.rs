//! The contracts of who is who: B5, B6, M11. What a contract is, and where the others are:
//! `src/storage/contracts.rs`.
//!
//! ## B5: a replica id is one placement on one disk, and is never used again
//!
//! What openraft calls a node id is a *replica* id here. The metadata group hands each out once, for one
//! group on one broker; group ids and producer ids likewise. Every frame between nodes names its group, the
//! replica that it comes from and the one that it is meant for, and a node that does not run exactly that
//! replica does nothing with it. Streams between nodes of different clusters end.
//!
//! A directory that was damaged, emptied, or set back to an older copy makes its replicas **dead for good**:
//! the broker marks the directory, answers no Raft message for them, and says so. Three things find out:
//! - *damaged*: the store itself (B9, and the check of B1 at start);
//! - *emptied*: the random storage id that the broker registered with is not in the directory any more, and
//!   registration comes before any replica is opened;
//! - *set back*: each start draws a random id, and peers keep, durably, the last start of every broker and
//!   the last commit that it told them. A directory that lacks what a peer has seen is older than the broker
//!   was. Where no peer can know, a leader that contradicts a committed entry is the alarm: the replica takes
//!   nothing of it, and its broker stops.
//!
//! A follower whose log is shorter than what it once acknowledged is never fed again.
//!
//! **Why.** In Raft a member counts as long as the membership lists it: its acknowledgements commit, its
//! votes elect. One that forgot a vote can help two leaders of one term, one that forgot entries can help
//! commit others in their place, and both look healthy. A copy is worse still, since it is whole and agrees
//! with itself. And with an id that is used twice, messages meant for a replica's former self reach its
//! successor, which may then vote by a membership that is long over.
//!
//! **Kept by** `src/metadata/apply.rs` (hands ids out, refuses another storage id), `src/raft/session.rs`
//! (`addressee`), `src/storage/starts.rs` (what proves a directory older; pure),
//! `src/broker/cluster/setback.rs` (the conversation), `src/raft/contradiction.rs` (the alarm),
//! `src/raft/appends.rs` (a follower that lost what it had acknowledged).
//!
//! **Not covered:** commits of the last 250 ms before a copy was put back over its own running life; two
//! histories whose entries have the same terms at every index that is compared. That another replica takes
//! the place of a dead one is not built yet.
//!
//! **Fails without it:** `ids_are_never_reused_and_initial_never_changes`, `a_former_self_gets_no_frames`,
//! `b5_an_emptied_founder_asks_the_cluster_instead_of_founding_or_voting`,
//! `b5_an_emptied_directory_neither_founds_nor_votes_nor_runs`,
//! `streams_between_clusters_end_once_they_know_what_they_are`,
//! `d13_a_follower_whose_log_went_back_is_asked_less_and_less_often`,
//! `a_later_start_another_start_and_a_later_commit_are_proofs`,
//! `p1_5_the_steps_that_lost_acknowledged_records_lose_none`,
//! `o1_10_a_committed_entry_that_the_leader_contradicts_stops_the_broker_that_has_it`,
//! `p1_an_older_copy_of_a_directory_is_refused_and_nothing_is_lost`.
//!
//! ## B6: a group begins with one list of members, which never changes
//!
//! One metadata entry creates a partition's group: its id, its replica ids and their brokers. That list is
//! `initial`, the same for ever, whatever the placement becomes. Only members of `initial` begin the group,
//! always with that very list, and only on a replica that has no state. The broker of its first member does
//! so at once, each later one only when nobody has announced that he leads. Replicas that were added later
//! start empty and wait for a leader.
//!
//! A cluster begins likewise. The brokers of the seed list exchange a hash of it; the one with the lowest id
//! founds, once every other has answered that it is empty and has the same list, and it alone draws the
//! cluster's id. It may end at any moment and goes on where it stood.
//!
//! **Why.** The first membership is written without consensus, as entry 0 of term 0. Two replicas that begin
//! with *different* members hold different memberships under one position, and Raft never compares what has
//! the same position: each half can elect a leader of its own, for ever. A broker that comes late and begins
//! with the placement of today, or two seed lists with a typing error in one, would do exactly that.
//!
//! **Kept by** `src/metadata/apply.rs`, `src/broker/cluster/forming.rs` (`decide`, pure),
//! `src/broker/cluster/reconcile.rs` (`initialize`), `src/raft/replica.rs`.
//!
//! **Fails without it:** `ids_are_never_reused_and_initial_never_changes`,
//! `b6_the_lowest_founds_only_when_every_peer_is_empty`, `b6_another_list_founds_nothing`,
//! `b6_a_founder_that_had_begun_founds_whether_or_not_others_followed`,
//! `b6_the_second_initial_member_begins_a_group_whose_first_is_away`,
//! `b6_a_replica_that_was_added_later_never_begins_its_group`,
//! `d7_the_founder_killed_after_any_of_its_commits_still_forms_the_cluster`.
//!
//! ## M11: a deletion leaves a tombstone, and a namesake is another topic
//!
//! A topic is its name *and* its id. Deleting one is a metadata entry that names the groups; each broker then
//! stops the replica first, with the task that applies its entries, and deletes its data after, in one batch that
//! leaves a tombstone. (Stopping waits for two seconds at most; a task that goes on is told that its log was
//! deleted.) A group with a
//! tombstone is not opened again. Groups are made by applied metadata and by nothing else, and data that
//! metadata does not know is kept and reported: only the positive word of a deletion removes anything. A
//! tombstone goes once the metadata log here is purged past the entry of the deletion, since from then on
//! nothing can tell this broker to make the group again.
//!
//! Requests, assignments and committed offsets carry the topic's id, so that what was meant for a deleted
//! topic never reaches the one that was made under its name, and a reader is told instead of moved on.
//!
//! **Why.** A broker that was away replays the metadata log: it makes the group again and deletes it again,
//! and in between a late frame or a late core could write. A client whose request was held up, or who
//! remembers an offset of 5,000, would read from the middle of another topic without anybody noticing.
//!
//! **Kept by** `src/broker/cluster/reconcile.rs`, `src/storage/tombstones.rs`,
//! `src/broker/upkeep/tombstones.rs`, `src/metadata/apply.rs` (name and id), `src/broker/groups/namesakes.rs`.
//!
//! **Fails without it:** `a_deleted_group_leaves_a_tombstone_and_nothing_else`,
//! `a_deleted_group_takes_the_late_writes_of_its_core_as_nothing`, `m11_a_closed_replica_has_applied_its_last`,
//! `entries_of_a_deleted_log_are_not_taken_for_none`,
//! `topics_are_made_changed_and_deleted_from_any_broker`,
//! `m11_a_tombstone_goes_when_the_log_is_purged_past_its_deletion_and_not_before`,
//! `m11_a_tombstone_stays_until_the_log_of_metadata_is_purged_past_the_deletion`,
//! `m11_a_late_request_cannot_reach_the_namesake`,
//! `m11_an_offset_of_the_old_topic_is_not_committed_for_its_namesake`,
//! `m11_a_broker_that_is_late_does_not_call_the_new_topic_replaced`,
//! `a_reader_does_not_go_on_in_a_namesake`.
