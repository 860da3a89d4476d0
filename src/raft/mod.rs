//! Consensus: the only module that says `openraft`. It runs many Raft groups on one node over one
//! stream per ordered pair of nodes, and knows nothing of Kafka's words.
//!
//! How it goes, step by step, is told in [`story`]; what must hold, and why, in [`contracts`].
//!
//! [`RaftNode`] is a node's side of it and its assembler, [`Replica`] one replica. Below them `log_store` and
//! `driver` adapt storage and state machines to openraft, and `network`, `link`, `server` and `wire` carry
//! its messages. All stand on `ground`, which names none of them; each part owns its state and holds only
//! parts below it: `greeter`, `leaders`, `links`, `hosted`, `running`, in this order.

mod addresses;
mod again;
mod appends;
mod checks;
mod confirm;
pub mod contracts;
mod contradiction;
mod departed;
mod driver;
mod entry_hash;
mod errors;
mod exchange;
mod greeter;
mod ground;
mod hosted;
mod lanes;
mod leaders;
mod link;
mod links;
mod log_hash;
mod log_store;
#[cfg(feature = "internals")]
mod look;
mod matches;
mod member;
mod network;
mod node;
mod raft_member;
mod reads;
mod replica;
mod room;
mod rpc;
mod running;
mod seeded;
mod server;
mod session;
mod status;
pub mod story;
#[cfg(test)]
mod tests;
mod transfer;
mod types;
mod watcher;
mod wire;

pub use contradiction::{Contradiction, Differs};
pub use errors::{OpenError, ProposalEnd, ReadError, Refusal, TransferError};
pub use ground::RaftSettings;
pub use link::Trouble;
pub use log_hash::{LogHash, Reread};
#[cfg(feature = "internals")]
pub use look::ReplicaLook;
pub use node::{CallError, NodeDeps, RaftNode};
pub use replica::{Pending, Replica};
pub use room::{Room, RoomLevel};
pub use running::ReplicaSpec;
pub use session::CallHandler;
pub use status::{Leader, Status};
