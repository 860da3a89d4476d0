//! Flotilla: a Raft-replicated clustered log store with Kafka's semantics.
//!
//! ARCHITECTURE.md is the map. Imports between these modules point downwards only; a test holds it.

pub mod broker;
pub mod cli;
pub mod client;
pub mod config;
pub mod group;
pub mod grpc;
pub mod http;
pub mod metadata;
pub mod metrics;
pub mod partition;
pub mod proto;
pub mod raft;
pub mod record;
pub mod replicated;
pub mod seam;
pub mod storage;
pub mod types;
