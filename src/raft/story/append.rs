//! An append: from a proposal to its acknowledgement on a majority. A leads in term 5; B and C follow.
//!
//! 1. **Proposal.** The appender hands over a command and the term in which it means it (`Replica::propose` in
//!    `src/raft/replica.rs`). The core takes it if it leads in that very term, if a majority answered it within
//!    its lease, and if it is not handing over. Then the entry has its position, say term 5, index 90, and
//!    nothing has been written yet.
//! 2. **Two ways at once.** The core appends (`src/raft/log_store.rs`): the entry goes into the memory of the
//!    log and into the queue of the log writer, and can be read as soon as the call returns. At the same time
//!    the tasks for B and C are woken.
//!    - *The disk of A.* The writer takes what all replicas of the node have queued, up to 4 MiB, into one
//!      commit with one fsync (`src/storage/writer.rs`), raises the floor, and completes each write in order.
//!    - *The wire.* The task for B reads from where B is known to be: recent entries out of memory, older ones
//!      from disk within a bound on memory (`src/raft/reads.rs`). `src/raft/appends.rs` sends the request, with
//!      at most four of them unanswered.
//! 3. **At the follower.** The session finds the replica, checks that the entries follow one another and that
//!    the term is possible, and takes memory for them (`src/raft/session.rs`). `src/raft/exchange.rs` feeds them
//!    to the core in order. Before each, `src/raft/contradiction.rs` compares it with what is committed here.
//!    The core compares the entry *before* the new ones: if it is the same as in its own log, so is everything
//!    before it. It truncates what disagrees behind it, appends, and answers once its own writer has synced.
//! 4. **Committed.** The answer says up to where B's log agrees. `src/raft/appends.rs` checks that it answers
//!    what was asked, notes it for receipts (`src/raft/matches.rs`), and passes it to the core. With the entry
//!    on two of the three disks it is committed. It need not be on A's own.
//! 5. **Applied.** The task of the state machine takes committed entries in order (`apply_one` in
//!    `src/raft/driver.rs`): a checkpoint first if one is due, then `Partition::apply`, then the answer to
//!    whoever proposed it. The applied state is saved about once a second, behind the entries it rests on.
//! 6. **Acknowledged.** `Pending` resolves with the position and what `apply` said. The appender names in its
//!    receipt the brokers whose logs are synced that far (`durable_on` in `src/raft/replica.rs`).
//! 7. **The followers hear of it.** The next append carries how far A has committed, and B and C apply that
//!    far. openraft would send that news in a frame of its own; we hold it for a millisecond, for entries to
//!    travel with.
//!
//! # Where the time goes
//!
//! For one record at a time, on machines that are idle otherwise, four hops and two fsyncs that overlap: of
//! 0.39 ms, 0.07 are A's until the record is on the wire, 0.06 B's until its fsync begins, 0.13 that fsync,
//! 0.06 B's answer, 0.03 A's until it acknowledges, and 0.04 the client's. Under load the costs are per entry
//! and per wake-up; so one entry carries whatever waited, and few are in flight.
//!
//! # What can fail, and what happens then
//!
//! - **Refused in step 1** (another leads, no majority lately, leadership moves): the entry is in no log. The
//!   appender keeps the batch and tries again, or answers "no effect" (M2).
//! - **The writer's queue is full.** The core waits in step 2, and with it this group and no other. One commit
//!   of 2 s makes the node give up leading (M14).
//! - **A's disk fails.** The process ends at once: whether the commit is there is unknown.
//! - **The link to B is down, or breaks.** The exchange ends. openraft asks again every 50 ms; a stream waits
//!   half a second for its link, so that nothing is read that cannot be sent. B is fed from where it agrees.
//! - **B refuses** (its memory or its disk is full, or too many exchanges wait at its core): it is asked less
//!   and less often, down to once a second. A full B still takes what is small: votes, trims, blank entries.
//! - **B does not answer for 3 s.** The exchange is given up and begun anew, or a B that hangs would keep A from
//!   purging its log.
//! - **B lacks the entry before,** as after an absence. It answers with a conflict, and openraft looks further
//!   back until they agree. If that is below A's purge point, B needs a [`snapshot`](super::snapshot).
//! - **B lacks an entry that it had acknowledged.** It has lost its disk or was set back, and counts as dead:
//!   it is fed nothing (B5).
//! - **B has entries that A lacks,** of a leader that was deposed. They were never committed, and B truncates
//!   them. Had one been committed, B would stop instead (`src/raft/contradiction.rs`).
//! - **A dies between 2 and 4.** Whether the entry survives is decided by who is elected; the client hears
//!   "outcome unknown", and its retry finds the entry by its sequence number or appends it once.
//! - **A dies after 4.** The entry is on a majority, so on every possible next leader.
//! - **The entry is dead in step 5,** because one before it was lost: it is applied without effect on every
//!   replica alike, and its batches are proposed again (M2).
//! - **The entry cannot be applied,** for it is of a newer version: this replica stops, and says that it needs
//!   a newer broker. It never guesses.
