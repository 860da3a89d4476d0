//! Consensus: the only module that says `openraft`. It runs many Raft groups on one node over one
//! stream per ordered pair of nodes, and knows nothing of Kafka's words.

mod group;
mod node;

pub use group::{Group, GroupSpec, Leader, OpenError, Pending, ProposalEnd, ReadError, Refusal, Status, TransferError};
pub use node::{CallError, CallHandler, NodeDeps, RaftNode, RaftSettings};
