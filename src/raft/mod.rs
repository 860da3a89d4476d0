//! Consensus: the only module that says `openraft`. It runs many Raft groups on one node over one
//! stream per ordered pair of nodes, and knows nothing of Kafka's words.
//!
//! How it goes, step by step, is told in [`story`]; what must hold, and why, in [`contracts`].
//!
//! [`RaftNode`] is a node's side of it, [`Replica`] one replica. Below them `log_store` and `driver`
//! adapt storage and state machines to openraft, and `network`, `link`, `server` and `wire` carry
//! its messages.

mod addresses;
mod again;
mod appends;
mod confirm;
pub mod contracts;
mod contradiction;
mod core;
mod departed;
mod driver;
mod exchange;
mod lanes;
mod leaders;
mod link;
mod log_store;
mod matches;
mod member;
mod network;
mod node;
mod reads;
mod replica;
mod room;
mod rpc;
mod seeded;
mod server;
mod session;
pub mod story;
#[cfg(test)]
mod tests;
mod transfer;
mod types;
mod watcher;
mod wire;

pub use contradiction::{Contradiction, Differs};
pub use link::Trouble;
pub use node::{CallError, CallHandler, NodeDeps, RaftNode, RaftSettings};
pub use replica::{
    Leader, OpenError, Pending, ProposalEnd, ReadError, Refusal, Replica, ReplicaSpec, Status, TransferError,
};
pub use room::{Room, RoomLevel};
