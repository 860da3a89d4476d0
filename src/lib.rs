//! Flotilla: a Raft-replicated clustered log store with Kafka's semantics.
//!
//! ARCHITECTURE.md is the map. Imports between these modules point downwards only; a test holds it.
//!
//! Who wants only the client takes `default-features = false, features = ["client"]`: no consensus, no RocksDB.

// Of tests, which print what they measured, this is not asked.
#![cfg_attr(
    not(test),
    deny(clippy::print_stdout, clippy::print_stderr, reason = "they panic when nobody reads: use `cli::output`")
)]

#[cfg(feature = "server")]
pub mod broker;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod durable;
#[cfg(feature = "server")]
pub mod group;
#[cfg(feature = "server")]
pub mod grpc;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
pub mod metadata;
#[cfg(feature = "server")]
pub mod metrics;
#[cfg(feature = "server")]
pub mod partition;
pub mod proto;
#[cfg(feature = "server")]
pub mod raft;
pub mod record;
#[cfg(feature = "server")]
pub mod replicated;
pub mod seam;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod storage;
pub mod types;
