//! Black-box tests: they know the `flotilla` binary, its sockets and its documented output, and link
//! nothing of it. A run is three things: a [`cluster`] of real processes, a [`workload`] that
//! records what its client was told, and a [`checker`] (pure, itself tested) that holds that history
//! against the log read back.
//!
//! `tests/power` cuts the power of whole clusters, on disks of `powerfs`.

pub mod abuse;
pub mod alerting;
pub mod by_hand;
pub mod checker;
pub mod cluster;
pub mod command;
pub mod consumer;
pub mod dataset;
pub mod disk;
pub mod groups;
pub mod kafka;
pub mod knob;
pub mod network;
pub mod partitioner;
pub mod random;
pub mod readback;
pub mod reading;
pub mod scrape;
pub mod skew;
pub mod workload;
