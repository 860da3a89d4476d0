//! A transfer: leadership moves because somebody wants it, in milliseconds and without a record lost. A leads
//! in term 5 and shall hand over to B.
//!
//! Who wants it: a person or `cluster balance` (`src/broker/cluster/transfer.rs`), a broker that stops, one
//! whose disk stalls (`src/broker/upkeep/stall.rs`), one whose disk stays short of space.
//!
//! 1. **Pause.** The partition's appender stops proposing and waits until nothing is in flight
//!    (`Appender::pause` in `src/broker/replica/appender/mod.rs`). What clients send meanwhile queues up.
//! 2. **Prepare.** `transfer_leader` in `src/raft/transfer.rs` has the replica refuse other proposals too, and
//!    looks for candidates: voters whose node is alive and whose log is acknowledged up to A's last entry. It
//!    waits a second for one at most. Up to here nothing has happened, and dropping the call undoes all of it.
//! 3. **Ask.** The core is told to hand over to B. It marks itself as handing over: no proposals, no
//!    heartbeats. It sends one request to every voter. All end A's lease, and B, if it is a voter
//!    (`transfer` in `src/raft/raft_member.rs`) and its log is synced that far, campaigns at once, without a
//!    pre-vote. C grants its vote although A was alive a moment ago, since the request says that A wants it.
//! 4. **Elected.** From here on it is steps 3 to 6 of an [`election`](super::election): votes on two disks, the
//!    blank entry of term 6, ready, announced.
//! 5. **Seen.** A waits for an announcement of a *higher term* than its own (`new_leader`). Then the guards are
//!    let go and the caller hears who leads. What waited at A's appender is answered "not the leader", with B's
//!    address; clients send it there.
//!
//! # Where the time goes
//!
//! The pause takes as long as what is in flight, a few milliseconds. Then two hops and an fsync for the vote at
//! B, two hops and an fsync at C, the blank entry with the same, and the confirmation: some ten milliseconds on
//! disks that sync in one. A thousand partitions are handed over some at a time, within 5 s.
//!
//! # What can fail, and what happens then
//!
//! - **The caller goes away** while the transfer is prepared: the guards are dropped, and A takes proposals
//!   again. Once the request is out, the rest is a task of its own that nobody can drop (M18).
//! - **Nobody is fit:** no other voter, none alive, none caught up within a second. The call fails, and A leads
//!   on as before.
//! - **The request is lost,** or B dies with it in its hand. openraft sends it once, and never un-marks A, which
//!   would now lead for ever and take nothing (B2). So after 300 ms the next candidate is asked, in turns, which
//!   marks A anew and ends leases again.
//! - **A higher term appears, and no leader yet.** It was heard: an election is under way, and is waited for.
//! - **B loses that election** because C's log is longer after all. C campaigns by its own timer. A follows
//!   whoever wins.
//! - **The deadline passes.** The caller is told that the outcome is *unknown*, since B may still be elected.
//!   For half a minute more a task asks any voter, alive or not: somebody must lead in the end. Until then A
//!   refuses proposals, and its appender answers as it does without a majority (B8).
//! - **A's core hangs** at its disk and does not even hear of it. It sends no heartbeats either, and its
//!   followers elect another by themselves.
//! - **A dies meanwhile.** An ordinary election.
//!
//! # A broker that stops
//!
//! It hands over what it leads, several partitions at once, the metadata group last, all in 5 s. Whatever is
//! left then fails over by its goodbye (`src/raft/departed.rs`): the followers end its lease themselves and
//! campaign in turns.
