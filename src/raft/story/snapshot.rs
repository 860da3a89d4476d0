//! A snapshot: how a log gets shorter, and how somebody catches up who missed what is gone.
//!
//! For a partition the log *is* the data: a snapshot that stood for all of it would have lost the records. So
//! a partition's snapshot is a **checkpoint**: the state (next offset, producers, epochs, clock) as it was at
//! some entry at or below the log start. Everything from there on stays in the log. The metadata group is the
//! usual case, its state is the data, and openraft takes a snapshot of it every 10,000 entries (M8).
//!
//! # A log gets shorter
//!
//! 1. **Checkpoint.** Before an entry is applied the driver asks whether a checkpoint is due: a segment is
//!    full (64 MiB) or old, or a trim is about to move into it (`checkpoint` in `src/raft/driver.rs`). The state
//!    is encoded, aside if it is large, and queued to the log writer, applied state first (B1). All replicas
//!    take theirs at the same entries, since only the state decides.
//! 2. **Trim.** The leader's retention, or a person, proposes that the log starts at some offset
//!    (`src/broker/upkeep/retention.rs`). Applied, it moves the log start. The newest checkpoint at or below it
//!    is the **purge point**.
//! 3. **The state is saved,** so that a restart knows the purge point that the purge rests on
//!    (`offer_purge_point`), and the watcher's neighbour wakes (`purge_as_allowed` in `src/raft/watcher.rs`). It
//!    is a task of its own: a call from `apply` into the core could wait for itself.
//! 4. **Snapshot, then purge.** It asks the core for a snapshot, which is the checkpoint that is already there,
//!    waits until the core has it, and asks it to purge up to that entry. `ReplicaLog::purge` drops the entries
//!    from memory at once and from disk with the next commit. Older checkpoints and points of the index go.
//! 5. **Space.** Keys are gone; the bytes lie in blob files until those are collected
//!    (`src/storage/space.rs`).
//!
//! Every replica does this by itself, leader or not, at its own pace.
//!
//! # Somebody catches up
//!
//! 1. **Too far behind.** B was away. Its task at the leader A finds that the next entry for B is purged, and
//!    asks the driver for the current snapshot.
//! 2. **On the wire.** A head (vote, position, members), parts of 1 MiB, an end (`send_snapshot` in
//!    `src/raft/network.rs`), all within 30 s. There is no resuming: it is a few megabytes at most for a
//!    partition.
//! 3. **At B.** The session collects the parts within its bounds: 16 snapshots of one peer, 256 MiB of state,
//!    512 MiB of everything from peers. `install` in `src/raft/raft_member.rs` refuses one that cannot be, decodes
//!    the state *before* openraft sees it, and compares its position with what is committed here.
//! 4. **Installed.** `install_snapshot` in `src/raft/driver.rs` writes one synced batch: checkpoint, applied
//!    state and purge point begin together, all that was older of the group goes, and later entries stay if the
//!    log agreed (`install` in `src/storage/saved.rs`). Then the state in memory is replaced.
//! 5. **The rest as entries.** From the entry behind the checkpoint on, A sends its log as ever, all retained
//!    records among it. B learns of the log start when it applies the trim.
//!
//! # Where the time goes
//!
//! A checkpoint costs the encoding of the state: a millisecond, or a tenth of a second for 100,000 producers,
//! once a segment. A purge is a range of keys. To catch up costs what is retained, at the pace of the link;
//! memory for it is bounded for each peer and for the node (`src/raft/reads.rs`).
//!
//! # What can fail, and what happens then
//!
//! - **A crash between trim and purge.** The state that is loaded names the purge point, and the purge is done
//!   then.
//! - **A crash within the purge.** What was not written is purged again. In no prefix of the write-ahead log is
//!   something purged without a checkpoint that covers it (B1).
//! - **The snapshot is not there in 10 s,** or a stream to a follower has the entries in use: "purge is late"
//!   in the log, and another try. Streams end by their own deadlines.
//! - **A follower's disk is full.** It takes no large entries, so the trim behind them never reaches it. A tells
//!   it how far it has purged itself, and B purges up to that checkpoint if it has it (`release` in
//!   `src/raft/driver.rs`).
//! - **The snapshot is cut off, too large, or refused.** Nothing was changed at B; openraft sends it again.
//! - **It cannot be decoded.** It does not reach the core, which would stop for good, and B stays behind. A
//!   newer version wrote it.
//! - **A crash within the install.** It is one batch: all of it or nothing.
//! - **B has more than the snapshot.** Its state never goes back: openraft skips an install at or below what is
//!   committed.
//! - **A checkpoint is missing or unreadable.** That replica's core stops, the broker opens it again a little
//!   later, and says why. Damage to the disk ends the process (B9).
