//! What strangers and clients send, against a listener.

mod admin;
mod answers;
mod data;
mod fuzz;
mod golden;
mod groups;
pub mod harness;
mod operators;
mod order;
mod rooms;
mod sessions;
mod strangers;
mod tls;
