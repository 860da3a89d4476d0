//! powerfs: a file system in memory whose power can be cut. It keeps two views of every file and directory, as they are now and
//! as they would be found after a power cut; SIGKILL loses nothing that the kernel has, a cut here loses all that was not synced.
//!
//! [`Mounted`] mounts a disk, [`Power`] is its switch; README.md has the model and what is left out. All decisions are in
//! [`disk`] and below it: pure, and repeated by a seed. `mount.rs` only translates. [`wal`] is for whoever damages what is on a disk.

pub mod content;
pub mod control;
pub mod disk;
pub mod error;
pub mod fate;
pub mod faults;
mod journal;
mod mount;
mod power;
pub mod ranges;
pub mod tree;
pub mod wal;

pub use disk::Options;
pub use fate::{Cut, TAILS, Tail, Unit};
pub use faults::{Faults, SyncErrors};
pub use power::{Mounted, Power, cut_all, unavailable};
pub use tree::Loss;
