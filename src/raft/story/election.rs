//! An election: from a leader that fell silent to one that takes records. Three voters, A led in term 4, its
//! process was killed.
//!
//! 1. **Silence.** Every append that B takes, with entries or without, renews A's lease on B for a second.
//!    When the lease is over, B waits for a time of its own, drawn between 0.6 and 1 s, so that B and C seldom
//!    begin together. openraft looks at its clock every 40 ms.
//! 2. **Pre-vote.** B asks whether it *would* be elected in term 5 (`Network::pre_vote` in
//!    `src/raft/network.rs`). C says yes if A's lease on C is over too and B's log is no shorter than C's: a
//!    later term of the last entry counts as longer, then a higher index. Nobody writes anything down, so a
//!    node behind a broken cable can ask for hours without using up a term.
//! 3. **Vote.** With a majority of yes, its own among them, B begins term 5: it writes its vote for itself to
//!    its disk (`save_vote` in `src/raft/log_store.rs`, an fsync) and asks for votes. C answers by the same
//!    rules, and only after its own vote is on its disk. That is why a term has one leader: a voter that was
//!    restarted still knows whom it voted for.
//! 4. **Leader, in openraft's eyes.** B has a majority. It appends a **blank entry** of term 5 and sends it to
//!    C, and to A should it come back. From now on it sends heartbeats.
//! 5. **Ready, in ours.** The watcher sees that the core leads and asks for a confirmed read
//!    (`become_ready` in `src/raft/watcher.rs`): is the blank entry committed and applied, and does a majority
//!    still follow? With it, all that A had committed is applied at B, whatever B had known of it. `Status`
//!    says `ready`, and B announces itself to all nodes.
//! 6. **Work.** The partition's appender begins a session with an empty overlay on the applied state
//!    (`src/broker/replica/appender/mod.rs`, `follow`). For the metadata group the coordinator of the consumer
//!    groups begins a term (`src/broker/groups/coordinator/tenure.rs`). The other nodes keep the announcement
//!    (`src/raft/leaders.rs`) and send clients to B.
//!
//! # Where the time goes
//!
//! | Step | Time |
//! |---|---|
//! | the lease, from the last append on | 1 s |
//! | B's own patience | 0.6 to 1 s |
//! | pre-vote | one way there and back |
//! | vote | an fsync at B, then there, an fsync at C, and back |
//! | blank entry | there, an fsync, and back |
//! | ready | there and back, and what there is to apply |
//!
//! So nearly all of it is waiting for a leader that might only be slow: 1.6 to 2.1 s until records are taken
//! again. The tests of the black box hold it to 3 s.
//!
//! # What can fail, and what happens then
//!
//! - **A is not dead, only slow.** C's lease on A still runs, so C says no in step 2, and nothing happened. If
//!   A was frozen for longer it finds the higher term in the first answer that it gets, or in an announcement,
//!   and follows. Until then it may believe that it leads, and so it confirms what it says (M17) and says
//!   nothing when nobody answers (M7).
//! - **B's log is shorter than C's.** C says no and names its last entry; B waits for 2 s more than usual, so
//!   that C goes first. C will, with the same steps.
//! - **B and C begin together,** and each votes for itself in term 5. Neither has a majority. openraft leaves a
//!   candidate to its timer, which for one that saw a longer log is 2 s late; so the watcher has it campaign
//!   again after another random timeout, pre-vote first (`src/raft/again.rs`).
//! - **B may not lead.** A broker that is not registered yet does not campaign, since no client is sent to it
//!   (`set_campaign` in `src/raft/node.rs`). C campaigns.
//! - **B dies after it was elected.** Term 5 had a leader that did nothing. C begins term 6.
//! - **C dies after it voted.** Its vote is on its disk; when it is back it votes for nobody else in term 5.
//!   If it comes back with an older disk, or an empty one, its replica is dead (B5).
//! - **No majority is there.** Pre-votes are asked again and again, at no cost to the term. As soon as a second
//!   voter is back the next round succeeds.
//! - **B is elected and cut off before step 5.** It never becomes ready, is announced to nobody, and hears of
//!   its successor later. Its blank entry is replaced.
//! - **A had sent an entry to B alone.** It is in the log of the new leader, so it is committed by the blank
//!   entry behind it. Had it been sent to nobody, it is gone. A's client was told of neither: its outcome is
//!   *unknown* to it.
//! - **A term that cannot be** is refused by the session or the member, whoever names it (M12).
//!
//! # Without waiting
//!
//! A node that stops says goodbye. Its followers then end the lease of its own accord and campaign at once, in
//! turns of 150 ms by replica id, with pre-votes, so that the ones with shorter logs cost no term
//! (`src/raft/departed.rs`). And a leader can hand over before it goes: [`transfer`](super::transfer).
