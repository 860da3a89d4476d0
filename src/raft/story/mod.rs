//! Consensus as it happens here, told in order: [`election`], [`append`], [`snapshot`], [`transfer`]. For
//! somebody who knows what Raft is for and has not read this code. What must hold, and why, stands in
//! `src/raft/contracts.rs`; these pages say what happens, in which room, how long it takes, what can fail and
//! what happens then.
//!
//! # Who is there
//!
//! A *node* is a broker's process as Raft sees it. A *Raft group* is one log and those who agree on it: one
//! for each partition, and one for the metadata. A *replica* is one node's copy of it. So a node with 1,000
//! partitions runs 1,001 replicas, and all of them share one disk and one stream to each other node.
//!
//! For each replica there run:
//! - the **core**, openraft's task, which alone decides: terms, votes, what is committed;
//! - its **state machine's task**, which applies what is committed (`src/raft/driver.rs`);
//! - a task for each follower while it leads, which reads entries and sends them (openraft's, through
//!   `src/raft/network.rs`);
//! - the **watcher** (`src/raft/watcher.rs`), which reads what the core publishes and makes the `Status` of it
//!   that the rest of the broker goes by;
//! - for a partition, one that purges the log when it may.
//!
//! For each node there run besides: the one **log writer** (`src/storage/writer.rs`), to which every replica
//! hands what it writes; a **link** to each peer (`src/raft/link.rs`), on which requests go out and answers
//! come in; and a **session** for each peer's own link (`src/raft/session.rs`), on which it is the other way
//! round. Frames name the group and the replica; nobody waits for another group's frame but for room on the
//! stream.
//!
//! # How a request travels
//!
//! openraft asks `src/raft/network.rs`, which writes a frame (`src/raft/wire/frame.rs`) into the link's bulk
//! lane (`src/raft/lanes.rs`). On the other side the session checks what it can without the replica: the
//! checksum, whether the replica lives here, whether the term is possible, whether there is memory. Then it
//! asks `src/raft/member.rs`, the replica as the transport sees it, and sends the answer back with the number
//! of the request. Pings, pongs, announcements and goodbyes have a lane that is emptied first.
//!
//! # The clocks
//!
//! | What | Default | Where |
//! |---|---|---|
//! | heartbeat | 200 ms | `src/config/args.rs` |
//! | a leader's lease on its followers | 1,000 ms, the longest election timeout | openraft |
//! | a follower's patience after the lease | 600 to 1,000 ms, drawn anew for each round | openraft |
//! | a peer without a sign of life is dead | 1,000 ms | `src/raft/link.rs` |
//! | a vote, or a pre-vote, without an answer | 500 ms | `src/raft/network.rs` |
//! | an exchange of appends without an answer | 3 s | `src/raft/appends.rs` |
//! | a disk that is busy with one commit | 2 s: it gives up leading; 15 s: the process ends | `src/raft/ground.rs` |
//!
//! "Dead" is what links say, and it moves transfers, placement and health. Elections go by openraft's own
//! timers alone: a link that broke does not start one.

pub mod append;
pub mod election;
pub mod snapshot;
pub mod transfer;
