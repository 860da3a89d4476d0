//! What strangers and clients send, against a listener.

mod answers;
mod data;
mod fuzz;
mod groups;
pub mod harness;
mod order;
mod strangers;
