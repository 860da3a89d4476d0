//! What strangers and clients send, against a listener.

mod answers;
mod data;
pub mod harness;
mod order;
mod strangers;
