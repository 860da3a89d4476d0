//! Flotilla is a replicated log store with Kafka's semantics: topics of partitions, records with dense offsets, consumer
//! groups. Every partition is a Raft group of its own, and an acknowledgement means that a majority has fsynced.
//!
//! # Where to start
//!
//! **You write a program that produces or consumes:** everything is in [`client`]. Depend on this crate with
//! `default-features = false, features = ["client"]`, which builds neither consensus nor RocksDB, and begin at
//! [`client::Producer`], [`client::Consumer`], [`client::GroupConsumer`] or [`client::Admin`].
//!
//! **You run brokers:** the binary is all you need, and README.md and `flotilla --help` teach it.
//!
//! **You change Flotilla:** CONTRIBUTING.md says how to build and test and lists the words of the house, ARCHITECTURE.md
//! is the map.
//!
//! # Features
//!
//! `client` is the client library, `server` adds brokers and the command line, and `internals` opens all other modules
//! to the tests, the simulation and the benches of this repository. Outside of it only `client` is an API: everything
//! else may change from one commit to the next.
#![cfg_attr(all(feature = "server", feature = "internals"), doc = include_str!("map.md"))]
// Of tests, which print what they measured, this is not asked.
#![cfg_attr(
    not(test),
    deny(clippy::print_stdout, clippy::print_stderr, reason = "they panic when nobody reads: use `cli::output`")
)]
// A client alone leaves much of what it shares with brokers unused: whether anything is dead shows with both. And a
// module may hand on more than its neighbours take.
#![cfg_attr(not(feature = "server"), allow(dead_code, reason = "the server uses it"))]
#![cfg_attr(not(feature = "internals"), allow(unused_imports, reason = "the tests and the simulation use it"))]

#[cfg(all(feature = "server", not(feature = "internals")))]
mod broker;
#[cfg(all(feature = "server", feature = "internals"))]
pub mod broker;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
#[cfg(all(feature = "server", not(feature = "internals")))]
mod config;
#[cfg(all(feature = "server", feature = "internals"))]
pub mod config;
#[cfg(all(feature = "server", not(feature = "internals")))]
mod durable;
#[cfg(all(feature = "server", feature = "internals"))]
pub mod durable;
#[cfg(not(feature = "internals"))]
mod formats;
#[cfg(feature = "internals")]
pub mod formats;
#[cfg(all(feature = "server", not(feature = "internals")))]
mod group;
#[cfg(all(feature = "server", feature = "internals"))]
pub mod group;
#[cfg(all(feature = "server", not(feature = "internals")))]
mod grpc;
#[cfg(all(feature = "server", feature = "internals"))]
pub mod grpc;
#[cfg(all(feature = "server", not(feature = "internals")))]
mod http;
#[cfg(all(feature = "server", feature = "internals"))]
pub mod http;
#[cfg(all(feature = "server", not(feature = "internals")))]
mod kafka;
#[cfg(all(feature = "server", feature = "internals"))]
pub mod kafka;
#[cfg(all(feature = "server", feature = "internals"))]
#[doc = include_str!("limits.md")]
pub mod limits {}
#[cfg(all(feature = "server", not(feature = "internals")))]
mod metadata;
#[cfg(all(feature = "server", feature = "internals"))]
pub mod metadata;
#[cfg(all(feature = "server", not(feature = "internals")))]
mod metrics;
#[cfg(all(feature = "server", feature = "internals"))]
pub mod metrics;
#[cfg(all(feature = "server", not(feature = "internals")))]
mod partition;
#[cfg(all(feature = "server", feature = "internals"))]
pub mod partition;
#[cfg(not(feature = "internals"))]
mod proto;
#[cfg(feature = "internals")]
pub mod proto;
#[cfg(all(feature = "server", not(feature = "internals")))]
mod raft;
#[cfg(all(feature = "server", feature = "internals"))]
pub mod raft;
#[cfg(not(feature = "internals"))]
mod record;
#[cfg(feature = "internals")]
pub mod record;
#[cfg(all(feature = "server", not(feature = "internals")))]
mod replicated;
#[cfg(all(feature = "server", feature = "internals"))]
pub mod replicated;
#[cfg(all(feature = "server", not(feature = "internals")))]
mod rolling;
#[cfg(all(feature = "server", feature = "internals"))]
pub mod rolling;
#[cfg(not(feature = "internals"))]
mod seam;
#[cfg(feature = "internals")]
pub mod seam;
#[cfg(feature = "server")]
pub mod server;
#[cfg(all(feature = "server", not(feature = "internals")))]
mod storage;
#[cfg(all(feature = "server", feature = "internals"))]
pub mod storage;
#[cfg(not(feature = "internals"))]
mod types;
#[cfg(feature = "internals")]
pub mod types;
